/* file_test.c — open files and directories, attributes, names that change, locks. */
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/lib/p9_client.h"

TEST(p9_file, read_and_write)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_read(&c, 1, 0, 10), -EBADF);
    CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
    CHECK_INT(p9_n(&c, 1), 0);
    CHECK_INT(p9_open(&c, 1, O_RDWR), -EBADF); /* once */
    CHECK_INT(p9_read(&c, 1, 1, 3), 3);
    CHECK_MEM(p9_data(&c), "ell", 3);
    CHECK_INT(p9_read(&c, 1, 5, 3), 0);
    CHECK_INT(p9_read(&c, 1, UINT64_MAX, 3), -EINVAL);
    CHECK_INT(p9_write(&c, 1, 5, " world", 6), 6);
    CHECK_STR(host_text(&c, "a"), "hello world");
    CHECK_INT(p9_read(&c, 1, 0, UINT32_MAX), 11);
    CHECK_INT(p9_call(&c, P9_TFSYNC, "dd", 1, 1), 0);
    CHECK_INT(p9_call(&c, P9_TFSYNC, "d", 1), 0);
    CHECK_INT(p9_call(&c, P9_TFSYNC, "d", 0), -EBADF);
    CHECK_INT(p9_call(&c, P9_TWRITE, "dqd", 1, UINT64_C(0), 1), -EINVAL); /* without the byte */
    CHECK_INT(p9_call(&c, P9_TWRITE, "dqd", 1, UINT64_C(0), UINT32_MAX), -EINVAL);
    CHECK_INT(p9_walk(&c, 0, 2, "a"), 0);
    CHECK_INT(p9_open(&c, 2, O_WRONLY | O_TRUNC), 0);
    CHECK_INT(p9_read(&c, 2, 0, 10), -EBADF);
    CHECK_STR(host_text(&c, "a"), "");
    CHECK_INT(p9_read(&c, 1, 0, 10), 0);
    p9_client_fini(&c);
}

TEST(p9_file, messages_are_no_longer_than_agreed)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "");
    CHECK_INT(truncate(host_path(&c, "a"), 3 << 20), 0);
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
    CHECK_INT(p9_read(&c, 1, 0, UINT32_MAX), P9_MSIZE_MAX - P9_READ_HEAD);
    CHECK_INT(p9_version(&c, 8192), 0);
    CHECK_INT(p9_attach(&c, 0, 0), 0);
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
    CHECK_INT(p9_read(&c, 1, 0, UINT32_MAX), 8192 - P9_READ_HEAD);
    p9_client_fini(&c);
}

TEST(p9_file, append_goes_to_the_hosts_end)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "one");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_WRONLY | O_APPEND), 0);
    host_file(&c, "a", "one, two");
    CHECK_INT(p9_write(&c, 1, 3, ", three", 7), 7);
    CHECK_STR(host_text(&c, "a"), "one, two, three");
    p9_client_fini(&c);
}

TEST(p9_file, create_makes_the_fid_the_files)
{
    struct p9_client c;
    struct stat st;

    p9_client_init(&c, false);
    CHECK_INT(p9_attach(&c, 9, 1234), 0);
    CHECK_INT(p9_walk(&c, 9, 1, ""), 0);
    CHECK_INT(p9_call(&c, P9_TLCREATE, "dsddd", 1, "new", O_RDWR | O_EXCL, 0640, 99), 0);
    CHECK_INT(p9_write(&c, 1, 0, "text", 4), 4);
    CHECK_STR(host_text(&c, "new"), "text");
    CHECK_INT(stat(host_path(&c, "new"), &st), 0);
    CHECK_INT(st.st_mode & 07777, 0640);
    if (geteuid() == 0) {
        CHECK_INT(st.st_uid, 1234); /* who attached */
        CHECK_INT(st.st_gid, 99);
    }
    CHECK_INT(p9_walk(&c, 1, 2, "x"), -ENOTDIR);
    CHECK_INT(p9_call(&c, P9_TLCREATE, "dsddd", 1, "x", O_RDWR, 0640, 99), -EBADF);
    CHECK_INT(p9_walk(&c, 9, 2, ""), 0);
    CHECK_INT(p9_call(&c, P9_TLCREATE, "dsddd", 2, "new", O_RDWR | O_EXCL, 0640, 99), -EEXIST);
    CHECK_INT(p9_call(&c, P9_TLCREATE, "dsddd", 2, "new", O_RDWR, 0640, 99), 0);
    CHECK_INT(p9_read(&c, 2, 0, 10), 4);
    p9_client_fini(&c);
}

