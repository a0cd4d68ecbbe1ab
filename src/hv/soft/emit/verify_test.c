/* verify_test.c — the verifier takes what the translator emits, and nothing that is a step short.
 */
#include <stdlib.h>

#include "hv/soft/emit/verify.h"
#include "tests/lib/test.h"

struct bench {
    struct vcpu *v;
    uint8_t *from;
    char why[VERIFY_WHY];
};

static void begin(struct bench *b)
{
    b->v = aligned_alloc(64, (sizeof(*b->v) + 63) & ~(size_t)63);
    CHECK(b->v);
    memset(b->v, 0, sizeof(*b->v));
    CHECK_INT(emit_init(b->v), 0);
    b->from = b->v->emit->buf.at;
}

static void end(struct bench *b)
{
    emit_fini(b->v);
    free(b->v);
}

/* Judge what was emitted since, as code of the kernel's, and take it back. */
static bool is_accepted(struct bench *b)
{
    struct asm_buf *a = &b->v->emit->buf;
    struct verify_unit unit = {
        .range = {{b->from, a->at}, {a->end, a->end}}, .start = {b->from}, .is_user = false};
    bool is_good = verify_code(b->v->emit, &unit, b->why);

    a->at = b->from;
    return is_good;
}

static void leave(struct bench *b)
{
    struct asm_buf *a = &b->v->emit->buf;

    asm_mov_imm(a, HOST_T1, 1);
    asm_mov_imm(a, HOST_T2, 2);
    asm_jump_to(a, 0xe9, b->v->emit->leave_op);
}

/* --- checks of accesses --- */

enum fault {
    FAULT_NONE,
    FAULT_NO_JUMP,
    FAULT_LONGER,
    FAULT_FURTHER,
    FAULT_BEFORE,
    FAULT_STORE,
    FAULT_OTHER_SLOT,
    FAULT_OTHER_TABLE,
    FAULT_USER_TABLE,
    FAULT_WIDE_SLOT,
    FAULT_NO_SLOT,
    FAULT_MOVED,
    FAULT_LIMIT,
    FAULT_OTHER_CONDITION,
    FAULT_COUNT
};

static const char *const fault_name[FAULT_COUNT] = {
    "none",     "no jump",       "a longer access",  "a displacement",   "a negative displacement",
    "a store",  "another slot",  "another table",    "the user's table", "a slot too far",
    "any slot", "address moved", "a limit too high", "another condition"};

static int32_t table(enum tlb_access access, enum tlb_priv priv)
{
    return (int32_t)(offsetof(struct vcpu, tlb) + priv * sizeof(struct tlb_set) +
                     (size_t)access * TLB_SLOTS * sizeof(struct tlb_entry));
}

/* Load four bytes at [rax] by the check of access.c, or nearly so. */
static void load_checked(struct bench *b, enum fault fault)
{
    struct asm_buf *a = &b->v->emit->buf;
    enum tlb_priv priv = fault == FAULT_USER_TABLE ? TLB_USER : TLB_SUPERVISOR;
    int32_t page = table(TLB_READ, priv), host = page + 8;
    uint8_t *jump = NULL;

    asm_rm(a, 8, 0x8d, HOST_T1, HOST_RAX, 0); /* lea */
    asm_rr(a, 4, 0x89, fault == FAULT_OTHER_SLOT ? HOST_RCX : HOST_RAX, HOST_T2);
    asm_rr(a, 4, 0xc1, 5, HOST_T2); /* shr */
    ASM(a, 8);
    if (fault != FAULT_NO_SLOT) {
        asm_rr(a, 4, 0x81, 4, HOST_T2); /* and */
        asm_imm(a, fault == FAULT_WIDE_SLOT ? 0x1fff0 : 0xfff0, 4);
    }
    asm_rm_index(a, 8, 0x2b, HOST_T1, HOST_VCPU, HOST_T2, 0, page);
    asm_rr(a, 8, 0x81, 7, HOST_T1); /* cmp */
    asm_imm(a, fault == FAULT_LIMIT ? 4093 : 4092, 4);
    if (fault != FAULT_NO_JUMP) {
        jump = asm_jump(a, fault == FAULT_OTHER_CONDITION ? 0x86 : 0x87);
    }
    if (fault == FAULT_MOVED) {
        asm_rr(a, 8, 0x01, HOST_RCX, HOST_T1); /* add r10, rcx */
    }
    if (fault == FAULT_OTHER_TABLE) {
        host = table(TLB_WRITE, priv) + 8;
    }
    asm_rm_index(a, 8, 0x8b, HOST_T2, HOST_VCPU, HOST_T2, 0, host);
    asm_rm_index(a, fault == FAULT_LONGER ? 8 : 4, fault == FAULT_STORE ? 0x89 : 0x8b, HOST_RBX,
                 HOST_T1, HOST_T2, 0,
                 fault == FAULT_FURTHER  ? 1
                 : fault == FAULT_BEFORE ? -1
                                         : 0);
    if (jump) {
        asm_land(a, jump, a->at);
    }
    leave(b);
}

