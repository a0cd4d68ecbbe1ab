/* p9_test.c — the device: configuration space, messages through the virtqueue, locks that wait. */
#include "io/loop.h"
#include "tests/lib/fake_driver.h"
#include "tests/lib/p9_client.h"

struct rig {
    struct p9_client c; /* for its directory and its buffers */
    struct fake_driver drv;
    struct loop *loop;
    gpa_t in;
    gpa_t out;
};

static void rig_init(struct rig *rig)
{
    struct p9_config config = {.tag = "share"};
    struct tree_dir_config tree = {0};
    struct virtio_dev *dev = NULL;
    struct err err = {0};

    memset(rig, 0, sizeof(*rig));
    host_dir_make(rig->c.dir);
    rig->c.in = malloc(4096);
    tree.path = rig->c.dir;
    fake_driver_init(&rig->drv);
    CHECK_OK(loop_new(&rig->loop, &err), &err);
    CHECK_OK(tree_dir_new(&tree, &config.tree, &err), &err);
    CHECK_OK(p9_new(&config, rig->drv.mem, rig->loop, &dev, &err), &err);
    fake_driver_attach(&rig->drv, dev);
    CHECK_OK(loop_thread_start(rig->loop, "9p", &err), &err);
    fake_driver_start(&rig->drv, FAKE_FEATURES, 128);
    rig->in = fake_alloc(&rig->drv, 8 * 4096, 16);
    rig->out = fake_alloc(&rig->drv, 8 * 4096, 16);
}

static void rig_fini(struct rig *rig)
{
    loop_thread_stop(rig->loop);
    fake_driver_fini(&rig->drv);
    loop_free(rig->loop);
    host_dir_remove(rig->c.dir);
    free(rig->c.in);
}

/* Offer the `len` bytes of c.in in slot `n` (0 to 7) with the tag `n`; does not tell the device. */
static void offer(struct rig *rig, unsigned n, size_t len)
{
    uint8_t *in = fake_ptr(&rig->drv, GPA(rig->in.v + n * 4096), 4096);

    store_le16(rig->c.in + 5, (uint16_t)n);
    memcpy(in, rig->c.in, len);
    fake_put_desc(&rig->drv.queues[0], 2 * n, GPA(rig->in.v + n * 4096), (uint32_t)len, FAKE_NEXT,
                  (uint16_t)(2 * n + 1));
    fake_put_desc(&rig->drv.queues[0], 2 * n + 1, GPA(rig->out.v + n * 4096), 4096, FAKE_WRITE, 0);
    fake_offer(&rig->drv.queues[0], (uint16_t)(2 * n));
}

/* The next reply must be in slot `n`: 0, or its error. */
static int answer(struct rig *rig, unsigned n)
{
    uint32_t id = 0;
    uint32_t len = 0;

    CHECK(fake_wait_used(&rig->drv, 0, &id, &len));
    CHECK_INT(id, 2 * n);
    rig->c.out = fake_ptr(&rig->drv, GPA(rig->out.v + n * 4096), 4096);
    rig->c.out_room = 4096;
    return p9_reply(&rig->c, len);
}

static int call(struct rig *rig, size_t len)
{
    offer(rig, 0, len);
    fake_kick(&rig->drv, 0);
    return answer(rig, 0);
}

/* Fid 0 is the root, fid 1 the file "a", open. */
static void init(struct rig *rig)
{
    host_file(&rig->c, "a", "hello");
    CHECK_INT(call(rig, p9_build(&rig->c, P9_TVERSION, "ds", 8192, "9P2000.L")), 0);
    CHECK_INT(call(rig, p9_build(&rig->c, P9_TATTACH, "ddssd", 0, P9_NOFID, "", "", 0)), 0);
    CHECK_INT(call(rig, p9_build(&rig->c, P9_TWALK, "ddws", 0, 1, 1, "a")), 0);
    CHECK_INT(call(rig, p9_build(&rig->c, P9_TLOPEN, "dd", 1, O_RDWR)), 0);
}

TEST(p9_device, configuration_space_names_the_share)
{
    struct rig rig;
    char text[8] = {0};

    rig_init(&rig);
    CHECK_INT(fake_reg_read(&rig.drv, 0x008), VIRTIO_ID_9P);
    CHECK(fake_features_read(&rig.drv) & 1);
    for (unsigned i = 0; i < 8; i += 4) {
        uint32_t word = fake_reg_read(&rig.drv, 0x100 + i);

        memcpy(text + i, &word, 4);
    }
    CHECK_MEM(text, "\5\0share", 7);
    CHECK_INT(text[7], 0);
    fake_reg_write(&rig.drv, 0x100, 0x41414141);
    CHECK(fake_reg_read(&rig.drv, 0x100) != 0x41414141);
    rig_fini(&rig);
}

