/* priv_test.c — random programs of a kernel, interpreted and translated: the same end.
 *
 * A program is a page of slots of 16 bytes, one thing in each: system registers, segments,
 * privilege changes both ways, 32-bit code, single-stepping, edits of page tables with their
 * INVLPG, accesses to the pages these map.  Every exception is delivered, and its handler goes on
 * at the next slot, that of a step where it was.  Two machines, of which one translates each block
 * before its first run, must agree about all registers, the system's too, and all memory.  EC1_SEED
 * repeats a run, EC1_TIER_PROGRAMS sets how many programs.
 */
#include <stdlib.h>
#include <time.h>

#include "base/bits.h"
#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/diff.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/ref/ref.h"
#include "tests/lib/sys_vm.h"

#define PROGRAM        SYS_USER /* executable at both privileges */
#define SLOTS          96u
#define COMMON         UINT64_C(0x9000) /* handlers lead here */
#define TO_USER        UINT64_C(0x9080) /* SYSCALL leads here */
#define COUNT          (SYS_DATA + 0x800)
#define KERNEL_END     (SYS_STACK0 + 0x4000)
#define WINDOW         UINT64_C(0x600000) /* pages that programs map as they like */
#define PAGES          8u
#define WINDOW_A       UINT64_C(0x800000) /* what they find there */
#define TABLE_LA       UINT64_C(0x700000) /* the table of the window's pages */
#define TOP_2          UINT64_C(0x900000) /* a second top table, the same mapping */
#define TO_KERNEL      0x81u
#define EXCEPTIONS_MAX 3000u /* a step is one, too */

struct program {
    uint8_t bytes[4096];
    unsigned at;
    struct diff_random r;
};

/* --- slots --- */

