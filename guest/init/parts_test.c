/* parts_test.c — the parts of the init by themselves. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/clock.h"
#include "guest/init/announce.h"
#include "guest/init/core.h"
#include "guest/init/module.h"
#include "guest/init/mounts.h"
#include "guest/init/power.h"
#include "guest/init/setup.h"
#include "guest/init/spawn.h"
#include "guest/init/user.h"
#include "tests/lib/test.h"

static void make_dir(char dir[static 32])
{
    (void)snprintf(dir, 32, "/tmp/ec1-init-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
}

static void drop_dir(const char *dir)
{
    char command[64];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    CHECK_INT(system(command), 0);
}

static const char *path_in(const char *dir, const char *name)
{
    static char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void check_file(const char *path, const char *want)
{
    AUTO_CALL(buf_fini) struct buf file = {0};

    CHECK_INT(buf_read_file(&file, path, 65536), 0);
    CHECK_STR(buf_str(&file), want);
}

/* ---- core dumps ---- */

TEST(core, a_dump_is_complete_and_has_holes)
{
    enum { SIZE = 1 << 20 };
    static uint8_t want[SIZE + 100];
    static uint8_t got[sizeof(want) + 1];
    char dir[32];
    char path[64];
    struct stat st;
    int in = memfd_create("in", MFD_CLOEXEC);
    int out;

    make_dir(dir);
    (void)snprintf(path, sizeof(path), "%s/core-x-1", dir);
    memset(want, 'a', 5000);
    memset(want + SIZE / 2, 'b', 10);
    CHECK_INT(write(in, want, sizeof(want)), (ssize_t)sizeof(want));
    CHECK_INT(symlink("/dev/null", path), 0); /* what is there is not followed */
    CHECK_INT(lseek(in, 0, SEEK_SET), 0);
    CHECK_INT(core_store(in, path), 0);
    out = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CHECK_INT(fstat(out, &st), 0);
    CHECK_INT(st.st_size, sizeof(want));
    CHECK_INT(st.st_mode & 0777, 0600);
    CHECK(st.st_blocks * 512 < SIZE / 2);
    CHECK_INT(read(out, got, sizeof(got)), (ssize_t)sizeof(want));
    CHECK_MEM(got, want, sizeof(want));
    (void)close(out);
    (void)close(in);
    drop_dir(dir);
    CHECK_INT(core_store(-1, path), -ENOENT); /* no folder */
}

TEST(core, a_limit_of_nothing_is_kept_and_other_words_are_not_taken)
{
    char words[4][16] = {"ec1-init", "core", "0", "x-1"};
    char *none[] = {words[0], words[1], words[2], words[3], NULL};

    CHECK_INT(core_main(4, none), 0);
    CHECK_INT(core_main(3, none), 2);
    words[2][0] = '1'; /* and there is no folder for it on this host */
    CHECK_INT(core_main(4, none), 1);
}

/* ---- users ---- */

static void put_users(const char *dir)
{
    static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                                 "broken line\n"
                                 "amy:x:1000:1001::/home/amy:/bin/sh\n";
    static const char group[] = "root:x:0:\nadm:x:4:amy,bob\nvideo:x:44:amy\namy:x:1001:\n"
                                "bobs:x:2000:bob\n";

    CHECK_INT(setup_file(path_in(dir, "passwd"), passwd, strlen(passwd)), 0);
    CHECK_INT(setup_file(path_in(dir, "group"), group, strlen(group)), 0);
}

TEST(user, names_and_numbers)
{
    static const struct {
        const char *name;
        int code;
        uid_t uid;
        gid_t gid;
        size_t groups;
    } cases[] = {
        {"root", 0, 0, 0, 0},
        {"amy", 0, 1000, 1001, 2},
        {"1000", 0, 1000, 1001, 2},
        {"amy:video", 0, 1000, 44, 0},
        {"amy:77", 0, 1000, 77, 0},
        {"5:6", 0, 5, 6, 0},
        {"5", 0, 5, 0, 0},
        {":video", 0, 0, 44, 0},
        {"amy:", 0, 1000, 1001, 2},
        {"nobody", -ENOENT, 0, 0, 0},
        {"amy:none", -ENOENT, 0, 0, 0},
    };
    char dir[32];

    make_dir(dir);
    put_users(dir);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Ec1__V1__User wanted = EC1__V1__USER__INIT;
        struct user user = {0};
        struct err err = {0};

        wanted.name = (char *)(uintptr_t)cases[i].name;
        CHECK_INT(user_find(dir, &wanted, &user, &err), cases[i].code);
        CHECK_INT(user.uid, cases[i].uid);
        CHECK_INT(user.gid, cases[i].gid);
        CHECK_INT(user.group_count, cases[i].groups);
        user_fini(&user);
    }
    drop_dir(dir);
}

