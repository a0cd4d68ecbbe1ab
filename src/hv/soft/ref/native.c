/* native.c — SIMD, MMX and x87 instructions, run by the host CPU through stubs (native_stub.c).
 *
 * What can fault is checked first: CR0 and CR4, alignment, the memory operand.  The operand is
 * guest RAM itself where it lies within one plain page, else a buffer.
 *
 * Floating point runs with all exceptions masked and the sticky flags cleared; if a flag comes up
 * that the guest has not masked, the result is taken back and the guest gets #XM.  x87 exceptions
 * that are not masked stay pending in the image and become #MF at the next waiting instruction.
 * Afterwards MXCSR and the x87 control word are those that C code expects.
 */
#include "hv/soft/ref/native.h"

#include "hv/soft/ref/native_int.h"
#include "x86/cr.h"

#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_FLAGS   0x003fu
#define MXCSR_MASKS   0x1f80u
#define MXCSR_UE      0x0010u
#define MXCSR_UM      0x0800u
#define MXCSR_FTZ     0x8000u

static inline bool is_sse_blocked(const struct vcpu *v)
{
    return UNLIKELY((v->cr0 & (CR0_EM | CR0_TS)) || !(v->cr4 & CR4_OSFXSR));
}

/* Raises. */
OP_COLD OP_HANDLER(sse_blocked)
{
    op_sync(v, op);
    fpu_check_sse(v);
    return op;
}

static inline uint8_t *xmm(struct vcpu *v, unsigned reg)
{
    return v->xsave + FPU_XMM0 + (size_t)16 * reg;
}

/* --- the memory operand --- */

OP_COLD void *native_mem_slow(struct vcpu *v, const struct op *op, const struct native_site *s,
                              struct native_mem *m)
{
    void *p;

    op_check_canonical(v, op, m->la, s->size);
    if (s->align && (m->la & (s->align - 1u))) {
        vcpu_raise_error(v, EXC_GP, 0);
    }
    p = s->is_store ? mmu_ptr_write(v, m->la, s->size) : mmu_ptr_read(v, m->la, s->size);
    if (p && !(m->la & s->low_bits)) {
        return p;
    }
    if (s->is_store) {
        mmu_check_write(v, m->la, s->size);
    } else {
        mmu_read(v, m->la, m->bounce, s->size);
    }
    return m->bounce;
}

static inline void *mem_begin(struct vcpu *v, const struct op *op, const struct native_site *s,
                              struct native_mem *m)
{
    void *p;

    m->la = op_la_full(v, op);
    p = mmu_hit(v, s->is_store ? TLB_WRITE : TLB_READ, m->la, s->size);
    if (LIKELY(p && !(m->la & s->low_bits))) {
        return p;
    }
    return native_mem_slow(v, op, s, m);
}

/* --- moves and integers --- */

OP_HANDLER(simd_reg)
{
    if (is_sse_blocked(v)) {
        OP_TAIL return sse_blocked(v, op);
    }
    site_of(op)->fn(v, NULL);
    OP_NEXT(v, op);
}

OP_COLD OP_HANDLER(simd_mem_slow)
{
    const struct native_site *s = site_of(op);
    struct native_mem m;
    void *p = mem_begin(v, op, s, &m);

    s->fn(v, p);
    return native_mem_end(v, op, s, &m, p);
}

/* `body` works on `p`; without p, `name`_slow does it all. */
#define SIMD_MEM(name, slow, access, body)         \
    OP_HANDLER(name)                               \
    {                                              \
        const struct native_site *s = site_of(op); \
        void *p;                                   \
        if (is_sse_blocked(v)) {                   \
            OP_TAIL return sse_blocked(v, op);     \
        }                                          \
        p = native_mem_fast(v, op, s, access);     \
        if (UNLIKELY(!p)) {                        \
            OP_TAIL return slow(v, op);            \
        }                                          \
        body;                                      \
        OP_NEXT(v, op);                            \
    }
SIMD_MEM(simd_load, simd_mem_slow, TLB_READ, s->fn(v, p))
SIMD_MEM(simd_store, simd_mem_slow, TLB_WRITE, s->fn(v, p))

