/* decode.c — make a block: fetch, decode, lower, until a branch, the page, or the size ends it.
 *
 * The page is registered as code before its bytes are read, so that no write goes unseen.  Bytes
 * are copied out of guest memory once per instruction.  Nothing here touches the page after the one
 * of the first byte unless the first instruction needs it. */
#include <stdio.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/emit/emit.h"
#include "hv/soft/ref/native.h"

static enum insn_mode insn_mode_of(const struct vcpu *v)
{
    switch ((enum cpu_mode)v->mode) {
    case MODE_REAL:
    case MODE_PROT16:
    case MODE_COMPAT16: return INSN_MODE_16;
    case MODE_PROT32:
    case MODE_COMPAT32: return INSN_MODE_32;
    case MODE_LONG64: return INSN_MODE_64;
    }
    return INSN_MODE_64;
}

/* Bytes from rip that lie within CS: outside 64-bit mode there is a limit. */
static uint64_t bytes_in_segment(const struct vcpu *v, uint64_t rip)
{
    uint32_t limit = v->seg[SEG_CS].limit;

    if (v->mode == MODE_LONG64) {
        return UINT64_MAX;
    }
    return rip > limit ? 0 : (uint64_t)limit - rip + 1;
}

/* As the guest's CPU has it: without what CPUID hides, and without VEX in real mode. */
static enum insn_status decode_bytes(const struct vcpu *v, const uint8_t *bytes, size_t avail,
                                     struct insn *insn)
{
    enum insn_status status = insn_decode(bytes, avail, insn_mode_of(v), insn);

    if (status == INSN_OK && (!insn_gate(insn, v->features) ||
                              (insn->encoding != INSN_LEGACY && v->mode == MODE_REAL))) {
        return INSN_UNDEFINED;
    }
    return status;
}

struct maker {
    struct vcpu *v;
    struct lower lower;
    struct block *block;
    uint64_t la;
    const uint8_t *host; /* first byte */
    size_t page_room;    /* bytes from there to the end of the page */
    unsigned insn_limit;
    bool is_stop; /* the debugger has a breakpoint at the first instruction */
    uint8_t bytes[BLOCK_BYTES_MAX + 2 * INSN_LEN_MAX]; /* what was decoded */
};

/* The first instruction goes on in the next page: fetch that, and decode from both. */
static enum insn_status decode_crossing(struct maker *m, struct insn *insn)
{
    uint8_t bytes[INSN_LEN_MAX + 1];
    size_t have = m->page_room < INSN_LEN_MAX ? m->page_room : INSN_LEN_MAX;
    const uint8_t *next = mmu_fetch_page(m->v, code_next_page(m->v, m->la), &m->block->gpa2);
    struct code_page *page;

    if (!next) {
        return INSN_UNDEFINED;
    }
    page = code_page_get(m->v, m->block->gpa2.v);
    m->lower.is_out_of_memory |= !page;
    memcpy(bytes, m->host, have);
    memcpy(bytes + have, next, INSN_LEN_MAX - have);
    memcpy(m->bytes, bytes, INSN_LEN_MAX);
    m->block->is_crossing = true;
    m->block->host2 = next;
    return decode_bytes(m->v, bytes, INSN_LEN_MAX, insn);
}

/* Decode at `offset` bytes into the block.  INSN_MORE: it does not fit into the page. */
static enum insn_status decode_one(struct maker *m, size_t offset, struct insn *insn)
{
    uint8_t bytes[INSN_LEN_MAX];
    size_t have = m->page_room - offset;
    uint64_t in_segment = bytes_in_segment(m->v, m->lower.rip);
    enum insn_status status;

    have = have < INSN_LEN_MAX ? have : INSN_LEN_MAX;
    have = have < in_segment ? have : (size_t)in_segment;
    memcpy(bytes, m->host + offset, have);
    memcpy(m->bytes + offset, bytes, have);
    status = decode_bytes(m->v, bytes, have, insn);
    if (status != INSN_MORE) {
        return status;
    }
    if (have == INSN_LEN_MAX || have == in_segment) {
        return INSN_TOO_LONG; /* or beyond the limit: #GP(0) too */
    }
    return offset == 0 ? decode_crossing(m, insn) : INSN_MORE;
}