TEST(p9_file, an_open_file_outlives_its_name)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 0, "a", 0), 0);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 0, "a", 0), -ENOENT);
    CHECK_INT(p9_read(&c, 1, 0, 10), 5);
    CHECK_INT(p9_write(&c, 1, 5, "!", 1), 1);
    CHECK_INT(p9_getattr(&c, 1), 0);
    c.at = P9_HEAD + 8 + P9_QID_BYTES + 4 + 4 + 4;
    CHECK_INT(p9_n(&c, 8), 0); /* links */
    CHECK_INT(p9_clunk(&c, 1), 0);
    p9_client_fini(&c);
}

/* Read the directory `fid` in steps of `count` bytes; how many entries, "." and ".." included. */
static unsigned list(struct p9_client *c, uint32_t fid, uint32_t count, char *ret_last)
{
    uint64_t cookie = 0;
    unsigned total = 0;

    for (;;) {
        size_t end;

        CHECK_INT(p9_call(c, P9_TREADDIR, "dqd", fid, cookie, count), 0);
        end = p9_n(c, 4);
        CHECK(end <= count);
        end += c->at;
        CHECK_INT(end, c->len);
        if (c->at == end) {
            return total;
        }
        while (c->at < end) {
            c->at += P9_QID_BYTES;
            cookie = p9_n(c, 8);
            (void)p9_n(c, 1);
            strcpy(ret_last, p9_text(c));
            total++;
        }
    }
}

TEST(p9_file, directories_are_read_in_pieces)
{
    struct p9_client c;
    char name[300];

    p9_client_init(&c, false);
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "a rather long name of a file %u", i);
        host_file(&c, name, "");
    }
    CHECK_INT(p9_walk(&c, 0, 1, ""), 0);
    CHECK_INT(p9_call(&c, P9_TREADDIR, "dqd", 1, UINT64_C(0), 1000), -EBADF);
    CHECK_INT(p9_open(&c, 1, O_WRONLY), -EISDIR);
    CHECK_INT(p9_open(&c, 1, O_RDONLY | O_DIRECTORY), 0);
    CHECK_INT(list(&c, 1, 1 << 20, name), 302);
    CHECK_INT(list(&c, 1, 300, name), 302);
    CHECK_INT(p9_call(&c, P9_TREADDIR, "dqd", 1, UINT64_C(0), 200), -EINVAL);
    CHECK_INT(p9_call(&c, P9_TREADDIR, "dqd", 1, UINT64_MAX, 1000), -EINVAL);
    CHECK_INT(p9_read(&c, 1, 0, 100), -EISDIR);
    CHECK_INT(p9_walk(&c, 0, 2, name[0] == '.' ? "a rather long name of a file 1" : name), 0);
    CHECK_INT(p9_open(&c, 2, O_RDONLY), 0);
    CHECK_INT(p9_call(&c, P9_TREADDIR, "dqd", 2, UINT64_C(0), 1000), -ENOTDIR);
    p9_client_fini(&c);
}

