/* pvh_test.c — the ELF's note, guest memory and first state are what PVH asks for. */
#include <stdlib.h>

#include "boot/boot.h"
#include "boot/elf_note.h"
#include "boot/fake_kernel.h"
#include "boot/layout.h"
#include "mem/map.h"
#include "tests/lib/test.h"
#include "x86/e820.h"

static void add_note(struct buf *out, const char *name, uint32_t name_len, uint32_t type,
                     const void *content, uint32_t len, size_t align)
{
    const Elf64_Nhdr note = {.n_namesz = name_len, .n_descsz = len, .n_type = type};

    buf_append(out, &note, sizeof(note));
    buf_append(out, name, name_len);
    buf_append_zero(out, align_up(out->len, align) - out->len);
    buf_append(out, content, len);
    buf_append_zero(out, align_up(out->len, align) - out->len);
}

static uint64_t find(const struct buf *notes, uint64_t offset, uint64_t len, uint64_t align)
{
    const struct elf_source source = {.data = notes->data, .fd = -1, .len = notes->len};
    const Elf64_Phdr segment = {
        .p_type = PT_NOTE, .p_offset = offset, .p_filesz = len, .p_align = align};

    return elf_note_pvh_entry(&source, &segment);
}

TEST(boot, pvh_note_is_found_behind_others)
{
    const uint32_t entry = 0x1000150;
    const uint64_t wide = 0x1000160;

    for (size_t align = 4; align <= 8; align += 4) {
        struct buf notes = {0};

        buf_append_zero(&notes, 16);
        add_note(&notes, "GNU", 4, 18, &wide, 8, align);       /* another's */
        add_note(&notes, "Linux", 6, 0x101, "odd", 3, align);  /* padded twice */
        add_note(&notes, "Xen", 4, 6, "linux", 6, align);      /* another of Xen's */
        CHECK_INT(find(&notes, 16, notes.len - 16, align), 0); /* the end of all */
        add_note(&notes, "Xen", 4, 18, &entry, 4, align);
        CHECK_INT(find(&notes, 16, notes.len - 16, align), entry);
        buf_fini(&notes);
    }
}

TEST(boot, pvh_note_may_be_64_bits_wide)
{
    const uint64_t wide = 0x1000160;
    struct buf notes = {0};

    add_note(&notes, "Xen", 4, 18, &wide, 8, 4);
    CHECK_INT(find(&notes, 0, notes.len, 4), wide);
    buf_fini(&notes);
}

TEST(boot, damaged_notes_are_none)
{
    const uint32_t entry = 0x1000150;
    struct buf notes = {0};

    add_note(&notes, "Xen", 4, 18, &entry, 4, 4);
    for (uint64_t len = 0; len < notes.len; len++) {
        CHECK_INT(find(&notes, 0, len, 4), 0);
    }
    CHECK_INT(find(&notes, 0, notes.len + 1, 4), 0);
    CHECK_INT(find(&notes, UINT64_MAX, 2, 4), 0);
    CHECK_INT(find(&notes, 1, UINT64_MAX, 4), 0);
    store_le32(notes.data, UINT32_MAX); /* length of the name */
    CHECK_INT(find(&notes, 0, notes.len, 4), 0);
    store_le32(notes.data, 4);
    store_le32(notes.data + 4, UINT32_MAX); /* of the content */
    CHECK_INT(find(&notes, 0, notes.len, 4), 0);
    store_le32(notes.data + 4, 3); /* no address */
    CHECK_INT(find(&notes, 0, notes.len, 4), 0);
    buf_fini(&notes);
}

/* The fake ELF, its note made to name `entry`; the bytes are put behind all else. */
static struct kernel *kernel_with_note(uint64_t entry)
{
    struct kernel *kernel = NULL;
    struct buf file = {0};
    struct err err = {0};
    Elf64_Phdr *note;
    char path[64];
    int fd;

    fake_elf(&file);
    buf_append_zero(&file, align_up(file.len, 4) - file.len);
    note = (Elf64_Phdr *)(void *)(file.data + sizeof(Elf64_Ehdr)) + 1;
    CHECK_INT(note->p_type, PT_NOTE);
    note->p_offset = file.len;
    note->p_filesz = sizeof(Elf64_Nhdr) + 4 + 8;
    add_note(&file, "Xen", 4, 18, &entry, 8, 4);
    fd = fake_file(&file, path);
    CHECK_OK(kernel_open(path, NULL, &kernel, &err), &err);
    (void)close(fd);
    buf_fini(&file);
    return kernel;
}

TEST(boot, pvh_entry_is_in_a_loaded_segment_below_4_gib)
{
    static const struct {
        uint64_t note;
        uint64_t taken;
    } cases[] = {{FAKE_TEXT_GPA + 0x20, FAKE_TEXT_GPA + 0x20},
                 {FAKE_TEXT_GPA - 1, 0},
                 {FAKE_TEXT_GPA + FAKE_TEXT_LEN, 0},
                 {FAKE_DATA_GPA + FAKE_DATA_LEN, 0}, /* zeros */
                 {4 * GIB + FAKE_TEXT_GPA, 0}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kernel *kernel = kernel_with_note(cases[i].note);

        CHECK_INT(kernel->elf.pvh_entry, cases[i].taken);
        CHECK_INT(kernel->elf.entry, FAKE_ENTRY);
        kernel_close(kernel);
    }
}

