/* native_avx.c — VEX and EVEX instructions: run by the host CPU through stubs, and what masks do to
 * their memory operands.
 *
 * A masked operand that lies in one plain page is left to the host.  Elsewhere only the elements
 * whose mask bits are set are touched, one by one, by way of a buffer.  Gathers and scatters always
 * go by element: registers and mask tell at each moment how far they are, so that they can be begun
 * anew after a fault.
 */
#include "hv/soft/ref/native_int.h"
#include "x86/cr.h"

/* What the encoding asks of XCR0. */
static uint64_t needs(const struct insn *insn)
{
    return insn->features & CPU_NEEDS_AVX512 ? XCR0_AVX512_ALL : XCR0_AVX_ALL;
}

static inline bool is_blocked(const struct vcpu *v, uint64_t need)
{
    return UNLIKELY((v->cr0 & CR0_TS) || !(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & need) != need);
}

/* Raises. */
OP_COLD OP_HANDLER(avx_blocked)
{
    op_sync(v, op);
    fpu_check_avx(v, needs(site_of(op)->insn));
    return op;
}

/* --- masks --- */

/* Sign bits of the elements of a vector register, as VEX has masks. */
static uint64_t sign_bits(const struct vcpu *v, unsigned reg, unsigned elem, unsigned count)
{
    uint8_t bytes[FPU_VEC_LEN];
    uint64_t bits = 0;

    fpu_vec_get(v, reg, bytes);
    for (unsigned i = 0; i < count; i++) {
        bits |= (uint64_t)(bytes[i * elem + elem - 1] >> 7) << i;
    }
    return bits;
}

static uint64_t low_bits(unsigned count)
{
    return count >= 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
}

/* Each of `count` elements is what several bits stand for, every count'th one. */
static uint64_t fold(uint64_t bits, unsigned count)
{
    uint64_t folded = 0;

    for (; bits; bits >>= count) {
        folded |= bits & low_bits(count);
    }
    return folded;
}

/* Elements in memory that the instruction touches, as bits; their size is `*ret_elem`. */
static uint64_t touched(const struct vcpu *v, const struct native_site *s, unsigned *ret_elem)
{
    const struct insn *insn = s->insn;
    uint64_t bits;

    *ret_elem = insn->elem;
    if (insn->encoding == INSN_VEX) { /* VMASKMOV and VPMASKMOV */
        return sign_bits(v, insn->operand[1].reg, insn->elem, insn->elem_count);
    }
    bits = fpu_mask_get(v, insn->opmask) & low_bits(insn->elem_count);
    if (insn->has_b) {
        *ret_elem = s->size;
        return bits != 0;
    }
    if (insn->is_any) {
        return fold(bits, s->size / insn->elem);
    }
    return insn->is_packed ? low_bits((unsigned)__builtin_popcountll(bits)) : bits;
}

static bool is_masked(const struct insn *insn)
{
    return insn->suppresses && (insn->opmask || insn->encoding == INSN_VEX);
}

static void read_touched(struct vcpu *v, const struct op *op, const struct native_site *s,
                         struct native_mem *m)
{
    unsigned elem;
    uint64_t bits = touched(v, s, &elem);

    memset(m->bounce, 0, sizeof(m->bounce));
    for (unsigned i = 0; bits; i++, bits >>= 1) {
        if (bits & 1) {
            op_check_canonical(v, op, m->la + i * elem, elem);
            mmu_read(v, m->la + i * elem, m->bounce + i * elem, elem);
        }
    }
}

static void check_touched(struct vcpu *v, const struct op *op, const struct native_site *s,
                          const struct native_mem *m)
{
    unsigned elem;
    uint64_t bits = touched(v, s, &elem);

    for (unsigned i = 0; bits; i++, bits >>= 1) {
        if (bits & 1) {
            op_check_canonical(v, op, m->la + i * elem, elem);
            mmu_check_write(v, m->la + i * elem, elem);
        }
    }
}

