/* do_drive_test.c — drives as clients configure them: order, replacement, and the words of
 * refusals. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/port/disk_port.h"
#include "tests/lib/fake_microvm.h"
#include "vmm/microvm_int.h"

static char g_path[64];

static struct microvm *fresh_with(bool enable_pci)
{
    int fd;

    (void)snprintf(g_path, sizeof(g_path), "/tmp/ec1-drive-test-%d", getpid());
    fd = open(g_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, 1 << 20), 0);
    (void)close(fd);
    return fake_microvm(enable_pci);
}

static struct microvm *fresh(void)
{
    return fresh_with(false);
}

static void finish(struct microvm *vm)
{
    microvm_free(vm);
    (void)unlink(g_path);
}

struct wish {
    const char *id, *path, *socket;
    bool is_root, has_read_only, is_read_only, has_limiter, has_engine;
    int io_engine;
};

static int put(struct microvm *vm, struct wish wish, struct err *err)
{
    struct resource_drive drive = {.drive_id = strdup(wish.id),
                                   .path_on_host = wish.path ? strdup(wish.path) : NULL,
                                   .socket = wish.socket ? strdup(wish.socket) : NULL,
                                   .is_root_device = wish.is_root,
                                   .has_is_read_only = wish.has_read_only,
                                   .is_read_only = wish.is_read_only,
                                   .has_rate_limiter = wish.has_limiter,
                                   .has_io_engine = wish.has_engine,
                                   .io_engine = wish.io_engine};
    struct action action = {.kind = ACTION_PUT_DRIVE, .drive = &drive};
    int r = microvm_do(vm, &action, err);

    resource_drive_fini(&drive);
    return r;
}

static void check_order(struct microvm *vm, const char *ids)
{
    const struct microvm_resources *res = microvm_resources(vm);

    CHECK_INT(res->drive_count, strlen(ids));
    for (unsigned i = 0; i < res->drive_count; i++) {
        CHECK_INT(res->drives[i].drive_id[0], ids[i]);
    }
}

TEST(do_drive, the_root_is_first_and_others_keep_their_places)
{
    struct microvm *vm = fresh();
    struct err err = {0};

    CHECK_OK(put(vm, (struct wish){.id = "a", .path = g_path}, &err), &err);
    CHECK_OK(put(vm, (struct wish){.id = "b", .path = g_path}, &err), &err);
    CHECK_OK(put(vm, (struct wish){.id = "r", .path = g_path, .is_root = true}, &err), &err);
    check_order(vm, "rab");
    CHECK_OK(put(vm, (struct wish){.id = "c", .path = g_path}, &err), &err);
    check_order(vm, "rabc");
    /* replaced in place */
    CHECK_OK(
        put(vm,
            (struct wish){.id = "a", .path = g_path, .has_read_only = true, .is_read_only = true},
            &err),
        &err);
    check_order(vm, "rabc");
    CHECK(microvm_resources(vm)->drives[1].is_read_only);
    /* the root gives up, another one takes over */
    CHECK_OK(put(vm, (struct wish){.id = "r", .path = g_path}, &err), &err);
    check_order(vm, "rabc");
    CHECK_OK(put(vm, (struct wish){.id = "b", .path = g_path, .is_root = true}, &err), &err);
    check_order(vm, "barc");
    CHECK_OK(put(vm, (struct wish){.id = "b", .path = g_path, .is_root = true}, &err), &err);
    check_order(vm, "barc");
    finish(vm);
}

TEST(do_drive, what_cannot_be_is_refused_in_the_interfaces_words)
{
    static const struct {
        struct wish wish;
        const char *text;
    } rows[] = {
        {{.id = "x", .path = g_path, .is_root = true},
         "Drive config error: A root block device already exists!"},
        {{.id = "a", .path = g_path, .is_root = true},
         "Drive config error: A root block device already exists!"},
        {{.id = "x", .path = "/nowhere"},
         "Drive config error: Unable to create the virtio block device: Virtio backend error: "
         "Error "
         "manipulating the backing file: No such file or directory (os error 2) /nowhere"},
        {{.id = "x", .path = "/tmp"},
         "Drive config error: Unable to create the virtio block device: Virtio backend error: "
         "Error "
         "manipulating the backing file: Is a directory (os error 21) /tmp"},
        {{.id = "x"},
         "Drive config error: Unable to create the virtio block device: Invalid block config."},
        {{.id = "x", .path = g_path, .socket = "s"},
         "Drive config error: Unable to create the virtio block device: Invalid block config."},
        {{.id = "x", .socket = "s", .has_read_only = true},
         "Drive config error: Unable to create the virtio block device: Invalid block config."},
        {{.id = "x", .socket = "s", .has_engine = true},
         "Drive config error: Unable to create the virtio block device: Invalid block config."},
        {{.id = "x", .socket = "s", .has_limiter = true},
         "Drive config error: Unable to create the virtio block device: Invalid block config."},
    };
    struct microvm *vm = fresh();
    struct err err = {0};

    CHECK_OK(put(vm, (struct wish){.id = "r", .path = g_path, .is_root = true}, &err), &err);
    CHECK_OK(put(vm, (struct wish){.id = "a", .path = g_path}, &err), &err);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK(put(vm, rows[i].wish, &err) < 0);
        CHECK_STR(err.text, rows[i].text);
        check_order(vm, "ra");
    }
    finish(vm);
}

