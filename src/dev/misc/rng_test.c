/* rng_test.c — random bytes reach the driver, as many as it may have at once. */
#include "base/clock.h"
#include "dev/misc/rng.h"
#include "io/limiter.h"
#include "io/loop.h"
#include "tests/lib/fake_driver.h"

TEST(rng, requests_are_filled_up_to_a_bound)
{
    struct fake_driver drv;
    struct virtio_dev *dev;
    struct loop *loop;
    struct err err = {0};
    static const uint8_t zero[65536];
    gpa_t buf;
    uint32_t id;
    uint32_t len;

    fake_driver_init(&drv);
    CHECK_OK(loop_new(&loop, &err), &err);
    CHECK_OK(rng_new(drv.mem, loop, NULL, &dev, &err), &err);
    fake_driver_attach(&drv, dev);
    CHECK_OK(loop_thread_start(loop, "rng", &err), &err);
    CHECK_INT(fake_reg_read(&drv, 0x008), VIRTIO_ID_RNG);
    CHECK_INT(fake_reg_read(&drv, 0x100), 0);
    fake_reg_write(&drv, 0x100, 1);
    fake_driver_start(&drv, FAKE_FEATURES, 64);
    buf = fake_alloc(&drv, 131072, 16);
    fake_put_desc(&drv.queues[0], 0, buf, 64, FAKE_WRITE, 0);
    fake_put_desc(&drv.queues[0], 1, buf, 131072, FAKE_WRITE, 0);
    fake_put_desc(&drv.queues[0], 2, buf, 64, 0, 0);         /* nothing to write to */
    fake_put_desc(&drv.queues[0], 3, buf, 64, FAKE_NEXT, 4); /* something to read */
    fake_put_desc(&drv.queues[0], 4, buf, 64, FAKE_WRITE, 0);
    for (uint16_t i = 0; i < 4; i++) {
        static const uint32_t want[] = {64, 65536, 0, 0};

        fake_offer(&drv.queues[0], i);
        fake_kick(&drv, 0);
        CHECK(fake_wait_used(&drv, 0, &id, &len));
        CHECK_INT(id, i);
        CHECK_INT(len, want[i]);
    }
    CHECK(memcmp(fake_ptr(&drv, buf, 64), zero, 64) != 0);
    CHECK(memcmp(fake_ptr(&drv, GPA(buf.v + 65472), 64), zero, 64) != 0);
    CHECK_MEM(fake_ptr(&drv, GPA(buf.v + 65536), 65536), zero, 65536);
    fake_reg_write(&drv, 0x070, 0);
    CHECK_INT(fake_reg_read(&drv, 0x070), 0);
    loop_thread_stop(loop);
    fake_driver_fini(&drv);
    loop_free(loop);
}

TEST(rng, a_full_queue_is_answered_with_one_notification)
{
    struct fake_driver drv;
    struct virtio_dev *dev;
    struct loop *loop;
    struct err err = {0};
    gpa_t buf;
    uint32_t id;
    uint32_t len;

    fake_driver_init(&drv);
    CHECK_OK(loop_new(&loop, &err), &err);
    CHECK_OK(rng_new(drv.mem, loop, NULL, &dev, &err), &err);
    fake_driver_attach(&drv, dev);
    CHECK_OK(loop_thread_start(loop, "rng", &err), &err);
    fake_driver_start(&drv, FAKE_FEATURES, 64);
    buf = fake_alloc(&drv, 64, 16);
    for (uint16_t i = 0; i < 64; i++) {
        fake_put_desc(&drv.queues[0], i, buf, 16, FAKE_WRITE, 0);
        fake_offer(&drv.queues[0], i);
    }
    fake_kick(&drv, 0);
    for (unsigned i = 0; i < 64; i++) {
        CHECK(fake_wait_used(&drv, 0, &id, &len));
        CHECK_INT(len, 16);
    }
    CHECK_INT(atomic_load(&drv.irq_count), 1);
    loop_thread_stop(loop);
    fake_driver_fini(&drv);
    loop_free(loop);
}

TEST(rng, a_limiter_holds_requests_back_and_lets_them_go_on)
{
    struct limiter_config limit = {.bandwidth = {.size = 1000, .refill_ms = 100}};
    struct fake_driver drv;
    struct virtio_dev *dev;
    struct loop *loop;
    struct err err = {0};
    gpa_t buf;
    uint32_t id;
    uint32_t len;

    fake_driver_init(&drv);
    CHECK_OK(loop_new(&loop, &err), &err);
    CHECK_OK(rng_new(drv.mem, loop, &limit, &dev, &err), &err);
    fake_driver_attach(&drv, dev);
    CHECK_OK(loop_thread_start(loop, "rng", &err), &err);
    fake_driver_start(&drv, FAKE_FEATURES, 64);
    buf = fake_alloc(&drv, 1024, 16);
    for (uint16_t i = 0; i < 3; i++) {
        fake_put_desc(&drv.queues[0], i, buf, 600, FAKE_WRITE, 0);
        fake_offer(&drv.queues[0], i);
    }
    fake_kick(&drv, 0);
    for (unsigned i = 0; i < 3; i++) {
        int64_t before = clock_mono_ns();

        CHECK(fake_wait_used(&drv, 0, &id, &len));
        CHECK_INT(id, i);
        CHECK_INT(len, 600);
        CHECK(i == 0 || clock_mono_ns() - before > 50 * NS_PER_MS);
    }
    fake_offer(&drv.queues[0], 0); /* a reset while something waits */
    fake_kick(&drv, 0);
    fake_reg_write(&drv, 0x070, 0);
    (void)usleep(120000);
    CHECK(!fake_take_used(&drv.queues[0], &id, &len));
    loop_thread_stop(loop);
    fake_driver_fini(&drv);
    loop_free(loop);
}
