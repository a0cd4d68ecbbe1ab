/* process_args.h — the flags that `run` and `exec` share: what process to start, and how. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct process_args {
    bool want_tty;
    bool want_stdin;
    const char *cwd;  /* NULL: the caller's */
    const char *user; /* NULL: the caller's user, group and groups */
    struct {          /* -e and --env-file, in order */
        char **items; /* "NAME=value" */
        size_t count;
    } env;
};

/* Setters for option tables whose owner begins with a struct process_args. */
int process_set_tty(void *owner, const char *text, struct err *err);
int process_set_stdin(void *owner, const char *text, struct err *err);
int process_set_cwd(void *owner, const char *text, struct err *err);
int process_set_user(void *owner, const char *text, struct err *err);
/* "NAME=value", or "NAME" to pass the caller's on. */
int process_set_env(void *owner, const char *text, struct err *err);
/* A file with such lines; '#' begins a comment line. */
int process_set_env_file(void *owner, const char *text, struct err *err);

#define PROCESS_OPTIONS                                                                        \
    {"interactive", 'i', NULL, "keep stdin open (it is, unless closed)", process_set_stdin},   \
        {"tty", 't', NULL, "give COMMAND a terminal", process_set_tty},                        \
        {"env", 'e', "NAME[=VALUE]", "set or pass on a variable", process_set_env},            \
        {"env-file", 0, "FILE", "set the variables in FILE", process_set_env_file},            \
        {"workdir", 'w', "DIR", "working directory (default: the caller's)", process_set_cwd}, \
    {                                                                                          \
        "user", 'u', "USER[:GROUP]", "user by name or number (default: the caller)",           \
            process_set_user                                                                   \
    }

void process_args_fini(struct process_args *args);

/* The caller's environment with `args->env` applied: NULL-terminated, to be freed with
 * process_env_free().  NULL when out of memory. */
char **process_env(const struct process_args *args);
void process_env_free(char **env);
