/* trap_test.c — single-stepping (TF): which instructions trap, where, and which leave it behind.
 *
 * SDM volume 3, 17.3.1.4; volume 2 for each instruction.  tier_test.c runs this file translated,
 * too.  Each case runs several times: found, translated, linked. */
#include "base/bits.h"
#include "hv/soft/cache/code.h"
#include "hv/soft/cpu/fpu.h"
#include "tests/lib/sys_vm.h"
#include "tests/lib/test.h"

#define KERNEL  UINT64_C(0x5000)
#define ENTRY   UINT64_C(0x6000) /* of SYSCALL */
#define USER    (SYS_USER + 0x100)
#define TARGET  UINT64_C(0x7000) /* where frames on the stack lead */
#define INT_20  0x20u
#define HANDLER UINT64_C(0x8200) /* of INT 20H: sys_vm_gate() */
#define ROUNDS  6u

static void start(struct soft_vm *vm)
{
    sys_vm_start(vm);
    fpu_reset(vm->v);
    CHECK_INT(code_cache_init(vm->v), 0);
    vm->v->star = (uint64_t)(SYS_KERNEL_CS | (uint64_t)(SYS_USER_CS - 16 + 3) << 16) << 32;
    vm->v->lstar = ENTRY;
    CHECK_INT(sys_vm_gate(vm, INT_20, 14, 3, 0), HANDLER);
}

static void finish(struct soft_vm *vm)
{
    code_cache_fini(vm->v);
    sys_vm_stop(vm);
}

static void put(struct soft_vm *vm, uint64_t at, const char *bytes, size_t len)
{
    CHECK_INT(mem_write(vm->mem, GPA(at), bytes, len), 0);
    code_cache_external_write(vm->v, GPA(at), len);
}

static void begin(struct soft_vm *vm, bool is_user, uint64_t rflags)
{
    struct vcpu *v = vm->v;

    v->seg[SEG_CS] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xa09b, .selector = 0x10};
    v->seg[SEG_SS] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc093, .selector = 0x18};
    v->cpl = 0;
    v->gpr[GPR_RSP] = SYS_STACK0 - 0x100;
    v->rip = KERNEL;
    v->halted = 0;
    v->shadow = 0;
    v->dr[6] = 0;
    if (is_user) {
        sys_vm_user(vm);
    }
    vcpu_update_mode(v);
    vcpu_set_rflags(v, FLAG_1 | rflags);
}

/* IRET's frame on the stack. */
static void push_frame(struct soft_vm *vm, uint64_t cs, uint64_t rflags, uint64_t ss)
{
    uint64_t at = vm->v->gpr[GPR_RSP];

    soft_vm_poke(vm, at, cs & 3 ? USER : TARGET);
    soft_vm_poke(vm, at + 8, cs);
    soft_vm_poke(vm, at + 16, FLAG_1 | rflags);
    soft_vm_poke(vm, at + 24, cs & 3 ? SYS_STACK3 : SYS_STACK0);
    soft_vm_poke(vm, at + 32, ss);
}

/* Until code_run() comes back: -1, or the vector of the exception that left it. */
static int go(struct soft_vm *vm)
{
    if (_setjmp(vm->v->unwind)) {
        return vm->v->exc.vector;
    }
    code_run(vm->v);
    return -1;
}

struct stepped {
    const char *what;
    const char *code;
    size_t len;
    bool is_user;
    bool masks_tf; /* SYSCALL */
    bool has_tf;   /* as it begins */
    uint64_t r11;  /* SYSRET's flags */
    int vector;    /* -1: HLT */
    uint64_t rip;  /* there */
    uint64_t frame_cs, frame_flags, frame_ss;
};
#define CODE(text) .code = (text), .len = sizeof(text) - 1

