/* lockstep.c — for tests: each translation is held against the interpreter before it counts.
 *
 * Theory of operation.  With EC1_SOFT_LOCKSTEP=1 in the environment nothing is linked, so that
 * each translation comes back to the loop of run.c, and that runs it here:
 *
 *   1. The interpreter runs the block, and those that follow it as long as they may be parts of the
 *      same translation.  The state behind each is kept.  Meanwhile v->tlb_now is a TLB that stays
 *      empty, so that all accesses come by mmu/'s slow paths, where stores announce themselves
 *      (code_store_coming); what was there before is noted.  The platform is one whose every
 *      function gives up.
 *   2. Registers and memory are rolled back; the log holds what the interpreter has stored instead.
 *   3. The translation runs.  stats.runs says how many blocks it has been through, and thereby
 *      which of the states to compare with: registers, RIP, vector state, the exception if there
 *      was one, the bytes that the interpreter has stored, and arithmetic flags if the branch by
 *      which it left has them (emit_flags_are_left).
 *
 * Not compared, but counted: blocks with system instructions and random numbers, what met a device
 * or wrote to pages with code, and what an event came upon.  A difference is believed if it is
 * there a second time: devices write to memory in between, and the first walk has set A and D.
 *
 * Stores of a translation to places where the interpreter has stored nothing are not seen here.
 * A device that looks at a queue while a block that fills it is run sees that twice.
 *
 * Frames here are left by longjmp: what must outlive that is in struct lockstep. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/emit/emit.h"

#define PARTS_MAX  6u   /* of a translation: emit/translate.c */
#define STORES_MAX 256u /* of all these parts; more are not compared */
#define BYTES_MAX  65536u
#define GAVE_UP    2       /* through v->unwind; exceptions are 1 */
#define FIP_FIRST  FPU_FOP /* x87: opcode and pointers of the last instruction, the host's own */
#define FIP_END    FPU_MXCSR
#define CODE_SHOWN 40u
#define AFLAGS     (AF_CF | AF_PF | AF_AF | AF_ZF | AF_SF | AF_OF) /* others mean nothing */

/* Enough to roll back, and to compare. */
struct arch {
    uint64_t gpr[GPR_COUNT];
    uint64_t rip, rflags, kernel_gs_base;
    struct cpu_segment seg[SEG_COUNT];
    uint16_t aflags;
    uint8_t cpl, shadow, halted;
    uint8_t xsave[FPU_IMAGE_LEN];
};

/* How a run ended. */
struct outcome {
    struct arch arch;
    bool raised;
    uint8_t vector;
    uint32_t error;
    uint64_t cr2;
    unsigned stores; /* made by then */
};

struct store {
    uint8_t *host;
    unsigned at, len; /* in `old` and `made` */
};

struct lockstep {
    struct tlb_set empty;
    struct vcpu_platform platform;
    jmp_buf unwind; /* the run loop's */
    struct arch start;
    struct vcpu_stats stats;
    struct outcome part[PARTS_MAX], end;
    unsigned part_count, store_count, byte_count;
    struct store stores[STORES_MAX];
    uint8_t old[BYTES_MAX], made[BYTES_MAX]; /* before the stores, and by each of them */
    bool must_skip;                          /* the next block shall run without us */
    const struct vcpu_platform *real_platform;
    struct tlb_set *real_tlb;
};

/* --- state --- */

static void take_arch(const struct vcpu *v, struct arch *a)
{
    memcpy(a->gpr, v->gpr, sizeof(a->gpr));
    memcpy(a->seg, v->seg, sizeof(a->seg));
    memcpy(a->xsave, v->xsave, sizeof(a->xsave));
    a->rip = v->rip;
    a->rflags = v->rflags;
    a->kernel_gs_base = v->kernel_gs_base;
    a->aflags = v->aflags;
    a->cpl = v->cpl;
    a->shadow = v->shadow;
    a->halted = v->halted;
}

static void put_arch(struct vcpu *v, const struct arch *a)
{
    memcpy(v->gpr, a->gpr, sizeof(a->gpr));
    memcpy(v->seg, a->seg, sizeof(a->seg));
    memcpy(v->xsave, a->xsave, sizeof(a->xsave));
    v->rip = a->rip;
    v->rflags = a->rflags;
    v->kernel_gs_base = a->kernel_gs_base;
    v->aflags = a->aflags;
    v->cpl = a->cpl;
    v->shadow = a->shadow;
    v->halted = a->halted;
    v->code_hit = false;
    v->link = NULL;
    v->site = NULL;
    v->has_missed = false;
    v->host_mxcsr_flags = HOST_MXCSR_UNKNOWN;
}

