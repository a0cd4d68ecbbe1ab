/* pci.c — the virtio-pci transport: registers of virtio 1.2, 4.1.4. */
#include "dev/virtio/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/pci/msix.h"
#include "dev/virtio/virtio_int.h"
#include "state/state.h"

/* 4.1.2: ids; the class by what the device is. */
#define VENDOR_ID   0x1af4
#define DEVICE_BASE 0x1040
#define REVISION    1
#define CLASS_BLOCK 0x018000u /* mass storage, other */
#define CLASS_NET   0x020000u
#define CLASS_OTHER 0xff0000u

/* Regions of the BAR. */
#define BAR_COMMON 0x0000u
#define BAR_ISR    0x2000u
#define BAR_DEVICE 0x4000u
#define BAR_NOTIFY VIRTIO_PCI_NOTIFY
#define BAR_TABLE  0x8000u
#define BAR_PBA    0x48000u

#define DEVICE_BYTES 0x1000u
#define NOTIFY_BYTES 0x1000u
#define PBA_BYTES    8u

/* 4.1.4: types of our capabilities, and their layout. */
enum cap_type { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };
#define CAP_BYTES        16u
#define CAP_NOTIFY_BYTES 20u /* with the multiplier */
#define CAP_PCI_BYTES    20u /* with the data window */
#define CAP_AT_LEN       2
#define CAP_AT_TYPE      3
#define CAP_AT_BAR       4
#define CAP_AT_OFFSET    8
#define CAP_AT_LENGTH    12
#define CAP_AT_EXTRA     16

/* 4.1.4.3: the common configuration. */
enum common {
    COMMON_DEVICE_FEATURE_SELECT = 0,
    COMMON_DEVICE_FEATURE = 4,
    COMMON_DRIVER_FEATURE_SELECT = 8,
    COMMON_DRIVER_FEATURE = 12,
    COMMON_CONFIG_VECTOR = 16,
    COMMON_QUEUE_COUNT = 18,
    COMMON_STATUS = 20,
    COMMON_GENERATION = 21,
    COMMON_QUEUE_SELECT = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_VECTOR = 26,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY = 30,
    COMMON_QUEUE_DESC = 32,
    COMMON_QUEUE_DRIVER = 40,
    COMMON_QUEUE_DEVICE = 48,
    COMMON_BYTES = 56,
};

struct virtio_pci {
    struct pci_function base;
    struct pci_ops ops; /* base's table: its kind is that of the wrapped device */
    struct virtio_dev *dev;
    struct msix msix;
    struct doorbell_port doorbells;
    gpa_t bound;      /* where they are; under the bus's lock */
    unsigned at_msix; /* capabilities in the configuration space */
    unsigned at_pci;
    /* The vectors: atomic, since interrupts are raised without the device's lock.
     * [VIRTIO_SOURCE_CONFIG] is the configuration's. */
    uint16_t vectors[VIRTIO_QUEUE_MAX + 1];
    /* Under dev->lock. */
    uint32_t device_feature_select;
    uint32_t driver_feature_select;
    uint16_t queue_select;
};

static struct virtio_pci *pci_of(struct pci_function *fn)
{
    return container_of(fn, struct virtio_pci, base);
}

/* --- interrupts --- */

static void on_raise(void *transport, unsigned source)
{
    struct virtio_pci *p = transport;

    msix_raise(&p->msix, __atomic_load_n(&p->vectors[source], __ATOMIC_ACQUIRE));
}

/* 4.1.5.1.2: a vector that does not exist leaves NO_VECTOR, which the driver reads back. */
static void set_vector(struct virtio_pci *p, unsigned source, uint32_t vector)
{
    __atomic_store_n(&p->vectors[source],
                     vector < p->msix.count ? (uint16_t)vector : (uint16_t)MSIX_NO_VECTOR,
                     __ATOMIC_RELEASE);
}

static void reset_vectors(struct virtio_pci *p)
{
    for (unsigned i = 0; i <= VIRTIO_QUEUE_MAX; i++) {
        set_vector(p, i, MSIX_NO_VECTOR);
    }
}

