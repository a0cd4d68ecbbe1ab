/* state.c — struct cpu_state in and out of KVM's many small structs.
 *
 * The order matters.  Out: KVM_GET_MP_STATE first, it makes KVM take a waiting INIT or SIPI; the
 * events last, what precedes may settle some.  In: APIC base before the APIC, the APIC (whose timer
 * mode counts) before the deadline MSR, the TSC before the deadline, the events last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "hv/kvm/kvm_int.h"
#include "x86/apic.h"
#include "x86/msr.h"

/* MSRs that a guest can change and that no other struct carries.  Those that this host's KVM does
 * not know are skipped.  The machine-check banks are left out: nobody injects machine checks. */
static const struct {
    uint32_t first;
    uint32_t count;
} g_msrs[] = {
    {MSR_TSC, 1},
    {MSR_TSC_ADJUST, 1},
    {MSR_TSC_AUX, 1},
    {MSR_STAR, 1},
    {MSR_LSTAR, 1},
    {MSR_CSTAR, 1},
    {MSR_SFMASK, 1},
    {MSR_KERNEL_GS_BASE, 1},
    {MSR_SYSENTER_CS, 3},
    {MSR_FEATURE_CONTROL, 1},
    {MSR_SPEC_CTRL, 1},
    {MSR_AMD_VIRT_SPEC_CTRL, 1},
    {MSR_UMWAIT_CONTROL, 1},
    {MSR_TSX_CTRL, 1},
    {MSR_MISC_FEATURES, 1},
    {MSR_MISC_ENABLE, 1},
    {MSR_DEBUGCTL, 1},
    {MSR_XFD, 2},
    {MSR_XSS, 1},
    {MSR_AMD_HWCR, 1},
    {MSR_AMD_DE_CFG, 1},
    {MSR_PAT, 1},
    {MSR_MTRR_PHYS_BASE0, 16},
    {MSR_MTRR_FIX64K_00000, 1},
    {MSR_MTRR_FIX16K_80000, 2},
    {MSR_MTRR_FIX4K_C0000, 8},
    {MSR_MTRR_DEF_TYPE, 1},
    {MSR_PERFEVTSEL0, 8},
    {MSR_PMC0, 8},
    {MSR_FIXED_CTR0, 3},
    {MSR_FIXED_CTR_CTRL, 1},
    {MSR_GLOBAL_CTRL, 1},
    {MSR_AMD_PERF_CTL0, 12},
    {MSR_KVM_WALL_CLOCK_NEW, 7}, /* the old pair are other names of these */
    {MSR_TSC_DEADLINE, 1},
};

/* One MSR as KVM_GET_MSRS and KVM_SET_MSRS take it: a head and, right behind it, one entry. */
union one_msr {
    struct kvm_msrs list;
    unsigned char space[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

static int set_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
    union one_msr msr = {.space = {0}};
    int r;

    msr.list.nmsrs = 1;
    msr.list.entries[0].index = index;
    msr.list.entries[0].data = value;
    r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_MSRS, &msr);
    return r < 0 ? r : (r == 1 ? 0 : -EINVAL);
}

static int get_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
    union one_msr msr = {.space = {0}};
    int r;

    msr.list.nmsrs = 1;
    msr.list.entries[0].index = index;
    r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_MSRS, &msr);
    if (r == 1) {
        *ret_value = msr.list.entries[0].data;
    }
    return r < 0 ? r : (r == 1 ? 0 : -EINVAL);
}

int kvm_boot_msrs(struct kvm_vcpu *vcpu)
{
    /* MTRRs on, everything write-back (SDM volume 3, 12.11.2.1); fast string operations on. */
    int r = set_msr(vcpu, MSR_MTRR_DEF_TYPE, 0x806);

    if (r == 0) {
        (void)set_msr(vcpu, MSR_MISC_ENABLE, 1); /* AMD has none */
    }
    return r;
}

int kvm_template_msrs(struct kvm_vcpu *vcpu, struct err *err)
{
    const struct cpu_template *template = vcpu->vm->config.cpu_template;

    for (size_t i = 0; template && i < template->msr_count; i++) {
        const struct cpu_template_msr *change = &template->msrs[i];
        uint64_t value;
        int r = get_msr(vcpu, change->index, &value);

        if (r == 0) {
            r = set_msr(vcpu, change->index, (value & ~change->mask) | change->value);
        }
        if (r < 0) {
            return err_set(err, -ENOTSUP, CPU_TEMPLATE_NO_MSR, change->index);
        }
    }
    return 0;
}

