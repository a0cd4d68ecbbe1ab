/* tier_test.c — random straight-line programs, interpreted and translated: the same end.
 *
 * Two machines start alike and run the same program: one interprets, the other translates every
 * block before its first run.  Registers, memory, vector state, the exception and the count of
 * instructions must agree.  Arithmetic flags must agree where a program ends; at a fault in its
 * midst, translated code need not have kept those that nothing would have read.
 *
 * EC1_SEED repeats a run, EC1_TIER_PROGRAMS sets how many programs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "hv/soft/cache/code_int.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/emit/emit.h"
#include "hv/soft/mmu/mmu.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"

#define CODE        UINT64_C(0x400000)
#define DATA        UINT64_C(0x600000)
#define DATA_BYTES  UINT64_C(0x10000)
#define MISSING     (DATA + 0x5000) /* a page that is not there, */
#define READONLY    (DATA + 0x9000) /* and one that cannot be written */
#define STACK       (DATA + 0xc800)
#define PROGRAM_MAX 512u
#define INSNS       30u

struct program {
    uint8_t bytes[PROGRAM_MAX];
    unsigned len;
    uint64_t random;
};

static uint64_t next(struct program *p)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned dice(struct program *p, unsigned sides)
{
    return (unsigned)(next(p) >> 33) % sides;
}

static void put(struct program *p, unsigned byte)
{
    p->bytes[p->len++] = (uint8_t)byte;
}

static void put_random(struct program *p, unsigned count)
{
    while (count--) {
        put(p, dice(p, 256));
    }
}

/* --- instructions --- */

/* Registers that hold addresses, and those that programs compute with. */
static const uint8_t pointers[] = {GPR_RBX, GPR_RSI, GPR_RBP, GPR_R10, GPR_R12, GPR_R14};
static const uint8_t values[] = {GPR_RAX, GPR_RCX, GPR_RDX, GPR_RDI, GPR_R8,
                                 GPR_R9,  GPR_R11, GPR_R13, GPR_R15};

enum imm_kind { IMM_NONE, IMM_BYTE, IMM_Z };
enum { BYTE_OP = 1, MEM_LOCK = 2, DIGITS = 4, REG_ONLY = 8, MEM_ONLY = 16, VECTOR = 32 };

struct pattern {
    uint8_t prefix;
    bool is_0f;
    uint8_t first, count; /* opcodes */
    uint8_t step;
    uint8_t imm; /* enum imm_kind */
    uint8_t flags;
    uint8_t digit, digits; /* /digit and how many from there */
};

