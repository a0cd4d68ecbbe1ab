/* symbols_test.c — where a kernel's symbols, sources and scripts are looked for. */
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "vmm/symbols.h"

#define RELEASE "6.1.0-test"

static char g_dir[64];
static char g_self[PATH_MAX]; /* an ELF with symbols: this program */
static struct kernel_choice g_kernel;
static struct kernel_symbols g_found;

#define SHELL(...)                                                               \
    do {                                                                         \
        char text_[4096];                                                        \
        CHECK(snprintf(text_, sizeof(text_), __VA_ARGS__) < (int)sizeof(text_)); \
        CHECK_INT(system(text_), 0);                                             \
    } while (0)

static void begin(void)
{
    (void)snprintf(g_dir, sizeof(g_dir), "/tmp/ec1-symbols-XXXXXX");
    CHECK(mkdtemp(g_dir) != NULL);
    CHECK(realpath("/proc/self/exe", g_self) != NULL);
    memset(&g_kernel, 0, sizeof(g_kernel));
    (void)snprintf(g_kernel.files, sizeof(g_kernel.files), "%s", g_dir);
    (void)snprintf(g_kernel.image, sizeof(g_kernel.image), "%s/boot/vmlinuz-" RELEASE, g_dir);
    (void)snprintf(g_kernel.release, sizeof(g_kernel.release), RELEASE);
}

static void end(void)
{
    SHELL("rm -r %s", g_dir);
}

/* A link to the program, at `path` below the folder, is found; then it is gone again. */
static void found_at(const char *path)
{
    char full[KERNEL_PATH_MAX];

    SHELL("mkdir -p $(dirname %s/%s)", g_dir, path);
    (void)snprintf(full, sizeof(full), "%s/%s", g_dir, path);
    CHECK_INT(symlink(g_self, full), 0);
    kernel_symbols_find(&g_kernel, &g_found);
    CHECK_STR(g_found.vmlinux, g_self);
    CHECK_INT(unlink(full), 0);
    kernel_symbols_find(&g_kernel, &g_found);
    CHECK_STR(g_found.vmlinux, "");
}

TEST(vmm, symbols_are_found_beside_the_kernel_and_in_its_folder)
{
    begin();
    found_at("boot/vmlinux-" RELEASE);
    found_at("boot/vmlinux");
    found_at("usr/lib/debug/boot/vmlinux-" RELEASE);
    found_at("usr/lib/debug/lib/modules/" RELEASE "/vmlinux");
    found_at("lib/modules/" RELEASE "/build/vmlinux");
    (void)snprintf(g_kernel.image, sizeof(g_kernel.image), "%s/arch/x86/boot/bzImage", g_dir);
    SHELL("mkdir -p %s/arch/x86/boot", g_dir);
    g_kernel.release[0] = 0;
    found_at("vmlinux");
    end();
}

TEST(vmm, a_kernel_with_symbols_needs_no_other_file)
{
    begin();
    CHECK(snprintf(g_kernel.image, sizeof(g_kernel.image), "%s", g_self) < KERNEL_PATH_MAX);
    kernel_symbols_find(&g_kernel, &g_found);
    CHECK_STR(g_found.vmlinux, g_self);
    CHECK_STR(g_found.source, "");
    CHECK_STR(g_found.scripts, "");
    end();
}

/* A copy, for what is beside it. */
TEST(vmm, sources_and_scripts_are_found_beside_the_symbols)
{
    char want[KERNEL_PATH_MAX];

    begin();
    SHELL("cd %s && mkdir -p gdb boot/init && cp %s boot/vmlinux && "
          "touch boot/init/main.c gdb/vmlinux-gdb.py",
          g_dir, g_self);
    kernel_symbols_find(&g_kernel, &g_found);
    (void)snprintf(want, sizeof(want), "%s/boot", g_dir);
    CHECK_STR(g_found.source, want);
    (void)snprintf(want, sizeof(want), "%s/gdb/vmlinux-gdb.py", g_dir);
    CHECK_STR(g_found.scripts, want);
    end();
}

TEST(vmm, what_has_no_symbols_is_not_taken)
{
    begin();
    SHELL("cd %s && mkdir boot && printf '\\177ELF' > boot/vmlinux", g_dir);
    kernel_symbols_find(&g_kernel, &g_found);
    CHECK_STR(g_found.vmlinux, "");
    SHELL("strip -o %s/boot/vmlinux %s", g_dir, g_self);
    kernel_symbols_find(&g_kernel, &g_found);
    CHECK_STR(g_found.vmlinux, "");
    end();
}
