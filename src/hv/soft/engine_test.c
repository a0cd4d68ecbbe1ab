/* engine_test.c — small guests on the whole engine: ports, device memory, interrupts, timers,
 * faults, code that changes under the CPU. */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "hv/soft/soft.h"
#include "mem/map.h"
#include "tests/lib/test.h"
#include "x86/msr.h"

#define RAM_BYTES (4 * MIB)
#define CODE_AT   0x1000u
#define STACK_AT  0x8000u
#define IDT_AT    0x9000u
#define GDT_AT    0xa000u
#define TABLES_AT 0x10000u
#define DATA_AT   0x20000u
#define EXIT_PORT 0xf4 /* a byte written here ends the run */

struct guest {
    struct mem_map *mem;
    struct hv_vm *vm;
    struct hv_vcpu *cpu;
    struct hv_client client;
    /* what the client saw */
    unsigned pio_count, mmio_count;
    uint16_t port;
    uint32_t value;
    unsigned len;
    uint64_t gpa;
    uint8_t exit_code;
    bool has_exited;
    void (*on_pio)(struct guest *g);
};

static void on_pio(void *owner, uint16_t port, void *data, unsigned len, bool is_write)
{
    struct guest *g = owner;

    if (!is_write) {
        memset(data, 0x5a, len);
        return;
    }
    if (port == EXIT_PORT) {
        g->exit_code = *(uint8_t *)data;
        g->has_exited = true;
        hv_vcpu_kick(g->cpu);
        return;
    }
    g->pio_count++;
    g->port = port;
    g->len = len;
    g->value = 0;
    memcpy(&g->value, data, len);
    if (g->on_pio) {
        g->on_pio(g);
    }
}

static void on_mmio(void *owner, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    struct guest *g = owner;

    g->mmio_count++;
    g->gpa = gpa.v;
    g->len = len;
    if (is_write) {
        g->value = 0;
        memcpy(&g->value, data, len < 4 ? len : 4);
    } else {
        memset(data, 0xa5, len);
    }
}

static void guest_init(struct guest *g)
{
    struct err err = {0};
    struct hv_config config;

    (void)alarm(60); /* a guest that never ends ends the test */
    memset(g, 0, sizeof(*g));
    g->mem = mem_map_new();
    CHECK(g->mem != NULL);
    CHECK_OK(mem_map_add(g->mem, GPA(0), RAM_BYTES, &err), &err);
    g->client = (struct hv_client){.pio = on_pio, .mmio = on_mmio, .owner = g};
    config = (struct hv_config){.mem = g->mem, .vcpu_count = 1, .client = &g->client};
    CHECK_OK(hv_vm_new(&hv_soft_ops, &config, &g->vm, &err), &err);
    CHECK_OK(hv_vcpu_new(g->vm, 0, &g->cpu, &err), &err);
}

static void guest_fini(struct guest *g)
{
    hv_vcpu_free(g->cpu);
    hv_vm_free(g->vm);
    mem_map_free(g->mem);
}

static void put(struct guest *g, uint64_t gpa, const void *bytes, size_t len)
{
    CHECK_INT(mem_write(g->mem, GPA(gpa), bytes, len), 0);
}

#define CODE(g, ...)                                  \
    do {                                              \
        static const uint8_t code_[] = {__VA_ARGS__}; \
        put(g, CODE_AT, code_, sizeof(code_));        \
    } while (0)

static struct cpu_state g_state; /* too large for a frame */

static void state_real(void)
{
    cpu_state_reset(&g_state);
    g_state.seg[SEG_CS].base = 0;
    g_state.seg[SEG_CS].selector = 0;
    g_state.rip = CODE_AT;
    g_state.gpr[GPR_RSP] = STACK_AT;
}

static void flat_segments(uint32_t cs_attr)
{
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        g_state.seg[i] =
            (struct cpu_segment){.limit = 0xffffffff, .selector = 0x10, .attr = 0xc093};
    }
    g_state.seg[SEG_CS] =
        (struct cpu_segment){.limit = 0xffffffff, .selector = 0x08, .attr = cs_attr};
    g_state.gdt = (struct cpu_table){.base = GDT_AT, .limit = 0x17};
    g_state.idt = (struct cpu_table){.base = IDT_AT, .limit = 0xfff};
}

static void state_prot32(void)
{
    state_real();
    flat_segments(0xc09b);
    g_state.cr0 = 0x60000011;
}

