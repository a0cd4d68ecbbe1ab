/* kernel_test.c — every kind of kernel file loads, everything else is refused by name. */
#include <errno.h>
#include <stdlib.h>

#include "boot/fake_kernel.h"
#include "boot/kernel.h"
#include "mem/map.h"
#include "tests/lib/test.h"

static uint64_t g_seed = 0x2545f4914f6cdd1d;

static uint64_t next_random(void)
{
    g_seed ^= g_seed << 13;
    g_seed ^= g_seed >> 7;
    g_seed ^= g_seed << 17;
    return g_seed;
}

static struct mem_map *memory(uint64_t len)
{
    struct mem_map *mem = mem_map_new();
    struct err err = {0};

    CHECK_OK(mem_map_add(mem, GPA(0), len, &err), &err);
    return mem;
}

static int open_buf(const struct buf *file, const char *cache, struct kernel **ret_kernel,
                    struct err *err)
{
    char path[64];
    int fd = fake_file(file, path);
    int r = kernel_open(path, cache, ret_kernel, err);

    (void)close(fd);
    return r;
}

/* Open, load, compare with what fake_elf() made. */
static void check_loads(const struct buf *file, const char *cache, const char *packing)
{
    struct mem_map *mem = memory(32 * MIB);
    struct kernel *k = NULL;
    struct buf elf = {0};
    struct err err = {0};
    uint8_t zero[0x1000] = {0};

    fake_elf(&elf);
    CHECK_OK(open_buf(file, cache, &k, &err), &err);
    CHECK_STR(k->packing, packing);
    CHECK_INT(k->elf.entry, FAKE_ENTRY);
    CHECK_INT(k->elf.start, FAKE_TEXT_GPA);
    CHECK_INT(k->elf.end, FAKE_END);
    CHECK_INT(k->setup.initrd_max, 0x80000000);
    CHECK_INT(k->setup.cmdline_max, 2047);
    CHECK_OK(kernel_load(k, mem, &err), &err);
    CHECK_MEM(mem_ptr(mem, GPA(FAKE_TEXT_GPA), FAKE_TEXT_LEN), elf.data + 4096, FAKE_TEXT_LEN);
    CHECK_MEM(mem_ptr(mem, GPA(FAKE_DATA_GPA), FAKE_DATA_LEN), elf.data + 4096 + FAKE_TEXT_LEN,
              FAKE_DATA_LEN);
    CHECK_MEM(mem_ptr(mem, GPA(FAKE_DATA_GPA + FAKE_DATA_LEN), 0x1000), zero, 0x1000);
    kernel_close(k);
    buf_fini(&elf);
    mem_map_free(mem);
}

TEST(boot, kernel_of_every_packing_loads)
{
    struct buf file = {0};

    for (enum codec_format f = CODEC_GZIP; f <= CODEC_LZOP; f++) {
        buf_clear(&file);
        fake_packed(f, &file);
        check_loads(&file, NULL, codec_name(f));
    }
    buf_fini(&file);
}

TEST(boot, kernel_may_be_an_elf)
{
    struct buf elf = {0};
    struct buf file = {0};

    fake_elf(&elf);
    check_loads(&elf, NULL, "none");
    fake_bzimage(&elf, &file); /* CONFIG_KERNEL_UNCOMPRESSED */
    check_loads(&file, NULL, "none");
    for (enum codec_format f = CODEC_GZIP; f <= CODEC_LZOP; f++) { /* vmlinux.gz */
        buf_clear(&file);
        pack_any(f, &elf, &file);
        check_loads(&file, NULL, codec_name(f));
    }
    buf_fini(&elf);
    buf_fini(&file);
}

/* --- What is refused -----------------------------------------------------------------------------
 */

