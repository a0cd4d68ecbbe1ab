/* pci_test.c — the same device behind virtio-pci: a driver brings it up through the BAR, each queue
 * has its vector, and nothing outside the regions answers. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "dev/virtio/pci.h"
#include "io/loop.h"
#include "tests/lib/fake_driver.h"
#include "tests/lib/toy_device.h"

#define BAR   UINT64_C(0x4000080000)
#define TABLE 0x8000u

struct rig {
    struct fake_driver drv; /* its memory and queues; the registers are below */
    struct loop *loop;
    struct toy *toy;
    struct pci_function *fn;
    atomic_uint last_data; /* of the last message */
};

static void on_msi(void *owner, uint64_t address, uint32_t data)
{
    struct rig *g = owner;

    CHECK_INT(address, 0xfee00000);
    atomic_store(&g->last_data, data);
    fake_irq_pulse(&g->drv, 0);
}

static void rig_init(struct rig *g)
{
    struct msi_port msi = {.send = on_msi, .owner = g};
    struct err err = {0};

    fake_driver_init(&g->drv);
    atomic_init(&g->last_data, 0);
    CHECK_OK(loop_new(&g->loop, &err), &err);
    g->toy = calloc(1, sizeof(*g->toy));
    CHECK_OK(virtio_dev_init(&g->toy->base, &toy_ops, g->drv.mem, g->loop, 2, BIT(3), &err), &err);
    g->toy->base.queue_size_max = 64;
    CHECK_OK(virtio_pci_new(&g->toy->base, GPA(BAR), &msi, &g->fn, &err), &err);
    CHECK_OK(loop_thread_start(g->loop, "toy", &err), &err);
}

static void rig_fini(struct rig *g)
{
    unsigned freed = g_toys_freed;

    loop_thread_stop(g->loop);
    g->fn->ops->free(g->fn);
    CHECK_INT(g_toys_freed, freed + 1);
    fake_driver_fini(&g->drv);
    loop_free(g->loop);
}

static uint64_t get(struct rig *g, uint64_t offset, unsigned len)
{
    uint64_t value = 0;

    g->fn->ops->bar_read(g->fn, offset, &value, len);
    return value;
}

static void put(struct rig *g, uint64_t offset, uint64_t value, unsigned len)
{
    g->fn->ops->bar_write(g->fn, offset, &value, len);
}

static void accept_features(struct rig *g, uint64_t features)
{
    for (unsigned half = 0; half < 2; half++) {
        put(g, 8, half, 4);
        put(g, 12, (uint32_t)(features >> (32 * half)), 4);
        CHECK_INT(get(g, 12, 4), (uint32_t)(features >> (32 * half)));
    }
}

static void bring_up_queue(struct rig *g, unsigned index, uint16_t size)
{
    const struct fake_queue *q = &g->drv.queues[index];

    fake_queue_place(&g->drv, index, size);
    put(g, 22, index, 2);
    CHECK_INT(get(g, 24, 2), 64);
    put(g, 24, size, 2);
    put(g, 26, index + 1, 2);
    CHECK_INT(get(g, 26, 2), index + 1);
    put(g, 32, q->desc.v, 8);
    put(g, 40, (uint32_t)q->avail.v, 4);
    put(g, 44, (uint32_t)(q->avail.v >> 32), 4);
    put(g, 48, q->used.v, 8);
    CHECK(get(g, 40, 8) == q->avail.v);
    CHECK_INT(get(g, 36, 4), q->desc.v >> 32);
    CHECK_INT(get(g, 28, 2), 0);
    put(g, 28, 1, 2);
    CHECK_INT(get(g, 28, 2), 1);
}

/* Vector 0 is the configuration's, queue i has vector i + 1; each sends 40H + its number. */
static void bring_up(struct rig *g)
{
    uint16_t control = 0x8000 | 2; /* enabled; three of them */

    for (unsigned i = 0; i < 3; i++) {
        put(g, TABLE + 16 * i, 0xfee00000, 8);
        put(g, TABLE + 16 * i + 8, 0x40 + i, 4);
        put(g, TABLE + 16 * i + 12, 0, 4);
    }
    for (unsigned at = g->fn->config[0x34]; at; at = g->fn->config[at + 1]) {
        if (g->fn->config[at] == PCI_CAP_MSIX) {
            CHECK_INT(load_le16(g->fn->config + at + 2) & 0x7ff, 2);
            store_le16(g->fn->config + at + 2, control);
            g->fn->ops->config_written(g->fn, at + 2, 2);
        }
    }
    put(g, 20, 0, 1);
    put(g, 20, 1, 1);
    put(g, 20, 3, 1);
    accept_features(g, VIRTIO_F_VERSION_1);
    put(g, 20, 11, 1);
    CHECK_INT(get(g, 20, 1), 11);
    put(g, 16, 0, 2);
    CHECK_INT(get(g, 16, 2), 0);
    bring_up_queue(g, 0, 16);
    bring_up_queue(g, 1, 16);
    put(g, 20, 15, 1);
    CHECK_INT(get(g, 20, 1), 15);
}

