/* args_test.c — every form of an option, and what is said about bad ones. */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "cli/args.h"
#include "tests/lib/test.h"

struct seen {
    char text[128];
};

static int set_flag(void *owner, const char *text, struct err *err)
{
    struct seen *seen = owner;

    (void)err;
    CHECK(text == NULL);
    (void)strcat(seen->text, "F,");
    return 0;
}

static int set_value(void *owner, const char *text, struct err *err)
{
    struct seen *seen = owner;

    if (strcmp(text, "bad") == 0) {
        return err_set(err, -ERANGE, "value '%s'", text);
    }
    (void)strcat(seen->text, text);
    (void)strcat(seen->text, ",");
    return 0;
}

static const struct arg_option g_options[] = {
    {"flag", 'f', NULL, "a flag", set_flag},
    {"other", 0, NULL, "another", set_flag},
    {"value", 'v', "X", "a value", set_value},
};

static int parse(struct seen *seen, struct err *err, char **argv)
{
    int argc = 0;

    while (argv[argc]) {
        argc++;
    }
    return args_parse(g_options, ARRAY_LEN(g_options), argc, argv, seen, err);
}

TEST(cli, options_in_all_forms)
{
    static const struct {
        const char *argv[8];
        const char *seen;
        int rest;
    } table[] = {
        {{"x", "--flag", "--value", "1", "cmd", "-f"}, "F,1,", 4},
        {{"x", "--value=a=b", "--", "-f"}, "a=b,", 3},
        {{"x", "-ffv", "2"}, "F,F,2,", 3},
        {{"x", "-v3", "-f"}, "3,F,", 3},
        {{"x", "--other", "-"}, "F,", 2},
        {{"x", "--value="}, ",", 2},
        {{"x"}, "", 1},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct seen seen = {0};
        struct err err = {0};
        char *argv[8];

        for (size_t j = 0; j < 8; j++) {
            argv[j] = table[i].argv[j] ? strdup(table[i].argv[j]) : NULL;
        }
        CHECK_INT(parse(&seen, &err, argv), table[i].rest);
        CHECK_STR(seen.text, table[i].seen);
        for (size_t j = 0; j < 8; j++) {
            free(argv[j]);
        }
    }
}

TEST(cli, bad_options_are_named)
{
    static const struct {
        char argv[3][16];
        const char *say;
    } table[] = {
        {{"x", "--nope", ""}, "unknown option '--nope'"}, {{"x", "-fz", ""}, "unknown option '-z'"},
        {{"x", "--value", ""}, "needs a value"},          {{"x", "-v", ""}, "needs a value"},
        {{"x", "--flag=1", ""}, "takes no value"},        {{"x", "-vbad", ""}, "value 'bad'"},
        {{"x", "--val", "1"}, "unknown option '--val'"},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct seen seen = {0};
        struct err err = {0};
        char words[3][16];
        char *argv[4] = {words[0], words[1], NULL, NULL};

        memcpy(words, table[i].argv, sizeof(words));
        if (words[2][0]) {
            argv[2] = words[2];
        }
        CHECK(parse(&seen, &err, argv) < 0);
        CHECK_HAS(err.text, table[i].say);
    }
}
