/* balloon_test.c — pages come back as zeros, statistics on time, hints of the run alone. */
#include <errno.h>

#include "dev/memory/balloon_int.h"
#include "io/loop.h"
#include "tests/lib/fake_driver.h"

struct rig {
    struct fake_driver drv;
    struct loop *loop;
    struct virtio_dev *dev;
};

static void set_up(struct rig *rig, const struct balloon_config *config, uint64_t features)
{
    struct err err = {0};

    memset(rig, 0, sizeof(*rig));
    metrics_reset();
    fake_driver_init(&rig->drv);
    CHECK_OK(loop_new(&rig->loop, &err), &err);
    CHECK_OK(balloon_new(config, rig->drv.mem, rig->loop, &rig->dev, &err), &err);
    fake_driver_attach(&rig->drv, rig->dev);
    CHECK_OK(loop_thread_start(rig->loop, "balloon", &err), &err);
    if (features) {
        fake_driver_start(&rig->drv, features, 64);
    }
}

static void tear_down(struct rig *rig)
{
    loop_thread_stop(rig->loop);
    fake_driver_fini(&rig->drv);
    loop_free(rig->loop);
}

/* One chain of one descriptor, until it comes back. */
static void send(struct rig *rig, unsigned queue, gpa_t at, uint32_t len, uint16_t flags)
{
    uint32_t id;
    uint32_t used;

    fake_put_desc(&rig->drv.queues[queue], 0, at, len, flags, 0);
    fake_offer(&rig->drv.queues[queue], 0);
    fake_kick(&rig->drv, queue);
    CHECK(fake_wait_used(&rig->drv, queue, &id, &used));
    CHECK_INT(used, 0);
}

/* Pages of guest memory at `at`, filled with ones. */
static uint8_t *ones(struct rig *rig, gpa_t at, unsigned pages)
{
    uint8_t *host = fake_ptr(&rig->drv, at, pages * 4096u);

    memset(host, 1, pages * 4096u);
    return host;
}

struct call {
    struct virtio_dev *dev;
    uint32_t number;
    int result;
    struct balloon_stats stats;
    struct balloon_hinting hinting;
};

static void do_target(void *owner)
{
    struct call *c = owner;

    c->result = balloon_set_target(c->dev, c->number);
}

static void do_interval(void *owner)
{
    struct call *c = owner;

    c->result = balloon_set_stats_interval(c->dev, (uint16_t)c->number);
}

static void do_stats(void *owner)
{
    struct call *c = owner;

    c->result = balloon_get_stats(c->dev, &c->stats);
}

static void do_start(void *owner)
{
    struct call *c = owner;

    c->result = balloon_start_hinting(c->dev, c->number);
}

static void do_stop(void *owner)
{
    struct call *c = owner;

    c->result = balloon_stop_hinting(c->dev);
}

static void do_hinting(void *owner)
{
    struct call *c = owner;

    c->result = balloon_get_hinting(c->dev, &c->hinting);
}

static int call(struct rig *rig, loop_fn fn, struct call *c)
{
    c->dev = rig->dev;
    loop_call(rig->loop, fn, c);
    return c->result;
}

TEST(balloon, queues_and_features_follow_the_configuration)
{
    static const struct {
        struct balloon_config config;
        uint64_t features;
        unsigned queues;
    } cases[] = {
        {{0}, VIRTIO_F_VERSION_1, 2},
        {{.deflate_on_oom = true}, VIRTIO_F_VERSION_1 | BIT(2), 2},
        {{.stats_interval_s = 1}, VIRTIO_F_VERSION_1 | BIT(1), 3},
        {{.has_hinting = true}, VIRTIO_F_VERSION_1 | BIT(3), 3},
        {{.has_reporting = true}, VIRTIO_F_VERSION_1 | BIT(5), 3},
        {{.stats_interval_s = 1, .has_hinting = true, .has_reporting = true},
         VIRTIO_F_VERSION_1 | BIT(1) | BIT(3) | BIT(5),
         5},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig rig;

        set_up(&rig, &cases[i].config, 0);
        CHECK_INT(fake_features_read(&rig.drv), cases[i].features);
        CHECK_INT(rig.dev->queue_count, cases[i].queues);
        tear_down(&rig);
    }
}

