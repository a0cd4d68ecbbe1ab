/* tree_port.h — what a shared file system needs from the host: one tree of files, addressed by
 * numbers.
 *
 * A node is one file, directory or symbolic link that has been named to the guest; a file is one
 * open file or open directory.  Both are numbers that the guest sends back at will, so the tree
 * checks every one of them: an unknown node is -ESTALE, an unknown file, or one of another node, is
 * -EBADF.  Numbers are never used twice.
 *
 * Each success of lookup, make, create and link counts one reference on the node that it returns,
 * and ref() one more; forget() takes any number of them back.  The root has the number TREE_ROOT
 * and is never forgotten.
 *
 * Names are single path components.  The tree refuses "", ".", "..", names that hold '/' and names
 * over 255 bytes, and follows no symbolic link: nothing outside it can be reached.
 *
 * A read-only tree refuses with -EROFS all that would change it, and lets read, read_dir, sync and
 * seek work with file number 0: by node alone.
 *
 * All functions return 0 (or the count that their comment names) or a negative errno, and none may
 * wait for another process.  Threads: all calls on one thread, that of the device's loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define TREE_ROOT     1u
#define TREE_NAME_MAX 255u

struct tree_entry {
    uint64_t node;
    struct stat st;
};

struct tree_opened {
    uint64_t file;
    bool is_unchanged; /* since this node was last opened: what the guest has cached is valid */
};

/* Who makes something, and what.  The type is in `mode`, which the guest's umask has been applied
 * to already. */
struct tree_make {
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;
    dev_t rdev;         /* of a device */
    const char *target; /* of a symbolic link */
};

enum tree_change_bit {
    TREE_SET_MODE = 1,
    TREE_SET_UID = 2,
    TREE_SET_GID = 4,
    TREE_SET_SIZE = 8,
    TREE_SET_ATIME = 16, /* the tv_nsec may be UTIME_NOW */
    TREE_SET_MTIME = 32,
};

struct tree_change {
    unsigned valid; /* tree_change_bit */
    bool drop_suid; /* with a new size: clear set-user-id and set-group-id */
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint64_t size;
    struct timespec atime;
    struct timespec mtime;
};

struct tree_write {
    uint64_t offset;
    bool is_append;
    bool drop_suid;
};

struct tree_lock {
    uint64_t start;
    uint64_t end;  /* inclusive; INT64_MAX: however far */
    uint32_t type; /* F_RDLCK, F_WRLCK, F_UNLCK */
};

struct tree_dirent {
    const char *name; /* NUL-terminated */
    uint32_t name_len;
    uint32_t type; /* DT_* */
    uint64_t ino;
    uint64_t next; /* the cookie that continues after this entry */
};

/* Takes one entry; false: there is no room, and the entry is to come again. */
typedef bool (*tree_dirent_fn)(void *owner, const struct tree_dirent *entry);

/* `t` is tree_port.owner throughout.  `file` 0 stands for none. */
struct tree_ops {
    /* The guest is gone: drop all nodes but the root, all files, all locks. */
    void (*reset)(void *t);
    void (*free)(void *t);

    int (*lookup)(void *t, uint64_t dir, const char *name, struct tree_entry *ret_entry);
    int (*ref)(void *t, uint64_t node);
    void (*forget)(void *t, uint64_t node, uint64_t count);
    int (*get_attr)(void *t, uint64_t node, uint64_t file, struct stat *ret_st);
    int (*set_attr)(void *t, uint64_t node, uint64_t file, const struct tree_change *change,
                    struct stat *ret_st);
    int (*read_link)(void *t, uint64_t node, char *buf, size_t size); /* bytes; no NUL added */
    int (*access)(void *t, uint64_t node, unsigned mask);
    int (*stat_fs)(void *t, uint64_t node, struct statvfs *ret_st);

    int (*make)(void *t, uint64_t dir, const char *name, const struct tree_make *make,
                struct tree_entry *ret_entry);
    int (*link)(void *t, uint64_t node, uint64_t dir, const char *name,
                struct tree_entry *ret_entry);
    int (*remove)(void *t, uint64_t dir, const char *name, bool is_dir);
    int (*rename)(void *t, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name,
                  unsigned flags); /* RENAME_* */

    /* `flags`: O_*; those that make no sense here are ignored. */
    int (*create)(void *t, uint64_t dir, const char *name, const struct tree_make *make,
                  unsigned flags, struct tree_entry *ret_entry, struct tree_opened *ret_opened);
    int (*open)(void *t, uint64_t node, unsigned flags, bool drop_suid,
                struct tree_opened *ret_opened);
    int (*open_dir)(void *t, uint64_t node, struct tree_opened *ret_opened);
    int (*release)(void *t, uint64_t node, uint64_t file);

    /* Bytes; less than asked only at the end of the file. */
    ssize_t (*read)(void *t, uint64_t node, uint64_t file, const struct iovec *iov, unsigned count,
                    uint64_t offset);
    ssize_t (*write)(void *t, uint64_t node, uint64_t file, const struct iovec *iov, unsigned count,
                     const struct tree_write *how);
    /* The guest closes a descriptor of this file; `owner` loses its record locks on the node. */
    int (*flush)(void *t, uint64_t node, uint64_t file, uint64_t owner);
    int (*sync)(void *t, uint64_t node, uint64_t file, bool is_data_only);
    int (*allocate)(void *t, uint64_t node, uint64_t file, int mode, uint64_t offset, uint64_t len);
    int64_t (*seek)(void *t, uint64_t node, uint64_t file, uint64_t offset, unsigned whence);
    ssize_t (*copy)(void *t, const uint64_t from[2], uint64_t from_offset, const uint64_t to[2],
                    uint64_t to_offset, uint64_t len); /* {node, file} */
    /* Entries from `cookie` on (0: the start), until the directory ends or `fn` is full. */
    int (*read_dir)(void *t, uint64_t node, uint64_t file, uint64_t cookie, tree_dirent_fn fn,
                    void *owner);

    /* Size of the value or list; with size 0 nothing is stored. */
    ssize_t (*get_xattr)(void *t, uint64_t node, const char *name, void *value, size_t size);
    ssize_t (*list_xattr)(void *t, uint64_t node, char *list, size_t size);
    int (*set_xattr)(void *t, uint64_t node, const char *name, const void *value, size_t size,
                     int flags);
    int (*remove_xattr)(void *t, uint64_t node, const char *name);

    /* Record locks of `owner`, and flock of the open file.  -EAGAIN while somebody else has it. */
    int (*get_lock)(void *t, uint64_t node, uint64_t file, uint64_t owner, struct tree_lock *lock);
    int (*set_lock)(void *t, uint64_t node, uint64_t file, uint64_t owner,
                    const struct tree_lock *lock);
    int (*set_flock)(void *t, uint64_t node, uint64_t file, uint32_t type);
};

struct tree_port {
    const struct tree_ops *ops;
    void *owner;
};

/* A device number in the form that Linux gives to file systems, 32 bits wide. */
static inline uint32_t tree_rdev(dev_t dev)
{
    return (minor(dev) & 0xffu) | major(dev) << 8 | (minor(dev) & ~0xffu) << 12;
}
