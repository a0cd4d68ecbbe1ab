/* mmio.c — the virtio-mmio transport, version 2: registers of virtio 1.2, 4.2.2.
 *
 * All registers below 0x100 are 32 bits wide and aligned; other accesses read 0 and write nothing.
 * From 0x100 on is the device's configuration, in any width.
 */
#include "dev/virtio/mmio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/virtio_int.h"
#include "state/state.h"

enum reg {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_DEVICE_ID = 0x008,
    REG_VENDOR_ID = 0x00c,
    REG_DEVICE_FEATURES = 0x010,
    REG_DEVICE_FEATURES_SEL = 0x014,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_NUM_MAX = 0x034,
    REG_QUEUE_NUM = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = VIRTIO_MMIO_QUEUE_NOTIFY,
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC_LOW = 0x080,
    REG_QUEUE_DESC_HIGH = 0x084,
    REG_QUEUE_DRIVER_LOW = 0x090,
    REG_QUEUE_DRIVER_HIGH = 0x094,
    REG_QUEUE_DEVICE_LOW = 0x0a0,
    REG_QUEUE_DEVICE_HIGH = 0x0a4,
    REG_SHM_LEN_LOW = 0x0b0,
    REG_SHM_LEN_HIGH = 0x0b4,
    REG_SHM_BASE_LOW = 0x0b8,
    REG_SHM_BASE_HIGH = 0x0bc,
    REG_CONFIG_GENERATION = 0x0fc,
    REG_CONFIG = 0x100,
};

#define MAGIC_VALUE 0x74726976u /* "virt" */
#define VENDOR_ID   0u          /* what clients of the microVM interface see */

struct virtio_mmio {
    struct device base;
    struct device_ops ops; /* base's table: its kind is that of the wrapped device */
    struct virtio_dev *dev;
    struct irq_line irq;
    /* Under dev->lock. */
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint32_t queue_sel;
};

static struct virtio_mmio *mmio_of(struct device *base)
{
    return container_of(base, struct virtio_mmio, base);
}

static const struct virtq *selected(const struct virtio_mmio *m)
{
    return m->queue_sel < m->dev->queue_count ? &m->dev->queues[m->queue_sel] : NULL;
}

static uint32_t read_reg(struct virtio_mmio *m, uint64_t offset)
{
    const struct virtio_dev *dev = m->dev;
    const struct virtq *q = selected(m);

    switch (offset) {
    case REG_MAGIC: return MAGIC_VALUE;
    case REG_VERSION: return 2;
    case REG_DEVICE_ID: return dev->ops->id;
    case REG_VENDOR_ID: return VENDOR_ID;
    case REG_DEVICE_FEATURES: return virtio_features_offered(dev, m->device_features_sel);
    case REG_QUEUE_NUM_MAX: return q ? dev->queue_size_max : 0;
    case REG_QUEUE_READY: return q && q->is_enabled;
    case REG_INTERRUPT_STATUS: return virtio_isr_get(dev);
    case REG_STATUS: return virtio_status_get(dev);
    /* there are no shared memory regions: 4.2.2 has length and base read as -1 */
    case REG_SHM_LEN_LOW:
    case REG_SHM_LEN_HIGH:
    case REG_SHM_BASE_LOW:
    case REG_SHM_BASE_HIGH: return UINT32_MAX;
    case REG_CONFIG_GENERATION: return __atomic_load_n(&dev->config_generation, __ATOMIC_ACQUIRE);
    default: return 0;
    }
}

