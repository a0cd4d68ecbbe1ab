/* lower_int.c — integer instructions: encoded anew, with the guest's registers renamed. */
#include "hv/soft/emit/emit_int.h"

/* --- registers --- */

unsigned emit_host_reg(unsigned guest)
{
    switch (guest) {
    case GPR_RSP: return HOST_R15;
    case GPR_R10:
    case GPR_R11:
    case GPR_R14:
    case GPR_R15: return HOST_NONE;
    default: return guest;
    }
}

unsigned emit_use(struct translation *t, unsigned guest, unsigned scratch)
{
    unsigned host = emit_host_reg(guest);

    if (host != HOST_NONE) {
        return host;
    }
    asm_load(t->a, scratch, HOST_VCPU, 8u * guest);
    return scratch;
}

unsigned emit_target(unsigned guest, unsigned scratch)
{
    unsigned host = emit_host_reg(guest);

    return host == HOST_NONE ? scratch : host;
}

void emit_put(struct translation *t, unsigned guest, unsigned host)
{
    if (emit_host_reg(guest) == HOST_NONE) {
        asm_store(t->a, host, HOST_VCPU, 8u * guest);
    }
}

/* --- the usual form: ModRM, perhaps an immediate --- */

#define DIGIT 0x80u /* not an operand: the opcode's extension */

struct form {
    uint32_t opcode;
    unsigned size;
    unsigned rm;  /* operand index */
    unsigned reg; /* operand index, or DIGIT | extension */
    unsigned imm_len;
    bool writes_rm, writes_reg;
    bool is_new;   /* the register that is written is not read */
    bool needs_rr; /* means something else with memory */
};

static const struct insn_operand *reg_operand(const struct insn *insn, const struct form *f)
{
    return f->reg & DIGIT ? NULL : &insn->operand[f->reg];
}

static bool needs_rex(const struct insn_operand *o)
{
    unsigned host = emit_host_reg(o->reg);

    return !o->is_high8 && (host >= 8 || (o->size == 1 && host >= 4));
}

/* AH to BH cannot be named together with anything that needs a REX prefix. */
static bool can_encode(const struct insn *insn, const struct form *f)
{
    const struct insn_operand *rm = &insn->operand[f->rm], *reg = reg_operand(insn, f);
    bool has_high = reg && reg->is_high8, has_rex = f->size == 8 || (reg && needs_rex(reg));

    if (rm->kind == INSN_MEM) {
        return emit_can_address(insn) && rm->size <= 8 && rm->size > 0 && !has_high;
    }
    if (rm->kind != INSN_GPR) {
        return false;
    }
    return !((has_high || rm->is_high8) && (has_rex || needs_rex(rm)));
}

static unsigned named(struct translation *t, const struct insn_operand *o, unsigned scratch)
{
    return o->is_high8 ? o->reg + 4u : emit_use(t, o->reg, scratch);
}

static uint32_t rex_for(const struct insn_operand *o)
{
    return o && o->kind == INSN_GPR && o->size == 1 && !o->is_high8 ? ASM_REX : 0;
}

/* ASM_REX is harmless but for AH to BH. */
static uint32_t final_opcode(const struct insn *insn, const struct form *f)
{
    const struct insn_operand *rm = &insn->operand[f->rm], *reg = reg_operand(insn, f);
    bool has_high = rm->is_high8 || (reg && reg->is_high8);

    return f->opcode | (has_high ? 0 : rex_for(rm) | rex_for(reg)) |
           (insn->has_lock ? ASM_PREFIX(0xf0) : 0);
}

/* A register to write without reading it?  What has less than 4 bytes merges. */
static bool is_new(const struct insn_operand *o, const struct form *f, bool is_written)
{
    return f->is_new && is_written && o->size >= 4;
}

