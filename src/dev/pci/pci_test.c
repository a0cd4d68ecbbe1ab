/* pci_test.c — a guest finds, sizes, moves and uses functions, and interrupts reach it when they
 * may. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "dev/pci/msix.h"
#include "dev/pci/pci.h"
#include "tests/lib/test.h"

#define WINDOW  UINT64_C(0x4000000000)
#define BAR_LEN UINT64_C(0x1000)

struct toy {
    struct pci_function base;
    unsigned cap;
    uint64_t last_write;
    unsigned write_count;
    unsigned written_at, written_len;
};

static unsigned g_freed;

static struct toy *toy_of(struct pci_function *fn)
{
    return container_of(fn, struct toy, base);
}

static void toy_written(struct pci_function *fn, unsigned offset, unsigned len)
{
    toy_of(fn)->written_at = offset;
    toy_of(fn)->written_len = len;
}

static void toy_reading(struct pci_function *fn, unsigned offset, unsigned len)
{
    if (offset <= 0xf0 && 0xf0 < offset + len) {
        fn->config[0xf0]++;
    }
}

static void toy_bar_read(struct pci_function *fn, uint64_t offset, void *data, unsigned len)
{
    (void)fn;
    memset(data, (int)offset, len);
}

static void toy_bar_write(struct pci_function *fn, uint64_t offset, const void *data, unsigned len)
{
    toy_of(fn)->last_write = offset << 32;
    memcpy(&toy_of(fn)->last_write, data, len < 4 ? len : 4);
    toy_of(fn)->write_count++;
}

static void toy_free(struct pci_function *fn)
{
    g_freed++;
    free(toy_of(fn));
}

static const struct pci_ops toy_ops = {.kind = "toy",
                                       .config_written = toy_written,
                                       .config_reading = toy_reading,
                                       .bar_read = toy_bar_read,
                                       .bar_write = toy_bar_write,
                                       .free = toy_free};

struct rig {
    struct pci_bus *bus;
    struct toy *toy; /* in slot 1 */
};

static struct toy *toy_new(gpa_t bar)
{
    static const struct pci_id id = {.vendor = 0x1234,
                                     .device = 0x5678,
                                     .subsystem_vendor = 0x9abc,
                                     .subsystem = 0xdef0,
                                     .revision = 3,
                                     .class_code = 0x010203};
    struct toy *toy = calloc(1, sizeof(*toy));

    CHECK(toy != NULL);
    pci_function_init(&toy->base, &toy_ops, &id);
    pci_put_bar(&toy->base, bar, BAR_LEN);
    toy->cap = pci_put_capability(&toy->base, PCI_CAP_VENDOR, 5);
    return toy;
}

static void rig_init(struct rig *g)
{
    struct err err = {0};

    CHECK_OK(pci_bus_new(GPA(WINDOW), &g->bus, &err), &err);
    g->toy = toy_new(GPA(WINDOW));
    CHECK_INT(pci_bus_free_slot(g->bus), 1);
    pci_bus_add(g->bus, 1, &g->toy->base);
}

static uint64_t get(struct device *dev, uint64_t offset, unsigned len)
{
    uint64_t value = 0;

    dev->ops->read(dev, offset, &value, len);
    return value;
}

static void put(struct device *dev, uint64_t offset, uint64_t value, unsigned len)
{
    dev->ops->write(dev, offset, &value, len);
}

static uint64_t config(struct rig *g, unsigned slot, unsigned reg, unsigned len)
{
    return get(pci_bus_mmconfig(g->bus), (uint64_t)slot << 15 | reg, len);
}

static void set_config(struct rig *g, unsigned slot, unsigned reg, uint64_t value, unsigned len)
{
    put(pci_bus_mmconfig(g->bus), (uint64_t)slot << 15 | reg, value, len);
}

