/* pty.c — a pseudo terminal for one command. */
#include "guest/init/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/auto.h"

/* Linux 4.13 opens the other side by the master; before, by its number. */
static int open_terminal(int master)
{
    int fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    unsigned number;
    char path[64];

    if (fd >= 0) {
        return fd;
    }
    if (ioctl(master, TIOCGPTN, &number) < 0) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "/dev/pts/%u", number);
    return open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

int pty_open(uid_t uid, int *ret_master, int *ret_terminal)
{
    enum { FLAGS = O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK };
    AUTO_CLOSE int master = open("/dev/pts/ptmx", FLAGS);
    AUTO_CLOSE int terminal = -1;
    int unlock = 0;

    if (master < 0) {
        master = open("/dev/ptmx", FLAGS);
    }
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0) {
        return -errno;
    }
    terminal = open_terminal(master);
    if (terminal < 0) {
        return -errno;
    }
    (void)!fchown(terminal, uid, (gid_t)-1);
    *ret_master = take_fd(&master);
    *ret_terminal = take_fd(&terminal);
    return 0;
}

void pty_resize(int master, uint32_t rows, uint32_t cols)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

    if (master >= 0) {
        (void)ioctl(master, TIOCSWINSZ, &size);
    }
}

pid_t pty_foreground(int master)
{
    pid_t group = 0;

    return ioctl(master, TIOCGPGRP, &group) < 0 ? 0 : group;
}

void pty_put_eof(int master, uint8_t last)
{
    struct termios mode;
    uint8_t eof[2];
    bool is_line_open = last != 0 && last != '\n' && last != '\r';

    if (tcgetattr(master, &mode) < 0 || !(mode.c_lflag & ICANON)) {
        return;
    }
    eof[0] = mode.c_cc[VEOF];
    eof[1] = mode.c_cc[VEOF];
    (void)!write(master, eof, is_line_open ? 2 : 1);
}