/* --- segments --- */

static struct cpu_segment segment_in(const struct kvm_segment *from)
{
    return (struct cpu_segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .attr = (uint32_t)(from->type | from->s << 4 | from->dpl << 5 | from->present << 7 |
                           from->avl << 12 | from->l << 13 | from->db << 14 | from->g << 15 |
                           (uint32_t)(from->unusable ? SEG_ATTR_UNUSABLE : 0)),
    };
}

static struct kvm_segment segment_out(const struct cpu_segment *from)
{
    uint32_t attr = from->attr;

    return (struct kvm_segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .type = attr & 0xf,
        .s = attr >> 4 & 1,
        .dpl = attr >> 5 & 3,
        .present = attr >> 7 & 1,
        .avl = attr >> 12 & 1,
        .l = attr >> 13 & 1,
        .db = attr >> 14 & 1,
        .g = attr >> 15 & 1,
        .unusable = (attr & SEG_ATTR_UNUSABLE) != 0,
    };
}

/* In the order of enum cpu_seg. */
static struct kvm_segment *segment_at(struct kvm_sregs *sregs, unsigned index)
{
    struct kvm_segment *const order[SEG_COUNT] = {
        [SEG_ES] = &sregs->es, [SEG_CS] = &sregs->cs,    [SEG_SS] = &sregs->ss,
        [SEG_DS] = &sregs->ds, [SEG_FS] = &sregs->fs,    [SEG_GS] = &sregs->gs,
        [SEG_TR] = &sregs->tr, [SEG_LDTR] = &sregs->ldt,
    };

    return order[index];
}

/* In the order of enum cpu_gpr. */
static __u64 *gpr_at(struct kvm_regs *regs, unsigned index)
{
    __u64 *const order[GPR_COUNT] = {&regs->rax, &regs->rcx, &regs->rdx, &regs->rbx,
                                     &regs->rsp, &regs->rbp, &regs->rsi, &regs->rdi,
                                     &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
                                     &regs->r12, &regs->r13, &regs->r14, &regs->r15};

    return order[index];
}

/* --- out of the guest --- */

static int get_regs(struct kvm_vcpu *vcpu, struct cpu_state *s)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_REGS, &regs);

    if (r == 0) {
        r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_SREGS, &sregs);
    }
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        s->gpr[i] = *gpr_at(&regs, i);
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        s->seg[i] = segment_in(segment_at(&sregs, i));
    }
    s->rip = regs.rip;
    s->rflags = regs.rflags;
    s->gdt = (struct cpu_table){.base = sregs.gdt.base, .limit = sregs.gdt.limit};
    s->idt = (struct cpu_table){.base = sregs.idt.base, .limit = sregs.idt.limit};
    s->cr0 = sregs.cr0;
    s->cr2 = sregs.cr2;
    s->cr3 = sregs.cr3;
    s->cr4 = sregs.cr4;
    s->cr8 = sregs.cr8;
    s->efer = sregs.efer;
    s->apic_base = sregs.apic_base;
    return 0;
}

static int get_fpu(struct kvm_vcpu *vcpu, struct cpu_state *s)
{
    struct kvm_xcrs xcrs = {0};
    int r;

    /* Only components that a process must ask its kernel for (AMX) would need more
     * (KVM_CAP_XSAVE2), and we never ask. */
    _Static_assert(sizeof(struct kvm_xsave) == CPU_XSAVE_BYTES, "one XSAVE area");
    r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_XSAVE, s->xsave);
    if (r == 0) {
        r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_XCRS, &xcrs);
    }
    s->xcr0 = 1;
    for (uint32_t i = 0; r == 0 && i < xcrs.nr_xcrs; i++) {
        if (xcrs.xcrs[i].xcr == 0) {
            s->xcr0 = xcrs.xcrs[i].value;
        }
    }
    return r;
}

static int get_run_state(struct kvm_vcpu *vcpu, struct cpu_state *s)
{
    struct kvm_mp_state mp = {0};
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_MP_STATE, &mp);

    if (r == 0) {
        s->run_state = mp.mp_state == KVM_MP_STATE_HALTED     ? CPU_HALTED
                       : mp.mp_state == KVM_MP_STATE_RUNNABLE ? CPU_RUNNABLE
                                                              : CPU_WAIT_FOR_SIPI;
    }
    return r;
}

