/* block_test.c — requests of a driver reach the disk and come back; hostile ones come back empty.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "dev/block/block_int.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "tests/lib/fake_driver.h"

#define DISK_BYTES (64 * 512 + 100) /* the rest of a sector is not there for the guest */

/* A disk in memory that answers at once, or when a test says so. */
struct fake_disk {
    struct disk_port base;
    uint8_t bytes[DISK_BYTES];
    struct disk_client client;
    struct disk_io *held[8];
    unsigned held_count;
    bool holds;
    bool is_attached;
    int64_t fails; /* answer this instead */
    unsigned flushes;
    unsigned commits;
};

static struct fake_disk *disk_of(struct disk_port *port)
{
    return container_of(port, struct fake_disk, base);
}

static int disk_attach(struct disk_port *port, struct loop *loop, const struct disk_client *client)
{
    (void)loop;
    disk_of(port)->client = *client;
    disk_of(port)->is_attached = true;
    return 0;
}

static int64_t disk_do(struct fake_disk *d, struct disk_io *io)
{
    if (d->fails) {
        return d->fails;
    }
    switch (io->op) {
    case DISK_FLUSH: d->flushes++; return 0;
    case DISK_READ: memcpy(io->data, d->bytes + io->offset, io->len); break;
    case DISK_WRITE: memcpy(d->bytes + io->offset, io->data, io->len); break;
    }
    return io->len;
}

static int64_t disk_submit(struct disk_port *port, struct disk_io *io)
{
    struct fake_disk *d = disk_of(port);

    CHECK(d->is_attached);
    if (!d->holds) {
        return disk_do(d, io);
    }
    if (d->held_count == ARRAY_LEN(d->held)) {
        return DISK_FULL;
    }
    d->held[d->held_count++] = io;
    return DISK_PENDING;
}

static void disk_commit(struct disk_port *port)
{
    disk_of(port)->commits++;
}

/* Last first, as an asynchronous disk may. */
static void disk_drain(struct disk_port *port)
{
    struct fake_disk *d = disk_of(port);

    while (d->held_count > 0) {
        struct disk_io *io = d->held[--d->held_count];

        d->client.done(d->client.owner, io, disk_do(d, io));
    }
    d->client.batch_end(d->client.owner);
}

static void disk_detach(struct disk_port *port)
{
    if (disk_of(port)->is_attached) {
        disk_drain(port);
        CHECK_INT(disk_of(port)->held_count, 0);
        disk_of(port)->is_attached = false;
    }
}

static void disk_free(struct disk_port *port)
{
    (void)port;
}

static const struct disk_port_ops g_disk_ops = {.attach = disk_attach,
                                                .detach = disk_detach,
                                                .submit = disk_submit,
                                                .commit = disk_commit,
                                                .drain = disk_drain,
                                                .free = disk_free};

static void disk_init(struct fake_disk *d)
{
    memset(d, 0, sizeof(*d));
    d->base.ops = &g_disk_ops;
    d->base.bytes = DISK_BYTES;
    memcpy(d->base.id, "123456", 6);
    for (unsigned i = 0; i < DISK_BYTES; i++) {
        d->bytes[i] = (uint8_t)(i / 512 + 1);
    }
}

/* No thread runs the loop: what the device does, it does within the register write. */
struct rig {
    struct fake_driver drv;
    struct loop *loop;
    struct virtio_dev *dev;
    struct fake_disk disk;
    struct metrics_block *metrics;
    gpa_t header;
    gpa_t data;
    gpa_t status;
};

static void rig_init(struct rig *g, struct block_config config)
{
    struct err err = {0};

    metrics_reset();
    fake_driver_init(&g->drv);
    disk_init(&g->disk);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    g->metrics = metrics_block("d");
    config.disk = &g->disk.base;
    config.metrics = g->metrics;
    CHECK_OK(block_new(&config, g->drv.mem, g->loop, &g->dev, &err), &err);
    fake_driver_attach(&g->drv, g->dev);
    fake_driver_start(&g->drv, fake_features_read(&g->drv), 64);
    g->header = fake_alloc(&g->drv, 64 * 16, 16);
    g->data = fake_alloc(&g->drv, 65536, 512);
    g->status = fake_alloc(&g->drv, 64, 1);
}

