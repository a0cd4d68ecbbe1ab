/* zydis_test.c — the decoder agrees with Zydis about length, validity, operands and sizes.
 *
 * Inputs: the text of libc, of this program, and random bytes in all modes; EC1_ISA_FILE names a
 * further file of plain code bytes (64-bit), EC1_ISA_CASES and EC1_SEED the random ones.  Where
 * the two differ on purpose is said in is_hidden(), is_looser() and same_operands().
 */
#include <Zydis/Zydis.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <time.h>

#include "base/bits.h"
#include "hv/soft/isa/insn.h"
#include "tests/lib/test.h"

struct bench {
    ZydisDecoder zydis[3]; /* by enum insn_mode */
    unsigned long compared, undefined, hidden;
    unsigned long failed;
};

static void bench_init(struct bench *b)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth width;
    } how[3] = {{ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
                {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
                {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64}};
    unsigned i;

    memset(b, 0, sizeof(*b));
    for (i = 0; i < ARRAY_LEN(how); i++) {
        (void)ZydisDecoderInit(&b->zydis[i], how[i].mode, how[i].width);
    }
}

/* Extensions that no host had on which this could be tried, and those of Xeon Phi. */
static bool is_hidden_avx(const ZydisDecodedInstruction *z)
{
    switch ((int)z->meta.isa_set) {
    case ZYDIS_ISA_SET_AMX_BF16:
    case ZYDIS_ISA_SET_AMX_INT8:
    case ZYDIS_ISA_SET_AMX_TILE:
    case ZYDIS_ISA_SET_AVX512ER_512:
    case ZYDIS_ISA_SET_AVX512ER_SCALAR:
    case ZYDIS_ISA_SET_AVX512PF_512:
    case ZYDIS_ISA_SET_AVX512_4FMAPS_512:
    case ZYDIS_ISA_SET_AVX512_4FMAPS_SCALAR:
    case ZYDIS_ISA_SET_AVX512_4VNNIW_512:
    case ZYDIS_ISA_SET_AVX512_FP16_128:
    case ZYDIS_ISA_SET_AVX512_FP16_128N:
    case ZYDIS_ISA_SET_AVX512_FP16_256:
    case ZYDIS_ISA_SET_AVX512_FP16_512:
    case ZYDIS_ISA_SET_AVX512_FP16_SCALAR:
    case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_128:
    case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_256:
    case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_512:
    case ZYDIS_ISA_SET_AVX_VNNI:
    case ZYDIS_ISA_SET_FMA4:
    case ZYDIS_ISA_SET_XOP: /* VPERMIL2PS, VPERMIL2PD */
    case ZYDIS_ISA_SET_KNCE:
    case ZYDIS_ISA_SET_KNCJKBR:
    case ZYDIS_ISA_SET_KNCSTREAM:
    case ZYDIS_ISA_SET_KNCV:
    case ZYDIS_ISA_SET_KNC_MISC:
    case ZYDIS_ISA_SET_KNC_PF_HINT: return true;
    default: return false;
    }
}

/* Instructions that Zydis knows and guests are not offered. */
static bool is_hidden(const ZydisDecodedInstruction *z)
{
    if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
        z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
        return is_hidden_avx(z);
    }
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
        return true; /* XOP, 3DNow, MVEX */
    }
    switch ((int)z->meta.isa_set) {
    case ZYDIS_ISA_SET_SMX:
    case ZYDIS_ISA_SET_SGX:
    case ZYDIS_ISA_SET_SGX_ENCLV:
    case ZYDIS_ISA_SET_RTM:
    case ZYDIS_ISA_SET_PKU:
    case ZYDIS_ISA_SET_MOVDIR:
    case ZYDIS_ISA_SET_CLZERO:
    case ZYDIS_ISA_SET_SSE4A:
    case ZYDIS_ISA_SET_AMD3DNOW: return true;
    case ZYDIS_ISA_SET_MONITORX:
    case ZYDIS_ISA_SET_RDPRU:
    case ZYDIS_ISA_SET_MCOMMIT:
    case ZYDIS_ISA_SET_SNP:
    case ZYDIS_ISA_SET_AMD_INVLPGB:
    case ZYDIS_ISA_SET_WAITPKG:
    case ZYDIS_ISA_SET_ENQCMD:
    case ZYDIS_ISA_SET_KEYLOCKER:
    case ZYDIS_ISA_SET_KEYLOCKER_WIDE:
    case ZYDIS_ISA_SET_SERIALIZE:
    case ZYDIS_ISA_SET_TSX_LDTRK:
    case ZYDIS_ISA_SET_UINTR:
    case ZYDIS_ISA_SET_TDX:
    case ZYDIS_ISA_SET_HRESET:
    case ZYDIS_ISA_SET_PCONFIG:
    case ZYDIS_ISA_SET_PT:
    case ZYDIS_ISA_SET_VMFUNC: return true;
    case ZYDIS_ISA_SET_VTX: return z->mnemonic != ZYDIS_MNEMONIC_VMCALL;
    case ZYDIS_ISA_SET_SVM: return z->mnemonic != ZYDIS_MNEMONIC_VMMCALL;
    case ZYDIS_ISA_SET_PADLOCK_ACE:
    case ZYDIS_ISA_SET_PADLOCK_PHE:
    case ZYDIS_ISA_SET_PADLOCK_PMM:
    case ZYDIS_ISA_SET_PADLOCK_RNG: return true;
    case ZYDIS_ISA_SET_CET: return z->opcode != 0x1e || z->opcode_map != ZYDIS_OPCODE_MAP_0F;
    default: return z->mnemonic == ZYDIS_MNEMONIC_RSM;
    }
}

