/* diff.h — the differential tests: cases, and the three who carry them out.
 *
 * A case is a few bytes of code and a state to run them from: one instruction of insn.def
 * (diff_gen_test.c), or a sequence (seq_gen_test.c).  The host's CPU runs it (diff_native_test.c),
 * then a vCPU that interprets and one that translates (diff_soft_test.c); diff_compare_test.c says
 * where two ends differ and which differences are explained.
 *
 * Code lies in two pages at DIFF_CODE, filled up with HLT, which at CPL 3 stops a case with #GP;
 * the page before them and the one behind are missing.
 *
 * Data lies in regions of three pages, of which the middle one is what the region's place says; the
 * pages before and behind a region are missing.  All regions start with the same contents, the
 * batch's image, and get them back after each case.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "hv/soft/isa/forms.h"

struct vcpu;

#define DIFF_CODE       UINT64_C(0x50000000)
#define DIFF_CODE_BYTES 8192u
#define DIFF_GS_BASE    UINT64_C(0x1234560)
#define DIFF_STOP       0xf4u /* HLT */

#define DIFF_PAGES        3u
#define DIFF_REGION_BYTES (DIFF_PAGES * 4096u)

enum diff_place {
    DIFF_PLAIN,
    DIFF_MISSING,
    DIFF_READONLY,
    DIFF_DEVICE, /* to the host, memory */
    DIFF_CODED,  /* known to the vCPU as one with decoded code */
    DIFF_PLACES
};

#define DIFF_REGION(place) (UINT64_C(0x20001000) + (uint64_t)(place)*0x10000u)

#define DIFF_FX_BYTES    512u
#define DIFF_IMAGE_BYTES 2432u /* as struct vcpu has it: cpu/fpu.h */

struct diff_state {
    uint64_t gpr[16];
    uint64_t rip;
    uint64_t rflags;
    uint8_t fx[DIFF_IMAGE_BYTES]; /* FXSAVE format, a header, and the wider registers */
};

/* Eight bytes of memory that are not those of the image. */
struct diff_word {
    uint64_t at; /* linear address, a multiple of 8 */
    uint64_t value;
};

struct diff_case {
    struct diff_state start;
    const uint8_t *code;
    uint64_t code_at;
    uint16_t code_len;
    uint16_t word_count;
    const struct diff_word *words; /* of memory, at the start */
    uint64_t target;               /* address of the memory operand */
    uint8_t regions;               /* bits of enum diff_place: what the case may reach */
    bool is_compat;                /* 32-bit code segment */
    bool is_step;                  /* one instruction; else runs to a HLT or an exception */
    struct insn insn;              /* of one instruction */
    unsigned form;                 /* index of insn_form */
};

#define DIFF_WORDS_MAX 120u

/* Values of `vector` beside exceptions. */
#define DIFF_NONE    (-1) /* came to its end */
#define DIFF_DIED    (-2) /* it killed the process */
#define DIFF_TIMEOUT (-3)
#define DIFF_SYSCALL (-4) /* it called the host's kernel */
#define DIFF_BROKEN  (-5) /* lockstep found the translation wrong */

struct diff_result {
    struct diff_state end;
    int vector;
    uint32_t error;
    uint64_t cr2;
    unsigned word_count; /* that changed; `words` has the first of them */
    struct diff_word words[DIFF_WORDS_MAX];
};

/* A batch lives in memory shared with the child that runs it. */
#define DIFF_BATCH       1024u
#define DIFF_ARENA_BYTES (4u << 20)

struct diff_batch {
    size_t count;
    size_t at; /* case that runs, in the child */
    bool is_running;
    size_t arena_used;
    uint8_t image[DIFF_REGION_BYTES];
    struct diff_case cases[DIFF_BATCH];
    struct diff_result native[DIFF_BATCH];
    uint8_t arena[DIFF_ARENA_BYTES];
};

struct diff_batch *diff_batch_new(void);
void diff_batch_free(struct diff_batch *b);
/* Empty it and give it a new image. */
void diff_batch_begin(struct diff_batch *b, uint64_t seed);
/* For code and words of cases; NULL if there is no room. */
void *diff_batch_alloc(struct diff_batch *b, size_t size);

/* --- randomness --- */

struct diff_random {
    uint64_t state;
};