/* Is T2 used between the check and the access? */
static bool needs_t2(const struct insn_operand *reg, const struct form *f, enum flags_read read)
{
    return read == READS_ALL || (reg && !reg->is_high8 && !is_new(reg, f, f->writes_reg) &&
                                 emit_host_reg(reg->reg) == HOST_NONE);
}

/* A guest register in memory can be the operand right there, but for writes of 4 bytes, which clear
 * the other 4. */
static bool is_in_vcpu(const struct insn_operand *rm, const struct form *f)
{
    return rm->kind == INSN_GPR && !rm->is_high8 && emit_host_reg(rm->reg) == HOST_NONE &&
           !f->needs_rr && !(f->writes_rm && f->size == 4);
}

/* The operand that ModRM.rm names, unless it is the guest's memory; returns the register that it is
 * in. */
static unsigned emit_rm(struct translation *t, const struct insn *insn, const struct form *f,
                        unsigned reg)
{
    const struct insn_operand *rm = &insn->operand[f->rm];
    unsigned m = HOST_NONE;

    if (is_in_vcpu(rm, f)) {
        asm_rm(t->a, f->size, final_opcode(insn, f), reg, HOST_VCPU, 8 * rm->reg);
    } else {
        m = is_new(rm, f, f->writes_rm) ? emit_target(rm->reg, HOST_T1) : named(t, rm, HOST_T1);
        asm_rr(t->a, f->size, final_opcode(insn, f), reg, m);
    }
    return m;
}

static bool emit_form(struct translation *t, const struct insn *insn, const struct form *f)
{
    const struct insn_operand *rm = &insn->operand[f->rm], *reg = reg_operand(insn, f);
    struct flags_use use = emit_flags_of(t, insn);
    unsigned r = f->reg & 7, m = HOST_NONE;

    if (!can_encode(insn, f)) {
        return false;
    }
    if (rm->kind == INSN_MEM) {
        emit_access(t, insn, insn->mem_access & INSN_MEM_WRITE ? TLB_WRITE : TLB_READ, rm->size,
                    !needs_t2(reg, f, use.read));
    }
    emit_flags_need(t, use.read);
    if (reg) {
        r = is_new(reg, f, f->writes_reg) ? emit_target(reg->reg, HOST_T2) : named(t, reg, HOST_T2);
    }
    if (rm->kind == INSN_MEM) {
        emit_mem(t, f->size, final_opcode(insn, f), r);
    } else {
        m = emit_rm(t, insn, f, r);
    }
    if (f->imm_len) {
        asm_imm(t->a, (uint64_t)insn->imm, f->imm_len);
    }
    if (reg && f->writes_reg && !reg->is_high8) {
        emit_put(t, reg->reg, r);
    }
    if (rm->kind == INSN_GPR && f->writes_rm && !rm->is_high8 && m != HOST_NONE) {
        emit_put(t, rm->reg, m);
    }
    t->flags = use.writes ? FLAGS_HOST : t->flags;
    t->keeps_t1 = rm->kind == INSN_MEM || m != HOST_T1;
    return true;
}

/* --- families --- */

static unsigned imm_bytes(unsigned size)
{
    return size < 4 ? size : 4;
}

static bool is_imm8(const struct insn *insn, unsigned size)
{
    int64_t x = size == 2 ? (int16_t)insn->imm : size == 4 ? (int32_t)insn->imm : insn->imm;

    return size > 1 && x == (int8_t)x;
}

/* Two registers, of which only the second is in memory: better as the operand of a load. */
static bool prefers_load(const struct insn *insn)
{
    const struct insn_operand *d = &insn->operand[0], *s = &insn->operand[1];

    return d->kind == INSN_GPR && s->kind == INSN_GPR && !d->is_high8 && !s->is_high8 &&
           emit_host_reg(d->reg) != HOST_NONE && emit_host_reg(s->reg) == HOST_NONE;
}