static void slot(struct program *p, const void *bytes, size_t len)
{
    memset(p->bytes + p->at, 0x90, 16);
    memcpy(p->bytes + p->at, bytes, len);
    p->at += 16;
}
#define SLOT(p, ...) \
    slot((p), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* mov reg, imm64: rax, rcx, rdx, rbx, rsi or rdi */
static void set(struct program *p, unsigned reg, uint64_t value)
{
    uint8_t bytes[10] = {0x48, (uint8_t)(0xb8 + reg)};

    memcpy(bytes + 2, &value, 8);
    slot(p, bytes, sizeof(bytes));
}

#define PICK(p, ...)                                                                               \
    ((const uint64_t[]){__VA_ARGS__})[diff_dice(&(p)->r, sizeof((const uint64_t[]){__VA_ARGS__}) / \
                                                             sizeof(uint64_t))]

static uint64_t window_address(struct program *p)
{
    return WINDOW + diff_dice(&p->r, PAGES * 4096 - 16);
}

static void add_control(struct program *p)
{
    switch (diff_dice(&p->r, 6)) {
    case 0: /* mov cr0, rax */
        set(p, 0,
            PICK(p, 0x80000033, 0x80010033, 0x8001003b, 0x80010031, 0x33, 0x80000000, 0x80010037));
        SLOT(p, 0x0f, 0x22, 0xc0);
        break;
    case 1: /* mov cr3, rax */
        set(p, 0, PICK(p, SOFT_VM_PML4, TOP_2, TOP_2 | 0x18));
        SLOT(p, 0x0f, 0x22, 0xd8);
        break;
    case 2: /* mov cr4, rax */
        set(p, 0, PICK(p, 0x6a0, 0x620, 0x6a0, 0x40620, 0x600, 0x66a0, 0x6a4, 0x8006a0));
        SLOT(p, 0x0f, 0x22, 0xe0);
        break;
    case 3: SLOT(p, 0x0f, 0x20, 0xc2); break; /* mov rdx, cr0 */
    case 4: SLOT(p, 0x0f, 0x20, 0xd1); break; /* mov rcx, cr2 */
    default: SLOT(p, 0x0f, 0x06); break;      /* clts */
    }
}

/* Most MSRs that the engine keeps itself. */
static void add_msr(struct program *p)
{
    uint64_t value = PICK(p, 0, 0xd01, 0x501, 0xd00, 0x123000, 0xffff800000001000, 0x8000000000000,
                          0x0007040600070406);

    set(p, 1,
        PICK(p, 0xc0000080, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0x277, 0xc0000103,
             0x7777));
    if (diff_chance(&p->r, 40)) {
        SLOT(p, 0x0f, 0x32);
        return;
    }
    set(p, 0, value & UINT32_MAX);
    set(p, 2, value >> 32);
    SLOT(p, 0x0f, 0x30);
}

static void add_segment(struct program *p)
{
    static const uint8_t sreg[] = {0xc0, 0xd0, 0xd8, 0xe0, 0xe8}; /* es ss ds fs gs */

    set(p, 0,
        PICK(p, 0, SYS_KERNEL_DS, SYS_USER_DS | 3, SYS_ABSENT, SYS_FRESH_DS, SYS_KERNEL_CS, 0x58,
             0x1234, SYS_LDT, SYS_TSS));
    switch (diff_dice(&p->r, 6)) {
    case 0: SLOT(p, 0x0f, 0x02, 0xd8); break; /* lar ebx, ax */
    case 1: SLOT(p, 0x0f, 0x03, 0xd8); break; /* lsl ebx, ax */
    case 2: SLOT(p, 0x0f, 0x00, 0xd0); break; /* lldt ax */
    default: SLOT(p, 0x8e, sreg[diff_dice(&p->r, 5)]);
    }
}

/* mov [table + 8 * page], rax; invlpg [page] */
static void add_mapping(struct program *p)
{
    unsigned page = diff_dice(&p->r, PAGES);
    uint8_t bytes[16] = {0x48, 0x89, 0x04, 0x25, 0, 0, 0, 0, 0x0f, 0x01, 0x3c, 0x25};
    uint32_t entry = (uint32_t)(TABLE_LA + 8 * page), la = (uint32_t)(WINDOW + 4096 * page);
    uint64_t flags = PICK(p, 7, 7, 0x67, 3, 5, 0x107, 0x8000000000000007, 0, 0x0008000000000007);

    set(p, 0, (WINDOW_A + 4096 * diff_dice(&p->r, PAGES)) | flags);
    memcpy(bytes + 4, &entry, 4);
    memcpy(bytes + 12, &la, 4);
    slot(p, bytes, sizeof(bytes));
}

static void add_access(struct program *p)
{
    static const uint8_t opcode[] = {0x8b, 0x89, 0x01, 0x03, 0x87, 0x39, 0xff};
    uint8_t bytes[8] = {0x48, opcode[diff_dice(&p->r, sizeof(opcode))], 0x1c, 0x25};
    uint32_t la = (uint32_t)window_address(p);

    if (bytes[1] == 0xff) {
        bytes[2] = 0x34; /* push */
    }
    memcpy(bytes + 4, &la, 4);
    slot(p, bytes, sizeof(bytes));
    if (diff_chance(&p->r, 20)) { /* lea rdi, [window]; rep stosq */
        set(p, 7, window_address(p));
        set(p, 1, diff_dice(&p->r, 20));
        SLOT(p, 0xf3, 0x48, 0xab);
    }
}

static void add_flags(struct program *p)
{
    switch (diff_dice(&p->r, 9)) {
    case 0: SLOT(p, 0xfa); break;
    case 1: SLOT(p, 0xfb); break;
    case 2: SLOT(p, 0x9c, 0x5b); break;                      /* pushf; pop rbx */
    case 3: SLOT(p, 0x68, 0xd7, 0x0a, 0, 0, 0x9d); break;    /* push; popf: most flags */
    case 4: SLOT(p, 0x68, 0x02, 0x72, 0x24, 0, 0x9d); break; /* IOPL, AC, ID */
    case 5: SLOT(p, 0x0f, 0x01, 0xf8, 0x65, 0x8b, 0x1c, 0x25, 0, 0, 0x60, 0); break; /* swapgs */
    case 6: SLOT(p, 0x48, 0x01, 0xd8, 0x0f, 0x92, 0xc3); break; /* add rax, rbx; setc bl */
    case 7: SLOT(p, 0x68, 0x97, 0x01, 0, 0, 0x9d); break;       /* TF */
    default: SLOT(p, 0xf9, 0x0f, 0x01, 0x14, 0x25, 0, 0, 0, 0); /* stc; lgdt [0] */
    }
}

/* mov rax, value; push rax */
static void push(struct program *p, uint64_t value)
{
    uint8_t bytes[11] = {0x48, 0xb8, [10] = 0x50};

    memcpy(bytes + 2, &value, 8);
    slot(p, bytes, sizeof(bytes));
}

static uint64_t some_flags(struct program *p)
{
    return PICK(p, 2, 0x102, 0x102, 0x202, 0x897, 0x997, 0x4002, 0x40002, 0x3102);
}

/* A frame of either size, and its IRET to the slot behind. */
static void add_iret(struct program *p)
{
    uint64_t cs = PICK(p, SYS_KERNEL_CS, SYS_KERNEL_CS, SYS_USER_CS | 3, SYS_KERNEL_CS32,
                       SYS_KERNEL_CS32, SYS_KERNEL_CS32 | 3, SYS_KERNEL_DS, 0);
    uint64_t ss = PICK(p, SYS_KERNEL_DS, SYS_KERNEL_DS, SYS_USER_DS | 3, 0);
    uint64_t sp = SYS_STACK3 + 0xf00, flags = some_flags(p);

    if ((cs & 3) == 3 && diff_chance(&p->r, 80)) {
        ss = SYS_USER_DS | 3;
    }
    if (diff_chance(&p->r, 50)) {
        push(p, ss);
        push(p, sp);
        push(p, flags);
        push(p, cs);
        push(p, PROGRAM + p->at + 32);
        SLOT(p, 0x48, 0xcf);
    } else {
        push(p, ss);
        push(p, sp << 32 | flags);
        push(p, cs << 32 | (PROGRAM + p->at + 32));
        SLOT(p, 0xcf);
    }
}

/* mov rcx, behind; mov r11, flags; sysretq */
static void add_sysret(struct program *p)
{
    uint8_t bytes[7] = {0x49, 0xc7, 0xc3};
    uint32_t flags = (uint32_t)some_flags(p);

    memcpy(bytes + 3, &flags, 4);
    set(p, 1, PROGRAM + p->at + 48);
    slot(p, bytes, sizeof(bytes));
    SLOT(p, 0x48, 0x0f, 0x07);
}

static void add_transfer(struct program *p)
{
    switch (diff_dice(&p->r, 12)) {
    case 0: SLOT(p, 0xcc); break;
    case 1: SLOT(p, 0x0f, 0x0b); break;
    case 2: SLOT(p, 0xcd, 0x20); break; /* no such gate */
    case 3: SLOT(p, 0x0f, 0x05); break; /* on in user mode */
    case 4: SLOT(p, 0x48, 0xcf); break; /* of what is on the stack */
    case 5: SLOT(p, 0xf1); break;       /* int1 */
    case 6: add_sysret(p); break;
    case 7:
    case 8: add_iret(p); break;
    default: SLOT(p, 0xcd, TO_KERNEL); break;
    }
}

static void make_program(struct program *p)
{
    p->at = 0;
    while (p->at < (SLOTS - 8) * 16) { /* the longest thing takes 6 */
        unsigned dice = diff_dice(&p->r, 100);

        if (dice < 10) {
            add_control(p);
        } else if (dice < 18) {
            add_msr(p);
        } else if (dice < 28) {
            add_segment(p);
        } else if (dice < 45) {
            add_mapping(p);
        } else if (dice < 75) {
            add_access(p);
        } else if (dice < 87) {
            add_flags(p);
        } else {
            add_transfer(p);
        }
    }
    while (p->at < sizeof(p->bytes)) {
        SLOT(p, 0xcd, TO_KERNEL, 0xfa, 0xf4); /* int; cli; hlt */
    }
}

/* --- machines --- */

/* Handlers: drop the error code; go on at the next slot. */
static void put_handlers(struct soft_vm *vm)
{
    static const uint8_t common[] = {0x48, 0xff, 0x04, 0x25, 0,    0x38, 0x01, 0, /* inc [COUNT] */
                                     0x48, 0x83, 0x0c, 0x24, 0x0f,                /* or [rsp], 15 */
                                     0x48, 0xff, 0x04, 0x24, 0x48, 0xcf}; /* inc [rsp]; iretq */
    /* mov qword [rsp+8], CS; mov qword [rsp+32], SS; iretq */
    static const uint8_t to_kernel[] = {0x48, 0xc7, 0x44, 0x24, 8,    0x10, 0, 0, 0,    0x48,
                                        0xc7, 0x44, 0x24, 32,   0x18, 0,    0, 0, 0x48, 0xcf};
    /* inc [COUNT]; iretq */
    static const uint8_t on_step[] = {0x48, 0xff, 0x04, 0x25, 0, 0x38, 0x01, 0, 0x48, 0xcf};
    static const uint8_t to_user[] = {0x48, 0x0f, 0x07};

    _Static_assert(COUNT == 0x13800, "in the code of `common`");
    CHECK_INT(mem_write(vm->mem, GPA(COMMON), common, sizeof(common)), 0);
    CHECK_INT(mem_write(vm->mem, GPA(TO_USER), to_user, sizeof(to_user)), 0);
    for (unsigned vector = 0; vector < 32; vector++) {
        bool has_error = (vector >= 10 && vector <= 14) || vector == 8 || vector == 17;
        uint64_t at =
            sys_vm_gate(vm, vector, 14, 3,
                        vector == 8 || diff_dice(&(struct diff_random){vector + 5}, 2) ? 1 : 0);
        uint8_t code[9] = {0x48, 0x83, 0xc4, (uint8_t)(has_error ? 8 : 0), 0xe9};
        uint32_t distance = (uint32_t)(COMMON - at - sizeof(code));

        memcpy(code + 5, &distance, 4);
        CHECK_INT(mem_write(vm->mem, GPA(at), code, sizeof(code)), 0);
    }
    CHECK_INT(mem_write(vm->mem, GPA(sys_vm_gate(vm, EXC_DB, 14, 3, 1)), on_step, sizeof(on_step)),
              0);
    CHECK_INT(
        mem_write(vm->mem, GPA(sys_vm_gate(vm, TO_KERNEL, 14, 3, 0)), to_kernel, sizeof(to_kernel)),
        0);
}

static void machine_start(struct soft_vm *vm, const char *tier)
{
    uint64_t table;

    CHECK_INT(setenv("EC1_SOFT_TIER", tier, 1), 0);
    sys_vm_start(vm);
    fpu_reset(vm->v);
    CHECK_INT(code_cache_init(vm->v), 0);
    vm->v->has_strict_flags = true; /* handlers find them in memory */
    put_handlers(vm);
    soft_vm_map_range(vm, WINDOW, WINDOW_A, PAGES * 4096, PTE_RW | PTE_US);
    table = soft_vm_entry(vm, WINDOW, 12) & ~UINT64_C(0xfff);
    (void)soft_vm_map(vm, TABLE_LA, table, PTE_RW);
    for (unsigned i = 0; i < 512; i++) {
        soft_vm_poke(vm, TOP_2 + 8 * i, soft_vm_peek(vm, SOFT_VM_PML4 + 8 * i));
    }
}

static void machine_stop(struct soft_vm *vm)
{
    code_cache_fini(vm->v);
    sys_vm_stop(vm);
}

/* Tables, handlers and their stacks, as they were before the first program. */
static void restore(struct soft_vm *vm, const uint8_t *kernel)
{
    for (uint64_t page = 0; page < KERNEL_END; page += 4096) {
        if (memcmp(mem_ptr(vm->mem, GPA(page), 4096), kernel + page, 4096) != 0) {
            CHECK_INT(mem_write(vm->mem, GPA(page), kernel + page, 4096), 0);
            code_cache_external_write(vm->v, GPA(page), 4096);
        }
    }
}

/* As a program begins; user memory stays as the last one left it. */
static void load(struct soft_vm *vm, const struct program *p, const uint8_t *kernel)
{
    struct vcpu *v = vm->v;

    restore(vm, kernel);

    CHECK_INT(mem_write(vm->mem, GPA(PROGRAM), p->bytes, sizeof(p->bytes)), 0);
    code_cache_external_write(v, GPA(PROGRAM), sizeof(p->bytes));
    for (unsigned i = 0; i < PAGES; i++) {
        (void)soft_vm_map(vm, WINDOW + 4096 * i, WINDOW_A + 4096 * i, PTE_RW | PTE_US);
    }
    v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
    v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    v->cr3 = SOFT_VM_PML4;
    v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    v->star = (uint64_t)SYS_KERNEL_CS << 32 | (uint64_t)(SYS_KERNEL_CS32 | 3) << 48;
    v->lstar = TO_USER;
    v->sfmask = FLAG_TF;
    v->kernel_gs_base = 0x1000;
    v->gdt = (struct cpu_table){.base = SYS_GDT, .limit = 0x67};
    for (unsigned i = 0; i < SEG_TR; i++) {
        v->seg[i] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc093, .selector = 0x18};
    }
    v->seg[SEG_CS].attr = 0xa09b;
    v->seg[SEG_CS].selector = 0x10;
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        v->gpr[i] = UINT64_C(0x0123456789abcdef) * (i + 1);
    }
    v->gpr[GPR_RSP] = SYS_STACK3 + 0x1000;
    v->rip = PROGRAM;
    v->halted = 0;
    v->triple_fault = false;
    v->shadow = 0;
    v->nmi_blocked = false;
    vcpu_set_rflags(v, FLAG_1);
    vcpu_set_cpl(v, 0);
    vcpu_update_mode(v);
    mmu_mode_changed(v);
}