/* --- common configuration; the device's lock is held --- */

static const struct virtq *selected(const struct virtio_pci *p)
{
    return p->queue_select < p->dev->queue_count ? &p->dev->queues[p->queue_select] : NULL;
}

/* Size of the selected queue: what the driver chose, else the most. */
static uint32_t queue_size(const struct virtio_pci *p)
{
    const struct virtq *q = selected(p);

    if (!q) {
        return 0;
    }
    return q->size ? q->size : p->dev->queue_size_max;
}

static uint64_t read_queue_address(const struct virtio_pci *p, unsigned reg)
{
    const struct virtq *q = selected(p);

    if (!q) {
        return 0;
    }
    switch (reg & ~7u) {
    case COMMON_QUEUE_DESC: return q->desc.v;
    case COMMON_QUEUE_DRIVER: return q->avail.v;
    default: return q->used.v;
    }
}

/* The register that begins at `reg`. */
static uint32_t read_common_reg(const struct virtio_pci *p, unsigned reg)
{
    const struct virtio_dev *dev = p->dev;
    const struct virtq *q = selected(p);

    switch (reg) {
    case COMMON_DEVICE_FEATURE_SELECT: return p->device_feature_select;
    case COMMON_DEVICE_FEATURE: return virtio_features_offered(dev, p->device_feature_select);
    case COMMON_DRIVER_FEATURE_SELECT: return p->driver_feature_select;
    case COMMON_DRIVER_FEATURE:
        return p->driver_feature_select < 2
                   ? (uint32_t)(dev->features_acked >> (32 * p->driver_feature_select))
                   : 0;
    case COMMON_CONFIG_VECTOR: return p->vectors[VIRTIO_SOURCE_CONFIG];
    case COMMON_QUEUE_COUNT: return dev->queue_count;
    case COMMON_STATUS: return virtio_status_get(dev);
    case COMMON_GENERATION: return __atomic_load_n(&dev->config_generation, __ATOMIC_ACQUIRE);
    case COMMON_QUEUE_SELECT: return p->queue_select;
    case COMMON_QUEUE_SIZE: return queue_size(p);
    case COMMON_QUEUE_VECTOR: return q ? p->vectors[p->queue_select] : MSIX_NO_VECTOR;
    case COMMON_QUEUE_ENABLE: return q && q->is_enabled;
    case COMMON_QUEUE_NOTIFY: return q ? p->queue_select : 0; /* times the stride */
    default: return 0;
    }
}

static void read_common(const struct virtio_pci *p, uint64_t offset, uint8_t *data, unsigned len)
{
    uint8_t bytes[8] = {0};

    if (offset >= COMMON_QUEUE_DESC) {
        store_le64(bytes, read_queue_address(p, (unsigned)offset) >> (offset % 8 * 8));
    } else {
        store_le32(bytes, read_common_reg(p, (unsigned)offset));
    }
    memcpy(data, bytes, len);
}

static void write_queue_address(struct virtio_pci *p, unsigned reg, uint64_t value, unsigned len)
{
    struct virtq *q = &p->dev->queues[p->queue_select % VIRTIO_QUEUE_MAX];
    gpa_t *gpa;
    unsigned shift = reg % 8 * 8;
    uint64_t mask = len == 8 ? UINT64_MAX : (uint64_t)UINT32_MAX << shift;

    if (!virtio_queue_is_open(p->dev, p->queue_select) || (len != 8 && len != 4)) {
        return;
    }
    switch (reg & ~7u) {
    case COMMON_QUEUE_DESC: gpa = &q->desc; break;
    case COMMON_QUEUE_DRIVER: gpa = &q->avail; break;
    default: gpa = &q->used; break;
    }
    gpa->v = (gpa->v & ~mask) | (value << shift & mask);
}

static void write_queue_size(struct virtio_pci *p, uint32_t value)
{
    if (virtio_queue_is_open(p->dev, p->queue_select)) {
        /* guest: 0 is what virtq_enable() refuses */
        p->dev->queues[p->queue_select].size =
            value <= p->dev->queue_size_max ? (uint16_t)value : 0;
    }
}

