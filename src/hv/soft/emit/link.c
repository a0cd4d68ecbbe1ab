/* link.c — the ways into translated blocks: entries, links, the tables of indirect branches.
 *
 * emit.h has the contract.  The tests in front of a body, in this order, each falling through:
 *
 *     indirect   cmp T1, rip          jne miss
 *     far        cmp [xtlb slot], id  jne leave
 *     back       cmp rsp, [limit]     jb  leave (limit | poll << 32)
 *     body
 *
 * Those by which a block has been reached before it was translated stand right there; others are
 * made out of line when the first link needs them.  A block that wants flags in EFLAGS has all of
 * its tests out of line, with the flags in memory meanwhile.
 *
 * A link is a jump whose target is patched.  The code belongs to one vCPU, whose thread alone
 * executes and patches it, so nothing has to be atomic. */
#include "base/bits.h"
#include "hv/soft/emit/emit_int.h"
#include "hv/soft/emit/verify.h"

#define CC_BELOW     0x82
#define CC_NOT_EQUAL 0x85
#define JMP          0xe9

/* --- tests --- */

static void compare_target(struct asm_buf *a, uint64_t rip)
{
    if ((uint64_t)(int32_t)rip == rip) {
        asm_rr(a, 8, 0x81, 7, HOST_T1);
        asm_imm(a, rip, 4);
    } else {
        asm_mov_imm(a, HOST_T2, rip);
        asm_rr(a, 8, 0x39, HOST_T2, HOST_T1);
    }
}

/* Is the page of `rip` the one that page_id names? */
static void compare_page(struct asm_buf *a, const struct block *b, uint64_t rip, uint32_t page_id)
{
    enum tlb_priv priv = emit_priv_of(b);
    size_t slot = offsetof(struct vcpu, xtlb) +
                  (priv * XTLB_SLOTS + XTLB_SLOT_OF(priv, rip)) * sizeof(uint32_t);

    asm_rm(a, 4, 0x81, 7, HOST_VCPU, (int32_t)slot);
    asm_imm(a, page_id, 4);
}

/* Below the limit, or anything to be looked at? */
static void compare_poll(struct asm_buf *a)
{
    _Static_assert(offsetof(struct vcpu, poll) == offsetof(struct vcpu, pair_limit) + 4 &&
                       offsetof(struct vcpu, pair_limit) % 8 == 0,
                   "one word");
    asm_rm(a, 8, 0x3b, HOST_RSP, HOST_VCPU, offsetof(struct vcpu, pair_limit));
}

/* Those from the first of `entries` on; `at` gets where they begin. */
static void emit_tests(const struct emit_cache *e, struct asm_buf *a, const struct block *b,
                       unsigned entries, const uint8_t **at)
{
    if (entries & BIT(ENTRY_INDIRECT)) {
        at[ENTRY_INDIRECT] = a->at;
        compare_target(a, b->rip);
        asm_jump_to(a, CC_NOT_EQUAL, e->leave_miss);
    }
    if (entries & (BIT(ENTRY_INDIRECT) | BIT(ENTRY_FAR))) {
        at[ENTRY_FAR] = a->at;
        compare_page(a, b, b->rip, b->page_id);
        asm_jump_to(a, CC_NOT_EQUAL, b->code->leave);
    }
    at[ENTRY_BACK] = a->at;
    compare_poll(a);
    asm_jump_to(a, CC_BELOW, b->code->leave);
}

/* --- entries --- */

/* A test failed: leave for the block itself. */
static const uint8_t *emit_leave(const struct emit_cache *e, struct asm_buf *a,
                                 const struct block *b)
{
    const uint8_t *at = a->at;

    asm_mov_imm(a, HOST_T1, (uintptr_t)b);
    asm_jump_to(a, JMP, e->leave_entry);
    return at;
}

/* Tests that destroy EFLAGS: for flags that are in memory, or dead. */
static void set_entries(struct emit_code *c, const uint8_t *const at[ENTRY_COUNT])
{
    for (unsigned i = 0; i < ENTRY_COUNT; i++) {
        c->at[1][i] = c->at[1][i] ? c->at[1][i] : at[i];
        if (c->flags_in == FLAGS_IN_DEAD) {
            c->at[0][i] = c->at[1][i];
        }
    }
}

/* All entries of a block that wants its flags in EFLAGS. */
static void make_entries_with_flags(const struct emit_cache *e, struct asm_buf *a,
                                    const struct block *b)
{
    struct emit_code *c = b->code;

    c->at[0][ENTRY_NEAR] = c->body;
    emit_tests(e, a, b, BIT(ENTRY_INDIRECT), c->at[1]);
    c->at[1][ENTRY_NEAR] = a->at;
    emit_flags_load_all(a);
    asm_jump_to(a, JMP, c->body);
    c->at[0][ENTRY_FAR] = a->at;
    c->at[0][ENTRY_BACK] = a->at;
    emit_flags_save_all(a);
    asm_jump_to(a, JMP, c->at[1][ENTRY_FAR]);
}

void emit_front(struct translation *t)
{
    struct emit_code *c = t->block->code;
    const uint8_t *at[ENTRY_COUNT] = {NULL};
    unsigned entries = t->block->entered & ~(unsigned)BIT(ENTRY_NEAR);

    c->leave = emit_leave(t->e, t->cold, t->block);
    if (c->flags_in == FLAGS_IN_HOST) {
        c->body = t->a->at;
        make_entries_with_flags(t->e, t->cold, t->block);
        return;
    }
    if (entries) {
        emit_tests(t->e, t->a, t->block, entries, at);
    }
    at[ENTRY_NEAR] = t->a->at;
    c->body = t->a->at;
    set_entries(c, at);
    if (t->block->is_crossing) {
        compare_page(t->a, t->block, t->block->rip + 0x1000, t->block->page_id2);
        asm_jump_to(t->a, CC_NOT_EQUAL, c->leave);
    }
}

