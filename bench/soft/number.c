/* number.c — integer kernels that compute: SHA-256, big numbers, LZ decompression. */
#include <string.h>

#include "bench/soft/row.h"

/* --- SHA-256 (FIPS 180-4), without its padding --- */

#define HASH_BYTES 16384

static const uint32_t g_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint8_t g_hashed[HASH_BYTES];

static inline uint32_t ror(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static NOINLINE void sha256_block(uint32_t *h, const uint8_t *p)
{
    uint32_t w[64];
    uint32_t s[8];

    for (unsigned i = 0; i < 16; i++) {
        memcpy(&w[i], p + 4 * i, 4);
        w[i] = __builtin_bswap32(w[i]);
    }
    for (unsigned i = 16; i < 64; i++) {
        uint32_t a = w[i - 15];
        uint32_t b = w[i - 2];

        w[i] = w[i - 16] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + w[i - 7] +
               (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof(s));
    for (unsigned i = 0; i < 64; i++) {
        uint32_t t1 = s[7] + (ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25)) +
                      ((s[4] & s[5]) ^ (~s[4] & s[6])) + g_k[i] + w[i];
        uint32_t t2 = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) +
                      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

        s[7] = s[6];
        s[6] = s[5];
        s[5] = s[4];
        s[4] = s[3] + t1;
        s[3] = s[2];
        s[2] = s[1];
        s[1] = s[0];
        s[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++) {
        h[i] += s[i];
    }
}

static void sha256_setup(void)
{
    uint64_t seed = 8;

    for (unsigned i = 0; i < HASH_BYTES; i++) {
        g_hashed[i] = (uint8_t)(rng_next(&seed) >> 40);
    }
}

static uint64_t sha256_run(uint64_t ops)
{
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    for (uint64_t n = 0; n < ops; n++) {
        for (unsigned i = 0; i < HASH_BYTES; i += 64) {
            sha256_block(h, g_hashed + i);
        }
    }
    return mix(mix(h[0], (uint64_t)h[3] << 32 | h[4]), h[7]);
}

/* --- big numbers: schoolbook multiplication of 2,048-bit numbers --- */

#define LIMBS 32

static NOINLINE uint64_t mul_add(uint64_t *r, const uint64_t *a, size_t n, uint64_t b)
{
    uint64_t carry = 0;

    for (size_t i = 0; i < n; i++) {
        __extension__ unsigned __int128 t = (unsigned __int128)a[i] * b + r[i] + carry;

        r[i] = (uint64_t)t;
        carry = (uint64_t)(t >> 64);
    }
    return carry;
}

static uint64_t bignum_run(uint64_t ops)
{
    uint64_t a[LIMBS];
    uint64_t b[LIMBS];
    uint64_t r[2 * LIMBS];
    uint64_t seed = 9;

    for (unsigned i = 0; i < LIMBS; i++) {
        a[i] = rng_next(&seed);
        b[i] = rng_next(&seed);
    }
    for (uint64_t n = 0; n < ops; n++) {
        memset(r, 0, sizeof(r));
        for (unsigned i = 0; i < LIMBS; i++) {
            r[i + LIMBS] = mul_add(r + i, a, LIMBS, b[i]);
        }
        memcpy(a, r + LIMBS / 2, sizeof(a));
        a[0] |= 1;
    }
    return mix(mix(a[0], a[LIMBS / 2]), a[LIMBS - 1]);
}

/* --- LZ decompression: literals and matches of the LZ77 kind, byte by byte --- */

#define LZ_BYTES 65536
#define LZ_HASH  4096

static uint8_t g_plain[LZ_BYTES], g_packed[2 * LZ_BYTES], g_unpacked[LZ_BYTES];
static size_t g_packed_len;

/* Text of words that come again and again. */
static void lz_make_text(void)
{
    uint64_t seed = 10;
    size_t at = 0;
    uint8_t words[64][8];

    for (unsigned i = 0; i < 64; i++) {
        for (unsigned k = 0; k < 8; k++) {
            words[i][k] = (uint8_t)('a' + rng_next(&seed) % 26);
        }
    }
    while (at < LZ_BYTES) {
        uint64_t r = rng_next(&seed);
        size_t len = 3 + (r >> 8) % 6;

        for (size_t k = 0; k < len && at < LZ_BYTES; k++) {
            g_plain[at++] = words[r % 64][k % 8];
        }
        if (at < LZ_BYTES) {
            g_plain[at++] = r & 1 << 20 ? ' ' : (uint8_t)(r >> 30);
        }
    }
}

/* Tokens: 0 to 127: that many literals + 1 follow; 128 to 255: a match of token - 124 bytes, whose
 * distance follows in two bytes. */
static void lz_setup(void)
{
    static size_t last[LZ_HASH];
    size_t literals = 0;
    size_t out = 0;

    lz_make_text();
    for (size_t at = 0; at < LZ_BYTES;) {
        size_t len = 0;
        size_t from = 0;

        if (at + 4 <= LZ_BYTES) {
            uint32_t word;
            size_t *slot;

            memcpy(&word, g_plain + at, 4);
            slot = &last[word * 2654435761u >> 20];
            from = *slot;
            *slot = at;
            while (from < at && at - from < 65536 && at + len < LZ_BYTES && len < 131 &&
                   g_plain[from + len] == g_plain[at + len]) {
                len++;
            }
        }
        if (len >= 4) {
            g_packed[out++] = (uint8_t)(len + 124);
            g_packed[out++] = (uint8_t)(at - from);
            g_packed[out++] = (uint8_t)((at - from) >> 8);
            at += len;
            literals = 0;
        } else {
            if (literals == 0 || literals == 128) {
                g_packed[out++] = 0;
                literals = 0;
            } else {
                g_packed[out - literals - 1]++;
            }
            g_packed[out++] = g_plain[at++];
            literals++;
        }
    }
    g_packed_len = out;
}

static NOINLINE size_t lz_unpack(uint8_t *to, const uint8_t *p, size_t len)
{
    const uint8_t *end = p + len;
    uint8_t *start = to;

    while (p < end) {
        unsigned token = *p++;

        if (token < 128) {
            for (unsigned i = 0; i <= token; i++) {
                *to++ = *p++;
            }
        } else {
            const uint8_t *from = to - (p[0] | p[1] << 8);

            p += 2;
            for (unsigned i = 0; i < token - 124; i++) {
                *to++ = *from++;
            }
        }
    }
    return (size_t)(to - start);
}

static uint64_t lz_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        size_t len;

        memset(g_unpacked, 0, sizeof(g_unpacked));
        len = lz_unpack(g_unpacked, g_packed, g_packed_len);
        sum = mix(sum, len);
        for (size_t i = n % 7; i < LZ_BYTES; i += 997) {
            sum = mix(sum, (uint64_t)g_unpacked[i] << 8 | g_plain[i]);
        }
        sum = mix(sum, (uint64_t)memcmp(g_unpacked, g_plain, LZ_BYTES));
    }
    return sum;
}

const struct row rows_number[] = {
    {.name = "sha256", .ops = 250, .setup = sha256_setup, .run = sha256_run},
    {.name = "bignum", .ops = 30000, .run = bignum_run},
    {.name = "lz", .ops = 300, .setup = lz_setup, .run = lz_run},
    {0},
};
