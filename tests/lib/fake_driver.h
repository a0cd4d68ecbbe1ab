/* fake_driver.h — a guest's driver as tests need it: guest RAM, virtqueues written from the
 * driver's side, and the register dance of virtio-mmio.
 *
 *     struct fake_driver drv;
 *     fake_driver_init(&drv);
 *     CHECK_OK(foo_new(drv.mem, loop, ..., &virtio_dev, &err), &err);
 *     fake_driver_attach(&drv, virtio_dev);                     transport and interrupt line
 *     fake_driver_start(&drv, FAKE_FEATURES, 64);               up to DRIVER_OK
 *     gpa_t buf = fake_alloc(&drv, 4096, 16);
 *     fake_put_desc(&drv.queues[0], 0, buf, 4096, FAKE_WRITE, 0);
 *     fake_offer(&drv.queues[0], 0);                            fake_kick() tells the device
 *     fake_kick(&drv, 0);
 *     CHECK(fake_wait_used(&drv, 0, &id, &len));
 *     fake_driver_fini(&drv);                                   after the loop stopped
 *
 * One test thread drives it; interrupts may come from any thread.
 */
#pragma once

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "dev/bus/device.h"
#include "dev/bus/irq.h"
#include "dev/virtio/mmio.h"
#include "dev/virtio/queue.h"
#include "dev/virtio/virtio.h"
#include "mem/map.h"
#include "tests/lib/test.h"

#define FAKE_MEM_BYTES (16 * MIB)
#define FAKE_FEATURES  VIRTIO_F_VERSION_1

#define FAKE_NEXT     1u
#define FAKE_WRITE    2u
#define FAKE_INDIRECT 4u

struct fake_queue {
    struct mem_map *mem;
    uint16_t size;
    gpa_t desc;
    gpa_t avail;
    gpa_t used;
    uint16_t avail_idx; /* what we published */
    uint16_t used_seen; /* what we took back */
};

struct fake_driver {
    struct mem_map *mem;
    gpa_t brk; /* next free byte of RAM */
    struct virtio_dev *virtio;
    struct device *mmio;
    atomic_uint irq_count;
    sem_t irq;
    struct fake_queue queues[VIRTIO_QUEUE_MAX];
};

static inline void fake_driver_init(struct fake_driver *drv)
{
    struct err err = {0};

    memset(drv, 0, sizeof(*drv));
    drv->mem = mem_map_new();
    CHECK(drv->mem != NULL);
    CHECK_OK(mem_map_add(drv->mem, GPA(0), FAKE_MEM_BYTES, &err), &err);
    drv->brk = GPA(0x1000);
    CHECK_INT(sem_init(&drv->irq, 0, 0), 0);
}

/* Frees the transport and with it the device. */
static inline void fake_driver_fini(struct fake_driver *drv)
{
    device_free(drv->mmio);
    mem_map_free(drv->mem);
    (void)sem_destroy(&drv->irq);
}

static inline gpa_t fake_alloc(struct fake_driver *drv, uint64_t len, uint64_t align)
{
    gpa_t at = GPA(align_up(drv->brk.v, align));

    CHECK(range_within(at.v, len, FAKE_MEM_BYTES));
    drv->brk = GPA(at.v + len);
    return at;
}

/* Host address of guest RAM, for filling and comparing. */
static inline void *fake_ptr(struct fake_driver *drv, gpa_t gpa, uint64_t len)
{
    void *host = mem_ptr(drv->mem, gpa, len);

    CHECK(host != NULL);
    return host;
}

static inline void fake_irq_pulse(void *owner, unsigned line)
{
    struct fake_driver *drv = owner;

    (void)line;
    atomic_fetch_add(&drv->irq_count, 1);
    (void)sem_post(&drv->irq);
}

static inline void fake_irq_set(void *owner, unsigned line, bool level)
{
    if (level) {
        fake_irq_pulse(owner, line);
    }
}

static inline struct irq_line fake_irq_line(struct fake_driver *drv)
{
    return (struct irq_line){.set = fake_irq_set, .pulse = fake_irq_pulse, .owner = drv};
}