/* 64-bit, first 1 GiB and the fourth mapped one to one by huge pages of 2 MiB. */
static void state_long64(struct guest *g)
{
    static const uint64_t gdt[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff};
    uint64_t entry = (TABLES_AT + 0x1000) | 3;

    put(g, GDT_AT, gdt, sizeof(gdt));
    put(g, TABLES_AT, &entry, 8);
    for (unsigned i = 0; i < 4; i++) {
        entry = (TABLES_AT + 0x2000 + i * 0x1000) | 3;
        put(g, TABLES_AT + 0x1000 + i * 8, &entry, 8);
    }
    for (uint64_t i = 0; i < 2048; i++) {
        entry = i << 21 | 0x83;
        put(g, TABLES_AT + 0x2000 + i * 8, &entry, 8);
    }
    state_prot32();
    flat_segments(0xa09b);
    g_state.cr0 = 0x80000011;
    g_state.cr3 = TABLES_AT;
    g_state.cr4 = 0x20;
    g_state.efer = 0x500;
}

static void gate64(struct guest *g, unsigned vector, uint64_t handler)
{
    uint64_t gate[2] = {(handler & 0xffff) | 0x8 << 16 | UINT64_C(0x8e00) << 32 |
                            (handler >> 16 & 0xffff) << 48,
                        handler >> 32};

    put(g, IDT_AT + vector * 16, gate, 16);
}

/* Run until the guest writes to EXIT_PORT, or something else ends it. */
static enum hv_exit resume(struct guest *g)
{
    enum hv_exit why = HV_EXIT_BROKEN;

    CHECK_INT(hv_vcpu_run(g->cpu, &why), 0);
    if (why == HV_EXIT_BROKEN) {
        print_error("%s\n", hv_vcpu_why(g->cpu));
    }
    CHECK_INT(hv_vcpu_get(g->cpu, &g_state), 0);
    return why;
}

static enum hv_exit run(struct guest *g)
{
    CHECK_INT(hv_vcpu_set(g->cpu, &g_state), 0);
    return resume(g);
}

#define OUT_EXIT(n) 0xb0, n, 0xe6, EXIT_PORT /* mov al, n; out EXIT_PORT, al */

TEST(soft, real_mode_port_io)
{
    struct guest g;

    guest_init(&g);
    CODE(&g, 0xba, 0xf8, 0x03,   /* mov dx, 3f8h */
         0xb8, 0x34, 0x12, 0xef, /* mov ax, 1234h; out dx, ax */
         0xec, 0x88, 0xc3,       /* in al, dx; mov bl, al */
         0xe4, 0x21, 0x88, 0xc7, /* in al, 21h; mov bh, al: no 8259 here */
         OUT_EXIT(7));
    state_real();
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 7);
    CHECK_INT(g.port, 0x3f8);
    CHECK_INT(g.value, 0x1234);
    CHECK_INT(g.len, 2);
    CHECK_INT(g_state.gpr[GPR_RBX] & 0xffff, 0xff5a);
    CHECK_INT(g.pio_count, 1);
    guest_fini(&g);
}

TEST(soft, protected_mode_device_memory)
{
    struct guest g;

    guest_init(&g);
    CODE(&g, 0xc7, 0x05, 0x10, 0x00, 0x00, 0xd0, 0x78, 0x56, 0x34, 0x12, /* mov [d0000010h], imm */
         0x8b, 0x1d, 0x20, 0x00, 0x00, 0xd0,                             /* mov ebx, [d0000020h] */
         0xa1, 0x30, 0x00, 0xe0, 0xfe, 0x89, 0xc1,                       /* LAPIC version -> ecx */
         OUT_EXIT(1));
    state_prot32();
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.value, 0x12345678);
    CHECK_INT(g.gpa, 0xd0000020);
    CHECK_INT(g.mmio_count, 2);
    CHECK_INT(g_state.gpr[GPR_RBX], 0xa5a5a5a5);
    CHECK_INT(g_state.gpr[GPR_RCX], 0x50014);
    guest_fini(&g);
}