/* 16-byte moves, by far the most frequent: no stub. */
OP_HANDLER(move16_reg)
{
    if (is_sse_blocked(v)) {
        OP_TAIL return sse_blocked(v, op);
    }
    memcpy(xmm(v, op->dst), xmm(v, op->src), 16);
    OP_NEXT(v, op);
}
SIMD_MEM(move16_load, simd_mem_slow, TLB_READ, memcpy(xmm(v, op->dst), p, 16))
SIMD_MEM(move16_store, simd_mem_slow, TLB_WRITE, memcpy(p, xmm(v, op->src), 16))

/* PXOR x, x and its kin. */
OP_HANDLER(zero_xmm)
{
    if (is_sse_blocked(v)) {
        OP_TAIL return sse_blocked(v, op);
    }
    memset(xmm(v, op->dst), 0, 16);
    OP_NEXT(v, op);
}

/* --- floating point --- */

static inline void set_host_mxcsr(uint32_t value)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(value));
}

static inline uint32_t host_mxcsr(void)
{
    uint32_t value;

    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value;
}

struct undo {
    uint64_t gpr, mask;
    uint16_t aflags;
    uint8_t vec[FPU_VEC_LEN];
};

static void remember(const struct vcpu *v, const struct native_site *s, struct undo *ret_undo)
{
    ret_undo->gpr = v->gpr[s->undo_gpr / 8];
    ret_undo->aflags = v->aflags;
    ret_undo->mask = s->insn ? fpu_mask_get(v, s->undo_mask) : 0;
    fpu_vec_get(v, s->undo_xmm, ret_undo->vec);
}

