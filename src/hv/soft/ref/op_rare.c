/* op_rare.c — integer instructions that need no speed: XLAT, BOUND, decimal adjustment, PAUSE,
 * cache control, random numbers. */
#include <sched.h>

#include "hv/soft/ref/lower_int.h"

#define PAUSES_PER_YIELD 256u

static uint8_t get_al(const struct vcpu *v)
{
    return (uint8_t)v->gpr[GPR_RAX];
}

static void set_ax(struct vcpu *v, uint16_t ax)
{
    v->gpr[GPR_RAX] = (v->gpr[GPR_RAX] & ~UINT64_C(0xffff)) | ax;
}

static void set_al(struct vcpu *v, uint8_t al)
{
    v->gpr[GPR_RAX] = (v->gpr[GPR_RAX] & ~UINT64_C(0xff)) | al;
}

/* Flags of a byte result: SF ZF PF as TEST gives them, CF and AF as told, OF clear. */
static void set_flags(struct vcpu *v, uint8_t result, bool cf, bool af)
{
    uint16_t f;

    __asm__("testb %1, %1; " ASM_FLAGS_OUT : "=&a"(f) : "q"(result) : "cc");
    f &= (uint16_t) ~(AF_CF | AF_AF | AF_OF);
    v->aflags = (uint16_t)(f | (cf ? AF_CF : 0) | (af ? AF_AF : 0));
}

static enum ref_result xlat(struct vcpu *v, const struct insn *insn)
{
    uint64_t offset = v->gpr[GPR_RBX] + get_al(v);

    if (insn->addrsize < 8) {
        offset &= insn->addrsize == 4 ? UINT32_MAX : UINT16_MAX;
    }
    set_al(v, mmu_read8(v, ref_linear(v, (enum cpu_seg)insn->seg, offset, 1, false)));
    return REF_NEXT;
}

static enum ref_result bound(struct vcpu *v, const struct insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t la = ref_ea(v, insn, 2 * size, false);
    int64_t index, low, high;

    if (size == 2) {
        index = (int16_t)v->gpr[insn->operand[0].reg];
        low = (int16_t)mmu_read16(v, la);
        high = (int16_t)mmu_read16(v, la + 2);
    } else {
        index = (int32_t)v->gpr[insn->operand[0].reg];
        low = (int32_t)mmu_read32(v, la);
        high = (int32_t)mmu_read32(v, la + 4);
    }
    if (index < low || index > high) {
        vcpu_raise(v, EXC_BR);
    }
    return REF_NEXT;
}

/* --- decimal: SDM volume 2, the pseudo code of each --- */

static enum ref_result aaa_aas(struct vcpu *v, const struct insn *insn)
{
    bool adjust = (get_al(v) & 0xf) > 9 || (v->aflags & AF_AF);
    uint16_t ax = (uint16_t)v->gpr[GPR_RAX];

    if (adjust) {
        ax = insn->op == INSN_AAA ? (uint16_t)(ax + 0x106) : (uint16_t)(ax - 0x106);
    }
    set_ax(v, ax & 0xff0f);
    set_flags(v, get_al(v), adjust, adjust);
    return REF_NEXT;
}

static enum ref_result aam(struct vcpu *v, const struct insn *insn)
{
    uint8_t base = (uint8_t)insn->imm, al = get_al(v);

    if (base == 0) {
        vcpu_raise(v, EXC_DE);
    }
    /* cppcheck-suppress zerodivcond ; vcpu_raise() does not return */
    set_ax(v, (uint16_t)(al / base << 8 | al % base));
    set_flags(v, get_al(v), false, false);
    return REF_NEXT;
}

static enum ref_result aad(struct vcpu *v, const struct insn *insn)
{
    uint8_t ah = (uint8_t)(v->gpr[GPR_RAX] >> 8);

    set_ax(v, (uint8_t)(get_al(v) + ah * (uint8_t)insn->imm));
    set_flags(v, get_al(v), false, false);
    return REF_NEXT;
}

static enum ref_result daa_das(struct vcpu *v, const struct insn *insn)
{
    uint8_t al = get_al(v), old = al;
    bool old_cf = v->aflags & AF_CF, cf = false, af = false, is_add = insn->op == INSN_DAA;

