/* print.c — one line of Intel-like text per instruction, for traces and failing tests. */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "hv/soft/isa/insn.h"

#define LINE_BYTES 96

struct line {
    char *text;
    size_t used;
};

static void put(struct line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Append what fits. */
static void put(struct line *l, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(l->text + l->used, LINE_BYTES - l->used, format, args);
    va_end(args);
    if (n > 0) {
        l->used += (size_t)n;
    }
    if (l->used > LINE_BYTES - 1) {
        l->used = LINE_BYTES - 1;
    }
}

static void put_gpr(struct line *l, unsigned reg, unsigned size, bool is_high8)
{
    static const char low[8][4] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};

    if (is_high8) {
        put(l, "%ch", "acdb"[reg & 3]);
    } else if (reg < 8 && size == 1) {
        reg < 4 ? put(l, "%cl", low[reg][0]) : put(l, "%sl", low[reg]);
    } else if (reg < 8) {
        put(l, "%s%s", size == 8 ? "r" : size == 4 ? "e" : "", low[reg]);
    } else {
        put(l, "r%u%s", reg, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
    }
}

static const char *sreg_name(unsigned reg)
{
    static const char names[6][3] = {"es", "cs", "ss", "ds", "fs", "gs"};

    return reg < 6 ? names[reg] : "?s";
}

static void put_signed(struct line *l, int64_t value, const char *plus)
{
    if (value < 0) {
        put(l, "-0x%" PRIx64, 0 - (uint64_t)value);
    } else {
        put(l, "%s0x%" PRIx64, plus, (uint64_t)value);
    }
}

static void put_memory(struct line *l, const struct insn *insn, unsigned size)
{
    const char *plus = "";

    if (size) {
        put(l, "m%u ", size * 8);
    }
    if (insn->has_seg_override) {
        put(l, "%s:", sreg_name(insn->seg));
    }
    put(l, "[");
    if (insn->base == INSN_REG_RIP) {
        put(l, "%s", insn->addrsize == 8 ? "rip" : "eip");
        plus = "+";
    } else if (insn->base != INSN_NO_REG) {
        put_gpr(l, insn->base, insn->addrsize, false);
        plus = "+";
    }
    if (insn->has_vsib) {
        put(l, "%s%cmm%u*%u", plus, "xyz"[insn->vsib_size >> 5], insn -> index, insn -> scale);
        plus = "+";
    } else if (insn->index != INSN_NO_REG) {
        put(l, "%s", plus);
        put_gpr(l, insn->index, insn->addrsize, false);
        put(l, "*%u", insn->scale);
        plus = "+";
    }
    if (insn->disp || !*plus) {
        put_signed(l, insn->disp, plus);
    }
    put(l, "]");
}

static void put_operand(struct line *l, const struct insn *insn, const struct insn_operand *o,
                        uint64_t pc)
{
    switch ((enum insn_operand_kind)o->kind) {
    case INSN_NONE: break;
    case INSN_GPR: put_gpr(l, o->reg, o->size, o->is_high8); break;
    case INSN_MEM: put_memory(l, insn, o->size); break;
    case INSN_IMM: put_signed(l, insn->imm, ""); break;
    case INSN_REL: put(l, "0x%" PRIx64, pc + insn->len + (uint64_t)insn->imm); break;
    case INSN_SREG: put(l, "%s", sreg_name(o->reg)); break;
    case INSN_CREG: put(l, "cr%u", o->reg); break;
    case INSN_DREG: put(l, "dr%u", o->reg); break;
    case INSN_ST: put(l, "st%u", o->reg); break;
    case INSN_MMX: put(l, "mm%u", o->reg); break;
    case INSN_XMM: put(l, "%cmm%u", o->size == 64 ? 'z' : o->size == 32 ? 'y' : 'x', o->reg); break;
    case INSN_MASK: put(l, "k%u", o->reg); break;
    case INSN_FAR: put(l, "0x%x:0x%" PRIx64, insn->imm2, (uint64_t)insn->imm); break;
    }
}

static void put_name(struct line *l, const struct insn *insn)
{
    static const char cond[16][3] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                     "s", "ns", "p", "np", "l", "nl", "le", "nle"};
    const char *name = insn_op_name((enum insn_op)insn->op);
    bool has_cond = insn->op == INSN_JCC || insn->op == INSN_SETCC || insn->op == INSN_CMOVCC;

    if (insn->has_lock) {
        put(l, "lock ");
    }
    if (insn->rep && insn->klass == INSN_CLASS_STRING) {
        put(l, "%s ", insn->rep == 0xf3 ? "rep" : "repne");
    }
    for (; *name && !(has_cond && name[0] == 'C' && name[1] == 'C' && !name[2]); name++) {
        put(l, "%c", tolower((unsigned char)*name));
    }
    if (has_cond) {
        put(l, "%s", cond[insn->cond & 15]);
    }
    if (insn->klass == INSN_CLASS_STRING) {
        put(l, "%u", insn->opsize * 8u);
    }
}

static void put_mask(struct line *l, const struct insn *insn)
{
    if (insn->opmask) {
        put(l, "{k%u}%s", insn->opmask, insn->has_zeroing ? "{z}" : "");
    }
}

static void put_b(struct line *l, const struct insn *insn)
{
    static const char rounding[4][3] = {"rn", "rd", "ru", "rz"};

    if (insn->has_b && insn->modrm < 0xc0) {
        put(l, " {1to%u}", insn->elem_count);
    } else if (insn->has_b) {
        put(l, " {%s-sae}", rounding[insn->ll & 3]);
    }
}

const char *insn_print(const struct insn *insn, uint64_t pc, char out[static 96])
{
    struct line l = {.text = out};
    unsigned i;

    out[0] = '\0';
    put_name(&l, insn);
    for (i = 0; i < insn->operand_count; i++) {
        put(&l, i ? ", " : " ");
        put_operand(&l, insn, &insn->operand[i], pc);
        if (i == 0) {
            put_mask(&l, insn);
        }
    }
    put_b(&l, insn);
    if (insn->op == INSN_ENTER) {
        put(&l, ", %u", insn->imm2);
    }
    return out;
}