static void rig_fini(struct rig *g)
{
    fake_driver_fini(&g->drv);
    CHECK(!g->disk.is_attached);
    loop_free(g->loop);
}

/* The three descriptors from `slot` on; len 0: no data. */
static void offer(struct rig *g, uint16_t slot, uint32_t type, uint64_t sector, uint32_t len)
{
    struct fake_queue *q = &g->drv.queues[0];
    gpa_t header = GPA(g->header.v + 16u * slot);
    uint8_t *raw = fake_ptr(&g->drv, header, 16);

    memset(raw, 0, 16);
    store_le32(raw, type);
    store_le64(raw + 8, sector);
    *(uint8_t *)fake_ptr(&g->drv, GPA(g->status.v + slot), 1) = 0xee;
    fake_put_desc(q, slot, header, 16, FAKE_NEXT, (uint16_t)(slot + (len ? 1 : 2)));
    fake_put_desc(q, slot + 1u, g->data, len, (uint16_t)(FAKE_NEXT | (type == 1 ? 0 : FAKE_WRITE)),
                  (uint16_t)(slot + 2));
    fake_put_desc(q, slot + 2u, GPA(g->status.v + slot), 1, FAKE_WRITE, 0);
    fake_offer(q, slot);
}

static void kick(struct rig *g)
{
    g->dev->ops->notify(g->dev, 0);
}

/* One request from beginning to end; returns the used length, -1 if it did not come back. */
static int64_t request(struct rig *g, uint32_t type, uint64_t sector, uint32_t len)
{
    uint32_t id;
    uint32_t used;

    offer(g, 0, type, sector, len);
    kick(g);
    if (!fake_take_used(&g->drv.queues[0], &id, &used)) {
        return -1;
    }
    CHECK_INT(id, 0);
    return used;
}

static unsigned status_of(struct rig *g, uint16_t slot)
{
    return *(uint8_t *)fake_ptr(&g->drv, GPA(g->status.v + slot), 1);
}

TEST(block, capacity_and_features_are_what_was_configured)
{
    static const struct {
        bool is_read_only;
        bool has_flush;
        uint64_t features;
    } rows[] = {{false, false, 0}, {true, false, BIT(5)}, {false, true, BIT(9)}};
    uint64_t wide = 1;

    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct rig g;

        rig_init(&g, (struct block_config){.is_read_only = rows[i].is_read_only,
                                           .has_flush = rows[i].has_flush});
        CHECK(fake_features_read(&g.drv) ==
              (rows[i].features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX));
        CHECK_INT(fake_reg_read(&g.drv, 0x034), 256);
        CHECK_INT(fake_reg_read(&g.drv, 0x100), 64);
        fake_reg_write(&g.drv, 0x100, 7);
        CHECK_INT(fake_reg_read(&g.drv, 0x100), 64);
        CHECK_INT(metric_get(&g.metrics->cfg_fails), 1);
        g.drv.mmio->ops->read(g.drv.mmio, 0x108, &wide, 8);
        CHECK_INT(wide, 0);
        rig_fini(&g);
    }
}

