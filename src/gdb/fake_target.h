/* fake_target.h — a target for tests: CPUs that note what they are asked for. */
#pragma once

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "gdb/target.h"
#include "hv/cpu_state.h"
#include "mem/map.h"
#include "tests/lib/test.h"

#define FAKE_CPUS      3
#define FAKE_RAM_BYTES (64 * KIB)

struct fake_target {
    struct gdb_target target;
    struct cpu_state cpu[FAKE_CPUS];
    enum gdb_action actions[FAKE_CPUS];
    struct hv_debug debug;
    struct hv_stop stop[FAKE_CPUS];
    unsigned resumes, stops, kills, sets;
    bool is_running, has_ended;
    unsigned breaks_max;
    int resume_error, regs_error;
};

static bool fake_stop(void *owner)
{
    struct fake_target *f = owner;
    uint64_t count;

    (void)!read(f->target.stop_fd, &count, sizeof(count));
    f->stops++;
    f->is_running = false;
    return !f->has_ended;
}

static bool fake_take(void *owner, unsigned *ret_cpu, struct hv_stop *ret_stop)
{
    struct fake_target *f = owner;

    CHECK(!f->is_running);
    for (unsigned i = 0; i < FAKE_CPUS; i++) {
        if (f->stop[i].why != HV_STOP_NONE) {
            *ret_cpu = i;
            *ret_stop = f->stop[i];
            f->stop[i].why = HV_STOP_NONE;
            return true;
        }
    }
    return false;
}

static int fake_resume(void *owner, const enum gdb_action *actions)
{
    struct fake_target *f = owner;

    CHECK(!f->is_running);
    memcpy(f->actions, actions, sizeof(f->actions));
    f->resumes++;
    f->is_running = f->resume_error == 0;
    return f->resume_error;
}

static int fake_set_breaks(void *owner, const struct hv_debug *debug)
{
    struct fake_target *f = owner;

    CHECK(!f->is_running);
    if (debug->count > f->breaks_max) {
        return -ENOSPC;
    }
    f->debug = *debug;
    return 0;
}

static int fake_get(void *owner, unsigned cpu, struct cpu_state *ret_state)
{
    struct fake_target *f = owner;

    CHECK(!f->is_running && cpu < FAKE_CPUS);
    *ret_state = f->cpu[cpu];
    return f->regs_error;
}

static int fake_set(void *owner, unsigned cpu, const struct cpu_state *state)
{
    struct fake_target *f = owner;

    CHECK(!f->is_running && cpu < FAKE_CPUS);
    f->sets++;
    f->cpu[cpu] = *state;
    return f->regs_error;
}

static void fake_kill(void *owner)
{
    ((struct fake_target *)owner)->kills++;
}

static void fake_init(struct fake_target *f)
{
    static const struct gdb_target_ops ops = {.stop = fake_stop,
                                              .take_stop = fake_take,
                                              .resume = fake_resume,
                                              .set_breaks = fake_set_breaks,
                                              .get_regs = fake_get,
                                              .set_regs = fake_set,
                                              .kill = fake_kill};
    struct err err = {0};

    memset(f, 0, sizeof(*f));
    f->breaks_max = HV_BREAK_MAX;
    f->target = (struct gdb_target){.ops = &ops,
                                    .owner = f,
                                    .mem = mem_map_new(),
                                    .cpu_count = FAKE_CPUS,
                                    .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    CHECK_OK(mem_map_add(f->target.mem, GPA(0), FAKE_RAM_BYTES, &err), &err);
    for (unsigned i = 0; i < FAKE_CPUS; i++) {
        f->cpu[i].rip = 0x1000 * (i + 1); /* paging is off */
        f->cpu[i].xcr0 = 7;
    }
}

static void fake_fini(struct fake_target *f)
{
    mem_map_free(f->target.mem);
    (void)close(f->target.stop_fd);
}
