/* keep.c — processes that hold values in all vector registers and masks while the kernel takes the
 * CPU from them and signal handlers overwrite the registers.  Says whether any was lost.
 *
 *     keep ROUNDS
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPINS 200000

static uint64_t g_in[32 * 8] __attribute__((aligned(64)));
static uint64_t g_out[32 * 8] __attribute__((aligned(64)));
static uint64_t g_masks_in[8], g_masks_out[8];
static int g_has_zmm;
static volatile int g_ticks;

/* for each register: .irp is the assembler's loop */
#define EACH16 ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
#define EACH32                                                                                   \
    ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30," \
    "31\n"
#define EACH_MASK ".irp r,1,2,3,4,5,6,7\n"

static void hold_zmm(long spins)
{
    __asm__ volatile(EACH32 "vmovdqa64 \\r*64(%1), %%zmm\\r\n.endr\n" /* in */
                     EACH_MASK "kmovq \\r*8(%3), %%k\\r\n.endr\n"
                            "1: dec %0; jnz 1b\n"                     /* hold */
                     EACH32 "vmovdqa64 %%zmm\\r, \\r*64(%2)\n.endr\n" /* out */
                     EACH_MASK "kmovq %%k\\r, \\r*8(%4)\n.endr\n"
                            "vzeroupper"
                     : "+r"(spins)
                     : "r"(g_in), "r"(g_out), "r"(g_masks_in), "r"(g_masks_out)
                     : "memory", "cc");
}

static void hold_ymm(long spins)
{
    __asm__ volatile(EACH16 "vmovdqa \\r*64(%1), %%ymm\\r\n.endr\n"
                            "1: dec %0; jnz 1b\n" EACH16 "vmovdqa %%ymm\\r, \\r*64(%2)\n.endr\n"
                            "vzeroupper"
                     : "+r"(spins)
                     : "r"(g_in), "r"(g_out)
                     : "memory", "cc");
}

static void on_tick(int sig)
{
    (void)sig;
    g_ticks++;
    if (g_has_zmm) {
        __asm__ volatile(EACH32 "vpternlogd $255, %%zmm\\r, %%zmm\\r, %%zmm\\r\n.endr\n" EACH_MASK
                                "kxnorq %%k\\r, %%k\\r, %%k\\r\n.endr" ::
                                    : "memory");
    } else {
        __asm__ volatile(EACH16 "vpcmpeqd %%xmm\\r, %%xmm\\r, %%xmm\\r\n.endr" ::: "memory");
    }
}

static int is_kept(int rounds, int with_zmm)
{
    for (int i = 0; i < rounds; i++) {
        memset(g_out, 0, sizeof(g_out));
        with_zmm ? hold_zmm(SPINS) : hold_ymm(SPINS);
        for (int reg = 0; reg < (with_zmm ? 32 : 16); reg++) {
            if (memcmp(g_in + reg * 8, g_out + reg * 8, with_zmm ? 64 : 32) != 0) {
                return 0;
            }
        }
        if (with_zmm && memcmp(g_masks_in + 1, g_masks_out + 1, 7 * 8) != 0) {
            return 0;
        }
    }
    return g_ticks > 0;
}

static int child(int number, int rounds)
{
    struct itimerval timer = {{0, 3000}, {0, 3000}};
    uint64_t value = (uint64_t)number;

    for (int i = 0; i < 32 * 8; i++) {
        g_in[i] = value += UINT64_C(0x9e3779b97f4a7c15);
    }
    for (int i = 0; i < 8; i++) {
        g_masks_in[i] = value += UINT64_C(0x9e3779b97f4a7c15);
    }
    (void)signal(SIGALRM, on_tick);
    (void)setitimer(ITIMER_REAL, &timer, NULL);
    return is_kept(rounds, g_has_zmm && number != 2) ? 0 : 1;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 100, status, lost = 0;

    g_has_zmm = __builtin_cpu_supports("avx512bw");
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            _exit(child(i, rounds));
        }
    }
    while (wait(&status) > 0) {
        lost |= status != 0;
    }
    (void)puts(lost ? "lost" : "kept");
    return lost;
}
