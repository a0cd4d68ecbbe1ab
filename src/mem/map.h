/* map.h — guest RAM: which guest physical ranges are memory, where they are on the host, and the
 * only way for anybody but a CPU to touch them.
 *
 * RAM is private memory, not shared with any process, MADV_DONTDUMP, 2 MiB aligned on the host,
 * with inaccessible guards on both sides.  It starts zeroed, or as the content of a file.  A map
 * holds up to MEM_RANGE_MAX ranges, sorted, disjoint, page-aligned, fixed once the machine runs.
 *
 * The guest is hostile: every function here checks the whole range first and fails with -EFAULT
 * without side effect if any byte is not RAM.  Other vCPUs and devices change guest memory at any
 * time: copy what you decide on, once.
 *
 * Threads: all functions may be called from any thread after mem_map_new() and mem_map_add().
 *
 * Write watch: the software engine keeps translations of guest code.  It flags such pages with
 * mem_page_flag(); every write through this interface to a flagged page is reported to the watcher
 * after the bytes are in place, on the writing thread.
 *
 * Dirty pages: with mem_dirty_track(), writes through this interface are noted, and so are those
 * that the backend of the CPUs tells (mem_dirty_mark()); they add up until mem_dirty_clear().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "mem/addr.h"

#define MEM_RANGE_MAX 4
#define MEM_EXTRA_MAX 32 /* more than a machine has slots for devices */

struct mem_map;

struct mem_range {
    gpa_t gpa;
    uint64_t len;      /* bytes */
    uint8_t *host;     /* owned by the map; that of an extra range by who added it */
    int fd;            /* RAM that is shared: its file, from offset 0 on; else -1 */
    bool is_read_only; /* extra ranges: what the guest writes is dropped */
    /* RAM that comes and goes in slots of so many bytes (a power of two): a byte for each, not 0
     * while it is there.  0, NULL: all of it is always there. */
    uint64_t slot_bytes;
    const uint8_t *slots;
};

/* An empty map; NULL when out of memory. */
struct mem_map *mem_map_new(void);
void mem_map_free(struct mem_map *map);
/* Reserve and map `len` bytes of zeroed RAM at `gpa`, both multiples of 4 KiB. */
int mem_map_add(struct mem_map *map, gpa_t gpa, uint64_t len, struct err *err);

/* The pages of the host that RAM is made of. */
enum mem_pages {
    MEM_PAGES_LARGE, /* of 2 MiB where the host can (MADV_HUGEPAGE) */
    MEM_PAGES_HOST,  /* as the host decides */
    MEM_PAGES_2M,    /* of 2 MiB, from hugetlbfs; len is a multiple of that */
};

struct mem_backing {
    enum mem_pages pages;
    bool has_file;
    int fd;          /* with has_file: RAM starts as the bytes of this file from `offset` on and is
                        written to no file; the descriptor is not kept, the file must not change */
    uint64_t offset; /* multiple of 4 KiB */
    bool is_lazy;    /* somebody else brings in each page when it is used (userfaultfd) */
    uint64_t slot_bytes; /* not 0: in slots, none of which is there at first; len is a multiple */
    bool is_shared; /* in a file without a name that other processes may be given (mem_range.fd) */
};

/* mem_map_add() with a choice. */
int mem_map_add_backed(struct mem_map *map, gpa_t gpa, uint64_t len,
                       const struct mem_backing *backing, struct err *err);

/* A slot of range `index` comes or goes; whoever does that tells the backend (hv_slot_changed()).
 * One thread at a time; others see it when they look the next time. */
void mem_slot_set(struct mem_map *map, unsigned index, uint64_t slot, bool is_there);
static inline bool mem_slot_is_there(const struct mem_range *range, uint64_t slot)
{
    return __atomic_load_n(&range->slots[slot], __ATOMIC_ACQUIRE);
}

/* Extra ranges: memory of devices that the guest uses like RAM, but for which nothing of this file
 * works except page flags and notes: no device reads or writes there on the guest's behalf, and
 * they are no part of the guest's memory in snapshots.  `gpa`, `len` and `host` are whole pages.
 * Added and removed while no vCPU runs; whoever does that tells the backend (hv_extra_changed()).
 * The index of a range never changes; a free one has len 0. */
int mem_extra_add(struct mem_map *map, const struct mem_range *range, unsigned *ret_index,
                  struct err *err);
void mem_extra_remove(struct mem_map *map, unsigned index);
const struct mem_range *mem_extra_at(const struct mem_map *map, unsigned index);

unsigned mem_range_count(const struct mem_map *map);
const struct mem_range *mem_range_at(const struct mem_map *map, unsigned index);
uint64_t mem_total_bytes(const struct mem_map *map);

/* Host address of [gpa, gpa+len) if it is RAM within one range, else NULL.  For reading, or for
 * writing followed by mem_note_write().  len may be 0 (then gpa itself must be RAM or a range end).
 */
void *mem_ptr(const struct mem_map *map, gpa_t gpa, uint64_t len);

int mem_read(const struct mem_map *map, gpa_t gpa, void *data, size_t len);
int mem_write(struct mem_map *map, gpa_t gpa, const void *data, size_t len);

/* To be called after storing through a pointer from mem_ptr(). */
void mem_note_write(struct mem_map *map, gpa_t gpa, uint64_t len);
/* The same where only the host address is at hand (struct iovec); `host` must lie in guest RAM. */
void mem_note_write_host(struct mem_map *map, const void *host, uint64_t len);

/* Ask the host for the page frames of [gpa, gpa+len) now, in large steps, where it can; best
 * effort. */
void mem_populate(struct mem_map *map, gpa_t gpa, uint64_t len);

/* The guest does not need the content of these whole pages of RAM: give them back to the host; they
 * read as zeros.  -EINVAL: no whole pages, or not all in one range; else what the host says. */
int mem_discard(struct mem_map *map, gpa_t gpa, uint64_t len);
/* The same for the whole pages that lie in [host, host+len), which is in guest RAM. */
int mem_discard_host(struct mem_map *map, const void *host, uint64_t len);

/* Watched pages.  The watcher is set before any vCPU runs and never changes after.  `gpa`, `len`
 * stay within one page. */
typedef void (*mem_watch_fn)(void *owner, gpa_t gpa, uint64_t len);
void mem_watch_set(struct mem_map *map, mem_watch_fn fn, void *owner);
/* Flag or unflag the page that holds gpa (RAM).  Flags count: the page stays flagged until each has
 * been taken back, up to 255 of them.  Release order: whoever sees the flag sees what the flagging
 * thread did before. */
void mem_page_flag(struct mem_map *map, gpa_t gpa, bool watched);
bool mem_page_is_flagged(const struct mem_map *map, gpa_t gpa);

/* Note which pages are written from now on: before any vCPU runs.  -ENOMEM. */
int mem_dirty_track(struct mem_map *map);
bool mem_dirty_is_tracked(const struct mem_map *map);
/* The pages of [gpa, gpa+len) were written.  Any thread; nothing where not tracked or not RAM. */
void mem_dirty_mark(struct mem_map *map, gpa_t gpa, uint64_t len);
/* Has the page at `offset` of range `index` been written?  While nothing runs. */
bool mem_dirty_test(const struct mem_map *map, unsigned index, uint64_t offset);
void mem_dirty_clear(struct mem_map *map);
