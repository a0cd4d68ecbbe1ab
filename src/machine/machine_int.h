/* machine_int.h — what the files of machine/ share. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "dev/bus/bus.h"
#include "dev/bus/irq.h"
#include "dev/port/power_port.h"
#include "hv/hv.h"
#include "machine/backend.h"
#include "machine/machine.h"
#include "mem/map.h"

struct i8042;
struct loop;
struct state_file;
struct uffd;
struct uart16550;
struct pci_bus;
struct pci_function;
struct virtio_dev;

#define MACHINE_DEVICE_MAX 32
#define MACHINE_PCI_MAX    31 /* slot 0 is the host bridge */
#define MACHINE_LOOP_MAX   (CONFIG_SHARE_MAX + 1)

struct machine_vcpu {
    struct machine *machine;
    struct hv_vcpu *hv;
    unsigned index;
    pthread_t thread;
    bool has_thread;
    _Atomic bool is_held; /* debug.c: it is to stand still; changes under the lock of pause */
    struct hv_stop stop;  /* why it stopped by itself, until the debugger was told */
};

/* A virtio device that was placed. */
struct machine_slot {
    uint64_t gpa; /* of virtio-mmio */
    unsigned irq;
    struct pci_function *fn; /* on the PCI bus; NULL: virtio-mmio */
    unsigned pci_number;     /* its slot there */
    struct virtio_dev *vdev; /* owned by its transport */
    char *id;                /* the resource's; "" where there is only one of the kind */
    unsigned extra;          /* 1 + index of the extra range of mem that is its; 0: none */
};

/* See pause.c. */
struct machine_pause {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic bool is_wanted; /* changes under the lock */
    unsigned parked_count;  /* vCPU threads that wait */
    int64_t max_ns;         /* how long others may take to stand still */
};

/* See debug.c. */
struct machine_debug {
    bool is_on;
    int fd; /* eventfd */
    bool is_disarmed;
    int64_t stopped_since_ns; /* 0: it runs, but for vCPUs that are held; under the lock of pause */
    int64_t stopped_ns;       /* in all, before that */
    int64_t untold_ns;        /* since the guest was told that it stood still */
};

struct machine {
    struct backend_choice backend;
    struct state_file *restored; /* while it is built from a snapshot */
    struct mem_map *mem;
    struct uffd *uffd; /* who brings in the pages of mem; NULL: they are there */
    struct hv_client client;
    struct hv_vm *vm;
    unsigned vcpu_count;
    struct machine_vcpu vcpus[HV_VCPU_MAX];
    struct bus pio;
    struct bus mmio;
    struct pci_bus *pci;                        /* NULL: there is none */
    struct device *devices[MACHINE_DEVICE_MAX]; /* owned */
    unsigned device_count;
    struct machine_slot slots[MACHINE_DEVICE_MAX];
    unsigned slot_count;
    struct loop *loops[MACHINE_LOOP_MAX]; /* [0] is the I/O thread, one more for each share */
    unsigned loop_count;
    struct power_port power;
    struct uart16550 *uart; /* among the devices */
    struct i8042 *i8042;
    unsigned generation_irq; /* and the next; 0: there is none */
    int64_t start_mono_ns;   /* what the boot timer counts from */
    int64_t start_cpu_ns;
    struct buf cmdline;    /* the kernel's, grows with the devices */
    const char *init_args; /* what comes behind it: " -- ..." of config->cmdline, or "" */
    bool tells_devices;
    bool is_microvm; /* names its threads as tools for Firecracker expect */

    struct machine_pause pause;
    struct machine_debug debug;
    _Atomic bool is_started;                                    /* there are threads */
    void (*enter_thread)(void *owner, enum config_thread kind); /* NULL: nothing */
    void *enter_owner;

    _Atomic int end;       /* enum machine_end; set once */
    _Atomic bool panicked; /* seen on the console */
    int end_fd;            /* eventfd */
    char why[256];         /* written before `end` */
};

/* The machine ends for this reason, unless it already has one; kicks all vCPUs.  Any thread. */
void machine_finish(struct machine *machine, enum machine_end end);

/* memory.c: guest RAM, new or from a snapshot. */
int machine_add_memory(struct machine *machine, const struct vm_config *config, struct err *err);

/* hotmem.c: the region, which the guest has none of at first; its device. */
int machine_add_hot_range(struct machine *machine, const struct vm_config *config,
                          const struct mem_backing *ram, struct err *err);
int machine_add_hotmem(struct machine *machine, const struct vm_config *config, struct loop *loop,
                       struct err *err);

