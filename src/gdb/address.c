/* address.c — see address.h. */
#include "gdb/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/str.h"

#define UNIX_PREFIX "unix:"

union any_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

struct place {
    union any_address at;
    socklen_t len;
};

static int refuse(const char *address, struct err *err)
{
    return err_set(err, -EINVAL,
                   "gdb address '%s': must be PORT, HOST:PORT (an IP address or localhost) or "
                   "unix:PATH",
                   address);
}

static int parse_unix(const char *address, struct place *place, struct err *err)
{
    const char *path = address + strlen(UNIX_PREFIX);
    struct sockaddr_un *un = &place->at.un;

    if (!path[0] || strlen(path) >= sizeof(un->sun_path) || strlen(address) >= GDB_ADDRESS_MAX) {
        return err_set(err, -EINVAL, "gdb address '%s': the path must have 1 to %zu bytes", address,
                       sizeof(un->sun_path) - 1);
    }
    un->sun_family = AF_UNIX;
    (void)snprintf(un->sun_path, sizeof(un->sun_path), "%s", path);
    place->len = sizeof(*un);
    return 0;
}

/* Host and port apart: "[::1]:1234", "127.0.0.1:1234", ":1234", "1234". */
static bool split(const char *address, char host[static 64], const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    *ret_port = colon ? colon + 1 : address;
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (len >= 64) {
        return false;
    }
    memcpy(host, address, len);
    host[len] = 0;
    return true;
}

static int parse_inet(const char *address, struct place *place, struct err *err)
{
    char host[64];
    const char *port_text;
    uint64_t port;

    if (!split(address, host, &port_text) ||
        str_to_u64("port", port_text, 0, UINT16_MAX, &port, NULL) < 0) {
        return refuse(address, err);
    }
    if (!host[0] || strcmp(host, "localhost") == 0) {
        (void)snprintf(host, sizeof(host), "127.0.0.1");
    }
    if (inet_pton(AF_INET, host, &place->at.in.sin_addr) == 1) {
        place->at.in.sin_family = AF_INET;
        place->at.in.sin_port = htons((uint16_t)port);
        place->len = sizeof(place->at.in);
        return 0;
    }
    if (inet_pton(AF_INET6, host, &place->at.in6.sin6_addr) == 1) {
        place->at.in6.sin6_family = AF_INET6;
        place->at.in6.sin6_port = htons((uint16_t)port);
        place->len = sizeof(place->at.in6);
        return 0;
    }
    return refuse(address, err);
}

/* As it is bound, with the port that was chosen. */
static int text_of(int fd, const char *address, char text[static GDB_ADDRESS_MAX])
{
    union any_address at = {.any = {0}};
    socklen_t len = sizeof(at);
    char host[INET6_ADDRSTRLEN] = "";

    if (str_has_prefix(address, UNIX_PREFIX)) {
        (void)snprintf(text, GDB_ADDRESS_MAX, "%s", address);
        return 0;
    }
    if (getsockname(fd, &at.any, &len) < 0) {
        return -errno;
    }
    if (at.any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &at.in6.sin6_addr, host, sizeof(host));
        (void)snprintf(text, GDB_ADDRESS_MAX, "[%s]:%u", host, ntohs(at.in6.sin6_port));
    } else if (at.in.sin_addr.s_addr == htonl(INADDR_LOOPBACK)) {
        (void)snprintf(text, GDB_ADDRESS_MAX, "localhost:%u", ntohs(at.in.sin_port));
    } else {
        (void)inet_ntop(AF_INET, &at.in.sin_addr, host, sizeof(host));
        (void)snprintf(text, GDB_ADDRESS_MAX, "%s:%u", host, ntohs(at.in.sin_port));
    }
    return 0;
}

int gdb_listen(const char *address, char ret_text[static GDB_ADDRESS_MAX], struct err *err)
{
    struct place place = {.len = 0};
    AUTO_CLOSE int fd = -1;
    int on = 1;
    int r;

    address = address[0] ? address : GDB_ADDRESS_DEFAULT;
    r = str_has_prefix(address, UNIX_PREFIX) ? parse_unix(address, &place, err)
                                             : parse_inet(address, &place, err);
    if (r < 0) {
        return r;
    }
    fd = socket(place.at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_sys(err, "gdb: socket");
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    (void)fchmod(fd, 0600); /* of a Unix socket, before it has a name */
    if (bind(fd, &place.at.any, place.len) < 0 || listen(fd, 1) < 0) {
        return err_sys(err, "gdb: listen at '%s'", address);
    }
    r = text_of(fd, address, ret_text);
    return r < 0 ? err_set(err, r, "gdb: address of the socket: %s", strerror(-r)) : take_fd(&fd);
}

void gdb_unlisten(const char *text)
{
    if (str_has_prefix(text, UNIX_PREFIX)) {
        (void)unlink(text + strlen(UNIX_PREFIX));
    }
}
