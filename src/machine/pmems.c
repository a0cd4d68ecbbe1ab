/* pmems.c — persistent memory of the machine: files that the guest has as memory. */
#include <errno.h>
#include <stdio.h>

#include "dev/memory/pmem.h"
#include "dev/port/pmem_port.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "machine/limits.h"
#include "machine/machine_int.h"
#include "metrics/metrics.h"
#include "state/state.h"

static int name_root(struct machine *m, const struct resource_pmem *pmem, unsigned number,
                     struct err *err)
{
    int r;

    if (!pmem->root_device) {
        return 0;
    }
    r = machine_cmdline_add(m, err, "root=/dev/pmem%u", number);
    return r < 0 ? r : machine_cmdline_add(m, err, pmem->read_only ? "ro" : "rw");
}

/* The device for memory that is there as extra range `index`. */
static int add_device(struct machine *m, const struct config_pmem *pmem, unsigned index,
                      struct loop *loop, struct err *err)
{
    const struct resource_pmem *resource = pmem->resource;
    struct pmem_config config = {
        .port = pmem->port,
        .gpa = mem_extra_at(m->mem, index)->gpa,
        .limit = limits_config(&resource->rate_limiter, resource->has_rate_limiter),
        .metrics = metrics_pmem(resource->id),
    };
    struct virtio_dev *vdev = NULL;
    int r = pmem_new(&config, m->mem, loop, &vdev, err);

    if (r == 0) {
        r = machine_add_virtio(m, vdev, resource->id, err);
    }
    if (r == 0) {
        m->slots[m->slot_count - 1].extra = index + 1;
    }
    return r;
}

/* --- its place: after some came and went, not what it would be given anew --- */

int machine_save_places(const struct machine *m, struct state_file *file, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->slot_count; i++) {
        const struct machine_slot *slot = &m->slots[i];

        if (slot->extra) {
            uint64_t gpa = mem_extra_at(m->mem, slot->extra - 1)->gpa.v;
            struct state s;

            state_save(file, &s, "place.%s", slot->id);
            state_u64(&s, "address", &gpa);
            r = state_close(&s, err);
        }
    }
    return r;
}

/* 0: a file of a version that did not say, or no file. */
static int load_place(struct state_file *file, const char *id, gpa_t *ret_gpa, struct err *err)
{
    uint64_t gpa = 0;
    struct state s;
    int r;

    if (!file || !state_has(file, id)) {
        return 0;
    }
    r = state_load(file, &s, err, "%s", id);
    if (r == 0) {
        state_u64(&s, "address", &gpa);
        r = state_close(&s, err);
    }
    *ret_gpa = GPA(gpa);
    return r;
}

/* The machine is held. */
static int add_held(struct machine *m, const struct config_pmem *pmem, struct loop *loop,
                    struct err *err)
{
    const struct pmem_port *port = pmem->port;
    struct mem_range range = {
        .len = port->len, .host = port->host, .is_read_only = port->is_read_only};
    char section[STATE_NAME_MAX];
    unsigned index = 0;
    int r;

    (void)snprintf(section, sizeof(section), "place.%s", pmem->resource->id);
    r = load_place(m->restored, section, &range.gpa, err);
    if (r == 0) {
        r = machine_add_extra(m, &range, &index, err);
    }
    if (r < 0) {
        return r;
    }
    r = add_device(m, pmem, index, loop, err);
    if (r < 0) {
        machine_remove_extra(m, index);
    }
    return r;
}

static int add(struct machine *m, const struct config_pmem *pmem, struct loop *loop,
               struct err *err)
{
    bool was_running = false;
    int r = machine_hold(m, &was_running, err);

    if (r == 0) {
        r = add_held(m, pmem, loop, err);
        machine_let_go(m, was_running);
    }
    return r;
}

int machine_add_pmems(struct machine *m, const struct vm_config *config, struct loop *loop,
                      struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < config->pmem_count; i++) {
        r = name_root(m, config->pmems[i].resource, i, err);
        if (r == 0) {
            r = add(m, &config->pmems[i], loop, err);
        }
    }
    return r;
}

int machine_plug_pmem(struct machine *m, const struct config_pmem *pmem, struct err *err)
{
    return add(m, pmem, m->loops[0], err);
}

/* --- live --- */

struct change {
    struct virtio_dev *dev;
    struct limiter_update limit;
};

static void change(void *owner)
{
    const struct change *c = owner;

    pmem_set_limit(c->dev, &c->limit);
}

int machine_pmem_patch(struct machine *m, const struct resource_pmem *patch)
{
    struct change c = {
        .dev = machine_find_virtio(m, PMEM_KIND, patch->id),
        .limit = limits_update(&patch->rate_limiter, patch->has_rate_limiter),
    };

    if (!c.dev) {
        return -ENOENT;
    }
    loop_call(c.dev->loop, change, &c);
    return 0;
}