static const struct pattern patterns[] = {
    {.first = 0x00, .count = 7, .step = 8, .flags = BYTE_OP | MEM_LOCK},
    {.first = 0x01, .count = 7, .step = 8, .flags = MEM_LOCK},
    {.first = 0x02, .count = 8, .step = 8, .flags = BYTE_OP},
    {.first = 0x03, .count = 8, .step = 8},
    {.first = 0x38, .count = 1, .flags = BYTE_OP},
    {.first = 0x39, .count = 1},
    {.first = 0x80, .count = 1, .imm = IMM_BYTE, .flags = BYTE_OP | DIGITS, .digits = 8},
    {.first = 0x81, .count = 1, .imm = IMM_Z, .flags = DIGITS, .digits = 8},
    {.first = 0x83, .count = 1, .imm = IMM_BYTE, .flags = DIGITS, .digits = 8},
    {.first = 0x84, .count = 1, .flags = BYTE_OP},
    {.first = 0x85, .count = 1},
    {.first = 0x86, .count = 1, .flags = BYTE_OP},
    {.first = 0x87, .count = 1},
    {.first = 0x88, .count = 1, .flags = BYTE_OP},
    {.first = 0x89, .count = 1},
    {.first = 0x8a, .count = 1, .flags = BYTE_OP},
    {.first = 0x8b, .count = 1},
    {.first = 0x8d, .count = 1, .flags = MEM_ONLY},
    {.first = 0x63, .count = 1},
    {.first = 0x69, .count = 1, .imm = IMM_Z},
    {.first = 0x6b, .count = 1, .imm = IMM_BYTE},
    {.first = 0xc6, .count = 1, .imm = IMM_BYTE, .flags = BYTE_OP | DIGITS, .digits = 1},
    {.first = 0xc7, .count = 1, .imm = IMM_Z, .flags = DIGITS, .digits = 1},
    {.first = 0xc0, .count = 1, .imm = IMM_BYTE, .flags = BYTE_OP | DIGITS, .digits = 8},
    {.first = 0xc1, .count = 1, .imm = IMM_BYTE, .flags = DIGITS, .digits = 8},
    {.first = 0xd0, .count = 2, .step = 2, .flags = BYTE_OP | DIGITS, .digits = 8},
    {.first = 0xd1, .count = 2, .step = 2, .flags = DIGITS, .digits = 8},
    {.first = 0xf6, .count = 1, .imm = IMM_BYTE, .flags = BYTE_OP | DIGITS, .digits = 1},
    {.first = 0xf7, .count = 1, .imm = IMM_Z, .flags = DIGITS, .digits = 1},
    {.first = 0xf6, .count = 1, .flags = BYTE_OP | DIGITS, .digit = 2, .digits = 4},
    {.first = 0xf7, .count = 1, .flags = DIGITS, .digit = 2, .digits = 4},
    {.first = 0xfe, .count = 1, .flags = BYTE_OP | DIGITS | MEM_LOCK, .digits = 2},
    {.first = 0xff, .count = 1, .flags = DIGITS | MEM_LOCK, .digits = 2},
    {.first = 0x8c, .count = 1, .flags = DIGITS, .digits = 6},
    {.first = 0xff, .count = 1, .flags = DIGITS, .digit = 6, .digits = 1},
    {.is_0f = true, .first = 0xc7, .count = 1, .flags = DIGITS | MEM_ONLY, .digit = 1, .digits = 1},
    {.is_0f = true, .first = 0x40, .count = 16, .step = 1},
    {.is_0f = true, .first = 0x90, .count = 16, .step = 1, .flags = BYTE_OP | DIGITS, .digits = 8},
    {.is_0f = true, .first = 0xa3, .count = 4, .step = 8, .flags = REG_ONLY},
    {.is_0f = true, .first = 0xa3, .count = 4, .step = 8},
    {.is_0f = true,
     .first = 0xba,
     .count = 1,
     .imm = IMM_BYTE,
     .flags = DIGITS,
     .digit = 4,
     .digits = 4},
    {.is_0f = true, .first = 0xa4, .count = 2, .step = 8, .imm = IMM_BYTE},
    {.is_0f = true, .first = 0xa5, .count = 2, .step = 8},
    {.is_0f = true, .first = 0xaf, .count = 1},
    {.is_0f = true, .first = 0xb0, .count = 2, .step = 16, .flags = BYTE_OP | MEM_LOCK},
    {.is_0f = true, .first = 0xb1, .count = 2, .step = 16, .flags = MEM_LOCK},
    {.is_0f = true, .first = 0xb6, .count = 2, .step = 8, .flags = BYTE_OP},
    {.is_0f = true, .first = 0xb7, .count = 2, .step = 8},
    {.is_0f = true, .first = 0xbc, .count = 2, .step = 1},
    {.is_0f = true, .prefix = 0xf3, .first = 0xbc, .count = 2, .step = 1},
    {.is_0f = true, .prefix = 0xf3, .first = 0xb8, .count = 1},
    {.is_0f = true, .prefix = 0xf3, .first = 0x6f, .count = 2, .step = 16, .flags = VECTOR},
    {.is_0f = true, .prefix = 0x66, .first = 0xef, .count = 1, .flags = VECTOR | REG_ONLY},
    {.is_0f = true, .prefix = 0x66, .first = 0x6e, .count = 2, .step = 16, .flags = VECTOR},
    {.is_0f = true, .first = 0x10, .count = 2, .step = 1, .flags = VECTOR},
    {.is_0f = true, .first = 0x28, .count = 2, .step = 1, .flags = VECTOR},
    {.is_0f = true, .first = 0x54, .count = 12, .step = 1, .flags = VECTOR | REG_ONLY},
    {.is_0f = true, .prefix = 0xf2, .first = 0x2a, .count = 1, .flags = VECTOR},
    {.is_0f = true, .prefix = 0xf2, .first = 0x2c, .count = 2, .step = 1, .flags = VECTOR},
    {.is_0f = true, .prefix = 0x66, .first = 0x2e, .count = 2, .step = 1, .flags = VECTOR},
    {.is_0f = true, .prefix = 0xf2, .first = 0x51, .count = 1, .flags = VECTOR},
    {.is_0f = true, .prefix = 0xf3, .first = 0x58, .count = 8, .step = 1, .flags = VECTOR},
    {.is_0f = true,
     .prefix = 0x66,
     .first = 0x60,
     .count = 14,
     .step = 1,
     .flags = VECTOR | REG_ONLY},
    {.is_0f = true, .prefix = 0x66, .first = 0xd4, .count = 2, .step = 1, .flags = VECTOR},
    {.is_0f = true, .prefix = 0x66, .first = 0xd7, .count = 1, .flags = VECTOR | REG_ONLY},
    {.is_0f = true,
     .prefix = 0x66,
     .first = 0x70,
     .count = 1,
     .imm = IMM_BYTE,
     .flags = VECTOR | REG_ONLY},
    {.is_0f = true,
     .first = 0xae,
     .count = 1,
     .flags = VECTOR | DIGITS | MEM_ONLY,
     .digit = 2,
     .digits = 2},
};

