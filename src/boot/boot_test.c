/* boot_test.c — guest memory and first state are what the 64-bit boot protocol asks for. */
#include <errno.h>
#include <stdlib.h>

#include "boot/boot.h"
#include "boot/fake_kernel.h"
#include "boot/layout.h"
#include "mem/map.h"
#include "tests/lib/test.h"
#include "x86/e820.h"

struct machine {
    struct mem_map *mem;
    struct kernel *kernel;
    struct acpi_config acpi;
    struct boot_config config;
};

static void machine_init(struct machine *m, uint64_t low, uint64_t high)
{
    struct buf file = {0};
    struct err err = {0};
    char path[64];
    int fd;

    *m = (struct machine){.acpi = {.vcpu_count = 1, .power_port = 0x600}};
    m->mem = mem_map_new();
    CHECK_OK(mem_map_add(m->mem, GPA(0), low, &err), &err);
    if (high) {
        CHECK_OK(mem_map_add(m->mem, GPA(4 * GIB), high, &err), &err);
    }
    fake_packed(CODEC_GZIP, &file);
    fd = fake_file(&file, path);
    CHECK_OK(kernel_open(path, NULL, &m->kernel, &err), &err);
    (void)close(fd);
    buf_fini(&file);
    m->config = (struct boot_config){
        .mem = m->mem, .kernel = m->kernel, .cmdline = "console=ttyS0", .acpi = &m->acpi};
}

static void machine_fini(struct machine *m)
{
    kernel_close(m->kernel);
    mem_map_free(m->mem);
}

static const uint8_t *zero_page(const struct machine *m)
{
    return mem_ptr(m->mem, GPA(BOOT_ZERO_PAGE), 4096);
}

TEST(boot, first_state_is_long_mode_at_the_entry)
{
    struct machine m;
    struct cpu_state *cpu = calloc(1, sizeof(*cpu));
    struct err err = {0};
    const uint64_t *gdt;

    machine_init(&m, 32 * MIB, 0);
    CHECK_OK(boot_load(&m.config, cpu, &err), &err);
    CHECK_INT(cpu->rip, FAKE_ENTRY);
    CHECK_INT(cpu->gpr[GPR_RSI], BOOT_ZERO_PAGE);
    CHECK_INT(cpu->rflags, 2); /* interrupts off */
    CHECK_INT(cpu->cr0, 0x80000031);
    CHECK_INT(cpu->cr4, 0x20);
    CHECK_INT(cpu->efer, 0x500);
    CHECK_INT(cpu->seg[SEG_CS].selector, 0x10);
    CHECK_INT(cpu->seg[SEG_CS].attr, 0xa09b);
    CHECK_INT(cpu->seg[SEG_SS].selector, 0x18);
    CHECK_INT(cpu->seg[SEG_SS].attr, 0xc093);
    CHECK_INT(cpu->apic_base, 0xfee00900);
    gdt = mem_ptr(m.mem, GPA(cpu->gdt.base), cpu->gdt.limit + 1);
    CHECK_INT(gdt[2], 0x00af9b000000ffff);
    CHECK_INT(gdt[3], 0x00cf93000000ffff);
    free(cpu);
    machine_fini(&m);
}

/* Walk the tables as the CPU does. */
static uint64_t walk(const struct machine *m, uint64_t cr3, uint64_t va)
{
    uint64_t entry = cr3;

    for (unsigned shift = 39; shift >= 21; shift -= 9) {
        const uint64_t *table = mem_ptr(m->mem, GPA(entry & ~UINT64_C(0xfff)), 4096);

        entry = table[va >> shift & 511];
        if ((entry & 3) != 3) {
            return UINT64_MAX;
        }
    }
    CHECK(entry & 0x80);
    return (entry & ~UINT64_C(0x1fffff)) | (va & 0x1fffff);
}

TEST(boot, first_4_gib_are_mapped_to_themselves)
{
    struct machine m;
    struct cpu_state *cpu = calloc(1, sizeof(*cpu));
    struct err err = {0};

    machine_init(&m, 32 * MIB, 0);
    CHECK_OK(boot_load(&m.config, cpu, &err), &err);
    for (uint64_t va = 0; va < 4 * GIB; va += 2 * MIB - 4096) {
        CHECK_INT(walk(&m, cpu->cr3, va), va);
    }
    CHECK_INT(walk(&m, cpu->cr3, 4 * GIB), UINT64_MAX);
    free(cpu);
    machine_fini(&m);
}

static void check_e820(const uint8_t *page, unsigned i, uint64_t start, uint64_t end, uint32_t type)
{
    const uint8_t *entry = page + BP_E820_TABLE + (size_t)i * BP_E820_ENTRY_LEN;

    CHECK_INT(load_le64(entry), start);
    CHECK_INT(load_le64(entry + 8), end - start);
    CHECK_INT(load_le32(entry + 16), type);
}