/* To the HLT at the end, to shutdown, or until there were too many exceptions: it went astray. */
static void run(struct vcpu *v)
{
    volatile unsigned exceptions = 0;

    if (_setjmp(v->unwind)) {
        if (++exceptions == EXCEPTIONS_MAX) {
            return;
        }
        ref_deliver_exception(v);
    }
    while (!v->halted && !v->triple_fault && !v->broken) {
        code_run(v);
    }
}

static const char *difference(struct soft_vm *a, struct soft_vm *b)
{
    static char text[128];
    const struct vcpu *v = a->v, *w = b->v;

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        if (v->gpr[i] != w->gpr[i]) {
            (void)snprintf(text, sizeof(text), "r%u: %lx, translated %lx", i, v->gpr[i], w->gpr[i]);
            return text;
        }
    }
    if (v->rip != w->rip || vcpu_rflags(v) != vcpu_rflags(w) || v->cpl != w->cpl ||
        v->triple_fault != w->triple_fault) {
        (void)snprintf(text, sizeof(text), "rip %lx flags %lx cpl %u, translated %lx %lx %u",
                       v->rip, vcpu_rflags(v), v->cpl, w->rip, vcpu_rflags(w), w->cpl);
        return text;
    }
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct cpu_segment *x = &v->seg[i], *y = &w->seg[i];

        if (x->base != y->base || x->limit != y->limit || x->attr != y->attr ||
            x->selector != y->selector) {
            (void)snprintf(text, sizeof(text), "segment %u: %x %lx %x %x, translated %x %lx %x %x",
                           i, x->selector, x->base, x->limit, x->attr, y->selector, y->base,
                           y->limit, y->attr);
            return text;
        }
    }
    if (v->gdt.base != w->gdt.base || v->gdt.limit != w->gdt.limit) {
        return "gdt";
    }
    if (v->cr0 != w->cr0 || v->cr2 != w->cr2 || v->cr3 != w->cr3 || v->cr4 != w->cr4 ||
        v->efer != w->efer || v->pat != w->pat || v->tsc_aux != w->tsc_aux ||
        v->kernel_gs_base != w->kernel_gs_base || memcmp(v->dr, w->dr, sizeof(v->dr)) != 0) {
        return "system registers";
    }
    for (uint64_t page = 0; page < SOFT_VM_RAM; page += 4096) {
        const uint8_t *m = mem_ptr(a->mem, GPA(page), 4096), *n = mem_ptr(b->mem, GPA(page), 4096);

        for (unsigned i = 0; memcmp(m, n, 4096) != 0 && i < 4096; i += 8) {
            if (memcmp(m + i, n + i, 8) != 0) {
                (void)snprintf(text, sizeof(text), "memory at %lx: %lx, translated %lx", page + i,
                               load_le64(m + i), load_le64(n + i));
                return text;
            }
        }
    }
    return NULL;
}

