/* vector.c — the guest's vector and mask registers and MXCSR in those of the host.
 *
 * Theory of operation.  v->xsave is where all C code finds the guest's vector state.  Translated
 * code takes it into the host's registers of the same numbers before its first vector instruction
 * and says in v->vec_live how much of it; it may stay there from block to block.  Whatever leaves
 * for C puts it back first (emit_vec_park(), part of every stub that does); C may then use vector
 * registers as it likes, and runs with the MXCSR that it expects.
 *
 * Levels (enum vec_level): what legacy SSE uses, the low 128 bits and MXCSR; all that AVX changes,
 * which is all bits of a register that XCR0 has on; that with masks and registers 16 to 31.  VEX
 * instructions clear the upper parts, so the second level is the third where XCR0 has it on.
 *
 * The way in is also where the guest's right to such instructions is looked at: CR0.EM, CR0.TS,
 * CR4.OSFXSR, CR4.OSXSAVE, XCR0.  Only C code changes these, so they hold as long as the registers
 * are in use.  With an exception unmasked in MXCSR the way is closed as well: the interpreter knows
 * how to raise #XM.  MXCSR is changed by instructions that are run by C or look at what they load,
 * so no exception can come up here.
 *
 * vec_load: T1, T2 = an op to leave to if it must not be, and its block.
 * vec_reload: the state was in the registers, the interpreter ran an instruction in between that
 * does not change any of the above, and it is wanted there again.
 * Both destroy EFLAGS. */
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/emit/emit_int.h"
#include "x86/cr.h"

#define CC_BELOW    0x82
#define CC_ZERO     0x84
#define CC_NOT_ZERO 0x85
#define JMP         0xe9
#define CALL        0xe8

#define REGS          16u /* that legacy encodings name */
#define MASKS         8u
#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_MASKS   0x1f80u

#define OFF_XSAVE ((int32_t)offsetof(struct vcpu, xsave))
#define OFF_MXCSR (OFF_XSAVE + FPU_MXCSR)
#define OFF_LIVE  ((int32_t)offsetof(struct vcpu, vec_live))
#define OFF_FLAGS ((int32_t)offsetof(struct vcpu, host_mxcsr_flags))

#define AND 4
#define CMP 7

static void set_byte(struct asm_buf *a, int32_t offset, uint8_t value)
{
    asm_rm(a, 1, 0xc6, 0, HOST_VCPU, offset);
    ASM(a, value);
}

static void test_dword(struct asm_buf *a, size_t offset, uint32_t mask)
{
    asm_rm(a, 4, 0xf7, 0, HOST_VCPU, (int32_t)offset);
    asm_imm(a, mask, 4);
}

/* op T2, imm32 */
static void t2_imm(struct asm_buf *a, unsigned digit, uint32_t value)
{
    asm_rr(a, 4, 0x81, digit, HOST_T2);
    asm_imm(a, value, 4);
}

/* Jump if less than `level` is live. */
static uint8_t *jump_below(struct asm_buf *a, enum vec_level level)
{
    asm_rm(a, 1, 0x80, CMP, HOST_VCPU, OFF_LIVE);
    ASM(a, level);
    return asm_jump(a, CC_BELOW);
}

/* --- moves of whole sets --- */

static void move_low(struct asm_buf *a, bool is_store)
{
    for (unsigned i = 0; i < REGS; i++) { /* movups */
        asm_rm(a, 4, ASM_0F | 0x10u | is_store, i, HOST_VCPU,
               OFF_XSAVE + FPU_XMM0 + 16 * (int32_t)i);
    }
}

/* VINSERTF128, VEXTRACTF128 (VEX.256.66.0F3A.W0 18, 19); VINSERTF64X4, VEXTRACTF64X4
 * (EVEX.512.66.0F3A.W1 1A, 1B): of the upper half. */