/* What we take and Zydis refuses: opcodes of MPX, which are plain hints without it; outside 64-bit
 * mode EVEX.V', which the host's CPU ignores, and rounding of integers that need none. */
static bool is_looser(const struct insn *insn, const uint8_t *bytes, enum insn_mode mode)
{
    if (insn->encoding == INSN_EVEX && mode != INSN_MODE_64) {
        return !(bytes[insn->prefix_len + 3] & 8) || insn->op == INSN_VCVTSI2SD ||
               insn->op == INSN_VCVTUSI2SD;
    }
    return insn->op == INSN_NOP && (insn->opcode & 0xfe) == 0x1a;
}

static void report(struct bench *b, const char *what, const uint8_t *bytes, size_t avail,
                   enum insn_mode mode, const ZydisDecodedInstruction *z, const struct insn *insn)
{
    char text[96];
    size_t i;

    if (b->failed++ > 40) {
        return;
    }
    print_error("%s: mode %d:", what, (int)mode);
    for (i = 0; i < avail && i < INSN_LEN_MAX; i++) {
        print_error(" %02x", bytes[i]);
    }
    print_error("; zydis: %s len %d isa %s; ours: %s len %d\n",
                z ? ZydisMnemonicGetString(z->mnemonic) : "-", z ? z->length : 0,
                z ? ZydisISASetGetString(z->meta.isa_set) : "",
                insn ? insn_print(insn, 0, text) : "-", insn ? insn->len : 0);
}

static unsigned zydis_gpr(ZydisRegister reg, bool *ret_high8)
{
    *ret_high8 = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
    if (*ret_high8) {
        return (unsigned)(reg - ZYDIS_REGISTER_AH);
    }
    return (unsigned)ZydisRegisterGetId(reg);
}