TEST(pci, functions_are_found_where_they_are_and_nowhere_else)
{
    struct rig g;

    rig_init(&g);
    CHECK_INT(config(&g, 0, 0, 4), 0x0d578086);
    CHECK_INT(config(&g, 0, 0x08, 4), 0x06000000);
    CHECK_INT(config(&g, 1, 0, 4), 0x56781234);
    CHECK_INT(config(&g, 1, 0x08, 4), 0x01020303);
    CHECK_INT(config(&g, 1, 0x2c, 4), 0xdef09abc);
    CHECK_INT(config(&g, 1, 0x06, 2), PCI_STATUS_CAPABILITIES);
    CHECK_INT(config(&g, 1, 0x34, 1), g.toy->cap);
    CHECK_INT(config(&g, 1, g.toy->cap, 2), PCI_CAP_VENDOR);
    CHECK_INT(config(&g, 2, 0, 4), UINT32_MAX);
    CHECK_INT(get(pci_bus_mmconfig(g.bus), 1 << 15 | 1 << 12, 4), UINT32_MAX); /* 00:01.1 */
    CHECK_INT(config(&g, 1, 0x100, 4), 0); /* no extended capabilities */
    CHECK_INT(config(&g, 31, 0xffc, 4), UINT32_MAX);
    pci_bus_free(g.bus);
}

