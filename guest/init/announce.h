/* announce.h — tell the host that the init is ready, and that it still lives. */
#pragma once

#include "guest/init/reactor.h"
#include "guest/init/report.h"

struct announce {
    struct reactor *reactor;
    const struct report *report;
    struct watch link; /* to the host */
    struct ticker beat;
    struct buf out; /* not yet sent */
    bool is_connected;
    unsigned failures; /* in a row */
    int64_t dialled_ns;
    uint8_t time[8]; /* what the host said of it, as far as it came */
    unsigned time_len;
    /* A connection to the host; negative errno.  It may still be connecting. */
    int (*dial)(void);
    /* The host has closed the connection, or never took it (`code`). */
    void (*lost)(void *owner, int code);
    void *owner;
};

/* Dials at once, then once a second until it works; a lost connection is dialled again, for after a
 * restore from a snapshot the old one is gone. */
void announce_init(struct announce *announce, struct reactor *reactor, const struct report *report,
                   int (*dial)(void));
void announce_start(struct announce *announce);
void announce_fini(struct announce *announce);