static unsigned pick_value(struct program *p, bool low_only)
{
    return low_only ? dice(p, 4) == 3 ? GPR_RDI : dice(p, 3) : values[dice(p, sizeof(values))];
}

static void put_word(struct program *p, uint64_t value)
{
    memcpy(p->bytes + p->len, &value, 4);
    p->len += 4;
}

/* [rip + disp32] or [disp32], about anywhere in the data; immediates may shift the former. */
static void put_constant(struct program *p, unsigned reg)
{
    uint64_t to = DATA + dice(p, DATA_BYTES);

    if (dice(p, 2)) {
        put(p, (reg & 7) << 3 | 5);
        put_word(p, to - (CODE + p->len + 4));
    } else {
        put(p, (reg & 7) << 3 | 4);
        put(p, 0x25);
        put_word(p, to);
    }
}

static void put_modrm(struct program *p, const struct pattern *f, bool has_rex, bool is_mem,
                      size_t rex_at)
{
    unsigned reg = f->flags & DIGITS ? f->digit + dice(p, f->digits) : pick_value(p, !has_rex);
    unsigned rm = pick_value(p, !has_rex), index = pick_value(p, !has_rex);
    unsigned mod = is_mem ? 1 : 3;
    bool has_index = is_mem && dice(p, 8) == 0;

    if (!(f->flags & DIGITS) && f->flags & BYTE_OP && !has_rex && dice(p, 2)) {
        reg = 4 + dice(p, 3); /* AH, CH, DH */
    }
    if (is_mem) {
        rm = pointers[dice(p, has_rex ? sizeof(pointers) : 3)];
    } else if (f->flags & BYTE_OP && !has_rex && dice(p, 2)) {
        rm = 4 + dice(p, 3);
    }
    if (is_mem && dice(p, 8) == 0) {
        if (has_rex) {
            p->bytes[rex_at] |= (uint8_t)((reg & 8) >> 1);
        }
        put_constant(p, reg);
        return;
    }
    if (has_rex) {
        p->bytes[rex_at] |=
            (uint8_t)((reg & 8) >> 1 | (has_index ? (index & 8) >> 2 : 0) | rm >> 3);
    }
    if (has_index || (is_mem && (rm & 7) == 4)) {
        put(p, mod << 6 | (reg & 7) << 3 | 4);
        put(p, (has_index ? (index & 7) << 3 | dice(p, 4) << 6 : 4 << 3) | (rm & 7));
    } else {
        put(p, mod << 6 | (reg & 7) << 3 | (rm & 7));
    }
    if (is_mem) {
        put_random(p, 1);
    }
}

static void put_pattern(struct program *p, const struct pattern *f)
{
    bool is_mem = f->flags & MEM_ONLY || (!(f->flags & REG_ONLY) && dice(p, 2));
    bool has_rex = dice(p, 4) != 0, has_66 = !(f->flags & VECTOR) && dice(p, 8) == 0;
    bool is_wide = has_rex && dice(p, 2);
    unsigned opcode = f->first + f->step * dice(p, f->count);
    size_t rex_at;

    if (is_mem && f->flags & MEM_LOCK && opcode != 0x38 && opcode != 0x39 && dice(p, 4) == 0) {
        put(p, 0xf0);
    } else if (is_mem && dice(p, 16) == 0) {
        put(p, dice(p, 2) ? 0x64 : 0x65);
    }
    if (has_66) {
        put(p, 0x66);
    }
    if (f->prefix) {
        put(p, f->prefix);
    }
    rex_at = p->len;
    if (has_rex) {
        put(p, 0x40 | (is_wide ? 8 : 0));
    }
    if (f->is_0f) {
        put(p, 0x0f);
    }
    put(p, opcode);
    put_modrm(p, f, has_rex, is_mem, rex_at);
    if (f->imm == IMM_BYTE) {
        put_random(p, 1);
    } else if (f->imm == IMM_Z) {
        put_random(p, has_66 && !is_wide ? 2 : 4);
    }
}

