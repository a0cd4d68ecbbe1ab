/* cpu_template_test.c — templates are for the CPUs they were made for. */
#include <errno.h>

#include "tests/lib/test.h"
#include "x86/cpu_template.h"

static int check(enum cpu_template_kind kind, const char *vendor, uint32_t signature,
                 struct err *err)
{
    struct cpu_identity cpu = {.signature = signature};

    strcpy(cpu.vendor, vendor);
    return cpu_template_check(kind, &cpu, err);
}

TEST(x86, templates_fit_their_cpus)
{
    struct err err = {0};

    CHECK_INT(check(CPU_TEMPLATE_T2, "GenuineIntel", 0x50654, &err), 0);
    CHECK_INT(check(CPU_TEMPLATE_T2, "GenuineIntel", 0x606a6, &err), 0);
    CHECK_INT(check(CPU_TEMPLATE_T2S, "GenuineIntel", 0x606a6, &err), -ENOTSUP);
    CHECK_STR(err.text, "The current CPU model is not permitted to apply the CPU template.");
    CHECK_INT(check(CPU_TEMPLATE_T2CL, "GenuineIntel", 0x50654, &err), -ENOTSUP);
    CHECK_INT(check(CPU_TEMPLATE_T2A, "AuthenticAMD", 0xa00f11, &err), 0);
    CHECK_INT(check(CPU_TEMPLATE_T2A, "AuthenticAMD", 0xa10f11, &err), -ENOTSUP);
    CHECK_INT(check(CPU_TEMPLATE_C3, "AuthenticAMD", 0xa00f11, &err), -ENOTSUP);
    CHECK_STR(err.text, "CPU vendor mismatched between actual CPU and CPU template.");
}

TEST(x86, templates_set_only_bits_of_their_masks)
{
    for (unsigned kind = 0; kind < CPU_TEMPLATE_COUNT; kind++) {
        const struct cpu_template *template = cpu_template_get(kind);

        CHECK(template->reg_count >= 10);
        for (size_t i = 0; i < template->reg_count; i++) {
            CHECK_INT(template->regs[i].value & ~template->regs[i].mask, 0);
        }
        for (size_t i = 0; i < template->msr_count; i++) {
            CHECK(!(template->msrs[i].value & ~template->msrs[i].mask));
        }
    }
}

TEST(x86, the_host_has_an_identity)
{
    struct cpu_identity cpu = cpu_identity_host();

    CHECK_INT(strlen(cpu.vendor), 12);
    CHECK(cpu.signature != 0);
}
