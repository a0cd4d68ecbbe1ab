/* main.c — build/test/vm: the same small guests on either backend.
 *
 * Usage: vm [--engine soft|kvm] [FILTER]; EC1_ENGINE names the engine too.
 */
#include <stdlib.h>

#include "hv/kvm/kvm.h"
#include "hv/soft/soft.h"
#include "tests/vm/guest.h"

static struct CMUnitTest g_tests[256];
static size_t g_count;
const struct hv_ops *g_ops;

void test_register(const char *name, void (*fn)(void **state))
{
    if (g_count == ARRAY_LEN(g_tests)) {
        abort();
    }
    g_tests[g_count++] = (struct CMUnitTest){.name = name, .test_func = fn};
}

static int choose(const char *engine)
{
    struct err err = {0};

    g_ops = strcmp(engine, "kvm") == 0    ? &hv_kvm_ops
            : strcmp(engine, "soft") == 0 ? &hv_soft_ops
                                          : NULL;
    if (!g_ops) {
        print_error("vm: engine '%s': must be soft or kvm\n", engine);
        return -1;
    }
    if (g_ops->probe(&err) < 0) {
        print_error("vm: %s\n", err_text(&err));
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *engine = getenv("EC1_ENGINE");
    char filter[256];
    int arg = 1;

    if (argc > 2 && strcmp(argv[1], "--engine") == 0) {
        engine = argv[2];
        arg = 3;
    }
    if (choose(engine ? engine : "soft") < 0) {
        return 2;
    }
    if (argc > arg) {
        (void)snprintf(filter, sizeof(filter), "*%s*", argv[arg]);
        cmocka_set_test_filter(filter);
    }
    return _cmocka_run_group_tests("vm", g_tests, g_count, NULL, NULL);
}