/* An instruction that cannot be decoded may become another one by a write to any of its bytes. */
static size_t fault_bytes(const struct maker *m, size_t offset)
{
    size_t room = m->page_room - offset;

    return room < INSN_LEN_MAX ? room : INSN_LEN_MAX;
}

/* Blocks end before a breakpoint; the one that begins there only stops. */
static bool is_break(struct maker *m, size_t offset)
{
    if (LIKELY(!m->v->debug) || m->lower.is_single || !code_breaks_at(m->v, m->la + offset)) {
        return false;
    }
    m->is_stop = offset == 0;
    return true;
}

static size_t lower_stop(struct maker *m)
{
    m->block->insn_count = 1;
    ref_lower_fault(&m->lower, EXC_DEBUG_BREAK);
    return 1;
}

static void lower_block(struct maker *m)
{
    struct lower *lw = &m->lower;
    size_t offset = 0;

    lw->next_rip = lw->rip;
    while (!lw->is_end && m->block->insn_count < m->insn_limit && offset <= BLOCK_BYTES_MAX &&
           offset < m->page_room && !is_break(m, offset)) {
        struct insn insn;
        enum insn_status status;

        lw->rip = lw->next_rip;
        status = decode_one(m, offset, &insn);
        if (status == INSN_MORE) {
            lw->next_rip = lw->rip;
            break;
        }
        m->block->insn_count++;
        if (status == INSN_OK) {
            ref_lower(lw, &insn);
            offset += insn.len;
        } else {
            ref_lower_fault(lw, status == INSN_TOO_LONG ? EXC_GP : EXC_UD);
            offset += fault_bytes(m, offset);
        }
    }
    if (UNLIKELY(m->is_stop)) {
        offset = lower_stop(m);
    } else if (!lw->is_closed) {
        ref_lower_end(lw);
    }
    if (m->block->is_crossing && offset <= m->page_room) {
        offset = m->page_room + 1; /* it faults, but for the bytes there */
    }
    m->block->byte_count = (uint16_t)offset;
}

static struct block *out_of_memory(struct vcpu *v)
{
    v->broken = true;
    (void)snprintf(v->why, sizeof(v->why), "code cache: out of memory at rip 0x%llx",
                   (unsigned long long)v->rip);
    return NULL;
}

/* For the translator: guest memory may have changed by then. */
static void keep_bytes(const struct maker *m, struct block *block)
{
    uint8_t *copy = (uint8_t *)&block->op[block->op_count];

    if (block->byte_count <= sizeof(m->bytes) && !m->is_stop) {
        memcpy(copy, m->bytes, block->byte_count);
        block->bytes = copy;
    }
}

struct block *code_decode(struct vcpu *v, uint64_t la, const uint8_t *host, uint32_t mode_key)
{
    struct code_cache *c = v->code;
    struct block head = {.rip = v->rip, .mode_key = mode_key, .host = host};
    struct maker m = {.v = v,
                      .block = &head,
                      .la = la,
                      .host = host,
                      .page_room = 4096 - (la & 0xfff),
                      .insn_limit = mode_key & MODE_KEY_SINGLE ? 1 : BLOCK_INSNS_MAX};
    struct block *block;

    code_make_room(v);
    (void)mmu_fetch_page(v, la, &head.gpa);
    if (!code_page_get(v, head.gpa.v)) {
        return out_of_memory(v);
    }
    head.gpa.v += la & 0xfff;
    m.lower = (struct lower){.v = v,
                             .block_rip = v->rip,
                             .rip = v->rip,
                             .op = c->scratch,
                             .is_single = mode_key & MODE_KEY_SINGLE,
                             .page_first = v->rip - (la & 0xfff),
                             .page_last = v->rip + (4095 - (la & 0xfff)),
                             .alloc = code_alloc_part,
                             .alloc_owner = c};
    lower_block(&m);
    block = code_alloc_block(c, m.lower.count, head.byte_count);
    if (!block || m.lower.is_out_of_memory) {
        return out_of_memory(v);
    }
    *block = head;
    block->parts = c->parts;
    block->op_count = (uint16_t)m.lower.count;
    block->has_links = m.lower.has_links;
    memcpy(block->op, c->scratch, m.lower.count * sizeof(struct op));
    keep_bytes(&m, block);
    v->stats.blocks_decoded++;
    v->stats.insns_decoded += block->insn_count;
    code_tiers_enrol(v, block);
    code_insert(v, block);
    return block;
}
