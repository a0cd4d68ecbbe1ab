/* snapshot_test.c — a device that was loaded goes on where the saved one stopped, and a file that
 * lies is refused. */
#include <errno.h>
#include <stdlib.h>

#include "io/loop.h"
#include "state/state.h"
#include "tests/lib/fake_driver.h"

/* A device that gives every buffer back; it remembers how many. */
struct echo {
    struct virtio_dev base;
    uint32_t answered;
    unsigned start_count;
    struct virtq_chain chain;
};

static struct echo *echo_of(struct virtio_dev *dev)
{
    return container_of(dev, struct echo, base);
}

static void echo_config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned len)
{
    (void)dev;
    (void)offset;
    memset(data, 0, len);
}

static void echo_config_write(struct virtio_dev *dev, uint64_t offset, const void *data,
                              unsigned len)
{
    (void)dev;
    (void)offset;
    (void)data;
    (void)len;
}

static int echo_start(struct virtio_dev *dev)
{
    echo_of(dev)->start_count++;
    return 0;
}

static void echo_reset(struct virtio_dev *dev)
{
    echo_of(dev)->answered = 0;
}

static void echo_notify(struct virtio_dev *dev, unsigned index)
{
    struct echo *e = echo_of(dev);

    while (virtq_pop(&dev->queues[index], &e->chain) == 1) {
        e->answered++;
        virtq_push(&dev->queues[index], &e->chain, 0);
    }
    virtio_dev_signal(dev, &dev->queues[index]);
}

static void echo_free(struct virtio_dev *dev)
{
    virtio_dev_fini(dev);
    free(echo_of(dev));
}

static void echo_state(struct virtio_dev *dev, struct state *s)
{
    state_u32(s, "answered", &echo_of(dev)->answered);
}

static const struct virtio_ops echo_ops = {
    .kind = "virtio-echo",
    .id = VIRTIO_ID_RNG,
    .config_read = echo_config_read,
    .config_write = echo_config_write,
    .start = echo_start,
    .reset = echo_reset,
    .notify = echo_notify,
    .free = echo_free,
    .save = echo_state,
    .load = echo_state,
};

struct rig {
    struct fake_driver drv;
    struct loop *loop;
    struct echo *echo;
};

static void rig_init(struct rig *g, unsigned queue_count, uint64_t features)
{
    struct err err = {0};

    fake_driver_init(&g->drv);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    g->echo = calloc(1, sizeof(*g->echo));
    CHECK_OK(virtio_dev_init(&g->echo->base, &echo_ops, g->drv.mem, g->loop, queue_count, features,
                             &err),
             &err);
    fake_driver_attach(&g->drv, &g->echo->base);
}

static void rig_fini(struct rig *g)
{
    loop_thread_stop(g->loop);
    fake_driver_fini(&g->drv);
    loop_free(g->loop);
}

/* A device with one request answered and one offered, in a file. */
static void make_file(struct rig *g, struct state_file *file)
{
    struct err err = {0};
    struct state s;
    gpa_t buf;
    uint32_t id = 0;
    uint32_t len = 0;

    rig_init(g, 1, BIT(3));
    CHECK_OK(loop_thread_start(g->loop, "echo", &err), &err);
    fake_driver_start(&g->drv, FAKE_FEATURES | BIT(3), 16);
    buf = fake_alloc(&g->drv, 64, 16);
    fake_put_desc(&g->drv.queues[0], 0, buf, 64, FAKE_WRITE, 0);
    fake_offer(&g->drv.queues[0], 0);
    fake_kick(&g->drv, 0);
    CHECK(fake_wait_used(&g->drv, 0, &id, &len));
    loop_thread_stop(g->loop);
    fake_put_desc(&g->drv.queues[0], 5, buf, 64, FAKE_WRITE, 0);
    fake_offer(&g->drv.queues[0], 5);
    fake_kick(&g->drv, 0);

    state_file_begin(file);
    state_save(file, &s, "echo");
    g->drv.mmio->ops->save(g->drv.mmio, &s);
    CHECK_OK(state_close(&s, &err), &err);
    CHECK_OK(state_file_finish(file, &err), &err);
}

static int load(struct rig *g, struct state_file *file, struct err *err)
{
    struct state s;
    int r = state_load(file, &s, err, "echo");

    if (r == 0) {
        g->drv.mmio->ops->load(g->drv.mmio, &s);
        r = state_close(&s, err);
    }
    return r;
}