TEST(soft, doorbell_spares_the_callback)
{
    struct guest g;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct hv_doorbell bell = {.gpa = GPA(0xd0000050), .len = 4, .match = 3, .eventfd = fd};
    struct hv_doorbell gone = {.gpa = GPA(0xd0000050), .len = 4, .match = 2, .eventfd = fd};
    uint64_t count = 0;

    guest_init(&g);
    CHECK_INT(hv_doorbell_add(g.vm, &bell), 0);
    CHECK_INT(hv_doorbell_add(g.vm, &bell), -EEXIST);
    CHECK_INT(hv_doorbell_add(g.vm, &gone), 0);
    CHECK_INT(hv_doorbell_remove(g.vm, &gone), 0);
    CHECK_INT(hv_doorbell_remove(g.vm, &gone), -ENOENT);
    CODE(&g, 0xbb, 0x50, 0x00, 0x00, 0xd0,   /* mov ebx, d0000050h */
         0xc7, 0x03, 0x03, 0x00, 0x00, 0x00, /* mov dword [ebx], 3 */
         0xc7, 0x03, 0x03, 0x00, 0x00, 0x00, /* again */
         0xc7, 0x03, 0x02, 0x00, 0x00, 0x00, /* another value */
         0x66, 0xc7, 0x03, 0x03, 0x00,       /* another width */
         OUT_EXIT(1));
    state_prot32();
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(read(fd, &count, 8), 8);
    CHECK_INT(count, 2);
    CHECK_INT(g.mmio_count, 2);
    (void)close(fd);
    guest_fini(&g);
}

TEST(soft, nothing_to_deliver_a_fault_with_is_a_triple_fault)
{
    struct guest g;

    guest_init(&g);
    CODE(&g, 0x0f, 0x0b); /* ud2 */
    state_prot32();
    g_state.idt.limit = 0;
    CHECK_INT(run(&g), HV_EXIT_TRIPLE_FAULT);
    guest_fini(&g);
}

TEST(soft, fault_reaches_its_handler)
{
    struct guest g;
    static const uint8_t handler[] = {0x58,       0x59,       /* pop rax (error); pop rcx (rip) */
                                      0x0f,       0x20, 0xd3, /* mov rbx, cr2 */
                                      OUT_EXIT(3)};

    guest_init(&g);
    CODE(&g, 0x48, 0xb8, 0, 0, 0, 0, 0x80, 0, 0, 0, /* mov rax, 8000000000h: not mapped */
         0x48, 0x89, 0x18);                         /* mov [rax], rbx */
    put(&g, 0x2000, handler, sizeof(handler));
    state_long64(&g);
    gate64(&g, 14, 0x2000);
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 3);
    CHECK(g_state.gpr[GPR_RBX] == UINT64_C(0x8000000000));
    CHECK_INT(g_state.gpr[GPR_RCX], CODE_AT + 10);
    guest_fini(&g);
}

/* --- interrupts: 64-bit, handler of vector 40h exits --- */

static void guest_with_handler(struct guest *g)
{
    static const uint8_t handler[] = {OUT_EXIT(0x40)};

    guest_init(g);
    put(g, 0x2000, handler, sizeof(handler));
    state_long64(g);
    gate64(g, 0x40, 0x2000);
    gate64(g, 2, 0x2000);
    /* software-enabled APIC from the start */
    store_le32(g_state.lapic + 0x30, 0x50014);
    store_le32(g_state.lapic + 0xf0, 0x1ff);
    store_le32(g_state.lapic + 0xe0, 0xffffffff);
    for (unsigned i = 0x320; i <= 0x370; i += 16) {
        store_le32(g_state.lapic + i, 0x10000);
    }
}

static const struct timespec nap_20ms = {.tv_nsec = 20000000};

static void *send_msi(void *arg)
{
    struct guest *g = arg;

    (void)nanosleep(&nap_20ms, NULL);
    CHECK_INT(hv_msi(g->vm, 0xfee00000, 0x40), 0);
    return NULL;
}

static void *send_nmi(void *arg)
{
    struct guest *g = arg;

    (void)nanosleep(&nap_20ms, NULL);
    CHECK_INT(hv_msi(g->vm, 0xfee00000, 0x400), 0);
    return NULL;
}

static void *kick(void *arg)
{
    struct guest *g = arg;

    (void)nanosleep(&nap_20ms, NULL);
    hv_vcpu_kick(g->cpu);
    return NULL;
}

