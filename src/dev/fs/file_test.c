/* file_test.c — open files, directories and locks, and nodes that outlive their names. */
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "tests/lib/fuse_client.h"

TEST(fs, create_write_read)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    struct fuse_made g = {0};

    fuse_client_init(&c, false);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0640, &f), 0);
    CHECK_INT(fuse_write(&c, f.node, f.fh, 0, "hello"), 0);
    CHECK_INT(REPLY(&c, fuse_write_out)->size, 5);
    CHECK_INT(fuse_write(&c, f.node, f.fh, 10, "far"), 0);
    CHECK_INT(fuse_read(&c, f.node, f.fh, 0, 100), 0);
    CHECK_INT(c.len, 13);
    CHECK_MEM(REPLY_BYTES(&c), "hello\0\0\0\0\0far", 13);
    CHECK_INT(fuse_read(&c, f.node, f.fh, 100, 100), 0);
    CHECK_INT(c.len, 0);
    CHECK_STR(host_text(&c, "a"), "hello");
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR | O_EXCL, 0640, &g), -EEXIST);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR | O_TRUNC, 0640, &g), 0);
    CHECK(g.node == f.node);
    CHECK_INT(REPLY(&c, fuse_entry_out)->attr.size, 0);
    CHECK_STR(host_text(&c, "a"), "");
    CHECK_INT(fuse_release(&c, g.node, g.fh), 0);
    CHECK_INT(fuse_release(&c, g.node, g.fh), -EBADF);
    CHECK_INT(fuse_read(&c, g.node, g.fh, 0, 1), -EBADF);
    CHECK_INT(fuse_read(&c, 1, f.fh, 0, 1), -EBADF);
    CHECK_INT(fuse_read(&c, f.node, 0, 0, 1), -EBADF);
    CHECK_INT(fuse_read(&c, 12345, f.fh, 0, 1), -ESTALE);
    CHECK_INT(fuse_read(&c, f.node, f.fh, UINT64_MAX, 1), -EINVAL);
    fuse_client_fini(&c);
}

TEST(fs, appends_go_to_the_end_and_mapped_pages_where_they_belong)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    struct fuse_write_in in = {.size = 3, .flags = O_WRONLY | O_APPEND};

    fuse_client_init(&c, false);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR | O_APPEND, 0640, &f), 0);
    host_file(&c, "a", "host");
    in.fh = f.fh;
    CHECK_INT(fuse_write_in_full(&c, f.node, &in, "abc"), 0);
    CHECK_STR(host_text(&c, "a"), "hostabc");
    in.write_flags = FUSE_WRITE_CACHE;
    CHECK_INT(fuse_write_in_full(&c, f.node, &in, "HOS"), 0);
    CHECK_STR(host_text(&c, "a"), "HOStabc");
    fuse_client_fini(&c);
}

TEST(fs, a_megabyte_in_one_request)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    struct fuse_write_in in = {.size = FS_WRITE_MAX};
    char *data = malloc(FS_WRITE_MAX + 1);

    fuse_client_init(&c, false);
    for (size_t i = 0; i < FS_WRITE_MAX; i++) {
        data[i] = (char)(i * 7 + i / 999);
    }
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0600, &f), 0);
    in.fh = f.fh;
    CHECK_INT(fuse_write_in_full(&c, f.node, &in, data), 0);
    CHECK_INT(REPLY(&c, fuse_write_out)->size, FS_WRITE_MAX);
    CHECK_INT(fuse_read(&c, f.node, f.fh, 0, UINT32_MAX), 0);
    CHECK_INT(c.len, FS_WRITE_MAX);
    CHECK(memcmp(REPLY_BYTES(&c), data, FS_WRITE_MAX) == 0);
    in.size = FS_WRITE_MAX + 1;
    CHECK_INT(fuse_write_in_full(&c, f.node, &in, data), -EINVAL);
    free(data);
    fuse_client_fini(&c);
}

TEST(fs, cached_data_is_kept_over_an_open_only_if_nothing_changed)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    uint64_t node;

    fuse_client_init(&c, false);
    host_file(&c, "a", "old");
    (void)usleep(150000); /* or the clock could not tell a change apart */
    node = fuse_lookup(&c, 1, "a");
    (void)fuse_open(&c, node, O_RDONLY);
    CHECK_INT(REPLY(&c, fuse_open_out)->open_flags, 0);
    (void)fuse_open(&c, node, O_RDONLY);
    CHECK_INT(REPLY(&c, fuse_open_out)->open_flags, FOPEN_KEEP_CACHE);
    host_file(&c, "a", "new");
    (void)fuse_open(&c, node, O_RDONLY);
    CHECK_INT(REPLY(&c, fuse_open_out)->open_flags, 0);
    CHECK_INT(fuse_create(&c, 1, "b", O_RDWR, 0600, &f), 0);
    (void)fuse_open(&c, f.node, O_RDONLY);
    (void)fuse_open(&c, f.node, O_RDONLY); /* made too short ago */
    CHECK_INT(REPLY(&c, fuse_open_out)->open_flags, 0);
    fuse_client_fini(&c);
}

