/* source.c — see source.h. */
#include "seccomp/source.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "codec/json_in.h"
#include "codec/json_lex.h"

/* --- the form --- */

struct source_arg {
    uint8_t index;
    int type; /* enum seccomp_width */
    char *op; /* as it stands: a word, or an object */
    uint64_t val;
    char *comment;
};

struct source_rule {
    char *syscall, *comment;
    struct json_list args;
};

struct source_filter {
    char *default_action, *filter_action; /* as they stand */
    struct json_list rules;
};

static const char *const g_widths[] = {"dword", "qword", NULL};

#define REQUIRED .is_required = true
#define OPTIONAL .is_nullable = true

static const struct json_field g_arg_fields[] = {
    {.name = "index", JSON_AT(struct source_arg, index), .kind = JSON_U8, REQUIRED},
    {.name = "type",
     JSON_AT(struct source_arg, type),
     .kind = JSON_ENUM,
     .names = g_widths,
     REQUIRED},
    {.name = "op", JSON_AT(struct source_arg, op), .kind = JSON_ANY, REQUIRED},
    {.name = "val", JSON_AT(struct source_arg, val), .kind = JSON_U64, REQUIRED},
    {.name = "comment", JSON_AT(struct source_arg, comment), .kind = JSON_STRING, OPTIONAL},
};
static const struct json_type g_arg_type = {"SeccompCondition", sizeof(struct source_arg),
                                            g_arg_fields, ARRAY_LEN(g_arg_fields), true};

static const struct json_field g_rule_fields[] = {
    {.name = "syscall", JSON_AT(struct source_rule, syscall), .kind = JSON_STRING, REQUIRED},
    {.name = "comment", JSON_AT(struct source_rule, comment), .kind = JSON_STRING, OPTIONAL},
    {.name = "args",
     JSON_AT(struct source_rule, args),
     .kind = JSON_LIST,
     .item = JSON_OBJECT,
     .type = &g_arg_type,
     OPTIONAL},
};
static const struct json_type g_rule_type = {"SyscallRule", sizeof(struct source_rule),
                                             g_rule_fields, ARRAY_LEN(g_rule_fields), true};

static const struct json_field g_filter_fields[] = {
    {.name = "default_action",
     JSON_AT(struct source_filter, default_action),
     .kind = JSON_ANY,
     REQUIRED},
    {.name = "filter_action",
     JSON_AT(struct source_filter, filter_action),
     .kind = JSON_ANY,
     REQUIRED},
    {.name = "filter",
     JSON_AT(struct source_filter, rules),
     .kind = JSON_LIST,
     .item = JSON_OBJECT,
     .type = &g_rule_type,
     REQUIRED},
};
static const struct json_type g_filter_type = {"Filter", sizeof(struct source_filter),
                                               g_filter_fields, ARRAY_LEN(g_filter_fields), true};

/* --- words and objects with one number --- */

static const struct {
    const char *text;
    uint32_t action;
} g_actions[] = {
    {"\"allow\"", SECCOMP_RET_ALLOW},
    {"\"trap\"", SECCOMP_RET_TRAP},
    {"\"log\"", SECCOMP_RET_LOG},
    {"\"kill_thread\"", SECCOMP_RET_KILL_THREAD},
    {"\"kill_process\"", SECCOMP_RET_KILL_PROCESS},
};

struct action_number {
    uint16_t errno_value, trace; /* what the kernel passes on has 16 bits */
    bool has_errno, has_trace;
};

static int parse_action(const char *text, uint32_t *ret_action, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "errno",
         JSON_AT(struct action_number, errno_value),
         .kind = JSON_U16,
         JSON_HAS(struct action_number, has_errno)},
        {.name = "trace",
         JSON_AT(struct action_number, trace),
         .kind = JSON_U16,
         JSON_HAS(struct action_number, has_trace)},
    };
    static const struct json_type type = {"SeccompAction", sizeof(struct action_number), fields,
                                          ARRAY_LEN(fields), true};
    struct action_number number = {0};

    for (size_t i = 0; i < ARRAY_LEN(g_actions); i++) {
        if (strcmp(text, g_actions[i].text) == 0) {
            *ret_action = g_actions[i].action;
            return 0;
        }
    }
    if (text[0] != '{' || json_in(text, strlen(text), &type, &number, err) < 0 ||
        number.has_errno == number.has_trace) {
        return err_set(err, -EINVAL,
                       "action %.100s: must be \"allow\", \"trap\", \"log\", \"kill_thread\", "
                       "\"kill_process\", {\"errno\": n} or {\"trace\": n} with n up to 65535",
                       text);
    }
    *ret_action = number.has_errno ? SECCOMP_RET_ERRNO | number.errno_value
                                   : SECCOMP_RET_TRACE | number.trace;
    return 0;
}