TEST(p9_name, make_link_rename_remove)
{
    struct p9_client c;
    struct stat st;

    p9_client_init(&c, false);
    CHECK_INT(p9_call(&c, P9_TMKDIR, "dsdd", 0, "d", 0751, 0), 0);
    CHECK_INT(p9_n(&c, 1), 0x80);
    CHECK_INT(p9_call(&c, P9_TMKDIR, "dsdd", 0, "d", 0751, 0), -EEXIST);
    CHECK_INT(stat(host_path(&c, "d"), &st), 0);
    CHECK_INT(st.st_mode & 07777, 0751);
    CHECK_INT(p9_walk(&c, 0, 1, "d"), 0);
    CHECK_INT(p9_call(&c, P9_TSYMLINK, "dssd", 1, "l", "/etc/passwd", 0), 0);
    CHECK_INT(p9_walk(&c, 1, 2, "l"), 0);
    CHECK_INT(p9_call(&c, P9_TREADLINK, "d", 2), 0);
    CHECK_STR(p9_text(&c), "/etc/passwd");
    CHECK_INT(p9_call(&c, P9_TREADLINK, "d", 1), -EINVAL);
    CHECK_INT(p9_call(&c, P9_TMKNOD, "dsdddd", 1, "p", S_IFIFO | 0600, 0, 0, 0), 0);
    CHECK_INT(p9_call(&c, P9_TMKNOD, "dsdddd", 1, "n", S_IFBLK | 0600, 8, 0, 0), -EPERM);
    CHECK_INT(p9_call(&c, P9_TMKNOD, "dsdddd", 1, "n", S_IFDIR | 0600, 0, 0, 0), -EINVAL);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 3, "a"), 0);
    CHECK_INT(p9_call(&c, P9_TLINK, "dds", 1, 3, "b"), 0);
    CHECK_STR(host_text(&c, "d/b"), "hello");
    CHECK_INT(p9_call(&c, P9_TRENAMEAT, "dsds", 1, "b", 0, "c"), 0);
    CHECK_STR(host_text(&c, "c"), "hello");
    CHECK_INT(p9_call(&c, P9_TRENAMEAT, "dsds", 1, "b", 0, "c"), -ENOENT);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 0, "d", 0), -EISDIR);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 0, "d", 0x200), -ENOTEMPTY);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 1, "l", 0), 0);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 1, "p", 0), 0);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 0, "d", 0x200), 0);
    CHECK_INT(p9_getattr(&c, 1), 0); /* known still */
    p9_client_fini(&c);
}

TEST(p9_attr, attributes_both_ways)
{
    struct p9_client c;
    struct stat st;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_call(&c, P9_TSETATTR, "dddddqqqqq", 1, 1 | 8 | 16 | 128 | 32, 0600, 0, 0,
                      UINT64_C(3), UINT64_C(1000), UINT64_C(500), UINT64_C(7), UINT64_C(7)),
              0);
    CHECK_INT(stat(host_path(&c, "a"), &st), 0);
    CHECK_INT(st.st_mode, S_IFREG | 0600);
    CHECK_INT(st.st_size, 3);
    CHECK_INT(st.st_atim.tv_sec, 1000);
    CHECK_INT(st.st_atim.tv_nsec, 500);
    CHECK(st.st_mtim.tv_sec > 1000000); /* now */
    CHECK_INT(p9_getattr(&c, 1), 0);
    CHECK_INT(p9_n(&c, 8), 0x7ff);
    CHECK_INT(p9_n(&c, 1), 0);
    (void)p9_n(&c, 4);
    CHECK(p9_n(&c, 8) == st.st_ino);
    CHECK_INT(p9_n(&c, 4), st.st_mode);
    CHECK_INT(p9_n(&c, 4), st.st_uid);
    CHECK_INT(p9_n(&c, 4), st.st_gid);
    CHECK_INT(p9_n(&c, 8), 1);
    CHECK_INT(p9_n(&c, 8), 0);
    CHECK_INT(p9_n(&c, 8), 3);
    CHECK_INT(p9_n(&c, 8), st.st_blksize);
    CHECK_INT(p9_n(&c, 8), st.st_blocks);
    CHECK_INT(p9_n(&c, 8), 1000);
    CHECK_INT(p9_n(&c, 8), 500);
    CHECK(p9_n(&c, 8) == (uint64_t)st.st_mtim.tv_sec);
    CHECK_INT(c.len, P9_HEAD + 153);
    CHECK_INT(p9_call(&c, P9_TSTATFS, "d", 1), 0);
    CHECK_INT(p9_n(&c, 4), 0x01021997);
    CHECK(p9_n(&c, 4) >= 512);
    CHECK(p9_n(&c, 8) > 0);
    CHECK_INT(c.len, P9_HEAD + 60);
    p9_client_fini(&c);
}

