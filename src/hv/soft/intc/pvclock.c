/* pvclock.c — fill the kvm-clock pages. */
#include "hv/soft/intc/pvclock.h"

#include <string.h>

#include "base/bits.h"
#include "base/clock.h"

__extension__ typedef unsigned __int128 u128;

void pvclock_init(struct pvclock *clock, pvclock_write_fn write, void *owner)
{
    *clock = (struct pvclock){.write = write, .owner = owner};
}

void pvclock_scale(uint64_t hz, uint32_t *ret_mul, int8_t *ret_shift)
{
    int8_t shift = 0;

    /* Shifted ticks run at (1, 2] GHz: mul, a fraction of 2^32, then has its highest bit set. */
    while (hz > 2 * (uint64_t)NS_PER_S) {
        hz >>= 1;
        shift--;
    }
    while (hz <= (uint64_t)NS_PER_S) {
        hz <<= 1;
        shift++;
    }
    *ret_mul = (uint32_t)(((u128)NS_PER_S << 32) / hz);
    *ret_shift = shift;
}

static void write_page(struct pvclock *clock, const struct tsc *tsc, uint8_t flags)
{
    uint64_t gpa = clock->system_msr & ~(uint64_t)PVCLOCK_ENABLE;
    uint8_t page[PVCLOCK_BYTES] = {0};
    uint32_t mul;
    int8_t shift;

    if (!(clock->system_msr & PVCLOCK_ENABLE)) {
        return;
    }
    pvclock_scale(tsc->hz, &mul, &shift);
    /* Odd while the content changes. */
    store_le32(page, ++clock->version);
    if (clock->write(clock->owner, gpa, page, 4) < 0) {
        clock->version++;
        return;
    }
    store_le64(page + 8, clock->tsc_origin);
    store_le64(page + 16, 0);
    store_le32(page + 24, mul);
    page[28] = (uint8_t)shift;
    page[29] = flags;
    (void)clock->write(clock->owner, gpa + 4, page + 4, PVCLOCK_BYTES - 4);
    store_le32(page, ++clock->version);
    (void)clock->write(clock->owner, gpa, page, 4);
}

void pvclock_update(struct pvclock *clock, const struct tsc *tsc)
{
    write_page(clock, tsc, PVCLOCK_TSC_STABLE);
}

void pvclock_note_stopped(struct pvclock *clock, const struct tsc *tsc)
{
    write_page(clock, tsc, PVCLOCK_TSC_STABLE | PVCLOCK_GUEST_STOPPED);
}

void pvclock_set_system(struct pvclock *clock, const struct tsc *tsc, uint64_t value)
{
    clock->system_msr = value;
    pvclock_update(clock, tsc);
}

void pvclock_set_wall(struct pvclock *clock, uint64_t value, int64_t system_ns, int64_t wall_ns)
{
    int64_t boot_ns = wall_ns - system_ns;
    uint8_t wall[PVCLOCK_WALL_BYTES] = {0};

    clock->wall_msr = value;
    if (!value) {
        return;
    }
    store_le32(wall, 1);
    if (clock->write(clock->owner, value, wall, 4) < 0) {
        return;
    }
    store_le32(wall + 4, (uint32_t)(boot_ns / NS_PER_S));
    store_le32(wall + 8, (uint32_t)(boot_ns % NS_PER_S));
    (void)clock->write(clock->owner, value + 4, wall + 4, PVCLOCK_WALL_BYTES - 4);
    store_le32(wall, 2);
    (void)clock->write(clock->owner, value, wall, 4);
}
