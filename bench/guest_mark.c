/* guest_mark.c — PID 1 of the guest of bench/api.py: says INIT on COM1, without a driver, then
 * resets the machine; with "stay" on the kernel's command line it waits.  Static.
 */
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

#define COM1 0x3f8

int main(int argc, char **argv)
{
    if (ioperm(COM1, 1, 1) == 0) {
        for (const char *c = "INIT\n"; *c; c++) {
            outb((unsigned char)*c, COM1);
        }
    }
    for (int i = 1; i < argc; i++) { /* words that the kernel does not know are the init's */
        if (strcmp(argv[i], "stay") == 0) {
            for (;;) {
                (void)pause();
            }
        }
    }
    (void)reboot(RB_AUTOBOOT);
    return 1;
}