TEST(p9_attr, a_change_is_another_version)
{
    struct p9_client c;
    uint64_t version;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_n(&c, 1), 0);
    version = p9_n(&c, 4);
    CHECK_INT(p9_walk(&c, 0, 2, "a"), 0);
    CHECK_INT(p9_n(&c, 1), 0);
    CHECK_INT(p9_n(&c, 4), version);
    host_file(&c, "a", "hello, world");
    CHECK_INT(p9_walk(&c, 0, 3, "a"), 0);
    CHECK_INT(p9_n(&c, 1), 0);
    CHECK(p9_n(&c, 4) != version);
    p9_client_fini(&c);
}

TEST(p9_attr, set_user_id_goes_with_a_write_of_others)
{
    struct p9_client c;
    struct stat st;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_attach(&c, 9, 1000), 0);
    for (uint32_t from = 0; from <= 9; from += 9) {
        CHECK_INT(chmod(host_path(&c, "a"), 04755), 0);
        CHECK_INT(p9_walk(&c, from, 1, "a"), 0);
        CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
        CHECK_INT(p9_write(&c, 1, 0, "J", 1), 1);
        CHECK_INT(stat(host_path(&c, "a"), &st), 0);
        CHECK_INT(st.st_mode & 04000, from == 0 && geteuid() == 0 ? 04000 : 0);
        CHECK_INT(p9_clunk(&c, 1), 0);
    }
    p9_client_fini(&c);
}

/* Set by XATTRCREATE, a write and a clunk; the error of whichever fails. */
static int set_xattr(struct p9_client *c, const char *name, const char *value, uint32_t flags)
{
    int r;

    CHECK_INT(p9_walk(c, 1, 8, ""), 0);
    r = p9_call(c, P9_TXATTRCREATE, "dsqd", 8, name, (uint64_t)strlen(value), flags);
    if (r == 0 && value[0]) {
        CHECK_INT(p9_write(c, 8, 0, value, (uint32_t)strlen(value)), strlen(value));
    }
    return r < 0 ? p9_clunk(c, 8) + r : p9_clunk(c, 8);
}

/* Its bytes are at p9_data(). */
static int get_xattr(struct p9_client *c, const char *name)
{
    int r = p9_call(c, P9_TXATTRWALK, "dds", 1, 8, name);

    if (r == 0) {
        uint64_t size = p9_n(c, 8);

        CHECK_INT(p9_read(c, 8, size, 10), 0);
        CHECK_INT(p9_read(c, 8, UINT64_MAX, 10), 0);
        r = p9_read(c, 8, 0, UINT32_MAX);
        CHECK_INT(r, size);
        memmove(c->in, p9_data(c), size);
        CHECK_INT(p9_clunk(c, 8), 0);
    }
    return r;
}

static bool has_user_xattrs(const struct p9_client *c)
{
    host_file(c, "a", "hello");
    return setxattr(host_path(c, "a"), "user.x", "1", 1, 0) == 0 &&
           removexattr(host_path(c, "a"), "user.x") == 0;
}