TEST(boot, zero_page_says_what_is_where)
{
    struct boot_part parts[] = {{"abcde", 5}, {"xyz", 3}};
    struct machine m;
    struct cpu_state *cpu = calloc(1, sizeof(*cpu));
    struct err err = {0};
    const uint8_t *page;

    machine_init(&m, 32 * MIB, 2 * MIB);
    m.config.initrd = parts;
    m.config.initrd_count = 2;
    CHECK_OK(boot_load(&m.config, cpu, &err), &err);
    page = zero_page(&m);
    CHECK_INT(load_le32(page + BP_HEADER), BP_HEADER_MAGIC);
    CHECK_INT(load_le16(page + BP_VERSION), 0x20f);
    CHECK_INT(page[BP_TYPE_OF_LOADER], 0xff);
    CHECK_INT(page[0x1ef], 0); /* the sentinel: else Linux takes half of the page for garbage */
    CHECK_INT(load_le64(page + BP_ACPI_RSDP_ADDR), 0xe0000);
    CHECK_MEM(mem_ptr(m.mem, GPA(0xe0000), 8), "RSD PTR ", 8);
    CHECK_STR((char *)mem_ptr(m.mem, GPA(load_le32(page + BP_CMD_LINE_PTR)), 64), "console=ttyS0");
    CHECK_INT(load_le32(page + BP_RAMDISK_IMAGE), 32 * MIB - 4096);
    CHECK_INT(load_le32(page + BP_RAMDISK_SIZE), 11);
    CHECK_MEM(mem_ptr(m.mem, GPA(32 * MIB - 4096), 11), "abcde\0\0\0xyz", 11);
    CHECK_INT(page[BP_E820_ENTRIES], 5);
    check_e820(page, 0, 0, 0x9fc00, E820_RAM);
    check_e820(page, 1, 0x9fc00, 0xe0000, E820_RESERVED);
    check_e820(page, 2, 0xeec00000, 0xfec00000, E820_RESERVED);
    check_e820(page, 3, MIB, 32 * MIB, E820_RAM);
    check_e820(page, 4, 4 * GIB, 4 * GIB + 2 * MIB, E820_RAM);
    free(cpu);
    machine_fini(&m);
}

TEST(boot, what_does_not_fit_is_refused)
{
    struct machine m;
    struct cpu_state *cpu = calloc(1, sizeof(*cpu));
    struct boot_part part = {NULL, 16 * MIB};
    struct boot_part huge = {NULL, 4 * GIB};
    struct err err = {0};
    char *line = calloc(1, 3000);

    machine_init(&m, 32 * MIB, GIB);
    part.data = calloc(1, part.len);
    m.config.initrd = &part;
    m.config.initrd_count = 1;
    CHECK_INT(boot_load(&m.config, cpu, &err), -ENOSPC);
    CHECK_HAS(err_text(&err), "initrd of 16 MiB does not fit");
    CHECK_HAS(err_text(&err), "at least 33 MiB");
    m.config.initrd = &huge;
    CHECK_INT(boot_load(&m.config, cpu, &err), -EFBIG);
    m.config.initrd_count = 0;
    memset(line, 'x', 2047);
    m.config.cmdline = line;
    CHECK_OK(boot_load(&m.config, cpu, &err), &err);
    line[2047] = 'x';
    CHECK_INT(boot_load(&m.config, cpu, &err), -E2BIG);
    CHECK_HAS(err_text(&err), "2048 bytes: must be at most 2047");
    free((void *)(uintptr_t)part.data);
    free(line);
    free(cpu);
    machine_fini(&m);
}

TEST(boot, initrd_stays_where_the_kernel_can_take_it)
{
    struct machine m;
    struct cpu_state *cpu = calloc(1, sizeof(*cpu));
    struct boot_part part = {"abc", 3};
    struct err err = {0};

    machine_init(&m, 64 * MIB, 0);
    m.kernel->setup.initrd_max = 40 * MIB;
    m.config.initrd = &part;
    m.config.initrd_count = 1;
    CHECK_OK(boot_load(&m.config, cpu, &err), &err);
    CHECK_INT(load_le32(zero_page(&m) + BP_RAMDISK_IMAGE), 40 * MIB - 4096);
    m.kernel->setup.initrd_max = 1; /* a hostile header */
    CHECK_INT(boot_load(&m.config, cpu, &err), -ENOSPC);
    free(cpu);
    machine_fini(&m);
}

TEST(boot, memory_must_begin_at_0)
{
    struct machine m;
    struct cpu_state *cpu = calloc(1, sizeof(*cpu));
    struct mem_map *mem = mem_map_new();
    struct err err = {0};

    machine_init(&m, 32 * MIB, 0);
    m.config.mem = mem;
    CHECK_INT(boot_load(&m.config, cpu, &err), -ENOSPC);
    CHECK_OK(mem_map_add(mem, GPA(0), 64 * KIB, &err), &err);
    CHECK_INT(boot_load(&m.config, cpu, &err), -ENOSPC);
    CHECK_HAS(err_text(&err), "at least 1 MiB");
    mem_map_free(mem);
    free(cpu);
    machine_fini(&m);
}
