/* vhost_block_test.c — requests go through the shared ring to the other side and back, and an other
 * side that answers nonsense ends the device only. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "dev/block/vhost_block.h"
#include "dev/port/vhost_port.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "tests/lib/fake_driver.h"

/* The other side, in this process. */
struct fake_peer {
    struct vhost_port base;
    uint8_t ring[VHOST_RING_BYTES] __attribute__((aligned(4096)));
    uint16_t avail_seen;
    uint16_t used_idx;
    uint64_t features;
    unsigned regions;
    unsigned starts, stops;
    int start_result;
    uint8_t config[VHOST_CONFIG_BYTES];
};

static struct fake_peer *peer_of(struct vhost_port *port)
{
    return container_of(port, struct fake_peer, base);
}

static int peer_config(struct vhost_port *port, uint8_t ret_config[VHOST_CONFIG_BYTES])
{
    memcpy(ret_config, peer_of(port)->config, VHOST_CONFIG_BYTES);
    return 0;
}

static int peer_start(struct vhost_port *port, uint64_t features,
                      const struct vhost_region *regions, unsigned count)
{
    struct fake_peer *p = peer_of(port);

    (void)regions;
    memset(p->ring, 0, sizeof(p->ring));
    p->avail_seen = p->used_idx = 0;
    p->features = features;
    p->regions = count;
    p->starts++;
    return p->start_result;
}

static void peer_stop(struct vhost_port *port)
{
    peer_of(port)->stops++;
}

static const struct vhost_port_ops g_peer_ops = {
    .read_config = peer_config, .start = peer_start, .stop = peer_stop};

struct rig {
    struct fake_driver drv;
    struct loop *loop;
    struct virtio_dev *dev;
    struct fake_peer *peer;
    struct metrics_vhost_user_block *metrics;
    gpa_t data;
};

static void share_memory(struct fake_driver *drv)
{
    struct mem_backing backing = {.pages = MEM_PAGES_HOST, .is_shared = true};

    mem_map_free(drv->mem);
    drv->mem = mem_map_new();
    CHECK_INT(mem_map_add_backed(drv->mem, GPA(0), FAKE_MEM_BYTES, &backing, NULL), 0);
}

