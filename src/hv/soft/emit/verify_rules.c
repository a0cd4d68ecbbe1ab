/* verify_rules.c — what emitted code may consist of: instructions, fields of struct vcpu, stubs. */
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/emit/verify_int.h"

/* --- instructions --- */

/* Integer instructions whose only effects are those on operands that the decoder names, on RAX,
 * RCX, RDX and the arithmetic flags. */
static const uint16_t int_ops[] = {
    INSN_ADD,    INSN_OR,     INSN_ADC,     INSN_SBB,        INSN_AND,       INSN_SUB,
    INSN_XOR,    INSN_CMP,    INSN_TEST,    INSN_INC,        INSN_DEC,       INSN_NEG,
    INSN_NOT,    INSN_MUL,    INSN_IMUL,    INSN_DIV,        INSN_IDIV,      INSN_ROL,
    INSN_ROR,    INSN_RCL,    INSN_RCR,     INSN_SHL,        INSN_SHR,       INSN_SAR,
    INSN_SHLD,   INSN_SHRD,   INSN_BT,      INSN_BTS,        INSN_BTR,       INSN_BTC,
    INSN_BSF,    INSN_BSR,    INSN_TZCNT,   INSN_LZCNT,      INSN_POPCNT,    INSN_BSWAP,
    INSN_MOV,    INSN_MOVZX,  INSN_MOVSX,   INSN_MOVSXD,     INSN_MOVBE,     INSN_MOVNTI,
    INSN_LEA,    INSN_XCHG,   INSN_XADD,    INSN_CMPXCHG,    INSN_CMPXCHG8B, INSN_CMPXCHG16B,
    INSN_CBW,    INSN_CWD,    INSN_SETCC,   INSN_CMOVCC,     INSN_CLC,       INSN_STC,
    INSN_CMC,    INSN_LAHF,   INSN_SAHF,    INSN_NOP,        INSN_PAUSE,     INSN_LFENCE,
    INSN_MFENCE, INSN_SFENCE, INSN_CRC32,   INSN_ADCX,       INSN_ADOX,      INSN_RDRAND,
    INSN_RDSEED, INSN_ANDN,   INSN_BEXTR,   INSN_BZHI,       INSN_BLSI,      INSN_BLSMSK,
    INSN_BLSR,   INSN_PDEP,   INSN_PEXT,    INSN_SHLX,       INSN_SHRX,      INSN_SARX,
    INSN_RORX,   INSN_MULX,   INSN_CLFLUSH, INSN_CLFLUSHOPT, INSN_CLWB,
};

static bool is_listed(unsigned op)
{
    for (size_t i = 0; i < sizeof(int_ops) / sizeof(int_ops[0]); i++) {
        if (int_ops[i] == op) {
            return true;
        }
    }
    return false;
}

_Static_assert(INSN_IDIV - INSN_MUL == 3, "with IMUL and DIV between");

bool verify_writes_pair(const struct insn *insn)
{
    return insn->op >= INSN_MUL && insn->op <= INSN_IDIV && insn->operand_count == 1;
}

bool verify_op_allowed(const struct insn *insn)
{
    switch ((enum insn_class)insn->klass) {
    case INSN_CLASS_INT: return is_listed(insn->op);
    case INSN_CLASS_SIMD:
    case INSN_CLASS_AVX: /* masked stores take their address from RDI, gathers theirs from vectors
                          */
        return insn->op != INSN_MASKMOVQ && insn->op != INSN_MASKMOVDQU && !insn->has_vsib;
    case INSN_CLASS_FPSTATE: return insn->op == INSN_LDMXCSR || insn->op == INSN_STMXCSR;
    case INSN_CLASS_SYSTEM: return insn->op == INSN_RDTSC || insn->op == INSN_RDTSCP;
    case INSN_CLASS_STRING:
    case INSN_CLASS_X87: return false;
    }
    return false;
}

/* --- struct vcpu --- */

struct field {
    size_t offset, len;
    bool may_write;
};

#define FIELD(name, write)                                                      \
    {                                                                           \
        offsetof(struct vcpu, name), sizeof(((struct vcpu *)NULL)->name), write \
    }

