/* sys_call.c — SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, INT, VMCALL.
 *
 * Vendors differ (SDM volume 2; APM volume 3): on AMD SYSENTER and SYSEXIT are undefined in long
 * mode and SYSCALL works in compatibility mode; Intel is the other way round.  SYSRET to an address
 * that is not canonical faults in the kernel on Intel, in user mode on AMD.  SYSRET loads fixed
 * attributes into SS, as Intel does; SYSCALL outside long mode, which only AMD has, is #UD.
 *
 * Both look at TF when they are done, not as they begin: SYSCALL traps if its mask lets TF pass,
 * and SYSRET traps at once where it returns to, before the first instruction there.  Linux has
 * observed it (arch/x86/entry/entry_64.S); the manuals do not say.
 */
#include "base/clock.h"
#include "hv/soft/cpu/cpuid.h"
#include "hv/soft/ref/sys.h"
#include "mem/map.h"
#include "x86/msr.h"

static void enter_flat(struct vcpu *v, uint16_t cs, uint16_t ss, unsigned cpl, bool is_64,
                       uint64_t rip)
{
    struct sys_target target = {.cs = sys_flat_code(cs, cpl, is_64), .rip = rip};

    v->seg[SEG_SS] = sys_flat_stack(ss, cpl);
    sys_enter(v, &target, cpl);
}

enum ref_result sys_syscall(struct vcpu *v, const struct insn *insn)
{
    uint16_t selector = (uint16_t)(v->star >> 32);
    bool is_64 = v->mode == MODE_LONG64;
    uint64_t flags = vcpu_rflags(v) & ~(uint64_t)FLAG_RF;

    if (!(v->efer & EFER_SCE) || !(v->efer & EFER_LMA) || (!is_64 && !cpuid_is_amd(v->cpuid))) {
        vcpu_raise(v, EXC_UD);
    }
    v->gpr[GPR_RCX] = v->rip + insn->len;
    v->gpr[GPR_R11] = flags;
    vcpu_set_rflags(v, (flags & ~v->sfmask) | FLAG_1);
    enter_flat(v, selector, (uint16_t)(selector + 8), 0, true, is_64 ? v->lstar : v->cstar);
    v->trap_due = v->trap_due && vcpu_has_flag(v, FLAG_TF);
    return REF_JUMP;
}

enum ref_result sys_sysret(struct vcpu *v, const struct insn *insn)
{
    uint16_t selector = (uint16_t)(v->star >> 48);
    uint64_t rip = v->gpr[GPR_RCX];
    bool is_64 = insn->opsize == 8;

    if (!(v->efer & EFER_SCE) || v->mode != MODE_LONG64) {
        vcpu_raise(v, EXC_UD);
    }
    sys_need_cpl0(v);
    if (is_64 && !vcpu_is_canonical(rip) && !cpuid_is_amd(v->cpuid)) {
        sys_gp(v, 0);
    }
    vcpu_set_rflags(v, (v->gpr[GPR_R11] & 0x3c7fd7) | FLAG_1);
    enter_flat(v, (uint16_t)(selector + (is_64 ? 16 : 0)), (uint16_t)(selector + 8), 3, is_64,
               is_64 ? rip : (uint32_t)rip);
    v->trap_due = false;
    if (vcpu_has_flag(v, FLAG_TF)) {
        vcpu_raise_step(v);
    }
    return REF_JUMP;
}

/* SYSENTER and SYSEXIT exist in protected mode; in long mode on Intel only. */
static void need_sysenter(struct vcpu *v)
{
    if (v->mode == MODE_REAL) {
        sys_gp(v, 0);
    }
    if ((v->efer & EFER_LMA) && cpuid_is_amd(v->cpuid)) {
        vcpu_raise(v, EXC_UD);
    }
}

enum ref_result sys_sysenter(struct vcpu *v, const struct insn *insn)
{
    uint16_t selector = (uint16_t)v->sysenter[0];
    bool is_long = (v->efer & EFER_LMA) != 0;

    (void)insn;
    need_sysenter(v);
    if (!(selector & 0xfffc)) {
        sys_gp(v, 0);
    }
    vcpu_set_rflags(v, vcpu_rflags(v) & ~(uint64_t)(FLAG_IF | FLAG_VM | FLAG_RF));
    v->gpr[GPR_RSP] = is_long ? v->sysenter[1] : (uint32_t)v->sysenter[1];
    enter_flat(v, selector, (uint16_t)((selector & 0xfffc) + 8), 0, is_long,
               is_long ? v->sysenter[2] : (uint32_t)v->sysenter[2]);
    return REF_JUMP;
}

