/* map.c — guest RAM ranges, checked access, and the write watch. */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "mem/map_int.h"

#define GUARD_BYTES (4 * GIB) /* a wild 32-bit displacement from any RAM byte stays within */
#define HUGE_BYTES  (2 * MIB)

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26) /* of linux/mman.h */
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older headers lack it, older kernels refuse it */
#endif

struct mem_map *mem_map_new(void)
{
    return calloc(1, sizeof(struct mem_map));
}

void mem_map_free(struct mem_map *map)
{
    if (!map) {
        return;
    }
    for (unsigned i = 0; i < map->count; i++) {
        (void)munmap(map->backings[i].reserved, map->backings[i].reserved_bytes);
        free(map->backings[i].flags);
        free(map->backings[i].dirty);
    }
    free(map);
}

static int check_new_range(const struct mem_map *map, gpa_t gpa, uint64_t len, struct err *err)
{
    uint64_t end;

    if (map->count == MEM_RANGE_MAX) {
        return err_set(err, -ENOSPC, "guest memory: more than %d ranges", MEM_RANGE_MAX);
    }
    if (len == 0 || gpa.v % GUEST_PAGE_SIZE || len % GUEST_PAGE_SIZE ||
        __builtin_add_overflow(gpa.v, len, &end)) {
        return err_set(err, -EINVAL, "guest memory range 0x%llx+0x%llx: must be whole 4 KiB pages",
                       (unsigned long long)gpa.v, (unsigned long long)len);
    }
    for (unsigned i = 0; i < map->count; i++) {
        const struct mem_range *r = &map->ranges[i];

        if (gpa.v < r->gpa.v + r->len && r->gpa.v < end) {
            return err_set(err, -EEXIST, "guest memory range 0x%llx+0x%llx: overlaps another",
                           (unsigned long long)gpa.v, (unsigned long long)len);
        }
    }
    return 0;
}

/* Is all of the range within the file?  A page behind the end would be a SIGBUS. */
static int check_file(const struct mem_backing *backing, uint64_t len, struct err *err)
{
    struct stat st;

    if (fstat(backing->fd, &st) < 0) {
        return err_sys(err, "file of guest memory");
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 0 ||
        !range_within(backing->offset, len, (uint64_t)st.st_size)) {
        return err_set(err, -EINVAL,
                       "the memory file has %lld bytes, but guest memory is at %llu to %llu of it",
                       (long long)st.st_size, (unsigned long long)backing->offset,
                       (unsigned long long)(backing->offset + len));
    }
    return 0;
}

/* Make memory of the reserved addresses at `host`. */
static int back(uint8_t *host, uint64_t len, const struct mem_backing *backing, struct err *err)
{
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    int fd = backing->has_file ? backing->fd : -1;
    int r = backing->has_file ? check_file(backing, len, err) : 0;

    if (r < 0) {
        return r;
    }
    if (!backing->has_file) {
        flags |= MAP_ANONYMOUS;
    }
    if (backing->pages == MEM_PAGES_2M) {
        if (len % HUGE_BYTES || backing->has_file) {
            return err_set(err, -EINVAL, "guest memory of %llu bytes: cannot have pages of 2 MiB",
                           (unsigned long long)len);
        }
        flags |= MAP_HUGETLB | MAP_HUGE_2MB;
        flags &= ~MAP_NORESERVE; /* too few pages are told now, not by a SIGBUS */
    }
    if (mmap(host, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)backing->offset) == MAP_FAILED) {
        return err_sys(err, "map %llu MiB of guest memory", (unsigned long long)(len / MIB));
    }
    if (backing->pages == MEM_PAGES_LARGE) {
        (void)madvise(host, len, MADV_HUGEPAGE);
    }
    (void)madvise(host, len, MADV_DONTDUMP);
    return 0;
}

int mem_map_add(struct mem_map *map, gpa_t gpa, uint64_t len, struct err *err)
{
    static const struct mem_backing backing = {.pages = MEM_PAGES_LARGE};

    return mem_map_add_backed(map, gpa, len, &backing, err);
}

int mem_map_add_backed(struct mem_map *map, gpa_t gpa, uint64_t len,
                       const struct mem_backing *backing, struct err *err)
{
    int r = check_new_range(map, gpa, len, err);
    size_t total;
    uint8_t *base;
    uint8_t *host;
    uint8_t *flags;
    unsigned at = map->count;

    if (r < 0) {
        return r;
    }
    if (__builtin_add_overflow(len, 2 * GUARD_BYTES + HUGE_BYTES, &total)) {
        return err_set(err, -ENOMEM, "guest memory of %llu bytes: too large",
                       (unsigned long long)len);
    }
    base = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        return err_sys(err, "reserve %llu MiB of address space for guest memory",
                       (unsigned long long)(total / MIB));
    }
    host = (uint8_t *)align_up((uintptr_t)base + GUARD_BYTES,
                               HUGE_BYTES); /* NOLINT(performance-no-int-to-ptr) */
    flags = calloc(len / GUEST_PAGE_SIZE, 1);
    r = flags ? back(host, len, backing, err)
              : err_set(err, -ENOMEM, "guest memory: out of memory");
    if (r < 0) {
        (void)munmap(base, total);
        free(flags);
        return r;
    }
    while (at > 0 && map->ranges[at - 1].gpa.v > gpa.v) {
        map->ranges[at] = map->ranges[at - 1];
        map->backings[at] = map->backings[at - 1];
        at--;
    }
    map->ranges[at] = (struct mem_range){.gpa = gpa, .len = len, .host = host};
    map->backings[at] = (struct backing){.reserved = base,
                                         .reserved_bytes = total,
                                         .flags = flags,
                                         .is_lazy = backing->has_file || backing->is_lazy};
    map->count++;
    return 0;
}

