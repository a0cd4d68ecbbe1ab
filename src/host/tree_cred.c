/* tree_cred.c — act for the guest's user while something is made, and without CAP_FSETID while
 * set-user-id bits are to be dropped.
 *
 * The guest's kernel has checked permissions already, so a monitor with uid 0 changes only the
 * identity that new files get: the file system uid and gid of this thread.  The kernel takes file
 * capabilities away with the uid; those that the monitor had are raised again, so that it sees what
 * it saw before.  Setting the uid back to 0 restores the rest.
 */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/tree_int.h"

/* Capabilities of this thread; all of these are among the first 32. */
static void cap_change(uint32_t raise, uint32_t lower)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0) {
        return;
    }
    data[0].effective |= raise & data[0].permitted;
    data[0].effective &= ~lower;
    (void)syscall(SYS_capset, &header, data);
}

int tree_cred_enter(struct tree *tree, uint32_t uid, uint32_t gid, struct tree_cred *ret_cred)
{
    bool is_other = tree->is_root && (uid != 0 || gid != 0);

    if (!tree->has_own_fs_info) {
        if (unshare(CLONE_FS) < 0) { /* umask() would change the other threads' */
            return -errno;
        }
        tree->has_own_fs_info = true;
    }
    *ret_cred = (struct tree_cred){.is_other = is_other, .umask = umask(0)};
    if (is_other) {
        (void)setfsgid(gid);
        (void)setfsuid(uid);
        cap_change(1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER |
                       1u << CAP_FSETID | 1u << CAP_MKNOD,
                   0);
    }
    return 0;
}

void tree_cred_leave(const struct tree_cred *cred)
{
    if (cred->is_other) {
        (void)setfsuid(0);
        (void)setfsgid(getegid());
    }
    (void)umask(cred->umask);
}

void tree_suid_drop_enter(const struct tree *tree, bool drop)
{
    if (drop && tree->is_root) {
        cap_change(0, 1u << CAP_FSETID);
    }
}

void tree_suid_drop_leave(const struct tree *tree, bool drop)
{
    if (drop && tree->is_root) {
        cap_change(1u << CAP_FSETID, 0);
    }
}