static void rig_init(struct rig *g, bool is_shared)
{
    struct vhost_block_config config;
    struct err err = {0};

    metrics_reset();
    g->peer = aligned_alloc(4096, align_up(sizeof(*g->peer), 4096));
    memset(g->peer, 0, sizeof(*g->peer));
    g->peer->base = (struct vhost_port){.ops = &g_peer_ops,
                                        .features = vhost_block_features(true),
                                        .ring = g->peer->ring,
                                        .kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
                                        .call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    store_le64(g->peer->config, 1000);
    g->metrics = metrics_vhost_user_block("v");
    fake_driver_init(&g->drv);
    if (is_shared) {
        share_memory(&g->drv);
    }
    CHECK_OK(loop_new(&g->loop, &err), &err);
    config = (struct vhost_block_config){
        .port = &g->peer->base, .config = g->peer->config, .metrics = g->metrics};
    CHECK_OK(vhost_block_new(&config, g->drv.mem, g->loop, &g->dev, &err), &err);
    fake_driver_attach(&g->drv, g->dev);
    CHECK_OK(loop_thread_start(g->loop, "vhost", &err), &err);
    fake_driver_start(&g->drv, VIRTIO_F_VERSION_1 | BIT(9), 64);
    g->data = fake_alloc(&g->drv, 4096, 512);
}

static void rig_fini(struct rig *g)
{
    loop_thread_stop(g->loop);
    fake_driver_fini(&g->drv);
    loop_free(g->loop);
    (void)close(g->peer->base.kick_fd);
    (void)close(g->peer->base.call_fd);
    free(g->peer);
}

static void on_settled(void *owner)
{
    (void)sem_post(owner);
}

struct settling {
    struct loop *loop;
    sem_t done;
};

static void begin_settling(void *owner)
{
    struct settling *s = owner;

    CHECK(loop_add_timer(s->loop, NS_PER_MS, on_settled, &s->done) != NULL);
}

/* What was signalled before is dealt with after: before a timer runs out, the loop looks at all
 * descriptors. */
static void settle(struct rig *g)
{
    struct settling s = {.loop = g->loop};

    CHECK_INT(sem_init(&s.done, 0, 0), 0);
    for (unsigned i = 0; i < 2; i++) {
        loop_call(g->loop, begin_settling, &s);
        CHECK_INT(sem_wait(&s.done), 0);
    }
    (void)sem_destroy(&s.done);
}

/* The peer says that it has answered. */
static void call(struct rig *g)
{
    uint64_t one = 1;

    CHECK_INT(write(g->peer->base.call_fd, &one, sizeof(one)), sizeof(one));
    settle(g);
}

static void kick(struct rig *g)
{
    fake_kick(&g->drv, 0);
    settle(g);
}

static void offer(struct rig *g, uint16_t slot)
{
    struct fake_queue *q = &g->drv.queues[0];

    fake_put_desc(q, slot, g->data, 16, FAKE_NEXT, (uint16_t)(slot + 1));
    fake_put_desc(q, slot + 1u, GPA(g->data.v + 512), 512, FAKE_NEXT | FAKE_WRITE,
                  (uint16_t)(slot + 2));
    fake_put_desc(q, slot + 2u, GPA(g->data.v + 1024 + slot), 1, FAKE_WRITE, 0);
    fake_offer(q, slot);
}

/* What the peer sees next: its first descriptor; -1: nothing. */
static int next_avail(struct fake_peer *p)
{
    const uint8_t *avail = p->ring + VHOST_RING_AVAIL;

    if (load_le16(avail + 2) == p->avail_seen) {
        return -1;
    }
    return load_le16(avail + 4 + 2u * (p->avail_seen++ % VHOST_RING_SIZE));
}

static void answer(struct fake_peer *p, uint32_t id, uint32_t len)
{
    uint8_t *used = p->ring + VHOST_RING_USED;

    store_le32(used + 4 + 8u * (p->used_idx % VHOST_RING_SIZE), id);
    store_le32(used + 8 + 8u * (p->used_idx % VHOST_RING_SIZE), len);
    store_le16(used + 2, ++p->used_idx);
}

TEST(vhost_block, requests_reach_the_peer_with_host_addresses_and_come_back)
{
    struct rig g;
    uint32_t id;
    uint32_t len;
    int first;
    const uint8_t *desc;

    rig_init(&g, true);
    CHECK_INT(g.peer->regions, 1);
    CHECK_INT(g.peer->features, VIRTIO_F_VERSION_1 | BIT(9));
    CHECK(fake_features_read(&g.drv) ==
          (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BIT(9) | BIT(5)));
    CHECK_INT(fake_reg_read(&g.drv, 0x100), 1000);
    for (uint16_t i = 0; i < 3; i++) {
        offer(&g, (uint16_t)(3 * i));
    }
    kick(&g);
    for (unsigned i = 0; i < 3; i++) {
        first = next_avail(g.peer);
        CHECK_INT(first, 3 * i);
        desc = g.peer->ring + 16u * (unsigned)first;
        CHECK(load_le64(desc) == (uintptr_t)fake_ptr(&g.drv, g.data, 16));
        CHECK_INT(load_le32(desc + 8), 16);
        CHECK_INT(load_le16(desc + 12), FAKE_NEXT);
        CHECK_INT(load_le16(desc + 16 + 12), FAKE_NEXT | FAKE_WRITE);
        CHECK_INT(load_le16(desc + 32 + 12), FAKE_WRITE);
    }
    CHECK_INT(next_avail(g.peer), -1);
    answer(g.peer, 6, 513); /* in any order */
    answer(g.peer, 0, UINT32_MAX);
    call(&g);
    CHECK(fake_take_used(&g.drv.queues[0], &id, &len));
    CHECK_INT(id, 6);
    CHECK_INT(len, 513);
    CHECK(fake_take_used(&g.drv.queues[0], &id, &len));
    CHECK_INT(id, 0);
    CHECK_INT(len, 513); /* not more than there was room for */
    rig_fini(&g);
}

TEST(vhost_block, answers_that_make_no_sense_end_the_device)
{
    for (unsigned kind = 0; kind < 5; kind++) {
        struct rig g;
        uint32_t id;
        uint32_t len;

        rig_init(&g, true);
        offer(&g, 0);
        kick(&g);
        CHECK_INT(next_avail(g.peer), 0);
        switch (kind) {
        case 0: answer(g.peer, 1, 0); break;               /* not the first of a chain */
        case 1: answer(g.peer, VHOST_RING_SIZE, 0); break; /* no descriptor */
        case 2: answer(g.peer, 200, 0); break;             /* one that is free */
        case 3:                                            /* twice */
            answer(g.peer, 0, 0);
            answer(g.peer, 0, 0);
            break;
        case 4: store_le16(g.peer->ring + VHOST_RING_USED + 2, 0x8000); break;
        default: fail();
        }
        call(&g);
        CHECK(fake_reg_read(&g.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
        fake_driver_start(&g.drv, VIRTIO_F_VERSION_1, 64); /* a reset heals */
        CHECK_INT(g.peer->starts, 2);
        CHECK_INT(g.peer->stops, 1);
        offer(&g, 0);
        kick(&g);
        answer(g.peer, (uint32_t)next_avail(g.peer), 1);
        call(&g);
        CHECK(fake_take_used(&g.drv.queues[0], &id, &len));
        rig_fini(&g);
    }
}

TEST(vhost_block, malformed_chains_do_not_reach_the_peer)
{
    struct rig g;
    uint32_t id;
    uint32_t len;

    rig_init(&g, true);
    fake_put_desc(&g.drv.queues[0], 0, GPA(FAKE_MEM_BYTES), 16, 0, 0);
    fake_offer(&g.drv.queues[0], 0);
    kick(&g);
    CHECK_INT(next_avail(g.peer), -1);
    CHECK(fake_take_used(&g.drv.queues[0], &id, &len));
    CHECK_INT(len, 0);
    rig_fini(&g);
}

TEST(vhost_block, a_full_ring_waits_for_answers)
{
    struct rig g;
    unsigned sent = 0;
    int first;

    rig_init(&g, true);
    for (unsigned i = 0; i < 100; i++) { /* more than 256 descriptors; one chain, again and again */
        offer(&g, 0);
        kick(&g);
    }
    while ((first = next_avail(g.peer)) >= 0) {
        sent++;
    }
    CHECK_INT(sent, 85); /* 3 descriptors each */
    answer(g.peer, 0, 1);
    call(&g);
    CHECK(next_avail(g.peer) >= 0);
    rig_fini(&g);
}

TEST(vhost_block, a_configuration_that_changed_is_told)
{
    struct rig g;

    rig_init(&g, true);
    store_le64(g.peer->config, 2000);
    CHECK_INT(vhost_block_refresh(g.dev), 0); /* the loop has nothing else to do */
    CHECK_INT(fake_reg_read(&g.drv, 0x100), 2000);
    CHECK_INT(fake_reg_read(&g.drv, 0x0fc), 1);
    CHECK_INT(atomic_load(&g.drv.irq_count), 1);
    rig_fini(&g);
}

TEST(vhost_block, memory_that_is_not_shared_cannot_be_served)
{
    struct rig g;

    rig_init(&g, false);
    CHECK(fake_reg_read(&g.drv, 0x070) & VIRTIO_STATUS_NEEDS_RESET);
    CHECK_INT(metric_get(&g.metrics->activate_fails), 1);
    rig_fini(&g);
}
