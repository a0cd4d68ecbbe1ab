/* disk_uring.c — the engine that hands operations to the kernel and hears of them later.
 *
 * Theory of operation.  One ring for each disk.  The file is registered as number 0 and the ring is
 * restricted to reading, writing and syncing it before it is enabled, so that whatever happens to
 * this process later, the ring gives access to nothing else.  What is complete when it was
 * submitted is told at once; for the rest the kernel counts completions in an eventfd which the
 * loop watches edge-triggered; nobody needs to read it.  At most as many operations are in flight
 * as the completion queue has room for: it never overflows.
 */
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/os_error.h"
#include "host/disk_int.h"
#include "io/loop.h"

#define RING_ENTRIES 128
#define AGAIN_NS     NS_PER_MS

struct disk_uring {
    struct disk_port base;
    int fd;
    int event; /* -1: none */
    struct io_uring ring;
    bool has_ring;
    unsigned in_flight;       /* submitted or prepared, not yet seen as complete */
    struct loop_timer *again; /* submits what the kernel refused */
    struct loop *loop;        /* NULL: not attached */
    struct disk_client client;
};

static struct disk_uring *uring_of(struct disk_port *port)
{
    return container_of(port, struct disk_uring, base);
}

/* Tell about everything that is complete. */
static unsigned reap(struct disk_uring *disk)
{
    struct io_uring_cqe *cqe;
    unsigned count = 0;

    while (io_uring_peek_cqe(&disk->ring, &cqe) == 0) {
        struct disk_io *io = io_uring_cqe_get_data(cqe);
        int64_t result = cqe->res;

        io_uring_cqe_seen(&disk->ring, cqe);
        disk->in_flight--;
        count++;
        disk->client.done(disk->client.owner, io, result);
    }
    return count;
}

static void on_event(void *owner, int fd, uint32_t events)
{
    struct disk_uring *disk = owner;

    (void)fd;
    (void)events;
    if (reap(disk) > 0) {
        disk->client.batch_end(disk->client.owner);
    }
}

static int uring_attach(struct disk_port *port, struct loop *loop, const struct disk_client *client)
{
    struct disk_uring *disk = uring_of(port);
    int r = loop_add_fd(loop, disk->event, EPOLLIN | EPOLLET, on_event, disk);

    if (r == 0) {
        disk->loop = loop;
        disk->client = *client;
    }
    return r;
}

static void uring_commit(struct disk_port *port);

static void on_again(void *owner)
{
    struct disk_uring *disk = owner;

    disk->again = NULL; /* the loop frees it */
    uring_commit(&disk->base);
    disk->client.batch_end(disk->client.owner);
}

static void uring_commit(struct disk_port *port)
{
    struct disk_uring *disk = uring_of(port);

    /* What a kernel without memory does not take stays in the submission queue. */
    if (io_uring_submit(&disk->ring) < 0 && !disk->again) {
        disk->again = loop_add_timer(disk->loop, AGAIN_NS, on_again, disk);
    }
    (void)reap(disk); /* what the host's page cache had is there already */
}

static void uring_drain(struct disk_port *port)
{
    struct disk_uring *disk = uring_of(port);
    unsigned count = 0;

    while (disk->in_flight > 0) {
        int r = io_uring_submit_and_wait(&disk->ring, 1);

        if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
            return; /* the ring is beyond use */
        }
        count += reap(disk);
    }
    if (count > 0) {
        disk->client.batch_end(disk->client.owner);
    }
}

static void uring_detach(struct disk_port *port)
{
    struct disk_uring *disk = uring_of(port);

    if (disk->loop) {
        uring_drain(port);
        loop_del_timer(disk->loop, disk->again);
        disk->again = NULL;
        loop_del_fd(disk->loop, disk->event);
        disk->loop = NULL;
    }
}

static int64_t uring_submit(struct disk_port *port, struct disk_io *io)
{
    struct disk_uring *disk = uring_of(port);
    struct io_uring_sqe *sqe = NULL;

    if (disk->in_flight < disk->ring.cq.ring_entries) {
        sqe = io_uring_get_sqe(&disk->ring);
    }
    if (!sqe) {
        return DISK_FULL;
    }
    switch (io->op) {
    case DISK_READ: io_uring_prep_read(sqe, 0, io->data, io->len, io->offset); break;
    case DISK_WRITE: io_uring_prep_write(sqe, 0, io->data, io->len, io->offset); break;
    case DISK_FLUSH: io_uring_prep_fsync(sqe, 0, 0); break;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, io);
    disk->in_flight++;
    return DISK_PENDING;
}

static void uring_free(struct disk_port *port)
{
    struct disk_uring *disk = uring_of(port);

    uring_detach(port);
    if (disk->has_ring) {
        io_uring_queue_exit(&disk->ring);
    }
    if (disk->event >= 0) {
        (void)close(disk->event);
    }
    if (disk->fd >= 0) {
        (void)close(disk->fd);
    }
    free(disk);
}

static const struct disk_port_ops g_uring_ops = {
    .attach = uring_attach,
    .detach = uring_detach,
    .submit = uring_submit,
    .commit = uring_commit,
    .drain = uring_drain,
    .free = uring_free,
};

/* liburing 2.3 declares these two and does not export them. */
static int restrict_ring(struct disk_uring *disk)
{
    struct io_uring_restriction rules[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
    };
    int r = io_uring_register((unsigned)disk->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, rules,
                              ARRAY_LEN(rules));

    if (r == 0) {
        r = io_uring_register((unsigned)disk->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    }
    return r;
}

static int set_up(struct disk_uring *disk, int fd)
{
    int r = io_uring_queue_init(RING_ENTRIES, &disk->ring, IORING_SETUP_R_DISABLED);

    if (r < 0) {
        return r;
    }
    disk->has_ring = true;
    disk->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (disk->event < 0) {
        return -errno;
    }
    r = io_uring_register_eventfd(&disk->ring, disk->event);
    if (r == 0) {
        r = io_uring_register_files(&disk->ring, &fd, 1);
    }
    return r < 0 ? r : restrict_ring(disk);
}

int disk_uring_new(int fd, struct disk_port **ret_port, struct err *err)
{
    struct disk_uring *disk = calloc(1, sizeof(*disk));
    char text[OS_ERROR_MAX];
    int r;

    if (!disk) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    disk->base.ops = &g_uring_ops;
    disk->fd = -1;
    disk->event = -1;
    r = set_up(disk, fd);
    if (r < 0) {
        uring_free(&disk->base);
        return err_set(err, r, "Error coming from the IO engine: Async error: IO uring: %s",
                       os_error(r, text));
    }
    disk->fd = fd;
    *ret_port = &disk->base;
    return 0;
}
