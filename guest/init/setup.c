/* setup.c — names, loopback, limits, sysctls, time. */
#include "guest/init/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/clock.h"
#include "guest/init/core.h"

enum { HOSTS_MAX = 1024 * 1024 };

static int write_all(int fd, const void *data, size_t len)
{
    for (const char *at = data; len;) {
        ssize_t put = write(fd, at, len);

        if (put < 0) {
            return -errno;
        }
        at += put;
        len -= (size_t)put;
    }
    return 0;
}

int setup_file(const char *path, const void *data, size_t len)
{
    AUTO_CLOSE int fd = -1;

    if (unlink(path) < 0 && errno != ENOENT) {
        return -errno;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : write_all(fd, data, len);
}

/* Is `name` a word of its own on some line, not in a comment? */
static bool has_host(char *text, const char *name)
{
    char *lines = NULL;

    for (char *line = strtok_r(text, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
        char *words = NULL;

        line[strcspn(line, "#")] = 0;
        for (char *word = strtok_r(line, " \t", &words); word;
             word = strtok_r(NULL, " \t", &words)) {
            if (strcmp(word, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

int setup_hosts(const char *path, const char *hostname)
{
    static const char localhost[] = "127.0.0.1\tlocalhost\n::1\tlocalhost\n";
    AUTO_CALL(buf_fini) struct buf old = {0};
    AUTO_CALL(buf_fini) struct buf copy = {0};
    int r = buf_read_file(&old, path, HOSTS_MAX);

    if (r == -ENOENT) {
        buf_append_str(&old, localhost);
    } else if (r < 0) {
        return r;
    }
    buf_append_str(&copy, buf_str(&old));
    if (copy.data && has_host((char *)copy.data, hostname)) {
        return 0;
    }
    if (old.len && old.data[old.len - 1] != '\n') {
        buf_append_str(&old, "\n");
    }
    buf_printf(&old, "127.0.1.1\t%s\n", hostname);
    r = buf_status(&old);
    return r < 0 ? r : setup_file(path, old.data, old.len);
}

int setup_sysctl(const char *root, const char *name, const char *value)
{
    AUTO_CLOSE int fd = -1;
    char path[512];
    size_t start;
    int len = snprintf(path, sizeof(path), "%s/%s", root, name);

    if (len < 0 || (size_t)len >= sizeof(path) || strstr(name, "..")) {
        return -EINVAL;
    }
    start = strlen(root) + 1;
    /* As sysctl(8): the first separator tells which one is in use. */
    if (name[strcspn(name, "./")] == '.') {
        for (char *c = path + start; *c; c++) {
            if (*c == '.') {
                *c = '/';
            } else if (*c == '/') {
                *c = '.';
            }
        }
    }
    fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : write_all(fd, value, strlen(value));
}

static int raise_loopback(void)
{
    AUTO_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};

    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0) {
        return -errno;
    }
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* What commands inherit, unless an exec asks for other limits; see make_limits() for files. */
static void set_limits(void)
{
    const struct rlimit core = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    const struct rlimit files = {.rlim_cur = 1024 * 1024, .rlim_max = 1024 * 1024};

    (void)setrlimit(RLIMIT_CORE, &core);
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

static int move_clock(int64_t offset_ns)
{
    int64_t now = clock_wall_ns() + offset_ns;
    struct timespec ts = {.tv_sec = now / NS_PER_S, .tv_nsec = now % NS_PER_S};

    return clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

static void set_names(const Ec1__V1__BootConfig *config, struct report *report)
{
    const char *name = config->hostname;
    int r;

    (void)mkdir("/etc", 0755);
    if (name[0]) {
        if (sethostname(name, strlen(name)) < 0) {
            report_warn(report, "hostname '%s': %s", name, strerror(errno));
        }
        r = setup_hosts("/etc/hosts", name);
        if (r < 0) {
            report_warn(report, "/etc/hosts: %s", strerror(-r));
        }
    }
    if (config->resolv_conf.len) {
        r = setup_file("/etc/resolv.conf", config->resolv_conf.data, config->resolv_conf.len);
        if (r < 0) {
            report_warn(report, "/etc/resolv.conf: %s", strerror(-r));
        }
    }
}

void setup_system(const Ec1__V1__BootConfig *config, struct report *report)
{
    int r = raise_loopback();

    if (r < 0) {
        report_warn(report, "loopback interface: %s (CONFIG_INET)", strerror(-r));
    }
    set_limits();
    set_names(config, report);
    if (config->core_dir.len) {
        core_setup(config->core_dir.data, config->core_dir.len, report);
    }
    for (size_t i = 0; i < config->n_sysctls; i++) {
        const Ec1__V1__Sysctl *sysctl = config->sysctls[i];

        r = setup_sysctl("/proc/sys", sysctl->name, sysctl->value);
        if (r < 0) {
            report_warn(report, "sysctl '%s': %s", sysctl->name, strerror(-r));
        }
    }
    if (config->wall_clock_offset_ns) {
        r = move_clock(config->wall_clock_offset_ns);
        if (r < 0) {
            report_warn(report, "set the clock: %s", strerror(-r));
        }
    }
}
