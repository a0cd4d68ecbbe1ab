/* kaslr_test.c — a kernel with relocations is moved exactly as they say, any other stays. */
#include <errno.h>
#include <stdlib.h>

#include "boot/boot.h"
#include "boot/fake_kernel.h"
#include "boot/kaslr.h"
#include "boot/layout.h"
#include "mem/map.h"
#include "tests/lib/test.h"

#define LINEAR (UINT64_C(0xffffffff80000000) + FAKE_TEXT_GPA)
#define ALIGN  (2 * MIB)
/* As many places as there are from where it was linked to 1 GiB, which it must not reach beyond. */
#define PLACES (1 + (GIB - FAKE_END) / ALIGN)

struct fixture {
    struct mem_map *mem;
    struct kernel *kernel;
};

/* An uncompressed bzImage: the ELF, then the words of `table`. */
static void fixture_init(struct fixture *f, const uint32_t *table, size_t words)
{
    struct buf payload = {0};
    struct buf file = {0};
    struct err err = {0};
    char path[64];
    int fd;

    fake_elf(&payload);
    buf_append_zero(&payload, -payload.len & 3u);
    for (size_t i = 0; i < words; i++) {
        pack_le32(&payload, table[i]);
    }
    fake_bzimage(&payload, &file);
    store_le32(file.data + BP_KERNEL_ALIGNMENT, ALIGN);
    file.data[BP_RELOCATABLE_KERNEL] = 1;
    fd = fake_file(&file, path);
    f->mem = mem_map_new();
    CHECK_OK(mem_map_add(f->mem, GPA(0), 32 * MIB, &err), &err);
    CHECK_OK(kernel_open(path, NULL, &f->kernel, &err), &err);
    CHECK_OK(kernel_load(f->kernel, f->mem, &err), &err);
    (void)close(fd);
    buf_fini(&payload);
    buf_fini(&file);
}

static void fixture_fini(struct fixture *f)
{
    kernel_close(f->kernel);
    mem_map_free(f->mem);
}

static uint8_t *text(const struct fixture *f)
{
    return mem_ptr(f->mem, GPA(FAKE_TEXT_GPA), FAKE_TEXT_LEN);
}

static uint32_t addr(uint64_t offset)
{
    return (uint32_t)(LINEAR + offset);
}

static void check_moved(const uint32_t *table, size_t words, bool has_inverse, uint64_t random)
{
    uint64_t by = random % PLACES * ALIGN;
    struct err err = {0};
    struct fixture f;
    uint8_t *before = malloc(FAKE_TEXT_LEN);

    fixture_init(&f, table, words);
    memcpy(before, text(&f), FAKE_TEXT_LEN);
    CHECK_INT(kaslr_move(f.kernel, random, f.mem, &err), 1);
    store_le64(before + 0x100, load_le64(before + 0x100) + by);
    store_le64(before + 0x203, load_le64(before + 0x203) + by);
    store_le32(before + 0x300, load_le32(before + 0x300) + (uint32_t)by);
    if (has_inverse) {
        store_le32(before + 0x400, load_le32(before + 0x400) - (uint32_t)by);
    }
    CHECK_MEM(text(&f), before, FAKE_TEXT_LEN);
    free(before);
    fixture_fini(&f);
}

TEST(boot, kernel_is_moved_as_its_relocations_say)
{
    const uint32_t three[] = {0, addr(0x100), addr(0x203), 0, addr(0x400), 0, addr(0x300)};
    const uint32_t empty[] = {0, addr(0x100), addr(0x203), 0, 0, addr(0x300)};
    const uint32_t two[] = {0, addr(0x100), addr(0x203), 0, addr(0x300)}; /* Linux 6.15 */
    const uint64_t randoms[] = {0, 1, 7, PLACES - 1, PLACES, UINT64_MAX};

    for (size_t i = 0; i < ARRAY_LEN(randoms); i++) {
        check_moved(three, ARRAY_LEN(three), true, randoms[i]);
        check_moved(empty, ARRAY_LEN(empty), false, randoms[i]);
        check_moved(two, ARRAY_LEN(two), false, randoms[i]);
    }
}

static void check_stays(const uint32_t *table, size_t words)
{
    struct err err = {0};
    struct fixture f;
    uint8_t *before = malloc(FAKE_TEXT_LEN);

    fixture_init(&f, table, words);
    memcpy(before, text(&f), FAKE_TEXT_LEN);
    CHECK_INT(kaslr_move(f.kernel, 1, f.mem, &err), 0);
    CHECK_MEM(text(&f), before, FAKE_TEXT_LEN);
    free(before);
    fixture_fini(&f);
}

TEST(boot, table_that_is_no_relocations_moves_nothing)
{
    const uint32_t below[] = {0, addr(0x100), 0, addr(0x200) - FAKE_TEXT_LEN};
    const uint32_t across[] = {0, addr(0), 0, addr(FAKE_END - FAKE_TEXT_GPA - 3)};
    const uint32_t across64[] = {0, addr(FAKE_END - FAKE_TEXT_GPA - 7), 0, addr(0)};
    const uint32_t low[] = {0, addr(0), 0, 0x1000, 0, addr(0)};
    const uint32_t no_begin[] = {addr(0), 0, addr(0), 0, addr(0)};
    const uint32_t one[] = {0, addr(0)};
    const uint32_t four[] = {0, addr(0), 0, addr(0), 0, addr(0), 0, addr(0)};

    check_stays(NULL, 0);
    check_stays(below, ARRAY_LEN(below));
    check_stays(across, ARRAY_LEN(across));
    check_stays(across64, ARRAY_LEN(across64));
    check_stays(low, ARRAY_LEN(low));
    check_stays(no_begin, ARRAY_LEN(no_begin));
    check_stays(one, ARRAY_LEN(one));
    check_stays(four, ARRAY_LEN(four));
}

static bool is_told_moved(struct fixture *f, const char *cmdline)
{
    struct acpi_config acpi = {.vcpu_count = 1, .power_port = 0x600};
    struct boot_config config = {
        .mem = f->mem, .kernel = f->kernel, .cmdline = cmdline, .acpi = &acpi, .random = 1};
    struct cpu_state *cpu = calloc(1, sizeof(*cpu));
    struct err err = {0};
    const uint8_t *page = mem_ptr(f->mem, GPA(BOOT_ZERO_PAGE), 4096);

    CHECK_OK(boot_load(&config, cpu, &err), &err);
    CHECK_INT(cpu->rip, FAKE_ENTRY); /* physical: that stays */
    free(cpu);
    return page[BP_LOADFLAGS] & BP_LOADFLAGS_KASLR;
}

TEST(boot, kernel_is_told_that_it_was_moved)
{
    const uint32_t table[] = {0, addr(0x100), 0, 0, addr(0x300)};
    struct fixture f;

    fixture_init(&f, table, ARRAY_LEN(table));
    CHECK(is_told_moved(&f, "console=ttyS0"));
    CHECK(is_told_moved(&f, "xnokaslr nokaslrx nokaslr=1"));
    CHECK(!is_told_moved(&f, "nokaslr"));
    CHECK(!is_told_moved(&f, "nokaslrx nokaslr console=ttyS0"));
    f.kernel->setup.alignment = 0;
    f.kernel->setup.setup[BP_LOADFLAGS - BP_HDR_START] |= BP_LOADFLAGS_KASLR; /* a file that lies */
    CHECK(!is_told_moved(&f, "console=ttyS0"));
    fixture_fini(&f);
}