static bool same_reg(const struct insn_operand *o, const ZydisDecodedOperand *z)
{
    ZydisRegister reg = z->reg.value;
    bool high8 = false;
    unsigned id;

    switch ((int)o->kind) {
    case INSN_GPR:
        id = zydis_gpr(reg, &high8);
        if (!high8 && o->size == 1 && reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_DIL) {
            id = (unsigned)(reg - ZYDIS_REGISTER_SPL) + 4;
        } else if (!high8 && o->size == 1) {
            id = reg <= ZYDIS_REGISTER_BL ? (unsigned)(reg - ZYDIS_REGISTER_AL)
                                          : (unsigned)(reg - ZYDIS_REGISTER_R8B) + 8;
        }
        return id == o->reg && high8 == o->is_high8 && z->size == o->size * 8u;
    case INSN_XMM:
        return reg == (ZydisRegister)((o->size == 64   ? ZYDIS_REGISTER_ZMM0
                                       : o->size == 32 ? ZYDIS_REGISTER_YMM0
                                                       : ZYDIS_REGISTER_XMM0) +
                                      o->reg);
    case INSN_MASK: return reg == (ZydisRegister)(ZYDIS_REGISTER_K0 + o->reg);
    case INSN_MMX: return reg == (ZydisRegister)(ZYDIS_REGISTER_MM0 + o->reg);
    case INSN_ST: return reg == (ZydisRegister)(ZYDIS_REGISTER_ST0 + o->reg);
    case INSN_SREG: return reg == (ZydisRegister)(ZYDIS_REGISTER_ES + o->reg);
    case INSN_CREG: return reg == (ZydisRegister)(ZYDIS_REGISTER_CR0 + o->reg);
    case INSN_DREG: return reg == (ZydisRegister)(ZYDIS_REGISTER_DR0 + o->reg);
    default: return false;
    }
}

static uint8_t base_of(ZydisRegister reg)
{
    bool high8;

    if (reg == ZYDIS_REGISTER_NONE) {
        return INSN_NO_REG;
    }
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) {
        return INSN_REG_RIP;
    }
    return (uint8_t)zydis_gpr(reg, &high8);
}

/* 3E on an indirect branch: Zydis calls it NOTRACK and forgets that it is a segment too. */
static bool is_notrack(const struct insn *insn)
{
    return (insn->op == INSN_JMP_IND || insn->op == INSN_CALL_IND) && insn->has_seg_override;
}

static bool same_mem(const struct insn *insn, const struct insn_operand *o,
                     const ZydisDecodedOperand *z)
{
    uint64_t mask = insn->addrsize == 8 ? ~0ull : (1ull << insn->addrsize * 8) - 1;
    unsigned size = z->size / 8;

    if (o->size && size != o->size) {
        return false;
    }
    if (z->mem.type == ZYDIS_MEMOP_TYPE_MEM && !is_notrack(insn) &&
        z->mem.segment != (ZydisRegister)(ZYDIS_REGISTER_ES + insn->seg)) {
        return false;
    }
    if (insn->addrsize == 4 && insn->base == INSN_NO_REG && insn->rex & 1) {
        return true; /* Zydis 4.0 takes no base and disp32 for R13D; the host's CPU does not */
    }
    if ((((uint64_t)z->mem.disp.value ^ (uint64_t)insn->disp) & mask) != 0) {
        return false;
    }
    if (insn->has_vsib) {
        return base_of(z->mem.base) == insn->base && z->mem.scale == insn->scale &&
               ZydisRegisterGetId(z->mem.index) == insn->index &&
               (unsigned)ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, z->mem.index) ==
                   insn->vsib_size * 8u;
    }
    return base_of(z->mem.base) == insn->base && base_of(z->mem.index) == insn->index &&
           (insn->index == INSN_NO_REG || z->mem.scale == insn->scale);
}

static bool same_operand(const struct insn *insn, const struct insn_operand *o,
                         const ZydisDecodedOperand *z)
{
    uint64_t mask;

    switch ((int)z->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER: return same_reg(o, z);
    case ZYDIS_OPERAND_TYPE_MEMORY: return o->kind == INSN_MEM && same_mem(insn, o, z);
    case ZYDIS_OPERAND_TYPE_POINTER:
        return o->kind == INSN_FAR && insn->imm2 == z->ptr.segment && insn->imm == z->ptr.offset;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        if (o->kind == INSN_REL) {
            return z->imm.is_relative && insn->imm == z->imm.value.s;
        }
        mask = o->size >= 8 ? ~0ull : (1ull << o->size * 8) - 1;
        return o->kind == INSN_IMM && ((z->imm.value.u ^ (uint64_t)insn->imm) & mask) == 0;
    default: return false;
    }
}

