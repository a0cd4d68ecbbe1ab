/* machine_int.h — what the files of machine/ share. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "dev/bus/bus.h"
#include "dev/bus/irq.h"
#include "dev/port/power_port.h"
#include "hv/hv.h"
#include "machine/backend.h"
#include "machine/machine.h"
#include "mem/map.h"

struct loop;
struct virtio_dev;

#define MACHINE_DEVICE_MAX 32
#define MACHINE_LOOP_MAX   (CONFIG_SHARE_MAX + 1)

struct machine_vcpu {
    struct machine *machine;
    struct hv_vcpu *hv;
    unsigned index;
    pthread_t thread;
    bool has_thread;
};

/* A virtio-mmio device that was placed. */
struct machine_slot {
    uint64_t gpa;
    unsigned irq;
};

struct machine {
    struct backend_choice backend;
    struct mem_map *mem;
    struct hv_client client;
    struct hv_vm *vm;
    unsigned vcpu_count;
    struct machine_vcpu vcpus[HV_VCPU_MAX];
    struct bus pio;
    struct bus mmio;
    struct device *devices[MACHINE_DEVICE_MAX]; /* owned */
    unsigned device_count;
    struct machine_slot slots[MACHINE_DEVICE_MAX];
    unsigned slot_count;
    struct loop *loops[MACHINE_LOOP_MAX]; /* [0] is the I/O thread, one more for each share */
    unsigned loop_count;
    struct power_port power;

    _Atomic int end;       /* enum machine_end; set once */
    _Atomic bool panicked; /* seen on the console */
    int end_fd;            /* eventfd */
    char why[256];         /* written before `end` */
};

/* The machine ends for this reason, unless it already has one; kicks all vCPUs.  Any thread. */
void machine_finish(struct machine *machine, enum machine_end end);

/* devices.c: everything on the buses. */
int machine_add_devices(struct machine *machine, const struct vm_config *config,
                        const struct tty_port *console, struct err *err);
void machine_free_devices(struct machine *machine);

/* vcpu.c */
int machine_start_vcpus(struct machine *machine, struct err *err);
void machine_join_vcpus(struct machine *machine);
