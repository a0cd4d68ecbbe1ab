/* vector.c — the guest's vector registers and MXCSR in those of the host.
 *
 * Theory of operation.  v->xsave is where all C code finds the guest's vector state.  Translated
 * code takes it into the host's registers of the same numbers before its first vector instruction
 * and says so in v->vec_live; it may stay there from block to block.  Whatever leaves for C puts it
 * back first (emit_vec_park(), part of every stub that does); C may then use vector registers as it
 * likes, and runs with the MXCSR that it expects.
 *
 * The way in is also where the guest's right to such instructions is looked at: CR0.EM, CR0.TS,
 * CR4.OSFXSR.  Only C code changes these, so they hold as long as the registers are in use.  With
 * an exception unmasked in MXCSR the way is closed as well: the interpreter knows how to raise #XM.
 * MXCSR is changed by instructions that are run by C or look at what they load, so no exception can
 * come up here.
 *
 * vec_load: T1, T2 = an op to leave to if it must not be, and its block.  Destroys EFLAGS.
 * vec_reload: the state was in the registers, the interpreter ran an instruction in between that
 * does not change any of the above, and it is wanted there again. */
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/emit/emit_int.h"
#include "x86/cr.h"

#define CC_ZERO     0x84
#define CC_NOT_ZERO 0x85
#define JMP         0xe9
#define CALL        0xe8

#define XMM_COUNT     16u
#define MXCSR_DEFAULT 0x1f80u
#define MXCSR_MASKS   0x1f80u

#define OFF_XSAVE ((int32_t)offsetof(struct vcpu, xsave))
#define OFF_MXCSR (OFF_XSAVE + FPU_MXCSR)
#define OFF_LIVE  ((int32_t)offsetof(struct vcpu, vec_live))
#define OFF_FLAGS ((int32_t)offsetof(struct vcpu, host_mxcsr_flags))

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

#define AND 4
#define CMP 7

/* --- in --- */

static void load_registers(struct asm_buf *a)
{
    asm_rm(a, 4, ASM_0F | 0xae, 2, HOST_VCPU, OFF_MXCSR); /* ldmxcsr */
    for (unsigned i = 0; i < XMM_COUNT; i++) {
        asm_rm(a, 4, ASM_0F | 0x10, i, HOST_VCPU, OFF_XSAVE + FPU_XMM0 + 16 * (int32_t)i);
    }
    set_byte(a, OFF_LIVE, 1);
    ASM(a, 0xc3);
}

void emit_vec_load_stub(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;
    uint8_t *refuse[3];

    e->vec_load = a->at;
    test_dword(a, offsetof(struct vcpu, cr0), CR0_EM | CR0_TS);
    refuse[0] = asm_jump(a, CC_NOT_ZERO);
    test_dword(a, offsetof(struct vcpu, cr4), CR4_OSFXSR);
    refuse[1] = asm_jump(a, CC_ZERO);
    ASM(a, 0x41, 0x53); /* push r11 */
    asm_rm(a, 4, 0x8b, HOST_T2, HOST_VCPU, OFF_MXCSR);
    t2_imm(a, AND, MXCSR_MASKS);
    t2_imm(a, CMP, MXCSR_MASKS);
    ASM(a, 0x41, 0x5b); /* pop r11 */
    refuse[2] = asm_jump(a, CC_NOT_ZERO);
    e->vec_reload = a->at;
    load_registers(a);
    for (unsigned i = 0; i < 3; i++) {
        asm_land(a, refuse[i], a->at);
    }
    ASM(a, 0x48, 0x83, 0xc4, 8); /* add rsp, 8: the return address */
    asm_jump_to(a, JMP, e->leave_op);
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
    ASM(a, 0xc3);
}

void emit_vec_park_stub(struct emit_cache *e)
{
    struct asm_buf *a = &e->buf;

    e->vec_park = a->at;
    for (unsigned i = 0; i < XMM_COUNT; i++) {
        asm_rm(a, 4, ASM_0F | 0x11, i, HOST_VCPU, OFF_XSAVE + FPU_XMM0 + 16 * (int32_t)i);
    }
    set_byte(a, OFF_LIVE, 0);
    settle_mxcsr(a);
}

/* --- in the places that need them --- */

static uint8_t *jump_if(struct asm_buf *a, uint8_t cond)
{
    asm_rm(a, 1, 0x80, CMP, HOST_VCPU, OFF_LIVE);
    ASM(a, 0);
    return asm_jump(a, cond);
}

void emit_vec_park(struct emit_cache *e)
{
    uint8_t *over = jump_if(&e->buf, CC_ZERO);

    asm_jump_to(&e->buf, CALL, e->vec_park);
    asm_land(&e->buf, over, e->buf.at);
}

void emit_vec_need(struct translation *t, struct flags_use use)
{
    const struct op *ops;
    uint8_t *jump;

    if (t->has_vec) {
        return;
    }
    emit_flags_give_up(t, use);
    t->t1_group = NULL; /* gone on the way out */
    ops = emit_resume_op(t);
    jump = jump_if(t->a, CC_ZERO);
    if (t->slow_count >= sizeof(t->slow) / sizeof(t->slow[0]) || !ops) {
        t->has_failed = true;
        return;
    }
    t->slow[t->slow_count++] =
        (struct slow){.from = jump, .ops = ops, .resume = t->a->at, .is_vec_load = true};
    t->has_vec = true;
}