OP_COLD _Noreturn static void raise_simd(struct vcpu *v, const struct op *op)
{
    op_sync(v, op);
    vcpu_raise(v, v->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

/* The flags that stay set: if one that is found before computing (IE, DE, ZE) is not masked, there
 * are none of those found after it (SDM volume 1, 11.5.3). */
static inline uint32_t raised_flags(uint32_t guest, uint32_t flags)
{
    return flags & ~(guest >> 7) & 7u ? flags & 7u : flags;
}

/* Run with exceptions masked; returns the flags that came up. */
static uint32_t run_masked(struct vcpu *v, const struct native_site *s, void *p, uint32_t mxcsr)
{
    uint32_t flags;

    set_host_mxcsr((mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS);
    s->fn(v, p);
    flags = host_mxcsr() & MXCSR_FLAGS;
    set_host_mxcsr(MXCSR_DEFAULT);
    v->host_mxcsr_flags = 0;
    return flags;
}

_Static_assert(INSN_VREDUCESS - INSN_VREDUCEPD == 3 && INSN_VRCP14SS - INSN_VRCP14PD == 3,
               "no others in between");

static void take_back(struct vcpu *v, const struct native_site *s, const struct undo *undo)
{
    R64(v, s->undo_gpr) = undo->gpr;
    v->aflags = undo->aflags;
    if (s->insn) {
        fpu_mask_set(v, s->undo_mask, undo->mask);
    }
    fpu_vec_set(v, s->undo_xmm, undo->vec);
}

/* {sae} and {er}: as if all were masked. */
static bool suppresses_exceptions(const struct native_site *s)
{
    return s->insn && s->insn->has_b && !s->size;
}

/* Those that raise nothing and flush tiny results to zero whether underflow is masked or not. */
static bool is_approximation(const struct native_site *s)
{
    return s->insn && s->insn->op >= INSN_VRCP14PD && s->insn->op <= INSN_VRCP14SS;
}

/* Underflow that is not masked is raised by a tiny result even if that is exact (SDM volume 1,
 * 4.9.1.5), which a masked run does not tell, unless it flushes tiny results to zero. */
OP_COLD static uint32_t find_underflow(struct vcpu *v, const struct native_site *s, void *p,
                                       uint32_t guest, const struct undo *undo)
{
    uint32_t flags;

    if (s->insn && s->insn->op >= INSN_VREDUCEPD && s->insn->op <= INSN_VREDUCESS) {
        return 0; /* has no underflow, but flushes */
    }
    flags = run_masked(v, s, p, guest | MXCSR_FTZ);
    take_back(v, s, undo);
    return flags & MXCSR_UE;
}

/* Run with exceptions masked; take the result back if one should have been raised. */
OP_COLD static void run_float_checked(struct vcpu *v, const struct op *op,
                                      const struct native_site *s, void *p)
{
    uint32_t guest = load_le32(v->xsave + FPU_MXCSR), control = guest, flags = 0;
    struct undo undo;

    remember(v, s, &undo);
    if (UNLIKELY(!(guest & MXCSR_UM)) && !suppresses_exceptions(s) && !is_approximation(s)) {
        flags = find_underflow(v, s, p, guest, &undo);
        control &= ~MXCSR_FTZ; /* means nothing then */
    }
    flags |= run_masked(v, s, p, control);
    store_le32(v->xsave + FPU_MXCSR, guest | raised_flags(guest, flags));
    if (UNLIKELY(flags & ~(guest >> 7))) {
        take_back(v, s, &undo);
        raise_simd(v, op);
    }
}

/* With the control bits that C has, and nearly everybody: the host's MXCSR serves as it is, if it
 * has no flag set that the guest has cleared. */
static inline void run_float(struct vcpu *v, const struct op *op, const struct native_site *s,
                             void *p)
{
    uint32_t guest = load_le32(v->xsave + FPU_MXCSR), flags;

    if (UNLIKELY((guest & ~MXCSR_FLAGS) != MXCSR_DEFAULT)) {
        run_float_checked(v, op, s, p);
        return;
    }
    if (UNLIKELY(v->host_mxcsr_flags & ~guest)) {
        set_host_mxcsr(MXCSR_DEFAULT);
    }
    s->fn(v, p);
    flags = host_mxcsr() & MXCSR_FLAGS;
    v->host_mxcsr_flags = (uint8_t)flags;
    store_le32(v->xsave + FPU_MXCSR, guest | flags);
}

void native_run_float(struct vcpu *v, const struct op *op, const struct native_site *s, void *p)
{
    run_float(v, op, s, p);
}

OP_HANDLER(float_reg)
{
    if (is_sse_blocked(v)) {
        OP_TAIL return sse_blocked(v, op);
    }
    run_float(v, op, site_of(op), NULL);
    OP_NEXT(v, op);
}

OP_COLD OP_HANDLER(float_mem_slow)
{
    const struct native_site *s = site_of(op);
    struct native_mem m;
    void *p = mem_begin(v, op, s, &m);

    run_float(v, op, s, p);
    return native_mem_end(v, op, s, &m, p);
}
SIMD_MEM(float_mem, float_mem_slow, TLB_READ, run_float(v, op, s, p))

/* --- x87 and MMX --- */

/* FXSAVE may have stored where the stub is; the guest sees its own addresses. */
static void set_x87_pointers(struct vcpu *v, const struct native_site *s, uint64_t la)
{
    store_le16(v->xsave + FPU_FOP, s->fop);
    store_le64(v->xsave + FPU_FIP, v->rip);
    if (s->size) {
        store_le64(v->xsave + FPU_FDP, la);
    }
}

OP_HANDLER(x87)
{
    const struct native_site *s = site_of(op);
    struct native_mem m = {.la = 0};
    uint32_t guest, flags;
    uint8_t pointers[FPU_MXCSR - FPU_FOP], undo[FPU_LEGACY_LEN];
    void *p = NULL;

    op_sync(v, op);
    (s->is_mmx ? fpu_check_mmx : fpu_check_x87)(v);
    if (s->is_waiting && fpu_is_pending(v)) {
        vcpu_raise(v, EXC_MF);
    }
    if (s->size) {
        p = mem_begin(v, op, s, &m);
    }
    if (p == m.bounce && s->is_store) {
        mmu_read(v, m.la, m.bounce, s->size); /* an unmasked exception stores nothing */
    }
    if (s->is_float) {
        memcpy(undo, v->xsave, sizeof(undo));
    }
    memcpy(pointers, v->xsave + FPU_FOP, sizeof(pointers));
    guest = load_le32(v->xsave + FPU_MXCSR);
    store_le32(v->xsave + FPU_MXCSR, (guest & ~MXCSR_FLAGS) | MXCSR_MASKS);
    s->fn(v, p);
    set_host_mxcsr(MXCSR_DEFAULT);
    v->host_mxcsr_flags = 0;
    flags = load_le32(v->xsave + FPU_MXCSR) & MXCSR_FLAGS;
    memcpy(v->xsave + FPU_FOP, pointers, sizeof(pointers));
    if (s->is_float && (flags & ~(guest >> 7))) { /* CVTPS2PI and the like */
        memcpy(v->xsave, undo, sizeof(undo));
        fpu_enter_mmx(v); /* has happened by then */
        store_le32(v->xsave + FPU_MXCSR, guest | raised_flags(guest, flags));
        raise_simd(v, op);
    }
    store_le32(v->xsave + FPU_MXCSR, guest | flags);
    if (!s->is_control && !s->is_mmx) {
        set_x87_pointers(v, s, m.la);
    }
    return native_mem_end(v, op, s, &m, p);
}

static enum ref_result fwait(struct vcpu *v, const struct insn *insn __attribute__((unused)))
{
    fpu_check_wait(v);
    if (fpu_is_pending(v)) {
        vcpu_raise(v, EXC_MF);
    }
    return REF_NEXT;
}

static enum ref_result fninit(struct vcpu *v, const struct insn *insn __attribute__((unused)))
{
    fpu_check_x87(v);
    fpu_fninit(v);
    return REF_NEXT;
}

/* --- MASKMOVDQU, MASKMOVQ: bytes to DS:rDI under a mask --- */

/* Where an operand is in the image: MMX register n is physical register n, whatever the top. */
static const uint8_t *mask_operand(const struct vcpu *v, const struct insn_operand *o)
{
    unsigned top = load_le16(v->xsave + FPU_FSW) >> 11;

    if (o->kind == INSN_MMX) {
        return v->xsave + FPU_ST0 + (size_t)16 * ((o->reg - top) & 7);
    }
    return v->xsave + FPU_XMM0 + (size_t)16 * (o->reg & 15);
}

enum ref_result native_mask_move(struct vcpu *v, const struct insn *insn)
{
    unsigned size = insn->op == INSN_MASKMOVQ ? 8 : 16;
    bool is_mmx = size == 8;
    const uint8_t *data = mask_operand(v, &insn->operand[0]);
    const uint8_t *mask = mask_operand(v, &insn->operand[1]);
    uint64_t offset = v->gpr[GPR_RDI], la;

    if (insn->encoding != INSN_LEGACY) {
        fpu_check_avx(v, XCR0_AVX_ALL);
    } else {
        (is_mmx ? fpu_check_mmx : fpu_check_sse)(v);
    }
    if (is_mmx && fpu_is_pending(v)) {
        vcpu_raise(v, EXC_MF);
    }
    if (insn->addrsize < 8) {
        offset &= insn->addrsize == 4 ? UINT32_MAX : UINT16_MAX;
    }
    la = ref_linear(v, (enum cpu_seg)insn->seg, offset, size, true);
    for (unsigned i = 0; i < size; i++) {
        if (mask[i] & 0x80) {
            mmu_check_write(v, la + i, 1);
        }
    }
    for (unsigned i = 0; i < size; i++) {
        if (mask[i] & 0x80) {
            mmu_write8(v, la + i, data[i]);
        }
    }
    if (is_mmx) {
        fpu_enter_mmx(v);
    }
    return REF_NEXT;
}

/* --- picking --- */

/* Does it read or write MXCSR?  By opcode: SDM volume 2, tables. */
static bool is_float(const struct insn *insn)
{
    uint8_t o = insn->opcode;

    if (insn->map == 1) {
        return (o >= 0x2a && o <= 0x2f && o != 0x2b) || o == 0x51 || (o >= 0x58 && o <= 0x5f) ||
               o == 0x7c || o == 0x7d || o == 0xc2 || o == 0xd0 || o == 0xe6;
    }
    return insn->map == 3 && ((o >= 0x08 && o <= 0x0b) || o == 0x40 || o == 0x41);
}

static bool has_mmx(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MMX) {
            return true;
        }
    }
    return insn->op == INSN_EMMS;
}

static bool is_whole_move(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_MOVUPS:
    case INSN_MOVUPD:
    case INSN_MOVAPS:
    case INSN_MOVAPD:
    case INSN_MOVDQA:
    case INSN_MOVDQU:
    case INSN_LDDQU:
    case INSN_MOVNTDQ:
    case INSN_MOVNTPS:
    case INSN_MOVNTPD: return true;
    default: return false;
    }
}