static bool lower_binary(struct translation *t, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, wide = size > 1;
    unsigned base = insn->op == INSN_TEST ? 0x84u : (unsigned)(insn->op - INSN_ADD) * 8u;
    bool writes = insn->op != INSN_CMP && insn->op != INSN_TEST;
    struct form f = {.opcode = base + wide, .size = size, .reg = 1, .writes_rm = writes};

    if (insn->operand[1].kind == INSN_IMM) {
        f.imm_len = imm_bytes(size);
        f.reg = DIGIT | (insn->op == INSN_TEST ? 0 : (unsigned)(insn->op - INSN_ADD));
        f.opcode = (insn->op == INSN_TEST ? 0xf6u : 0x80u) + wide;
        if (insn->op != INSN_TEST && is_imm8(insn, size)) {
            f.opcode = 0x83;
            f.imm_len = 1;
        }
    } else if (insn->operand[1].kind == INSN_MEM || prefers_load(insn)) {
        f.rm = 1;
        f.reg = 0;
        f.writes_rm = false;
        f.writes_reg = writes;
        f.opcode += insn->op == INSN_TEST ? 0 : 2;
    }
    return emit_form(t, insn, &f);
}

static bool lower_unary(struct translation *t, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, base = 0xf6, digit = 2;

    switch (insn->op) {
    case INSN_INC:
    case INSN_DEC:
        base = 0xfe;
        digit = insn->op == INSN_DEC;
        break;
    case INSN_NEG: digit = 3; break;
    case INSN_NOT: digit = 2; break;
    case INSN_MUL: digit = 4; break;
    default: digit = 5; break; /* IMUL */
    }
    return emit_form(t, insn,
                     &(struct form){.opcode = base + (size > 1),
                                    .size = size,
                                    .reg = DIGIT | digit,
                                    .writes_rm = insn->op != INSN_MUL && insn->op != INSN_IMUL});
}

static bool lower_shift(struct translation *t, const struct insn *insn)
{
    static const uint8_t digit[] = {0, 1, 2, 3, 4, 5, 7};
    unsigned size = insn->operand[0].size, wide = size > 1;
    bool is_imm = insn->operand[1].kind == INSN_IMM;

    return emit_form(t, insn,
                     &(struct form){.opcode = (is_imm ? 0xc0u : 0xd2u) + wide,
                                    .size = size,
                                    .reg = DIGIT | digit[insn->op - INSN_ROL],
                                    .imm_len = is_imm,
                                    .writes_rm = true});
}

static bool lower_double_shift(struct translation *t, const struct insn *insn)
{
    bool is_imm = insn->operand[2].kind == INSN_IMM;

    return emit_form(
        t, insn,
        &(struct form){.opcode = ASM_0F | (insn->op == INSN_SHLD ? 0xa4u : 0xacu) | !is_imm,
                       .size = insn->operand[0].size,
                       .reg = 1,
                       .imm_len = is_imm,
                       .writes_rm = true});
}

static bool lower_mov(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *d = &insn->operand[0], *s = &insn->operand[1];
    unsigned size = d->size, wide = size > 1;
    struct form f = {
        .opcode = 0x88 + wide, .size = size, .reg = 1, .writes_rm = true, .is_new = true};

    if (s->kind == INSN_IMM) {
        if (d->kind == INSN_GPR && size >= 4) {
            unsigned host = emit_target(d->reg, HOST_T1);

            asm_mov_imm(t->a, host, size == 4 ? (uint32_t)insn->imm : (uint64_t)insn->imm);
            emit_put(t, d->reg, host);
            return true;
        }
        f.opcode = 0xc6 + wide;
        f.reg = DIGIT;
        f.imm_len = imm_bytes(size);
    } else if (s->kind == INSN_MEM || prefers_load(insn)) {
        f = (struct form){
            .opcode = 0x8a + wide, .size = size, .rm = 1, .writes_reg = true, .is_new = true};
    }
    return emit_form(t, insn, &f);
}

