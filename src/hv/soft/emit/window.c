/* window.c — the page around the stack pointer, checked without the TLB.
 *
 * Theory of operation.  v->window is a copy of one entry of the write table: the page the stack
 * pointer was last seen in, one for each privilege.  All accesses of a block that are a known
 * distance from rSP share one check against it:
 *
 *     mov  r10, [window.neg_page]
 *     lea  r10, [r15 + r10 + lo]
 *     cmp  r10, [window.limit of the bytes, rounded up]
 *     jae  cold
 * hot:
 *     mov  r10, [window.delta]
 *     the operands are [r15 + r10 + disp], or of another register that held rSP
 *
 * so that, unlike with the TLB, addresses do not depend on what the check loads.  A limit of 0
 * admits nothing: there is no window.  The way out:
 *
 * cold:
 *     lea  r10, [r15 + lo]
 *     call fill                     moves the window to this page, if the write table has it
 *     cmp  r10, 4096 - bytes        the offset in the page, else large
 *     ja   slow
 *     jmp  hot
 *
 * mmu/ drops the windows on every flush and whenever a page begins to hold code. */
#include "hv/soft/emit/emit_int.h"

#define CC_ABOVE_OR_EQUAL 0x83
#define CC_NOT_EQUAL      0x85
#define CC_ABOVE          0x87
#define JMP               0xe9
#define CALL              0xe8

static size_t window_of(unsigned priv)
{
    return offsetof(struct vcpu, window) + priv * sizeof(struct stack_window);
}

static unsigned priv_of(const struct translation *t)
{
    return t->v->cpl == 3 ? TLB_USER : TLB_SUPERVISOR;
}

static size_t limit_at(unsigned i)
{
    return offsetof(struct stack_window, limit) + i * sizeof(uint64_t);
}

/* Index of the smallest limit that is good for `bytes`. */
static unsigned limit_for(unsigned bytes)
{
    unsigned i = 0;

    while (8u << i < bytes) {
        i++;
    }
    return i;
}

void emit_window_load(struct translation *t)
{
    asm_load(t->a, HOST_T1, HOST_VCPU,
             window_of(priv_of(t)) + offsetof(struct stack_window, delta));
}

uint8_t *emit_window_check(struct translation *t, int32_t lo, unsigned bytes)
{
    size_t window = window_of(priv_of(t));
    struct asm_buf *a = t->a;
    uint8_t *jump;

    asm_load(a, HOST_T1, HOST_VCPU, window + offsetof(struct stack_window, neg_page));
    asm_rm_index(a, 8, 0x8d, HOST_T1, HOST_R15, HOST_T1, 0, lo);
    asm_rm(a, 8, 0x3b, HOST_T1, HOST_VCPU, (int32_t)(window + limit_at(limit_for(bytes))));
    jump = asm_jump(a, CC_ABOVE_OR_EQUAL);
    emit_window_load(t);
    return jump;
}

/* What follows in the code is the slow way. */
void emit_window_cold(struct translation *t, const struct slow *s)
{
    struct asm_buf *a = t->cold;
    uint8_t *slow;

    asm_rm(a, 8, 0x8d, HOST_T1, HOST_R15, s->window_lo);
    asm_jump_to(a, CALL, t->e->window_fill[priv_of(t)]);
    asm_rr(a, 8, 0x81, 7, HOST_T1);
    asm_imm(a, 4096 - s->window_bytes, 4);
    slow = asm_jump(a, CC_ABOVE);
    asm_jump_to(a, JMP, s->from); /* the check's jump ends where `hot` is */
    asm_land(a, slow, a->at);
    emit_group_moved(s->miss, slow);
}

/* T1 = address; afterwards its offset in the page where the window is now, or more than 4095.
 * Destroys T2 and EFLAGS. */
static void fill_stub(struct emit_cache *e, unsigned priv)
{
    struct asm_buf *a = &e->buf;
    size_t window = window_of(priv);
    int32_t table = (int32_t)(offsetof(struct vcpu, tlb) + priv * sizeof(struct tlb_set) +
                              offsetof(struct tlb_set, slot[TLB_WRITE]));
    int32_t page = table + (int32_t)offsetof(struct tlb_entry, page);
    int32_t host = table + (int32_t)offsetof(struct tlb_entry, host);
    uint8_t *miss, *had_limits;

    asm_rr(a, 4, 0x89, HOST_T1, HOST_T2);
    asm_rr(a, 4, 0xc1, 5, HOST_T2); /* shr r11d, 8 */
    ASM(a, 8);
    asm_rr(a, 4, 0x81, 4, HOST_T2); /* and */
    asm_imm(a, (TLB_SLOTS - 1) * sizeof(struct tlb_entry), 4);
    asm_rm_index(a, 8, 0x2b, HOST_T1, HOST_VCPU, HOST_T2, 0, page);
    asm_rr(a, 8, 0x81, 7, HOST_T1);
    asm_imm(a, 4095, 4);
    miss = asm_jump(a, CC_ABOVE);
    ASM(a, 0x50); /* push rax */
    asm_rm_index(a, 8, 0x8b, HOST_RAX, HOST_VCPU, HOST_T2, 0, page);
    asm_rr(a, 8, 0xf7, 3, HOST_RAX); /* neg */
    asm_store(a, HOST_RAX, HOST_VCPU, window + offsetof(struct stack_window, neg_page));
    asm_rm_index(a, 8, 0x03, HOST_RAX, HOST_VCPU, HOST_T2, 0, host);
    asm_store(a, HOST_RAX, HOST_VCPU, window + offsetof(struct stack_window, delta));
    ASM(a, 0x58);                                                      /* pop rax */
    asm_rm(a, 8, 0x83, 7, HOST_VCPU, (int32_t)(window + limit_at(0))); /* cmp qword, 0 */
    ASM(a, 0);
    had_limits = asm_jump(a, CC_NOT_EQUAL);
    for (unsigned i = 0; i < STACK_WINDOW_LIMITS; i++) {
        asm_rm(a, 8, 0xc7, 0, HOST_VCPU, (int32_t)(window + limit_at(i)));
        asm_imm(a, 4096 - (8u << i) + 1, 4);
    }
    asm_land(a, miss, a->at);
    asm_land(a, had_limits, a->at);
    ASM(a, 0xc3);
}

void emit_window_stubs(struct emit_cache *e)
{
    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        e->window_fill[priv] = e->buf.at;
        fill_stub(e, priv);
    }
}
