/* main.c — PID 1 of the guest: modules, root, mounts, then commands from the host.
 *
 * Order.  The listening socket exists before the root does, so that a host that connects early is
 * held and not refused.  A boot that fails still announces itself, with the reason, as long as
 * there is vsock; without vsock the console is the only way out.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* After sys/socket.h, which it needs. */
#include <linux/vm_sockets.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "guest/init/announce.h"
#include "guest/init/core.h"
#include "guest/init/module.h"
#include "guest/init/mounts.h"
#include "guest/init/power.h"
#include "guest/init/server.h"
#include "guest/init/setup.h"
#include "proto/exec_msg.h"

enum { BOOT_FILE_MAX = 16 * 1024 * 1024, BACKLOG = 128 };

/* A host that was told of a failed boot ends us; if it does not, we do. */
#define FAILED_WAIT_NS (5 * NS_PER_S)

struct init {
    struct report report;
    struct reactor reactor;
    struct server server;
    struct announce announce;
    struct power power;
    struct watch signals;
    struct ticker give_up;
};

static void die(const char *why) __attribute__((noreturn));

/* The host looks for this line on the console. */
static void die(const char *why)
{
    char line[ERR_TEXT_MAX + 64];
    int len = snprintf(line, sizeof(line), "\n" EXEC_FATAL_PREFIX "%s\n", why);

    (void)!write(STDERR_FILENO, line, (size_t)len);
    power_now(POWER_OFF);
}

/* A kernel without a console leaves us without descriptors; a pipe must not become number 1. */
static void open_standard_files(void)
{
    int fd;

    (void)mkdir("/dev", 0755);
    (void)mknod("/dev/console", S_IFCHR | 0600, makedev(5, 1));
    (void)mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3));
    do {
        fd = open("/dev/console", O_RDWR | O_NOCTTY); /* NOLINT(android-cloexec-open): for all */
        if (fd < 0) {
            fd = open("/dev/null", O_RDWR); /* NOLINT(android-cloexec-open): for all */
        }
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        (void)close(fd);
    }
}

static int read_config(Ec1__V1__BootConfig **ret_config, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf file = {0};
    int r = buf_read_file(&file, EXEC_BOOT_FILE, BOOT_FILE_MAX);

    if (r < 0) {
        return err_set(err, r, "read '%s': %s", EXEC_BOOT_FILE, strerror(-r));
    }
    (void)unlink(EXEC_BOOT_FILE);
    *ret_config = ec1__v1__boot_config__unpack(NULL, file.len, file.data);
    if (!*ret_config) {
        return err_set(err, -EINVAL, "'%s' is not a BootConfig", EXEC_BOOT_FILE);
    }
    return 0;
}

/* ---- vsock ---- */

static int listen_vsock(struct err *err)
{
    AUTO_CLOSE int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_vm addr = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = EXEC_PORT};

    if (fd < 0 && errno == EAFNOSUPPORT) {
        return err_set(err, -EAFNOSUPPORT,
                       "no vsock: the kernel needs CONFIG_VSOCKETS and "
                       "CONFIG_VIRTIO_VSOCKETS");
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0) {
        return err_sys(err, "listen on vsock port %d", EXEC_PORT);
    }
    return take_fd(&fd);
}

static int dial_vsock(void)
{
    AUTO_CLOSE int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_vm addr = {
        .svm_family = AF_VSOCK, .svm_cid = EXEC_HOST_CID, .svm_port = READY_PORT};

    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno != EINPROGRESS) {
        return -errno;
    }
    return take_fd(&fd);
}

static void on_lost(void *owner, int code)
{
    struct init *init = owner;

    if (code == -ENODEV) {
        die("no vsock device: the kernel needs CONFIG_VIRTIO_VSOCKETS and CONFIG_VIRTIO_MMIO, and "
            "the machine must have the device");
    }
    /* The host knows why the boot failed and has hung up. */
    if (init->report.error.code && code == 0) {
        power_now(POWER_OFF);
    }
}

static void on_give_up(struct ticker *ticker)
{
    (void)ticker;
    power_now(POWER_OFF);
}

/* ---- the boot ---- */