static void with_thread(struct guest *g, void *(*fn)(void *))
{
    pthread_t thread;

    CHECK_INT(pthread_create(&thread, NULL, fn, g), 0);
    CHECK_INT(run(g), HV_EXIT_KICKED);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

TEST(soft, interrupt_of_another_thread_ends_hlt)
{
    struct guest g;

    guest_with_handler(&g);
    CODE(&g, 0xfb, 0xf4, OUT_EXIT(1)); /* sti; hlt */
    with_thread(&g, send_msi);
    CHECK_INT(g.exit_code, 0x40);
    guest_fini(&g);
}

TEST(soft, interrupt_of_another_thread_breaks_a_loop)
{
    struct guest g;

    guest_with_handler(&g);
    CODE(&g, 0xfb, 0xeb, 0xfe); /* sti; jmp $ */
    with_thread(&g, send_msi);
    CHECK_INT(g.exit_code, 0x40);
    guest_fini(&g);
}

TEST(soft, interrupt_waits_for_if)
{
    struct guest g;

    guest_with_handler(&g);
    /* cli; mov ecx, 40000000; dec ecx; jnz; mov ebx, 1; sti; nop; exit */
    CODE(&g, 0xfa, 0xb9, 0x00, 0x5a, 0x62, 0x02, 0xff, 0xc9, 0x75, 0xfc, 0xbb, 1, 0, 0, 0, 0xfb,
         0x90, OUT_EXIT(1));
    with_thread(&g, send_msi);
    CHECK_INT(g.exit_code, 0x40);
    CHECK_INT(g_state.gpr[GPR_RBX], 1);
    guest_fini(&g);
}

TEST(soft, nmi_ends_hlt_with_interrupts_off)
{
    struct guest g;

    guest_with_handler(&g);
    CODE(&g, 0xfa, 0xf4, OUT_EXIT(1)); /* cli; hlt */
    with_thread(&g, send_nmi);
    CHECK_INT(g.exit_code, 0x40);
    CHECK(g_state.events.nmi_blocked);
    guest_fini(&g);
}

TEST(soft, kick_returns_from_hlt_and_from_a_loop_and_before_a_run)
{
    static const uint8_t bodies[][2] = {{0xfa, 0xf4}, {0xeb, 0xfe}};
    struct guest g;
    enum hv_exit why = HV_EXIT_BROKEN;

    for (unsigned i = 0; i < ARRAY_LEN(bodies); i++) {
        guest_with_handler(&g);
        put(&g, CODE_AT, bodies[i], 2);
        with_thread(&g, kick);
        CHECK(!g.has_exited);
        CHECK_INT(g_state.run_state, i == 0 ? CPU_HALTED : CPU_RUNNABLE);
        hv_vcpu_kick(g.cpu);
        CHECK_INT(hv_vcpu_run(g.cpu, &why), 0);
        CHECK_INT(why, HV_EXIT_KICKED);
        guest_fini(&g);
    }
}

TEST(soft, deadline_timer_ends_hlt_and_breaks_a_loop)
{
    static const uint8_t ends[][2] = {{0xf4, 0x90}, {0xeb, 0xfe}};
    static const uint8_t arm[] = {
        0xb9, 0xe0, 0x06, 0x00, 0x00, /* mov ecx, 6e0h */
        0x0f, 0x31,                   /* rdtsc */
        0x05, 0x80, 0x96, 0x98, 0x00, /* add eax, 10000000 */
        0x83, 0xd2, 0x00,             /* adc edx, 0 */
        0x0f, 0x30,                   /* wrmsr */
        0xfb,                         /* sti */
    };
    struct guest g;

    for (unsigned i = 0; i < ARRAY_LEN(ends); i++) {
        guest_with_handler(&g);
        store_le32(g_state.lapic + 0x320, 0x40040);
        put(&g, CODE_AT, arm, sizeof(arm));
        put(&g, CODE_AT + sizeof(arm), ends[i], 2);
        CHECK_INT(run(&g), HV_EXIT_KICKED);
        CHECK_INT(g.exit_code, 0x40);
        guest_fini(&g);
    }
}

TEST(soft, line_of_the_ioapic_interrupts)
{
    struct guest g;

    guest_with_handler(&g);
    CODE(&g, 0xbb, 0x00, 0x00, 0xc0, 0xfe, /* mov ebx, fec00000h */
         0xc7, 0x03, 0x18, 0, 0, 0,        /* mov dword [rbx], 18h: pin 4 */
         0xc7, 0x43, 0x10, 0x40, 0, 0, 0,  /* mov dword [rbx+10h], 40h */
         0x66, 0xef, 0xfb, 0xeb, 0xfe);    /* out dx, ax; sti; jmp $ */
    CHECK_INT(hv_irq_set(g.vm, 24, true), -EINVAL);
    CHECK_INT(hv_irq_pulse(g.vm, 24), -EINVAL);
    g_state.gpr[GPR_RDX] = 0x80;
    with_thread(&g, kick); /* the guest has set up the pin; nothing interrupts yet */
    CHECK(!g.has_exited);
    CHECK_INT(hv_irq_pulse(g.vm, 4), 0);
    CHECK_INT(resume(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 0x40);
    guest_fini(&g);
}

/* --- code that changes --- */

TEST(soft, guest_overwrites_its_own_code)
{
    struct guest g;

    guest_init(&g);
    /* twice: mov al, 1; (patched to mov al, 9 after the first round) */
    CODE(&g, 0x31, 0xd2,                           /* 1000: xor edx, edx */
         0xb0, 0x01,                               /* 1002: mov al, 1 */
         0x00, 0xc2,                               /* 1004: add dl, al */
         0xc6, 0x05, 0x03, 0x10, 0x00, 0x00, 0x09, /* 1006: mov byte [1003h], 9 */
         0xff, 0xc3,                               /* 100d: inc ebx */
         0x83, 0xfb, 0x02,                         /* 100f: cmp ebx, 2 */
         0x75, 0xee,                               /* 1012: jne 1002 */
         0x88, 0xd0, 0xe6, EXIT_PORT);             /* 1014: mov al, dl; out */
    state_prot32();
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 10);
    guest_fini(&g);
}

static void patch_by_device(struct guest *g)
{
    static const uint8_t byte = 0x2a;

    put(g, 0x3001, &byte, 1);
}

TEST(soft, device_overwrites_code_by_dma)
{
    struct guest g;
    static const uint8_t function[] = {0xb0, 0x01, 0xc3}; /* mov al, 1; ret */

    guest_init(&g);
    put(&g, 0x3000, function, sizeof(function));
    CODE(&g, 0xe8, 0xfb, 0x1f, 0x00, 0x00, /* 1000: call 3000 */
         0xe6, 0x80,                       /* 1005: out 80h: the device patches it */
         0xe8, 0xf4, 0x1f, 0x00, 0x00,     /* 1007: call 3000 */
         0xe6, EXIT_PORT);
    state_prot32();
    g.on_pio = patch_by_device;
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.value, 1);
    CHECK_INT(g.exit_code, 0x2a);
    guest_fini(&g);
}

