/* main.c — run every test that registered itself, or those whose name contains argv[1]. */
#include <signal.h>
#include <stdlib.h>

#include "tests/lib/test.h"

static struct CMUnitTest g_tests[4096];
static size_t g_count;

void test_register(const char *name, void (*fn)(void **state))
{
    if (g_count == sizeof(g_tests) / sizeof(g_tests[0])) {
        abort();
    }
    g_tests[g_count++] = (struct CMUnitTest){.name = name, .test_func = fn};
}

int main(int argc, char **argv)
{
    char filter[256];

    /* Background jobs and nohup start with these ignored, which is inherited and respected. */
    (void)signal(SIGHUP, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGQUIT, SIG_DFL);
    if (argc > 1) {
        (void)snprintf(filter, sizeof(filter), "*%s*", argv[1]);
        cmocka_set_test_filter(filter);
    }
    return _cmocka_run_group_tests(argv[0], g_tests, g_count, NULL, NULL);
}