TEST(balloon, the_target_is_told_and_only_the_actual_size_is_the_guests_to_write)
{
    struct balloon_config config = {.target_pages = 512};
    struct call c = {.number = 1024};
    struct rig rig;

    set_up(&rig, &config, 0);
    CHECK_INT(call(&rig, do_target, &c), -ENODEV);
    CHECK_INT(fake_reg_read(&rig.drv, 0x100), 512);
    fake_driver_start(&rig.drv, VIRTIO_F_VERSION_1, 64);
    CHECK_INT(call(&rig, do_target, &c), 0);
    CHECK(fake_wait_irq(&rig.drv, 1000));
    CHECK_INT(fake_reg_read(&rig.drv, 0x060), 2);
    CHECK_INT(fake_reg_read(&rig.drv, 0x100), 1024);
    fake_reg_write(&rig.drv, 0x100, 7);
    fake_reg_write(&rig.drv, 0x104, 700);
    fake_reg_write(&rig.drv, 0x108, 7);
    CHECK_INT(fake_reg_read(&rig.drv, 0x100), 1024);
    CHECK_INT(fake_reg_read(&rig.drv, 0x104), 700);
    CHECK_INT(fake_reg_read(&rig.drv, 0x108), 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x10c), 0);
    CHECK_INT(call(&rig, do_stats, &c), -ENOTSUP);
    CHECK_INT(call(&rig, do_start, &c), -ENOTSUP);
    tear_down(&rig);
}

TEST(balloon, inflated_pages_are_zero_and_their_neighbours_are_not)
{
    struct balloon_config config = {0};
    static const uint32_t pfns[] = {0x205, 0x202, 0x203, 0x202};
    struct rig rig;
    const uint8_t *memory;
    gpa_t list;

    set_up(&rig, &config, VIRTIO_F_VERSION_1);
    memory = ones(&rig, GPA(0x200000), 8);
    list = fake_alloc(&rig.drv, 8192, 4);
    memcpy(fake_ptr(&rig.drv, list, sizeof(pfns)), pfns, sizeof(pfns));
    send(&rig, BALLOON_INFLATE, list, sizeof(pfns), 0);
    for (unsigned i = 0; i < 8; i++) {
        CHECK_INT(memory[i * 4096], i != 2 && i != 3 && i != 5);
        CHECK_INT(memory[i * 4096 + 4095], i != 2 && i != 3 && i != 5);
    }
    CHECK_INT(metric_get(&g_metrics.balloon.inflate_count), 1);
    CHECK_INT(metric_get(&g_metrics.balloon.event_fails), 0);
    send(&rig, BALLOON_DEFLATE, list, sizeof(pfns), 0);
    CHECK_INT(metric_get(&g_metrics.balloon.deflate_count), 1);
    tear_down(&rig);
}

TEST(balloon, pages_that_are_no_memory_are_counted)
{
    struct balloon_config config = {0};
    static const uint32_t pfns[] = {0xffffffff, 0x10000000, 0x200};
    struct rig rig;
    const uint8_t *memory;
    gpa_t list;

    set_up(&rig, &config, VIRTIO_F_VERSION_1);
    memory = ones(&rig, GPA(0x200000), 1);
    list = fake_alloc(&rig.drv, 8192, 4);
    memset(fake_ptr(&rig.drv, list, 8192), 0xff, 8192);
    memcpy(fake_ptr(&rig.drv, list, sizeof(pfns)), pfns, sizeof(pfns));
    send(&rig, BALLOON_INFLATE, list, sizeof(pfns), 0);
    CHECK_INT(memory[0], 0);
    CHECK_INT(metric_get(&g_metrics.balloon.event_fails), 2);
    send(&rig, BALLOON_INFLATE, GPA(list.v + 100), 0, 0);          /* none */
    send(&rig, BALLOON_INFLATE, GPA(list.v + 100), 7, 0);          /* one and a bit */
    send(&rig, BALLOON_INFLATE, GPA(list.v), 8192, 0);             /* too many */
    send(&rig, BALLOON_INFLATE, GPA(FAKE_MEM_BYTES), 4, 0);        /* nowhere */
    send(&rig, BALLOON_INFLATE, GPA(list.v + 100), 4, FAKE_WRITE); /* to write */
    CHECK(metric_get(&g_metrics.balloon.event_fails) >= 7);
    tear_down(&rig);
}

/* Entries of statistics at `at`; their bytes. */
static uint32_t put_stats(struct rig *rig, gpa_t at, unsigned count, const uint64_t (*stats)[2])
{
    uint8_t *host = fake_ptr(&rig->drv, at, count * 10u);

    for (unsigned i = 0; i < count; i++) {
        store_le16(host + i * 10u, (uint16_t)stats[i][0]);
        store_le64(host + i * 10u + 2, stats[i][1]);
    }
    return count * 10u;
}