static void patch_many(struct guest *g)
{
    for (unsigned i = 0; i < 200; i++) { /* more than the queue holds */
        patch_by_device(g);
        put(g, CODE_AT + 0x800, "", 1);
    }
}

TEST(soft, flood_of_dma_to_code_is_not_lost)
{
    struct guest g;
    static const uint8_t function[] = {0xb0, 0x01, 0xc3};

    guest_init(&g);
    put(&g, 0x3000, function, sizeof(function));
    CODE(&g, 0xe8, 0xfb, 0x1f, 0x00, 0x00, 0xe6, 0x80, 0xe8, 0xf4, 0x1f, 0x00, 0x00, 0xe6,
         EXIT_PORT);
    state_prot32();
    g.on_pio = patch_many;
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 0x2a);
    guest_fini(&g);
}

/* --- clocks --- */

TEST(soft, tsc_runs_and_kvm_clock_page_is_written)
{
    struct guest g;
    uint8_t page[32];

    guest_init(&g);
    CODE(&g, 0x0f, 0x31, 0x89, 0xc6, 0x89, 0xd7,               /* rdtsc -> edi:esi */
         0xb9, 0x01, 0x4d, 0x56, 0x4b,                         /* mov ecx, 4b564d01h */
         0xb8, 0x01, 0x00, 0x02, 0x00, 0x31, 0xd2, 0x0f, 0x30, /* eax = 20001h; wrmsr */
         0xb9, 0x00, 0x4d, 0x56, 0x4b,                         /* mov ecx, 4b564d00h */
         0xb8, 0x40, 0x00, 0x02, 0x00, 0x31, 0xd2, 0x0f, 0x30, /* eax = 20040h; wrmsr */
         0x0f, 0x31, OUT_EXIT(1));
    state_long64(&g);
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK((g_state.gpr[GPR_RDI] << 32 | g_state.gpr[GPR_RSI]) > 0);
    CHECK_INT(g_state.gpr[GPR_RDI] >> 8, 0); /* began near 0 */
    CHECK_INT(mem_read(g.mem, GPA(0x20000), page, 32), 0);
    CHECK(load_le32(page) && !(load_le32(page) & 1));
    CHECK_INT(page[29], 1);
    CHECK(load_le32(page + 24) >= 0x80000000u);
    CHECK_INT(mem_read(g.mem, GPA(0x20040), page, 12), 0);
    CHECK((int64_t)load_le32(page + 4) <= clock_wall_ns() / NS_PER_S);
    CHECK((int64_t)load_le32(page + 4) >= clock_wall_ns() / NS_PER_S - 60);
    guest_fini(&g);
}