TEST(do_drive, a_failed_replacement_leaves_the_drive_as_it_was)
{
    struct microvm *vm = fresh();
    struct err err = {0};

    CHECK_OK(put(vm, (struct wish){.id = "a", .path = g_path}, &err), &err);
    CHECK(put(vm, (struct wish){.id = "a", .path = "/nowhere"}, &err) < 0);
    CHECK_STR(microvm_resources(vm)->drives[0].path_on_host, g_path);
    CHECK_INT(vm->drive_hosts[0].disk->bytes, 1 << 20);
    finish(vm);
}

/* No machine runs: what is checked here comes before it is asked. */
TEST(do_drive, a_patch_names_a_drive_and_something_to_change)
{
    struct microvm *vm = fresh();
    struct err err = {0};
    struct resource_drive patch = {.drive_id = strdup("b")};
    struct action action = {.kind = ACTION_PATCH_DRIVE, .drive = &patch};

    CHECK_OK(put(vm, (struct wish){.id = "a", .path = g_path}, &err), &err);
    CHECK(microvm_do(vm, &action, &err) < 0);
    CHECK_STR(err.text, "The requested operation is not supported before starting the microVM.");
    vm->state = MICROVM_RUNNING;
    CHECK(microvm_do(vm, &action, &err) < 0);
    CHECK_STR(err.text, "Drive config error: Unable to patch the block device: Failed perform "
                        "action on device: Device not found Please verify the request arguments.");
    patch.drive_id[0] = 'a';
    CHECK(microvm_do(vm, &action, &err) < 0);
    CHECK_STR(
        err.text,
        "Drive config error: Unable to patch the block device: Block: Running method expected "
        "different backend. Please verify the request arguments.");
    patch.path_on_host = strdup("/nowhere");
    CHECK(microvm_do(vm, &action, &err) < 0);
    CHECK_STR(err.text,
              "Drive config error: Unable to patch the block device: Block: Virtio backend error: "
              "Error manipulating the backing file: No such file or directory (os error 2) "
              "/nowhere Please verify the request arguments.");
    CHECK_STR(microvm_resources(vm)->drives[0].path_on_host, g_path);
    resource_drive_fini(&patch);
    finish(vm);
}

static int drop(struct microvm *vm, const char *id, struct err *err)
{
    struct action action = {.kind = ACTION_DELETE_DRIVE, .id = id};

    return microvm_do(vm, &action, err);
}

TEST(do_drive, drives_are_plugged_into_a_running_machine_and_pulled)
{
    struct microvm *vm = fresh_with(true);
    struct err err = {0};

    CHECK_INT(drop(vm, "a", &err), -EBUSY);
    CHECK_OK(put(vm, (struct wish){.id = "r", .path = g_path, .is_root = true}, &err), &err);
    fake_microvm_start(vm);
    CHECK_INT(put(vm, (struct wish){.id = "r", .path = g_path}, &err), -EEXIST);
    CHECK_STR(err.text, "Device ID in use");
    CHECK(put(vm, (struct wish){.id = "a", .path = g_path, .is_root = true}, &err) < 0);
    CHECK_STR(err.text, "Drive config error: A root block device already exists!");
    CHECK(put(vm, (struct wish){.id = "a", .path = "/nowhere"}, &err) < 0);
    CHECK_HAS(err.text, "Drive config error: Unable to create the virtio block device: ");
    CHECK_OK(put(vm, (struct wish){.id = "a", .path = g_path, .io_engine = IO_ASYNC}, &err), &err);
    CHECK_OK(put(vm, (struct wish){.id = "b", .path = g_path}, &err), &err);
    check_order(vm, "rab");
    CHECK_INT(drop(vm, "r", &err), -EBUSY);
    CHECK_STR(err.text, "Cannot unplug root device");
    CHECK_INT(drop(vm, "x", &err), -ENOENT);
    CHECK_STR(err.text, "Device not found");
    CHECK_OK(drop(vm, "a", &err), &err);
    check_order(vm, "rb");
    CHECK_OK(put(vm, (struct wish){.id = "a", .path = g_path}, &err), &err);
    check_order(vm, "rba");
    finish(vm);
}

TEST(do_drive, a_patch_of_a_running_machine_changes_what_is_shown)
{
    struct microvm *vm = fresh();
    struct err err = {0};
    struct resource_drive patch = {
        .drive_id = strdup("a"),
        .path_on_host = strdup("/proc/self/exe"),
        .rate_limiter = {.ops = {.size = 5, .refill_time = 6}, .has_ops = true},
        .has_rate_limiter = true};
    struct action action = {.kind = ACTION_PATCH_DRIVE, .drive = &patch};

    CHECK_OK(
        put(vm,
            (struct wish){.id = "a", .path = g_path, .has_read_only = true, .is_read_only = true},
            &err),
        &err);
    fake_microvm_start(vm);
    CHECK_INT(drop(vm, "a", &err), -ENODEV);
    CHECK_STR(err.text, "PCI is not enabled");
    CHECK_OK(microvm_do(vm, &action, &err), &err);
    CHECK_STR(microvm_resources(vm)->drives[0].path_on_host, "/proc/self/exe");
    CHECK_INT(microvm_resources(vm)->drives[0].rate_limiter.ops.size, 5);
    resource_drive_fini(&patch);
    finish(vm);
}
