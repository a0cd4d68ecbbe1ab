/* asm.h — an encoder for the host instructions that translated code consists of.
 *
 * Instructions are appended to a buffer.  A full buffer takes no more bytes and says so in
 * is_full: the caller asks once at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum host_reg {
    HOST_RAX,
    HOST_RCX,
    HOST_RDX,
    HOST_RBX,
    HOST_RSP,
    HOST_RBP,
    HOST_RSI,
    HOST_RDI,
    HOST_R8,
    HOST_R9,
    HOST_R10,
    HOST_R11,
    HOST_R12,
    HOST_R13,
    HOST_R14,
    HOST_R15,
    HOST_NONE = 0xff,
};

struct asm_buf {
    uint8_t *start, *at, *end;
    bool is_full;
};

/* An opcode: its byte, its map, a prefix (LOCK, 66, F2, F3) << 16. */
#define ASM_0F        0x0f00u
#define ASM_0F38      0x3800u
#define ASM_0F3A      0x3a00u
#define ASM_PREFIX(p) ((uint32_t)(p) << 16)
/* Registers 4 to 7 of a byte instruction are SPL to DIL, not AH to BH. */
#define ASM_REX UINT32_C(0x1000000)

void asm_bytes(struct asm_buf *a, const void *bytes, size_t len);
#define ASM(a, ...)                             \
    do {                                        \
        const uint8_t bytes_[] = {__VA_ARGS__}; \
        asm_bytes((a), bytes_, sizeof(bytes_)); \
    } while (0)
void asm_imm(struct asm_buf *a, uint64_t value, unsigned len);

/* opcode /reg with a register operand; size is that of the operands: 1, 2, 4, 8. */
void asm_rr(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, unsigned rm);
/* With memory at [base + disp], or [base + index << shift + disp]. */
void asm_rm(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, unsigned base,
            int32_t disp);
void asm_rm_index(struct asm_buf *a, unsigned size, uint32_t opcode, unsigned reg, unsigned base,
                  unsigned index, unsigned shift, int32_t disp);

void asm_mov_imm(struct asm_buf *a, unsigned reg, uint64_t value);
/* 64-bit moves. */
void asm_load(struct asm_buf *a, unsigned reg, unsigned base, size_t disp);
void asm_store(struct asm_buf *a, unsigned reg, unsigned base, size_t disp);
void asm_mov(struct asm_buf *a, unsigned dst, unsigned src);

/* BMI2; leaves the flags alone. */
void asm_rorx32(struct asm_buf *a, unsigned dst, unsigned src, unsigned count);

/* Jumps to places that are filled in later: jcc (0x80 + condition), or jmp (0xe9), call (0xe8). */
uint8_t *asm_jump(struct asm_buf *a, uint8_t opcode);
void asm_land(struct asm_buf *a, uint8_t *jump, const uint8_t *target);
void asm_jump_to(struct asm_buf *a, uint8_t opcode, const uint8_t *target);
