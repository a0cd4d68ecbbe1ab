/* debug.c — vCPUs under a debugger, by KVM_SET_GUEST_DEBUG.
 *
 * Theory of operation.  KVM can stop a vCPU at an INT3, at the four debug registers, and behind
 * each instruction (Documentation/virt/kvm/api.rst, 4.87).  Hardware breakpoints and watched memory
 * take debug registers.  A software breakpoint is an INT3 in guest memory where its address is one
 * of the kernel's and mapped: that place is the same in all address spaces.  Where nothing is
 * mapped yet (a kernel that has just been entered), and in the lower half, where each process has
 * its own memory and shares that of files with others, it takes a debug register if there is one
 * left, else an INT3 as well.
 *
 * The INT3s are in memory from debug_arm to debug_disarm only, so a debugger reads what the guest
 * wrote.  One that the guest overwrote meanwhile is left alone.
 *
 * What is not the debugger's goes back to the guest: an INT3 at another address, a trap of its own
 * TF.  While debug registers are in use here, those of the guest have no effect.
 *
 * A step sets TF, and a fault on the way puts the flags with TF on the guest's stack; if the step
 * is given up before the handler returns, one more trap will come.  It is nobody's (step_is_open).
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bits.h"
#include "hv/kvm/kvm_int.h"
#include "hv/walk.h"

#define VECTOR_DB 1
#define VECTOR_BP 3
#define INT3      0xcc
#define TF        0x100u

/* DR6 and DR7: SDM volume 3, 17.2.3 and 17.2.4. */
#define DR6_HITS     0x000fu
#define DR6_STEP     0x4000u
#define DR6_TASK     0x8000u
#define DR7_FIXED    0x0400u
#define DR7_ON(i)    (UINT64_C(2) << (i)*2)
#define DR7_TYPE(i)  (16 + (i)*4)
#define DR7_LEN(i)   (18 + (i)*4)
#define DR_COUNT     4u
#define DR_MAX_BYTES 8u

/* --- where breakpoints go --- */

static int take_register(struct kvm_debug *d, const struct hv_break *b, uint64_t la, uint64_t len)
{
    /* R/W: execution, writes, I/O, any access; LEN: 1, 2, 8, 4 bytes */
    static const uint8_t types[] = {[HV_BREAK_SOFT] = 0,
                                    [HV_BREAK_HARD] = 0,
                                    [HV_WATCH_WRITE] = 1,
                                    [HV_WATCH_READ] = 3,
                                    [HV_WATCH_ACCESS] = 3};
    static const uint8_t lens[DR_MAX_BYTES + 1] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    unsigned i = 0;

    while (i < DR_COUNT && (d->dr7 & DR7_ON(i))) {
        i++;
    }
    if (i == DR_COUNT) {
        return -ENOSPC;
    }
    d->dr[i] = la;
    d->dr7 |=
        DR7_ON(i) | (uint64_t)types[b->kind] << DR7_TYPE(i) | (uint64_t)lens[len] << DR7_LEN(i);
    d->dr_for[i] = *b;
    return 0;
}

/* A register watches 1, 2, 4 or 8 bytes at a multiple of that. */
static uint64_t piece_of(uint64_t la, uint64_t left)
{
    for (uint64_t piece = DR_MAX_BYTES; piece > 1; piece /= 2) {
        if (piece <= left && la % piece == 0) {
            return piece;
        }
    }
    return 1;
}

static int place_watch(struct kvm_debug *d, const struct hv_break *b)
{
    uint64_t la = b->la, left = b->len;
    int r = left > DR_COUNT * DR_MAX_BYTES ? -ENOSPC : 0;

    while (r == 0 && left > 0) {
        uint64_t piece = piece_of(la, left);

        r = take_register(d, b, la, piece);
        la += piece;
        left -= piece;
    }
    return r;
}

/* As any vCPU has it: the kernel's half is the same everywhere, but for a vCPU that runs a process
 * and hides the kernel from it. */
