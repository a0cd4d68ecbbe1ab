/* cpu_json.c — a CPU template written as JSON.
 *
 * Bits are written as text, "0b0x1_" and so on: 0 clears, 1 sets, x leaves, _ is for the eye; what
 * is not written, on the left, is left as it is.
 */
#include "config/cpu_json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "codec/json_in.h"
#include "x86/cpu_template.h"

struct raw_reg {
    char *reg;
    char *bitmap;
};

struct raw_leaf {
    char *leaf;
    char *subleaf;
    uint32_t flags;
    struct json_list modifiers;
};

struct raw_msr {
    char *addr;
    char *bitmap;
};

struct raw {
    struct json_list kvm_capabilities;
    struct json_list cpuid_modifiers;
    struct json_list msr_modifiers;
};

/* --- words --- */

static const char *const g_regs[CPUID_REGS] = {"eax", "ebx", "ecx", "edx"};

static int parse_reg(const char *text)
{
    for (int i = 0; i < CPUID_REGS; i++) {
        if (strcmp(text, g_regs[i]) == 0) {
            return i;
        }
    }
    return -EINVAL;
}

static const char *check_reg(const char *text, char why[static 256])
{
    (void)why;
    return parse_reg(text) < 0 ? "Invalid CPUID register. Must be one of [eax, ebx, ecx, edx]"
                               : NULL;
}

/* "0x10a" or "0b1"; -EINVAL: no prefix, -ERANGE: what follows is no such number of 32 bits. */
static int parse_number(const char *text, uint32_t *ret_value)
{
    int base = text[0] != '0' ? 0 : text[1] == 'x' ? 16 : text[1] == 'b' ? 2 : 0;
    size_t len = base ? strlen(text + 2) : 0;
    unsigned long long value;

    if (!base) {
        return -EINVAL;
    }
    if (len == 0 || strspn(text + 2, base == 16 ? "0123456789abcdefABCDEF" : "01") != len) {
        return -ERANGE;
    }
    errno = 0;
    value = strtoull(text + 2, NULL, base);
    if (errno || value > UINT32_MAX) {
        return -ERANGE;
    }
    *ret_value = (uint32_t)value;
    return 0;
}

static const char *check_number(const char *text, char why[static 256])
{
    uint32_t value;
    int r = parse_number(text, &value);

    if (r == -EINVAL) {
        (void)snprintf(why, 256,
                       "No supported number system prefix found in value [%.32s]. Make sure to "
                       "prefix the number with '0x' for hexadecimal numbers or '0b' for binary "
                       "numbers.",
                       text);
    } else if (r < 0) {
        (void)snprintf(why, 256, "Failed to parse string [%.64s] as a number for CPU template",
                       text);
    }
    return r < 0 ? why : NULL;
}

struct bits {
    uint64_t mask;
    uint64_t value;
};

/* -E2BIG: more than `width` bits, -EINVAL: another character. */
static int parse_bitmap(const char *text, unsigned width, struct bits *ret_bits)
{
    struct bits bits = {0};
    unsigned count = 0;

    text += strncmp(text, "0b", 2) == 0 ? 2 : 0;
    for (; *text; text++) {
        if (*text == '_') {
            continue;
        }
        if (*text != '0' && *text != '1' && *text != 'x') {
            return -EINVAL;
        }
        if (++count > width) {
            return -E2BIG;
        }
        bits.mask = bits.mask << 1 | (*text != 'x');
        bits.value = bits.value << 1 | (*text == '1');
    }
    *ret_bits = bits;
    return 0;
}

static const char *check_bitmap(const char *text, unsigned width, char why[static 256])
{
    struct bits bits;
    int r = parse_bitmap(text, width, &bits);

    if (r < 0) {
        (void)snprintf(why, 256, "Failed to parse string [%.100s] as a bitmap%s", text,
                       r == -E2BIG ? " - string is too long" : " - unknown character");
    }
    return r < 0 ? why : NULL;
}

static const char *check_bitmap32(const char *text, char why[static 256])
{
    return check_bitmap(text, 32, why);
}

static const char *check_bitmap64(const char *text, char why[static 256])
{
    return check_bitmap(text, 64, why);
}

/* "23" wants a capability, "!23" does without. */
static int parse_cap(const char *text, struct cpu_template_cap *ret_cap)
{
    const char *digits = text + (text[0] == '!');
    size_t len = strlen(digits);

    if (len == 0 || len > 9 || strspn(digits, "0123456789") != len) {
        return -EINVAL;
    }
    ret_cap->is_removed = text[0] == '!';
    ret_cap->number = (uint32_t)strtoul(digits, NULL, 10);
    return 0;
}

/* --- JSON --- */

#define FIELD(struct_, member_, kind_) \
    .name = #member_, JSON_AT(struct struct_, member_), .kind = (kind_), .is_required = true
#define TYPE(label_, struct_, fields_)                                        \
    {                                                                         \
        (label_), sizeof(struct struct_), (fields_), ARRAY_LEN(fields_), true \
    }

static const struct json_field reg_fields[] = {
    {.name = "register",
     JSON_AT(struct raw_reg, reg),
     .kind = JSON_STRING,
     .is_required = true,
     .check = check_reg},
    {FIELD(raw_reg, bitmap, JSON_STRING), .check = check_bitmap32},
};
static const struct json_type reg_type = TYPE("CpuidRegisterModifier", raw_reg, reg_fields);

