/* fuse_test.c — CMP and TEST with the conditional jump behind them, which become one op: all
 * operations, sizes, forms and conditions against plain arithmetic.
 */
#include "hv/soft/cache/snippet.h"

#define SLOT 64u /* bytes of code for each pair */

struct pair {
    bool is_test, is_imm;
    unsigned size, cond;
};

static struct pair pair_at(unsigned i)
{
    static const unsigned sizes[] = {1, 4, 8};

    return (struct pair){
        .cond = i & 15, .is_imm = i >> 4 & 1, .is_test = i >> 5 & 1, .size = sizes[(i >> 6) % 3]};
}

/* cmp/test rcx, rdx or imm; jcc 1f; mov r11d, 1; hlt; 1: mov r11d, 2; hlt */
static size_t emit(const struct pair *p, uint32_t imm, uint8_t *code)
{
    static const uint8_t tail[] = {7, 0x41, 0xbb, 1, 0, 0, 0, 0xf4, 0x41, 0xbb, 2, 0, 0, 0, 0xf4};
    unsigned wide = p->size > 1;
    size_t n = 0;

    if (p->size == 8) {
        code[n++] = 0x48;
    }
    if (p->is_imm) {
        code[n++] = (uint8_t)((p->is_test ? 0xf6 : 0x80) + wide);
        code[n++] = p->is_test ? 0xc1 : 0xf9;
        store_le32(code + n, imm);
        n += wide ? 4 : 1;
    } else {
        code[n++] = (uint8_t)((p->is_test ? 0x84 : 0x38) + wide);
        code[n++] = 0xd1;
    }
    code[n++] = (uint8_t)(0x70 + p->cond);
    memcpy(code + n, tail, sizeof(tail));
    return n + sizeof(tail);
}

static bool is_taken(const struct pair *p, uint64_t a, uint64_t b)
{
    unsigned bits = p->size * 8;
    uint64_t mask = UINT64_MAX >> (64 - bits), r;
    bool cf, zf, sf, of, pf, taken;

    a &= mask;
    b &= mask;
    r = (p->is_test ? a & b : a - b) & mask;
    cf = !p->is_test && a < b;
    zf = r == 0;
    sf = r >> (bits - 1);
    of = !p->is_test && ((a ^ b) & (a ^ r)) >> (bits - 1);
    pf = __builtin_popcount((uint8_t)r) % 2 == 0;
    switch (p->cond >> 1) {
    case 0: taken = of; break;
    case 1: taken = cf; break;
    case 2: taken = zf; break;
    case 3: taken = cf || zf; break;
    case 4: taken = sf; break;
    case 5: taken = pf; break;
    case 6: taken = sf != of; break;
    default: taken = zf || sf != of; break;
    }
    return taken != (p->cond & 1);
}

static void check_values(uint64_t a, uint64_t b)
{
    enum { PAIRS = 16 * 2 * 2 * 3 };
    static uint8_t code[PAIRS * SLOT];
    struct soft_vm vm;

    memset(code, 0xf4, sizeof(code));
    for (unsigned i = 0; i < PAIRS; i++) {
        struct pair p = pair_at(i);

        (void)emit(&p, (uint32_t)b, code + (size_t)i * SLOT);
    }
    start(&vm, code, sizeof(code));
    for (unsigned i = 0; i < PAIRS; i++) {
        struct pair p = pair_at(i);
        uint64_t right = p.is_imm ? (uint64_t)(int32_t)b : b;

        vm.v->rip = CODE + (uint64_t)i * SLOT;
        vm.v->gpr[GPR_RCX] = a;
        vm.v->gpr[GPR_RDX] = b;
        CHECK_INT(run(&vm), -1);
        if (vm.v->gpr[11] != (is_taken(&p, a, right) ? 2 : 1)) {
            print_error("%s%u %s, condition %u: %lx, %lx\n", p.is_test ? "test" : "cmp", p.size * 8,
                        p.is_imm ? "immediate" : "register", p.cond, a, right);
            fail();
        }
        CHECK_INT(vm.v->gpr[GPR_RCX], a);
    }
    finish(&vm);
}

TEST(cache, a_comparison_and_its_jump_as_one_op_take_the_right_way)
{
    static const uint64_t values[] = {0,
                                      1,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fffffff,
                                      0x80000000,
                                      UINT64_C(0x7fffffffffffffff),
                                      UINT64_C(0x8000000000000000),
                                      UINT64_MAX};

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++) {
            check_values(values[i], values[k]);
        }
    }
}
