/* vimto_go.c — `vimto go test ...`: Go's own command, told to run each test binary by us. */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/vimto.h"

/* "1", "1.22", "1.22.3", "1.23rc1", "1.23beta2" */
static bool is_version(const char *text)
{
    size_t digits = strspn(text, "0123456789.");
    const char *rest = text + digits;

    if (digits == 0) {
        return false;
    }
    if (str_has_prefix(rest, "rc") || str_has_prefix(rest, "beta")) {
        rest += rest[0] == 'r' ? 2 : 4;
        return rest[0] && !rest[strspn(rest, "0123456789")];
    }
    return !rest[0];
}

bool vimto_is_go(const char *word)
{
    const char *name = strrchr(word, '/') ? strrchr(word, '/') + 1 : word;

    return str_has_prefix(name, "go") &&
           (!name[2] || strcmp(name + 2, "tip") == 0 || is_version(name + 2));
}

/* Adds a word to the value of -exec, which Go takes apart at blanks; '...' and "..." around a whole
 * word keep it together, and there is no way to write one that has both quotes in it. */
static int add_word(struct buf *out, const char *word, struct err *err)
{
    bool is_plain = word[0] && !word[strcspn(word, " \t\r\n'\"")];
    char quote = strchr(word, '\'') ? '"' : '\'';

    if (out->len) {
        buf_append_str(out, " ");
    }
    if (is_plain) {
        buf_append_str(out, word);
    } else if (strchr(word, quote)) {
        return err_set(err, -EINVAL,
                       "%s: Go's -exec cannot take a path with both kinds of quotes in it", word);
    } else {
        buf_printf(out, "%c%s%c", quote, word, quote);
    }
    return 0;
}

/* What was said; "" as a value is a flag without one. */
static int add_flags(struct buf *out, const char *kernel, const struct vimto_flags *flags,
                     struct err *err)
{
    const struct {
        const char *name;
        const char *value; /* NULL: not said */
    } list[] = {
        {"kernel", kernel},
        {"memory", flags->memory},
        {"smp", flags->smp},
        {"sudo", flags->sudo ? "" : NULL},
        {"gdb", flags->gdb},
        {"console", flags->show_console ? "" : NULL},
        {"verbose", flags->is_verbose ? "" : NULL},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(list); i++) {
        AUTO_CALL(buf_fini) struct buf word = {0};

        if (list[i].value) {
            buf_printf(&word, "-%s%s%s", list[i].name, list[i].value[0] ? "=" : "", list[i].value);
            r = add_word(out, buf_str(&word), err);
        }
    }
    return r;
}

/* This program by its real name: what it is called in argv[0] may not be found from elsewhere. */
static int add_self(struct buf *out, struct err *err)
{
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    int r;

    if (len < 0) {
        return err_sys(err, "find this program");
    }
    self[len] = 0;
    r = add_word(out, self, err);
    /* Under the name of `vimto` it needs no verb (main.c). */
    return r < 0 || str_has_prefix(strrchr(self, '/') + 1, "vimto") ? r
                                                                    : add_word(out, "vimto", err);
}

/* "<self> vimto -kernel=... exec --".  Test binaries run in the folders of their packages: a
 * relative path of a kernel would mean something else there. */
static int exec_value(const struct vimto_flags *flags, struct buf *out, struct err *err)
{
    AUTO_FREE char *cwd = getcwd(NULL, 0);
    AUTO_FREE char *kernel = NULL;
    int r;

    if (!cwd) {
        return err_sys(err, "find the working directory");
    }
    if (flags->kernel) {
        kernel =
            flags->kernel[0] == ':' ? strdup(flags->kernel) : vimto_kernel_path(cwd, flags->kernel);
        if (!kernel) {
            return err_set(err, -ENOMEM, "kernel: out of memory");
        }
    }
    r = add_self(out, err);
    if (r == 0) {
        r = add_flags(out, kernel, flags, err);
    }
    buf_append_str(out, " exec --");
    return r < 0 || buf_status(out) == 0 ? r : err_set(err, -ENOMEM, "-exec: out of memory");
}

/* "-name", "--name", or either with "=...". */
static bool is_flag(const char *word, const char *name)
{
    size_t len = strlen(name);

    if (word[0] != '-') {
        return false;
    }
    word += word[1] == '-' ? 2 : 1;
    return strncmp(word, name, len) == 0 && (!word[len] || word[len] == '=');
}

static int check_words(char **argv, struct err *err)
{
    if (!argv[1] || strcmp(argv[1], "test") != 0) {
        return err_set(err, -EINVAL,
                       "'%s %s': of Go's commands only `test` is run here; `vimto exec -- %s %s` "
                       "runs any in a VM",
                       argv[0], argv[1] ? argv[1] : "", argv[0], argv[1] ? argv[1] : "...");
    }
    for (char **word = argv + 2; *word && !is_flag(*word, "args"); word++) {
        if (is_flag(*word, "exec")) {
            return err_set(err, -EINVAL,
                           "'%s': -exec is what `vimto go test` says to Go itself; leave it out, "
                           "or run `go test -exec 'vimto exec --'`",
                           *word);
        }
    }
    return 0;
}

/* `go test -C DIR` wants to have -C in front of all others. */
static size_t leading_words(char **argv)
{
    if (!argv[2] || !is_flag(argv[2], "C")) {
        return 2;
    }
    return strchr(argv[2], '=') || !argv[3] ? 3 : 4;
}

static int go_test(const struct vimto_flags *flags, char **argv, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf value = {0};
    AUTO_FREE char **words = NULL;
    AUTO_FREE char *copy = NULL;
    static char exec_flag[] = "-exec";
    size_t count = 0;
    size_t lead;
    int r = check_words(argv, err);

    if (r == 0 && flags->ports.count > 0) {
        r = err_set(err, -EINVAL,
                    "-p: tests of several packages, each in a VM of its own, cannot share a port; "
                    "`vimto -p ... exec -- COMMAND...` leads one into a VM");
    }
    if (r == 0) {
        r = exec_value(flags, &value, err);
    }
    if (r < 0) {
        return r;
    }
    while (argv[count]) {
        count++;
    }
    words = calloc(count + 3, sizeof(*words));
    copy = strdup(buf_str(&value));
    if (!words || !copy) {
        return err_set(err, -ENOMEM, "-exec: out of memory");
    }
    lead = leading_words(argv);
    memcpy(words, argv, lead * sizeof(*words));
    words[lead] = exec_flag;
    words[lead + 1] = copy;
    memcpy(words + lead + 2, argv + lead, (count - lead) * sizeof(*words));
    (void)signal(SIGPIPE, SIG_DFL); /* main() ignores it, Go's programs are not to */
    (void)execvp(words[0], words);
    return err_sys(err, "run '%s'", words[0]);
}

int vimto_go_test(const struct vimto_flags *flags, char **argv)
{
    struct err err = {0};

    (void)go_test(flags, argv, &err);
    log_error("%s", err_text(&err));
    return VIMTO_FAILED;
}
