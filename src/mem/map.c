/* map.c — guest RAM ranges, checked access, and the write watch. */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "mem/map_int.h"

#define GUARD_BYTES (4 * GIB) /* a wild 32-bit displacement from any RAM byte stays within */
#define HUGE_BYTES  (2 * MIB)

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26) /* of linux/mman.h */
#endif

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26) /* of linux/memfd.h */
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
        free(map->backings[i].slots);
        if (map->ranges[i].fd >= 0) {
            (void)close(map->ranges[i].fd);
        }
    }
    for (unsigned i = 0; i < map->extra_end; i++) {
        free(map->backings[MEM_RANGE_MAX + i].flags);
    }
    free(map);
}

static int check_new_range(const struct mem_map *map, gpa_t gpa, uint64_t len, struct err *err)
{
    uint64_t end;

    if (len == 0 || gpa.v % GUEST_PAGE_SIZE || len % GUEST_PAGE_SIZE ||
        __builtin_add_overflow(gpa.v, len, &end)) {
        return err_set(err, -EINVAL, "guest memory range 0x%llx+0x%llx: must be whole 4 KiB pages",
                       (unsigned long long)gpa.v, (unsigned long long)len);
    }
    for (unsigned i = 0; i < MEM_RANGE_MAX + map->extra_end; i++) {
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
                       (unsigned long long)backing->offset + (unsigned long long)len);
    }
    return 0;
}

