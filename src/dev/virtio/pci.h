/* pci.h — the virtio-pci transport, modern only (virtio 1.2, 4.1).
 *
 * Everything lies in one memory BAR, at the offsets below; interrupts are MSI-X, with a vector for
 * each queue and one for the configuration.
 */
#pragma once

#include "base/err.h"
#include "dev/bus/irq.h"
#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"

#define VIRTIO_PCI_BAR_BYTES 0x80000u
/* A doorbell at this offset + 4 * queue, 16 bits wide, with match = queue -> notify_fd[queue]. */
#define VIRTIO_PCI_NOTIFY        0x6000u
#define VIRTIO_PCI_NOTIFY_STRIDE 4u

/* Wrap `dev` (ownership moves to the transport; freed with it, also when this fails), with its BAR
 * at `bar`. */
int virtio_pci_new(struct virtio_dev *dev, gpa_t bar, const struct msi_port *msi,
                   struct pci_function **ret_function, struct err *err);
/* Doorbells are in the BAR, and the guest moves that: `from` and `to` are where the BAR was and is,
 * VIRTIO_PCI_NOWHERE while it is not mapped.  On a vCPU's thread, or while nothing runs. */
#define VIRTIO_PCI_NOWHERE UINT64_MAX
struct doorbell_port {
    void (*move)(void *owner, const struct virtio_dev *dev, gpa_t from, gpa_t to);
    void *owner;
};
void virtio_pci_set_doorbells(struct pci_function *fn, const struct doorbell_port *port);
/* Before it is freed while others run: no queue is touched after return, no doorbell
 * is left. */
void virtio_pci_stop(struct pci_function *fn);