static void offer(struct rig *g, unsigned index)
{
    fake_put_desc(&g->drv.queues[index], 0, fake_alloc(&g->drv, 64, 16), 64, FAKE_WRITE, 0);
    fake_offer(&g->drv.queues[index], 0);
}

TEST(virtio_pci, configuration_space_names_the_device_and_its_regions)
{
    struct rig g;
    unsigned seen = 0;

    rig_init(&g);
    CHECK_INT(load_le32(g.fn->config), (0x1040u + VIRTIO_ID_RNG) << 16 | 0x1af4);
    CHECK_INT(g.fn->config[PCI_REG_REVISION], 1);
    CHECK_INT(g.fn->config[PCI_REG_CLASS + 2], 0xff);
    CHECK(pci_bar(g.fn).v == BAR);
    for (unsigned at = g.fn->config[0x34]; at; at = g.fn->config[at + 1]) {
        if (g.fn->config[at] == PCI_CAP_VENDOR) {
            seen |= 1u << g.fn->config[at + 3];
        }
    }
    CHECK_INT(seen, 0x3e); /* common, notify, ISR, device, PCI */
    rig_fini(&g);
}

TEST(virtio_pci, a_notification_is_answered_with_the_queues_message)
{
    struct rig g;
    uint32_t id;
    uint32_t len;

    rig_init(&g);
    bring_up(&g);
    CHECK_INT(g.toy->start_count, 1);
    for (unsigned queue = 0; queue < 2; queue++) {
        offer(&g, queue);
        put(&g, VIRTIO_PCI_NOTIFY + 4 * queue, queue, 2);
        CHECK(fake_wait_used(&g.drv, queue, &id, &len));
        CHECK_INT(len, 7);
        while (atomic_load(&g.last_data) != 0x41 + queue) {
            CHECK(fake_wait_irq(&g.drv, 5000));
        }
    }
    CHECK_INT(get(&g, 0x2000, 1), 1);
    CHECK_INT(get(&g, 0x2000, 1), 0); /* reading took it */
    virtio_dev_config_changed(&g.toy->base);
    CHECK_INT(atomic_load(&g.last_data), 0x40);
    CHECK_INT(get(&g, 0x2000, 1), 2);
    CHECK_INT(get(&g, 21, 1), 1);
    rig_fini(&g);
}

TEST(virtio_pci, a_started_queue_is_frozen_and_a_reset_frees_it)
{
    struct rig g;

    rig_init(&g);
    bring_up(&g);
    put(&g, 22, 0, 2);
    put(&g, 24, 4, 2);
    put(&g, 32, 0xdead0000, 8);
    CHECK_INT(g.toy->base.queues[0].size, 16);
    CHECK(g.toy->base.queues[0].desc.v == g.drv.queues[0].desc.v);
    put(&g, 28, 0, 2);
    CHECK_INT(get(&g, 28, 2), 1); /* it cannot be taken down by itself */
    virtio_pci_stop(g.fn);
    CHECK_INT(g.toy->reset_count, 1);
    CHECK_INT(get(&g, 20, 1), 0);
    CHECK_INT(get(&g, 26, 2), 0xffff);
    bring_up(&g);
    CHECK_INT(g.toy->start_count, 2);
    rig_fini(&g);
}

