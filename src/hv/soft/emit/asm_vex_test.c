/* asm_vex_test.c — what the encoder writes, the engine's decoder reads. */
#include <string.h>

#include "hv/soft/emit/asm_vex.h"
#include "hv/soft/isa/insn.h"
#include "tests/lib/test.h"

static struct insn decoded(const struct asm_buf *a)
{
    struct insn insn = {0};

    CHECK(!a->is_full);
    CHECK_INT(insn_decode(a->start, (size_t)(a->at - a->start), INSN_MODE_64, &insn), INSN_OK);
    CHECK_INT(insn.len, a->at - a->start);
    return insn;
}

/* VPADDD: VEX.66.0F.WIG FE /r, EVEX.66.0F.W0 FE /r */
static struct asm_vex vpaddd(bool is_evex, unsigned ll, unsigned vvvv)
{
    return (struct asm_vex){.is_evex = is_evex,
                            .map = 1,
                            .pp = 1,
                            .ll = (uint8_t)ll,
                            .vvvv = (uint8_t)vvvv,
                            .opcode = 0xfe};
}

TEST(asm_vex, registers_of_both_encodings_arrive)
{
    for (unsigned i = 0; i < 32 * 3; i++) {
        bool is_evex = i & 1;
        unsigned mask = is_evex ? 31 : 15, reg = i & mask, vvvv = (i * 7 + 3) & mask;
        unsigned rm = (i * 11 + 5) & mask, ll = is_evex ? i % 3 : i & 1;
        struct asm_vex p = vpaddd(is_evex, ll, vvvv);
        uint8_t bytes[16];
        struct asm_buf a = {.start = bytes, .at = bytes, .end = bytes + sizeof(bytes)};
        struct insn insn;

        p.opmask = is_evex ? i % 8 : 0;
        p.has_zeroing = p.opmask != 0;
        asm_vex_rr(&a, &p, reg, rm);
        insn = decoded(&a);
        CHECK_INT(insn.op, INSN_VPADDD);
        CHECK_INT(insn.operand[0].reg, reg);
        CHECK_INT(insn.operand[1].reg, vvvv);
        CHECK_INT(insn.operand[2].reg, rm);
        CHECK_INT(insn.vl, 16u << ll);
        CHECK_INT(insn.opmask, p.opmask);
        CHECK_INT(insn.has_zeroing, p.has_zeroing);
    }
}

TEST(asm_vex, addresses_of_both_encodings_arrive)
{
    static const int32_t disps[] = {0, 1, 64, -128, 128, INT32_MAX, INT32_MIN};

    for (unsigned i = 0; i < 16 * 16 * 7 * 2; i++) {
        bool is_evex = i & 1;
        unsigned base = i >> 1 & 15, index = i >> 5 & 15;
        int32_t disp = disps[(i >> 9) % 7];
        struct asm_vex p = vpaddd(is_evex, is_evex ? 2 : 1, 9);
        uint8_t bytes[16];
        struct asm_buf a = {.start = bytes, .at = bytes, .end = bytes + sizeof(bytes)};
        struct insn insn;

        asm_vex_rm(&a, &p, 13, base, index == HOST_RSP ? HOST_NONE : index, disp);
        insn = decoded(&a);
        CHECK_INT(insn.operand[0].reg, 13);
        CHECK_INT(insn.operand[2].kind, INSN_MEM);
        CHECK_INT(insn.base, base);
        CHECK_INT(insn.index, index == HOST_RSP ? INSN_NO_REG : index);
        CHECK_INT(insn.disp, disp);
    }
}

TEST(asm_vex, an_instruction_without_operands_has_no_modrm)
{
    struct asm_vex p = {.map = 1, .opcode = 0x77};
    uint8_t bytes[16];
    struct asm_buf a = {.start = bytes, .at = bytes, .end = bytes + sizeof(bytes)};

    asm_vex_alone(&a, &p);
    CHECK_INT(decoded(&a).op, INSN_VZEROUPPER);
}
