/* guest.c — see guest.h. */
#include "tests/vm/guest.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "x86/cr.h"
#include "x86/paging.h"

#define RAM_BYTES    (4 * MIB)
#define TIMEOUT_S    120
#define ATTR_CODE64  0xa09bu
#define ATTR_CODE32  0xc09bu
#define ATTR_DATA    0xc093u
#define CPU_SELECTOR 0x08
#define DS_SELECTOR  0x10

struct cpu_state g_state;

static void leave(struct guest *g)
{
    for (unsigned i = 0; i < g->cpu_count; i++) {
        hv_vcpu_kick(g->cpu[i]);
    }
}

static void note(struct guest *g, const struct guest_access *access)
{
    if (g->count < LOG_MAX) {
        g->log[g->count] = *access;
    }
    g->count++;
}

/* What a read finds: bytes that tell where it read and how wide. */
static void answer(uint64_t at, uint8_t *data, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        data[i] = (uint8_t)(at + i) ^ 0x80;
    }
}

static void access_done(struct guest *g, bool is_pio, uint64_t at, void *data, unsigned len,
                        bool is_write)
{
    struct guest_access access = {.is_pio = is_pio, .is_write = is_write, .at = at, .len = len};

    if (!is_write) {
        answer(at, data, len);
    }
    memcpy(&access.value, data, len);
    note(g, &access);
}

static void on_pio(void *owner, uint16_t port, void *data, unsigned len, bool is_write)
{
    struct guest *g = owner;

    if (is_write && port == EXIT_PORT) {
        g->exit_code = *(uint8_t *)data;
        g->has_exited = true;
        leave(g);
    } else if (is_write && port == TICK_PORT) {
        g->ticks++;
        if (g->on_tick) {
            g->on_tick(g);
        }
    } else if (is_write && port == READY_PORT) {
        uint64_t one = 1;

        CHECK_INT(write(g->ready_fd, &one, 8), 8);
    } else {
        access_done(g, true, port, data, len, is_write);
    }
}

static void on_mmio(void *owner, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    access_done(owner, false, gpa.v, data, len, is_write);
}

void guest_init(struct guest *g, unsigned cpu_count)
{
    struct err err = {0};
    struct hv_config config;

    (void)alarm(TIMEOUT_S); /* a guest that never ends ends the test */
    memset(g, 0, sizeof(*g));
    g->mem = mem_map_new();
    CHECK(g->mem != NULL);
    CHECK_OK(mem_map_add(g->mem, GPA(0), RAM_BYTES, &err), &err);
    g->ready_fd = eventfd(0, EFD_CLOEXEC);
    CHECK(g->ready_fd >= 0);
    g->cpu_count = cpu_count;
    g->client = (struct hv_client){.pio = on_pio, .mmio = on_mmio, .owner = g};
    config = (struct hv_config){.mem = g->mem, .vcpu_count = cpu_count, .client = &g->client};
    CHECK_OK(hv_vm_new(g_ops, &config, &g->vm, &err), &err);
    for (unsigned i = 0; i < cpu_count; i++) {
        CHECK_OK(hv_vcpu_new(g->vm, i, &g->cpu[i], &err), &err);
    }
}

void guest_fini(struct guest *g)
{
    for (unsigned i = 0; i < g->cpu_count; i++) {
        hv_vcpu_free(g->cpu[i]);
    }
    hv_vm_free(g->vm);
    mem_map_free(g->mem);
    (void)close(g->ready_fd);
}

void guest_put(struct guest *g, uint64_t gpa, const void *bytes, size_t len)
{
    CHECK_INT(mem_write(g->mem, GPA(gpa), bytes, len), 0);
}

enum hv_exit guest_resume(struct guest *g)
{
    enum hv_exit why = HV_EXIT_BROKEN;

    CHECK_INT(hv_vcpu_run(g->cpu[0], &why), 0);
    if (why == HV_EXIT_BROKEN) {
        print_error("%s\n", hv_vcpu_why(g->cpu[0]));
    }
    CHECK_INT(hv_vcpu_get(g->cpu[0], &g_state), 0);
    return why;
}

