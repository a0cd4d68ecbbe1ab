/* breaks.c — breakpoints of the debugger: a set of linear addresses at which blocks end.
 *
 * Guest memory is not touched, so a guest that reads, checks or patches its own code sees and does
 * what it would without a debugger, and a breakpoint may be where nothing is mapped yet.  A block
 * ends before a breakpoint (decode.c), and the block that begins there raises EXC_DEBUG_BREAK.
 * Single steps have blocks of their own, which know of no breakpoints. */
#include "hv/soft/cache/code_int.h"

static bool is_place(const struct hv_break *b)
{
    return b->kind == HV_BREAK_SOFT || b->kind == HV_BREAK_HARD;
}

bool code_breaks_at(const struct vcpu *v, uint64_t la)
{
    if (v->mode != MODE_LONG64) {
        la = (uint32_t)la;
    }
    for (unsigned i = 0; i < v->debug->count; i++) {
        const struct hv_break *b = &v->debug->list[i];

        if (b->la == la && is_place(b)) {
            return true;
        }
    }
    return false;
}

/* Outside 64-bit mode nobody knows any more from which base it was decoded. */
static bool is_on_page(const struct block *b, uint64_t la)
{
    return (b->mode_key & ~(MODE_KEY_USER | MODE_KEY_SINGLE)) != MODE_LONG64 ||
           (b->rip ^ la) >> 12 == 0 || (b->is_crossing && (b->rip >> 12) + 1 == la >> 12);
}

static bool contains(const struct block *b, uint64_t la)
{
    return is_on_page(b, la) &&
           (((la - b->gpa.v) & 0xfff) < b->byte_count || code_looks_at(b, la & 0xfff, 1));
}

static void kill_at(struct vcpu *v, struct code_page *page, uint64_t la)
{
    struct block *b = page->blocks;

    if (!(page->lines >> (la & 0xfff) / 64 & 1)) { /* most pages: nothing was decoded there */
        return;
    }
    while (b) {
        struct block *next = *code_page_next(b, page);

        if (contains(b, la)) {
            code_kill(v, b);
        }
        b = next;
    }
}

void code_break_changed(struct vcpu *v, const struct hv_break *b)
{
    if (!is_place(b)) {
        return;
    }
    for (unsigned i = 0; i < PAGE_BUCKET_COUNT; i++) {
        for (struct code_page *page = v->code->page_bucket[i]; page; page = page->next) {
            kill_at(v, page, b->la);
        }
    }
}
