/* insn.h — one decoded x86 instruction, and the decoder that makes it.
 *
 * insn.def is the one table: it feeds the decoder, the interpreter's dispatch, and the generated
 * tests.  `enum insn_op` (made from it) names operations at the level of the manual's mnemonics
 * ("ADD", "MOVS", "PADDD"); size and operands are in the struct.
 *
 * The decoder has no state, allocates nothing, and reads at most `avail` bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "x86/feature.h"

#define INSN_LEN_MAX     15
#define INSN_OPERAND_MAX 4

enum insn_op {
    INSN_INVALID, /* #UD */
#define INSN_OP(name) INSN_##name,
#include "hv/soft/isa/ops.def"
#undef INSN_OP
    INSN_OP_COUNT
};

/* How the instruction is carried out: picks the part of ref/ that does it. */
enum insn_class {
    INSN_CLASS_INT,     /* integer and control flow: has its own C semantics */
    INSN_CLASS_STRING,  /* MOVS STOS CMPS SCAS LODS INS OUTS */
    INSN_CLASS_SYSTEM,  /* privileged or mode-dependent: ref/sys_*.c */
    INSN_CLASS_SIMD,    /* MMX, SSE..SSE4.2, AES, CLMUL: native execution of the same bytes;
                         * legacy encodings only */
    INSN_CLASS_X87,     /* likewise, under x87 rules */
    INSN_CLASS_FPSTATE, /* FXSAVE FXRSTOR XSAVE* LDMXCSR STMXCSR FNSAVE FLDENV ... */
    INSN_CLASS_AVX,     /* VEX and EVEX with vector or mask registers: native execution */
};

/* How map, operands and vector length are encoded. */
enum insn_encoding {
    INSN_LEGACY,
    INSN_VEX,
    INSN_EVEX,
};

enum insn_operand_kind {
    INSN_NONE,
    INSN_GPR,  /* reg: enum cpu_gpr order; with is_high8: AH CH DH BH for 4..7 as reg 0..3 */
    INSN_MEM,  /* the instruction's one ModRM or moffs memory operand */
    INSN_IMM,  /* imm, sign- or zero-extended to 64 bits as the instruction wants it */
    INSN_REL,  /* branch target: imm relative to the next instruction */
    INSN_SREG, /* enum cpu_seg order */
    INSN_CREG,
    INSN_DREG,
    INSN_ST, /* x87 */
    INSN_MMX,
    INSN_XMM,  /* vector register, 0 to 31; size says how much of it */
    INSN_MASK, /* opmask register */
    INSN_FAR,  /* ptr16:16 / ptr16:32: imm = offset, imm2 = selector */
};

struct insn_operand {
    uint8_t kind; /* enum insn_operand_kind */
    uint8_t reg;
    uint8_t size; /* bytes: 1 2 4 8 10 16 32 64; 0 where it has none (LEA's memory, INVLPG) or where
                   * the instruction decides (FXSAVE) */
    bool is_high8;
    uint8_t field; /* enum insn_field: what names the register */
};

enum insn_field { INSN_AT_NONE, INSN_AT_REG, INSN_AT_RM, INSN_AT_VVVV, INSN_AT_IS4 };

/* Bits of mem_access. */
#define INSN_MEM_READ  0x1u
#define INSN_MEM_WRITE 0x2u

#define INSN_NO_REG  0xff
#define INSN_REG_RIP 16 /* as base */

struct insn {
    uint16_t op;   /* enum insn_op */
    uint8_t klass; /* enum insn_class */
    uint8_t len;   /* 1 to 15 */

    uint8_t opsize;   /* effective operand size in bytes: 1 (byte forms), 2, 4, 8 */
    uint8_t addrsize; /* 2, 4, 8 */
    uint8_t rep;      /* 0, 0xf2 or 0xf3: the last one */
    bool has_lock;
    bool has_66;
    uint8_t rex; /* 0 if absent; VEX, EVEX: the bits W R X B, not inverted, without 40H */
    uint8_t map; /* 0 one-byte, 1: 0F, 2: 0F38, 3: 0F3A, with each encoding */
    uint8_t opcode;
    bool has_modrm;
    uint8_t modrm;
    uint8_t sib;