static bool is_x87_control(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_FLDCW:
    case INSN_FNSTCW:
    case INSN_FNSTSW:
    case INSN_FNCLEX: return true;
    default: return false;
    }
}

static bool is_x87_waiting(const struct insn *insn)
{
    if (insn->op == INSN_FNOP) {
        return insn->opcode == 0xd9; /* not FNENI, FNDISI, FNSETPM */
    }
    return insn->op != INSN_FNSTCW && insn->op != INSN_FNSTSW && insn->op != INSN_FNCLEX;
}

static struct native_site *make_site(struct lower *lw, const struct insn *insn, bool with_x87)
{
    struct native_site *s = lw->alloc(lw->alloc_owner, sizeof(*s));
    const struct insn_operand *d = &insn->operand[0];

    if (!s) {
        lw->is_out_of_memory = true;
        return NULL;
    }
    *s = (struct native_site){
        .fn = native_stub(lw->v->native, insn, with_x87),
        .align = insn->mem_align,
        .is_store = insn->mem_access & INSN_MEM_WRITE,
        .is_mmx = insn->klass == INSN_CLASS_SIMD,
        .is_float = insn->klass == INSN_CLASS_SIMD && is_float(insn),
        .is_waiting = is_x87_waiting(insn),
        .is_control = is_x87_control(insn),
        .fop = (uint16_t)((insn->opcode & 7u) << 8 | insn->modrm),
        .undo_gpr = d->kind == INSN_GPR ? lower_reg(d) : 0,
        .undo_xmm = d->kind == INSN_XMM ? d->reg & 15 : 0,
    };
    for (unsigned i = 0; i < insn->operand_count; i++) {
        if (insn->operand[i].kind == INSN_MEM) {
            s->size = insn->operand[i].size;
        }
    }
    /* what does not fault here may fault on another host, or need not be aligned there */
    s->low_bits = s->align                                ? (uint8_t)(s->align - 1)
                  : s->size == 16 && !is_whole_move(insn) ? 15
                                                          : 0;
    lw->is_out_of_memory |= !s->fn;
    return s;
}