static void move_upper(struct asm_buf *a, bool is_store, bool is_zmm)
{
    for (unsigned i = 0; i < REGS; i++) {
        struct asm_vex p = {.is_evex = is_zmm,
                            .map = 3,
                            .pp = 1,
                            .w = is_zmm,
                            .ll = is_zmm ? 2 : 1,
                            .vvvv = is_store ? 0 : (uint8_t)i,
                            .opcode = (uint8_t)((is_zmm ? 0x1a : 0x18) + is_store)};
        int32_t at = is_zmm ? FPU_ZMM_HI + 32 * (int32_t)i : FPU_YMM_HI + 16 * (int32_t)i;

        asm_vex_rm(a, &p, i, HOST_VCPU, HOST_NONE, OFF_XSAVE + at);
        ASM(a, 1);
    }
}

/* VMOVUPS zmm (EVEX.512.0F.W0 10, 11), KMOVQ (VEX.L0.0F.W1 90, 91) */
static void move_more(struct asm_buf *a, bool is_store)
{
    struct asm_vex zmm = {.is_evex = true, .map = 1, .ll = 2, .opcode = (uint8_t)(0x10 + is_store)};
    struct asm_vex mask = {.map = 1, .w = true, .opcode = (uint8_t)(0x90 + is_store)};

    for (unsigned i = 0; i < REGS; i++) {
        asm_vex_rm(a, &zmm, REGS + i, HOST_VCPU, HOST_NONE,
                   OFF_XSAVE + FPU_HI_ZMM + 64 * (int32_t)i);
    }
    for (unsigned i = 0; i < MASKS; i++) {
        asm_vex_rm(a, &mask, i, HOST_VCPU, HOST_NONE, OFF_XSAVE + FPU_OPMASK + 8 * (int32_t)i);
    }
}

/* --- in --- */

struct refusals {
    uint8_t *jump[12];
    unsigned count;
};

static void refuse(struct asm_buf *a, struct refusals *r, uint8_t cond)
{
    r->jump[r->count++] = asm_jump(a, cond);
}

static void check(struct asm_buf *a, enum vec_level level, struct refusals *r)
{
    r->count = 0;
    test_dword(a, offsetof(struct vcpu, cr0), CR0_EM | CR0_TS);
    refuse(a, r, CC_NOT_ZERO);
    test_dword(a, offsetof(struct vcpu, cr4), CR4_OSFXSR);
    refuse(a, r, CC_ZERO);
    if (level >= VEC_AVX) {
        test_dword(a, offsetof(struct vcpu, cr4), CR4_OSXSAVE);
        refuse(a, r, CC_ZERO);
    }
    ASM(a, 0x41, 0x53); /* push r11 */
    asm_rm(a, 4, 0x8b, HOST_T2, HOST_VCPU, OFF_MXCSR);
    t2_imm(a, AND, MXCSR_MASKS);
    t2_imm(a, CMP, MXCSR_MASKS);
    ASM(a, 0x41, 0x5b); /* pop r11 */
    refuse(a, r, CC_NOT_ZERO);
    for (uint64_t bits = level == VEC_AVX512 ? XCR0_AVX512_ALL : XCR0_AVX_ALL;
         bits && level >= VEC_AVX; bits &= bits - 1) {
        test_dword(a, offsetof(struct vcpu, xcr0), (uint32_t)(bits & -bits));
        refuse(a, r, CC_ZERO);
    }
}

static void land_refusals(struct emit_cache *e, const struct refusals *r)
{
    struct asm_buf *a = &e->buf;

    for (unsigned i = 0; i < r->count; i++) {
        asm_land(a, r->jump[i], a->at);
    }
    ASM(a, 0x48, 0x83, 0xc4, 8); /* add rsp, 8: the return address */
    asm_jump_to(a, JMP, e->leave_op);
}

static void load_low(struct asm_buf *a)
{
    asm_rm(a, 4, ASM_0F | 0xae, 2, HOST_VCPU, OFF_MXCSR); /* ldmxcsr */
    move_low(a, false);
}

