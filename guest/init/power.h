/* power.h — the end of the machine: signal everybody, wait a little, sync, go. */
#pragma once

#include "guest/init/reactor.h"

enum power_end { POWER_OFF, POWER_REBOOT };

struct power {
    struct ticker step;
    enum power_end end;
    bool has_begun;
    unsigned waited; /* steps */
    /* A signal asks for the end, before anybody is told; may be NULL. */
    void (*asked)(void *owner);
    void *owner;
};

void power_init(struct power *power, struct reactor *reactor);
/* Begin; the loop goes on running meanwhile, so that exit statuses still reach their clients. */
void power_begin(struct power *power, enum power_end end);
/* At once, without asking anybody. */
void power_now(enum power_end end) __attribute__((noreturn));
/* Signals to PID 1 as sysvinit, busybox and systemd understand them; call before the first fork. */
int power_watch_signals(struct power *power, struct watch *watch, struct reactor *reactor);