static void take_outcome(const struct vcpu *v, struct outcome *o, bool raised)
{
    take_arch(v, &o->arch);
    o->raised = raised;
    o->vector = raised ? v->exc.vector : 0;
    o->error = raised && v->exc.has_error ? v->exc.error : 0;
    o->cr2 = raised && v->exc.vector == EXC_PF ? v->exc.cr2 : 0;
}

/* --- stores --- */

static _Noreturn void give_up(struct vcpu *v)
{
    _longjmp(v->unwind, GAVE_UP);
}

void code_store_coming(struct vcpu *v, uint8_t *host, size_t len)
{
    struct lockstep *ls = v->code->lockstep;
    struct store *s = &ls->stores[ls->store_count];

    if (ls->store_count == STORES_MAX || len > BYTES_MAX - ls->byte_count) {
        give_up(v);
    }
    *s = (struct store){.host = host, .at = ls->byte_count, .len = (unsigned)len};
    memcpy(ls->old + s->at, host, len);
    ls->byte_count += (unsigned)len;
    ls->store_count++;
}

/* The stores have been announced before they were made: what each made of memory is seen when those
 * behind it are undone. */
static void take_stores_back(struct lockstep *ls)
{
    for (unsigned i = ls->store_count; i-- > 0;) {
        const struct store *s = &ls->stores[i];

        memcpy(ls->made + s->at, s->host, s->len);
        memcpy(s->host, ls->old + s->at, s->len);
    }
}

/* Does one of the stores after `i` overwrite this byte? */
static bool is_overwritten(const struct lockstep *ls, unsigned i, unsigned count,
                           const uint8_t *byte)
{
    while (++i < count) {
        uintptr_t offset = (uintptr_t)byte - (uintptr_t)ls->stores[i].host;

        if (offset < ls->stores[i].len) {
            return true;
        }
    }
    return false;
}

/* The byte that is not what the first `count` stores make it, and what it should be. */
static const uint8_t *wrong_byte(const struct lockstep *ls, unsigned count, uint8_t *ret_wanted)
{
    for (unsigned i = 0; i < count; i++) {
        const struct store *s = &ls->stores[i];

        if (memcmp(s->host, ls->made + s->at, s->len) == 0) {
            continue;
        }
        for (unsigned k = 0; k < s->len; k++) {
            *ret_wanted = ls->made[s->at + k];
            if (s->host[k] != *ret_wanted && !is_overwritten(ls, i, count, s->host + k)) {
                return s->host + k;
            }
        }
    }
    return NULL;
}

/* --- a platform that is not to be asked --- */

static void no_pio(struct vcpu *v, uint16_t port, void *data, unsigned len, bool is_write)
{
    (void)port, (void)data, (void)len, (void)is_write;
    give_up(v);
}

static void no_mmio(struct vcpu *v, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    (void)gpa, (void)data, (void)len, (void)is_write;
    give_up(v);
}

static uint64_t no_cr8(struct vcpu *v)
{
    give_up(v);
}

static void no_code_event(struct vcpu *v, gpa_t gpa, uint64_t len)
{
    (void)gpa, (void)len;
    give_up(v);
}

/* --- which blocks --- */

/* Most system instructions change what is not in struct arch, or ask others; STI ends a block of
 * the interpreter's only. */
static bool is_comparable_insn(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_RDRAND:
    case INSN_RDSEED: return false;
    case INSN_CLI:
    case INSN_PUSHF:
    case INSN_SWAPGS:
    case INSN_STAC:
    case INSN_CLAC:
    case INSN_MOV_FROM_CR: return true;
    default: return insn->klass != INSN_CLASS_SYSTEM;
    }
}

static bool is_comparable(struct block *b)
{
    size_t offset = 0;
    struct insn insn;

    if (b->lockstep == LOCKSTEP_UNKNOWN) {
        b->lockstep = b->bytes ? LOCKSTEP_YES : LOCKSTEP_NO;
        for (unsigned i = 0; i < b->insn_count && b->bytes && offset < b->byte_count; i++) {
            if (insn_decode(b->bytes + offset, b->byte_count - offset, INSN_MODE_64, &insn) !=
                INSN_OK) {
                break; /* it raises */
            }
            if (!is_comparable_insn(&insn)) {
                b->lockstep = LOCKSTEP_NO;
            }
            offset += insn.len;
        }
    }
    return b->lockstep == LOCKSTEP_YES;
}

/* The block at v->rip, if it may be part of the translation of `head`. */
static struct block *next_part(const struct vcpu *v, const struct block *head)
{
    uint64_t offset = v->rip & 0xfff;
    struct block *b;

    if ((v->rip ^ head->rip) >> 12 != 0 || offset < head->look[LOOK_PARTS].first ||
        offset >= head->look[LOOK_PARTS].end) {
        return NULL;
    }
    b = code_find(v->code, head->host + (v->rip - head->rip), v->rip, head->mode_key);
    return b && is_comparable(b) ? b : NULL;
}

