/* generation.c — how the guest learns that it was restored. */
#include "machine/generation.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/random.h>

#include "base/bits.h"
#include "boot/layout.h"
#include "machine/layout.h"
#include "machine/machine_int.h"

#define VMGENID_LEN 16

/* UAPI.13, "The vmclock_abi structure"; the flags as Linux's vmclock-abi.h numbers them. */
#define VMCLOCK_MAGIC           0x4b4c4356u
#define VMCLOCK_COUNTER_INVALID 255
#define VMCLOCK_FLAG_GENERATION BIT(8)
#define VMCLOCK_FLAG_NOTIFIES   BIT(9)

struct vmclock {
    uint32_t magic;
    uint32_t size;
    uint16_t version;
    uint8_t counter_id;
    uint8_t time_type;
    uint32_t seq_count; /* odd while the rest changes */
    uint64_t disruption_marker;
    uint64_t flags;
    uint8_t pad[2];
    uint8_t clock_status; /* 0: unknown */
    uint8_t no_clock[69]; /* would describe it */
    uint64_t vm_generation_counter;
};

_Static_assert(offsetof(struct vmclock, seq_count) == 0x0c, "UAPI.13");
_Static_assert(offsetof(struct vmclock, vm_generation_counter) == 0x68, "UAPI.13");

int machine_add_generation(struct machine *m, struct err *err)
{
    /* On a PCI bus, virtio devices take no lines. */
    unsigned line = LAYOUT_VIRTIO_IRQ + (m->pci ? 0 : m->slot_count);

    if (line + 2 > HV_IRQ_LINES) {
        return err_set(err, -ENOSPC,
                       "Could not allocate GSI: The requested resource is not available.");
    }
    m->generation_irq = line;
    return 0;
}

static int write_id(struct machine *m, struct err *err)
{
    uint8_t id[VMGENID_LEN];
    int r;

    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id)) {
        return err_sys(err, "getrandom");
    }
    r = mem_write(m->mem, GPA(BOOT_VMGENID), id, sizeof(id));
    return r < 0 ? err_set(err, r, "VM generation id: no memory") : 0;
}

int machine_write_generation(struct machine *m, struct err *err)
{
    const struct vmclock clock = {.magic = VMCLOCK_MAGIC,
                                  .size = BOOT_VMCLOCK_LEN,
                                  .version = 1,
                                  .counter_id = VMCLOCK_COUNTER_INVALID,
                                  .flags = VMCLOCK_FLAG_GENERATION | VMCLOCK_FLAG_NOTIFIES};
    int r = write_id(m, err);

    if (r == 0) {
        r = mem_write(m->mem, GPA(BOOT_VMCLOCK), &clock, sizeof(clock));
        if (r < 0) {
            return err_set(err, r, "VM clock: no memory");
        }
    }
    return r;
}

int machine_renew_generation(struct machine *m, struct err *err)
{
    struct vmclock *clock = mem_ptr(m->mem, GPA(BOOT_VMCLOCK), sizeof(*clock));
    struct irq_line id_irq = machine_irq(m, m->generation_irq);
    struct irq_line clock_irq = machine_irq(m, m->generation_irq + 1);
    uint32_t seq;
    int r = write_id(m, err);

    if (r < 0 || !clock) {
        return r < 0 ? r : err_set(err, -EFAULT, "VM clock: no memory");
    }
    /* guest: what it wrote here it reads back, nobody else does */
    seq = clock->seq_count | 1;
    clock->seq_count = seq;
    atomic_thread_fence(memory_order_release);
    clock->disruption_marker++;
    clock->vm_generation_counter++;
    atomic_thread_fence(memory_order_release);
    clock->seq_count = seq + 1;
    mem_note_write(m->mem, GPA(BOOT_VMCLOCK), sizeof(*clock));
    irq_pulse(&id_irq);
    irq_pulse(&clock_irq);
    return 0;
}
