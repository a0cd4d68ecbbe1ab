/* request_test.c — sessions: agreeing on features, names, attributes, hostile requests. */
#include "tests/lib/fuse_client.h"

TEST(fs, init_agrees_on_what_is_needed)
{
    struct fuse_client c;
    const struct fuse_init_out *out;

    fuse_client_init(&c, false);
    CHECK_INT(fuse_init_flags(&c, INT32_MAX), 0);
    CHECK_INT(c.len, sizeof(struct fuse_init_out));
    out = REPLY(&c, fuse_init_out);
    CHECK_INT(out->major, 7);
    CHECK_INT(out->max_write, 1048576);
    CHECK_INT(out->max_pages, 256);
    CHECK_INT(out->max_readahead, 131072);
    CHECK(out->flags & FUSE_MAX_PAGES);
    CHECK(out->flags & FUSE_DO_READDIRPLUS);
    CHECK(out->flags & FUSE_POSIX_LOCKS);
    CHECK(out->flags & FUSE_HANDLE_KILLPRIV_V2);
    CHECK(!(out->flags & FUSE_WRITEBACK_CACHE));
    CHECK(!(out->flags & FUSE_INIT_EXT));
    CHECK_INT(fuse_init_flags(&c, FUSE_MAX_PAGES), 0);
    CHECK_INT(REPLY(&c, fuse_init_out)->flags, FUSE_MAX_PAGES);
    fuse_client_fini(&c);
}

TEST(fs, init_of_other_versions)
{
    struct fuse_client c;
    struct fuse_init_in in = {.major = 8, .minor = 1};

    fuse_client_init(&c, false);
    CHECK_INT(fuse_call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL), 0);
    CHECK_INT(REPLY(&c, fuse_init_out)->major, 7);
    in.major = 7;
    in.minor = 12;
    CHECK_INT(fuse_call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL), -EPROTO);
    in.major = 6;
    CHECK_INT(fuse_call(&c, FUSE_INIT, 0, &in, sizeof(in), NULL), -EPROTO);
    fuse_client_fini(&c);
}

TEST(fs, nothing_before_init_and_after_destroy)
{
    struct fuse_client c;

    fuse_client_init(&c, false);
    host_file(&c, "a", "x");
    (void)fuse_lookup(&c, 1, "a");
    CHECK_INT(fuse_call(&c, FUSE_DESTROY, 0, NULL, 0, NULL), 0);
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, 1, NULL, 0, "a"), -EIO);
    CHECK_INT(fuse_init_flags(&c, 0), 0);
    (void)fuse_lookup(&c, 1, "a");
    fuse_client_fini(&c);
}

TEST(fs, lookup_says_what_the_host_says)
{
    struct fuse_client c;
    const struct fuse_entry_out *entry;
    struct stat st;

    fuse_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(chmod(host_path(&c, "a"), 04751), 0);
    CHECK(fuse_lookup(&c, 1, "a") > 1);
    CHECK_INT(stat(host_path(&c, "a"), &st), 0);
    entry = REPLY(&c, fuse_entry_out);
    CHECK_INT(entry->attr.mode, S_IFREG | 04751);
    CHECK_INT(entry->attr.size, 5);
    CHECK_INT(entry->attr.ino, st.st_ino);
    CHECK_INT(entry->attr.uid, st.st_uid);
    CHECK_INT(entry->attr.nlink, 1);
    CHECK_INT(entry->attr.mtime, st.st_mtim.tv_sec);
    CHECK_INT(entry->attr.mtimensec, st.st_mtim.tv_nsec);
    CHECK_INT(entry->entry_valid, 1);
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, 1, NULL, 0, "b"), -ENOENT);
    fuse_client_fini(&c);
}

TEST(fs, read_only_share_remembers_what_is_missing)
{
    struct fuse_client c;

    fuse_client_init(&c, true);
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, 1, NULL, 0, "b"), 0);
    CHECK_INT(REPLY(&c, fuse_entry_out)->nodeid, 0);
    CHECK_INT(REPLY(&c, fuse_entry_out)->entry_valid, 60);
    fuse_client_fini(&c);
}

TEST(fs, hard_links_are_one_node_and_bad_names_are_none)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/", "/etc", "../etc"};
    struct fuse_client c;
    char name[300];
    uint64_t node;

    fuse_client_init(&c, false);
    host_file(&c, "a", "x");
    CHECK_INT(link(host_path(&c, "a"), host_path(&c, "b")), 0);
    node = fuse_lookup(&c, 1, "a");
    CHECK(fuse_lookup(&c, 1, "b") == node);
    CHECK(fuse_lookup(&c, 1, "a") == node);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_INT(fuse_call(&c, FUSE_LOOKUP, 1, NULL, 0, bad[i]), -EINVAL);
    }
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, 1, NULL, 0, name), -ENAMETOOLONG);
    name[255] = '\0';
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, 1, NULL, 0, name), -ENOENT);
    fuse_client_fini(&c);
}

