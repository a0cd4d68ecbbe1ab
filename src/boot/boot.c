/* boot.c — from a kernel file to the state of the first instruction. */
#include "boot/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/str.h"
#include "boot/kaslr.h"
#include "boot/layout.h"
#include "boot/mptable.h"
#include "boot/pvh.h"
#include "boot/zeropage.h"
#include "hv/hv.h"
#include "mem/map.h"
#include "x86/apic.h"
#include "x86/cr.h"
#include "x86/paging.h"

/* The boot protocol's selectors. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18
/* PVH leaves it to us. */
#define BOOT_CS32 0x08

#define TABLE_FLAGS     (PTE_P | PTE_RW)
#define PAGE_2MIB_FLAGS (PTE_P | PTE_RW | PTE_PS)
#define TABLE_ENTRIES   512
#define TABLE_COUNT     (2 + BOOT_MAPPED / GIB)

/* Descriptor types, as in struct cpu_segment. */
#define ATTR_CODE64 (SEG_ATTR_G | SEG_ATTR_L | SEG_ATTR_P | SEG_ATTR_S | 0xbu)
#define ATTR_CODE32 (SEG_ATTR_G | SEG_ATTR_DB | SEG_ATTR_P | SEG_ATTR_S | 0xbu)
#define ATTR_DATA   (SEG_ATTR_G | SEG_ATTR_DB | SEG_ATTR_P | SEG_ATTR_S | 0x3u)
#define ATTR_TSS    (SEG_ATTR_P | 0xbu)

static int write_page_tables(struct mem_map *mem, struct err *err)
{
    AUTO_FREE uint64_t *tables = calloc(TABLE_COUNT * TABLE_ENTRIES, sizeof(*tables));
    uint64_t *pds;
    int r;

    if (!tables) {
        return err_set(err, -ENOMEM, "page tables: out of memory");
    }
    tables[0] = (BOOT_PAGE_TABLES + GUEST_PAGE_SIZE) | TABLE_FLAGS;
    pds = tables + (size_t)2 * TABLE_ENTRIES;
    for (uint64_t i = 0; i < BOOT_MAPPED / GIB; i++) {
        tables[TABLE_ENTRIES + i] = (BOOT_PAGE_TABLES + (2 + i) * GUEST_PAGE_SIZE) | TABLE_FLAGS;
    }
    for (uint64_t i = 0; i < BOOT_MAPPED / (2 * MIB); i++) {
        pds[i] = i * 2 * MIB | PAGE_2MIB_FLAGS;
    }
    r = mem_write(mem, GPA(BOOT_PAGE_TABLES), tables,
                  TABLE_COUNT * TABLE_ENTRIES * sizeof(*tables));
    return r < 0 ? err_set(err, r, "page tables: no memory below 1 MiB") : 0;
}

static uint64_t descriptor(uint32_t attr)
{
    /* Base 0, limit FFFFFH (SDM volume 3, figure 3-8). */
    return UINT64_C(0x000f00000000ffff) | (uint64_t)attr << 40;
}

static int write_gdt(struct mem_map *mem, struct err *err)
{
    const uint64_t gdt[] = {0, descriptor(ATTR_CODE32), descriptor(ATTR_CODE64),
                            descriptor(ATTR_DATA)};
    int r = mem_write(mem, GPA(BOOT_GDT), gdt, sizeof(gdt));

    return r < 0 ? err_set(err, r, "GDT: no memory below 1 MiB") : 0;
}

static int write_cmdline(const struct boot_config *config, struct err *err)
{
    uint64_t max = config->kernel->setup.cmdline_max;
    size_t len = strlen(config->cmdline);
    int r;

    max = max < BOOT_CMDLINE_LEN - 1 ? max : BOOT_CMDLINE_LEN - 1;
    if (len > max) {
        return err_set(err, -E2BIG,
                       "kernel command line of %zu bytes: must be at most %llu for this kernel",
                       len, (unsigned long long)max);
    }
    r = mem_write(config->mem, GPA(BOOT_CMDLINE), config->cmdline, len + 1);
    return r < 0 ? err_set(err, r, "command line: no memory below 1 MiB") : 0;
}