/* Each x87 register that Zydis names is one of ours, which name ST(0) more often. */
static bool same_x87(const struct insn *insn, const ZydisDecodedInstruction *z,
                     const ZydisDecodedOperand *zo)
{
    unsigned i, k;

    for (i = 0; i < z->operand_count_visible; i++) {
        for (k = 0; k < insn->operand_count; k++) {
            if (same_operand(insn, &insn->operand[k], &zo[i])) {
                break;
            }
        }
        if (k == insn->operand_count) {
            return false;
        }
    }
    return true;
}

static bool same_operands(const struct insn *insn, const ZydisDecodedInstruction *z,
                          const ZydisDecodedOperand *zo)
{
    unsigned i, k = 0, count = z->operand_count_visible;

    switch (insn->op) {
    case INSN_NOP: /* includes hints that Zydis has names for */
    case INSN_UD0:
    case INSN_UD1:
    case INSN_CLFLUSH: /* and caches have lines */
    case INSN_CLFLUSHOPT:
    case INSN_CLWB:
    case INSN_XLAT: return true;
    case INSN_ENTER: return insn->imm == zo[0].imm.value.s && insn->imm2 == zo[1].imm.value.u;
    case INSN_LAR:
    case INSN_LSL:
    case INSN_MOVSXD: count = 1; break; /* the source is 16 bits of whatever register */
    default: break;
    }
    if (insn->klass == INSN_CLASS_STRING || z->mnemonic == ZYDIS_MNEMONIC_PAUSE) {
        return true; /* F3 with REX.B and 90 is XCHG: seen on the host's CPU */
    }
    if (insn->klass == INSN_CLASS_X87) {
        return same_x87(insn, z, zo);
    }
    for (i = 0; i < count; i++) {
        if (zo[i].encoding == ZYDIS_OPERAND_ENCODING_MASK) {
            if (zo[i].reg.value != (ZydisRegister)(ZYDIS_REGISTER_K0 + insn->opmask)) {
                return false;
            }
            continue;
        }
        if (k == insn->operand_count || !same_operand(insn, &insn->operand[k++], &zo[i])) {
            return false;
        }
    }
    return count < z->operand_count_visible || k == insn->operand_count;
}

/* Compare one place; returns the length to go on by. */
static size_t compare(struct bench *b, const uint8_t *bytes, size_t avail, enum insn_mode mode)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand zo[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus zs = ZydisDecoderDecodeFull(&b->zydis[mode], bytes, avail, &z, zo);
    struct insn insn;
    enum insn_status status = insn_decode(bytes, avail, mode, &insn);

    b->compared++;
    if (!ZYAN_SUCCESS(zs)) {
        if (status == INSN_OK && !is_looser(&insn, bytes, mode)) {
            report(b, "only we accept", bytes, avail, mode, NULL, &insn);
        }
        b->undefined++;
        return 1;
    }
    if (is_hidden(&z)) {
        if (status == INSN_OK) {
            report(b, "hidden but accepted", bytes, avail, mode, &z, &insn);
        }
        b->hidden++;
        return z.length;
    }
    if (status != INSN_OK) {
        report(b, "only zydis accepts", bytes, avail, mode, &z, NULL);
    } else if (insn.len != z.length) {
        report(b, "length", bytes, avail, mode, &z, &insn);
    } else if (!same_operands(&insn, &z, zo)) {
        report(b, "operands", bytes, avail, mode, &z, &insn);
    }
    return z.length;
}

static void compare_text(struct bench *b, const uint8_t *text, size_t size)
{
    size_t at;

    for (at = 0; at < size;) {
        at += compare(b, text + at, size - at, INSN_MODE_64);
    }
}

static int compare_segments(struct dl_phdr_info *info, size_t size, void *data)
{
    unsigned i;

    (void)size;
    if (info->dlpi_name[0] && !strstr(info->dlpi_name, "libc.so")) {
        return 0;
    }
    for (i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

        if (ph->p_type == PT_LOAD && ph->p_flags & PF_X) {
            compare_text(data, (const uint8_t *)(info->dlpi_addr + ph->p_vaddr), ph->p_memsz);
        }
    }
    return 0;
}

static void finish(const struct bench *b, unsigned long least)
{
    print_message("compared %lu, undefined %lu, hidden %lu, failed %lu\n", b->compared,
                  b->undefined, b->hidden, b->failed);
    CHECK(b->compared >= least);
    CHECK_INT(b->failed, 0);
}