TEST(fs, symlinks_lead_nowhere_on_the_host)
{
    struct fuse_client c;
    uint64_t node;

    fuse_client_init(&c, false);
    CHECK_INT(symlink("/etc", host_path(&c, "out")), 0);
    node = fuse_lookup(&c, 1, "out");
    CHECK_INT(REPLY(&c, fuse_entry_out)->attr.mode & S_IFMT, S_IFLNK);
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, node, NULL, 0, "passwd"), -ENOTDIR);
    CHECK_INT(fuse_try_open(&c, node, O_RDONLY), -ELOOP);
    CHECK_INT(fuse_call(&c, FUSE_READLINK, node, NULL, 0, NULL), 0);
    CHECK_INT(c.len, 4);
    CHECK_MEM(REPLY_BYTES(&c), "/etc", 4);
    fuse_client_fini(&c);
}

TEST(fs, a_directory_swapped_for_a_symlink_is_stale)
{
    struct fuse_client c;
    uint64_t dir;
    uint64_t file;

    fuse_client_init(&c, false);
    CHECK_INT(mkdir(host_path(&c, "d"), 0755), 0);
    host_file(&c, "d/passwd", "x");
    dir = fuse_lookup(&c, 1, "d");
    CHECK_INT(rename(host_path(&c, "d"), host_path(&c, "e")), 0);
    CHECK_INT(symlink("/etc", host_path(&c, "d")), 0);
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, dir, NULL, 0, "passwd"), -ESTALE);
    dir = fuse_lookup(&c, 1, "e");
    file = fuse_lookup(&c, dir, "passwd");
    CHECK_INT(fuse_getattr(&c, file), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.size, 1);
    fuse_client_fini(&c);
}

TEST(fs, a_file_replaced_on_the_host_is_stale_until_looked_up)
{
    struct fuse_client c;
    uint64_t node;

    fuse_client_init(&c, false);
    host_file(&c, "a", "old");
    host_file(&c, "b", "newer");
    node = fuse_lookup(&c, 1, "a");
    CHECK_INT(rename(host_path(&c, "b"), host_path(&c, "a")), 0);
    CHECK_INT(fuse_getattr(&c, node), -ESTALE);
    CHECK_INT(fuse_try_open(&c, node, O_RDONLY), -ESTALE);
    CHECK(fuse_lookup(&c, 1, "a") != node);
    CHECK_INT(REPLY(&c, fuse_entry_out)->attr.size, 5);
    fuse_client_fini(&c);
}

TEST(fs, forget_counts_and_never_goes_below_zero)
{
    struct fuse_client c;
    struct {
        struct fuse_batch_forget_in head;
        struct fuse_forget_one one[2];
    } batch = {.head = {.count = 1000}};
    uint64_t node;

    fuse_client_init(&c, false);
    host_file(&c, "a", "x");
    node = fuse_lookup(&c, 1, "a");
    (void)fuse_lookup(&c, 1, "a");
    fuse_forget(&c, node, 1);
    CHECK_INT(fuse_getattr(&c, node), 0);
    fuse_forget(&c, node, UINT64_MAX);
    CHECK_INT(fuse_getattr(&c, node), -ESTALE);
    fuse_forget(&c, node, 1);
    fuse_forget(&c, 1, UINT64_MAX); /* the root stays */
    CHECK_INT(fuse_getattr(&c, 1), 0);
    batch.one[0] = (struct fuse_forget_one){fuse_lookup(&c, 1, "a"), 1};
    batch.one[1] = (struct fuse_forget_one){77, 1};
    CHECK(batch.one[0].nodeid != node);
    (void)fuse_call(&c, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL);
    CHECK_INT(fuse_getattr(&c, batch.one[0].nodeid), -ESTALE);
    fuse_client_fini(&c);
}