static int initrd_total(const struct boot_config *config, uint64_t *ret_len, struct err *err)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < config->initrd_count; i++) {
        if (config->initrd[i].len > UINT32_MAX) {
            return err_set(err, -EFBIG, "initrd of %zu bytes: must be below 4 GiB",
                           config->initrd[i].len);
        }
        total = align_up(total, 4) + config->initrd[i].len;
    }
    *ret_len = total;
    return 0;
}

static int refuse_initrd(const struct boot_config *config, uint64_t len, struct err *err)
{
    char size[32];
    char kernel[32];
    char have[32];
    char need[32];
    uint64_t sum = align_up(config->kernel->elf.end, MIB) + align_up(len, MIB);

    return err_set(err, -ENOSPC,
                   "initrd of %s does not fit into memory: the kernel ends at %s, the guest has %s "
                   "that can be used for it, at least %s is needed",
                   str_from_size(len, size), str_from_size(config->kernel->elf.end, kernel),
                   str_from_size(mem_range_at(config->mem, 0)->len, have),
                   str_from_size(sum, need));
}

/* At the top of low RAM, or as far up as the kernel can take it. */
static int write_initrd(const struct boot_config *config, uint64_t *ret_gpa, uint64_t *ret_len,
                        struct err *err)
{
    uint64_t end = mem_range_at(config->mem, 0)->len;
    uint64_t len = 0;
    uint64_t gpa;
    uint64_t at;
    int r = initrd_total(config, &len, err);

    if (r < 0 || len == 0) {
        *ret_gpa = 0;
        *ret_len = 0;
        return r;
    }
    end = end < config->kernel->setup.initrd_max ? end : config->kernel->setup.initrd_max;
    end = end < BOOT_MAPPED ? end : BOOT_MAPPED;
    if (len > end || align_down(end - len, GUEST_PAGE_SIZE) < config->kernel->elf.end) {
        return refuse_initrd(config, len, err);
    }
    gpa = align_down(end - len, GUEST_PAGE_SIZE);
    at = gpa;
    for (unsigned i = 0; i < config->initrd_count; i++) {
        at = align_up(at, 4);
        r = mem_write(config->mem, GPA(at), config->initrd[i].data, config->initrd[i].len);
        if (r < 0) {
            return err_set(err, r, "initrd: no memory at 0x%llx", (unsigned long long)at);
        }
        at += config->initrd[i].len;
    }
    *ret_gpa = gpa;
    *ret_len = len;
    return 0;
}

/* What both protocols begin with. */
static void set_flat(struct cpu_state *state)
{
    static const enum cpu_seg data_segments[] = {SEG_DS, SEG_ES, SEG_SS, SEG_FS, SEG_GS};

    cpu_state_reset(state);
    state->gpr[GPR_RSP] = BOOT_STACK;
    state->gpr[GPR_RDX] = 0;
    for (size_t i = 0; i < ARRAY_LEN(data_segments); i++) {
        state->seg[data_segments[i]] =
            (struct cpu_segment){.selector = BOOT_DS, .limit = UINT32_MAX, .attr = ATTR_DATA};
    }
    state->seg[SEG_TR] = (struct cpu_segment){.limit = 0x67, .attr = ATTR_TSS};
    state->seg[SEG_LDTR] = (struct cpu_segment){.attr = SEG_ATTR_UNUSABLE};
    state->gdt = (struct cpu_table){.base = BOOT_GDT, .limit = 4 * 8 - 1};
    state->idt = (struct cpu_table){0};
    state->apic_base = APIC_DEFAULT_BASE | APIC_BASE_ENABLE | APIC_BASE_BSP;
    state->run_state = CPU_RUNNABLE;
}

static void set_entry(struct cpu_state *state, uint64_t entry)
{
    set_flat(state);
    state->rip = entry;
    state->gpr[GPR_RSI] = BOOT_ZERO_PAGE;
    state->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    state->cr3 = BOOT_PAGE_TABLES;
    state->cr4 = CR4_PAE;
    state->efer = EFER_LME | EFER_LMA;
    state->seg[SEG_CS] =
        (struct cpu_segment){.selector = BOOT_CS, .limit = UINT32_MAX, .attr = ATTR_CODE64};
}

