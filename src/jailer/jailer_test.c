/* jailer_test.c — words, what is wrong with some, cgroups in trees that are folders, libraries of
 * this very program. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/buf.h"
#include "jailer/cgroup.h"
#include "jailer/libraries.h"
#include "jailer/options.h"
#include "jailer/plan.h"
#include "tests/lib/test.h"

#define WORDS_MAX 20

static int parse(const char *const *words, struct jailer_options *options, struct err *err)
{
    static char *argv[WORDS_MAX + 2];
    static char name[] = "jailer";
    int argc = 0;

    argv[argc++] = name;
    for (; *words; words++) {
        argv[argc++] = (char *)(uintptr_t)*words;
    }
    argv[argc] = NULL;
    return jailer_options_parse(argc, argv, options, err);
}

TEST(jailer_options, words_up_to_two_dashes_are_ours)
{
    static const char *const words[] = {
        "--id",        "a",  "--exec-file", "f",     "--uid",    "1",
        "--gid",       "2",  "--cgroup",    "a.b=1", "--cgroup", "a.c=2",
        "--daemonize", "--", "--api-sock",  "s",     NULL};
    struct jailer_options options;
    struct err err = {0};

    CHECK_OK(parse(words, &options, &err), &err);
    CHECK_STR(options.chroot_base, "/srv/jailer");
    CHECK_INT(options.cgroups.count, 2);
    CHECK_STR(options.cgroups.items[1], "a.c=2");
    CHECK(options.daemonize && !options.new_pid_ns);
    CHECK_STR(options.rest[0], "--api-sock");
    CHECK(!options.rest[2]);
}

#define REQUIRED "--id", "a", "--exec-file", "/bin/true", "--uid", "1", "--gid", "2"

TEST(jailer_options, bad_words_are_told)
{
    static const struct {
        const char *words[WORDS_MAX], *error;
    } bad[] = {
        {{"--id", "a"}, "Argument 'exec-file' required, but not found."},
        {{REQUIRED, "--id", "b"}, "The argument 'id' was provided more than once."},
        {{REQUIRED, "--netns"}, "The argument 'netns' requires a value, but none was supplied."},
        {{REQUIRED, "--netns", "--daemonize"}, "The argument 'netns' requires a value"},
        {{REQUIRED, "word"}, "Found argument 'word' which wasn't expected"},
        {{REQUIRED, "--id=c"}, "Found argument 'id=c' which wasn't expected"},
    };

    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct jailer_options options;
        struct err err = {0};

        CHECK_INT(parse(bad[i].words, &options, &err), -EINVAL);
        CHECK_HAS(err_text(&err), bad[i].error);
    }
}

static int plan_of(const char *const *words, struct jailer_plan *plan, struct err *err)
{
    struct jailer_options options;

    CHECK_OK(parse(words, &options, err), err);
    return jailer_plan(&options, plan, err);
}

TEST(jailer_plan, what_is_asked_for_is_checked)
{
    static const char *const words[] = {
        REQUIRED,   "--chroot-base-dir", "/tmp", "--resource-limit", "fsize=4096",
        "--cgroup", "cpuset.cpus=0-1",   NULL};
    static struct jailer_plan plan;
    struct err err = {0};

    CHECK_OK(plan_of(words, &plan, &err), &err);
    CHECK_STR(plan.exec_name, "true");
    CHECK_STR(plan.root, "/tmp/true/a/root");
    CHECK_INT(plan.file_size, 4096);
    CHECK_INT(plan.no_file, 2048);
    CHECK_STR(plan.parent_cgroup, "true");
    CHECK_STR(plan.cgroups[0].controller, "cpuset");
    CHECK_STR(plan.cgroups[0].file, "cpuset.cpus");
    CHECK_STR(plan.cgroups[0].value, "0-1");
}

TEST(jailer_plan, what_is_wrong_is_told)
{
    static const struct {
        const char *option, *value, *error;
    } bad[] = {
        {"--resource-limit", "no-file=", "Invalid limit value for resource: no-file: cannot parse"},
        {"--resource-limit", "fsize=18446744073709551616", "fsize: number too large"},
        {"--resource-limit", "fsizes=1", "Invalid resource argument: fsizes"},
        {"--cgroup", "=1", "Invalid format for cgroups: =1"},
        {"--cgroup", "a.b=1=2", "Invalid format for cgroups: a.b=1=2"},
        {"--cgroup", "ab=1", "Cgroup invalid file: ab"},
        {"--cgroup", ".b=1", "Cgroup invalid file: .b"},
        {"--cgroup", "a.=1", "Cgroup invalid file: a."},
        {"--parent-cgroup", "./a", "Parent cgroup path is invalid."},
        {"--parent-cgroup", "a/..", "Parent cgroup path is invalid."},
        {"--cgroup-version", "", " is an invalid cgroup version specifier"},
    };

    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        const char *words[] = {REQUIRED,      "--chroot-base-dir", "/tmp",
                               bad[i].option, bad[i].value,        NULL};
        static struct jailer_plan plan;
        struct err err = {0};

        CHECK(plan_of(words, &plan, &err) < 0);
        CHECK_HAS(err_text(&err), bad[i].error);
    }
}

/* --- cgroups --- */

