/* fs_test.c — the device: configuration space, requests through virtqueues, locks that wait. */
#include "dev/fs/fs.h"
#include "io/loop.h"
#include "tests/lib/fake_driver.h"
#include "tests/lib/fuse_client.h"

struct rig {
    struct fuse_client c; /* for its directory only */
    struct fake_driver drv;
    struct loop *loop;
    gpa_t in;
    gpa_t out;
    uint64_t unique;
};

static void rig_init(struct rig *rig)
{
    struct virtio_fs_config config = {.tag = "share", .cache = VIRTIO_FS_CACHE_SHORT};
    struct tree_dir_config tree = {0};
    struct virtio_dev *dev = NULL;
    struct err err = {0};

    memset(rig, 0, sizeof(*rig));
    fuse_client_dir(&rig->c);
    tree.path = rig->c.dir;
    fake_driver_init(&rig->drv);
    CHECK_OK(loop_new(&rig->loop, &err), &err);
    CHECK_OK(tree_dir_new(&tree, &config.tree, &err), &err);
    CHECK_OK(virtio_fs_new(&config, rig->drv.mem, rig->loop, &dev, &err), &err);
    fake_driver_attach(&rig->drv, dev);
    CHECK_OK(loop_thread_start(rig->loop, "fs", &err), &err);
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
}

/* Offer a request in slot `n` (0 to 7) of queue 1; does not tell the device. */
static void offer(struct rig *rig, unsigned n, uint32_t opcode, uint64_t node, const void *arg,
                  size_t arg_len)
{
    struct fuse_in_header head = {
        .len = (uint32_t)(sizeof(head) + arg_len),
        .opcode = opcode,
        .unique = ++rig->unique,
        .nodeid = node,
    };
    uint8_t *in = fake_ptr(&rig->drv, GPA(rig->in.v + n * 4096), 4096);

    memcpy(in, &head, sizeof(head));
    if (arg_len) {
        memcpy(in + sizeof(head), arg, arg_len);
    }
    fake_put_desc(&rig->drv.queues[1], 2 * n, GPA(rig->in.v + n * 4096), head.len, FAKE_NEXT,
                  (uint16_t)(2 * n + 1));
    fake_put_desc(&rig->drv.queues[1], 2 * n + 1, GPA(rig->out.v + n * 4096), 4096, FAKE_WRITE, 0);
    fake_offer(&rig->drv.queues[1], (uint16_t)(2 * n));
}

static const void *reply(struct rig *rig, unsigned n)
{
    return fake_ptr(&rig->drv, GPA(rig->out.v + n * 4096), 4096);
}

static const void *content(struct rig *rig, unsigned n)
{
    return (const uint8_t *)reply(rig, n) + sizeof(struct fuse_out_header);
}

/* One request, answered; its error. */
static int call(struct rig *rig, uint32_t opcode, uint64_t node, const void *arg, size_t arg_len)
{
    const struct fuse_out_header *head = reply(rig, 0);
    uint32_t id;
    uint32_t len;

    offer(rig, 0, opcode, node, arg, arg_len);
    fake_kick(&rig->drv, 1);
    CHECK(fake_wait_used(&rig->drv, 1, &id, &len));
    CHECK_INT(id, 0);
    CHECK_INT(len, head->len);
    CHECK(head->unique == rig->unique);
    return head->error;
}

static void init(struct rig *rig)
{
    struct fuse_init_in in = {.major = 7, .minor = 36, .flags = INT32_MAX};

    CHECK_INT(call(rig, FUSE_INIT, 0, &in, sizeof(in)), 0);
}

TEST(virtio_fs, configuration_space_names_the_share)
{
    struct rig rig;
    char tag[37] = {0};
    uint32_t word = 1;

    rig_init(&rig);
    CHECK_INT(fake_reg_read(&rig.drv, 0x008), VIRTIO_ID_FS);
    for (unsigned i = 0; i < 36; i += 4) {
        word = fake_reg_read(&rig.drv, 0x100 + i);
        memcpy(tag + i, &word, 4);
    }
    CHECK_STR(tag, "share");
    CHECK_INT(fake_reg_read(&rig.drv, 0x100 + 36), 1);
    CHECK_INT(fake_reg_read(&rig.drv, 0x100 + 40), 0);
    fake_reg_write(&rig.drv, 0x100, 0x41414141);
    CHECK(fake_reg_read(&rig.drv, 0x100) != 0x41414141);
    rig_fini(&rig);
}

