/* do_pmem_test.c — persistent memory as clients configure it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fake_microvm.h"
#include "vmm/microvm_int.h"

static char g_path[64];

static struct microvm *fresh(bool enable_pci, off_t bytes)
{
    int fd;

    (void)snprintf(g_path, sizeof(g_path), "/tmp/ec1-pmem-test-%d", getpid());
    fd = open(g_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, bytes), 0);
    (void)close(fd);
    return fake_microvm(enable_pci);
}

static void finish(struct microvm *vm)
{
    microvm_free(vm);
    (void)unlink(g_path);
}

static int put(struct microvm *vm, const char *id, const char *path, bool is_root, struct err *err)
{
    struct resource_pmem pmem = {
        .id = strdup(id), .path_on_host = strdup(path), .root_device = is_root};
    struct action action = {.kind = ACTION_PUT_PMEM, .pmem = &pmem};
    int r = microvm_do(vm, &action, err);

    resource_pmem_fini(&pmem);
    return r;
}

static int put_drive(struct microvm *vm, bool is_root, struct err *err)
{
    struct resource_drive drive = {
        .drive_id = strdup("d"), .path_on_host = strdup(g_path), .is_root_device = is_root};
    struct action action = {.kind = ACTION_PUT_DRIVE, .drive = &drive};
    int r = microvm_do(vm, &action, err);

    resource_drive_fini(&drive);
    return r;
}

static int patch(struct microvm *vm, const char *id, struct err *err)
{
    struct resource_pmem pmem = {
        .id = strdup(id),
        .has_rate_limiter = true,
        .rate_limiter = {.ops = {.size = 5, .refill_time = 6}, .has_ops = true}};
    struct action action = {.kind = ACTION_PATCH_PMEM, .pmem = &pmem};
    int r = microvm_do(vm, &action, err);

    resource_pmem_fini(&pmem);
    return r;
}

static int drop(struct microvm *vm, const char *id, struct err *err)
{
    struct action action = {.kind = ACTION_DELETE_PMEM, .id = id};

    return microvm_do(vm, &action, err);
}

static int start(struct microvm *vm, struct err *err)
{
    struct resource_boot boot = {.kernel_image_path = strdup("/proc/self/exe")};
    struct action boot_action = {.kind = ACTION_PUT_BOOT, .boot = &boot};
    struct action action = {.kind = ACTION_START};

    CHECK_OK(microvm_do(vm, &boot_action, err), err);
    resource_boot_fini(&boot);
    return microvm_do(vm, &action, err);
}

TEST(do_pmem, there_is_one_root_of_both_kinds)
{
    struct microvm *vm = fresh(false, 4096);
    struct err err = {0};

    CHECK_OK(put(vm, "p", "/nowhere", true, &err), &err); /* opened at the start */
    CHECK_OK(put(vm, "p", "/nowhere", true, &err), &err);
    CHECK(put(vm, "q", "/nowhere", true, &err) < 0);
    CHECK_STR(err.text, "Pmem config error: A root pmem device already exist");
    CHECK(put_drive(vm, true, &err) < 0);
    CHECK_STR(err.text, "Drive config error: Attempt to add block as a root device while the root "
                        "device defined as a pmem device");
    CHECK_OK(put(vm, "p", "/nowhere", false, &err), &err);
    CHECK_INT(microvm_resources(vm)->pmem_count, 1);
    CHECK_OK(put_drive(vm, true, &err), &err);
    CHECK(put(vm, "q", "/nowhere", true, &err) < 0);
    CHECK_STR(err.text, "Pmem config error: Attempt to add pmem as a root device while the root "
                        "device defined as a block device");
    finish(vm);
}

TEST(do_pmem, a_bad_file_is_told_at_the_start)
{
    static const struct {
        const char *path;
        const char *text;
    } rows[] = {
        {g_path, "Start microvm error: Cannot create pmem device: Error backing file size is 0"},
        {"/nowhere", "Start microvm error: Cannot create pmem device: Error accessing backing "
                     "file: No such file or directory (os error 2)"},
        {"/tmp", "Start microvm error: Cannot create pmem device: Error accessing backing file: Is "
                 "a directory (os error 21)"},
        {"/dev/zero", "Start microvm error: Cannot create pmem device: Error accessing backing "
                      "file: it is no regular file"},
    };
    struct microvm *vm = fresh(false, 0);
    struct err err = {0};

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK_OK(put(vm, "p", rows[i].path, false, &err), &err);
        CHECK(start(vm, &err) < 0);
        CHECK_STR(err.text, rows[i].text);
        CHECK_INT(microvm_state(vm), MICROVM_NOT_STARTED);
    }
    CHECK_INT(truncate(g_path, 5000), 0);
    CHECK_OK(put(vm, "p", g_path, false, &err), &err);
    fake_microvm_start(vm);
    finish(vm);
}

TEST(do_pmem, memory_is_plugged_into_a_running_machine_and_pulled)
{
    struct microvm *vm = fresh(true, 5 << 20);
    struct err err = {0};

    CHECK_OK(put(vm, "r", g_path, true, &err), &err);
    fake_microvm_start(vm);
    CHECK_INT(put(vm, "r", g_path, false, &err), -EEXIST);
    CHECK_STR(err.text, "Device ID in use");
    CHECK(put(vm, "a", g_path, true, &err) < 0);
    CHECK_STR(err.text, "Pmem config error: Attempt to add pmem as a root device while the root "
                        "device defined as a block device");
    CHECK(put(vm, "a", "/nowhere", false, &err) < 0);
    CHECK_STR(err.text, "Pmem config error: Unable to create the virtio-pmem device: Error "
                        "accessing backing file: No such file or directory (os error 2)");
    for (unsigned round = 0; round < 3; round++) {
        CHECK_OK(put(vm, "a", g_path, false, &err), &err);
        CHECK_OK(put(vm, "b", g_path, false, &err), &err);
        CHECK_INT(microvm_resources(vm)->pmem_count, 3);
        CHECK_OK(drop(vm, "a", &err), &err);
        CHECK_OK(drop(vm, "b", &err), &err);
    }
    CHECK_INT(drop(vm, "r", &err), -EBUSY);
    CHECK_STR(err.text, "Cannot unplug root device");
    CHECK_INT(drop(vm, "x", &err), -ENOENT);
    CHECK_STR(err.text, "Device not found");
    finish(vm);
}

TEST(do_pmem, limits_of_a_running_machine_are_patched)
{
    struct microvm *vm = fresh(false, 4096);
    struct err err = {0};

    CHECK_OK(put(vm, "p", g_path, false, &err), &err);
    CHECK_INT(patch(vm, "p", &err), -EBUSY);
    fake_microvm_start(vm);
    CHECK_OK(patch(vm, "p", &err), &err);
    CHECK_INT(microvm_resources(vm)->pmems[0].rate_limiter.ops.size, 5);
    CHECK(patch(vm, "q", &err) < 0);
    CHECK_STR(err.text, "Pmem config error: Unable to patch the pmem device: Failed perform action "
                        "on device: Device not found Please verify the request arguments.");
    CHECK_INT(drop(vm, "p", &err), -ENODEV);
    CHECK_STR(err.text, "PCI is not enabled");
    finish(vm);
}