struct op_mask {
    uint64_t mask;
};

static int parse_op(const char *text, struct seccomp_arg *arg, struct err *err)
{
    static const struct {
        const char *text;
        enum seccomp_op op;
    } words[] = {
#define X(name, word) {"\"" word "\"", SECCOMP_##name},
        SECCOMP_OP_LIST(X)
#undef X
    };
    static const struct json_field fields[] = {
        {.name = "masked_eq", JSON_AT(struct op_mask, mask), .kind = JSON_U64, REQUIRED}};
    static const struct json_type type = {"SeccompCmpOp", sizeof(struct op_mask), fields, 1, true};
    struct op_mask mask;

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(text, words[i].text) == 0) {
            arg->op = words[i].op;
            return 0;
        }
    }
    if (text[0] != '{' || json_in(text, strlen(text), &type, &mask, err) < 0) {
        return err_set(err, -EINVAL,
                       "op %.100s: must be \"eq\", \"ne\", \"ge\", \"gt\", \"le\", \"lt\" or "
                       "{\"masked_eq\": mask}",
                       text);
    }
    arg->op = SECCOMP_MASKED_EQ;
    arg->mask = mask.mask;
    return 0;
}

/* --- from the form to rules --- */

#define SYSCALL_ARGS 6

struct arch {
    const char *name;
    uint32_t audit, scmp;
};

static const struct arch g_arches[] = {
    {"x86_64", AUDIT_ARCH_X86_64, SCMP_ARCH_X86_64},
    {"aarch64", AUDIT_ARCH_AARCH64, SCMP_ARCH_AARCH64},
};

static const struct arch *find_arch(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(g_arches); i++) {
        if (strcmp(g_arches[i].name, name) == 0) {
            return &g_arches[i];
        }
    }
    return NULL;
}

static int take_args(const struct source_rule *from, struct seccomp_rule *to, struct err *err)
{
    const struct source_arg *source = from->args.items;
    struct seccomp_arg *args;

    if (from->args.count == 0) {
        return 0;
    }
    args = calloc(from->args.count, sizeof(*args));
    if (!args) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    to->args = args;
    to->arg_count = (unsigned)from->args.count;
    for (size_t i = 0; i < from->args.count; i++) {
        int r = 0;

        if (source[i].index >= SYSCALL_ARGS) {
            r = err_set(err, -EINVAL, "index %u: must be 0 to %d", source[i].index,
                        SYSCALL_ARGS - 1);
        }
        args[i].index = source[i].index;
        args[i].width = (enum seccomp_width)source[i].type;
        args[i].value = source[i].val;
        r = r < 0 ? r : parse_op(source[i].op, &args[i], err);
        if (r < 0) {
            return err_wrap(err, r, "argument %zu", i);
        }
    }
    return 0;
}

/* What is made, and of what kind. */
struct job {
    const struct arch *arch;
    bool is_basic;
    struct seccomp_container *to;
};

static int take_rule(const struct job *job, const struct source_rule *from, struct seccomp_rule *to,
                     struct err *err)
{
    int number = seccomp_syscall_resolve_name_arch(job->arch->scmp, from->syscall);

    if (number < 0) { /* unknown, or of other machines */
        return err_set(err, -EINVAL, "no such system call on %s", job->arch->name);
    }
    to->syscall = (uint32_t)number;
    return job->is_basic ? 0 : take_args(from, to, err);
}

static void free_rules(struct seccomp_rule *rules, size_t count)
{
    for (size_t i = 0; rules && i < count; i++) {
        free((void *)(uintptr_t)rules[i].args);
    }
    free(rules);
}

