/* initramfs_test.c — module order, errors that name the cure, and what is in the archive. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "image/rootfs/initramfs.h"
#include "image/rootfs/module_scan.h"
#include "tests/lib/test.h"

/* A module tree in a temporary folder. */
struct fixture {
    char base[64];
    char dir[160]; /* <base>/lib/modules/6.1.0-test */
};

static void put_file(const struct fixture *f, const char *name, const void *data, size_t len)
{
    char path[512];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    for (char *c = path + 1; *c; c++) {
        if (*c == '/') {
            *c = 0;
            (void)mkdir(path, 0755);
            *c = '/';
        }
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, data, len), (ssize_t)len);
    (void)close(fd);
}

static void put_text(const struct fixture *f, const char *name, const char *text)
{
    put_file(f, name, text, strlen(text));
}

static void set_up(struct fixture *f)
{
    (void)snprintf(f->base, sizeof(f->base), "/tmp/ec1-rootfs-XXXXXX");
    CHECK(mkdtemp(f->base) != NULL);
    (void)snprintf(f->dir, sizeof(f->dir), "%s/lib/modules/6.1.0-test", f->base);
    put_text(f, "modules.builtin", "kernel/fs/overlayfs/overlay.ko\n");
    put_text(f, "modules.dep",
             "kernel/v/virtio-mmio.ko: kernel/v/virtio_ring.ko kernel/v/virtio.ko\n"
             "kernel/v/virtio_ring.ko: kernel/v/virtio.ko\n"
             "kernel/v/virtio.ko:\n"
             "kernel/fs/virtiofs.ko.xz: kernel/fs/fuse.ko kernel/v/virtio.ko\n"
             "kernel/fs/virtiofs_not.ko:\n"
             "kernel/fs/fuse.ko:\n");
    put_text(f, "kernel/v/virtio-mmio.ko", "MMIO");
    put_text(f, "kernel/v/virtio_ring.ko", "RING");
    put_text(f, "kernel/v/virtio.ko", "VIRTIO");
    put_text(f, "kernel/fs/virtiofs.ko.xz", "FS");
    put_text(f, "kernel/fs/fuse.ko", "FUSE");
}

static void tear_down(const struct fixture *f)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->base);
    CHECK_INT(system(command), 0);
}

static const char *base_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

TEST(rootfs, modules_come_after_what_they_need)
{
    struct fixture f;
    struct module_list list;
    struct err err = {0};

    set_up(&f);
    CHECK_OK(module_list_make(f.dir,
                              FEATURE_BIT(FEATURE_MMIO) | FEATURE_BIT(FEATURE_FS) |
                                  FEATURE_BIT(FEATURE_OVERLAY),
                              FEATURE_BIT(FEATURE_RNG), &list, &err),
             &err);
    CHECK_INT(list.count, 5);
    CHECK_STR(base_of(list.paths[0]), "virtio.ko");
    CHECK_STR(base_of(list.paths[1]), "virtio_ring.ko");
    CHECK_STR(base_of(list.paths[2]), "virtio-mmio.ko");
    CHECK_STR(base_of(list.paths[3]), "fuse.ko");
    CHECK_STR(base_of(list.paths[4]), "virtiofs.ko.xz");
    module_list_fini(&list);
    tear_down(&f);
}

TEST(rootfs, a_missing_feature_is_named)
{
    struct fixture f;
    struct module_list list;
    struct err err = {0};

    set_up(&f);
    CHECK_INT(module_list_make(f.dir, FEATURE_BIT(FEATURE_VSOCK), 0, &list, &err), -ENOENT);
    CHECK_STR(err.text, "kernel 6.1.0-test has no vmw_vsock_virtio_transport: needs "
                        "CONFIG_VIRTIO_VSOCKETS=y or m");
    tear_down(&f);
}