/* Make an entry that is missing, in cold memory. */
static void make_entry(const struct emit_cache *e, struct asm_buf *cold, const struct block *b,
                       bool is_saved, enum emit_entry entry)
{
    struct emit_code *c = b->code;

    if (!c->at[1][entry]) {
        const uint8_t *at[ENTRY_COUNT] = {NULL};

        emit_tests(e, cold, b, BIT(ENTRY_INDIRECT), at);
        asm_jump_to(cold, JMP, c->body);
        set_entries(c, at);
    }
    if (!c->at[is_saved][entry]) {
        c->at[is_saved][entry] = cold->at;
        emit_flags_save_all(cold);
        asm_jump_to(cold, JMP, c->at[1][entry]);
    }
}

/* Where such links enter the block; NULL if code memory is full. */
static const uint8_t *entry_of(struct vcpu *v, const struct block *b, bool is_saved,
                               enum emit_entry entry)
{
    struct emit_code *c = b->code;
    struct asm_buf hot = v->emit->buf, cold = v->emit->cold;

    if (!c->at[is_saved][entry] && !emit_is_full(v)) {
        make_entry(v->emit, &v->emit->cold, b, is_saved, entry);
        if (!verify_emitted(v, b, &hot, &cold, NULL)) {
            return NULL;
        }
    }
    return c->at[is_saved][entry];
}

/* --- links --- */

void emit_exit(struct translation *t, uint8_t opcode, uint64_t to)
{
    struct emit_site *site = t->alloc(t->alloc_owner, sizeof(*site));
    bool is_saved = t->is_live && t->flags == FLAGS_SAVED;

    if (!site) {
        t->has_failed = true;
        return;
    }
    *site = (struct emit_site){.rip = to,
                               .from_rip = t->rip,
                               .from = t->block,
                               .jump = asm_jump(t->a, opcode),
                               .exit = t->cold->at,
                               .is_saved = is_saved,
                               .is_live = t->is_live,
                               .is_rest = t->is_rest};
    asm_land(t->a, site->jump, site->exit);
    asm_mov_imm(t->cold, HOST_T1, (uintptr_t)site);
    asm_jump_to(t->cold, JMP,
                t->is_live && !is_saved ? t->e->leave_site_with_flags : t->e->leave_site);
}

static bool is_same_page(const struct block *a, const struct block *b)
{
    return (a->rip ^ b->rip) < 4096 && (a->gpa.v ^ b->gpa.v) < 4096;
}

static enum emit_entry entry_for(const struct emit_site *site, const struct block *b)
{
    return !is_same_page(site->from, b) ? ENTRY_FAR
           : b->rip <= site->from_rip   ? ENTRY_BACK
                                        : ENTRY_NEAR;
}

static void link_site(struct vcpu *v, struct emit_site *site, struct block *b)
{
    const uint8_t *entry = entry_of(v, b, site->is_saved, entry_for(site, b));

    if (entry) {
        asm_land(&v->emit->buf, site->jump, entry);
        site->next = b->code->incoming;
        b->code->incoming = site;
        v->stats.links++;
    }
}

static const void **indirect_slot(struct vcpu *v, const struct block *b)
{
    return &v->indirect[emit_priv_of(b)][b->rip % INDIRECT_SLOTS];
}

static void link_indirect(struct vcpu *v, const struct block *b)
{
    const uint8_t *entry = entry_of(v, b, true, ENTRY_INDIRECT);

    if (entry) {
        *indirect_slot(v, b) = emit_executable(v->emit, entry);
    }
}

void emit_arrive(struct vcpu *v, struct block *b)
{
    struct emit_site *site = v->site;

    if (v->has_missed) {
        v->stats.indirect_misses++;
        b->entered |= (uint8_t)BIT(ENTRY_INDIRECT);
        if (b->code) {
            link_indirect(v, b);
        }
    } else if (site && site->rip == b->rip && site->from->mode_key == b->mode_key) {
        v->stats.unlinked++;
        b->entered |= (uint8_t)BIT(entry_for(site, b));
        if (b->code) {
            link_site(v, site, b);
        }
    }
}

bool emit_flags_are_left(const struct vcpu *v)
{
    return v->has_missed || (v->site && v->site->is_live && !v->site->is_rest);
}

void emit_unlink(struct vcpu *v, struct block *b)
{
    const uint8_t *entry = b->code->at[1][ENTRY_INDIRECT];
    const void **slot = indirect_slot(v, b);

    for (struct emit_site *site = b->code->incoming; site; site = site->next) {
        asm_land(&v->emit->buf, site->jump, site->exit);
    }
    b->code->incoming = NULL;
    if (entry && *slot == emit_executable(v->emit, entry)) {
        *slot = emit_executable(v->emit, v->emit->leave_miss);
    }
}

void emit_forget_slot(struct vcpu *v, enum tlb_priv priv, unsigned slot)
{
    v->indirect[priv][slot] = emit_executable(v->emit, v->emit->leave_miss);
}

void emit_forget_indirect(struct vcpu *v)
{
    const void *miss = emit_executable(v->emit, v->emit->leave_miss);

    for (unsigned priv = 0; priv < TLB_PRIV_COUNT; priv++) {
        for (unsigned i = 0; i < INDIRECT_SLOTS; i++) {
            v->indirect[priv][i] = miss;
        }
    }
}