TEST(block, data_goes_both_ways)
{
    struct rig g;
    uint8_t *data;

    rig_init(&g, (struct block_config){.has_flush = true});
    data = fake_ptr(&g.drv, g.data, 4096);
    CHECK_INT(request(&g, 0, 2, 1024), 1025);
    CHECK_INT(status_of(&g, 0), 0);
    CHECK_INT(data[0], 3);
    CHECK_INT(data[1023], 4);
    memset(data, 0x77, 4096);
    CHECK_INT(request(&g, 1, 60, 2048), 1);
    CHECK_INT(status_of(&g, 0), 0);
    CHECK_INT(g.disk.bytes[60 * 512], 0x77);
    CHECK_INT(g.disk.bytes[59 * 512], 60);
    CHECK_INT(g.disk.bytes[64 * 512], 65);
    CHECK_INT(request(&g, 4, 0, 0), 1);
    CHECK_INT(request(&g, 4, 0, 512), 1); /* a flush may bring a buffer */
    CHECK_INT(g.disk.flushes, 2);
    memset(data, 0xff, 64);
    CHECK_INT(request(&g, 8, 0, 64), 21);
    CHECK_MEM(data, "123456\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
    CHECK_INT(request(&g, 11, 0, 512), 1);
    CHECK_INT(status_of(&g, 0), 2);
    CHECK_INT(metric_get(&g.metrics->read_bytes), 1024);
    CHECK_INT(metric_get(&g.metrics->write_bytes), 2048);
    CHECK_INT(metric_get(&g.metrics->flush_count), 2);
    CHECK_INT(metric_get(&g.metrics->invalid_reqs_count), 1);
    CHECK_INT(metric_get(&g.metrics->execute_fails), 0);
    rig_fini(&g);
}

TEST(block, what_fails_on_the_host_is_an_error_of_the_device)
{
    struct rig g;

    rig_init(&g, (struct block_config){0});
    g.disk.fails = -EIO;
    CHECK_INT(request(&g, 0, 0, 512), 1);
    CHECK_INT(status_of(&g, 0), 1);
    CHECK_INT(request(&g, 4, 0, 0), 1);
    CHECK_INT(status_of(&g, 0), 1);
    g.disk.fails = 100; /* short */
    CHECK_INT(request(&g, 0, 0, 512), 101);
    CHECK_INT(status_of(&g, 0), 1);
    CHECK_INT(request(&g, 1, 0, 512), 1);
    CHECK_INT(status_of(&g, 0), 1);
    CHECK_INT(metric_get(&g.metrics->invalid_reqs_count), 4);
    rig_fini(&g);

    rig_init(&g, (struct block_config){.is_read_only = true});
    CHECK_INT(request(&g, 1, 0, 512), 1);
    CHECK_INT(status_of(&g, 0), 1);
    CHECK_INT(g.disk.bytes[0], 1);
    rig_fini(&g);
}

/* Each lays out one chain from descriptor 0 on that must come back with length 0. */
static void malform(struct rig *g, unsigned kind)
{
    struct fake_queue *q = &g->drv.queues[0];
    uint8_t *raw = fake_ptr(&g->drv, g->header, 16);

    offer(g, 0, 0, 0, 512);
    switch (kind) {
    case 0: fake_put_desc(q, 0, g->header, 15, FAKE_NEXT, 1); break;              /* short header */
    case 1: fake_put_desc(q, 0, g->header, 16, FAKE_NEXT | FAKE_WRITE, 1); break; /* not for us */
    case 2: fake_put_desc(q, 0, g->header, 16, 0, 0); break;                      /* alone */
    case 3: fake_put_desc(q, 0, g->header, 16, FAKE_NEXT, 2); break;              /* no data */
    case 4: fake_put_desc(q, 1, g->data, 512, FAKE_NEXT, 2); break; /* reads into what it gave */
    case 5: store_le32(raw, 1); break;                              /* writes what it did not */
    case 6: fake_put_desc(q, 1, g->data, 511, FAKE_NEXT | FAKE_WRITE, 2); break;
    case 7: fake_put_desc(q, 1, g->data, 513, FAKE_NEXT | FAKE_WRITE, 2); break;
    case 8: store_le64(raw + 8, 64); break; /* just behind the end */
    case 9: store_le64(raw + 8, UINT64_MAX); break;
    case 10: store_le64(raw + 8, UINT64_MAX / 512); break;
    case 11: /* the last sector and one more */
        store_le64(raw + 8, 63);
        fake_put_desc(q, 1, g->data, 1024, FAKE_NEXT | FAKE_WRITE, 2);
        break;
    case 12: fake_put_desc(q, 2, g->status, 1, 0, 0); break; /* status that is not writable */
    case 13: fake_put_desc(q, 2, g->status, 0, FAKE_WRITE, 0); break; /* or empty */
    case 14:                                                          /* two buffers */
        fake_put_desc(q, 2, g->data, 512, FAKE_NEXT | FAKE_WRITE, 3);
        fake_put_desc(q, 3, g->status, 1, FAKE_WRITE, 0);
        break;
    case 15: /* an id needs 20 bytes */
        store_le32(raw, 8);
        fake_put_desc(q, 1, g->data, 19, FAKE_NEXT | FAKE_WRITE, 2);
        break;
    case 16: /* and somewhere to go */
        store_le32(raw, 8);
        fake_put_desc(q, 1, g->data, 20, FAKE_NEXT, 2);
        break;
    case 17: fake_put_desc(q, 1, GPA(FAKE_MEM_BYTES), 512, FAKE_NEXT | FAKE_WRITE, 2); break;
    case 18: fake_put_desc(q, 2, GPA(UINT64_MAX), 1, FAKE_WRITE, 0); break;
    case 19: fake_put_desc(q, 1, g->data, 512, FAKE_NEXT | FAKE_WRITE, 1); break; /* loops */
    default: fail();
    }
}

TEST(block, malformed_requests_come_back_empty_and_the_next_is_served)
{
    for (unsigned kind = 0; kind <= 19; kind++) {
        struct rig g;
        uint32_t id;
        uint32_t used;

        rig_init(&g, (struct block_config){0});
        malform(&g, kind);
        kick(&g);
        if (!fake_take_used(&g.drv.queues[0], &id, &used) || used != 0 ||
            status_of(&g, 0) != 0xee) {
            print_error("malformed request %u was not refused\n", kind);
            fail();
        }
        CHECK_INT(metric_get(&g.metrics->execute_fails), 1);
        CHECK_INT(request(&g, 0, 63, 512), 513);
        rig_fini(&g);
    }
}

TEST(block, a_disk_may_answer_later_and_in_any_order)
{
    struct rig g;
    uint32_t id;
    uint32_t used;

    rig_init(&g, (struct block_config){0});
    g.disk.holds = true;
    for (uint16_t i = 0; i < 12; i++) { /* the disk holds eight */
        offer(&g, (uint16_t)(3 * i), 4, 0, 0);
    }
    kick(&g);
    CHECK_INT(g.disk.held_count, 8);
    CHECK_INT(g.disk.commits, 1);
    CHECK_INT(metric_get(&g.metrics->io_engine_throttled_events), 1);
    CHECK(!fake_take_used(&g.drv.queues[0], &id, &used));
    disk_drain(&g.disk.base); /* room: the others follow by themselves */
    CHECK_INT(g.disk.held_count, 4);
    for (unsigned i = 0; i < 8; i++) {
        CHECK(fake_take_used(&g.drv.queues[0], &id, &used));
        CHECK_INT(id, 3 * (7 - i));
        CHECK_INT(used, 1);
    }
    block_drain(g.dev);
    CHECK_INT(g.disk.held_count, 0);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(fake_take_used(&g.drv.queues[0], &id, &used));
    }
    CHECK(atomic_load(&g.drv.irq_count) >= 1);
    rig_fini(&g);
}

