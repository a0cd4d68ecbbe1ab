/* vimto_test.c — .vimto.toml, the folders that a VM shares, names of Go. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "cli/vimto.h"
#include "tests/lib/test.h"

/* A folder of its own below `parent`, and files in it. */
static void make_folder(char *out, size_t size, const char *parent)
{
    (void)snprintf(out, size, "%s/ec1-vimto-XXXXXX", parent);
    CHECK(mkdtemp(out) != NULL);
}

static void make_dir(const char *folder, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    CHECK_INT(mkdir(path, 0755), 0);
}

static void make_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    AUTO_CLOSE int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    CHECK_INT(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void remove_folder(const char *folder)
{
    char command[600];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    CHECK_INT(system(command), 0);
}

static int load(const char *folder, const char *text, const struct vimto_flags *flags,
                struct vimto_config *config, struct err *err)
{
    make_file(folder, ".vimto.toml", text);
    return vimto_config_load(folder, NULL, flags, config, err);
}

TEST(vimto, config_file_and_flags)
{
    static const char text[] = "kernel = \"boot/k\"\nmemory = \"size=96M\"\nsmp = 2\n"
                               "user = \"nobody\"\n"
                               "setup = [\"touch 'a b'\", [\"rm\", \"a b\"]]\nteardown = []\n";
    struct vimto_flags flags = {.kernel = NULL};
    struct vimto_config config;
    struct err err = {0};
    char folder[64];
    char want[128];

    make_folder(folder, sizeof(folder), "/tmp");
    CHECK_INT(load(folder, text, &flags, &config, &err), 0);
    (void)snprintf(want, sizeof(want), "%s/boot/k", folder);
    CHECK_STR(config.kernel, want);
    CHECK_INT(config.mem_bytes, 96 * MIB);
    CHECK_INT(config.vcpu_count, 2);
    CHECK_STR(config.user, "nobody");
    CHECK_INT(config.setup.count, 2);
    CHECK_STR(config.setup.list[0][1], "a b");
    CHECK_STR(config.setup.list[1][0], "rm");
    CHECK(config.setup.list[1][2] == NULL);
    CHECK_INT(config.teardown.count, 0);
    vimto_config_fini(&config);

    flags =
        (struct vimto_flags){.kernel = "/else", .mem_bytes = GIB, .vcpu_count = 3, .sudo = true};
    CHECK_INT(load(folder, text, &flags, &config, &err), 0);
    CHECK_STR(config.kernel, "/else");
    CHECK_INT(config.mem_bytes, GIB);
    CHECK_INT(config.vcpu_count, 3);
    CHECK_STR(config.user, "root");
    vimto_config_fini(&config);

    flags = (struct vimto_flags){.kernel = NULL};
    CHECK_INT(load(folder, "kernel = \"\"\nuser = \"\"\n", &flags, &config, &err), 0);
    CHECK(!config.kernel && !config.user);
    CHECK_INT(config.vcpu_count, 1);
    vimto_config_fini(&config);
    remove_folder(folder);
}

TEST(vimto, bad_config_is_named)
{
    static const struct {
        const char *text, *want;
    } table[] = {
        {"a = 1\nkernel = 2\n[b]\n", "line 1: unknown key 'a', 'b'; there are kernel"},
        {"\nkernel = 2\n", "line 2: kernel: must be a string, not an integer"},
        {"user = []", "line 1: user: must be a string, not an array"},
        {"smp = true", "line 1: smp: must be a string or an integer, not a truth value"},
        {"smp = 0", "line 1: smp '0': must be 1 to"},
        {"\n\nmemory = \"size=1K\"", "line 3: memory '1K': must be"},
        {"setup = \"touch a\"", "line 1: setup: must be an array of commands, not a string"},
        {"setup = [\n1]", "line 2: setup: must be commands: strings"},
        {"setup = [[1]]", "line 1: setup: must be commands of strings, not an integer"},
        {"setup = [\" \"]", "line 1: setup: a command must have a word"},
        {"teardown = [\"a 'b\"]", "line 1: 'a 'b': a quote"},
        {"a = 1\nb", "line 2: '=' is missing behind 'b'"},
    };
    const struct vimto_flags flags = {.kernel = NULL};
    char folder[64];

    make_folder(folder, sizeof(folder), "/tmp");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vimto_config config;
        struct err err = {0};

        CHECK(load(folder, table[i].text, &flags, &config, &err) < 0);
        CHECK_HAS(err.text, table[i].want);
        CHECK_HAS(err.text, "/.vimto.toml': line");
    }
    remove_folder(folder);
}

