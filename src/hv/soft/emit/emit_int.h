/* emit_int.h — what the files of this room share: the translation in progress. */
#pragma once

#include "hv/soft/emit/asm.h"
#include "hv/soft/emit/asm_vex.h"
#include "hv/soft/emit/emit.h"
#include "hv/soft/plan/track.h"
#include "hv/soft/ref/code_view.h"

#define CODE_BYTES   (32u << 20)  /* at least; a third of v->code_limit */
#define CODE_STEP    (512u << 10) /* asked from the host at once */
#define CODE_RESERVE (64u << 10)  /* more than one block can take of either */
#define SLOW_MAX     64u          /* one per instruction of a block */

#define STRING_STUBS 16u          /* by privilege, size, repeat */
#define PAIR_BYTES   (128u << 10) /* the stack of calls; below its limit, */
#define PAIR_SPARE   (32u << 10)  /* calls up to the next poll, and a signal's frame */

#define HOST_VCPU HOST_R14
#define HOST_T1   HOST_R10
#define HOST_T2   HOST_R11

typedef const struct op *(*emit_enter_fn)(struct vcpu *v, const void *code);

/* How much vector state is in the host's registers (vector.c): v->vec_live. */
enum vec_level { VEC_NONE, VEC_SSE, VEC_AVX, VEC_AVX512, VEC_LEVELS };

struct emit_cache {
    struct code_view view;
    struct asm_buf buf;  /* where blocks run straight through, */
    struct asm_buf cold; /* and what they seldom need */
    size_t populated[2]; /* of both: asked from the host so far */
    uint8_t *pairs;      /* PAIR_BYTES */
    size_t first;        /* bytes of the stubs */
    emit_enter_fn enter;
    /* stubs, in the writable view */
    const uint8_t *leave_op;                    /* T1 = op, T2 = its block */
    const uint8_t *leave_site;                  /* T1 = the site */
    const uint8_t *leave_site_with_flags;       /* the same; flags are in EFLAGS */
    const uint8_t *leave_entry;                 /* T1 = the block to enter */
    const uint8_t *leave_miss;                  /* T1 = target of an indirect branch */
    const uint8_t *return_bottom;               /* T1 = 0, returned to with no call pending */
    const uint8_t *return_miss[TLB_PRIV_COUNT]; /* T1 = target of a return: by the table */
    const uint8_t *run_ops;                     /* called; T1 = ops, T2 = their block */
    const uint8_t *transfer;                    /* T2 = struct insn, v->rip is its */
    /* called; vector.c says what they do */
    const uint8_t *vec_park, *vec_load[VEC_LEVELS], *vec_reload[VEC_LEVELS];
    const uint8_t *window_fill[TLB_PRIV_COUNT];             /* called; window.c says what it does */
    const uint8_t *movs[STRING_STUBS], *stos[STRING_STUBS]; /* called; lower_string.c */
    bool has_bmi2;                                          /* the host's CPU */
    bool is_verified;                                       /* verify.h */
};

/* Where the arithmetic flags are. */
enum flags_at { FLAGS_SAVED, FLAGS_HOST, FLAGS_BOTH };

/* What an instruction does with them.  One that merges reads only to leave some as they were: it
 * matters if they are read after it. */
enum flags_read { READS_NONE, READS_CF, READS_ALL, MERGES_CF, MERGES_ALL };
struct flags_use {
    enum flags_read read;
    bool writes; /* all of them, given what it reads */
};

/* A direct branch: a jump to `exit` until there is a block to lead to. */
struct emit_site {
    uint64_t rip;      /* where it leads */
    uint64_t from_rip; /* of the branch */
    const struct block *from;
    struct emit_site *next; /* of those that lead to the same block */
    uint8_t *jump;          /* asm_jump() */
    const uint8_t *exit;
    bool is_saved; /* flags are in v->aflags, else in EFLAGS, unless dead */
    bool is_live;  /* not dead */
    bool is_rest;  /* of a rest, which takes them for live: the whole may know that they are dead */
};

/* What a body wants of the flags that it does not make itself: nothing, or where they shall be. */
enum flags_in { FLAGS_IN_DEAD, FLAGS_IN_HOST, FLAGS_IN_SAVED };

/* Of a translated block, in the memory of blocks; addresses are in the writable view. */
struct emit_code {
    const uint8_t *at[2][ENTRY_COUNT]; /* entries by is_saved; NULL until needed */
    const uint8_t *body;
    const uint8_t *leave; /* when a test fails */
    struct emit_site *incoming;
    uint8_t flags_in; /* enum flags_in */
};

/* Runs that are left before its own translation when a block may become part of another's. */
#define EMIT_PART_HEAT 8u

/* Out of line: run the interpreter's ops, or leave to it. */
struct slow {
    uint8_t *from;         /* the jump to it */
    const uint8_t *resume; /* NULL: leave */
    const struct op *ops;
    const struct block *block; /* theirs */
    bool restore_flags;
    uint8_t vec_load;      /* enum vec_level to load; `ops` is where to leave if that must not be */
    uint8_t vec_reload;    /* enum vec_level to be had when the block goes on */
    bool is_leaving;       /* even if the block goes on */
    unsigned window_bytes; /* not 0: first look for the window elsewhere */
    int32_t window_lo;
    struct group_miss *miss; /* of a group: who counts */
};