TEST(virtio_fs, bad_tags_are_refused)
{
    static const char *const tags[] = {"", "0123456789012345678901234567890123456"};
    struct virtio_fs_config config = {0};
    struct tree_dir_config tree = {.path = "/tmp"};
    struct virtio_dev *dev;
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        CHECK_OK(tree_dir_new(&tree, &config.tree, &err), &err);
        config.tag = tags[i];
        CHECK_INT(virtio_fs_new(&config, NULL, NULL, &dev, &err), -EINVAL);
        CHECK_HAS(err_text(&err), "1 to 36 bytes");
    }
}

TEST(virtio_fs, requests_through_the_queue)
{
    struct rig rig;
    const struct fuse_entry_out *entry;
    struct fuse_open_in open_in = {0};
    struct fuse_read_in read_in = {.size = 4096};
    uint64_t node;

    rig_init(&rig);
    host_file(&rig.c, "a", "hello");
    CHECK_INT(call(&rig, FUSE_LOOKUP, 1, "a", 2), -EIO); /* not before INIT */
    init(&rig);
    CHECK_INT(call(&rig, FUSE_LOOKUP, 1, "a", 2), 0);
    entry = content(&rig, 0);
    CHECK_INT(entry->attr.size, 5);
    node = entry->nodeid;
    CHECK_INT(call(&rig, FUSE_OPEN, node, &open_in, sizeof(open_in)), 0);
    read_in.fh = ((const struct fuse_open_out *)content(&rig, 0))->fh;
    CHECK_INT(call(&rig, FUSE_READ, node, &read_in, sizeof(read_in)), 0);
    CHECK_MEM(content(&rig, 0), "hello", 5);
    rig_fini(&rig);
}

TEST(virtio_fs, forget_comes_on_the_first_queue_and_has_no_reply)
{
    struct rig rig;
    struct {
        struct fuse_in_header head;
        struct fuse_forget_in in;
    } forget = {.head = {.len = sizeof(forget), .opcode = FUSE_FORGET}, .in = {1}};
    struct fuse_getattr_in get = {0};
    uint32_t id;
    uint32_t len;

    rig_init(&rig);
    host_file(&rig.c, "a", "hello");
    init(&rig);
    CHECK_INT(call(&rig, FUSE_LOOKUP, 1, "a", 2), 0);
    forget.head.nodeid = ((const struct fuse_entry_out *)content(&rig, 0))->nodeid;
    memcpy(fake_ptr(&rig.drv, rig.in, 4096), &forget, sizeof(forget));
    fake_put_desc(&rig.drv.queues[0], 0, rig.in, sizeof(forget), 0, 0);
    fake_offer(&rig.drv.queues[0], 0);
    fake_kick(&rig.drv, 0);
    CHECK(fake_wait_used(&rig.drv, 0, &id, &len));
    CHECK_INT(len, 0);
    CHECK_INT(call(&rig, FUSE_GETATTR, forget.head.nodeid, &get, sizeof(get)), -ESTALE);
    rig_fini(&rig);
}

/* Two opens of one file: the first takes the lock, the second is offered as a request that waits in
 * slot 1. */
static void take_and_wait(struct rig *rig, struct fuse_lk_in *first, uint64_t *ret_node)
{
    struct fuse_open_in open_in = {.flags = O_RDWR};
    struct fuse_lk_in second;
    uint64_t node;

    host_file(&rig->c, "a", "hello");
    init(rig);
    CHECK_INT(call(rig, FUSE_LOOKUP, 1, "a", 2), 0);
    node = ((const struct fuse_entry_out *)content(rig, 0))->nodeid;
    CHECK_INT(call(rig, FUSE_OPEN, node, &open_in, sizeof(open_in)), 0);
    *first = (struct fuse_lk_in){.fh = ((const struct fuse_open_out *)content(rig, 0))->fh,
                                 .owner = 1,
                                 .lk = {.end = INT64_MAX, .type = F_WRLCK}};
    second = *first;
    second.owner = 2;
    CHECK_INT(call(rig, FUSE_SETLKW, node, first, sizeof(*first)), 0);
    offer(rig, 1, FUSE_SETLKW, node, &second, sizeof(second));
    fake_kick(&rig->drv, 1);
    *ret_node = node;
}