static void write_touched(struct vcpu *v, const struct native_site *s, const struct native_mem *m)
{
    unsigned elem;
    uint64_t bits = touched(v, s, &elem);

    for (unsigned i = 0; bits; i++, bits >>= 1) {
        if (bits & 1) {
            mmu_write(v, m->la + i * elem, m->bounce + i * elem, elem);
        }
    }
}

/* --- handlers --- */

static void run(struct vcpu *v, const struct op *op, const struct native_site *s, void *p)
{
    if (s->is_float) {
        native_run_float(v, op, s, p);
    } else {
        s->fn(v, p);
    }
}

/* Nothing touched is not misaligned. */
static void check_alignment(struct vcpu *v, const struct native_site *s, const struct native_mem *m)
{
    unsigned elem;

    if (s->align && (m->la & (s->align - 1u)) && touched(v, s, &elem)) {
        vcpu_raise_error(v, EXC_GP, 0);
    }
}

OP_COLD OP_HANDLER(avx_masked)
{
    const struct native_site *s = site_of(op);
    struct native_mem m = {.la = op_la_full(v, op)};

    op_sync(v, op);
    check_alignment(v, s, &m);
    if (!s->is_store) {
        read_touched(v, op, s, &m);
        run(v, op, s, m.bounce);
        return op + 1;
    }
    check_touched(v, op, s, &m);
    run(v, op, s, m.bounce);
    write_touched(v, s, &m);
    return op_after_write(v, op);
}

OP_COLD OP_HANDLER(avx_slow)
{
    const struct native_site *s = site_of(op);
    struct native_mem m = {.la = op_la_full(v, op)};
    void *p;

    op_sync(v, op);
    p = native_mem_slow(v, op, s, &m);
    run(v, op, s, p);
    if (p == m.bounce && s->is_store && s->insn->opmask) { /* faults, but writes under the mask */
        write_touched(v, s, &m);
        return op_after_write(v, op);
    }
    return native_mem_end(v, op, s, &m, p);
}

/* A result that an exception takes back must not have reached memory. */
OP_COLD OP_HANDLER(avx_float_store)
{
    const struct native_site *s = site_of(op);
    struct native_mem m = {.la = op_la_full(v, op)};

    if (is_blocked(v, needs(s->insn))) {
        return avx_blocked(v, op);
    }
    if (is_masked(s->insn)) {
        return avx_masked(v, op);
    }
    op_sync(v, op);
    op_check_canonical(v, op, m.la, s->size);
    mmu_check_write(v, m.la, s->size);
    native_run_float(v, op, s, m.bounce);
    mmu_write(v, m.la, m.bounce, s->size);
    return op_after_write(v, op);
}

/* `access`: of the memory operand; without one, p is NULL and not used. */
#define AVX(name, need, access, has_mem, body)                                   \
    OP_HANDLER(name)                                                             \
    {                                                                            \
        const struct native_site *s = site_of(op);                               \
        void *p = NULL;                                                          \
        if (is_blocked(v, need)) {                                               \
            OP_TAIL return avx_blocked(v, op);                                   \
        }                                                                        \
        if (has_mem) {                                                           \
            p = native_mem_fast(v, op, s, access);                               \
            if (UNLIKELY(!p)) {                                                  \
                return is_masked(s->insn) ? avx_masked(v, op) : avx_slow(v, op); \
            }                                                                    \
        }                                                                        \
        body;                                                                    \
        OP_NEXT(v, op);                                                          \
    }
