/* vm.c — /dev/kvm, a VM in it, guest memory; and the backend's table. */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_int.h"
#include "mem/map.h"

/* Three pages for Intel's real mode emulation and one for its identity map, below the BIOS area of
 * a PC and outside RAM (Documentation/virt/kvm/api.rst, 4.36 and 4.42). */
#define TSS_ADDR      UINT64_C(0xfffbd000)
#define IDENTITY_ADDR UINT64_C(0xfffbc000)

int kvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
    for (;;) {
        int r = ioctl(fd, request, arg);

        if (r >= 0) {
            return r;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
    }
}

static int open_dev(struct err *err)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        return fd;
    }
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
        return err_set(
            err, -ENOENT,
            "no /dev/kvm: the CPU's virtualization is off or hidden, or the module is not "
            "loaded (modprobe kvm_intel or kvm_amd)");
    }
    if (errno == EACCES || errno == EPERM) {
        return err_set(err, -EACCES,
                       "/dev/kvm cannot be opened: permission denied; add yourself to its group "
                       "(usermod -aG kvm USER) and log in again");
    }
    return err_sys(err, "/dev/kvm cannot be opened");
}

/* KVM without a CPU's virtualization: the PVM module runs only kernels that were made for it, and
 * an ordinary one hangs in it without a word. */
static int check_module(struct err *err)
{
    unsigned a, b, c = 0, d, vmx, svm;

    /* In a jail there is no /sys; a CPU without VMX (CPUID 1, ECX bit 5) and SVM (8000_0001H, ECX
     * bit 2) says the same. */
    vmx = __get_cpuid(1, &a, &b, &c, &d) ? c >> 5 & 1 : 0;
    svm = __get_cpuid(0x80000001, &a, &b, &c, &d) ? c >> 2 & 1 : 0;
    if ((!vmx && !svm) ||
        (access("/sys/module/kvm_pvm", F_OK) == 0 && access("/sys/module/kvm_intel", F_OK) < 0 &&
         access("/sys/module/kvm_amd", F_OK) < 0)) {
        return err_set(
            err, -ENOTSUP,
            "/dev/kvm belongs to PVM here, which runs no ordinary kernels; this host's CPU "
            "offers no virtualization");
    }
    return 0;
}

/* `template` may take one from the list, or add to it. */
static bool is_needed(int cap, const struct cpu_template *template)
{
    for (size_t i = 0; template && i < template->cap_count; i++) {
        if (template->caps[i].is_removed && template->caps[i].number == (uint32_t)cap) {
            return false;
        }
    }
    return true;
}

