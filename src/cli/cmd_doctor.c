/* cmd_doctor.c — what this host can do, line by line, each with the way to mend it. */
#include <jansson.h>
#include <stdio.h>

#include "base/bits.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "vmm/host_check.h"

struct doctor_args {
    bool json;
    bool help;
};

static int set_json(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct doctor_args *)owner)->json = true;
    return 0;
}

static int set_help(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct doctor_args *)owner)->help = true;
    return 0;
}

static const struct arg_option g_options[] = {
    {"json", 0, NULL, "as a JSON array", set_json},
    {"help", 'h', NULL, "show this", set_help},
};

static const char *const g_words[] = {
    [HOST_CHECK_OK] = "ok", [HOST_CHECK_NOTE] = "note", [HOST_CHECK_BAD] = "missing"};

int cmd_doctor(int argc, char **argv)
{
    struct doctor_args args = {0};
    struct host_check checks[HOST_CHECK_MAX];
    struct err err = {0};
    json_t *rows;
    unsigned count;
    int status = 0;

    if (args_parse(g_options, ARRAY_LEN(g_options), argc, argv, &args, &err) < 0) {
        return cmd_fail(&err);
    }
    if (args.help) {
        cmd_usage(argv[0]);
        args_print(g_options, ARRAY_LEN(g_options));
        return 0;
    }
    count = host_check_all(checks);
    rows = json_array();
    for (unsigned i = 0; i < count; i++) {
        const struct host_check *c = &checks[i];

        if (c->state == HOST_CHECK_BAD) {
            status = 1;
        }
        if (args.json) {
            (void)json_array_append_new(rows,
                                        json_pack("{s:s, s:s, s:s}", "check", c->name, "state",
                                                  g_words[c->state], "text", c->text));
        } else {
            (void)printf("%-8s %-16s %s\n", g_words[c->state], c->name, c->text);
        }
    }
    if (args.json) {
        (void)json_dumpf(rows, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    }
    json_decref(rows);
    return status;
}