TEST(block, a_reset_waits_for_what_is_in_flight)
{
    struct rig g;

    rig_init(&g, (struct block_config){0});
    g.disk.holds = true;
    offer(&g, 0, 0, 0, 512);
    kick(&g);
    CHECK_INT(g.disk.held_count, 1);
    fake_reg_write(&g.drv, 0x070, 0);
    CHECK_INT(g.disk.held_count, 0);
    fake_driver_start(&g.drv, VIRTIO_F_VERSION_1, 64);
    g.disk.holds = false;
    CHECK_INT(request(&g, 0, 0, 512), 513);
    offer(&g, 0, 0, 0, 512); /* freed with something in flight */
    g.disk.holds = true;
    kick(&g);
    rig_fini(&g);
}

TEST(block, a_driver_that_offers_one_request_without_end_gets_no_more_than_there_are)
{
    struct rig g;

    rig_init(&g, (struct block_config){0});
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 64; i++) {
            offer(&g, 0, 0, 0, 512);
        }
        kick(&g);
    }
    CHECK_INT(metric_get(&g.metrics->read_count), 20 * 64);
    rig_fini(&g);
}

TEST(block, another_disk_shows_its_size_and_the_driver_hears_of_it)
{
    struct rig g;
    struct fake_disk other;
    struct err err = {0};
    uint32_t id = 0;
    uint32_t used;
    unsigned irqs;

    rig_init(&g, (struct block_config){0});
    disk_init(&other);
    other.base.bytes = 10 * 512;
    memset(other.bytes, 0x55, sizeof(other.bytes));
    g.disk.holds = true;
    for (uint16_t i = 0; i < 9; i++) { /* the ninth has no room on the old one */
        offer(&g, (uint16_t)(3 * i), 0, 1, 512);
    }
    kick(&g);
    irqs = atomic_load(&g.drv.irq_count);
    CHECK_OK(block_set_disk(g.dev, &other.base, &err), &err);
    CHECK(!g.disk.is_attached);
    CHECK_INT(fake_reg_read(&g.drv, 0x100), 10);
    CHECK_INT(fake_reg_read(&g.drv, 0x0fc), 1);
    CHECK(atomic_load(&g.drv.irq_count) > irqs);
    for (unsigned i = 0; i < 9; i++) {
        CHECK(fake_take_used(&g.drv.queues[0], &id, &used));
        CHECK_INT(used, 513);
    }
    CHECK_INT(id, 24);
    CHECK_INT(*(uint8_t *)fake_ptr(&g.drv, g.data, 1), 0x55);
    CHECK_INT(request(&g, 0, 10, 512), 0);
    CHECK_INT(metric_get(&g.metrics->update_count), 1);
    rig_fini(&g);
    CHECK(!other.is_attached);
}

