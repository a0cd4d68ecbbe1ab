/* virtio.c — virtio devices, placed: each in a window of virtio-mmio with an interrupt line, or on
 * the PCI bus where there is one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/mmio.h"
#include "machine/layout.h"
#include "machine/machine_int.h"

int machine_bind_doorbell(struct machine *m, const struct virtio_dev *vdev,
                          const struct hv_doorbell *bell, struct err *err)
{
    int r = hv_doorbell_add(m->vm, bell);

    return r < 0 ? err_set(err, r, "doorbell of %s: %s", vdev->ops->kind, strerror(-r)) : 0;
}

static int place_mmio(struct machine *m, struct machine_slot *slot, struct err *err)
{
    unsigned n = (unsigned)(slot - m->slots);
    struct irq_line irq = machine_irq(m, LAYOUT_VIRTIO_IRQ + n);
    struct device *dev = NULL;
    int r;

    slot->gpa = LAYOUT_VIRTIO_START + n * LAYOUT_VIRTIO_STRIDE;
    slot->irq = irq.line;
    r = virtio_mmio_new(slot->vdev, &irq, &dev, err);
    if (r == 0) {
        r = machine_place(m, &m->mmio, slot->gpa, LAYOUT_VIRTIO_STRIDE, dev, err);
    }
    if (r == 0) {
        r = machine_cmdline_add(m, err, "virtio_mmio.device=4K@0x%llx:%u",
                                (unsigned long long)slot->gpa, slot->irq);
    }
    for (unsigned q = 0; r == 0 && q < slot->vdev->queue_count; q++) {
        struct hv_doorbell bell = {.gpa = GPA(slot->gpa + VIRTIO_MMIO_QUEUE_NOTIFY),
                                   .len = 4,
                                   .match = q,
                                   .eventfd = slot->vdev->notify_fd[q]};

        r = machine_bind_doorbell(m, slot->vdev, &bell, err);
    }
    return r;
}

int machine_add_virtio(struct machine *m, struct virtio_dev *vdev, const char *id, struct err *err)
{
    struct machine_slot *slot = &m->slots[m->slot_count];
    char *copy = strdup(id);
    int r;

    if (!copy) {
        vdev->ops->free(vdev);
        return err_set(err, -ENOMEM, "device '%s': out of memory", id);
    }
    if (!m->pci && m->slot_count == LAYOUT_VIRTIO_MAX) {
        vdev->ops->free(vdev);
        free(copy);
        return err_set(err, -ENOSPC,
                       "Could not allocate GSI: The requested resource is not available.");
    }
    if (m->pci && m->slot_count == MACHINE_PCI_MAX) {
        vdev->ops->free(vdev);
        free(copy);
        return err_set(err, -ENOSPC, "Could not find an available device slot on the PCI bus.");
    }
    *slot = (struct machine_slot){.vdev = vdev, .id = copy};
    m->slot_count++;
    if (!m->pci) {
        return place_mmio(m, slot, err); /* a machine that is being built is freed as a whole */
    }
    r = machine_place_pci(m, slot, err);
    if (r < 0) {
        m->slot_count--;
        free(copy);
    }
    return r;
}

/* `slot_count` if there is none. */
static unsigned find(const struct machine *m, const char *kind, const char *id)
{
    unsigned i = 0;

    while (i < m->slot_count &&
           (strcmp(m->slots[i].vdev->ops->kind, kind) != 0 || strcmp(m->slots[i].id, id) != 0)) {
        i++;
    }
    return i;
}

struct virtio_dev *machine_find_virtio(const struct machine *m, const char *kind, const char *id)
{
    unsigned i = find(m, kind, id);

    return i < m->slot_count ? m->slots[i].vdev : NULL;
}

int machine_unplug(struct machine *m, const char *kind, const char *id)
{
    unsigned i = find(m, kind, id);
    bool was_running = false;
    unsigned extra;
    int r;

    if (i == m->slot_count || !m->slots[i].fn) {
        return -ENOENT;
    }
    extra = m->slots[i].extra;
    r = extra ? machine_hold(m, &was_running, NULL) : 0;
    if (r < 0) {
        return r;
    }
    machine_unplace_pci(m, &m->slots[i]);
    free(m->slots[i].id);
    m->slot_count--;
    memmove(&m->slots[i], &m->slots[i + 1], (m->slot_count - i) * sizeof(m->slots[0]));
    if (extra) {
        machine_remove_extra(m, extra - 1);
        machine_let_go(m, was_running); /* looks at all slots, and this device is gone */
    }
    return 0;
}
