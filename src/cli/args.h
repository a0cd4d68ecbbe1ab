/* args.h — the command line of one subcommand, from a table.
 *
 * "--name value", "--name=value", "-n value", "-nvalue", bundled flags "-it".  Parsing stops at
 * "--" (dropped) or at the first word that is not an option, so that the command's own options are
 * its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

struct arg_option {
    const char *name; /* without "--" */
    char letter;      /* 0: none */
    /* What the value is called in the help; NULL: a flag.  "[X]": optional, and then said with '='.
     */
    const char *value;
    const char *help;
    /* Called for each use; `text` is NULL without a value. */
    int (*set)(void *owner, const char *text, struct err *err);
};

/* Returns the index of the first word behind the options, or negative errno. */
int args_parse(const struct arg_option *options, size_t count, int argc, char **argv, void *owner,
               struct err *err);
/* The same for options in the form of Go's programs: "-name value", "-name=value", and with two
 * dashes; letters mean nothing. */
int args_parse_go(const struct arg_option *options, size_t count, int argc, char **argv,
                  void *owner, struct err *err);
/* The options as text for people, one per line, to stdout. */
void args_print(const struct arg_option *options, size_t count);
void args_print_go(const struct arg_option *options, size_t count, FILE *to);
