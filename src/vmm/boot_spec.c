/* boot_spec.c — what the guest is told: initramfs, kernel command line, shares. */
#include "vmm/boot_spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/str.h"
#include "image/rootfs/initramfs.h"
#include "image/rootfs/overlay.h"
#include "machine/backend.h"
#include "proto/exec.pb-c.h"

#define TAG_ROOT    "root"
#define TAG_IMAGE   "image"
#define TAG_MODULES "modules"

/* What every kernel is told, unless the user says all of it himself; -a is appended and wins,
 * because the last word counts.  docs/kernels.md has the reasons and what each is worth. */
#define CMDLINE                                                                               \
    "console=ttyS0 reboot=k panic=-1 quiet loglevel=4 cryptomgr.notests random.trust_cpu=on " \
    "tsc=reliable noreplace-smp rcupdate.rcu_expedited=1 "                                    \
    "initcall_blacklist=blake2s_mod_init,jent_mod_init"
/* Behind it, where nobody will trace. */
#define CMDLINE_NO_TRACING ",ftrace_check_for_weak_functions,trace_eval_init"
/* Nobody need look for a PCI bus where there is none. */
#define CMDLINE_NO_PCI " pci=off"
/* The software engine keeps code by its address, and what it kept serves the next process. */
#define CMDLINE_SOFT " norandmaps"
/* Where its symbols say that it is; the loader (boot/boot.c) heeds it, too. */
#define CMDLINE_GDB " nokaslr"

static void share_tag(char out[static 36], unsigned index)
{
    (void)snprintf(out, 36, "share%u", index);
}

/* The name to mount inside a share that stands for one file; "" for a folder. */
static const char *subdir_of(const struct vm_mount *mount)
{
    struct stat st;

    if (stat(mount->host, &st) == 0 && S_ISREG(st.st_mode)) {
        return strrchr(mount->host, '/') + 1;
    }
    return "";
}

static bool has_image(const struct vm_spec *spec, const struct kernel_choice *kernel)
{
    return spec->overlay && kernel->files[0];
}

/* Does the VM see the modules in /lib/modules because they are among the image's files? */
static bool image_has_modules(const struct kernel_choice *kernel)
{
    char path[KERNEL_PATH_MAX + 8];
    char target[16];
    size_t len = strlen(kernel->files);
    ssize_t n;

    if (!str_has_prefix(kernel->modules, kernel->files)) {
        return false;
    }
    if (str_has_prefix(kernel->modules + len, "/lib/modules/")) {
        return true;
    }
    /* /lib is the image's, if it has one, and else the host's. */
    (void)snprintf(path, sizeof(path), "%s/lib", kernel->files);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0 && errno == ENOENT) {
        n = readlink("/lib", target, sizeof(target) - 1);
    }
    target[n < 0 ? 0 : n] = 0;
    return str_has_prefix(kernel->modules + len, "/usr/lib/modules/") &&
           (strcmp(target, "usr/lib") == 0 || strcmp(target, "/usr/lib") == 0);
}

static bool shares_modules(const struct vm_spec *spec, const struct kernel_choice *kernel)
{
    return kernel->modules[0] && !(has_image(spec, kernel) && image_has_modules(kernel));
}

void boot_spec_shares(const struct vm_spec *spec, const struct kernel_choice *kernel,
                      const struct boot_spec *boot, struct vm_config *config)
{
    struct config_share *next = config->shares;

    *next++ = (struct config_share){
        .tag = TAG_ROOT, .path = "/", .read_only = true, .is_stable = true, .is_lower = true};
    if (has_image(spec, kernel)) {
        *next++ = (struct config_share){.tag = TAG_IMAGE,
                                        .path = kernel->files,
                                        .read_only = true,
                                        .is_stable = true,
                                        .is_lower = true};
    }
    if (shares_modules(spec, kernel)) {
        *next++ = (struct config_share){
            .tag = TAG_MODULES, .path = kernel->modules, .read_only = true, .is_stable = true};
    }
    for (unsigned i = 0; i < spec->mount_count; i++) {
        *next = (struct config_share){.path = spec->mounts[i].host,
                                      .read_only = spec->mounts[i].read_only};
        share_tag(next->tag, i);
        next++;
    }
    config->share_count = (unsigned)(next - config->shares);
    for (unsigned i = 0; i < config->share_count; i++) {
        config->shares[i].kind = boot->share_kind;
    }
}

