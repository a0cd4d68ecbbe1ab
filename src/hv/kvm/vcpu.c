/* vcpu.c — one KVM vCPU: run it, serve its I/O, get it out.
 *
 * Theory of operation.  A kick must end the current or the next KVM_RUN.  It sets `kicked` and
 * `immediate_exit`, then sends a signal with an empty handler to the thread that runs the vCPU: a
 * thread inside KVM_RUN is interrupted by the signal, one that is about to enter returns at once
 * because of `immediate_exit`.  The run loop clears `immediate_exit` before it looks at `kicked`,
 * so a kick between the two is not lost.
 *
 * An access that the client has served is complete only when KVM_RUN has been entered again
 * (Documentation/virt/kvm/api.rst, 5, "exit reasons"): before, RIP still stands at the instruction.
 * A kicked vCPU with such an access enters once more, with `immediate_exit` set, so that no guest
 * instruction runs and vcpu_get sees a state between two instructions.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_int.h"
#include "x86/apic.h"

#define KICK_SIGNAL SIGRTMIN

static void on_kick(int signal)
{
    (void)signal;
}

int kvm_kick_init(struct err *err)
{
    struct sigaction action = {.sa_handler = on_kick}; /* no SA_RESTART: KVM_RUN must return */

    return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? err_sys(err, "install the kick signal") : 0;
}

/* LINT1 is NMI, as firmware leaves it (MP specification 1.4, 3.6.2.2); LINT0, where a PC has its
 * 8259, stays masked, for there is none (see route_lines). */
static int set_lint(struct kvm_vcpu *vcpu)
{
    struct kvm_lapic_state lapic;
    uint32_t lint0 = APIC_LVT_MASKED;
    uint32_t lint1 = APIC_NMI << APIC_DELIVERY_SHIFT;
    int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_LAPIC, &lapic);

    if (r < 0) {
        return r;
    }
    memcpy(lapic.regs + APIC_LVT_LINT0, &lint0, 4);
    memcpy(lapic.regs + APIC_LVT_LINT1, &lint1, 4);
    return kvm_ioctl_ptr(vcpu->fd, KVM_SET_LAPIC, &lapic);
}

static int set_up(struct kvm_vcpu *vcpu, struct err *err)
{
    struct kvm_vm *vm = vcpu->vm;
    int r;

    vcpu->fd = kvm_ioctl(vm->fd, KVM_CREATE_VCPU, vcpu->index);
    if (vcpu->fd < 0) {
        return err_set(err, vcpu->fd, "KVM: create vCPU: %s", strerror(-vcpu->fd));
    }
    if (vcpu->index == 0) {
        vm->first_vcpu_fd = vcpu->fd;
    }
    vcpu->run = mmap(NULL, (size_t)vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        vcpu->run = NULL;
        return err_sys(err, "KVM: map the vCPU");
    }
    r = kvm_cpuid_set(vcpu, err);
    if (r < 0) {
        return r;
    }
    r = kvm_boot_msrs(vcpu);
    if (r == 0) {
        r = set_lint(vcpu);
    }
    return r < 0 ? err_set(err, r, "KVM: initial state: %s", strerror(-r))
                 : kvm_template_msrs(vcpu, err);
}

int kvm_vcpu_new(struct hv_vm *hv, unsigned index, struct hv_vcpu **ret_vcpu, struct err *err)
{
    struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    int r;

    if (!vcpu) {
        return err_set(err, -ENOMEM, "KVM: out of memory");
    }
    vcpu->hv.ops = &hv_kvm_ops;
    vcpu->vm = kvm_vm_of(hv);
    vcpu->index = index;
    vcpu->fd = -1;
    r = set_up(vcpu, err);
    if (r < 0) {
        kvm_vcpu_free(&vcpu->hv);
        return r;
    }
    vcpu->vm->vcpu[index] = vcpu;
    *ret_vcpu = &vcpu->hv;
    return 0;
}

void kvm_vcpu_free(struct hv_vcpu *hv)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);

    vcpu->vm->vcpu[vcpu->index] = NULL;
    if (vcpu->run) {
        (void)munmap(vcpu->run, (size_t)vcpu->vm->run_bytes);
    }
    if (vcpu->fd >= 0) {
        (void)close(vcpu->fd);
    }
    free(vcpu);
}

void kvm_vcpu_kick(struct hv_vcpu *hv)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);
    int tid;

    atomic_store_explicit(&vcpu->kicked, true, memory_order_seq_cst);
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    tid = atomic_load_explicit(&vcpu->tid, memory_order_seq_cst);
    if (tid) {
        (void)syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL);
    }
}