TEST(isa, agrees_with_zydis_on_libc_and_itself)
{
    struct bench b;

    bench_init(&b);
    dl_iterate_phdr(compare_segments, &b);
    finish(&b, 100000);
}

TEST(isa, agrees_with_zydis_on_a_given_file)
{
    const char *name = getenv("EC1_ISA_FILE");
    static uint8_t text[64 * 1024 * 1024];
    struct bench b;
    size_t size;
    FILE *f;

    if (!name) {
        SKIP("EC1_ISA_FILE is not set");
    }
    f = fopen(name, "rb");
    CHECK(f);
    size = fread(text, 1, sizeof(text), f);
    fclose(f);
    bench_init(&b);
    compare_text(&b, text, size);
    finish(&b, 1);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Random bytes with a liking for prefixes and two-byte opcodes. */
static void random_bytes(uint64_t *state, uint8_t bytes[24])
{
    static const uint8_t prefix[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e,
                                     0x64, 0x48, 0x41, 0x4f, 0x40};
    unsigned i, at = 0;
    uint64_t r = next_random(state);

    for (i = 0; i < 24; i++) {
        bytes[i] = (uint8_t)(next_random(state) >> 32);
    }
    for (i = r & 3; i; i--) {
        r >>= 8;
        bytes[at++] = prefix[r % ARRAY_LEN(prefix)];
    }
    r = next_random(state);
    if (r & 1) {
        bytes[at++] = 0x0f;
        if ((r & 0x70) == 0) {
            bytes[at++] = r & 0x100 ? 0x38 : 0x3a;
        }
    }
}

/* A VEX or EVEX prefix whose fields are mostly those that some instruction has. */
static void random_vex(uint64_t *state, uint8_t bytes[24])
{
    uint64_t r = next_random(state);
    unsigned at = (r & 15) == 0; /* a prefix before it now and then */
    bool is_plain = r & 0x70;

    bytes[0] = r & 0x80 ? 0x67 : 0x64;
    r >>= 8;
    switch (r % 5) {
    case 0:
        bytes[at++] = 0xc5;
        bytes[at++] = (uint8_t)(r >> 8 | (is_plain ? 0x78 : 0));
        break;
    case 1:
        bytes[at++] = 0xc4;
        bytes[at++] = (uint8_t)((r >> 8 & 0xe0) | (1 + (r >> 16) % 3));
        bytes[at++] = (uint8_t)(r >> 24 | (is_plain ? 0x78 : 0));
        break;
    default:
        bytes[at++] = 0x62;
        bytes[at++] = (uint8_t)((r >> 8 & 0xf0) | (1 + (r >> 16) % 3));
        bytes[at++] = (uint8_t)(r >> 24 | (is_plain ? 0x7c : 4));
        bytes[at++] =
            (uint8_t)(is_plain ? (r >> 32 & 0x60) | 8 | (r >> 40 & 0x97 & r >> 48) : r >> 32);
        break;
    }
    for (; at < 24; at++) {
        bytes[at] = (uint8_t)(next_random(state) >> 32);
    }
}

static unsigned long number_from(const char *name, unsigned long fallback)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 0) : fallback;
}

TEST(isa, agrees_with_zydis_on_random_bytes)
{
    unsigned long i, count = number_from("EC1_ISA_CASES", 800000);
    uint64_t seed = number_from("EC1_SEED", (unsigned long)time(NULL));
    uint64_t random = seed * 0x9e3779b97f4a7c15ull | 1;
    uint8_t bytes[24];
    struct bench b;

    print_message("EC1_SEED=%lu\n", (unsigned long)seed);
    bench_init(&b);
    for (i = 0; i < count; i++) {
        static const enum insn_mode modes[4] = {INSN_MODE_64, INSN_MODE_64, INSN_MODE_32,
                                                INSN_MODE_16};

        (i & 4 ? random_vex : random_bytes)(&random, bytes);
        (void)compare(&b, bytes, sizeof(bytes), modes[i & 3]);
    }
    finish(&b, count);
}
