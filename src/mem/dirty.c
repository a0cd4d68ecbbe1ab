/* dirty.c — which pages were written since the last snapshot.
 *
 * Theory of operation.  A bit for each page.  Devices and the monitor write through
 * mem_note_write(), which marks; the software engine marks a page when it lets a vCPU write there
 * without asking again, and takes all such permits back when the marks are cleared; KVM keeps a log
 * of its own, which is added here before anybody reads.  So a mark may be there without a write,
 * never a write without a mark.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "mem/map_int.h"

static size_t word_count(uint64_t len)
{
    return (len / GUEST_PAGE_SIZE + 63) / 64;
}

int mem_dirty_track(struct mem_map *map)
{
    for (unsigned i = 0; i < map->count; i++) {
        if (!map->backings[i].dirty) {
            map->backings[i].dirty = calloc(word_count(map->ranges[i].len), sizeof(uint64_t));
        }
        if (!map->backings[i].dirty) {
            return -ENOMEM;
        }
    }
    map->is_tracked = true;
    return 0;
}

bool mem_dirty_is_tracked(const struct mem_map *map)
{
    return map->is_tracked;
}

void mem_dirty_mark(struct mem_map *map, gpa_t gpa, uint64_t len)
{
    int i = map->is_tracked && len ? mem_find(map, gpa, len) : -1;
    uint64_t page;
    uint64_t last;

    if (i < 0) {
        return;
    }
    page = (gpa.v - map->ranges[i].gpa.v) / GUEST_PAGE_SIZE;
    last = (gpa.v - map->ranges[i].gpa.v + len - 1) / GUEST_PAGE_SIZE;
    for (; page <= last; page++) {
        uint64_t *word = &map->backings[i].dirty[page / 64];

        /* most pages are marked already: leave the cache line shared */
        if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & BIT(page % 64))) {
            __atomic_fetch_or(word, BIT(page % 64), __ATOMIC_RELAXED);
        }
    }
}

bool mem_dirty_test(const struct mem_map *map, unsigned index, uint64_t offset)
{
    uint64_t page = offset / GUEST_PAGE_SIZE;

    return __atomic_load_n(&map->backings[index].dirty[page / 64], __ATOMIC_RELAXED) &
           BIT(page % 64);
}

void mem_dirty_clear(struct mem_map *map)
{
    for (unsigned i = 0; i < map->count && map->is_tracked; i++) {
        memset(map->backings[i].dirty, 0, word_count(map->ranges[i].len) * sizeof(uint64_t));
    }
}
