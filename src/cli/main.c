/* main.c — `ec1 <subcommand>`: find it, run it, exit with its status. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/cmd.h"

#define EC1_VERSION "0.1.0"

static const struct {
    const char *name;
    const char *usage;
    const char *help;
    int (*run)(int argc, char **argv);
} g_commands[] = {
#define X(name, usage, help) {#name, usage, help, cmd_##name},
    CMD_LIST(X)
#undef X
};

int cmd_fail(const struct err *err)
{
    log_error("%s", err_text(err));
    return STATUS_FAILED;
}

void cmd_usage(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(g_commands); i++) {
        if (strcmp(name, g_commands[i].name) == 0) {
            (void)printf("usage: ec1 %s %s\n\n%s\n\n", name, g_commands[i].usage,
                         g_commands[i].help);
        }
    }
}

static void help(FILE *to)
{
    (void)fprintf(to, "usage: ec1 COMMAND ...\n\n"
                      "Virtual machines as easy and as fast as containers.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(g_commands); i++) {
        (void)fprintf(to, "  %-8s %s\n", g_commands[i].name, g_commands[i].help);
    }
    (void)fprintf(to, "\n`ec1 COMMAND --help` lists the flags of a command.\n");
}

int main(int argc, char **argv)
{
    cmd_begin();
    if (argc > 0 && str_has_prefix(basename(argv[0]), "firecracker")) {
        return cmd_api(argc, argv);
    }
    if (argc > 0 && str_has_prefix(basename(argv[0]), "vimto")) {
        return cmd_vimto(argc, argv);
    }
    if (argc > 0 && str_has_prefix(basename(argv[0]), "seccompiler")) {
        return cmd_seccompiler(argc, argv);
    }
    if (argc < 2) {
        help(stderr);
        return STATUS_FAILED;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        (void)puts("ec1 " EC1_VERSION);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(g_commands); i++) {
        if (strcmp(argv[1], g_commands[i].name) == 0) {
            return g_commands[i].run(argc - 1, argv + 1);
        }
    }
    log_error("unknown command '%s'; `ec1 --help` lists them", argv[1]);
    return STATUS_FAILED;
}