TEST(p9_xattr, values_and_lists)
{
    struct p9_client c;

    p9_client_init(&c, false);
    if (!has_user_xattrs(&c)) {
        p9_client_fini(&c);
        SKIP("no user attributes in /tmp");
    }
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(get_xattr(&c, "user.k"), -ENODATA);
    CHECK_INT(set_xattr(&c, "user.k", "abc", 0), 0);
    CHECK_INT(get_xattr(&c, "user.k"), 3);
    CHECK_INT(set_xattr(&c, "user.k", "x", XATTR_CREATE), -EEXIST);
    CHECK_INT(set_xattr(&c, "user.n", "x", XATTR_REPLACE), -ENODATA);
    CHECK_INT(set_xattr(&c, "user.e", "", 0), 0);
    CHECK_INT(get_xattr(&c, "user.e"), 0);
    CHECK(get_xattr(&c, "") >= 14);
    CHECK_INT(set_xattr(&c, "user.k", "", XATTR_REPLACE), 0); /* how Linux removes one */
    CHECK_INT(get_xattr(&c, "user.k"), -ENODATA);
    CHECK_INT(c.s->xattr_count, 0);
    p9_client_fini(&c);
}

TEST(p9_xattr, what_is_wrong_is_refused)
{
    struct p9_client c;
    char name[300];

    p9_client_init(&c, false);
    if (!has_user_xattrs(&c)) {
        p9_client_fini(&c);
        SKIP("no user attributes in /tmp");
    }
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_walk(&c, 1, 2, ""), 0);
    CHECK_INT(p9_call(&c, P9_TXATTRCREATE, "dsqd", 2, "user.k", UINT64_C(65537), 0), -E2BIG);
    CHECK_INT(p9_call(&c, P9_TXATTRCREATE, "dsqd", 2, "user.k", UINT64_MAX, 0), -E2BIG);
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    CHECK_INT(p9_call(&c, P9_TXATTRCREATE, "dsqd", 2, name, UINT64_C(3), 0), -ERANGE);
    CHECK_INT(p9_call(&c, P9_TXATTRCREATE, "dsqd", 2, "user.k", UINT64_C(3), 0), 0);
    CHECK_INT(p9_call(&c, P9_TXATTRCREATE, "dsqd", 2, "user.k", UINT64_C(3), 0), -EBADF);
    CHECK_INT(p9_write(&c, 2, 0, "abcd", 4), -ENOSPC);
    CHECK_INT(p9_write(&c, 2, 1, "a", 1), -ENOSPC);
    CHECK_INT(p9_write(&c, 2, 0, "ab", 2), 2);
    CHECK_INT(p9_read(&c, 2, 0, 2), -EBADF);
    CHECK_INT(p9_walk(&c, 2, 3, ""), -EINVAL);
    CHECK_INT(p9_open(&c, 2, O_RDONLY), -EBADF);
    CHECK_INT(p9_clunk(&c, 2), -EINVAL); /* one byte is missing: nothing is set */
    CHECK_INT(get_xattr(&c, "user.k"), -ENODATA);
    CHECK_INT(p9_call(&c, P9_TXATTRWALK, "dds", 1, 0, ""), -EINVAL); /* in use */
    for (uint32_t i = 0; i < P9_XATTR_MAX; i++) {
        CHECK_INT(p9_call(&c, P9_TXATTRWALK, "dds", 1, 100 + i, ""), 0);
    }
    CHECK_INT(p9_call(&c, P9_TXATTRWALK, "dds", 1, 99, ""), -ENFILE);
    CHECK_INT(p9_version(&c, 8192), 0);
    CHECK_INT(c.s->xattr_count, 0);
    c.s->has_no_xattr = true;
    CHECK_INT(p9_attach(&c, 0, 0), 0);
    CHECK_INT(p9_call(&c, P9_TXATTRWALK, "dds", 0, 1, ""), -EOPNOTSUPP);
    p9_client_fini(&c);
}

static int lock(struct p9_client *c, uint32_t fid, uint8_t type, uint32_t flags, uint32_t owner)
{
    int r = p9_call(c, P9_TLOCK, "dbdqqds", fid, type, flags, UINT64_C(10), UINT64_C(5), owner,
                    "guest");

    return r == 0 ? (int)p9_n(c, 1) : r;
}

