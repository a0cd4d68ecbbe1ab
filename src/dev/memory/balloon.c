/* balloon.c — virtio-balloon: life, configuration, and what the host asks.  balloon_queue.c has
 * what the guest says. */
#include "dev/memory/balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dev/memory/balloon_int.h"
#include "io/loop.h"
#include "state/state.h"

/* Feature bits: virtio 1.2, 5.5.3. */
#define F_STATS_VQ       BIT(1)
#define F_DEFLATE_ON_OOM BIT(2)
#define F_FREE_PAGE_HINT BIT(3)
#define F_REPORTING      BIT(5)

/* struct virtio_balloon_config (5.5.4). */
#define CONFIG_ACTUAL 4u
#define CONFIG_BYTES  12u

static uint32_t load(const uint32_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void store(uint32_t *at, uint32_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    const struct balloon *b = balloon_of(dev);
    uint8_t config[CONFIG_BYTES];

    store_le32(config, load(&b->target_pages));
    store_le32(config + CONFIG_ACTUAL, load(&b->actual_pages));
    store_le32(config + 8, load(&b->host_cmd));
    virtio_config_copy(config, sizeof(config), offset, data, len);
}

/* guest: only the number of pages that it gave is its to write, and only as a whole. */
static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    if (offset == CONFIG_ACTUAL && len == 4) {
        store(&balloon_of(dev)->actual_pages, load_le32(data));
    }
}

static unsigned index_of(const struct balloon *b, enum balloon_queue kind)
{
    unsigned i = 0;

    while (b->kinds[i] != kind) {
        i++;
    }
    return i;
}

/* --- statistics --- */

static void arm_timer(struct balloon *b);

/* Give the buffer back: the guest fills it anew. */
static void on_timer(void *owner)
{
    struct balloon *b = owner;
    struct virtq *q = &b->base.queues[index_of(b, BALLOON_STATS)];

    b->timer = NULL; /* the loop frees it */
    if (b->has_stats_chain) {
        b->has_stats_chain = false;
        virtq_push_head(q, b->stats_head, 0);
        virtio_dev_signal(&b->base, q);
    }
    arm_timer(b);
}

static void arm_timer(struct balloon *b)
{
    loop_del_timer(b->base.loop, b->timer);
    b->timer = NULL;
    if (b->is_running && b->stats_interval_s > 0) {
        b->timer = loop_add_timer(b->base.loop, b->stats_interval_s * NS_PER_S, on_timer, b);
    }
}

int balloon_get_stats(struct virtio_dev *dev, struct balloon_stats *ret_stats)
{
    const struct balloon *b = balloon_of(dev);

    if (b->stats_interval_s == 0) {
        return -ENOTSUP;
    }
    ret_stats->target_pages = load(&b->target_pages);
    ret_stats->actual_pages = load(&b->actual_pages);
    memcpy(ret_stats->values, b->stats, sizeof(b->stats));
    ret_stats->present = b->stats_present;
    return 0;
}

int balloon_set_stats_interval(struct virtio_dev *dev, uint16_t interval_s)
{
    struct balloon *b = balloon_of(dev);

    if (interval_s == b->stats_interval_s) {
        return 0;
    }
    if (interval_s == 0 || b->stats_interval_s == 0) {
        return -ENOTSUP;
    }
    b->stats_interval_s = interval_s;
    arm_timer(b);
    return 0;
}

/* --- size and hinting --- */

/* Is a driver there?  Also in a machine from a snapshot that does not run yet. */
static bool has_driver(const struct virtio_dev *dev)
{
    return __atomic_load_n(&dev->status, __ATOMIC_ACQUIRE) & VIRTIO_STATUS_DRIVER_OK;
}

int balloon_set_target(struct virtio_dev *dev, uint32_t pages)
{
    struct balloon *b = balloon_of(dev);

    if (!has_driver(dev)) {
        return -ENODEV;
    }
    store(&b->target_pages, pages);
    virtio_dev_config_changed(dev);
    return 0;
}

void balloon_set_host_cmd(struct balloon *b, uint32_t cmd)
{
    store(&b->host_cmd, cmd);
    virtio_dev_config_changed(&b->base);
}

static int check_hinting(const struct balloon *b)
{
    if (!b->has_hinting) {
        return -ENOTSUP;
    }
    return has_driver(&b->base) ? 0 : -ENODEV;
}

int balloon_start_hinting(struct virtio_dev *dev, bool acknowledge_on_stop)
{
    struct balloon *b = balloon_of(dev);
    int r = check_hinting(b);

    if (r < 0) {
        return r;
    }
    b->last_run++;
    if (b->last_run < HINT_RUN_FIRST) {
        b->last_run = HINT_RUN_FIRST;
    }
    b->acknowledges = acknowledge_on_stop;
    balloon_set_host_cmd(b, b->last_run);
    return 0;
}

