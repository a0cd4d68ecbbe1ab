/* forms.h — insn.def as tables: what decode.c and the tests of this room look instructions up in.
 *
 * insn_opcode[map << 8 | opcode] leads to the first form of an opcode; its forms follow one another
 * up to one whose op is INSN_INVALID.  A form fits if its prefix condition holds and the bits of
 * `key` that `mask` picks equal `value`, and VEX and EVEX forms if they have the vector length.
 */
#pragma once

#include "hv/soft/isa/insn.h"

/* Key: the ModRM byte (0 if there is none) and what else selects. */
#define KEY_MEM  0x0100u /* r/m is memory */
#define KEY_LONG 0x0200u /* 64-bit mode */
#define KEY_W    0x0400u /* REX.W */
#define KEY_B    0x0800u /* REX.B */

/* Prefix condition: one bit per mandatory prefix that is accepted. */
#define PREFIX_NP  0x1u
#define PREFIX_P66 0x2u
#define PREFIX_F3  0x4u
#define PREFIX_F2  0x8u
#define PREFIX_N66 (PREFIX_NP | PREFIX_P66)
#define PREFIX_ANY 0xfu

#define F_BYTE     0x0001u
#define F_MAX4     0x0002u
#define F_MIN4     0x0004u
#define F_D64      0x0008u
#define F_F64      0x0010u
#define F_I64      0x0020u
#define F_O64      0x0040u
#define F_LOCKABLE 0x0080u
#define F_W        0x0100u
#define F_RW       0x0200u
#define F_NOMEM    0x0400u
#define F_A16      0x0800u
#define F_A64      0x1000u
#define F_UNAL     0x2000u
#define F_RMREG    0x4000u

/* VEX and EVEX. */
#define A_FLOAT    0x0001u
#define A_FLAGS    0x0002u
#define A_ALIGN    0x0004u
#define A_MASK     0x0008u
#define A_ZERO     0x0010u
#define A_NEEDMASK 0x0020u
#define A_SUPPRESS 0x0040u
#define A_BCAST    0x0080u
#define A_ROUND    0x0100u
#define A_SAE      0x0200u
#define A_T1       0x0400u
#define A_ANY      0x0800u
#define A_NOVL     0x1000u

/* Vector lengths of a form. */
#define VL_L0   0x1u
#define VL_L1   0x2u
#define VL_L01  0x3u
#define VL_L2   0x4u
#define VL_L12  0x6u
#define VL_L012 0x7u
#define VL_LIG  0x17u /* any: scalar */

/* Sizes of operands; those after SIZE_X depend on the instruction. */
enum size_code {
    SIZE_0,
    SIZE_B,
    SIZE_W,
    SIZE_D,
    SIZE_Q,
    SIZE_T, /* 10 */
    SIZE_X, /* 16 */
    SIZE_V, /* operand size */
    SIZE_Z, /* operand size, at most 4 */
    SIZE_Y, /* 8 with REX.W, else 4 */
    SIZE_N, /* 8 in 64-bit mode, else 4 */
    SIZE_P, /* far pointer */
    SIZE_S, /* descriptor table register */
    SIZE_A, /* two of operand size */
    SIZE_E, /* x87 environment */
    SIZE_F, /* x87 state */
    SIZE_YMM,
    SIZE_ZMM,
    SIZE_VL, /* vector length; its half, quarter, eighth */
    SIZE_VL2,
    SIZE_VL4,
    SIZE_VL8,
    SIZE_R2, /* the same of registers, at least 16 */
    SIZE_R4,
    SIZE_R8,
    SIZE_COUNT
};

/* Where an operand is. */
enum place {
    AT_NONE,
    AT_RM, /* general register or memory; second size is that of memory */
    AT_RM_XMM,
    AT_RM_MMX,
    AT_RM_VEC,
    AT_RM_MASK,
    AT_RM_ST,
    AT_REG,
    AT_REG_XMM,
    AT_REG_MMX,
    AT_REG_SREG,
    AT_REG_CREG,
    AT_REG_DREG,
    AT_REG_VEC,
    AT_REG_MASK,
    AT_V_GPR, /* VEX.vvvv */
    AT_V_VEC,
    AT_V_MASK,
    AT_IS4,  /* vector register in the upper half of an immediate */
    AT_VSIB, /* second size: of the index */
    AT_OPCODE,
    AT_GPR, /* fixed: second value is the register */
    AT_SREG,
    AT_ST,
    AT_MOFFS,
    AT_ONE,    /* the constant 1 */
    AT_IMM_U8, /* 8 bits, not extended */
    AT_IMM_S8, /* 8 bits, extended to the operand size */
    AT_IMM_16,
    AT_IMM_Z, /* 16 or 32 bits, sign-extended */
    AT_IMM_V, /* 16, 32 or 64 bits */
    AT_IMM_ENTER,
    AT_REL_8,
    AT_REL_Z,
    AT_FAR
};

