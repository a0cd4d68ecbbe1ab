/* process_args.c — the flags that `run` and `exec` share. */
#include "cli/process_args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"

int process_set_tty(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct process_args *)owner)->want_tty = true;
    return 0;
}

int process_set_stdin(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct process_args *)owner)->want_stdin = true;
    return 0;
}

int process_set_cwd(void *owner, const char *text, struct err *err)
{
    if (text[0] != '/') {
        return err_set(err, -EINVAL, "workdir '%s': must be an absolute path", text);
    }
    ((struct process_args *)owner)->cwd = text;
    return 0;
}

int process_set_user(void *owner, const char *text, struct err *err)
{
    if (!text[0]) {
        return err_set(err, -EINVAL, "user '': must be a name or a number");
    }
    ((struct process_args *)owner)->user = text;
    return 0;
}

static int add_env(struct process_args *args, const char *text, size_t len, struct err *err)
{
    const char *equal = memchr(text, '=', len);
    char **items = realloc(args->env.items, sizeof(*items) * (args->env.count + 1));
    AUTO_FREE char *item = strndup(text, len);

    if (items) {
        args->env.items = items;
    }
    if (!items || !item) {
        return err_set(err, -ENOMEM, "environment: out of memory");
    }
    if (equal == text || len == 0) {
        return err_set(err, -EINVAL, "env '%s': must be NAME=VALUE or NAME", item);
    }
    if (!equal) {
        const char *value = getenv(item);
        char *whole;

        if (!value) {
            return 0; /* passing on what is not set sets nothing, as in docker */
        }
        if (asprintf(&whole, "%s=%s", item, value) < 0) {
            return err_set(err, -ENOMEM, "environment: out of memory");
        }
        free(item);
        item = whole;
    }
    args->env.items[args->env.count++] = TAKE_PTR(item);
    return 0;
}

int process_set_env(void *owner, const char *text, struct err *err)
{
    return add_env(owner, text, strlen(text), err);
}

int process_set_env_file(void *owner, const char *text, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf file = {0};
    int r = buf_read_file(&file, text, 16 << 20);
    const char *at = buf_str(&file);

    if (r < 0) {
        return err_set(err, r, "env-file '%s': %s", text, strerror(-r));
    }
    while (*at) {
        size_t len = strcspn(at, "\n");

        if (len && at[0] != '#') {
            r = add_env(owner, at, len, err);
            if (r < 0) {
                return err_wrap(err, r, "env-file '%s'", text);
            }
        }
        at += len + (at[len] == '\n');
    }
    return 0;
}

void process_args_fini(struct process_args *args)
{
    for (size_t i = 0; i < args->env.count; i++) {
        free(args->env.items[i]);
    }
    free(args->env.items);
    args->env.items = NULL;
    args->env.count = 0;
}

/* Put `item` over the variable of the same name, or at the end. */
static void apply(char **env, size_t *count, char *item)
{
    size_t name = strcspn(item, "=") + 1;

    for (size_t i = 0; i < *count; i++) {
        if (strncmp(env[i], item, name) == 0) {
            free(env[i]);
            env[i] = item;
            return;
        }
    }
    env[(*count)++] = item;
}

char **process_env(const struct process_args *args)
{
    size_t count = 0;
    char **env;

    while (environ[count]) {
        count++;
    }
    env = calloc(count + args->env.count + 1, sizeof(*env));
    if (!env) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        env[i] = strdup(environ[i]);
        if (!env[i]) {
            process_env_free(env);
            return NULL;
        }
    }
    for (size_t i = 0; i < args->env.count; i++) {
        char *item = strdup(args->env.items[i]);

        if (!item) {
            process_env_free(env);
            return NULL;
        }
        apply(env, &count, item);
    }
    return env;
}

void process_env_free(char **env)
{
    for (char **e = env; e && *e; e++) {
        free(*e);
    }
    free(env);
}