static const struct json_field leaf_fields[] = {
    {FIELD(raw_leaf, leaf, JSON_STRING), .check = check_number},
    {FIELD(raw_leaf, subleaf, JSON_STRING), .check = check_number},
    {FIELD(raw_leaf, flags, JSON_U32)},
    {FIELD(raw_leaf, modifiers, JSON_LIST), .item = JSON_OBJECT, .type = &reg_type},
};
static const struct json_type leaf_type = TYPE("CpuidLeafModifier", raw_leaf, leaf_fields);

static const struct json_field msr_fields[] = {
    {FIELD(raw_msr, addr, JSON_STRING), .check = check_number},
    {FIELD(raw_msr, bitmap, JSON_STRING), .check = check_bitmap64},
};
static const struct json_type msr_type = TYPE("RegisterModifier", raw_msr, msr_fields);

static const struct json_field raw_fields[] = {
    {.name = "kvm_capabilities",
     JSON_AT(struct raw, kvm_capabilities),
     .kind = JSON_LIST,
     .item = JSON_STRING},
    {.name = "cpuid_modifiers",
     JSON_AT(struct raw, cpuid_modifiers),
     .kind = JSON_LIST,
     .item = JSON_OBJECT,
     .type = &leaf_type},
    {.name = "msr_modifiers",
     JSON_AT(struct raw, msr_modifiers),
     .kind = JSON_LIST,
     .item = JSON_OBJECT,
     .type = &msr_type},
};
static const struct json_type raw_type = TYPE("CustomCpuTemplate", raw, raw_fields);

/* --- from words to numbers; all are checked --- */

static int take_regs(const struct raw *raw, struct cpu_template *template)
{
    const struct raw_leaf *leaves = raw->cpuid_modifiers.items;
    struct cpu_template_reg *regs;
    size_t count = 0;

    for (size_t i = 0; i < raw->cpuid_modifiers.count; i++) {
        count += leaves[i].modifiers.count;
    }
    regs = calloc(count + 1, sizeof(*regs));
    template->regs = regs;
    if (!regs) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < raw->cpuid_modifiers.count; i++) {
        const struct raw_reg *from = leaves[i].modifiers.items;

        for (size_t k = 0; k < leaves[i].modifiers.count; k++) {
            struct cpu_template_reg *to = &regs[template->reg_count++];
            struct bits bits = {0};

            (void)parse_number(leaves[i].leaf, &to->leaf);
            (void)parse_number(leaves[i].subleaf, &to->subleaf);
            (void)parse_bitmap(from[k].bitmap, 32, &bits);
            to->flags = leaves[i].flags;
            to->reg = (enum cpuid_reg)parse_reg(from[k].reg);
            to->mask = (uint32_t)bits.mask;
            to->value = (uint32_t)bits.value;
        }
    }
    return 0;
}

static int take_msrs(const struct raw *raw, struct cpu_template *template)
{
    const struct raw_msr *from = raw->msr_modifiers.items;
    struct cpu_template_msr *msrs = calloc(raw->msr_modifiers.count + 1, sizeof(*msrs));

    template->msrs = msrs;
    if (!msrs) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < raw->msr_modifiers.count; i++) {
        struct bits bits = {0};

        (void)parse_number(from[i].addr, &msrs[i].index);
        (void)parse_bitmap(from[i].bitmap, 64, &bits);
        msrs[i].mask = bits.mask;
        msrs[i].value = bits.value;
    }
    template->msr_count = raw->msr_modifiers.count;
    return 0;
}

static int take_caps(const struct raw *raw, struct cpu_template *template, struct err *err)
{
    char *const *from = raw->kvm_capabilities.items;
    struct cpu_template_cap *caps = calloc(raw->kvm_capabilities.count + 1, sizeof(*caps));

    template->caps = caps;
    if (!caps) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < raw->kvm_capabilities.count; i++) {
        if (parse_cap(from[i], &caps[i]) < 0) {
            return err_set(err, -EINVAL,
                           "Failed to parse string [%.100s] as a kvm capability: must be a "
                           "decimal number, with a '!' before it to remove it",
                           from[i]);
        }
    }
    template->cap_count = raw->kvm_capabilities.count;
    return 0;
}

static int take(const struct raw *raw, struct cpu_template *template, struct err *err)
{
    int r = take_regs(raw, template);

    if (r == 0) {
        r = take_msrs(raw, template);
    }
    if (r == 0) {
        r = take_caps(raw, template, err);
    }
    return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
}

int cpu_json_parse(const char *text, size_t len, struct cpu_template **ret_template,
                   struct err *err)
{
    struct cpu_template *template = calloc(1, sizeof(*template));
    struct raw raw = {0};
    int r;

    if (!template) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    r = json_in(text, len, &raw_type, &raw, err);
    if (r == 0) {
        r = take(&raw, template, err);
    }
    json_in_free(&raw_type, &raw);
    if (r < 0) {
        cpu_json_free(template);
        return r;
    }
    *ret_template = template;
    return 0;
}

void cpu_json_free(struct cpu_template *template)
{
    if (template) {
        free((void *)(uintptr_t) template->regs);
        free((void *)(uintptr_t) template->msrs);
        free((void *)(uintptr_t) template->caps);
        free(template);
    }
}
