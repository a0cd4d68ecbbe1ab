/* op_mov.c — MOV and its kin, LEA, CMOVcc, SETcc, BSWAP, CBW, CWD, and single flags. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

#define FOUR(kind) kind(8) kind(16) kind(32) kind(64)

/* --- MOV --- */

#define MOV_FORMS(bits)                                                      \
    OP_HANDLER(mov##bits##_rr)                                               \
    {                                                                        \
        SET##bits(v, op->dst, R##bits(v, op->src));                          \
        OP_NEXT(v, op);                                                      \
    }                                                                        \
    OP_HANDLER(mov##bits##_ri)                                               \
    {                                                                        \
        SET##bits(v, op->dst, op->imm);                                      \
        OP_NEXT(v, op);                                                      \
    }                                                                        \
    OP_LOAD(mov##bits##_rm_b, bits, op_la_base, SET##bits(v, op->dst, x))    \
    OP_LOAD(mov##bits##_rm_f, bits, op_la_full, SET##bits(v, op->dst, x))    \
    OP_STORE(mov##bits##_mr_b, bits, op_la_base, x = R##bits(v, op->src))    \
    OP_STORE(mov##bits##_mr_f, bits, op_la_full, x = R##bits(v, op->src))    \
    OP_STORE(mov##bits##_mi_b, bits, op_la_base, x = (OP_UINT(bits))op->imm) \
    OP_STORE(mov##bits##_mi_f, bits, op_la_full, x = (OP_UINT(bits))op->imm)
FOUR(MOV_FORMS)

#define MOV_ROW(bits)                                                                         \
    {                                                                                         \
        mov##bits##_rr, mov##bits##_ri, mov##bits##_rm_b, mov##bits##_rm_f, mov##bits##_mr_b, \
            mov##bits##_mr_f, mov##bits##_mi_b, mov##bits##_mi_f                              \
    }
static const op_fn mov_table[4][8] = {MOV_ROW(8), MOV_ROW(16), MOV_ROW(32), MOV_ROW(64)};

static void lower_plain_mov(struct lower *lw, const struct insn *insn)
{
    const struct insn_operand *d = &insn->operand[0], *s = &insn->operand[1];
    struct lower_ea ea = {0};
    unsigned form = s->kind == INSN_IMM ? 1 : 0;
    struct op *op;

    if (d->kind == INSN_MEM || s->kind == INSN_MEM) {
        form = d->kind == INSN_MEM ? 4 + 2 * form : 2;
        ea = lower_mem(lw, insn, d->size, false);
        form += ea.is_full;
    }
    op = lower_emit(lw, mov_table[lower_log2(d->size)][form]);
    lower_set_ea(op, &ea);
    op->imm = (uint64_t)insn->imm;
    op->dst = lower_reg(d);
    op->src = lower_reg(s);
}

/* --- MOVZX, MOVSX, MOVSXD --- */

#define EXTEND(name, from, to, cast)                                               \
    OP_HANDLER(name##from##_##to##_r)                                              \
    {                                                                              \
        SET##to(v, op->dst, (cast)R##from(v, op->src));                            \
        OP_NEXT(v, op);                                                            \
    }                                                                              \
    OP_LOAD(name##from##_##to##_b, from, op_la_base, SET##to(v, op->dst, (cast)x)) \
    OP_LOAD(name##from##_##to##_f, from, op_la_full, SET##to(v, op->dst, (cast)x))
#define EXTEND_TO(name, from, cast) \
    EXTEND(name, from, 16, cast) EXTEND(name, from, 32, cast) EXTEND(name, from, 64, cast)
EXTEND_TO(zx, 8, uint8_t)
EXTEND_TO(zx, 16, uint16_t)
EXTEND_TO(sx, 8, int8_t)
EXTEND_TO(sx, 16, int16_t)
EXTEND_TO(sx, 32, int32_t)

#define EXTEND_CELL(name, from, to)                                         \
    {                                                                       \
        name##from##_##to##_r, name##from##_##to##_b, name##from##_##to##_f \
    }
#define EXTEND_ROW(name, from)                                                                \
    {                                                                                         \
        EXTEND_CELL(name, from, 16), EXTEND_CELL(name, from, 32), EXTEND_CELL(name, from, 64) \
    }
static const op_fn zx_table[2][3][3] = {EXTEND_ROW(zx, 8), EXTEND_ROW(zx, 16)};
static const op_fn sx_table[3][3][3] = {EXTEND_ROW(sx, 8), EXTEND_ROW(sx, 16), EXTEND_ROW(sx, 32)};

static void lower_extend(struct lower *lw, const struct insn *insn)
{
    const struct insn_operand *s = &insn->operand[1];
    unsigned from = lower_log2(s->size), to = lower_wide(insn->operand[0].size), form = 0;
    struct lower_ea ea = {0};
    struct op *op;

    if (s->kind == INSN_MEM) {
        ea = lower_mem(lw, insn, s->size, false);
        form = 1u + ea.is_full;
    }
    op = lower_emit(lw,
                    insn->op == INSN_MOVZX ? zx_table[from][to][form] : sx_table[from][to][form]);
    lower_set_ea(op, &ea);
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(s);
}

/* --- LEA --- */

OP_HANDLER(lea64_b)
{
    R64(v, op->dst) = op_la_base(v, op);
    OP_NEXT(v, op);
}

OP_HANDLER(lea64_f)
{
    R64(v, op->dst) = op_la_full(v, op);
    OP_NEXT(v, op);
}

OP_HANDLER(lea32)
{
    SET32(v, op->dst, op_la_full(v, op));
    OP_NEXT(v, op);
}

OP_HANDLER(lea16)
{
    SET16(v, op->dst, op_la_full(v, op));
    OP_NEXT(v, op);
}

/* 16-bit addresses into a 32-bit register. */
OP_HANDLER(lea32_16)
{
    SET32(v, op->dst, (uint16_t)op_la_full(v, op));
    OP_NEXT(v, op);
}

static void lower_lea(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    struct op *op;

    /* The low bits of the sum depend on the low bits of the terms only. */
    if (size == 2) {
        op = lower_emit(lw, lea16);
    } else if (insn->addrsize == 2) {
        op = lower_emit(lw, lea32_16);
    } else if (size == 4 || insn->addrsize == 4) {
        op = lower_emit(lw, lea32);
    } else {
        op = lower_emit(lw, insn->index == INSN_NO_REG ? lea64_b : lea64_f);
    }
    op->base = insn->base < GPR_COUNT ? (uint8_t)(insn->base * 8u) : OP_ZERO;
    op->index = insn->index < GPR_COUNT ? (uint8_t)(insn->index * 8u) : OP_ZERO;
    op->shape = insn->scale ? (uint8_t)lower_log2(insn->scale) : 0;
    op->disp = insn->disp + (insn->base == INSN_REG_RIP ? (int64_t)lw->next_rip : 0);
    op->dst = lower_reg(&insn->operand[0]);
}

/* --- CMOVcc, SETcc --- */

#define CMOV(cc)                                           \
    OP_HANDLER(cmov32_##cc)                                \
    {                                                      \
        uint32_t a = R32(v, op->dst), b = R32(v, op->src); \
        R64(v, op->dst) = COND_##cc(v->aflags) ? b : a;    \
        OP_NEXT(v, op);                                    \
    }                                                      \
    OP_HANDLER(cmov64_##cc)                                \
    {                                                      \
        uint64_t a = R64(v, op->dst), b = R64(v, op->src); \
        R64(v, op->dst) = COND_##cc(v->aflags) ? b : a;    \
        OP_NEXT(v, op);                                    \
    }                                                      \
    OP_HANDLER(set_##cc)                                   \
    {                                                      \
        R8(v, op->dst) = !!(COND_##cc(v->aflags));         \
        OP_NEXT(v, op);                                    \
    }
COND_ALL(CMOV)

#define CMOV32_ENTRY(cc) cmov32_##cc,
#define CMOV64_ENTRY(cc) cmov64_##cc,
#define SET_ENTRY(cc)    set_##cc,
static const op_fn cmov_table[2][16] = {{COND_ALL(CMOV32_ENTRY)}, {COND_ALL(CMOV64_ENTRY)}};
static const op_fn set_table[16] = {COND_ALL(SET_ENTRY)};

/* imm = condition.  The load happens in any case, and 32 bits clear the upper half. */
OP_HANDLER(cmov16_r)
{
    if (op_cond(v->aflags, (unsigned)op->imm)) {
        SET16(v, op->dst, R16(v, op->src));
    }
    OP_NEXT(v, op);
}

OP_LOAD(cmov16_m, 16, op_la_base,
        SET16(v, op->dst, op_cond(v->aflags, (unsigned)op->imm) ? x : R16(v, op->dst)))
OP_LOAD(cmov32_m, 32, op_la_base,
        SET32(v, op->dst, op_cond(v->aflags, (unsigned)op->imm) ? x : R32(v, op->dst)))
OP_LOAD(cmov64_m, 64, op_la_base,
        SET64(v, op->dst, op_cond(v->aflags, (unsigned)op->imm) ? x : R64(v, op->dst)))
OP_STORE(set_m, 8, op_la_base, x = op_cond(v->aflags, (unsigned)op->imm))

static void lower_cmov(struct lower *lw, const struct insn *insn)
{
    static const op_fn from_mem[] = {cmov16_m, cmov32_m, cmov64_m};
    unsigned size = insn->operand[0].size;
    struct lower_ea ea = {0};
    op_fn fn;
    struct op *op;

    if (insn->operand[1].kind == INSN_MEM) {
        ea = lower_mem(lw, insn, size, true);
        fn = from_mem[lower_wide(size)];
    } else {
        fn = size == 2 ? cmov16_r : cmov_table[size == 8][insn->cond & 15];
    }
    op = lower_emit(lw, fn);
    lower_set_ea(op, &ea);
    op->imm = insn->cond;
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(&insn->operand[1]);
}

static void lower_setcc(struct lower *lw, const struct insn *insn)
{
    struct lower_ea ea = {0};
    struct op *op;

    if (insn->operand[0].kind == INSN_MEM) {
        ea = lower_mem(lw, insn, 1, true);
        op = lower_emit(lw, set_m);
    } else {
        op = lower_emit(lw, set_table[insn->cond & 15]);
    }
    lower_set_ea(op, &ea);
    op->imm = insn->cond;
    op->dst = lower_reg(&insn->operand[0]);
}

/* --- BSWAP, MOVBE --- */

OP_HANDLER(bswap16)
{
    SET16(v, op->dst, 0); /* undefined in the manual; all CPUs clear it */
    OP_NEXT(v, op);
}

OP_HANDLER(bswap32)
{
    SET32(v, op->dst, __builtin_bswap32(R32(v, op->dst)));
    OP_NEXT(v, op);
}

OP_HANDLER(bswap64)
{
    R64(v, op->dst) = __builtin_bswap64(R64(v, op->dst));
    OP_NEXT(v, op);
}

#define MOVBE(bits)                                                                              \
    OP_LOAD(movbe##bits##_rm, bits, op_la_base, SET##bits(v, op->dst, __builtin_bswap##bits(x))) \
    OP_STORE(movbe##bits##_mr, bits, op_la_base, x = __builtin_bswap##bits(R##bits(v, op->src)))
MOVBE(16)
MOVBE(32)
MOVBE(64)

static void lower_movbe(struct lower *lw, const struct insn *insn)
{
    static const op_fn table[2][3] = {{movbe16_rm, movbe32_rm, movbe64_rm},
                                      {movbe16_mr, movbe32_mr, movbe64_mr}};
    unsigned size = insn->operand[0].size;
    struct lower_ea ea = lower_mem(lw, insn, size, true);
    struct op *op = lower_emit(lw, table[insn->operand[0].kind == INSN_MEM][lower_wide(size)]);

    lower_set_ea(op, &ea);
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(&insn->operand[1]);
}

/* --- accumulator extensions, flags, nothing --- */

OP_HANDLER(cbw)
{
    SET16(v, GPR_RAX * 8, (int8_t)R8(v, GPR_RAX * 8));
    OP_NEXT(v, op);
}

OP_HANDLER(cwde)
{
    SET32(v, GPR_RAX * 8, (int16_t)R16(v, GPR_RAX * 8));
    OP_NEXT(v, op);
}

OP_HANDLER(cdqe)
{
    SET64(v, GPR_RAX * 8, (int32_t)R32(v, GPR_RAX * 8));
    OP_NEXT(v, op);
}

OP_HANDLER(cwd)
{
    SET16(v, GPR_RDX * 8, (int16_t)R16(v, GPR_RAX * 8) >> 15);
    OP_NEXT(v, op);
}

OP_HANDLER(cdq)
{
    SET32(v, GPR_RDX * 8, (int32_t)R32(v, GPR_RAX * 8) >> 31);
    OP_NEXT(v, op);
}

OP_HANDLER(cqo)
{
    SET64(v, GPR_RDX * 8, (int64_t)R64(v, GPR_RAX * 8) >> 63);
    OP_NEXT(v, op);
}

OP_HANDLER(clc)
{
    v->aflags &= (uint16_t)~AF_CF;
    OP_NEXT(v, op);
}

OP_HANDLER(stc)
{
    v->aflags |= AF_CF;
    OP_NEXT(v, op);
}

OP_HANDLER(cmc)
{
    v->aflags ^= AF_CF;
    OP_NEXT(v, op);
}

OP_HANDLER(cld)
{
    v->rflags &= ~(uint64_t)FLAG_DF;
    OP_NEXT(v, op);
}

OP_HANDLER(std_df)
{
    v->rflags |= FLAG_DF;
    OP_NEXT(v, op);
}

OP_HANDLER(lahf)
{
    R8(v, GPR_RAX * 8 + 1) = (uint8_t)((v->aflags >> 8 & 0xd5u) | FLAG_1);
    OP_NEXT(v, op);
}

OP_HANDLER(sahf)
{
    v->aflags = (uint16_t)((v->aflags & AF_OF) | (R8(v, GPR_RAX * 8 + 1) & 0xd5u) << 8);
    OP_NEXT(v, op);
}

OP_HANDLER(nop)
{
    OP_NEXT(v, op);
}

OP_HANDLER(mfence)
{
    atomic_thread_fence(memory_order_seq_cst);
    OP_NEXT(v, op);
}

static op_fn pick_simple(const struct insn *insn)
{
    static const op_fn widen[] = {cbw, cwde, cdqe}, sign[] = {cwd, cdq, cqo};
    static const op_fn swap[] = {bswap16, bswap32, bswap64};
    unsigned size = lower_wide(insn->opsize);

    switch (insn->op) {
    case INSN_BSWAP: return swap[size];
    case INSN_CBW: return widen[size];
    case INSN_CWD: return sign[size];
    case INSN_CLC: return clc;
    case INSN_STC: return stc;
    case INSN_CMC: return cmc;
    case INSN_CLD: return cld;
    case INSN_STD: return std_df;
    case INSN_LAHF: return lahf;
    case INSN_SAHF: return sahf;
    case INSN_LFENCE:
    case INSN_SFENCE:
    case INSN_PREFETCH:
    case INSN_NOP: return nop;
    case INSN_MFENCE: return mfence;
    default: return NULL;
    }
}

bool lower_mov(struct lower *lw, const struct insn *insn)
{
    op_fn fn;

    switch (insn->op) {
    case INSN_MOV:
    case INSN_MOVNTI: lower_plain_mov(lw, insn); return true;
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
        if (insn->operand[0].size == insn->operand[1].size) {
            lower_plain_mov(lw, insn);
        } else {
            lower_extend(lw, insn);
        }
        return true;
    case INSN_LEA: lower_lea(lw, insn); return true;
    case INSN_CMOVCC: lower_cmov(lw, insn); return true;
    case INSN_SETCC: lower_setcc(lw, insn); return true;
    case INSN_MOVBE: lower_movbe(lw, insn); return true;
    default: break;
    }
    fn = pick_simple(insn);
    if (!fn) {
        return false;
    }
    lower_emit(lw, fn)->dst = lower_reg(&insn->operand[0]);
    return true;
}