/* A mount of BootConfig and the storage of its strings; the generated struct lacks const. */
struct boot_mount {
    Ec1__V1__Mount pb;
    char tag[36];
    char target[4096];
    char subdir[256];
};

struct boot_sysctls {
    struct {
        Ec1__V1__Sysctl pb;
        char name[64];
        char value[64];
    } items[VM_SYSCTL_MAX];
    Ec1__V1__Sysctl *pbs[VM_SYSCTL_MAX];
};

static void list_sysctls(const struct vm_spec *spec, struct boot_sysctls *sysctls)
{
    for (unsigned i = 0; i < spec->sysctl_count; i++) {
        Ec1__V1__Sysctl *pb = &sysctls->items[i].pb;

        ec1__v1__sysctl__init(pb);
        pb->name = sysctls->items[i].name;
        pb->value = sysctls->items[i].value;
        (void)snprintf(pb->name, sizeof(sysctls->items[i].name), "%s", spec->sysctls[i].name);
        (void)snprintf(pb->value, sizeof(sysctls->items[i].value), "%s", spec->sysctls[i].value);
        sysctls->pbs[i] = pb;
    }
}

struct boot_mounts {
    size_t count;
    struct boot_mount items[VM_MOUNT_MAX + 2];
    Ec1__V1__Mount *pbs[VM_MOUNT_MAX + 2];
};

static Ec1__V1__Mount *add_mount(struct boot_mounts *mounts, const char *tag, const char *target,
                                 const char *subdir)
{
    struct boot_mount *m = &mounts->items[mounts->count];

    ec1__v1__mount__init(&m->pb);
    (void)snprintf(m->tag, sizeof(m->tag), "%s", tag);
    (void)snprintf(m->target, sizeof(m->target), "%s", target);
    (void)snprintf(m->subdir, sizeof(m->subdir), "%s", subdir);
    m->pb.tag = m->tag;
    m->pb.target = m->target;
    m->pb.subdir = m->subdir;
    mounts->pbs[mounts->count++] = &m->pb;
    return &m->pb;
}

static void list_mounts(const struct vm_spec *spec, const struct kernel_choice *kernel,
                        struct boot_mounts *mounts)
{
    char text[256];

    if (shares_modules(spec, kernel)) {
        (void)snprintf(text, sizeof(text), "/lib/modules/%s", kernel->release);
        add_mount(mounts, TAG_MODULES, text, "")->read_only = true;
    }
    if (spec->workdir) {
        add_mount(mounts, "", spec->workdir, "")->optional = true;
    }
    for (unsigned i = 0; i < spec->mount_count; i++) {
        const struct vm_mount *mount = &spec->mounts[i];

        share_tag(text, i);
        add_mount(mounts, text, mount->guest, subdir_of(mount))->read_only = mount->read_only;
    }
}

/* A kernel that has it all built in tells only its init what it knows. */
static enum config_share_kind share_kind(unsigned found)
{
    if (found & FEATURE_BIT(FEATURE_FS)) {
        return SHARE_FS;
    }
    return (found & FEATURES_9P) == FEATURES_9P ? SHARE_9P : SHARE_EITHER;
}