/* Those without ModRM. */
static void put_simple(struct program *p)
{
    static const uint8_t bytes[] = {0xf8, 0xf9, 0xf5, 0x9e, 0x9f, 0x98, 0x99, 0x9c, 0x90};
    unsigned reg = pick_value(p, false);

    switch (dice(p, 9)) {
    case 0:
        if (reg & 8) {
            put(p, 0x41);
        }
        put(p, (dice(p, 2) ? 0x50 : 0x58) + (reg & 7));
        break;
    case 1:
        put(p, 0x68);
        put_random(p, 4);
        break;
    case 2: /* jcc over nothing: a block ends */
        put(p, 0x70 + dice(p, 16));
        put(p, 0);
        break;
    case 3: /* bswap */
        put(p, 0x48 | reg >> 3);
        put(p, 0x0f);
        put(p, 0xc8 + (reg & 7));
        break;
    case 4: /* mov reg, imm64 */
        put(p, 0x48 | reg >> 3);
        put(p, 0xb8 + (reg & 7));
        put_random(p, 8);
        break;
    case 5: /* call over nothing, or jmp */
        put(p, 0xe8 + dice(p, 2));
        for (unsigned i = 0; i < 4; i++) {
            put(p, 0);
        }
        break;
    case 6: /* lea rcx, [next]; jmp rcx or call rcx */
        put(p, 0x48);
        put(p, 0x8d);
        put(p, 0x0d);
        put(p, 2);
        put(p, 0);
        put(p, 0);
        put(p, 0);
        put(p, 0xff);
        put(p, dice(p, 2) ? 0xe1 : 0xd1);
        break;
    case 7: /* call +1; jmp +1: to ret, and over it */
        put(p, 0xe8);
        put(p, 2);
        put(p, 0);
        put(p, 0);
        put(p, 0);
        put(p, 0xeb);
        put(p, 1);
        put(p, 0xc3);
        break;
    default:
        if (dice(p, 3) == 0) {
            put(p, dice(p, 2) ? 0x48 : 0x66);
            put(p, 0x98 + dice(p, 2));
        } else {
            put(p, bytes[dice(p, sizeof(bytes))]);
        }
        break;
    }
}

static void make_program(struct program *p)
{
    unsigned count = 1 + dice(p, INSNS);

    p->len = 0;
    for (unsigned i = 0; i < count; i++) {
        if (dice(p, 6) == 0) {
            put_simple(p);
        } else {
            put_pattern(p, &patterns[dice(p, sizeof(patterns) / sizeof(patterns[0]))]);
        }
    }
    put(p, 0xf4); /* hlt: at CPL 3, #GP */
}

/* --- machines --- */

static void machine_start(struct soft_vm *vm, const char *tier)
{
    CHECK_INT(setenv("EC1_SOFT_TIER", tier, 1), 0);
    soft_vm_init(vm);
    mmu_init(vm->v);
    fpu_reset(vm->v);
    CHECK_INT(code_cache_init(vm->v), 0);
    CHECK(!vm->v->emit == !strcmp(tier, "interp"));
    (void)soft_vm_map(vm, CODE, CODE, PTE_RW | PTE_US);
    soft_vm_map_range(vm, DATA, DATA, DATA_BYTES, PTE_RW | PTE_US);
    (void)soft_vm_map(vm, READONLY, READONLY, PTE_US);
    soft_vm_poke(vm, soft_vm_entry(vm, MISSING, 12), 0);
}

static void machine_stop(struct soft_vm *vm)
{
    code_cache_fini(vm->v);
    soft_vm_fini(vm);
}

