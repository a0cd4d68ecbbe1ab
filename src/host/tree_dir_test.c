/* tree_dir_test.c — trees of the host: what can be shared, and what is kept out. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "host/tree_dir.h"
#include "tests/lib/fuse_client.h"

TEST(tree, paths_that_cannot_be_shared)
{
    struct tree_dir_config config = {.path = "/no/such/place"};
    struct tree_port tree;
    struct err err = {0};

    CHECK_INT(tree_dir_new(&config, &tree, &err), -ENOENT);
    CHECK_HAS(err_text(&err), "/no/such/place");
    config.path = "/dev/null";
    CHECK_INT(tree_dir_new(&config, &tree, &err), -EINVAL);
    CHECK_HAS(err_text(&err), "directory or a regular file");
}

static bool count_name(void *owner, const struct tree_dirent *entry)
{
    *(unsigned *)owner += entry->name[0] != '.';
    return true;
}

TEST(tree, a_file_is_shared_without_its_neighbours)
{
    struct fuse_client c;
    struct fuse_made f = {0};
    struct fuse_rename_in in = {.newdir = 1};
    struct fuse_mkdir_in mk = {.mode = 0755};
    char path[128];
    unsigned count = 0;
    uint64_t node;

    fuse_client_dir(&c);
    host_file(&c, "a", "hello");
    host_file(&c, "secret", "x");
    (void)snprintf(path, sizeof(path), "%s/a", c.dir);
    fuse_client_open(&c, path, false, 0);
    CHECK_STR(tree_dir_only_name(&c.tree), "a");
    node = fuse_lookup(&c, 1, "a");
    CHECK_INT(fuse_write(&c, node, fuse_open(&c, node, O_RDWR), 0, "J"), 0);
    CHECK_STR(host_text(&c, "a"), "Jello");
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, 1, NULL, 0, "secret"), -ENOENT);
    CHECK_INT(fuse_create(&c, 1, "secret", O_RDWR, 0600, &f), -ENOENT);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR, 0600, &f), 0);
    CHECK_INT(fuse_create(&c, 1, "a", O_RDWR | O_EXCL, 0600, &f), -EEXIST);
    CHECK_INT(fuse_call(&c, FUSE_UNLINK, 1, NULL, 0, "a"), -EPERM);
    CHECK_INT(fuse_call(&c, FUSE_MKDIR, 1, &mk, sizeof(mk), "d"), -EPERM);
    CHECK_INT(fuse_call2(&c, FUSE_RENAME, 1, &in, sizeof(in), "a", "b"), -EPERM);
    CHECK_INT(c.tree.ops->set_xattr(c.tree.owner, 1, "user.a", "", 0, 0), -EPERM);
    CHECK_INT(c.tree.ops->read_dir(c.tree.owner, 1, fuse_opendir(&c, 1), 0, count_name, &count), 0);
    CHECK_INT(count, 1);
    fuse_client_fini(&c);
}

TEST(tree, kernel_file_systems_look_empty)
{
    struct fuse_client c;
    struct fuse_open_in in = {0};
    unsigned count = 0;
    uint64_t proc;
    struct stat st;

    if (stat("/proc/self", &st) < 0) {
        SKIP("no /proc");
    }
    memset(&c, 0, sizeof(c));
    fuse_client_open(&c, "/", true, 0);
    proc = fuse_lookup(&c, 1, "proc");
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, proc, NULL, 0, "self"), 0);
    CHECK_INT(REPLY(&c, fuse_entry_out)->nodeid, 0);
    CHECK_INT(c.tree.ops->read_dir(c.tree.owner, proc, 0, 0, count_name, &count), 0);
    CHECK_INT(count, 0);
    CHECK_INT(c.tree.ops->get_xattr(c.tree.owner, proc, "user.a", NULL, 0), -EOPNOTSUPP);
    CHECK_INT(fuse_init_flags(&c, 0), 0);
    proc = fuse_lookup(&c, 1, "proc");
    CHECK_INT(fuse_call(&c, FUSE_OPENDIR, proc, &in, sizeof(in), NULL), 0);
    CHECK_INT(fuse_release(&c, proc, REPLY(&c, fuse_open_out)->fh), 0);
    fuse_client_close(&c);
}

TEST(tree, a_refused_cookie_leaves_no_listing_behind)
{
    struct fuse_client c;
    uint64_t file, refused = ~(uint64_t)7;
    unsigned count = 0;

    fuse_client_dir(&c);
    host_file(&c, "a", "hello");
    fuse_client_open(&c, c.dir, false, 0);
    file = fuse_opendir(&c, 1);
    CHECK_INT(c.tree.ops->read_dir(c.tree.owner, 1, file, refused, count_name, &count), -EINVAL);
    /* A cookie that the host may take or not; it once met a listing without a length. */
    (void)c.tree.ops->read_dir(c.tree.owner, 1, file, ~refused, count_name, &count);
    CHECK(count <= 3);
    count = 0;
    CHECK_INT(c.tree.ops->read_dir(c.tree.owner, 1, file, 0, count_name, &count), 0);
    CHECK_INT(count, 1);
    fuse_client_fini(&c);
}

