/* cpuid.c — CPUID as a table: changed by a template, made to say what this VM is.
 *
 * Leaves and bits: SDM volume 2, CPUID; AMD's APM volume 3, appendix E.  Which of them are made to
 * say what is the interface's (docs/microvm.md): guests move between monitors that agree.
 */
#include "hv/cpuid.h"

#include <cpuid.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"

enum { EAX = CPUID_EAX, EBX = CPUID_EBX, ECX = CPUID_ECX, EDX = CPUID_EDX };

#define EXT 0x80000000u
/* Cache lines of 64 bytes, in units of 8 (leaf 1). */
#define CLFLUSH_UNITS 8u
/* Bits of an APIC id below the package's: room for 32 CPUs. */
#define PACKAGE_SHIFT 5u
/* The same for AMD (8000_0008): bits of the APIC id that number threads. */
#define AMD_ID_BITS 7u

struct shape {
    struct hv_cpuid *table;
    unsigned vcpu_count;
    unsigned threads; /* per core */
};

int hv_cpuid_add(struct hv_cpuid *table, uint32_t leaf, int subleaf,
                 const uint32_t regs[CPUID_REGS])
{
    struct hv_cpuid_entry *entry = &table->entries[table->count];

    if (table->count == HV_CPUID_MAX) {
        return -ENOSPC;
    }
    entry->leaf = leaf;
    entry->subleaf = subleaf >= 0 ? (uint32_t)subleaf : 0;
    entry->flags = subleaf >= 0 ? HV_CPUID_SUBLEAF_MATTERS : 0;
    memcpy(entry->regs, regs, sizeof(entry->regs));
    table->count++;
    return 0;
}

const struct hv_cpuid_entry *hv_cpuid_find_const(const struct hv_cpuid *table, uint32_t leaf,
                                                 uint32_t subleaf)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct hv_cpuid_entry *entry = &table->entries[i];

        if (entry->leaf == leaf &&
            (!(entry->flags & HV_CPUID_SUBLEAF_MATTERS) || entry->subleaf == subleaf)) {
            return entry;
        }
    }
    return NULL;
}

struct hv_cpuid_entry *hv_cpuid_find(struct hv_cpuid *table, uint32_t leaf, uint32_t subleaf)
{
    const struct hv_cpuid_entry *entry = hv_cpuid_find_const(table, leaf, subleaf);

    return entry ? &table->entries[entry - table->entries] : NULL;
}

bool hv_cpuid_is_amd(const struct hv_cpuid *table)
{
    const struct hv_cpuid_entry *entry = hv_cpuid_find_const(table, 0, 0);

    return entry && (entry->regs[EBX] == 0x68747541 || entry->regs[EBX] == 0x6f677948);
}

static void remove_leaf(struct hv_cpuid *table, uint32_t leaf)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < table->count; i++) {
        if (table->entries[i].leaf != leaf) {
            table->entries[kept++] = table->entries[i];
        }
    }
    table->count = kept;
}

static void host(uint32_t leaf, uint32_t subleaf, uint32_t regs[CPUID_REGS])
{
    memset(regs, 0, CPUID_REGS * sizeof(regs[0]));
    (void)__get_cpuid_count(leaf, subleaf, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]);
}

static unsigned power_of_two(unsigned n)
{
    unsigned power = 1;

    while (power < n) {
        power *= 2;
    }
    return power;
}

static void set_bits(uint32_t *reg, unsigned shift, unsigned count, uint32_t value)
{
    uint32_t mask = ((count == 32 ? 0 : 1u << count) - 1) << shift;

    *reg = (*reg & ~mask) | (value << shift & mask);
}

static void set_bit(uint32_t *reg, unsigned bit, bool value)
{
    set_bits(reg, bit, 1, value);
}

/* --- template --- */

static int apply_template(struct hv_cpuid *table, const struct cpu_template *template,
                          struct err *err)
{
    for (size_t i = 0; i < template->reg_count; i++) {
        const struct cpu_template_reg *change = &template->regs[i];
        struct hv_cpuid_entry *entry = hv_cpuid_find(table, change->leaf, change->subleaf);

        if (!entry || entry->subleaf != change->subleaf) {
            return err_set(err, -ENOTSUP,
                           CPU_TEMPLATE_FAILED
                           "Template changes a CPUID entry not supported by KVM: Leaf: %x, "
                           "Subleaf: %x",
                           change->leaf, change->subleaf);
        }
        entry->regs[change->reg] = (entry->regs[change->reg] & ~change->mask) | change->value;
    }
    return 0;
}

/* --- what every CPU says --- */

