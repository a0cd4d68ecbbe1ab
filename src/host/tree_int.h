/* tree_int.h — what the tree_*.c files share: nodes, files, descriptors of one tree.
 *
 * Theory of operation.  A guest may know a hundred thousand nodes, more than there are descriptors,
 * so a node is remembered as (parent, name) plus the identity that was found there: mount, device,
 * inode, type.  Work on a node opens an O_PATH descriptor by that name and compares the identity;
 * -ESTALE if something else is there now, upon which the guest's kernel looks the name up again.
 * Such descriptors are kept and the least recently used are closed first.  What the guest unlinks
 * or overwrites is opened before and stays open ("pinned") until the guest forgets it.
 *
 * Real opens go through /proc/self/fd of the O_PATH descriptor after its type was seen, so that
 * nothing but a regular file or directory is ever opened, whoever swaps names in the meantime.
 *
 * Threads: everything on the device's loop thread.
 */
#pragma once

#include <fcntl.h>

#include "base/list.h"
#include "dev/port/tree_port.h"

#define TREE_IOV_MAX  1024u
#define TREE_NODE_MAX (UINT32_C(1) << 22)

/* Numbers for pointers: index in the low half, generation of that index in the high half. */
struct tree_slot {
    void *ptr;
    uint32_t generation;
    uint32_t next_free;
};

struct tree_ids {
    struct tree_slot *slots; /* [0] is not used */
    uint32_t count;          /* slots ever used, [0] included */
    uint32_t cap;
    uint32_t first_free; /* 0: none */
};

/* The number for `ptr`, 0 when out of memory. */
uint64_t tree_ids_add(struct tree_ids *ids, void *ptr);
void *tree_ids_get(const struct tree_ids *ids, uint64_t id);
void tree_ids_del(struct tree_ids *ids, uint64_t id);
void tree_ids_fini(struct tree_ids *ids);

/* The unread rest of what getdents64 gave. */
struct tree_listing {
    uint64_t cookie; /* where data[at] continues */
    size_t at;
    size_t len;
    _Alignas(8) char data[16384];
};

/* An open file or directory. */
struct tree_file {
    uint64_t id; /* 0: a read-only tree's own, node->data */
    struct tree_node *node;
    struct tree_file *next; /* of the same node */
    int fd;
    unsigned access; /* O_ACCMODE bits */
    bool has_written;
    struct tree_listing *listing; /* NULL until the first read_dir */
};

/* Record locks of one guest owner on one node: held by an open file description of their own. */
struct tree_lock_owner {
    struct tree_lock_owner *next;
    uint64_t id;
    int fd;
};

struct tree_node {
    uint64_t id;
    uint64_t mount; /* statx mount id, 0 where the kernel has none */
    dev_t dev;
    ino_t ino;
    uint32_t type; /* S_IFMT bits */
    struct tree_node *hash_next;
    struct tree_node *parent; /* NULL for the root, and once no name is known */
    char *name;
    uint64_t lookups;
    uint32_t refs; /* children and files */
    uint32_t busy; /* in use by a call that runs: descriptors stay, memory too */
    int path_fd;   /* O_PATH, or -1 */
    bool is_pinned;
    bool is_hidden;   /* looks empty: a kernel file system is mounted here, or it is closed to us */
    bool is_unlisted; /* may be searched, not read: names are found, the list is empty */
    struct list lru;
    struct tree_node *walk;  /* scratch of node_path_fd() */
    struct tree_file *data;  /* for reading without a file number */
    struct tree_file *files; /* open by the guest */
    struct tree_lock_owner *owners;
    struct timespec seen_mtime; /* at the last open, zero when not to be relied on */
    struct timespec seen_ctime;
    off_t seen_size;
};

