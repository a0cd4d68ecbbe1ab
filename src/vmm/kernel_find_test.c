/* kernel_find_test.c — files, folders, defaults, and what is said when there is none. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "vmm/kernel_find.h"

static char g_dir[64];

static void shell(const char *text)
{
    char cmd[512];

    (void)snprintf(g_dir, sizeof(g_dir), "/tmp/ec1-kf-%d", (int)getpid());
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s; mkdir -p %s && cd %s && { %s; }", g_dir, g_dir,
                   g_dir, text);
    CHECK_INT(system(cmd), 0);
    (void)unsetenv("EC1_KERNEL");
    CHECK_INT(setenv("XDG_CACHE_HOME", g_dir, 1), 0);
}

TEST(vmm, the_newest_kernel_of_the_cache_is_the_default)
{
    struct kernel_choice k;
    struct err err = {0};
    char want[128];

    shell("mkdir -p ec1/kernels/default/boot ec1/kernels/default/lib/modules/6.10.0 && cd "
          "ec1/kernels/default/boot && touch vmlinuz-6.9.0 vmlinuz-6.10.0 config-7");
    CHECK_OK(kernel_find(NULL, NULL, &k, &err), &err);
    (void)snprintf(want, sizeof(want), "%s/ec1/kernels/default/boot/vmlinuz-6.10.0", g_dir);
    CHECK_STR(k.image, want);
    CHECK_STR(k.release, "6.10.0");
    CHECK_HAS(k.modules, "lib/modules/6.10.0");
}

TEST(vmm, a_kernel_file_brings_the_modules_beside_its_boot_folder)
{
    struct kernel_choice k;
    struct err err = {0};
    char path[128];

    shell("mkdir -p boot usr/lib/modules/6.1-x && touch boot/vmlinuz-6.1-x plain");
    (void)snprintf(path, sizeof(path), "%s/boot/vmlinuz-6.1-x", g_dir);
    CHECK_OK(kernel_find(path, NULL, &k, &err), &err);
    CHECK_HAS(k.modules, "usr/lib/modules/6.1-x");
    (void)snprintf(path, sizeof(path), "%s/plain", g_dir);
    CHECK_OK(kernel_find(path, NULL, &k, &err), &err);
    CHECK_STR(k.modules, "");
    CHECK_STR(k.release, "");
}

TEST(vmm, a_folder_prefers_vmlinux_and_finds_its_only_module_tree)
{
    struct kernel_choice k;
    struct err err = {0};

    shell("mkdir -p boot lib/modules/9.9 && touch boot/vmlinux boot/vmlinuz");
    CHECK_OK(kernel_find(g_dir, NULL, &k, &err), &err);
    CHECK_HAS(k.image, "boot/vmlinux");
    CHECK_STR(k.release, "9.9");
}

TEST(vmm, what_is_no_kernel_is_named)
{
    struct kernel_choice k;
    struct err err = {0};

    shell("mkdir empty");
    CHECK_INT(kernel_find("/nonexistent/vmlinuz", NULL, &k, &err), -ENOENT);
    CHECK_HAS(err.text, "kernel '/nonexistent/vmlinuz'");
    CHECK_INT(kernel_find(g_dir, NULL, &k, &err), -ENOENT);
    CHECK_HAS(err.text, "no readable boot/vmlinux*");
    CHECK_INT(kernel_find("/dev/null", NULL, &k, &err), -EINVAL);
    CHECK_INT(setenv("EC1_KERNEL", "/nonexistent", 1), 0);
    CHECK_INT(kernel_find(NULL, NULL, &k, &err), -ENOENT);
    CHECK_HAS(err.text, "/nonexistent");
    (void)unsetenv("EC1_KERNEL");
}