enum hv_exit guest_run(struct guest *g)
{
    CHECK_INT(hv_vcpu_set(g->cpu[0], &g_state), 0);
    return guest_resume(g);
}

enum hv_exit guest_run_with(struct guest *g, void *(*fn)(void *))
{
    pthread_t thread;
    enum hv_exit why;

    CHECK_INT(pthread_create(&thread, NULL, fn, g), 0);
    why = guest_run(g);
    CHECK_INT(pthread_join(thread, NULL), 0);
    return why;
}

void guest_wait_ready(struct guest *g)
{
    uint64_t count;

    CHECK_INT(read(g->ready_fd, &count, 8), 8);
}

/* --- states --- */

void state_real(void)
{
    cpu_state_reset(&g_state);
    g_state.seg[SEG_CS].base = 0;
    g_state.seg[SEG_CS].selector = 0;
    g_state.rip = CODE_AT;
    g_state.gpr[GPR_RSP] = STACK_AT;
}

static void flat_segments(struct guest *g, uint32_t cs_attr)
{
    const uint64_t gdt[] = {0, UINT64_C(0x000f00000000ffff) | (uint64_t)cs_attr << 40,
                            UINT64_C(0x000f00000000ffff) | (uint64_t)ATTR_DATA << 40};

    guest_put(g, GDT_AT, gdt, sizeof(gdt));
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        g_state.seg[i] =
            (struct cpu_segment){.limit = 0xffffffff, .selector = DS_SELECTOR, .attr = ATTR_DATA};
    }
    g_state.seg[SEG_CS] =
        (struct cpu_segment){.limit = 0xffffffff, .selector = CPU_SELECTOR, .attr = cs_attr};
    g_state.gdt = (struct cpu_table){.base = GDT_AT, .limit = sizeof(gdt) - 1};
    g_state.idt = (struct cpu_table){.base = IDT_AT, .limit = 0xfff};
}

void state_prot32(struct guest *g)
{
    state_real();
    flat_segments(g, ATTR_CODE32);
    g_state.cr0 = CR0_PE | CR0_ET;
}

void state_long64(struct guest *g)
{
    uint64_t entry = (TABLES_AT + 0x1000) | PTE_P | PTE_RW;

    guest_put(g, TABLES_AT, &entry, 8);
    for (unsigned i = 0; i < 4; i++) {
        entry = (TABLES_AT + 0x2000 + i * 0x1000) | PTE_P | PTE_RW;
        guest_put(g, TABLES_AT + 0x1000 + i * 8, &entry, 8);
    }
    for (uint64_t i = 0; i < 2048; i++) {
        entry = i << 21 | PTE_P | PTE_RW | PTE_PS;
        guest_put(g, TABLES_AT + 0x2000 + i * 8, &entry, 8);
    }
    state_real();
    flat_segments(g, ATTR_CODE64);
    g_state.cr0 = CR0_PG | CR0_PE | CR0_ET;
    g_state.cr3 = TABLES_AT;
    g_state.cr4 = CR4_PAE | CR4_OSFXSR;
    g_state.efer = EFER_LME | EFER_LMA;
}

void guest_gate(struct guest *g, unsigned vector, uint64_t handler)
{
    uint64_t gate[2] = {(handler & 0xffff) | CPU_SELECTOR << 16 | UINT64_C(0x8e00) << 32 |
                            (handler >> 16 & 0xffff) << 48,
                        handler >> 32};

    guest_put(g, IDT_AT + (uint64_t)vector * 16, gate, sizeof(gate));
}

const struct cpu_msr *state_msr(const struct cpu_state *state, uint32_t index)
{
    for (unsigned i = 0; i < state->msr_count; i++) {
        if (state->msr[i].index == index) {
            return &state->msr[i];
        }
    }
    return NULL;
}
