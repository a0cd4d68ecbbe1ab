/* extra.c — memory of devices in the guest's address space, behind all RAM. */
#include <errno.h>

#include "base/bits.h"
#include "machine/layout.h"
#include "machine/machine_int.h"

/* The first address behind `range` where the next may start, if it is in the way of [gpa, +len). */
static uint64_t step_over(const struct mem_range *range, uint64_t gpa, uint64_t len)
{
    uint64_t end = range->gpa.v + range->len;

    return range->len && gpa < end && range->gpa.v < gpa + len ? align_up(end, LAYOUT_EXTRA_ALIGN)
                                                               : gpa;
}

/* The lowest free place of `len` bytes. */
static uint64_t find_place(const struct mem_map *mem, uint64_t len)
{
    uint64_t gpa = LAYOUT_EXTRA_START;
    uint64_t before;

    do {
        before = gpa;
        for (unsigned i = 0; i < mem_range_count(mem); i++) {
            gpa = step_over(mem_range_at(mem, i), gpa, len);
        }
        for (unsigned i = 0; i < MEM_EXTRA_MAX; i++) {
            gpa = step_over(mem_extra_at(mem, i), gpa, len);
        }
    } while (gpa != before);
    return gpa;
}

/* Nothing runs while memory comes or goes. */
static bool hold(struct machine *m)
{
    bool was_running = m->is_started && !atomic_load(&m->pause.is_wanted);

    if (was_running) {
        machine_pause(m);
    }
    return was_running;
}

static void let_go(struct machine *m, bool was_running)
{
    if (was_running) {
        (void)machine_resume(m, NULL);
    }
}

static int add(struct machine *m, const struct mem_range *range, unsigned *ret_index,
               struct err *err)
{
    int r = mem_extra_add(m->mem, range, ret_index, err);

    if (r == 0) {
        r = hv_extra_changed(m->vm, *ret_index);
        if (r < 0) {
            mem_extra_remove(m->mem, *ret_index);
            (void)err_set(err, r, "map %llu MiB at 0x%llx: error %d",
                          (unsigned long long)(range->len / MIB), (unsigned long long)range->gpa.v,
                          -r);
        }
    }
    return r;
}

int machine_add_extra(struct machine *m, void *host, uint64_t len, bool is_read_only,
                      unsigned *ret_index, struct err *err)
{
    struct mem_range range = {.len = len, .host = host, .is_read_only = is_read_only};
    unsigned index = 0;
    bool was_running;
    int r;

    if (len <= LAYOUT_EXTRA_LEN) {
        range.gpa = GPA(find_place(m->mem, len));
    }
    if (!range_within(range.gpa.v - LAYOUT_EXTRA_START, len, LAYOUT_EXTRA_LEN)) {
        return err_set(err, -ENOSPC, "no room for %llu MiB in the guest's address space",
                       (unsigned long long)(len / MIB));
    }
    was_running = hold(m);
    r = add(m, &range, &index, err);
    let_go(m, was_running);
    if (r == 0) {
        *ret_index = index;
    }
    return r;
}

void machine_remove_extra(struct machine *m, unsigned index)
{
    bool was_running = hold(m);

    mem_extra_remove(m->mem, index);
    (void)hv_extra_changed(m->vm, index);
    let_go(m, was_running);
}
