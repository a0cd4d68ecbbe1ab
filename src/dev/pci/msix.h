/* msix.h — the message-signalled interrupts of one PCI function (PCI Local Bus Specification 3.0,
 * 6.8.2).
 *
 * The function shows the table and the pending bits in its BAR and hands accesses on; the message
 * control register in its configuration space belongs to msix_control().
 *
 * Threads: all functions on any.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "dev/bus/irq.h"
#include "dev/pci/pci.h"

#define MSIX_VECTOR_MAX  16u
#define MSIX_ENTRY_BYTES 16u
#define MSIX_NO_VECTOR   0xffffu

struct msix_entry {
    uint64_t address;
    uint32_t data;
    uint32_t control; /* bit 0: masked */
};

struct msix {
    struct msi_port port;
    unsigned count;
    pthread_mutex_t lock; /* guards all below */
    bool is_enabled;
    bool is_masked; /* all of them */
    uint32_t pending;
    struct msix_entry entries[MSIX_VECTOR_MAX];
};

/* `count`: 1 to MSIX_VECTOR_MAX. */
void msix_init(struct msix *msix, unsigned count, const struct msi_port *port);
void msix_fini(struct msix *msix);
/* Everything as at power-on. */
void msix_reset(struct msix *msix);

/* The capability, with the table at `table` and the pending bits at `pba` of BAR 0.  Returns its
 * offset. */
unsigned msix_put_capability(const struct msix *msix, struct pci_function *fn, uint32_t table,
                             uint32_t pba);
/* The guest wrote the message control register. */
void msix_control(struct msix *msix, uint16_t value);

/* Snapshot, both ways. */
void msix_fields(struct msix *msix, struct state *s);

/* Accesses to the table: 4 or 8 bytes, aligned; others read 0 and write nothing. */
void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned len);
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned len);
void msix_pba_read(struct msix *msix, uint64_t offset, void *data, unsigned len);

/* Send a vector's message, or keep it pending while that is masked.  Unknown vectors (among them
 * MSIX_NO_VECTOR) do nothing. */
void msix_raise(struct msix *msix, unsigned vector);
