/* kvm_int.h — what the files of hv/kvm share.  KVM's own structs stay in this room. */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "hv/cpuid.h"
#include "hv/hv.h"
#include "mem/map.h"

/* KVM's memory slots: RAM, extra ranges, slots of RAM that comes and goes (one range at most). */
#define KVM_FIRST_HOT_SLOT (MEM_RANGE_MAX + MEM_EXTRA_MAX)

/* debug.c: where a breakpoint of the debugger is. */
struct kvm_int3 {
    uint64_t la;
    gpa_t gpa;
    uint8_t saved; /* the byte of the guest's, while it is there */
};

struct kvm_debug {
    bool is_on; /* something is set: KVM has to be told */
    unsigned int3_count;
    struct kvm_int3 int3[HV_BREAK_MAX];
    uint64_t dr[4];
    uint64_t dr7;
    struct hv_break dr_for[4];
};

struct kvm_vm {
    struct hv_vm hv; /* first */
    struct hv_config config;
    int dev_fd; /* /dev/kvm */
    int fd;
    int run_bytes;         /* size of the shared struct kvm_run */
    struct hv_cpuid cpuid; /* for all vCPUs to start from */
    pthread_mutex_t pulse_lock;
    int first_vcpu_fd; /* to ask KVM about vCPUs; not owned */
    uint32_t tsc_khz;  /* what vcpu_set is to make of each vCPU's TSC; 0: leave it */
    struct kvm_vcpu *vcpu[HV_VCPU_MAX];
    struct kvm_debug debug;
};

/* Exits of KVM_RUN by cause, counted here; what KVM does by itself is not among them. */
#define KVM_EXITS_LIST(X)                  \
    X(pio, "exits: ports")                 \
    X(mmio, "exits: device memory")        \
    X(interrupted, "exits: signals to us") \
    X(others, "exits: others")

struct kvm_vcpu {
    struct hv_vcpu hv; /* first */
    struct kvm_vm *vm;
    unsigned index;
    int fd;
    struct kvm_run *run;
    _Atomic int tid;     /* of the thread in vcpu_run, 0 before the first */
    _Atomic bool kicked; /* set by kick, taken by run */
    bool io_pending;     /* the guest's last access was served but KVM has not taken the answer */
    char why[200];
    uint32_t debug_control; /* what KVM was told last */
    bool step_is_open;      /* a step began, and its trap has not come */
    struct hv_stop stop;
    struct {
#define X(name, text) uint64_t name;
        KVM_EXITS_LIST(X)
#undef X
    } exits; /* the thread in vcpu_run */
};

static inline struct kvm_vm *kvm_vm_of(struct hv_vm *vm)
{
    return (struct kvm_vm *)vm;
}

static inline struct kvm_vcpu *kvm_vcpu_of(struct hv_vcpu *vcpu)
{
    return (struct kvm_vcpu *)vcpu;
}

/* ioctl that starts again after a signal; negative errno on failure. */
int kvm_ioctl(int fd, unsigned long request, unsigned long arg);
#define kvm_ioctl_ptr(fd, request, ptr) kvm_ioctl(fd, request, (unsigned long)(ptr))

/* cpuid.c: the leaves of the VM, and of a vCPU. */
int kvm_cpuid_init(struct kvm_vm *vm, struct err *err);
int kvm_cpuid_set(struct kvm_vcpu *vcpu, struct err *err);

/* vcpu.c */
int kvm_vcpu_new(struct hv_vm *hv, unsigned index, struct hv_vcpu **ret_vcpu, struct err *err);
void kvm_vcpu_free(struct hv_vcpu *hv);
int kvm_vcpu_run(struct hv_vcpu *hv, enum hv_exit *ret_exit);
void kvm_vcpu_kick(struct hv_vcpu *hv);
const char *kvm_vcpu_why(const struct hv_vcpu *hv);
size_t kvm_vcpu_counters(const struct hv_vcpu *hv, struct hv_counter *ret_counters);
/* Install the empty handler that makes a kick interrupt KVM_RUN. */
int kvm_kick_init(struct err *err);

/* state.c */
int kvm_vcpu_get(struct hv_vcpu *hv, struct cpu_state *ret_state);
int kvm_vcpu_set(struct hv_vcpu *hv, const struct cpu_state *state);
int kvm_vcpu_set_regs(struct hv_vcpu *hv, const struct cpu_state *state);
void kvm_vcpu_paused(struct hv_vcpu *hv);
const struct hv_cpuid *kvm_vm_cpuid(const struct hv_vm *hv);
/* vm_state.c */
int kvm_vm_get(struct hv_vm *hv, struct vm_state *ret_state);
int kvm_vm_set(struct hv_vm *hv, const struct vm_state *state, struct err *err);
void kvm_vm_go(struct hv_vm *hv);
/* dirty.c */
int kvm_dirty_sync(struct hv_vm *hv);
void kvm_dirty_restart(struct hv_vm *hv);
/* MSRs that firmware would have set. */
int kvm_boot_msrs(struct kvm_vcpu *vcpu);
/* Those that the CPU template changes. */
int kvm_template_msrs(struct kvm_vcpu *vcpu, struct err *err);

/* debug.c */
int kvm_debug_set(struct hv_vm *hv, const struct hv_debug *debug);
int kvm_debug_arm(struct hv_vm *hv, uint32_t step);
void kvm_debug_disarm(struct hv_vm *hv);
struct hv_stop kvm_vcpu_stop(const struct hv_vcpu *hv);
/* KVM_EXIT_DEBUG: true: it was the debugger's; else the guest has got it back. */
bool kvm_debug_exit(struct kvm_vcpu *vcpu);

/* irq.c */
int kvm_irq_set(struct hv_vm *hv, unsigned line, bool level);
int kvm_irq_pulse(struct hv_vm *hv, unsigned line);
int kvm_msi(struct hv_vm *hv, uint64_t address, uint32_t data);
int kvm_doorbell_add(struct hv_vm *hv, const struct hv_doorbell *bell);
int kvm_doorbell_remove(struct hv_vm *hv, const struct hv_doorbell *bell);