struct tree {
    bool is_read_only;
    bool closed_is_empty;
    bool is_root;         /* the monitor has uid 0: make things in the name of the guest's user */
    bool has_own_fs_info; /* umask is the thread's own */
    char *only;           /* the only name in the root, or NULL */
    int proc_fd;          /* /proc/self/fd, or -1 */
    dev_t root_dev;
    struct tree_node *root;
    struct tree_ids nodes;
    struct tree_ids files;
    uint32_t node_count;
    struct tree_node **buckets; /* by identity */
    uint32_t bucket_count;      /* power of two */
    struct list lru;            /* nodes with descriptors that may be closed, oldest first */
    unsigned fd_used;
    unsigned fd_max;
    struct {
        dev_t dev;
        bool is_hidden;
    } devs[64]; /* what is known of other file systems; the oldest is replaced */
    unsigned dev_count;
    struct iovec iov[TREE_IOV_MAX];
};

/* tree_fd.c: descriptors, counted, with room made by closing cached ones. */
int tree_openat(struct tree *tree, int dir_fd, const char *name, int flags, unsigned mode);
void tree_close(struct tree *tree, int fd);
/* Move to the young end if there is something to close, else off the list. */
void tree_lru_touch(struct tree *tree, struct tree_node *node);
/* Open the file itself; regular files and directories only. */
int tree_open_real(struct tree *tree, struct tree_node *node, int flags);
/* "/proc/self/fd/N", or just N with is_short. */
#define TREE_FD_PATH_MAX 32
void tree_fd_path(char path[static TREE_FD_PATH_MAX], int fd, bool is_short);

/* tree_node.c */
int tree_nodes_init(struct tree *tree, int root_fd);
/* All but the root. */
void tree_nodes_clear(struct tree *tree);
void tree_nodes_fini(struct tree *tree);
struct tree_node *tree_node_get(const struct tree *tree, uint64_t id);
/* The O_PATH descriptor of a node, opened if need be. */
int tree_node_path_fd(struct tree *tree, struct tree_node *node);
/* The same, and keep node and descriptor until tree_node_drop(), which is to follow on success. */
int tree_node_hold(struct tree *tree, struct tree_node *node);
void tree_node_drop(struct tree *tree, struct tree_node *node);
/* Free the node if nothing refers to it, and then its parents. */
void tree_node_put(struct tree *tree, struct tree_node *node);
bool tree_node_is(const struct tree_node *node, const struct stat *st);
struct tree_node *tree_node_find(const struct tree *tree, const struct statx *stx);
/* Find or make the node of what was found under `name`, remember the name, count a lookup. */
int tree_node_learn(struct tree *tree, struct tree_node *dir, int dir_fd, const char *name,
                    const struct statx *stx, struct tree_entry *ret_entry);
int tree_node_rename(struct tree *tree, struct tree_node *node, struct tree_node *dir,
                     const char *name);
/* Open by (dir_fd, name) and never close while the node lives. */
int tree_node_pin(struct tree *tree, struct tree_node *node, int dir_fd, const char *name);
/* It was not removed after all, or has another name. */
void tree_node_unpin(struct tree *tree, struct tree_node *node);
/* `name` of `dir` is gone: a node known by it stays pinned, another is unpinned. */
void tree_node_unname(struct tree *tree, struct tree_node *node, const struct tree_node *dir,
                      const char *name);

/* What is shown of an inode number: those of other devices are made different. */
void tree_show(const struct tree *tree, struct stat *st);
int tree_statx(int dir_fd, const char *name, struct statx *ret_stx);
void tree_stat_from_statx(struct stat *st, const struct statx *stx);

/* tree_name.c */
int tree_name_check(const struct tree *tree, const struct tree_node *dir, const char *name);
/* The directory, to be given back with tree_node_drop(), and its descriptor. */
int tree_dir_hold(struct tree *tree, uint64_t id, const char *name, struct tree_node **ret_dir);
int tree_lookup(void *t, uint64_t dir, const char *name, struct tree_entry *ret_entry);
int tree_ref(void *t, uint64_t node);
void tree_forget(void *t, uint64_t node, uint64_t count);
int tree_make(void *t, uint64_t dir, const char *name, const struct tree_make *make,
              struct tree_entry *ret_entry);
