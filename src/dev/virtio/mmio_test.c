/* mmio_test.c — a driver brings a device up through the registers, and cannot get it anywhere it
 * should not be. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/virtio/mmio.h"
#include "io/loop.h"
#include "tests/lib/fake_driver.h"
#include "tests/lib/toy_device.h"

struct rig {
    struct fake_driver drv;
    struct loop *loop;
    struct toy *toy;
};

static void rig_init(struct rig *g)
{
    struct err err = {0};

    fake_driver_init(&g->drv);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    g->toy = calloc(1, sizeof(*g->toy));
    CHECK_OK(virtio_dev_init(&g->toy->base, &toy_ops, g->drv.mem, g->loop, 2,
                             BIT(3) | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, &err),
             &err);
    g->toy->base.queue_size_max = 64;
    fake_driver_attach(&g->drv, &g->toy->base);
    CHECK_OK(loop_thread_start(g->loop, "toy", &err), &err);
}

static void rig_fini(struct rig *g)
{
    unsigned freed = g_toys_freed;

    loop_thread_stop(g->loop);
    fake_driver_fini(&g->drv);
    CHECK_INT(g_toys_freed, freed + 1);
    loop_free(g->loop);
}

TEST(virtio_mmio, identity_registers_read_as_the_manual_says)
{
    struct rig g;
    static const struct {
        uint32_t offset;
        uint32_t value;
    } rows[] = {
        {0x000, 0x74726976}, {0x004, 2},          {0x008, VIRTIO_ID_RNG},
        {0x00c, 0},          {0x034, 64},         {0x044, 0},
        {0x060, 0},          {0x070, 0},          {0x0b0, UINT32_MAX},
        {0x0b4, UINT32_MAX}, {0x0b8, UINT32_MAX}, {0x0bc, UINT32_MAX},
        {0x0fc, 0},          {0x0c0, 0},          {0x020, 0},
    };
    uint8_t byte = 0xff;

    rig_init(&g);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        CHECK_INT(fake_reg_read(&g.drv, rows[i].offset), rows[i].value);
    }
    fake_reg_write(&g.drv, 0x030, 2); /* no third queue */
    CHECK_INT(fake_reg_read(&g.drv, 0x034), 0);
    fake_reg_write(&g.drv, 0x030, UINT32_MAX);
    fake_reg_write(&g.drv, 0x038, 8);
    fake_reg_write(&g.drv, 0x044, 1);
    CHECK_INT(fake_reg_read(&g.drv, 0x044), 0);
    g.drv.mmio->ops->read(g.drv.mmio, 0, &byte, 1); /* registers are 32 bits wide */
    CHECK_INT(byte, 0);
    CHECK(fake_features_read(&g.drv) ==
          (BIT(3) | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX));
    fake_reg_write(&g.drv, 0x014, 2);
    CHECK_INT(fake_reg_read(&g.drv, 0x010), 0);
    CHECK_STR(g.drv.mmio->ops->kind, "virtio-toy");
    rig_fini(&g);
}

TEST(virtio_mmio, configuration_is_read_in_any_width)
{
    struct rig g;
    uint64_t wide = 0;
    uint16_t narrow = 0;

    rig_init(&g);
    memcpy(g.toy->config, "abcdefghijkl", 12);
    g.drv.mmio->ops->read(g.drv.mmio, 0x108, &wide, 8);
    CHECK_MEM(&wide, "ijkl\0\0\0\0", 8);
    narrow = 0x5a59;
    g.drv.mmio->ops->write(g.drv.mmio, 0x102, &narrow, 2);
    CHECK_MEM(g.toy->config, "abYZ", 4);
    CHECK_INT(fake_reg_read(&g.drv, 0xffc), 0);
    rig_fini(&g);
}

