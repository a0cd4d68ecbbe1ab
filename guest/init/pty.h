/* pty.h — a pseudo terminal for one command. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* `ret_master` does not block; both are close-on-exec.  The terminal belongs to `uid`. */
int pty_open(uid_t uid, int *ret_master, int *ret_terminal);
void pty_resize(int master, uint32_t rows, uint32_t cols);
/* The process group in the foreground, 0 if unknown. */
pid_t pty_foreground(int master);
/* Say end-of-file as a person would, if the terminal is in line mode.  `last` is the last byte put
 * in: a line that is not finished takes the character twice. */
void pty_put_eof(int master, uint8_t last);