static void check_refused(const struct buf *file, int code, const char *text)
{
    struct kernel *k = NULL;
    struct err err = {0};
    int r = open_buf(file, NULL, &k, &err);

    if (r != code || !strstr(err_text(&err), text)) {
        print_error("%d (%s), not %d (%s)\n", r, err_text(&err), code, text);
        fail();
    }
    CHECK_HAS(err_text(&err), "kernel '/proc/self/fd/");
    CHECK(!strchr(err_text(&err), '\n'));
    CHECK(k == NULL);
}

/* A change to a good file, and what is said about it. */
struct damage {
    size_t offset;
    unsigned width;
    uint64_t value;
    int code;
    const char *text;
};

static void check_damages(void (*make)(struct buf *), const struct damage *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct buf file = {0};

        make(&file);
        memcpy(file.data + list[i].offset, &list[i].value, list[i].width);
        check_refused(&file, list[i].code, list[i].text);
        buf_fini(&file);
    }
}

static void make_gzip(struct buf *out)
{
    fake_packed(CODEC_GZIP, out);
}

TEST(boot, bzimage_with_wrong_fields_is_refused)
{
    static const struct damage list[] = {
        {BP_VERSION, 2, 0x207, -ENOEXEC, "boot protocol 2.07 is too old: must be 2.08 or later"},
        {BP_LOADFLAGS, 1, 0, -ENOEXEC, "a zImage"},
        {BP_XLOADFLAGS, 2, 0, -ENOEXEC, "a 32-bit kernel: must be 64-bit"},
        {BP_PAYLOAD_LENGTH, 4, 0, -ENOEXEC, "no payload"},
        {BP_PAYLOAD_LENGTH, 4, 0xffffffff, -ENODATA, "truncated"},
        {BP_PAYLOAD_OFFSET, 4, 0xfffffff0, -ENODATA, "truncated"},
        {BP_SETUP_SECTS, 1, 0xff, -ENODATA, "truncated"},
        {BP_HEADER, 4, 0, -ENOEXEC, "not a Linux kernel"},
        {FAKE_SETUP_LEN + 0x100, 1, 0, -ENOEXEC, "packed in an unknown way"},
        {FAKE_SETUP_LEN + 0x100 + 20, 4, 0xffffffff, -EBADMSG, "gzip data is damaged"},
    };

    check_damages(make_gzip, list, ARRAY_LEN(list));
}

#define PHDR(n, field) (sizeof(Elf64_Ehdr) + (n) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field))

TEST(boot, elf_with_wrong_fields_is_refused)
{
    static const struct damage list[] = {
        {offsetof(Elf64_Ehdr, e_machine), 2, EM_AARCH64, -ENOEXEC, "ELF file for arm64"},
        {offsetof(Elf64_Ehdr, e_machine), 2, EM_386, -ENOEXEC, "for 32-bit x86"},
        {offsetof(Elf64_Ehdr, e_machine), 2, 9999, -ENOEXEC, "machine number 9999"},
        {EI_CLASS, 1, ELFCLASS32, -ENOEXEC, "32-bit ELF"},
        {offsetof(Elf64_Ehdr, e_type), 2, ET_DYN, -ENOEXEC, "must be an executable"},
        {offsetof(Elf64_Ehdr, e_phnum), 2, 0, -ENOEXEC, "program headers"},
        {offsetof(Elf64_Ehdr, e_phnum), 2, 0xffff, -ENODATA, "program headers"},
        {offsetof(Elf64_Ehdr, e_phoff), 8, UINT64_MAX - 8, -ENODATA, "program headers"},
        {offsetof(Elf64_Ehdr, e_entry), 8, 0x1000, -ENOEXEC, "entry"},
        {offsetof(Elf64_Ehdr, e_entry), 8, FAKE_END - 1, -ENOEXEC, "entry"},
        {PHDR(0, p_offset), 8, UINT64_MAX, -ENODATA, "ends before its segments"},
        {PHDR(0, p_filesz), 8, UINT64_MAX, -ENOEXEC, "impossible sizes"},
        {PHDR(0, p_memsz), 8, UINT64_MAX, -ENOEXEC, "impossible sizes"},
        {PHDR(0, p_memsz), 8, BIT(60), -ENOEXEC, "impossible sizes"},
        {PHDR(2, p_paddr), 8, 0x1000, -ENOEXEC, "must be at 1 MiB or above"},
    };

    check_damages(fake_elf, list, ARRAY_LEN(list));
}

