/* acpi.c — the ACPI tables that tell Linux about our machine (ACPI specification 6.5).
 *
 * The tables are built one behind the other in a buffer that is then written to the guest as a
 * whole: DSDT, FADT, MADT, MCFG, XSDT.  Each is begun with begin_table() and ended with
 * end_table(), which fills in length and checksum.
 */
#include "boot/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "boot/acpi_devices.h"
#include "boot/acpi_pci.h"
#include "boot/aml.h"
#include "boot/layout.h"
#include "hv/hv.h"
#include "mem/map.h"
#include "x86/apic.h"

#define TABLE_ALIGN  16
#define HEADER_LEN   36 /* 5.2.6 */
#define RSDP_LEN     36 /* 5.2.5.3 */
#define RSDP_V1_LEN  20
#define FADT_LEN     276
#define DEVICES_MAX  1000 /* three digits in a device's name */
#define XAPIC_ID_MAX 254

/* FADT, 5.2.9: offsets and values. */
#define FADT_DSDT          40
#define FADT_BOOT_ARCH     109
#define FADT_FLAGS         112
#define FADT_RESET_REG     116
#define FADT_RESET_VALUE   128
#define FADT_MINOR         131
#define FADT_X_DSDT        140
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS  256
#define FADT_HYPERVISOR    268
#define BOOT_ARCH_NO_VGA   BIT(2)
#define BOOT_ARCH_NO_RTC   BIT(5)
#define FLAG_NO_PWR_BUTTON BIT(4)
#define FLAG_NO_SLP_BUTTON BIT(5)
#define FLAG_RESET_REG     BIT(10)
#define FLAG_HW_REDUCED    BIT(20)

/* MADT, 5.2.12. */
#define MADT_LAPIC  0
#define MADT_IOAPIC 1
#define MADT_X2APIC 9

/* With the tables' names: what tools for Firecracker's guests find. */
static const uint8_t g_oem[6] = {'F', 'I', 'R', 'E', 'C', 'K'};

static uint8_t checksum(const uint8_t *data, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + data[i]);
    }
    return (uint8_t)-sum;
}

/* Returns the offset of the table in the buffer. */
static size_t begin_table(struct buf *out, const char *signature, uint8_t revision,
                          const char *table_id)
{
    size_t at;

    buf_append_zero(out, -out->len & (TABLE_ALIGN - 1));
    at = out->len;
    buf_append(out, signature, 4);
    buf_append_le32(out, 0); /* length */
    buf_append_u8(out, revision);
    buf_append_u8(out, 0); /* checksum */
    buf_append(out, g_oem, sizeof(g_oem));
    buf_append(out, table_id, 8);
    buf_append_le32(out, 0); /* revision of that */
    buf_append(out, "FCAT", 4);
    buf_append_le32(out, 0x20240119);
    return at;
}

static void end_table(struct buf *out, size_t at)
{
    if (!out->failed) {
        store_le32(out->data + at + 4, (uint32_t)(out->len - at));
        out->data[at + 9] = checksum(out->data + at, out->len - at);
    }
}

static size_t add_dsdt(struct buf *out, const struct acpi_config *config)
{
    size_t at = begin_table(out, "DSDT", 2, "FCVMDSDT"); /* revision 2: 64-bit integers */
    size_t scope;

    if (config->power_port) {
        aml_name_pair(out, "_S5_", ACPI_SLEEP_TYPE_S5, 0);
    }
    scope = aml_open(out);
    if (config->pci) {
        acpi_put_pci(out, config->pci);
    }
    acpi_put_devices(out, config);
    aml_close_scope(out, scope, "\\_SB_");
    end_table(out, at);
    return at;
}

/* Generic address structure (5.2.3.2) of an I/O port of one byte. */
static void store_port(uint8_t *p, uint16_t port)
{
    p[0] = 1; /* system I/O */
    p[1] = 8; /* bits */
    p[2] = 0;
    p[3] = 1; /* byte access */
    store_le64(p + 4, port);
}

static void store_power(uint8_t *fadt, uint16_t port)
{
    store_le32(fadt + FADT_FLAGS, load_le32(fadt + FADT_FLAGS) | FLAG_RESET_REG);
    store_port(fadt + FADT_RESET_REG, (uint16_t)(port + 4));
    fadt[FADT_RESET_VALUE] = 1;
    store_port(fadt + FADT_SLEEP_CONTROL, port);
    store_port(fadt + FADT_SLEEP_STATUS, (uint16_t)(port + 1));
}

static size_t add_fadt(struct buf *out, const struct acpi_config *config, uint64_t dsdt)
{
    static const uint8_t hypervisor[8] = {'F', 'I', 'R', 'E', 'C', 'K', 'V', 'M'};
    size_t at = begin_table(out, "FACP", 6, "FCVMFADT");
    uint16_t boot_arch = (uint16_t)(BOOT_ARCH_NO_VGA | (config->has_rtc ? 0 : BOOT_ARCH_NO_RTC));

    buf_append_zero(out, FADT_LEN - HEADER_LEN);
    if (!out->failed) {
        uint8_t *fadt = out->data + at;

        store_le32(fadt + FADT_DSDT, (uint32_t)dsdt);
        store_le16(fadt + FADT_BOOT_ARCH, boot_arch);
        store_le32(fadt + FADT_FLAGS, FLAG_NO_PWR_BUTTON | FLAG_NO_SLP_BUTTON | FLAG_HW_REDUCED);
        fadt[FADT_MINOR] = 5;
        store_le64(fadt + FADT_X_DSDT, dsdt);
        memcpy(fadt + FADT_HYPERVISOR, hypervisor, sizeof(hypervisor));
        if (config->power_port) {
            store_power(fadt, config->power_port);
        }
    }
    end_table(out, at);
    return at;
}