TEST(fs, an_unlinked_file_lives_while_the_guest_knows_it)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    struct fuse_setattr_in set = {.valid = FATTR_SIZE, .size = 2};
    uint64_t node;

    fuse_client_init(&c, false);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0600, &f), 0);
    CHECK_INT(fuse_write(&c, f.node, f.fh, 0, "hello"), 0);
    host_file(&c, "b", "never opened");
    node = fuse_lookup(&c, 1, "b");
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, 1, NULL, 0, "a"), 0);
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, 1, NULL, 0, "b"), 0);
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, 1, NULL, 0, "b"), -ENOENT);
    CHECK_INT(fuse_getattr(&c, node), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.nlink, 0);
    (void)fuse_open(&c, node, O_RDONLY);
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, node, &set, sizeof(set), NULL), 0);
    CHECK_INT(fuse_read(&c, f.node, f.fh, 0, 10), 0);
    CHECK_INT(c.len, 5);
    /* The same name again is another node. */
    host_file(&c, "b", "x");
    CHECK(fuse_lookup(&c, 1, "b") != node);
    CHECK_INT(fuse_getattr(&c, node), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.size, 2);
    fuse_client_fini(&c);
}

TEST(fs, an_unlinked_name_leaves_the_other_link_working)
{
    struct fuse_client c;
    struct fuse_link_in in;
    uint64_t node;

    fuse_client_init(&c, false);
    host_file(&c, "a", "x");
    node = fuse_lookup(&c, 1, "a");
    in.oldnodeid = node;
    CHECK_INT(fuse_call(&c, FUSE_LINK, 1, &in, sizeof(in), "b"), 0);
    CHECK(REPLY(&c, fuse_entry_out)->nodeid == node);
    CHECK_INT(REPLY(&c, fuse_entry_out)->attr.nlink, 2);
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, 1, NULL, 0, "b"), 0);
    CHECK_INT(fuse_getattr(&c, node), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.nlink, 1);
    CHECK_INT(fuse_call(&c, FUSE_LINK, 1, &in, sizeof(in), "c"), 0); /* from what is pinned */
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, 1, NULL, 0, "a"), 0);
    (void)fuse_open(&c, node, O_RDONLY);
    CHECK_STR(host_text(&c, "c"), "x");
    fuse_client_fini(&c);
}

TEST(fs, rename_over_keeps_both_nodes)
{
    struct fuse_client c;
    struct fuse_rename2_in in = {.newdir = 1};
    uint64_t a;
    uint64_t b;

    fuse_client_init(&c, false);
    host_file(&c, "a", "a");
    host_file(&c, "b", "bb");
    a = fuse_lookup(&c, 1, "a");
    b = fuse_lookup(&c, 1, "b");
    in.flags = RENAME_NOREPLACE;
    CHECK_INT(fuse_call2(&c, FUSE_RENAME2, 1, &in, sizeof(in), "a", "b"), -EEXIST);
    in.flags = RENAME_EXCHANGE;
    CHECK_INT(fuse_call2(&c, FUSE_RENAME2, 1, &in, sizeof(in), "a", "b"), 0);
    CHECK_STR(host_text(&c, "b"), "a");
    CHECK_INT(fuse_getattr(&c, a), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.size, 1);
    CHECK_INT(fuse_getattr(&c, b), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.size, 2);
    CHECK_INT(fuse_call2(&c, FUSE_RENAME, 1, &in, sizeof(struct fuse_rename_in), "a", "b"), 0);
    CHECK_STR(host_text(&c, "b"), "bb");
    CHECK_INT(fuse_getattr(&c, a), 0); /* pinned */
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.nlink, 0);
    (void)fuse_open(&c, b, O_RDWR);
    in.flags = 8;
    CHECK_INT(fuse_call2(&c, FUSE_RENAME2, 1, &in, sizeof(in), "b", "c"), -EINVAL);
    in = (struct fuse_rename2_in){.newdir = 999};
    CHECK_INT(fuse_call2(&c, FUSE_RENAME2, 1, &in, sizeof(in), "b", "c"), -ESTALE);
    CHECK_INT(fuse_call2(&c, FUSE_RENAME2, 1, &in, sizeof(in), "b", NULL), -EINVAL);
    fuse_client_fini(&c);
}

