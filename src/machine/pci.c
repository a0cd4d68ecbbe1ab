/* pci.c — the machine's PCI bus, and virtio devices on it. */
#include "dev/pci/pci.h"

#include <errno.h>

#include "boot/acpi.h"
#include "dev/virtio/pci.h"
#include "io/loop.h"
#include "machine/layout.h"
#include "machine/machine_int.h"

static void send_msi(void *owner, uint64_t address, uint32_t data)
{
    (void)hv_msi(((struct machine *)owner)->vm, address, data);
}

int machine_add_pci(struct machine *m, struct err *err)
{
    int r = pci_bus_new(GPA(LAYOUT_PCI_HIGH_START), &m->pci, err);

    if (r == 0) {
        r = bus_add(&m->pio, PCI_PORT, PCI_PORT_LEN, pci_bus_ports(m->pci), err);
    }
    if (r == 0) {
        r = bus_add(&m->mmio, LAYOUT_PCI_MMCONFIG, PCI_MMCONFIG_BYTES, pci_bus_mmconfig(m->pci),
                    err);
    }
    if (r == 0) {
        r = bus_add(&m->mmio, LAYOUT_PCI_HIGH_START, LAYOUT_PCI_HIGH_LEN, pci_bus_window(m->pci),
                    err);
    }
    return r;
}

static struct hv_doorbell doorbell(const struct virtio_dev *vdev, gpa_t bar, unsigned queue)
{
    return (struct hv_doorbell){
        .gpa = GPA(bar.v + VIRTIO_PCI_NOTIFY + (uint64_t)queue * VIRTIO_PCI_NOTIFY_STRIDE),
        .len = 2,
        .match = queue,
        .eventfd = vdev->notify_fd[queue]};
}

/* At first it follows from the slot on the bus, so that no two devices meet; then it is the
 * guest's.
 */
static gpa_t bar_of(unsigned number)
{
    return GPA(LAYOUT_PCI_HIGH_START + (uint64_t)number * VIRTIO_PCI_BAR_BYTES);
}

/* Where the guest of a snapshot has it, else the lowest free slot: machine_add_virtio() has
 * counted.
 */
static int choose_slot(struct machine *m, const struct machine_slot *slot)
{
    int saved = m->restored ? machine_saved_pci_number(m->restored, slot) : -ENOENT;

    return saved > 0 && pci_bus_is_free(m->pci, (unsigned)saved) ? saved
                                                                 : pci_bus_free_slot(m->pci);
}

/* Where there can be none, the guest's notifications take the slow way through the BAR. */
static void move_doorbells(void *owner, const struct virtio_dev *vdev, gpa_t from, gpa_t to)
{
    struct machine *m = owner;

    for (unsigned q = 0; q < vdev->queue_count && from.v != VIRTIO_PCI_NOWHERE; q++) {
        struct hv_doorbell bell = doorbell(vdev, from, q);

        (void)hv_doorbell_remove(m->vm, &bell);
    }
    for (unsigned q = 0; q < vdev->queue_count && to.v != VIRTIO_PCI_NOWHERE; q++) {
        struct hv_doorbell bell = doorbell(vdev, to, q);

        (void)hv_doorbell_add(m->vm, &bell);
    }
}

int machine_place_pci(struct machine *m, struct machine_slot *slot, struct err *err)
{
    struct msi_port msi = {.send = send_msi, .owner = m};
    struct doorbell_port doorbells = {.move = move_doorbells, .owner = m};
    int number = choose_slot(m, slot);
    gpa_t bar = bar_of((unsigned)number);
    int r = virtio_pci_new(slot->vdev, bar, &msi, &slot->fn, err);

    if (r == 0) {
        virtio_pci_set_doorbells(slot->fn, &doorbells);
        slot->pci_number = (unsigned)number;
        pci_bus_add(m->pci, slot->pci_number, slot->fn);
    }
    return r;
}

/* On the device's loop: its timers and descriptors are there. */
static void free_function(void *owner)
{
    struct pci_function *fn = owner;

    fn->ops->free(fn);
}

void machine_unplace_pci(struct machine *m, const struct machine_slot *slot)
{
    struct loop *loop = slot->vdev->loop;

    pci_bus_remove(m->pci, slot->fn);
    virtio_pci_stop(slot->fn);
    loop_call(loop, free_function, slot->fn);
}

void machine_describe_pci(struct acpi_pci *pci)
{
    *pci = (struct acpi_pci){
        .mmconfig = GPA(LAYOUT_PCI_MMCONFIG),
        .mmconfig_len = PCI_MMCONFIG_BYTES,
        .windows = {{GPA(LAYOUT_PCI_LOW_START), LAYOUT_PCI_LOW_LEN},
                    {GPA(LAYOUT_PCI_HIGH_START), LAYOUT_PCI_HIGH_LEN}},
    };
}