int tree_link(void *t, uint64_t node, uint64_t dir, const char *name, struct tree_entry *ret_entry);
int tree_remove(void *t, uint64_t dir, const char *name, bool is_dir);
int tree_rename(void *t, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name,
                unsigned flags);

/* tree_attr.c */
int tree_node_stat(struct tree *tree, struct tree_node *node, const struct tree_file *file,
                   struct stat *ret_st);
int tree_get_attr(void *t, uint64_t node, uint64_t file, struct stat *ret_st);
int tree_set_attr(void *t, uint64_t node, uint64_t file, const struct tree_change *change,
                  struct stat *ret_st);
int tree_read_link(void *t, uint64_t node, char *buf, size_t size);
int tree_access(void *t, uint64_t node, unsigned mask);
int tree_stat_fs(void *t, uint64_t node, struct statvfs *ret_st);

/* tree_xattr.c */
ssize_t tree_get_xattr(void *t, uint64_t node, const char *name, void *value, size_t size);
ssize_t tree_list_xattr(void *t, uint64_t node, char *list, size_t size);
int tree_set_xattr(void *t, uint64_t node, const char *name, const void *value, size_t size,
                   int flags);
int tree_remove_xattr(void *t, uint64_t node, const char *name);

/* tree_open.c */
void tree_file_free(struct tree *tree, struct tree_file *file);
int tree_file_get(struct tree *tree, uint64_t node, uint64_t file, struct tree_file **ret_file);
int tree_create(void *t, uint64_t dir, const char *name, const struct tree_make *make,
                unsigned flags, struct tree_entry *ret_entry, struct tree_opened *ret_opened);
int tree_open(void *t, uint64_t node, unsigned flags, bool drop_suid,
              struct tree_opened *ret_opened);
int tree_open_dir(void *t, uint64_t node, struct tree_opened *ret_opened);
int tree_release(void *t, uint64_t node, uint64_t file);

/* tree_io.c */
ssize_t tree_read(void *t, uint64_t node, uint64_t file, const struct iovec *iov, unsigned count,
                  uint64_t offset);
ssize_t tree_write(void *t, uint64_t node, uint64_t file, const struct iovec *iov, unsigned count,
                   const struct tree_write *how);
int tree_flush(void *t, uint64_t node, uint64_t file, uint64_t owner);
int tree_sync(void *t, uint64_t node, uint64_t file, bool is_data_only);
int tree_allocate(void *t, uint64_t node, uint64_t file, int mode, uint64_t offset, uint64_t len);
int64_t tree_seek(void *t, uint64_t node, uint64_t file, uint64_t offset, unsigned whence);
ssize_t tree_copy(void *t, const uint64_t from[2], uint64_t from_offset, const uint64_t to[2],
                  uint64_t to_offset, uint64_t len);
int tree_read_dir(void *t, uint64_t node, uint64_t file, uint64_t cookie, tree_dirent_fn fn,
                  void *owner);

/* tree_lock.c */
int tree_get_lock(void *t, uint64_t node, uint64_t file, uint64_t owner, struct tree_lock *lock);
int tree_set_lock(void *t, uint64_t node, uint64_t file, uint64_t owner,
                  const struct tree_lock *lock);
int tree_set_flock(void *t, uint64_t node, uint64_t file, uint32_t type);
/* Drop the record locks of one owner, or of all. */
void tree_locks_drop(struct tree *tree, struct tree_node *node, const uint64_t *owner);

/* tree_cred.c: the thread acts for the guest's user, with umask 0; always paired. */
struct tree_cred {
    bool is_other; /* than the monitor's */
    mode_t umask;
};
int tree_cred_enter(struct tree *tree, uint32_t uid, uint32_t gid, struct tree_cred *ret_cred);
void tree_cred_leave(const struct tree_cred *cred);
/* Without the privilege that keeps set-user-id bits over a write. */
void tree_suid_drop_enter(const struct tree *tree, bool drop);
void tree_suid_drop_leave(const struct tree *tree, bool drop);
