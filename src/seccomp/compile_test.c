/* compile_test.c — programs decide as the rules say: for each rule, around its values, and for
 * calls by chance. */
#include <errno.h>
#include <linux/audit.h>
#include <stdlib.h>

#include "base/bits.h"
#include "seccomp/allow.h"
#include "seccomp/bpf_vm.h"
#include "seccomp/compile.h"
#include "seccomp/filters.h"
#include "tests/lib/test.h"

#define NO  SECCOMP_RET_TRAP
#define YES SECCOMP_RET_ALLOW

/* --- what rules mean, written down once more --- */

static bool holds(const struct seccomp_arg *arg, uint64_t given)
{
    uint64_t value = arg->value, mask = arg->mask;

    if (arg->width == SECCOMP_DWORD) {
        given = (uint32_t)given;
        value = (uint32_t)value;
        mask = (uint32_t)mask;
    }
    switch (arg->op) {
    case SECCOMP_EQ: return given == value;
    case SECCOMP_NE: return given != value;
    case SECCOMP_GE: return given >= value;
    case SECCOMP_GT: return given > value;
    case SECCOMP_LE: return given <= value;
    case SECCOMP_LT: return given < value;
    case SECCOMP_MASKED_EQ: return (given & mask) == (value & mask);
    }
    return false;
}

static uint32_t wanted(const struct seccomp_spec *spec, const struct seccomp_data *data)
{
    for (size_t i = 0; i < spec->rule_count; i++) {
        const struct seccomp_rule *rule = &spec->rules[i];
        bool is_match = rule->syscall == (uint32_t)data->nr;

        for (unsigned a = 0; is_match && a < rule->arg_count; a++) {
            is_match = holds(&rule->args[a], data->args[rule->args[a].index]);
        }
        if (is_match) {
            return spec->match;
        }
    }
    return spec->otherwise;
}

static uint32_t answer(const struct seccomp_program *program, const struct seccomp_data *data)
{
    uint32_t action = 0;

    CHECK(bpf_vm_run(program->code, program->len, data, &action));
    return action;
}

/* --- calls to ask for --- */

static uint64_t g_random = 88172645463325252u;

static uint64_t chance(void)
{
    g_random ^= g_random << 13;
    g_random ^= g_random >> 7;
    g_random ^= g_random << 17;
    return g_random;
}

/* A value that is near one that matters. */
static uint64_t near(uint64_t value)
{
    switch (chance() % 8) {
    case 0: return value + 1;
    case 1: return value - 1;
    case 2: return value ^ BIT(chance() % 64);
    case 3: return value | UINT64_C(1) << 32;
    case 4: return (uint32_t)value;
    case 5: return chance();
    default: return value;
    }
}

static void ask(const struct seccomp_spec *spec, const struct seccomp_program *program,
                const struct seccomp_rule *rule)
{
    struct seccomp_data data = {.nr = (int)rule->syscall, .arch = spec->arch};

    for (unsigned i = 0; i < 6; i++) {
        data.args[i] = chance();
    }
    for (unsigned i = 0; i < rule->arg_count; i++) {
        data.args[rule->args[i].index] = near(rule->args[i].value);
    }
    CHECK_INT(answer(program, &data), wanted(spec, &data));
}

/* Around each rule, and anywhere. */
static void check_spec(const struct seccomp_spec *spec, unsigned times)
{
    struct seccomp_program program;
    struct err err = {0};

    CHECK_OK(seccomp_compile(spec, &program, &err), &err);
    CHECK_OK(seccomp_check(&program, &err), &err);
    for (size_t i = 0; i < spec->rule_count; i++) {
        for (unsigned n = 0; n < times; n++) {
            ask(spec, &program, &spec->rules[i]);
        }
    }
    for (unsigned n = 0; n < 1000 * times; n++) {
        struct seccomp_rule any = {.syscall = (uint32_t)(chance() % 512)};

        ask(spec, &program, &any);
    }
    seccomp_program_fini(&program);
}

TEST(seccomp_compile, our_lists_decide_as_they_read)
{
    for (unsigned thread = 0; thread < SECCOMP_THREAD_COUNT; thread++) {
        struct seccomp_allow_list lists[SECCOMP_LISTS_MAX];
        unsigned count = seccomp_allow_lists(thread, lists);
        struct seccomp_rule rules[256];
        struct seccomp_spec spec = {
            .match = YES, .otherwise = NO, .arch = AUDIT_ARCH_X86_64, .rules = rules};

        for (unsigned i = 0; i < count; i++) {
            CHECK(spec.rule_count + lists[i].count <= ARRAY_LEN(rules));
            memcpy(rules + spec.rule_count, lists[i].rules, lists[i].count * sizeof(rules[0]));
            spec.rule_count += lists[i].count;
        }
        check_spec(&spec, 20);
    }
}

