/* pci.h — one PCI bus: functions at 00:00.0 to 00:1f.0, their configuration space and the window of
 * their memory BARs (PCI Local Bus Specification 3.0, chapter 6).
 *
 * A function embeds `struct pci_function` as its first member, builds its configuration space with
 * the pci_put_* functions and is added to the bus, which then answers for it: through MMCONFIG,
 * through ports CF8H and CFCH, and wherever its memory BAR lies.  Functions may come and go while
 * the guest runs.
 *
 * Threads: config_written, bar_read and bar_write are called on a vCPU's thread, config_written
 * with no other access to this bus going on, bar_* with others at the same time.  pci_bus_add() and
 * pci_bus_remove() on any thread; after pci_bus_remove() nobody is in the function.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "dev/bus/device.h"
#include "mem/addr.h"

#define PCI_CONFIG_BYTES 256u
#define PCI_SLOT_COUNT   32u

/* Ports of configuration mechanism 1, and the bytes of configuration space of one bus in MMCONFIG
 * (PCI Express Base Specification 5.0, 7.2.2). */
#define PCI_PORT           0xcf8u
#define PCI_PORT_LEN       8u
#define PCI_MMCONFIG_BYTES 0x100000u

/* Offsets in configuration space: chapter 6.1. */
enum pci_reg {
    PCI_REG_VENDOR = 0x00,
    PCI_REG_DEVICE = 0x02,
    PCI_REG_COMMAND = 0x04,
    PCI_REG_STATUS = 0x06,
    PCI_REG_REVISION = 0x08,
    PCI_REG_CLASS = 0x09, /* interface, subclass, class */
    PCI_REG_BAR0 = 0x10,
    PCI_REG_SUBSYSTEM_VENDOR = 0x2c,
    PCI_REG_SUBSYSTEM = 0x2e,
    PCI_REG_CAPABILITIES = 0x34,
};

#define PCI_COMMAND_MEMORY      0x0002u
#define PCI_COMMAND_MASTER      0x0004u
#define PCI_COMMAND_INTX_OFF    0x0400u
#define PCI_STATUS_CAPABILITIES 0x0010u

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

struct pci_function;
struct state;

struct pci_ops {
    const char *kind;
    /* The guest wrote `len` bytes of configuration space at `offset`; NULL: nothing follows from
     * that. */
    void (*config_written)(struct pci_function *fn, unsigned offset, unsigned len);
    /* The guest is about to read there: fill in what changes by itself; NULL: nothing does. */
    void (*config_reading)(struct pci_function *fn, unsigned offset, unsigned len);
    /* Access to the memory BAR; `offset` + `len` lies in it. */
    void (*bar_read)(struct pci_function *fn, uint64_t offset, void *data, unsigned len);
    void (*bar_write)(struct pci_function *fn, uint64_t offset, const void *data, unsigned len);
    /* Snapshot, both ways: what is its own; the configuration space is there already.  The machine
     * is paused, or not started.  NULL: nothing. */
    void (*fields)(struct pci_function *fn, struct state *s);
    void (*free)(struct pci_function *fn);
};

struct pci_function {
    const struct pci_ops *ops;
    uint64_t bar_len; /* of BAR 0, 64 bits wide, a power of two; 0: none */
    uint8_t config[PCI_CONFIG_BYTES];
    uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest may change */
    unsigned cap_end;                   /* where the next capability goes */
    unsigned cap_last;                  /* the last one, 0: none yet */
};

struct pci_id {
    uint16_t vendor, device;
    uint16_t subsystem_vendor, subsystem;
    uint8_t revision;
    uint32_t class_code; /* class << 16 | subclass << 8 | interface */
};

/* The header.  Storage must be zeroed but for `ops`. */
void pci_function_init(struct pci_function *fn, const struct pci_ops *ops, const struct pci_id *id);
/* BAR 0 at `gpa`: memory, 64 bits, prefetchable or not as virtio wants it: not. */
void pci_put_bar(struct pci_function *fn, gpa_t gpa, uint64_t len);
/* A capability of `len` bytes, its first two included; returns its offset.  The caller fills the
 * rest.  There must be room. */
unsigned pci_put_capability(struct pci_function *fn, uint8_t id, unsigned len);
gpa_t pci_bar(const struct pci_function *fn);

/* Snapshot, both ways: what the guest set in its configuration space, then ops->fields. */
void pci_function_fields(struct pci_function *fn, struct state *s);

struct pci_bus;

/* A bus with its host bridge in slot 0; memory BARs lie from `window` on. */
int pci_bus_new(gpa_t window, struct pci_bus **ret_bus, struct err *err);
/* Frees what is on it. */
void pci_bus_free(struct pci_bus *bus);

/* Its three ways in, to be placed at PCI_PORT, at MMCONFIG and at the window.  They belong to the
 * bus: device_free() does nothing. */
struct device *pci_bus_ports(struct pci_bus *bus);
struct device *pci_bus_mmconfig(struct pci_bus *bus);
struct device *pci_bus_window(struct pci_bus *bus);

/* Snapshot, both ways: the bus without its functions. */
void pci_bus_fields(struct pci_bus *bus, struct state *s);

/* The lowest free slot, 1 to 31; -ENOSPC. */
int pci_bus_free_slot(struct pci_bus *bus);
bool pci_bus_is_free(struct pci_bus *bus, unsigned slot);
/* Put `fn`, which belongs to the bus then, into a free slot. */
void pci_bus_add(struct pci_bus *bus, unsigned slot, struct pci_function *fn);
/* Take it off again, for the caller to free. */
void pci_bus_remove(struct pci_bus *bus, struct pci_function *fn);