/* Accesses that one check covers: bytes from `at`. */
struct group {
    struct track_address at;
    unsigned bytes;
    enum tlb_access access;
    bool is_window; /* in v->window, else at v->group_host */
    bool is_alone;  /* there is only the access at hand */
    uint8_t align;  /* the address `align_at` bytes from `at`'s offset 0 is a multiple of that */
    int64_t align_at;
};

/* The operand of a checked access: [base + index + disp]; index may be HOST_NONE. */
struct host_mem {
    uint8_t base, index;
    int32_t disp;
};

struct translation {
    struct asm_buf *a, *cold;
    struct vcpu *v;
    struct emit_cache *e;
    struct block *block; /* of the instruction: one of those in this translation */
    emit_alloc_fn alloc;
    void *alloc_owner;
    uint64_t rip, next_rip; /* of the instruction */
    const struct op *ops;   /* those of the instruction, */
    unsigned op_count;      /* without links */
    enum flags_at flags;
    bool is_live; /* are the flags read after this instruction? */
    enum flags_in flags_in;
    bool is_end;         /* nothing follows */
    enum vec_level vec;  /* that much of vector state is surely in the host's registers */
    bool has_failed;     /* no memory */
    bool is_rest;        /* not from the block's beginning */
    struct host_mem mem; /* of the access that was checked last */
    /* group.c: the instructions of the block, what is known of registers before number `at`, */
    const struct insn *insn;
    unsigned insn_count, at;
    unsigned part_first; /* index of the first one of `block` */
    struct track track;
    bool is_plain;                 /* no groups */
    struct group group[GROUP_MAX]; /* the last ones; unused: bytes of 0 */
    unsigned group_count;
    const struct group *t1_group; /* the group whose host address or delta is in T1 */
    bool keeps_t1;                /* said by a lowering: T1 is as the check left it */
    struct slow slow[SLOW_MAX * 2];
    unsigned slow_count, first_slow; /* of the instruction */
};

/* Host register of a guest one, HOST_NONE if it is in memory. */
unsigned emit_host_reg(unsigned guest);
/* The register that holds a guest register for reading: its own, or `scratch`, loaded. */
unsigned emit_use(struct translation *t, unsigned guest, unsigned scratch);
/* The register to compute a new value in, and the write-back behind it. */
unsigned emit_target(unsigned guest, unsigned scratch);
void emit_put(struct translation *t, unsigned guest, unsigned host);

/* flags.c */
struct flags_use emit_flags_use(const struct insn *insn);
/* The same where it stands: without MERGES, by whether flags are live after it. */
struct flags_use emit_flags_of(const struct translation *t, const struct insn *insn);
void emit_flags_save(struct translation *t);    /* v->aflags is right afterwards */
void emit_flags_restore(struct translation *t); /* EFLAGS are right afterwards; uses T2 */
void emit_flags_need(struct translation *t, enum flags_read read);
/* Something that destroys EFLAGS follows: keep them in memory if anybody wants them.  An access
 * does that itself, but only if it has a check of its own.  Uses T2. */
void emit_flags_give_up(struct translation *t, struct flags_use use);
/* Just the instructions, whatever the state. */
void emit_flags_save_all(struct asm_buf *a);
void emit_flags_load_all(struct asm_buf *a);

/* live.c */
/* At the end of a block with links, `last` being its last instruction and end_rip behind it. */
bool emit_live_at_end(struct translation *t, const struct insn *last, uint64_t end_rip);
/* After each instruction, and t->flags_in; `is_live` at the end. */
void emit_find_live(struct translation *t, const struct insn *insn, unsigned count, bool is_live,
                    bool *live_after);

/* access.c: the only file that emits operands in guest memory.
 *
 * Check an access of the instruction's memory operand; t->mem is its place on the host afterwards,
 * in terms of T1 and, if `keeps_t2`, T2, which hold until something else uses them.  A miss goes to
 * the interpreter and comes back behind the instruction, or leaves for it. */
void emit_access(struct translation *t, const struct insn *insn, enum tlb_access access,
                 unsigned len, bool keeps_t2);
/* The same for [host register + disp]. */
void emit_access_at(struct translation *t, unsigned base, int32_t disp, enum tlb_access access,
                    unsigned len, bool keeps_t2);
/* The same with the host address in T1. */
void emit_check(struct translation *t, const struct insn *insn, enum tlb_access access,
                unsigned len);
void emit_check_at(struct translation *t, unsigned base, int32_t disp, enum tlb_access access,
                   unsigned len);
/* The same for a linear address in T1. */
void emit_check_t1(struct translation *t, enum tlb_access access, unsigned len);
/* The way to the interpreter of a check that failed: `jump` is its end (asm_jump()).  Returns what
 * may be filled in further, or NULL. */
