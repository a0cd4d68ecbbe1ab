/* serial.c — a microVM's serial port on the host: stdout or a file, and stdin.
 *
 * Theory of operation: stdin is watched while the guest takes all that comes.  When it does not,
 * the rest of one small read is kept and the watch removed (an idle watch would still report a
 * hangup, without end); the port's has_room() posts to the loop, which goes on.
 */
#include "host/serial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/os_error.h"
#include "io/loop.h"
#include "metrics/metrics.h"

enum { HELD_MAX = 64 }; /* of input that was read and did not fit */

struct serial {
    struct tty_port port;
    struct loop *loop;
    int out_fd;
    bool owns_out;
    struct bucket bucket; /* guarded by the device's lock */
    serial_input_fn input;
    void *owner;
    bool is_watched;
    uint8_t held[HELD_MAX];
    size_t held_len;
};

/* What to restore: process-wide, because the terminal is. */
static struct termios g_termios;
static _Atomic bool g_has_termios;
static _Atomic int g_stdin_flags = -1;
static _Atomic int g_stdout_flags = -1;

void serial_restore(void)
{
    int flags = atomic_exchange(&g_stdin_flags, -1);

    if (atomic_exchange(&g_has_termios, false)) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &g_termios);
    }
    if (flags >= 0) {
        (void)fcntl(STDIN_FILENO, F_SETFL, flags);
    }
    flags = atomic_exchange(&g_stdout_flags, -1);
    if (flags >= 0) {
        (void)fcntl(STDOUT_FILENO, F_SETFL, flags);
    }
}

/* Do not wait for `fd`; remember how it was before. */
static void set_nonblocking(int fd, _Atomic int *saved)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0 && !(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0) {
        atomic_store(saved, flags);
    }
}

static void put_byte(struct serial *serial, uint8_t byte)
{
    int64_t pause_ns;

    if (bucket_take(&serial->bucket, 1, clock_mono_ns(), &pause_ns) != BUCKET_GRANTED) {
        metric_inc(&g_metrics.uart.rate_limiter_dropped_bytes);
        return;
    }
    while (write(serial->out_fd, &byte, 1) != 1) {
        if (errno != EINTR) {
            metric_inc(&g_metrics.uart.missed_write_count);
            return;
        }
    }
    metric_inc(&g_metrics.uart.flush_count);
}

static void serial_write(void *owner, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        put_byte(owner, bytes[i]);
    }
}

static int watch(struct serial *serial);

static void unwatch(struct serial *serial)
{
    if (serial->is_watched) {
        loop_del_fd(serial->loop, STDIN_FILENO);
        serial->is_watched = false;
    }
}

/* Give the guest what was held; true when all of it went. */
static bool deliver(struct serial *serial)
{
    size_t taken = serial->input(serial->owner, serial->held, serial->held_len);

    serial->held_len -= taken;
    memmove(serial->held, serial->held + taken, serial->held_len);
    return serial->held_len == 0;
}

static void on_stdin(void *owner, int fd, uint32_t events)
{
    struct serial *serial = owner;
    ssize_t n = read(fd, serial->held, sizeof(serial->held));

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) { /* the end */
        unwatch(serial);
        return;
    }
    serial->held_len = (size_t)n;
    if (!deliver(serial)) {
        unwatch(serial);
    }
}

static int watch(struct serial *serial)
{
    int r = loop_add_fd(serial->loop, STDIN_FILENO, EPOLLIN, on_stdin, serial);

    serial->is_watched = r == 0;
    return r;
}

static void go_on(void *owner)
{
    struct serial *serial = owner;

    if (serial->input && !serial->is_watched && serial->held_len > 0 && deliver(serial)) {
        (void)watch(serial);
    }
}

static void serial_has_room(void *owner)
{
    struct serial *serial = owner;

    (void)loop_post(serial->loop, go_on, serial);
}

static int open_output(struct serial *serial, const char *path, struct err *err)
{
    char text[OS_ERROR_MAX];

    if (!path) {
        serial->out_fd = STDOUT_FILENO;
        set_nonblocking(STDOUT_FILENO, &g_stdout_flags);
        return 0;
    }
    serial->out_fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644);
    if (serial->out_fd < 0) {
        return err_set(err, -errno, "Failed to open the serial output file: %s",
                       os_error(errno, text));
    }
    serial->owns_out = true;
    return 0;
}

int serial_new(const struct serial_config *config, struct serial **ret_serial, struct err *err)
{
    struct serial *serial = calloc(1, sizeof(*serial));
    int r;

    if (!serial) {
        return err_set(err, -ENOMEM, "serial port: out of memory");
    }
    serial->port =
        (struct tty_port){.write = serial_write, .has_room = serial_has_room, .owner = serial};
    serial->loop = config->path ? NULL : config->loop;
    bucket_init(&serial->bucket, &config->limit, clock_mono_ns());
    r = open_output(serial, config->path, err);
    if (r < 0) {
        free(serial);
        return r;
    }
    *ret_serial = serial;
    return 0;
}

const struct tty_port *serial_port(struct serial *serial)
{
    return &serial->port;
}

static void make_raw(void)
{
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &raw) < 0) {
        return;
    }
    g_termios = raw;
    atomic_store(&g_has_termios, true);
    cfmakeraw(&raw);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    set_nonblocking(STDIN_FILENO, &g_stdin_flags);
}

int serial_connect(struct serial *serial, serial_input_fn input, void *owner)
{
    bool is_terminal = isatty(STDIN_FILENO);
    struct stat st;

    if (!serial->loop ||
        (!is_terminal && (fstat(STDIN_FILENO, &st) < 0 || !S_ISFIFO(st.st_mode)))) {
        return 0;
    }
    serial->input = input;
    serial->owner = owner;
    if (is_terminal) {
        make_raw();
    }
    return watch(serial);
}

void serial_free(struct serial *serial)
{
    if (!serial) {
        return;
    }
    if (serial->owns_out) {
        (void)close(serial->out_fd);
    } else {
        serial_restore();
    }
    serial->input = NULL;
    if (serial->loop) {
        unwatch(serial);
        loop_unpost(serial->loop, serial); /* of has_room() */
    }
    free(serial);
}