static inline struct diff_random diff_seeded(uint64_t seed)
{
    return (struct diff_random){seed * UINT64_C(0x9e3779b97f4a7c15) | 1};
}

static inline uint64_t diff_next(struct diff_random *r)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return r->state * UINT64_C(0x2545f4914f6cdd1d);
}

static inline unsigned diff_dice(struct diff_random *r, unsigned sides)
{
    return (unsigned)((diff_next(r) >> 32) * sides >> 32);
}

/* True in `percent` of all calls. */
static inline bool diff_chance(struct diff_random *r, unsigned percent)
{
    return diff_dice(r, 100) < percent;
}

/* A vector register, 0 to 31, of a state. */
void diff_set_vector(struct diff_state *s, unsigned reg, const uint8_t bytes[64]);
void diff_get_vector(const struct diff_state *s, unsigned reg, uint8_t ret_bytes[64]);

/* diff_value_test.c */
uint64_t diff_corner(struct diff_random *r);
uint64_t diff_value(struct diff_random *r);
void diff_random_fx(struct diff_random *r, uint8_t *fx);
void diff_fill(struct diff_random *r, uint8_t *data, size_t size);

/* --- one instruction: diff_gen_test.c --- */

/* Rows: the forms that can be tested, of the operations whose names `only` lists, separated by
 * commas; NULL: all. */
size_t diff_rows_init(const char *only);
/* Random bytes of an instruction of a row, decoded; false if the dice made another one. */
bool diff_draft(struct diff_random *r, size_t row, bool is_compat, uint8_t *bytes,
                struct insn *ret_insn);
/* Add a case of a row to a batch; false if the dice did not make one. */
bool diff_generate(struct diff_random *r, size_t row, bool is_compat, struct diff_batch *b);
/* What the host's CPU does otherwise than we mean to. */
bool diff_is_vendor_matter(const struct insn *insn, bool is_compat);

/* --- the host: diff_native_test.c --- */

/* Run all cases of a batch in a child process; 0, or a negative errno if there can be no child. */
int diff_run_native(struct diff_batch *b);

/* --- vCPUs: diff_soft_test.c --- */

struct diff_machine;

/* `tier` as in EC1_SOFT_TIER; `heat` other than 0: runs before a block is translated. */
struct diff_machine *diff_machine_new(const char *tier, unsigned heat);
void diff_machine_free(struct diff_machine *m);
struct vcpu *diff_machine_vcpu(struct diff_machine *m);
/* To be called at the start of each batch. */
void diff_machine_begin(struct diff_machine *m, const struct diff_batch *b);
/* Run a case `times` times from the same start, code cached from the second on; *ret is the last
 * end. */
void diff_run_soft(struct diff_machine *m, const struct diff_case *c, unsigned times,
                   struct diff_result *ret);
/* Step through a case; true as soon as `is_it` says so of an instruction that is about to run. */
bool diff_meets(struct diff_machine *m, const struct diff_case *c,
                bool (*is_it)(const struct insn *insn, const struct vcpu *v));
/* The instruction at an address, as code is now; false if there is none. */
bool diff_decode(const struct diff_machine *m, uint64_t at, struct insn *ret_insn);
/* Drop translations at random, as a kernel would. */
void diff_perturb(struct diff_machine *m, struct diff_random *r);

/* --- comparing: diff_compare_test.c --- */

/* The address sanitizer has memory of its own where cases expect none: what the interpreter finds
 * missing says nothing about the host then. */
static inline bool diff_is_crowded(const struct diff_result *soft)
{
#ifdef __SANITIZE_ADDRESS__
    return soft->vector == 14; /* #PF */
#else
    (void)soft;
    return false;
#endif
}

/* Host and interpreter; a sentence in `out` if they differ beyond what is explained. */
bool diff_differs_native(const struct diff_case *c, const struct diff_result *native,
                         const struct diff_result *soft, char *out, size_t room);
/* Interpreter and translator: all that the translator promises (docs/soft-engine.md). */
bool diff_differs_tiers(const struct diff_case *c, const struct diff_result *interpreted,
                        const struct diff_result *translated, char *out, size_t room);

/* --- environment --- */

static inline unsigned long diff_number(const char *name, unsigned long fallback)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 0) : fallback;
}

/* How far it is, into the file that EC1_PROGRESS names. */
void diff_progress(const char *what, unsigned long done, unsigned long wanted);
