/* console.c — the guest's serial output: tail, log, watch. */
#include "host/console.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"

#define TAIL_BYTES 32768u /* power of two */
#define LINE_MAX_  512u   /* a longer line is watched in parts */
#define WATCH_MAX  4u
/* What a hostile guest may write to the host's disk through its console. */
#define LOG_MAX (64 * MIB)

struct watch {
    const char *part;
    console_watch_fn fn;
    void *owner;
};

struct console {
    struct tty_port port;
    pthread_mutex_t lock;
    struct console_config config;
    uint64_t total; /* bytes ever written */
    uint64_t logged;
    char tail[TAIL_BYTES];
    char line[LINE_MAX_ + 1];
    size_t line_len;
    struct watch watches[WATCH_MAX];
    unsigned watch_count;
};

static void end_line(struct console *c)
{
    c->line[c->line_len] = 0;
    for (unsigned i = 0; i < c->watch_count && c->line_len; i++) {
        if (strstr(c->line, c->watches[i].part)) {
            c->watches[i].fn(c->watches[i].owner, c->line);
        }
    }
    c->line_len = 0;
}

static void put_char(struct console *c, char ch)
{
    c->tail[c->total++ % TAIL_BYTES] = ch;
    if (ch == '\n' || c->line_len == LINE_MAX_) {
        end_line(c);
    }
    if (ch != '\n' && ch != '\r') {
        c->line[c->line_len++] = (char)(ch ? ch : ' ');
    }
}

static void put_fd(int fd, const char *data, size_t len)
{
    while (fd >= 0 && len > 0) {
        ssize_t put = write(fd, data, len);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return; /* a full disk or a closed terminal must not stop the guest */
        }
        data += put;
        len -= (size_t)put;
    }
}

static void console_write(void *owner, const void *data, size_t len)
{
    struct console *c = owner;
    const char *text = data;

    (void)pthread_mutex_lock(&c->lock);
    if (c->logged < LOG_MAX) {
        put_fd(c->config.log_fd, text, len);
        c->logged += len;
    }
    put_fd(c->config.echo_fd, text, len);
    for (size_t i = 0; i < len; i++) {
        put_char(c, text[i]);
    }
    (void)pthread_mutex_unlock(&c->lock);
}

static void console_has_room(void *owner)
{
    (void)owner; /* nothing is ever typed into it */
}

int console_new(const struct console_config *config, struct console **ret_console, struct err *err)
{
    struct console *c = calloc(1, sizeof(*c));

    if (!c) {
        return err_set(err, -ENOMEM, "console: out of memory");
    }
    c->port = (struct tty_port){.write = console_write, .has_room = console_has_room, .owner = c};
    c->config = *config;
    (void)pthread_mutex_init(&c->lock, NULL);
    *ret_console = c;
    return 0;
}

void console_free(struct console *c)
{
    if (c) {
        if (c->config.log_fd >= 0) {
            (void)close(c->config.log_fd);
        }
        (void)pthread_mutex_destroy(&c->lock);
        free(c);
    }
}

const struct tty_port *console_port(struct console *console)
{
    return &console->port;
}

int console_watch(struct console *c, const char *part, console_watch_fn fn, void *owner)
{
    if (c->watch_count == WATCH_MAX) {
        return -ENOSPC;
    }
    c->watches[c->watch_count++] = (struct watch){.part = part, .fn = fn, .owner = owner};
    return 0;
}

void console_tail(struct console *c, char *out, size_t size)
{
    uint64_t have;
    uint64_t from;
    size_t len = 0;

    (void)pthread_mutex_lock(&c->lock);
    have = c->total < TAIL_BYTES ? c->total : TAIL_BYTES;
    if (have > size - 1) {
        have = size - 1;
    }
    from = c->total - have;
    for (; from < c->total; from++) {
        out[len++] = c->tail[from % TAIL_BYTES];
    }
    (void)pthread_mutex_unlock(&c->lock);
    out[len] = 0;
    if (have < c->total) { /* cut: drop the broken first line */
        const char *start = memchr(out, '\n', len);

        if (start) {
            memmove(out, start + 1, len - (size_t)(start + 1 - out) + 1);
        }
    }
}
