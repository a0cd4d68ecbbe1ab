/* server_test.c — who is let in, and where it listens. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "gdb/address.h"
#include "gdb/fake_target.h"
#include "gdb/server.h"

static struct fake_target g_fake;
static char g_path[64];

static struct gdb_server *start(void)
{
    struct gdb_server *server = NULL;
    struct err err = {0};
    char address[80];

    fake_init(&g_fake);
    (void)snprintf(g_path, sizeof(g_path), "/tmp/ec1-gdb-test.%d", (int)getpid());
    (void)snprintf(address, sizeof(address), "unix:%s", g_path);
    CHECK_OK(gdb_server_new(address, &g_fake.target, &server, &err), &err);
    CHECK_STR(gdb_server_address(server), address);
    CHECK_OK(gdb_server_start(server, &err), &err);
    return server;
}

static int dial(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(at.sun_path, g_path, sizeof(g_path));
    CHECK_INT(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static void expect(int fd, const char *text)
{
    char got[256] = "";

    CHECK_INT(recv(fd, got, strlen(text), MSG_WAITALL), strlen(text));
    CHECK_STR(got, text);
}

static void expect_end(int fd)
{
    char byte;

    CHECK(recv(fd, &byte, 1, 0) <= 0);
    (void)close(fd);
}

static void say(int fd, const char *text)
{
    CHECK_INT(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

TEST(gdb, one_debugger_after_the_other)
{
    struct gdb_server *server = start();
    struct stat st;
    int first = dial();
    int second;

    CHECK_INT(stat(g_path, &st), 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    say(first, "+$?#3f");
    expect(first, "+$T05thread:1;#d7");
    second = dial();
    expect_end(second);
    say(first, "+$D#44");
    expect(first, "+$OK#9a");
    expect_end(first);
    second = dial();
    say(second, "$?#3f");
    expect(second, "+$T05thread:1;#d7");
    say(second, "GET / HTTP/1.1\r\n");
    expect_end(second);
    first = dial();
    say(first, "$c#63");
    expect(first, "+");
    gdb_server_free(server, 9);
    expect(first, "$W09#c0");
    expect_end(first);
    CHECK(stat(g_path, &st) < 0);
    CHECK_INT(g_fake.resumes, 3);
    fake_fini(&g_fake);
}

TEST(gdb, a_cpu_that_stops_is_reported)
{
    struct gdb_server *server = start();
    uint64_t one = 1;
    int fd = dial();

    say(fd, "$c#63");
    expect(fd, "+");
    g_fake.stop[1] = (struct hv_stop){.why = HV_STOP_STEP};
    CHECK_INT(write(g_fake.target.stop_fd, &one, 8), 8);
    expect(fd, "$T05thread:2;#d8");
    (void)close(fd);
    gdb_server_free(server, 0);
    fake_fini(&g_fake);
}

static void refused(const char *address, const char *why)
{
    char text[GDB_ADDRESS_MAX];
    struct err err = {0};

    CHECK(gdb_listen(address, text, &err) < 0);
    CHECK_HAS(err_text(&err), why);
}

static void listens(const char *address, const char *begins)
{
    char text[GDB_ADDRESS_MAX];
    struct err err = {0};
    int fd = gdb_listen(address, text, &err);

    CHECK(fd >= 0);
    CHECK_HAS(text, begins);
    CHECK(strstr(text, begins) == text);
    (void)close(fd);
}

TEST(gdb, listens_at_this_host_unless_asked)
{
    listens("0", "localhost:");
    listens(":0", "localhost:");
    listens("localhost:0", "localhost:");
    listens("127.0.0.2:0", "127.0.0.2:");
    listens("0.0.0.0:0", "0.0.0.0:");
    refused("example.com:1", "must be PORT");
    refused("65536", "'65536'");
    refused("localhost:", "must be PORT");
    refused("a:b:c", "must be PORT");
    refused("unix:", "1 to 107 bytes");
    refused("unix:/nonexistent/x", "No such file");
}
