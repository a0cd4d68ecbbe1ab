/* flags.c — which instructions read and write arithmetic flags, and where the flags are kept.
 *
 * Undefined flags are the host's, as in the interpreter. */
#include "hv/soft/emit/emit_int.h"
#include "hv/soft/ref/native_stub.h"

#define WRITES  ((struct flags_use){READS_NONE, true})
#define NEITHER ((struct flags_use){READS_NONE, false})

static struct flags_use shift_use(const struct insn *insn)
{
    unsigned mask = insn->operand[0].size == 8 ? 63 : 31;
    bool is_plain = insn->op == INSN_SHL || insn->op == INSN_SHR || insn->op == INSN_SAR;

    /* A count of 0 leaves the flags alone, and rotations leave most of them. */
    if (is_plain && insn->operand[1].kind == INSN_IMM && ((uint64_t)insn->imm & mask)) {
        return WRITES;
    }
    return (struct flags_use){insn->op == INSN_RCL || insn->op == INSN_RCR ? READS_ALL : MERGES_ALL,
                              true};
}

static bool leaves_alone(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_DIV: /* lower_div.c looks after them */
    case INSN_IDIV:
    case INSN_CLD:
    case INSN_STD:
    case INSN_CRC32:
    case INSN_MOVBE:
    case INSN_PDEP:
    case INSN_PEXT:
    case INSN_MULX:
    case INSN_RORX:
    case INSN_SARX:
    case INSN_SHLX:
    case INSN_SHRX:
    case INSN_NOT:
    case INSN_MOV:
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
    case INSN_MOVNTI:
    case INSN_LEA:
    case INSN_XCHG:
    case INSN_BSWAP:
    case INSN_CBW:
    case INSN_CWD:
    case INSN_PUSH:
    case INSN_POP:
    case INSN_LEAVE:
    case INSN_NOP:
    case INSN_LFENCE:
    case INSN_MFENCE:
    case INSN_SFENCE:
    case INSN_PREFETCH:
    case INSN_JMP:
    case INSN_CALL:
    case INSN_RET:
    case INSN_JMP_IND:
    case INSN_CALL_IND:
    case INSN_LOOP:
    case INSN_JRCXZ: return true;
    default: return false;
    }
}

static struct flags_use int_use(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_ADD:
    case INSN_OR:
    case INSN_AND:
    case INSN_SUB:
    case INSN_XOR:
    case INSN_CMP:
    case INSN_TEST:
    case INSN_NEG:
    case INSN_XADD:
    case INSN_CMPXCHG: return WRITES;
    case INSN_ADC:
    case INSN_SBB: return (struct flags_use){READS_CF, true};
    case INSN_ADCX:
    case INSN_ADOX: return (struct flags_use){READS_ALL, true};
    case INSN_INC:
    case INSN_DEC: return (struct flags_use){MERGES_CF, true};
    case INSN_ROL:
    case INSN_ROR:
    case INSN_RCL:
    case INSN_RCR:
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR: return shift_use(insn);
    case INSN_SHLD:
    case INSN_SHRD:
    case INSN_MUL:
    case INSN_IMUL:
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
    case INSN_BSF:
    case INSN_BSR:
    case INSN_TZCNT:
    case INSN_LZCNT:
    case INSN_POPCNT:
    case INSN_CLC:
    case INSN_STC:
    case INSN_CMC:
    case INSN_CMPXCHG16B:
    case INSN_CMPXCHG8B:
    case INSN_ANDN:
    case INSN_BEXTR:
    case INSN_BZHI:
    case INSN_BLSI:
    case INSN_BLSMSK:
    case INSN_BLSR:
    case INSN_SAHF: return (struct flags_use){MERGES_ALL, true};
    default: return leaves_alone(insn) ? NEITHER : (struct flags_use){READS_ALL, false};
    }
}

