/* vhost_block.c — see vhost_block.h.
 *
 * Theory of operation.  The other side never sees the driver's rings: we take chains from the
 * driver's queue, as every device does, and put each into a ring of our own that both processes
 * share (vhost_port.h).  Descriptors there hold host addresses.  What comes back is reported to mem
 * (the software engine and dirty pages want to know what was written) and given back to the driver.
 * So a driver's malformed chains end here, and a peer that answers nonsense ends this device and
 * nothing else.  Data is never copied.
 */
#include "dev/block/vhost_block.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "dev/port/vhost_port.h"
#include "dev/virtio/virtio.h"
#include "io/loop.h"
#include "mem/map.h"
#include "metrics/metrics.h"

/* Of a descriptor, of the ring: virtio 1.2, 2.7.5 and 2.7.6. */
#define DESC_BYTES 16u
#define DESC_NEXT  1u
#define DESC_WRITE 2u
#define RING_IDX   2u
#define RING_SLOTS 4u

#define NONE         UINT16_MAX
#define ROUND_MAX    256u /* chains before others on the loop get their turn */
#define CONFIG_WORDS (VHOST_CONFIG_BYTES / 4)

/* Our own note of a descriptor in the shared ring, which the other side could change. */
struct note {
    void *host;
    uint32_t len;
    bool is_write;
    uint16_t next;       /* of the chain, or of the free ones; NONE: the last */
    uint16_t guest_head; /* of a chain's first */
    bool is_first;       /* of a chain that is on its way */
};

struct vhost_block {
    struct virtio_dev base;
    struct vhost_port *port;
    struct metrics_vhost_user_block *metrics;
    _Atomic uint32_t config[CONFIG_WORDS]; /* read by vCPUs */
    bool is_serving;
    struct virtq_chain chain;
    struct note notes[VHOST_RING_SIZE];
    uint16_t free_first;
    unsigned free_count;
    unsigned chains_out;
    uint16_t avail_idx;
    uint16_t used_seen;
};

static struct vhost_block *vhost_of(struct virtio_dev *dev)
{
    return container_of(dev, struct vhost_block, base);
}

static struct virtq *queue_of(struct vhost_block *v)
{
    return &v->base.queues[0];
}

/* --- the shared ring --- */

static void empty_ring(struct vhost_block *v)
{
    for (unsigned i = 0; i < VHOST_RING_SIZE; i++) {
        v->notes[i] = (struct note){.next = i + 1 < VHOST_RING_SIZE ? (uint16_t)(i + 1) : NONE};
    }
    v->free_first = 0;
    v->free_count = VHOST_RING_SIZE;
    v->chains_out = 0;
    v->avail_idx = 0;
    v->used_seen = 0;
}

static void write_desc(struct vhost_block *v, uint16_t index, const struct note *n)
{
    uint8_t *to = v->port->ring + VHOST_RING_DESC + (size_t)DESC_BYTES * index;

    store_le64(to, (uintptr_t)n->host);
    store_le32(to + 8, n->len);
    store_le16(to + 12,
               (uint16_t)((n->is_write ? DESC_WRITE : 0) | (n->next != NONE ? DESC_NEXT : 0)));
    store_le16(to + 14, n->next != NONE ? n->next : 0);
}

/* Put the chain that was taken into the ring; there is room. */
static void put(struct vhost_block *v)
{
    const struct virtq_chain *chain = &v->chain;
    unsigned count = chain->readable_count + chain->writable_count;
    uint16_t first = v->free_first;
    uint16_t at = first;
    uint8_t *avail = v->port->ring + VHOST_RING_AVAIL;

    for (unsigned i = 0; i < count; i++) {
        struct note *n = &v->notes[at];
        uint16_t next_free = n->next;

        *n = (struct note){.host = chain->iov[i].iov_base,
                           .len = (uint32_t)chain->iov[i].iov_len, /* of one descriptor */
                           .is_write = i >= chain->readable_count,
                           .next = i + 1 < count ? next_free : NONE,
                           .guest_head = chain->head,
                           .is_first = i == 0};
        write_desc(v, at, n);
        at = next_free;
    }
    v->free_first = at;
    v->free_count -= count;
    v->chains_out++;
    store_le16(avail + RING_SLOTS + 2u * (v->avail_idx % VHOST_RING_SIZE), first);
    v->avail_idx++;
}