/* chips.c: serial port, keyboard controller, clock, power registers, boot timer. */
int machine_add_chips(struct machine *machine, const struct vm_config *config,
                      const struct tty_port *console, struct err *err);

/* devices.c: everything on the buses. */
int machine_add_devices(struct machine *machine, const struct vm_config *config,
                        const struct tty_port *console, struct err *err);
void machine_free_devices(struct machine *machine);
/* Take `dev` into ownership and put it on a bus. */
int machine_place(struct machine *machine, struct bus *bus, uint64_t start, uint64_t len,
                  struct device *dev, struct err *err);
struct irq_line machine_irq(struct machine *machine, unsigned line);
/* A further loop with a thread of its own. */
int machine_add_loop(struct machine *machine, struct loop **ret_loop, struct err *err);

/* virtio.c */
/* Take a virtio device into ownership: give it the lowest free window and its interrupt, or a slot
 * on the PCI bus, bind its doorbells, tell the kernel.  `id` is copied. */
int machine_add_virtio(struct machine *machine, struct virtio_dev *vdev, const char *id,
                       struct err *err);
/* The device of this kind (virtio_ops.kind) and id; NULL: none. */
struct virtio_dev *machine_find_virtio(const struct machine *machine, const char *kind,
                                       const char *id);
int machine_bind_doorbell(struct machine *machine, const struct virtio_dev *vdev,
                          const struct hv_doorbell *bell, struct err *err);

/* drives.c: block devices, in the order of the configuration. */
int machine_add_drives(struct machine *machine, const struct vm_config *config, struct loop *loop,
                       struct err *err);

/* extra.c: nothing may run while memory comes or goes.  A machine that stands still already, or was
 * not started, stays as it is. */
int machine_hold(struct machine *machine, bool *ret_was_running, struct err *err);
void machine_let_go(struct machine *machine, bool was_running);
/* extra.c: memory of a device in the guest's address space: at range->gpa, which is refused if it
 * is not free, or with 0 there where room is.  range->host is the caller's, whole pages.  The
 * machine is held. */
int machine_add_extra(struct machine *machine, const struct mem_range *range, unsigned *ret_index,
                      struct err *err);
void machine_remove_extra(struct machine *machine, unsigned index);
/* pmems.c: persistent memory, in the order of the configuration. */
int machine_add_pmems(struct machine *machine, const struct vm_config *config, struct loop *loop,
                      struct err *err);
/* Sections of a snapshot: where the memory of each is. */
int machine_save_places(const struct machine *machine, struct state_file *file, struct err *err);
/* balloon.c: the balloon, if there is one. */
int machine_add_balloon(struct machine *machine, const struct vm_config *config, struct loop *loop,
                        struct err *err);

/* net.c: network interfaces, in the order of the configuration. */
int machine_add_nets(struct machine *machine, const struct vm_config *config, struct loop *loop,
                     struct err *err);

/* cmdline.c: the command line begins, grows and ends. */
int machine_cmdline_begin(struct machine *machine, const struct vm_config *config, struct err *err);
/* One more word, if config->tells_devices. */
int machine_cmdline_add(struct machine *machine, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int machine_cmdline_end(struct machine *machine, struct err *err);

/* pci.c: a PCI bus, and virtio devices on it. */
int machine_add_pci(struct machine *machine, struct err *err);
/* Give the slot's device a place on it. */
int machine_place_pci(struct machine *machine, struct machine_slot *slot, struct err *err);
/* Take it off again and free it. */
void machine_unplace_pci(struct machine *machine, const struct machine_slot *slot);
struct acpi_pci;
void machine_describe_pci(struct acpi_pci *pci);

/* snapshot.c: what the guest of a snapshot was shown; the caller frees it.  And the slot of the PCI
 * bus where it had a device; -ENOENT: nowhere. */
struct hv_cpuid;
int machine_load_cpuid(struct state_file *file, struct hv_cpuid **ret_cpuid, struct err *err);
int machine_saved_pci_number(struct state_file *file, const struct machine_slot *slot);

/* vcpu.c: first of all on a thread of the machine. */
void machine_enter_thread(struct machine *machine, enum config_thread kind);

/* pause.c */
void machine_pause_init(struct machine *machine);
void machine_pause_fini(struct machine *machine);
/* The machine ended: no vCPU waits any more. */
void machine_wake_parked(struct machine *machine);

/* debug.c: the vCPU has stopped for the debugger; on its thread. */
void machine_debug_hit(struct machine_vcpu *vcpu);
void machine_debug_fini(struct machine *machine);

/* vcpu.c: they wait until the machine runs. */
int machine_start_vcpus(struct machine *machine, struct err *err);
void machine_join_vcpus(struct machine *machine);