TEST(p9_device, bad_tags_are_refused)
{
    static const char *const tags[] = {"", "0123456789012345678901234567890123456"};
    struct p9_config config = {0};
    struct tree_dir_config tree = {.path = "/tmp"};
    struct virtio_dev *dev;
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        CHECK_OK(tree_dir_new(&tree, &config.tree, &err), &err);
        config.tag = tags[i];
        CHECK_INT(p9_new(&config, NULL, NULL, &dev, &err), -EINVAL);
        CHECK_HAS(err_text(&err), "1 to 36 bytes");
    }
}

TEST(p9_device, messages_through_the_queue)
{
    struct rig rig;

    rig_init(&rig);
    CHECK_INT(call(&rig, p9_build(&rig.c, P9_TGETATTR, "dq", 0, UINT64_MAX)), -EIO);
    init(&rig);
    CHECK_INT(call(&rig, p9_build(&rig.c, P9_TREAD, "dqd", 1, UINT64_C(0), 100)), 0);
    CHECK_INT(p9_n(&rig.c, 4), 5);
    CHECK_MEM(p9_data(&rig.c), "hello", 5);
    rig_fini(&rig);
}

/* A host process has the lock; slot 1 waits for it. */
static int wait_for_lock(struct rig *rig)
{
    struct flock lock = {.l_type = F_WRLCK};
    int fd;

    init(rig);
    fd = open(host_path(&rig->c, "a"), O_RDWR | O_CLOEXEC);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &lock), 0);
    offer(rig, 1, p9_build(&rig->c, P9_TLOCK, "dbdqqds", 1, 1, 1, UINT64_C(0), UINT64_C(0), 7, ""));
    fake_kick(&rig->drv, 0);
    return fd;
}

TEST(p9_device, a_lock_is_waited_for_while_others_are_served)
{
    struct rig rig;
    int fd;

    rig_init(&rig);
    fd = wait_for_lock(&rig);
    CHECK_INT(call(&rig, p9_build(&rig.c, P9_TSTATFS, "d", 0)), 0); /* comes back first */
    (void)close(fd);
    CHECK_INT(answer(&rig, 1), 0);
    CHECK_INT(p9_n(&rig.c, 1), 0);
    rig_fini(&rig);
}

TEST(p9_device, a_flush_ends_the_wait)
{
    struct rig rig;
    int fd;

    rig_init(&rig);
    fd = wait_for_lock(&rig);
    offer(&rig, 2, p9_build(&rig.c, P9_TFLUSH, "w", 5)); /* nothing has this tag */
    fake_kick(&rig.drv, 0);
    CHECK_INT(answer(&rig, 2), 0);
    offer(&rig, 2, p9_build(&rig.c, P9_TFLUSH, "w", 1));
    fake_kick(&rig.drv, 0);
    CHECK_INT(answer(&rig, 1), -EINTR); /* first what it flushes */
    CHECK_INT(answer(&rig, 2), 0);
    (void)close(fd);
    rig_fini(&rig);
}

TEST(p9_device, only_so_many_wait)
{
    struct rig rig;
    int fd;

    rig_init(&rig);
    fd = wait_for_lock(&rig);
    for (unsigned i = 0; i < 255; i++) { /* the same buffers again and again: nobody looks */
        offer(&rig, 2,
              p9_build(&rig.c, P9_TLOCK, "dbdqqds", 1, 1, 1, UINT64_C(0), UINT64_C(0), 7, ""));
        if (i % 64 == 63) {
            fake_kick(&rig.drv, 0);
            CHECK_INT(call(&rig, p9_build(&rig.c, P9_TSTATFS, "d", 0)), 0);
        }
    }
    fake_kick(&rig.drv, 0);
    CHECK_INT(
        call(&rig, p9_build(&rig.c, P9_TLOCK, "dbdqqds", 1, 1, 1, UINT64_C(0), UINT64_C(0), 7, "")),
        -ENOLCK);
    fake_driver_start(&rig.drv, FAKE_FEATURES, 128); /* a reset drops them */
    (void)close(fd);
    init(&rig);
    rig_fini(&rig);
}

TEST(p9_device, a_broken_ring_stops_the_device)
{
    struct rig rig;

    rig_init(&rig);
    init(&rig);
    fake_offer(&rig.drv.queues[0], rig.drv.queues[0].size); /* no such descriptor */
    fake_kick(&rig.drv, 0);
    for (unsigned i = 0; i < 100 && !(fake_reg_read(&rig.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
         i++) {
        (void)fake_wait_irq(&rig.drv, 50);
    }
    CHECK(fake_reg_read(&rig.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
    rig_fini(&rig);
}
