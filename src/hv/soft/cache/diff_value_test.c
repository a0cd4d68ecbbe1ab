/* diff_value_test.c — values that instructions find interesting: integers, floating point, memory.
 */
#include <string.h>

#include "base/bits.h"
#include "hv/soft/cache/diff.h"
#include "hv/soft/cpu/fpu.h"

uint64_t diff_corner(struct diff_random *r)
{
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      3,
                                      7,
                                      8,
                                      0x0f,
                                      0x10,
                                      0x1f,
                                      0x20,
                                      0x3f,
                                      0x40,
                                      0x7f,
                                      0x80,
                                      0x81,
                                      0xff,
                                      0x100,
                                      0x7fff,
                                      0x8000,
                                      0xffff,
                                      0x10000,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      UINT64_C(0x100000000),
                                      UINT64_C(0x7fffffffffffffff),
                                      UINT64_C(0x8000000000000000),
                                      UINT64_C(0x5555555555555555),
                                      UINT64_C(0xaaaaaaaaaaaaaaaa)};
    uint64_t value = values[diff_next(r) % ARRAY_LEN(values)];

    return diff_chance(r, 30) ? 0 - value : value;
}

uint64_t diff_value(struct diff_random *r)
{
    uint64_t value = diff_next(r);

    switch (diff_next(r) & 3) {
    case 0: return diff_corner(r);
    case 1: return value;
    case 2: return value >> (diff_next(r) & 63);
    default: return (value & ~UINT64_C(0xff)) | (diff_corner(r) & 0xff);
    }
}

/* Eight bytes that are interesting as integers or as floating point. */
static uint64_t vector_value(struct diff_random *r)
{
    static const uint32_t singles[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
                                       0xff800000, 0x7fc00000, 0x7fa00000, 0x00000001, 0x807fffff,
                                       0x4f000000, 0xcf000000, 0x3f000001, 0x7f7fffff, 0x41200000,
                                       0x7f000001, 0x00800000, 0x80800001, 0x1f800000, 0x5f123456};
    static const uint64_t doubles[] = {0,
                                       UINT64_C(0x8000000000000000),
                                       UINT64_C(0x3ff0000000000000),
                                       UINT64_C(0xbff8000000000000),
                                       UINT64_C(0x7ff0000000000000),
                                       UINT64_C(0xfff0000000000000),
                                       UINT64_C(0x7ff8000000000000),
                                       UINT64_C(0x7ff4000000000001),
                                       UINT64_C(1),
                                       UINT64_C(0x800fffffffffffff),
                                       UINT64_C(0x41e0000000000000),
                                       UINT64_C(0xc3e0000000000000),
                                       UINT64_C(0x7fefffffffffffff),
                                       UINT64_C(0x7fe0000000000001),
                                       UINT64_C(0x0010000000000000),
                                       UINT64_C(0x1ff0000000000001),
                                       UINT64_C(0x4024000000000000)};

    switch (diff_next(r) & 3) {
    case 0: return diff_value(r);
    case 1: return doubles[diff_next(r) % ARRAY_LEN(doubles)];
    case 2:
        return singles[diff_next(r) % ARRAY_LEN(singles)] |
               (uint64_t)singles[diff_next(r) % ARRAY_LEN(singles)] << 32;
    default: return diff_next(r);
    }
}

static void random_st(struct diff_random *r, uint8_t *st)
{
    static const uint16_t exponents[] = {0, 0x3fff, 0xbfff, 0x7fff, 0xffff,
                                         1, 0x401e, 0x403e, 0x8000, 0x4002};
    uint64_t mantissa = vector_value(r);
    uint16_t exponent = exponents[diff_next(r) % ARRAY_LEN(exponents)];

    if (exponent & 0x7fff && !diff_chance(r, 10)) {
        mantissa |= UINT64_C(1) << 63; /* else unnormal: invalid */
    }
    memset(st, 0, 16);
    store_le64(st, mantissa);
    store_le16(st + 8, exponent);
}

/* Opmasks that are all, none, or some. */
static void random_masks(struct diff_random *r, uint8_t *masks)
{
    unsigned i;

    for (i = 0; i < 8; i++) {
        uint64_t bits = diff_next(r);

        switch (diff_dice(r, 8)) {
        case 0: bits = 0; break;
        case 1: bits = UINT64_MAX; break;
        case 2: bits = 1; break;
        case 3: bits &= 0xff; break;
        default: break;
        }
        store_le64(masks + (size_t)8 * i, bits);
    }
}

void diff_random_fx(struct diff_random *r, uint8_t *fx)
{
    static const uint16_t control[] = {0x037f, 0x037f, 0x037f, 0x027f, 0x0f7f,
                                       0x007f, 0x077f, 0x0b7f, 0x0340, 0x035f};
    uint16_t status = (uint16_t)(diff_next(r) & 0x7f00);
    uint32_t mxcsr = 0x1f80;
    unsigned i;

    memset(fx, 0, DIFF_IMAGE_BYTES);
    store_le16(fx + FPU_FCW, control[diff_next(r) % ARRAY_LEN(control)]);
    if (diff_chance(r, 5)) {
        status |= diff_next(r) & 0x7f;
    }
    if (status & ~load_le16(fx + FPU_FCW) & 0x3f) {
        status |= 0x8080; /* an unmasked exception is pending */
    }
    store_le16(fx + FPU_FSW, status);
    fx[FPU_FTW] = diff_chance(r, 50) ? 0xff : (uint8_t)diff_next(r);
    if (diff_chance(r, 40)) {
        mxcsr |= diff_next(r) & 0xe040; /* rounding, FTZ, DAZ */
    }
    if (diff_chance(r, 15)) {
        mxcsr &= ~(uint32_t)(diff_next(r) & 0x1f80); /* unmask */
    }
    if (diff_chance(r, 20)) {
        mxcsr |= diff_next(r) & 0x3f;
    }
    store_le32(fx + FPU_MXCSR, mxcsr);
    store_le32(fx + FPU_MXCSR_MASK, 0xffff);
    for (i = 0; i < 8; i++) {
        random_st(r, fx + FPU_ST0 + 16 * i);
    }
    for (i = 0; i < 32; i++) {
        store_le64(fx + FPU_XMM0 + 8 * i, vector_value(r));
    }
    diff_fill(r, fx + FPU_YMM_HI, FPU_OPMASK - FPU_YMM_HI);
    random_masks(r, fx + FPU_OPMASK);
    diff_fill(r, fx + FPU_ZMM_HI, FPU_IMAGE_LEN - FPU_ZMM_HI);
}

void diff_fill(struct diff_random *r, uint8_t *data, size_t size)
{
    size_t i;
    uint64_t value = diff_next(r), stride = diff_next(r);

    for (i = 0; i + 8 <= size; i += 8) {
        /* mostly one stride, with interesting values here and there */
        value = value * 0x9e3779b97f4a7c15 + stride;
        store_le64(data + i, (value >> 60) < 5 ? vector_value(r) : value);
    }
}
