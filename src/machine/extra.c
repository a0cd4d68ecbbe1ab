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

/* The lowest free place of `len` bytes from `gpa` on. */
static uint64_t find_place(const struct mem_map *mem, uint64_t gpa, uint64_t len)
{
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

static bool is_in_window(uint64_t gpa, uint64_t len)
{
    return gpa >= LAYOUT_EXTRA_START &&
           range_within(gpa - LAYOUT_EXTRA_START, len, LAYOUT_EXTRA_LEN);
}

/* Where `range` goes: to range->gpa if that is not 0, else where there is room. */
static int place(const struct mem_map *mem, struct mem_range *range, struct err *err)
{
    uint64_t wanted = range->gpa.v;
    uint64_t start = wanted ? wanted : LAYOUT_EXTRA_START;

    if (is_in_window(start, range->len)) {
        range->gpa = GPA(find_place(mem, start, range->len));
    }
    if (wanted && (wanted % LAYOUT_EXTRA_ALIGN || !is_in_window(wanted, range->len) ||
                   range->gpa.v != wanted)) {
        return err_set(err, -EINVAL, "memory of %llu MiB cannot be at 0x%llx",
                       (unsigned long long)(range->len / MIB), (unsigned long long)wanted);
    }
    if (!is_in_window(range->gpa.v, range->len)) {
        return err_set(err, -ENOSPC, "no room for %llu MiB in the guest's address space",
                       (unsigned long long)(range->len / MIB));
    }
    return 0;
}

int machine_hold(struct machine *m, bool *ret_was_running, struct err *err)
{
    bool was_running = m->is_started && !atomic_load(&m->pause.is_wanted);
    int r = was_running ? machine_pause(m, err) : 0;

    if (r == 0) {
        *ret_was_running = was_running;
    }
    return r;
}

void machine_let_go(struct machine *m, bool was_running)
{
    if (was_running) {
        (void)machine_resume(m, NULL);
    }
}

int machine_add_extra(struct machine *m, const struct mem_range *wanted, unsigned *ret_index,
                      struct err *err)
{
    struct mem_range range = *wanted;
    unsigned index = 0;
    int r = place(m->mem, &range, err);

    if (r == 0) {
        r = add(m, &range, &index, err);
    }
    if (r == 0) {
        *ret_index = index;
    }
    return r;
}

void machine_remove_extra(struct machine *m, unsigned index)
{
    mem_extra_remove(m->mem, index);
    (void)hv_extra_changed(m->vm, index);
}
