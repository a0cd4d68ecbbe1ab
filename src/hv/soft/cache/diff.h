/* diff.h — the instruction differential test: cases, and the two who carry them out.
 *
 * diff_gen_test.c makes cases from insn.def, diff_native_test.c runs them on the host's CPU,
 * diff_test.c runs them on a vCPU and compares.
 *
 * The memory of a case: DATA_PAGES pages at DIFF_DATA that may be read and written, nothing on
 * either side of them, and one page at DIFF_READONLY.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/soft/isa/forms.h"

#define DIFF_CODE     UINT64_C(0x50000000)
#define DIFF_DATA     UINT64_C(0x20001000)
#define DIFF_BYTES    8192u
#define DIFF_READONLY UINT64_C(0x20004000)
#define DIFF_GS_BASE  UINT64_C(0x1234560)

#define DIFF_FX_BYTES 512u

struct diff_state {
    uint64_t gpr[16];
    uint64_t rip;
    uint64_t rflags;
    uint8_t fx[DIFF_FX_BYTES]; /* FXSAVE format */
};

struct diff_case {
    struct diff_state start;
    uint8_t code[16];
    uint64_t memory_seed;
    uint64_t target;   /* address of the memory operand */
    uint64_t patch_at; /* 4 bytes of memory that shall be `patch`; 0: none */
    uint32_t patch;
    bool is_compat;   /* 32-bit code segment */
    bool is_repeated; /* runs to the INT3 behind it; all others single-step */
    struct insn insn; /* as decoded */
    unsigned form;    /* index of insn_form */
};

struct diff_result {
    struct diff_state end;
    int vector; /* of the exception; -1 if none */
    uint32_t error;
    uint64_t cr2;
    uint8_t memory[DIFF_BYTES];
};

struct diff_random {
    uint64_t state;
};

static inline uint64_t diff_next(struct diff_random *r)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return r->state * UINT64_C(0x2545f4914f6cdd1d);
}

/* True in `percent` of all calls. */
static inline bool diff_chance(struct diff_random *r, unsigned percent)
{
    return diff_next(r) % 100 < percent;
}

/* Forms that can be tested. */
size_t diff_form_count(void);
/* Make a case of the `index`th of them; false if the dice made another instruction. */
bool diff_generate(struct diff_random *r, size_t index, bool is_compat, struct diff_case *ret_case);
/* The contents of memory at the start of a case. */
void diff_fill(uint64_t seed, uint8_t *data, size_t size);
/* Those of DIFF_DATA. */
void diff_fill_case(const struct diff_case *c, uint8_t *data);

/* Run `count` cases in a child process.  0, or a negative errno if there can be no child. A case
 * that kills the child has vector -2. */
int diff_run_native(const struct diff_case *cases, struct diff_result *ret_results, size_t count);
