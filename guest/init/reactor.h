/* reactor.h — the init's event loop: descriptors and timers, one thread, nodes embedded in owners.
 *
 * A callback may change or drop any watch or timer, its own too, and free their owners: the loop
 * touches nothing after a callback but the reactor.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/list.h"

struct reactor {
    int epoll;
    bool is_stopped;
    struct list timers; /* by due_ns */
    /* After each callback; NULL for none. */
    void (*after)(void *owner);
    void *owner;
};

struct watch {
    struct reactor *reactor;
    int fd; /* -1 once dropped */
    uint32_t events;
    void (*fn)(struct watch *watch, uint32_t events);
};

struct ticker {
    struct list link;
    struct reactor *reactor;
    int64_t due_ns;
    void (*fn)(struct ticker *ticker);
};

int reactor_init(struct reactor *reactor);
void reactor_fini(struct reactor *reactor);
/* Until reactor_stop(); 0 or negative errno. */
int reactor_run(struct reactor *reactor);
void reactor_stop(struct reactor *reactor);

/* Takes over `fd`.  Nothing is watched until watch_want(). */
void watch_init(struct watch *watch, struct reactor *reactor, int fd,
                void (*fn)(struct watch *watch, uint32_t events));
/* EPOLLIN, EPOLLOUT; 0 to hear nothing, not even a hang-up. */
int watch_want(struct watch *watch, uint32_t events);
/* Close.  Harmless when done before. */
void watch_drop(struct watch *watch);
/* Stop watching and hand the descriptor back. */
int watch_take(struct watch *watch);

void ticker_init(struct ticker *ticker, struct reactor *reactor, void (*fn)(struct ticker *ticker));
/* Call once, `delay_ns` from now; replaces an earlier due time. */
void ticker_arm(struct ticker *ticker, int64_t delay_ns);
bool ticker_is_armed(const struct ticker *ticker);
void ticker_cancel(struct ticker *ticker);
