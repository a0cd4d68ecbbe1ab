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
#include "image/oci/oci.h"
#include "vmm/kernel_find.h"

/* The value of "name=value", as QEMU writes it, or the text as it is. */
static const char *behind(const char *name, const char *text)
{
    size_t len = strlen(name);

    return strncmp(text, name, len) == 0 && text[len] == '=' ? text + len + 1 : text;
}

/* A flag that is said twice, once before `exec` and once behind it perhaps, must say the same. */
static int set_once(const char *name, const char **slot, const char *text, struct err *err)
{
    if (*slot && strcmp(*slot, text) != 0) {
        return err_set(err, -EINVAL, "-%s '%s': -%s '%s' was said before", name, text, name, *slot);
    }
    *slot = text;
    return 0;
}

static int set_kernel(void *owner, const char *text, struct err *err)
{
    if (!text[0]) {
        return err_set(err, -EINVAL, "kernel '': must be a file, a folder or an image");
    }
    return set_once("kernel", &((struct vimto_flags *)owner)->kernel, text, err);
}

int vimto_memory(const char *text, uint64_t *ret_bytes, struct err *err)
{
    uint64_t bytes;
    int r = str_to_size("memory", behind("size", text), MIB, CONFIG_MEM_MIN_BYTES,
                        CONFIG_MEM_MAX_BYTES, &bytes, err);

    if (r == 0) {
        *ret_bytes = align_down(bytes, MIB);
    }
    return r;
}

int vimto_smp(const char *text, unsigned *ret_count, struct err *err)
{
    uint64_t n;
    int r = str_to_u64("smp", behind("cpus", text), 1, CONFIG_VCPU_MAX, &n, err);

    if (r == 0) {
        *ret_count = (unsigned)n;
    }
    return r;
}

static int set_memory(void *owner, const char *text, struct err *err)
{
    struct vimto_flags *flags = owner;
    int r = set_once("memory", &flags->memory, text, err);

    return r < 0 ? r : vimto_memory(text, &flags->mem_bytes, err);
}

static int set_smp(void *owner, const char *text, struct err *err)
{
    struct vimto_flags *flags = owner;
    int r = set_once("smp", &flags->smp, text, err);

    return r < 0 ? r : vimto_smp(text, &flags->vcpu_count, err);
}

static int set_gdb(void *owner, const char *text, struct err *err)
{
    return set_once("gdb", &((struct vimto_flags *)owner)->gdb, text ? text : "", err);
}

/* Go's programs take "-sudo=true", too. */
static int set_sudo(void *owner, const char *text, struct err *err)
{
    if (text && strcmp(text, "true") != 0) {
        return err_set(err, -EINVAL, "sudo '%s': must be true, or left out", text);
    }
    ((struct vimto_flags *)owner)->sudo = true;
    return 0;
}

static int set_p(void *owner, const char *text, struct err *err)
{
    return forward_ports_add(&((struct vimto_flags *)owner)->ports, text, err);
}

#define FLAG_SETTER(field)                                                 \
    static int set_##field(void *owner, const char *text, struct err *err) \
    {                                                                      \
        (void)text;                                                        \
        (void)err;                                                         \
        ((struct vimto_flags *)owner)->field = true;                       \
        return 0;                                                          \
    }
FLAG_SETTER(show_console)
FLAG_SETTER(is_verbose)
FLAG_SETTER(help)

static const struct arg_option g_options[] = {
    {"kernel", 0, "FILE|DIR|IMAGE",
     "the kernel to boot; `:TAG` swaps the tag of the configured image", set_kernel},
    {"memory", 0, "SIZE", "memory of the VM (default 512M)", set_memory},
    {"smp", 0, "N", "virtual CPUs, 1 to 32 (default 1)", set_smp},
    {"p", 0, "HOST:GUEST", "lead a TCP port of this host (127.0.0.1) to one of the VM's loopback",
     set_p},
    {"sudo", 0, "[true]", "run the command as root of the VM", set_sudo},
    {"gdb", 0, "[ADDRESS]",
     "wait for gdb before the first instruction (default localhost:1234; port 0 picks one)",
     set_gdb},
    {"console", 0, NULL, "show the guest's console on stderr", set_show_console},
    {"verbose", 0, NULL, "say what is done, and how long it took", set_is_verbose},
    {"help", 0, NULL, "show this", set_help},
    {"h", 0, NULL, "show this", set_help},
};

static void usage(void)
{
    (void)fputs("usage: vimto [flags] exec [--] COMMAND...\n"
                "       vimto [flags] [--] go test ...\n"
                "       go test -exec 'vimto exec --' ...\n"
                "       vimto flush-cache\n\n"
                "Run a command, or Go's tests, in a VM with the kernel of your choice.\n\n"
                "flags, before or behind `exec`; .vimto.toml has defaults for them:\n",
                stderr);
    args_print_go(g_options, ARRAY_LEN(g_options), stderr);
}

static int fail(const struct err *err)
{
    log_error("%s", err_text(err));
    return VIMTO_FAILED;
}

static int flush_cache(struct err *err)
{
    char cache[KERNEL_PATH_MAX];
    unsigned busy = 0;
    int r = kernel_cache_dir(cache, err);

    if (r == 0) {
        r = oci_flush(cache, &busy, err);
    }
    if (r == 0 && busy) {
        log_warn("%u image%s in use and stay%s", busy, busy == 1 ? " is" : "s are",
                 busy == 1 ? "s" : "");
    }
    return r;
}

/* `go test -exec vimto` puts the path of the test binary where a verb would be. */
static bool is_path(const char *word)
{
    return strchr(word, '/') != NULL;
}

/* Flags, which may also stand behind `exec`. */
static int parse(struct vimto_flags *flags, int argc, char **argv, const char **ret_verb,
                 struct err *err)
{
    int at = args_parse_go(g_options, ARRAY_LEN(g_options), argc, argv, flags, err);
    int more;

    *ret_verb = at >= 0 && at < argc ? argv[at] : "";
    if (strcmp(*ret_verb, "exec") != 0) {
        return at;
    }
    more = args_parse_go(g_options, ARRAY_LEN(g_options), argc - at, argv + at, flags, err);
    return more < 0 ? more : at + more;
}

static int run_verb(const struct vimto_flags *flags, const char *verb, char **argv, struct err *err)
{
    if (vimto_is_go(verb)) {
        return vimto_go_test(flags, argv);
    }
    if (strcmp(verb, "exec") == 0 || is_path(verb)) {
        return argv[0] ? vimto_exec(flags, argv)
                       : err_set(err, -EINVAL, "exec: which command? `vimto exec -- COMMAND...`");
    }
    if (strcmp(verb, "flush-cache") == 0) {
        return argv[1] ? err_set(err, -EINVAL, "flush-cache: takes no words, such as '%s'", argv[1])
                       : flush_cache(err);
    }
    return err_set(err, -EINVAL,
                   verb[0] ? "'%s': must be exec, go or flush-cache; `vimto exec -- %s` runs it in "
                             "a VM"
                           : "what to do? exec, go or flush-cache; see -help",
                   verb, verb);
}

int cmd_vimto(int argc, char **argv)
{
    struct vimto_flags flags = {0};
    struct err err = {0};
    const char *verb;
    int at;
    int status;

    log_set_name("vimto");
    at = parse(&flags, argc, argv, &verb, &err);
    if (at < 0) {
        return fail(&err);
    }
    if (flags.help) {
        usage();
        return 0;
    }
    status = run_verb(&flags, verb, argv + at, &err);
    return status < 0 ? fail(&err) : status;
}