static char g_tree[64];

static void put(const char *path, const char *text)
{
    char full[256];
    FILE *file;

    (void)snprintf(full, sizeof(full), "%s/%s", g_tree, path);
    for (char *at = full + strlen(g_tree) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(full, 0755);
        *at = '/';
    }
    file = fopen(full, "we");
    CHECK(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static void check_is(const char *path, const char *text)
{
    struct buf got = {0};
    char full[256];

    (void)snprintf(full, sizeof(full), "%s/%s", g_tree, path);
    CHECK_INT(buf_read_file(&got, full, 1000), 0);
    CHECK_STR(buf_str(&got), text);
    buf_fini(&got);
}

static void new_tree(void)
{
    (void)snprintf(g_tree, sizeof(g_tree), "/tmp/ec1-jailer-XXXXXX");
    CHECK(mkdtemp(g_tree));
}

static void remove_tree(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -r %s", g_tree);
    CHECK_INT(system(command), 0);
}

static void set_cgroup(struct jailer_plan *plan, const char *controller, const char *file,
                       const char *value)
{
    struct jailer_cgroup *to = &plan->cgroups[plan->cgroup_count++];

    (void)snprintf(to->controller, sizeof(to->controller), "%s", controller);
    (void)snprintf(to->file, sizeof(to->file), "%s", file);
    to->value = value;
}

TEST(jailer_cgroup, version_1_has_a_tree_for_each_controller)
{
    static struct jailer_plan plan;
    char mounts[512], pid[16];
    struct err err = {0};

    plan = (struct jailer_plan){.id = "vm", .parent_cgroup = "up/er", .cgroup_version = 1};
    new_tree();
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    (void)snprintf(mounts, sizeof(mounts),
                   "cgroup %s/cpu cgroup rw,cpuacct,cpu 0 0\nsysfs /sys sysfs rw,cpuset 0 0\n"
                   "cgroup %s/cpuset cgroup rw,cpuset 0 0\n",
                   g_tree, g_tree);
    put("cpuset/cpuset.cpus", "0-7\n");
    put("cpuset/cpuset.mems", "0\n");
    put("cpuset/up/cpuset.cpus", "");
    put("cpuset/up/cpuset.mems", "");
    put("cpuset/up/er/cpuset.cpus", "0-3\n"); /* somebody set these */
    put("cpuset/up/er/cpuset.mems", "");
    put("cpuset/up/er/vm/cpuset.cpus", "");
    put("cpuset/up/er/vm/cpuset.mems", "");
    put("cpuset/up/er/vm/tasks", "");
    put("cpu/up/er/vm/cpu.shares", "");
    put("cpu/up/er/vm/tasks", "");
    set_cgroup(&plan, "cpuset", "cpuset.cpus", "1");
    set_cgroup(&plan, "cpu", "cpu.shares", "512");
    CHECK_OK(jailer_cgroups(&plan, mounts, &err), &err);
    check_is("cpuset/up/cpuset.cpus", "0-7");
    check_is("cpuset/up/er/cpuset.cpus", "0-3\n");
    check_is("cpuset/up/er/vm/cpuset.cpus", "1-3"); /* a file is not emptied, as one of a cgroup */
    check_is("cpuset/up/er/vm/cpuset.mems", "0");
    check_is("cpuset/up/er/vm/tasks", pid);
    check_is("cpu/up/er/vm/cpu.shares", "512");
    check_is("cpu/up/er/vm/tasks", pid);
    set_cgroup(&plan, "blkio", "blkio.weight", "1");
    CHECK_INT(jailer_cgroups(&plan, mounts, &err), -ENOENT);
    CHECK_HAS(err_text(&err), "Hierarchy not found: blkio");
    remove_tree();
}

TEST(jailer_cgroup, version_2_passes_controllers_down)
{
    static struct jailer_plan plan;
    char mounts[256], pid[16];
    struct err err = {0};

    plan = (struct jailer_plan){.id = "vm", .parent_cgroup = "up", .cgroup_version = 2};
    new_tree();
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    (void)snprintf(mounts, sizeof(mounts), "cgroup2 %s cgroup2 rw 0 0\n", g_tree);
    put("cgroup.controllers", "cpu memory\n");
    put("cgroup.subtree_control", "");
    put("up/cgroup.subtree_control", "");
    put("up/cgroup.procs", "");
    put("up/vm/memory.max", "");
    put("up/vm/cgroup.procs", "");
    CHECK_OK(jailer_cgroups(&plan, mounts, &err), &err); /* nobody asked for anything */
    check_is("up/cgroup.procs", "");
    plan.has_parent_cgroup = true;
    CHECK_OK(jailer_cgroups(&plan, mounts, &err), &err);
    check_is("up/cgroup.procs", pid);
    set_cgroup(&plan, "memory", "memory.max", "4096");
    CHECK_OK(jailer_cgroups(&plan, mounts, &err), &err);
    check_is("cgroup.subtree_control", "+memory");
    check_is("up/cgroup.subtree_control", "+memory");
    check_is("up/vm/memory.max", "4096");
    check_is("up/vm/cgroup.procs", pid);
    set_cgroup(&plan, "mem", "mem.x", "1"); /* no part of a name is one */
    CHECK_INT(jailer_cgroups(&plan, mounts, &err), -ENOENT);
    CHECK_HAS(err_text(&err), "Controller mem is unavailable");
    CHECK_INT(jailer_cgroups(&plan, "", &err), -ENOENT);
    CHECK_HAS(err_text(&err), "No hierarchy found for this cgroup version.");
    remove_tree();
}

/* --- libraries --- */

static bool has(const struct jailer_libraries *libraries, const char *part)
{
    for (unsigned i = 0; i < libraries->count; i++) {
        if (strstr(libraries->items[i].path, part)) {
            return true;
        }
    }
    return false;
}

TEST(jailer_libraries, a_program_runs_where_there_is_nothing_else)
{
    struct jailer_libraries *libraries = calloc(1, sizeof(*libraries));
    struct err err = {0};
    int status = -1;
    pid_t pid;

    CHECK(libraries);
    CHECK_OK(jailer_libraries_open("/bin/true", libraries, &err), &err);
    CHECK(has(libraries, "/ld-linux-x86-64.so.2") && has(libraries, "/libc.so.6"));
    if (geteuid() != 0) {
        SKIP("only root may change the root directory");
    }
    new_tree();
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (chroot(g_tree) < 0 || jailer_libraries_write(libraries, &err) < 0 ||
            jailer_libraries_write(libraries, &err) < 0) { /* what is there stays */
            _exit(99);
        }
        _exit(access("/lib64/ld-linux-x86-64.so.2", X_OK) < 0);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
    remove_tree();
    jailer_libraries_fini(libraries);
    free(libraries);
}

/* Headers that point anywhere. */
TEST(jailer_libraries, a_broken_program_breaks_nothing)
{
    struct jailer_libraries *libraries = calloc(1, sizeof(*libraries));
    struct buf file = {0};
    unsigned seed = 1;

    CHECK(libraries);
    new_tree();
    CHECK_INT(buf_read_file(&file, "/bin/true", 1u << 24), 0);
    for (unsigned i = 0; i < 300; i++) {
        char path[128];
        struct err err = {0};
        size_t at = (size_t)rand_r(&seed) % 1024; /* ELF and program headers */
        uint8_t before = file.data[at];
        FILE *out;

        (void)snprintf(path, sizeof(path), "%s/program", g_tree);
        file.data[at] = (uint8_t)rand_r(&seed);
        out = fopen(path, "we");
        CHECK(out);
        CHECK_INT(fwrite(file.data, 1, file.len, out), file.len);
        (void)fclose(out);
        (void)jailer_libraries_open(path, libraries, &err);
        jailer_libraries_fini(libraries);
        file.data[at] = before;
    }
    remove_tree();
    buf_fini(&file);
    free(libraries);
}
