/* instance.h — the running and the finished VMs of this user, as folders that any process can read.
 *
 * <root>/<id>/   lock        held (flock) by the monitor as long as it lives
 *                state.json  what is known of the VM; replaced whole, never half-written
 *                vsock.sock  the VM's vsock (and vsock.sock_1024: readiness)
 *                console.log, out.log, err.log
 *
 * <root> is $XDG_RUNTIME_DIR/ec1, else /run/ec1 for root, else /tmp/ec1-<uid>; mode 0700 and owned
 * by the user, checked.  Whether a monitor lives is decided by its lock alone, so kill -9 needs no
 * clean-up: the next instance_create() or instance_list() sweeps what is dead and was not to be
 * kept.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define INSTANCE_ID_LEN   12
#define INSTANCE_NAME_MAX 64
/* Leaves room for "/vsock.sock_1024" in sun_path (108 bytes). */
#define INSTANCE_DIR_MAX 90

/* What state.json holds. */
struct instance_info {
    char id[INSTANCE_ID_LEN + 1];
    char name[INSTANCE_NAME_MAX]; /* "" if none */
    char dir[INSTANCE_DIR_MAX];
    char engine[8];
    char kernel[1024];
    char command[256]; /* for people: shortened */
    pid_t pid;
    unsigned vcpu_count;
    uint64_t mem_bytes;
    int64_t started_wall_ns;
    int64_t ended_wall_ns; /* 0 while it runs */
    bool is_kept;          /* stays listed after its end */
    bool is_ready;         /* the init answered */
    bool is_alive;         /* not stored: the lock is held */
    int exit_status;       /* -1 while unknown */
    char end[16];          /* "", "exited", "panic", ... */
};

struct instance {
    struct instance_info info;
    int lock_fd; /* -1: none */
};

/* New folder with a fresh id, locked.  -EEXIST if `name` (may be NULL) is in use. */
int instance_create(const char *name, struct instance *ret_instance, struct err *err);
/* Write info to state.json. */
int instance_update(struct instance *instance, struct err *err);
/* Remove the folder unless it is kept and reached its end properly; release the lock. */
void instance_close(struct instance *instance);

/* Find by id, name or unambiguous beginning of an id.  -ENOENT, -EINVAL if ambiguous. */
int instance_find(const char *which, struct instance_info *ret_info, struct err *err);
/* All of them, oldest first; *ret_list is to be freed.  Returns the count. */
int instance_list(struct instance_info **ret_list, struct err *err);
/* Remove the folder of a VM that is dead.  -EBUSY if it lives. */
int instance_remove(const struct instance_info *info, struct err *err);
