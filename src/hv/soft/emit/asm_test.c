/* asm_test.c — what the encoder writes, the engine's decoder reads. */
#include <string.h>

#include "hv/soft/emit/asm.h"
#include "hv/soft/isa/insn.h"
#include "tests/lib/test.h"

#define MOV_LOAD 0x8bu

static struct asm_buf buffer(uint8_t *bytes, size_t size)
{
    memset(bytes, 0xcc, size);
    return (struct asm_buf){.start = bytes, .at = bytes, .end = bytes + size};
}

static struct insn decoded(const struct asm_buf *a)
{
    struct insn insn = {0};

    CHECK(!a->is_full);
    CHECK_INT(insn_decode(a->start, (size_t)(a->at - a->start), INSN_MODE_64, &insn), INSN_OK);
    CHECK_INT(insn.len, a->at - a->start);
    return insn;
}

static void check_memory(unsigned size, unsigned reg, unsigned base, unsigned index, unsigned shift,
                         int32_t disp)
{
    uint8_t bytes[16];
    struct asm_buf a = buffer(bytes, sizeof(bytes));
    struct insn insn;

    asm_rm_index(&a, size, MOV_LOAD, reg, base, index, shift, disp);
    insn = decoded(&a);
    CHECK_INT(insn.op, INSN_MOV);
    CHECK_INT(insn.operand[0].size, size);
    CHECK_INT(insn.operand[0].reg, reg);
    CHECK_INT(insn.operand[1].kind, INSN_MEM);
    CHECK_INT(insn.base, base == HOST_NONE ? INSN_NO_REG : base);
    CHECK_INT(insn.index, index == HOST_NONE ? INSN_NO_REG : index);
    CHECK_INT(insn.disp, disp);
    if (index != HOST_NONE) {
        CHECK_INT(insn.scale, 1u << shift);
    }
}

TEST(asm, every_address_form_decodes_to_itself)
{
    static const int32_t disps[] = {0, 1, -1, 127, -128, 128, -129, INT32_MAX, INT32_MIN};

    for (unsigned base = 0; base < 17; base++) {
        for (unsigned index = 0; index < 17; index++) {
            unsigned b = base == 16 ? HOST_NONE : base, x = index == 16 ? HOST_NONE : index;

            for (unsigned i = 0; i < sizeof(disps) / sizeof(disps[0]) && x != HOST_RSP; i++) {
                check_memory(8, (base * 7 + i) & 15, b, x, i & 3, disps[i]);
                check_memory(4, (index * 5 + i) & 15, b, x, i & 3, disps[i]);
                check_memory(2, (base + index) & 15, b, x, i & 3, disps[i]);
            }
        }
    }
}

TEST(asm, register_forms_name_both_registers)
{
    for (unsigned reg = 0; reg < 16; reg++) {
        for (unsigned rm = 0; rm < 16; rm++) {
            for (unsigned size = 1; size <= 8; size *= 2) {
                uint8_t bytes[16];
                struct asm_buf a = buffer(bytes, sizeof(bytes));
                struct insn insn;

                asm_rr(&a, size, (size > 1 ? 0x01u : 0x00u) | ASM_REX, reg, rm);
                insn = decoded(&a);
                CHECK_INT(insn.op, INSN_ADD);
                CHECK_INT(insn.operand[0].reg, rm);
                CHECK_INT(insn.operand[1].reg, reg);
                CHECK_INT(insn.operand[0].size, size);
                CHECK(!insn.operand[0].is_high8 && !insn.operand[1].is_high8);
            }
        }
    }
}

TEST(asm, constants_of_every_length_arrive)
{
    static const uint64_t values[] = {0,
                                      1,
                                      INT32_MAX,
                                      UINT32_MAX,
                                      UINT64_C(0x100000000),
                                      (uint64_t)INT64_C(-1),
                                      (uint64_t)INT64_C(-0x80000000),
                                      UINT64_C(0xffffffff7fffffff),
                                      UINT64_C(0x123456789abcdef0)};

    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        for (unsigned reg = 0; reg < 16; reg++) {
            uint8_t bytes[16];
            struct asm_buf a = buffer(bytes, sizeof(bytes));
            struct insn insn;

            asm_mov_imm(&a, reg, values[i]);
            insn = decoded(&a);
            CHECK_INT(insn.operand[0].reg, reg);
            CHECK_INT(insn.operand[0].size == 4 ? (uint32_t)insn.imm : (uint64_t)insn.imm,
                      values[i]);
        }
    }
}

TEST(asm, rotations_without_flags_have_the_bytes_of_the_manual)
{
    static const uint8_t want[3][6] = {{0xc4, 0x43, 0x7b, 0xf0, 0xda, 8},
                                       {0xc4, 0x63, 0x7b, 0xf0, 0xdb, 8},
                                       {0xc4, 0xc3, 0x7b, 0xf0, 0xc7, 31}};
    uint8_t bytes[18];
    struct asm_buf a = buffer(bytes, sizeof(bytes));

    asm_rorx32(&a, HOST_R11, HOST_R10, 8);
    asm_rorx32(&a, HOST_R11, HOST_RBX, 8);
    asm_rorx32(&a, HOST_RAX, HOST_R15, 31);
    CHECK(!a.is_full);
    assert_memory_equal(bytes, want, sizeof(want));
}

TEST(asm, jumps_land_and_a_full_buffer_takes_no_more)
{
    uint8_t bytes[16];
    struct asm_buf a = buffer(bytes, sizeof(bytes));
    uint8_t *jump = asm_jump(&a, 0x84);

    a.end = bytes + 12;
    CHECK_INT(jump - bytes, 6);
    asm_land(&a, jump, bytes + 1);
    CHECK_INT(decoded(&a).imm, -5);
    asm_jump_to(&a, 0xe8, bytes);
    CHECK(!a.is_full);
    asm_jump_to(&a, 0xe9, bytes);
    CHECK(a.is_full);
    CHECK(a.at <= a.end);
    CHECK_INT(bytes[12], 0xcc);
}