TEST(fs, files_below_a_renamed_directory_are_still_found)
{
    struct fuse_client c;
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_rename_in in = {.newdir = 1};
    struct fuse_made f = {0};
    uint64_t d;
    uint64_t e;

    fuse_client_init(&c, false);
    CHECK_INT(fuse_call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "d"), 0);
    d = REPLY(&c, fuse_entry_out)->nodeid;
    CHECK_INT(fuse_call(&c, FUSE_MKDIR, d, &mk, sizeof(mk), "e"), 0);
    e = REPLY(&c, fuse_entry_out)->nodeid;
    CHECK_INT(fuse_create(&c, e, "f", O_RDWR, 0600, &f), 0);
    CHECK_INT(fuse_release(&c, f.node, f.fh), 0);
    CHECK_INT(fuse_call2(&c, FUSE_RENAME, d, &in, sizeof(in), "e", "moved"), 0);
    CHECK_INT(fuse_call(&c, FUSE_RMDIR, 1, NULL, 0, "d"), 0);
    fuse_forget(&c, d, 1);
    fuse_forget(&c, e, 1);
    (void)fuse_open(&c, f.node, O_RDWR);
    CHECK_INT(fuse_getattr(&c, f.node), 0);
    CHECK_INT(access(host_path(&c, "moved/f"), F_OK), 0);
    CHECK_INT(fuse_call(&c, FUSE_RMDIR, 1, NULL, 0, "moved"), -ENOTEMPTY);
    CHECK_INT(fuse_getattr(&c, fuse_lookup(&c, 1, "moved")), 0);
    fuse_client_fini(&c);
}

TEST(fs, special_files_are_made_and_shown_but_never_opened)
{
    struct fuse_client c;
    struct fuse_mknod_in in = {.mode = S_IFIFO | 0600};
    uint64_t node;

    fuse_client_init(&c, false);
    CHECK_INT(fuse_call(&c, FUSE_MKNOD, 1, &in, sizeof(in), "fifo"), 0);
    node = REPLY(&c, fuse_entry_out)->nodeid;
    CHECK_INT(REPLY(&c, fuse_entry_out)->attr.mode, S_IFIFO | 0600);
    CHECK_INT(fuse_try_open(&c, node, O_RDONLY), -ENXIO);
    CHECK_INT(fuse_try_open(&c, 1, O_RDONLY), -EISDIR);
    in.mode = S_IFSOCK | 0600;
    CHECK_INT(fuse_call(&c, FUSE_MKNOD, 1, &in, sizeof(in), "sock"), 0);
    in.mode = S_IFREG | 0600;
    CHECK_INT(fuse_call(&c, FUSE_MKNOD, 1, &in, sizeof(in), "reg"), 0);
    in = (struct fuse_mknod_in){.mode = S_IFCHR | 0600, .rdev = 1 << 8 | 3};
    CHECK_INT(fuse_call(&c, FUSE_MKNOD, 1, &in, sizeof(in), "null"), -EPERM);
    in.mode = S_IFBLK | 0600;
    CHECK_INT(fuse_call(&c, FUSE_MKNOD, 1, &in, sizeof(in), "disk"), -EPERM);
    in.mode = S_IFDIR | 0700;
    CHECK_INT(fuse_call(&c, FUSE_MKNOD, 1, &in, sizeof(in), "dir"), -EINVAL);
    CHECK_INT(fuse_call2(&c, FUSE_SYMLINK, 1, NULL, 0, "link", "/some/where"), 0);
    CHECK_INT(fuse_call2(&c, FUSE_SYMLINK, 1, NULL, 0, "link", NULL), -EINVAL);
    node = fuse_lookup(&c, 1, "link");
    CHECK_INT(fuse_call(&c, FUSE_READLINK, node, NULL, 0, NULL), 0);
    CHECK_MEM(REPLY_BYTES(&c), "/some/where", 11);
    CHECK_INT(fuse_call(&c, FUSE_READLINK, 1, NULL, 0, NULL), -EINVAL);
    fuse_client_fini(&c);
}

