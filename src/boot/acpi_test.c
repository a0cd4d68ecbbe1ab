/* acpi_test.c — the tables are linked, summed, and what iasl reads back is our machine. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "boot/acpi.h"
#include "boot/layout.h"
#include "mem/map.h"
#include "tests/lib/test.h"

static const struct acpi_virtio devices[] = {
    {.gpa = {0xd0000000}, .len = 0x1000, .irq = 5},
    {.gpa = {0xd0001000}, .len = 0x1000, .irq = 23},
};

static struct acpi_config config(unsigned vcpu_count)
{
    return (struct acpi_config){.vcpu_count = vcpu_count,
                                .virtio = devices,
                                .virtio_count = ARRAY_LEN(devices),
                                .first_irq = 5,
                                .uart_port = 0x3f8,
                                .uart_len = 8,
                                .uart_irq = 4,
                                .power_port = 0x600};
}

static struct mem_map *memory(void)
{
    struct mem_map *mem = mem_map_new();
    struct err err = {0};

    CHECK_OK(mem_map_add(mem, GPA(0), MIB, &err), &err);
    return mem;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t total = 0;

    while (len-- > 0) {
        total = (uint8_t)(total + *p++);
    }
    return total;
}

/* A table at `gpa`, checked. */
static const uint8_t *table(const struct mem_map *mem, uint64_t gpa, const char *signature)
{
    const uint8_t *t = mem_ptr(mem, GPA(gpa), 36);

    CHECK(t != NULL);
    CHECK_MEM(t, signature, 4);
    CHECK(mem_ptr(mem, GPA(gpa), load_le32(t + 4)) != NULL);
    CHECK_INT(sum(t, load_le32(t + 4)), 0);
    return t;
}

static const uint8_t *xsdt(const struct mem_map *mem)
{
    const uint8_t *rsdp = mem_ptr(mem, GPA(BOOT_RSDP), 36);

    CHECK_MEM(rsdp, "RSD PTR ", 8);
    CHECK_INT(sum(rsdp, 20), 0);
    CHECK_INT(sum(rsdp, 36), 0);
    return table(mem, load_le64(rsdp + 24), "XSDT");
}

TEST(boot, acpi_tables_are_linked_and_summed)
{
    struct acpi_config c = config(3);
    struct mem_map *mem = memory();
    struct err err = {0};
    const uint8_t *fadt;
    const uint8_t *madt;
    const uint8_t *x;

    CHECK_OK(acpi_write(&c, mem, &err), &err);
    x = xsdt(mem);
    CHECK_INT(load_le32(x + 4), 36 + 16);
    fadt = table(mem, load_le64(x + 36), "FACP");
    CHECK_INT(load_le32(fadt + 4), 276);
    CHECK(load_le32(fadt + 112) & BIT(20)); /* hardware-reduced */
    CHECK_INT(load_le64(fadt + 116 + 4), 0x604);
    CHECK_INT(load_le64(fadt + 244 + 4), 0x600);
    CHECK_INT(load_le64(fadt + 256 + 4), 0x601);
    CHECK(load_le16(fadt + 109) & BIT(5)); /* no CMOS clock */
    (void)table(mem, load_le64(fadt + 140), "DSDT");
    madt = table(mem, load_le64(x + 44), "APIC");
    CHECK_INT(load_le32(madt + 4), 44 + 12 + 3 * 8);
    CHECK_INT(load_le32(madt + 44 + 4), 0xfec00000);
    CHECK_INT(madt[44 + 12 + 2 * 8 + 3], 2);
    mem_map_free(mem);
}

TEST(boot, acpi_numbers_cpus_beyond_the_xapic)
{
    struct acpi_config c = config(257);
    struct mem_map *mem = memory();
    struct err err = {0};
    const uint8_t *madt;

    CHECK_OK(acpi_write(&c, mem, &err), &err);
    madt = table(mem, load_le64(xsdt(mem) + 44), "APIC");
    CHECK_INT(madt[56 + 254 * 8], 0);
    CHECK_INT(madt[56 + 255 * 8], 9);
    CHECK_INT(load_le32(madt + 56 + 255 * 8 + 16 + 4), 256);
    mem_map_free(mem);
}