TEST(virtio_fs, a_lock_is_waited_for_while_others_are_served)
{
    struct rig rig;
    struct fuse_lk_in lk;
    uint64_t node;
    uint32_t id;
    uint32_t len;

    rig_init(&rig);
    take_and_wait(&rig, &lk, &node);
    CHECK_INT(call(&rig, FUSE_STATFS, 1, NULL, 0), 0); /* comes back first */
    lk.lk.type = F_UNLCK;
    CHECK_INT(call(&rig, FUSE_SETLK, node, &lk, sizeof(lk)), 0);
    CHECK(fake_wait_used(&rig.drv, 1, &id, &len));
    CHECK_INT(id, 2);
    CHECK_INT(len, sizeof(struct fuse_out_header));
    CHECK_INT(((const struct fuse_out_header *)reply(&rig, 1))->error, 0);
    rig_fini(&rig);
}

TEST(virtio_fs, an_interrupt_ends_the_wait)
{
    struct rig rig;
    struct fuse_interrupt_in in;
    struct fuse_lk_in lk;
    uint64_t node;
    uint32_t id;
    uint32_t len;

    rig_init(&rig);
    take_and_wait(&rig, &lk, &node);
    in.unique = rig.unique;
    offer(&rig, 2, FUSE_INTERRUPT, 0, &in, sizeof(in));
    fake_kick(&rig.drv, 1);
    CHECK(fake_wait_used(&rig.drv, 1, &id, &len));
    CHECK_INT(id, 2);
    CHECK_INT(((const struct fuse_out_header *)reply(&rig, 1))->error, -EINTR);
    CHECK(fake_wait_used(&rig.drv, 1, &id, &len));
    CHECK_INT(id, 4);
    CHECK_INT(len, 0);
    rig_fini(&rig);
}

TEST(virtio_fs, reset_drops_waiters_locks_and_nodes)
{
    struct rig rig;
    struct fuse_getattr_in get = {0};
    struct fuse_lk_in lk;
    struct flock want = {.l_type = F_WRLCK};
    uint64_t node;
    int fd;

    rig_init(&rig);
    take_and_wait(&rig, &lk, &node);
    fd = open(host_path(&rig.c, "a"), O_RDWR | O_CLOEXEC);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &want), -1);
    fake_driver_start(&rig.drv, FAKE_FEATURES, 128);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &want), 0);
    (void)close(fd);
    init(&rig);
    CHECK_INT(call(&rig, FUSE_GETATTR, node, &get, sizeof(get)), -ESTALE);
    rig_fini(&rig);
}

TEST(virtio_fs, more_requests_than_one_batch_are_all_answered)
{
    struct rig rig;
    uint32_t id;
    uint32_t len;

    rig_init(&rig);
    init(&rig);
    for (unsigned round = 0; round < 16; round++) {
        for (unsigned n = 0; n < 8; n++) {
            offer(&rig, n, FUSE_STATFS, 1, NULL, 0);
        }
    }
    fake_kick(&rig.drv, 1);
    for (unsigned i = 0; i < 128; i++) {
        CHECK(fake_wait_used(&rig.drv, 1, &id, &len));
        CHECK_INT(len, sizeof(struct fuse_out_header) + sizeof(struct fuse_statfs_out));
    }
    rig_fini(&rig);
}

TEST(virtio_fs, a_broken_ring_stops_the_device)
{
    struct rig rig;

    rig_init(&rig);
    init(&rig);
    fake_offer(&rig.drv.queues[1], rig.drv.queues[1].size); /* no such descriptor */
    fake_kick(&rig.drv, 1);
    for (unsigned i = 0; i < 100 && !(fake_reg_read(&rig.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
         i++) {
        (void)fake_wait_irq(&rig.drv, 50);
    }
    CHECK(fake_reg_read(&rig.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
    rig_fini(&rig);
}
