/* regs.c — see regs.h.
 *
 * Vector and x87 registers come from an XSAVE area of the standard format.  A component that its
 * XSTATE_BV does not name is in its initial state, whatever the area holds (SDM volume 1, 13.6).
 */
#include "gdb/regs.h"

#include <stdbool.h>
#include <string.h>

#include "base/bits.h"
#include "base/buf.h"
#include "hv/cpu_state.h"
#include "x86/msr.h"

/* XSAVE area: SDM volume 1, tables 10-2 and 13-1, 13.4.2, 13.5.3. */
#define X_FCW        0
#define X_FSW        2
#define X_FTW        4
#define X_FOP        6
#define X_MXCSR      24
#define X_ST         32
#define X_XMM        160
#define X_XSTATE_BV  512
#define X_YMMH       576
#define X_SLOT_BYTES 16
#define X87_BYTES    10
#define BV_X87       1u
#define BV_SSE       2u
#define BV_AVX       4u

#define FCW_INIT   0x37fu
#define FTW_EMPTY  0xffffu
#define MXCSR_INIT 0x1f80u
#define MXCSR_MASK 0xffffu

/* RFLAGS that may be set; VM is for nobody. */
#define EFLAGS_MASK 0x3d7fd5u

enum reg_kind {
    REG_GPR,
    REG_RIP,
    REG_EFLAGS,
    REG_SELECTOR,
    REG_BASE,
    REG_KERNEL_GS,
    REG_CR,
    REG_EFER,
    REG_ST,
    REG_FCTRL,
    REG_FSTAT,
    REG_FTAG,
    REG_FPTR, /* index: where in the area */
    REG_FOP,
    REG_XMM,
    REG_MXCSR,
    REG_YMMH,
};

static const struct reg {
    const char *name;
    const char *type;
    uint8_t bytes;
    uint8_t kind;
    uint8_t index;
} g_regs[] = {
#define FEATURE(name)
#define REG(name_, bytes_, type_, kind_, index_) \
    {.name = (name_), .type = (type_), .bytes = (bytes_), .kind = (kind_), .index = (index_)},
#include "gdb/regs.def"
#undef FEATURE
#undef REG
};

unsigned gdb_reg_count(void)
{
    return ARRAY_LEN(g_regs);
}

size_t gdb_reg_bytes(unsigned index)
{
    return g_regs[index].bytes;
}

/* --- the XSAVE area --- */

static bool is_in_use(const struct cpu_state *cpu, uint64_t part)
{
    return load_le64(cpu->xsave + X_XSTATE_BV) & part;
}

static unsigned part_of(enum reg_kind kind)
{
    return kind == REG_YMMH ? BV_AVX : kind == REG_XMM || kind == REG_MXCSR ? BV_SSE : BV_X87;
}

/* Two bits per register of the full tag word from one of the short one: 0 valid, 1 zero, 2 special,
 * 3 empty (SDM volume 1, 8.1.7).  Tags are of physical registers, the area has them by stack. */
static unsigned tag_of(const struct cpu_state *cpu, unsigned physical)
{
    unsigned top = load_le16(cpu->xsave + X_FSW) >> 11 & 7;
    const uint8_t *st = cpu->xsave + X_ST + (size_t)((physical - top) & 7) * X_SLOT_BYTES;
    unsigned exponent = load_le16(st + 8) & 0x7fffu;
    uint64_t mantissa = load_le64(st);

    if (!(cpu->xsave[X_FTW] >> physical & 1)) {
        return 3;
    }
    if (exponent == 0 && mantissa == 0) {
        return 1;
    }
    return exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

static uint32_t full_tags(const struct cpu_state *cpu)
{
    uint32_t tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        tags |= tag_of(cpu, i) << i * 2;
    }
    return tags;
}

static uint8_t short_tags(uint32_t tags)
{
    unsigned bits = 0;

    for (unsigned i = 0; i < 8; i++) {
        bits |= (unsigned)((tags >> i * 2 & 3) != 3) << i;
    }
    return (uint8_t)bits;
}

