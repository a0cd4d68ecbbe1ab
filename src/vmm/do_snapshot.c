/* do_snapshot.c — pause, resume, and a microVM into files. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/os_error.h"
#include "machine/snapshot.h"
#include "state/state.h"
#include "vmm/microvm_int.h"
#include "vmm/snapshot_resources.h"

#define OTHERS_MAY 0666 /* the umask takes away what the user does not want */

int do_patch_vm(struct microvm *vm, const struct action *action, struct err *err)
{
    int r = 0;

    if (action->is_resumed) {
        r = machine_resume(vm->machine, err);
        if (r < 0) {
            return err_set(err, r, "Failed to resume the vCPUs.");
        }
        vm->state = MICROVM_RUNNING;
    } else {
        r = machine_pause(vm->machine, err);
        if (r < 0) {
            return err_set(err, r, "Failed to pause the vCPUs.");
        }
        vm->state = MICROVM_PAUSED;
    }
    return r;
}

/* --- create --- */

/* A file of a snapshot.  One that was not there before goes again if the snapshot fails. */
struct target {
    const char *path;
    int fd;
    bool is_new;
};

static void target_fini(struct target *t)
{
    if (t->fd >= 0) {
        (void)close(t->fd);
    }
    if (t->is_new) {
        (void)unlink(t->path);
    }
}

static int target_open(struct target *t, const char *path, const char *what, struct err *err)
{
    char text[OS_ERROR_MAX];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, OTHERS_MAY);

    *t = (struct target){.path = path, .fd = fd, .is_new = fd >= 0};
    if (fd < 0 && errno == EEXIST) {
        /* never truncated here: it may be what this very machine is made of */
        fd = t->fd = open(path, O_WRONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        int code = -errno;

        return err_set(err, code, "Cannot perform open on the %s backing file: %s", what,
                       os_error(code, text));
    }
    return 0;
}

static int save_resources(struct microvm *vm, struct state_file *file, struct err *err)
{
    bool has_pci = vm->options.enable_pci;
    struct state s;

    state_save(file, &s, "microvm");
    snapshot_resources_fields(&vm->resources, &has_pci, &s);
    state_str(&s, "cpu-config", &vm->cpu_json, 0);
    return state_close(&s, err);
}

static int save_state(struct microvm *vm, struct state_file *file, struct err *err)
{
    int r;

    state_file_begin(file);
    r = save_resources(vm, file, err);
    if (r == 0) {
        r = machine_save(vm->machine, file, err);
    }
    if (r == 0) {
        r = state_file_finish(file, err);
    }
    return r < 0 ? err_wrap(err, r, "Cannot save the microVM state") : 0;
}

/* A full disk is found out before the first byte: what is there stays good. */
static int reserve_state(int fd, size_t len)
{
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)len) < 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS) {
        return -errno;
    }
    return 0;
}

static int write_state(int fd, const struct state_file *file)
{
    int r = file_write_at(fd, 0, file->bytes.data, file->bytes.len);

    if (r == 0 && ftruncate(fd, (off_t)file->bytes.len) < 0) {
        r = -errno;
    }
    if (r == 0 && fdatasync(fd) < 0) {
        r = -errno;
    }
    return r;
}

static int state_failed(struct err *err, int code)
{
    char text[OS_ERROR_MAX];

    return err_set(err, code, "Cannot write the microVM state file: %s", os_error(code, text));
}

/* The two files of a snapshot. */
struct targets {
    struct target state, memory;
};

static void targets_fini(struct targets *t)
{
    target_fini(&t->state);
    target_fini(&t->memory);
}

static int write_files(struct microvm *vm, const struct targets *to, enum memory_part part,
                       const struct state_file *file, struct err *err)
{
    int r = reserve_state(to->state.fd, file->bytes.len);

    if (r < 0) {
        return state_failed(err, r);
    }
    r = machine_save_memory(vm->machine, to->memory.fd, part, err);
    if (r < 0) {
        return r;
    }
    r = write_state(to->state.fd, file);
    return r < 0 ? state_failed(err, r) : 0;
}

/* Files first: where they cannot be written, no device has been told anything. */
static int create(struct microvm *vm, const struct resource_snapshot_create *request,
                  struct err *err)
{
    AUTO_CALL(state_file_fini) struct state_file file = {0};
    AUTO_CALL(targets_fini) struct targets to = {.state.fd = -1, .memory.fd = -1};
    int r = target_open(&to.state, request->snapshot_path, "snapshot", err);

    if (r == 0) {
        r = target_open(&to.memory, request->mem_file_path, "memory", err);
    }
    if (r == 0) {
        r = save_state(vm, &file, err);
    }
    if (r == 0) {
        r = write_files(vm, &to,
                        request->snapshot_type == SNAPSHOT_FULL ? MEMORY_ALL : MEMORY_CHANGED,
                        &file, err);
    }
    if (r == 0) {
        to.state.is_new = to.memory.is_new = false;
        machine_forget_changes(vm->machine);
    }
    return r;
}

int do_create_snapshot(struct microvm *vm, const struct action *action, struct err *err)
{
    int r;

    if (vm->state != MICROVM_PAUSED) {
        return err_set(err, -EBUSY,
                       "Cannot save the microVM state: Operation not allowed: save/restore "
                       "unavailable while running");
    }
    r = machine_check_saveable(vm->machine, err);
    return r < 0 ? r : create(vm, action->create, err);
}