static unsigned names_in(struct fuse_client *c, uint64_t node)
{
    unsigned count = 0;
    uint64_t file = fuse_opendir(c, node);

    CHECK_INT(c->tree.ops->read_dir(c->tree.owner, node, file, 0, count_name, &count), 0);
    CHECK_INT(c->tree.ops->sync(c->tree.owner, node, file, false), 0);
    CHECK_INT(fuse_release(c, node, file), 0);
    return count;
}

/* An unprivileged monitor below an overlay: a lower directory that answers EACCES would keep the
 * guest's root from making anything in it. */
TEST(tree, directories_that_are_closed_to_the_monitor_look_empty)
{
    static const struct {
        const char *name;
        mode_t mode;
        int lookup;
        unsigned count;
    } dirs[] = {{"closed", 0000, -ENOENT, 0},
                {"unsearchable", 0444, -ENOENT, 0},
                {"unreadable", 0111, 0, 0},
                {"open", 0555, 0, 1}};
    struct fuse_client c;
    char path[64];

    fuse_client_dir(&c);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        CHECK_INT(mkdir(host_path(&c, dirs[i].name), 0755), 0);
        (void)snprintf(path, sizeof(path), "%s/file", dirs[i].name);
        host_file(&c, path, "text");
        CHECK_INT(chmod(host_path(&c, dirs[i].name), dirs[i].mode), 0);
    }
    CHECK(geteuid() != 0 || seteuid(65534) == 0);
    c.closed_is_empty = true;
    fuse_client_open(&c, c.dir, true, 0);
    CHECK_INT(fuse_init_flags(&c, 0), 0); /* answers for missing names as errors */
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        uint64_t node = fuse_lookup(&c, 1, dirs[i].name);
        struct tree_entry entry;

        CHECK_INT(c.tree.ops->lookup(c.tree.owner, node, "file", &entry), dirs[i].lookup);
        CHECK_INT(names_in(&c, node), dirs[i].count);
    }
    CHECK(getuid() != 0 || seteuid(0) == 0);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        CHECK_INT(chmod(host_path(&c, dirs[i].name), 0755), 0);
    }
    fuse_client_fini(&c);
}

TEST(tree, inode_numbers_of_other_mounts_differ)
{
    struct fuse_client c;
    struct stat root;
    struct stat other;

    if (stat("/", &root) < 0 || stat("/dev/shm", &other) < 0 || root.st_dev == other.st_dev) {
        SKIP("no other file system at /dev/shm");
    }
    memset(&c, 0, sizeof(c));
    fuse_client_open(&c, "/", true, 0);
    (void)fuse_lookup(&c, fuse_lookup(&c, 1, "dev"), "shm");
    CHECK(REPLY(&c, fuse_entry_out)->attr.ino != other.st_ino);
    (void)fuse_lookup(&c, 1, "tmp");
    if (stat("/tmp", &other) == 0 && other.st_dev == root.st_dev) {
        CHECK(REPLY(&c, fuse_entry_out)->attr.ino == other.st_ino);
    }
    fuse_client_close(&c);
}

/* A directory that is bound into itself is another node there: one directory must not have two
 * places in the guest. */
TEST(tree, bind_mounts_are_nodes_of_their_own)
{
    struct fuse_client c;
    pid_t pid;
    int status;

    fuse_client_init(&c, false);
    CHECK_INT(mkdir(host_path(&c, "a"), 0755), 0);
    CHECK_INT(mkdir(host_path(&c, "b"), 0755), 0);
    pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount(host_path(&c, "a"), host_path(&c, "b"), NULL, MS_BIND, NULL) < 0) {
            _exit(77);
        }
        fuse_client_close(&c);
        fuse_client_open(&c, c.dir, false, 0);
        _exit(fuse_lookup(&c, 1, "a") == fuse_lookup(&c, 1, "b"));
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    fuse_client_fini(&c);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        SKIP("cannot mount");
    }
    CHECK_INT(status, 0);
}