TEST(rootfs, shares_come_by_9p_where_there_is_no_virtiofs)
{
    struct fixture f;
    struct module_list list;
    struct err err = {0};

    set_up(&f);
    CHECK_OK(module_list_make(f.dir, FEATURE_BIT(FEATURE_FS), 0, &list, &err), &err);
    CHECK_INT(list.found, FEATURE_BIT(FEATURE_FS));
    module_list_fini(&list);
    put_text(&f, "modules.dep", "kernel/fs/9p.ko: kernel/net/9pnet.ko\nkernel/net/9pnet.ko:\n");
    put_text(&f, "kernel/fs/9p.ko", "9P");
    put_text(&f, "kernel/net/9pnet.ko", "9PNET");
    CHECK_INT(module_list_make(f.dir, FEATURE_BIT(FEATURE_FS), 0, &list, &err), -ENOENT);
    CHECK_STR(err.text, "kernel 6.1.0-test has no virtiofs: needs CONFIG_VIRTIO_FS=y or m, or "
                        "CONFIG_9P_FS and CONFIG_NET_9P_VIRTIO");
    put_text(&f, "modules.builtin", "kernel/net/9pnet_virtio.ko\n");
    CHECK_OK(module_list_make(f.dir, FEATURE_BIT(FEATURE_FS), 0, &list, &err), &err);
    CHECK_INT(list.found, FEATURES_9P);
    CHECK_INT(list.count, 2);
    CHECK_STR(base_of(list.paths[0]), "9pnet.ko");
    CHECK_STR(base_of(list.paths[1]), "9p.ko");
    module_list_fini(&list);
    tear_down(&f);
}

static void put_module(const struct fixture *f, const char *name, const char *depends)
{
    char data[256];
    int len = snprintf(data, sizeof(data), "\177ELF%cdepends=%s%cname=x", 0, depends, 0);

    put_file(f, name, data, (size_t)len);
}

static void remove_file(const struct fixture *f, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    CHECK_INT(unlink(path), 0);
}

TEST(rootfs, a_tree_without_modules_dep_is_read_itself)
{
    struct fixture f;
    struct module_list list;
    struct err err = {0};
    char path[256];

    set_up(&f);
    remove_file(&f, "modules.dep");
    put_module(&f, "kernel/v/virtio-mmio.ko", "virtio_ring,virtio");
    put_module(&f, "kernel/v/virtio_ring.ko", "virtio");
    put_module(&f, "kernel/v/virtio.ko", "");
    put_module(&f, "updates/deep/er/vmw_vsock_virtio_transport.ko.gz", "virtio_ring");
    (void)snprintf(path, sizeof(path), "%s/", f.dir); /* a slash at the end is nothing */
    CHECK_OK(module_list_make(path, FEATURE_BIT(FEATURE_MMIO) | FEATURE_BIT(FEATURE_VSOCK), 0,
                              &list, &err),
             &err);
    CHECK_INT(list.count, 4);
    CHECK_STR(base_of(list.paths[0]), "virtio.ko");
    CHECK_STR(base_of(list.paths[1]), "virtio_ring.ko");
    CHECK_STR(base_of(list.paths[2]), "virtio-mmio.ko");
    CHECK_STR(base_of(list.paths[3]), "vmw_vsock_virtio_transport.ko.gz");
    module_list_fini(&list);
    put_module(&f, "kernel/v/virtio_ring.ko", "virtio,virtio_gone");
    CHECK_INT(module_list_make(f.dir, FEATURE_BIT(FEATURE_MMIO), 0, &list, &err), -ENOENT);
    CHECK_HAS(err.text, "modules.dep' is missing");
    CHECK_HAS(err.text, "virtio_ring.ko' needs 'virtio_gone', which is not there");
    tear_down(&f);
}

TEST(rootfs, modules_that_need_each_other_without_end_are_refused)
{
    struct fixture f;
    struct module_list list;
    struct err err = {0};

    set_up(&f);
    remove_file(&f, "modules.dep");
    put_module(&f, "virtio-mmio.ko", "m0");
    for (unsigned i = 0; i < 1100; i++) {
        char name[32];
        char next[32];

        (void)snprintf(name, sizeof(name), "m%u.ko", i);
        (void)snprintf(next, sizeof(next), "m%u", (i + 1) % 1100);
        put_module(&f, name, next);
    }
    remove_file(&f, "kernel/v/virtio-mmio.ko");
    CHECK_INT(module_list_make(f.dir, FEATURE_BIT(FEATURE_MMIO), 0, &list, &err), -E2BIG);
    CHECK_HAS(err.text, "need more than 1024 others");
    tear_down(&f);
}