TEST(fs, read_only_share_refuses_every_change)
{
    /* clang-format off */
    static const struct { uint32_t opcode; size_t arg; const char *name; } calls[] = {
        {FUSE_SETATTR, sizeof(struct fuse_setattr_in), NULL}, {FUSE_SYMLINK, 0, "a"},
        {FUSE_MKNOD, sizeof(struct fuse_mknod_in), "n"}, {FUSE_MKDIR, 8, "n"},
        {FUSE_UNLINK, 0, "a"}, {FUSE_RMDIR, 0, "a"}, {FUSE_RENAME, 8, "a"},
        {FUSE_RENAME2, 16, "a"}, {FUSE_LINK, 8, "n"}, {FUSE_SETXATTR, 8, "user.x"},
        {FUSE_REMOVEXATTR, 0, "user.x"}, {FUSE_CREATE, 16, "n"}, {FUSE_FALLOCATE, 32, NULL},
        {FUSE_COPY_FILE_RANGE, 56, NULL}, {FUSE_WRITE, 40, NULL},
    };
    /* clang-format on */
    static const uint64_t zero[16];
    struct fuse_client c;
    uint64_t node;

    fuse_client_dir(&c);
    host_file(&c, "a", "text");
    fuse_client_open(&c, c.dir, true, 0);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        CHECK_INT(fuse_call2(&c, calls[i].opcode, 1, zero, calls[i].arg, calls[i].name, "b"),
                  -EROFS);
    }
    node = fuse_lookup(&c, 1, "a");
    CHECK_INT(fuse_try_open(&c, node, O_RDWR), -EROFS);
    CHECK_INT(fuse_try_open(&c, node, O_RDONLY | O_TRUNC), -EROFS);
    CHECK_INT(fuse_try_open(&c, node, O_RDONLY), -ENOSYS);
    CHECK_INT(fuse_read(&c, node, 0, 1, 100), 0);
    CHECK_INT(c.len, 3);
    CHECK_MEM(REPLY_BYTES(&c), "ext", 3);
    CHECK_INT(fuse_call(&c, FUSE_FLUSH, node, zero, 24, NULL), -ENOSYS);
    CHECK_INT(fuse_call(&c, FUSE_FSYNC, node, zero, 16, NULL), -ENOSYS);
    CHECK_INT(fuse_call(&c, FUSE_SETLK, node, zero, 48, NULL), -ENOSYS);
    CHECK_INT(fuse_init_flags(&c, 0), 0); /* a kernel that has to open */
    node = fuse_lookup(&c, 1, "a");
    CHECK_INT(fuse_read(&c, node, fuse_open(&c, node, O_RDONLY), 0, 100), 0);
    CHECK_INT(c.len, 4);
    fuse_client_fini(&c);
}

/* The port by itself must refuse too, whatever the device lets pass. */
TEST(fs, read_only_tree_refuses_every_change)
{
    struct fuse_client c;
    const struct tree_ops *ops;
    struct tree_make make = {.mode = S_IFREG | 0600};
    struct tree_change change = {.valid = TREE_SET_MODE};
    struct tree_write how = {0};
    struct tree_entry entry;
    struct tree_opened opened;
    struct stat st;
    uint64_t at[2] = {1, 0};
    void *t;

    fuse_client_init(&c, true);
    ops = c.tree.ops;
    t = c.tree.owner;
    CHECK_INT(ops->make(t, 1, "n", &make, &entry), -EROFS);
    CHECK_INT(ops->create(t, 1, "n", &make, O_RDWR, &entry, &opened), -EROFS);
    CHECK_INT(ops->link(t, 1, 1, "n", &entry), -EROFS);
    CHECK_INT(ops->remove(t, 1, "n", false), -EROFS);
    CHECK_INT(ops->rename(t, 1, "n", 1, "m", 0), -EROFS);
    CHECK_INT(ops->set_attr(t, 1, 0, &change, &st), -EROFS);
    CHECK_INT(ops->write(t, 1, 0, NULL, 0, &how), -EROFS);
    CHECK_INT(ops->allocate(t, 1, 0, 0, 0, 1), -EROFS);
    CHECK_INT(ops->copy(t, at, 0, at, 0, 1), -EROFS);
    CHECK_INT(ops->set_xattr(t, 1, "user.x", "", 0, 0), -EROFS);
    CHECK_INT(ops->remove_xattr(t, 1, "user.x"), -EROFS);
    host_file(&c, "a", "x");
    CHECK_INT(ops->lookup(t, 1, "a", &entry), 0);
    CHECK_INT(ops->open(t, entry.node, O_WRONLY, false, &opened), -EROFS);
    fuse_client_fini(&c);
}

