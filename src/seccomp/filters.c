/* filters.c — see filters.h. */
#include "seccomp/filters.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"
#include "base/os_error.h"
#include "seccomp/allow.h"
#include "seccomp/container.h"

/* Bytes of a file of filters: the interface's limit. */
#define FILE_MAX 100000

static const char *const g_threads[] = {
#define X(name, text) text,
    SECCOMP_THREAD_LIST(X)
#undef X
};

void seccomp_filters_fini(struct seccomp_filters *filters)
{
    for (unsigned i = 0; i < SECCOMP_THREAD_COUNT; i++) {
        seccomp_program_fini(&filters->programs[i]);
    }
}

/* --- our own --- */

static int compile_lists(enum seccomp_thread thread, struct seccomp_program *ret_program,
                         struct err *err)
{
    struct seccomp_allow_list lists[SECCOMP_LISTS_MAX];
    unsigned count = seccomp_allow_lists(thread, lists);
    AUTO_FREE struct seccomp_rule *rules = NULL;
    struct seccomp_spec spec = {
        .match = SECCOMP_RET_ALLOW, .otherwise = SECCOMP_RET_TRAP, .arch = AUDIT_ARCH_X86_64};

    for (unsigned i = 0; i < count; i++) {
        spec.rule_count += lists[i].count;
    }
    rules = calloc(spec.rule_count + 1, sizeof(*rules));
    if (!rules) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    for (size_t i = 0, at = 0; i < count; i++) {
        memcpy(rules + at, lists[i].rules, lists[i].count * sizeof(*rules));
        at += lists[i].count;
    }
    spec.rules = rules;
    return seccomp_compile(&spec, ret_program, err);
}

int seccomp_filters_default(struct seccomp_filters *ret_filters, struct err *err)
{
    struct seccomp_filters filters = {0};
    int r = 0;

    for (unsigned i = 0; r == 0 && i < SECCOMP_THREAD_COUNT; i++) {
        r = compile_lists(i, &filters.programs[i], err);
    }
    if (r < 0) {
        seccomp_filters_fini(&filters);
        return r;
    }
    *ret_filters = filters;
    return 0;
}

/* --- from a file --- */

static int find_thread(const char *name)
{
    for (int i = 0; i < SECCOMP_THREAD_COUNT; i++) {
        if (strcasecmp(name, g_threads[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static int check_threads(const struct seccomp_container *container, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf others = {0};
    unsigned seen = 0;

    for (unsigned i = 0; i < container->count; i++) {
        int thread = find_thread(container->filters[i].name);

        if (thread < 0) {
            buf_printf(&others, others.len ? ",%s" : "%s", container->filters[i].name);
        } else if (seen >> thread & 1) {
            return err_set(err, -EINVAL,
                           "Filter deserialization failed: thread category %s is there twice",
                           g_threads[thread]);
        } else {
            seen |= 1u << thread;
        }
    }
    if (others.len > 0) {
        return err_set(err, -EINVAL, "Invalid thread categories: %s", buf_str(&others));
    }
    for (unsigned i = 0; i < SECCOMP_THREAD_COUNT; i++) {
        if (!(seen >> i & 1)) {
            return err_set(err, -EINVAL, "Missing thread category: %s", g_threads[i]);
        }
    }
    return 0;
}

int seccomp_filters_load(const char *path, struct seccomp_filters *ret_filters, struct err *err)
{
    AUTO_CALL(buf_fini) struct buf file = {0};
    AUTO_FREE struct seccomp_container *container = calloc(1, sizeof(*container));
    struct err why = {0};
    char text[OS_ERROR_MAX];
    int r = container ? buf_read_file(&file, path, FILE_MAX) : -ENOMEM;

    if (r == -EFBIG) {
        return err_set(err, r, "Filter deserialization failed: more than %d bytes", FILE_MAX);
    }
    if (r < 0) {
        return err_set(err, r, "Filter file open error: %s", os_error(r, text));
    }
    r = seccomp_container_read(file.data, file.len, container, &why);
    if (r < 0) {
        return err_set(err, r, "Filter deserialization failed: %s", err_text(&why));
    }
    r = check_threads(container, err);
    for (unsigned i = 0; r == 0 && i < container->count; i++) {
        struct seccomp_program *from = &container->filters[i].program;

        ret_filters->programs[find_thread(container->filters[i].name)] = *from;
        *from = (struct seccomp_program){0};
    }
    seccomp_container_fini(container);
    return r;
}

/* --- at work --- */

/* Heaps that threads share, beyond which they take turns. */
#define HEAPS_MAX 64

void seccomp_filters_prepare(void)
{
    /* Else malloc() in a ninth thread reads from /sys how many CPUs there are. */
    (void)mallopt(M_ARENA_MAX, HEAPS_MAX);
    tzset(); /* else the first localtime_r() reads /etc/localtime */
}

int seccomp_filters_install(const struct seccomp_filters *filters, enum seccomp_thread thread,
                            struct err *err)
{
    const struct seccomp_program *program = &filters->programs[thread];
    struct sock_fprog fprog = {.len = (unsigned short)program->len, .filter = program->code};

    if (program->len == 0) {
        return 0;
    }
    /* Without it only a privileged process may install filters; and what it ran would keep them. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return err_sys(err, "forbid new privileges");
    }
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog) < 0) {
        return err_sys(err, "install the system call filter '%s'", g_threads[thread]);
    }
    return 0;
}