static void add_cpu(struct buf *out, unsigned id)
{
    if (id <= XAPIC_ID_MAX) {
        buf_append_u8(out, MADT_LAPIC);
        buf_append_u8(out, 8);
        buf_append_u8(out, (uint8_t)id); /* ACPI processor uid */
        buf_append_u8(out, (uint8_t)id);
        buf_append_le32(out, 1); /* enabled */
    } else {
        buf_append_u8(out, MADT_X2APIC);
        buf_append_u8(out, 16);
        buf_append_le16(out, 0);
        buf_append_le32(out, id);
        buf_append_le32(out, 1); /* enabled */
        buf_append_le32(out, id);
    }
}

static size_t add_madt(struct buf *out, const struct acpi_config *config)
{
    size_t at = begin_table(out, "APIC", 6, "FCVMMADT");

    buf_append_le32(out, APIC_DEFAULT_BASE);
    buf_append_le32(out, 0); /* no 8259s */
    buf_append_u8(out, MADT_IOAPIC);
    buf_append_u8(out, 12);
    buf_append_u8(out, 0); /* its id */
    buf_append_u8(out, 0);
    buf_append_le32(out, IOAPIC_BASE);
    buf_append_le32(out, 0); /* first global interrupt */
    for (unsigned i = 0; i < config->vcpu_count; i++) {
        add_cpu(out, i);
    }
    end_table(out, at);
    return at;
}

/* PCI Express configuration space (PCI Firmware Specification 3.3, 4.1.2): one bus. */
static size_t add_mcfg(struct buf *out, gpa_t mmconfig)
{
    size_t at = begin_table(out, "MCFG", 1, "FCVMMCFG");

    buf_append_zero(out, 8);
    buf_append_le64(out, mmconfig.v);
    buf_append_le16(out, 0); /* segment */
    buf_append_u8(out, 0);   /* first and last bus */
    buf_append_u8(out, 0);
    buf_append_zero(out, 4);
    end_table(out, at);
    return at;
}

/* `tables` are offsets from `gpa`. */
static size_t add_xsdt(struct buf *out, uint64_t gpa, const size_t *tables, unsigned count)
{
    size_t at = begin_table(out, "XSDT", 1, "FCVMXSDT");

    for (unsigned i = 0; i < count; i++) {
        buf_append_le64(out, gpa + tables[i]);
    }
    end_table(out, at);
    return at;
}

static void fill_rsdp(uint8_t *rsdp, uint64_t xsdt)
{
    static const uint8_t signature[8] = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};

    memcpy(rsdp, signature, sizeof(signature));
    memcpy(rsdp + 9, g_oem, sizeof(g_oem));
    rsdp[15] = 2; /* revision */
    store_le32(rsdp + 20, RSDP_LEN);
    store_le64(rsdp + 24, xsdt);
    rsdp[8] = checksum(rsdp, RSDP_V1_LEN);
    rsdp[32] = checksum(rsdp, RSDP_LEN);
}

static int check_config(const struct acpi_config *config, struct err *err)
{
    if (config->virtio_count > DEVICES_MAX) {
        return err_set(err, -EINVAL, "%u virtio devices: must be at most %d", config->virtio_count,
                       DEVICES_MAX);
    }
    for (unsigned i = 0; i < config->virtio_count; i++) {
        const struct acpi_virtio *v = &config->virtio[i];

        if (!range_within(v->gpa.v, v->len, 4 * GIB) || v->irq >= HV_IRQ_LINES ||
            v->irq < config->first_irq) {
            return err_set(err, -EINVAL,
                           "virtio device %u at 0x%llx, line %u: must be below 4 "
                           "GiB, line %u to %d",
                           i, (unsigned long long)v->gpa.v, v->irq, config->first_irq,
                           HV_IRQ_LINES - 1);
        }
    }
    return 0;
}

static int write_rsdp(struct mem_map *mem, uint64_t xsdt, struct err *err)
{
    uint8_t rsdp[RSDP_LEN] = {0};
    int r;

    fill_rsdp(rsdp, xsdt);
    r = mem_write(mem, GPA(BOOT_RSDP), rsdp, sizeof(rsdp));
    return r < 0 ? err_set(err, r, "ACPI: no memory at 0x%llx", (unsigned long long)BOOT_RSDP) : 0;
}

int acpi_write(const struct acpi_config *config, struct mem_map *mem, struct err *err)
{
    const uint64_t gpa = BOOT_ACPI;
    AUTO_CALL(buf_fini) struct buf out = {0};
    size_t tables[3];
    unsigned count = 0;
    size_t at;
    int r = check_config(config, err);

    if (r < 0) {
        return r;
    }
    at = add_dsdt(&out, config);
    tables[count++] = add_fadt(&out, config, gpa + at);
    tables[count++] = add_madt(&out, config);
    if (config->mmconfig.v) {
        tables[count++] = add_mcfg(&out, config->mmconfig);
    }
    at = add_xsdt(&out, gpa, tables, count);
    if (buf_status(&out) < 0) {
        return err_set(err, -ENOMEM, "ACPI tables: out of memory");
    }
    if (out.len > BOOT_ACPI_LEN) {
        return err_set(err, -ENOSPC, "ACPI tables of %zu bytes: must be at most %llu", out.len,
                       (unsigned long long)BOOT_ACPI_LEN);
    }
    r = mem_write(mem, GPA(gpa), out.data, out.len);
    if (r < 0) {
        return err_set(err, r, "ACPI tables: no memory at 0x%llx", (unsigned long long)gpa);
    }
    return write_rsdp(mem, gpa + at, err);
}