TEST(user, a_root_without_files_has_numbers_only)
{
    uint32_t groups[] = {3, 3, 4};
    Ec1__V1__User wanted = EC1__V1__USER__INIT;
    struct user user = {0};
    struct err err = {0};
    char long_name[300];

    CHECK_INT(user_find("/nonexistent", NULL, &user, &err), 0);
    CHECK_INT(user.uid, 0);
    wanted.uid = 9;
    wanted.groups = groups;
    wanted.n_groups = 3;
    CHECK_INT(user_find("/nonexistent", &wanted, &user, &err), 0);
    CHECK_INT(user.uid, 9);
    CHECK_INT(user.group_count, 2); /* once each */
    user_fini(&user);
    wanted.name = (char[]){"root"};
    CHECK_INT(user_find("/nonexistent", &wanted, &user, &err), -ENOENT);
    CHECK_HAS(err.text, "no user 'root'");
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = 0;
    wanted.name = long_name;
    CHECK_INT(user_find("/nonexistent", &wanted, &user, &err), -EINVAL);
}

/* ---- setup ---- */

TEST(setup, hosts_get_the_name_once)
{
    static const char before[] = "127.0.0.1 localhost\n# 127.0.1.1 box\n10.0.0.1 big-box";
    char dir[32];

    make_dir(dir);
    CHECK_INT(setup_file(path_in(dir, "hosts"), before, strlen(before)), 0);
    CHECK_INT(setup_hosts(path_in(dir, "hosts"), "box"), 0);
    CHECK_INT(setup_hosts(path_in(dir, "hosts"), "box"), 0);
    check_file(path_in(dir, "hosts"), "127.0.0.1 localhost\n# 127.0.1.1 box\n10.0.0.1 big-box\n"
                                      "127.0.1.1\tbox\n");
    (void)unlink(path_in(dir, "hosts"));
    CHECK_INT(setup_hosts(path_in(dir, "hosts"), "box"), 0);
    check_file(path_in(dir, "hosts"), "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\tbox\n");
    drop_dir(dir);
}

TEST(setup, a_dangling_link_is_replaced)
{
    char dir[32];

    make_dir(dir);
    CHECK_INT(symlink("/nonexistent/stub-resolv.conf", path_in(dir, "resolv.conf")), 0);
    CHECK_INT(setup_file(path_in(dir, "resolv.conf"), "x\n", 2), 0);
    check_file(path_in(dir, "resolv.conf"), "x\n");
    CHECK(setup_file("/nonexistent/file", "x", 1) < 0);
    drop_dir(dir);
}

TEST(setup, sysctl_names_have_dots_or_slashes)
{
    char dir[32];

    make_dir(dir);
    CHECK_INT(mkdir(path_in(dir, "net"), 0755), 0);
    CHECK_INT(mkdir(path_in(dir, "net/eth0.1"), 0755), 0);
    CHECK_INT(setup_file(path_in(dir, "net/eth0.1/mtu"), "old", 3), 0);
    CHECK_INT(setup_sysctl(dir, "net.eth0/1.mtu", "new"), 0);
    check_file(path_in(dir, "net/eth0.1/mtu"), "new");
    CHECK_INT(setup_sysctl(dir, "net/eth0.1/mtu", "two"), 0);
    check_file(path_in(dir, "net/eth0.1/mtu"), "two");
    CHECK_INT(setup_sysctl(dir, "net.none", "x"), -ENOENT);
    CHECK_INT(setup_sysctl(dir, "net/../../etc/passwd", "x"), -EINVAL);
    drop_dir(dir);
}

/* In namespaces of its own, so that nothing of this host changes. */
static int in_namespace(int (*fn)(const char *dir))
{
    char dir[32];
    int status = -1;
    pid_t pid;
    int old;

    make_dir(dir);
    pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", dir, "tmpfs", 0, NULL) < 0) {
            exit(77);
        }
        old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        status = fn(dir);
        /* Out again, so that reports of coverage and leaks can be written. */
        exit(fchdir(old) < 0 || chroot(".") < 0 ? 88 : status);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    drop_dir(dir);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static bool is_mode(const char *path, mode_t mode)
{
    struct stat st;

    return stat(path, &st) == 0 && (st.st_mode & 07777) == mode;
}

static int try_private(const char *dir)
{
    struct report report;
    struct err err = {0};
    char target[64];

    report_init(&report);
    if (chroot(dir) < 0 || chdir("/") < 0 || mounts_private(&report, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err_text(&err));
        return 1;
    }
    report_fini(&report);
    if (!is_mode("/tmp", 01777) || !is_mode("/dev/shm", 01777) || !is_mode("/dev/null", 0666) ||
        !is_mode("/dev/pts/ptmx", 0666) || access("/proc/self/stat", R_OK) < 0) {
        return 2;
    }
    return readlink("/dev/fd", target, sizeof(target)) > 0 ? 0 : 3;
}

