/* args.c — options in, calls out. */
#include "cli/args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct arg_option *by_name(const struct arg_option *options, size_t count,
                                        const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static const struct arg_option *by_letter(const struct arg_option *options, size_t count,
                                          char letter)
{
    for (size_t i = 0; i < count; i++) {
        if (options[i].letter && options[i].letter == letter) {
            return &options[i];
        }
    }
    return NULL;
}

static int no_value(const char *word, struct err *err)
{
    return err_set(err, -EINVAL, "option '%s': needs a value", word);
}

/* May the value be left out? */
static bool is_optional(const struct arg_option *option)
{
    return option->value[0] == '[';
}

/* "--name", "--name=value"; advances *at over a separate value. */
static int parse_long(const struct arg_option *options, size_t count, int argc, char **argv,
                      int *at, void *owner, struct err *err)
{
    const char *word = argv[*at];
    const char *name = word + strspn(word, "-");
    const char *equal = strchr(name, '=');
    size_t len = equal ? (size_t)(equal - name) : strlen(name);
    const struct arg_option *option = by_name(options, count, name, len);

    if (!option) {
        return err_set(err, -EINVAL, "unknown option '%s'; see %.*shelp", word, (int)(name - word),
                       word);
    }
    if (!option->value) {
        return equal ? err_set(err, -EINVAL, "option '%.*s': takes no value", (int)(equal - word),
                               word)
                     : option->set(owner, NULL, err);
    }
    if (equal || is_optional(option)) {
        return option->set(owner, equal ? equal + 1 : NULL, err);
    }
    if (*at + 1 >= argc) {
        return no_value(word, err);
    }
    return option->set(owner, argv[++*at], err);
}

/* "-n value", "-nvalue", "-itn value". */
static int parse_letters(const struct arg_option *options, size_t count, int argc, char **argv,
                         int *at, void *owner, struct err *err)
{
    const char *word = argv[*at];

    for (const char *c = word + 1; *c; c++) {
        const struct arg_option *option = by_letter(options, count, *c);
        int r;

        if (!option) {
            return err_set(err, -EINVAL, "unknown option '-%c' in '%s'; see --help", *c, word);
        }
        if (option->value && !is_optional(option)) {
            if (c[1]) {
                return option->set(owner, c + 1, err);
            }
            return *at + 1 < argc ? option->set(owner, argv[++*at], err) : no_value(word, err);
        }
        r = option->set(owner, NULL, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

typedef int (*word_parser)(const struct arg_option *options, size_t count, int argc, char **argv,
                           int *at, void *owner, struct err *err);

static int parse_word(const struct arg_option *options, size_t count, int argc, char **argv,
                      int *at, void *owner, struct err *err)
{
    word_parser parse = argv[*at][1] == '-' ? parse_long : parse_letters;

    return parse(options, count, argc, argv, at, owner, err);
}

static int parse_all(word_parser parse, const struct arg_option *options, size_t count, int argc,
                     char **argv, void *owner, struct err *err)
{
    int at = 1;

    for (; at < argc; at++) {
        const char *word = argv[at];
        int r;

        if (strcmp(word, "--") == 0) {
            return at + 1;
        }
        if (word[0] != '-' || !word[1]) {
            return at;
        }
        r = parse(options, count, argc, argv, &at, owner, err);
        if (r < 0) {
            return r;
        }
    }
    return at;
}

int args_parse(const struct arg_option *options, size_t count, int argc, char **argv, void *owner,
               struct err *err)
{
    return parse_all(parse_word, options, count, argc, argv, owner, err);
}

int args_parse_go(const struct arg_option *options, size_t count, int argc, char **argv,
                  void *owner, struct err *err)
{
    return parse_all(parse_long, options, count, argc, argv, owner, err);
}

/* "" " NAME" "[=NAME]" */
static void value_text(const struct arg_option *option, char *out, size_t size)
{
    const char *value = option->value ? option->value : "";

    if (value[0] == '[') {
        (void)snprintf(out, size, "[=%s", value + 1);
    } else {
        (void)snprintf(out, size, "%s%s", value[0] ? " " : "", value);
    }
}

void args_print(const struct arg_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct arg_option *o = &options[i];
        char value[24];
        char left[48];

        value_text(o, value, sizeof(value));
        (void)snprintf(left, sizeof(left), "%c%c%s--%s%s", o->letter ? '-' : ' ',
                       o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name, value);
        (void)printf("  %-32s %s\n", left, o->help);
    }
}

void args_print_go(const struct arg_option *options, size_t count, FILE *to)
{
    for (size_t i = 0; i < count; i++) {
        char value[24];
        char left[48];

        value_text(&options[i], value, sizeof(value));
        (void)snprintf(left, sizeof(left), "-%s%s", options[i].name, value);
        (void)fprintf(to, "  %-24s %s\n", left, options[i].help);
    }
}
