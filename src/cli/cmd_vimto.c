/* cmd_vimto.c — `vimto`: its command line. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "cli/vimto.h"
#include "config/vm_config.h"

/* The value of "name=value", as QEMU writes it, or the text as it is. */
static const char *behind(const char *name, const char *text)
{
    size_t len = strlen(name);

    return strncmp(text, name, len) == 0 && text[len] == '=' ? text + len + 1 : text;
}

static int set_kernel(void *owner, const char *text, struct err *err)
{
    if (!text[0]) {
        return err_set(err, -EINVAL, "kernel '': must be a file, a folder or an image");
    }
    ((struct vimto_flags *)owner)->kernel = text;
    return 0;
}

static int set_memory(void *owner, const char *text, struct err *err)
{
    uint64_t bytes;
    int r = str_to_size("memory", behind("size", text), MIB, CONFIG_MEM_MIN_BYTES,
                        CONFIG_MEM_MAX_BYTES, &bytes, err);

    if (r == 0) {
        ((struct vimto_flags *)owner)->mem_bytes = align_down(bytes, MIB);
    }
    return r;
}

static int set_smp(void *owner, const char *text, struct err *err)
{
    uint64_t n;
    int r = str_to_u64("smp", behind("cpus", text), 1, CONFIG_VCPU_MAX, &n, err);

    if (r == 0) {
        ((struct vimto_flags *)owner)->vcpu_count = (unsigned)n;
    }
    return r;
}

#define FLAG_SETTER(field)                                                 \
    static int set_##field(void *owner, const char *text, struct err *err) \
    {                                                                      \
        (void)text;                                                        \
        (void)err;                                                         \
        ((struct vimto_flags *)owner)->field = true;                       \
        return 0;                                                          \
    }
FLAG_SETTER(sudo)
FLAG_SETTER(show_console)
FLAG_SETTER(is_verbose)
FLAG_SETTER(help)

static const struct arg_option g_options[] = {
    {"kernel", 0, "FILE|DIR|IMAGE", "the kernel to boot", set_kernel},
    {"memory", 0, "SIZE", "memory of the VM (default 512M)", set_memory},
    {"smp", 0, "N", "virtual CPUs, 1 to 32 (default 1)", set_smp},
    {"sudo", 0, NULL, "run the command as root", set_sudo},
    {"console", 0, NULL, "show the guest's console on stderr", set_show_console},
    {"verbose", 0, NULL, "say what is done, and how long it took", set_is_verbose},
    {"help", 0, NULL, "show this", set_help},
    {"h", 0, NULL, "show this", set_help},
};

static void usage(void)
{
    (void)fputs("usage: vimto [flags] exec [--] COMMAND...\n\nflags:\n", stderr);
    args_print_go(g_options, ARRAY_LEN(g_options), stderr);
}

static int fail(const struct err *err)
{
    log_error("%s", err_text(err));
    return VIMTO_FAILED;
}

/* Options may also stand between `exec` and the command. */
static int parse(struct vimto_flags *flags, int argc, char **argv, struct err *err)
{
    int at = args_parse_go(g_options, ARRAY_LEN(g_options), argc, argv, flags, err);
    int more;

    if (at < 0 || at >= argc || strcmp(argv[at], "exec") != 0) {
        return at;
    }
    more = args_parse_go(g_options, ARRAY_LEN(g_options), argc - at, argv + at, flags, err);
    return more < 0 ? more : at + more;
}

int cmd_vimto(int argc, char **argv)
{
    struct vimto_flags flags = {0};
    struct err err = {0};
    int at = parse(&flags, argc, argv, &err);

    log_set_name("vimto");
    if (at < 0) {
        return fail(&err);
    }
    if (flags.help) {
        usage();
        return 0;
    }
    if (at >= argc) {
        usage();
        (void)err_set(&err, -EINVAL, "which command? `vimto exec -- COMMAND...`");
        return fail(&err);
    }
    return vimto_exec(&flags, argv + at);
}