/* --- state --- */

TEST(soft, state_comes_back_as_it_was_set)
{
    static struct cpu_state got;
    struct guest g;

    guest_with_handler(&g);
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        g_state.gpr[i] = UINT64_C(0x1111111111111111) * i + i;
    }
    g_state.rflags = 0xad7;
    g_state.cr8 = 3;
    store_le32(g_state.lapic + 0x80, 0x30);
    g_state.events = (struct cpu_events){.interrupt_shadow = 2,
                                         .nmi_blocked = 1,
                                         .nmi_pending = 1,
                                         .exception_pending = 1,
                                         .exception_vector = 13,
                                         .exception_has_error = 1,
                                         .exception_error = 0x18};
    g_state.msr[0] = (struct cpu_msr){MSR_LSTAR, 0xffffffff81000000};
    g_state.msr[1] = (struct cpu_msr){MSR_TSC, UINT64_C(1) << 40};
    g_state.msr[2] = (struct cpu_msr){MSR_MTRR_FIX4K_C0000 + 7, 0x0606060606060606};
    g_state.msr[3] = (struct cpu_msr){MSR_MTRR_PHYS_BASE0 + 15, 0x800};
    g_state.msr_count = 4;
    CHECK_INT(hv_vcpu_set(g.cpu, &g_state), 0);
    CHECK_INT(hv_vcpu_get(g.cpu, &got), 0);
    CHECK_MEM(got.gpr, g_state.gpr, sizeof(got.gpr));
    CHECK_MEM(got.seg, g_state.seg, sizeof(got.seg));
    CHECK_MEM(&got.events, &g_state.events, sizeof(got.events));
    CHECK_MEM(got.xsave, g_state.xsave, 28);
    CHECK_MEM(got.xsave + 32, g_state.xsave + 32, 384);
    CHECK_INT(got.rflags, 0xad7);
    CHECK_INT(got.cr8, 3);
    CHECK(got.cr3 == g_state.cr3 && got.efer == g_state.efer && got.rip == g_state.rip);
    for (unsigned i = 0; i < g_state.msr_count; i++) {
        bool found = false;

        for (unsigned j = 0; j < got.msr_count; j++) {
            if (got.msr[j].index == g_state.msr[i].index) {
                uint64_t off = got.msr[j].value - g_state.msr[i].value;

                found = got.msr[j].index == MSR_TSC ? off < UINT64_C(10000000000) : off == 0;
            }
        }
        CHECK(found);
    }
    guest_fini(&g);
}

TEST(soft, injected_exception_is_delivered_first)
{
    struct guest g;

    guest_with_handler(&g);
    CODE(&g, OUT_EXIT(1));
    gate64(&g, 13, 0x2000);
    g_state.events.exception_pending = 1;
    g_state.events.exception_vector = 13;
    g_state.events.exception_has_error = 1;
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 0x40);
    CHECK(!g_state.events.exception_pending);
    guest_fini(&g);
}

TEST(soft, init_of_the_boot_processor_ends_the_machine)
{
    struct guest g;

    guest_with_handler(&g);
    CODE(&g, 0xf4);
    CHECK_INT(hv_msi(g.vm, 0xfee00000, 0x500), 0);
    CHECK_INT(run(&g), HV_EXIT_TRIPLE_FAULT);
    guest_fini(&g);
}

/* --- a second CPU --- */

static void *run_second(void *arg)
{
    enum hv_exit why = HV_EXIT_BROKEN;

    CHECK_INT(hv_vcpu_run(arg, &why), 0);
    CHECK_INT(why, HV_EXIT_KICKED);
    return NULL;
}