/* --- the interpreter's turn --- */

static void interpret_block(struct vcpu *v, const struct block *b)
{
    const struct op *op;

    v->block = b;
    v->code_hit = false;
    v->link = NULL;
    op = b->first(v, b->op);
    while (op) {
        op = op->fn(v, op);
    }
}

static void interpret_parts(struct vcpu *v, struct block *head)
{
    struct lockstep *ls = v->code->lockstep;

    for (struct block *b = head; b && ls->part_count < PARTS_MAX; b = next_part(v, head)) {
        struct outcome *o = &ls->part[ls->part_count];

        interpret_block(v, b);
        take_outcome(v, o, false);
        o->stores = ls->store_count;
        ls->part_count++;
    }
}

static void interpret(struct vcpu *v, struct block *head)
{
    struct lockstep *ls = v->code->lockstep;
    int how;

    take_arch(v, &ls->start);
    ls->stats = v->stats;
    ls->real_tlb = v->tlb_now;
    ls->real_platform = v->platform;
    ls->part_count = 0;
    ls->store_count = 0;
    ls->byte_count = 0;
    v->tlb_now = &ls->empty;
    v->platform = &ls->platform;
    v->announces_stores = true;
    how = _setjmp(v->unwind); /* NOLINT(cert-err33-c) */
    if (how == 0) {
        interpret_parts(v, head);
    } else if (how != GAVE_UP) {
        struct outcome *o = &ls->part[ls->part_count++];

        take_outcome(v, o, true);
        o->stores = ls->store_count;
    }
    v->announces_stores = false;
    v->platform = ls->real_platform;
    v->tlb_now = ls->real_tlb;
    v->stats = ls->stats;
    take_stores_back(ls);
    put_arch(v, &ls->start);
}

/* --- the translation's --- */

/* How many blocks it has been through. */
static uint64_t run_translation(struct vcpu *v, struct block *head)
{
    struct lockstep *ls = v->code->lockstep;

    if (_setjmp(v->unwind)) {
        take_outcome(v, &ls->end, true);
    } else {
        code_run_block(v, head);
        take_outcome(v, &ls->end, false);
    }
    return v->stats.runs - ls->stats.runs;
}

/* --- comparing --- */

struct text {
    char *at;
    size_t room;
};

static bool differs(struct text *t, const char *what, uint64_t wanted, uint64_t is)
{
    if (wanted != is) {
        (void)snprintf(t->at, t->room, "%s is 0x%llx, interpreted 0x%llx", what,
                       (unsigned long long)is, (unsigned long long)wanted);
    }
    return wanted != is;
}

static bool bytes_differ(struct text *t, const char *what, const void *wanted, const void *is,
                         size_t first, size_t end)
{
    const uint8_t *a = wanted, *b = is;

    for (size_t i = first; i < end; i++) {
        if (a[i] != b[i]) {
            (void)snprintf(t->at, t->room, "%s, byte %zu, is 0x%02x, interpreted 0x%02x", what, i,
                           b[i], a[i]);
            return true;
        }
    }
    return false;
}

static bool registers_differ(struct text *t, const struct arch *wanted, const struct arch *is)
{
    static const char *const name[GPR_COUNT] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP",
                                                "RSI", "RDI", "R8",  "R9",  "R10", "R11",
                                                "R12", "R13", "R14", "R15"};

    for (unsigned i = 0; i < GPR_COUNT; i++) {
        if (differs(t, name[i], wanted->gpr[i], is->gpr[i])) {
            return true;
        }
    }
    return differs(t, "RIP", wanted->rip, is->rip) ||
           differs(t, "RFLAGS", wanted->rflags, is->rflags) ||
           differs(t, "KERNEL_GS_BASE", wanted->kernel_gs_base, is->kernel_gs_base) ||
           differs(t, "GS.base", wanted->seg[SEG_GS].base, is->seg[SEG_GS].base) ||
           bytes_differ(t, "XSAVE image", wanted->xsave, is->xsave, 0, FIP_FIRST) ||
           bytes_differ(t, "XSAVE image", wanted->xsave, is->xsave, FIP_END, FPU_IMAGE_LEN);
}

