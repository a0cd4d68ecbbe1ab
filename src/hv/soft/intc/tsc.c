/* tsc.c — the frequency of the host's time stamp counter, announced or measured. */
#include "hv/soft/intc/tsc.h"

#include <cpuid.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "base/buf.h"
#include "base/clock.h"

#define MEASURE_NS  (2 * NS_PER_MS)
#define CPUINFO_MAX (1024 * 1024)

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

static struct tsc g_tsc;
static pthread_once_t g_tsc_once = PTHREAD_ONCE_INIT;

/* CPUID 80000007H EDX bit 8 (SDM volume 3, 18.17.1). */
static bool host_tsc_is_invariant(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(0x80000007, &a, &b, &c, &d) && d & 0x100;
}

/* CPUID 15H: crystal clock times ratio; 0 if the host does not say. */
static uint64_t hz_from_crystal(void)
{
    unsigned denominator, numerator, crystal, d;

    if (!__get_cpuid_count(0x15, 0, &denominator, &numerator, &crystal, &d) || !denominator) {
        return 0;
    }
    return (uint64_t)crystal * numerator / denominator;
}

/* CPUID 40000010H EAX: kHz, as hypervisors that know it tell their guests. */
static uint64_t hz_from_hypervisor(void)
{
    unsigned a, b, c, d;

    __cpuid(1, a, b, c, d);
    if (!(c & 0x80000000u)) {
        return 0;
    }
    __cpuid(0x40000000, a, b, c, d);
    if (a < 0x40000010) {
        return 0;
    }
    __cpuid(0x40000010, a, b, c, d);
    return (uint64_t)a * 1000;
}

uint64_t tsc_cpuinfo_khz(const char *text)
{
    const char *line = strstr(text, "cpu MHz");
    const char *colon = line ? strchr(line, ':') : NULL;
    double mhz = colon ? strtod(colon + 1, NULL) : 0;

    return mhz > 0 && mhz < 1e6 ? (uint64_t)(mhz * 1000 + 0.5) : 0;
}

static uint64_t hz_from_cpuinfo(void)
{
    struct buf text = {0};
    uint64_t khz = 0;

    if (buf_read_file(&text, "/proc/cpuinfo", CPUINFO_MAX) == 0) {
        khz = tsc_cpuinfo_khz(buf_str(&text));
    }
    buf_fini(&text);
    return khz * 1000;
}

struct sample {
    uint64_t ticks;
    int64_t ns;
};

/* Both clocks at one moment: of a few tries the one with the shortest window. */
static struct sample take_sample(void)
{
    struct sample best = {0};
    uint64_t width = UINT64_MAX;

    for (unsigned i = 0; i < 8; i++) {
        uint64_t before = __rdtsc();
        int64_t ns = clock_ns(CLOCK_MONOTONIC_RAW);
        uint64_t after = __rdtsc();

        if (after - before < width) {
            width = after - before;
            best = (struct sample){.ticks = before + width / 2, .ns = ns};
        }
    }
    return best;
}

static uint64_t hz_measured(void)
{
    struct timespec pause = {.tv_nsec = MEASURE_NS};
    struct sample a = take_sample();
    struct sample b;

    do {
        (void)nanosleep(&pause, NULL);
        b = take_sample();
    } while (b.ns - a.ns < MEASURE_NS);
    return (uint64_t)((u128)(b.ticks - a.ticks) * (u128)NS_PER_S / (u128)(b.ns - a.ns));
}

uint64_t tsc_choose_hz(uint64_t measured, uint64_t announced)
{
    uint64_t gap = measured > announced ? measured - announced : announced - measured;

    return gap <= measured / 2000 ? announced : measured;
}

static uint64_t find_hz(void)
{
    uint64_t hz = hz_from_crystal();

    if (!hz) {
        hz = hz_from_hypervisor();
    }
    return hz ? hz : tsc_choose_hz(hz_measured(), hz_from_cpuinfo());
}

/* Without a host TSC any frequency will do; the one by which KVM here would count lets snapshots go
 * from one to the other. */
static void init_once(void)
{
    g_tsc = (struct tsc){.is_host_tsc = host_tsc_is_invariant(), .hz = (uint64_t)NS_PER_S};
    if (g_tsc.is_host_tsc) {
        g_tsc.hz = find_hz();
    } else {
        (void)tsc_adopt_hz(&g_tsc, hz_from_cpuinfo());
    }
}

void tsc_init(struct tsc *tsc)
{
    (void)pthread_once(&g_tsc_once, init_once);
    *tsc = g_tsc;
}

bool tsc_adopt_hz(struct tsc *tsc, uint64_t hz)
{
    if (tsc->is_host_tsc || hz < TSC_HZ_MIN || hz > TSC_HZ_MAX) {
        return false;
    }
    tsc->hz = hz;
    return true;
}

uint64_t tsc_ticks(const struct tsc *tsc)
{
    return tsc->is_host_tsc ? __rdtsc() : tsc_from_ns(tsc, clock_mono_ns());
}

int64_t tsc_to_ns(const struct tsc *tsc, uint64_t ticks)
{
    u128 ns = (u128)ticks * (u128)NS_PER_S / tsc->hz;

    return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

uint64_t tsc_from_ns(const struct tsc *tsc, int64_t ns)
{
    return (uint64_t)((i128)ns * (i128)tsc->hz / NS_PER_S);
}