struct slow *emit_miss(struct translation *t, uint8_t *jump);
/* opcode /reg on the checked memory. */
void emit_mem(struct translation *t, unsigned size, uint32_t opcode, unsigned reg);
void emit_mem_vex(struct translation *t, const struct asm_vex *p, unsigned reg);
/* Can the address be computed here? */
bool emit_can_address(const struct insn *insn);
/* The address itself into `reg`, without segment base. */
void emit_address(struct translation *t, const struct insn *insn, unsigned size, unsigned reg);

/* group.c: which accesses share a check. */
void emit_look_begin(struct translation *t, const struct insn *insn, unsigned count);
void emit_look_next(struct translation *t); /* the instruction at hand is done */
/* A check of this block that covers the access, or NULL. */
struct group *emit_group_find(struct translation *t, const struct track_address *at, unsigned len,
                              enum tlb_access access);
/* One to be made now, or NULL if there is nothing to share. */
struct group *emit_group_open(struct translation *t, const struct track_address *at, unsigned len,
                              enum tlb_access access);
/* Its failure, at the end of `jump`: a way out to fill in further, or NULL. */
struct slow *emit_group_miss(struct translation *t, uint8_t *jump);
/* The jump to patch is another one; `miss` may be NULL. */
void emit_group_moved(struct group_miss *miss, uint8_t *jump);

/* window.c: the check of [r15 + lo], the way out of it, delta into T1, the stubs. */
uint8_t *emit_window_check(struct translation *t, int32_t lo, unsigned bytes);
void emit_window_cold(struct translation *t, const struct slow *s);
void emit_window_load(struct translation *t);
void emit_window_stubs(struct emit_cache *e);

/* translate.c: the block's code from instruction `index` on, without groups; flags are in memory,
 * registers in place.  In the writable view; NULL if there is no room. */
uint8_t *emit_rest(struct vcpu *v, struct block *b, unsigned index, emit_alloc_fn alloc,
                   void *alloc_owner);

/* lower_*.c: false if there is no lowering; nothing has been emitted then. */
bool emit_lower_int(struct translation *t, const struct insn *insn);
bool emit_lower_stack(struct translation *t, const struct insn *insn);
bool emit_lower_string(struct translation *t, const struct insn *insn);
void emit_string_stubs(struct emit_cache *e);
bool emit_lower_branch(struct translation *t, const struct insn *insn);
bool emit_lower_avx(struct translation *t, const struct insn *insn);
bool emit_lower_bits(struct translation *t, const struct insn *insn);
bool emit_lower_div(struct translation *t, const struct insn *insn);
bool emit_lower_simd(struct translation *t, const struct insn *insn);
bool emit_lower_sys(struct translation *t, const struct insn *insn);

/* lower_sys.c: where translated code goes on at v->rip after something out of the ordinary, by its
 * table of indirect branches; NULL if the loops have something to look at. */
const void *emit_code_at_rip(struct vcpu *v);
/* Carry out a transfer; the code to go on at by v->rip, NULL: leave, v->rip is set. */
const void *emit_transfer(struct vcpu *v, const struct insn *insn);

bool emit_is_branch(const struct insn *insn);
static inline enum tlb_priv emit_priv_of(const struct block *b)
{
    return b->mode_key & MODE_KEY_USER ? TLB_USER : TLB_SUPERVISOR;
}

/* lower_branch.c: T1 = target; JMP_NEAR or CALL_NEAR (ModRM digits) through the table. */
#define JMP_NEAR  4
#define CALL_NEAR 2
void emit_by_table(struct asm_buf *a, enum tlb_priv priv, unsigned digit);
/* A branch within the translation: leave if it does not lead to `stay`, where that goes on. */
void emit_side_exit(struct translation *t, const struct insn *insn, uint64_t stay);

/* link.c */
/* Before the body: the tests of some entries. */
void emit_front(struct translation *t);
/* Leave the block for `to` by a jump that can be patched (asm_jump()). */
void emit_exit(struct translation *t, uint8_t opcode, uint64_t to);
void emit_forget_indirect(struct vcpu *v);

/* vector.c: the guest's vector state in the host's registers. */
void emit_vec_park_stub(struct emit_cache *e);  /* needed by all that leave, */
void emit_vec_load_stubs(struct emit_cache *e); /* leave themselves */
/* Before any C code: put it where C looks for it.  Destroys EFLAGS. */
void emit_vec_park(struct emit_cache *e);
/* Before an instruction that needs it there, and uses flags so. */
void emit_vec_need(struct translation *t, struct flags_use use, enum vec_level level);

/* memory.c: before a block is translated. */
void emit_populate(struct emit_cache *e);

/* stubs.c */
int emit_stubs(struct emit_cache *e);
/* Executable address of something in the writable view. */
const void *emit_executable(const struct emit_cache *e, const uint8_t *at);
/* Ops of the instruction as a copy that ends with a stop, for run_ops; NULL on no memory. */
const struct op *emit_copy_ops(struct translation *t);
/* An op from which the interpreter carries on with the block, this instruction first. */
const struct op *emit_resume_op(struct translation *t);
