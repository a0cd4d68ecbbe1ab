/* verify_int.h — what the files of the verifier share: what is known at a point of the code. */
#pragma once

#include "hv/soft/emit/verify.h"
#include "hv/soft/isa/insn.h"

/* What T1 or T2 holds. */
enum verify_kind {
    VERIFY_ANY,
    VERIFY_CONST,     /* a constant of the translator, in `name` */
    VERIFY_WORD,      /* at most 65535 */
    VERIFY_BITS,      /* less than len */
    VERIFY_LOW,       /* the low half of `name` */
    VERIFY_SHIFTED,   /* bits 8 and up of `name` */
    VERIFY_SLOT,      /* 16 * the number of the slot of `name` */
    VERIFY_DIFF,      /* `name` minus the page in its slot of `table` */
    VERIFY_OFFSET,    /* the same, at most 4096 - len: `name` is in that page */
    VERIFY_HOST,      /* the host's address of the page in the slot of `name` in `table` */
    VERIFY_POINTER,   /* host address of `len` bytes that the table admits */
    VERIFY_NEG_PAGE,  /* the window's */
    VERIFY_IN_WINDOW, /* `name` minus the window's page */
    VERIFY_FILLED,    /* offset of `name` in the window's page, or large */
    VERIFY_DELTA,     /* the window's */
};

/* An unknown number plus a constant: what a register holds. */
struct verify_name {
    uint32_t root;
    int32_t offset;
};

struct verify_value {
    uint8_t kind;  /* enum verify_kind */
    uint8_t table; /* enum tlb_access */
    uint16_t len;
    struct verify_name name;
};

/* What the comparison just before found out. */
enum verify_test {
    VERIFY_NO_TEST,
    VERIFY_CMP,      /* T1 with `imm` */
    VERIFY_MASK,     /* T1 & imm */
    VERIFY_CMP_PAGE, /* the page in slot `imm` with a tag that belongs there */
    VERIFY_CMP_LIMIT /* T1 with the window's limit for `imm` bytes */
};

struct verify_state {
    struct verify_name reg[16];
    struct verify_value t[2];                 /* T1, T2 */
    struct verify_value group[GROUP_MAX], ea; /* in fields of struct vcpu */
    struct verify_value window;               /* OFFSET: `len` bytes from `name` on are in it */
    uint8_t test;                             /* enum verify_test */
    uint8_t page_table;                       /* slot `page_slot` of it has been found to match */
    int32_t page_slot;                        /* -1: none */
    int64_t imm;
    bool has_clash; /* a new name is there already, or paths with different stacks meet */
    uint8_t pushed; /* words on the stack above the pair of a call: 0 or 1 */
};

/* Roots: registers at an entry, results of instructions (by their place), and this with where paths
 * meet. */
#define VERIFY_JOINED 0x80000000u

struct verifier {
    const struct emit_cache *e;
    const struct verify_unit *unit;
    char *why;
};

/* Refuse: returns false. */
__attribute__((format(printf, 2, 3))) bool verify_refuse(struct verifier *f, const char *format,
                                                         ...);

/* verify_rules.c */
bool verify_op_allowed(const struct insn *insn);
/* May [struct vcpu + offset, + len) be read, written? */
bool verify_field_allowed(int64_t offset, unsigned len, bool is_write);
/* Offset of a field that has a meaning here, into `ret`; false if it is not of this kind. */
bool verify_is_tlb(int64_t offset, bool is_user, enum tlb_access *ret_table, int64_t *ret_offset);
bool verify_is_string_stub(const struct emit_cache *e, const uint8_t *at);
/* What a stub wants of T1 and T2: bit 0, bit 1: constants. -1: not a stub for such a transfer. */
int verify_stub(const struct emit_cache *e, const uint8_t *at, bool is_call, bool is_user);

/* MUL, IMUL, DIV and IDIV of one operand: they write RAX and RDX, not that. */
bool verify_writes_pair(const struct insn *insn);

/* A register becomes unknown. */
void verify_forget(struct verify_state *s, unsigned reg, uint32_t at);
/* The constant in such a value. */
int64_t verify_constant(const struct verify_value *v);

/* verify_step.c: the state behind an instruction that does not transfer control. */
bool verify_step(struct verifier *f, const struct insn *insn, uint32_t at, struct verify_state *s);
/* The state behind a conditional jump that is not taken. */
void verify_not_taken(struct verify_state *s, unsigned cond);

/* verify_guest.c: the interpreter ran an instruction, or anything. */
void verify_guest_step(const struct insn *insn, uint32_t at, struct verify_state *s);
void verify_guest_unknown(uint32_t at, struct verify_state *s);