TEST(fs, setattr_changes_the_host)
{
    struct fuse_client c;
    struct fuse_setattr_in in = {.valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME | FATTR_ATIME_NOW,
                                 .mode = 0600,
                                 .size = 2,
                                 .mtime = 1000,
                                 .mtimensec = 7};
    struct stat st;
    uint64_t node;

    fuse_client_init(&c, false);
    host_file(&c, "a", "hello");
    node = fuse_lookup(&c, 1, "a");
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, node, &in, sizeof(in), NULL), 0);
    CHECK_INT(REPLY(&c, fuse_attr_out)->attr.size, 2);
    CHECK_INT(stat(host_path(&c, "a"), &st), 0);
    CHECK_INT(st.st_mode & 07777, 0600);
    CHECK_INT(st.st_size, 2);
    CHECK_INT(st.st_mtim.tv_sec, 1000);
    CHECK_INT(st.st_mtim.tv_nsec, 7);
    in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = UINT64_MAX};
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, node, &in, sizeof(in), NULL), -EINVAL);
    in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 0};
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, 1, &in, sizeof(in), NULL), -EISDIR);
    CHECK_INT(symlink("a", host_path(&c, "l")), 0);
    in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 5};
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, fuse_lookup(&c, 1, "l"), &in, sizeof(in), NULL), 0);
    CHECK_INT(stat(host_path(&c, "a"), &st), 0);
    CHECK_INT(st.st_mtim.tv_sec, 1000); /* the link's own time, not the target's */
    CHECK_INT(lstat(host_path(&c, "l"), &st), 0);
    CHECK_INT(st.st_mtim.tv_sec, 5);
    in = (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777};
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, fuse_lookup(&c, 1, "l"), &in, sizeof(in), NULL),
              -EOPNOTSUPP);
    fuse_client_fini(&c);
}

TEST(fs, statfs_and_access)
{
    struct fuse_client c;
    struct fuse_access_in in = {.mask = R_OK | W_OK};

    fuse_client_init(&c, false);
    CHECK_INT(fuse_call(&c, FUSE_STATFS, 1, NULL, 0, NULL), 0);
    CHECK_INT(c.len, sizeof(struct fuse_statfs_out));
    CHECK(REPLY(&c, fuse_statfs_out)->st.blocks > 0);
    CHECK_INT(REPLY(&c, fuse_statfs_out)->st.namelen, 255);
    CHECK_INT(fuse_call(&c, FUSE_ACCESS, 1, &in, sizeof(in), NULL), 0);
    CHECK_INT(fuse_call(&c, FUSE_ACCESS, 99, &in, sizeof(in), NULL), -ESTALE);
    fuse_client_fini(&c);
    fuse_client_init(&c, true);
    CHECK_INT(fuse_call(&c, FUSE_ACCESS, 1, &in, sizeof(in), NULL), -EROFS);
    in.mask = R_OK;
    CHECK_INT(fuse_call(&c, FUSE_ACCESS, 1, &in, sizeof(in), NULL), 0);
    fuse_client_fini(&c);
}

TEST(fs, unknown_requests_are_refused)
{
    static const uint32_t codes[] = {0,  7,  FUSE_BMAP, FUSE_IOCTL, FUSE_POLL,  48,
                                     50, 51, 52,        4096,       UINT32_MAX, FUSE_NOTIFY_REPLY};
    struct fuse_client c;

    fuse_client_init(&c, false);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        CHECK_INT(fuse_call(&c, codes[i], 1, NULL, 0, NULL), -ENOSYS);
    }
    fuse_client_fini(&c);
}

TEST(fs, lengths_that_lie_are_refused)
{
    struct fuse_client c;
    struct fuse_in_header *head;
    struct fuse_write_in in = {.size = 100};
    size_t len;

    fuse_client_init(&c, false);
    head = (void *)c.in;
    len = fuse_build(&c, FUSE_LOOKUP, 1, NULL, 0, "a", NULL);
    CHECK_INT(fuse_send_raw(&c, 39), -EINVAL);
    head->len = (uint32_t)len + 1;
    CHECK_INT(fuse_send_raw(&c, len), -EINVAL);
    head->len = 39;
    CHECK_INT(fuse_send_raw(&c, len), -EINVAL);
    head->len = (uint32_t)len - 1; /* the NUL is outside */
    CHECK_INT(fuse_send_raw(&c, len), -EINVAL);
    head->len = UINT32_MAX;
    CHECK_INT(fuse_send_raw(&c, len), -EINVAL);
    len = fuse_build(&c, FUSE_GETATTR, 1, NULL, 0, NULL, NULL);
    CHECK_INT(fuse_send_raw(&c, len), -EINVAL);
    (void)fuse_build(&c, FUSE_LOOKUP, 1, NULL, 0, "a", NULL);
    head->len = FS_IN_MAX + 1;
    CHECK_INT(fuse_send_raw(&c, FS_IN_MAX + 1), -E2BIG);
    /* A write of more than is there. */
    CHECK_INT(fuse_call(&c, FUSE_WRITE, 1, &in, sizeof(in), NULL), -EINVAL);
    /* A reply that has no room. */
    c.out_room = 15;
    (void)fuse_call(&c, FUSE_STATFS, 1, NULL, 0, NULL);
    CHECK_INT(c.result.written, 0);
    c.out_room = 16;
    CHECK_INT(fuse_call(&c, FUSE_STATFS, 1, NULL, 0, NULL), -EIO);
    c.out_room = 0;
    (void)fuse_read(&c, 1, 0, 0, 10);
    CHECK_INT(c.result.written, 0);
    fuse_client_fini(&c);
}

