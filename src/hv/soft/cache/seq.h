/* seq.h — random sequences of instructions: what they are made of, and putting them together.
 *
 * A sequence is a list of items, each one instruction.  Where an instruction names another item
 * (as a branch does) or an address near itself, it says so in its fix; seq_assemble() fills that
 * in. So items can be dropped one by one, and the rest still is a sequence: seq_shrink_test.c.
 *
 * Registers.  RBX RSI RBP R10 R12 R14 and RSP point into data and are seldom written; programs
 * compute with the others.
 */
#pragma once

#include "hv/soft/cache/diff.h"

#define SEQ_ITEMS_MAX 160u
#define SEQ_WORDS_MAX 24u
/* Jump tables and loop counters: at the end of the plain region. */
#define SEQ_TABLES (DIFF_REGION(DIFF_PLAIN) + DIFF_REGION_BYTES - SEQ_WORDS_MAX * 8u)

enum seq_fix {
    SEQ_FIX_NONE,
    SEQ_FIX_REL,  /* of item `target`, relative to the end of this one */
    SEQ_FIX_ITEM, /* address of item `target` plus `address` */
    SEQ_FIX_RIP,  /* `address`, relative to the end of this one */
};

struct seq_item {
    uint8_t bytes[INSN_LEN_MAX];
    uint8_t len;
    uint8_t fix; /* enum seq_fix */
    uint8_t fix_at, fix_len;
    uint16_t target;
    uint64_t address;
};

/* A word of memory that holds the address of an item (is_item), or a number. */
struct seq_word {
    uint64_t at;
    bool is_item;
    uint64_t value;
};

struct seq {
    struct diff_state start;
    uint64_t code_at;
    unsigned item_count, word_count;
    struct seq_item items[SEQ_ITEMS_MAX];
    struct seq_word words[SEQ_WORDS_MAX];
};

/* Make one; diff_rows_init() comes first.  `writes_code`: with stores into its own instructions. */
void seq_make(struct seq *s, struct diff_random *r, size_t rows, bool writes_code);
/* Add it to a batch; false if there is no room, or a branch does not reach. */
bool seq_assemble(const struct seq *s, struct diff_batch *b);
/* Item `index` goes; what named it names the next. */
void seq_drop(struct seq *s, unsigned index);