TEST(vimto, tag_of_the_configured_image)
{
    struct vimto_flags flags = {.kernel = ":new"};
    struct vimto_config config;
    struct err err = {0};
    char folder[64];

    make_folder(folder, sizeof(folder), "/tmp");
    CHECK_INT(load(folder, "kernel='registry.example/a/k:old'", &flags, &config, &err), 0);
    CHECK_STR(config.kernel, "registry.example/a/k:new");
    vimto_config_fini(&config);
    CHECK_INT(load(folder, "kernel='localhost:5000/k'", &flags, &config, &err), 0);
    CHECK_STR(config.kernel, "localhost:5000/k:new");
    vimto_config_fini(&config);
    CHECK_INT(load(folder, "kernel='/boot/k'", &flags, &config, &err), -EINVAL);
    CHECK_HAS(err.text, "kernel ':new': a tag alone needs an image");
    CHECK_INT(load(folder, "", &flags, &config, &err), -EINVAL);
    CHECK_HAS(err.text, "which has none");
    flags.kernel = ":-x";
    CHECK_INT(load(folder, "kernel='registry.example/a/k'", &flags, &config, &err), -EINVAL);
    CHECK_HAS(err.text, "image tag '-x'");
    remove_folder(folder);
}

TEST(vimto, file_of_the_folder_then_of_those_above_it)
{
    const struct vimto_flags flags = {.kernel = NULL};
    struct vimto_config config;
    char root[64];
    char sub[128];
    AUTO_FREE char *found = NULL;

    make_folder(root, sizeof(root), "/tmp");
    make_dir(root, ".git");
    make_dir(root, "a");
    make_dir(root, "a/b");
    (void)snprintf(sub, sizeof(sub), "%s/a/b", root);
    make_file(sub, "go.mod", "");
    found = vimto_find_root(sub);
    CHECK_STR(found, root);
    CHECK_INT(vimto_config_load(sub, root, &flags, &config, NULL), 0);
    CHECK_INT(config.vcpu_count, 1);
    vimto_config_fini(&config);
    make_file(root, ".vimto.toml", "smp=2");
    CHECK_INT(vimto_config_load(sub, root, &flags, &config, NULL), 0);
    CHECK_INT(config.vcpu_count, 2);
    vimto_config_fini(&config);
    make_file(sub, ".vimto.toml", "smp=3");
    CHECK_INT(vimto_config_load(sub, root, &flags, &config, NULL), 0);
    CHECK_INT(config.vcpu_count, 3);
    vimto_config_fini(&config);
    remove_folder(root);
}

TEST(vimto, without_a_repository_the_module_is_the_root)
{
    char root[64];
    char sub[128];
    AUTO_FREE char *found = NULL;

    make_folder(root, sizeof(root), "/tmp");
    make_dir(root, "a");
    make_file(root, "go.mod", "");
    (void)snprintf(sub, sizeof(sub), "%s/a", root);
    found = vimto_find_root(sub);
    CHECK_STR(found, root);
    remove_folder(root);
    CHECK(vimto_find_root("/proc") == NULL);
}

TEST(vimto, kernels_by_name_from_elsewhere)
{
    static const struct {
        const char *text, *want;
    } table[] = {
        {"/boot/k", "/boot/k"},
        {"k", "/dir/k"},
        {"registry.example/a/k", "registry.example/a/k"},
        {"oci:layout:t", "oci:/dir/layout:t"},
        {"oci:/layout", "oci:/layout"},
        {"docker-archive:k.tar", "docker-archive:/dir/k.tar"},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_FREE char *path = vimto_kernel_path("/dir", table[i].text);

        CHECK_STR(path, table[i].want);
    }
}

static void check_shares(const char *cwd, const char *root, char **argv, const char *want)
{
    AUTO_CALL(buf_fini) struct buf out = {0};
    struct vimto_shares shares;

    CHECK_INT(vimto_shares_find(cwd, root, argv, &shares, NULL), 0);
    for (unsigned i = 0; i < shares.count; i++) {
        buf_printf(&out, "%s;", shares.paths[i]);
    }
    vimto_shares_fini(&shares);
    CHECK_STR(buf_str(&out), want);
}

