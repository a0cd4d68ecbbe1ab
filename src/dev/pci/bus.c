/* bus.c — the functions on the bus, and the guest's three ways to them.
 *
 * One lock for all: whatever may change where something lies (configuration space, coming, going)
 * holds it for writing, an access to a BAR for reading.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "dev/pci/pci.h"
#include "state/state.h"

/* What Firecracker's guests find at 00:00.0: the host bridge that Intel calls "PCI Express Root".
 */
#define BRIDGE_VENDOR 0x8086
#define BRIDGE_DEVICE 0x0d57
#define BRIDGE_CLASS  0x060000u

/* CONFIG_ADDRESS: chapter 3.2.2.3.2. */
#define ADDRESS_ENABLE BIT(31)

struct way {
    struct device dev;
    struct pci_bus *bus;
};

struct pci_bus {
    struct way ports, mmconfig, window;
    gpa_t window_start;
    struct pci_function bridge;
    pthread_rwlock_t lock; /* guards all below, and the functions' configuration spaces */
    struct pci_function *functions[PCI_SLOT_COUNT];
    uint32_t address; /* CONFIG_ADDRESS */
};

static struct pci_bus *bus_of(struct device *dev)
{
    return container_of(dev, struct way, dev)->bus;
}

/* --- configuration space --- */

/* `at`: bus, device, function and register as MMCONFIG has them.  NULL: there is nobody. */
static struct pci_function *function_at(struct pci_bus *bus, uint64_t at)
{
    uint64_t function = at >> 12;

    return function % 8 == 0 && function / 8 < PCI_SLOT_COUNT ? bus->functions[function / 8] : NULL;
}

/* Where nobody is, reads give all ones (chapter 6.1); behind the first 256 bytes of a function
 * there is nothing: zeros. */
static void config_read(struct pci_bus *bus, uint64_t at, uint8_t *data, unsigned len)
{
    struct pci_function *fn = function_at(bus, at);
    unsigned offset = (unsigned)(at & 0xfff);

    memset(data, fn ? 0 : 0xff, len);
    if (fn && offset < PCI_CONFIG_BYTES) {
        unsigned n = len < PCI_CONFIG_BYTES - offset ? len : PCI_CONFIG_BYTES - offset;

        if (fn->ops->config_reading) {
            fn->ops->config_reading(fn, offset, n);
        }
        memcpy(data, fn->config + offset, n);
    }
}

static void config_write(struct pci_bus *bus, uint64_t at, const uint8_t *data, unsigned len)
{
    struct pci_function *fn = function_at(bus, at);
    unsigned offset = (unsigned)(at & 0xfff);
    unsigned n;

    if (!fn || offset >= PCI_CONFIG_BYTES) {
        return;
    }
    n = len < PCI_CONFIG_BYTES - offset ? len : PCI_CONFIG_BYTES - offset;
    for (unsigned i = 0; i < n; i++) {
        uint8_t mask = fn->writable[offset + i];
        uint8_t *byte = &fn->config[offset + i];

        *byte = (uint8_t)((*byte & ~mask) | (data[i] & mask));
    }
    if (fn->ops->config_written) {
        fn->ops->config_written(fn, offset, n);
    }
}

static void mmconfig_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    struct pci_bus *bus = bus_of(dev);

    (void)pthread_rwlock_wrlock(&bus->lock);
    config_read(bus, offset, data, len);
    (void)pthread_rwlock_unlock(&bus->lock);
}

static void mmconfig_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    struct pci_bus *bus = bus_of(dev);

    (void)pthread_rwlock_wrlock(&bus->lock);
    config_write(bus, offset, data, len);
    (void)pthread_rwlock_unlock(&bus->lock);
}

/* --- ports --- */

/* What CONFIG_ADDRESS and a byte of CONFIG_DATA select, in the form of MMCONFIG; false: nothing.
 * Bits 27 to 24 are the register's high bits where a guest knows them (as on AMD's bridges). */
static bool selected(const struct pci_bus *bus, uint64_t byte, uint64_t *ret_at)
{
    uint32_t a = bus->address;

    if (!(a & ADDRESS_ENABLE) || (a & 0x00ff0000u)) { /* another bus */
        return false;
    }
    *ret_at = (uint64_t)(a >> 8 & 0xff) << 12 | (uint64_t)(a >> 24 & 0xf) << 8 | (a & 0xfc) | byte;
    return true;
}

static void ports_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    struct pci_bus *bus = bus_of(dev);
    uint64_t at;

    memset(data, 0xff, len);
    (void)pthread_rwlock_wrlock(&bus->lock);
    if (offset == 0 && len == 4) {
        store_le32(data, bus->address);
    } else if (offset >= 4 && selected(bus, offset - 4, &at)) {
        config_read(bus, at, data, len);
    }
    (void)pthread_rwlock_unlock(&bus->lock);
}

static void ports_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    struct pci_bus *bus = bus_of(dev);
    uint64_t at;

    (void)pthread_rwlock_wrlock(&bus->lock);
    if (offset == 0 && len == 4) {
        bus->address = load_le32(data);
    } else if (offset >= 4 && selected(bus, offset - 4, &at)) {
        config_write(bus, at, data, len);
    }
    (void)pthread_rwlock_unlock(&bus->lock);
}

/* --- memory --- */