/* Xen, docs/misc/pvh.pandoc: of CR0 and CR4 nothing is set that can be cleared, but protection. */
static void set_pvh_entry(struct cpu_state *state, uint64_t entry)
{
    set_flat(state);
    state->rip = entry;
    state->gpr[GPR_RBX] = BOOT_PVH_INFO;
    state->cr0 = CR0_PE | CR0_ET;
    state->cr4 = 0;
    state->efer = 0;
    state->seg[SEG_CS] =
        (struct cpu_segment){.selector = BOOT_CS32, .limit = UINT32_MAX, .attr = ATTR_CODE32};
}

static int check_memory(const struct mem_map *mem, struct err *err)
{
    if (mem_range_count(mem) == 0 || mem_range_at(mem, 0)->gpa.v != 0 ||
        mem_range_at(mem, 0)->len < BOOT_LOW_END) {
        return err_set(err, -ENOSPC, "guest memory: must begin at 0 and have at least 1 MiB");
    }
    return 0;
}

/* Linux with hardware-reduced ACPI and without `reboot=` ends in real mode at the BIOS's reset
 * vector; ours is no more than the keyboard controller's reset command. */
static int write_reset(const struct boot_config *config, struct err *err)
{
    static const uint8_t code[] = {0xb0, 0xfe, 0xe6, 0x64, 0xf4}; /* mov al, fe; out 64, al; hlt */
    int r = mem_write(config->mem, GPA(BOOT_RESET), code, sizeof(code));

    return r < 0 ? err_set(err, r, "reset vector: no memory at 0x%llx",
                           (unsigned long long)BOOT_RESET)
                 : 0;
}

/* Linux's rule for its switches: a word of its own, anywhere. */
static bool has_word(const char *cmdline, const char *word)
{
    size_t len = strlen(word);

    for (const char *p = strstr(cmdline, word); p; p = strstr(p + len, word)) {
        if ((p == cmdline || p[-1] == ' ') && (p[len] == 0 || p[len] == ' ')) {
            return true;
        }
    }
    return false;
}

static int randomize(const struct boot_config *config, bool *ret_is_randomized, struct err *err)
{
    int r = has_word(config->cmdline, "nokaslr")
                ? 0
                : kaslr_move(config->kernel, config->random, config->mem, err);

    *ret_is_randomized = r > 0;
    return r;
}

/* What the kernel is told, in the words of its boot protocol. */
static int write_info(const struct boot_config *config, const struct zeropage *zp, struct err *err)
{
    const struct pvh pvh = {
        .cmdline = zp->cmdline, .initrd = zp->initrd, .initrd_len = zp->initrd_len};
    int r;

    if (config->is_pvh) {
        return pvh_write(&pvh, config->mem, err);
    }
    r = zeropage_write(zp, config->mem, err);
    return r < 0 ? r : write_page_tables(config->mem, err);
}

int boot_load(const struct boot_config *config, struct cpu_state *ret_state, struct err *err)
{
    struct zeropage zp = {
        .setup = &config->kernel->setup, .cmdline = BOOT_CMDLINE, .rsdp = BOOT_RSDP};
    int r = check_memory(config->mem, err);

    if (r < 0 || (r = kernel_load(config->kernel, config->mem, err)) < 0 ||
        (r = randomize(config, &zp.is_randomized, err)) < 0 ||
        (r = write_initrd(config, &zp.initrd, &zp.initrd_len, err)) < 0 ||
        (r = write_cmdline(config, err)) < 0 ||
        (r = acpi_write(config->acpi, config->mem, err)) < 0 ||
        (r = mptable_write(config->acpi->vcpu_count, config->mem, err)) < 0 ||
        (r = write_info(config, &zp, err)) < 0 || (r = write_gdt(config->mem, err)) < 0 ||
        (r = write_reset(config, err)) < 0) {
        return r;
    }
    if (config->is_pvh) {
        set_pvh_entry(ret_state, config->kernel->elf.pvh_entry);
    } else {
        set_entry(ret_state, config->kernel->elf.entry);
    }
    return 0;
}
