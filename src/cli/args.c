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

/* "--name", "--name=value"; advances *at over a separate value. */
static int parse_long(const struct arg_option *options, size_t count, int argc, char **argv,
                      int *at, void *owner, struct err *err)
{
    const char *word = argv[*at];
    const char *equal = strchr(word, '=');
    size_t len = equal ? (size_t)(equal - word) - 2 : strlen(word) - 2;
    const struct arg_option *option = by_name(options, count, word + 2, len);

    if (!option) {
        return err_set(err, -EINVAL, "unknown option '%s'; see --help", word);
    }
    if (!option->value) {
        return equal ? err_set(err, -EINVAL, "option '--%s': takes no value", option->name)
                     : option->set(owner, NULL, err);
    }
    if (equal) {
        return option->set(owner, equal + 1, err);
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
        if (option->value) {
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

int args_parse(const struct arg_option *options, size_t count, int argc, char **argv, void *owner,
               struct err *err)
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
        r = word[1] == '-' ? parse_long(options, count, argc, argv, &at, owner, err)
                           : parse_letters(options, count, argc, argv, &at, owner, err);
        if (r < 0) {
            return r;
        }
    }
    return at;
}

void args_print(const struct arg_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct arg_option *o = &options[i];
        char left[48];

        (void)snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
                       o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
                       o->value ? " " : "", o->value ? o->value : "");
        (void)printf("  %-32s %s\n", left, o->help);
    }
}