static bool lower_extend(struct translation *t, const struct insn *insn)
{
    unsigned from = insn->operand[1].size;
    uint32_t opcode =
        from == 4 ? 0x63u : ASM_0F | (insn->op == INSN_MOVZX ? 0xb6u : 0xbeu) | (from == 2);

    if (insn->operand[0].size == from) {
        return lower_mov(t, insn);
    }
    return emit_form(t, insn,
                     &(struct form){.opcode = opcode,
                                    .size = insn->operand[0].size,
                                    .rm = 1,
                                    .writes_reg = true,
                                    .is_new = true});
}

static bool lower_lea(struct translation *t, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, host = emit_target(insn->operand[0].reg, HOST_T1);
    struct insn wide = *insn;

    wide.addrsize = 8;
    if (size < 4 || insn->addrsize < 4 || !emit_can_address(&wide)) {
        return false;
    }
    emit_address(t, insn, insn->addrsize == 4 ? 4 : size, host);
    emit_put(t, insn->operand[0].reg, host);
    return true;
}

/* Register = operation of r/m. */
static bool lower_from_rm(struct translation *t, const struct insn *insn, uint32_t opcode)
{
    return emit_form(
        t, insn,
        &(struct form){
            .opcode = opcode, .size = insn->operand[0].size, .rm = 1, .writes_reg = true});
}

static bool lower_imul(struct translation *t, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;

    if (insn->operand_count == 1) {
        return lower_unary(t, insn);
    }
    if (insn->operand_count == 2) {
        return lower_from_rm(t, insn, ASM_0F | 0xaf);
    }
    return emit_form(
        t, insn,
        &(struct form){
            .opcode = 0x69, .size = size, .rm = 1, .imm_len = imm_bytes(size), .writes_reg = true});
}

/* With an index in a register, the address depends on it. */
static bool lower_bit_test(struct translation *t, const struct insn *insn)
{
    unsigned digit = (unsigned)(insn->op - INSN_BT);
    bool is_imm = insn->operand[1].kind == INSN_IMM;

    if (!is_imm && insn->operand[0].kind == INSN_MEM) {
        return false;
    }
    return emit_form(t, insn,
                     &(struct form){.opcode = ASM_0F | (is_imm ? 0xbau : 0xa3u + 8u * digit),
                                    .size = insn->operand[0].size,
                                    .reg = is_imm ? DIGIT | (4 + digit) : 1,
                                    .imm_len = is_imm,
                                    .writes_rm = insn->op != INSN_BT,
                                    .needs_rr = !is_imm});
}

static bool lower_exchange(struct translation *t, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, wide = size > 1;
    unsigned rm = insn->operand[1].kind == INSN_MEM; /* XCHG may name it second */
    uint32_t opcode = insn->op == INSN_XCHG   ? 0x86u
                      : insn->op == INSN_XADD ? ASM_0F | 0xc0u
                                              : ASM_0F | 0xb0u;

    return emit_form(t, insn,
                     &(struct form){.opcode = opcode + wide,
                                    .size = size,
                                    .rm = rm,
                                    .reg = 1 - rm,
                                    .writes_rm = true,
                                    .writes_reg = insn->op != INSN_CMPXCHG,
                                    .needs_rr = true});
}

static bool lower_setcc(struct translation *t, const struct insn *insn)
{
    return emit_form(t, insn,
                     &(struct form){.opcode = ASM_0F | 0x90u | (insn->cond & 15u),
                                    .size = 1,
                                    .reg = DIGIT,
                                    .writes_rm = true});
}

static bool lower_bswap(struct translation *t, const struct insn *insn)
{
    unsigned size = insn->operand[0].size, host;

    if (size < 4) {
        return false;
    }
    host = emit_use(t, insn->operand[0].reg, HOST_T1);
    ASM(t->a, (uint8_t)(0x40 | (size == 8 ? 8 : 0) | host >> 3), 0x0f,
        (uint8_t)(0xc8 | (host & 7)));
    emit_put(t, insn->operand[0].reg, host);
    return true;
}

