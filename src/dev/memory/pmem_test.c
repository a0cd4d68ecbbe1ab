/* pmem_test.c — flushes are gathered, limited and answered; what is none comes back empty. */
#include <errno.h>

#include "dev/memory/pmem.h"
#include "dev/port/pmem_port.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "tests/lib/fake_driver.h"

struct fake_pmem {
    struct pmem_port base;
    unsigned syncs;
    int result;
};

static int fake_sync(struct pmem_port *port)
{
    container_of(port, struct fake_pmem, base)->syncs++;
    return container_of(port, struct fake_pmem, base)->result;
}

static const struct pmem_port_ops g_ops = {.sync = fake_sync};

/* No thread runs the loop: what the device does, it does in notify. */
struct rig {
    struct fake_driver drv;
    struct loop *loop;
    struct virtio_dev *dev;
    struct fake_pmem port;
    struct metrics_pmem *metrics;
    gpa_t request;
    gpa_t answer;
};

static void rig_init(struct rig *g, struct limiter_config limit)
{
    struct pmem_config config = {
        .port = &g->port.base, .gpa = GPA(UINT64_C(0x8000000000)), .limit = limit};
    struct err err = {0};

    metrics_reset();
    memset(&g->port, 0, sizeof(g->port));
    g->port.base = (struct pmem_port){.ops = &g_ops, .len = 4 * MIB, .file_bytes = 3 * MIB};
    g->metrics = config.metrics = metrics_pmem("p");
    fake_driver_init(&g->drv);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    CHECK_OK(pmem_new(&config, g->drv.mem, g->loop, &g->dev, &err), &err);
    fake_driver_attach(&g->drv, g->dev);
    fake_driver_start(&g->drv, VIRTIO_F_VERSION_1, 64);
    g->request = fake_alloc(&g->drv, 16, 16);
    g->answer = fake_alloc(&g->drv, 256, 16);
    memset(fake_ptr(&g->drv, g->request, 16), 0, 16);
    memset(fake_ptr(&g->drv, g->answer, 256), 0xee, 256);
}

static void rig_fini(struct rig *g)
{
    fake_driver_fini(&g->drv);
    loop_free(g->loop);
}

static void offer(struct rig *g, uint16_t slot, uint32_t request_len, uint32_t answer_len)
{
    struct fake_queue *q = &g->drv.queues[0];

    fake_put_desc(q, slot, g->request, request_len, FAKE_NEXT, (uint16_t)(slot + 1));
    fake_put_desc(q, slot + 1u, GPA(g->answer.v + 4u * slot), answer_len, FAKE_WRITE, 0);
    fake_offer(q, slot);
}

static uint32_t answer_of(struct rig *g, unsigned slot)
{
    return load_le32(fake_ptr(&g->drv, GPA(g->answer.v + 4u * slot), 4));
}

TEST(pmem, the_guest_learns_where_its_memory_is)
{
    struct rig g;
    uint64_t wide[2];

    rig_init(&g, (struct limiter_config){0});
    CHECK_INT(fake_reg_read(&g.drv, 0x008), 27);
    g.drv.mmio->ops->read(g.drv.mmio, 0x100, &wide[0], 8);
    g.drv.mmio->ops->read(g.drv.mmio, 0x108, &wide[1], 8);
    CHECK_INT(wide[0], UINT64_C(0x8000000000));
    CHECK_INT(wide[1], 4 * MIB);
    CHECK_INT(fake_features_read(&g.drv), VIRTIO_F_VERSION_1);
    fake_reg_write(&g.drv, 0x100, 1);
    CHECK_INT(metric_get(&g.metrics->cfg_fails), 1);
    rig_fini(&g);
}