/* Pointers that C code follows are not in it, but for `block`, which only the stubs write. */
static const struct field fields[] = {
    FIELD(gpr, true),
    FIELD(ea, true),
    FIELD(rip, true),
    FIELD(rflags, true),
    FIELD(aflags, true),
    FIELD(pause_count, true),
    FIELD(vec_live, false),
    FIELD(poll, false),
    FIELD(cpl, false),
    FIELD(irq_held, false),
    FIELD(branch_site, true),
    FIELD(seg[SEG_FS].base, true),
    FIELD(seg[SEG_GS].base, true),
    FIELD(kernel_gs_base, true),
    FIELD(seg, false),
    FIELD(cr0, false),
    FIELD(cr2, false),
    FIELD(cr3, false),
    FIELD(cr4, false),
    FIELD(tsc_aux, false),
    FIELD(tsc_offset, false),
    FIELD(xsave, true),
    FIELD(window, false),
    FIELD(group_host, true),
    FIELD(stats, true),
    FIELD(xtlb, false),
};

bool verify_field_allowed(int64_t offset, unsigned len, bool is_write)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        int64_t into = offset - (int64_t)fields[i].offset;

        if (into >= 0 && (uint64_t)into + len <= fields[i].len) {
            return fields[i].may_write || !is_write;
        }
    }
    /* cpl and irq_held are looked at as one, and so are pair_limit and poll */
    return !is_write && ((offset == (int64_t)offsetof(struct vcpu, cpl) && len == 2) ||
                         (offset == (int64_t)offsetof(struct vcpu, pair_limit) && len == 8));
}

bool verify_is_tlb(int64_t offset, bool is_user, enum tlb_access *ret_table, int64_t *ret_offset)
{
    int64_t into =
        offset - (int64_t)(offsetof(struct vcpu, tlb) +
                           (is_user ? TLB_USER : TLB_SUPERVISOR) * sizeof(struct tlb_set));
    int64_t bytes = sizeof(((struct tlb_set *)NULL)->slot[0]);

    if (into < 0 || into >= (TLB_WRITE + 1) * bytes) {
        return false;
    }
    *ret_table = (enum tlb_access)(into / bytes);
    *ret_offset = into % bytes;
    return true;
}

/* --- stubs --- */

#define WANTS_T1 1
#define WANTS_T2 2

static bool is_one_of(const uint8_t *const stubs[VEC_LEVELS], const uint8_t *at)
{
    for (unsigned i = VEC_NONE + 1; i < VEC_LEVELS; i++) {
        if (stubs[i] == at) {
            return true;
        }
    }
    return false;
}

/* Those of the own privilege. */
static bool is_string_stub(const struct emit_cache *e, const uint8_t *at, bool is_user)
{
    for (unsigned i = is_user; i < STRING_STUBS; i += 2) {
        if (e->movs[i] == at || e->stos[i] == at) {
            return true;
        }
    }
    return false;
}

bool verify_is_string_stub(const struct emit_cache *e, const uint8_t *at)
{
    return is_string_stub(e, at, false) || is_string_stub(e, at, true);
}

int verify_stub(const struct emit_cache *e, const uint8_t *at, bool is_call, bool is_user)
{
    const struct {
        const uint8_t *at;
        bool is_call;
        int wants;
    } stubs[] = {
        {e->leave_op, false, WANTS_T1 | WANTS_T2},
        {e->leave_site, false, WANTS_T1},
        {e->leave_site_with_flags, false, WANTS_T1},
        {e->leave_entry, false, WANTS_T1},
        {e->leave_miss, false, 0},
        {e->return_miss[is_user ? TLB_USER : TLB_SUPERVISOR], false, 0},
        {e->transfer, false, WANTS_T2},
        {e->run_ops, true, WANTS_T1 | WANTS_T2},
        {e->window_fill[is_user ? TLB_USER : TLB_SUPERVISOR], true, 0},
    };

    for (size_t i = 0; i < sizeof(stubs) / sizeof(stubs[0]); i++) {
        if (stubs[i].at == at && stubs[i].is_call == is_call) {
            return stubs[i].wants;
        }
    }
    if (is_call && is_one_of(e->vec_load, at)) {
        return WANTS_T1 | WANTS_T2;
    }
    if (is_call && is_one_of(e->vec_reload, at)) {
        return 0;
    }
    return is_call && is_string_stub(e, at, is_user) ? 0 : -1;
}
