/* verify.c — follows emitted code from its entries, along every path.
 *
 * Theory of operation.  A table holds, for each place where an instruction begins, what is known
 * there.  A list holds the places to look at.  Each is decoded, judged with what is known
 * (verify_step.c), and hands on what is known behind it.  Where paths meet only what both know
 * stays; if that is less than before, the place is looked at again.  That ends, for less can become
 * known only so often.  What is never reached (constants among cold code) is never decoded. */
#include "hv/soft/emit/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/soft/emit/verify_int.h"

struct place {
    bool is_listed;
    struct verify_state state;
};

struct walk {
    struct verifier f;
    size_t bytes[2]; /* of both ranges */
    uint32_t *index; /* by offset: 1 + number of the place */
    struct place *places;
    uint32_t place_count, place_room;
    uint32_t *list; /* offsets to look at */
    uint32_t list_count;
};

bool verify_refuse(struct verifier *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(f->why, VERIFY_WHY, format, args);
    va_end(args);
    return false;
}

bool verify_is_wanted(void)
{
    const char *wish = getenv("EC1_SOFT_VERIFY");

#if defined(__SANITIZE_ADDRESS__)
    return !wish || strcmp(wish, "0") != 0;
#else
    return wish && strcmp(wish, "0") != 0;
#endif
}

/* --- places --- */

/* Both ranges behind one another; UINT32_MAX: in neither. */
static uint32_t offset_of(const struct walk *w, const uint8_t *at)
{
    const struct verify_range *r = w->f.unit->range;

    if (at >= r[0].from && at < r[0].to) {
        return (uint32_t)(at - r[0].from);
    }
    if (at >= r[1].from && at < r[1].to) {
        return (uint32_t)(w->bytes[0] + (size_t)(at - r[1].from));
    }
    return UINT32_MAX;
}

static const uint8_t *address_of(const struct walk *w, uint32_t offset, const uint8_t **ret_end)
{
    const struct verify_range *r = &w->f.unit->range[offset >= w->bytes[0]];

    *ret_end = r->to;
    return r->from + (offset >= w->bytes[0] ? offset - w->bytes[0] : offset);
}

static void start_state(struct verify_state *s)
{
    memset(s, 0, sizeof(*s));
    s->page_slot = -1;
    for (unsigned i = 0; i < 16; i++) {
        s->reg[i].root = i + 1;
    }
}

/* --- where paths meet --- */

#define NAMES 19u

/* All names in a state; NULL: a value that has none. */
static void list_names(struct verify_state *s, struct verify_name *names[static NAMES])
{
    struct verify_value *values[] = {&s->t[0], &s->t[1], &s->window};

    for (unsigned i = 0; i < 16; i++) {
        names[i] = &s->reg[i];
    }
    for (unsigned i = 0; i < 3; i++) {
        bool has_name = values[i]->kind != VERIFY_ANY && values[i]->kind != VERIFY_CONST;

        names[16 + i] = has_name ? &values[i]->name : NULL;
    }
}

/* Do both states know that these two are the same distance apart? */
static bool is_shared(struct verify_name *const *a, struct verify_name *const *b, unsigned i,
                      unsigned j)
{
    int64_t distance;

    if (!a[i] || !a[j] || !b[i] || !b[j] || a[i]->root != a[j]->root || b[i]->root != b[j]->root) {
        return false;
    }
    distance = (int64_t)a[i]->offset - a[j]->offset;
    return distance == (int64_t)b[i]->offset - b[j]->offset && distance == (int32_t)distance;
}

static bool is_related(struct verify_name *const *a, unsigned i, unsigned j)
{
    return a[i] && a[j] && a[i]->root == a[j]->root;
}

/* Names say nothing but how far from each other things are.  Split up what `from` does not know. */
static bool meet_names(struct verify_state *to, struct verify_state *from, uint32_t at)
{
    struct verify_name *a[NAMES], *b[NAMES], joined[NAMES];
    bool is_less = false;

    list_names(to, a);
    list_names(from, b);
    for (unsigned i = 0; i < NAMES; i++) {
        unsigned first = 0;

        for (unsigned j = 0; j < i; j++) {
            is_less |= is_related(a, i, j) && !is_shared(a, b, i, j);
        }
        while (first < i && !is_shared(a, b, i, first)) {
            first++;
        }
        joined[i] = (struct verify_name){
            VERIFY_JOINED | (at << 5) | first,
            first < i ? (int32_t)((int64_t)a[i]->offset - a[first]->offset) : 0};
    }
    for (unsigned i = 0; i < NAMES && is_less; i++) {
        if (a[i]) {
            *a[i] = joined[i];
        }
    }
    return is_less;
}