/* Take the chain that begins at `first` out again, of which the peer has written `written` bytes.
 */
static void take_out(struct vhost_block *v, uint16_t first, uint32_t written)
{
    uint16_t guest_head = v->notes[first].guest_head;
    uint64_t left = written;
    uint16_t at = first;
    uint64_t total = 0;

    while (at != NONE) {
        struct note *n = &v->notes[at];
        uint16_t next = n->next;

        if (n->is_write) {
            uint64_t part = left < n->len ? left : n->len;

            mem_note_write_host(v->base.mem, n->host, part);
            left -= part;
            total += part;
        }
        *n = (struct note){.next = v->free_first};
        v->free_first = at;
        v->free_count++;
        at = next;
    }
    v->chains_out--;
    virtq_push_head(queue_of(v), guest_head, (uint32_t)total);
}

/* Give back what the peer has answered; false: its answers make no sense. */
static bool reap(struct vhost_block *v)
{
    const uint8_t *used = v->port->ring + VHOST_RING_USED;
    /* acquire: pairs with the release of the peer, after the bytes and the slot */
    uint16_t idx =
        __atomic_load_n((const uint16_t *)(const void *)(used + RING_IDX), __ATOMIC_ACQUIRE);

    if ((uint16_t)(idx - v->used_seen) > v->chains_out) {
        return false;
    }
    while (v->used_seen != idx) {
        const uint8_t *slot = used + RING_SLOTS + 8u * (v->used_seen % VHOST_RING_SIZE);
        uint32_t id = load_le32(slot);
        uint32_t written = load_le32(slot + 4);

        atomic_signal_fence(memory_order_seq_cst); /* read once, decided on the copy */
        if (id >= VHOST_RING_SIZE || !v->notes[id].is_first) {
            return false;
        }
        take_out(v, (uint16_t)id, written);
        v->used_seen++;
    }
    return true;
}

/* --- requests --- */

static void process(struct vhost_block *v)
{
    struct virtq *q = queue_of(v);
    uint16_t before = v->avail_idx;
    unsigned rounds = 0;
    uint64_t one = 1;

    while (rounds++ < ROUND_MAX && virtq_pop(q, &v->chain) == 1) {
        unsigned count = v->chain.readable_count + v->chain.writable_count;

        if (count == 0 || count > VHOST_RING_SIZE) {
            virtq_push_head(q, v->chain.head, 0); /* guest: malformed */
        } else if (count > v->free_count) {
            virtq_unpop(q, 1); /* until the peer has answered something */
            break;
        } else {
            put(v);
        }
    }
    if (v->avail_idx != before) {
        uint8_t *avail = v->port->ring + VHOST_RING_AVAIL;

        /* release: descriptors and slots are there before the index says so */
        __atomic_store_n((uint16_t *)(void *)(avail + RING_IDX), v->avail_idx, __ATOMIC_RELEASE);
        (void)!write(v->port->kick_fd, &one, sizeof(one));
    }
    virtio_dev_signal(&v->base, q);
    if (rounds > ROUND_MAX) {
        (void)!write(v->base.notify_fd[0], &one, sizeof(one));
    }
}

static void on_call(void *owner, int fd, uint32_t events)
{
    struct vhost_block *v = owner;

    (void)fd;
    (void)events;
    if (!v->is_serving) {
        return;
    }
    if (!reap(v)) {
        log_guest(LOG_ERROR, "vhost-user: the backend's answers make no sense");
        v->is_serving = false;
        virtio_dev_needs_reset(&v->base);
        return;
    }
    process(v);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    (void)index;
    if (vhost_of(dev)->is_serving) {
        process(vhost_of(dev));
    }
}

/* --- what the transport calls --- */

static void set_config(struct vhost_block *v, const uint8_t *config)
{
    for (unsigned i = 0; i < CONFIG_WORDS; i++) {
        atomic_store_explicit(&v->config[i], load_le32(config + 4 * (size_t)i),
                              memory_order_relaxed);
    }
}

