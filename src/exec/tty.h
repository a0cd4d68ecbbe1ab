/* tty.h — the caller's terminal in raw mode, and back under all circumstances.
 *
 * One terminal at a time.  It is restored by exec_tty_restore(), at exit(3) and on abort(3); a
 * handler of other fatal signals may call exec_tty_restore() too, it is async-signal-safe.
 */
#pragma once

/* 0, -ENOTTY, or another error. */
int exec_tty_raw(int fd);
/* After a stop: the shell has put its own mode in place.  Harmless when not raw. */
void exec_tty_again(void);
/* Harmless when not raw. */
void exec_tty_restore(void);
