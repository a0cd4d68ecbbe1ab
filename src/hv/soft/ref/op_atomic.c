/* op_atomic.c — LOCK forms, XCHG, XADD, CMPXCHG*: on guest RAM with the host's locked instructions.
 *
 * A store without LOCK that the manual allows to be plain (XADD, CMPXCHG) is locked too; nobody can
 * tell.  Device memory and operands across two pages are done in steps, the latter under a lock
 * that makes them atomic against each other. */
#include <sched.h>

#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/op_mem.h"

#define RAX (GPR_RAX * 8)
#define RDX (GPR_RDX * 8)
#define RBX (GPR_RBX * 8)
#define RCX (GPR_RCX * 8)

/* --- where the operand is --- */

struct atomic_access {
    uint64_t la;
    unsigned size, head; /* bytes of it in its first page */
    uint8_t *host[2];    /* of its parts, NULL for device memory */
    gpa_t code_gpa[2];   /* of the parts, to be reported after the store */
    bool is_copy, is_locked;
    uint8_t copy[16] __attribute__((aligned(16)));
};

static atomic_flag g_split_lock = ATOMIC_FLAG_INIT; /* held for one split operation */

/* Nothing that may leave the instruction (an exception, a store that the cache wants to know of)
 * happens with the lock held: a vCPU that left with it would stop all others. */
static void split_begin(struct vcpu *v, struct atomic_access *a)
{
    mmu_check_write(v, a->la, a->size);
    a->host[0] = mmu_ptr_atomic(v, a->la, a->head, &a->code_gpa[0]);
    a->host[1] = mmu_ptr_atomic(v, a->la + a->head, a->size - a->head, &a->code_gpa[1]);
    a->is_locked = a->host[0] && a->host[1];
    if (!a->is_locked) {
        return;
    }
    while (atomic_flag_test_and_set_explicit(&g_split_lock, memory_order_acquire)) {
        (void)sched_yield();
    }
    memcpy(a->copy, a->host[0], a->head);
    memcpy(a->copy + a->head, a->host[1], a->size - a->head);
}

static void split_end(struct vcpu *v, const struct atomic_access *a)
{
    memcpy(a->host[0], a->copy, a->head);
    memcpy(a->host[1], a->copy + a->head, a->size - a->head);
    atomic_flag_clear_explicit(&g_split_lock, memory_order_release);
    mmu_atomic_done(v, a->code_gpa[0], a->head);
    mmu_atomic_done(v, a->code_gpa[1], a->size - a->head);
}

/* The operand itself or a copy of it.  Raises before any effect. */
static void *atomic_begin(struct vcpu *v, const struct op *op, uint64_t la, unsigned size,
                          struct atomic_access *a)
{
    unsigned in_page = 4096 - (unsigned)(la & 0xfff);

    op_check_canonical(v, op, la, size);
    a->la = la;
    a->size = size;
    a->head = size < in_page ? size : in_page;
    a->is_locked = false;
    if (a->head < size) {
        split_begin(v, a);
    } else {
        void *p = mmu_ptr_atomic(v, la, size, &a->code_gpa[0]);

        a->is_copy = false;
        if (p) {
            return p;
        }
    }
    a->is_copy = true;
    if (!a->is_locked) {
        mmu_check_read(v, la, size);
        mmu_read(v, la, a->copy, size);
    }
    return a->copy;
}

static const struct op *atomic_end(struct vcpu *v, const struct op *op, struct atomic_access *a)
{
    if (a->is_locked) {
        split_end(v, a);
    } else if (a->is_copy) {
        mmu_write(v, a->la, a->copy, a->size);
    } else {
        mmu_atomic_done(v, a->code_gpa[0], a->size);
    }
    return op_after_write(v, op);
}

