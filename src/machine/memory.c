/* memory.c — the machine's RAM: new, a private mapping of a snapshot's file, or brought in by
 * somebody else page by page. */
#include <errno.h>
#include <string.h>

#include "config/resource.h"
#include "host/uffd.h"
#include "machine/layout.h"
#include "machine/machine_int.h"

static int add_range(struct machine *m, uint64_t gpa, uint64_t len, struct mem_backing *backing,
                     struct err *err)
{
    int r = mem_map_add_backed(m->mem, GPA(gpa), len, backing, err);

    backing->offset += len;
    return r;
}

/* A drive that another process serves wants memory that this process can map. */
static bool is_shared(const struct vm_config *config)
{
    for (unsigned i = 0; i < config->drive_count; i++) {
        if (config->drives[i].vhost) {
            return true;
        }
    }
    return false;
}

static struct mem_backing backing_of(const struct vm_config *config)
{
    static const enum mem_pages pages[] = {[PAGES_NONE] = MEM_PAGES_HOST,
                                           [PAGES_TRANSPARENT] = MEM_PAGES_LARGE,
                                           [PAGES_2M] = MEM_PAGES_2M};

    return (struct mem_backing){.pages = pages[config->huge_pages],
                                .has_file = config->restored && !config->uffd_path,
                                .fd = config->memory_fd,
                                .is_lazy = config->uffd_path != NULL,
                                .is_shared = is_shared(config)};
}

/* Whoever listens at the path brings in the pages from now on. */
static int hand_over(struct machine *m, const struct vm_config *config, struct err *err)
{
    struct uffd_range ranges[MEM_RANGE_MAX];
    unsigned count = mem_range_count(m->mem);
    uint64_t offset = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct mem_range *range = mem_range_at(m->mem, i);

        ranges[i] = (struct uffd_range){.host = range->host, .len = range->len, .offset = offset};
        offset += range->len;
    }
    return uffd_open(ranges, count, config->huge_pages == PAGES_2M, config->uffd_path, &m->uffd,
                     err);
}

int machine_add_memory(struct machine *m, const struct vm_config *config, struct err *err)
{
    uint64_t bytes = config->mem_bytes;
    uint64_t low = bytes < LAYOUT_RAM_LOW_MAX ? bytes : LAYOUT_RAM_LOW_MAX;
    struct mem_backing backing = backing_of(config);
    int r;

    m->mem = mem_map_new();
    if (!m->mem) {
        return err_set(err, -ENOMEM, "guest memory: out of memory");
    }
    r = add_range(m, 0, low, &backing, err);
    if (r == 0 && bytes > low) {
        r = add_range(m, LAYOUT_RAM_HIGH_START, bytes - low, &backing, err);
    }
    if (r == 0) {
        r = machine_add_hot_range(m, config, &backing, err);
    }
    if (r == 0 && config->tracks_dirty_pages) {
        r = mem_dirty_track(m->mem);
        if (r < 0) {
            (void)err_set(err, r, "dirty pages: out of memory");
        }
    }
    if (r == 0 && backing.is_lazy) {
        r = hand_over(m, config, err);
    }
    if (r < 0 && config->restored) {
        return err_wrap(err, r, "Failed to load guest memory: Error creating guest memory from %s",
                        backing.is_lazy ? "uffd" : "file");
    }
    return r;
}
