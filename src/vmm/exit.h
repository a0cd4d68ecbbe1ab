/* exit.h — how a microVM process ends: exit codes, fatal signals, panics, the last log line.
 *
 * The codes and the words of the records are part of the interface (docs/microvm.md).
 */
#pragma once

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_ERROR = 1,
    EXIT_CODE_UNEXPECTED = 2,
    EXIT_CODE_BAD_SYSCALL = 148,
    EXIT_CODE_SIGBUS = 149,
    EXIT_CODE_SIGSEGV = 150,
    EXIT_CODE_SIGXFSZ = 151,
    EXIT_CODE_BAD_CONFIG = 152,
    EXIT_CODE_BAD_ARGUMENT = 153,
    EXIT_CODE_SIGXCPU = 154,
    EXIT_CODE_SIGHUP = 156,
    EXIT_CODE_SIGILL = 157,
};

/* What signals do to this process from now on: SIGBUS, SIGSEGV, SIGXFSZ, SIGXCPU, SIGHUP, SIGILL
 * and SIGSYS end it with a record, a line of metrics and their code; SIGPIPE is counted; real-time
 * signals, which kick vCPUs, do nothing; abort() ends it like a panic.  All others are as ever. */
void exit_install_handlers(void);

/* The last record, the last line of metrics, the terminal as it was.  Returns `code`. */
int exit_say(int code);

/* Something that must not be, whose end is abort(). */
_Noreturn void exit_panic_at(const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define exit_panic(...) exit_panic_at(__FILE__, __LINE__, __VA_ARGS__)
