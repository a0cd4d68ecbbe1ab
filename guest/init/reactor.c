/* reactor.c — the init's event loop. */
#include "guest/init/reactor.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"

int reactor_init(struct reactor *reactor)
{
    *reactor = (struct reactor){.epoll = epoll_create1(EPOLL_CLOEXEC)};
    list_init(&reactor->timers);
    return reactor->epoll < 0 ? -errno : 0;
}

void reactor_fini(struct reactor *reactor)
{
    if (reactor->epoll >= 0) {
        (void)close(reactor->epoll);
        reactor->epoll = -1;
    }
}

static int wait_ms(const struct reactor *reactor)
{
    int64_t left;

    if (list_is_empty(&reactor->timers)) {
        return -1;
    }
    left = container_of(reactor->timers.next, struct ticker, link)->due_ns - clock_mono_ns();
    if (left <= 0) {
        return 0;
    }
    left = (left + NS_PER_MS - 1) / NS_PER_MS;
    return left > 3600 * 1000 ? 3600 * 1000 : (int)left;
}

static void run_after(struct reactor *reactor)
{
    if (reactor->after) {
        reactor->after(reactor->owner);
    }
}

static void run_tickers(struct reactor *reactor)
{
    while (!list_is_empty(&reactor->timers)) {
        struct ticker *ticker = container_of(reactor->timers.next, struct ticker, link);

        if (ticker->due_ns > clock_mono_ns()) {
            return;
        }
        list_remove(&ticker->link);
        ticker->fn(ticker);
        run_after(reactor);
    }
}

int reactor_run(struct reactor *reactor)
{
    run_after(reactor);
    while (!reactor->is_stopped) {
        /* One at a time: a callback may free the owner of any other ready watch. */
        struct epoll_event event;
        int count = epoll_wait(reactor->epoll, &event, 1, wait_ms(reactor));

        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        if (count > 0) {
            struct watch *watch = event.data.ptr;

            watch->fn(watch, event.events);
            run_after(reactor);
        }
        run_tickers(reactor);
    }
    return 0;
}

void reactor_stop(struct reactor *reactor)
{
    reactor->is_stopped = true;
}

void watch_init(struct watch *watch, struct reactor *reactor, int fd,
                void (*fn)(struct watch *watch, uint32_t events))
{
    *watch = (struct watch){.reactor = reactor, .fd = fd, .fn = fn};
}

int watch_want(struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int op = events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

    if (watch->fd < 0 || watch->events == events) {
        return 0;
    }
    if (!watch->events) {
        op = EPOLL_CTL_ADD;
    }
    if (epoll_ctl(watch->reactor->epoll, op, watch->fd, &event) < 0) {
        return -errno;
    }
    watch->events = events;
    return 0;
}

int watch_take(struct watch *watch)
{
    int fd = watch->fd;

    (void)watch_want(watch, 0);
    watch->fd = -1;
    return fd;
}

void watch_drop(struct watch *watch)
{
    int fd = watch_take(watch);

    if (fd >= 0) {
        (void)close(fd);
    }
}

void ticker_init(struct ticker *ticker, struct reactor *reactor, void (*fn)(struct ticker *ticker))
{
    *ticker = (struct ticker){.reactor = reactor, .fn = fn};
    list_init(&ticker->link);
}

void ticker_arm(struct ticker *ticker, int64_t delay_ns)
{
    struct list *at;

    list_remove(&ticker->link);
    at = ticker->reactor->timers.next;
    ticker->due_ns = clock_mono_ns() + delay_ns;
    while (at != &ticker->reactor->timers &&
           container_of(at, struct ticker, link)->due_ns <= ticker->due_ns) {
        at = at->next;
    }
    list_append(at, &ticker->link); /* in front of `at` */
}

bool ticker_is_armed(const struct ticker *ticker)
{
    return !list_is_empty(&ticker->link);
}

void ticker_cancel(struct ticker *ticker)
{
    list_remove(&ticker->link);
}
