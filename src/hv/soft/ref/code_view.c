/* code_view.c — a memfd mapped twice, so that no page is ever writable and executable at once. */
#include "hv/soft/ref/code_view.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

int code_view_open(struct code_view *view, const char *name, size_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC), r = 0;

    *view = (struct code_view){.size = size};
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)size) < 0) {
        r = -errno;
    } else {
        view->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        view->rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
        r = view->rw == MAP_FAILED || view->rx == MAP_FAILED ? -errno : 0;
    }
    (void)close(fd);
    return r;
}

void code_view_close(struct code_view *view)
{
    if (view->rw && view->rw != MAP_FAILED) {
        (void)munmap(view->rw, view->size);
    }
    if (view->rx && view->rx != MAP_FAILED) {
        (void)munmap(view->rx, view->size);
    }
    *view = (struct code_view){0};
}
