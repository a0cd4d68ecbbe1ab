/* map_int.h — what the files of this room share: the map. */
#pragma once

#include "mem/map.h"

struct backing {
    void *reserved; /* whole reservation, guards included */
    size_t reserved_bytes;
    uint8_t *flags;      /* one count per page; atomic builtins only */
    uint8_t *slots;      /* see struct mem_range */
    bool has_file;       /* RAM began as the content of a file, see mem_discard() */
    unsigned hole_count; /* of that file's mapping; atomic builtins only */
    bool is_lazy;        /* pages come from elsewhere on first use: none is asked for ahead */
    uint64_t *dirty;     /* a bit per page, or NULL; atomic builtins only */
};

struct mem_map {
    unsigned count;
    struct mem_range ranges[MEM_RANGE_MAX + MEM_EXTRA_MAX]; /* RAM sorted by gpa, then the extras */
    struct backing backings[MEM_RANGE_MAX + MEM_EXTRA_MAX];
    unsigned extra_end; /* none is in use from this extra on */
    bool is_tracked;
    mem_watch_fn watch;
    void *watch_owner;
};

/* Index of the range of RAM that holds all of [gpa, gpa+len), or -1. */
int mem_find(const struct mem_map *map, gpa_t gpa, uint64_t len);
/* The same, among extra ranges too. */
int mem_find_any(const struct mem_map *map, gpa_t gpa, uint64_t len);