static void shape_vendor(struct shape *s)
{
    struct hv_cpuid_entry *entry = hv_cpuid_find(s->table, 0, 0);
    uint32_t r[CPUID_REGS];

    if (entry) {
        host(0, 0, r);
        memcpy(entry->regs + EBX, r + EBX, 3 * sizeof(r[0]));
    }
}

static void shape_features(struct shape *s)
{
    struct hv_cpuid_entry *entry = hv_cpuid_find(s->table, 1, 0);

    if (entry) {
        uint32_t *r = entry->regs;

        set_bits(&r[EBX], 8, 8, CLFLUSH_UNITS);
        set_bits(&r[EBX], 16, 8, power_of_two(s->vcpu_count));
        set_bit(&r[ECX], 15, false); /* PDCM: no performance counters */
        set_bit(&r[ECX], 24, true);  /* TSC deadline timer */
        set_bit(&r[ECX], 31, true);  /* a hypervisor is present */
        set_bit(&r[EDX], 28, s->vcpu_count > 1);
    }
}

/* Leaf 0BH or 1FH: threads, cores, the end.  Made, not mended: newer KVMs offer one empty subleaf,
 * older ones the host's. */
static int shape_topology(struct shape *s, uint32_t leaf)
{
    const uint32_t levels[][CPUID_REGS] = {
        {s->threads > 1, s->threads, 1 << 8, 0},
        {PACKAGE_SHIFT, s->vcpu_count, 2 << 8 | 1, 0},
        {0, 0, 2, 0},
    };
    int r = 0;

    if (!hv_cpuid_find(s->table, leaf, 0)) {
        return 0;
    }
    remove_leaf(s->table, leaf);
    for (int i = 0; r == 0 && i < (int)ARRAY_LEN(levels); i++) {
        r = hv_cpuid_add(s->table, leaf, i, levels[i]);
    }
    return r;
}

/* Leaves of caches (Intel 4, AMD 8000_001D): who shares them. */
static void shape_caches(struct shape *s, uint32_t leaf, bool has_cores)
{
    for (unsigned i = 0; i < s->table->count; i++) {
        struct hv_cpuid_entry *entry = &s->table->entries[i];
        uint32_t *eax = &entry->regs[EAX];

        if (entry->leaf == leaf && (*eax & 0x1f)) {
            bool is_shared = (*eax >> 5 & 7) >= 3; /* level 3 */

            set_bits(eax, 14, 12, (is_shared ? s->vcpu_count : s->threads) - 1);
            if (has_cores) {
                set_bits(eax, 26, 6, s->vcpu_count / s->threads - 1);
            }
        }
    }
}

/* 8000_0005 and 8000_0006: the host's caches. */
static void shape_old_caches(struct shape *s)
{
    for (uint32_t leaf = EXT + 5; leaf <= EXT + 6; leaf++) {
        struct hv_cpuid_entry *entry = hv_cpuid_find(s->table, leaf, 0);

        if (entry) {
            host(leaf, 0, entry->regs);
            if (leaf == EXT + 6) {
                set_bits(&entry->regs[EDX], 16, 2, 0); /* reserved */
            }
        }
    }
}

static void shape_brand(struct shape *s, const char brand[static 48])
{
    for (uint32_t i = 0; i < 3; i++) {
        struct hv_cpuid_entry *entry = hv_cpuid_find(s->table, EXT + 2 + i, 0);

        if (entry) {
            memcpy(entry->regs, brand + (size_t)i * 16, 16);
        }
    }
}

/* --- Intel --- */

/* The host's frequency, as its brand string ends: "... @ 3.00GHz".  "" when it does not. */
static void host_frequency(char out[static 16])
{
    char brand[49] = "";
    const char *end;
    const char *start;

    for (uint32_t i = 0; i < 3; i++) {
        host(EXT + 2 + i, 0, (uint32_t *)(void *)(brand + (size_t)i * 16));
    }
    out[0] = '\0';
    end = strstr(brand, "Hz");
    if (!end || end - brand < 2 || !strchr("MGT", end[-1])) {
        return;
    }
    start = end - 1;
    while (start > brand && (isdigit((unsigned char)start[-1]) || start[-1] == '.')) {
        start--;
    }
    if (start < end - 1 && end + 2 - start < 16) {
        (void)snprintf(out, 16, "%.*s", (int)(end + 2 - start), start);
    }
}

static void shape_intel_brand(struct shape *s)
{
    char brand[48] = "";
    char frequency[16];

    host_frequency(frequency);
    (void)snprintf(brand, sizeof(brand), "Intel(R) Xeon(R) Processor%s%s",
                   frequency[0] ? " @ " : "", frequency);
    shape_brand(s, brand);
}

