/* power.c — the end of the machine. */
#include "guest/init/power.h"

#include <errno.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define STEP_NS (20 * NS_PER_MS)

enum {
    TERM_STEPS = 100,             /* from SIGTERM to SIGKILL: 2 s */
    KILL_STEPS = TERM_STEPS + 10, /* from SIGKILL to the end */
};

void power_now(enum power_end end)
{
    sync();
    (void)reboot(end == POWER_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF);
    /* A kernel without a way to power off comes back; a reset ends a VM as well. */
    (void)reboot(RB_AUTOBOOT);
    for (;;) {
        (void)pause();
    }
}

/* Every process of the VM is our descendant; WNOWAIT leaves the reaping to others. */
static bool has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void on_step(struct ticker *ticker)
{
    struct power *power = container_of(ticker, struct power, step);

    power->waited++;
    if (!has_children() || power->waited >= KILL_STEPS) {
        power_now(power->end);
    }
    if (power->waited == TERM_STEPS) {
        (void)kill(-1, SIGKILL);
    }
    ticker_arm(ticker, STEP_NS);
}

void power_init(struct power *power, struct reactor *reactor)
{
    *power = (struct power){.end = POWER_OFF};
    ticker_init(&power->step, reactor, on_step);
}

void power_begin(struct power *power, enum power_end end)
{
    if (power->has_begun) {
        return;
    }
    power->has_begun = true;
    power->end = end;
    (void)kill(-1, SIGTERM);
    (void)kill(-1, SIGCONT);
    /* One step even without children: answers must leave first. */
    ticker_arm(&power->step, STEP_NS);
}

static struct power *g_power; /* of the one PID 1 there is */

static void on_signal(struct watch *watch, uint32_t events)
{
    struct signalfd_siginfo info;
    int sig;

    (void)events;
    if (read(watch->fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return;
    }
    sig = (int)info.ssi_signo;
    if (g_power->asked && !g_power->has_begun) {
        g_power->asked(g_power->owner);
    }
    /* sysvinit: INT is Ctrl-Alt-Del.  busybox: TERM reboots, USR1 halts, USR2 powers off.  systemd:
     * RTMIN+3 halts, +4 powers off, +5 reboots.  A halted VM is of no use to anybody: it ends. */
    power_begin(g_power,
                sig == SIGTERM || sig == SIGINT || sig == SIGRTMIN + 5 ? POWER_REBOOT : POWER_OFF);
}

int power_watch_signals(struct power *power, struct watch *watch, struct reactor *reactor)
{
    const int signals[] = {SIGTERM, SIGINT,       SIGUSR1,      SIGUSR2,
                           SIGPWR,  SIGRTMIN + 3, SIGRTMIN + 4, SIGRTMIN + 5};
    sigset_t set;
    int fd;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        (void)sigaddset(&set, signals[i]);
    }
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        return -errno;
    }
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    (void)reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del becomes SIGINT */
    g_power = power;
    watch_init(watch, reactor, fd, on_signal);
    return watch_want(watch, EPOLLIN);
}
