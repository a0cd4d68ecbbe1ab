/* tap_test.c — TAP interfaces of a network namespace of the test's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/tap.h"
#include "tests/lib/test.h"

/* Leave for a namespace without interfaces, and open the device there. */
#define NEED_TUN()                                                  \
    do {                                                            \
        if (unshare(CLONE_NEWNET) < 0) {                            \
            SKIP("no network namespace can be made: no privilege"); \
        }                                                           \
        if (access("/dev/net/tun", R_OK | W_OK) < 0) {              \
            SKIP("/dev/net/tun cannot be opened");                  \
        }                                                           \
    } while (0)

static void bring_up(const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    (void)strcpy(ifr.ifr_name, name);
    CHECK(fd >= 0);
    CHECK_INT(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
    (void)close(fd);
}

TEST(tap, frames_cross_the_interface_in_both_directions)
{
    struct net_port *port = NULL;
    struct err err = {0};
    uint8_t frame[12 + 60] = {0};
    uint8_t got[2048];
    struct iovec out = {.iov_base = frame, .iov_len = sizeof(frame)};
    struct iovec in[2] = {{.iov_base = got, .iov_len = 100},
                          {.iov_base = got + 100, .iov_len = 1900}};
    int packet;

    NEED_TUN();
    CHECK_OK(tap_open("ec1test0", &port, &err), &err);
    bring_up("ec1test0");
    packet = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(0x88b5));
    CHECK(packet >= 0);
    memset(frame + 12, 0xff, 6);
    frame[12 + 12] = 0x88; /* an EtherType for experiments: IEEE 802, 88B5 */
    frame[12 + 13] = 0xb5;
    frame[12 + 14] = 42;
    CHECK_INT(port->ops->send(port, &out, 1), 0);
    CHECK_INT(recv(packet, got, sizeof(got), 0), 60);
    CHECK_INT(got[14], 42);
    {
        struct sockaddr_ll {
            unsigned short family, protocol;
            int ifindex;
            unsigned short hatype;
            unsigned char pkttype, halen, addr[8];
        } to = {.family = AF_PACKET, .ifindex = (int)if_nametoindex("ec1test0"), .halen = 6};

        CHECK_INT(sendto(packet, frame + 12, 60, 0, (struct sockaddr *)&to, sizeof(to)), 60);
    }
    for (;;) { /* the kernel's own packets come, too */
        ssize_t n = port->ops->recv(port, in, 2);

        CHECK(n > 0);
        if (got[12 + 12] == 0x88 && got[12 + 13] == 0xb5) {
            CHECK_INT(n, 72);
            CHECK_INT(got[12 + 14], 42);
            break;
        }
    }
    CHECK_INT(port->ops->set_offload(port, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 |
                                               NET_OFFLOAD_UFO),
              0);
    CHECK_INT(port->ops->set_offload(port, 0), 0);
    (void)close(packet);
    net_port_free(port);
}

TEST(tap, one_that_is_in_use_or_has_several_queues_is_refused_in_the_interfaces_words)
{
    struct net_port *port = NULL;
    struct net_port *second = NULL;
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, .ifr_name = "ec1test1"};
    struct err err = {0};
    int fd;

    NEED_TUN();
    CHECK_OK(tap_open("ec1test0", &port, &err), &err);
    CHECK_INT(tap_open("ec1test0", &second, &err), -EBUSY);
    CHECK_STR(err.text,
              "Error while creating ifreq structure: Resource busy (os error 16). Invalid TUN/TAP "
              "Backend provided by ec1test0. Check our documentation on setting up the network "
              "devices.");
    net_port_free(port);
    fd = open("/dev/net/tun", O_RDWR);
    CHECK_INT(ioctl(fd, TUNSETIFF, &ifr), 0);
    CHECK_INT(tap_open("ec1test1", &second, &err), -EINVAL);
    CHECK_HAS(err.text, "Invalid argument (os error 22)");
    (void)close(fd);
    CHECK_OK(tap_open("ec1test0", &port, &err), &err); /* free again */
    net_port_free(port);
}

TEST(tap, a_long_name_is_refused)
{
    struct net_port *port = NULL;
    struct err err = {0};

    CHECK_INT(tap_open("sixteen_letters_", &port, &err), -EINVAL);
    CHECK_STR(err.text, "Invalid interface name");
}
