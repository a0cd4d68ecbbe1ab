/* tap.c — frames over a TAP interface of the host.
 *
 * Theory of operation.  The descriptor is watched edge-triggered: the device reads until the TAP is
 * empty or its own buffers are, and in the second case comes back by itself.  The kernel checks
 * the virtio-net header that the guest put in front of a frame.
 */
#include "host/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/os_error.h"
#include "io/loop.h"

#define TUN_PATH "/dev/net/tun"

struct tap {
    struct net_port base;
    int fd;
    struct loop *loop; /* NULL while stopped */
    struct net_client client;
};

static struct tap *tap_of(struct net_port *port)
{
    return container_of(port, struct tap, base);
}

static void on_event(void *owner, int fd, uint32_t events)
{
    struct tap *tap = owner;

    (void)fd;
    (void)events;
    tap->client.readable(tap->client.owner);
}

static int tap_start(struct net_port *port, struct loop *loop, const struct net_client *client)
{
    struct tap *tap = tap_of(port);
    int r = loop_add_fd(loop, tap->fd, EPOLLIN | EPOLLET, on_event, tap);

    if (r == 0) {
        tap->loop = loop;
        tap->client = *client;
    }
    return r;
}

static void tap_stop(struct net_port *port)
{
    struct tap *tap = tap_of(port);

    if (tap->loop) {
        loop_del_fd(tap->loop, tap->fd);
        tap->loop = NULL;
    }
}

static int tap_set_offload(struct net_port *port, unsigned offload)
{
    static const struct {
        unsigned offload;
        unsigned flag;
    } map[] = {{NET_OFFLOAD_CSUM, TUN_F_CSUM},
               {NET_OFFLOAD_TSO4, TUN_F_TSO4},
               {NET_OFFLOAD_TSO6, TUN_F_TSO6},
               {NET_OFFLOAD_UFO, TUN_F_UFO}};
    unsigned long flags = 0;

    for (unsigned i = 0; i < ARRAY_LEN(map); i++) {
        flags |= (offload & map[i].offload) ? map[i].flag : 0;
    }
    return ioctl(tap_of(port)->fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

static ssize_t tap_recv(struct net_port *port, const struct iovec *iov, unsigned count)
{
    ssize_t n = readv(tap_of(port)->fd, iov, (int)count);

    return n < 0 ? -errno : n;
}

static int tap_send(struct net_port *port, const struct iovec *iov, unsigned count)
{
    return writev(tap_of(port)->fd, iov, (int)count) < 0 ? -errno : 0;
}

static void tap_free(struct net_port *port)
{
    struct tap *tap = tap_of(port);

    tap_stop(port);
    (void)close(tap->fd);
    free(tap);
}

static const struct net_port_ops tap_ops = {
    .start = tap_start,
    .stop = tap_stop,
    .set_offload = tap_set_offload,
    .recv = tap_recv,
    .send = tap_send,
    .free = tap_free,
};

/* Make `fd` the other end of the interface `name`. */
static int attach(int fd, const char *name, struct err *err)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int hdr_bytes = NET_HDR_BYTES;
    char text[OS_ERROR_MAX];

    memcpy(ifr.ifr_name, name, strlen(name));
    if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
        int code = errno;

        return err_set(err, -code,
                       "Error while creating ifreq structure: %s. Invalid TUN/TAP Backend provided "
                       "by %s. Check our documentation on setting up the network devices.",
                       os_error(code, text), name);
    }
    if (ioctl(fd, TUNSETVNETHDRSZ, &hdr_bytes) < 0) {
        return err_set(err, -errno, "Error while setting size of the vnet header: %s",
                       os_error(errno, text));
    }
    return 0;
}

int tap_open(const char *name, struct net_port **ret_port, struct err *err)
{
    AUTO_CLOSE int fd = -1;
    struct tap *tap;
    char text[OS_ERROR_MAX];
    int r;

    if (strlen(name) > TAP_NAME_MAX) {
        return err_set(err, -EINVAL, "Invalid interface name");
    }
    fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, -errno, "Couldn't open " TUN_PATH ": %s", os_error(errno, text));
    }
    r = attach(fd, name, err);
    if (r < 0) {
        return r;
    }
    tap = calloc(1, sizeof(*tap));
    if (!tap) {
        return err_set(err, -ENOMEM, "TAP '%s': out of memory", name);
    }
    tap->base.ops = &tap_ops;
    tap->fd = take_fd(&fd);
    *ret_port = &tap->base;
    return 0;
}