static void report(const struct program *p, const char *what)
{
    print_error("%s\n", what);
    for (unsigned at = 0; at < SLOTS * 16; at += 16) {
        char text[96];
        struct insn insn;

        if (insn_decode(p->bytes + at, 16, INSN_MODE_64, &insn) == INSN_OK) {
            print_error("  %lx  %s\n", PROGRAM + at, insn_print(&insn, PROGRAM + at, text));
        }
    }
}

TEST(priv, translated_kernels_end_as_interpreted_ones_do)
{
    static uint8_t kernel[KERNEL_END];
    static struct program p;
    unsigned long seed = diff_number("EC1_SEED", (unsigned long)time(NULL)), failed = 0, whole = 0;
    unsigned long exceptions = 0;
    unsigned long count = diff_number("EC1_TIER_PROGRAMS", 400) / 4 + 1;
    struct soft_vm vms[2];

    print_message("EC1_SEED=%lu\n", seed);
    p.r = diff_seeded(seed);
    machine_start(&vms[0], "interp");
    machine_start(&vms[1], "eager");
    CHECK_INT(mem_read(vms[0].mem, GPA(0), kernel, sizeof(kernel)), 0);
    for (unsigned long i = 0; i < count && failed < 3; i++) {
        make_program(&p);
        for (unsigned round = 0; round < 3; round++) { /* new, linked, and once more */
            const char *what;

            for (unsigned which = 0; which < 2; which++) {
                load(&vms[which], &p, kernel);
                run(vms[which].v);
                if (vms[which].v->broken) {
                    print_error("%s\n", vms[which].v->why);
                    fail();
                }
            }
            what = difference(&vms[0], &vms[1]);
            if (what) {
                report(&p, what);
                failed++;
                break;
            }
        }
        whole += vms[0].v->halted;
        exceptions += soft_vm_peek(&vms[0], COUNT);
    }
    print_message("%lu programs, %lu to their end, %lu exceptions\n", count, whole, exceptions);
    machine_stop(&vms[0]);
    machine_stop(&vms[1]);
    CHECK_INT(failed, 0);
}