static inline void fake_driver_attach(struct fake_driver *drv, struct virtio_dev *virtio)
{
    struct irq_line irq = fake_irq_line(drv);
    struct err err = {0};

    drv->virtio = virtio;
    CHECK_OK(virtio_mmio_new(virtio, &irq, &drv->mmio, &err), &err);
}

static inline uint32_t fake_reg_read(struct fake_driver *drv, uint64_t offset)
{
    uint32_t value = 0xdeadbeef;

    drv->mmio->ops->read(drv->mmio, offset, &value, sizeof(value));
    return value;
}

static inline void fake_reg_write(struct fake_driver *drv, uint64_t offset, uint32_t value)
{
    drv->mmio->ops->write(drv->mmio, offset, &value, sizeof(value));
}

/* Make room for the three areas of a queue of `size`. */
static inline void fake_queue_place(struct fake_driver *drv, unsigned index, uint16_t size)
{
    drv->queues[index] = (struct fake_queue){
        .mem = drv->mem,
        .size = size,
        .desc = fake_alloc(drv, 16u * size, 16),
        .avail = fake_alloc(drv, 6 + 2u * size, 2),
        .used = fake_alloc(drv, 6 + 8u * size, 4),
    };
    memset(fake_ptr(drv, drv->queues[index].desc, 16u * size), 0, 16u * size);
    memset(fake_ptr(drv, drv->queues[index].avail, 6 + 2u * size), 0, 6 + 2u * size);
    memset(fake_ptr(drv, drv->queues[index].used, 6 + 8u * size), 0, 6 + 8u * size);
}

/* A device's queue on the same areas, without a device. */
static inline struct virtq fake_virtq(const struct fake_queue *q)
{
    return (struct virtq){
        .mem = q->mem, .size = q->size, .desc = q->desc, .avail = q->avail, .used = q->used};
}

static inline void fake_status_add(struct fake_driver *drv, uint32_t bit)
{
    fake_reg_write(drv, 0x070, fake_reg_read(drv, 0x070) | bit);
}

static inline void fake_features_write(struct fake_driver *drv, uint64_t features)
{
    fake_reg_write(drv, 0x024, 0);
    fake_reg_write(drv, 0x020, (uint32_t)features);
    fake_reg_write(drv, 0x024, 1);
    fake_reg_write(drv, 0x020, (uint32_t)(features >> 32));
}

static inline uint64_t fake_features_read(struct fake_driver *drv)
{
    uint64_t low;

    fake_reg_write(drv, 0x014, 0);
    low = fake_reg_read(drv, 0x010);
    fake_reg_write(drv, 0x014, 1);
    return low | (uint64_t)fake_reg_read(drv, 0x010) << 32;
}

/* Tell the device about a placed queue; returns what QueueReady then reads. */
static inline uint32_t fake_queue_ready(struct fake_driver *drv, unsigned index)
{
    const struct fake_queue *q = &drv->queues[index];

    fake_reg_write(drv, 0x030, index);
    fake_reg_write(drv, 0x038, q->size);
    fake_reg_write(drv, 0x080, (uint32_t)q->desc.v);
    fake_reg_write(drv, 0x084, (uint32_t)(q->desc.v >> 32));
    fake_reg_write(drv, 0x090, (uint32_t)q->avail.v);
    fake_reg_write(drv, 0x094, (uint32_t)(q->avail.v >> 32));
    fake_reg_write(drv, 0x0a0, (uint32_t)q->used.v);
    fake_reg_write(drv, 0x0a4, (uint32_t)(q->used.v >> 32));
    fake_reg_write(drv, 0x044, 1);
    return fake_reg_read(drv, 0x044);
}

/* From reset to DRIVER_OK, all queues with `size` entries. */
static inline void fake_driver_start(struct fake_driver *drv, uint64_t features, uint16_t size)
{
    fake_reg_write(drv, 0x070, 0);
    CHECK_INT(fake_reg_read(drv, 0x070), 0);
    fake_status_add(drv, VIRTIO_STATUS_ACKNOWLEDGE);
    fake_status_add(drv, VIRTIO_STATUS_DRIVER);
    fake_features_write(drv, features);
    fake_status_add(drv, VIRTIO_STATUS_FEATURES_OK);
    CHECK(fake_reg_read(drv, 0x070) & VIRTIO_STATUS_FEATURES_OK);
    for (unsigned i = 0; i < drv->virtio->queue_count; i++) {
        fake_queue_place(drv, i, size);
        CHECK_INT(fake_queue_ready(drv, i), 1);
    }
    fake_status_add(drv, VIRTIO_STATUS_DRIVER_OK);
    CHECK(fake_reg_read(drv, 0x070) & VIRTIO_STATUS_DRIVER_OK);
}

