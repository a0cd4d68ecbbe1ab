/* assemble.c — build a machine from its configuration; one screen, in order. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "boot/boot.h"
#include "boot/layout.h"
#include "dev/chip/uart16550.h"
#include "host/uffd.h"
#include "io/loop.h"
#include "machine/generation.h"
#include "machine/layout.h"
#include "machine/machine_int.h"
#include "metrics/metrics.h"

/* The time of an access is worth asking only for somebody who reads it. */
static void access_timed(struct bus *bus, uint64_t addr, void *data, unsigned len, bool is_write,
                         struct metric_agg *agg)
{
    int64_t start_ns;

    if (!metrics_is_open()) {
        bus_access(bus, addr, data, len, is_write);
        return;
    }
    start_ns = clock_mono_ns();
    bus_access(bus, addr, data, len, is_write);
    metric_time(agg, (uint64_t)((clock_mono_ns() - start_ns) / NS_PER_US));
}

static void on_pio(void *owner, uint16_t port, void *data, unsigned len, bool is_write)
{
    struct metrics_vcpu *metrics = &g_metrics.vcpu;

    metric_inc(is_write ? &metrics->exit_io_out : &metrics->exit_io_in);
    access_timed(&((struct machine *)owner)->pio, port, data, len, is_write,
                 is_write ? &metrics->exit_io_out_agg : &metrics->exit_io_in_agg);
}

/* On a thread that the engine made. */
static void enter_thread(void *owner)
{
    machine_enter_thread(owner, CONFIG_THREAD_DEVICES);
}

static void on_mmio(void *owner, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    struct metrics_vcpu *metrics = &g_metrics.vcpu;

    metric_inc(is_write ? &metrics->exit_mmio_write : &metrics->exit_mmio_read);
    access_timed(&((struct machine *)owner)->mmio, gpa.v, data, len, is_write,
                 is_write ? &metrics->exit_mmio_write_agg : &metrics->exit_mmio_read_agg);
}

static int add_cpus(struct machine *m, struct err *err)
{
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        int r = hv_vcpu_new(m->vm, i, &m->vcpus[i].hv, err);

        if (r < 0) {
            /* A template that does not fit has its own words, and it fits no vCPU. */
            return r == -ENOTSUP ? r : err_wrap(err, r, "vCPU %u", i);
        }
        m->vcpus[i].machine = m;
        m->vcpus[i].index = i;
    }
    return 0;
}

/* What the guest is told of: Firecracker's guests reset by keyboard and expect all of its tables;
 * our own init powers off, and need not probe for what it does not use. */
static void describe_platform(const struct machine *m, const struct vm_config *config,
                              struct acpi_config *acpi, struct acpi_generation *generation)
{
    if (config->is_microvm || m->pci) {
        acpi->mmconfig = GPA(LAYOUT_PCI_MMCONFIG);
    }
    if (config->is_microvm) {
        acpi->i8042_port = LAYOUT_I8042_PORT;
        acpi->i8042_irq = LAYOUT_I8042_IRQ;
        acpi->has_rtc = true;
    } else {
        acpi->power_port = LAYOUT_POWER_PORT;
    }
    if (m->generation_irq) {
        *generation = (struct acpi_generation){.id = GPA(BOOT_VMGENID),
                                               .id_irq = m->generation_irq,
                                               .clock = GPA(BOOT_VMCLOCK),
                                               .clock_irq = m->generation_irq + 1};
        acpi->generation = generation;
    }
}

/* Kernel, initrd, command line, tables into memory; the boot processor to its first instruction. */
static int load_kernel(struct machine *m, const struct vm_config *config,
                       const struct kernel *kernel, struct err *err)
{
    struct acpi_virtio virtio[MACHINE_DEVICE_MAX];
    struct acpi_generation generation;
    struct acpi_config acpi = {.vcpu_count = m->vcpu_count,
                               .virtio = virtio,
                               .virtio_count = m->pci ? 0 : m->slot_count,
                               .first_irq = LAYOUT_VIRTIO_IRQ,
                               .uart_port = LAYOUT_UART_PORT,
                               .uart_len = UART_PORT_LEN,
                               .uart_irq = LAYOUT_UART_IRQ};
    struct acpi_pci pci;
    struct boot_part initrd = {.data = config->initrd, .len = config->initrd_len};
    struct boot_config boot = {.mem = m->mem,
                               .kernel = kernel,
                               .initrd = &initrd,
                               .initrd_count = config->initrd ? 1 : 0,
                               .cmdline = buf_str(&m->cmdline),
                               .acpi = &acpi,
                               .is_pvh = config->is_microvm && kernel->setup.payload_len == 0 &&
                                         kernel->elf.pvh_entry};
    AUTO_FREE struct cpu_state *state = malloc(sizeof(*state));
    int r;

    if (!state) {
        return err_set(err, -ENOMEM, "boot: out of memory");
    }
    for (unsigned i = 0; i < acpi.virtio_count; i++) {
        virtio[i] = (struct acpi_virtio){
            .gpa = GPA(m->slots[i].gpa), .len = LAYOUT_VIRTIO_STRIDE, .irq = m->slots[i].irq};
    }
    if (getrandom(&boot.random, sizeof(boot.random), 0) != (ssize_t)sizeof(boot.random)) {
        return err_sys(err, "getrandom");
    }
    if (m->pci) {
        machine_describe_pci(&pci);
        acpi.pci = &pci;
    }
    describe_platform(m, config, &acpi, &generation);
    r = m->generation_irq ? machine_write_generation(m, err) : 0;
    if (r < 0) {
        return r;
    }
    r = boot_load(&boot, state, err);
    if (r < 0) {
        return r;
    }
    log_debug("Kernel loaded using %s boot protocol%s", boot.is_pvh ? "PVH" : "Linux 64-bit",
              kernel->setup.payload_len > 0 ? " (bzImage)" : "");
    r = hv_vcpu_set(m->vcpus[0].hv, state);
    return r < 0 ? err_set(err, r, "set the first CPU's state: error %d", r) : 0;
}