TEST(verify, an_access_behind_its_check_is_accepted_and_behind_none_other)
{
    struct bench b;

    begin(&b);
    for (unsigned fault = 0; fault < FAULT_COUNT; fault++) {
        load_checked(&b, (enum fault)fault);
        if (is_accepted(&b) != (fault == FAULT_NONE)) {
            print_error("with %s: %s\n", fault_name[fault], b.why);
            fail();
        }
    }
    end(&b);
}

TEST(verify, a_check_counts_only_if_made_on_every_path)
{
    struct bench b;
    struct asm_buf *a;
    uint8_t *over;

    begin(&b);
    a = &b.v->emit->buf;
    asm_rr(a, 8, 0x85, HOST_RBX, HOST_RBX); /* test rbx, rbx */
    over = asm_jump(a, 0x84);
    asm_load(a, HOST_T1, HOST_VCPU, offsetof(struct vcpu, group_host));
    asm_land(a, over, a->at);
    asm_rm(a, 8, 0x8b, HOST_RAX, HOST_T1, 0);
    leave(&b);
    CHECK(!is_accepted(&b));
    end(&b);
}

/* --- what is not for such code at all --- */

struct refused {
    const char *name;
    uint8_t len, bytes[11];
};

static const struct refused refused[] = {
    {"mov [rbx], rax", 3, {0x48, 0x89, 0x03}},
    {"mov rax, [r10]", 3, {0x49, 0x8b, 0x02}},
    {"mov rax, [rsp]", 4, {0x48, 0x8b, 0x04, 0x24}},
    {"mov rax, [abs]", 8, {0x48, 0x8b, 0x04, 0x25, 0, 0, 0x40, 0}},
    {"mov rax, [rip]", 7, {0x48, 0x8b, 0x05, 0, 0, 0, 0}},
    {"mov rax, fs:[r14]", 4, {0x64, 0x49, 0x8b, 0x06}},
    {"mov [r14+rax], rcx", 4, {0x49, 0x89, 0x0c, 0x06}},
    {"mov r14, rax", 3, {0x49, 0x89, 0xc6}},
    {"lea r14, [r14+8]", 4, {0x4d, 0x8d, 0x76, 8}},
    {"mov rsp, rax", 3, {0x48, 0x89, 0xc4}},
    {"add rsp, 8", 4, {0x48, 0x83, 0xc4, 8}},
    {"xchg rax, rsp", 2, {0x48, 0x94}},
    {"push rax", 1, {0x50}},
    {"pop rax", 1, {0x58}},
    {"popf", 1, {0x9d}},
    {"leave", 1, {0xc9}},
    {"std", 1, {0xfd}},
    {"ret 8", 3, {0xc2, 8, 0}},
    {"jmp rax", 2, {0xff, 0xe0}},
    {"call rax", 2, {0xff, 0xd0}},
    {"jmp [r14]", 3, {0x41, 0xff, 0x26}},
    {"jmp far", 5, {0xe9, 0, 0, 0, 0x40}},
    {"jmp into itself", 2, {0xeb, 0xff}},
    {"syscall", 2, {0x0f, 0x05}},
    {"sysenter", 2, {0x0f, 0x34}},
    {"int3", 1, {0xcc}},
    {"int 80h", 2, {0xcd, 0x80}},
    {"in al, dx", 1, {0xec}},
    {"out dx, al", 1, {0xee}},
    {"hlt", 1, {0xf4}},
    {"cpuid", 2, {0x0f, 0xa2}},
    {"wrfsbase rax", 5, {0xf3, 0x48, 0x0f, 0xae, 0xd0}},
    {"wrgsbase rax", 5, {0xf3, 0x48, 0x0f, 0xae, 0xd8}},
    {"wrpkru", 3, {0x0f, 0x01, 0xef}},
    {"xsetbv", 3, {0x0f, 0x01, 0xd1}},
    {"mov ds, eax", 2, {0x8e, 0xd8}},
    {"xrstor [r14]", 4, {0x41, 0x0f, 0xae, 0x2e}},
    {"fxrstor [r14]", 4, {0x41, 0x0f, 0xae, 0x0e}},
    {"fnstenv [r14]", 3, {0x41, 0xd9, 0x36}},
    {"rep movsb", 2, {0xf3, 0xa4}},
    {"stosq", 2, {0x48, 0xab}},
    {"xlat", 1, {0xd7}},
    {"maskmovdqu xmm0, xmm1", 4, {0x66, 0x0f, 0xf7, 0xc1}},
    {"movups [rax], xmm0", 3, {0x0f, 0x11, 0x00}},
    {"bts [r14], rax", 4, {0x49, 0x0f, 0xab, 0x06}},
    {"vpgatherdd xmm1, [r14+xmm2], xmm3", 6, {0xc4, 0xc2, 0x61, 0x90, 0x0c, 0x16}},
    {"nothing", 1, {0x06}},
};