/* Walk a directory; returns how many names there were, the cookie after number `mark` in *at. */
static unsigned list_all(struct fuse_client *c, uint64_t node, uint64_t fh, uint64_t from,
                         uint32_t size, unsigned mark, uint64_t *ret_at)
{
    struct fuse_read_in in = {.fh = fh, .offset = from, .size = size};
    unsigned count = 0;

    for (;;) {
        const char *at;

        CHECK_INT(fuse_call(c, FUSE_READDIR, node, &in, sizeof(in), NULL), 0);
        CHECK(c->len <= size);
        if (c->len == 0) {
            return count;
        }
        for (at = REPLY_BYTES(c); at < REPLY_BYTES(c) + c->len;) {
            const struct fuse_dirent *d = (const void *)at;

            in.offset = d->off;
            if (++count == mark) {
                *ret_at = d->off;
            }
            at += FUSE_DIRENT_SIZE(d);
        }
        CHECK(at == REPLY_BYTES(c) + c->len);
    }
}

TEST(fs, ten_thousand_entries_from_any_cookie)
{
    struct fuse_client c;
    uint64_t fh;
    uint64_t mark = 0;
    uint64_t again = 0;
    char name[64];

    fuse_client_init(&c, false);
    for (unsigned i = 0; i < 10000; i++) {
        (void)snprintf(name, sizeof(name), "a-file-that-is-number-%u", i);
        host_file(&c, name, "");
    }
    fh = fuse_opendir(&c, 1);
    CHECK_INT(list_all(&c, 1, fh, 0, 4096, 6000, &mark), 10002);
    CHECK_INT(list_all(&c, 1, fh, mark, 65536, 1, &again), 4002);
    CHECK_INT(list_all(&c, 1, fh, 0, 1024, 6000, &again), 10002);
    CHECK(again == mark);
    CHECK_INT(fuse_release(&c, 1, fh), 0);
    fuse_client_fini(&c);
}

TEST(fs, readdirplus_counts_lookups_but_not_of_dots)
{
    struct fuse_client c;
    struct fuse_read_in in = {.size = 4096};
    unsigned found = 0;
    uint64_t node = 0;

    fuse_client_init(&c, false);
    host_file(&c, "a", "abc");
    in.fh = fuse_opendir(&c, 1);
    CHECK_INT(fuse_call(&c, FUSE_READDIRPLUS, 1, &in, sizeof(in), NULL), 0);
    for (const char *at = REPLY_BYTES(&c); at < REPLY_BYTES(&c) + c.len;) {
        const struct fuse_direntplus *d = (const void *)at;

        if (d->dirent.name[0] == '.') {
            CHECK_INT(d->entry_out.nodeid, 0);
        } else {
            node = d->entry_out.nodeid;
            CHECK_INT(d->entry_out.attr.size, 3);
            CHECK_MEM(d->dirent.name, "a", 1);
        }
        in.offset = d->dirent.off;
        found++;
        at += FUSE_DIRENTPLUS_SIZE(d);
    }
    CHECK_INT(found, 3);
    CHECK(fuse_lookup(&c, 1, "a") == node);
    fuse_forget(&c, node, 1);
    CHECK_INT(fuse_getattr(&c, node), 0);
    fuse_forget(&c, node, 1);
    CHECK_INT(fuse_getattr(&c, node), -ESTALE);
    CHECK_INT(fuse_call(&c, FUSE_READDIRPLUS, 1, &in, sizeof(in), NULL), 0);
    CHECK_INT(c.len, 0);
    in.size = 100; /* not even one long name: an empty reply would look like the end */
    CHECK_INT(fuse_call(&c, FUSE_READDIRPLUS, 1, &in, sizeof(in), NULL), -EINVAL);
    in = (struct fuse_read_in){.size = 4096, .fh = in.fh, .offset = UINT64_MAX};
    CHECK_INT(fuse_call(&c, FUSE_READDIR, 1, &in, sizeof(in), NULL), -EINVAL);
    fuse_client_fini(&c);
}

TEST(fs, read_only_directories_are_read_without_opening)
{
    struct fuse_client c;
    uint64_t mark;
    struct fuse_open_in in = {0};

    fuse_client_init(&c, true);
    host_file(&c, "a", "abc");
    CHECK_INT(fuse_call(&c, FUSE_OPENDIR, 1, &in, sizeof(in), NULL), -ENOSYS);
    CHECK_INT(list_all(&c, 1, 0, 0, 4096, 0, &mark), 3);
    host_file(&c, "b", "abc");
    CHECK_INT(list_all(&c, 1, 0, 0, 4096, 0, &mark), 4); /* a rewind sees what is new */
    fuse_client_fini(&c);
}

static int lock(struct fuse_client *c, uint32_t opcode, struct fuse_made f, uint64_t owner,
                uint32_t type, uint64_t start, uint64_t end)
{
    struct fuse_lk_in in = {
        .fh = f.fh, .owner = owner, .lk = {.start = start, .end = end, .type = type}};

    return fuse_call(c, opcode, f.node, &in, sizeof(in), NULL);
}