TEST(virtio_mmio, features_stick_only_if_offered_and_modern)
{
    struct rig g;
    static const struct {
        uint64_t features;
        bool ok;
    } rows[] = {
        {VIRTIO_F_VERSION_1, true},
        {VIRTIO_F_VERSION_1 | BIT(3), true},
        {BIT(3), false},
        {VIRTIO_F_VERSION_1 | BIT(4), false},
        {VIRTIO_F_VERSION_1 | BIT(63), false},
        {0, false},
    };

    rig_init(&g);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        fake_reg_write(&g.drv, 0x070, 0);
        fake_features_write(&g.drv, 0); /* too early: ignored */
        fake_status_add(&g.drv, VIRTIO_STATUS_ACKNOWLEDGE);
        fake_status_add(&g.drv, VIRTIO_STATUS_DRIVER);
        fake_features_write(&g.drv, rows[i].features);
        fake_status_add(&g.drv, VIRTIO_STATUS_FEATURES_OK);
        CHECK_INT((fake_reg_read(&g.drv, 0x070) & VIRTIO_STATUS_FEATURES_OK) != 0, rows[i].ok);
        if (rows[i].ok) {
            fake_features_write(&g.drv, 0); /* too late */
            CHECK(g.toy->base.features_acked == rows[i].features);
        }
    }
    rig_fini(&g);
}

TEST(virtio_mmio, status_goes_up_the_ladder_or_to_zero)
{
    struct rig g;
    static const struct {
        uint32_t write;
        uint32_t want;
    } rows[] = {
        {2, 0},  /* DRIVER before ACKNOWLEDGE */
        {15, 0}, /* all at once */
        {1, 1},
        {7, 1}, /* DRIVER_OK without FEATURES_OK */
        {3, 3},
        {1, 3},      /* takes a bit back */
        {3 | 64, 3}, /* NEEDS_RESET is ours */
        {15, 3},     /* two steps at once */
        {3 | 128, 3 | 128},
        {0, 0},
    };

    rig_init(&g);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        fake_reg_write(&g.drv, 0x070, rows[i].write);
        CHECK_INT(fake_reg_read(&g.drv, 0x070), rows[i].want);
    }
    CHECK_INT(g.toy->start_count, 0);
    CHECK_INT(g.toy->reset_count, 0);
    rig_fini(&g);
}

static void offer_one(struct fake_driver *drv, unsigned index)
{
    gpa_t buf = fake_alloc(drv, 64, 16);

    fake_put_desc(&drv->queues[index], 0, buf, 64, FAKE_WRITE, 0);
    fake_offer(&drv->queues[index], 0);
}

TEST(virtio_mmio, a_notification_is_answered_on_the_loop_with_an_interrupt)
{
    struct rig g;
    uint32_t id;
    uint32_t len;
    uint64_t one = 1;

    rig_init(&g);
    fake_kick(&g.drv, 0); /* before it started: nothing */
    fake_driver_start(&g.drv, FAKE_FEATURES, 16);
    CHECK_INT(g.toy->start_count, 1);
    CHECK_INT(fake_reg_read(&g.drv, 0x060), 0);
    offer_one(&g.drv, 1);
    fake_kick(&g.drv, 77);
    fake_kick(&g.drv, 1);
    CHECK(fake_wait_used(&g.drv, 1, &id, &len));
    CHECK_INT(len, 7);
    CHECK(!pthread_equal(g.toy->notify_thread, pthread_self()));
    CHECK(fake_wait_irq(&g.drv, 1000) || atomic_load(&g.drv.irq_count) > 0);
    CHECK_INT(fake_reg_read(&g.drv, 0x060), 1);
    fake_reg_write(&g.drv, 0x064, 1);
    CHECK_INT(fake_reg_read(&g.drv, 0x060), 0);
    /* the doorbell itself, as a backend signals it, again and again */
    for (unsigned i = 0; i < 100; i++) {
        offer_one(&g.drv, 0);
        CHECK_INT(write(g.toy->base.notify_fd[0], &one, sizeof(one)), sizeof(one));
        CHECK(fake_wait_used(&g.drv, 0, &id, &len));
    }
    rig_fini(&g);
}

TEST(virtio_mmio, a_started_queue_keeps_its_configuration_until_a_reset)
{
    struct rig g;
    uint32_t id;
    uint32_t len;

    rig_init(&g);
    fake_driver_start(&g.drv, FAKE_FEATURES, 16);
    fake_reg_write(&g.drv, 0x030, 0);
    fake_reg_write(&g.drv, 0x038, 4);
    fake_reg_write(&g.drv, 0x080, 0xdead0000);
    CHECK_INT(g.toy->base.queues[0].size, 16);
    CHECK(g.toy->base.queues[0].desc.v == g.drv.queues[0].desc.v);
    fake_reg_write(&g.drv, 0x044, 0);
    CHECK_INT(fake_reg_read(&g.drv, 0x044), 1);
    offer_one(&g.drv, 0);
    fake_kick(&g.drv, 0);
    CHECK(fake_wait_used(&g.drv, 0, &id, &len));
    fake_reg_write(&g.drv, 0x070, 0);
    CHECK_INT(fake_reg_read(&g.drv, 0x044), 0);
    rig_fini(&g);
}