/* One byte that names no register that is renamed. */
static bool lower_byte(struct translation *t, const struct insn *insn, uint8_t opcode,
                       unsigned size)
{
    struct flags_use use = emit_flags_of(t, insn);

    emit_flags_need(t, use.read);
    if (size == 2) {
        ASM(t->a, 0x66);
    } else if (size == 8) {
        ASM(t->a, 0x48);
    }
    ASM(t->a, opcode);
    t->flags = use.writes ? FLAGS_HOST : t->flags;
    return true;
}

static bool lower_single(struct translation *t, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_CBW: return lower_byte(t, insn, 0x98, insn->opsize);
    case INSN_CWD: return lower_byte(t, insn, 0x99, insn->opsize);
    case INSN_CLC: return lower_byte(t, insn, 0xf8, 4);
    case INSN_STC: return lower_byte(t, insn, 0xf9, 4);
    case INSN_CMC: return lower_byte(t, insn, 0xf5, 4);
    case INSN_LAHF: return lower_byte(t, insn, 0x9f, 4);
    case INSN_SAHF: return lower_byte(t, insn, 0x9e, 4);
    case INSN_BSWAP: return lower_bswap(t, insn);
    case INSN_NOP:
    case INSN_LFENCE:
    case INSN_SFENCE:
    case INSN_PREFETCH: return true;
    case INSN_MFENCE: ASM(t->a, 0x0f, 0xae, 0xf0); return true;
    default: return false;
    }
}

/* On memory alone; rAX, rBX, rCX and rDX are where they are on the host. */
static bool lower_exchange_wide(struct translation *t, const struct insn *insn)
{
    struct flags_use use = emit_flags_of(t, insn);
    unsigned size = insn->operand[0].size;

    if (!emit_can_address(insn)) {
        return false;
    }
    emit_access(t, insn, TLB_WRITE, size, use.read == READS_NONE);
    emit_flags_need(t, use.read);
    emit_mem(t, size == 16 ? 8 : 4, ASM_0F | 0xc7 | (insn->has_lock ? ASM_PREFIX(0xf0) : 0), 1);
    t->flags = FLAGS_HOST;
    return true;
}

/* Register = what CRC32, ADCX and ADOX make of it and r/m. */
static bool lower_accumulate(struct translation *t, const struct insn *insn, uint32_t opcode)
{
    unsigned from = insn->operand[1].size, to = insn->operand[0].size;

    return emit_form(t, insn,
                     &(struct form){.opcode = opcode | (from > 1 && insn->op == INSN_CRC32),
                                    .size = from == 1 ? to : from,
                                    .rm = 1,
                                    .writes_reg = true});
}

static bool lower_movbe(struct translation *t, const struct insn *insn)
{
    bool is_store = insn->operand[0].kind == INSN_MEM;

    return emit_form(t, insn,
                     &(struct form){.opcode = ASM_0F38 | 0xf0u | is_store,
                                    .size = insn->operand[0].size,
                                    .rm = !is_store,
                                    .reg = is_store,
                                    .writes_reg = !is_store});
}

static bool lower_direction(struct translation *t, const struct insn *insn)
{
    bool is_set = insn->op == INSN_STD;

    emit_flags_give_up(t, emit_flags_of(t, insn));
    asm_rm(t->a, 4, 0x81, is_set ? 1 : 4, HOST_VCPU, offsetof(struct vcpu, rflags));
    asm_imm(t->a, is_set ? FLAG_DF : ~FLAG_DF, 4);
    return true;
}