TEST(fs, record_locks_between_owners)
{
    struct fuse_client c;
    struct fuse_flush_in flush = {.lock_owner = 1};
    struct fuse_made f = {0};

    fuse_client_init(&c, false);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0600, &f), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 1, F_WRLCK, 0, 9), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_WRLCK, 5, 5), -EAGAIN);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_RDLCK, 9, INT64_MAX), -EAGAIN);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_WRLCK, 10, INT64_MAX), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 1, F_WRLCK, 0, 4), 0); /* its own */
    CHECK_INT(lock(&c, FUSE_GETLK, f, 2, F_WRLCK, 0, 100), 0);
    CHECK_INT(REPLY(&c, fuse_lk_out)->lk.type, F_WRLCK);
    CHECK_INT(REPLY(&c, fuse_lk_out)->lk.start, 0);
    CHECK_INT(REPLY(&c, fuse_lk_out)->lk.end, 9);
    CHECK_INT(lock(&c, FUSE_GETLK, f, 2, F_WRLCK, 20, 30), 0);
    CHECK_INT(REPLY(&c, fuse_lk_out)->lk.type, F_UNLCK);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 1, F_UNLCK, 5, 9), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_RDLCK, 5, 5), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_WRLCK, 0, 0), -EAGAIN);
    flush.fh = f.fh;
    CHECK_INT(fuse_call(&c, FUSE_FLUSH, f.node, &flush, sizeof(flush), NULL), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_WRLCK, 0, 0), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 3, F_UNLCK, 0, INT64_MAX), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_UNLCK, 0, INT64_MAX), 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, 7, 0, 0), -EINVAL);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_WRLCK, 5, 4), -EINVAL);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 2, F_WRLCK, UINT64_MAX, UINT64_MAX), -EINVAL);
    CHECK_INT(lock(&c, FUSE_GETLK, f, 2, F_WRLCK, 5, 4), -EINVAL);
    fuse_client_fini(&c);
}

TEST(fs, locks_end_with_the_last_open_and_hold_against_the_host)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    struct flock want = {.l_type = F_WRLCK};
    int fd;

    fuse_client_init(&c, false);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0600, &f), 0);
    fd = open(host_path(&c, "a"), O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_INT(lock(&c, FUSE_SETLK, f, 1, F_WRLCK, 0, INT64_MAX), 0);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &want), -1);
    CHECK_INT(fuse_release(&c, f.node, f.fh), 0);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &want), 0);
    (void)close(fd);
    fuse_client_fini(&c);
}

TEST(fs, flock_between_open_files)
{
    struct fuse_client c;
    struct fuse_lk_in in = {.lk_flags = FUSE_LK_FLOCK, .lk = {.type = F_WRLCK}};
    struct fs_wait wait;
    uint64_t node;
    uint64_t a;
    uint64_t b;

    fuse_client_init(&c, false);
    host_file(&c, "a", "");
    node = fuse_lookup(&c, 1, "a");
    a = fuse_open(&c, node, O_RDONLY);
    b = fuse_open(&c, node, O_RDONLY);
    in.fh = a;
    CHECK_INT(fuse_call(&c, FUSE_SETLK, node, &in, sizeof(in), NULL), 0);
    in.fh = b;
    CHECK_INT(fuse_call(&c, FUSE_SETLK, node, &in, sizeof(in), NULL), -EAGAIN);
    CHECK_INT(fuse_call(&c, FUSE_SETLKW, node, &in, sizeof(in), NULL), FS_WAIT);
    wait = c.result.wait;
    CHECK_INT(fs_wait_again(c.s, &wait), -EAGAIN);
    CHECK_INT(fuse_release(&c, node, a), 0);
    CHECK_INT(fs_wait_again(c.s, &wait), 0);
    in.lk.type = F_UNLCK;
    CHECK_INT(fuse_call(&c, FUSE_SETLKW, node, &in, sizeof(in), NULL), 0);
    fuse_client_fini(&c);
}

