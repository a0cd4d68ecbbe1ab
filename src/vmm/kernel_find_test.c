/* kernel_find_test.c — files, folders, defaults, and what is said when there is none. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "tests/lib/test.h"
#include "vmm/kernel_find.h"
#include "x86/bootparam.h"

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

TEST(vmm, exact_names_come_before_those_with_a_release)
{
    struct kernel_choice k;
    struct err err = {0};
    char want[128];

    shell("mkdir boot && touch boot/vmlinuz boot/vmlinux-6.1 boot/vmlinuz-7");
    CHECK_OK(kernel_find(g_dir, NULL, &k, &err), &err);
    CHECK_HAS(k.image, "boot/vmlinuz");
    CHECK_STR(k.files, g_dir);
    shell("mkdir -p boot usr/lib ../ec1-out && touch boot/vmlinuz && mkdir elsewhere && "
          "touch elsewhere/built && ln -s ../elsewhere/built boot/vmlinux");
    CHECK_OK(kernel_find(g_dir, NULL, &k, &err), &err);
    (void)snprintf(want, sizeof(want), "%s/elsewhere/built", g_dir);
    CHECK_STR(k.image, want);
    CHECK_OK(kernel_find(want, NULL, &k, &err), &err);
    CHECK_STR(k.files, "");
}

static void put_file(const char *name, const void *data, size_t len)
{
    char path[256];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", g_dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, data, len), (ssize_t)len);
    (void)close(fd);
}

/* As much of a bzImage as says its release. */
static void put_bzimage(const char *name, const char *release)
{
    uint8_t file[1024] = {0};

    store_le16(file + BP_BOOT_FLAG, BP_BOOT_FLAG_VALUE);
    store_le32(file + BP_HEADER, BP_HEADER_MAGIC);
    store_le16(file + BP_KERNEL_VERSION, 0x100);
    (void)snprintf((char *)file + BP_KERNEL_VERSION_BASE + 0x100, 200, "%s (me@here) #1", release);
    put_file(name, file, sizeof(file));
}

TEST(vmm, a_kernel_knows_its_release)
{
    struct kernel_choice k;
    struct err err = {0};

    shell("mkdir -p boot lib/modules/6.1.7-say lib/modules/9.9");
    put_bzimage("boot/vmlinuz", "6.1.7-say");
    CHECK_OK(kernel_find(g_dir, NULL, &k, &err), &err);
    CHECK_STR(k.release, "6.1.7-say");
    CHECK_HAS(k.modules, "lib/modules/6.1.7-say");
    shell("mkdir -p boot usr/lib/modules/9.9");
    put_bzimage("boot/vmlinuz-9.9", "6.1.7-say"); /* the name is wrong */
    CHECK_INT(kernel_find(g_dir, NULL, &k, &err), -ENOEXEC);
    CHECK_HAS(err.text, "its release is 6.1.7-say, but the modules beside it are for another");
    CHECK_HAS(err.text, "usr/lib/modules/9.9'");
    put_bzimage("boot/vmlinuz-9.9", "1/../../..");
    CHECK_OK(kernel_find(g_dir, NULL, &k, &err), &err);
    CHECK_STR(k.release, "9.9");
}

TEST(vmm, the_release_of_an_elf_is_in_its_banner)
{
    static const char banner[] = "Linux version %s; Linux version 6.5.4-elf (me@here)";
    static struct {
        Elf64_Ehdr eh;
        Elf64_Phdr ph;
        char data[3 << 20];
    } file;
    char release[KERNEL_RELEASE_MAX];
    char path[128];

    memcpy(file.eh.e_ident, ELFMAG, SELFMAG);
    file.eh.e_ident[EI_CLASS] = ELFCLASS64;
    file.eh.e_machine = EM_X86_64;
    file.eh.e_phoff = offsetof(__typeof__(file), ph);
    file.eh.e_phentsize = sizeof(file.ph);
    file.eh.e_phnum = 1;
    file.ph.p_type = PT_LOAD;
    file.ph.p_offset = offsetof(__typeof__(file), data);
    file.ph.p_filesz = sizeof(file.data);
    memcpy(file.data + (1 << 20) - 40, banner, sizeof(banner)); /* across two reads */
    shell("true");
    put_file("elf", &file, sizeof(file));
    (void)snprintf(path, sizeof(path), "%s/elf", g_dir);
    kernel_release(path, true, release);
    CHECK_STR(release, "6.5.4-elf");
    kernel_release(path, false, release);
    CHECK_STR(release, "");
    file.ph.p_offset = sizeof(file) - 100; /* beyond its end */
    put_file("elf", &file, sizeof(file));
    kernel_release(path, true, release);
    CHECK_STR(release, "");
}

TEST(vmm, links_of_a_folder_stay_in_it_where_they_can)
{
    struct kernel_choice k;
    struct err err = {0};

    shell("mkdir -p boot usr/lib/modules/1.2.3 && ln -s /usr/lib lib && "
          "ln -s /boot/other boot/vmlinux");
    put_bzimage("boot/other", "1.2.3");
    CHECK_OK(kernel_find(g_dir, NULL, &k, &err), &err);
    CHECK_HAS(k.image, "boot/other");
    CHECK_HAS(k.modules, "usr/lib/modules/1.2.3");
    CHECK(strncmp(k.modules, g_dir, strlen(g_dir)) == 0);
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
