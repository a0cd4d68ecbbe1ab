/* loops.c — loops that compilers vectorise, of all element sizes; prints a digest of what they
 * compute, which is the same whatever instructions they are made of.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define COUNT 4096

static float g_a[COUNT], g_b[COUNT], g_c[COUNT];
static double g_d[COUNT];
static uint32_t g_x[COUNT], g_y[COUNT];
static uint16_t g_h[COUNT];
static uint8_t g_u[COUNT], g_w[COUNT];
static uint64_t g_digest = UINT64_C(14695981039346656037);

#define LOOP(name, body)                             \
    __attribute__((noinline)) static void name(void) \
    {                                                \
        for (unsigned i = 0; i < COUNT; i++) {       \
            body;                                    \
        }                                            \
    }
LOOP(fill, g_a[i] = (float)i * 0.37f; g_b[i] = (float)(COUNT - i) * 1.25f; g_c[i] = (float)i;
     g_d[i] = i * 3.1; g_x[i] = i * 7919; g_y[i] = i * 104729; g_u[i] = (uint8_t)i;
     g_w[i] = (uint8_t)(i * 3); g_h[i] = (uint16_t)(i * 5))
LOOP(singles, g_c[i] = g_a[i] * g_b[i] + g_c[i])
LOOP(doubles, g_d[i] = g_d[i] / (1.0 + g_a[i]) + sqrt((double)g_b[i]))
LOOP(integers, g_x[i] = g_x[i] * 1103515245 + (g_y[i] >> (i & 31)) + (g_x[i] > g_y[i] ? 7 : g_y[i]))
LOOP(bytes, unsigned sum = (unsigned)g_u[i] + g_w[i]; g_u[i] = (uint8_t)(sum > 255 ? 255 : sum);
     g_w[i] = (uint8_t)(g_w[i] > g_u[i] ? g_w[i] - g_u[i] : 3))
LOOP(gathered, g_y[i] = g_x[(g_x[i] ^ i) & (COUNT - 1)])
LOOP(words, g_h[i] = (uint16_t)((uint16_t)(g_h[i] * 40503u + g_u[i]) >> 1))
LOOP(masked, if (g_x[i] & 1) g_a[i] = g_b[i] * 0.5f)
LOOP(converted, g_x[i] += (uint32_t)(int32_t)g_d[i] + (uint32_t)__builtin_popcount(g_y[i]))

static void digest(const void *data, size_t size)
{
    const uint8_t *p = data;

    while (size--) {
        g_digest = (g_digest ^ *p++) * UINT64_C(1099511628211);
    }
}
#define DIGEST(array) digest(array, sizeof(array))

int main(void)
{
    fill();
    for (unsigned i = 0; i < 40; i++) {
        singles();
        doubles();
        integers();
        bytes();
        gathered();
        words();
        masked();
        converted();
    }
    DIGEST(g_a);
    DIGEST(g_b);
    DIGEST(g_c);
    DIGEST(g_d);
    DIGEST(g_x);
    DIGEST(g_y);
    DIGEST(g_h);
    DIGEST(g_u);
    DIGEST(g_w);
    (void)printf("%016llx\n", (unsigned long long)g_digest);
    return 0;
}
