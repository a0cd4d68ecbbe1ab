/* ea.c — effective addresses, segment checks, the stack, and the slow half of memory accesses. */
#include "hv/soft/ref/lower_int.h"

static uint64_t masked_reg(const struct vcpu *v, uint8_t reg)
{
    return reg == INSN_NO_REG ? 0 : v->gpr[reg & 15];
}

uint64_t ref_offset(const struct vcpu *v, const struct insn *insn)
{
    uint64_t base = insn->base == INSN_REG_RIP ? v->rip + insn->len : masked_reg(v, insn->base);
    uint64_t sum = base + masked_reg(v, insn->index) * insn->scale + (uint64_t)insn->disp;

    switch (insn->addrsize) {
    case 2: return (uint16_t)sum;
    case 4: return (uint32_t)sum;
    default: return sum;
    }
}

_Noreturn static void raise_address(struct vcpu *v, enum cpu_seg seg)
{
    vcpu_raise_error(v, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
}

/* SDM volume 3, 5.3 and 5.5: limit and type, outside 64-bit mode. */
static void check_segment(struct vcpu *v, enum cpu_seg seg, uint32_t offset, unsigned len,
                          bool is_write)
{
    const struct cpu_segment *s = &v->seg[seg];
    uint64_t last = (uint64_t)offset + (len ? len - 1 : 0);
    bool is_code = s->attr & 8;
    bool is_rw = s->attr & 2; /* writable data, readable code */
    uint64_t top = s->attr & SEG_ATTR_DB ? UINT32_MAX : UINT16_MAX;

    if (v->mode != MODE_REAL) {
        if (s->attr & SEG_ATTR_UNUSABLE || !(s->attr & SEG_ATTR_P) ||
            (is_write ? is_code || !is_rw : is_code && !is_rw)) {
            raise_address(v, seg);
        }
    }
    if (v->mode != MODE_REAL && !is_code && s->attr & 4) { /* expand-down */
        if (offset <= s->limit || last > top) {
            raise_address(v, seg);
        }
    } else if (last > s->limit) {
        raise_address(v, seg);
    }
}

uint64_t ref_linear(struct vcpu *v, enum cpu_seg seg, uint64_t offset, unsigned len, bool is_write)
{
    uint64_t la;

    if (v->mode == MODE_LONG64) {
        la = offset + (seg == SEG_FS || seg == SEG_GS ? v->seg[seg].base : 0);
        if (!op_is_canonical(la) || !op_is_canonical(la + (len ? len - 1 : 0))) {
            raise_address(v, seg);
        }
        return la;
    }
    check_segment(v, seg, (uint32_t)offset, len, is_write);
    return (uint32_t)(v->seg[seg].base + (uint32_t)offset);
}

uint64_t ref_ea(struct vcpu *v, const struct insn *insn, unsigned len, bool is_write)
{
    return ref_linear(v, (enum cpu_seg)insn->seg, ref_offset(v, insn), len, is_write);
}

/* --- stack --- */

static uint64_t stack_mask(const struct vcpu *v)
{
    if (v->mode == MODE_LONG64) {
        return UINT64_MAX;
    }
    return v->seg[SEG_SS].attr & SEG_ATTR_DB ? UINT32_MAX : UINT16_MAX;
}

static void set_sp(struct vcpu *v, uint64_t sp, uint64_t mask)
{
    v->gpr[GPR_RSP] = mask == UINT16_MAX ? (v->gpr[GPR_RSP] & ~mask) | (sp & mask) : sp & mask;
}

static void write_sized(struct vcpu *v, uint64_t la, uint64_t value, unsigned size)
{
    switch (size) {
    case 1: mmu_write8(v, la, (uint8_t)value); break;
    case 2: mmu_write16(v, la, (uint16_t)value); break;
    case 4: mmu_write32(v, la, (uint32_t)value); break;
    default: mmu_write64(v, la, value); break;
    }
}

static uint64_t read_sized(struct vcpu *v, uint64_t la, unsigned size)
{
    switch (size) {
    case 1: return mmu_read8(v, la);
    case 2: return mmu_read16(v, la);
    case 4: return mmu_read32(v, la);
    default: return mmu_read64(v, la);
    }
}

void ref_push(struct vcpu *v, uint64_t value, unsigned size)
{
    uint64_t mask = stack_mask(v);
    uint64_t sp = (v->gpr[GPR_RSP] - size) & mask;

    write_sized(v, ref_linear(v, SEG_SS, sp, size, true), value, size);
    set_sp(v, sp, mask);
}

uint64_t ref_pop(struct vcpu *v, unsigned size)
{
    uint64_t mask = stack_mask(v);
    uint64_t sp = v->gpr[GPR_RSP] & mask;
    uint64_t value = read_sized(v, ref_linear(v, SEG_SS, sp, size, false), size);

    set_sp(v, sp + size, mask);
    return value;
}

/* --- operands of rare instructions, by struct insn --- */

static uint8_t *reg_bytes(struct vcpu *v, const struct insn_operand *o)
{
    return (uint8_t *)&v->gpr[o->reg & 15] + (o->is_high8 ? 1 : 0);
}

uint64_t ref_operand_read(struct vcpu *v, const struct insn *insn, unsigned index)
{
    const struct insn_operand *o = &insn->operand[index];
    uint64_t value = 0;

    if (o->kind == INSN_MEM) {
        return read_sized(v, ref_ea(v, insn, o->size, false), o->size);
    }
    if (o->kind == INSN_IMM) {
        return (uint64_t)insn->imm;
    }
    memcpy(&value, reg_bytes(v, o), o->size);
    return value;
}

void ref_operand_write(struct vcpu *v, const struct insn *insn, unsigned index, uint64_t value)
{
    const struct insn_operand *o = &insn->operand[index];

    if (o->kind == INSN_MEM) {
        write_sized(v, ref_ea(v, insn, o->size, true), value, o->size);
    } else if (o->size == 4) {
        v->gpr[o->reg & 15] = (uint32_t)value;
    } else {
        memcpy(reg_bytes(v, o), &value, o->size);
    }
}

/* --- slow halves of the handlers' accesses --- */

void op_check_canonical(struct vcpu *v, const struct op *op, uint64_t la, unsigned len)
{
    op_sync(v, op);
    if (!op_is_canonical(la) || !op_is_canonical(la + len - 1)) {
        raise_address(v, op->shape & OP_STACK_SEG ? SEG_SS : SEG_DS);
    }
}

uint64_t op_load_slow(struct vcpu *v, const struct op *op, uint64_t la, unsigned len)
{
    op_check_canonical(v, op, la, len);
    return mmu_read_slow(v, la, len);
}

void op_store_slow(struct vcpu *v, const struct op *op, uint64_t la, uint64_t value, unsigned len)
{
    op_check_canonical(v, op, la, len);
    mmu_write_slow(v, la, value, len);
}

void op_check_write(struct vcpu *v, const struct op *op, uint64_t la, unsigned len)
{
    op_check_canonical(v, op, la, len);
    mmu_check_write(v, la, len);
}