/* A file without a name; what it is called shows in /proc only. */
static int make_file(uint64_t len, const struct mem_backing *backing, int *ret_fd, struct err *err)
{
    unsigned flags = MFD_CLOEXEC;
    int fd;

    if (backing->pages == MEM_PAGES_2M) {
        flags |= MFD_HUGETLB | MFD_HUGE_2MB;
    }
    fd = memfd_create("guest_mem", flags);
    if (fd < 0 || ftruncate(fd, (off_t)len) < 0) {
        int r = err_sys(err, "make a file for %llu MiB of guest memory",
                        (unsigned long long)(len / MIB));

        if (fd >= 0) {
            (void)close(fd);
        }
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* Make memory of the reserved addresses at `host`.  `shared_fd` < 0: private. */
static int back(uint8_t *host, uint64_t len, const struct mem_backing *backing, int shared_fd,
                struct err *err)
{
    int flags = MAP_FIXED | MAP_NORESERVE | (shared_fd < 0 ? MAP_PRIVATE : MAP_SHARED);
    int fd = backing->has_file ? backing->fd : shared_fd;
    int r = backing->has_file ? check_file(backing, len, err) : 0;

    if (r < 0) {
        return r;
    }
    if (fd < 0) {
        flags |= MAP_ANONYMOUS;
    }
    if (backing->pages == MEM_PAGES_2M) {
        if (len % HUGE_BYTES || backing->has_file) {
            return err_set(err, -EINVAL, "guest memory of %llu bytes: cannot have pages of 2 MiB",
                           (unsigned long long)len);
        }
        flags |= fd < 0 ? MAP_HUGETLB | MAP_HUGE_2MB : 0;
        flags &= backing->slot_bytes
                     ? ~0
                     : ~MAP_NORESERVE; /* too few pages are told now, not by a SIGBUS */
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
    uint8_t *slots = NULL;
    unsigned at = map->count;
    int fd = -1;

    if (r == 0 && map->count == MEM_RANGE_MAX) {
        r = err_set(err, -ENOSPC, "guest memory: more than %d ranges", MEM_RANGE_MAX);
    }
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
    if (backing->slot_bytes) {
        slots = calloc(len / backing->slot_bytes, 1);
    }
    r = flags && !slots == !backing->slot_bytes
            ? 0
            : err_set(err, -ENOMEM, "guest memory: out of memory");
    if (r == 0 && backing->is_shared) {
        r = make_file(len, backing, &fd, err);
    }
    if (r == 0) {
        r = back(host, len, backing, fd, err);
    }
    if (r < 0) {
        (void)munmap(base, total);
        free(flags);
        free(slots);
        if (fd >= 0) {
            (void)close(fd);
        }
        return r;
    }
    while (at > 0 && map->ranges[at - 1].gpa.v > gpa.v) {
        map->ranges[at] = map->ranges[at - 1];
        map->backings[at] = map->backings[at - 1];
        at--;
    }
    map->ranges[at] = (struct mem_range){.gpa = gpa,
                                         .len = len,
                                         .host = host,
                                         .fd = fd,
                                         .slot_bytes = backing->slot_bytes,
                                         .slots = slots};
    map->backings[at] = (struct backing){.reserved = base,
                                         .reserved_bytes = total,
                                         .flags = flags,
                                         .slots = slots,
                                         .has_file = backing->has_file,
                                         .is_lazy = backing->has_file || backing->is_lazy};
    map->count++;
    return 0;
}

int mem_extra_add(struct mem_map *map, const struct mem_range *range, unsigned *ret_index,
                  struct err *err)
{
    int r = check_new_range(map, range->gpa, range->len, err);
    unsigned i = 0;
    uint8_t *flags;

    if (r < 0) {
        return r;
    }
    while (i < map->extra_end && map->ranges[MEM_RANGE_MAX + i].len) {
        i++;
    }
    if (i == MEM_EXTRA_MAX) {
        return err_set(err, -ENOSPC, "guest memory: more than %d extra ranges", MEM_EXTRA_MAX);
    }
    flags = calloc(range->len / GUEST_PAGE_SIZE, 1);
    if (!flags) {
        return err_set(err, -ENOMEM, "guest memory: out of memory");
    }
    map->ranges[MEM_RANGE_MAX + i] = *range;
    map->ranges[MEM_RANGE_MAX + i].fd = -1;
    map->backings[MEM_RANGE_MAX + i] = (struct backing){.flags = flags, .is_lazy = true};
    map->extra_end = i < map->extra_end ? map->extra_end : i + 1;
    *ret_index = i;
    return 0;
}

void mem_extra_remove(struct mem_map *map, unsigned index)
{
    struct mem_range *range = &map->ranges[MEM_RANGE_MAX + index];
    uint8_t *flags = map->backings[MEM_RANGE_MAX + index].flags;

    mem_note_write(map, range->gpa, range->len); /* what was decoded from it, is not there */
    *range = (struct mem_range){.fd = -1};
    map->backings[MEM_RANGE_MAX + index] = (struct backing){0};
    free(flags);
}

const struct mem_range *mem_extra_at(const struct mem_map *map, unsigned index)
{
    return &map->ranges[MEM_RANGE_MAX + index];
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

/* Are all slots of [offset, offset+len) there? */
static bool has_slots(const struct mem_range *r, uint64_t offset, uint64_t len)
{
    uint64_t slot = offset / r->slot_bytes;
    uint64_t last = len ? (offset + len - 1) / r->slot_bytes : slot;

    while (slot <= last && slot < r->len / r->slot_bytes && mem_slot_is_there(r, slot)) {
        slot++;
    }
    return slot > last;
}

void mem_slot_set(struct mem_map *map, unsigned index, uint64_t slot, bool is_there)
{
    /* release: pairs with mem_slot_is_there() */
    __atomic_store_n(&map->backings[index].slots[slot], is_there, __ATOMIC_RELEASE);
}

static int find_from(const struct mem_map *map, unsigned first, unsigned end, gpa_t gpa,
                     uint64_t len)
{
    for (unsigned i = first; i < end; i++) {
        const struct mem_range *r = &map->ranges[i];

        if (gpa.v >= r->gpa.v && range_within(gpa.v - r->gpa.v, len, r->len)) {
            return !r->slots || has_slots(r, gpa.v - r->gpa.v, len) ? (int)i : -1;
        }
    }
    return -1;
}

int mem_find(const struct mem_map *map, gpa_t gpa, uint64_t len)
{
    return find_from(map, 0, map->count, gpa, len);
}

int mem_find_any(const struct mem_map *map, gpa_t gpa, uint64_t len)
{
    int i = mem_find(map, gpa, len);

    return i >= 0 ? i : find_from(map, MEM_RANGE_MAX, MEM_RANGE_MAX + map->extra_end, gpa, len);
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
    int i = mem_find_any(map, gpa, len);

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
    int i = mem_find_any(map, gpa, 1);

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
    int i = mem_find_any(map, gpa, 1);

    return i >= 0 && __atomic_load_n(
                         &map->backings[i].flags[(gpa.v - map->ranges[i].gpa.v) / GUEST_PAGE_SIZE],
                         __ATOMIC_ACQUIRE);
}
