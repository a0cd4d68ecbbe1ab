/* mptable.c — the MultiProcessor tables (Intel specification 1.4), for kernels without ACPI.
 *
 * A floating pointer where kernels look for one, the last KiB of low memory, and behind it the
 * configuration table: CPUs, the ISA bus, the I/O APIC, its inputs wired one to one, and the two
 * local inputs of every CPU.
 */
#include "boot/mptable.h"

#include <errno.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "boot/layout.h"
#include "hv/hv.h"
#include "mem/map.h"
#include "x86/apic.h"

#define POINTER_LEN 16
#define SPEC_1_4    4

/* Types of entries, 4.3. */
enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL_INTERRUPT };

/* Types of interrupts, table 4-11. */
enum { INT_VECTORED, INT_NMI, INT_SMI, INT_EXTINT };

#define CPU_ENABLED   0x01
#define CPU_BOOT      0x02
#define CPU_SIGNATURE 0x600 /* family 6; CPUID says the rest */
#define CPU_FEATURES  0x201 /* APIC and FPU */
#define APIC_VERSION  0x14
#define ALL_LAPICS    0xff
#define BUS_ISA       0

static uint8_t checksum(const uint8_t *data, size_t len)
{
    uint8_t sum = 0;

    while (len-- > 0) {
        sum = (uint8_t)(sum + *data++);
    }
    return (uint8_t)-sum;
}

static void put_cpu(struct buf *out, unsigned id)
{
    buf_append_u8(out, ENTRY_CPU);
    buf_append_u8(out, (uint8_t)id);
    buf_append_u8(out, APIC_VERSION);
    buf_append_u8(out, (uint8_t)(CPU_ENABLED | (id == 0 ? CPU_BOOT : 0)));
    buf_append_le32(out, CPU_SIGNATURE);
    buf_append_le32(out, CPU_FEATURES);
    buf_append_zero(out, 8);
}

/* The source is input `source` of the ISA bus; polarity and trigger are what that bus has. */
static void put_interrupt(struct buf *out, uint8_t entry, uint8_t type, uint8_t source,
                          uint8_t apic, uint8_t input)
{
    buf_append_u8(out, entry);
    buf_append_u8(out, type);
    buf_append_le16(out, 0);
    buf_append_u8(out, BUS_ISA);
    buf_append_u8(out, source);
    buf_append_u8(out, apic);
    buf_append_u8(out, input);
}

static unsigned put_entries(struct buf *out, unsigned vcpu_count)
{
    uint8_t ioapic = (uint8_t)(vcpu_count + 1);

    for (unsigned i = 0; i < vcpu_count; i++) {
        put_cpu(out, i);
    }
    buf_append_u8(out, ENTRY_BUS);
    buf_append_u8(out, BUS_ISA);
    buf_append(out, "ISA   ", 6);
    buf_append_u8(out, ENTRY_IOAPIC);
    buf_append_u8(out, ioapic);
    buf_append_u8(out, APIC_VERSION);
    buf_append_u8(out, 1); /* enabled */
    buf_append_le32(out, IOAPIC_BASE);
    for (uint8_t i = 0; i < HV_IRQ_LINES; i++) {
        put_interrupt(out, ENTRY_INTERRUPT, INT_VECTORED, i, ioapic, i);
    }
    put_interrupt(out, ENTRY_LOCAL_INTERRUPT, INT_EXTINT, 0, 0, 0);
    put_interrupt(out, ENTRY_LOCAL_INTERRUPT, INT_NMI, 0, ALL_LAPICS, 1);
    return vcpu_count + 2 + HV_IRQ_LINES + 2;
}

static void put_pointer(struct buf *out)
{
    buf_append(out, "_MP_", 4);
    buf_append_le32(out, (uint32_t)BOOT_MPTABLE + POINTER_LEN);
    buf_append_u8(out, POINTER_LEN / 16);
    buf_append_u8(out, SPEC_1_4);
    buf_append_zero(out, 6); /* checksum; a configuration table is there */
    if (!out->failed) {
        out->data[10] = checksum(out->data, POINTER_LEN);
    }
}

static void put_table(struct buf *out, unsigned vcpu_count)
{
    unsigned count;

    buf_append(out, "PCMP", 4);
    buf_append_le16(out, 0); /* length */
    buf_append_u8(out, SPEC_1_4);
    buf_append_u8(out, 0); /* checksum */
    buf_append(out, "FC      000000000000", 20);
    buf_append_zero(out, 6); /* no OEM table */
    buf_append_le16(out, 0); /* entries */
    buf_append_le32(out, APIC_DEFAULT_BASE);
    buf_append_zero(out, 4); /* no extended table */
    count = put_entries(out, vcpu_count);
    if (!out->failed) {
        uint8_t *table = out->data + POINTER_LEN;
        size_t len = out->len - POINTER_LEN;

        store_le16(table + 4, (uint16_t)len);
        store_le16(table + 34, (uint16_t)count);
        table[7] = checksum(table, len);
    }
}

int mptable_write(unsigned vcpu_count, struct mem_map *mem, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf out = {0};
    int r;

    put_pointer(&out);
    put_table(&out, vcpu_count);
    r = buf_status(&out);
    if (r < 0) {
        return err_set(err, r, "MP table: out of memory");
    }
    if (out.len > BOOT_MPTABLE_LEN) {
        return err_set(err, -ENOSPC, "MP table of %zu bytes: must be at most %llu", out.len,
                       (unsigned long long)BOOT_MPTABLE_LEN);
    }
    r = mem_write(mem, GPA(BOOT_MPTABLE), out.data, out.len);
    return r < 0
               ? err_set(err, r, "MP table: no memory at 0x%llx", (unsigned long long)BOOT_MPTABLE)
               : 0;
}
