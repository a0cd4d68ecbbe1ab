/* mem.c — virtio-mem: plug and unplug blocks as the guest asks, up to what the host wants.
 *
 * Theory of operation.  One queue; each request of 24 bytes is answered at once with 10.  A byte
 * per block says whether it is plugged, a count per slot how many of its blocks are.  The guest may
 * plug only within the usable region and only up to the requested size; the usable region grows
 * with that, by whole slots, and shrinks to it when the guest unplugs everything.  Blocks that are
 * unplugged are given back to the host.  A reset by the driver changes nothing: memory stays.
 */
#include "dev/memory/mem.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/virtio.h"
#include "mem/map.h"
#include "metrics/metrics.h"
#include "state/state.h"

/* 5.15.3 */
#define F_UNPLUGGED_INACCESSIBLE BIT(1)

/* 5.15.6 */
enum request_type { REQ_PLUG, REQ_UNPLUG, REQ_UNPLUG_ALL, REQ_STATE };
enum response_type { RESP_ACK = 0, RESP_ERROR = 3 };
enum block_state { STATE_PLUGGED, STATE_UNPLUGGED, STATE_MIXED };

#define REQUEST_BYTES  24u
#define RESPONSE_BYTES 10u

/* 5.15.4 */
struct config_space {
    uint64_t block_size;
    uint16_t node_id;
    uint8_t padding[6];
    uint64_t addr;
    uint64_t region_size;
    uint64_t usable_region_size;
    uint64_t plugged_size;
    uint64_t requested_size;
};

struct mem {
    struct virtio_dev base;
    struct mem_config config;
    _Atomic uint64_t usable, plugged, requested; /* bytes; vCPUs read them */
    uint8_t *blocks;                             /* 1: plugged */
    uint32_t *slots;                             /* plugged blocks of each */
    struct virtq_chain chain;
};

/* Blocks that a request names. */
struct span {
    uint64_t first, count;
};

static struct mem *mem_of(struct virtio_dev *dev)
{
    return container_of(dev, struct mem, base);
}

static uint64_t block_count(const struct mem *m)
{
    return m->config.total_bytes / m->config.block_bytes;
}

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    struct mem *m = mem_of(dev);
    const struct config_space config = {.block_size = m->config.block_bytes,
                                        .addr = m->config.gpa.v,
                                        .region_size = m->config.total_bytes,
                                        .usable_region_size = atomic_load(&m->usable),
                                        .plugged_size = atomic_load(&m->plugged),
                                        .requested_size = atomic_load(&m->requested)};

    virtio_config_copy(&config, sizeof(config), offset, data, len);
}

static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    (void)data;
    (void)len;
}

/* --- blocks --- */

static bool are_all(const struct mem *m, struct span s, uint8_t value)
{
    for (uint64_t i = 0; i < s.count; i++) {
        if (m->blocks[s.first + i] != value) {
            return false;
        }
    }
    return true;
}

/* guest: the address and count of a request; whole blocks of the usable region. */
static bool span_of(const struct mem *m, uint64_t addr, uint16_t count, struct span *ret_span)
{
    uint64_t offset = addr - m->config.gpa.v;
    uint64_t block = m->config.block_bytes;

    if (addr < m->config.gpa.v || offset % block || count == 0 ||
        !range_within(offset, count * block, atomic_load(&m->usable))) {
        return false;
    }
    *ret_span = (struct span){.first = offset / block, .count = count};
    return true;
}

static uint64_t slot_of(const struct mem *m, uint64_t block)
{
    return block * m->config.block_bytes / m->config.slot_bytes;
}

/* Plug or unplug one block; its slot comes with the first and goes with the last. */
static int set_block(struct mem *m, uint64_t block, bool plug)
{
    uint64_t slot = slot_of(m, block);
    int r = 0;

    if (plug && m->slots[slot] == 0) {
        r = m->config.port.set(m->config.port.owner, slot, true);
    } else if (!plug && m->slots[slot] == 1) {
        r = m->config.port.set(m->config.port.owner, slot, false);
    }
    if (r < 0) {
        return r;
    }
    m->blocks[block] = plug;
    m->slots[slot] += plug ? 1 : UINT32_MAX;
    if (plug) {
        atomic_fetch_add(&m->plugged, m->config.block_bytes);
    } else {
        atomic_fetch_sub(&m->plugged, m->config.block_bytes);
    }
    return 0;
}

