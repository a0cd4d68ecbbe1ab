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

static int set_optional(void *owner, const char *text, struct err *err)
{
    return set_value(owner, text ? text : "none", err);
}

static const struct arg_option g_options[] = {
    {"flag", 'f', NULL, "a flag", set_flag},
    {"other", 0, NULL, "another", set_flag},
    {"value", 'v', "X", "a value", set_value},
    {"maybe", 'm', "[X]", "a value or none", set_optional},
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
        {{"x", "--maybe", "1"}, "none,", 2},
        {{"x", "--maybe=1", "-fm", "2"}, "1,F,none,", 3},
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

TEST(cli, options_as_go_writes_them)
{
    static const struct {
        const char *argv[6];
        const char *seen; /* or what is said */
        int rest;
    } table[] = {
        {{"x", "-flag", "-value", "1", "cmd", "-flag"}, "F,1,", 4},
        {{"x", "--value=a=b", "-value=", "--", "-flag"}, "a=b,,", 4},
        {{"x", "-maybe", "-maybe=1", "-"}, "none,1,", 3},
        {{"x", "-f"}, "unknown option '-f'; see -help", -EINVAL},
        {{"x", "--nope=1"}, "unknown option '--nope=1'; see --help", -EINVAL},
        {{"x", "-flag=1"}, "option '-flag': takes no value", -EINVAL},
        {{"x", "-value"}, "option '-value': needs a value", -EINVAL},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct seen seen = {0};
        struct err err = {0};
        char *argv[6];
        int argc = 0;

        for (; argc < 6 && table[i].argv[argc]; argc++) {
            argv[argc] = strdup(table[i].argv[argc]);
        }
        CHECK_INT(args_parse_go(g_options, ARRAY_LEN(g_options), argc, argv, &seen, &err),
                  table[i].rest);
        CHECK_STR(table[i].rest < 0 ? err.text : seen.text, table[i].seen);
        while (argc > 0) {
            free(argv[--argc]);
        }
    }
}