/* What is wrong with ls->end?  False: nothing. */
static bool end_differs(const struct vcpu *v, const struct outcome *wanted, struct text *t)
{
    const struct lockstep *ls = v->code->lockstep;
    const struct outcome *is = &ls->end;
    const uint8_t *byte;
    uint8_t made;

    if (differs(t, "an exception", wanted->raised, is->raised) ||
        differs(t, "the vector", wanted->vector, is->vector) ||
        differs(t, "the error code", wanted->error, is->error) ||
        differs(t, "CR2", wanted->cr2, is->cr2) || registers_differ(t, &wanted->arch, &is->arch)) {
        return true;
    }
    if (!is->raised && emit_flags_are_left(v) &&
        differs(t, "flags (AH of LAHF, OF)", wanted->arch.aflags & AFLAGS,
                is->arch.aflags & AFLAGS)) {
        return true;
    }
    byte = wrong_byte(ls, wanted->stores, &made);
    return byte && differs(t, "a byte in memory", made, *byte);
}

static void report(struct vcpu *v, const struct block *b, const char *what)
{
    char code[2 * CODE_SHOWN + 1] = "";

    for (unsigned i = 0; i < b->byte_count && i < CODE_SHOWN; i++) {
        (void)snprintf(code + 2 * (size_t)i, 3, "%02x", b->bytes[i]);
    }
    v->broken = true;
    (void)snprintf(v->why, sizeof(v->why), "lockstep: translated from 0x%llx, %s; code: %s%s",
                   (unsigned long long)b->rip, what, code, b->byte_count > CODE_SHOWN ? "..." : "");
}

/* --- the loop's side --- */

enum verdict { SAME, DIFFERENT, NOT_COMPARED, DEAD };

/* Afterwards v is as the translation left it. */
static enum verdict compare(struct vcpu *v, struct block *b, struct text *t)
{
    struct lockstep *ls = v->code->lockstep;
    uint64_t runs;

    ls->end.raised = false;
    interpret(v, b);
    if (b->is_dead) { /* by a store that has been taken back */
        return DEAD;
    }
    runs = run_translation(v, b);
    if (vcpu_poll(v) || v->broken || runs == 0 || runs > ls->part_count) {
        return NOT_COMPARED;
    }
    return end_differs(v, &ls->part[runs - 1], t) ? DIFFERENT : SAME;
}

/* Undo the translation, as far as the interpreter knows what it stores. */
static void take_translation_back(struct vcpu *v)
{
    struct lockstep *ls = v->code->lockstep;

    for (unsigned i = ls->store_count; i-- > 0;) {
        const struct store *s = &ls->stores[i];

        memcpy(s->host, ls->old + s->at, s->len);
    }
    put_arch(v, &ls->start);
    v->stats = ls->stats;
}

static void compare_and_count(struct vcpu *v, struct block *b)
{
    struct lockstep *ls = v->code->lockstep;
    char what[128];
    struct text t = {what, sizeof(what)};
    enum verdict verdict = compare(v, b, &t);

    if (verdict == DIFFERENT && !b->is_dead) {
        take_translation_back(v);
        v->stats.lockstep_repeated++;
        verdict = compare(v, b, &t);
    }
    switch (verdict) {
    case SAME: v->stats.lockstep_compared++; break;
    case DIFFERENT: report(v, b, what); break;
    case DEAD: ls->must_skip = true; break;
    case NOT_COMPARED: v->stats.lockstep_skipped++; break;
    }
}

void code_lockstep_run(struct vcpu *v, struct block *b)
{
    struct lockstep *ls = v->code->lockstep;

    code_tiers_prepare(v, b);
    if (!b->code || ls->must_skip || !is_comparable(b)) {
        v->stats.lockstep_skipped += b->code != NULL;
        ls->must_skip = false;
        code_run_block(v, b);
        return;
    }
    memcpy(&ls->unwind, &v->unwind, sizeof(ls->unwind));
    compare_and_count(v, b);
    memcpy(&v->unwind, &ls->unwind, sizeof(ls->unwind));
    if (ls->end.raised && !v->broken) {
        _longjmp(v->unwind, 1);
    }
}

/* --- life --- */

bool code_lockstep_is_wanted(void)
{
    const char *text = getenv("EC1_SOFT_LOCKSTEP");

    return text && strcmp(text, "1") == 0;
}

int code_lockstep_init(struct vcpu *v)
{
    struct lockstep *ls;

    if (!code_lockstep_is_wanted() || !v->emit) {
        return 0;
    }
    ls = calloc(1, sizeof(*ls));
    if (!ls) {
        return -ENOMEM;
    }
    mmu_clear_set(&ls->empty);
    ls->platform = (struct vcpu_platform){
        .pio = no_pio, .mmio = no_mmio, .cr8_get = no_cr8, .code_event = no_code_event};
    v->code->lockstep = ls;
    v->is_lockstep = true;
    v->count_runs = true; /* by which we know how far a translation has come */
    return 0;
}

void code_lockstep_fini(struct vcpu *v)
{
    free(v->code->lockstep);
    v->code->lockstep = NULL;
    v->is_lockstep = false;
}