static int add_boot(struct machine *m, const struct vm_config *config, struct err *err)
{
    struct kernel *kernel = NULL;
    int r = config->kernel_fd
                ? kernel_open_fd(config->kernel_fd, config->kernel, config->cache_dir, &kernel, err)
                : kernel_open(config->kernel, config->cache_dir, &kernel, err);

    if (r == 0) {
        r = machine_cmdline_end(m, err);
    }
    if (r == 0) {
        r = load_kernel(m, config, kernel, err);
    }
    kernel_close(kernel);
    return r;
}

/* The VM and its CPUs; those of a snapshot go on showing what they showed. */
static int add_engine(struct machine *m, const struct vm_config *config, struct hv_config *hv,
                      struct err *err)
{
    AUTO_FREE struct hv_cpuid *cpuid = NULL;
    int r = config->restored ? machine_load_cpuid(config->restored, &cpuid, err) : 0;

    hv->saved_cpuid = cpuid;
    if (r == 0) {
        r = hv_vm_new(m->backend.ops, hv, &m->vm, err);
    }
    return r < 0 ? r : add_cpus(m, err);
}

static int build(struct machine *m, const struct vm_config *config, const struct tty_port *console,
                 struct err *err)
{
    struct hv_config hv = {.client = &m->client,
                           .vcpu_count = config->vcpu_count,
                           .count_all = config->count_all,
                           .has_smt = config->has_smt,
                           .cpu_template = config->cpu_template};
    int r = backend_choose(config->engine, config->vcpu_count, &m->backend, err);

    m->vcpu_count = config->vcpu_count;
    m->restored = config->restored;
    if (r == 0) {
        r = machine_add_memory(m, config, err);
        hv.mem = m->mem;
    }
    if (r == 0) {
        r = add_engine(m, config, &hv, err);
    }
    if (r == 0) {
        r = machine_cmdline_begin(m, config, err);
    }
    if (r == 0) {
        r = machine_add_devices(m, config, console, err);
    }
    m->restored = NULL;
    return r < 0 || config->restored ? r : add_boot(m, config, err);
}

int machine_new(const struct vm_config *config, const struct tty_port *console,
                struct machine **ret_machine, struct err *err)
{
    struct machine *m;
    int r = config_check(config, err);

    if (r < 0) {
        return r;
    }
    m = calloc(1, sizeof(*m));
    if (!m) {
        return err_set(err, -ENOMEM, "machine: out of memory");
    }
    machine_pause_init(m);
    m->client = (struct hv_client){
        .pio = on_pio, .mmio = on_mmio, .enter_thread = enter_thread, .owner = m};
    m->enter_thread = config->enter_thread;
    m->enter_owner = config->enter_owner;
    m->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = m->end_fd < 0 ? err_sys(err, "eventfd") : build(m, config, console, err);
    if (r < 0) {
        machine_free(m);
        return r;
    }
    *ret_machine = m;
    return 0;
}

int machine_start(struct machine *m, struct err *err)
{
    int r = machine_start_paused(m, err);

    return r < 0 ? r : machine_resume(m, err);
}

void machine_free(struct machine *m)
{
    if (!m) {
        return;
    }
    machine_stop(m);
    machine_join_vcpus(m); /* while loops still answer what vCPUs wait for */
    for (unsigned i = 0; i < m->loop_count; i++) {
        loop_thread_stop(m->loops[i]);
    }
    machine_free_devices(m);
    for (unsigned i = 0; i < m->loop_count; i++) {
        loop_free(m->loops[i]);
    }
    for (unsigned i = 0; i < m->vcpu_count; i++) {
        hv_vcpu_free(m->vcpus[i].hv);
    }
    hv_vm_free(m->vm);
    mem_map_free(m->mem);
    uffd_close(m->uffd);
    buf_fini(&m->cmdline);
    machine_pause_fini(m);
    machine_debug_fini(m);
    if (m->end_fd >= 0) {
        (void)close(m->end_fd);
    }
    free(m);
}
