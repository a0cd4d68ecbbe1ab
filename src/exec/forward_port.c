/* forward_port.c — "[ADDRESS:]HOST:GUEST" for people. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "exec/forward.h"

static bool is_address(const char *text)
{
    struct in6_addr any;

    return inet_pton(AF_INET, text, &any) == 1 || inet_pton(AF_INET6, text, &any) == 1;
}

static int parse_number(const char *whole, const char *text, uint64_t min, uint16_t *ret_port)
{
    uint64_t port;

    if (str_to_u64(whole, text, min, UINT16_MAX, &port, NULL) < 0) {
        return -EINVAL;
    }
    *ret_port = (uint16_t)port;
    return 0;
}

/* Cuts `text` at its last ':', returns what follows, or NULL. */
static char *cut_last(char *text)
{
    char *colon = strrchr(text, ':');

    if (colon) {
        *colon++ = 0;
    }
    return colon;
}

static int parse(char *text, struct forward_port *port)
{
    char *guest = cut_last(text);
    char *host = guest ? cut_last(text) : NULL;
    char *address = host ? text : NULL;

    if (!guest) {
        return -EINVAL;
    }
    if (!host) {
        host = text;
    }
    if (address && address[0] == '[' && str_has_suffix(address, "]")) {
        address[strlen(address) - 1] = 0;
        address++;
    }
    if (!address) {
        (void)snprintf(port->address, sizeof(port->address), "127.0.0.1");
    } else if (!is_address(address) || strlen(address) >= sizeof(port->address)) {
        return -EINVAL;
    } else {
        (void)snprintf(port->address, sizeof(port->address), "%s", address);
    }
    return parse_number("port", host, 0, &port->host) < 0 ||
                   parse_number("port", guest, 1, &port->guest) < 0
               ? -EINVAL
               : 0;
}

int forward_port_parse(const char *text, struct forward_port *ret_port, struct err *err)
{
    struct forward_port port;
    char copy[128];
    int len = snprintf(copy, sizeof(copy), "%s", text);

    if (str_has_suffix(copy, "/tcp")) {
        copy[strlen(copy) - 4] = 0;
    }
    if (len < 0 || (size_t)len >= sizeof(copy) || parse(copy, &port) < 0) {
        return err_set(
            err, -EINVAL,
            "publish '%s': must be [ADDRESS:]HOST:GUEST, a numeric address of this host, "
            "TCP ports from 1 to 65535, HOST 0 for any that is free",
            text);
    }
    *ret_port = port;
    return 0;
}

int forward_ports_add(struct forward_ports *ports, const char *text, struct err *err)
{
    int r;

    if (ports->count == FORWARD_PORTS_MAX) {
        return err_set(err, -E2BIG, "publish '%s': at most %d ports", text, FORWARD_PORTS_MAX);
    }
    r = forward_port_parse(text, &ports->items[ports->count], err);
    ports->count += r == 0;
    return r;
}