TEST(p9_lock, locks_hold_on_the_host)
{
    struct p9_client c;
    struct flock want = {.l_type = F_WRLCK, .l_start = 14, .l_len = 1};
    int fd;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(lock(&c, 1, 1, 0, 7), -EBADF);
    CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
    CHECK_INT(lock(&c, 1, 1, 0, 7), 0);
    fd = open(host_path(&c, "a"), O_RDWR | O_CLOEXEC);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &want), -1);
    want.l_start = 15;
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &want), 0);
    CHECK_INT(lock(&c, 1, 1, 0, 8), 1); /* blocked: another owner */
    CHECK_INT(p9_call(&c, P9_TGETLOCK, "dbqqds", 1, 1, UINT64_C(15), UINT64_C(1), 8, "guest"), 0);
    CHECK_INT(p9_n(&c, 1), 1);
    CHECK_INT(p9_n(&c, 8), 15);
    CHECK_INT(p9_n(&c, 8), 1);
    CHECK_INT(p9_n(&c, 4), 0);
    CHECK_STR(p9_text(&c), "guest");
    CHECK_INT(lock(&c, 1, 2, 0, 7), 0);
    CHECK_INT(lock(&c, 1, 0, 0, 8), 0);
    CHECK_INT(lock(&c, 1, 0, 0, 7), 0);
    CHECK_INT(lock(&c, 1, 3, 0, 7), -EINVAL);
    CHECK_INT(p9_call(&c, P9_TLOCK, "dbdqqds", 1, 0, 0, UINT64_MAX, UINT64_C(1), 7, ""), -EINVAL);
    CHECK_INT(p9_call(&c, P9_TLOCK, "dbdqqds", 1, 0, 0, UINT64_C(1), UINT64_MAX, 7, ""), 0);
    CHECK_INT(p9_call(&c, P9_TGETLOCK, "dbqqds", 0, 1, UINT64_C(15), UINT64_C(1), 8, ""), -EBADF);
    (void)close(fd);
    p9_client_fini(&c);
}

TEST(p9_lock, a_lock_is_waited_for)
{
    struct p9_client c;
    struct p9_wait wait;
    struct flock want = {.l_type = F_WRLCK};
    int fd;

    p9_client_init(&c, false);
    host_file(&c, "a", "hello");
    fd = open(host_path(&c, "a"), O_RDWR | O_CLOEXEC);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &want), 0);
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDWR), 0);
    CHECK_INT(lock(&c, 1, 1, 0, 7), 1);
    CHECK_INT(p9_call(&c, P9_TLOCK, "dbdqqds", 1, 1, 1, UINT64_C(0), UINT64_C(0), 7, ""), 1);
    CHECK_INT(c.result.outcome, P9_WAIT);
    wait = c.result.wait;
    CHECK_INT(p9_wait_again(c.s, &wait, &c.io), 0);
    (void)close(fd);
    CHECK_INT(p9_reply(&c, p9_wait_again(c.s, &wait, &c.io)), 0);
    CHECK_INT(p9_n(&c, 1), 0);
    CHECK_INT(load_le16(c.out + 5), 77);
    /* What a fork leaves behind goes with the fid, though its owner never unlocks. */
    CHECK_INT(p9_walk(&c, 0, 2, "a"), 0);
    CHECK_INT(p9_open(&c, 2, O_RDWR), 0);
    CHECK_INT(p9_clunk(&c, 1), 0);
    CHECK_INT(lock(&c, 2, 1, 0, 8), 0);
    CHECK_INT(p9_reply(&c, p9_wait_again(c.s, &wait, &c.io)), -EBADF);
    p9_client_fini(&c);
}