static void set_cpl(struct vcpu *v, bool is_user)
{
    v->seg[SEG_CS].attr = is_user ? 0xa0fb : 0xa09b;
    v->seg[SEG_SS].attr = is_user ? 0xc0f3 : 0xc093;
    vcpu_set_cpl(v, is_user ? 3 : 0);
    vcpu_update_mode(v);
}

static void load(struct soft_vm *vm, const struct program *source, bool is_user)
{
    struct program p = *source;
    struct vcpu *v = vm->v;

    CHECK_INT(mem_write(vm->mem, GPA(CODE), p.bytes, p.len), 0);
    code_cache_external_write(v, GPA(CODE), p.len);
    set_cpl(v, is_user);
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        v->gpr[i] = next(&p) >> dice(&p, 64);
    }
    for (unsigned i = 0; i < sizeof(pointers); i++) {
        v->gpr[pointers[i]] = DATA + 0x200 + dice(&p, DATA_BYTES - 0x400);
    }
    v->gpr[GPR_RSP] = STACK + dice(&p, 8);
    v->seg[SEG_FS].base = dice(&p, 256);
    v->seg[SEG_GS].base = 4096 + dice(&p, 256);
    vcpu_set_rflags(v, FLAG_1 | (next(&p) & FLAGS_ARITH));
    for (unsigned i = 0; i < DATA_BYTES; i += 8) {
        soft_vm_poke(vm, DATA + i, next(&p));
    }
    for (unsigned i = 0; i < 256; i += 8) {
        store_le64(v->xsave + FPU_XMM0 + i, next(&p));
    }
    store_le32(v->xsave + FPU_MXCSR, (uint32_t)(next(&p) & 0xffff) | (dice(&p, 8) ? 0x1f80 : 0));
}

/* The exception that ended it, or -1. */
static int run(struct vcpu *v)
{
    v->rip = CODE;
    v->halted = 0;
    v->exc.error = 0;
    v->exc.cr2 = 0;
    if (_setjmp(v->unwind)) {
        return v->exc.vector;
    }
    while (!v->halted) {
        code_run(v);
    }
    return -1;
}

static const char *difference(struct soft_vm *a, struct soft_vm *b, uint64_t end)
{
    static char text[96];
    struct vcpu *v = a->v, *w = b->v;
    bool is_whole = v->halted || v->rip == end;

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        if (v->gpr[i] != w->gpr[i]) {
            (void)snprintf(text, sizeof(text), "r%u: %lx, translated %lx", i, v->gpr[i], w->gpr[i]);
            return text;
        }
    }
    if (v->rip != w->rip || v->exc.error != w->exc.error || v->exc.cr2 != w->exc.cr2) {
        (void)snprintf(text, sizeof(text), "rip %lx, translated %lx", v->rip, w->rip);
        return text;
    }
    if (is_whole && vcpu_rflags(v) != vcpu_rflags(w)) {
        (void)snprintf(text, sizeof(text), "flags: %lx, translated %lx", vcpu_rflags(v),
                       vcpu_rflags(w));
        return text;
    }
    if (v->stats.insns != w->stats.insns) {
        return "count of instructions";
    }
    if (memcmp(v->xsave, w->xsave, FPU_LEGACY_LEN) != 0) {
        return "vector state";
    }
    for (unsigned i = 0; i < DATA_BYTES; i += 8) {
        if (soft_vm_peek(a, DATA + i) != soft_vm_peek(b, DATA + i)) {
            (void)snprintf(text, sizeof(text), "memory at %lx", DATA + i);
            return text;
        }
    }
    return NULL;
}

static void report(const struct program *p, const char *what, uint64_t rip)
{
    print_error("%s; rip %lx\n", what, rip);
    for (unsigned i = 0; i < p->len; i++) {
        print_error("%02x%s", p->bytes[i], i + 1 < p->len ? " " : "\n");
    }
}

/* True if both came to the same end. */
static bool is_same(struct soft_vm *vms, struct program *p, unsigned rounds)
{
    bool is_user = dice(p, 2);
    const char *what;
    int vector;

    load(&vms[0], p, is_user);
    load(&vms[1], p, is_user);
    for (unsigned round = 0; round < rounds; round++) {
        vector = run(vms[0].v);
        what = run(vms[1].v) == vector ? difference(&vms[0], &vms[1], CODE + p->len - 1) : "vector";
        if (what) {
            report(p, what, vms[0].v->rip);
            return false;
        }
        if (vms[0].v->rip != CODE + p->len - 1 && !vms[0].v->halted) {
            break; /* flags may differ from here on */
        }
    }
    return true;
}

