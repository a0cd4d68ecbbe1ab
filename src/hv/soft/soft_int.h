/* soft_int.h — what the files of the software engine's backend share.
 *
 * Ownership: struct soft_vm lives from vm_new to vm_free and owns interrupt controllers and the
 * CPUID model; struct soft_vcpu lives from vcpu_new to vcpu_free and owns its CPU, local APIC and
 * decoded code.  Guest memory and the client are the caller's.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/bits.h"
#include "hv/hv.h"
#include "hv/soft/cpu/vcpu.h"
#include "hv/soft/doorbell.h"
#include "hv/soft/intc/lapic.h"

struct soft_vm {
    struct hv_vm hv;
    struct mem_map *mem;
    const struct hv_client *client;
    unsigned vcpu_count;
    bool count_runs; /* of all its vCPUs */
    struct cpuid_model *cpuid;
    const struct cpu_template *cpu_template; /* NULL: none */
    struct intc intc;
    struct soft_vcpu *vcpu[HV_VCPU_MAX];
    struct soft_doorbells doorbells;
    struct hv_debug debug;      /* what each cpu.debug leads to, if it is not empty */
    struct hv_debug debug_next; /* that it is to be when the vCPUs go on */
};

/* What others did to pages with decoded code, until the vCPU looks (POLL_SMC); len 0: they began to
 * decode code from the page. */
#define SMC_MAX 4096u /* a halted vCPU does not look for a long time */
struct smc_write {
    uint64_t gpa;
    uint64_t len;
};
struct smc_queue {
    pthread_mutex_t lock;
    unsigned count;   /* SMC_MAX + 1: more than fit */
    unsigned filling; /* the half that writers append to; the owner works on the other */
    struct smc_write write[2][SMC_MAX];
};

struct soft_vcpu {
    struct hv_vcpu hv;
    struct soft_vm *vm;
    struct lapic lapic;
    struct smc_queue smc;
    bool nmi_pending; /* owner; others set POLL_NMI */
    bool unhalted;    /* the next HLT ends at once; others set POLL_UNHALT */
    bool inject;      /* cpu.exc is due before the first instruction (vcpu_set) */
    bool is_stepping; /* for the debugger: stop again after one instruction */
    struct hv_stop stop;
    struct vcpu cpu __attribute__((aligned(64)));
};

/* platform.c */
extern const struct vcpu_platform soft_platform;
/* run.c */
int soft_vcpu_run(struct hv_vcpu *hv, enum hv_exit *ret_exit);
void soft_vcpu_kick(struct hv_vcpu *hv);
/* debug.c */
int soft_debug_set(struct hv_vm *hv, const struct hv_debug *debug);
int soft_debug_arm(struct hv_vm *hv, uint32_t step);
void soft_debug_disarm(struct hv_vm *hv);
struct hv_stop soft_vcpu_stop(const struct hv_vcpu *hv);
/* Under turn()'s _setjmp.  An exception was raised: was it the debugger's business?  Then it is
 * done.  An exception was delivered: that ends a step.  Do the turn as a step, if one is wanted? */
bool soft_debug_caught(struct soft_vcpu *s);
void soft_debug_delivered(struct soft_vcpu *s);
bool soft_debug_step(struct soft_vcpu *s);
/* state.c */
int soft_vcpu_get(struct hv_vcpu *hv, struct cpu_state *ret_state);
int soft_vcpu_set(struct hv_vcpu *hv, const struct cpu_state *state);
int soft_vcpu_set_regs(struct hv_vcpu *hv, const struct cpu_state *state);
void soft_vcpu_paused(struct hv_vcpu *hv);
int soft_vm_get(struct hv_vm *hv, struct vm_state *ret_state);
int soft_vm_set(struct hv_vm *hv, const struct vm_state *state, struct err *err);
void soft_vm_go(struct hv_vm *hv);
/* counters.c */
size_t soft_vcpu_counters(const struct hv_vcpu *hv, struct hv_counter *ret_counters);
/* smc.c */
void smc_init(struct smc_queue *q);
void smc_fini(struct smc_queue *q);
/* mem_watch_fn; owner is the VM. */
void smc_note(void *owner, gpa_t gpa, uint64_t len);
/* The same from a vCPU, for all but itself; len may be 0, see vcpu_platform's code_event. */
void smc_tell_others(struct soft_vcpu *self, gpa_t gpa, uint64_t len);
/* Memory went away: all vCPUs drop their TLBs and decoded code at their next poll point. */
void smc_forget_all(struct soft_vm *vm);
/* Owner thread: tell the block cache. */
void smc_serve(struct soft_vcpu *s);

static inline struct soft_vm *soft_vm_of(struct hv_vm *hv)
{
    return container_of(hv, struct soft_vm, hv);
}

static inline struct soft_vcpu *soft_of(struct hv_vcpu *hv)
{
    return container_of(hv, struct soft_vcpu, hv);
}

static inline struct soft_vcpu *soft_vcpu_of(const struct vcpu *v)
{
    return v->platform_owner;
}