TEST(pmem, flushes_that_wait_together_are_one_sync)
{
    struct rig g;
    uint32_t id;
    uint32_t len;

    rig_init(&g, (struct limiter_config){0});
    for (uint16_t i = 0; i < 10; i++) {
        offer(&g, (uint16_t)(2 * i), 4, 4);
    }
    g.dev->ops->notify(g.dev, 0);
    CHECK_INT(g.port.syncs, 1);
    for (unsigned i = 0; i < 10; i++) {
        CHECK(fake_take_used(&g.drv.queues[0], &id, &len));
        CHECK_INT(id, 2 * i);
        CHECK_INT(len, 4);
        CHECK_INT(answer_of(&g, 2 * i), 0);
    }
    g.port.result = -EIO;
    offer(&g, 0, 4, 4);
    g.dev->ops->notify(g.dev, 0);
    CHECK_INT(answer_of(&g, 0), UINT32_MAX);
    g.dev->ops->notify(g.dev, 0);
    CHECK_INT(g.port.syncs, 2);
    rig_fini(&g);
}

TEST(pmem, what_is_no_flush_comes_back_empty)
{
    struct rig g;
    uint32_t id;
    uint32_t len;

    rig_init(&g, (struct limiter_config){0});
    offer(&g, 0, 3, 4);
    offer(&g, 2, 4, 3);
    fake_put_desc(&g.drv.queues[0], 4, g.request, 4, 0, 0); /* nowhere to answer */
    fake_offer(&g.drv.queues[0], 4);
    fake_put_desc(&g.drv.queues[0], 5, g.answer, 4, FAKE_WRITE, 0); /* nothing asked */
    fake_offer(&g.drv.queues[0], 5);
    fake_put_desc(&g.drv.queues[0], 6, GPA(UINT64_MAX), 4, 0, 0);
    fake_offer(&g.drv.queues[0], 6);
    g.dev->ops->notify(g.dev, 0);
    store_le32(fake_ptr(&g.drv, g.request, 4), 1); /* another type */
    offer(&g, 8, 4, 4);
    g.dev->ops->notify(g.dev, 0);
    for (unsigned i = 0; i < 6; i++) {
        CHECK(fake_take_used(&g.drv.queues[0], &id, &len));
        CHECK_INT(len, 0);
    }
    CHECK_INT(g.port.syncs, 0);
    CHECK_INT(metric_get(&g.metrics->event_fails), 6);
    rig_fini(&g);
}

TEST(pmem, the_limiter_is_asked_for_the_whole_file_and_all_wait_for_it)
{
    struct rig g;
    struct limiter_config limit = {.bandwidth = {.size = 3 * MIB, .refill_ms = 3600000}};
    struct limiter_update none = {.has_bandwidth = true};
    uint32_t id;
    uint32_t len;

    rig_init(&g, limit);
    offer(&g, 0, 4, 4);
    g.dev->ops->notify(g.dev, 0);
    CHECK(fake_take_used(&g.drv.queues[0], &id, &len));
    offer(&g, 2, 4, 4);
    g.dev->ops->notify(g.dev, 0);
    offer(&g, 4, 4, 4);
    g.dev->ops->notify(g.dev, 0);
    CHECK(!fake_take_used(&g.drv.queues[0], &id, &len));
    CHECK_INT(g.port.syncs, 1);
    pmem_set_limit(g.dev, &none);
    CHECK_OK(loop_thread_start(g.loop, "pmem", &(struct err){0}), &(struct err){0});
    CHECK(fake_wait_used(&g.drv, 0, &id, &len));
    CHECK_INT(id, 2);
    CHECK(fake_wait_used(&g.drv, 0, &id, &len));
    CHECK_INT(id, 4);
    loop_thread_stop(g.loop);
    CHECK_INT(g.port.syncs, 2);
    CHECK_INT(metric_get(&g.metrics->rate_limiter_event_count), 1);
    rig_fini(&g);
}

TEST(pmem, a_reset_forgets_what_waits)
{
    struct rig g;
    struct limiter_config limit = {.ops = {.size = 1, .refill_ms = 3600000}};

    rig_init(&g, limit);
    offer(&g, 0, 4, 4);
    g.dev->ops->notify(g.dev, 0);
    offer(&g, 2, 4, 4);
    g.dev->ops->notify(g.dev, 0);
    fake_reg_write(&g.drv, 0x070, 0);
    fake_driver_start(&g.drv, VIRTIO_F_VERSION_1, 64);
    g.dev->ops->notify(g.dev, 0);
    CHECK_INT(g.port.syncs, 1);
    CHECK_INT(answer_of(&g, 2), 0xeeeeeeee);
    rig_fini(&g);
}
