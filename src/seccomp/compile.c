/* compile.c — see compile.h.
 *
 * Theory of operation.  A program begins with the architecture and the call's number.  Then each
 * call has an entry: "not this one" skips to the next.  An entry without conditions is the answer;
 * one with conditions is a chain of rules, each of which leaves for the next rule at the first
 * condition that does not hold.  Behind the last rule, and behind the last entry, stands the other
 * answer.
 *
 * Arguments have 64 bits, the machine 32: a qword is compared by halves, the upper first.  The
 * distance of a conditional jump has 8 bits and rules may be long, so a condition that fails goes
 * over an unconditional jump, whose distance has 32.
 */
#include "seccomp/compile.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/auto.h"

#define LOAD(offset)        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define JUMP(op, k, jt, jf) BPF_JUMP(BPF_JMP | (op) | BPF_K, (k), (jt), (jf))
#define RETURN(action)      BPF_STMT(BPF_RET | BPF_K, (action))

#define FIELD(name) (uint32_t) offsetof(struct seccomp_data, name)

struct emitter {
    struct seccomp_program *to;
    bool is_full;
};

static size_t put(struct emitter *e, struct sock_filter insn)
{
    if (e->to->len == BPF_MAXINSNS) {
        e->is_full = true;
        return 0;
    }
    e->to->code[e->to->len] = insn;
    return e->to->len++;
}

#define PUT(e, insn) (void)put((e), (struct sock_filter)insn)

/* A jump whose target is not known yet. */
static size_t put_jump(struct emitter *e)
{
    return put(e, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
}

/* The jump at `from` goes to what comes next. */
static void land(struct emitter *e, size_t from)
{
    e->to->code[from].k = (uint32_t)(e->to->len - from - 1);
}

/* --- one condition --- */

/* What there is to compare with: the others are the opposite of one of these. */
struct comparison {
    uint16_t op;
    bool is_opposite;
};

static struct comparison comparison(enum seccomp_op op)
{
    switch (op) {
    case SECCOMP_NE: return (struct comparison){BPF_JEQ, true};
    case SECCOMP_GE: return (struct comparison){BPF_JGE, false};
    case SECCOMP_GT: return (struct comparison){BPF_JGT, false};
    case SECCOMP_LE: return (struct comparison){BPF_JGT, true};
    case SECCOMP_LT: return (struct comparison){BPF_JGE, true};
    case SECCOMP_EQ:
    case SECCOMP_MASKED_EQ: break;
    }
    return (struct comparison){BPF_JEQ, false};
}

/* The argument's lower (half 0) or upper (half 1) 32 bits: x86-64 and aarch64 are little endian. */
static void load_half(struct emitter *e, const struct seccomp_arg *arg, unsigned half)
{
    PUT(e, LOAD((uint32_t)(FIELD(args) + 8u * arg->index + 4u * half)));
    if (arg->op == SECCOMP_MASKED_EQ) {
        PUT(e, BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)(arg->mask >> 32 * half)));
    }
}

/* Does it hold?  If not, the jump whose place is returned is taken, else what comes behind it. */
static size_t put_condition(struct emitter *e, const struct seccomp_arg *arg)
{
    uint64_t value = arg->op == SECCOMP_MASKED_EQ ? arg->value & arg->mask : arg->value;
    struct comparison c = comparison(arg->op);
    /* Over the load and the comparison of the lower half: to that jump, or behind it. */
    uint8_t lower = arg->op == SECCOMP_MASKED_EQ ? 3 : 2;
    uint8_t yes = c.is_opposite ? lower : lower + 1;
    uint8_t no = c.is_opposite ? lower + 1 : lower;

    if (arg->width == SECCOMP_QWORD) {
        load_half(e, arg, 1);
        if (c.op != BPF_JEQ) { /* more there decides; a step further, over the next one */
            PUT(e, JUMP(BPF_JGT, (uint32_t)(value >> 32), yes + 1, 0));
        }
        PUT(e, JUMP(BPF_JEQ, (uint32_t)(value >> 32), 0, no));
    }
    load_half(e, arg, 0);
    PUT(e, JUMP(c.op, (uint32_t)value, yes - lower, no - lower));
    return put_jump(e);
}

/* --- calls --- */