/* Where in the area; 0: FCW, which is no register of 16 bytes. */
static size_t place_of(const struct reg *reg)
{
    switch ((enum reg_kind)reg->kind) {
    case REG_ST: return X_ST + (size_t)reg->index * X_SLOT_BYTES;
    case REG_XMM: return X_XMM + (size_t)reg->index * X_SLOT_BYTES;
    case REG_YMMH: return X_YMMH + (size_t)reg->index * X_SLOT_BYTES;
    case REG_FCTRL: return X_FCW;
    case REG_FSTAT: return X_FSW;
    case REG_FTAG: return X_FTW;
    case REG_FOP: return X_FOP;
    case REG_MXCSR: return X_MXCSR;
    case REG_FPTR: return reg->index;
    case REG_GPR:
    case REG_RIP:
    case REG_EFLAGS:
    case REG_SELECTOR:
    case REG_BASE:
    case REG_KERNEL_GS:
    case REG_CR:
    case REG_EFER: break;
    }
    return 0;
}

static uint32_t initial(enum reg_kind kind)
{
    return kind == REG_FCTRL   ? FCW_INIT
           : kind == REG_FTAG  ? FTW_EMPTY
           : kind == REG_MXCSR ? MXCSR_INIT
                               : 0;
}

static void get_fpu(const struct cpu_state *cpu, const struct reg *reg, uint8_t *out)
{
    const uint8_t *at = cpu->xsave + place_of(reg);

    if (!is_in_use(cpu, part_of(reg->kind))) {
        store_le32(out, initial(reg->kind));
    } else if (reg->kind == REG_FTAG) {
        store_le32(out, full_tags(cpu));
    } else if (reg->kind == REG_FCTRL || reg->kind == REG_FSTAT || reg->kind == REG_FOP) {
        store_le32(out, load_le16(at));
    } else {
        memcpy(out, at, reg->bytes);
    }
}

/* The component is in use from now on: the rest of it becomes what it was, its initial state. */
static void begin_part(struct cpu_state *cpu, unsigned part)
{
    uint64_t bv = load_le64(cpu->xsave + X_XSTATE_BV);

    if (bv & part) {
        return;
    }
    if (part == BV_X87) {
        memset(cpu->xsave, 0, X_MXCSR);
        memset(cpu->xsave + X_ST, 0, X_XMM - X_ST);
        store_le16(cpu->xsave + X_FCW, FCW_INIT);
    } else if (part == BV_SSE) {
        store_le32(cpu->xsave + X_MXCSR, MXCSR_INIT);
        memset(cpu->xsave + X_XMM, 0, (size_t)16 * X_SLOT_BYTES);
    } else {
        memset(cpu->xsave + X_YMMH, 0, (size_t)16 * X_SLOT_BYTES);
    }
    store_le64(cpu->xsave + X_XSTATE_BV, bv | part);
}

static void set_fpu(struct cpu_state *cpu, const struct reg *reg, const uint8_t *data)
{
    uint8_t *at = cpu->xsave + place_of(reg);
    unsigned part = part_of(reg->kind);

    if (part == BV_AVX && !(cpu->xcr0 & BV_AVX)) {
        return; /* the guest has not enabled it */
    }
    begin_part(cpu, part);
    if (reg->kind == REG_FTAG) {
        *at = short_tags(load_le32(data));
    } else if (reg->kind == REG_MXCSR) {
        store_le32(at, load_le32(data) & MXCSR_MASK);
    } else if (reg->kind == REG_FCTRL || reg->kind == REG_FSTAT || reg->kind == REG_FOP) {
        store_le16(at, load_le16(data));
    } else {
        memcpy(at, data, reg->bytes);
    }
}

/* --- the others --- */

static uint64_t *control(struct cpu_state *cpu, unsigned number)
{
    return number == 0   ? &cpu->cr0
           : number == 2 ? &cpu->cr2
           : number == 3 ? &cpu->cr3
           : number == 4 ? &cpu->cr4
                         : &cpu->cr8;
}

static uint64_t *kernel_gs(struct cpu_state *cpu)
{
    for (unsigned i = 0; i < cpu->msr_count && i < CPU_MSR_MAX; i++) {
        if (cpu->msr[i].index == MSR_KERNEL_GS_BASE) {
            return &cpu->msr[i].value;
        }
    }
    return NULL;
}

/* The 64-bit ones; NULL: it is another, or not there. */
static uint64_t *plain(struct cpu_state *cpu, const struct reg *reg)
{
    switch ((enum reg_kind)reg->kind) {
    case REG_GPR: return &cpu->gpr[reg->index];
    case REG_RIP: return &cpu->rip;
    case REG_BASE: return &cpu->seg[reg->index].base;
    case REG_KERNEL_GS: return kernel_gs(cpu);
    case REG_CR: return control(cpu, reg->index);
    case REG_EFER: return &cpu->efer;
    case REG_EFLAGS:
    case REG_SELECTOR:
    case REG_ST:
    case REG_FCTRL:
    case REG_FSTAT:
    case REG_FTAG:
    case REG_FPTR:
    case REG_FOP:
    case REG_XMM:
    case REG_MXCSR:
    case REG_YMMH: break;
    }
    return NULL;
}