static struct flags_use system_use(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_CLI:
    case INSN_STI:
    case INSN_SWAPGS:
    case INSN_MOV_FROM_SREG:
    case INSN_MOV_FROM_CR:
    case INSN_MOV_TO_CR:
    case INSN_CLTS:
    case INSN_RDMSR:
    case INSN_WRMSR:
    case INSN_RDTSC:
    case INSN_RDTSCP:
    case INSN_INVLPG:
    case INSN_STAC:
    case INSN_CLAC:
    case INSN_RDFSBASE:
    case INSN_RDGSBASE:
    case INSN_WRFSBASE:
    case INSN_WRGSBASE: return (struct flags_use){READS_NONE, false};
    case INSN_POPF: return (struct flags_use){READS_NONE, true};
    default: return (struct flags_use){READS_ALL, false};
    }
}

struct flags_use emit_flags_use(const struct insn *insn)
{
    switch ((enum insn_class)insn->klass) {
    case INSN_CLASS_INT: return int_use(insn);
    case INSN_CLASS_SIMD: return native_defines_flags(insn) ? WRITES : NEITHER;
    case INSN_CLASS_SYSTEM: return system_use(insn);
    case INSN_CLASS_STRING:
        if (insn->op == INSN_MOVS || insn->op == INSN_STOS || insn->op == INSN_LODS) {
            return NEITHER;
        }
        break;
    case INSN_CLASS_X87: break;
    case INSN_CLASS_AVX: return insn->writes_flags ? WRITES : NEITHER;
    case INSN_CLASS_FPSTATE:
        if (insn->op == INSN_LDMXCSR || insn->op == INSN_STMXCSR || insn->op == INSN_VLDMXCSR ||
            insn->op == INSN_VSTMXCSR) {
            return NEITHER;
        }
        break;
    }
    return (struct flags_use){READS_ALL, false};
}

struct flags_use emit_flags_of(const struct translation *t, const struct insn *insn)
{
    struct flags_use use = emit_flags_use(insn);

    if (use.read == MERGES_CF || use.read == MERGES_ALL) {
        use.read = !t->is_live ? READS_NONE : use.read == MERGES_CF ? READS_CF : READS_ALL;
    }
    return use;
}

/* Changes nothing but T2. */
void emit_flags_save_all(struct asm_buf *a)
{
    asm_mov(a, HOST_T2, HOST_RAX);
    ASM(a, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
    asm_rm(a, 2, 0x89, HOST_RAX, HOST_VCPU, offsetof(struct vcpu, aflags));
    asm_mov(a, HOST_RAX, HOST_T2);
}

void emit_flags_save(struct translation *t)
{
    if (t->flags == FLAGS_HOST) {
        emit_flags_save_all(t->a);
        t->flags = FLAGS_BOTH;
    }
}

void emit_flags_give_up(struct translation *t, struct flags_use use)
{
    bool is_wanted = t->is_live && !use.writes;

    /* what writes them may fault instead */
    if (use.read != READS_NONE || is_wanted || t->v->has_strict_flags) {
        emit_flags_save(t);
    }
    t->flags = FLAGS_SAVED;
}

void emit_flags_load_all(struct asm_buf *a)
{
    asm_mov(a, HOST_T2, HOST_RAX);
    asm_rm(a, 4, ASM_0F | 0xb7, HOST_RAX, HOST_VCPU, offsetof(struct vcpu, aflags));
    ASM(a, 0x04, 0x7f, 0x9e); /* add al, 0x7f; sahf */
    asm_mov(a, HOST_RAX, HOST_T2);
}

void emit_flags_restore(struct translation *t)
{
    if (t->flags == FLAGS_SAVED) {
        emit_flags_load_all(t->a);
        t->flags = FLAGS_BOTH;
    }
}

void emit_flags_need(struct translation *t, enum flags_read read)
{
    if (read == READS_ALL) {
        emit_flags_restore(t);
    } else if (read == READS_CF && t->flags == FLAGS_SAVED) {
        asm_rm(t->a, 2, ASM_0F | 0xba, 4, HOST_VCPU, offsetof(struct vcpu, aflags));
        ASM(t->a, 8); /* bt word [aflags], 8 */
    }
}
