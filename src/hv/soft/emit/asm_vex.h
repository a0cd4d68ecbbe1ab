/* asm_vex.h — the encoder for VEX and EVEX prefixes: SDM volume 2, 2.3.5 and 2.7.1. */
#pragma once

#include "hv/soft/emit/asm.h"

/* All but the operands in ModRM.  Numbers are as the manual means them, not inverted. */
struct asm_vex {
    bool is_evex;
    uint8_t map, pp;
    bool w;
    uint8_t ll;
    uint8_t vvvv; /* 0 to 15, with EVEX to 31 */
    uint8_t opcode;
    /* EVEX */
    uint8_t opmask;
    bool has_zeroing, has_b;
};

/* Registers are 0 to 15, vector registers of EVEX to 31. */
void asm_vex_rr(struct asm_buf *a, const struct asm_vex *p, unsigned reg, unsigned rm);
/* Memory at [base + index + disp], index may be HOST_NONE. */
void asm_vex_rm(struct asm_buf *a, const struct asm_vex *p, unsigned reg, unsigned base,
                unsigned index, int32_t disp);
/* VZEROUPPER and the like. */
void asm_vex_alone(struct asm_buf *a, const struct asm_vex *p);
