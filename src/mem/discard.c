/* discard.c — give pages of RAM back to the host.
 *
 * What takes a page's place depends on what it was made of: zeros come by themselves for anonymous
 * memory, by a hole for a file that is shared.  Memory that began as the content of a file would
 * come back with that content, so anonymous memory is put in its place; each such hole splits a
 * mapping, of which the kernel gives a process 65,530 (vm.max_map_count), hence the bound.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "mem/map_int.h"

#define HOLES_MAX 16384u

static int put_anonymous(struct backing *backing, void *host, uint64_t len)
{
    if (__atomic_fetch_add(&backing->hole_count, 1, __ATOMIC_RELAXED) >= HOLES_MAX) {
        return -ENOSPC;
    }
    if (mmap(host, len, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED) {
        return -errno;
    }
    (void)madvise(host, len, MADV_DONTDUMP);
    return 0;
}

int mem_discard(struct mem_map *map, gpa_t gpa, uint64_t len)
{
    int i = mem_find(map, gpa, len);
    void *host = mem_ptr(map, gpa, len);
    int r = 0;

    if (i < 0 || !host || len == 0 || gpa.v % GUEST_PAGE_SIZE || len % GUEST_PAGE_SIZE) {
        return -EINVAL;
    }
    if (map->backings[i].has_file) {
        r = put_anonymous(&map->backings[i], host, len);
    } else if (madvise(host, len, map->ranges[i].fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) < 0) {
        r = -errno;
    }
    if (r == 0) {
        mem_note_write(map, gpa, len); /* zeros */
    }
    return r;
}

int mem_discard_host(struct mem_map *map, const void *host, uint64_t len)
{
    uintptr_t start = align_up((uintptr_t)host, GUEST_PAGE_SIZE);
    uintptr_t end = align_down((uintptr_t)host + len, GUEST_PAGE_SIZE);

    for (unsigned i = 0; i < map->count && start < end; i++) {
        const struct mem_range *r = &map->ranges[i];

        if (start >= (uintptr_t)r->host && start - (uintptr_t)r->host < r->len) {
            return mem_discard(map, GPA(r->gpa.v + (start - (uintptr_t)r->host)), end - start);
        }
    }
    return -EINVAL;
}