static unsigned long number_from(const char *name, unsigned long fallback)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 0) : fallback;
}

/* heat: runs before a block is translated. */
static void compare_tiers(uint8_t heat, unsigned rounds)
{
    unsigned long count = number_from("EC1_TIER_PROGRAMS", 1500), failed = 0;
    unsigned long seed = number_from("EC1_SEED", (unsigned long)time(NULL));
    struct program p = {.random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1};
    struct soft_vm vms[2];

    print_message("EC1_SEED=%lu\n", seed);
    machine_start(&vms[0], "interp");
    machine_start(&vms[1], "eager");
    vms[1].v->count_runs = true; /* both run as many instructions */
    vms[1].v->code->heat = heat;
    for (unsigned long i = 0; i < count && failed < 5; i++) {
        make_program(&p);
        failed += !is_same(vms, &p, rounds);
    }
    machine_stop(&vms[0]);
    machine_stop(&vms[1]);
    CHECK_INT(failed, 0);
}

TEST(tier, translated_programs_end_as_interpreted_ones_do)
{
    compare_tiers(1, 3); /* new, linked, and once more */
}

/* A block knows those behind it when it is translated, and takes them in. */
TEST(tier, blocks_translated_together_end_as_interpreted_ones_do)
{
    compare_tiers(2, 5);
}

/* A page of loads makes much code; each round overwrites it. */
TEST(tier, full_code_memory_starts_anew)
{
    static uint8_t page[4096];
    struct soft_vm vm;

    machine_start(&vm, "eager");
    vm.v->count_runs = true;
    memset(page, 0xf4, sizeof(page));
    for (unsigned i = 0; i < 1300; i++) {
        memcpy(page + 3 * i, "\x48\x8b\x06", 3); /* mov rax, [rsi] */
    }
    for (unsigned round = 1; round <= 400; round++) {
        CHECK_INT(mem_write(vm.mem, GPA(CODE), page, sizeof(page)), 0);
        code_cache_external_write(vm.v, GPA(CODE), sizeof(page));
        soft_vm_poke(&vm, DATA, round);
        vm.v->gpr[GPR_RSI] = DATA;
        CHECK_INT(run(vm.v), -1);
        CHECK_INT(vm.v->gpr[GPR_RAX], round);
        CHECK_INT(vm.v->rip, CODE + 3901);
    }
    CHECK_INT(vm.v->stats.insns, 400 * 1301);
    CHECK(!emit_is_full(vm.v));
    CHECK(vm.v->code->arena.top < ARENA_BYTES / 2); /* all went at least once */
    machine_stop(&vm);
}

TEST(tier, strict_flags_are_right_where_the_interpreter_runs_one_instruction)
{
    struct soft_vm vm;

    machine_start(&vm, "eager");
    vm.v->has_strict_flags = true;
    /* add al, 25h; add [rbx], bh, which has no lowering, writes flags itself, and faults */
    CHECK_INT(mem_write(vm.mem, GPA(CODE), "\x04\x25\x00\x3b\xf4", 5), 0);
    vm.v->gpr[GPR_RBX] = 0x12345000;
    for (unsigned i = 0; i < 3; i++) {
        vm.v->gpr[GPR_RAX] = 0x68;
        CHECK_INT(run(vm.v), EXC_PF);
        CHECK_INT(vm.v->rip, CODE + 2);
        CHECK_INT(vcpu_rflags(vm.v) & FLAGS_ARITH, FLAG_OF | FLAG_SF | FLAG_PF);
    }
    machine_stop(&vm);
}

/* All other tests of this program once more, with every block translated before its first run. */
TEST(tier, the_tests_of_the_interpreter_pass_translated)
{
    char self[4096] = {0};
    int status = -1;
    pid_t pid;

    if (getenv("EC1_TIER_AGAIN")) {
        return;
    }
    CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        (void)setenv("EC1_TIER_AGAIN", "1", 1);
        (void)setenv("EC1_SOFT_TIER", "eager", 1);
        (void)setenv("EC1_DIFF_CASES", "100", 1);
        (void)setenv("EC1_SEQ_CASES", "100", 1);
        (void)setenv("EC1_TIER_PROGRAMS", "100", 1);
        (void)execl(self, self, (char *)NULL);
        _exit(127);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}
