/* snapshot_memory.c — guest memory into a file.
 *
 * Theory of operation.  The file is the ranges one after the other, so its size is that of memory
 * and a page has one place in it for ever.  A file of that size is taken over in place: what is
 * changed since goes on top of what is there, which is how a base becomes the next state, and a
 * machine that maps this very file keeps its pages (those it wrote are its own, the others are
 * written with their own content).  Any other file is emptied first; then pages that are all zero
 * may stay holes.
 *
 * Room is reserved before the first byte is written (fallocate), so that a full disk leaves what
 * was there; and the marks of written pages stay until the whole snapshot is there, so that the
 * next try is complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/file.h"
#include "base/os_error.h"
#include "machine/machine_int.h"
#include "machine/snapshot.h"

#define RUN_MAX (8 * MIB) /* bytes of one write */

/* A dump in progress. */
struct dump {
    struct machine *m;
    int fd;
    enum memory_part part;
    bool is_fresh;     /* the file was emptied: holes read as zeros */
    bool is_reserving; /* first pass: only room */
    uint8_t resident[RUN_MAX / GUEST_PAGE_SIZE];
};

static int failed(struct err *err, int code, const char *what)
{
    char text[OS_ERROR_MAX];

    return err_set(err, code, "Cannot write memory file: Cannot %s: %s", what,
                   os_error(code, text));
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, GUEST_PAGE_SIZE - 1) == 0;
}

/* Does the page at `offset` of range `index` belong into the file?  `resident`: as mincore says. */
static bool is_wanted(const struct dump *d, unsigned index, uint64_t offset, uint8_t resident)
{
    const struct mem_range *range = mem_range_at(d->m->mem, index);

    if (range->slots && !mem_slot_is_there(range, offset / range->slot_bytes)) {
        return false;
    }
    if (d->part == MEMORY_CHANGED) {
        return mem_dirty_is_tracked(d->m->mem) ? mem_dirty_test(d->m->mem, index, offset)
                                               : resident & 1;
    }
    return !d->is_fresh || !is_zero(range->host + offset);
}

/* A file system that cannot reserve finds out when it writes. */
static int reserve(int fd, uint64_t offset, uint64_t len)
{
    if (fallocate(fd, 0, (off_t)offset, (off_t)len) == 0 || errno == EOPNOTSUPP ||
        errno == ENOSYS) {
        return 0;
    }
    return -errno;
}

static int put_run(const struct dump *d, const uint8_t *host, uint64_t len, uint64_t at)
{
    if (len == 0) {
        return 0;
    }
    return d->is_reserving ? reserve(d->fd, at, len) : file_write_at(d->fd, at, host, len);
}

/* Up to RUN_MAX bytes of a range, at `at` of the file: its wanted pages in runs. */
static int put_chunk(struct dump *d, unsigned index, uint64_t start, uint64_t len, uint64_t at)
{
    const struct mem_range *range = mem_range_at(d->m->mem, index);
    bool asks = d->part == MEMORY_CHANGED && !mem_dirty_is_tracked(d->m->mem);
    uint64_t run = start;

    if (asks && mincore(range->host + start, len, d->resident) < 0) {
        return -errno;
    }
    for (uint64_t offset = start; offset < start + len; offset += GUEST_PAGE_SIZE) {
        uint8_t resident = d->resident[(offset - start) / GUEST_PAGE_SIZE];
        int r;

        if (is_wanted(d, index, offset, resident)) {
            continue;
        }
        r = put_run(d, range->host + run, offset - run, at + (run - start));
        if (r < 0) {
            return r;
        }
        run = offset + GUEST_PAGE_SIZE;
    }
    return put_run(d, range->host + run, start + len - run, at + (run - start));
}

static int put_all(struct dump *d)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < mem_range_count(d->m->mem); i++) {
        uint64_t len = mem_range_at(d->m->mem, i)->len;

        for (uint64_t start = 0; start < len; start += RUN_MAX) {
            uint64_t part = len - start < RUN_MAX ? len - start : RUN_MAX;
            int r = put_chunk(d, i, start, part, at + start);

            if (r < 0) {
                return r;
            }
        }
        at += len;
    }
    return 0;
}

/* Empty the file, unless it has the right size. */
static int take_over(struct dump *d, struct err *err)
{
    uint64_t bytes = mem_total_bytes(d->m->mem);
    struct stat st;

    if (fstat(d->fd, &st) < 0) {
        return failed(err, -errno, "get the size of the file");
    }
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes) {
        return 0;
    }
    if (ftruncate(d->fd, 0) < 0 || ftruncate(d->fd, (off_t)bytes) < 0) {
        return failed(err, -errno, "set the size of the file");
    }
    d->is_fresh = true;
    return 0;
}

int machine_save_memory(struct machine *m, int fd, enum memory_part part, struct err *err)
{
    AUTO_FREE struct dump *d = calloc(1, sizeof(*d));
    int r;

    if (!d) {
        return err_set(err, -ENOMEM, "Cannot write memory file: out of memory");
    }
    *d = (struct dump){.m = m, .fd = fd, .part = part};
    r = mem_dirty_is_tracked(m->mem) ? hv_dirty_sync(m->vm) : 0;
    if (r < 0) {
        return err_set(err, r, "Cannot get the dirty bitmap: %s", strerror(-r));
    }
    r = take_over(d, err);
    if (r < 0) {
        return r;
    }
    d->is_reserving = true;
    r = put_all(d);
    d->is_reserving = false;
    if (r == 0) {
        r = put_all(d);
    }
    if (r == 0 && fdatasync(fd) < 0) {
        r = -errno;
    }
    return r < 0 ? failed(err, r, "dump memory") : 0;
}

void machine_forget_changes(struct machine *m)
{
    if (mem_dirty_is_tracked(m->mem)) {
        mem_dirty_clear(m->mem);
        hv_dirty_restart(m->vm);
    }
}