TEST(boot, acpi_refuses_what_does_not_fit)
{
    struct acpi_virtio bad = {.gpa = {4 * GIB - 0x1000}, .len = 0x1001, .irq = 5};
    struct acpi_config c = config(1);
    struct mem_map *mem = memory();
    struct mem_map *small = mem_map_new();
    struct err err = {0};

    CHECK_OK(mem_map_add(small, GPA(0), 0xa1000 - 0x1000, &err), &err);
    CHECK_INT(acpi_write(&c, small, &err), -EFAULT);
    c.vcpu_count = 40000;
    CHECK_INT(acpi_write(&c, mem, &err), -ENOSPC);
    c.virtio = &bad;
    c.virtio_count = 1;
    CHECK_INT(acpi_write(&c, mem, &err), -EINVAL);
    CHECK_HAS(err_text(&err), "virtio device 0");
    bad = (struct acpi_virtio){.len = 1, .irq = 24};
    CHECK_INT(acpi_write(&c, mem, &err), -EINVAL);
    bad.irq = 4;
    CHECK_INT(acpi_write(&c, mem, &err), -EINVAL);
    c.virtio_count = 1001;
    CHECK_INT(acpi_write(&c, mem, &err), -EINVAL);
    mem_map_free(small);
    mem_map_free(mem);
}

static void disassemble(const uint8_t *t, struct buf *ret_text)
{
    char dir[] = "/tmp/acpi-test-XXXXXX";
    AUTO_CALL(buf_fini) struct buf command = {0};
    AUTO_CALL(buf_fini) struct buf path = {0};
    FILE *file;

    CHECK(mkdtemp(dir) != NULL);
    buf_printf(&path, "%s/t.aml", dir);
    file = fopen(buf_str(&path), "we");
    CHECK(file != NULL);
    CHECK_INT(fwrite(t, 1, load_le32(t + 4), file), load_le32(t + 4));
    CHECK_INT(fclose(file), 0);
    buf_printf(&command,
               "cd %s && iasl -d t.aml >log 2>&1 && iasl -ve t.dsl >>log 2>&1; "
               "echo status $? >>log; cat log t.dsl >out",
               dir);
    CHECK_INT(system(buf_str(&command)), 0);
    buf_clear(&path);
    buf_printf(&path, "%s/out", dir);
    CHECK_INT(buf_read_file(ret_text, buf_str(&path), MIB), 0);
    buf_clear(&command);
    buf_printf(&command, "rm -r %s", dir);
    CHECK_INT(system(buf_str(&command)), 0);
}

