/* clock_test.c — park, timer thread, TSC frequency, kvm-clock pages. */
#include <pthread.h>
#include <time.h>

#include "base/bits.h"
#include "base/clock.h"
#include "hv/soft/intc/deadline.h"
#include "hv/soft/intc/park.h"
#include "hv/soft/intc/pvclock.h"
#include "hv/soft/intc/tsc.h"
#include "tests/lib/test.h"

/* --- park --- */

struct ping {
    struct park park;
    _Atomic uint32_t word;
    _Atomic uint32_t rounds;
};

#define ROUNDS 2000u

static void *sleeper(void *arg)
{
    struct ping *p = arg;

    while (atomic_load(&p->rounds) < ROUNDS) {
        park_wait(&p->park, clock_mono_ns() + 5 * NS_PER_S);
        if (atomic_exchange(&p->word, 0)) {
            atomic_fetch_add(&p->rounds, 1);
        }
    }
    return NULL;
}

TEST(park, no_wake_up_is_lost)
{
    static struct ping p;
    pthread_t thread;
    int64_t start = clock_mono_ns();

    park_init(&p.park, &p.word);
    CHECK_INT(pthread_create(&thread, NULL, sleeper, &p), 0);
    for (uint32_t seen = 0; seen < ROUNDS; seen = atomic_load(&p.rounds)) {
        park_wake(&p.park, 4);
        while (atomic_load(&p.rounds) == seen && clock_mono_ns() - start < 20 * NS_PER_S) {
            __builtin_ia32_pause();
        }
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK(clock_mono_ns() - start < 5 * NS_PER_S); /* a lost one costs its whole timeout */
}

TEST(park, wait_ends_in_time_and_spin_sees_the_word)
{
    struct park p;
    _Atomic uint32_t word = 0;
    int64_t start = clock_mono_ns();

    park_init(&p, &word);
    park_wait(&p, start + 3 * NS_PER_MS);
    CHECK(clock_mono_ns() - start >= 3 * NS_PER_MS);
    CHECK(!park_spin(&p, 1000));
    park_wake(&p, 1);
    CHECK(park_spin(&p, NS_PER_S));
    park_wait(&p, PARK_FOREVER); /* does not sleep at all */
}

/* --- timer thread --- */

struct fired {
    _Atomic unsigned count[HV_VCPU_MAX];
    _Atomic int64_t at[HV_VCPU_MAX];
};

static void note(void *owner, unsigned slot)
{
    struct fired *f = owner;

    atomic_store(&f->at[slot], clock_mono_ns());
    atomic_fetch_add(&f->count[slot], 1);
}

static void nap(int64_t ns)
{
    struct timespec ts = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};

    (void)nanosleep(&ts, NULL);
}

TEST(deadline, slots_fire_in_their_time_and_once)
{
    static struct fired f;
    struct deadline d;
    struct err err = {0};
    int64_t now;

    deadline_init(&d, note, &f);
    deadline_stop(&d); /* never started */
    CHECK_OK(deadline_start(&d, NULL, &err), &err);
    nap(NS_PER_MS);
    now = clock_mono_ns();
    deadline_arm(&d, 0, now + 20 * NS_PER_MS);
    deadline_arm(&d, 1, now + 5 * NS_PER_MS);  /* earlier than what the thread sleeps for */
    deadline_arm(&d, 2, now + 10 * NS_PER_MS); /* disarmed below */
    deadline_arm(&d, 31, now - 5);
    deadline_arm(&d, 2, DEADLINE_NEVER);
    for (unsigned i = 0; i < 2000 && !f.count[0]; i++) {
        nap(NS_PER_MS);
    }
    CHECK_INT(f.count[0], 1);
    CHECK_INT(f.count[1], 1);
    CHECK_INT(f.count[2], 0);
    CHECK_INT(f.count[31], 1);
    CHECK(f.at[0] >= now + 20 * NS_PER_MS);
    CHECK(f.at[1] >= now + 5 * NS_PER_MS && f.at[1] <= f.at[0]);
    deadline_stop(&d);
}

/* --- TSC --- */

TEST(tsc, frequency_is_plausible_and_ticks_pass)
{
    struct tsc t;
    uint64_t a;
    int64_t ns, passed;

    tsc_init(&t);
    CHECK(t.hz > 100000000 && t.hz < UINT64_C(10000000000));
    a = tsc_ticks(&t);
    ns = clock_mono_ns();
    nap(20 * NS_PER_MS);
    passed = tsc_to_ns(&t, tsc_ticks(&t) - a);
    ns = clock_mono_ns() - ns;
    CHECK(passed <= ns + NS_PER_MS && passed >= ns - ns / 100 - NS_PER_MS);
}

TEST(tsc, conversions_and_choices)
{
    struct tsc t = {.is_host_tsc = true, .hz = UINT64_C(2500000000)};
    struct tsc slow = {.is_host_tsc = false, .hz = 1000000000};

    CHECK_INT(tsc_to_ns(&t, 5000), 2000);
    CHECK(tsc_to_ns(&t, UINT64_MAX) == INT64_C(7378697629483820646));
    t.hz = 1000;
    CHECK(tsc_to_ns(&t, UINT64_MAX) == INT64_MAX);
    CHECK(tsc_ticks(&slow) - (uint64_t)clock_mono_ns() + 1000000000u < 2000000000u);
    CHECK_INT(tsc_choose_hz(2000100000, 2000000000), 2000000000);
    CHECK_INT(tsc_choose_hz(2000000000, 2000100000), 2000100000);
    CHECK_INT(tsc_choose_hz(2000000000, 1996000000), 2000000000);
    CHECK_INT(tsc_choose_hz(2000000000, 0), 2000000000);
    CHECK_INT(tsc_cpuinfo_khz("vendor_id\t: X\ncpu MHz\t\t: 2445.406\ncache"), 2445406);
    CHECK_INT(tsc_cpuinfo_khz("cpu MHz"), 0);
    CHECK_INT(tsc_cpuinfo_khz(""), 0);
}