/* body works on *p. */
#define OP_ATOMIC(name, bits, ...)                                                      \
    OP_COLD OP_HANDLER(name##_slow)                                                     \
    {                                                                                   \
        struct atomic_access access;                                                    \
        OP_UINT(bits) *p = atomic_begin(v, op, op_la_base(v, op), (bits) / 8, &access); \
        __VA_ARGS__;                                                                    \
        return atomic_end(v, op, &access);                                              \
    }                                                                                   \
    OP_HANDLER(name)                                                                    \
    {                                                                                   \
        OP_UINT(bits) *p = mmu_hit(v, TLB_WRITE, op_la_base(v, op), (bits) / 8);        \
        if (UNLIKELY(!p)) {                                                             \
            OP_TAIL return name##_slow(v, op);                                          \
        }                                                                               \
        __VA_ARGS__;                                                                    \
        OP_NEXT(v, op);                                                                 \
    }

/* --- LOCK with one or two operands; `b` is masked where it is a bit index --- */

#define LOCKED(name, ins, bits, sfx, k, mask)                                         \
    static inline void name##bits(struct vcpu *v, OP_UINT(bits) * p, OP_UINT(bits) b) \
    {                                                                                 \
        uint16_t f = v->aflags;                                                       \
        b &= (OP_UINT(bits))(mask);                                                   \
        __asm__ volatile(ASM_FLAGS_IN "lock; " ins sfx " %" k "2, %1; " ASM_FLAGS_OUT \
                         : "+&a"(f), "+m"(*p)                                         \
                         : "q"(b)                                                     \
                         : "cc", "memory");                                           \
        v->aflags = f;                                                                \
    }                                                                                 \
    OP_ATOMIC(name##bits##_mr, bits, name##bits(v, p, R##bits(v, op->src)))           \
    OP_ATOMIC(name##bits##_mi, bits, name##bits(v, p, (OP_UINT(bits))op->imm))

#define LOCKED_WIDE(name, ins, mask16, mask32, mask64) \
    LOCKED(name, ins, 16, "w", "w", mask16)            \
    LOCKED(name, ins, 32, "l", "k", mask32)            \
    LOCKED(name, ins, 64, "q", "q", mask64)
#define LOCKED_ALU(name, ins)                 \
    LOCKED(name, ins, 8, "b", "b", UINT8_MAX) \
    LOCKED_WIDE(name, ins, UINT16_MAX, UINT32_MAX, UINT64_MAX)

LOCKED_ALU(add, "add")
LOCKED_ALU(or, "or")
LOCKED_ALU(adc, "adc")
LOCKED_ALU(sbb, "sbb")
LOCKED_ALU(and, "and")
LOCKED_ALU(sub, "sub")
LOCKED_ALU(xor, "xor")
LOCKED_WIDE(bts, "bts", 15, 31, 63)
LOCKED_WIDE(btr, "btr", 15, 31, 63)
LOCKED_WIDE(btc, "btc", 15, 31, 63)

#define LOCKED_ONE(name, ins, bits, sfx)                                     \
    static inline void name##bits(struct vcpu *v, OP_UINT(bits) * p)         \
    {                                                                        \
        uint16_t f = v->aflags;                                              \
        __asm__ volatile(ASM_FLAGS_IN "lock; " ins sfx " %1; " ASM_FLAGS_OUT \
                         : "+&a"(f), "+m"(*p)                                \
                         :                                                   \
                         : "cc", "memory");                                  \
        v->aflags = f;                                                       \
    }                                                                        \
    OP_ATOMIC(name##bits##_m, bits, name##bits(v, p))
#define LOCKED_ONES(name, ins)     \
    LOCKED_ONE(name, ins, 8, "b")  \
    LOCKED_ONE(name, ins, 16, "w") \
    LOCKED_ONE(name, ins, 32, "l") \
    LOCKED_ONE(name, ins, 64, "q")
LOCKED_ONES(inc, "inc")
LOCKED_ONES(dec, "dec")
LOCKED_ONES(neg, "neg")
LOCKED_ONES(not, "not")

/* --- XCHG, XADD, CMPXCHG: memory --- */

#define EXCHANGE(bits, sfx, k)                                                                \
    OP_ATOMIC(                                                                                \
        xchg##bits##_m, bits,                                                                 \
        SET##bits(v, op->src, __atomic_exchange_n(p, R##bits(v, op->src), __ATOMIC_SEQ_CST))) \
    static inline void xadd##bits(struct vcpu *v, const struct op *op, OP_UINT(bits) * p)     \
    {                                                                                         \
        OP_UINT(bits) b = R##bits(v, op->src);                                                \
        uint16_t f;                                                                           \
        __asm__ volatile("lock; xadd" sfx " %" k "2, %1; " ASM_FLAGS_OUT                      \
                         : "=&a"(f), "+m"(*p), "+q"(b)                                        \
                         :                                                                    \
                         : "cc", "memory");                                                   \
        v->aflags = f;                                                                        \
        SET##bits(v, op->src, b);                                                             \
    }                                                                                         \
    OP_ATOMIC(xadd##bits##_m, bits, xadd##bits(v, op, p))                                     \
    static inline void cmpxchg##bits(struct vcpu *v, const struct op *op, OP_UINT(bits) * p)  \
    {                                                                                         \
        uint64_t rax = R64(v, RAX), f;                                                        \
        __asm__ volatile("lock; cmpxchg" sfx " %" k "3, %1; movq %%rax, %2; " ASM_FLAGS_OUT   \
                         "; xchgq %%rax, %2"                                                  \
                         : "+&a"(rax), "+m"(*p), "=&r"(f)                                     \
                         : "q"(R##bits(v, op->src))                                           \
                         : "cc", "memory");                                                   \
        v->aflags = (uint16_t)f;                                                              \
        R64(v, RAX) = rax;                                                                    \
    }                                                                                         \
    OP_ATOMIC(cmpxchg##bits##_m, bits, cmpxchg##bits(v, op, p))
EXCHANGE(8, "b", "b")
EXCHANGE(16, "w", "w")
EXCHANGE(32, "l", "k")
EXCHANGE(64, "q", "q")

/* --- the same between registers --- */

#define BETWEEN(bits, sfx, k)                                           \
    OP_HANDLER(xchg##bits##_r)                                          \
    {                                                                   \
        OP_UINT(bits) a = R##bits(v, op->dst), b = R##bits(v, op->src); \
        SET##bits(v, op->dst, b);                                       \
        SET##bits(v, op->src, a);                                       \
        OP_NEXT(v, op);                                                 \
    }                                                                   \
    OP_HANDLER(xadd##bits##_r)                                          \
    {                                                                   \
        OP_UINT(bits) a = R##bits(v, op->dst), b = R##bits(v, op->src); \
        uint16_t f;                                                     \
        __asm__("xadd" sfx " %" k "2, %" k "1; " ASM_FLAGS_OUT          \
                : "=&a"(f), "+q"(a), "+q"(b)                            \
                :                                                       \
                : "cc");                                                \
        v->aflags = f;                                                  \
        SET##bits(v, op->src, b);                                       \
        SET##bits(v, op->dst, a);                                       \
        OP_NEXT(v, op);                                                 \
    }                                                                   \
    OP_HANDLER(cmpxchg##bits##_r)                                       \
    {                                                                   \
        OP_UINT(bits) old = R##bits(v, op->dst), acc = R##bits(v, RAX); \
        uint16_t f;                                                     \
        __asm__("cmp" sfx " %" k "2, %" k "1; " ASM_FLAGS_OUT           \
                : "=&a"(f)                                              \
                : "q"(acc), "q"(old)                                    \
                : "cc");                                                \
        v->aflags = f;                                                  \
        if (old == acc) {                                               \
            SET##bits(v, op->dst, R##bits(v, op->src));                 \
        } else {                                                        \
            SET##bits(v, RAX, old);                                     \
        }                                                               \
        OP_NEXT(v, op);                                                 \
    }
BETWEEN(8, "b", "b")
BETWEEN(16, "w", "w")
BETWEEN(32, "l", "k")
BETWEEN(64, "q", "q")

/* --- CMPXCHG8B, CMPXCHG16B: only ZF is defined, the others stay --- */

static inline void set_zf(struct vcpu *v, bool zf)
{
    v->aflags = (uint16_t)((v->aflags & ~AF_ZF) | (zf ? AF_ZF : 0));
}

static inline void cmpxchg8b(struct vcpu *v, uint64_t *p)
{
    uint64_t want = (uint64_t)R32(v, RDX) << 32 | R32(v, RAX);
    uint64_t new = (uint64_t)R32(v, RCX) << 32 | R32(v, RBX);
    bool zf = __atomic_compare_exchange_n(p, &want, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);

    if (!zf) {
        SET32(v, RAX, want);
        SET32(v, RDX, want >> 32);
    }
    set_zf(v, zf);
}
OP_ATOMIC(cmpxchg8b_m, 64, cmpxchg8b(v, p))

static inline void cmpxchg16b(struct vcpu *v, uint8_t (*p)[16])
{
    uint64_t lo = R64(v, RAX), hi = R64(v, RDX);
    bool zf;

    __asm__ volatile("lock; cmpxchg16b %1; setz %0"
                     : "=q"(zf), "+m"(*p), "+a"(lo), "+d"(hi)
                     : "b"(R64(v, RBX)), "c"(R64(v, RCX))
                     : "cc", "memory");
    if (!zf) {
        R64(v, RAX) = lo;
        R64(v, RDX) = hi;
    }
    set_zf(v, zf);
}

OP_HANDLER(cmpxchg16b_m)
{
    struct atomic_access access;
    uint64_t la = op_la_base(v, op);

    op_sync(v, op);
    if (la & 15) {
        vcpu_raise_error(v, EXC_GP, 0);
    }
    cmpxchg16b(v, atomic_begin(v, op, la, 16, &access));
    return atomic_end(v, op, &access);
}

/* --- picking --- */

#define LOCKED_CELL(name, bits)          \
    {                                    \
        name##bits##_mr, name##bits##_mi \
    }
#define LOCKED_ROW(name)                                                                          \
    {                                                                                             \
        LOCKED_CELL(name, 8), LOCKED_CELL(name, 16), LOCKED_CELL(name, 32), LOCKED_CELL(name, 64) \
    }
#define BT_ROW(name)                                                                      \
    {                                                                                     \
        {NULL, NULL}, LOCKED_CELL(name, 16), LOCKED_CELL(name, 32), LOCKED_CELL(name, 64) \
    }
#define SIZES(name, form)                                             \
    {                                                                 \
        name##8##form, name##16##form, name##32##form, name##64##form \
    }

static op_fn pick_locked(const struct insn *insn, unsigned size)
{
    static const op_fn alu[][4][2] = {LOCKED_ROW(add), LOCKED_ROW(or),  LOCKED_ROW(adc),
                                      LOCKED_ROW(sbb), LOCKED_ROW(and), LOCKED_ROW(sub),
                                      LOCKED_ROW(xor)};
    static const op_fn bit[][4][2] = {BT_ROW(bts), BT_ROW(btr), BT_ROW(btc)};
    static const op_fn one[][4] = {SIZES(inc, _m), SIZES(dec, _m), SIZES(neg, _m), SIZES(not, _m)};
    bool is_imm = insn->operand[1].kind == INSN_IMM;

    if (insn->op >= INSN_ADD && insn->op <= INSN_XOR) {
        return alu[insn->op - INSN_ADD][size][is_imm];
    }
    if (insn->op >= INSN_BTS && insn->op <= INSN_BTC) {
        return bit[insn->op - INSN_BTS][size][is_imm];
    }
    if (insn->op >= INSN_INC && insn->op <= INSN_NOT) {
        return one[insn->op - INSN_INC][size];
    }
    return NULL;
}

static op_fn pick_exchange(const struct insn *insn, unsigned size, bool is_mem)
{
    static const op_fn xchg[2][4] = {SIZES(xchg, _r), SIZES(xchg, _m)};
    static const op_fn xadd[2][4] = {SIZES(xadd, _r), SIZES(xadd, _m)};
    static const op_fn cmpxchg[2][4] = {SIZES(cmpxchg, _r), SIZES(cmpxchg, _m)};

    switch (insn->op) {
    case INSN_XCHG: return xchg[is_mem][size];
    case INSN_XADD: return xadd[is_mem][size];
    case INSN_CMPXCHG: return cmpxchg[is_mem][size];
    case INSN_CMPXCHG8B: return is_mem ? cmpxchg8b_m : NULL;
    case INSN_CMPXCHG16B: return is_mem ? cmpxchg16b_m : NULL;
    default: return NULL;
    }
}

/* Of the instructions with LOCK, the decoder lets only the legal ones through. */
bool lower_atomic(struct lower *lw, const struct insn *insn)
{
    const struct insn_operand *d = &insn->operand[0], *s = &insn->operand[1];
    const struct insn_operand *reg = d->kind == INSN_MEM ? s : d;
    bool is_mem = d->kind == INSN_MEM || (insn->operand_count > 1 && s->kind == INSN_MEM);
    unsigned bytes = d->kind == INSN_MEM ? d->size : is_mem ? s->size : d->size;
    op_fn fn = pick_exchange(insn, bytes == 16 ? 0 : lower_log2(bytes), is_mem);
    struct lower_ea ea = {0};
    struct op *op;

    if (!fn && insn->has_lock && is_mem && bytes <= 8) {
        fn = pick_locked(insn, lower_log2(bytes));
    }
    if (!fn) {
        return false;
    }
    if (is_mem) {
        bool is_indexed = insn->op >= INSN_BTS && insn->op <= INSN_BTC && s->kind == INSN_GPR;

        ea = is_indexed ? lower_bt_ea(lw, insn, bytes) : lower_mem(lw, insn, bytes, true);
    }
    op = lower_emit(lw, fn);
    lower_set_ea(op, &ea);
    op->imm = (uint64_t)insn->imm;
    op->dst = lower_reg(d);
    op->src = lower_reg(is_mem ? reg : s);
    return true;
}
