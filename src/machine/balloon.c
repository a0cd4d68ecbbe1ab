/* balloon.c — the memory balloon of the machine, made and spoken to while it runs. */
#include "dev/memory/balloon.h"

#include <errno.h>

#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "machine/machine_int.h"

#define KIND "virtio-balloon"

int machine_add_balloon(struct machine *m, const struct vm_config *config, struct loop *loop,
                        struct err *err)
{
    const struct resource_balloon *resource = config->balloon;
    struct virtio_dev *vdev = NULL;
    struct balloon_config balloon;
    int r;

    if (!resource) {
        return 0;
    }
    balloon = (struct balloon_config){
        .target_pages = resource->amount_mib * BALLOON_PAGES_PER_MIB,
        .deflate_on_oom = resource->deflate_on_oom,
        .stats_interval_s = resource->stats_polling_interval_s,
        .has_hinting = resource->free_page_hinting,
        .has_reporting = resource->free_page_reporting,
    };
    r = balloon_new(&balloon, m->mem, loop, &vdev, err);
    return r < 0 ? r : machine_add_virtio(m, vdev, "", err);
}

/* --- live --- */

enum verb { SET_TARGET, GET_STATS, SET_INTERVAL, START_HINTING, STOP_HINTING, GET_HINTING };

struct call {
    struct virtio_dev *dev;
    enum verb verb;
    uint32_t number;
    struct balloon_stats stats;
    struct balloon_hinting hinting;
    int result;
};

static void on_loop(void *owner)
{
    struct call *c = owner;

    switch (c->verb) {
    case SET_TARGET: c->result = balloon_set_target(c->dev, c->number); break;
    case GET_STATS: c->result = balloon_get_stats(c->dev, &c->stats); break;
    case SET_INTERVAL: c->result = balloon_set_stats_interval(c->dev, (uint16_t)c->number); break;
    case START_HINTING: c->result = balloon_start_hinting(c->dev, c->number != 0); break;
    case STOP_HINTING: c->result = balloon_stop_hinting(c->dev); break;
    case GET_HINTING: c->result = balloon_get_hinting(c->dev, &c->hinting); break;
    }
}

static int call(struct machine *m, struct call *c)
{
    c->dev = machine_find_virtio(m, KIND, "");
    if (!c->dev) {
        return -ENOENT;
    }
    loop_call(c->dev->loop, on_loop, c);
    return c->result;
}

int machine_balloon_resize(struct machine *m, uint32_t amount_mib)
{
    struct call c = {.verb = SET_TARGET, .number = amount_mib * BALLOON_PAGES_PER_MIB};

    if (amount_mib > mem_total_bytes(m->mem) / MIB) {
        return machine_find_virtio(m, KIND, "") ? -ERANGE : -ENOENT;
    }
    return call(m, &c);
}

int machine_balloon_stats(struct machine *m, struct resource_balloon_stats *ret_stats)
{
    struct call c = {.verb = GET_STATS};
    int r = call(m, &c);

    if (r == 0) {
        *ret_stats = (struct resource_balloon_stats){
            .target_pages = c.stats.target_pages,
            .actual_pages = c.stats.actual_pages,
            .target_mib = c.stats.target_pages / BALLOON_PAGES_PER_MIB,
            .actual_mib = c.stats.actual_pages / BALLOON_PAGES_PER_MIB,
            .present = c.stats.present,
        };
        for (unsigned i = 0; i < BALLOON_STAT_COUNT; i++) {
            ret_stats->values[i] = c.stats.values[i];
        }
    }
    return r;
}

int machine_balloon_set_interval(struct machine *m, uint16_t interval_s)
{
    struct call c = {.verb = SET_INTERVAL, .number = interval_s};

    return call(m, &c);
}

int machine_balloon_start_hinting(struct machine *m, bool acknowledge_on_stop)
{
    struct call c = {.verb = START_HINTING, .number = acknowledge_on_stop};

    return call(m, &c);
}

int machine_balloon_stop_hinting(struct machine *m)
{
    struct call c = {.verb = STOP_HINTING};

    return call(m, &c);
}

int machine_balloon_hinting(struct machine *m, struct resource_hinting *ret_hinting)
{
    struct call c = {.verb = GET_HINTING};
    int r = call(m, &c);

    if (r == 0) {
        *ret_hinting = (struct resource_hinting){.host_cmd = c.hinting.host_cmd,
                                                 .guest_cmd = c.hinting.guest_cmd,
                                                 .has_guest_cmd = c.hinting.has_guest_cmd};
    }
    return r;
}