TEST(verify, what_is_not_for_translated_code_is_refused)
{
    struct bench b;

    begin(&b);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        asm_bytes(&b.v->emit->buf, refused[i].bytes, refused[i].len);
        leave(&b);
        if (is_accepted(&b)) {
            print_error("'%s' is accepted\n", refused[i].name);
            fail();
        }
    }
    end(&b);
}

TEST(verify, pointers_in_struct_vcpu_are_out_of_reach)
{
    static const size_t offsets[] = {offsetof(struct vcpu, emit),
                                     offsetof(struct vcpu, code),
                                     offsetof(struct vcpu, mem),
                                     offsetof(struct vcpu, platform),
                                     offsetof(struct vcpu, tlb),
                                     offsetof(struct vcpu, indirect),
                                     offsetof(struct vcpu, unwind),
                                     offsetof(struct vcpu, window),
                                     sizeof(struct vcpu)};
    struct bench b;

    begin(&b);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        asm_store(&b.v->emit->buf, HOST_RAX, HOST_VCPU, offsets[i]);
        leave(&b);
        CHECK(!is_accepted(&b));
    }
    asm_store(&b.v->emit->buf, HOST_RAX, HOST_VCPU, offsetof(struct vcpu, gpr[GPR_R11]));
    leave(&b);
    CHECK(is_accepted(&b));
    end(&b);
}

/* A guest's value must not become an op that the stub runs. */
TEST(verify, stubs_get_constants)
{
    struct bench b;
    struct asm_buf *a;

    begin(&b);
    a = &b.v->emit->buf;
    asm_mov(a, HOST_T1, HOST_RAX);
    asm_mov_imm(a, HOST_T2, 2);
    asm_jump_to(a, 0xe9, b.v->emit->leave_op);
    CHECK(!is_accepted(&b));
    asm_mov(a, HOST_T1, HOST_RAX);
    asm_jump_to(a, 0xe9, b.v->emit->leave_miss);
    CHECK(is_accepted(&b));
    end(&b);
}

TEST(verify, a_return_goes_to_a_pair)
{
    struct bench b;
    struct asm_buf *a;

    begin(&b);
    a = &b.v->emit->buf;
    ASM(a, 0xc3);
    CHECK(is_accepted(&b));
    ASM(a, 0x6a, 1, 0xc3); /* push 1; ret */
    CHECK(!is_accepted(&b));
    ASM(a, 0x6a, 1); /* push 1, and away */
    leave(&b);
    CHECK(!is_accepted(&b));
    ASM(a, 0x48, 0x8d, 0x64, 0x24, 8, 0xc3); /* lea rsp, [rsp + 8]; ret */
    CHECK(!is_accepted(&b));
    end(&b);
}