static int find_memory(struct kvm_vm *vm, uint64_t la, gpa_t *ret_gpa)
{
    for (unsigned i = 0; i < vm->config.vcpu_count; i++) {
        struct kvm_sregs sregs;
        struct walk_root root;
        uint8_t byte;

        if (!vm->vcpu[i] || kvm_ioctl_ptr(vm->vcpu[i]->fd, KVM_GET_SREGS, &sregs) < 0) {
            continue;
        }
        root = (struct walk_root){
            .cr0 = sregs.cr0, .cr3 = sregs.cr3, .cr4 = sregs.cr4, .efer = sregs.efer};
        if (walk_linear(vm->config.mem, &root, la, ret_gpa) == 0 &&
            mem_read(vm->config.mem, *ret_gpa, &byte, 1) == 0) {
            return 0;
        }
    }
    return -EFAULT;
}

static int place_soft(struct kvm_vm *vm, struct kvm_debug *d, const struct hv_break *b)
{
    bool is_kernel = b->la >> 63;
    gpa_t gpa;
    int r = find_memory(vm, b->la, &gpa);

    if ((r < 0 || !is_kernel) && take_register(d, b, b->la, 1) == 0) {
        return 0;
    }
    if (r < 0) {
        return -ENOSPC;
    }
    d->int3[d->int3_count++] = (struct kvm_int3){.la = b->la, .gpa = gpa};
    return 0;
}

static int place_all(struct kvm_vm *vm, struct kvm_debug *d, const struct hv_debug *debug)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < debug->count; i++) {
        const struct hv_break *b = &debug->list[i];

        if (b->kind == HV_BREAK_HARD) {
            r = take_register(d, b, b->la, 1);
        } else if (b->kind != HV_BREAK_SOFT) {
            r = place_watch(d, b);
        }
    }
    for (unsigned i = 0; r == 0 && i < debug->count; i++) {
        if (debug->list[i].kind == HV_BREAK_SOFT) {
            r = place_soft(vm, d, &debug->list[i]);
        }
    }
    return r;
}

int kvm_debug_set(struct hv_vm *hv, const struct hv_debug *debug)
{
    struct kvm_vm *vm = kvm_vm_of(hv);
    struct kvm_debug placed = {.dr7 = DR7_FIXED, .is_on = debug->count > 0};
    int r = place_all(vm, &placed, debug);

    if (r == 0) {
        vm->debug = placed;
    }
    return r;
}

/* --- on and off --- */

static int tell_kvm(struct kvm_vcpu *vcpu, uint32_t control)
{
    const struct kvm_debug *d = &vcpu->vm->debug;
    struct kvm_guest_debug debug = {.control = control};
    int r;

    memcpy(debug.arch.debugreg, d->dr, sizeof(d->dr));
    debug.arch.debugreg[7] = d->dr7;
    r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug);
    if (r == 0) {
        vcpu->debug_control = control & ~(KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP);
    }
    return r;
}

static uint32_t control_of(const struct kvm_vm *vm, bool is_step)
{
    const struct kvm_debug *d = &vm->debug;
    uint32_t control = (d->int3_count ? KVM_GUESTDBG_USE_SW_BP : 0) |
                       (d->dr7 != DR7_FIXED && d->is_on ? KVM_GUESTDBG_USE_HW_BP : 0);

    if (is_step) {
        int known = kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);

        control |= KVM_GUESTDBG_SINGLESTEP;
        if (known > 0) { /* since Linux 5.16; without, a step leads into handlers */
            control |= (uint32_t)known & KVM_GUESTDBG_BLOCKIRQ;
        }
    }
    return control ? control | KVM_GUESTDBG_ENABLE : 0;
}

int kvm_debug_arm(struct hv_vm *hv, uint32_t step)
{
    static const uint8_t int3 = INT3;
    struct kvm_vm *vm = kvm_vm_of(hv);
    struct kvm_debug *d = &vm->debug;

    for (unsigned i = 0; i < d->int3_count; i++) {
        (void)mem_read(vm->config.mem, d->int3[i].gpa, &d->int3[i].saved, 1);
        (void)mem_write(vm->config.mem, d->int3[i].gpa, &int3, 1);
    }
    for (unsigned i = 0; i < vm->config.vcpu_count; i++) {
        struct kvm_vcpu *vcpu = vm->vcpu[i];
        uint32_t control = control_of(vm, step >> i & 1);
        int r;

        if (!vcpu || (control == 0 && vcpu->debug_control == 0)) {
            continue;
        }
        vcpu->step_is_open |= step >> i & 1;
        r = tell_kvm(vcpu, control);
        if (r < 0) {
            kvm_debug_disarm(hv);
            return r;
        }
    }
    return 0;
}