TEST(boot, elf_of_big_endian_machine_is_named)
{
    struct buf elf = {0};

    fake_elf(&elf);
    elf.data[EI_DATA] = ELFDATA2MSB;
    elf.data[offsetof(Elf64_Ehdr, e_machine)] = 0;
    elf.data[offsetof(Elf64_Ehdr, e_machine) + 1] = EM_S390;
    check_refused(&elf, -ENOEXEC, "ELF file for s390x");
    buf_fini(&elf);
}

TEST(boot, file_that_is_no_kernel_is_refused)
{
    static const struct {
        const char *head;
        size_t len;
        size_t at;
        const char *text;
    } list[] = {
        {"ARM\x64", 4, 56, "a kernel for arm64"},
        {"RSC\x05", 4, 56, "a kernel for riscv"},
        {"MZ\0\0zimg", 8, 0, "EFI zboot image"},
        {"MZ", 2, 0, "EFI program"},
        {"#!/bin/sh", 9, 0, "not a Linux kernel: neither a bzImage nor an ELF file"},
    };

    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        struct buf file = {0};

        buf_append_zero(&file, 4096);
        memcpy(file.data + list[i].at, list[i].head, list[i].len);
        check_refused(&file, -ENOEXEC, list[i].text);
        buf_fini(&file);
    }
    check_refused(&(struct buf){0}, -ENODATA, "the file is empty");
}

TEST(boot, packed_file_that_is_no_kernel_is_refused)
{
    struct buf text = {0};
    struct buf file = {0};

    buf_append_zero(&text, 10000);
    pack_any(CODEC_XZ, &text, &file);
    check_refused(&file, -ENOEXEC, "not a Linux kernel");
    buf_fini(&text);
    buf_fini(&file);
}

TEST(boot, path_that_is_no_file_is_refused)
{
    struct kernel *k = NULL;
    struct err err = {0};

    CHECK_INT(kernel_open("/no/such/kernel", NULL, &k, &err), -ENOENT);
    CHECK_STR(err_text(&err), "kernel '/no/such/kernel': No such file or directory");
    CHECK_INT(kernel_open("/usr", NULL, &k, &err), -EINVAL);
    CHECK_STR(err_text(&err), "kernel '/usr': is a directory: must be a file");
    CHECK_INT(kernel_open("/dev/null", NULL, &k, &err), -EINVAL);
    CHECK_HAS(err_text(&err), "not a regular file");
}

TEST(boot, kernel_cut_anywhere_is_refused)
{
    struct buf file = {0};
    struct buf part = {0};

    fake_packed(CODEC_LZ4, &file);
    for (size_t len = 1; len < file.len; len += len < 700 ? 7 : 101) {
        struct kernel *k = NULL;
        struct err err = {0};

        buf_clear(&part);
        buf_append(&part, file.data, len);
        CHECK(open_buf(&part, NULL, &k, &err) < 0);
        CHECK(err.text[0] != 0);
    }
    buf_fini(&file);
    buf_fini(&part);
}

TEST(boot, kernel_larger_than_memory_is_refused)
{
    struct mem_map *mem = memory(16 * MIB);
    struct kernel *k = NULL;
    struct buf elf = {0};
    struct err err = {0};

    fake_elf(&elf);
    CHECK_OK(open_buf(&elf, NULL, &k, &err), &err);
    CHECK_INT(kernel_load(k, mem, &err), -ENOSPC);
    CHECK_HAS(err_text(&err), "does not fit into memory: it needs 17 MiB, the guest has 16 MiB");
    kernel_close(k);
    kernel_close(NULL);
    buf_fini(&elf);
    mem_map_free(mem);
}