static int try_setup(const char *dir)
{
    Ec1__V1__BootConfig config = EC1__V1__BOOT_CONFIG__INIT;
    Ec1__V1__Sysctl sysctl = EC1__V1__SYSCTL__INIT;
    Ec1__V1__Sysctl *list[] = {&sysctl};
    struct report report;
    char name[64];
    int status = 0;

    report_init(&report);
    if (chroot(dir) < 0 || chdir("/") < 0) {
        return 1;
    }
    config.hostname = (char[]){"box"};
    config.resolv_conf.data = (uint8_t[]){"nameserver 192.0.2.1\n"};
    config.resolv_conf.len = 21;
    sysctl.name = (char[]){"no.such.sysctl"};
    config.sysctls = list;
    config.n_sysctls = 1;
    setup_system(&config, &report);
    if (gethostname(name, sizeof(name)) < 0 || strcmp(name, "box") != 0) {
        status = 2;
    } else if (access("/etc/resolv.conf", R_OK) < 0 || access("/etc/hosts", R_OK) < 0) {
        status = 3;
    } else if (report.warning_count != 1 || !strstr(report.warnings[0], "no.such.sysctl")) {
        status = 4;
    }
    report_fini(&report);
    return status;
}

static int try_share(const char *dir)
{
    Ec1__V1__Mount share = EC1__V1__MOUNT__INIT;
    Ec1__V1__Root root = EC1__V1__ROOT__INIT;
    struct err err = {0};

    if (chroot(dir) < 0 || chdir("/") < 0) {
        return 1;
    }
    /* This host's kernel may or may not know virtio-fs; it has no such device in any case. */
    share.tag = (char[]){"ec1-none"};
    share.target = (char[]){"relative"};
    if (mounts_share(&share, -1, &err) != -EINVAL || !strstr(err.text, "absolute")) {
        return 2;
    }
    share.target = (char[]){"/a/b"};
    if (mounts_share(&share, -1, &err) >= 0 || !strstr(err.text, "CONFIG_VIRTIO_")) {
        return 3;
    }
    share.subdir = (char[]){"file"};
    if (mounts_share(&share, -1, &err) >= 0) {
        return 4;
    }
    mounts_done();
    root.tag = share.tag;
    return mounts_enter_root(&root, &err) < 0 && strstr(err.text, "CONFIG_VIRTIO_") ? 0 : 5;
}

TEST(mounts, an_empty_root_gets_everything_private)
{
    int status = in_namespace(try_private);

    if (status == 77) {
        SKIP("no right to make namespaces");
        return;
    }
    CHECK_INT(status, 0);
}

TEST(setup, a_system_gets_its_names)
{
    int status = in_namespace(try_setup);

    if (status == 77) {
        SKIP("no right to make namespaces");
        return;
    }
    CHECK_INT(status, 0);
}

TEST(mounts, a_share_that_is_missing_names_what_the_kernel_needs)
{
    int status = in_namespace(try_share);

    if (status == 77) {
        SKIP("no right to make namespaces");
        return;
    }
    CHECK_INT(status, 0);
}

TEST(mounts, paths_are_made_and_checked)
{
    char dir[32];

    make_dir(dir);
    CHECK_INT(mounts_make_path(path_in(dir, "a/b/c")), 0);
    CHECK_INT(mounts_make_path(path_in(dir, "a/b/c")), 0);
    CHECK_INT(setup_file(path_in(dir, "a/f"), "", 0), 0);
    CHECK_INT(mounts_make_path(path_in(dir, "a/f")), -ENOTDIR);
    CHECK_INT(mounts_make_path(path_in(dir, "a/f/x")), -ENOTDIR);
    drop_dir(dir);
}

TEST(module, what_does_not_load_is_a_warning)
{
    char dir[32];
    char path[64];
    char *paths[] = {path, (char[]){"/nonexistent/x.ko"}};
    struct report report;

    make_dir(dir);
    (void)snprintf(path, sizeof(path), "%s/y.ko", dir);
    CHECK_INT(setup_file(path, "not a module", 12), 0);
    report_init(&report);
    modules_load(paths, 2, &report);
    CHECK_INT(report.warning_count, 2);
    CHECK_HAS(report.warnings[0], "load module 'y.ko'");
    CHECK_HAS(report.warnings[1], "load module 'x.ko': No such file");
    CHECK_INT(access(path, F_OK), -1); /* memory given back */
    report_fini(&report);
    drop_dir(dir);
}

/* ---- loop ---- */

struct beats {
    struct reactor reactor;
    struct ticker first;
    struct ticker second;
    struct watch watch;
    char order[8];
    size_t count;
};

static void note(struct beats *beats, char what)
{
    beats->order[beats->count++] = what;
}

