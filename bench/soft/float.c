/* float.c — floating point: scalar in registers, scalar in memory, and SSE through memory. */
#include <string.h>
#include <xmmintrin.h>

#include "bench/soft/row.h"

/* --- scalar, in registers: iterations towards the Mandelbrot set --- */

static NOINLINE unsigned escape(double x0, double y0)
{
    double x = 0;
    double y = 0;
    unsigned n = 0;

    while (n < 256 && x * x + y * y < 4.0) {
        double t = x * x - y * y + x0;

        y = 2 * x * y + y0;
        x = t;
        n++;
    }
    return n;
}

static uint64_t mandelbrot_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        for (unsigned i = 0; i < 100; i++) {
            sum = mix(sum, escape(-2.0 + 0.03 * i, -1.2 + 0.024 * (double)(n % 100)));
        }
    }
    return sum;
}

/* --- scalar, through memory: bodies that attract each other --- */

#define BODIES 5

struct body {
    double p[3], v[3], mass;
};

static NOINLINE double attract(struct body *a, struct body *b, double dt)
{
    double d[3];
    double r2 = 0.01;
    double s;

    for (unsigned k = 0; k < 3; k++) {
        d[k] = a->p[k] - b->p[k];
        r2 += d[k] * d[k];
    }
    s = dt / (r2 * _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss((float)r2))));
    for (unsigned k = 0; k < 3; k++) {
        a->v[k] -= d[k] * b->mass * s;
        b->v[k] += d[k] * a->mass * s;
    }
    return s;
}

static uint64_t nbody_run(uint64_t ops)
{
    struct body body[BODIES];
    uint64_t sum = 0;

    for (unsigned i = 0; i < BODIES; i++) {
        body[i] = (struct body){.p = {i * 1.5, i * i * 0.25, 1.0 / (i + 1)},
                                .v = {0.1 * i, 0.2, -0.05 * i},
                                .mass = 1.0 + i};
    }
    for (uint64_t n = 0; n < ops; n++) {
        for (unsigned i = 0; i < BODIES; i++) {
            for (unsigned j = i + 1; j < BODIES; j++) {
                (void)attract(&body[i], &body[j], 0.001);
            }
        }
        for (unsigned i = 0; i < BODIES; i++) {
            for (unsigned k = 0; k < 3; k++) {
                body[i].p[k] += 0.001 * body[i].v[k];
            }
        }
    }
    for (unsigned i = 0; i < BODIES; i++) {
        uint64_t bits[3];

        memcpy(bits, body[i].p, sizeof(bits));
        sum = mix(mix(mix(sum, bits[0]), bits[1]), bits[2]);
    }
    return sum;
}

/* --- SSE through memory: product of matrices --- */

#define SIDE 96

static float g_a[SIDE][SIDE] __attribute__((aligned(16)));
static float g_b[SIDE][SIDE] __attribute__((aligned(16)));
static float g_c[SIDE][SIDE] __attribute__((aligned(16)));

static void matmul_setup(void)
{
    uint64_t seed = 11;

    for (unsigned i = 0; i < SIDE; i++) {
        for (unsigned j = 0; j < SIDE; j++) {
            g_a[i][j] = (float)(rng_next(&seed) >> 40) / 16777216.0f;
            g_b[i][j] = (float)(rng_next(&seed) >> 40) / 16777216.0f;
        }
    }
}

static NOINLINE void matmul(void)
{
    memset(g_c, 0, sizeof(g_c));
    for (unsigned i = 0; i < SIDE; i++) {
        for (unsigned k = 0; k < SIDE; k++) {
            __m128 a = _mm_set1_ps(g_a[i][k]);

            for (unsigned j = 0; j < SIDE; j += 4) {
                __m128 c = _mm_load_ps(&g_c[i][j]);

                c = _mm_add_ps(c, _mm_mul_ps(a, _mm_load_ps(&g_b[k][j])));
                _mm_store_ps(&g_c[i][j], c);
            }
        }
    }
}

static uint64_t matmul_run(uint64_t ops)
{
    uint64_t sum = 0;

    for (uint64_t n = 0; n < ops; n++) {
        uint32_t bits[SIDE];

        matmul();
        memcpy(bits, g_c[n % SIDE], sizeof(bits));
        for (unsigned i = 0; i < SIDE; i += 5) {
            sum = mix(sum, bits[i]);
        }
    }
    return sum;
}

const struct row rows_float[] = {
    {.name = "mandelbrot", .ops = 400, .run = mandelbrot_run},
    {.name = "nbody", .ops = 100000, .run = nbody_run},
    {.name = "matmul", .ops = 120, .setup = matmul_setup, .run = matmul_run},
    {0},
};