struct started {
    struct mem_map *mem;
    struct cpu_state *cpu;
};

static void start(struct started *s, const struct boot_part *initrd)
{
    struct kernel *kernel = kernel_with_note(FAKE_TEXT_GPA + 0x20);
    const struct acpi_config acpi = {.vcpu_count = 1, .power_port = 0x600};
    struct err err = {0};

    s->mem = mem_map_new();
    s->cpu = calloc(1, sizeof(*s->cpu));
    CHECK_OK(mem_map_add(s->mem, GPA(0), 32 * MIB, &err), &err);
    CHECK_OK(mem_map_add(s->mem, GPA(4 * GIB), 2 * MIB, &err), &err);
    CHECK_OK(boot_load(&(struct boot_config){.mem = s->mem,
                                             .kernel = kernel,
                                             .cmdline = "console=ttyS0",
                                             .acpi = &acpi,
                                             .initrd = initrd,
                                             .initrd_count = initrd ? 1 : 0,
                                             .is_pvh = true},
                       s->cpu, &err),
             &err);
    kernel_close(kernel);
}

static void end(struct started *s)
{
    free(s->cpu);
    mem_map_free(s->mem);
}

TEST(boot, pvh_begins_in_32_bit_protected_mode)
{
    struct started s;
    const uint64_t *gdt;

    start(&s, NULL);
    CHECK_INT(s.cpu->rip, FAKE_TEXT_GPA + 0x20);
    CHECK_INT(s.cpu->gpr[GPR_RBX], 0x6000);
    CHECK_INT(s.cpu->rflags, 2);
    CHECK_INT(s.cpu->cr0, 0x11);
    CHECK_INT(s.cpu->cr4, 0);
    CHECK_INT(s.cpu->efer, 0);
    CHECK_INT(s.cpu->seg[SEG_CS].base, 0);
    CHECK_INT(s.cpu->seg[SEG_CS].limit, UINT32_MAX);
    CHECK_INT(s.cpu->seg[SEG_CS].attr, 0xc09b);
    CHECK_INT(s.cpu->seg[SEG_DS].attr, 0xc093);
    CHECK_INT(s.cpu->seg[SEG_TR].attr, 0x8b);
    CHECK_INT(s.cpu->seg[SEG_TR].limit, 0x67);
    CHECK_INT(s.cpu->apic_base, 0xfee00900);
    gdt = mem_ptr(s.mem, GPA(s.cpu->gdt.base), s.cpu->gdt.limit + 1);
    CHECK_INT(gdt[s.cpu->seg[SEG_CS].selector / 8], 0x00cf9b000000ffff);
    CHECK_INT(gdt[s.cpu->seg[SEG_DS].selector / 8], 0x00cf93000000ffff);
    end(&s);
}

static void check_memory(const struct started *s, unsigned i, uint64_t from, uint64_t to,
                         uint32_t type)
{
    const uint8_t *entry = mem_ptr(s->mem, GPA(0x7000 + i * 24), 24);

    CHECK_INT(load_le64(entry), from);
    CHECK_INT(load_le64(entry + 8), to - from);
    CHECK_INT(load_le32(entry + 16), type);
    CHECK_INT(load_le32(entry + 20), 0);
}

TEST(boot, pvh_start_info_says_what_is_where)
{
    const struct boot_part initrd = {"abcde", 5};
    struct started s;
    const uint8_t *info;
    const uint8_t *module;

    start(&s, &initrd);
    info = mem_ptr(s.mem, GPA(0x6000), 56);
    CHECK_INT(load_le32(info), 0x336ec578);
    CHECK_INT(load_le32(info + 4), 1);
    CHECK_INT(load_le32(info + 8), 0);
    CHECK_INT(load_le32(info + 12), 1);
    CHECK_INT(load_le64(info + 16), 0x6040);
    CHECK_STR((char *)mem_ptr(s.mem, GPA(load_le64(info + 24)), 64), "console=ttyS0");
    CHECK_INT(load_le64(info + 32), 0);
    CHECK_INT(load_le64(info + 40), 0x7000);
    CHECK_INT(load_le32(info + 48), 5);
    module = mem_ptr(s.mem, GPA(0x6040), 32);
    CHECK_INT(load_le64(module), 32 * MIB - 4096);
    CHECK_INT(load_le64(module + 8), 5);
    CHECK_INT(load_le64(module + 16), 0);
    CHECK_MEM(mem_ptr(s.mem, GPA(32 * MIB - 4096), 5), "abcde", 5);
    check_memory(&s, 0, 0, 0x9fc00, E820_RAM);
    check_memory(&s, 1, 0x9fc00, 0xe0000, E820_RESERVED);
    check_memory(&s, 2, 0xeec00000, 0xfec00000, E820_RESERVED);
    check_memory(&s, 3, MIB, 32 * MIB, E820_RAM);
    check_memory(&s, 4, 4 * GIB, 4 * GIB + 2 * MIB, E820_RAM);
    end(&s);
}

TEST(boot, pvh_without_an_initrd_has_no_module)
{
    struct started s;
    const uint8_t *info;

    start(&s, NULL);
    info = mem_ptr(s.mem, GPA(0x6000), 56);
    CHECK_INT(load_le32(info + 12), 0);
    CHECK_INT(load_le64(info + 16), 0);
    end(&s);
}