TEST(pci, ports_reach_the_same_registers)
{
    struct rig g;
    struct device *ports;

    rig_init(&g);
    ports = pci_bus_ports(g.bus);
    CHECK_INT(get(ports, 4, 4), UINT32_MAX); /* not enabled */
    put(ports, 0, 0x80000800, 4);
    CHECK_INT(get(ports, 0, 4), 0x80000800);
    CHECK_INT(get(ports, 4, 4), 0x56781234);
    CHECK_INT(get(ports, 6, 2), 0x5678);
    put(ports, 0, 0x80000904, 4); /* 00:01.1 */
    CHECK_INT(get(ports, 4, 4), UINT32_MAX);
    put(ports, 0, 0x80010800, 4); /* bus 1 */
    CHECK_INT(get(ports, 4, 4), UINT32_MAX);
    put(ports, 0, 0x80000804, 4);
    put(ports, 4, 0xffff, 2);
    CHECK_INT(config(&g, 1, 4, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
    put(ports, 0, 0xff, 1); /* the address has one width */
    CHECK_INT(get(ports, 0, 4), 0x80000804);
    pci_bus_free(g.bus);
}

TEST(pci, only_writable_bits_change)
{
    struct rig g;

    rig_init(&g);
    set_config(&g, 1, 0, 0, 8);
    set_config(&g, 1, 0x34, 0xff, 1);
    CHECK_INT(config(&g, 1, 0, 4), 0x56781234);
    CHECK_INT(config(&g, 1, 0x34, 1), g.toy->cap);
    CHECK_INT(g.toy->written_at, 0x34);
    CHECK_INT(g.toy->written_len, 1);
    CHECK_INT(config(&g, 1, 0xf0, 1), 1); /* filled in as it is read */
    CHECK_INT(config(&g, 1, 0xf0, 1), 2);
    set_config(&g, 1, 0xfe, UINT32_MAX, 4); /* across the end of what there is */
    CHECK_INT(g.toy->written_len, 2);
    pci_bus_free(g.bus);
}

TEST(pci, a_bar_is_sized_moved_and_switched_off)
{
    struct rig g;
    struct device *window;

    rig_init(&g);
    window = pci_bus_window(g.bus);
    CHECK_INT(get(window, 0x44, 1), 0xff); /* memory is not enabled yet */
    set_config(&g, 1, PCI_REG_COMMAND, PCI_COMMAND_MEMORY, 2);
    CHECK_INT(get(window, 0x44, 1), 0x44);
    CHECK_INT(get(window, BAR_LEN - 1, 1), 0xff);
    CHECK_INT(get(window, BAR_LEN - 2, 4), UINT32_MAX); /* half outside */
    CHECK_INT(get(window, BAR_LEN, 1), 0xff);

    CHECK_INT(config(&g, 1, PCI_REG_BAR0, 4), 4);
    set_config(&g, 1, PCI_REG_BAR0, UINT32_MAX, 4);
    set_config(&g, 1, PCI_REG_BAR0 + 4, UINT32_MAX, 4);
    CHECK(config(&g, 1, PCI_REG_BAR0, 8) == (~(BAR_LEN - 1) | 4));
    set_config(&g, 1, PCI_REG_BAR0, WINDOW + 0x2000, 8);
    CHECK_INT(get(window, 0x44, 1), 0xff);
    put(window, 0x2010, 0xabcd, 2);
    CHECK_INT(g.toy->write_count, 1);
    CHECK(g.toy->last_write == (UINT64_C(0x10) << 32 | 0xabcd));
    set_config(&g, 1, PCI_REG_COMMAND, 0, 2);
    put(window, 0x2010, 1, 2);
    CHECK_INT(g.toy->write_count, 1);
    pci_bus_free(g.bus);
}

TEST(pci, functions_come_and_go)
{
    struct rig g;
    struct toy *more[31];
    unsigned freed = g_freed;

    rig_init(&g);
    for (unsigned i = 2; i < PCI_SLOT_COUNT; i++) {
        CHECK_INT(pci_bus_free_slot(g.bus), i);
        more[i - 1] = toy_new(GPA(WINDOW + i * BAR_LEN));
        pci_bus_add(g.bus, i, &more[i - 1]->base);
    }
    CHECK_INT(pci_bus_free_slot(g.bus), -ENOSPC);
    pci_bus_remove(g.bus, &more[8]->base);
    CHECK_INT(config(&g, 9, 0, 4), UINT32_MAX);
    CHECK_INT(pci_bus_free_slot(g.bus), 9);
    toy_free(&more[8]->base);
    pci_bus_free(g.bus);
    CHECK_INT(g_freed - freed, 31);
}

/* --- MSI-X --- */

struct sent {
    unsigned count;
    uint64_t address;
    uint32_t data;
};

static void take(void *owner, uint64_t address, uint32_t data)
{
    struct sent *sent = owner;

    sent->count++;
    sent->address = address;
    sent->data = data;
}

static void table_put(struct msix *msix, uint64_t offset, uint64_t value, unsigned len)
{
    msix_table_write(msix, offset, &value, len);
}

TEST(msix, messages_go_out_when_nothing_masks_them)
{
    struct sent sent = {0};
    struct msi_port port = {.send = take, .owner = &sent};
    struct msix msix;
    uint64_t bits = 0;

    msix_init(&msix, 3, &port);
    msix_raise(&msix, 1); /* not enabled: lost, as an INTx that nobody has */
    table_put(&msix, 16, 0xfee01003, 8);
    table_put(&msix, 24, 0x4041, 4);
    msix_control(&msix, 0x8000);
    CHECK_INT(sent.count, 0);
    msix_raise(&msix, 1);
    CHECK_INT(sent.count, 0); /* its entry is masked */
    msix_pba_read(&msix, 0, &bits, 8);
    CHECK_INT(bits, 2);
    table_put(&msix, 28, 0, 4);
    CHECK_INT(sent.count, 1);
    CHECK_INT(sent.address, 0xfee01000); /* the lowest bits are not the guest's */
    CHECK_INT(sent.data, 0x4041);
    msix_raise(&msix, 1);
    CHECK_INT(sent.count, 2);
    msix_control(&msix, 0xc000);
    msix_raise(&msix, 1);
    msix_raise(&msix, 1);
    CHECK_INT(sent.count, 2);
    msix_control(&msix, 0x8000);
    CHECK_INT(sent.count, 3); /* one, however often it was raised */
    msix_raise(&msix, 3);
    msix_raise(&msix, MSIX_NO_VECTOR);
    CHECK_INT(sent.count, 3);
    msix_reset(&msix);
    msix_raise(&msix, 1);
    CHECK_INT(sent.count, 3);
    msix_fini(&msix);
}

TEST(msix, the_table_ends_where_it_ends)
{
    struct sent sent = {0};
    struct msi_port port = {.send = take, .owner = &sent};
    struct msix msix;
    uint64_t value;

    msix_init(&msix, 2, &port);
    table_put(&msix, 32, UINT64_MAX, 8);
    table_put(&msix, 28, UINT64_MAX, 8);
    table_put(&msix, 17, UINT64_MAX, 4);
    table_put(&msix, UINT64_MAX - 7, UINT64_MAX, 8);
    table_put(&msix, 16, UINT64_MAX, 2);
    for (unsigned i = 0; i < 2; i++) {
        value = UINT64_MAX;
        msix_table_read(&msix, 16 * i, &value, 8);
        CHECK_INT(value, 0);
        value = UINT64_MAX;
        msix_table_read(&msix, 16 * i + 8, &value, 8);
        CHECK(value == UINT64_C(1) << 32);
    }
    value = UINT64_MAX;
    msix_table_read(&msix, 32, &value, 8);
    CHECK_INT(value, 0);
    msix_pba_read(&msix, 4, &value, 8);
    CHECK_INT(value, 0);
    msix_fini(&msix);
}