static int get_debug_lapic(struct kvm_vcpu *vcpu, struct cpu_state *s)
{
    struct kvm_debugregs debug;
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_DEBUGREGS, &debug);

    _Static_assert(sizeof(struct kvm_lapic_state) == CPU_LAPIC_BYTES, "one page of registers");
    if (r == 0) {
        memcpy(s->dr, debug.db, sizeof(debug.db));
        s->dr[6] = debug.dr6;
        s->dr[7] = debug.dr7;
        r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_LAPIC, s->lapic);
    }
    return r;
}

static void get_msrs(struct kvm_vcpu *vcpu, struct cpu_state *s)
{
    for (size_t i = 0; i < ARRAY_LEN(g_msrs); i++) {
        for (uint32_t j = 0; j < g_msrs[i].count && s->msr_count < CPU_MSR_MAX; j++) {
            struct cpu_msr *msr = &s->msr[s->msr_count];

            if (get_msr(vcpu, g_msrs[i].first + j, &msr->value) == 0) {
                msr->index = g_msrs[i].first + j;
                s->msr_count++;
            }
        }
    }
}

static int get_events(struct kvm_vcpu *vcpu, struct cpu_state *s)
{
    struct kvm_vcpu_events events;
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);

    if (r < 0) {
        return r;
    }
    s->events = (struct cpu_events){
        .interrupt_shadow = events.interrupt.shadow,
        .nmi_blocked = events.nmi.masked,
        .nmi_pending = events.nmi.pending,
        .nmi_injected = events.nmi.injected,
        .exception_pending = events.exception.injected,
        .exception_vector = events.exception.nr,
        .exception_has_error = events.exception.has_error_code,
        .exception_error = events.exception.error_code,
        /* a software interrupt is not taken from anywhere: its INT instruction runs again */
        .interrupt_pending = events.interrupt.injected && !events.interrupt.soft,
        .interrupt_vector = events.interrupt.nr,
    };
    return 0;
}

int kvm_vcpu_get(struct hv_vcpu *hv, struct cpu_state *ret_state)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);
    struct cpu_state *s = calloc(1, sizeof(*s));
    int r = s ? get_run_state(vcpu, s) : -ENOMEM;

    if (r == 0) {
        r = get_regs(vcpu, s);
    }
    if (r == 0) {
        r = get_fpu(vcpu, s);
    }
    if (r == 0) {
        r = get_debug_lapic(vcpu, s);
    }
    if (r == 0) {
        get_msrs(vcpu, s);
        r = get_events(vcpu, s);
    }
    if (r == 0) {
        memcpy(ret_state, s, sizeof(*s));
    }
    free(s);
    return r;
}

/* --- into the guest --- */

static int set_regs(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    struct kvm_regs regs = {.rip = s->rip, .rflags = s->rflags};
    struct kvm_sregs sregs = {
        .gdt = {.base = s->gdt.base, .limit = s->gdt.limit},
        .idt = {.base = s->idt.base, .limit = s->idt.limit},
        .cr0 = s->cr0,
        .cr2 = s->cr2,
        .cr3 = s->cr3,
        .cr4 = s->cr4,
        .cr8 = s->cr8,
        .efer = s->efer,
        .apic_base = s->apic_base | (vcpu->index == 0 ? APIC_BASE_BSP : 0),
    };
    int r;

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        *gpr_at(&regs, i) = s->gpr[i];
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        *segment_at(&sregs, i) = segment_out(&s->seg[i]);
    }
    r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_SREGS, &sregs);
    return r < 0 ? r : kvm_ioctl_ptr(vcpu->fd, KVM_SET_REGS, &regs);
}

static int set_fpu(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = s->xcr0}};
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_XCRS, &xcrs);

    return r < 0 ? r : kvm_ioctl_ptr(vcpu->fd, KVM_SET_XSAVE, s->xsave);
}

static int set_run_state(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    /* INIT_RECEIVED, not UNINITIALIZED: KVM takes a SIPI only in the former. */
    struct kvm_mp_state mp = {.mp_state = s->run_state == CPU_HALTED ? KVM_MP_STATE_HALTED
                                          : s->run_state == CPU_RUNNABLE
                                              ? KVM_MP_STATE_RUNNABLE
                                              : KVM_MP_STATE_INIT_RECEIVED};

    return kvm_ioctl_ptr(vcpu->fd, KVM_SET_MP_STATE, &mp);
}