TEST(rootfs, a_tree_that_does_not_say_what_is_built_in_lacks_nothing)
{
    struct fixture f;
    struct module_list list;
    struct err err = {0};

    set_up(&f);
    remove_file(&f, "modules.builtin");
    CHECK_OK(
        module_list_make(f.dir, FEATURE_BIT(FEATURE_VSOCK), FEATURE_BIT(FEATURE_FS), &list, &err),
        &err);
    CHECK_INT(list.count, 3); /* those of the file system */
    module_list_fini(&list);
    tear_down(&f);
}

TEST(rootfs, packed_modules_are_unpacked)
{
    static const struct {
        const char *name;
        const char *command;
    } packers[] = {{"m.ko.xz", "xz"}, {"m.ko.zst", "zstd -q --rm"}, {"m.ko.gz", "gzip"}};
    struct fixture f;

    set_up(&f);
    for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
        AUTO_CALL(buf_fini) struct buf module = {0};
        struct err err = {0};
        char command[512];
        char path[256];

        put_text(&f, "m.ko", "PLAIN MODULE");
        (void)snprintf(command, sizeof(command), "cd %s && %s m.ko", f.dir, packers[i].command);
        CHECK_INT(system(command), 0);
        (void)snprintf(path, sizeof(path), "%s/%s", f.dir, packers[i].name);
        CHECK_OK(module_read(path, &module, &err), &err);
        CHECK_STR(buf_str(&module), "PLAIN MODULE");
    }
    tear_down(&f);
}

TEST(rootfs, broken_dependency_files_are_refused)
{
    static const struct {
        const char *dep;
        int code;
    } cases[] = {
        {"a/virtio_mmio.ko: a/b.ko\na/b.ko: a/virtio_mmio.ko\n", -ELOOP},
        {"a/virtio_mmio.ko: a/none.ko\n", -ENOENT},
        {"a/virtio_mmio.ko:\n", -ENOENT}, /* the file is not there */
    };
    struct fixture f;

    set_up(&f);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct module_list list;

        put_text(&f, "modules.dep", cases[i].dep);
        CHECK_INT(module_list_make(f.dir, FEATURE_BIT(FEATURE_MMIO), 0, &list, NULL),
                  cases[i].code);
    }
    tear_down(&f);
}

TEST(rootfs, signatures_are_cut_off)
{
    static const char text[] = "~Module signature appended~\n";
    uint8_t module[200] = "MODULE";
    size_t len = 100;

    CHECK_INT(initramfs_module_size(module, len), len);
    memset(module + len, 0, 12);
    module[len + 11] = 60; /* signature: the last 60 bytes of the 100 */
    memcpy(module + len + 12, text, sizeof(text) - 1);
    CHECK_INT(initramfs_module_size(module, len + 12 + sizeof(text) - 1), 40);
    module[len + 8] = 0xff; /* longer than the file */
    CHECK_INT(initramfs_module_size(module, len + 12 + sizeof(text) - 1),
              len + 12 + sizeof(text) - 1);
}

TEST(rootfs, the_archive_holds_init_modules_and_orders)
{
    AUTO_CALL(buf_fini) struct buf archive = {0};
    Ec1__V1__BootConfig config = EC1__V1__BOOT_CONFIG__INIT;
    struct initramfs_request request = {.needed = FEATURE_BIT(FEATURE_MMIO), .config = &config};
    struct fixture f;
    unsigned found = 0;
    struct err err = {0};
    char init[256];

    set_up(&f);
    put_text(&f, "init", "THE-INIT");
    (void)snprintf(init, sizeof(init), "%s/init", f.dir);
    request.init_path = init;
    request.modules_dir = f.dir;
    config.hostname = (char[]){"box"};
    CHECK_OK(initramfs_make(&request, &archive, &found, &err), &err);
    CHECK_INT(found, request.needed);
    CHECK_MEM(archive.data, "070701", 6);
    CHECK(memmem(archive.data, archive.len, "THE-INIT", 8) != NULL);
    CHECK(memmem(archive.data, archive.len, "ec1/modules/virtio-mmio.ko", 26) != NULL);
    CHECK(memmem(archive.data, archive.len, "/ec1/modules/virtio_ring.ko", 27) != NULL);
    CHECK(memmem(archive.data, archive.len, "ec1/boot.pb", 11) != NULL);
    request.init_path = "/nonexistent/init";
    CHECK_INT(initramfs_make(&request, &archive, &found, &err), -ENOENT);
    CHECK_HAS(err.text, "/nonexistent/init");
    tear_down(&f);
}