TEST(fs, allocate_seek_copy_sync)
{
    struct fuse_client c;
    struct fuse_fallocate_in alloc = {.length = 8192};
    struct fuse_lseek_in seek = {.whence = SEEK_DATA};
    struct fuse_copy_file_range_in copy = {.len = UINT32_MAX};
    struct fuse_fsync_in sync = {.fsync_flags = 1};
    struct fuse_made f = {0};
    struct fuse_made g = {0};

    fuse_client_init(&c, false);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0600, &f), 0);
    CHECK_INT(fuse_create(&c, 1, "b", O_RDWR, 0600, &g), 0);
    CHECK_INT(fuse_write(&c, f.node, f.fh, 0, "hello"), 0);
    copy.fh_in = f.fh;
    copy.nodeid_out = g.node;
    copy.fh_out = g.fh;
    CHECK_INT(fuse_call(&c, FUSE_COPY_FILE_RANGE, f.node, &copy, sizeof(copy), NULL), 0);
    CHECK_INT(REPLY(&c, fuse_write_out)->size, 5);
    CHECK_STR(host_text(&c, "b"), "hello");
    copy.off_in = UINT64_MAX;
    CHECK_INT(fuse_call(&c, FUSE_COPY_FILE_RANGE, f.node, &copy, sizeof(copy), NULL), -EINVAL);
    copy.flags = 1;
    CHECK_INT(fuse_call(&c, FUSE_COPY_FILE_RANGE, f.node, &copy, sizeof(copy), NULL), -EINVAL);
    alloc.fh = seek.fh = sync.fh = f.fh;
    CHECK_INT(fuse_call(&c, FUSE_FALLOCATE, f.node, &alloc, sizeof(alloc), NULL), 0);
    CHECK_INT(fuse_getattr(&c, f.node), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.size, 8192);
    alloc.offset = UINT64_MAX;
    CHECK_INT(fuse_call(&c, FUSE_FALLOCATE, f.node, &alloc, sizeof(alloc), NULL), -EFBIG);
    CHECK_INT(fuse_call(&c, FUSE_LSEEK, f.node, &seek, sizeof(seek), NULL), 0);
    CHECK_INT(REPLY(&c, fuse_lseek_out)->offset, 0);
    seek.offset = 8192;
    CHECK_INT(fuse_call(&c, FUSE_LSEEK, f.node, &seek, sizeof(seek), NULL), -ENXIO);
    seek.whence = SEEK_SET;
    CHECK_INT(fuse_call(&c, FUSE_LSEEK, f.node, &seek, sizeof(seek), NULL), -EINVAL);
    CHECK_INT(fuse_call(&c, FUSE_FSYNC, f.node, &sync, sizeof(sync), NULL), 0);
    sync.fh = fuse_opendir(&c, 1);
    CHECK_INT(fuse_call(&c, FUSE_FSYNCDIR, 1, &sync, sizeof(sync), NULL), 0);
    fuse_client_fini(&c);
}

static void nobody_body(void)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    struct fuse_setattr_in set = {.valid = FATTR_UID, .uid = 0};
    struct fuse_getxattr_in get = {.size = 10};

    fuse_client_init(&c, false);
    c.uid = 0;
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0666, &f), 0);
    CHECK_INT(REPLY(&c, fuse_entry_out)->attr.uid, geteuid());
    CHECK_INT(REPLY(&c, fuse_entry_out)->attr.mode & 07777, 0666);
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, f.node, &set, sizeof(set), NULL), -EPERM);
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, f.node, &get, sizeof(get), "trusted.x"), -ENODATA);
    CHECK_INT(chmod(host_path(&c, "a"), 0), 0);
    CHECK_INT(fuse_try_open(&c, f.node, O_RDONLY), -EACCES);
    fuse_client_fini(&c);
    fuse_client_init(&c, true);
    host_file(&c, "a", "x");
    CHECK_INT(chmod(host_path(&c, "a"), 0), 0);
    CHECK_INT(fuse_read(&c, fuse_lookup(&c, 1, "a"), 0, 0, 1), -EACCES);
    fuse_client_fini(&c);
}

TEST(fs, without_privilege_the_host_decides)
{
    as_nobody(nobody_body);
}

TEST(fs, few_descriptors_are_enough_for_many_nodes)
{
    struct fuse_client c;
    uint64_t dirs[50];
    uint64_t files[50];
    uint64_t opened[64];
    unsigned count = 0;
    char name[64];

    fuse_client_dir(&c);
    for (unsigned i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof(name), "d%u", i);
        CHECK_INT(mkdir(host_path(&c, name), 0755), 0);
        (void)snprintf(name, sizeof(name), "d%u/f", i);
        host_file(&c, name, name);
    }
    fuse_client_open(&c, c.dir, false, 16);
    for (unsigned i = 0; i < 50; i++) {
        (void)snprintf(name, sizeof(name), "d%u", i);
        dirs[i] = fuse_lookup(&c, 1, name);
        files[i] = fuse_lookup(&c, dirs[i], "f");
    }
    for (unsigned i = 0; i < 200; i++) {
        unsigned n = i * 17 % 50;
        uint64_t fh = fuse_open(&c, files[n], O_RDONLY);

        CHECK_INT(fuse_read(&c, files[n], fh, 0, 1), 0);
        CHECK_INT(fuse_release(&c, files[n], fh), 0);
    }
    while (count < 64 && fuse_try_open(&c, files[count % 50], O_RDONLY) == 0) {
        opened[count++] = REPLY(&c, fuse_open_out)->fh;
    }
    CHECK(count > 8 && count < 16);
    CHECK_INT(c.len, -ENFILE);
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, dirs[40], NULL, 0, "f"), -ENFILE);
    CHECK_INT(access(host_path(&c, "d40/f"), F_OK), 0);
    for (unsigned i = 0; i < count; i++) {
        CHECK_INT(fuse_read(&c, files[i], opened[i], 0, 1), 0);
        CHECK_INT(fuse_release(&c, files[i], opened[i]), 0);
    }
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, dirs[40], NULL, 0, "f"), 0);
    fuse_client_fini(&c);
}

