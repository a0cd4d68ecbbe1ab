/* sys_io.c — IN and OUT, and who may use a port (SDM volume 1, 19.5).
 *
 * INS and OUTS are string instructions; they use the helpers below.
 */
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/ref/sys.h"

#define TSS_IO_MAP_BASE 0x66 /* of 32- and 64-bit task state segments */

/* The bitmap: all bits of the access clear.  Two bytes are read, since an access may straddle. */
static bool is_in_bitmap(struct vcpu *v, uint16_t port, unsigned len)
{
    const struct cpu_segment *tr = &v->seg[SEG_TR];
    unsigned type = tr->attr & SEG_ATTR_TYPE;
    uint32_t at;
    uint64_t bits;

    if ((type != DESC_TSS_BUSY && type != DESC_TSS_FREE) || tr->limit < TSS_IO_MAP_BASE + 1) {
        return false;
    }
    at = (uint32_t)mmu_sys_read(v, tr->base + TSS_IO_MAP_BASE, 2) + port / 8;
    if (at + 1 > tr->limit) {
        return false;
    }
    bits = mmu_sys_read(v, tr->base + at, 2) >> (port & 7);
    return !(bits & ((1u << len) - 1));
}

void sys_io_check(struct vcpu *v, uint16_t port, unsigned len)
{
    if (v->mode != MODE_REAL && v->cpl > (vcpu_rflags(v) & FLAG_IOPL) >> 12 &&
        !is_in_bitmap(v, port, len)) {
        sys_gp(v, 0);
    }
}

uint32_t sys_io_in(struct vcpu *v, uint16_t port, unsigned len)
{
    uint32_t value = 0;

    v->stats.pio++;
    v->platform->pio(v, port, &value, len, false);
    return value;
}

void sys_io_out(struct vcpu *v, uint16_t port, uint32_t value, unsigned len)
{
    v->stats.pio++;
    v->platform->pio(v, port, &value, len, true);
}

static uint16_t port_of(struct vcpu *v, const struct insn_operand *operand, int64_t imm)
{
    return operand->kind == INSN_IMM ? (uint8_t)imm : (uint16_t)v->gpr[GPR_RDX];
}

enum ref_result sys_in(struct vcpu *v, const struct insn *insn)
{
    uint16_t port = port_of(v, &insn->operand[1], insn->imm);
    uint32_t value;

    sys_io_check(v, port, insn->opsize);
    value = sys_io_in(v, port, insn->opsize);
    if (insn->opsize == 4) {
        v->gpr[GPR_RAX] = value;
    } else {
        __builtin_memcpy(&v->gpr[GPR_RAX], &value, insn->opsize);
    }
    return REF_END;
}

enum ref_result sys_out(struct vcpu *v, const struct insn *insn)
{
    uint16_t port = port_of(v, &insn->operand[0], insn->imm);

    sys_io_check(v, port, insn->opsize);
    sys_io_out(v, port, (uint32_t)v->gpr[GPR_RAX], insn->opsize);
    return REF_END;
}