/* The same in vex.def and evex.def. */
#define VEX_OPERAND_LIST(X)        \
    X(By, V_GPR, Y, 0)             \
    X(Eq, RM, Q, SIZE_Q)           \
    X(Gq, REG, Q, 0)               \
    X(H16, V_VEC, X, 0)            \
    X(Hl, V_VEC, VL, 0)            \
    X(KE, RM_MASK, Q, SIZE_Q)      \
    X(KE1, RM_MASK, Q, SIZE_B)     \
    X(KE2, RM_MASK, Q, SIZE_W)     \
    X(KE4, RM_MASK, Q, SIZE_D)     \
    X(KE8, RM_MASK, Q, SIZE_Q)     \
    X(KG, REG_MASK, Q, 0)          \
    X(KH, V_MASK, Q, 0)            \
    X(M1, RM_VEC, X, SIZE_B)       \
    X(M16, RM_VEC, X, SIZE_X)      \
    X(M2, RM_VEC, X, SIZE_W)       \
    X(M32, RM_VEC, X, SIZE_YMM)    \
    X(M4, RM_VEC, X, SIZE_D)       \
    X(M8, RM_VEC, X, SIZE_Q)       \
    X(Ml, RM_VEC, X, SIZE_VL)      \
    X(U16, RM_VEC, X, 0)           \
    X(Ul, RM_VEC, VL, 0)           \
    X(V16, REG_VEC, X, 0)          \
    X(VS4_l, VSIB, D, SIZE_VL)     \
    X(VS8_16, VSIB, Q, SIZE_X)     \
    X(VS8_l, VSIB, Q, SIZE_VL)     \
    X(VS8_l2, VSIB, Q, SIZE_R2)    \
    X(Vl, REG_VEC, VL, 0)          \
    X(Vl2, REG_VEC, R2, 0)         \
    X(W16, RM_VEC, X, SIZE_X)      \
    X(W16_1, RM_VEC, X, SIZE_B)    \
    X(W16_2, RM_VEC, X, SIZE_W)    \
    X(W16_4, RM_VEC, X, SIZE_D)    \
    X(W16_8, RM_VEC, X, SIZE_Q)    \
    X(W16_l2, RM_VEC, X, SIZE_VL2) \
    X(W16_l4, RM_VEC, X, SIZE_VL4) \
    X(W16_l8, RM_VEC, X, SIZE_VL8) \
    X(W32, RM_VEC, YMM, SIZE_YMM)  \
    X(Wl, RM_VEC, VL, SIZE_VL)     \
    X(Wl2, RM_VEC, R2, SIZE_VL2)   \
    X(Wl_2, RM_VEC, VL, SIZE_W)    \
    X(Wl_4, RM_VEC, VL, SIZE_D)    \
    X(Wl_8, RM_VEC, VL, SIZE_Q)    \
    X(Xl, IS4, VL, 0)