static int mount_shares(const Ec1__V1__BootConfig *config, const int *kept, struct report *report,
                        struct err *err)
{
    for (size_t i = 0; i < config->n_mounts; i++) {
        struct err why = {0};
        int r = mounts_share(config->mounts[i], kept[i], &why);

        if (r < 0 && !config->mounts[i]->optional) {
            *err = why;
            return r;
        }
        if (r < 0) {
            report_warn(report, "%s", err_text(&why));
        }
    }
    mounts_done();
    return 0;
}

static int mount_all(const Ec1__V1__BootConfig *config, struct report *report, struct err *err)
{
    AUTO_FREE int *kept = calloc(config->n_mounts + 1, sizeof(*kept));
    int r = kept ? 0 : err_set(err, -ENOMEM, "out of memory");

    if (r == 0 && config->root && config->root->tag[0]) {
        r = mounts_enter_root(config->root, err);
    }
    report_phase(report, "root");
    for (size_t i = 0; r == 0 && i < config->n_mounts; i++) {
        kept[i] = mounts_keep(config->mounts[i]); /* NOLINT(clang-analyzer-core.NullDereference): r
                                                     is 0, so it is set */
    }
    if (r == 0) {
        r = mounts_private(report, err);
    }
    if (r == 0) {
        r = mount_shares(config, kept, report, err);
    }
    for (size_t i = 0; kept && i < config->n_mounts; i++) {
        if (kept[i] > 0) {
            (void)close(kept[i]);
        }
    }
    report_phase(report, "mounts");
    return r;
}

static void boot(struct init *init, const Ec1__V1__BootConfig *config, int *ret_listener)
{
    struct report *report = &init->report;
    struct err err = {0};

    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): die() does not return */
    modules_load(config->modules, config->n_modules, report);
    report_phase(report, "modules");
    *ret_listener = listen_vsock(&err);
    if (*ret_listener < 0) {
        die(err_text(&err));
    }
    if (mount_all(config, report, &report->error) < 0) {
        log_error("%s", err_text(&report->error));
        return;
    }
    setup_system(config, report);
    report_phase(report, "setup");
}

static void after_callback(void *owner)
{
    struct init *init = owner;

    server_flush(&init->server);
}

static void on_shutdown(void *owner, bool reboot)
{
    struct init *init = owner;

    power_begin(&init->power, reboot ? POWER_REBOOT : POWER_OFF);
}

static void on_power_signal(void *owner)
{
    struct init *init = owner;

    init->server.jobs.holds_exits = true;
}

static int serve(struct init *init, int listener)
{
    int r = server_init(&init->server, &init->reactor, listener, &init->report);

    if (r < 0) {
        return r;
    }
    init->server.shutdown = on_shutdown;
    init->server.owner = init;
    init->reactor.after = after_callback;
    init->reactor.owner = init;
    power_init(&init->power, &init->reactor);
    init->power.asked = on_power_signal;
    init->power.owner = init;
    r = power_watch_signals(&init->power, &init->signals, &init->reactor);
    if (r < 0) {
        return r;
    }
    announce_init(&init->announce, &init->reactor, &init->report, dial_vsock);
    init->announce.lost = on_lost;
    init->announce.owner = init;
    ticker_init(&init->give_up, &init->reactor, on_give_up);
    if (init->report.error.code) {
        ticker_arm(&init->give_up, FAILED_WAIT_NS);
    }
    announce_start(&init->announce);
    return reactor_run(&init->reactor);
}

int main(int argc, char **argv)
{
    static struct init init;
    Ec1__V1__BootConfig *config = NULL;
    struct err err = {0};
    int listener = -1;

    if (getpid() != 1 && argc > 1 && strcmp(argv[1], "core") == 0) {
        return core_main(argc, argv);
    }
    if (getpid() != 1) {
        (void)fprintf(stderr, "ec1-init: this is PID 1 of a VM and does nothing elsewhere\n");
        return 1;
    }
    open_standard_files();
    (void)setsid(); /* the session of commands without a terminal; the kernel starts us in none */
    log_set_name("ec1-init");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(022);
    report_init(&init.report);
    report_phase(&init.report, "init");
    if (read_config(&config, &err) < 0 || reactor_init(&init.reactor) < 0) {
        die(err.code ? err_text(&err) : "no epoll: the kernel needs CONFIG_EPOLL");
    }
    boot(&init, config, &listener);
    ec1__v1__boot_config__free_unpacked(config, NULL);
    (void)err_set(&err, serve(&init, listener), "the event loop ended");
    die(err_text(&err));
}