/* The value itself; names are looked after elsewhere. */
static bool meet_value(struct verify_value *to, const struct verify_value *from)
{
    bool is_const = to->kind == VERIFY_CONST && from->kind == VERIFY_CONST;

    if (to->kind == VERIFY_ANY) {
        return false;
    }
    if (to->kind != from->kind || to->table != from->table ||
        (is_const && verify_constant(to) != verify_constant(from))) {
        *to = (struct verify_value){0};
        return true;
    }
    if (to->len > from->len) {
        to->len = from->len;
        return true;
    }
    return false;
}

/* Of the instruction before, of use to the next only. */
static bool meet_test(struct verify_state *to, const struct verify_state *from)
{
    bool is_less = to->pushed != from->pushed && !to->has_clash;

    to->has_clash |= to->pushed != from->pushed;

    if (to->test != VERIFY_NO_TEST && (to->test != from->test || to->imm != from->imm)) {
        to->test = VERIFY_NO_TEST;
        is_less = true;
    }
    if (to->page_slot != -1 &&
        (to->page_slot != from->page_slot || to->page_table != from->page_table)) {
        to->page_slot = -1;
        is_less = true;
    }
    return is_less;
}

/* Keep in `to` what `from` knows, too; true if that is less. */
static bool meet(struct verify_state *to, const struct verify_state *other, uint32_t at)
{
    struct verify_state from = *other;
    bool is_less = meet_test(to, &from);

    is_less |= meet_value(&to->t[0], &from.t[0]);
    is_less |= meet_value(&to->t[1], &from.t[1]);
    is_less |= meet_value(&to->window, &from.window);
    is_less |= meet_value(&to->ea, &from.ea);
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        is_less |= meet_value(&to->group[i], &from.group[i]);
    }
    return meet_names(to, &from, at) || is_less;
}

static bool reach(struct walk *w, uint32_t offset, const struct verify_state *s)
{
    struct place *p;
    bool is_new = !w->index[offset];

    if (is_new) {
        if (w->place_count == w->place_room) {
            return verify_refuse(&w->f, "too much code");
        }
        w->index[offset] = ++w->place_count;
    }
    p = &w->places[w->index[offset] - 1];
    if (is_new) {
        *p = (struct place){.state = *s};
    } else if (!meet(&p->state, s, offset)) {
        return true;
    }
    if (!p->is_listed) {
        p->is_listed = true;
        w->list[w->list_count++] = offset;
    }
    return true;
}

/* --- transfers of control --- */

static bool is_accepted(const struct walk *w, const uint8_t *at)
{
    for (unsigned i = 0; i < VERIFY_WAYS; i++) {
        if (w->f.unit->also[i] && w->f.unit->also[i] == at) {
            return true;
        }
    }
    return false;
}

static bool check_stub(struct walk *w, const uint8_t *at, bool is_call,
                       const struct verify_state *s)
{
    int wants = verify_stub(w->f.e, at, is_call, w->f.unit->is_user);

    if (wants < 0) {
        return verify_refuse(&w->f, "leads out of the code");
    }
    for (unsigned i = 0; i < 2; i++) {
        if (wants >> i & 1 && s->t[i].kind != VERIFY_CONST) {
            return verify_refuse(&w->f, "a stub gets what is no constant");
        }
    }
    return true;
}

/* Out of this code the stack is as it was at the entry. */
static bool jump_to(struct walk *w, const uint8_t *at, const struct verify_state *s)
{
    uint32_t offset = offset_of(w, at);

    if (s->has_clash) {
        return verify_refuse(&w->f, "a loop, or an uneven stack");
    }
    if (offset != UINT32_MAX) {
        return reach(w, offset, s);
    }
    if (s->pushed) {
        return verify_refuse(&w->f, "leaves something on the stack");
    }
    return is_accepted(w, at) || check_stub(w, at, false, s);
}

/* The interpreter ran the ops in T1, a constant: those of one instruction of the block in T2, which
 * is on the page of this one. */
static void run_state(const struct walk *w, uint32_t at, struct verify_state *s)
{
    const struct block *head = w->f.unit->block;
    const struct block *b = (const struct block *)(uintptr_t)verify_constant(&s->t[1]);
    const struct op *ops = (const struct op *)(uintptr_t)verify_constant(&s->t[0]);
    struct insn insn;

    if (head && (b->rip ^ head->rip) >> 12 == 0 && b->bytes && ops->pc < b->byte_count &&
        insn_decode(b->bytes + ops->pc, b->byte_count - ops->pc, INSN_MODE_64, &insn) == INSN_OK) {
        verify_guest_step(&insn, at, s);
    } else {
        verify_guest_unknown(at, s);
    }
}

