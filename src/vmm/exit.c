/* exit.c — how a microVM process ends: exit codes, fatal signals, panics, the last log line. */
#include "vmm/exit.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "host/serial.h"
#include "metrics/metrics.h"

/* si_code of a SIGSYS that a seccomp filter raised (asm-generic/siginfo.h). */
#define CODE_SECCOMP 1

static const struct {
    int number;
    int exit_code;
    size_t metric; /* in struct metrics_signals */
} g_fatal[] = {
    {SIGBUS, EXIT_CODE_SIGBUS, offsetof(struct metrics_signals, sigbus)},
    {SIGSEGV, EXIT_CODE_SIGSEGV, offsetof(struct metrics_signals, sigsegv)},
    {SIGXFSZ, EXIT_CODE_SIGXFSZ, offsetof(struct metrics_signals, sigxfsz)},
    {SIGXCPU, EXIT_CODE_SIGXCPU, offsetof(struct metrics_signals, sigxcpu)},
    {SIGHUP, EXIT_CODE_SIGHUP, offsetof(struct metrics_signals, sighup)},
    {SIGILL, EXIT_CODE_SIGILL, offsetof(struct metrics_signals, sigill)},
};

/* Only what POSIX calls async-signal-safe from here on, and log_record() with its promise. */
static _Noreturn void leave(int code)
{
    (void)metrics_write();
    serial_restore();
    _exit(code);
}

static void say_signal(int number, int code)
{
    log_error("Shutting down VM after intercepting signal %d, code %d.", number, code);
}

static void on_fatal(int number, siginfo_t *info, void *context)
{
    (void)context;
    log_in_signal(true);
    say_signal(number, info->si_code);
    for (size_t i = 0; i < sizeof(g_fatal) / sizeof(g_fatal[0]); i++) {
        if (g_fatal[i].number == number) {
            metric_set((struct metric *)(void *)((char *)&g_metrics.signals + g_fatal[i].metric),
                       1);
            leave(g_fatal[i].exit_code);
        }
    }
    leave(EXIT_CODE_UNEXPECTED);
}

static void on_bad_syscall(int number, siginfo_t *info, void *context)
{
    (void)context;
    log_in_signal(true);
    say_signal(number, info->si_code);
    if (info->si_code != CODE_SECCOMP) {
        _exit(EXIT_CODE_UNEXPECTED);
    }
    log_error("Shutting down VM after intercepting a bad syscall (%d).", info->si_syscall);
    metric_set(&g_metrics.seccomp.num_faults, 1);
    leave(EXIT_CODE_BAD_SYSCALL);
}

static void on_pipe(int number, siginfo_t *info, void *context)
{
    int errno_before = errno;

    (void)context;
    log_in_signal(true);
    metric_inc(&g_metrics.signals.sigpipe);
    log_guest(LOG_ERROR, "Received signal %d, code %d.", number, info->si_code);
    log_in_signal(false);
    errno = errno_before;
}

/* assert() and the C library come here without a panic of ours. */
static void on_abort(int number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    log_in_signal(true);
    metric_set(&g_metrics.vmm.panic_count, 1);
    (void)metrics_write();
    serial_restore();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void install(int number, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};

    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(number, &action, NULL);
}

void exit_install_handlers(void)
{
    for (size_t i = 0; i < sizeof(g_fatal) / sizeof(g_fatal[0]); i++) {
        install(g_fatal[i].number, on_fatal);
    }
    install(SIGSYS, on_bad_syscall);
    install(SIGPIPE, on_pipe);
    install(SIGABRT, on_abort);
    /* The kick is one of these two, whichever C library counts.  hv/ installs its own over it. */
    (void)signal(SIGRTMIN, SIG_IGN);
    (void)signal(SIGRTMIN + 1, SIG_IGN);
}

int exit_say(int code)
{
    if (code == EXIT_CODE_OK) {
        log_info("Firecracker exiting successfully. exit_code=0");
    } else {
        log_error("Firecracker exiting with error. exit_code=%d", code);
    }
    (void)metrics_write();
    serial_restore();
    return code;
}

void exit_panic_at(const char *file, unsigned line, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_error("Firecracker panicked at %s:%u: %s", file, line, text);
    abort();
}
