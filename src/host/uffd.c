/* uffd.c — register memory with userfaultfd and hand it to who serves it. */
#include "host/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/os_error.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

struct uffd {
    int fd;
    int socket;
};

static int failed(struct err *err, const char *what)
{
    char text[OS_ERROR_MAX];
    int code = -errno;

    return err_set(err, code, "%s: %s", what, os_error(code, text));
}

/* By the device node, which a jail can offer without a privilege, else by the system call. */
static int new_fd(void)
{
    AUTO_CLOSE int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

    if (dev >= 0) {
        int fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

        if (fd >= 0) {
            return fd;
        }
    }
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

/* The server must hear of pages that are given back: they are zero after. */
static int set_up(int fd, const struct uffd_range *ranges, unsigned count, struct err *err)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};

    if (ioctl(fd, UFFDIO_API, &api) < 0) {
        return failed(err, "Failed to create UFFD object");
    }
    for (unsigned i = 0; i < count; i++) {
        struct uffdio_register reg = {
            .range = {.start = (uintptr_t)ranges[i].host, .len = ranges[i].len},
            .mode = UFFDIO_REGISTER_MODE_MISSING};

        if (ioctl(fd, UFFDIO_REGISTER, &reg) < 0) {
            return failed(err, "Failed to register memory address range with the UFFD object");
        }
    }
    return 0;
}

/* The name of page_size_kib is not what it holds: it is kept for old servers. */
static void describe(struct buf *text, const struct uffd_range *ranges, unsigned count,
                     unsigned page_size)
{
    for (unsigned i = 0; i < count; i++) {
        buf_printf(text,
                   "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,"
                   "\"page_size\":%u,\"page_size_kib\":%u}",
                   i ? "," : "[", (unsigned long long)(uintptr_t)ranges[i].host,
                   (unsigned long long)ranges[i].len, (unsigned long long)ranges[i].offset,
                   page_size, page_size);
    }
    buf_append_str(text, "]");
}

static int connect_to(const char *path, struct err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    errno = fd < 0 ? errno : EINVAL;
    if (fd < 0 || strlen(path) >= sizeof(addr.sun_path)) {
        return failed(err, "Failed to connect to UDS Unix stream");
    }
    memcpy(addr.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return failed(err, "Failed to connect to UDS Unix stream");
    }
    return take_fd(&fd);
}

static int send_fd(int to, int fd, const struct buf *text, struct err *err)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec iov = {.iov_base = text->data, .iov_len = text->len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};

    control.head = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
    if (sendmsg(to, &msg, MSG_NOSIGNAL) != (ssize_t)text->len) {
        return failed(err, "Failed to send file descriptor to the page fault handler");
    }
    return 0;
}

static int hand_over(struct uffd *uffd, const struct uffd_range *ranges, unsigned count,
                     unsigned page_size, const char *path, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf text = {0};
    int r;

    uffd->fd = new_fd();
    if (uffd->fd < 0) {
        return failed(err, "Failed to create UFFD object");
    }
    r = set_up(uffd->fd, ranges, count, err);
    if (r < 0) {
        return r;
    }
    uffd->socket = connect_to(path, err);
    if (uffd->socket < 0) {
        return uffd->socket;
    }
    describe(&text, ranges, count, page_size);
    r = buf_status(&text);
    return r < 0 ? err_set(err, r, "out of memory") : send_fd(uffd->socket, uffd->fd, &text, err);
}

int uffd_open(const struct uffd_range *ranges, unsigned count, bool has_big_pages, const char *path,
              struct uffd **ret_uffd, struct err *err)
{
    struct uffd *uffd = calloc(1, sizeof(*uffd));
    int r;

    if (!uffd) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    uffd->fd = uffd->socket = -1;
    r = hand_over(uffd, ranges, count, has_big_pages ? 2u << 20 : 4096, path, err);
    if (r < 0) {
        uffd_close(uffd);
        return r;
    }
    *ret_uffd = uffd;
    return 0;
}

void uffd_close(struct uffd *uffd)
{
    if (!uffd) {
        return;
    }
    if (uffd->socket >= 0) {
        (void)close(uffd->socket);
    }
    if (uffd->fd >= 0) {
        (void)close(uffd->fd);
    }
    free(uffd);
}