/* Nothing is live, or legacy SSE's. */
static void load_all(struct asm_buf *a)
{
    uint8_t *none, *has_low, *has_zmm;

    none = jump_below(a, VEC_SSE);
    has_low = asm_jump(a, JMP);
    asm_land(a, none, a->at);
    load_low(a);
    asm_land(a, has_low, a->at);
    move_upper(a, false, false);
    test_dword(a, offsetof(struct vcpu, xcr0), XCR0_ZMM_HI);
    has_zmm = asm_jump(a, CC_NOT_ZERO);
    set_byte(a, OFF_LIVE, VEC_AVX);
    ASM(a, 0xc3);
    asm_land(a, has_zmm, a->at);
    move_upper(a, false, true);
    move_more(a, false);
    set_byte(a, OFF_LIVE, VEC_AVX512);
    ASM(a, 0xc3);
}

void emit_vec_load_stubs(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;
    struct refusals refusals;

    e->vec_load[VEC_SSE] = a->at;
    check(a, VEC_SSE, &refusals);
    e->vec_reload[VEC_SSE] = a->at;
    load_low(a);
    set_byte(a, OFF_LIVE, VEC_SSE);
    ASM(a, 0xc3);
    land_refusals(e, &refusals);
    e->vec_reload[VEC_AVX] = a->at;
    e->vec_reload[VEC_AVX512] = a->at;
    load_all(a);
    for (unsigned level = VEC_AVX; level <= VEC_AVX512; level++) {
        e->vec_load[level] = a->at;
        check(a, (enum vec_level)level, &refusals);
        asm_jump_to(a, JMP, e->vec_reload[level]);
        land_refusals(e, &refusals);
    }
}

/* --- out --- */

/* C expects the default control bits, and ref/native.c to know of flags that are set. */
static void settle_mxcsr(struct asm_buf *a)
{
    asm_rm(a, 4, ASM_0F | 0xae, 3, HOST_VCPU, OFF_MXCSR); /* stmxcsr */
    ASM(a, 0x68);                                         /* push 0x1f80 */
    asm_imm(a, MXCSR_DEFAULT, 4);
    ASM(a, 0x0f, 0xae, 0x14, 0x24);    /* ldmxcsr [rsp] */
    ASM(a, 0x48, 0x8d, 0x64, 0x24, 8); /* lea rsp, [rsp + 8] */
    set_byte(a, OFF_FLAGS, 0);
}

void emit_vec_park_stub(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;
    uint8_t *only_low, *only_avx;

    e->vec_park = a->at;
    move_low(a, true);
    only_low = jump_below(a, VEC_AVX);
    move_upper(a, true, false);
    only_avx = jump_below(a, VEC_AVX512);
    move_upper(a, true, true);
    move_more(a, true);
    asm_land(a, only_avx, a->at);
    ASM(a, 0xc5, 0xf8, 0x77); /* vzeroupper: legacy SSE of C is slow without */
    asm_land(a, only_low, a->at);
    set_byte(a, OFF_LIVE, VEC_NONE);
    settle_mxcsr(a);
    ASM(a, 0xc3);
}

/* --- in the places that need them --- */

void emit_vec_park(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;
    uint8_t *over = jump_below(a, VEC_SSE);

    asm_jump_to(a, CALL, e->vec_park);
    asm_land(a, over, a->at);
}

void emit_vec_need(struct translation *t, struct flags_use use, enum vec_level level)
{
    const struct op *ops;
    uint8_t *jump;

    if (t->vec >= level) {
        return;
    }
    emit_flags_give_up(t, use);
    t->t1_group = NULL; /* gone on the way out */
    ops = emit_resume_op(t);
    jump = jump_below(t->a, level);
    if (t->slow_count >= sizeof(t->slow) / sizeof(t->slow[0]) || !ops) {
        t->has_failed = true;
        return;
    }
    t->slow[t->slow_count++] =
        (struct slow){.from = jump, .ops = ops, .resume = t->a->at, .vec_load = level};
    t->vec = level;
}