/* The rule's answer, if all its conditions hold; else on to what comes next. */
static int put_rule(struct emitter *e, const struct seccomp_rule *rule, uint32_t action)
{
    AUTO_FREE size_t *fails = calloc(rule->arg_count + 1, sizeof(*fails));

    if (!fails) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < rule->arg_count; i++) {
        fails[i] = put_condition(e, &rule->args[i]);
    }
    PUT(e, RETURN(action));
    for (unsigned i = 0; i < rule->arg_count; i++) {
        land(e, fails[i]);
    }
    return 0;
}

/* All rules of the call that rule `first` names. */
static int put_call(struct emitter *e, const struct seccomp_spec *spec, size_t first)
{
    uint32_t number = spec->rules[first].syscall;
    size_t other;
    int r = 0;

    if (spec->rules[first].arg_count == 0) {
        PUT(e, JUMP(BPF_JEQ, number, 0, 1));
        PUT(e, RETURN(spec->match));
        return 0;
    }
    PUT(e, JUMP(BPF_JEQ, number, 1, 0));
    other = put_jump(e);
    for (size_t i = first; r == 0 && !e->is_full && i < spec->rule_count; i++) {
        if (spec->rules[i].syscall == number) {
            r = put_rule(e, &spec->rules[i], spec->match);
        }
    }
    PUT(e, RETURN(spec->otherwise));
    land(e, other);
    return r;
}

static bool was_named(const struct seccomp_spec *spec, size_t rule)
{
    for (size_t i = 0; i < rule; i++) {
        if (spec->rules[i].syscall == spec->rules[rule].syscall) {
            return true;
        }
    }
    return false;
}

static int put_all(struct emitter *e, const struct seccomp_spec *spec)
{
    int r = 0;

    PUT(e, LOAD(FIELD(arch)));
    PUT(e, JUMP(BPF_JEQ, spec->arch, 1, 0));
    PUT(e, RETURN(SECCOMP_RET_KILL_PROCESS));
    PUT(e, LOAD(FIELD(nr)));
    for (size_t i = 0; r == 0 && !e->is_full && i < spec->rule_count; i++) {
        if (!was_named(spec, i)) {
            r = put_call(e, spec, i);
        }
    }
    PUT(e, RETURN(spec->otherwise));
    return r == 0 && e->is_full ? -E2BIG : r;
}

int seccomp_compile(const struct seccomp_spec *spec, struct seccomp_program *ret_program,
                    struct err *err)
{
    struct seccomp_program program = {.code = calloc(BPF_MAXINSNS, sizeof(*program.code))};
    struct emitter e = {.to = &program};
    int r = program.code ? put_all(&e, spec) : -ENOMEM;

    if (r < 0) {
        seccomp_program_fini(&program);
        return r == -E2BIG
                   ? err_set(err, r, "%zu rules: make a program of more than %d instructions",
                             spec->rule_count, BPF_MAXINSNS)
                   : err_set(err, r, "out of memory");
    }
    *ret_program = program;
    return 0;
}

void seccomp_program_fini(struct seccomp_program *program)
{
    free(program->code);
    *program = (struct seccomp_program){0};
}

/* --- programs from outside --- */

/* `left`: how many instructions follow. */
static bool is_ours(const struct sock_filter *insn, size_t left)
{
    switch (insn->code) {
    case BPF_LD | BPF_W | BPF_ABS:
        return insn->k % 4 == 0 && insn->k < sizeof(struct seccomp_data) && left > 0;
    case BPF_ALU | BPF_AND | BPF_K: return left > 0;
    case BPF_JMP | BPF_JA: return insn->k < left;
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_K: return insn->jt < left && insn->jf < left;
    case BPF_RET | BPF_K: return true;
    default: return false;
    }
}

int seccomp_check(const struct seccomp_program *program, struct err *err)
{
    if (program->len == 0 || program->len > BPF_MAXINSNS) {
        return err_set(err, -EINVAL, "%zu instructions: must be 1 to %d", program->len,
                       BPF_MAXINSNS);
    }
    for (size_t i = 0; i < program->len; i++) {
        if (!is_ours(&program->code[i], program->len - i - 1)) {
            return err_set(err, -EINVAL, "instruction %zu (0x%x) is none of a filter", i,
                           program->code[i].code);
        }
    }
    return 0;
}