/* A second CPU that runs `code` in real mode, and the first one with `first`, until that exits. */
static void two_cpus(const uint8_t *code, size_t len, void (*first)(struct guest *g))
{
    struct guest g;
    struct hv_vcpu *cpu = NULL;
    struct hv_config config;
    struct err err = {0};
    pthread_t thread;

    guest_init(&g);
    hv_vcpu_free(g.cpu);
    hv_vm_free(g.vm);
    config = (struct hv_config){.mem = g.mem, .vcpu_count = 2, .client = &g.client};
    CHECK_OK(hv_vm_new(&hv_soft_ops, &config, &g.vm, &err), &err);
    CHECK_OK(hv_vcpu_new(g.vm, 0, &g.cpu, &err), &err);
    CHECK_OK(hv_vcpu_new(g.vm, 1, &cpu, &err), &err);
    put(&g, 0x5000, code, len);
    first(&g);
    state_prot32();
    CHECK_INT(pthread_create(&thread, NULL, run_second, cpu), 0);
    CHECK_INT(run(&g), HV_EXIT_KICKED);
    CHECK_INT(g.exit_code, 2);
    hv_vcpu_kick(cpu);
    CHECK_INT(pthread_join(thread, NULL), 0);
    hv_vcpu_free(cpu);
    guest_fini(&g);
}

#define START_SECOND                                                            \
    0xbb, 0x00, 0x03, 0xe0, 0xfe,                 /* mov ebx, fee00300h: ICR */ \
        0xc7, 0x43, 0x10, 0x00, 0x00, 0x00, 0x01, /* to CPU 1 */                \
        0xc7, 0x03, 0x00, 0xc5, 0x00, 0x00,       /* INIT */                    \
        0xc7, 0x03, 0x05, 0x06, 0x00, 0x00        /* SIPI: begin at 5000h */
#define AWAIT(value)                                                         \
    0x80, 0x3d, 0x00, 0x40, 0x00, 0x00, value, /* cmp byte [4000h], value */ \
        0x75, 0xf7                             /* jne: until it has */

static void start_and_await(struct guest *g)
{
    CODE(g, START_SECOND, AWAIT(0x77), OUT_EXIT(2));
}

TEST(soft, second_cpu_starts_by_init_and_sipi_and_answers)
{
    static const uint8_t second[] = {0xc6, 0x06, 0x00, 0x40, 0x77, /* mov byte [4000h], 77h */
                                     0xf4};

    two_cpus(second, sizeof(second), start_and_await);
}

static void start_and_kick(struct guest *g)
{
    CODE(g, START_SECOND, AWAIT(0x77), /* */
         0xb9, 0x01, 0x00, 0x00, 0x00, /* mov ecx, 1 */
         0xb8, 0x05, 0x00, 0x00, 0x00, /* mov eax, 5 */
         0x0f, 0x01, 0xc1,             /* vmcall */
         AWAIT(0x78), OUT_EXIT(2));
}

TEST(soft, kick_ends_a_halt_that_no_interrupt_may_end)
{
    static const uint8_t second[] = {0xc6, 0x06, 0x00, 0x40, 0x77, /* mov byte [4000h], 77h */
                                     0xf4,                         /* with IF clear */
                                     0xc6, 0x06, 0x00, 0x40, 0x78, 0xf4};

    two_cpus(second, sizeof(second), start_and_kick);
}

TEST(soft, limits_are_said_in_words)
{
    struct guest g;
    struct err err = {0};
    struct hv_vm *vm = NULL;
    struct hv_vcpu *cpu = NULL;
    struct hv_config config;
    struct hv_doorbell bell = {.gpa = GPA(0xd0000000), .len = 4};

    guest_init(&g);
    CHECK_INT(hv_soft_ops.probe(&err), 0);
    config = (struct hv_config){.mem = g.mem, .vcpu_count = HV_VCPU_MAX + 1, .client = &g.client};
    CHECK_INT(hv_vm_new(&hv_soft_ops, &config, &vm, &err), -EINVAL);
    CHECK_HAS(err_text(&err), "33 vCPUs");
    CHECK_INT(hv_vcpu_new(g.vm, 0, &cpu, &err), -EINVAL);
    CHECK_INT(hv_vcpu_new(g.vm, 1, &cpu, &err), -EINVAL);
    for (unsigned i = 0; i < 256; i++) {
        bell.match = i;
        CHECK_INT(hv_doorbell_add(g.vm, &bell), 0);
    }
    bell.match++;
    CHECK_INT(hv_doorbell_add(g.vm, &bell), -ENOSPC);
    guest_fini(&g);
}