static void unplug_block(struct mem *m, uint64_t block)
{
    gpa_t gpa = GPA(m->config.gpa.v + block * m->config.block_bytes);

    if (mem_discard(m->base.mem, gpa, m->config.block_bytes) < 0) {
        metric_inc(&g_metrics.memory_hotplug.unplug_discard_fails);
    }
    if (set_block(m, block, false) < 0) {
        metric_inc(&g_metrics.memory_hotplug.unplug_fails);
    }
}

/* --- requests --- */

static enum response_type plug(struct mem *m, struct span s)
{
    struct metrics_memory_hotplug *metrics = &g_metrics.memory_hotplug;
    uint64_t bytes = s.count * m->config.block_bytes;

    metric_inc(&metrics->plug_count);
    if (atomic_load(&m->plugged) + bytes > atomic_load(&m->requested) || !are_all(m, s, 0)) {
        metric_inc(&metrics->plug_fails);
        return RESP_ERROR;
    }
    for (uint64_t i = 0; i < s.count; i++) {
        if (set_block(m, s.first + i, true) < 0) {
            while (i-- > 0) {
                (void)set_block(m, s.first + i, false);
            }
            metric_inc(&metrics->plug_fails);
            return RESP_ERROR;
        }
    }
    metric_add(&metrics->plug_bytes, bytes);
    return RESP_ACK;
}

static enum response_type unplug(struct mem *m, struct span s)
{
    struct metrics_memory_hotplug *metrics = &g_metrics.memory_hotplug;

    metric_inc(&metrics->unplug_count);
    if (!are_all(m, s, 1)) {
        metric_inc(&metrics->unplug_fails);
        return RESP_ERROR;
    }
    for (uint64_t i = 0; i < s.count; i++) {
        unplug_block(m, s.first + i);
    }
    metric_add(&metrics->unplug_bytes, s.count * m->config.block_bytes);
    return RESP_ACK;
}

/* The usable region for what is requested now. */
static uint64_t wanted_region(const struct mem *m)
{
    return align_up(atomic_load(&m->requested), m->config.slot_bytes);
}

static enum response_type unplug_all(struct mem *m)
{
    metric_inc(&g_metrics.memory_hotplug.unplug_all_count);
    for (uint64_t i = 0; i < block_count(m); i++) {
        if (m->blocks[i]) {
            unplug_block(m, i);
        }
    }
    atomic_store(&m->usable, wanted_region(m));
    virtio_dev_config_changed(&m->base);
    return RESP_ACK;
}

static enum response_type answer(struct mem *m, const uint8_t request[static REQUEST_BYTES],
                                 uint16_t *ret_state)
{
    uint16_t type = load_le16(request);
    struct span s = {0};

    *ret_state = 0;
    if (type == REQ_UNPLUG_ALL) {
        return unplug_all(m);
    }
    if (!span_of(m, load_le64(request + 8), load_le16(request + 16), &s)) {
        return RESP_ERROR;
    }
    switch (type) {
    case REQ_PLUG: return plug(m, s);
    case REQ_UNPLUG: return unplug(m, s);
    case REQ_STATE:
        metric_inc(&g_metrics.memory_hotplug.state_count);
        *ret_state = are_all(m, s, 1)   ? STATE_PLUGGED
                     : are_all(m, s, 0) ? STATE_UNPLUGGED
                                        : STATE_MIXED;
        return RESP_ACK;
    default: return RESP_ERROR;
    }
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    struct mem *m = mem_of(dev);
    struct virtq *q = &dev->queues[index];

    metric_inc(&g_metrics.memory_hotplug.queue_event_count);
    while (virtq_pop(q, &m->chain) == 1) {
        uint8_t request[REQUEST_BYTES];
        uint8_t response[RESPONSE_BYTES] = {0};
        uint16_t state = 0;
        size_t done = 0;

        if (virtq_chain_read(&m->chain, 0, request, sizeof(request)) == sizeof(request) &&
            m->chain.writable_bytes >= sizeof(response)) {
            store_le16(response, (uint16_t)answer(m, request, &state));
            store_le16(response + 8, state);
            done = virtq_chain_write(&m->chain, 0, response, sizeof(response));
        } else {
            metric_inc(&g_metrics.memory_hotplug.queue_event_fails);
        }
        virtq_push(q, &m->chain, done);
    }
    virtio_dev_signal(dev, q);
}