TEST(boot, acpi_tells_a_microvm_what_its_guests_expect)
{
    static const struct acpi_generation generation = {
        .id = {BOOT_VMGENID}, .id_irq = 7, .clock = {BOOT_VMCLOCK}, .clock_irq = 8};
    struct acpi_config c = config(1);
    struct mem_map *mem = memory();
    struct buf text = {0};
    struct err err = {0};
    const uint8_t *fadt;
    const uint8_t *mcfg;
    const uint8_t *x;

    c.power_port = 0;
    c.has_rtc = true;
    c.i8042_port = 0x60;
    c.i8042_irq = 1;
    c.mmconfig = GPA(0xeec00000);
    c.generation = &generation;
    CHECK_OK(acpi_write(&c, mem, &err), &err);
    x = xsdt(mem);
    CHECK_INT(load_le32(x + 4), 36 + 24);
    CHECK_MEM(x + 10, "FIRECKFCVMXSDT", 14);
    CHECK_MEM(x + 28, "FCAT", 4);
    CHECK_INT(load_le32(x + 32), 0x20240119);
    fadt = table(mem, load_le64(x + 36), "FACP");
    CHECK_INT(load_le32(fadt + 112), BIT(4) | BIT(5) | BIT(20));
    CHECK_INT(load_le16(fadt + 109), BIT(2)); /* no VGA */
    CHECK_MEM(fadt + 268, "FIRECKVM", 8);
    mcfg = table(mem, load_le64(x + 52), "MCFG");
    CHECK_INT(load_le64(mcfg + 44), 0xeec00000);
    if (system("command -v iasl >/dev/null") == 0) {
        disassemble(table(mem, load_le64(fadt + 140), "DSDT"), &text);
        /* The one thing iasl dislikes is a name that others chose: VMGENCTR has no number. */
        CHECK_HAS(buf_str(&text), "1 Errors, 0 Warnings");
        CHECK_HAS(buf_str(&text), "6035");
        CHECK(!strstr(buf_str(&text), "_S5"));
        CHECK_HAS(buf_str(&text), "Device (V000)");
        CHECK_HAS(buf_str(&text), "Device (VGEN)");
        CHECK_HAS(buf_str(&text), "0x000DFFF0");
        CHECK_HAS(buf_str(&text), "\"AMZNC10C\"");
        CHECK_HAS(buf_str(&text), "Method (_EVT, 1, Serialized)");
        CHECK_HAS(buf_str(&text), "Notify (VGEN, 0x80)");
        CHECK_HAS(buf_str(&text), "Notify (VCLK, 0x80)");
        CHECK_HAS(buf_str(&text), "Device (PS2)");
    }
    buf_fini(&text);
    mem_map_free(mem);
}

TEST(boot, acpi_reads_back_with_iasl)
{
    struct acpi_pci pci = {.mmconfig = {0xeec00000},
                           .mmconfig_len = 0x100000,
                           .windows = {{{0xc0000000}, 0x1000}, {{256 * GIB}, 256 * GIB}}};
    struct acpi_config c = config(2);
    struct mem_map *mem = memory();
    struct buf text = {0};
    struct err err = {0};
    const uint8_t *fadt;

    if (system("command -v iasl >/dev/null") != 0) {
        mem_map_free(mem);
        SKIP("there is no iasl");
    }
    c.pci = &pci;
    CHECK_OK(acpi_write(&c, mem, &err), &err);
    fadt = table(mem, load_le64(xsdt(mem) + 36), "FACP");
    disassemble(table(mem, load_le64(fadt + 140), "DSDT"), &text);
    if (getenv("SHOW_ASL")) {
        print_message("%s\n", buf_str(&text));
    }
    CHECK_HAS(buf_str(&text), "status 0");
    CHECK_HAS(buf_str(&text), "Device (V018)");
    CHECK_HAS(buf_str(&text), "\"LNRO0005\"");
    CHECK_HAS(buf_str(&text), "0xD0001000,         // Address Base");
    CHECK_HAS(buf_str(&text), "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive");
    CHECK_HAS(buf_str(&text), "0x00000017,");
    CHECK_HAS(buf_str(&text), "0x03F8,             // Range Minimum");
    CHECK_HAS(buf_str(&text), "Name (_S5, Package (0x02)");
    CHECK_HAS(buf_str(&text), "Device (PC00)");
    CHECK_HAS(buf_str(&text), "0x0000004000000000, // Range Minimum");
    CHECK_HAS(buf_str(&text), "0x0000007FFFFFFFFF, // Range Maximum");
    CHECK_HAS(buf_str(&text), "0xEEC00000,         // Address Base");
    buf_clear(&text);
    disassemble(fadt, &text);
    CHECK_HAS(buf_str(&text), "Hardware Reduced (V5) : 1");
    CHECK_HAS(buf_str(&text), "Address : 0000000000000604");
    buf_fini(&text);
    mem_map_free(mem);
}