/* A queue whose size the driver left alone has the most entries. */
static void enable_queue(struct virtio_pci *p)
{
    if (virtio_queue_is_open(p->dev, p->queue_select)) {
        p->dev->queues[p->queue_select].size = (uint16_t)queue_size(p);
        virtio_queue_set_ready(p->dev, p->queue_select, true);
    }
}

static void set_status(struct virtio_pci *p, uint32_t value)
{
    virtio_status_set(p->dev, value);
    if (value == 0) {
        p->device_feature_select = 0;
        p->driver_feature_select = 0;
        p->queue_select = 0;
        reset_vectors(p);
    }
}

static void write_common_reg(struct virtio_pci *p, unsigned reg, uint32_t value)
{
    switch (reg) {
    case COMMON_DEVICE_FEATURE_SELECT: p->device_feature_select = value; break;
    case COMMON_DRIVER_FEATURE_SELECT: p->driver_feature_select = value; break;
    case COMMON_DRIVER_FEATURE:
        virtio_features_accept(p->dev, p->driver_feature_select, value);
        break;
    case COMMON_CONFIG_VECTOR: set_vector(p, VIRTIO_SOURCE_CONFIG, value); break;
    case COMMON_STATUS: set_status(p, value); break;
    case COMMON_QUEUE_SELECT: p->queue_select = (uint16_t)value; break;
    case COMMON_QUEUE_SIZE: write_queue_size(p, value); break;
    case COMMON_QUEUE_VECTOR:
        if (selected(p)) {
            set_vector(p, p->queue_select, value);
        }
        break;
    case COMMON_QUEUE_ENABLE:
        if (value == 1) {
            enable_queue(p);
        }
        break;
    default: break;
    }
}

static void write_common(struct virtio_pci *p, uint64_t offset, const uint8_t *data, unsigned len)
{
    uint8_t bytes[8] = {0};

    memcpy(bytes, data, len);
    if (offset >= COMMON_QUEUE_DESC) {
        write_queue_address(p, (unsigned)offset, load_le64(bytes), len);
    } else {
        write_common_reg(p, (unsigned)offset, load_le32(bytes));
    }
}

/* --- the BAR --- */

static bool is_in(uint64_t offset, unsigned len, uint32_t start, uint32_t size)
{
    return range_within(offset - start, len, size);
}

static void bar_read(struct pci_function *fn, uint64_t offset, void *data, unsigned len)
{
    struct virtio_pci *p = pci_of(fn);

    memset(data, 0, len);
    if (is_in(offset, len, BAR_TABLE, p->msix.count * MSIX_ENTRY_BYTES)) {
        msix_table_read(&p->msix, offset - BAR_TABLE, data, len);
        return;
    }
    if (is_in(offset, len, BAR_PBA, PBA_BYTES)) {
        msix_pba_read(&p->msix, offset - BAR_PBA, data, len);
        return;
    }
    (void)pthread_mutex_lock(&p->dev->lock);
    if (is_in(offset, len, BAR_COMMON, COMMON_BYTES)) {
        read_common(p, offset - BAR_COMMON, data, len);
    } else if (offset == BAR_ISR) {
        /* 4.1.4.5: reading takes it */
        *(uint8_t *)data = (uint8_t)virtio_isr_get(p->dev);
        virtio_isr_ack(p->dev, *(uint8_t *)data);
    } else if (is_in(offset, len, BAR_DEVICE, DEVICE_BYTES)) {
        p->dev->ops->config_read(p->dev, offset - BAR_DEVICE, data, len);
    }
    (void)pthread_mutex_unlock(&p->dev->lock);
}