static bool is_fpu(const struct reg *reg)
{
    return reg->kind >= REG_ST;
}

void gdb_reg_get(const struct cpu_state *cpu, unsigned index, uint8_t out[GDB_REG_BYTES_MAX])
{
    const struct reg *reg = &g_regs[index];
    const uint64_t *value = plain((struct cpu_state *)(uintptr_t)cpu, reg);

    memset(out, 0, GDB_REG_BYTES_MAX);
    if (value) {
        store_le64(out, *value);
    } else if (is_fpu(reg)) {
        get_fpu(cpu, reg, out);
    } else if (reg->kind == REG_EFLAGS) {
        store_le32(out, (uint32_t)cpu->rflags);
    } else if (reg->kind == REG_SELECTOR) {
        store_le32(out, cpu->seg[reg->index].selector);
    }
}

void gdb_reg_set(struct cpu_state *cpu, unsigned index, const uint8_t data[GDB_REG_BYTES_MAX])
{
    const struct reg *reg = &g_regs[index];
    uint64_t *value = plain(cpu, reg);

    if (value) {
        *value = load_le64(data);
    } else if (is_fpu(reg)) {
        set_fpu(cpu, reg, data);
    } else if (reg->kind == REG_EFLAGS) {
        cpu->rflags = (cpu->rflags & ~(uint64_t)EFLAGS_MASK) | (load_le32(data) & EFLAGS_MASK);
    } else if (reg->kind == REG_SELECTOR) {
        cpu->seg[reg->index].selector = load_le16(data); /* what is hidden behind it stays */
    }
}

/* --- the description --- */

/* Vectors by element, as gdb's own descriptions have them. */
static const char g_vectors[] = "<vector id=\"x86_v4f\" type=\"ieee_single\" count=\"4\"/>"
                                "<vector id=\"x86_v2d\" type=\"ieee_double\" count=\"2\"/>"
                                "<vector id=\"x86_v16b\" type=\"int8\" count=\"16\"/>"
                                "<vector id=\"x86_v8w\" type=\"int16\" count=\"8\"/>"
                                "<vector id=\"x86_v4d\" type=\"int32\" count=\"4\"/>"
                                "<vector id=\"x86_v2q\" type=\"int64\" count=\"2\"/>"
                                "<union id=\"x86_vec128\">"
                                "<field name=\"v4_float\" type=\"x86_v4f\"/>"
                                "<field name=\"v2_double\" type=\"x86_v2d\"/>"
                                "<field name=\"v16_int8\" type=\"x86_v16b\"/>"
                                "<field name=\"v8_int16\" type=\"x86_v8w\"/>"
                                "<field name=\"v4_int32\" type=\"x86_v4d\"/>"
                                "<field name=\"v2_int64\" type=\"x86_v2q\"/>"
                                "<field name=\"uint128\" type=\"uint128\"/>"
                                "</union>";

/* Types count within a feature only; one that it does not use does no harm. */
static void describe_types(struct buf *out)
{
    const char *end = "";

    buf_append_str(out, g_vectors);
#define TYPE(name, bytes)                                                     \
    buf_printf(out, "%s<flags id=\"%s\" size=\"%d\">", end, (name), (bytes)); \
    end = "</flags>";
#define FLAG(bit, name) \
    buf_printf(out, "<field name=\"%s\" start=\"%d\" end=\"%d\"/>", (name), (bit), (bit));
#include "gdb/flags.def"
#undef TYPE
#undef FLAG
    buf_append_str(out, end);
}

static void describe_feature(struct buf *out, const char *name, const char *end)
{
    buf_printf(out, "%s<feature name=\"%s\">", end, name);
    describe_types(out);
}

static void describe_reg(struct buf *out, const char *name, unsigned bytes, const char *type)
{
    buf_printf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"/>", name, bytes * 8, type);
}

void gdb_reg_describe(struct buf *out)
{
    const char *end = "";

    buf_append_str(out, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
                        "<target version=\"1.0\"><architecture>i386:x86-64</architecture>");
#define FEATURE(name)                 \
    describe_feature(out, name, end); \
    end = "</feature>";
#define REG(name, bytes, type, kind, index) describe_reg(out, name, bytes, type);
#include "gdb/regs.def"
#undef FEATURE
#undef REG
    buf_append_str(out, "</feature></target>");
}