static const struct stepped cases[] = {
    {"nop", CODE("\x90\xf4"), .has_tf = true, .vector = EXC_DB, .rip = KERNEL + 1},
    {"jmp", CODE("\xeb\x02\x90\x90\xf4"), .has_tf = true, .vector = EXC_DB, .rip = KERNEL + 4},
    {"hlt", CODE("\xf4"), .has_tf = true, .vector = EXC_DB, .rip = KERNEL + 1},
    {"sti", CODE("\xfb\x90\xf4"), .has_tf = true, .vector = EXC_DB, .rip = KERNEL + 1},
    /* mov ss, dx; nop: after both */
    {"mov ss", CODE("\x8e\xd2\x90\xf4"), .has_tf = true, .vector = EXC_DB, .rip = KERNEL + 3},
    /* mov ss, dx; popf, which clears TF: it was set as POPF began */
    {"mov ss, popf", CODE("\x8e\xd2\x9d\x90\xf4"), .has_tf = true, .vector = EXC_DB,
     .rip = KERNEL + 3},
    {"popf clears", CODE("\x9d\x90\xf4"), .has_tf = true, .vector = EXC_DB, .rip = KERNEL + 1},
    /* push 102h; popf; nop; nop */
    {"popf sets", CODE("\x68\x02\x01\x00\x00\x9d\x90\x90\xf4"), .vector = EXC_DB,
     .rip = KERNEL + 7},
    {"rep stosb", CODE("\xf3\xaa\xf4"), .has_tf = true, .vector = EXC_DB, .rip = KERNEL},
    {"int", CODE("\xcd\x20"), .has_tf = true, .vector = -1, .rip = HANDLER + 1},
    {"int of a user", CODE("\xcd\x20"), .is_user = true, .has_tf = true, .vector = -1,
     .rip = HANDLER + 1},
    {"icebp", CODE("\xf1"), .has_tf = true, .vector = -1, .rip = 0x8011},
    {"syscall", CODE("\x0f\x05"), .is_user = true, .has_tf = true, .vector = EXC_DB, .rip = ENTRY},
    {"syscall, masked", CODE("\x0f\x05"), .is_user = true, .masks_tf = true, .has_tf = true,
     .vector = -1, .rip = ENTRY + 1},
    {"sysret clears", CODE("\x48\x0f\x07"), .has_tf = true, .vector = EXC_GP, .rip = USER + 1},
    {"sysret sets", CODE("\x48\x0f\x07"), .r11 = FLAG_TF, .vector = EXC_DB, .rip = USER},
    {"sysret keeps", CODE("\x48\x0f\x07"), .has_tf = true, .r11 = FLAG_TF, .vector = EXC_DB,
     .rip = USER},
    {"iret clears", CODE("\x48\xcf"), .has_tf = true, .vector = EXC_DB, .rip = TARGET,
     .frame_cs = SYS_KERNEL_CS, .frame_ss = SYS_KERNEL_DS},
    {"iret sets", CODE("\x48\xcf"), .vector = EXC_DB, .rip = TARGET + 1, .frame_cs = SYS_KERNEL_CS,
     .frame_flags = FLAG_TF, .frame_ss = SYS_KERNEL_DS},
    {"iret to a user sets", CODE("\x48\xcf"), .vector = EXC_DB, .rip = USER + 1,
     .frame_cs = SYS_USER_CS | 3, .frame_flags = FLAG_TF, .frame_ss = SYS_USER_DS | 3},
    {"iret to 32 bits sets", CODE("\x48\xcf"), .vector = EXC_DB, .rip = TARGET + 1,
     .frame_cs = SYS_KERNEL_CS32, .frame_flags = FLAG_TF, .frame_ss = SYS_KERNEL_DS},
    /* the fault comes instead of the trap */
    {"ud2", CODE("\x0f\x0b"), .has_tf = true, .vector = EXC_UD, .rip = KERNEL},
};

static void run_case(struct soft_vm *vm, const struct stepped *c)
{
    struct vcpu *v = vm->v;
    int vector;

    begin(vm, c->is_user, c->has_tf ? FLAG_TF : 0);
    v->sfmask = c->masks_tf ? FLAG_TF : 0;
    v->gpr[GPR_RDX] = SYS_KERNEL_DS;
    v->gpr[GPR_RDI] = SYS_DATA;
    v->gpr[GPR_R11] = FLAG_1 | c->r11;
    v->gpr[GPR_RCX] = USER; /* for SYSRET; a count, too */
    soft_vm_poke(vm, v->gpr[GPR_RSP], FLAG_1);
    if (c->frame_cs) {
        push_frame(vm, c->frame_cs, c->frame_flags, c->frame_ss);
    }
    vector = go(vm);
    if (vector != c->vector || v->rip != c->rip) {
        fail_msg("%s: vector %d at %lx, not %d at %lx", c->what, vector, v->rip, c->vector, c->rip);
    }
    CHECK_INT(v->dr[6] & 0x4000 ? 1 : 0, vector == EXC_DB);
    CHECK_INT(v->shadow, 0);
}

TEST(trap, each_instruction_traps_where_it_must)
{
    struct soft_vm vm;

    start(&vm);
    put(&vm, ENTRY, "\xf4", 1);
    put(&vm, HANDLER, "\xf4", 1);
    put(&vm, 0x8010, "\xf4", 1); /* of #DB */
    (void)sys_vm_gate(&vm, EXC_DB, 14, 3, 0);
    put(&vm, TARGET, "\x90\x90\xf4", 3);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        const struct stepped *c = &cases[i];

        put(&vm, c->is_user ? USER : KERNEL, c->code, c->len);
        if (!c->is_user) {
            put(&vm, USER, "\x90\xf4", 2);
        }
        for (unsigned round = 0; round < ROUNDS; round++) {
            run_case(&vm, c);
        }
    }
    finish(&vm);
}