TEST(balloon, statistics_are_kept_and_asked_for_again)
{
    struct balloon_config config = {.stats_interval_s = 1};
    static const uint64_t first[][2] = {{0, 7}, {4, 4096}, {99, 1}};
    static const uint64_t second[][2] = {{4, 8192}};
    struct call c = {.number = 0};
    struct rig rig;
    uint32_t id;
    uint32_t len;
    gpa_t at;

    set_up(&rig, &config, VIRTIO_F_VERSION_1 | BIT(1));
    at = fake_alloc(&rig.drv, 4096, 4);
    len = put_stats(&rig, at, 3, first);
    fake_put_desc(&rig.drv.queues[2], 5, at, len, 0, 0);
    fake_offer(&rig.drv.queues[2], 5);
    fake_kick(&rig.drv, 2);
    CHECK(fake_wait_used(&rig.drv, 2, &id, &len)); /* after a second */
    CHECK_INT(id, 5);
    CHECK_INT(call(&rig, do_stats, &c), 0);
    CHECK_INT(c.stats.present, BIT(0) | BIT(4));
    CHECK_INT(c.stats.values[4], 4096);
    len = put_stats(&rig, at, 1, second);
    fake_put_desc(&rig.drv.queues[2], 5, at, len, 0, 0);
    fake_offer(&rig.drv.queues[2], 5);
    fake_kick(&rig.drv, 2);
    CHECK(fake_wait_used(&rig.drv, 2, &id, &len));
    CHECK_INT(call(&rig, do_stats, &c), 0);
    CHECK_INT(c.stats.values[4], 8192);
    CHECK_INT(c.stats.values[0], 7); /* what was not told again stays */
    CHECK_INT(metric_get(&g_metrics.balloon.stats_updates_count), 2);
    CHECK_INT(call(&rig, do_interval, &c), -ENOTSUP);
    c.number = 1;
    CHECK_INT(call(&rig, do_interval, &c), 0);
    c.number = 60000;
    CHECK_INT(call(&rig, do_interval, &c), 0);
    tear_down(&rig);
}

TEST(balloon, reported_memory_is_given_back)
{
    struct balloon_config config = {.has_reporting = true};
    struct rig rig;
    const uint8_t *memory;

    set_up(&rig, &config, VIRTIO_F_VERSION_1 | BIT(5));
    memory = ones(&rig, GPA(0x200000), 5);
    send(&rig, 2, GPA(0x201000), 3 * 4096, FAKE_WRITE);
    CHECK_INT(memory[4095], 1);
    CHECK_INT(memory[4096], 0);
    CHECK_INT(memory[4 * 4096 - 1], 0);
    CHECK_INT(memory[4 * 4096], 1);
    CHECK_INT(metric_get(&g_metrics.balloon.free_page_report_count), 1);
    CHECK_INT(metric_get(&g_metrics.balloon.free_page_report_freed), 3 * 4096);
    send(&rig, 2, GPA(0x200001), 4096, FAKE_WRITE);
    CHECK_INT(metric_get(&g_metrics.balloon.free_page_report_fails), 1);
    CHECK_INT(memory[0], 1);
    tear_down(&rig);
}

static void send_cmd(struct rig *rig, uint32_t cmd)
{
    gpa_t at = fake_alloc(&rig->drv, 4, 4);

    store_le32(fake_ptr(&rig->drv, at, 4), cmd);
    send(rig, 2, at, 4, 0);
}

TEST(balloon, hints_count_for_the_run_that_asked_for_them)
{
    struct balloon_config config = {.has_hinting = true};
    struct call c = {.number = true};
    struct rig rig;
    const uint8_t *memory;

    set_up(&rig, &config, VIRTIO_F_VERSION_1 | BIT(3));
    memory = ones(&rig, GPA(0x200000), 3);
    CHECK_INT(call(&rig, do_hinting, &c), 0);
    CHECK(!c.hinting.has_guest_cmd);
    CHECK_INT(c.hinting.host_cmd, 0);
    send(&rig, 2, GPA(0x200000), 4096, FAKE_WRITE); /* unasked */
    CHECK_INT(memory[0], 1);
    CHECK_INT(metric_get(&g_metrics.balloon.free_page_hint_fails), 1);
    CHECK_INT(call(&rig, do_start, &c), 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x108), 2);
    send_cmd(&rig, 2);
    send(&rig, 2, GPA(0x200000), 4096, FAKE_WRITE);
    CHECK_INT(memory[0], 0);
    send_cmd(&rig, 0); /* the guest is through: the device acknowledges */
    CHECK_INT(call(&rig, do_hinting, &c), 0);
    CHECK_INT(c.hinting.host_cmd, 1);
    CHECK_INT(c.hinting.guest_cmd, 0);
    c.number = false;
    CHECK_INT(call(&rig, do_start, &c), 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x108), 3);
    send_cmd(&rig, 2); /* late */
    send(&rig, 2, GPA(0x201000), 4096, FAKE_WRITE);
    CHECK_INT(memory[4096], 1);
    send_cmd(&rig, 3);
    send_cmd(&rig, 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x108), 3); /* nobody asked for an acknowledgement */
    CHECK_INT(call(&rig, do_stop, &c), 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x108), 1);
    balloon_of(rig.dev)->last_run = UINT32_MAX;
    CHECK_INT(call(&rig, do_start, &c), 0);
    CHECK_INT(fake_reg_read(&rig.drv, 0x108), 2); /* past 0 and 1 */
    tear_down(&rig);
}
