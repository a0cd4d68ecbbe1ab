/* op_bits.c — BT BTS BTR BTC BSF BSR TZCNT LZCNT POPCNT CRC32. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

/* --- bit test: the index is taken modulo the operand size by the host --- */

#define BT_OP(name, ins, bits, sfx, k)                                                       \
    static inline OP_UINT(bits) name##bits(struct vcpu *v, OP_UINT(bits) a, OP_UINT(bits) i) \
    {                                                                                        \
        uint16_t f = v->aflags;                                                              \
        __asm__(ASM_FLAGS_IN ins sfx " %" k "2, %" k "0; " ASM_FLAGS_OUT                     \
                : "+r"(a), "+&a"(f)                                                          \
                : "r"(i)                                                                     \
                : "cc");                                                                     \
        v->aflags = f;                                                                       \
        return a;                                                                            \
    }                                                                                        \
    OP_HANDLER(name##bits##_ri)                                                              \
    {                                                                                        \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), (OP_UINT(bits))op->imm));   \
        OP_NEXT(v, op);                                                                      \
    }                                                                                        \
    OP_HANDLER(name##bits##_rr)                                                              \
    {                                                                                        \
        SET##bits(v, op->dst, name##bits(v, R##bits(v, op->dst), R##bits(v, op->src)));      \
        OP_NEXT(v, op);                                                                      \
    }
#define BT_MEM(kind, name, bits)                                                          \
    kind(name##bits##_mi, bits, op_la_base, x = name##bits(v, x, (OP_UINT(bits))op->imm)) \
        kind(name##bits##_mr, bits, op_la_base, x = name##bits(v, x, R##bits(v, op->src)))

#define BT(name, ins, kind)        \
    BT_OP(name, ins, 16, "w", "w") \
    BT_OP(name, ins, 32, "l", "k") \
    BT_OP(name, ins, 64, "q", "q") \
    BT_MEM(kind, name, 16)         \
    BT_MEM(kind, name, 32)         \
    BT_MEM(kind, name, 64)
BT(bts, "bts", OP_RMW)
BT(btr, "btr", OP_RMW)
BT(btc, "btc", OP_RMW)

/* BT writes nothing, not even the upper half of a 32-bit register. */
#define BT_ONLY(bits, sfx, k)                                                        \
    static inline void bt##bits(struct vcpu *v, OP_UINT(bits) a, OP_UINT(bits) i)    \
    {                                                                                \
        uint16_t f = v->aflags;                                                      \
        __asm__(ASM_FLAGS_IN "bt" sfx " %" k "2, %" k "1; " ASM_FLAGS_OUT            \
                : "+&a"(f)                                                           \
                : "r"(a), "r"(i)                                                     \
                : "cc");                                                             \
        v->aflags = f;                                                               \
    }                                                                                \
    OP_HANDLER(bt##bits##_ri)                                                        \
    {                                                                                \
        bt##bits(v, R##bits(v, op->dst), (OP_UINT(bits))op->imm);                    \
        OP_NEXT(v, op);                                                              \
    }                                                                                \
    OP_HANDLER(bt##bits##_rr)                                                        \
    {                                                                                \
        bt##bits(v, R##bits(v, op->dst), R##bits(v, op->src));                       \
        OP_NEXT(v, op);                                                              \
    }                                                                                \
    OP_LOAD(bt##bits##_mi, bits, op_la_base, bt##bits(v, x, (OP_UINT(bits))op->imm)) \
    OP_LOAD(bt##bits##_mr, bits, op_la_base, bt##bits(v, x, R##bits(v, op->src)))
BT_ONLY(16, "w", "w")
BT_ONLY(32, "l", "k")
BT_ONLY(64, "q", "q")

#define BT_CELL(name, bits)                                                \
    {                                                                      \
        name##bits##_ri, name##bits##_rr, name##bits##_mi, name##bits##_mr \
    }
#define BT_ROW(name)                                            \
    {                                                           \
        BT_CELL(name, 16), BT_CELL(name, 32), BT_CELL(name, 64) \
    }
static const op_fn bt_table[4][3][4] = {BT_ROW(bt), BT_ROW(bts), BT_ROW(btr), BT_ROW(btc)};
_Static_assert(INSN_BTC - INSN_BT == 3 && INSN_BTS - INSN_BT == 1, "order of ops.def");

/* Memory and register: the address moves by the signed bit index.  src = index, imm = its bits. */
OP_HANDLER(bt_ea)
{
    int64_t index = op->imm == 64   ? (int64_t)R64(v, op->src)
                    : op->imm == 32 ? (int32_t)R32(v, op->src)
                                    : (int16_t)R16(v, op->src);
    int64_t unit = index >> __builtin_ctzll(op->imm);

    v->ea = op_la_full(v, op) + (uint64_t)(unit * (int64_t)(op->imm / 8));
    if (v->mode != MODE_LONG64) {
        v->ea = (uint32_t)v->ea;
    }
    OP_NEXT(v, op);
}

/* 32-bit addresses in 64-bit mode: the whole offset wraps, then the segment base comes on top. */
OP_HANDLER(bt_ea32)
{
    uint64_t base = OP_FIELD(v, (unsigned)op->seg * 8u, const reg64_t);
    int64_t index = op->imm == 64   ? (int64_t)R64(v, op->src)
                    : op->imm == 32 ? (int32_t)R32(v, op->src)
                                    : (int16_t)R16(v, op->src);
    int64_t unit = index >> __builtin_ctzll(op->imm);

    v->ea = base + (uint32_t)(v->ea - base + (uint64_t)(unit * (int64_t)(op->imm / 8)));
    OP_NEXT(v, op);
}

static uint8_t base_field(const struct insn *insn)
{
    bool has_base = insn->seg == SEG_FS || insn->seg == SEG_GS;

    return has_base
               ? (uint8_t)((offsetof(struct vcpu, seg) + insn->seg * sizeof(struct cpu_segment) +
                            offsetof(struct cpu_segment, base)) /
                           8)
               : OP_ZERO / 8;
}

struct lower_ea lower_bt_ea(struct lower *lw, const struct insn *insn, unsigned size)
{
    struct lower_ea ea = lower_mem(lw, insn, size, false);
    bool wraps = lw->v->mode == MODE_LONG64 && insn->addrsize == 4;
    struct op *op = lower_emit(lw, wraps ? bt_ea32 : bt_ea);

    lower_set_ea(op, &ea);
    if (wraps) {
        op->seg = base_field(insn);
    }
    op->src = lower_reg(&insn->operand[1]);
    op->imm = size * 8u;
    return (struct lower_ea){
        .base = OP_EA, .index = OP_ZERO, .seg = OP_ZERO / 8, .shape = ea.shape & OP_STACK_SEG};
}

static void lower_bt(struct lower *lw, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    unsigned form = insn->operand[1].kind == INSN_IMM ? 0 : 1;
    struct lower_ea ea = {0};
    struct op *op;

    if (insn->operand[0].kind == INSN_MEM) {
        ea = form ? lower_bt_ea(lw, insn, size) : lower_mem(lw, insn, size, true);
        form += 2;
    }
    op = lower_emit(lw, bt_table[insn->op - INSN_BT][lower_wide(size)][form]);
    lower_set_ea(op, &ea);
    op->imm = (uint64_t)insn->imm;
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(&insn->operand[1]);
}

/* --- scans and counts --- */

/* BSF and BSR leave the destination alone if the source is 0; what a 32-bit form does to the upper
 * half then differs by vendor: the whole register goes through the host's instruction. */
#define SCAN(name, ins, bits, sfx, k)                                                   \
    static inline void name##bits(struct vcpu *v, const struct op *op, OP_UINT(bits) b) \
    {                                                                                   \
        uint16_t f = v->aflags;                                                         \
        uint64_t a = R64(v, op->dst);                                                   \
        __asm__(ASM_FLAGS_IN ins sfx " %" k "2, %" k "0; " ASM_FLAGS_OUT                \
                : "+&r"(a), "+&a"(f)                                                    \
                : "r"(b)                                                                \
                : "cc");                                                                \
        v->aflags = f;                                                                  \
        R64(v, op->dst) = a;                                                            \
    }                                                                                   \
    OP_HANDLER(name##bits##_r)                                                          \
    {                                                                                   \
        name##bits(v, op, R##bits(v, op->src));                                         \
        OP_NEXT(v, op);                                                                 \
    }                                                                                   \
    OP_LOAD(name##bits##_m, bits, op_la_base, name##bits(v, op, x))
#define SCANS(name, ins)          \
    SCAN(name, ins, 16, "w", "w") \
    SCAN(name, ins, 32, "l", "k") \
    SCAN(name, ins, 64, "q", "q")
SCANS(bsf, "bsf")
SCANS(bsr, "bsr")
SCANS(tzcnt, "tzcnt")
SCANS(lzcnt, "lzcnt")
SCANS(popcnt, "popcnt")

#define SCAN_CELL(name, bits)          \
    {                                  \
        name##bits##_r, name##bits##_m \
    }
#define SCAN_ROW(name)                                                \
    {                                                                 \
        SCAN_CELL(name, 16), SCAN_CELL(name, 32), SCAN_CELL(name, 64) \
    }
static const op_fn scan_table[5][3][2] = {SCAN_ROW(bsf), SCAN_ROW(bsr), SCAN_ROW(tzcnt),
                                          SCAN_ROW(lzcnt), SCAN_ROW(popcnt)};
_Static_assert(INSN_POPCNT - INSN_BSF == 4 && INSN_TZCNT - INSN_BSF == 2, "order of ops.def");

/* CRC32: no flags; the destination is 32 bits, zero-extended. */
#define CRC(bits, sfx, k)                                                              \
    static inline void crc##bits(struct vcpu *v, const struct op *op, OP_UINT(bits) b) \
    {                                                                                  \
        uint64_t a = R32(v, op->dst);                                                  \
        if (bits == 64) {                                                              \
            __asm__("crc32q %q1, %0" : "+r"(a) : "r"((uint64_t)b));                    \
        } else {                                                                       \
            uint32_t a32 = (uint32_t)a;                                                \
            __asm__("crc32" sfx " %" k "1, %0" : "+r"(a32) : "q"(b));                  \
            a = a32;                                                                   \
        }                                                                              \
        R64(v, op->dst) = a;                                                           \
    }                                                                                  \
    OP_HANDLER(crc##bits##_r)                                                          \
    {                                                                                  \
        crc##bits(v, op, R##bits(v, op->src));                                         \
        OP_NEXT(v, op);                                                                \
    }                                                                                  \
    OP_LOAD(crc##bits##_m, bits, op_la_base, crc##bits(v, op, x))
CRC(8, "b", "b")
CRC(16, "w", "w")
CRC(32, "l", "k")
CRC(64, "l", "k")

static const op_fn crc_table[4][2] = {SCAN_CELL(crc, 8), SCAN_CELL(crc, 16), SCAN_CELL(crc, 32),
                                      SCAN_CELL(crc, 64)};

static void lower_scan(struct lower *lw, const struct insn *insn)
{
    unsigned size = lower_log2(insn->operand[1].size);
    bool is_mem = insn->operand[1].kind == INSN_MEM;
    struct lower_ea ea = {0};
    struct op *op;

    if (is_mem) {
        ea = lower_mem(lw, insn, insn->operand[1].size, true);
    }
    op = lower_emit(lw, insn->op == INSN_CRC32 ? crc_table[size][is_mem]
                                               : scan_table[insn->op - INSN_BSF][size - 1][is_mem]);
    lower_set_ea(op, &ea);
    op->dst = lower_reg(&insn->operand[0]);
    op->src = lower_reg(&insn->operand[1]);
}

bool lower_bits(struct lower *lw, const struct insn *insn)
{
    if (insn->op >= INSN_BT && insn->op <= INSN_BTC) {
        lower_bt(lw, insn);
        return true;
    }
    if ((insn->op >= INSN_BSF && insn->op <= INSN_POPCNT) || insn->op == INSN_CRC32) {
        lower_scan(lw, insn);
        return true;
    }
    return false;
}
