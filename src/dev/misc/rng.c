/* rng.c — virtio-rng: fill the guest's buffers with getrandom(2).
 *
 * A request gets at most REQUEST_MAX bytes: the driver asks again if it wants more, and one that
 * offers gigabytes cannot hold up the loop.  So few requests are answered per notification, too;
 * the device rings its own doorbell for the rest.  The limiter is asked for the whole buffer.
 */
#include "dev/misc/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "dev/virtio/limiter_state.h"
#include "dev/virtio/virtio.h"
#include "io/limiter.h"
#include "metrics/metrics.h"

#define REQUEST_MAX  65536u /* what the microVM interface promises */
#define REQUESTS_MAX 64

struct rng {
    struct virtio_dev base;
    struct limiter limiter;
    bool is_started;
    struct virtq_chain chain;
};

static struct rng *rng_of(struct virtio_dev *dev)
{
    return container_of(dev, struct rng, base);
}

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev;
    virtio_config_copy(NULL, 0, offset, data, len); /* there is no configuration */
}

static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    (void)data;
    (void)len;
}

/* Returns how many bytes of the chain were filled. */
static uint32_t fill(const struct virtq_chain *chain)
{
    uint32_t done = 0;

    for (unsigned i = 0; i < chain->writable_count && done < REQUEST_MAX; i++) {
        const struct iovec *v = &chain->iov[i];
        size_t want = v->iov_len < REQUEST_MAX - done ? v->iov_len : REQUEST_MAX - done;
        /* up to 256 bytes it cannot be interrupted; a short answer is fine with the driver */
        ssize_t got = getrandom(v->iov_base, want, 0);

        if (got < 0) {
            metric_inc(&g_metrics.entropy.host_rng_fails);
        }
        done += got > 0 ? (uint32_t)got : 0;
        if (got < (ssize_t)want) {
            break;
        }
    }
    metric_add(&g_metrics.entropy.entropy_bytes, done);
    return done;
}

/* Answer the chain, or leave it where it is until the limiter allows it. */
static bool answer(struct rng *rng, struct virtq *q)
{
    const struct virtq_chain *chain = &rng->chain;
    bool is_good = chain->readable_count == 0 && chain->writable_count > 0;

    if (is_good && !limiter_take(&rng->limiter, 1, chain->writable_bytes)) {
        metric_inc(&g_metrics.entropy.entropy_rate_limiter_throttled);
        virtq_unpop(q, 1);
        return false;
    }
    if (!is_good) {
        metric_inc(&g_metrics.entropy.entropy_event_fails);
    }
    virtq_push(q, chain, is_good ? fill(chain) : 0);
    return true;
}

static void process(struct rng *rng)
{
    struct virtio_dev *dev = &rng->base;
    struct virtq *q = &dev->queues[0];
    uint64_t one = 1;
    unsigned count = 0;

    while (count < REQUESTS_MAX && virtq_pop(q, &rng->chain) == 1 && answer(rng, q)) {
        count++;
    }
    virtio_dev_signal(dev, q);
    if (count == REQUESTS_MAX) {
        (void)!write(dev->notify_fd[0], &one, sizeof(one));
    }
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    (void)index;
    metric_inc(&g_metrics.entropy.entropy_event_count);
    process(rng_of(dev));
}

/* The limiter lets us go on. */
static void retry(void *owner)
{
    struct rng *rng = owner;

    metric_inc(&g_metrics.entropy.rate_limiter_event_count);
    if (rng->is_started) {
        process(rng);
    }
}

static int start(struct virtio_dev *dev)
{
    rng_of(dev)->is_started = true;
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    rng_of(dev)->is_started = false; /* nothing else is kept between notifications */
}

static void rng_free(struct virtio_dev *dev)
{
    limiter_fini(&rng_of(dev)->limiter);
    virtio_dev_fini(dev);
    free(rng_of(dev));
}

static void rng_state(struct virtio_dev *dev, struct state *s)
{
    virtio_limiter_fields(&rng_of(dev)->limiter, s);
}

static const struct virtio_ops rng_ops = {
    .kind = "virtio-rng",
    .id = VIRTIO_ID_RNG,
    .config_read = config_read,
    .config_write = config_write,
    .start = start,
    .reset = reset,
    .notify = notify,
    .free = rng_free,
    .save = rng_state,
    .load = rng_state,
};

int rng_new(struct mem_map *mem, struct loop *loop, const struct limiter_config *limit,
            struct virtio_dev **ret_dev, struct err *err)
{
    static const struct limiter_config none;
    struct rng *rng = calloc(1, sizeof(*rng));
    int r;

    if (!rng) {
        return err_set(err, -ENOMEM, "virtio-rng: out of memory");
    }
    r = virtio_dev_init(&rng->base, &rng_ops, mem, loop, 1, 0, err);
    if (r < 0) {
        rng_free(&rng->base);
        return r;
    }
    limiter_init(&rng->limiter, limit ? limit : &none, loop, retry, rng);
    *ret_dev = &rng->base;
    return 0;
}