TEST(p9_read_only, nothing_can_be_changed)
{
    struct p9_client c;

    p9_client_init(&c, true);
    host_file(&c, "a", "hello");
    CHECK_INT(mkdir(host_path(&c, "d"), 0755), 0);
    CHECK_INT(p9_walk(&c, 0, 1, "a"), 0);
    CHECK_INT(p9_walk(&c, 0, 2, "d"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDWR), -EROFS);
    CHECK_INT(p9_open(&c, 1, O_RDONLY | O_TRUNC), -EROFS);
    CHECK_INT(p9_call(&c, P9_TLCREATE, "dsddd", 2, "x", O_RDWR, 0640, 0), -EROFS);
    CHECK_INT(p9_call(&c, P9_TMKDIR, "dsdd", 0, "e", 0755, 0), -EROFS);
    CHECK_INT(p9_call(&c, P9_TSYMLINK, "dssd", 0, "l", "a", 0), -EROFS);
    CHECK_INT(p9_call(&c, P9_TMKNOD, "dsdddd", 0, "p", S_IFIFO | 0600, 0, 0, 0), -EROFS);
    CHECK_INT(p9_call(&c, P9_TLINK, "dds", 0, 1, "b"), -EROFS);
    CHECK_INT(p9_call(&c, P9_TRENAMEAT, "dsds", 0, "a", 0, "b"), -EROFS);
    CHECK_INT(p9_call(&c, P9_TUNLINKAT, "dsd", 0, "a", 0), -EROFS);
    CHECK_INT(p9_call(&c, P9_TXATTRCREATE, "dsqd", 1, "user.k", UINT64_C(1), 0), -EROFS);
    CHECK_INT(p9_call(&c, P9_TSETATTR, "dddddqqqqq", 1, 1, 0600, 0, 0, UINT64_C(3), UINT64_C(0),
                      UINT64_C(0), UINT64_C(0), UINT64_C(0)),
              -EROFS);
    CHECK_INT(p9_open(&c, 1, O_RDONLY), 0);
    CHECK_INT(p9_write(&c, 1, 0, "x", 1), -EROFS);
    CHECK_INT(p9_read(&c, 1, 0, 10), 5);
    CHECK_INT(p9_call(&c, P9_TFSYNC, "dd", 1, 0), 0);
    CHECK_INT(lock(&c, 1, 0, 0, 7), 0); /* the guest's own affair */
    CHECK_INT(p9_call(&c, P9_TGETLOCK, "dbqqds", 1, 1, UINT64_C(0), UINT64_C(1), 8, ""), 0);
    CHECK_INT(p9_n(&c, 1), 2);
    CHECK_INT(p9_open(&c, 2, O_RDONLY), 0);
    CHECK_INT(p9_call(&c, P9_TREADDIR, "dqd", 2, UINT64_C(0), 1000), 0);
    CHECK_INT(p9_clunk(&c, 1), 0);
    CHECK_STR(host_text(&c, "a"), "hello");
    p9_client_fini(&c);
}

static void nobody_body(void)
{
    struct p9_client c;

    p9_client_init(&c, false);
    host_file(&c, "a", "x");
    CHECK_INT(chmod(host_path(&c, "a"), 0), 0);
    CHECK_INT(p9_attach(&c, 9, 0), 0); /* the guest's root */
    CHECK_INT(p9_walk(&c, 9, 1, "a"), 0);
    CHECK_INT(p9_open(&c, 1, O_RDONLY), -EACCES);
    CHECK_INT(p9_call(&c, P9_TSETATTR, "dddddqqqqq", 1, 2, 0, 0, 0, UINT64_C(0), UINT64_C(0),
                      UINT64_C(0), UINT64_C(0), UINT64_C(0)),
              -EPERM);
    CHECK_INT(p9_call(&c, P9_TMKDIR, "dsdd", 9, "d", 0755, 0), 0);
    p9_client_fini(&c);
}

TEST(p9, without_privilege_the_host_decides)
{
    as_nobody(nobody_body);
}