/* The function whose BAR holds [offset, offset + len) of the window; NULL: none. */
static struct pci_function *function_in_window(const struct pci_bus *bus, uint64_t offset,
                                               unsigned len, uint64_t *ret_offset)
{
    uint64_t gpa = bus->window_start.v + offset;

    for (unsigned i = 1; i < PCI_SLOT_COUNT; i++) {
        struct pci_function *fn = bus->functions[i];

        if (fn && (fn->config[PCI_REG_COMMAND] & PCI_COMMAND_MEMORY) &&
            range_within(gpa - pci_bar(fn).v, len, fn->bar_len)) {
            *ret_offset = gpa - pci_bar(fn).v;
            return fn;
        }
    }
    return NULL;
}

static void window_read(struct device *dev, uint64_t offset, void *data, unsigned len)
{
    struct pci_bus *bus = bus_of(dev);
    struct pci_function *fn;
    uint64_t at;

    memset(data, 0xff, len);
    (void)pthread_rwlock_rdlock(&bus->lock);
    fn = function_in_window(bus, offset, len, &at);
    if (fn) {
        fn->ops->bar_read(fn, at, data, len);
    }
    (void)pthread_rwlock_unlock(&bus->lock);
}

static void window_write(struct device *dev, uint64_t offset, const void *data, unsigned len)
{
    struct pci_bus *bus = bus_of(dev);
    struct pci_function *fn;
    uint64_t at;

    (void)pthread_rwlock_rdlock(&bus->lock);
    fn = function_in_window(bus, offset, len, &at);
    if (fn) {
        fn->ops->bar_write(fn, at, data, len);
    }
    (void)pthread_rwlock_unlock(&bus->lock);
}

/* --- life --- */

static void stays(struct device *dev)
{
    (void)dev; /* the bus's */
}

static void bridge_stays(struct pci_function *fn)
{
    (void)fn;
}

static const struct device_ops ports_ops = {
    .kind = "pci-ports", .read = ports_read, .write = ports_write, .free = stays};
static const struct device_ops mmconfig_ops = {
    .kind = "pci-mmconfig", .read = mmconfig_read, .write = mmconfig_write, .free = stays};
static const struct device_ops window_ops = {
    .kind = "pci-window", .read = window_read, .write = window_write, .free = stays};
static const struct pci_ops bridge_ops = {.kind = "pci-host-bridge", .free = bridge_stays};

int pci_bus_new(gpa_t window, struct pci_bus **ret_bus, struct err *err)
{
    static const struct pci_id id = {
        .vendor = BRIDGE_VENDOR, .device = BRIDGE_DEVICE, .class_code = BRIDGE_CLASS};
    struct pci_bus *bus = calloc(1, sizeof(*bus));

    if (!bus) {
        return err_set(err, -ENOMEM, "PCI bus: out of memory");
    }
    bus->window_start = window;
    bus->ports = (struct way){{&ports_ops}, bus};
    bus->mmconfig = (struct way){{&mmconfig_ops}, bus};
    bus->window = (struct way){{&window_ops}, bus};
    (void)pthread_rwlock_init(&bus->lock, NULL);
    pci_function_init(&bus->bridge, &bridge_ops, &id);
    bus->functions[0] = &bus->bridge;
    *ret_bus = bus;
    return 0;
}

void pci_bus_free(struct pci_bus *bus)
{
    if (!bus) {
        return;
    }
    for (unsigned i = 0; i < PCI_SLOT_COUNT; i++) {
        if (bus->functions[i]) {
            bus->functions[i]->ops->free(bus->functions[i]);
        }
    }
    (void)pthread_rwlock_destroy(&bus->lock);
    free(bus);
}

struct device *pci_bus_ports(struct pci_bus *bus)
{
    return &bus->ports.dev;
}

struct device *pci_bus_mmconfig(struct pci_bus *bus)
{
    return &bus->mmconfig.dev;
}

struct device *pci_bus_window(struct pci_bus *bus)
{
    return &bus->window.dev;
}

void pci_bus_fields(struct pci_bus *bus, struct state *s)
{
    STATE(s, bus->address);
}

int pci_bus_free_slot(struct pci_bus *bus)
{
    int slot = -ENOSPC;

    (void)pthread_rwlock_rdlock(&bus->lock);
    for (int i = 1; i < (int)PCI_SLOT_COUNT && slot < 0; i++) {
        slot = bus->functions[i] ? slot : i;
    }
    (void)pthread_rwlock_unlock(&bus->lock);
    return slot;
}

bool pci_bus_is_free(struct pci_bus *bus, unsigned slot)
{
    bool is_free;

    (void)pthread_rwlock_rdlock(&bus->lock);
    is_free = slot < PCI_SLOT_COUNT && !bus->functions[slot];
    (void)pthread_rwlock_unlock(&bus->lock);
    return is_free;
}

void pci_bus_add(struct pci_bus *bus, unsigned slot, struct pci_function *fn)
{
    (void)pthread_rwlock_wrlock(&bus->lock);
    bus->functions[slot] = fn;
    (void)pthread_rwlock_unlock(&bus->lock);
}

void pci_bus_remove(struct pci_bus *bus, struct pci_function *fn)
{
    (void)pthread_rwlock_wrlock(&bus->lock);
    for (unsigned i = 1; i < PCI_SLOT_COUNT; i++) {
        if (bus->functions[i] == fn) {
            bus->functions[i] = NULL;
        }
    }
    (void)pthread_rwlock_unlock(&bus->lock);
}
