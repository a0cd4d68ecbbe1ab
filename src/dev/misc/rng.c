/* rng.c — virtio-rng: fill the guest's buffers with getrandom(2).
 *
 * A request gets at most REQUEST_MAX bytes: the driver asks again if it wants more, and one that
 * offers gigabytes cannot hold up the loop.  So few requests are answered per notification, too;
 * the device rings its own doorbell for the rest.
 */
#include "dev/misc/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "dev/virtio/virtio.h"

#define REQUEST_MAX    4096
#define REQUESTS_MAX   64
#define QUEUE_SIZE_MAX 64

struct rng {
    struct virtio_dev base;
    struct virtq_chain chain;
};

static struct rng *rng_of(struct virtio_dev *dev)
{
    return container_of(dev, struct rng, base);
}

static void config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev; /* there is no configuration */
    (void)offset;
    for (unsigned i = 0; i < len; i++) {
        ((uint8_t *)data)[i] = 0;
    }
}

static void config_write(struct virtio_dev *dev, uint64_t offset, const void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    (void)data;
    (void)len;
}

/* Returns how many bytes of the chain were filled. */
static size_t fill(const struct virtq_chain *chain)
{
    uint8_t bytes[REQUEST_MAX];
    size_t want = chain->writable_bytes < REQUEST_MAX ? chain->writable_bytes : REQUEST_MAX;
    /* up to 256 bytes it cannot be interrupted; a short answer is fine with the driver */
    ssize_t got = getrandom(bytes, want, 0);
    size_t done = got > 0 ? virtq_chain_write(chain, 0, bytes, (size_t)got) : 0;

    explicit_bzero(bytes, sizeof(bytes));
    return done;
}

static void notify(struct virtio_dev *dev, unsigned index)
{
    struct rng *rng = rng_of(dev);
    struct virtq *q = &dev->queues[index];
    uint64_t one = 1;
    unsigned count = 0;

    while (count < REQUESTS_MAX && virtq_pop(q, &rng->chain) == 1) {
        virtq_push(q, &rng->chain, fill(&rng->chain));
        count++;
    }
    virtio_dev_signal(dev, q);
    if (count == REQUESTS_MAX) {
        (void)!write(dev->notify_fd[index], &one, sizeof(one));
    }
}

static int start(struct virtio_dev *dev)
{
    (void)dev;
    return 0;
}

static void reset(struct virtio_dev *dev)
{
    (void)dev; /* nothing is kept between notifications */
}

static void rng_free(struct virtio_dev *dev)
{
    virtio_dev_fini(dev);
    free(rng_of(dev));
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
};

int rng_new(struct mem_map *mem, struct loop *loop, struct virtio_dev **ret_dev, struct err *err)
{
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
    rng->base.queue_size_max = QUEUE_SIZE_MAX;
    *ret_dev = &rng->base;
    return 0;
}