static void on_first(struct ticker *ticker)
{
    note(container_of(ticker, struct beats, first), '1');
}

static void on_second(struct ticker *ticker)
{
    struct beats *beats = container_of(ticker, struct beats, second);

    note(beats, '2');
    reactor_stop(&beats->reactor);
}

static void on_watch(struct watch *watch, uint32_t events)
{
    CHECK(events & EPOLLIN);
    note(container_of(watch, struct beats, watch), 'w');
    watch_drop(watch);
    watch_drop(watch);
}

TEST(reactor, calls_in_order_and_only_what_is_wanted)
{
    struct beats beats = {0};
    int fds[2];

    CHECK_INT(reactor_init(&beats.reactor), 0);
    CHECK(pipe2(fds, O_CLOEXEC) == 0 && write(fds[1], "x", 1) == 1);
    watch_init(&beats.watch, &beats.reactor, fds[0], on_watch);
    CHECK_INT(watch_want(&beats.watch, EPOLLIN), 0);
    ticker_init(&beats.first, &beats.reactor, on_first);
    ticker_init(&beats.second, &beats.reactor, on_second);
    ticker_arm(&beats.second, 40 * NS_PER_MS);
    ticker_arm(&beats.first, NS_PER_S);
    ticker_arm(&beats.first, 20 * NS_PER_MS); /* replaces */
    CHECK(ticker_is_armed(&beats.first));
    CHECK_INT(reactor_run(&beats.reactor), 0);
    CHECK_STR(beats.order, "w12");
    CHECK(!ticker_is_armed(&beats.first));
    ticker_cancel(&beats.first);
    (void)close(fds[1]);
    reactor_fini(&beats.reactor);
}

/* ---- announce ---- */

static int g_far = -1; /* the host's end */
static unsigned g_dials;

static int dial(void)
{
    int fds[2];

    if (g_dials++ == 0) {
        return -ECONNREFUSED; /* the host is not there yet */
    }
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    g_far = fds[1];
    return fds[0];
}

static void on_lost(void *owner, int code)
{
    struct announce *announce = owner;

    if (code == 0) {
        reactor_stop(announce->reactor);
    }
}

static void on_later(struct ticker *ticker)
{
    (void)shutdown(g_far, SHUT_RDWR);
    ticker_cancel(ticker);
}

TEST(announce, dials_again_says_ready_and_beats)
{
    struct reactor reactor;
    struct report report;
    struct announce announce;
    struct ticker later;
    uint8_t got[1024];
    ssize_t len;
    uint32_t size;

    g_dials = 0;
    CHECK_INT(reactor_init(&reactor), 0);
    report_init(&report);
    report_phase(&report, "one");
    (void)err_set(&report.error, -EIO, "broken");
    announce_init(&announce, &reactor, &report, dial);
    announce.lost = on_lost;
    announce.owner = &announce;
    ticker_init(&later, &reactor, on_later);
    ticker_arm(&later, 2500 * NS_PER_MS);
    announce_start(&announce);
    CHECK_INT(reactor_run(&reactor), 0);
    CHECK_INT(g_dials, 2);
    len = recv(g_far, got, sizeof(got), 0);
    CHECK(len > 4);
    size = load_le32(got);
    CHECK_INT(len, 4 + size + 4); /* Ready, one beat */
    CHECK(memmem(got, (size_t)len, "broken", 6) != NULL);
    CHECK_INT(load_le32(got + 4 + size), 0);
    (void)close(g_far);
    announce_fini(&announce);
    report_fini(&report);
    reactor_fini(&reactor);
}

/* ---- spawn ---- */

TEST(spawn, limits_beyond_reason_are_a_bad_request)
{
    char name[] = "true";
    char path[] = "PATH=";
    char *argv[] = {name, NULL};
    char *env[] = {path, NULL};
    const struct spawn_limit limit = {.resource = 99};
    struct spawn spawn = {.argv = argv, .env = env, .cwd = "/", .limits = &limit, .limit_count = 1};
    enum spawn_fault fault;
    struct err err = {0};

    spawn.user.uid = geteuid();
    spawn.user.gid = getegid();
    spawn.out = 1;
    spawn.err = 2;
    CHECK_INT(spawn_start(&spawn, &fault, &err), -EINVAL);
    CHECK_INT(fault, SPAWN_BAD_REQUEST);
    CHECK_HAS(err.text, "resource limit 99");
    spawn.limit_count = 0;
    CHECK_INT(spawn_start(&spawn, &fault, &err), -ENOENT); /* PATH is empty: the current folder */
    CHECK_INT(fault, SPAWN_NOT_FOUND);
    spawn.in = 999;
    CHECK_INT(spawn_start(&spawn, &fault, &err), -EBADF);
    CHECK_INT(fault, SPAWN_INTERNAL);
}