/* 16 bits, extended in a wider register. */
static bool lower_from_sreg(struct translation *t, const struct insn *insn)
{
    const struct insn_operand *d = &insn->operand[0];
    int32_t at =
        (int32_t)(offsetof(struct vcpu, seg) + insn->operand[1].reg * sizeof(struct cpu_segment) +
                  offsetof(struct cpu_segment, selector));
    unsigned host = HOST_T2;

    if (d->kind == INSN_MEM) {
        if (!emit_can_address(insn)) {
            return false;
        }
        emit_access(t, insn, TLB_WRITE, 2, false);
        asm_rm(t->a, 4, ASM_0F | 0xb7, HOST_T2, HOST_VCPU, at);
        emit_mem(t, 2, 0x89, HOST_T2);
        return true;
    }
    if (d->size == 2) {
        host = emit_use(t, d->reg, HOST_T2);
        asm_rm(t->a, 2, 0x8b, host, HOST_VCPU, at);
    } else {
        host = emit_target(d->reg, HOST_T2);
        asm_rm(t->a, 4, ASM_0F | 0xb7, host, HOST_VCPU, at);
    }
    emit_put(t, d->reg, host);
    return true;
}

static bool lower_other(struct translation *t, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_CMPXCHG8B:
    case INSN_CMPXCHG16B: return lower_exchange_wide(t, insn);
    case INSN_CRC32: return lower_accumulate(t, insn, ASM_PREFIX(0xf2) | ASM_0F38 | 0xf0);
    case INSN_ADCX: return lower_accumulate(t, insn, ASM_PREFIX(0x66) | ASM_0F38 | 0xf6);
    case INSN_ADOX: return lower_accumulate(t, insn, ASM_PREFIX(0xf3) | ASM_0F38 | 0xf6);
    case INSN_MOVBE: return lower_movbe(t, insn);
    case INSN_CLD:
    case INSN_STD: return lower_direction(t, insn);
    case INSN_MOV_FROM_SREG: return lower_from_sreg(t, insn);
    default: return lower_single(t, insn);
    }
}

static bool lower_scan(struct translation *t, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_BSF: return lower_from_rm(t, insn, ASM_0F | 0xbc);
    case INSN_BSR: return lower_from_rm(t, insn, ASM_0F | 0xbd);
    case INSN_TZCNT: return lower_from_rm(t, insn, ASM_PREFIX(0xf3) | ASM_0F | 0xbc);
    case INSN_LZCNT: return lower_from_rm(t, insn, ASM_PREFIX(0xf3) | ASM_0F | 0xbd);
    case INSN_POPCNT: return lower_from_rm(t, insn, ASM_PREFIX(0xf3) | ASM_0F | 0xb8);
    default: return lower_other(t, insn);
    }
}

bool emit_lower_int(struct translation *t, const struct insn *insn)
{
    switch (insn->op) {
    case INSN_ADD:
    case INSN_OR:
    case INSN_ADC:
    case INSN_SBB:
    case INSN_AND:
    case INSN_SUB:
    case INSN_XOR:
    case INSN_CMP:
    case INSN_TEST: return lower_binary(t, insn);
    case INSN_INC:
    case INSN_DEC:
    case INSN_NEG:
    case INSN_NOT:
    case INSN_MUL: return lower_unary(t, insn);
    case INSN_IMUL: return lower_imul(t, insn);
    case INSN_ROL:
    case INSN_ROR:
    case INSN_RCL:
    case INSN_RCR:
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR: return lower_shift(t, insn);
    case INSN_SHLD:
    case INSN_SHRD: return lower_double_shift(t, insn);
    case INSN_MOV:
    case INSN_MOVNTI: return lower_mov(t, insn);
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD: return lower_extend(t, insn);
    case INSN_LEA: return lower_lea(t, insn);
    case INSN_CMOVCC: return lower_from_rm(t, insn, ASM_0F | 0x40u | (insn->cond & 15u));
    case INSN_SETCC: return lower_setcc(t, insn);
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC: return lower_bit_test(t, insn);
    case INSN_XCHG:
    case INSN_XADD:
    case INSN_CMPXCHG: return lower_exchange(t, insn);
    default: return lower_scan(t, insn);
    }
}