/* Guest memory and what the driver knows, as a loaded machine has them. */
static void copy_guest(struct rig *to, struct rig *from)
{
    memcpy(fake_ptr(&to->drv, GPA(0), FAKE_MEM_BYTES), fake_ptr(&from->drv, GPA(0), FAKE_MEM_BYTES),
           FAKE_MEM_BYTES);
    memcpy(to->drv.queues, from->drv.queues, sizeof(to->drv.queues));
    to->drv.queues[0].mem = to->drv.mem;
    to->drv.brk = from->drv.brk;
}

TEST(virtio_snapshot, a_loaded_device_goes_on_where_it_stopped)
{
    struct rig before;
    struct rig after;
    struct state_file file = {0};
    struct err err = {0};
    uint32_t id = 0;
    uint32_t len = 0;

    make_file(&before, &file);
    rig_init(&after, 1, BIT(3));
    copy_guest(&after, &before);
    CHECK_OK(load(&after, &file, &err), &err);
    CHECK_INT(after.echo->answered, 1);
    CHECK_INT(after.echo->start_count, 0);
    CHECK(virtio_dev_has(&after.echo->base, BIT(3)));
    CHECK_INT(fake_reg_read(&after.drv, 0x070), fake_reg_read(&before.drv, 0x070));
    CHECK_INT(fake_reg_read(&after.drv, 0x060), fake_reg_read(&before.drv, 0x060));

    /* what was offered before is seen though nobody notifies again */
    CHECK_OK(loop_thread_start(after.loop, "echo", &err), &err);
    virtio_dev_resume(&after.echo->base);
    CHECK(fake_wait_used(&after.drv, 0, &id, &len));
    CHECK_INT(id, 5);
    loop_thread_stop(after.loop);
    CHECK_INT(after.echo->start_count, 1);
    CHECK_INT(after.echo->answered, 2);
    rig_fini(&after);
    rig_fini(&before);
    state_file_fini(&file);
}

TEST(virtio_snapshot, what_this_device_has_not_is_refused)
{
    struct rig before;
    struct rig after;
    struct state_file file = {0};
    struct err err = {0};

    make_file(&before, &file);
    rig_init(&after, 2, BIT(3));
    copy_guest(&after, &before);
    CHECK_INT(load(&after, &file, &err), -EBADMSG);
    CHECK_HAS(err.text, "section 'echo': queues: 1 instead of 2");
    rig_fini(&after);

    rig_init(&after, 1, 0);
    copy_guest(&after, &before);
    CHECK_INT(load(&after, &file, &err), -EBADMSG);
    CHECK_HAS(err.text, "features: 0x8 were accepted, but this device does not offer them");
    rig_fini(&after);

    rig_init(&after, 1, BIT(3));
    after.echo->base.queue_size_max = 8;
    copy_guest(&after, &before);
    CHECK_INT(load(&after, &file, &err), -EBADMSG);
    CHECK_HAS(err.text, "queue size: 16: must be at most 8");
    rig_fini(&after);
    rig_fini(&before);
    state_file_fini(&file);
}

/* Any value in any byte of the section: refused or taken, but never a ring outside of RAM. */
TEST(virtio_snapshot, forged_state_stays_within_memory)
{
    struct rig before;
    struct rig after;
    struct state_file file = {0};
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};

    make_file(&before, &file);
    for (size_t at = 0; at < file.end * ARRAY_LEN(values); at++) {
        uint8_t *byte = &file.bytes.data[at / ARRAY_LEN(values)];
        uint8_t was = *byte;
        struct err err = {0};
        struct virtq *q;

        rig_init(&after, 1, BIT(3));
        q = &after.echo->base.queues[0];
        *byte = values[at % ARRAY_LEN(values)];
        if (load(&after, &file, &err) == 0 && q->is_enabled) {
            CHECK(mem_ptr(after.drv.mem, q->used, 6 + 8u * q->size) == q->used_host);
            CHECK(mem_ptr(after.drv.mem, q->avail, 6 + 2u * q->size) == q->avail_host);
            CHECK(mem_ptr(after.drv.mem, q->desc, 16u * q->size) == q->desc_host);
        }
        *byte = was;
        rig_fini(&after);
    }
    rig_fini(&before);
    state_file_fini(&file);
}