static int compile(const struct job *job, const struct source_filter *source,
                   struct seccomp_program *ret_program, struct err *err)
{
    const struct source_rule *rules = source->rules.items;
    struct seccomp_rule *made = calloc(source->rules.count + 1, sizeof(*made));
    struct seccomp_spec spec = {
        .arch = job->arch->audit, .rules = made, .rule_count = source->rules.count};
    int r = made ? 0 : err_set(err, -ENOMEM, "out of memory");

    for (size_t i = 0; r == 0 && i < spec.rule_count; i++) {
        r = take_rule(job, &rules[i], &made[i], err);
        r = r < 0 ? err_wrap(err, r, "rule %zu, '%.64s'", i, rules[i].syscall) : 0;
    }
    r = r < 0 ? r : parse_action(source->default_action, &spec.otherwise, err);
    r = r < 0 ? r : parse_action(source->filter_action, &spec.match, err);
    if (r == 0 && spec.match == spec.otherwise) {
        r = err_set(err, -EINVAL, "default_action and filter_action are the same");
    }
    if (r == 0) {
        r = seccomp_compile(&spec, ret_program, err);
    }
    free_rules(made, source->rules.count);
    return r;
}

/* --- the threads --- */

static int check_name(const struct seccomp_container *container, const struct buf *name,
                      struct err *err)
{
    if (name->len == 0 || name->len > SECCOMP_NAME_MAX || strlen(buf_str(name)) != name->len) {
        return err_set(err, -EINVAL, "thread '%.64s': a name has 1 to %d bytes, none of them zero",
                       buf_str(name), SECCOMP_NAME_MAX);
    }
    for (unsigned i = 0; i < container->count; i++) {
        if (strcmp(container->filters[i].name, buf_str(name)) == 0) {
            return err_set(err, -EINVAL, "thread '%s' is there twice", buf_str(name));
        }
    }
    return container->count < SECCOMP_COUNT_MAX
               ? 0
               : err_set(err, -E2BIG, "more than %d threads", SECCOMP_COUNT_MAX);
}

/* `text` is the thread's filter. */
static int add_filter(const struct job *job, const char *name, const char *text, size_t len,
                      struct err *err)
{
    struct seccomp_filter *filter = &job->to->filters[job->to->count];
    struct source_filter source = {0};
    int r = json_in(text, len, &g_filter_type, &source, err);

    *filter = (struct seccomp_filter){0};
    (void)snprintf(filter->name, sizeof(filter->name), "%s", name);
    if (r == 0) {
        r = compile(job, &source, &filter->program, err);
    }
    if (r == 0) {
        job->to->count++;
    }
    json_in_free(&g_filter_type, &source);
    return r < 0 ? err_wrap(err, r, "thread '%s'", name) : 0;
}

static int take_thread(const struct job *job, struct json_reader *in)
{
    AUTO_CALL(buf_fini) struct buf name = {0};
    struct json_found found = {0};
    size_t start;
    int r = json_take_key(in, &name);

    if (r == 0) {
        r = check_name(job->to, &name, in->err);
    }
    if (r == 0) {
        r = json_take_colon(in);
    }
    if (r < 0) {
        return r;
    }
    (void)json_peek(in);
    start = in->at;
    r = json_take_any(in, &found);
    buf_fini(&found.string);
    return r < 0 ? r : add_filter(job, buf_str(&name), in->text + start, in->at - start, in->err);
}

static int take_threads(const struct job *job, struct json_reader *in)
{
    int r = json_peek(in) == '{' ? json_enter(in) : json_fail_peek(in, "expected a JSON object");

    for (bool first = true; r == 0; first = false) {
        r = json_next(in, '}', first);
        if (r <= 0) {
            break;
        }
        r = take_thread(job, in);
    }
    return r == 0 && json_peek(in) >= 0 ? json_fail_peek(in, "trailing characters") : r;
}

int seccomp_source_compile(const char *text, size_t len,
                           const struct seccomp_source_options *options,
                           struct seccomp_container *container, struct err *err)
{
    const struct job job = {
        .arch = find_arch(options->arch), .is_basic = options->is_basic, .to = container};
    struct json_reader in = {.text = text, .len = len, .err = err};
    int r;

    container->count = 0;
    if (!job.arch) {
        return err_set(err, -EINVAL, "architecture '%s': must be x86_64 or aarch64", options->arch);
    }
    r = take_threads(&job, &in);
    if (r < 0) {
        seccomp_container_fini(container);
    }
    return r;
}
