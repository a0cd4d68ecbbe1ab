/* interp.c — how many guest instructions per second an engine executes, on loops of known length.
 *
 * Usage: interp [kvm|soft].  Each guest is 64-bit code over identity-mapped pages that runs a
 * counted loop and then halts the measurement with an OUT.  Prints one JSON object per loop.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "hv/hv.h"
#include "hv/kvm/kvm.h"
#include "hv/soft/soft.h"
#include "mem/map.h"

#define CODE_GPA  0x10000u
#define STACK_GPA 0x20000u
#define DATA_GPA  0x100000u
#define DONE_PORT 0x10u

struct loop_guest {
    const char *name;
    unsigned per_iteration; /* instructions in the loop */
    uint64_t iterations;
    const char *code; /* ends with `out DONE_PORT` */
    size_t len;
};

#define GUEST(name, per, count, bytes)             \
    {                                              \
        name, per, count, bytes, sizeof(bytes) - 1 \
    }
#define DONE "\xe6\x10\xf4" /* out 10h, al; hlt */

/* rcx counts down; rsi points to data; rsp is a stack. */
static const struct loop_guest g_guests[] = {
    /* add rax,rbx; xor rbx,rax; lea rdx,[rax+rbx*2]; shr rdx,3; dec rcx; jnz */
    GUEST("alu", 6, 20000000,
          "\x48\x01\xd8\x48\x31\xc3\x48\x8d\x14\x58\x48\xc1\xea\x03\x48\xff\xc9\x75\xed" DONE),
    /* mov rax,[rsi]; add rax,[rsi+8]; mov [rsi+16],rax; mov rbx,[rsi+rdx]; dec rcx; jnz */
    GUEST("memory", 6, 20000000,
          "\x48\x8b\x06\x48\x03\x46\x08\x48\x89\x46\x10\x48\x8b\x1c\x16\x48\xff\xc9\x75\xec" DONE),
    /* call f; dec rcx; jnz; jmp done; f: push rbx; pop rbx; ret; done: */
    GUEST("call", 6, 20000000, "\xe8\x07\x00\x00\x00\x48\xff\xc9\x75\xf6\xeb\x03\x53\x5b\xc3" DONE),
};

struct done {
    int64_t at_ns;
    struct hv_vcpu *vcpu;
};

static void on_pio(void *owner, uint16_t port, void *data, unsigned len, bool is_write)
{
    struct done *done = owner;

    (void)data;
    (void)len;
    if (is_write && port == DONE_PORT) {
        done->at_ns = clock_mono_ns();
        hv_vcpu_kick(done->vcpu);
    }
}

static void on_mmio(void *owner, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    (void)owner;
    (void)gpa;
    if (!is_write) {
        memset(data, 0xff, len);
    }
}

/* Identity map of the first GiB in 2 MiB pages at 1000H (SDM volume 3, 4.5). */
static void make_tables(struct mem_map *mem)
{
    for (unsigned i = 0; i < 512; i++) {
        uint64_t entry = ((uint64_t)i << 21) | 0x83;

        (void)mem_write(mem, GPA(0x3000 + 8 * i), &entry, 8);
    }
    (void)mem_write(mem, GPA(0x1000), &(uint64_t){0x2003}, 8);
    (void)mem_write(mem, GPA(0x2000), &(uint64_t){0x3003}, 8);
}

static void make_state(struct cpu_state *s, const struct loop_guest *guest)
{
    cpu_state_reset(s);
    s->cr0 = 0x80000031;
    s->cr3 = 0x1000;
    s->cr4 = 0x620;
    s->efer = 0x500;
    s->rip = CODE_GPA;
    s->gpr[GPR_RCX] = guest->iterations;
    s->gpr[GPR_RSI] = DATA_GPA;
    s->gpr[GPR_RDX] = 64;
    s->gpr[GPR_RSP] = STACK_GPA;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        s->seg[i] = (struct cpu_segment){.limit = UINT32_MAX, .selector = 0x18, .attr = 0xc093};
    }
    s->seg[SEG_CS] = (struct cpu_segment){.limit = UINT32_MAX, .selector = 0x10, .attr = 0xa09b};
}

static int measure(const struct hv_ops *ops, const struct loop_guest *guest, struct err *err)
{
    struct done done = {0};
    struct hv_client client = {.pio = on_pio, .mmio = on_mmio, .owner = &done};
    struct mem_map *mem = mem_map_new();
    struct hv_config config = {.mem = mem, .vcpu_count = 1, .client = &client};
    struct cpu_state *state = calloc(1, sizeof(*state));
    struct hv_vm *vm = NULL;
    enum hv_exit why;
    int64_t start;
    int r = mem_map_add(mem, GPA(0), 4 * MIB, err);

    if (r == 0) {
        r = hv_vm_new(ops, &config, &vm, err);
    }
    if (r == 0) {
        r = hv_vcpu_new(vm, 0, &done.vcpu, err);
    }
    if (r == 0) {
        make_tables(mem);
        (void)mem_write(mem, GPA(CODE_GPA), guest->code, guest->len);
        make_state(state, guest);
        r = hv_vcpu_set(done.vcpu, state);
    }
    if (r == 0) {
        start = clock_mono_ns();
        r = hv_vcpu_run(done.vcpu, &why);
        if (r == 0 && (why != HV_EXIT_KICKED || !done.at_ns)) {
            r = err_set(err, -5, "guest '%s' ended with exit %d", guest->name, (int)why);
        }
        if (r == 0) {
            double s = (double)(done.at_ns - start) / 1e9;
            double n = (double)guest->iterations * guest->per_iteration;

            (void)printf(
                "{\"loop\": \"%s\", \"engine\": \"%s\", \"seconds\": %.4f, \"mips\": %.1f}\n",
                guest->name, ops->name, s, n / s / 1e6);
        }
    }
    hv_vcpu_free(done.vcpu);
    hv_vm_free(vm);
    mem_map_free(mem);
    free(state);
    return r;
}

int main(int argc, char **argv)
{
    const struct hv_ops *ops = argc > 1 && strcmp(argv[1], "kvm") == 0 ? &hv_kvm_ops : &hv_soft_ops;

    for (size_t i = 0; i < ARRAY_LEN(g_guests); i++) {
        struct err err = {0};
        int r = measure(ops, &g_guests[i], &err);

        if (r < 0) {
            (void)fprintf(stderr, "interp: %s\n", err_text(&err));
            return 1;
        }
    }
    return 0;
}