enum ref_result sys_sysexit(struct vcpu *v, const struct insn *insn)
{
    uint16_t selector = (uint16_t)(v->sysenter[0] & 0xfffc);
    uint64_t rip = v->gpr[GPR_RDX];
    uint64_t rsp = v->gpr[GPR_RCX];
    bool is_64 = insn->opsize == 8;

    need_sysenter(v);
    if (!selector || v->cpl != 0 ||
        (is_64 && (!vcpu_is_canonical(rip) || !vcpu_is_canonical(rsp)))) {
        sys_gp(v, 0);
    }
    v->gpr[GPR_RSP] = is_64 ? rsp : (uint32_t)rsp;
    enter_flat(v, (uint16_t)(selector + (is_64 ? 32 : 16)),
               (uint16_t)(selector + (is_64 ? 40 : 24)), 3, is_64, is_64 ? rip : (uint32_t)rip);
    return REF_JUMP;
}

enum ref_result sys_swapgs(struct vcpu *v, const struct insn *insn)
{
    uint64_t base = v->seg[SEG_GS].base;

    (void)insn;
    if (v->mode != MODE_LONG64) {
        vcpu_raise(v, EXC_UD);
    }
    sys_need_cpl0(v);
    v->seg[SEG_GS].base = v->kernel_gs_base;
    v->kernel_gs_base = base;
    return REF_NEXT;
}

/* INT, INT3, INT1, INTO */
enum ref_result sys_int(struct vcpu *v, const struct insn *insn)
{
    uint64_t next_rip = v->rip + insn->len;
    uint8_t vector = (uint8_t)insn->imm;

    if (insn->op == INSN_INTO) {
        if (!(vcpu_rflags(v) & FLAG_OF)) {
            return REF_NEXT;
        }
        vector = EXC_OF;
    } else if (insn->op == INSN_INT3) {
        vector = EXC_BP;
    } else if (insn->op == INSN_INT1) {
        sys_icebp(v, next_rip);
        return REF_JUMP;
    }
    ref_int(v, vector, next_rip);
    return REF_JUMP;
}

/* The hypercalls of KVM guests (Linux, Documentation/virt/kvm/x86/hypercalls.rst): number in RAX,
 * arguments in RBX and RCX. */
#define KVM_HC_KICK_CPU      5 /* RCX: APIC ID; waiters for a spinlock sleep in HLT until it comes */
#define KVM_HC_CLOCK_PAIRING 9 /* RBX: where to write; RCX: which clock */
#define KVM_ENOSYS           (-1000)
#define KVM_EPERM            (-1)
#define KVM_EFAULT           (-14)
#define KVM_EOPNOTSUPP       (-95)

/* The host's wall clock and the guest's TSC at the same moment: Linux makes /dev/ptp0 of it. */
struct clock_pairing {
    int64_t sec;
    int64_t nsec;
    uint64_t tsc;
    uint32_t flags;
    uint32_t pad[9];
};

_Static_assert(sizeof(struct clock_pairing) == 64, "Linux: arch/x86/include/uapi/asm/kvm_para.h");

static int64_t pair_clocks(struct vcpu *v, uint64_t gpa, uint64_t clock)
{
    struct clock_pairing pairing = {.tsc = v->platform->tsc(v)};
    int64_t now_ns = clock_wall_ns();

    if (clock != 0) { /* the wall clock is the only one */
        return KVM_EOPNOTSUPP;
    }
    pairing.sec = now_ns / NS_PER_S;
    pairing.nsec = now_ns % NS_PER_S;
    return mem_write(v->mem, GPA(gpa), &pairing, sizeof(pairing)) < 0 ? KVM_EFAULT : 0;
}

enum ref_result sys_vmcall(struct vcpu *v, const struct insn *insn)
{
    int64_t result = KVM_ENOSYS;

    (void)insn;
    if (v->cpl != 0) {
        result = KVM_EPERM;
    } else if ((uint32_t)v->gpr[GPR_RAX] == KVM_HC_KICK_CPU) {
        v->platform->unhalt(v, (uint32_t)v->gpr[GPR_RCX]);
        result = 0;
    } else if ((uint32_t)v->gpr[GPR_RAX] == KVM_HC_CLOCK_PAIRING) {
        result = pair_clocks(v, v->gpr[GPR_RBX], v->gpr[GPR_RCX]);
    }
    v->gpr[GPR_RAX] = (uint64_t)result;
    return REF_NEXT;
}