static int set_debug_regs(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    struct kvm_debugregs debug = {.dr6 = s->dr[6], .dr7 = s->dr[7]};

    memcpy(debug.db, s->dr, sizeof(debug.db));
    return kvm_ioctl_ptr(vcpu->fd, KVM_SET_DEBUGREGS, &debug);
}

static int set_debug_lapic(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    int r = set_debug_regs(vcpu, s);

    /* A state that names no APIC version (offset 30H) carries no APIC: keep the one of power-on. */
    if (r == 0 && load_le32(s->lapic + APIC_VERSION) != 0) {
        r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_LAPIC, s->lapic);
    }
    return r;
}

/* The deadline goes last, whatever the order in the state; 0 into an MSR that KVM lacks is no loss.
 */
static int set_msrs(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    const struct cpu_msr *deadline = NULL;
    unsigned count = s->msr_count < CPU_MSR_MAX ? s->msr_count : CPU_MSR_MAX;

    for (unsigned i = 0; i < count; i++) {
        const struct cpu_msr *msr = &s->msr[i];
        int r;

        if (msr->index == MSR_TSC_DEADLINE) {
            deadline = msr;
            continue;
        }
        r = set_msr(vcpu, msr->index, msr->value);
        if (r < 0 && !(r == -EINVAL && msr->value == 0)) {
            return r;
        }
    }
    return deadline ? set_msr(vcpu, deadline->index, deadline->value) : 0;
}

static int set_events(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    struct kvm_vcpu_events events = {
        .interrupt.injected = s->events.interrupt_pending,
        .interrupt.nr = s->events.interrupt_vector,
        .interrupt.shadow = s->events.interrupt_shadow,
        .nmi.masked = s->events.nmi_blocked,
        .nmi.pending = s->events.nmi_pending,
        .nmi.injected = s->events.nmi_injected,
        .exception.injected = s->events.exception_pending,
        .exception.nr = s->events.exception_vector,
        .exception.has_error_code = s->events.exception_has_error,
        .exception.error_code = s->events.exception_error,
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
    };

    return kvm_ioctl_ptr(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
}

/* A halted CPU would wait where it is told to go. */
static int wake_if_moved(struct kvm_vcpu *vcpu, const struct cpu_state *s)
{
    struct kvm_mp_state mp;
    struct kvm_regs regs;
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_REGS, &regs);

    if (r < 0 || regs.rip == s->rip) {
        return r;
    }
    r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_MP_STATE, &mp);
    if (r == 0 && mp.mp_state == KVM_MP_STATE_HALTED) {
        mp.mp_state = KVM_MP_STATE_RUNNABLE;
        r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_MP_STATE, &mp);
    }
    return r;
}

/* KVM_SET_REGS forgets an exception that is due: the events come first and are put back. */
int kvm_vcpu_set_regs(struct hv_vcpu *hv, const struct cpu_state *state)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);
    struct kvm_vcpu_events events;
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);

    if (r == 0) {
        r = wake_if_moved(vcpu, state);
    }
    if (r == 0) {
        r = set_regs(vcpu, state);
    }
    if (r == 0) {
        r = set_fpu(vcpu, state);
    }
    if (r == 0) {
        r = set_debug_regs(vcpu, state);
    }
    for (unsigned i = 0; r == 0 && i < state->msr_count && i < CPU_MSR_MAX; i++) {
        if (state->msr[i].index == MSR_KERNEL_GS_BASE) {
            r = set_msr(vcpu, MSR_KERNEL_GS_BASE, state->msr[i].value);
        }
    }
    return r < 0 ? r : kvm_ioctl_ptr(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
}

void kvm_vcpu_paused(struct hv_vcpu *hv)
{
    /* a guest without kvm-clock has nothing to be told by: -EINVAL */
    (void)kvm_ioctl(kvm_vcpu_of(hv)->fd, KVM_KVMCLOCK_CTRL, 0);
}

int kvm_vcpu_set(struct hv_vcpu *hv, const struct cpu_state *state)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);
    int r = 0;

    if (vcpu->vm->tsc_khz) {
        r = kvm_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, vcpu->vm->tsc_khz);
    }
    if (r == 0) {
        r = set_run_state(vcpu, state);
    }
    if (r == 0) {
        r = set_regs(vcpu, state);
    }
    if (r == 0) {
        r = set_fpu(vcpu, state);
    }
    if (r == 0) {
        r = set_debug_lapic(vcpu, state);
    }
    if (r == 0) {
        r = set_msrs(vcpu, state);
    }
    return r < 0 ? r : set_events(vcpu, state);
}