TEST(vimto, the_folder_of_the_fuzzers_finds_is_made)
{
    char folder[64];
    char flag[128];
    char want[128];
    char *argv[] = {(char[]){"true"}, flag, NULL};

    make_folder(folder, sizeof(folder), "/var/tmp");
    (void)snprintf(flag, sizeof(flag), "-test.fuzzcachedir=%s/fuzz/a/b", folder);
    (void)snprintf(want, sizeof(want), "%s/fuzz/a/b;", folder);
    check_shares("/", NULL, argv, want);
    remove_folder(folder);
}

TEST(vimto, nested_shares_are_one)
{
    char folder[64];
    char work[64];
    char program[96];
    char profile[128];
    char want[256];
    char sub[96];
    char *argv[] = {program, (char[]){"-test.run=/usr"}, profile, NULL};

    make_folder(folder, sizeof(folder), "/var/tmp");
    make_folder(work, sizeof(work), "/tmp");
    make_dir(folder, "sub");
    make_file(work, "x.test", "");
    (void)snprintf(sub, sizeof(sub), "%s/sub", folder);
    (void)snprintf(program, sizeof(program), "%s/x.test", work);
    (void)snprintf(profile, sizeof(profile), "-test.cpuprofile=%s/cpu.out", folder);
    (void)snprintf(want, sizeof(want), "%s;%s;", folder, work);
    check_shares(sub, folder, argv, want);
    check_shares(folder, folder, argv, want);
    /* Not in the repository, the flag alone brings the folder in. */
    (void)snprintf(want, sizeof(want), "%s;%s;", work, folder);
    check_shares(work, NULL, argv, want);
    remove_folder(folder);
    remove_folder(work);
}

TEST(vimto, what_the_vm_has_of_its_own_is_no_share)
{
    char *sh[] = {(char[]){"sh"}, NULL};
    char *env[] = {(char[]){"/usr/bin/env"}, NULL};
    char *none[] = {(char[]){"./no/such/program"}, NULL};

    check_shares("/", "/", sh, "");
    check_shares("/proc/self", NULL, env, "");
    check_shares("/sys", NULL, none, "");
    check_shares("/dev/shm", NULL, sh, "/dev/shm;");
}

TEST(vimto, names_of_go)
{
    static const char *const yes[] = {"go",        "/usr/local/go/bin/go", "go1.22", "go1.22.3",
                                      "go1.22rc1", "go1.23beta2",          "gotip"};
    static const char *const no[] = {"gofmt", "go1.22x", "go-1",   "gorc1",
                                     "go1rc", "og",      "golang", ""};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        CHECK(vimto_is_go(yes[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        CHECK(!vimto_is_go(no[i]));
    }
}

TEST(vimto, a_test_binary_that_dumped_core_is_kept)
{
    AUTO_CALL(buf_fini) struct buf file = {0};
    struct err err = {0};
    const char *name = NULL;
    char from[64];
    char to[64];
    char path[128];

    make_folder(from, sizeof(from), "/tmp");
    make_folder(to, sizeof(to), "/tmp");
    make_file(from, "pkg.test", "binary");
    make_file(to, "pkg.test", "an older one");
    (void)snprintf(path, sizeof(path), "%s/pkg.test", from);
    CHECK_OK(vimto_keep_binary(to, path, &name, &err), &err);
    CHECK_STR(name, "pkg.test");
    CHECK_OK(vimto_keep_binary(from, path, &name, &err), &err); /* is there */
    CHECK(name == NULL);
    CHECK_OK(vimto_keep_binary(to, "/bin/sh", &name, &err), &err); /* nobody removes it */
    CHECK(name == NULL);
    CHECK(vimto_keep_binary("/nonexistent", path, &name, &err) < 0);
    CHECK_HAS(err_text(&err), "/nonexistent/pkg.test");
    (void)snprintf(path, sizeof(path), "%s/pkg.test", to);
    CHECK_INT(buf_read_file(&file, path, 64), 0);
    CHECK_STR(buf_str(&file), "binary");
    remove_folder(from);
    remove_folder(to);
}
