/* forward_port_test.c — "[ADDRESS:]HOST:GUEST". */
#include <errno.h>

#include "base/bits.h"
#include "exec/forward.h"
#include "tests/lib/test.h"

TEST(forward, ports_are_written_as_docker_does)
{
    static const struct {
        const char *text;
        struct forward_port want;
    } cases[] = {
        {"2345:80", {"127.0.0.1", 2345, 80}},   {"0:65535", {"127.0.0.1", 0, 65535}},
        {"127.0.0.2:1:2", {"127.0.0.2", 1, 2}}, {"0.0.0.0:1:2/tcp", {"0.0.0.0", 1, 2}},
        {"[::1]:1:2", {"::1", 1, 2}},           {"::1:1:2", {"::1", 1, 2}},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct forward_port port;
        struct err err = {0};

        CHECK_OK(forward_port_parse(cases[i].text, &port, &err), &err);
        CHECK_STR(port.address, cases[i].want.address);
        CHECK_INT(port.host, cases[i].want.host);
        CHECK_INT(port.guest, cases[i].want.guest);
    }
}

TEST(forward, other_ports_are_refused_by_name)
{
    static const char *const cases[] = {
        "",
        "80",
        "80:",
        ":80",
        "80:0",
        "80:65536",
        "65536:1",
        "80:80:80",
        "a:1",
        "1:b",
        "example:1:2",
        "1:2/udp",
        "-1:2",
        "1:2:3:4",
        "127.0.0.1:1",
        ("2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:db8:2001:"
         "db8:"
         "2001:db8:2001:db8:2001:db8:2001:db8:1:2"),
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct forward_port port;
        struct err err = {0};

        CHECK_INT(forward_port_parse(cases[i], &port, &err), -EINVAL);
        CHECK_HAS(err_text(&err), cases[i]);
        CHECK_HAS(err_text(&err), "[ADDRESS:]HOST:GUEST");
    }
}

TEST(forward, too_many_ports_are_refused)
{
    struct forward_ports ports = {0};
    struct err err = {0};

    for (int i = 0; i < FORWARD_PORTS_MAX; i++) {
        CHECK_OK(forward_ports_add(&ports, "0:80", &err), &err);
    }
    CHECK_INT(forward_ports_add(&ports, "0:81", &err), -E2BIG);
    CHECK_HAS(err_text(&err), "publish '0:81': at most 32");
}
