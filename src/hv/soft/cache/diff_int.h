/* diff_int.h — what those who run cases share: taking results. */
#pragma once

#include <string.h>

#include "hv/soft/cache/diff.h"

/* Note the words of a page at `la` that differ from the image, and put them right. */
static inline void diff_take_page(struct diff_result *r, const uint8_t *image, uint8_t *page,
                                  uint64_t la)
{
    for (unsigned line = 0; line < 4096; line += 512) {
        if (memcmp(page + line, image + line, 512) == 0) {
            continue;
        }
        for (unsigned i = line; i < line + 512; i += 8) {
            if (memcmp(page + i, image + i, 8) != 0) {
                if (r->word_count < DIFF_WORDS_MAX) {
                    r->words[r->word_count].at = la + i;
                    memcpy(&r->words[r->word_count].value, page + i, 8);
                }
                r->word_count++;
                memcpy(page + i, image + i, 8);
            }
        }
    }
}

/* What ends a case without being its fault: the HLT behind it, or a target that cannot be run.
 * `byte` is that of code at the end's rip, -1 if there is none. */
static inline void diff_settle(const struct diff_case *c, struct diff_result *r, int byte)
{
    uint64_t rip = r->end.rip;
    bool is_stop = r->vector == 13 && r->error == 0 && byte == (int)DIFF_STOP;
    bool is_bad_fetch = c->code_len <= INSN_LEN_MAX && byte < 0 &&
                        (r->vector == 13 || (r->vector == 14 && r->cr2 == rip));

    if (rip != c->start.rip && (is_stop || is_bad_fetch)) {
        r->vector = DIFF_NONE;
        r->error = 0;
        r->cr2 = 0;
    }
}