/* Behind a call: T1 and T2 are gone. */
static void return_state(struct walk *w, const uint8_t *stub, uint32_t at, struct verify_state *s)
{
    const struct emit_cache *e = w->f.e;
    struct verify_name name = s->reg[HOST_T1];
    struct verify_state fresh;

    start_state(&fresh);
    if (stub == e->run_ops) {
        s->ea = fresh.ea;
        run_state(w, at, s);
    } else if (verify_is_string_stub(e, stub)) {
        static const struct insn insn = {.klass = INSN_CLASS_STRING};

        verify_guest_step(&insn, at, s);
    }
    verify_forget(s, HOST_T1, at);
    verify_forget(s, HOST_T2, at);
    s->test = VERIFY_NO_TEST;
    s->page_slot = -1;
    if (stub == e->window_fill[TLB_SUPERVISOR] || stub == e->window_fill[TLB_USER]) {
        s->window = fresh.window; /* it may have moved */
        s->t[0] = (struct verify_value){.kind = VERIFY_FILLED, .name = name};
    }
}

/* What follows must be here. */
static bool jump_to_if_here(struct walk *w, const uint8_t *at, const struct verify_state *s)
{
    return offset_of(w, at) == UINT32_MAX ? verify_refuse(&w->f, "runs past its end")
                                          : jump_to(w, at, s);
}

/* jmp [struct vcpu + table + T2 * 8] */
static bool check_indirect(struct walk *w, const struct insn *insn, const struct verify_state *s)
{
    size_t table =
        offsetof(struct vcpu, indirect) + (w->f.unit->is_user ? TLB_USER : TLB_SUPERVISOR) *
                                              sizeof(((struct vcpu *)NULL)->indirect[0]);

    if (insn->operand[0].kind != INSN_MEM || insn->base != HOST_VCPU || insn->index != HOST_T2 ||
        insn->scale != 8 || insn->disp != (int64_t)table || s->t[1].kind != VERIFY_WORD) {
        return verify_refuse(&w->f, "an indirect jump, not by the table");
    }
    return true;
}

/* A call of the guest's: with its return address pushed; the host comes back knowing nothing. */
static bool follow_call(struct walk *w, const uint8_t *next, const struct verify_state *s)
{
    struct verify_state back;

    if (s->pushed != 1) {
        return verify_refuse(&w->f, "a call without a pair");
    }
    start_state(&back);
    back.pushed = 1;
    return jump_to_if_here(w, next, &back);
}

static bool follow_direct_call(struct walk *w, const uint8_t *target, const uint8_t *next,
                               uint32_t offset, struct verify_state *s)
{
    struct verify_state callee = *s;

    if (verify_stub(w->f.e, target, true, w->f.unit->is_user) >= 0) {
        if (!check_stub(w, target, true, s)) {
            return false;
        }
        return_state(w, target, offset, s);
        return jump_to_if_here(w, next, s);
    }
    callee.pushed = 0;
    return jump_to(w, target, &callee) && follow_call(w, next, s);
}

static bool follow_condition(struct walk *w, const struct insn *insn, const uint8_t *next,
                             struct verify_state *s)
{
    struct verify_state taken = *s;

    taken.test = VERIFY_NO_TEST;
    taken.page_slot = -1;
    if (!jump_to(w, next + insn->imm, &taken)) {
        return false;
    }
    verify_not_taken(s, insn->cond);
    return jump_to_if_here(w, next, s);
}

static bool follow(struct walk *w, const struct insn *insn, const uint8_t *next, uint32_t offset,
                   struct verify_state *s)
{
    switch (insn->op) {
    case INSN_JMP: return jump_to(w, next + insn->imm, s);
    case INSN_JCC: return follow_condition(w, insn, next, s);
    case INSN_CALL: return follow_direct_call(w, next + insn->imm, next, offset, s);
    case INSN_JMP_IND:
        return check_indirect(w, insn, s) &&
               (!s->pushed || verify_refuse(&w->f, "leaves something on the stack"));
    case INSN_CALL_IND: return check_indirect(w, insn, s) && follow_call(w, next, s);
    case INSN_RET:
        return (!insn->operand_count && !s->pushed) ||
               verify_refuse(&w->f, "a return not to the pair on top");
    default: return verify_refuse(&w->f, "no transfer for this code");
    }
}

/* The guest's half of a pair: pushed before a call, dropped behind it. */
static bool is_pair(const struct insn *insn, struct verify_state *s)
{
    const struct insn_operand *o = &insn->operand[0];

    if (insn->op == INSN_PUSH && insn->opsize == 8 && !s->pushed &&
        (o->kind == INSN_IMM ||
         (o->kind == INSN_GPR && o->reg == HOST_T2 && s->t[1].kind == VERIFY_CONST))) {
        s->pushed = 1;
        return true;
    }
    if (insn->op == INSN_LEA && o->reg == HOST_RSP && o->size == 8 && insn->base == HOST_RSP &&
        insn->index == INSN_NO_REG && insn->disp == 8 && s->pushed) {
        s->pushed = 0;
        return true;
    }
    return false;
}