#define AVX_FORMS(name, need)                                                   \
    AVX(name##_reg, need, TLB_READ, false, s->fn(v, p))                         \
    AVX(name##_load, need, TLB_READ, true, s->fn(v, p))                         \
    AVX(name##_store, need, TLB_WRITE, true, s->fn(v, p))                       \
    AVX(name##_float_reg, need, TLB_READ, false, native_run_float(v, op, s, p)) \
    AVX(name##_float_load, need, TLB_READ, true, native_run_float(v, op, s, p))
AVX_FORMS(avx, XCR0_AVX_ALL)
AVX_FORMS(avx512, XCR0_AVX512_ALL)

/* --- gathers and scatters --- */

static bool is_index_wide(const struct insn *insn)
{
    return insn->opcode & 1; /* 90 91 92 93 and A0 A1 A2 A3: indices of 4 bytes, of 8 */
}

static unsigned element_count(const struct insn *insn, const struct insn_operand *vector)
{
    unsigned indices = insn->vsib_size / (is_index_wide(insn) ? 8u : 4u);
    unsigned elements = vector->size / insn->elem;

    return indices < elements ? indices : elements;
}

static uint64_t element_address(struct vcpu *v, const struct insn *insn, unsigned i, bool is_write)
{
    uint8_t indices[FPU_VEC_LEN];
    uint64_t offset = insn->base < GPR_COUNT ? v->gpr[insn->base] : 0;
    int64_t index;

    fpu_vec_get(v, insn->index, indices);
    index = is_index_wide(insn) ? (int64_t)load_le64(indices + (size_t)8 * i)
                                : (int32_t)load_le32(indices + (size_t)4 * i);
    offset += (uint64_t)index * insn->scale + (uint64_t)insn->disp;
    if (insn->addrsize < 8) {
        offset = (uint32_t)offset;
    }
    return ref_linear(v, (enum cpu_seg)insn->seg, offset, insn->elem, is_write);
}

/* The mask of a gather or scatter, one bit per element: in a vector register or an opmask. */
static uint64_t get_mask(const struct vcpu *v, const struct insn *insn, unsigned count)
{
    if (insn->encoding == INSN_EVEX) {
        return fpu_mask_get(v, insn->opmask);
    }
    return sign_bits(v, insn->operand[2].reg, insn->elem, count);
}

static void clear_mask_bit(struct vcpu *v, const struct insn *insn, unsigned i)
{
    uint8_t bytes[FPU_VEC_LEN];
    unsigned reg;

    if (insn->encoding == INSN_EVEX) {
        fpu_mask_set(v, insn->opmask, fpu_mask_get(v, insn->opmask) & ~(UINT64_C(1) << i));
        return;
    }
    reg = insn->operand[2].reg;
    fpu_vec_get(v, reg, bytes);
    memset(bytes + (size_t)i * insn->elem, 0, insn->elem);
    fpu_vec_set(v, reg, bytes);
}

static void gather_element(struct vcpu *v, const struct insn *insn, unsigned i)
{
    unsigned dst = insn->operand[0].reg;
    uint8_t bytes[FPU_VEC_LEN], element[8];

    mmu_read(v, element_address(v, insn, i, false), element, insn->elem);
    fpu_vec_get(v, dst, bytes);
    memcpy(bytes + (size_t)i * insn->elem, element, insn->elem);
    fpu_vec_set(v, dst, bytes);
}

/* Above the elements that were gathered is nothing; the mask is used up. */
static void finish_gather(struct vcpu *v, const struct insn *insn, unsigned count)
{
    uint8_t bytes[FPU_VEC_LEN];
    size_t used = (size_t)count * insn->elem;

    fpu_vec_get(v, insn->operand[0].reg, bytes);
    memset(bytes + used, 0, sizeof(bytes) - used);
    fpu_vec_set(v, insn->operand[0].reg, bytes);
    if (insn->encoding == INSN_EVEX) {
        fpu_mask_set(v, insn->opmask, 0);
        return;
    }
    memset(bytes, 0, sizeof(bytes));
    fpu_vec_set(v, insn->operand[2].reg, bytes);
}

static enum ref_result gather(struct vcpu *v, const struct insn *insn)
{
    unsigned count = element_count(insn, &insn->operand[0]);
    uint64_t mask;

    fpu_check_avx(v, needs(insn));
    mask = get_mask(v, insn, count);
    for (unsigned i = 0; i < count; i++) {
        if (mask >> i & 1) {
            gather_element(v, insn, i);
            clear_mask_bit(v, insn, i);
        }
    }
    finish_gather(v, insn, count);
    return REF_NEXT;
}

static enum ref_result scatter(struct vcpu *v, const struct insn *insn)
{
    unsigned count = element_count(insn, &insn->operand[1]);
    uint8_t bytes[FPU_VEC_LEN];
    uint64_t mask;

    fpu_check_avx(v, needs(insn));
    mask = get_mask(v, insn, count);
    fpu_vec_get(v, insn->operand[1].reg, bytes);
    for (unsigned i = 0; i < count; i++) {
        if (mask >> i & 1) {
            mmu_write(v, element_address(v, insn, i, true), bytes + (size_t)i * insn->elem,
                      insn->elem);
            clear_mask_bit(v, insn, i);
        }
    }
    fpu_mask_set(v, insn->opmask, 0);
    return REF_NEXT;
}

/* --- VZEROUPPER, VZEROALL --- */

static enum ref_result zero_registers(struct vcpu *v, const struct insn *insn)
{
    unsigned count = v->mode == MODE_LONG64 ? 16 : 8;
    uint8_t bytes[FPU_VEC_LEN] = {0};

    fpu_check_avx(v, XCR0_AVX_ALL);
    for (unsigned i = 0; i < count; i++) {
        if (insn->op == INSN_VZEROUPPER) {
            memcpy(bytes, v->xsave + FPU_XMM0 + (size_t)16 * i, 16);
        }
        fpu_vec_set(v, i, bytes);
    }
    return REF_NEXT;
}

/* --- picking --- */

static op_fn pick(const struct native_site *s)
{
    static const op_fn table[2][2][3] = {
        {{avx_reg, avx_load, avx_store}, {avx_float_reg, avx_float_load, avx_float_store}},
        {{avx512_reg, avx512_load, avx512_store},
         {avx512_float_reg, avx512_float_load, avx_float_store}},
    };
    unsigned form = !s->size ? 0 : s->is_store ? 2 : 1;

    return table[needs(s->insn) == XCR0_AVX512_ALL][s->is_float][form];
}

static struct native_site *make_site(struct lower *lw, const struct insn *insn)
{
    struct native_site *s = lw->alloc(lw->alloc_owner, sizeof(*s));
    const struct insn_operand *d = &insn->operand[0];

    if (!s) {
        lw->is_out_of_memory = true;
        return NULL;
    }
    *s = (struct native_site){
        .fn = native_stub(lw->v->native, insn, false),
        .align = insn->mem_align,
        .low_bits = insn->mem_align ? (uint8_t)(insn->mem_align - 1) : 0,
        .is_store = insn->mem_access & INSN_MEM_WRITE,
        .is_float = insn->is_float,
        .undo_gpr = d->kind == INSN_GPR ? lower_reg(d) : 0,
        .undo_xmm = d->kind == INSN_XMM ? d->reg & 31 : 0,
        .undo_mask = d->kind == INSN_MASK ? d->reg & 7 : 0,
        .insn = lower_keep(lw, insn),
    };
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM) {
            s->size = insn->operand[i].size;
        }
    }
    lw->is_out_of_memory |= !s->fn || !s->insn;
    return s;
}

static void lower_site(struct lower *lw, const struct insn *insn)
{
    struct native_site *s = make_site(lw, insn);
    struct lower_ea ea = {.base = OP_ZERO, .index = OP_ZERO, .seg = OP_ZERO / 8};
    struct op *op;

    if (lw->is_out_of_memory) {
        ref_lower_fault(lw, EXC_UD); /* the block is thrown away */
        return;
    }
    if (s->size) {
        ea = lower_mem(lw, insn, s->size, false);
    }
    op = lower_emit(lw, pick(s));
    lower_set_ea(op, &ea);
    op->imm = (uintptr_t)s;
}

void lower_avx(struct lower *lw, const struct insn *insn)
{
    if (insn->has_vsib) {
        lower_call(lw, insn, insn->mem_access & INSN_MEM_WRITE ? scatter : gather);
        return;
    }
    switch (insn->op) {
    case INSN_VLDMXCSR:
    case INSN_VSTMXCSR: lower_call(lw, insn, ref_fpstate); break;
    case INSN_VMASKMOVDQU: lower_call(lw, insn, native_mask_move); break;
    case INSN_VZEROUPPER:
    case INSN_VZEROALL: lower_call(lw, insn, zero_registers); break;
    default: lower_site(lw, insn); break;
    }
}