static void flip_and_load(const struct buf *good, struct mem_map *mem)
{
    struct kernel *k = NULL;
    struct buf bad = {0};
    struct err err = {0};

    buf_append(&bad, good->data, good->len);
    for (uint64_t n = 1 + next_random() % 3; n > 0; n--) {
        /* Mostly into headers. */
        size_t span = next_random() % 4 ? 0x290 : bad.len;

        span = span < bad.len ? span : bad.len;
        bad.data[next_random() % span] ^= (uint8_t)(1u << (next_random() & 7));
    }
    if (open_buf(&bad, NULL, &k, &err) == 0) {
        (void)kernel_load(k, mem, &err);
        kernel_close(k);
    } else {
        CHECK(err.text[0] != 0);
    }
    buf_fini(&bad);
}

TEST(boot, flipped_bits_only_fail)
{
    struct mem_map *mem = memory(32 * MIB);
    struct buf files[3] = {0};

    fake_elf(&files[0]);
    fake_packed(CODEC_GZIP, &files[1]);
    fake_packed(CODEC_LZ4, &files[2]);
    for (unsigned i = 0; i < 3000; i++) {
        flip_and_load(&files[i % 3], mem);
    }
    for (unsigned i = 0; i < 3; i++) {
        buf_fini(&files[i]);
    }
    mem_map_free(mem);
}

TEST(boot, random_bytes_only_fail)
{
    for (unsigned i = 0; i < 200; i++) {
        struct kernel *k = NULL;
        struct buf file = {0};
        struct err err = {0};

        for (uint64_t n = 1 + next_random() % 600; n > 0; n--) {
            uint64_t word = next_random();

            buf_append(&file, &word, 8);
        }
        CHECK(open_buf(&file, NULL, &k, &err) < 0);
        buf_fini(&file);
    }
}

/* --- Cache ---------------------------------------------------------------------------------------
 */

static void shell(const char *fmt, const char *dir)
{
    char command[256];
    struct buf line = {0};

    buf_printf(&line, "cd %s && ", dir);
    buf_append_str(&line, fmt);
    (void)snprintf(command, sizeof(command), "%s", buf_str(&line));
    CHECK_INT(system(command), 0);
    buf_fini(&line);
}

TEST(boot, unpacked_kernel_is_kept)
{
    char dir[] = "/tmp/kernel-cache-XXXXXX";
    char cache[64];
    struct buf file = {0};
    struct buf other = {0};

    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(cache, sizeof(cache), "%s/a/b", dir);
    fake_packed(CODEC_XZ, &file);
    fake_packed(CODEC_ZSTD, &other);
    check_loads(&file, cache, "xz");
    check_loads(&file, cache, "cached");
    check_loads(&other, cache, "zstd"); /* not mistaken for the first */
    shell("test $(ls | wc -l) = 2 && test $(ls | grep -c '^vmlinux-[0-9a-f]*$') = 2", cache);
    check_loads(&file, cache, "cached");

    shell("for f in *; do truncate -s -1 $f; done", cache);
    check_loads(&file, cache, "xz"); /* and written again */
    check_loads(&file, cache, "cached");
    shell("for f in *; do printf x | dd of=$f bs=1 seek=100 conv=notrunc 2>/dev/null; done", cache);
    check_loads(&file, cache, "xz");
    shell("chmod 666 *", cache);
    check_loads(&file, cache, "xz");
    shell("for f in *; do : >$f; done", cache);
    check_loads(&file, cache, "xz");
    check_loads(&file, cache, "cached");

    (void)snprintf(cache, sizeof(cache), "%s/file/sub", dir); /* cannot be made: no error */
    shell(": >file", dir);
    check_loads(&file, cache, "xz");
    shell("rm -r a file; rmdir $PWD", dir);
    buf_fini(&file);
    buf_fini(&other);
}
