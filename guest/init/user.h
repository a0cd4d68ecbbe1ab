/* user.h — who a command runs as: names from the VM's passwd and group files, without NSS. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "proto/exec.pb-c.h"

enum { USER_GROUPS_MAX = 65536 }; /* the kernel's NGROUPS_MAX */

struct user {
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary; malloc */
    size_t group_count;
};

/* `etc` is the folder with passwd and group ("/etc").  NULL `wanted` means root.  A name that is
 * not there is -ENOENT with a sentence. */
int user_find(const char *etc, const Ec1__V1__User *wanted, struct user *ret_user, struct err *err);
void user_fini(struct user *user);
