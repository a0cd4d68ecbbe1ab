/* cmd_seccompiler.c — `ec1 seccompiler`, and ec1 under the name `seccompiler-bin`: system call
 * filters from their readable form into the one that `firecracker --seccomp-filter` takes
 * (docs/seccomp.md). */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/file.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "seccomp/source.h"

#define SOURCE_MAX     (16 * MIB)
#define OUTPUT_DEFAULT "seccomp_binary_filter.out"

/* As the command line's other users expect: 1 for what is wrong in files, 2 in words. */
#define STATUS_BAD_FILE  1
#define STATUS_BAD_WORDS 2

struct words {
    const char *input, *output;
    struct seccomp_source_options options;
    bool is_split, wants_help, wants_version;
};

#define SETTER(name, member, value)                                       \
    static int set_##name(void *owner, const char *text, struct err *err) \
    {                                                                     \
        (void)text;                                                       \
        (void)err;                                                        \
        ((struct words *)owner)->member = (value);                        \
        return 0;                                                         \
    }

SETTER(input, input, text)
SETTER(arch, options.arch, text)
SETTER(output, output, text)
SETTER(split, is_split, true)
SETTER(basic, options.is_basic, true)
SETTER(help, wants_help, true)
SETTER(version, wants_version, true)

static const struct arg_option g_options[] = {
    {"input-file", 'i', "FILE", "filters as JSON", set_input},
    {"target-arch", 't', "ARCH", "x86_64 or aarch64", set_arch},
    {"output-file", 'o', "FILE", "what to write; default: " OUTPUT_DEFAULT, set_output},
    {"split-output", 0, NULL, "each thread's instructions into THREAD.bpf beside that file",
     set_split},
    {"basic", 'b', NULL, "leave out all conditions on arguments (deprecated)", set_basic},
    {"help", 'h', NULL, "this text", set_help},
    {"version", 'V', NULL, "print the version", set_version},
};

/* A whole file: nothing of it stays when it cannot be written to its end. */
static int write_file(const char *path, const void *data, size_t len, struct err *err)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int r;

    if (fd < 0) {
        return err_sys(err, "open '%s'", path);
    }
    r = file_write_at(fd, 0, data, len);
    if (r < 0) {
        (void)unlink(path);
        return err_set(err, r, "write '%s': %s", path, strerror(-r));
    }
    return 0;
}

/* `name` is a thread's, from the file: it must not lead elsewhere. */
static int write_split(const char *output, const struct seccomp_filter *filter, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf path = {0};
    AUTO_FREE char *copy = strdup(output);

    if (strchr(filter->name, '/')) {
        return err_set(err, -EINVAL, "thread '%s': its name is to be a file's", filter->name);
    }
    if (copy) {
        buf_printf(&path, "%s/%s.bpf", dirname(copy), filter->name);
    }
    if (!copy || buf_status(&path) < 0) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    return write_file(buf_str(&path), filter->program.code,
                      filter->program.len * sizeof(struct sock_filter), err);
}

static int write_all(const struct words *words, const struct seccomp_container *container,
                     struct err *err)
{
    AUTO_CALL(buf_fini) struct buf file = {0};
    int r = 0;

    if (!words->is_split) {
        seccomp_container_write(container, &file);
        return buf_status(&file) < 0 ? err_set(err, -ENOMEM, "out of memory")
                                     : write_file(words->output, file.data, file.len, err);
    }
    for (unsigned i = 0; r == 0 && i < container->count; i++) {
        r = write_split(words->output, &container->filters[i], err);
    }
    return r;
}

static int compile(const struct words *words)
{
    AUTO_CALL(buf_fini) struct buf text = {0};
    AUTO_FREE struct seccomp_container *container = calloc(1, sizeof(*container));
    struct err err = {0};
    int r = container ? buf_read_file(&text, words->input, SOURCE_MAX) : -ENOMEM;

    if (r < 0) {
        (void)err_set(&err, r, "read '%s': %s", words->input, strerror(-r));
    } else {
        r = seccomp_source_compile(buf_str(&text), text.len, &words->options, container, &err);
        if (r == 0) {
            r = write_all(words, container, &err);
        }
        seccomp_container_fini(container);
    }
    if (r < 0) {
        (void)fprintf(stderr, "Error: %s\n", err_text(&err));
        return STATUS_BAD_FILE;
    }
    if (words->options.is_basic) {
        (void)fprintf(stderr, "Warning: '--basic' is deprecated: conditions on arguments were "
                              "left out\n");
    }
    return 0;
}

static int fail_words(const char *problem)
{
    (void)fprintf(stderr, "Error: %s; --help lists the options\n", problem);
    return STATUS_BAD_WORDS;
}

int cmd_seccompiler(int argc, char **argv)
{
    struct words words = {.output = OUTPUT_DEFAULT};
    struct err err = {0};
    int at = args_parse(g_options, ARRAY_LEN(g_options), argc, argv, &words, &err);

    if (at < 0) {
        return fail_words(err_text(&err));
    }
    if (words.wants_help) {
        cmd_usage("seccompiler");
        args_print(g_options, ARRAY_LEN(g_options));
        return 0;
    }
    if (words.wants_version) {
        (void)puts("seccompiler-bin v" FC_VERSION);
        return 0;
    }
    if (at < argc) {
        return fail_words("no words beside options are taken");
    }
    if (!words.input || !words.options.arch) {
        return fail_words("--input-file and --target-arch are needed");
    }
    return compile(&words);
}
