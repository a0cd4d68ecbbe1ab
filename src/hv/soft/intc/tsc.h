/* tsc.h — the source of guest time: the host's time stamp counter where it is invariant, else the
 * host's monotonic clock, scaled. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct tsc {
    bool is_host_tsc;
    uint64_t hz;
};

/* Finds out the frequency; the first call in a process may take 2 ms. */
void tsc_init(struct tsc *tsc);
/* Of what a CPU may have; a snapshot may say anything. */
#define TSC_HZ_MIN UINT64_C(100000000)
#define TSC_HZ_MAX UINT64_C(10000000000)

/* Count so many a second from now on; false if the source is the host's own or that is no such
 * frequency.  Before anybody has looked. */
bool tsc_adopt_hz(struct tsc *tsc, uint64_t hz);
/* Ticks of the source now. */
uint64_t tsc_ticks(const struct tsc *tsc);
/* Conversions, rounded down; saturating at INT64_MAX. */
int64_t tsc_to_ns(const struct tsc *tsc, uint64_t ticks);
uint64_t tsc_from_ns(const struct tsc *tsc, int64_t ns); /* modulo 2^64 */

/* The frequency in kHz that "cpu MHz" of a /proc/cpuinfo text names first; 0 if none. */
uint64_t tsc_cpuinfo_khz(const char *text);
/* Choose between a measurement and an announced frequency, both in Hz: the announced one if it is
 * within 500 ppm, since then it is the host kernel's own, better measurement. */
uint64_t tsc_choose_hz(uint64_t measured, uint64_t announced);