static int shape_intel(struct shape *s)
{
    struct hv_cpuid_entry *entry;

    shape_caches(s, 4, true);
    entry = hv_cpuid_find(s->table, 6, 0);
    if (entry) {
        set_bit(&entry->regs[EAX], 1, false); /* turbo */
        set_bit(&entry->regs[ECX], 3, false); /* energy and performance bias */
    }
    entry = hv_cpuid_find(s->table, 7, 0);
    if (entry) {
        set_bit(&entry->regs[EBX], 6, true);  /* x87 data pointer only with exceptions */
        set_bit(&entry->regs[EBX], 13, true); /* no x87 CS and DS */
        set_bit(&entry->regs[ECX], 5, false); /* WAITPKG */
    }
    entry = hv_cpuid_find(s->table, 0xa, 0);
    if (entry) { /* no performance counters */
        memset(entry->regs, 0, sizeof(entry->regs));
    }
    shape_intel_brand(s);
    return shape_topology(s, 0x1f);
}

/* --- AMD --- */

/* Cache and topology leaves that KVM does not offer everywhere: the host's. */
static int add_amd_caches(struct shape *s)
{
    uint32_t regs[CPUID_REGS];
    int r = 0;

    remove_leaf(s->table, EXT + 0x1d);
    for (int i = 0; r == 0 && i < 8; i++) {
        host(EXT + 0x1d, (uint32_t)i, regs);
        r = hv_cpuid_add(s->table, EXT + 0x1d, i, regs);
        if (!(regs[EAX] & 0x1f)) {
            break;
        }
    }
    return r;
}

static int shape_amd(struct shape *s)
{
    struct hv_cpuid_entry *entry = hv_cpuid_find(s->table, EXT, 0);
    static const char brand[48] = "AMD EPYC";
    uint32_t last_leaf = entry ? entry->regs[EAX] : 0;
    int r = 0;

    entry = hv_cpuid_find(s->table, 7, 0);
    if (entry) {
        set_bit(&entry->regs[EDX], 29, false); /* ARCH_CAPABILITIES */
    }
    if (last_leaf >= EXT + 0x1e) {
        entry = hv_cpuid_find(s->table, EXT + 1, 0);
        if (entry) {
            set_bit(&entry->regs[ECX], 22, true); /* topology extensions */
        }
        r = add_amd_caches(s);
        if (r == 0 && !hv_cpuid_find(s->table, EXT + 0x1e, 0)) {
            r = hv_cpuid_add(s->table, EXT + 0x1e, -1, (uint32_t[CPUID_REGS]){0});
        }
    }
    entry = hv_cpuid_find(s->table, EXT + 8, 0);
    if (entry) {
        set_bits(&entry->regs[ECX], 0, 8, s->vcpu_count - 1);
        set_bits(&entry->regs[ECX], 12, 4, AMD_ID_BITS);
    }
    shape_caches(s, EXT + 0x1d, false);
    shape_brand(s, brand);
    return r;
}

/* --- all of it --- */

static unsigned threads_of(const struct hv_cpuid_vm *vm)
{
    return vm->has_smt && vm->vcpu_count > 1 ? 2 : 1;
}

int hv_cpuid_shape(struct hv_cpuid *table, const struct hv_cpuid_vm *vm, struct err *err)
{
    struct shape s = {.table = table, .vcpu_count = vm->vcpu_count, .threads = threads_of(vm)};
    int r = vm->template ? apply_template(table, vm->template, err) : 0;

    if (r < 0) {
        return r;
    }
    shape_vendor(&s);
    shape_features(&s);
    shape_old_caches(&s);
    r = shape_topology(&s, 0xb);
    if (r == 0) {
        r = hv_cpuid_is_amd(table) ? shape_amd(&s) : shape_intel(&s);
    }
    if (r < 0) {
        return err_set(err, r, "CPUID: more than %d leaves", HV_CPUID_MAX);
    }
    return vm->saved ? hv_cpuid_adopt(table, vm->saved, err) : 0;
}

void hv_cpuid_patch_id(const struct hv_cpuid_vm *vm, unsigned index, uint32_t leaf,
                       uint32_t regs[CPUID_REGS])
{
    switch (leaf) {
    case 1: set_bits(&regs[EBX], 24, 8, index); break;
    case 0xb:
    case 0x1f: regs[EDX] = index; break;
    case EXT + 0x1e:
        regs[EAX] = index;
        set_bits(&regs[EBX], 0, 8, index / threads_of(vm));
        set_bits(&regs[EBX], 8, 8, threads_of(vm) - 1);
        regs[ECX] = 0;
        break;
    default: break;
    }
}
