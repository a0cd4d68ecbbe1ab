/* serial_test.c — output does not wait and is counted; input waits with the host. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/serial.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "tests/lib/test.h"

/* A pipe in place of a standard descriptor. */
struct swap {
    int fd;
    int saved;
    int far; /* our end */
};

static struct swap swap_pipe(int fd)
{
    int ends[2];
    struct swap swap = {.fd = fd};

    CHECK_INT(pipe(ends), 0);
    swap.saved = dup(fd);
    swap.far = ends[fd == STDIN_FILENO];
    (void)dup2(ends[fd != STDIN_FILENO], fd);
    (void)close(ends[fd != STDIN_FILENO]);
    return swap;
}

static void unswap(const struct swap *swap)
{
    (void)dup2(swap->saved, swap->fd);
    (void)close(swap->saved);
    (void)close(swap->far);
}

static void put(struct serial *serial, const char *text)
{
    const struct tty_port *port = serial_port(serial);

    port->write(port->owner, text, strlen(text));
}

TEST(host, serial_writes_to_a_file_within_its_limit)
{
    char path[] = "/tmp/ec1-serial-XXXXXX";
    struct serial_config config = {.path = path, .limit = {.size = 4, .refill_ms = 3600000}};
    struct serial *serial = NULL;
    struct err err = {0};
    char text[16] = "";
    int fd = mkstemp(path);
    uint64_t dropped = metric_get(&g_metrics.uart.rate_limiter_dropped_bytes);

    CHECK_OK(serial_new(&config, &serial, &err), &err);
    put(serial, "abcdefg");
    CHECK_INT(read(fd, text, sizeof(text) - 1), 4);
    CHECK_STR(text, "abcd");
    CHECK_INT(metric_get(&g_metrics.uart.rate_limiter_dropped_bytes) - dropped, 3);
    serial_free(serial);
    (void)close(fd);
    (void)unlink(path);
}

TEST(host, serial_names_a_file_that_cannot_be_opened)
{
    struct serial_config config = {.path = "/nonexistent/out"};
    struct serial *serial = NULL;
    struct err err = {0};

    CHECK(serial_new(&config, &serial, &err) < 0);
    CHECK_HAS(err_text(&err), "No such file or directory (os error 2)");
}

TEST(host, serial_loses_what_stdout_does_not_take)
{
    struct serial_config config = {0};
    struct serial *serial = NULL;
    struct err err = {0};
    uint64_t lost = metric_get(&g_metrics.uart.missed_write_count);
    struct swap out;
    int flags;

    (void)fflush(stdout);
    out = swap_pipe(STDOUT_FILENO);
    CHECK_OK(serial_new(&config, &serial, &err), &err);
    for (unsigned i = 0; i < 70000; i++) {
        put(serial, "x"); /* a pipe has 64 KiB */
    }
    serial_free(serial);
    flags = fcntl(STDOUT_FILENO, F_GETFL);
    unswap(&out);
    CHECK_INT(metric_get(&g_metrics.uart.missed_write_count) - lost, 70000 - 65536);
    CHECK(!(flags & O_NONBLOCK)); /* as it was */
}

struct guest {
    char text[64];
    _Atomic size_t len;
    _Atomic size_t room;
};

static size_t take(void *owner, const void *data, size_t len)
{
    struct guest *guest = owner;

    len = len < guest->room ? len : guest->room;
    memcpy(guest->text + guest->len, data, len);
    guest->len += len;
    guest->room -= len;
    return len;
}

static void wait_for(const struct guest *guest, size_t len)
{
    for (unsigned i = 0; guest->len != len && i < 5000; i++) {
        (void)usleep(1000);
    }
}

static void free_serial(void *owner)
{
    serial_free(owner);
}

TEST(host, serial_input_waits_for_room)
{
    struct serial_config config = {0};
    struct guest guest = {.room = 3};
    struct serial *serial = NULL;
    struct err err = {0};
    struct swap in = swap_pipe(STDIN_FILENO);
    struct swap out;

    (void)fflush(stdout);
    out = swap_pipe(STDOUT_FILENO);
    CHECK_OK(loop_new(&config.loop, &err), &err);
    CHECK_OK(serial_new(&config, &serial, &err), &err);
    CHECK_INT(serial_connect(serial, take, &guest), 0);
    CHECK_OK(loop_thread_start(config.loop, "test", &err), &err);
    CHECK_INT(write(in.far, "hello", 5), 5);
    wait_for(&guest, 3);
    guest.room = 10;
    serial_port(serial)->has_room(serial_port(serial)->owner);
    wait_for(&guest, 5);
    CHECK_INT(write(in.far, "!", 1), 1);
    wait_for(&guest, 6);
    loop_call(config.loop, free_serial, serial);
    loop_thread_stop(config.loop);
    unswap(&out);
    unswap(&in);
    CHECK_STR(guest.text, "hello!");
    loop_free(config.loop);
}