/* Few calls and few values, so that rules of one call overlap. */
TEST(seccomp_compile, rules_by_chance_decide_as_they_read)
{
    static const uint64_t values[] = {
        0, 1, 0x80, UINT32_MAX, UINT64_C(1) << 32, (UINT64_C(7) << 32) | 5, UINT64_MAX};
    struct seccomp_arg args[16][4];
    struct seccomp_rule rules[16];

    for (unsigned round = 0; round < 300; round++) {
        struct seccomp_spec spec = {.match = YES,
                                    .otherwise = SECCOMP_RET_ERRNO | 1,
                                    .arch = AUDIT_ARCH_AARCH64,
                                    .rules = rules,
                                    .rule_count = chance() % ARRAY_LEN(rules) + 1};

        for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
            rules[i] = (struct seccomp_rule){
                .syscall = chance() % 5, .arg_count = chance() % 5, .args = args[i]};
            for (unsigned a = 0; a < 4; a++) {
                args[i][a] = (struct seccomp_arg){.index = chance() % 2 ? 0 : chance() % 6,
                                                  .width = chance() % 2,
                                                  .op = chance() % (SECCOMP_MASKED_EQ + 1),
                                                  .value = values[chance() % ARRAY_LEN(values)],
                                                  .mask = chance()};
            }
        }
        check_spec(&spec, 4);
    }
}

TEST(seccomp_compile, other_architectures_end_the_process)
{
    const struct seccomp_spec spec = {.match = NO, .otherwise = YES, .arch = AUDIT_ARCH_X86_64};
    struct seccomp_data data = {.nr = 0, .arch = AUDIT_ARCH_I386};
    struct seccomp_program program;
    struct err err = {0};

    CHECK_OK(seccomp_compile(&spec, &program, &err), &err);
    CHECK_INT(answer(&program, &data), SECCOMP_RET_KILL_PROCESS);
    data.arch = AUDIT_ARCH_X86_64;
    CHECK_INT(answer(&program, &data), YES);
    seccomp_program_fini(&program);
}

/* Numbers of the x32 form are others (bit 30). */
TEST(seccomp_compile, x32_calls_match_no_rule)
{
    const struct seccomp_rule rule = {.syscall = 1};
    const struct seccomp_spec spec = {
        .match = YES, .otherwise = NO, .arch = AUDIT_ARCH_X86_64, .rules = &rule, .rule_count = 1};
    struct seccomp_data data = {.nr = 1 | 1 << 30, .arch = AUDIT_ARCH_X86_64};
    struct seccomp_program program;
    struct err err = {0};

    CHECK_OK(seccomp_compile(&spec, &program, &err), &err);
    CHECK_INT(answer(&program, &data), NO);
    data.nr = 1;
    CHECK_INT(answer(&program, &data), YES);
    seccomp_program_fini(&program);
}

TEST(seccomp_compile, more_rules_than_the_kernel_takes_are_refused)
{
    struct seccomp_rule *rules = calloc(BPF_MAXINSNS, sizeof(*rules));
    struct seccomp_spec spec = {
        .match = YES, .otherwise = NO, .rules = rules, .rule_count = BPF_MAXINSNS};
    struct seccomp_program program;
    struct err err = {0};

    CHECK(rules);
    for (uint32_t i = 0; i < BPF_MAXINSNS; i++) {
        rules[i].syscall = i;
    }
    CHECK_INT(seccomp_compile(&spec, &program, &err), -E2BIG);
    spec.rule_count = (BPF_MAXINSNS - 5) / 2; /* two instructions each, five for the frame */
    CHECK_OK(seccomp_compile(&spec, &program, &err), &err);
    seccomp_program_fini(&program);
    free(rules);
}

TEST(seccomp_check, programs_that_could_fail_are_refused)
{
    static const struct sock_filter ret = BPF_STMT(BPF_RET | BPF_K, YES);
    static const struct sock_filter bad[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 1), /* not aligned */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof(struct seccomp_data)),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_STMT(BPF_LD | BPF_MEM, 0),
        BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_A, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), /* behind the end */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        BPF_STMT(BPF_JMP | BPF_JA, 1),
        BPF_STMT(BPF_JMP | BPF_JA, UINT32_MAX),
        {.code = 0xffff},
    };
    struct sock_filter code[2] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4), ret};
    struct seccomp_program program = {.code = code, .len = 2};
    struct err err = {0};

    CHECK_OK(seccomp_check(&program, &err), &err);
    program.len = 1; /* a load is no end */
    CHECK_INT(seccomp_check(&program, &err), -EINVAL);
    program.len = 0;
    CHECK_INT(seccomp_check(&program, &err), -EINVAL);
    program.len = 2;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        code[0] = bad[i];
        CHECK_INT(seccomp_check(&program, &err), -EINVAL);
    }
    code[0] = code[1] = ret;
    CHECK_OK(seccomp_check(&program, &err), &err);
}
