/* host_check.c — look at the host the way a start would. */
#include "vmm/host_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/str.h"
#include "image/rootfs/modules.h"
#include "machine/backend.h"
#include "vmm/instance.h"
#include "vmm/kernel_find.h"
#include "vmm/vm.h"

#define MEMINFO_MAX (64 * KIB)

__attribute__((format(printf, 3, 4))) static void
say(struct host_check *c, enum host_check_state state, const char *fmt, ...)
{
    va_list ap;

    c->state = state;
    va_start(ap, fmt);
    (void)vsnprintf(c->text, sizeof(c->text), fmt, ap);
    va_end(ap);
}

static void check_kvm(struct host_check *c)
{
    struct err err = {0};

    c->name = "/dev/kvm";
    if (backend_probe(ENGINE_KVM, &err) == 0) {
        say(c, HOST_CHECK_OK, "can be opened: VMs run at full speed");
    } else {
        say(c, HOST_CHECK_NOTE, "%.300s", err_text(&err));
    }
}

static void check_soft(struct host_check *c)
{
    struct err err = {0};

    c->name = "software engine";
    if (backend_probe(ENGINE_SOFT, &err) == 0) {
        say(c, HOST_CHECK_OK, "runs here: x86-64 guests without /dev/kvm");
    } else {
        say(c, HOST_CHECK_BAD, "%.300s", err_text(&err));
    }
}

static void check_kernel(struct host_check *kernel, struct host_check *modules)
{
    AUTO_FREE struct kernel_choice *k = calloc(1, sizeof(*k));
    struct module_list list = {0};
    struct err err = {0};

    kernel->name = "guest kernel";
    modules->name = "kernel modules";
    if (!k || kernel_find(NULL, NULL, k, &err) < 0) {
        say(kernel, HOST_CHECK_BAD, "%.300s", err_text(&err));
        say(modules, HOST_CHECK_NOTE, "no kernel, no modules");
        return;
    }
    say(kernel, HOST_CHECK_OK, "%.350s", k->image);
    if (k->modules[0] && module_list_make(k->modules, FEATURES_NEEDED | FEATURE_BIT(FEATURE_MMIO),
                                          0, &list, &err) < 0) {
        say(modules, HOST_CHECK_BAD, "%.300s", err_text(&err));
    } else if (k->modules[0]) {
        say(modules, HOST_CHECK_OK, "%.350s", k->modules);
    } else {
        say(modules, HOST_CHECK_NOTE,
            "none beside this kernel: it must have virtio, vsock, virtio-fs or 9P, and overlayfs "
            "built in");
    }
    module_list_fini(&list);
}

static void check_init(struct host_check *c)
{
    char path[1024];
    struct err err = {0};

    c->name = "ec1-init";
    if (vm_init_path(path, sizeof(path), &err) == 0) {
        say(c, HOST_CHECK_OK, "%.350s", path);
    } else {
        say(c, HOST_CHECK_BAD, "%.300s", err_text(&err));
    }
}

static void check_runtime(struct host_check *c)
{
    AUTO_FREE struct instance_info *list = NULL;
    struct err err = {0};
    int count = instance_list(&list, &err);

    c->name = "runtime folder";
    if (count < 0) {
        say(c, HOST_CHECK_BAD, "%.300s", err_text(&err));
    } else {
        say(c, HOST_CHECK_OK, "usable, %d VM%s known", count, count == 1 ? "" : "s");
    }
}

/* What can be had without swapping: free memory alone leaves out the page cache.  0: unknown. */
static uint64_t available_bytes(void)
{
    AUTO_CALL(buf_fini) struct buf text = {0};
    const char *line;

    if (buf_read_file(&text, "/proc/meminfo", MEMINFO_MAX) < 0) {
        return 0;
    }
    line = strstr(buf_str(&text), "MemAvailable:");
    return line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) * KIB : 0;
}

static void check_memory(struct host_check *c)
{
    char text[32];
    uint64_t bytes = available_bytes();

    c->name = "memory";
    if (bytes == 0) {
        say(c, HOST_CHECK_NOTE, "/proc/meminfo does not say how much is available");
        return;
    }
    say(c, bytes < 256 * MIB ? HOST_CHECK_NOTE : HOST_CHECK_OK,
        "%s available; a VM takes what it touches", str_from_size(bytes, text));
}

static void check_files(struct host_check *c)
{
    struct rlimit limit = {0};

    c->name = "open files";
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 4096) {
        say(c, HOST_CHECK_NOTE, "at most %llu: large trees on shares get slow; raise `ulimit -Hn`",
            (unsigned long long)limit.rlim_max);
    } else {
        say(c, HOST_CHECK_OK, "at most %llu", (unsigned long long)limit.rlim_max);
    }
}

unsigned host_check_all(struct host_check checks[static HOST_CHECK_MAX])
{
    unsigned n = 0;

    check_kvm(&checks[n++]);
    check_soft(&checks[n++]);
    check_kernel(&checks[n], &checks[n + 1]);
    n += 2;
    check_init(&checks[n++]);
    check_runtime(&checks[n++]);
    check_memory(&checks[n++]);
    check_files(&checks[n++]);
    return n;
}