TEST(tsc, without_one_of_the_host_any_frequency_will_do)
{
    struct tsc slow = {.is_host_tsc = false, .hz = 1000000000};
    struct tsc host = {.is_host_tsc = true, .hz = 1000000000};
    uint64_t a;
    int64_t ns;

    CHECK(!tsc_adopt_hz(&host, 2000000000));
    CHECK(!tsc_adopt_hz(&slow, 0));
    CHECK(!tsc_adopt_hz(&slow, TSC_HZ_MAX + 1));
    CHECK(tsc_adopt_hz(&slow, 2596139000));
    a = tsc_ticks(&slow);
    ns = clock_mono_ns();
    nap(5 * NS_PER_MS);
    CHECK(tsc_to_ns(&slow, tsc_ticks(&slow) - a) >= clock_mono_ns() - ns - NS_PER_MS);
    CHECK(tsc_ticks(&slow) / 2596139 - (uint64_t)clock_mono_ns() / 1000000 + 100 < 200);
}

/* --- kvm-clock --- */

static uint64_t scaled(uint64_t ticks, uint32_t mul, int8_t shift)
{
    ticks = shift < 0 ? ticks >> -shift : ticks << shift;
    return (uint64_t)((__uint128_t)ticks * mul >> 32);
}

TEST(pvclock, scale_turns_ticks_into_nanoseconds)
{
    static const uint64_t hz[] = {1000000000, 2000000000, 2445406000, 3999999999, 500000001,
                                  999999999,  1000000001, 24000000,   5800000000};

    for (unsigned i = 0; i < ARRAY_LEN(hz); i++) {
        uint32_t mul;
        int8_t shift;
        uint64_t ns;

        pvclock_scale(hz[i], &mul, &shift);
        CHECK(mul >= 0x80000000u);
        ns = scaled(hz[i] * 1000, mul, shift);
        CHECK(ns > UINT64_C(999999990000) && ns < UINT64_C(1000000010000));
    }
}

#define RAM_BYTES 4096u

struct ram {
    uint8_t bytes[RAM_BYTES];
    uint32_t versions[8];
    unsigned writes;
};

static int write_ram(void *owner, uint64_t gpa, const void *data, unsigned len)
{
    struct ram *ram = owner;

    if (!range_within(gpa, len, RAM_BYTES)) {
        return -1;
    }
    memcpy(ram->bytes + gpa, data, len);
    ram->versions[ram->writes++ % 8] = load_le32(ram->bytes + (gpa & ~UINT64_C(63)));
    return 0;
}

TEST(pvclock, system_time_page_has_an_odd_version_while_it_changes)
{
    static struct ram ram;
    struct tsc t = {.is_host_tsc = true, .hz = UINT64_C(2400000000)};
    struct pvclock c;

    pvclock_init(&c, write_ram, &ram);
    pvclock_update(&c, &t);
    CHECK_INT(ram.writes, 0); /* nobody asked */
    c.tsc_origin = 77;
    pvclock_set_system(&c, &t, 64 | PVCLOCK_ENABLE);
    CHECK_INT(ram.writes, 3);
    CHECK_INT(ram.versions[0] & 1, 1);
    CHECK_INT(ram.versions[1] & 1, 1);
    CHECK_INT(ram.versions[2] & 1, 0);
    CHECK_INT(load_le64(ram.bytes + 64 + 8), 77);
    CHECK_INT(load_le64(ram.bytes + 64 + 16), 0);
    CHECK_INT(ram.bytes[64 + 28], 0xff); /* shift -1 */
    CHECK_INT(load_le32(ram.bytes + 64 + 24), 3579139413u);
    CHECK_INT(ram.bytes[64 + 29], PVCLOCK_TSC_STABLE);
    pvclock_update(&c, &t);
    CHECK(ram.versions[5] > ram.versions[2]);
    pvclock_set_system(&c, &t, 64); /* off */
    CHECK_INT(ram.writes, 6);
    pvclock_set_system(&c, &t, (UINT64_C(1) << 40) | PVCLOCK_ENABLE); /* not RAM */
    CHECK_INT(ram.writes, 6);
    CHECK_INT(c.version & 1, 0);
}

TEST(pvclock, wall_clock_is_the_time_of_the_boot)
{
    static struct ram ram;
    struct pvclock c;

    pvclock_init(&c, write_ram, &ram);
    pvclock_set_wall(&c, 128, 5 * NS_PER_S, 1700000000 * NS_PER_S + 250);
    CHECK_INT(load_le32(ram.bytes + 128), 2);
    CHECK_INT(load_le32(ram.bytes + 132), 1699999995);
    CHECK_INT(load_le32(ram.bytes + 136), 250);
    pvclock_set_wall(&c, 0, 0, 1);
    pvclock_set_wall(&c, UINT64_MAX - 3, 0, 1);
    CHECK_INT(ram.writes, 3);
}
