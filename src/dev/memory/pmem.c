/* pmem.c — see pmem.h.
 *
 * Theory of operation.  All requests that are in the queue are taken first, then the file is synced
 * once, then all are answered: what was written before any of them was asked for is durable.  While
 * the limiter refuses, they wait here.
 */
#include "dev/memory/pmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "dev/port/pmem_port.h"
#include "dev/virtio/limiter_state.h"
#include "dev/virtio/virtio.h"
#include "mem/map.h"
#include "metrics/metrics.h"
#include "state/state.h"

/* virtio 1.2, 5.19.6 */
#define REQUEST_BYTES 4u
#define ANSWER_BYTES  4u
#define TYPE_FLUSH    0u

#define WAITING_MAX VIRTIO_QUEUE_SIZE_DEFAULT

struct waiting {
    uint16_t head;
    uint8_t *answer; /* in guest memory */
};

struct pmem {
    struct virtio_dev base;
    struct pmem_port *port;
    uint8_t config[16]; /* 5.19.4: start, size */
    bool is_started;
    struct limiter limiter;
    struct metrics_pmem *metrics;
    struct virtq_chain chain;
    struct waiting waiting[WAITING_MAX];
    unsigned waiting_count;
};

static struct pmem *pmem_of(struct virtio_dev *dev)
{
    return container_of(dev, struct pmem, base);
}

static struct virtq *queue_of(struct pmem *p)
{
    return &p->base.queues[0];
}

/* A flush, as the chain that was taken asks for it?  Else it is given back empty. */
static bool is_flush(const struct virtq_chain *chain)
{
    uint8_t raw[REQUEST_BYTES];

    return chain->readable_count == 1 && chain->writable_count == 1 &&
           virtq_chain_read(chain, 0, raw, sizeof(raw)) == sizeof(raw) &&
           chain->writable_bytes >= ANSWER_BYTES && load_le32(raw) == TYPE_FLUSH;
}

/* At most as many as can wait, the malformed included: a driver that offers such without end does
 * not hold up the loop. */
static void collect(struct pmem *p)
{
    struct virtq *q = queue_of(p);

    for (unsigned i = 0; i < WAITING_MAX && p->waiting_count < WAITING_MAX; i++) {
        if (virtq_pop(q, &p->chain) != 1) {
            return;
        }
        if (is_flush(&p->chain)) {
            p->waiting[p->waiting_count++] = (struct waiting){
                .head = p->chain.head, .answer = p->chain.iov[p->chain.readable_count].iov_base};
        } else {
            metric_inc(&p->metrics->event_fails);
            log_guest(LOG_ERROR, "pmem: malformed request");
            virtq_push_head(q, p->chain.head, 0);
        }
    }
}

/* One sync for all that wait. */
static void answer(struct pmem *p)
{
    int r = p->port->ops->sync(p->port);

    if (r < 0) {
        log_guest(LOG_ERROR, "pmem: cannot sync the file: %s", strerror(-r));
    }
    for (unsigned i = 0; i < p->waiting_count; i++) {
        store_le32(p->waiting[i].answer, r < 0 ? UINT32_MAX : 0);
        mem_note_write_host(p->base.mem, p->waiting[i].answer, ANSWER_BYTES);
        virtq_push_head(queue_of(p), p->waiting[i].head, ANSWER_BYTES);
    }
    p->waiting_count = 0;
}

static void process(struct pmem *p)
{
    uint64_t one = 1;

    collect(p);
    if (p->waiting_count > 0) {
        if (limiter_take(&p->limiter, 1, p->port->file_bytes)) {
            answer(p);
        } else {
            metric_inc(&p->metrics->rate_limiter_throttled_events);
        }
    }
    virtio_dev_signal(&p->base, queue_of(p));
    if (!p->waiting_count && virtq_has_work(queue_of(p))) {
        (void)!write(p->base.notify_fd[0], &one, sizeof(one));
    }
}

static void on_retry(void *owner)
{
    struct pmem *p = owner;

    metric_inc(&p->metrics->rate_limiter_event_count);
    if (p->is_started) {
        process(p);
    }
}

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    virtio_config_copy(pmem_of(dev)->config, sizeof(pmem_of(dev)->config), offset, data, len);
}

static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)offset;
    (void)data;
    (void)len;
    metric_inc(&pmem_of(dev)->metrics->cfg_fails);
}

static int start(struct virtio_dev *dev)
{
    pmem_of(dev)->is_started = true;
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    pmem_of(dev)->is_started = false;
    pmem_of(dev)->waiting_count = 0;
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    (void)index;
    metric_inc(&pmem_of(dev)->metrics->queue_event_count);
    process(pmem_of(dev));
}

static void pmem_free(struct virtio_dev *dev)
{
    limiter_fini(&pmem_of(dev)->limiter);
    virtio_dev_fini(dev);
    free(pmem_of(dev));
}

/* Nothing waits in a snapshot, and the guest finds its memory where and as large as it was. */
static void fields(struct pmem *p, struct state *s)
{
    uint64_t gpa = load_le64(p->config);
    uint64_t len = p->port->len;

    state_u64(s, "address", &gpa);
    state_u64(s, "size", &len);
    if (s->is_loading && len != p->port->len) {
        state_refuse(s, "size",
                     "Restored pmem size %llu does not match backing file mapping size %llu",
                     (unsigned long long)len, (unsigned long long)p->port->len);
    } else if (s->is_loading && gpa != load_le64(p->config)) {
        state_refuse(s, "address", "0x%llx: the memory is at 0x%llx now", (unsigned long long)gpa,
                     (unsigned long long)load_le64(p->config));
    }
    virtio_limiter_fields(&p->limiter, s);
}

static void pmem_save(struct virtio_dev *dev, struct state *s)
{
    struct pmem *p = pmem_of(dev);

    if (p->waiting_count > 0) {
        answer(p);
    }
    fields(p, s);
}

static void pmem_load(struct virtio_dev *dev, struct state *s)
{
    fields(pmem_of(dev), s);
}

static const struct virtio_ops g_pmem_ops = {
    .kind = PMEM_KIND,
    .id = VIRTIO_ID_PMEM,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = pmem_free,
    .save = pmem_save,
    .load = pmem_load,
};

int pmem_new(const struct pmem_config *config, struct mem_map *mem, struct loop *loop,
             struct virtio_dev **ret_dev, struct err *err)
{
    struct pmem *p = calloc(1, sizeof(*p));
    int r;

    if (!p) {
        return err_set(err, -ENOMEM, "virtio-pmem: out of memory");
    }
    p->port = config->port;
    p->metrics = config->metrics;
    store_le64(p->config, config->gpa.v);
    store_le64(p->config + 8, config->port->len);
    r = virtio_dev_init(&p->base, &g_pmem_ops, mem, loop, 1, 0, err);
    if (r < 0) {
        pmem_free(&p->base);
        return r;
    }
    limiter_init(&p->limiter, &config->limit, loop, on_retry, p);
    *ret_dev = &p->base;
    return 0;
}

void pmem_set_limit(struct virtio_dev *dev, const struct limiter_update *update)
{
    limiter_change(&pmem_of(dev)->limiter, update);
}