static int start(struct virtio_dev *dev)
{
    (void)dev;
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    (void)dev; /* 5.15.5: plugged memory stays */
}

static void mem_free(struct virtio_dev *dev)
{
    struct mem *m = mem_of(dev);

    virtio_dev_fini(dev);
    free(m->blocks);
    free(m->slots);
    free(m);
}

/* --- snapshots --- */

static void mem_save(struct virtio_dev *dev, struct state *s)
{
    struct mem *m = mem_of(dev);
    uint64_t requested = atomic_load(&m->requested);
    uint64_t usable = atomic_load(&m->usable);

    STATE(s, m->config.total_bytes);
    STATE(s, m->config.block_bytes);
    STATE(s, m->config.slot_bytes);
    state_u64(s, "requested", &requested);
    state_u64(s, "usable", &usable);
    state_bytes(s, "blocks", m->blocks, block_count(m));
}

static void mem_load(struct virtio_dev *dev, struct state *s)
{
    struct mem *m = mem_of(dev);
    const struct mem_config config = m->config;
    uint64_t requested = 0;
    uint64_t usable = 0;

    STATE(s, m->config.total_bytes);
    STATE(s, m->config.block_bytes);
    STATE(s, m->config.slot_bytes);
    if (!s->failed && (m->config.total_bytes != config.total_bytes ||
                       m->config.block_bytes != config.block_bytes ||
                       m->config.slot_bytes != config.slot_bytes)) {
        state_refuse(s, "region", "not that of this configuration");
    }
    m->config = config;
    state_u64(s, "requested", &requested);
    state_u64(s, "usable", &usable);
    state_bytes(s, "blocks", m->blocks, block_count(m));
    if (!s->failed && (requested > config.total_bytes || requested % config.block_bytes ||
                       usable > config.total_bytes || usable % config.slot_bytes)) {
        state_refuse(s, "sizes", "beyond the region");
    }
    for (uint64_t i = 0; i < block_count(m); i++) {
        bool is_plugged = m->blocks[i] && !s->failed;

        m->blocks[i] = 0;
        if (is_plugged && set_block(m, i, true) < 0) {
            state_refuse(s, "blocks", "memory cannot be plugged");
        }
    }
    if (!s->failed) {
        atomic_store(&m->requested, requested);
        atomic_store(&m->usable, usable);
    }
}

static const struct virtio_ops g_mem_ops = {
    .kind = MEM_KIND,
    .id = VIRTIO_ID_MEM,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = mem_free,
    .save = mem_save,
    .load = mem_load,
};

/* --- for the host --- */

int mem_request(struct virtio_dev *dev, uint64_t bytes)
{
    struct mem *m = mem_of(dev);
    uint64_t region;

    if (!virtio_dev_is_ready(dev)) {
        return -ENODEV;
    }
    if (bytes % m->config.block_bytes || bytes > m->config.total_bytes) {
        return -EINVAL;
    }
    atomic_store(&m->requested, bytes);
    region = wanted_region(m);
    if (region > atomic_load(&m->usable)) {
        atomic_store(&m->usable, region);
    }
    virtio_dev_config_changed(dev);
    return 0;
}

void mem_get_status(struct virtio_dev *dev, struct mem_status *ret_status)
{
    struct mem *m = mem_of(dev);

    *ret_status = (struct mem_status){.plugged_bytes = atomic_load(&m->plugged),
                                      .requested_bytes = atomic_load(&m->requested)};
}

int mem_new(const struct mem_config *config, struct mem_map *mem, struct loop *loop,
            struct virtio_dev **ret_dev, struct err *err)
{
    struct mem *m = calloc(1, sizeof(*m));
    int r;

    if (!m) {
        return err_set(err, -ENOMEM, "virtio-mem: out of memory");
    }
    m->config = *config;
    m->blocks = calloc(block_count(m), sizeof(*m->blocks));
    m->slots = calloc(config->total_bytes / config->slot_bytes, sizeof(*m->slots));
    r = m->blocks && m->slots ? 0 : err_set(err, -ENOMEM, "virtio-mem: out of memory");
    if (r == 0) {
        r = virtio_dev_init(&m->base, &g_mem_ops, mem, loop, 1,
                            VIRTIO_F_EVENT_IDX | F_UNPLUGGED_INACCESSIBLE, err);
    }
    if (r < 0) {
        mem_free(&m->base);
        return r;
    }
    *ret_dev = &m->base;
    return 0;
}
