/* announce.c — Ready and heartbeat. */
#include "guest/init/announce.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "proto/exec_msg.h"

/* A clock that is this right is left alone: a step backwards disturbs programs. */
#define CLOCK_SLACK_NS (5 * NS_PER_MS)

static void hang_up(struct announce *announce, int code)
{
    watch_drop(&announce->link);
    announce->is_connected = false;
    buf_clear(&announce->out);
    announce->failures++;
    if (announce->lost) {
        announce->lost(announce->owner, code);
    }
}

static void push(struct announce *announce)
{
    while (announce->out.len) {
        ssize_t put = send(announce->link.fd, announce->out.data, announce->out.len, MSG_NOSIGNAL);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            if (errno != EAGAIN) {
                hang_up(announce, -errno);
                return;
            }
            break;
        }
        buf_consume(&announce->out, (size_t)put);
    }
    (void)watch_want(&announce->link, announce->out.len ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void say_ready(struct announce *announce)
{
    uint8_t len[4] = {0};

    announce->is_connected = true;
    announce->failures = 0;
    buf_append(&announce->out, len, sizeof(len));
    if (report_pack_ready(announce->report, &announce->out) < 0) {
        hang_up(announce, -ENOMEM);
        return;
    }
    store_le32(announce->out.data, (uint32_t)(announce->out.len - sizeof(len)));
    push(announce);
}

/* The host says what time it is as soon as it accepts: between our dialling and now, so it is taken
 * for the middle.  A boot loses time before its first clock tick, a restored guest all that passed
 * since. */
static void take_time(struct announce *announce, const uint8_t *data, size_t len)
{
    while (len > 0 && announce->time_len < sizeof(announce->time)) {
        announce->time[announce->time_len++] = *data++;
        len--;
        if (announce->time_len == sizeof(announce->time)) {
            int64_t now = clock_mono_ns();
            int64_t wall = (int64_t)load_le64(announce->time) + (now - announce->dialled_ns) / 2;
            int64_t wrong = wall - clock_wall_ns();

            /* Only as the guest's PID 1: elsewhere the clock is not ours to set. */
            if (getpid() == 1 && wall > 0 && (wrong > CLOCK_SLACK_NS || wrong < -CLOCK_SLACK_NS)) {
                struct timespec ts = {.tv_sec = wall / NS_PER_S, .tv_nsec = wall % NS_PER_S};

                (void)clock_settime(CLOCK_REALTIME, &ts);
            }
        }
    }
}

static void on_link(struct watch *watch, uint32_t events)
{
    struct announce *announce = container_of(watch, struct announce, link);
    uint8_t data[64];
    ssize_t got;

    if (!announce->is_connected) {
        int code = 0;
        socklen_t size = sizeof(code);

        (void)getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &code, &size);
        if (code) {
            hang_up(announce, -code);
        } else {
            say_ready(announce);
        }
        return;
    }
    if (events & EPOLLOUT) {
        push(announce);
    }
    if (watch->fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        return;
    }
    got = recv(watch->fd, data, sizeof(data), MSG_DONTWAIT);
    if (got > 0) {
        take_time(announce, data, (size_t)got);
    } else if (got == 0) {
        hang_up(announce, 0);
    } else if (got < 0 && errno != EAGAIN && errno != EINTR) {
        hang_up(announce, -errno);
    }
}

static void connect_host(struct announce *announce)
{
    int fd;

    announce->dialled_ns = clock_mono_ns();
    announce->time_len = 0;
    fd = announce->dial();

    if (fd < 0) {
        hang_up(announce, fd);
        return;
    }
    watch_init(&announce->link, announce->reactor, fd, on_link);
    (void)watch_want(&announce->link, EPOLLOUT);
}

static void on_beat(struct ticker *ticker)
{
    static const uint8_t empty[4];
    struct announce *announce = container_of(ticker, struct announce, beat);

    ticker_arm(ticker, EXEC_HEARTBEAT_S * NS_PER_S);
    if (announce->link.fd < 0) {
        connect_host(announce);
    } else if (announce->is_connected && !announce->out.len) {
        buf_append(&announce->out, empty, sizeof(empty));
        push(announce);
    }
}

void announce_init(struct announce *announce, struct reactor *reactor, const struct report *report,
                   int (*dial)(void))
{
    *announce = (struct announce){.reactor = reactor, .report = report, .dial = dial};
    watch_init(&announce->link, reactor, -1, on_link);
    ticker_init(&announce->beat, reactor, on_beat);
}

void announce_start(struct announce *announce)
{
    on_beat(&announce->beat);
}

void announce_fini(struct announce *announce)
{
    ticker_cancel(&announce->beat);
    watch_drop(&announce->link);
    buf_fini(&announce->out);
}
