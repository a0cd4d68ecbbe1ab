/* asm.c — the encoder: prefixes, REX, ModRM, SIB, jumps. */
#include "hv/soft/emit/asm.h"

#include <string.h>

void asm_bytes(struct asm_buf *a, const void *bytes, size_t len)
{
    if (len > (size_t)(a->end - a->at)) {
        a->is_full = true;
        return;
    }
    memcpy(a->at, bytes, len);
    a->at += len;
}

void asm_imm(struct asm_buf *a, uint64_t value, unsigned len)
{
    asm_bytes(a, &value, len);
}

static void opcode_with_rex(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned rex)
{
    if (opcode >> 16 & 0xff) {
        ASM(a, (uint8_t)(opcode >> 16));
    }
    if (size == 2) {
        ASM(a, 0x66);
    }
    rex |= size == 8 ? 8 : 0;
    if (rex || opcode & ASM_REX) {
        ASM(a, (uint8_t)(0x40 | rex));
    }
    if (opcode & 0xff00) {
        ASM(a, 0x0f);
    }
    if ((opcode & 0xff00) > ASM_0F) {
        ASM(a, (uint8_t)(opcode >> 8));
    }
    ASM(a, (uint8_t)opcode);
}

void asm_rr(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, unsigned rm)
{
    opcode_with_rex(a, size, opcode, (reg & 8) >> 1 | (rm & 8) >> 3);
    ASM(a, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

void asm_rm(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, unsigned base,
            int32_t disp)
{
    asm_rm_index(a, size, opcode, reg, base, HOST_NONE, 0, disp);
}

/* Without a base, mod 00 with base 5 in the SIB byte: disp32 alone. */
void asm_rm_index(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, unsigned base,
                  unsigned index, unsigned shift, int32_t disp)
{
    unsigned b = base == HOST_NONE ? 5 : base, x = index == HOST_NONE ? 4 : index;
    unsigned mod = base == HOST_NONE              ? 0
                   : disp == 0 && (base & 7) != 5 ? 0
                   : disp >= -128 && disp <= 127  ? 1
                                                  : 2;
    bool has_sib = index != HOST_NONE || base == HOST_NONE || (base & 7) == 4;

    opcode_with_rex(a, size, opcode, (reg & 8) >> 1 | (has_sib ? (x & 8) >> 2 : 0) | (b & 8) >> 3);
    ASM(a, (uint8_t)(mod << 6 | (reg & 7) << 3 | (has_sib ? 4 : (b & 7))));
    if (has_sib) {
        ASM(a, (uint8_t)(shift << 6 | (x & 7) << 3 | (b & 7)));
    }
    if (mod == 1) {
        asm_imm(a, (uint8_t)disp, 1);
    } else if (mod == 2 || base == HOST_NONE) {
        asm_imm(a, (uint32_t)disp, 4);
    }
}

/* Never touches the flags. */
void asm_mov_imm(struct asm_buf *a, unsigned reg, uint64_t value)
{
    if (value <= UINT32_MAX) {
        opcode_with_rex(a, 4, 0xb8u + (reg & 7), (reg & 8) >> 3);
        asm_imm(a, value, 4);
    } else if ((uint64_t)(int32_t)value == value) {
        asm_rr(a, 8, 0xc7, 0, reg);
        asm_imm(a, value, 4);
    } else {
        opcode_with_rex(a, 8, 0xb8u + (reg & 7), (reg & 8) >> 3);
        asm_imm(a, value, 8);
    }
}

void asm_load(struct asm_buf *a, unsigned reg, unsigned base, size_t disp)
{
    asm_rm(a, 8, 0x8b, reg, base, (int32_t)disp);
}

void asm_store(struct asm_buf *a, unsigned reg, unsigned base, size_t disp)
{
    asm_rm(a, 8, 0x89, reg, base, (int32_t)disp);
}

void asm_mov(struct asm_buf *a, unsigned dst, unsigned src)
{
    if (dst != src) {
        asm_rr(a, 8, 0x89, src, dst);
    }
}

/* VEX.LZ.F2.0F3A.W0 F0 /r ib */
void asm_rorx32(struct asm_buf *a, unsigned dst, unsigned src, unsigned count)
{
    ASM(a, 0xc4, (uint8_t)(0x43 | (dst & 8 ? 0 : 0x80) | (src & 8 ? 0 : 0x20)), 0x7b, 0xf0,
        (uint8_t)(0xc0 | (dst & 7) << 3 | (src & 7)), (uint8_t)count);
}

uint8_t *asm_jump(struct asm_buf *a, uint8_t opcode)
{
    if (opcode >= 0x80 && opcode < 0x90) {
        ASM(a, 0x0f);
    }
    ASM(a, opcode, 0, 0, 0, 0);
    return a->at;
}

/* `jump` is the end of the instruction, as asm_jump() gives it. */
void asm_land(struct asm_buf *a, uint8_t *jump, const uint8_t *target)
{
    int32_t distance = (int32_t)(target - jump);

    if (!a->is_full) {
        memcpy(jump - 4, &distance, 4);
    }
}

void asm_jump_to(struct asm_buf *a, uint8_t opcode, const uint8_t *target)
{
    asm_land(a, asm_jump(a, opcode), target);
}
