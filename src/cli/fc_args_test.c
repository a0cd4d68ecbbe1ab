/* fc_args_test.c — the grammar, and the words of its refusals. */
#include <errno.h>

#include "base/bits.h"
#include "cli/fc_args.h"
#include "tests/lib/test.h"

static int parse(const char *const *words, struct fc_args *args, char *debug, struct err *err)
{
    char *argv[8];
    int argc = 0;

    while (words[argc]) {
        argv[argc] = (char *)(uintptr_t)words[argc];
        argc++;
    }
    return fc_args_parse(argc, argv, args, debug, err);
}

TEST(fc_args, words_become_settings)
{
    const char *const words[] = {"--id",   "a-1", "--no-api", "--config-file",
                                 "x.json", "--",  "-z",       NULL};
    struct fc_args args = {0};
    char debug[256];
    struct err err = {0};

    CHECK_OK(parse(words, &args, debug, &err), &err);
    CHECK_STR(args.id, "a-1");
    CHECK(args.no_api);
    CHECK_STR(args.config_file, "x.json");
    CHECK_STR(args.api_sock, "/run/firecracker.socket");
}

TEST(fc_args, refusals_have_their_words)
{
    static const struct {
        const char *words[5];
        const char *text, *debug;
    } cases[] = {
        {{"--nope"},
         "Found argument 'nope' which wasn't expected, or isn't valid in this context.",
         "ParseArguments(UnexpectedArgument(\"nope\"))"},
        {{"bare"},
         "Found argument 'bare' which wasn't expected, or isn't valid in this context.",
         "ParseArguments(UnexpectedArgument(\"bare\"))"},
        {{"--id=x"},
         "Found argument 'id=x' which wasn't expected, or isn't valid in this context.",
         "ParseArguments(UnexpectedArgument(\"id=x\"))"},
        {{"--id"},
         "The argument 'id' requires a value, but none was supplied.",
         "ParseArguments(MissingValue(\"id\"))"},
        {{"--id", "--no-api"},
         "The argument 'id' requires a value, but none was supplied.",
         "ParseArguments(MissingValue(\"id\"))"},
        {{"--id", "a", "--id", "b"},
         "The argument 'id' was provided more than once.",
         "ParseArguments(DuplicateArgument(\"id\"))"},
        {{"--no-api"},
         "Argument 'config-file' required, but not found.",
         "ParseArguments(MissingArgument(\"config-file\"))"},
        {{"--no-seccomp", "--seccomp-filter", "f"},
         "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.",
         "ParseArguments(ForbiddenArgument(\"no-seccomp\", \"seccomp-filter\"))"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fc_args args;
        char debug[256] = "";
        struct err err = {0};

        CHECK_INT(parse(cases[i].words, &args, debug, &err), -EINVAL);
        CHECK_STR(err.text, cases[i].text);
        CHECK_STR(debug, cases[i].debug);
    }
}

TEST(fc_args, help_and_version_win)
{
    const char *const words[] = {"--nope", "bare", "--version", NULL};
    struct fc_args args = {0};
    char debug[256];
    struct err err = {0};

    CHECK_OK(parse(words, &args, debug, &err), &err);
    CHECK(args.wants_version);
    CHECK(!args.wants_help);
}