static bool is_transfer(const struct insn *insn)
{
    return insn->klass == INSN_CLASS_INT && insn->op >= INSN_JMP && insn->op <= INSN_JRCXZ;
}

static bool look_at(struct walk *w, uint32_t offset)
{
    struct place *p = &w->places[w->index[offset] - 1];
    const uint8_t *end, *at = address_of(w, offset, &end);
    struct verify_state s = p->state;
    struct insn insn;

    p->is_listed = false;
    if (insn_decode(at, (size_t)(end - at), INSN_MODE_64, &insn) != INSN_OK) {
        return verify_refuse(&w->f, "no instruction");
    }
    if (is_transfer(&insn)) {
        return follow(w, &insn, at + insn.len, offset, &s);
    }
    return (is_pair(&insn, &s) || verify_step(&w->f, &insn, offset, &s)) &&
           jump_to_if_here(w, at + insn.len, &s);
}

static void say_where(struct walk *w, uint32_t offset)
{
    const uint8_t *end, *at = address_of(w, offset, &end);
    size_t len = strlen(w->f.why);
    char text[96] = "";
    struct insn insn;

    if (insn_decode(at, (size_t)(end - at), INSN_MODE_64, &insn) == INSN_OK) {
        (void)insn_print(&insn, 0, text);
    }
    (void)snprintf(w->f.why + len, VERIFY_WHY - len, ": '%s' at %u of %zu + %zu", text, offset,
                   w->bytes[0], w->bytes[1]);
}

static bool walk_all(struct walk *w)
{
    struct verify_state s;

    start_state(&s);
    for (unsigned i = 0; i < VERIFY_WAYS; i++) {
        const uint8_t *start = w->f.unit->start[i];

        if (start && offset_of(w, start) == UINT32_MAX) {
            return verify_refuse(&w->f, "an entry outside the code");
        }
        if (start && !reach(w, offset_of(w, start), &s)) {
            return false;
        }
    }
    while (w->list_count) {
        uint32_t offset = w->list[--w->list_count];

        if (!look_at(w, offset)) {
            say_where(w, offset);
            return false;
        }
    }
    return true;
}

bool verify_code(const struct emit_cache *e, const struct verify_unit *unit,
                 char why[static VERIFY_WHY])
{
    struct walk w = {.f = {.e = e, .unit = unit, .why = why}};
    size_t bytes;
    bool is_good;

    for (unsigned i = 0; i < 2; i++) {
        w.bytes[i] = (size_t)(unit->range[i].to - unit->range[i].from);
    }
    bytes = w.bytes[0] + w.bytes[1];
    w.place_room = (uint32_t)(bytes / 2 + 16); /* few instructions are one byte long */
    w.index = calloc(bytes + 1, sizeof(*w.index));
    w.list = calloc(bytes + 1, sizeof(*w.list));
    w.places = malloc(w.place_room * sizeof(*w.places));
    is_good = w.index && w.list && w.places ? walk_all(&w) : verify_refuse(&w.f, "out of memory");
    free(w.index);
    free(w.list);
    free(w.places);
    return is_good;
}

/* All ways into the block, but those that are not code yet. */
static void list_ways(const struct block *b, const uint8_t *ways[static VERIFY_WAYS])
{
    const struct emit_code *c = b->code;

    if (!c) {
        return; /* it has been translated as a part of another only */
    }
    for (unsigned i = 0; i < 2 * ENTRY_COUNT; i++) {
        ways[i] = c->at[i / ENTRY_COUNT][i % ENTRY_COUNT];
    }
    ways[2 * ENTRY_COUNT] = c->body;
    ways[2 * ENTRY_COUNT + 1] = c->leave;
}

bool verify_emitted(struct vcpu *v, const struct block *b, const struct asm_buf *hot,
                    const struct asm_buf *cold, const uint8_t *start)
{
    const struct emit_cache *e = v->emit;
    struct verify_unit unit = {.range = {{hot->at, e->buf.at}, {cold->at, e->cold.at}},
                               .block = b,
                               .is_user = b->mode_key & MODE_KEY_USER};
    char why[VERIFY_WHY];

    if (!e->is_verified) {
        return true;
    }
    list_ways(b, unit.also);
    unit.start[0] = start;
    for (unsigned i = 0; i < VERIFY_WAYS && !start; i++) {
        bool is_new = unit.also[i] && ((unit.also[i] >= hot->at && unit.also[i] < e->buf.at) ||
                                       (unit.also[i] >= cold->at && unit.also[i] < e->cold.at));

        unit.start[i] = is_new ? unit.also[i] : NULL;
    }
    if (verify_code(e, &unit, why)) {
        return true;
    }
    v->broken = true;
    (void)snprintf(v->why, sizeof(v->why), "translated code at 0x%llx refused: %s",
                   (unsigned long long)b->rip, why);
    return false;
}