static inline void fake_write_desc(struct mem_map *mem, gpa_t table, unsigned slot, gpa_t addr,
                                   uint32_t len, uint16_t flags, uint16_t next)
{
    uint8_t raw[16];

    store_le64(raw, addr.v);
    store_le32(raw + 8, len);
    store_le16(raw + 12, flags);
    store_le16(raw + 14, next);
    CHECK_INT(mem_write(mem, GPA(table.v + 16u * slot), raw, sizeof(raw)), 0);
}

static inline void fake_put_desc(struct fake_queue *q, unsigned slot, gpa_t addr, uint32_t len,
                                 uint16_t flags, uint16_t next)
{
    fake_write_desc(q->mem, q->desc, slot, addr, len, flags, next);
}

/* Offer the chain that starts at descriptor `head`.  Does not notify. */
static inline void fake_offer(struct fake_queue *q, uint16_t head)
{
    uint8_t *avail = mem_ptr(q->mem, q->avail, 6 + 2u * q->size);

    store_le16(avail + 4 + 2u * (q->avail_idx % q->size), head);
    q->avail_idx++;
    __atomic_store_n((uint16_t *)(void *)(avail + 2), q->avail_idx, __ATOMIC_SEQ_CST);
}

/* Take one finished chain, if there is one. */
static inline bool fake_take_used(struct fake_queue *q, uint32_t *ret_id, uint32_t *ret_len)
{
    const uint8_t *used = mem_ptr(q->mem, q->used, 6 + 8u * q->size);
    const uint8_t *slot = used + 4 + 8u * (q->used_seen % q->size);

    if (__atomic_load_n((const uint16_t *)(const void *)(used + 2), __ATOMIC_SEQ_CST) ==
        q->used_seen) {
        return false;
    }
    *ret_id = load_le32(slot);
    *ret_len = load_le32(slot + 4);
    q->used_seen++;
    return true;
}

/* With EVENT_IDX: interrupt us when used.idx steps over `index`. */
static inline void fake_want_irq_at(struct fake_queue *q, uint16_t index)
{
    uint8_t *avail = mem_ptr(q->mem, q->avail, 6 + 2u * q->size);

    __atomic_store_n((uint16_t *)(void *)(avail + 4 + 2u * q->size), index, __ATOMIC_SEQ_CST);
}

/* Ask for an interrupt with the next finished chain; true if one is there already. */
static inline bool fake_arm_irq(struct fake_queue *q)
{
    const uint8_t *used = mem_ptr(q->mem, q->used, 6 + 8u * q->size);

    fake_want_irq_at(q, q->used_seen);
    return __atomic_load_n((const uint16_t *)(const void *)(used + 2), __ATOMIC_SEQ_CST) !=
           q->used_seen;
}

/* With EVENT_IDX: at which available index does the device want to be notified? */
static inline uint16_t fake_wanted_kick(struct fake_queue *q)
{
    const uint8_t *used = mem_ptr(q->mem, q->used, 6 + 8u * q->size);

    return load_le16(used + 4 + 8u * q->size);
}

static inline void fake_kick(struct fake_driver *drv, unsigned index)
{
    fake_reg_write(drv, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

/* Wait for an interrupt, at most `ms`. */
static inline bool fake_wait_irq(struct fake_driver *drv, unsigned ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (ms % 1000) * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    return sem_timedwait(&drv->irq, &until) == 0;
}

/* Wait up to five seconds for a finished chain; looks without an interrupt too. */
static inline bool fake_wait_used(struct fake_driver *drv, unsigned index, uint32_t *ret_id,
                                  uint32_t *ret_len)
{
    for (unsigned tries = 0; tries < 1000; tries++) {
        if (fake_take_used(&drv->queues[index], ret_id, ret_len)) {
            return true;
        }
        if (!fake_arm_irq(&drv->queues[index])) {
            (void)fake_wait_irq(drv, 5);
        }
    }
    return false;
}