static void bar_write(struct pci_function *fn, uint64_t offset, const void *data, unsigned len)
{
    struct virtio_pci *p = pci_of(fn);

    if (is_in(offset, len, BAR_TABLE, p->msix.count * MSIX_ENTRY_BYTES)) {
        msix_table_write(&p->msix, offset - BAR_TABLE, data, len);
        return;
    }
    (void)pthread_mutex_lock(&p->dev->lock);
    if (is_in(offset, len, BAR_COMMON, COMMON_BYTES)) {
        write_common(p, offset - BAR_COMMON, data, len);
    } else if (is_in(offset, len, BAR_DEVICE, DEVICE_BYTES)) {
        p->dev->ops->config_write(p->dev, offset - BAR_DEVICE, data, len);
    } else if (is_in(offset, len, BAR_NOTIFY, NOTIFY_BYTES)) {
        /* by place, as the doorbells have it; what is written says the same */
        virtio_queue_kick(p->dev, (uint32_t)(offset - BAR_NOTIFY) / VIRTIO_PCI_NOTIFY_STRIDE);
    }
    (void)pthread_mutex_unlock(&p->dev->lock);
}

/* --- configuration space --- */

/* 4.1.4.9: a window to the BAR for firmware that maps no memory.  What the guest put into the
 * capability says where it looks. */
static bool pci_window(const struct virtio_pci *p, uint32_t *ret_offset, uint32_t *ret_len)
{
    const uint8_t *cap = p->base.config + p->at_pci;

    *ret_offset = load_le32(cap + CAP_AT_OFFSET);
    *ret_len = load_le32(cap + CAP_AT_LENGTH);
    return cap[CAP_AT_BAR] == 0 && (*ret_len == 1 || *ret_len == 2 || *ret_len == 4) &&
           *ret_offset % *ret_len == 0 && range_within(*ret_offset, *ret_len, p->base.bar_len);
}

static bool touches(unsigned offset, unsigned len, unsigned start, unsigned size)
{
    return offset < start + size && start < offset + len;
}

static void config_reading(struct pci_function *fn, unsigned offset, unsigned len)
{
    struct virtio_pci *p = pci_of(fn);
    uint32_t at;
    uint32_t size;

    if (touches(offset, len, p->at_pci + CAP_AT_EXTRA, 4) && pci_window(p, &at, &size)) {
        bar_read(fn, at, fn->config + p->at_pci + CAP_AT_EXTRA, size);
    }
}

/* Doorbells go where the BAR went. */
static void follow_bar(struct virtio_pci *p, bool is_mapped)
{
    gpa_t now = is_mapped ? pci_bar(&p->base) : GPA(VIRTIO_PCI_NOWHERE);

    if (now.v != p->bound.v && p->doorbells.move) {
        p->doorbells.move(p->doorbells.owner, p->dev, p->bound, now);
    }
    p->bound = now;
}

static bool is_mapped(const struct virtio_pci *p)
{
    return load_le16(p->base.config + PCI_REG_COMMAND) & PCI_COMMAND_MEMORY;
}

static void config_written(struct pci_function *fn, unsigned offset, unsigned len)
{
    struct virtio_pci *p = pci_of(fn);
    uint32_t at;
    uint32_t size;

    if (touches(offset, len, PCI_REG_COMMAND, 2) || touches(offset, len, PCI_REG_BAR0, 8)) {
        follow_bar(p, is_mapped(p));
    }
    if (touches(offset, len, p->at_msix + 2, 2)) {
        msix_control(&p->msix, load_le16(fn->config + p->at_msix + 2));
    }
    if (touches(offset, len, p->at_pci + CAP_AT_EXTRA, 4) && pci_window(p, &at, &size)) {
        bar_write(fn, at, fn->config + p->at_pci + CAP_AT_EXTRA, size);
    }
}

static void fields(struct pci_function *fn, struct state *s)
{
    struct virtio_pci *p = pci_of(fn);

    msix_fields(&p->msix, s);
    for (unsigned i = 0; i < ARRAY_LEN(p->vectors); i++) {
        STATE(s, p->vectors[i]);
    }
    STATE(s, p->device_feature_select);
    STATE(s, p->driver_feature_select);
    STATE(s, p->queue_select);
    if (s->is_loading) {
        follow_bar(p, is_mapped(p));
        virtio_dev_load(p->dev, s);
    } else {
        virtio_dev_save(p->dev, s);
    }
}