/* A change between two words shows in the generation that the driver reads before and after. */
static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    uint8_t config[VHOST_CONFIG_BYTES];

    for (unsigned i = 0; i < CONFIG_WORDS; i++) {
        store_le32(config + 4 * (size_t)i,
                   atomic_load_explicit(&vhost_of(dev)->config[i], memory_order_relaxed));
    }
    virtio_config_copy(config, sizeof(config), offset, data, len);
}

static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)offset;
    (void)data;
    (void)len;
    metric_inc(&vhost_of(dev)->metrics->cfg_fails);
}

/* Everything that a request may point to, for the peer to map. */
static int list_regions(const struct mem_map *mem, struct vhost_region *regions,
                        unsigned *ret_count)
{
    unsigned count = mem_range_count(mem);

    for (unsigned i = 0; i < count && i < VHOST_REGION_MAX; i++) {
        const struct mem_range *range = mem_range_at(mem, i);

        if (range->fd < 0) {
            return -ENOTSUP; /* RAM that is not shared */
        }
        regions[i] = (struct vhost_region){.host = range->host, .len = range->len, .fd = range->fd};
    }
    *ret_count = count;
    return count > VHOST_REGION_MAX ? -ENOSPC : 0;
}

static int start(struct virtio_dev *dev)
{
    struct vhost_block *v = vhost_of(dev);
    struct vhost_region regions[VHOST_REGION_MAX];
    int64_t start_ns = clock_mono_ns();
    unsigned count = 0;
    int r = list_regions(dev->mem, regions, &count);

    empty_ring(v);
    if (r == 0) {
        r = v->port->ops->start(v->port, dev->features_acked & v->port->features, regions, count);
    }
    if (r == 0) {
        r = loop_add_fd(dev->loop, v->port->call_fd, EPOLLIN | EPOLLET, on_call, v);
    }
    v->is_serving = r == 0;
    if (r < 0) {
        metric_inc(&v->metrics->activate_fails);
        log_guest(LOG_ERROR, "vhost-user: cannot start the backend: %s", strerror(-r));
    }
    metric_set(&v->metrics->activate_time_us, (uint64_t)((clock_mono_ns() - start_ns) / NS_PER_US));
    return r;
}

static void reset(struct virtio_dev *dev)
{
    struct vhost_block *v = vhost_of(dev);

    v->is_serving = false;
    loop_del_fd(dev->loop, v->port->call_fd);
    v->port->ops->stop(v->port);
}

static void vhost_free(struct virtio_dev *dev)
{
    struct vhost_block *v = vhost_of(dev);

    if (dev->is_started) {
        reset(dev); /* the peer must not write to memory that is going to be freed */
    }
    virtio_dev_fini(dev);
    free(v);
}

static const struct virtio_ops g_vhost_ops = {
    .kind = VHOST_BLOCK_KIND,
    .id = VIRTIO_ID_BLOCK,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = vhost_free,
};

int vhost_block_new(const struct vhost_block_config *config, struct mem_map *mem, struct loop *loop,
                    struct virtio_dev **ret_dev, struct err *err)
{
    struct vhost_block *v = calloc(1, sizeof(*v));
    int r;

    if (!v) {
        return err_set(err, -ENOMEM, VHOST_BLOCK_KIND ": out of memory");
    }
    v->port = config->port;
    v->metrics = config->metrics;
    set_config(v, config->config);
    r = virtio_dev_init(&v->base, &g_vhost_ops, mem, loop, 1,
                        VIRTIO_F_EVENT_IDX | config->port->features, err);
    if (r < 0) {
        vhost_free(&v->base);
        return r;
    }
    *ret_dev = &v->base;
    return 0;
}

int vhost_block_refresh(struct virtio_dev *dev)
{
    struct vhost_block *v = vhost_of(dev);
    int64_t start_ns = clock_mono_ns();
    uint8_t config[VHOST_CONFIG_BYTES];
    int r = v->port->ops->read_config(v->port, config);

    if (r == 0) {
        set_config(v, config);
        virtio_dev_config_changed(dev);
    }
    metric_set(&v->metrics->config_change_time_us,
               (uint64_t)((clock_mono_ns() - start_ns) / NS_PER_US));
    return r;
}
