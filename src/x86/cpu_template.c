/* cpu_template.c — the built-in CPU templates, and the CPUs they are made for.
 *
 * The numbers are the interface's (docs/microvm.md): guests that were started with a template on
 * another monitor see the same CPU here.
 */
#include "x86/cpu_template.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"

#define SUBLEAF_MATTERS 1
#define MSR_ARCH_CAPS   0x10a

#define REG(leaf_, subleaf_, flags_, reg_, mask_, value_)    \
    {                                                        \
        leaf_, subleaf_, flags_, CPUID_##reg_, mask_, value_ \
    }

/* Haswell's features: what all T2 have in common. */
#define T2_COMMON                                                                    \
    REG(0x1, 0, 0, EAX, 0x0fff3fff, 0x000306f2), REG(0x1, 0, 0, ECX, 0x0004cdfc, 0), \
        REG(0x1, 0, 0, EDX, 0xe8641080, 0x00001080),                                 \
        REG(0x7, 0, SUBLEAF_MATTERS, EBX, 0xffefda14, 0x00000200),                   \
        REG(0x7, 0, SUBLEAF_MATTERS, ECX, 0x40415f5e, 0),                            \
        REG(0x7, 0, SUBLEAF_MATTERS, EDX, 0x0000011c, 0),                            \
        REG(0xd, 0, SUBLEAF_MATTERS, EAX, 0x000002f8, 0),                            \
        REG(0xd, 1, SUBLEAF_MATTERS, EAX, 0x0000000e, 0)

#define T2_INTEL                                                                          \
    REG(0x80000001, 0, 0, ECX, 0x20000100, 0), REG(0x80000001, 0, 0, EDX, 0x04000000, 0), \
        REG(0x80000008, 0, 0, EBX, 0x00000200, 0)

static const struct cpu_template_reg g_regs_T2[] = {T2_COMMON, T2_INTEL};
static const struct cpu_template_reg g_regs_T2S[] = {T2_COMMON, T2_INTEL};
static const struct cpu_template_reg g_regs_T2CL[] = {
    T2_COMMON,
    REG(0x80000001, 0, 0, ECX, 0x200001c0, 0),
    REG(0x80000001, 0, 0, EDX, 0x07c00000, 0),
    REG(0x80000008, 0, 0, EBX, 0x00000200, 0),
};
static const struct cpu_template_reg g_regs_T2A[] = {
    T2_COMMON,
    REG(0x80000001, 0, 0, ECX, 0x200001c4, 0),
    REG(0x80000001, 0, 0, EDX, 0x06400000, 0),
    REG(0x80000008, 0, 0, EBX, 0x001c0205, 0x001c0004),
};
/* Ivy Bridge's features. */
static const struct cpu_template_reg g_regs_C3[] = {
    REG(0x1, 0, 0, EAX, 0x0fff3fff, 0x000306e4),
    REG(0x1, 0, 0, ECX, 0x0040dd3c, 0),
    REG(0x1, 0, 0, EDX, 0xa8641080, 0x00001080),
    REG(0x7, 0, SUBLEAF_MATTERS, EBX, 0xffafdd3c, 0),
    REG(0x7, 0, SUBLEAF_MATTERS, ECX, 0x4041481e, 0),
    REG(0x7, 0, SUBLEAF_MATTERS, EDX, 0x0000000c, 0),
    REG(0xd, 0, SUBLEAF_MATTERS, EAX, 0x000002f8, 0),
    REG(0xd, 1, SUBLEAF_MATTERS, EAX, 0x0000000e, 0),
    REG(0x80000001, 0, 0, ECX, 0x00000120, 0),
    REG(0x80000001, 0, 0, EDX, 0x04000000, 0),
};

static const struct cpu_template_msr g_msrs_T2S[] = {
    {MSR_ARCH_CAPS, UINT64_MAX, 0x0c0a0c4c},
};
static const struct cpu_template_msr g_msrs_T2CL[] = {
    {MSR_ARCH_CAPS, UINT64_C(0xffffffffe2f51e00), 0},
};

#define REGS(name) .regs = g_regs_##name, .reg_count = ARRAY_LEN(g_regs_##name)
#define MSRS(name) .msrs = g_msrs_##name, .msr_count = ARRAY_LEN(g_msrs_##name)

enum vendor { INTEL, AMD };

/* Signatures without their reserved bits: family, model, stepping. */
enum {
    SKYLAKE = 0x50654,
    CASCADE_LAKE = 0x50657,
    ICE_LAKE = 0x606a6,
    MILAN = 0xa00f11,
};

static const struct {
    struct cpu_template template;
    enum vendor vendor;
    uint32_t cpus[4]; /* up to a 0 */
} g_templates[CPU_TEMPLATE_COUNT] = {
    [CPU_TEMPLATE_C3] = {{REGS(C3)}, INTEL, {SKYLAKE, CASCADE_LAKE, ICE_LAKE}},
    [CPU_TEMPLATE_T2] = {{REGS(T2)}, INTEL, {SKYLAKE, CASCADE_LAKE, ICE_LAKE}},
    [CPU_TEMPLATE_T2S] = {{REGS(T2S), MSRS(T2S)}, INTEL, {SKYLAKE, CASCADE_LAKE}},
    [CPU_TEMPLATE_T2CL] = {{REGS(T2CL), MSRS(T2CL)}, INTEL, {CASCADE_LAKE, ICE_LAKE}},
    [CPU_TEMPLATE_T2A] = {{REGS(T2A)}, AMD, {MILAN}},
};

const struct cpu_template *cpu_template_get(enum cpu_template_kind kind)
{
    return &g_templates[kind].template;
}

struct cpu_identity cpu_identity_host(void)
{
    struct cpu_identity cpu = {0};
    uint32_t eax;
    uint32_t ebx;
    uint32_t ecx;
    uint32_t edx;

    __cpuid(0, eax, ebx, ecx, edx);
    memcpy(cpu.vendor, &ebx, 4);
    memcpy(cpu.vendor + 4, &edx, 4);
    memcpy(cpu.vendor + 8, &ecx, 4);
    __cpuid(1, eax, ebx, ecx, edx);
    cpu.signature = eax & 0x0fff3fff;
    return cpu;
}

int cpu_template_check(enum cpu_template_kind kind, const struct cpu_identity *cpu, struct err *err)
{
    static const char *const vendors[] = {[INTEL] = "GenuineIntel", [AMD] = "AuthenticAMD"};

    if (strcmp(cpu->vendor, vendors[g_templates[kind].vendor]) != 0) {
        return err_set(err, -ENOTSUP, "CPU vendor mismatched between actual CPU and CPU template.");
    }
    for (const uint32_t *at = g_templates[kind].cpus; *at; at++) {
        if (*at == cpu->signature) {
            return 0;
        }
    }
    return err_set(err, -ENOTSUP,
                   "The current CPU model is not permitted to apply the CPU template.");
}
