/* vimto_init.c — PID 1 of the peer in bench/vimto.py: what a test runner's guest does at least.
 *
 * Loads the modules /m/000.ko, ..., mounts the host's root (virtio-fs, tag "hostroot") below an
 * overlay, what is private to the VM, and runs the command of the file /command (folder and words,
 * each with a NUL) there; then resets the machine.  Static.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 64, COMMAND_MAX = 4096 };

static void fail(const char *what)
{
    (void)printf("vimto_init: %s: %s\n", what, strerror(errno));
    (void)reboot(RB_AUTOBOOT);
}

static void load_modules(void)
{
    for (unsigned i = 0;; i++) {
        char path[32];
        int fd;

        (void)snprintf(path, sizeof(path), "/m/%03u.ko", i);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return;
        }
        if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST) {
            fail(path);
        }
        (void)close(fd);
    }
}

static void mount_at(const char *type, const char *source, const char *target, unsigned long flags,
                     const char *data)
{
    (void)mkdir(target, 0755);
    if (mount(source, target, type, flags, data) < 0) {
        fail(target);
    }
}

static void enter_root(void)
{
    mount_at("virtiofs", "hostroot", "/lower", MS_RDONLY, NULL);
    mount_at("tmpfs", "over", "/over", 0, NULL);
    (void)mkdir("/over/up", 0755);
    (void)mkdir("/over/work", 0755);
    mount_at("overlay", "overlay", "/new", 0,
             "lowerdir=/lower,upperdir=/over/up,workdir=/over/work");
    if (chdir("/new") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
        fail("enter the root");
    }
    mount_at("proc", "proc", "/proc", 0, NULL);
    mount_at("sysfs", "sys", "/sys", 0, NULL);
    mount_at("devtmpfs", "dev", "/dev", 0, NULL);
    mount_at("tmpfs", "run", "/run", 0, NULL);
    mount_at("tmpfs", "tmp", "/tmp", 0, "mode=1777");
    mount_at("tmpfs", "shm", "/dev/shm", 0, "mode=1777");
}

/* The folder, then the words; argv[0] is the folder. */
static void read_command(char text[static COMMAND_MAX], char *argv[static WORDS_MAX])
{
    int fd = open("/command", O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, text, COMMAND_MAX - 1);
    unsigned n = 0;

    if (len <= 0) {
        fail("/command");
        return;
    }
    text[len] = 0;
    for (ssize_t at = 0; at < len && n < WORDS_MAX - 1; at += (ssize_t)strlen(text + at) + 1) {
        argv[n++] = text + at;
    }
    argv[n] = NULL;
    (void)close(fd);
}

int main(void)
{
    static char text[COMMAND_MAX];
    static char *argv[WORDS_MAX];
    int status = -1;
    pid_t child;

    read_command(text, argv);
    load_modules();
    enter_root();
    child = fork();
    if (child == 0) {
        (void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
        if (chdir(argv[0]) == 0) {
            (void)execvp(argv[1], argv + 1);
        }
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        fail("run the command");
    }
    (void)printf("vimto_init: status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 255);
    (void)fflush(stdout);
    (void)reboot(RB_AUTOBOOT);
    return 1;
}