TEST(virtio_pci, what_is_not_there_reads_as_nothing)
{
    struct rig g;

    rig_init(&g);
    put(&g, 22, 2, 2); /* no third queue */
    CHECK_INT(get(&g, 24, 2), 0);
    CHECK_INT(get(&g, 32, 8), 0);
    put(&g, 26, 1, 2);
    CHECK_INT(get(&g, 26, 2), 0xffff);
    put(&g, 28, 1, 2);
    CHECK_INT(get(&g, 28, 2), 0);
    put(&g, 22, 0, 2);
    put(&g, 26, 3, 2); /* no fourth vector */
    CHECK_INT(get(&g, 26, 2), 0xffff);
    put(&g, 22, 0xffff, 2);
    put(&g, 32, UINT64_MAX, 8);
    CHECK_INT(get(&g, 0x1000, 8), 0);
    CHECK_INT(get(&g, 54, 4), 0); /* across the end of the common part */
    CHECK_INT(get(&g, VIRTIO_PCI_BAR_BYTES - 8, 8), 0);
    put(&g, VIRTIO_PCI_NOTIFY + 4 * 77, 77, 2);
    memcpy(g.toy->config, "abcdefghijkl", 12);
    CHECK_INT(get(&g, 0x4000, 2), 'a' | 'b' << 8);
    put(&g, 0x4001, 'Z', 1);
    CHECK_MEM(g.toy->config, "aZ", 2);
    rig_fini(&g);
}

TEST(virtio_pci, the_window_of_the_configuration_space_stays_in_the_bar)
{
    struct rig g;
    unsigned cap = 0;

    rig_init(&g);
    for (unsigned at = g.fn->config[0x34]; at; at = g.fn->config[at + 1]) {
        if (g.fn->config[at] == PCI_CAP_VENDOR && g.fn->config[at + 3] == 5) {
            cap = at;
        }
    }
    CHECK(cap != 0);
    store_le32(g.fn->config + cap + 8, 18); /* number of queues */
    store_le32(g.fn->config + cap + 12, 2);
    g.fn->ops->config_reading(g.fn, cap + 16, 2);
    CHECK_INT(load_le16(g.fn->config + cap + 16), 2);
    store_le32(g.fn->config + cap + 8, 20); /* status */
    store_le32(g.fn->config + cap + 12, 1);
    g.fn->config[cap + 16] = 1;
    g.fn->ops->config_written(g.fn, cap + 16, 1);
    CHECK_INT(get(&g, 20, 1), 1);
    for (unsigned len = 0; len < 9; len++) { /* none of these is an access */
        if (len != 1 && len != 2 && len != 4) {
            store_le32(g.fn->config + cap + 12, len);
            g.fn->ops->config_written(g.fn, cap + 16, 4);
        }
    }
    store_le32(g.fn->config + cap + 8, UINT32_MAX - 3);
    store_le32(g.fn->config + cap + 12, 4);
    store_le32(g.fn->config + cap + 16, 0x12345678);
    g.fn->ops->config_reading(g.fn, cap + 16, 4);
    CHECK_INT(load_le32(g.fn->config + cap + 16), 0x12345678);
    rig_fini(&g);
}

/* What on_move() was told. */
struct moves {
    unsigned count;
    uint64_t from, to;
};

static void on_move(void *owner, const struct virtio_dev *dev, gpa_t from, gpa_t to)
{
    struct moves *m = owner;

    (void)dev;
    m->count++;
    m->from = from.v;
    m->to = to.v;
}

static void write_config(struct rig *g, unsigned offset, uint64_t value, unsigned len)
{
    memcpy(g->fn->config + offset, &value, len);
    g->fn->ops->config_written(g->fn, offset, len);
}

TEST(virtio_pci, doorbells_are_where_the_bar_is)
{
    struct rig g;
    struct moves m = {0};
    struct doorbell_port port = {.move = on_move, .owner = &m};

    rig_init(&g);
    virtio_pci_set_doorbells(g.fn, &port);
    write_config(&g, PCI_REG_BAR0, BAR | 4, 8);
    CHECK_INT(m.count, 0); /* not mapped */
    write_config(&g, PCI_REG_COMMAND, PCI_COMMAND_MEMORY, 2);
    CHECK(m.count == 1 && m.from == VIRTIO_PCI_NOWHERE && m.to == BAR);
    write_config(&g, PCI_REG_BAR0, (BAR + VIRTIO_PCI_BAR_BYTES) | 4, 8);
    CHECK(m.count == 2 && m.from == BAR && m.to == BAR + VIRTIO_PCI_BAR_BYTES);
    write_config(&g, PCI_REG_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    CHECK_INT(m.count, 2);
    virtio_pci_stop(g.fn);
    CHECK(m.count == 3 && m.to == VIRTIO_PCI_NOWHERE);
    rig_fini(&g);
}