static int compose(const struct vm_spec *spec, const struct kernel_choice *kernel,
                   struct boot_mounts *mounts, struct boot_spec *boot, struct err *err)
{
    char root_tag[] = TAG_ROOT;
    char image_tag[] = TAG_IMAGE;
    char init[1024];
    Ec1__V1__BootConfig config = EC1__V1__BOOT_CONFIG__INIT;
    Ec1__V1__Root root = EC1__V1__ROOT__INIT;
    struct boot_sysctls sysctls;
    struct initramfs_request request = {
        .needed = FEATURES_NEEDED | FEATURE_BIT(spec->has_pci ? FEATURE_PCI : FEATURE_MMIO),
        .wanted = FEATURE_BIT(FEATURE_RNG)};
    AUTO_FREE char *hostname = strdup(spec->hostname ? spec->hostname
                                      : spec->name   ? spec->name
                                                     : "ec1");
    unsigned found = 0;
    int r = vm_init_path(init, sizeof(init), err);

    if (r < 0 || !hostname) {
        return r < 0 ? r : err_set(err, -ENOMEM, "initramfs: out of memory");
    }
    root.tag = root_tag;
    if (has_image(spec, kernel)) {
        root.image_tag = image_tag;
    }
    config.root = &root;
    config.mounts = mounts->pbs;
    config.n_mounts = mounts->count;
    list_sysctls(spec, &sysctls);
    if (spec->core_dir) {
        config.core_dir.data = (uint8_t *)(uintptr_t)spec->core_dir;
        config.core_dir.len = strlen(spec->core_dir);
    }
    config.sysctls = sysctls.pbs;
    config.n_sysctls = spec->sysctl_count;
    config.hostname = hostname;
    request.init_path = init;
    request.modules_dir = kernel->modules[0] ? kernel->modules : NULL;
    request.config = &config;
    r = initramfs_make(&request, &boot->initramfs, &found, err);
    boot->share_kind = share_kind(found);
    return r;
}

static int check_image(const struct vm_spec *spec, const struct kernel_choice *kernel,
                       struct err *err)
{
    int r = overlay_check(kernel->files, "/", err);

    return r < 0 ? err_wrap(err, r, "kernel '%s'", spec->kernel ? spec->kernel : kernel->files) : 0;
}

static void put_cmdline(const struct vm_spec *spec, struct buf *out)
{
    if (spec->all_args) {
        buf_append_str(out, spec->all_args);
        return;
    }
    buf_append_str(out, CMDLINE);
    if (!spec->has_tracing) {
        buf_append_str(out, CMDLINE_NO_TRACING);
    }
    if (!spec->has_pci) {
        buf_append_str(out, CMDLINE_NO_PCI);
    }
    if (backend_is_soft(spec->engine)) {
        buf_append_str(out, CMDLINE_SOFT);
    }
}

int boot_spec_compose(const struct vm_spec *spec, const struct kernel_choice *kernel,
                      struct boot_spec *boot, struct err *err)
{
    struct boot_mounts *mounts = calloc(1, sizeof(*mounts));
    int r = has_image(spec, kernel) ? check_image(spec, kernel, err) : 0;

    if (r < 0) {
        free(mounts);
        return r;
    }
    if (!mounts) {
        return err_set(err, -ENOMEM, "initramfs: out of memory");
    }
    list_mounts(spec, kernel, mounts);
    r = compose(spec, kernel, mounts, boot, err);
    free(mounts);
    put_cmdline(spec, &boot->cmdline);
    if (spec->gdb) {
        buf_append_str(&boot->cmdline, CMDLINE_GDB);
    }
    if (spec->extra_args) {
        buf_printf(&boot->cmdline, " %s", spec->extra_args);
    }
    if (r == 0 && buf_status(&boot->cmdline) < 0) {
        r = err_set(err, -ENOMEM, "command line: out of memory");
    }
    return r;
}

void boot_spec_release(struct boot_spec *boot)
{
    buf_fini(&boot->initramfs);
}

void boot_spec_fini(struct boot_spec *boot)
{
    boot_spec_release(boot);
    buf_fini(&boot->cmdline);
}