TEST(block, the_limiter_charges_operations_and_bytes_and_keeps_the_order)
{
    struct rig g;
    uint32_t id;
    uint32_t used;
    struct limiter_update none = {.has_ops = true};

    rig_init(&g, (struct block_config){.limit = {.ops = {.size = 3, .refill_ms = 3600000}}});
    for (uint16_t i = 0; i < 5; i++) {
        offer(&g, (uint16_t)(3 * i), i == 1 ? 4 : 0, 0, i == 1 ? 0 : 512);
    }
    kick(&g);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(fake_take_used(&g.drv.queues[0], &id, &used));
        CHECK_INT(id, 3 * i);
    }
    CHECK(!fake_take_used(&g.drv.queues[0], &id, &used));
    CHECK_INT(metric_get(&g.metrics->rate_limiter_throttled_events), 1);
    CHECK_INT(metric_get(&g.metrics->remaining_reqs_count), 2);
    kick(&g);
    CHECK(!fake_take_used(&g.drv.queues[0], &id, &used));
    block_set_limit(g.dev, &none);
    CHECK_OK(loop_thread_start(g.loop, "block", &(struct err){0}), &(struct err){0});
    for (unsigned i = 3; i < 5; i++) { /* once the timer has run out */
        CHECK(fake_wait_used(&g.drv, 0, &id, &used));
        CHECK_INT(id, 3 * i);
    }
    loop_thread_stop(g.loop);
    CHECK_INT(metric_get(&g.metrics->rate_limiter_event_count), 1);
    rig_fini(&g);
}

static unsigned g_noted;

static void note(void *owner, gpa_t gpa, uint64_t len)
{
    (void)owner;
    (void)gpa;
    g_noted += (unsigned)len;
}

TEST(block, what_a_read_wrote_is_reported_to_the_watcher)
{
    struct rig g;

    rig_init(&g, (struct block_config){0});
    mem_watch_set(g.drv.mem, note, NULL);
    mem_page_flag(g.drv.mem, g.data, true);
    g_noted = 0;
    CHECK_INT(request(&g, 0, 0, 512), 513);
    CHECK(g_noted >= 512);
    rig_fini(&g);
}