const char *kvm_vcpu_why(const struct hv_vcpu *hv)
{
    return ((const struct kvm_vcpu *)hv)->why;
}

size_t kvm_vcpu_counters(const struct hv_vcpu *hv, struct hv_counter *ret_counters)
{
    const struct kvm_vcpu *vcpu = (const struct kvm_vcpu *)hv;
    struct hv_counter *to = ret_counters;

#define X(field, text) *to++ = (struct hv_counter){.name = (text), .value = vcpu->exits.field};
    KVM_EXITS_LIST(X)
#undef X
    return (size_t)(to - ret_counters);
}

static void serve_pio(struct kvm_vcpu *vcpu)
{
    const struct hv_client *client = vcpu->vm->config.client;
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count; i++) {
        client->pio(client->owner, run->io.port, data + (size_t)i * run->io.size, run->io.size,
                    run->io.direction == KVM_EXIT_IO_OUT);
    }
}

static void serve_mmio(struct kvm_vcpu *vcpu)
{
    const struct hv_client *client = vcpu->vm->config.client;
    struct kvm_run *run = vcpu->run;

    client->mmio(client->owner, GPA(run->mmio.phys_addr), run->mmio.data, run->mmio.len,
                 run->mmio.is_write);
}

static enum hv_exit broken(struct kvm_vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;

    if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
        (void)snprintf(vcpu->why, sizeof(vcpu->why), "KVM internal error %u (data 0x%llx)",
                       run->internal.suberror, (unsigned long long)run->internal.data[0]);
    } else if (run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
        (void)snprintf(vcpu->why, sizeof(vcpu->why),
                       "KVM: the CPU refused to enter the guest, 0x%llx",
                       (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    } else {
        (void)snprintf(vcpu->why, sizeof(vcpu->why), "KVM: unexpected exit %u", run->exit_reason);
    }
    return HV_EXIT_BROKEN;
}

/* Serve one exit.  true: *exit says why to leave. */
static bool serve(struct kvm_vcpu *vcpu, enum hv_exit *exit)
{
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO:
        vcpu->exits.pio++;
        serve_pio(vcpu);
        vcpu->io_pending = true;
        return false;
    case KVM_EXIT_MMIO:
        vcpu->exits.mmio++;
        serve_mmio(vcpu);
        vcpu->io_pending = true;
        return false;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN: vcpu->exits.others++; return false;
    case KVM_EXIT_DEBUG:
        vcpu->exits.others++;
        *exit = HV_EXIT_DEBUG;
        return kvm_debug_exit(vcpu);
    case KVM_EXIT_SHUTDOWN: *exit = HV_EXIT_TRIPLE_FAULT; return true;
    default: *exit = broken(vcpu); return true;
    }
}

/* Is it time to leave?  If not, immediate_exit is as the next KVM_RUN needs it. */
static bool take_kick(struct kvm_vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (!atomic_load_explicit(&vcpu->kicked, memory_order_seq_cst)) {
        return false;
    }
    if (vcpu->io_pending) {
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        return false;
    }
    atomic_store_explicit(&vcpu->kicked, false, memory_order_seq_cst);
    return true;
}

/* Kicks reach this thread from now on, also if whoever made it blocks signals. */
static void take_thread(struct kvm_vcpu *vcpu)
{
    int tid = (int)gettid();
    sigset_t kick;

    if (tid != atomic_load_explicit(&vcpu->tid, memory_order_relaxed)) {
        (void)sigemptyset(&kick);
        (void)sigaddset(&kick, KICK_SIGNAL);
        (void)pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
        atomic_store_explicit(&vcpu->tid, tid, memory_order_seq_cst);
    }
}

int kvm_vcpu_run(struct hv_vcpu *hv, enum hv_exit *ret_exit)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);

    take_thread(vcpu);
    for (;;) {
        int r;

        if (take_kick(vcpu)) {
            *ret_exit = HV_EXIT_KICKED;
            return 0;
        }
        r = ioctl(vcpu->fd, KVM_RUN, 0);
        vcpu->io_pending = false;
        if (r < 0) {
            if (errno == EINTR || errno == EAGAIN) {
                vcpu->exits.interrupted++;
                continue;
            }
            r = -errno;
            (void)snprintf(vcpu->why, sizeof(vcpu->why), "KVM_RUN: %s", strerror(-r));
            return r;
        }
        if (serve(vcpu, ret_exit)) {
            return 0;
        }
    }
}