    if ((al & 0xf) > 9 || (v->aflags & AF_AF)) {
        cf = old_cf || (is_add ? al > 0xff - 6 : al < 6);
        al = (uint8_t)(is_add ? al + 6 : al - 6);
        af = true;
    }
    if (old > 0x99 || old_cf) {
        al = (uint8_t)(is_add ? al + 0x60 : al - 0x60);
        cf = true;
    } else if (is_add) {
        cf = false;
    }
    set_al(v, al);
    set_flags(v, al, cf, af);
    return REF_NEXT;
}

static enum ref_result salc(struct vcpu *v, const struct insn *insn __attribute__((unused)))
{
    set_al(v, v->aflags & AF_CF ? 0xff : 0);
    return REF_NEXT;
}

/* --- hints --- */

/* A guest that spins may wait for a vCPU that has no host CPU. */
static enum ref_result do_pause(struct vcpu *v, const struct insn *insn __attribute__((unused)))
{
    if (++v->pause_count % PAUSES_PER_YIELD == 0) {
        (void)sched_yield();
    }
    return REF_NEXT;
}

static enum ref_result cache_line(struct vcpu *v, const struct insn *insn)
{
    mmu_check_read(v, ref_ea(v, insn, 1, false), 1);
    return REF_NEXT;
}

/* --- ADCX, ADOX: carry chains in CF or OF alone --- */

static enum ref_result carry_add(struct vcpu *v, const struct insn *insn)
{
    uint16_t flag = insn->op == INSN_ADCX ? AF_CF : AF_OF;
    uint64_t a = ref_operand_read(v, insn, 0), b = ref_operand_read(v, insn, 1), sum;
    bool carry = v->aflags & flag;

    if (insn->operand[0].size == 4) {
        sum = (uint64_t)(uint32_t)a + (uint32_t)b + carry;
        carry = sum >> 32;
    } else {
        bool first = __builtin_add_overflow(a, b, &sum);

        carry = __builtin_add_overflow(sum, (uint64_t)carry, &sum) || first;
    }
    ref_operand_write(v, insn, 0, sum);
    v->aflags = (uint16_t)((v->aflags & ~flag) | (carry ? flag : 0));
    return REF_NEXT;
}

/* --- random numbers: the host's --- */

static bool host_random(bool is_seed, uint64_t *ret_value)
{
    bool ok;

    if (is_seed) {
        __asm__ volatile("rdseed %0; setc %1" : "=r"(*ret_value), "=qm"(ok)::"cc");
    } else {
        __asm__ volatile("rdrand %0; setc %1" : "=r"(*ret_value), "=qm"(ok)::"cc");
    }
    return ok;
}

static enum ref_result random_number(struct vcpu *v, const struct insn *insn)
{
    bool is_seed = insn->op == INSN_RDSEED, ok;
    uint64_t value = 0;

    ok = host_random(is_seed, &value);
    ref_operand_write(v, insn, 0, ok ? value : 0);
    v->aflags = ok ? AF_CF : 0;
    return REF_NEXT;
}

bool lower_rare(struct lower *lw, const struct insn *insn)
{
    ref_insn_fn fn;

    switch (insn->op) {
    case INSN_XLAT: fn = xlat; break;
    case INSN_BOUND: fn = bound; break;
    case INSN_AAA:
    case INSN_AAS: fn = aaa_aas; break;
    case INSN_AAM: fn = aam; break;
    case INSN_AAD: fn = aad; break;
    case INSN_DAA:
    case INSN_DAS: fn = daa_das; break;
    case INSN_SALC: fn = salc; break;
    case INSN_PAUSE: fn = do_pause; break;
    case INSN_CLFLUSH:
    case INSN_CLFLUSHOPT:
    case INSN_CLWB: fn = cache_line; break;
    case INSN_ADCX:
    case INSN_ADOX: fn = carry_add; break;
    case INSN_RDRAND:
    case INSN_RDSEED: fn = random_number; break;
    default: return false;
    }
    lower_call(lw, insn, fn);
    return true;
}