static unsigned put_cap(struct pci_function *fn, enum cap_type type, unsigned cap_len,
                        uint32_t offset, uint32_t length)
{
    unsigned at = pci_put_capability(fn, PCI_CAP_VENDOR, cap_len);

    fn->config[at + CAP_AT_LEN] = (uint8_t)cap_len;
    fn->config[at + CAP_AT_TYPE] = (uint8_t)type;
    store_le32(fn->config + at + CAP_AT_OFFSET, offset);
    store_le32(fn->config + at + CAP_AT_LENGTH, length);
    return at;
}

static void put_capabilities(struct virtio_pci *p)
{
    struct pci_function *fn = &p->base;
    unsigned at;

    (void)put_cap(fn, CAP_COMMON, CAP_BYTES, BAR_COMMON, COMMON_BYTES);
    (void)put_cap(fn, CAP_ISR, CAP_BYTES, BAR_ISR, 1);
    (void)put_cap(fn, CAP_DEVICE, CAP_BYTES, BAR_DEVICE, DEVICE_BYTES);
    at = put_cap(fn, CAP_NOTIFY, CAP_NOTIFY_BYTES, BAR_NOTIFY, NOTIFY_BYTES);
    store_le32(fn->config + at + CAP_AT_EXTRA, VIRTIO_PCI_NOTIFY_STRIDE);
    p->at_pci = put_cap(fn, CAP_PCI, CAP_PCI_BYTES, 0, 0);
    fn->writable[p->at_pci + CAP_AT_BAR] = 0xff;
    memset(fn->writable + p->at_pci + CAP_AT_OFFSET, 0xff, 12); /* offset, length, data */
    p->at_msix = msix_put_capability(&p->msix, fn, BAR_TABLE, BAR_PBA);
}

/* --- life --- */

static void pci_free(struct pci_function *fn)
{
    struct virtio_pci *p = pci_of(fn);

    p->dev->ops->free(p->dev);
    msix_fini(&p->msix);
    free(p);
}

void virtio_pci_stop(struct pci_function *fn)
{
    struct virtio_pci *p = pci_of(fn);

    (void)pthread_mutex_lock(&p->dev->lock);
    set_status(p, 0);
    (void)pthread_mutex_unlock(&p->dev->lock);
    follow_bar(p, false);
}

void virtio_pci_set_doorbells(struct pci_function *fn, const struct doorbell_port *port)
{
    pci_of(fn)->doorbells = *port;
}

static uint32_t class_of(enum virtio_id id)
{
    if (id == VIRTIO_ID_BLOCK) {
        return CLASS_BLOCK;
    }
    return id == VIRTIO_ID_NET ? CLASS_NET : CLASS_OTHER;
}

int virtio_pci_new(struct virtio_dev *dev, gpa_t bar, const struct msi_port *msi,
                   struct pci_function **ret_function, struct err *err)
{
    const struct pci_id id = {.vendor = VENDOR_ID,
                              .device = (uint16_t)(DEVICE_BASE + dev->ops->id),
                              .subsystem_vendor = VENDOR_ID,
                              .subsystem = (uint16_t)(DEVICE_BASE + dev->ops->id),
                              .revision = REVISION,
                              .class_code = class_of(dev->ops->id)};
    struct virtio_pci *p = calloc(1, sizeof(*p));

    if (!p) {
        int r = err_set(err, -ENOMEM, "%s: out of memory", dev->ops->kind);

        dev->ops->free(dev);
        return r;
    }
    p->ops = (struct pci_ops){.kind = dev->ops->kind,
                              .config_written = config_written,
                              .config_reading = config_reading,
                              .bar_read = bar_read,
                              .bar_write = bar_write,
                              .fields = fields,
                              .free = pci_free};
    p->dev = dev;
    p->bound = GPA(VIRTIO_PCI_NOWHERE);
    pci_function_init(&p->base, &p->ops, &id);
    pci_put_bar(&p->base, bar, VIRTIO_PCI_BAR_BYTES);
    msix_init(&p->msix, dev->queue_count + 1, msi);
    put_capabilities(p);
    reset_vectors(p);
    dev->raise = on_raise;
    dev->transport = p;
    *ret_function = &p->base;
    return 0;
}