/* Names of operands in insn.def: name, place, size, memory size or register. */
#define OPERAND_LIST(X)      \
    X(_, NONE, 0, 0)         \
    X(Eb, RM, B, SIZE_B)     \
    X(Ew, RM, W, SIZE_W)     \
    X(Ed, RM, D, SIZE_D)     \
    X(Ev, RM, V, SIZE_V)     \
    X(Ey, RM, Y, SIZE_Y)     \
    X(Evw, RM, V, SIZE_W)    \
    X(Evn, RM, V, SIZE_0)    \
    X(Edb, RM, D, SIZE_B)    \
    X(Edw, RM, D, SIZE_W)    \
    X(Rn, RM, N, SIZE_N)     \
    X(M, RM, 0, SIZE_0)      \
    X(Mb, RM, B, SIZE_B)     \
    X(Mw, RM, W, SIZE_W)     \
    X(Md, RM, D, SIZE_D)     \
    X(Mq, RM, Q, SIZE_Q)     \
    X(Mt, RM, T, SIZE_T)     \
    X(Mx, RM, X, SIZE_X)     \
    X(Mv, RM, V, SIZE_V)     \
    X(My, RM, Y, SIZE_Y)     \
    X(Mp, RM, P, SIZE_P)     \
    X(Ms, RM, S, SIZE_S)     \
    X(Ma, RM, A, SIZE_A)     \
    X(Me, RM, E, SIZE_E)     \
    X(Mf, RM, F, SIZE_F)     \
    X(Wx, RM_XMM, X, SIZE_X) \
    X(Wq, RM_XMM, Q, SIZE_Q) \
    X(Wd, RM_XMM, D, SIZE_D) \
    X(Ww, RM_XMM, W, SIZE_W) \
    X(Qq, RM_MMX, Q, SIZE_Q) \
    X(Qd, RM_MMX, D, SIZE_D) \
    X(STi, RM_ST, T, 0)      \
    X(Gb, REG, B, 0)         \
    X(Gw, REG, W, 0)         \
    X(Gd, REG, D, 0)         \
    X(Gv, REG, V, 0)         \
    X(Gy, REG, Y, 0)         \
    X(Gn, REG, N, 0)         \
    X(Vx, REG_XMM, X, 0)     \
    X(Vq, REG_XMM, Q, 0)     \
    X(Vd, REG_XMM, D, 0)     \
    X(Pq, REG_MMX, Q, 0)     \
    X(Sw, REG_SREG, W, 0)    \
    X(Cd, REG_CREG, N, 0)    \
    X(Dd, REG_DREG, N, 0)    \
    X(Zb, OPCODE, B, 0)      \
    X(Zv, OPCODE, V, 0)      \
    X(AL, GPR, B, 0)         \
    X(AX, GPR, V, 0)         \
    X(AXw, GPR, W, 0)        \
    X(CL, GPR, B, 1)         \
    X(DX, GPR, W, 2)         \
    X(ES, SREG, W, 0)        \
    X(CS, SREG, W, 1)        \
    X(SS, SREG, W, 2)        \
    X(DS, SREG, W, 3)        \
    X(FS, SREG, W, 4)        \
    X(GS, SREG, W, 5)        \
    X(ST0, ST, T, 0)         \
    X(ST1, ST, T, 1)         \
    X(Ob, MOFFS, B, 0)       \
    X(Ov, MOFFS, V, 0)       \
    X(I1, ONE, B, 0)         \
    X(Ib, IMM_U8, B, 0)      \
    X(Ibs, IMM_S8, V, 0)     \
    X(Iw, IMM_16, W, 0)      \
    X(Iz, IMM_Z, V, 0)       \
    X(Iv, IMM_V, V, 0)       \
    X(IwIb, IMM_ENTER, W, 0) \
    X(Jb, REL_8, V, 0)       \
    X(Jz, REL_Z, V, 0)       \
    X(Ap, FAR, V, 0)         \
    VEX_OPERAND_LIST(X)

enum operand_code {
#define X(name, place, size, more) OPERAND_##name,
    OPERAND_LIST(X)
#undef X
        OPERAND_COUNT
};

struct operand_spec {
    uint8_t place; /* enum place */
    uint8_t size;  /* enum size_code */
    uint8_t more;  /* enum size_code in memory, or the fixed register */
};

#define FORM_OPERAND_MAX 4

struct insn_form {
    uint16_t op; /* enum insn_op */
    uint16_t mask, value;
    uint8_t prefix;
    uint8_t klass;
    uint8_t operand[FORM_OPERAND_MAX]; /* enum operand_code */
    uint16_t flags;
    uint16_t avx;      /* A_*: VEX and EVEX only */
    uint8_t vl;        /* vector lengths: bits 0 to 2 for 128 256 512 */
    uint8_t elem;      /* bytes of memory per mask bit; what broadcasts, and T1 scales by */
    uint64_t features; /* CPU_HAS() */
};

struct insn_opcode {
    uint16_t first; /* index into insn_form; 0: there is none */
    bool has_modrm;
};

/* Maps of the table: 0 to 3 legacy, then 1 to 3 of VEX and of EVEX. */
#define INSN_MAP_VEX   4
#define INSN_MAP_EVEX  7
#define INSN_MAP_COUNT 10

extern const struct operand_spec insn_operand_spec[OPERAND_COUNT];
extern const struct insn_form insn_form[];
extern const struct insn_opcode insn_opcode[INSN_MAP_COUNT * 256];