TEST(fs, extended_attributes)
{
    struct fuse_client c;
    struct fuse_getxattr_in get = {.size = 100};
    struct fuse_setxattr_in set = {.size = 3};
    size_t len;
    uint64_t node;

    fuse_client_init(&c, false);
    host_file(&c, "a", "x");
    node = fuse_lookup(&c, 1, "a");
    len = fuse_build(&c, FUSE_SETXATTR, node, &set, 8, "user.k", "abc");
    if (fuse_send_raw(&c, len) == -EOPNOTSUPP) {
        fuse_client_fini(&c);
        SKIP("no user attributes in /tmp");
    }
    CHECK_INT(c.len, 0);
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.k"), 0);
    CHECK_INT(c.len, 3);
    CHECK_MEM(REPLY_BYTES(&c), "abc", 3);
    CHECK_INT(fuse_call(&c, FUSE_LISTXATTR, node, &get, sizeof(get), NULL), 0);
    CHECK(c.len >= 7);
    get.size = 2;
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.k"), -ERANGE);
    get.size = 0;
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.k"), 0);
    CHECK_INT(REPLY(&c, fuse_getxattr_out)->size, 3);
    CHECK_INT(fuse_call(&c, FUSE_LISTXATTR, node, &get, sizeof(get), NULL), 0);
    CHECK(REPLY(&c, fuse_getxattr_out)->size >= 7);
    CHECK_INT(fuse_call(&c, FUSE_REMOVEXATTR, node, NULL, 0, "user.k"), 0);
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.k"), -ENODATA);
    set.size = 65536 * 2;
    CHECK_INT(fuse_call2(&c, FUSE_SETXATTR, node, &set, 8, "user.k", "abc"), -EINVAL);
    fuse_client_fini(&c);
}

TEST(fs, overlay_attributes_do_not_show_in_a_read_only_share)
{
    struct fuse_client c;
    struct fuse_getxattr_in get = {.size = 100};

    fuse_client_init(&c, true);
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, 1, &get, sizeof(get), "trusted.overlay.opaque"),
              -ENODATA);
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, 9, &get, sizeof(get), "trusted.overlay.opaque"),
              -ESTALE);
    CHECK_INT(fuse_call(&c, FUSE_LISTXATTR, 1, &get, sizeof(get), NULL), 0);
    fuse_client_fini(&c);
}

TEST(fs, a_share_without_extended_attributes_says_so_once)
{
    struct fuse_client c;
    struct fuse_getxattr_in get = {.size = 100};

    fuse_client_init(&c, true);
    c.s->has_no_xattr = true;
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, 1, &get, sizeof(get), "user.a"), -ENOSYS);
    CHECK_INT(fuse_call(&c, FUSE_LISTXATTR, 1, &get, sizeof(get), NULL), -ENOSYS);
    fuse_client_fini(&c);
}

TEST(fs, attributes_of_what_is_open_and_of_what_is_not)
{
    struct fuse_client c;
    struct fuse_getxattr_in get = {.size = 100};
    uint64_t node;

    fuse_client_init(&c, true);
    host_file(&c, "a", "x");
    CHECK_INT(symlink("a", host_path(&c, "l")), 0);
    node = fuse_lookup(&c, 1, "a");
    if (c.tree.ops->get_xattr(c.tree.owner, node, "user.a", NULL, 0) == -EOPNOTSUPP) {
        fuse_client_fini(&c);
        SKIP("no user attributes in /tmp");
    }
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, node, &get, sizeof(get), "user.a"), -ENODATA);
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, 1, &get, sizeof(get), "user.a"), -ENODATA);
    node = fuse_lookup(&c, 1, "l");
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, node, &get, sizeof(get), "security.capability"),
              -ENODATA);
    fuse_client_fini(&c);
}