unsigned mem_range_count(const struct mem_map *map)
{
    return map->count;
}

const struct mem_range *mem_range_at(const struct mem_map *map, unsigned index)
{
    return &map->ranges[index];
}

uint64_t mem_total_bytes(const struct mem_map *map)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < map->count; i++) {
        total += map->ranges[i].len;
    }
    return total;
}

int mem_find(const struct mem_map *map, gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct mem_range *r = &map->ranges[i];

        if (gpa.v >= r->gpa.v && range_within(gpa.v - r->gpa.v, len, r->len)) {
            return (int)i;
        }
    }
    return -1;
}

void *mem_ptr(const struct mem_map *map, gpa_t gpa, uint64_t len)
{
    int i = mem_find(map, gpa, len);

    return i < 0 ? NULL : map->ranges[i].host + (gpa.v - map->ranges[i].gpa.v);
}

int mem_read(const struct mem_map *map, gpa_t gpa, void *data, size_t len)
{
    const void *from = mem_ptr(map, gpa, len);

    if (!from) {
        return -EFAULT;
    }
    memcpy(data, from, len);
    return 0;
}

int mem_write(struct mem_map *map, gpa_t gpa, const void *data, size_t len)
{
    void *to = mem_ptr(map, gpa, len);

    if (!to) {
        return -EFAULT;
    }
    memcpy(to, data, len);
    mem_note_write(map, gpa, len);
    return 0;
}

void mem_note_write(struct mem_map *map, gpa_t gpa, uint64_t len)
{
    int i = mem_find(map, gpa, len);

    if (i < 0) {
        return;
    }
    mem_dirty_mark(map, gpa, len);
    if (!map->watch) {
        return;
    }
    /* pairs with the fence in mem_page_flag(): either we see the flag, or the flagging thread,
     * which reads the page after flagging it, sees our bytes */
    atomic_thread_fence(memory_order_seq_cst);
    while (len > 0) {
        uint64_t offset = gpa.v - map->ranges[i].gpa.v;
        uint64_t step = GUEST_PAGE_SIZE - (gpa.v & (GUEST_PAGE_SIZE - 1));

        step = step < len ? step : len;
        if (__atomic_load_n(&map->backings[i].flags[offset / GUEST_PAGE_SIZE], __ATOMIC_ACQUIRE)) {
            map->watch(map->watch_owner, gpa, step);
        }
        gpa.v += step;
        len -= step;
    }
}

void mem_note_write_host(struct mem_map *map, const void *host, uint64_t len)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct mem_range *r = &map->ranges[i];
        uintptr_t at = (uintptr_t)host;

        if (at >= (uintptr_t)r->host && at - (uintptr_t)r->host < r->len) {
            mem_note_write(map, GPA(r->gpa.v + (at - (uintptr_t)r->host)), len);
            return;
        }
    }
}

void mem_populate(struct mem_map *map, gpa_t gpa, uint64_t len)
{
    int i = mem_find(map, gpa, len);
    uint8_t *host = mem_ptr(map, gpa, len);

    if (i >= 0 && len && !map->backings[i].is_lazy) {
        uintptr_t start = align_down((uintptr_t)host, GUEST_PAGE_SIZE);

        /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
        (void)madvise((void *)start, align_up((uintptr_t)host + len, GUEST_PAGE_SIZE) - start,
                      MADV_POPULATE_WRITE);
    }
}

void mem_watch_set(struct mem_map *map, mem_watch_fn fn, void *owner)
{
    map->watch = fn;
    map->watch_owner = owner;
}

void mem_page_flag(struct mem_map *map, gpa_t gpa, bool watched)
{
    int i = mem_find(map, gpa, 1);

    if (i >= 0) {
        __atomic_fetch_add(
            &map->backings[i].flags[(gpa.v - map->ranges[i].gpa.v) / GUEST_PAGE_SIZE],
            (uint8_t)(watched ? 1 : -1), __ATOMIC_RELEASE);
        /* pairs with the fence in mem_note_write() */
        atomic_thread_fence(memory_order_seq_cst);
    }
}

bool mem_page_is_flagged(const struct mem_map *map, gpa_t gpa)
{
    int i = mem_find(map, gpa, 1);

    return i >= 0 && __atomic_load_n(
                         &map->backings[i].flags[(gpa.v - map->ranges[i].gpa.v) / GUEST_PAGE_SIZE],
                         __ATOMIC_ACQUIRE);
}
