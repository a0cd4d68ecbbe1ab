/* cpu_json_test.c — templates as JSON: bits, numbers, and what is refused. */
#include <errno.h>

#include "config/cpu_json.h"
#include "tests/lib/test.h"
#include "x86/cpu_template.h"

static int parse(const char *text, struct cpu_template **ret_template, struct err *err)
{
    return cpu_json_parse(text, strlen(text), ret_template, err);
}

TEST(config, a_cpu_template_is_read)
{
    static const char text[] =
        "{\"kvm_capabilities\":[\"121\",\"!56\"],\"cpuid_modifiers\":[{\"leaf\":\"0x1\","
        "\"subleaf\":\"0b0\",\"flags\":0,\"modifiers\":[{\"register\":\"ecx\",\"bitmap\":"
        "\"0b1x0_1\"},{\"register\":\"edx\",\"bitmap\":\"0xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}]},"
        "{\"leaf\":\"0x80000008\",\"subleaf\":\"0x2\",\"flags\":1,\"modifiers\":[{\"register\":"
        "\"eax\",\"bitmap\":\"1\"}]}],\"msr_modifiers\":[{\"addr\":\"0x10a\",\"bitmap\":"
        "\"1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx01\"}]}";
    struct cpu_template *t = NULL;
    struct err err = {0};

    CHECK_OK(parse(text, &t, &err), &err);
    CHECK_INT(t->reg_count, 3);
    CHECK_INT(t->regs[0].leaf, 1);
    CHECK_INT(t->regs[0].reg, CPUID_ECX);
    CHECK_INT(t->regs[0].mask, 0xb);
    CHECK_INT(t->regs[0].value, 0x9);
    CHECK_INT(t->regs[1].mask, 0x80000000);
    CHECK_INT(t->regs[1].value, 0);
    CHECK_INT(t->regs[2].leaf, 0x80000008);
    CHECK_INT(t->regs[2].subleaf, 2);
    CHECK_INT(t->regs[2].flags, 1);
    CHECK_INT(t->msr_count, 1);
    CHECK(t->msrs[0].mask == UINT64_C(0x8000000000000003));
    CHECK(t->msrs[0].value == UINT64_C(0x8000000000000001));
    CHECK_INT(t->cap_count, 2);
    CHECK_INT(t->caps[0].number, 121);
    CHECK(t->caps[1].is_removed);
    cpu_json_free(t);
    CHECK_OK(parse("{}", &t, &err), &err);
    CHECK_INT(t->reg_count + t->msr_count + t->cap_count, 0);
    cpu_json_free(t);
}

#define LEAF(leaf, reg, bitmap)                                                     \
    "{\"cpuid_modifiers\":[{\"leaf\":\"" leaf "\",\"subleaf\":\"0x0\",\"flags\":0," \
    "\"modifiers\":[{\"register\":\"" reg "\",\"bitmap\":\"" bitmap "\"}]}]}"

TEST(config, a_bad_cpu_template_is_refused)
{
    static const struct {
        const char *text;
        const char *part;
    } vectors[] = {
        {LEAF("1", "eax", "1"), "No supported number system prefix found in value [1]. Make sure "
                                "to prefix the number with '0x' for hexadecimal numbers or '0b' "
                                "for binary numbers."},
        {LEAF("0xg", "eax", "1"), "Failed to parse string [0xg]"},
        {LEAF("0x100000000", "eax", "1"), "Failed to parse string [0x100000000]"},
        {LEAF("0x1", "eex", "1"), "Must be one of [eax, ebx, ecx, edx]"},
        {LEAF("0x1", "eax", "2"), "Failed to parse string [2] as a bitmap"},
        {LEAF("0x1", "eax", "000000000000000000000000000000000"),
         "Failed to parse string [000000000000000000000000000000000] as a bitmap - string is too "
         "long"},
        {"{\"msr_modifiers\":[{\"addr\":\"0x1\"}]}", "missing field `bitmap`"},
        {"{\"reg_modifiers\":[]}", "unknown field `reg_modifiers`"},
        {"{\"kvm_capabilities\":[\"x\"]}", "Failed to parse string [x]"},
        {"{\"kvm_capabilities\":[1]}", "invalid type"},
        {"[", "EOF while parsing"},
    };

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct cpu_template *t = NULL;
        struct err err = {0};

        CHECK_INT(parse(vectors[i].text, &t, &err), -EINVAL);
        CHECK_HAS(err_text(&err), vectors[i].part);
        CHECK(t == NULL);
    }
}