static void rlimit_body(void)
{
    struct rlimit low = {.rlim_cur = 40, .rlim_max = 40};
    struct fuse_client c;
    char name[64];

    fuse_client_dir(&c);
    for (unsigned i = 0; i < 60; i++) {
        (void)snprintf(name, sizeof(name), "d%u", i);
        CHECK_INT(mkdir(host_path(&c, name), 0755), 0);
    }
    if (setrlimit(RLIMIT_NOFILE, &low) < 0) {
        _exit(1);
    }
    fuse_client_open(&c, c.dir, false, 1000); /* it believes to have more than there are */
    for (unsigned i = 0; i < 60; i++) {
        struct fuse_made f = {0};
        uint64_t dir;

        (void)snprintf(name, sizeof(name), "d%u", i);
        dir = fuse_lookup(&c, 1, name);
        CHECK_INT(fuse_create(&c, dir, "f", O_RDWR, 0600, &f), 0);
        CHECK_INT(fuse_release(&c, f.node, f.fh), 0);
    }
    fuse_client_fini(&c);
}

TEST(fs, running_into_the_host_limit_closes_what_is_cached)
{
    as_nobody(rlimit_body);
}

/* Plausible requests with wild fields: known opcodes, nodes and files that mostly exist. */
static void random_request(struct fuse_client *c, uint64_t *state)
{
    static const char *const names[] = {"a", "b", "d", "..", "", "x/y", "l", "d", "e"};
    uint64_t arg[16];
    size_t len;
    struct fuse_in_header *head = (void *)c->in;

    for (size_t i = 0; i < ARRAY_LEN(arg); i++) {
        uint64_t v = next_random(state);

        arg[i] = (v & 3) == 0 ? v : (v & 3) == 1 ? v >> 62 : v >> 56;
    }
    len = fuse_build(c, (uint32_t)(next_random(state) % 54), next_random(state) % 12, arg,
                     next_random(state) % sizeof(arg), names[next_random(state) % ARRAY_LEN(names)],
                     names[next_random(state) % ARRAY_LEN(names)]);
    if (head->opcode == FUSE_INIT || head->opcode == FUSE_DESTROY) {
        return;
    }
    if (next_random(state) % 16 == 0) {
        len = next_random(state) % (len + 1);
    }
    if (next_random(state) % 16 == 0) {
        head->len = (uint32_t)(next_random(state) % 300);
    }
    c->out_room = next_random(state) % 8 ? FUSE_CLIENT_BUF : next_random(state) % 300;
    (void)fuse_send_raw(c, len);
}

static void fuzz_body(void)
{
    struct rlimit small = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    int64_t end = clock_mono_ns() + NS_PER_S;
    uint64_t state = UINT64_C(0x243f6a8885a308d3);
    struct fuse_client c;
    char undo[128];

    (void)signal(SIGXFSZ, SIG_IGN);
    (void)setrlimit(RLIMIT_FSIZE, &small);
    fuse_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(mkdir(host_path(&c, "d"), 0755), 0);
    CHECK_INT(symlink("/etc/passwd", host_path(&c, "l")), 0);
    while (clock_mono_ns() < end) {
        for (unsigned i = 0; i < 100; i++) {
            random_request(&c, &state);
        }
    }
    c.out_room = FUSE_CLIENT_BUF;
    CHECK_INT(fuse_init_flags(&c, 0), 0);
    CHECK_INT(fuse_getattr(&c, 1), 0);
    /* What is left has odd modes. */
    (void)snprintf(undo, sizeof(undo), "chmod -R u+rwx %s", c.dir);
    CHECK_INT(system(undo), 0);
    fuse_client_fini(&c);
}

TEST(fs, random_requests_do_no_harm)
{
    as_nobody(fuzz_body);
}