static int check_dev(int fd, const struct cpu_template *template, struct err *err)
{
    static const struct {
        int cap;
        const char *name;
    } needed[] = {
        {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
        {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
        {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
        {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
        {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
        {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
        {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
        {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
        {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
        {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
        {KVM_CAP_XCRS, "KVM_CAP_XCRS"},
        {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
        {KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER"},
    };
    int version = kvm_ioctl(fd, KVM_GET_API_VERSION, 0);
    int r = check_module(err);

    if (r < 0) {
        return r;
    }
    if (version != KVM_API_VERSION) {
        return err_set(err, -ENOTSUP, "/dev/kvm speaks API version %d, not %d", version,
                       KVM_API_VERSION);
    }
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (is_needed(needed[i].cap, template) &&
            kvm_ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)needed[i].cap) <= 0) {
            return err_set(err, -ENOTSUP, "/dev/kvm lacks %s: this host's kernel is too old",
                           needed[i].name);
        }
    }
    for (size_t i = 0; template && i < template->cap_count; i++) {
        if (!template->caps[i].is_removed &&
            kvm_ioctl(fd, KVM_CHECK_EXTENSION, template->caps[i].number) <= 0) {
            return err_set(err, -ENOTSUP, "Missing KVM capabilities: [%u]",
                           template->caps[i].number);
        }
    }
    return 0;
}

static int kvm_probe(struct err *err)
{
    AUTO_CLOSE int fd = open_dev(err);

    return fd < 0 ? fd : check_dev(fd, NULL, err);
}

static int add_memory(struct kvm_vm *vm, struct err *err)
{
    const struct mem_map *mem = vm->config.mem;

    for (unsigned i = 0; i < mem_range_count(mem); i++) {
        const struct mem_range *range = mem_range_at(mem, i);
        struct kvm_userspace_memory_region region = {
            .slot = i,
            .flags = mem_dirty_is_tracked(mem) ? KVM_MEM_LOG_DIRTY_PAGES : 0,
            .guest_phys_addr = range->gpa.v,
            .memory_size = range->len,
            .userspace_addr = (uintptr_t)range->host,
        };
        /* of slots, none is there yet */
        int r = range->slots ? 0 : kvm_ioctl_ptr(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);

        if (r < 0) {
            return err_set(err, r, "KVM: guest memory at 0x%llx: %s",
                           (unsigned long long)range->gpa.v, strerror(-r));
        }
    }
    return 0;
}

static int kvm_slot_changed(struct hv_vm *hv, unsigned index, uint64_t slot)
{
    const struct mem_map *mem = kvm_vm_of(hv)->config.mem;
    const struct mem_range *range = mem_range_at(mem, index);
    uint64_t offset = slot * range->slot_bytes;
    struct kvm_userspace_memory_region region = {
        .slot = KVM_FIRST_HOT_SLOT + (uint32_t)slot,
        .flags = mem_dirty_is_tracked(mem) ? KVM_MEM_LOG_DIRTY_PAGES : 0,
        .guest_phys_addr = range->gpa.v + offset,
        .memory_size = mem_slot_is_there(range, slot) ? range->slot_bytes : 0,
        .userspace_addr = (uintptr_t)range->host + offset,
    };

    return kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int kvm_extra_changed(struct hv_vm *hv, unsigned index)
{
    const struct mem_range *range = mem_extra_at(kvm_vm_of(hv)->config.mem, index);
    struct kvm_userspace_memory_region region = {
        .slot = MEM_RANGE_MAX + index, /* behind those of RAM; length 0 removes it */
        .flags = range->is_read_only ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = range->gpa.v,
        .memory_size = range->len,
        .userspace_addr = (uintptr_t)range->host,
    };

    return kvm_ioctl_ptr(kvm_vm_of(hv)->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* Lines go to the I/O APIC and nowhere else.  KVM's in-kernel chips bring a pair of 8259s too, and
 * by default a line reaches both: no guest of ours is told of the 8259s, so nobody would mask them.
 */
static int route_lines(struct kvm_vm *vm)
{
    AUTO_FREE struct kvm_irq_routing *routing =
        calloc(1, sizeof(*routing) + HV_IRQ_LINES * sizeof(routing->entries[0]));

    if (!routing) {
        return -ENOMEM;
    }
    routing->nr = HV_IRQ_LINES;
    for (unsigned i = 0; i < HV_IRQ_LINES; i++) {
        struct kvm_irq_routing_entry *entry = &routing->entries[i];

        entry->gsi = i;
        entry->type = KVM_IRQ_ROUTING_IRQCHIP;
        entry->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
        entry->u.irqchip.pin = i;
    }
    return kvm_ioctl_ptr(vm->fd, KVM_SET_GSI_ROUTING, routing);
}

static int set_up(struct kvm_vm *vm, struct err *err)
{
    uint64_t identity = IDENTITY_ADDR;
    int r;

    vm->dev_fd = open_dev(err);
    if (vm->dev_fd < 0) {
        return vm->dev_fd;
    }
    r = check_dev(vm->dev_fd, vm->config.cpu_template, err);
    if (r < 0) {
        return r;
    }
    vm->fd = kvm_ioctl(vm->dev_fd, KVM_CREATE_VM, 0);
    if (vm->fd < 0) {
        return err_set(err, vm->fd, "KVM: create a VM: %s", strerror(-vm->fd));
    }
    vm->run_bytes = kvm_ioctl(vm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    r = kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDR);
    if (r == 0) {
        r = kvm_ioctl_ptr(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    }
    if (r == 0) {
        r = kvm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0);
    }
    if (r == 0) {
        r = route_lines(vm);
    }
    if (r < 0 || vm->run_bytes < (int)sizeof(struct kvm_run)) {
        return err_set(err, r < 0 ? r : -EIO, "KVM: set up a VM: %s", strerror(r < 0 ? -r : EIO));
    }
    r = kvm_cpuid_init(vm, err);
    return r < 0 ? r : add_memory(vm, err);
}

static void kvm_vm_free(struct hv_vm *hv)
{
    struct kvm_vm *vm = kvm_vm_of(hv);

    if (vm->fd >= 0) {
        (void)close(vm->fd);
    }
    if (vm->dev_fd >= 0) {
        (void)close(vm->dev_fd);
    }
    (void)pthread_mutex_destroy(&vm->pulse_lock);
    free(vm);
}

static int kvm_vm_new(const struct hv_config *config, struct hv_vm **ret_vm, struct err *err)
{
    struct kvm_vm *vm = calloc(1, sizeof(*vm));
    int r;

    if (!vm) {
        return err_set(err, -ENOMEM, "KVM: out of memory");
    }
    vm->hv.ops = &hv_kvm_ops;
    vm->config = *config;
    vm->fd = -1;
    vm->dev_fd = -1;
    (void)pthread_mutex_init(&vm->pulse_lock, NULL);
    r = kvm_kick_init(err);
    if (r == 0) {
        r = set_up(vm, err);
    }
    if (r < 0) {
        kvm_vm_free(&vm->hv);
        return r;
    }
    *ret_vm = &vm->hv;
    return 0;
}

const struct hv_ops hv_kvm_ops = {
    .name = "kvm",
    .vcpu_max = HV_VCPU_MAX,
    .probe = kvm_probe,
    .vm_new = kvm_vm_new,
    .vm_free = kvm_vm_free,
    .vcpu_new = kvm_vcpu_new,
    .vcpu_free = kvm_vcpu_free,
    .vcpu_run = kvm_vcpu_run,
    .vcpu_kick = kvm_vcpu_kick,
    .vcpu_get = kvm_vcpu_get,
    .vcpu_set = kvm_vcpu_set,
    .vcpu_paused = kvm_vcpu_paused,
    .vm_cpuid = kvm_vm_cpuid,
    .vm_get = kvm_vm_get,
    .vm_set = kvm_vm_set,
    .vm_go = kvm_vm_go,
    .dirty_sync = kvm_dirty_sync,
    .dirty_restart = kvm_dirty_restart,
    .slot_changed = kvm_slot_changed,
    .extra_changed = kvm_extra_changed,
    .vcpu_why = kvm_vcpu_why,
    .vcpu_counters = kvm_vcpu_counters,
    .debug_set = kvm_debug_set,
    .debug_arm = kvm_debug_arm,
    .debug_disarm = kvm_debug_disarm,
    .vcpu_stop = kvm_vcpu_stop,
    .vcpu_set_regs = kvm_vcpu_set_regs,
    .irq_set = kvm_irq_set,
    .irq_pulse = kvm_irq_pulse,
    .msi = kvm_msi,
    .doorbell_add = kvm_doorbell_add,
    .doorbell_remove = kvm_doorbell_remove,
};