/* Backwards: two may be at one place. */
void kvm_debug_disarm(struct hv_vm *hv)
{
    struct kvm_vm *vm = kvm_vm_of(hv);
    struct kvm_debug *d = &vm->debug;

    for (unsigned i = d->int3_count; i-- > 0;) {
        uint8_t now;

        if (mem_read(vm->config.mem, d->int3[i].gpa, &now, 1) == 0 && now == INT3) {
            (void)mem_write(vm->config.mem, d->int3[i].gpa, &d->int3[i].saved, 1);
        }
    }
}

/* --- exits --- */

struct hv_stop kvm_vcpu_stop(const struct hv_vcpu *hv)
{
    return ((const struct kvm_vcpu *)hv)->stop;
}

static bool stopped(struct kvm_vcpu *vcpu, enum hv_stop_why why, const struct hv_break *at)
{
    vcpu->stop = (struct hv_stop){.why = why};
    if (at) {
        vcpu->stop.at = *at;
    }
    return true;
}

static bool exit_int3(struct kvm_vcpu *vcpu, uint64_t la)
{
    const struct kvm_debug *d = &vcpu->vm->debug;

    for (unsigned i = 0; i < d->int3_count; i++) {
        if (d->int3[i].la == la) {
            const struct hv_break at = {.kind = HV_BREAK_SOFT, .la = la};

            return stopped(vcpu, HV_STOP_BREAK, &at);
        }
    }
    (void)tell_kvm(vcpu, vcpu->debug_control | KVM_GUESTDBG_INJECT_BP);
    return false;
}

static bool exit_register(struct kvm_vcpu *vcpu, uint64_t dr6)
{
    const struct kvm_debug *d = &vcpu->vm->debug;

    for (unsigned i = 0; i < DR_COUNT && (vcpu->debug_control & KVM_GUESTDBG_USE_HW_BP); i++) {
        const struct hv_break *at = &d->dr_for[i];

        if ((dr6 & BIT(i)) && (d->dr7 & DR7_ON(i))) {
            bool is_place = at->kind == HV_BREAK_SOFT || at->kind == HV_BREAK_HARD;

            return stopped(vcpu, is_place ? HV_STOP_BREAK : HV_STOP_WATCH, at);
        }
    }
    return false;
}

/* A step that was given up has ended at last. */
static void close_step(struct kvm_vcpu *vcpu)
{
    struct kvm_regs regs;

    vcpu->step_is_open = false;
    if (kvm_ioctl_ptr(vcpu->fd, KVM_GET_REGS, &regs) == 0) {
        regs.rflags &= ~(uint64_t)TF;
        (void)kvm_ioctl_ptr(vcpu->fd, KVM_SET_REGS, &regs);
    }
}

static void give_back_trap(struct kvm_vcpu *vcpu, uint64_t dr6)
{
    struct kvm_debugregs regs;

    if (kvm_ioctl_ptr(vcpu->fd, KVM_GET_DEBUGREGS, &regs) == 0) {
        regs.dr6 = (regs.dr6 & ~(uint64_t)DR6_HITS) | (dr6 & (DR6_HITS | DR6_STEP | DR6_TASK));
        (void)kvm_ioctl_ptr(vcpu->fd, KVM_SET_DEBUGREGS, &regs);
    }
    (void)tell_kvm(vcpu, vcpu->debug_control | KVM_GUESTDBG_INJECT_DB);
}

bool kvm_debug_exit(struct kvm_vcpu *vcpu)
{
    const struct kvm_debug_exit_arch exit = vcpu->run->debug.arch;

    if (exit.exception == VECTOR_BP) {
        return exit_int3(vcpu, exit.pc);
    }
    if (exit_register(vcpu, exit.dr6)) {
        return true;
    }
    if (exit.exception == VECTOR_DB && (exit.dr6 & DR6_STEP)) {
        if (vcpu->debug_control & KVM_GUESTDBG_SINGLESTEP) {
            vcpu->step_is_open = false;
            return stopped(vcpu, HV_STOP_STEP, NULL);
        }
        if (vcpu->step_is_open) {
            close_step(vcpu);
            return false;
        }
    }
    give_back_trap(vcpu, exit.dr6);
    return false;
}