TEST(virtio_mmio, a_queue_with_bad_addresses_or_size_is_not_ready)
{
    struct rig g;

    rig_init(&g);
    fake_reg_write(&g.drv, 0x070, 1);
    fake_reg_write(&g.drv, 0x070, 3);
    fake_queue_place(&g.drv, 0, 16);
    g.drv.queues[0].used = GPA(UINT64_C(0x100000000));
    CHECK_INT(fake_queue_ready(&g.drv, 0), 0);
    fake_queue_place(&g.drv, 0, 16);
    g.drv.queues[0].size = 128; /* above what is offered */
    CHECK_INT(fake_queue_ready(&g.drv, 0), 0);
    fake_queue_place(&g.drv, 0, 16);
    CHECK_INT(fake_queue_ready(&g.drv, 0), 1);
    rig_fini(&g);
}

TEST(virtio_mmio, a_driver_that_starts_with_a_bad_queue_is_told_to_reset)
{
    struct rig g;

    rig_init(&g);
    fake_status_add(&g.drv, VIRTIO_STATUS_ACKNOWLEDGE);
    fake_status_add(&g.drv, VIRTIO_STATUS_DRIVER);
    fake_features_write(&g.drv, FAKE_FEATURES);
    fake_status_add(&g.drv, VIRTIO_STATUS_FEATURES_OK);
    fake_queue_place(&g.drv, 0, 16);
    g.drv.queues[0].avail = GPA(FAKE_MEM_BYTES);
    CHECK_INT(fake_queue_ready(&g.drv, 0), 0);
    fake_status_add(&g.drv, VIRTIO_STATUS_DRIVER_OK);
    CHECK(fake_reg_read(&g.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
    CHECK_INT(atomic_load(&g.drv.irq_count), 1);
    rig_fini(&g);
}

TEST(virtio_mmio, an_impossible_offer_asks_for_a_reset_and_a_reset_heals)
{
    struct rig g;
    uint32_t id;
    uint32_t len;

    rig_init(&g);
    fake_driver_start(&g.drv, FAKE_FEATURES | VIRTIO_F_EVENT_IDX, 16);
    fake_offer(&g.drv.queues[0], 16);
    fake_kick(&g.drv, 0);
    CHECK(fake_wait_irq(&g.drv, 5000));
    CHECK(fake_reg_read(&g.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
    CHECK_INT(fake_reg_read(&g.drv, 0x060), 2);
    offer_one(&g.drv, 1); /* the other queue is dead too */
    fake_kick(&g.drv, 1);
    (void)usleep(5000);
    CHECK(!fake_take_used(&g.drv.queues[1], &id, &len));
    fake_driver_start(&g.drv, FAKE_FEATURES, 16);
    CHECK_INT(g.toy->reset_count, 1);
    CHECK_INT(fake_reg_read(&g.drv, 0x060), 0);
    offer_one(&g.drv, 0);
    fake_kick(&g.drv, 0);
    CHECK(fake_wait_used(&g.drv, 0, &id, &len));
    rig_fini(&g);
}

TEST(virtio_mmio, reset_while_busy_drops_what_was_in_flight)
{
    struct rig g;
    uint32_t id;
    uint32_t len;

    rig_init(&g);
    fake_driver_start(&g.drv, FAKE_FEATURES, 16);
    g.toy->hold = true;
    offer_one(&g.drv, 0);
    for (unsigned i = 0; i < 200; i++) { /* notifications race with the reset */
        fake_kick(&g.drv, i % 2);
    }
    fake_reg_write(&g.drv, 0x070, 0);
    CHECK_INT(g.toy->reset_count, 1);
    CHECK_INT(fake_reg_read(&g.drv, 0x070), 0);
    CHECK(!g.toy->base.queues[0].is_enabled);
    (void)memset(&g.toy->chain, 0, sizeof(g.toy->chain));
    virtq_push(&g.toy->base.queues[0], &g.toy->chain, 0); /* a late completion */
    CHECK(!fake_take_used(&g.drv.queues[0], &id, &len));
    fake_reg_write(&g.drv, 0x070, 0); /* nothing to reset */
    CHECK_INT(g.toy->reset_count, 1);
    rig_fini(&g);
}

TEST(virtio_mmio, a_device_that_cannot_start_needs_a_reset)
{
    struct rig g;

    rig_init(&g);
    g.toy->start_result = -EIO;
    fake_driver_start(&g.drv, FAKE_FEATURES, 16);
    CHECK(fake_reg_read(&g.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
    CHECK(atomic_load(&g.drv.irq_count) == 1);
    virtio_dev_needs_reset(&g.toy->base);
    CHECK(atomic_load(&g.drv.irq_count) == 1);
    rig_fini(&g);
}

TEST(virtio_mmio, a_configuration_change_counts_and_interrupts_a_driver_that_is_up)
{
    struct rig g;

    rig_init(&g);
    virtio_dev_config_changed(&g.toy->base);
    CHECK_INT(atomic_load(&g.drv.irq_count), 0);
    CHECK_INT(fake_reg_read(&g.drv, 0x0fc), 1);
    fake_driver_start(&g.drv, FAKE_FEATURES, 16);
    virtio_dev_config_changed(&g.toy->base);
    CHECK_INT(atomic_load(&g.drv.irq_count), 1);
    CHECK_INT(fake_reg_read(&g.drv, 0x0fc), 2);
    CHECK_INT(fake_reg_read(&g.drv, 0x060), 2);
    rig_fini(&g);
}

TEST(virtio_mmio, without_a_loop_thread_start_and_reset_run_at_once)
{
    struct fake_driver drv;
    struct loop *loop;
    struct err err = {0};
    struct toy *toy = calloc(1, sizeof(*toy));
    struct toy *bad = calloc(1, sizeof(*bad));

    fake_driver_init(&drv);
    CHECK_OK(loop_new(&loop, &err), &err);
    CHECK_INT(virtio_dev_init(&bad->base, &toy_ops, drv.mem, loop, 9, 0, &err), -EINVAL);
    CHECK_HAS(err_text(&err), "must be 1 to 8");
    toy_free(&bad->base);
    CHECK_OK(virtio_dev_init(&toy->base, &toy_ops, drv.mem, loop, 1, 0, &err), &err);
    fake_driver_attach(&drv, &toy->base);
    fake_driver_start(&drv, FAKE_FEATURES, 16);
    CHECK_INT(toy->start_count, 1);
    fake_reg_write(&drv, 0x070, 0);
    CHECK_INT(toy->reset_count, 1);
    fake_driver_start(&drv, FAKE_FEATURES, 16);
    fake_driver_fini(&drv); /* freed while started */
    loop_free(loop);
}

TEST(virtio_mmio, random_register_accesses_end_in_a_device_that_starts)
{
    struct rig g;
    unsigned seed = 99;
    uint32_t id;
    uint32_t len;

    rig_init(&g);
    for (unsigned i = 0; i < 30000; i++) {
        unsigned width = 1u << (rand_r(&seed) % 4);
        uint64_t offset = (uint64_t)rand_r(&seed) % 0x110;
        uint64_t value = rand_r(&seed) % 3 ? (uint64_t)rand_r(&seed) % 32 : (uint64_t)rand_r(&seed);

        if (rand_r(&seed) % 4) {
            width = 4;
            offset &= ~UINT64_C(3);
        }
        if (rand_r(&seed) % 2) {
            g.drv.mmio->ops->read(g.drv.mmio, offset, &value, width);
        } else {
            g.drv.mmio->ops->write(g.drv.mmio, offset, &value, width);
        }
        if (i % 500 == 0) {
            fake_driver_start(&g.drv, FAKE_FEATURES, 16);
            g.drv.brk = GPA(0x1000);
        }
    }
    fake_driver_start(&g.drv, FAKE_FEATURES, 16);
    offer_one(&g.drv, 0);
    fake_kick(&g.drv, 0);
    CHECK(fake_wait_used(&g.drv, 0, &id, &len));
    CHECK(g.toy->reset_count >= 50);
    rig_fini(&g);
}