    /* VEX and EVEX.  They have no 66, F2, F3 of their own: pp stands for it. */
    uint8_t encoding;   /* enum insn_encoding */
    uint8_t pp;         /* 0 none, 1: 66, 2: F3, 3: F2 */
    uint8_t ll;         /* L, L'L as encoded: with has_b on registers the rounding mode */
    uint8_t vl;         /* vector length in bytes, 16 32 64; 0 where it does not matter (scalar) */
    uint8_t vvvv;       /* not inverted, with V' 0 to 31; operands have the register */
    uint8_t opmask;     /* EVEX.aaa; 0: none */
    uint8_t elem;       /* bytes of memory that one bit of the mask stands for; 0: no such thing */
    uint8_t elem_count; /* bits of the mask that count */
    uint8_t disp_scale; /* disp8 of EVEX counts these; disp is scaled already */
    bool has_zeroing;   /* EVEX.z */
    bool has_b;         /* EVEX.b: broadcast of memory, {sae} or rounding of registers */
    bool has_vsib;      /* index is a vector register; vsib_size: its size */
    uint8_t vsib_size;
    bool is_float;     /* class AVX: reads and writes MXCSR */
    bool writes_flags; /* class AVX: defines the arithmetic flags */
    bool suppresses;   /* memory whose mask bit is clear does not fault */
    bool is_any;       /* all bits of the mask stand for the whole memory operand */
    bool is_packed;    /* each set bit stands for the next element in memory (compress, expand) */
    uint64_t features; /* CPU_HAS(): all must be shown, else #UD; see insn_gate() */

    /* Memory operand. */
    uint8_t
        seg; /* enum cpu_seg: override, else the default (SS for RSP/RBP bases), in every mode */
    bool has_seg_override;
    uint8_t base;  /* GPR, INSN_REG_RIP, INSN_NO_REG */
    uint8_t index; /* GPR or INSN_NO_REG; a vector register if has_vsib */
    uint8_t scale; /* 1 2 4 8 */
    int64_t disp;
    uint8_t mem_access; /* INSN_MEM_READ, INSN_MEM_WRITE; 0: address only (LEA, NOP, PREFETCH) */
    uint8_t mem_align;  /* 8, 16, 32 or 64 if a misaligned memory operand is #GP(0), else 0 */

    int64_t imm;
    uint16_t imm2; /* ENTER's second immediate; selector of a far pointer */
    uint8_t cond;  /* condition code 0 to 15 of Jcc SETcc CMOVcc */

    /* Where things are in the byte string, to re-encode it. */
    uint8_t prefix_len; /* legacy and REX prefixes; a VEX or EVEX prefix begins there */
    uint8_t opcode_at, modrm_at, disp_at, disp_len, imm_at, imm_len;

    uint8_t operand_count;
    struct insn_operand operand[INSN_OPERAND_MAX]; /* Intel order: destination first */
};

/* Code size of the mode: picks default sizes and validity. */
enum insn_mode { INSN_MODE_16, INSN_MODE_32, INSN_MODE_64 };

enum insn_status {
    INSN_OK,
    INSN_MORE,      /* valid so far, but `avail` bytes do not hold it all; give more, up to 15 */
    INSN_UNDEFINED, /* #UD; ret_insn->len is set as far as known */
    INSN_TOO_LONG,  /* more than 15 bytes: #GP(0) */
};

/* Decode one instruction from `bytes`.  *ret_insn is complete on INSN_OK only. */
enum insn_status insn_decode(const uint8_t *bytes, size_t avail, enum insn_mode mode,
                             struct insn *ret_insn);

/* The instruction as a CPU with `features` (CPU_HAS()) has it: false if it is #UD there.  TZCNT and
 * LZCNT become BSF and BSR. */
bool insn_gate(struct insn *insn, uint64_t features);

/* Name of an operation, such as "ADD". */
const char *insn_op_name(enum insn_op op);
/* One line of Intel-like text for debugging; returns `out`. */
const char *insn_print(const struct insn *insn, uint64_t pc, char out[static 96]);
