/* io_test.c — ports, device memory, doorbells. */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/vm/guest.h"

static void check_log(const struct guest *g, const struct guest_access *want, unsigned count)
{
    CHECK_INT(g->count, count);
    for (unsigned i = 0; i < count; i++) {
        const struct guest_access *got = &g->log[i];

        if (got->is_pio != want[i].is_pio || got->is_write != want[i].is_write ||
            got->at != want[i].at || got->len != want[i].len ||
            (want[i].is_write && got->value != want[i].value)) {
            print_error("access %u: %s %s %llx+%u = %llx\n", i, got->is_pio ? "port" : "memory",
                        got->is_write ? "write" : "read", (unsigned long long)got->at, got->len,
                        (unsigned long long)got->value);
            fail();
        }
    }
}

#define OUT(port, n, v)                                                    \
    {                                                                      \
        .is_pio = true, .is_write = true, .at = port, .len = n, .value = v \
    }
#define IN(port, n)                          \
    {                                        \
        .is_pio = true, .at = port, .len = n \
    }
#define WRITE(gpa, n, v)                                  \
    {                                                     \
        .is_write = true, .at = gpa, .len = n, .value = v \
    }
#define READ(gpa, n)        \
    {                       \
        .at = gpa, .len = n \
    }

TEST(vm, ports_of_all_widths)
{
    static const struct guest_access want[] = {
        OUT(0x3f0, 1, 0x11), OUT(0x3f2, 2, 0x2211), OUT(0x3f4, 4, 0x44332211),
        OUT(0xe2, 1, 0x11),  IN(0xe3, 1),           IN(0x3f2, 2),
        IN(0x3f4, 4)};
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, port_widths);
    state_real();
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 1);
    check_log(&g, want, ARRAY_LEN(want));
    CHECK_INT(g_state.gpr[GPR_RBX], 0x63);
    CHECK_INT(g_state.gpr[GPR_RCX], 0x7372);
    CHECK_INT(g_state.gpr[GPR_RSI], 0x77767574);
    guest_fini(&g);
}

TEST(vm, port_strings)
{
    static const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    static const struct guest_access want[] = {OUT(0x510, 1, 1),
                                               OUT(0x510, 1, 2),
                                               OUT(0x510, 1, 3),
                                               OUT(0x510, 1, 4),
                                               OUT(0x510, 2, 0x0605),
                                               OUT(0x510, 2, 0x0807),
                                               OUT(0x510, 4, 0x0c0b0a09),
                                               IN(0x510, 1),
                                               IN(0x510, 1),
                                               IN(0x510, 1),
                                               IN(0x510, 2),
                                               IN(0x510, 2),
                                               IN(0x510, 4),
                                               IN(0x510, 4)};
    static const uint8_t read[] = {0x90, 0x90, 0x90, 0x90, 0x91, 0x90, 0x91, 0x90,
                                   0x91, 0x92, 0x93, 0x90, 0x91, 0x92, 0x93};
    uint8_t got[sizeof(read)];
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, port_strings);
    guest_put(&g, DATA_AT, data, sizeof(data));
    state_long64(&g);
    g_state.gpr[GPR_RSI] = DATA_AT;
    g_state.gpr[GPR_RDI] = DATA_AT + 0x100;
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    check_log(&g, want, ARRAY_LEN(want));
    CHECK_INT(mem_read(g.mem, GPA(DATA_AT + 0x100), got, sizeof(got)), 0);
    CHECK_MEM(got, read, sizeof(read));
    CHECK_INT(g_state.gpr[GPR_RSI], DATA_AT + sizeof(data));
    CHECK_INT(g_state.gpr[GPR_RDI], DATA_AT + 0x100 + sizeof(read));
    guest_fini(&g);
}

TEST(vm, device_memory_of_all_widths)
{
    static const struct guest_access want[] = {WRITE(0xd0000001, 1, 0x11),
                                               WRITE(0xd0000002, 2, 0x2211),
                                               WRITE(0xd0000004, 4, 0x44332211),
                                               WRITE(0xd0000008, 8, 0x8877665544332211),
                                               WRITE(0xd0000010, 4, 0x12345678),
                                               READ(0xd0000021, 1),
                                               READ(0xd0000022, 2),
                                               READ(0xd0000024, 4),
                                               READ(0xd0000028, 8),
                                               READ(0xd0000031, 1),
                                               READ(0xd0000040, 4),
                                               WRITE(0xd0000040, 4, 0xc3c2c1c1)};
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, mmio_widths);
    state_long64(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    check_log(&g, want, ARRAY_LEN(want));
    CHECK_INT(g_state.gpr[GPR_RCX], 0xa1);
    CHECK_INT(g_state.gpr[GPR_RDX], 0xa3a2);
    CHECK_INT(g_state.gpr[GPR_RSI], 0xa7a6a5a4);
    CHECK(g_state.gpr[GPR_RDI] == UINT64_C(0xafaeadacabaaa9a8));
    CHECK(g_state.gpr[GPR_R8] == UINT64_C(0xffffffffffffffb1));
    guest_fini(&g);
}

TEST(vm, doorbell_takes_only_its_value_width_and_place)
{
    static const struct guest_access want[] = {WRITE(0xd0000050, 4, 2), WRITE(0xd0000050, 2, 3),
                                               WRITE(0xd0000054, 4, 3)};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct hv_doorbell bell = {.gpa = GPA(0xd0000050), .len = 4, .match = 3, .eventfd = fd};
    struct hv_doorbell gone = {.gpa = GPA(0xd0000050), .len = 4, .match = 2, .eventfd = fd};
    uint64_t count = 0;
    struct guest g;

    guest_init(&g, 1);
    CHECK_INT(hv_doorbell_add(g.vm, &bell), 0);
    CHECK_INT(hv_doorbell_add(g.vm, &gone), 0);
    CHECK_INT(hv_doorbell_remove(g.vm, &gone), 0);
    GUEST_PUT(&g, CODE_AT, doorbell);
    state_long64(&g);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK_INT(read(fd, &count, 8), 8);
    CHECK_INT(count, 2);
    check_log(&g, want, ARRAY_LEN(want));
    guest_fini(&g);
    (void)close(fd);
}

static uint64_t counter(const struct guest *g, const char *name)
{
    struct hv_counter counters[HV_COUNTER_MAX];
    size_t count = hv_vcpu_counters(g->cpu[0], counters);

    CHECK(count > 0 && count <= HV_COUNTER_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(counters[i].name, name) == 0) {
            return counters[i].value;
        }
    }
    fail_msg("no counter '%s'", name);
    return 0;
}

TEST(vm, counters_tell_how_often_the_machine_was_asked)
{
    struct guest g;

    guest_init(&g, 1);
    GUEST_PUT(&g, CODE_AT, mmio_widths);
    state_long64(&g);
    CHECK_INT(counter(&g, "exits: device memory"), 0);
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK(g.count > 0 && g.count <= LOG_MAX);
    CHECK_INT(counter(&g, "exits: device memory"), g.count);
    CHECK_INT(counter(&g, "exits: ports"), 1); /* EXIT_PORT */
    guest_fini(&g);
}
