/* generation_test.c — a restored guest finds a new id, counted disruptions, and two notifications.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "boot/layout.h"
#include "machine/generation.h"
#include "machine/machine_int.h"
#include "tests/lib/test.h"

static unsigned g_pulses[4];
static unsigned g_pulse_count;

static int pulse(struct hv_vm *vm, unsigned line)
{
    (void)vm;
    if (g_pulse_count < 4) {
        g_pulses[g_pulse_count++] = line;
    }
    return 0;
}

static const struct hv_ops g_ops = {.name = "fake", .irq_pulse = pulse};
static struct hv_vm g_vm = {.ops = &g_ops};

static struct machine *make(unsigned slots)
{
    struct machine *m = calloc(1, sizeof(*m));
    struct err err = {0};

    CHECK(m != NULL);
    m->vm = &g_vm;
    m->mem = mem_map_new();
    CHECK_OK(mem_map_add(m->mem, GPA(0), MIB, &err), &err);
    m->slot_count = slots;
    return m;
}

static void end(struct machine *m)
{
    mem_map_free(m->mem);
    free(m);
}

TEST(machine, generation_is_renewed_and_announced)
{
    struct machine *m = make(3);
    struct err err = {0};
    const uint8_t *clock;
    uint8_t before[16];
    const uint8_t *id;

    CHECK_OK(machine_add_generation(m, &err), &err);
    CHECK_OK(machine_write_generation(m, &err), &err);
    id = mem_ptr(m->mem, GPA(BOOT_VMGENID), 16);
    clock = mem_ptr(m->mem, GPA(BOOT_VMCLOCK), 0x70);
    memcpy(before, id, sizeof(before));
    CHECK_INT(load_le32(clock), 0x4b4c4356);
    CHECK_INT(load_le64(clock + 0x18), 0x300);
    g_pulse_count = 0;
    CHECK_OK(machine_renew_generation(m, &err), &err);
    CHECK(memcmp(before, id, sizeof(before)) != 0);
    CHECK_INT(load_le32(clock + 0x0c), 2); /* even: it is whole */
    CHECK_INT(load_le64(clock + 0x10), 1);
    CHECK_INT(load_le64(clock + 0x68), 1);
    CHECK_INT(g_pulse_count, 2);
    CHECK_INT(g_pulses[0], 8); /* behind three devices */
    CHECK_INT(g_pulses[1], 9);
    end(m);
}

TEST(machine, generation_needs_two_lines)
{
    struct machine *m = make(17);
    struct err err = {0};

    CHECK_OK(machine_add_generation(m, &err), &err);
    CHECK_INT(m->generation_irq, 22);
    m->slot_count = 18;
    CHECK_INT(machine_add_generation(m, &err), -ENOSPC);
    CHECK_STR(err.text, "Could not allocate GSI: The requested resource is not available.");
    end(m);
}
