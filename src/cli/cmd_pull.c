/* cmd_pull.c — `ec1 pull`: an image into the cache; prints where it is. */
#include <errno.h>
#include <stdio.h>

#include "base/bits.h"
#include "cli/args.h"
#include "cli/cmd.h"
#include "cli/progress.h"
#include "image/oci/ref.h"
#include "vmm/kernel_find.h"

struct pull_args {
    bool help;
};

static int set_help(void *owner, const char *text, struct err *err)
{
    (void)text;
    (void)err;
    ((struct pull_args *)owner)->help = true;
    return 0;
}

static const struct arg_option g_options[] = {
    {"help", 'h', NULL, "show this", set_help},
};

static int pull(const char *name, struct err *err)
{
    char cache[KERNEL_PATH_MAX];
    struct progress progress;
    struct oci_tree tree;
    struct oci_ref ref;
    int r = kernel_cache_dir(cache, err);

    if (r == 0) {
        r = oci_ref_parse(name, &ref, err);
    }
    if (r < 0) {
        return r;
    }
    progress_init(&progress);
    r = oci_get(cache, &ref, &progress.oci, &tree, err);
    progress_end(&progress);
    oci_ref_fini(&ref);
    if (r == 0) {
        (void)puts(tree.path);
        oci_tree_fini(&tree);
    }
    return r;
}

int cmd_pull(int argc, char **argv)
{
    struct pull_args args = {0};
    struct err err = {0};
    int first = args_parse(g_options, ARRAY_LEN(g_options), argc, argv, &args, &err);

    if (first < 0) {
        return cmd_fail(&err);
    }
    if (args.help) {
        cmd_usage("pull");
        args_print(g_options, ARRAY_LEN(g_options));
        return 0;
    }
    if (argc - first != 1) {
        (void)err_set(&err, -EINVAL, "pull: name one image");
        return cmd_fail(&err);
    }
    return pull(argv[first], &err) < 0 ? cmd_fail(&err) : 0;
}