int balloon_stop_hinting(struct virtio_dev *dev)
{
    struct balloon *b = balloon_of(dev);
    int r = check_hinting(b);

    if (r == 0) {
        balloon_set_host_cmd(b, HINT_DONE); /* the guest takes its pages back into use */
    }
    return r;
}

int balloon_get_hinting(struct virtio_dev *dev, struct balloon_hinting *ret_hinting)
{
    const struct balloon *b = balloon_of(dev);

    if (!b->has_hinting) {
        return -ENOTSUP;
    }
    *ret_hinting = (struct balloon_hinting){.host_cmd = load(&b->host_cmd),
                                            .guest_cmd = b->guest_cmd,
                                            .has_guest_cmd = b->has_guest_cmd};
    return 0;
}

/* --- life --- */

static int start(struct virtio_dev *dev)
{
    struct balloon *b = balloon_of(dev);

    b->is_running = true;
    arm_timer(b);
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    struct balloon *b = balloon_of(dev);

    b->is_running = false;
    b->has_stats_chain = false;
    arm_timer(b);
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    struct balloon *b = balloon_of(dev);
    struct virtq *q = &dev->queues[index];
    uint64_t one = 1;

    if (balloon_serve(b, b->kinds[index], q)) {
        (void)!write(dev->notify_fd[index], &one, sizeof(one));
    }
    virtio_dev_signal(dev, q);
}

static void balloon_free(struct virtio_dev *dev)
{
    struct balloon *b = balloon_of(dev);

    b->is_running = false;
    arm_timer(b);
    virtio_dev_fini(dev);
    free(b);
}

static void fields(struct balloon *b, struct state *s)
{
    STATE(s, b->target_pages);
    STATE(s, b->actual_pages);
    STATE(s, b->host_cmd);
    STATE(s, b->stats_interval_s);
    state_bytes(s, "stats", b->stats, sizeof(b->stats));
    STATE(s, b->stats_present);
    STATE(s, b->acknowledges);
    STATE(s, b->last_run);
    STATE(s, b->guest_cmd);
    STATE(s, b->has_guest_cmd);
}

static void balloon_save(struct virtio_dev *dev, struct state *s)
{
    struct balloon *b = balloon_of(dev);

    if (b->has_stats_chain) { /* always the last that was taken */
        virtq_unpop(&dev->queues[index_of(b, BALLOON_STATS)], 1);
        b->has_stats_chain = false;
    }
    fields(b, s);
}

static void balloon_load(struct virtio_dev *dev, struct state *s)
{
    struct balloon *b = balloon_of(dev);
    bool has_stats = b->stats_interval_s > 0;

    fields(b, s);
    if (has_stats != (b->stats_interval_s > 0)) {
        state_refuse(s, "stats_interval_s", "%u: statistics are %s", b->stats_interval_s,
                     has_stats ? "on" : "off");
    }
}

static const struct virtio_ops balloon_ops = {
    .kind = "virtio-balloon",
    .id = VIRTIO_ID_BALLOON,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = balloon_free,
    .save = balloon_save,
    .load = balloon_load,
};

int balloon_new(const struct balloon_config *config, struct mem_map *mem, struct loop *loop,
                struct virtio_dev **ret_dev, struct err *err)
{
    struct balloon *b = calloc(1, sizeof(*b));
    uint64_t features = 0;
    unsigned count = 0;
    int r;

    if (!b) {
        return err_set(err, -ENOMEM, "virtio-balloon: out of memory");
    }
    b->target_pages = config->target_pages;
    b->stats_interval_s = config->stats_interval_s;
    b->has_hinting = config->has_hinting;
    b->last_run = HINT_DONE;
    b->kinds[count++] = BALLOON_INFLATE;
    b->kinds[count++] = BALLOON_DEFLATE;
    features |= config->deflate_on_oom ? F_DEFLATE_ON_OOM : 0;
    if (config->stats_interval_s > 0) {
        features |= F_STATS_VQ;
        b->kinds[count++] = BALLOON_STATS;
    }
    if (config->has_hinting) {
        features |= F_FREE_PAGE_HINT;
        b->kinds[count++] = BALLOON_HINTING;
    }
    if (config->has_reporting) {
        features |= F_REPORTING;
        b->kinds[count++] = BALLOON_REPORTING;
    }
    r = virtio_dev_init(&b->base, &balloon_ops, mem, loop, count, features, err);
    if (r < 0) {
        balloon_free(&b->base);
        return r;
    }
    *ret_dev = &b->base;
    return 0;
}