static void set_low(gpa_t *gpa, uint32_t value)
{
    gpa->v = (gpa->v & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(gpa_t *gpa, uint32_t value)
{
    gpa->v = (gpa->v & UINT32_MAX) | (uint64_t)value << 32;
}

/* Size and addresses of the selected queue, while it may still be configured. */
static void write_queue_reg(struct virtio_mmio *m, uint64_t offset, uint32_t value)
{
    struct virtq *q = &m->dev->queues[m->queue_sel % VIRTIO_QUEUE_MAX];

    if (!virtio_queue_is_open(m->dev, m->queue_sel)) {
        return;
    }
    switch (offset) {
    case REG_QUEUE_NUM:
        /* guest: 0 is what virtq_enable() refuses */
        q->size = value <= m->dev->queue_size_max ? (uint16_t)value : 0;
        break;
    case REG_QUEUE_DESC_LOW: set_low(&q->desc, value); break;
    case REG_QUEUE_DESC_HIGH: set_high(&q->desc, value); break;
    case REG_QUEUE_DRIVER_LOW: set_low(&q->avail, value); break;
    case REG_QUEUE_DRIVER_HIGH: set_high(&q->avail, value); break;
    case REG_QUEUE_DEVICE_LOW: set_low(&q->used, value); break;
    case REG_QUEUE_DEVICE_HIGH: set_high(&q->used, value); break;
    default: break;
    }
}

static void write_reg(struct virtio_mmio *m, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case REG_DEVICE_FEATURES_SEL: m->device_features_sel = value; break;
    case REG_DRIVER_FEATURES: virtio_features_accept(m->dev, m->driver_features_sel, value); break;
    case REG_DRIVER_FEATURES_SEL: m->driver_features_sel = value; break;
    case REG_QUEUE_SEL: m->queue_sel = value; break;
    case REG_QUEUE_READY: virtio_queue_set_ready(m->dev, m->queue_sel, value & 1); break;
    case REG_QUEUE_NOTIFY: virtio_queue_kick(m->dev, value); break;
    case REG_INTERRUPT_ACK: virtio_isr_ack(m->dev, value); break;
    case REG_STATUS:
        virtio_status_set(m->dev, value);
        if (value == 0) {
            m->device_features_sel = 0;
            m->driver_features_sel = 0;
            m->queue_sel = 0;
        }
        break;
    default: write_queue_reg(m, offset, value); break;
    }
}

static bool is_reg(uint64_t offset, unsigned len)
{
    return len == 4 && offset % 4 == 0;
}

static void mmio_read(struct device *base, uint64_t offset, void *data, unsigned len)
{
    struct virtio_mmio *m = mmio_of(base);

    memset(data, 0, len);
    (void)pthread_mutex_lock(&m->dev->lock);
    if (offset >= REG_CONFIG) {
        m->dev->ops->config_read(m->dev, offset - REG_CONFIG, data, len);
    } else if (is_reg(offset, len)) {
        store_le32(data, read_reg(m, offset));
    }
    (void)pthread_mutex_unlock(&m->dev->lock);
}

static void mmio_write(struct device *base, uint64_t offset, const void *data, unsigned len)
{
    struct virtio_mmio *m = mmio_of(base);

    (void)pthread_mutex_lock(&m->dev->lock);
    if (offset >= REG_CONFIG) {
        m->dev->ops->config_write(m->dev, offset - REG_CONFIG, data, len);
    } else if (is_reg(offset, len)) {
        write_reg(m, offset, load_le32(data));
    }
    (void)pthread_mutex_unlock(&m->dev->lock);
}

/* The line is an edge: each cause pulses, the status says what for. */
static void mmio_raise(void *transport, unsigned source)
{
    (void)source;
    irq_pulse(&((struct virtio_mmio *)transport)->irq);
}

static void selectors(struct virtio_mmio *m, struct state *s)
{
    STATE(s, m->device_features_sel);
    STATE(s, m->driver_features_sel);
    STATE(s, m->queue_sel);
}

static void mmio_save(struct device *base, struct state *s)
{
    selectors(mmio_of(base), s);
    virtio_dev_save(mmio_of(base)->dev, s);
}

static void mmio_load(struct device *base, struct state *s)
{
    selectors(mmio_of(base), s);
    virtio_dev_load(mmio_of(base)->dev, s);
}

static void mmio_free(struct device *base)
{
    struct virtio_mmio *m = base ? mmio_of(base) : NULL;

    if (m) {
        m->dev->ops->free(m->dev);
        free(m);
    }
}

int virtio_mmio_new(struct virtio_dev *dev, const struct irq_line *irq, struct device **ret_device,
                    struct err *err)
{
    struct virtio_mmio *m = calloc(1, sizeof(*m));

    if (!m) {
        int r = err_set(err, -ENOMEM, "%s: out of memory", dev->ops->kind);

        dev->ops->free(dev);
        return r;
    }
    m->ops = (struct device_ops){.kind = dev->ops->kind,
                                 .read = mmio_read,
                                 .write = mmio_write,
                                 .free = mmio_free,
                                 .save = mmio_save,
                                 .load = mmio_load};
    m->base.ops = &m->ops;
    m->dev = dev;
    m->irq = *irq;
    dev->raise = mmio_raise;
    dev->transport = m;
    *ret_device = &m->base;
    return 0;
}
