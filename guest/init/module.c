/* module.c — load kernel modules from files. */
#include "guest/init/module.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"

enum { MODULE_SIZE_MAX = 256 * 1024 * 1024 };

/* Kernels before 3.8 and some sandboxes have no finit_module. */
static int load_from_memory(const char *path)
{
    AUTO_CALL(buf_fini) struct buf image = {0};
    int r = buf_read_file(&image, path, MODULE_SIZE_MAX);

    if (r < 0) {
        return r;
    }
    return syscall(SYS_init_module, image.data, image.len, "") < 0 ? -errno : 0;
}

static int load(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    if (syscall(SYS_finit_module, fd, "", 0) == 0) {
        return 0;
    }
    return errno == ENOSYS ? load_from_memory(path) : -errno;
}

void modules_load(char *const *paths, size_t count, struct report *report)
{
    for (size_t i = 0; i < count; i++) {
        int r = load(paths[i]);
        const char *name = strrchr(paths[i], '/');

        if (r < 0 && r != -EEXIST) {
            report_warn(report, "load module '%s': %s", name ? name + 1 : paths[i], strerror(-r));
        }
        (void)unlink(paths[i]);
    }
}