static bool is_zeroing(const struct insn *insn)
{
    return (insn->op == INSN_PXOR || insn->op == INSN_XORPS || insn->op == INSN_XORPD) &&
           insn->operand[0].kind == INSN_XMM && insn->operand[1].kind == INSN_XMM &&
           insn->operand[0].reg == insn->operand[1].reg;
}

static op_fn pick(const struct insn *insn, bool with_x87, bool is_mem)
{
    bool is_store = insn->mem_access & INSN_MEM_WRITE;

    if (with_x87) {
        return x87;
    }
    if (is_zeroing(insn)) {
        return zero_xmm;
    }
    if (is_whole_move(insn)) {
        return !is_mem ? move16_reg : is_store ? move16_store : move16_load;
    }
    if (is_float(insn)) {
        return is_mem ? float_mem : float_reg;
    }
    return !is_mem ? simd_reg : is_store ? simd_store : simd_load;
}

static void lower_site(struct lower *lw, const struct insn *insn)
{
    bool with_x87 = insn->klass == INSN_CLASS_X87 || has_mmx(insn);
    struct native_site *s = make_site(lw, insn, with_x87);
    struct lower_ea ea = {.base = OP_ZERO, .index = OP_ZERO, .seg = OP_ZERO / 8};
    struct op *op;

    if (s && s->size) {
        ea = lower_mem(lw, insn, s->size, false);
    }
    op = lower_emit(lw, pick(insn, with_x87, s && s->size));
    lower_set_ea(op, &ea);
    op->imm = (uintptr_t)s;
    op->dst = insn->operand[0].reg & 15;
    op->src = insn->operand[1].reg & 15;
}

bool lower_native(struct lower *lw, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_FWAIT: lower_call(lw, insn, fwait); break;
    case INSN_FNINIT: lower_call(lw, insn, fninit); break;
    case INSN_MASKMOVQ:
    case INSN_MASKMOVDQU: lower_call(lw, insn, native_mask_move); break;
    default: lower_site(lw, insn); break;
    }
    return true;
}