TEST(tree, directories_that_the_host_turned_inside_out_do_not_loop)
{
    struct fuse_client c;
    uint64_t a;
    uint64_t b;

    fuse_client_init(&c, false);
    CHECK_INT(mkdir(host_path(&c, "a"), 0755), 0);
    CHECK_INT(mkdir(host_path(&c, "a/b"), 0755), 0);
    a = fuse_lookup(&c, 1, "a");
    b = fuse_lookup(&c, a, "b");
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, b, NULL, 0, "none"), -ENOENT); /* b is open now */
    CHECK_INT(rename(host_path(&c, "a/b"), host_path(&c, "b")), 0);
    CHECK_INT(rename(host_path(&c, "a"), host_path(&c, "b/a")), 0);
    CHECK_INT(fuse_call(&c, FUSE_LOOKUP, b, NULL, 0, "a"), -ESTALE);
    CHECK(fuse_lookup(&c, 1, "b") == b);
    CHECK(fuse_lookup(&c, b, "a") == a);
    fuse_client_fini(&c);
}

TEST(tree, many_nodes_and_numbers_used_once)
{
    struct fuse_client c;
    static uint64_t nodes[500];
    char name[32];

    fuse_client_init(&c, false);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 500; i++) {
            uint64_t node;

            (void)snprintf(name, sizeof(name), "f%u", i);
            if (round == 0) {
                host_file(&c, name, "");
            }
            node = fuse_lookup(&c, 1, name);
            CHECK(node != nodes[i]);
            nodes[i] = node;
        }
        for (unsigned i = 0; i < 500; i++) {
            CHECK_INT(fuse_getattr(&c, nodes[i]), 0);
            fuse_forget(&c, nodes[i], 1);
            CHECK_INT(fuse_getattr(&c, nodes[i]), -ESTALE);
        }
    }
    fuse_client_fini(&c);
}

/* In a bare chroot, where nothing can be reopened through /proc/self/fd. */
static void no_proc_body(const char *dir)
{
    struct fuse_setattr_in set = {.valid = FATTR_MODE | FATTR_MTIME | FATTR_SIZE, .mode = 0600};
    struct fuse_getxattr_in get = {0};
    struct fuse_link_in in = {0};
    struct fuse_made f = {0};
    struct fuse_client c;
    uint64_t node;
    int r;

    memset(&c, 0, sizeof(c));
    if (chroot(dir) < 0 || chdir("/") < 0) {
        _exit(77);
    }
    fuse_client_open(&c, "/", false, 0);
    node = fuse_lookup(&c, 1, "a");
    CHECK_INT(fuse_read(&c, node, fuse_open(&c, node, O_RDONLY), 0, 10), 0);
    CHECK_INT(c.len, 5);
    CHECK_INT(fuse_release(&c, 1, fuse_opendir(&c, 1)), 0);
    in.oldnodeid = node;
    CHECK_INT(fuse_call(&c, FUSE_LINK, 1, &in, sizeof(in), "b"), 0);
    set.valid = FATTR_MTIME | FATTR_SIZE;
    CHECK_INT(fuse_call(&c, FUSE_SETATTR, node, &set, sizeof(set), NULL), 0);
    set.valid = FATTR_MODE;
    r = fuse_call(&c, FUSE_SETATTR, node, &set, sizeof(set), NULL);
    CHECK(r == 0 || r == -ENOSYS); /* kernels before 6.6 have no way */
    CHECK_INT(fuse_call(&c, FUSE_GETXATTR, 1, &get, sizeof(get), "user.a"), -EOPNOTSUPP);
    CHECK_INT(fuse_create(&c, 1, "new", O_RDWR | O_TRUNC, 0600, &f), 0);
    CHECK_INT(fuse_create(&c, 1, "new", O_RDWR | O_TRUNC, 0600, &f), 0);
    CHECK_INT(rename("/new", "/b"), 0);
    CHECK_INT(fuse_try_open(&c, node, O_RDONLY), -ESTALE);
    fuse_client_close(&c);
}

TEST(tree, works_without_proc)
{
    struct fuse_client c;
    pid_t pid;
    int status;

    fuse_client_dir(&c);
    host_file(&c, "a", "hello");
    pid = fork();
    if (pid == 0) {
        no_proc_body(c.dir);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    host_dir_remove(c.dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        SKIP("cannot change the root directory");
    }
    CHECK_INT(status, 0);
}
