/* elf.c — the loadable part of an x86-64 ELF executable. */
#include "boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/file.h"
#include "base/str.h"
#include "boot/elf_note.h"
#include "mem/map.h"

#define PHYSICAL_MAX     BIT(52) /* SDM volume 3, 4.1.4 */
#define NOTE_SEGMENT_MAX 8       /* so many are looked at; Linux has one */

struct machine_name {
    uint16_t machine;
    const char *name;
};

static const struct machine_name machine_names[] = {
    {EM_386, "32-bit x86"}, {EM_ARM, "32-bit arm"},  {EM_AARCH64, "arm64"}, {EM_RISCV, "riscv"},
    {EM_PPC, "powerpc"},    {EM_PPC64, "powerpc64"}, {EM_S390, "s390x"},    {EM_MIPS, "mips"},
    {258, "loongarch"},     {EM_SPARCV9, "sparc64"}};

int elf_read(const struct elf_source *source, uint64_t offset, void *data, uint64_t len)
{
    if (!range_within(offset, len, source->len)) {
        return -ENODATA;
    }
    offset += source->start;
    if (source->data) {
        memcpy(data, source->data + offset, len);
        return 0;
    }
    return file_read_at(source->fd, offset, data, len);
}

bool elf_sniff(const void *data, size_t len)
{
    return len >= SELFMAG && memcmp(data, ELFMAG, SELFMAG) == 0;
}

static int refuse_machine(uint16_t machine, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(machine_names); i++) {
        if (machine_names[i].machine == machine) {
            return err_set(err, -ENOEXEC, "ELF file for %s: must be for x86-64",
                           machine_names[i].name);
        }
    }
    return err_set(err, -ENOEXEC, "ELF file for machine number %u: must be for x86-64", machine);
}

static int check_header(const Elf64_Ehdr *eh, struct err *err)
{
    uint16_t machine = eh->e_machine;

    if (eh->e_ident[EI_DATA] == ELFDATA2MSB) {
        machine = __builtin_bswap16(machine);
    }
    if (machine != EM_X86_64) {
        return refuse_machine(machine, err);
    }
    if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB) {
        return err_set(err, -ENOEXEC, "32-bit ELF file: must be 64-bit");
    }
    if (eh->e_type != ET_EXEC) {
        return err_set(err, -ENOEXEC,
                       "ELF file of type %u: must be an executable (an object file or a shared "
                       "library cannot be booted)",
                       eh->e_type);
    }
    if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0) {
        return err_set(err, -ENOEXEC, "ELF file without usable program headers");
    }
    return 0;
}

/* A part of the file ends here. */
static void end_at(struct elf *elf, uint64_t offset)
{
    elf->file_end = offset > elf->file_end ? offset : elf->file_end;
}

static int add_segment(struct elf *elf, const Elf64_Phdr *ph, struct err *err)
{
    uint64_t end;

    if (ph->p_type != PT_LOAD || ph->p_memsz == 0) {
        return 0;
    }
    if (ph->p_filesz > ph->p_memsz || __builtin_add_overflow(ph->p_paddr, ph->p_memsz, &end) ||
        end > PHYSICAL_MAX) {
        return err_set(err, -ENOEXEC, "ELF segment with impossible sizes");
    }
    if (!range_within(ph->p_offset, ph->p_filesz, elf->source.len)) {
        return err_set(err, -ENODATA, "ELF file ends before its segments do");
    }
    if (elf->segment_count == ELF_SEGMENT_MAX) {
        return err_set(err, -ENOEXEC, "ELF file with more than %d segments", ELF_SEGMENT_MAX);
    }
    elf->segments[elf->segment_count++] = (struct elf_segment){.offset = ph->p_offset,
                                                               .gpa = ph->p_paddr,
                                                               .file_len = ph->p_filesz,
                                                               .mem_len = ph->p_memsz};
    end_at(elf, ph->p_offset + ph->p_filesz);
    elf->start = ph->p_paddr < elf->start ? ph->p_paddr : elf->start;
    elf->end = end > elf->end ? end : elf->end;
    return 0;
}

static bool is_loaded(const struct elf *elf, uint64_t gpa)
{
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct elf_segment *s = &elf->segments[i];

        if (gpa >= s->gpa && gpa - s->gpa < s->file_len) {
            return true;
        }
    }
    return false;
}

/* 0 if there are none; they are not needed to load it. */
static uint64_t section_headers_end(const Elf64_Ehdr *eh, uint64_t file_len)
{
    uint64_t len = (uint64_t)eh->e_shnum * eh->e_shentsize;

    return range_within(eh->e_shoff, len, file_len) ? eh->e_shoff + len : 0;
}

int elf_parse(const struct elf_source *source, struct elf *ret_elf, struct err *err)
{
    struct elf elf = {.source = *source, .start = UINT64_MAX};
    Elf64_Ehdr eh = {0};
    unsigned notes = 0;
    int r;

    r = elf_read(source, 0, &eh, source->len < sizeof(eh) ? source->len : sizeof(eh));
    if (r < 0) {
        return err_set(err, r, "cannot read the ELF header");
    }
    if (!elf_sniff(&eh, sizeof(eh))) {
        return err_set(err, -ENOEXEC, "not an ELF file");
    }
    if (source->len < sizeof(eh)) {
        return err_set(err, -ENODATA, "ELF file ends within its header");
    }
    r = check_header(&eh, err);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;
        uint64_t offset;

        if (__builtin_add_overflow(eh.e_phoff, i * sizeof(ph), &offset) ||
            elf_read(source, offset, &ph, sizeof(ph)) < 0) {
            return err_set(err, -ENODATA, "ELF file ends within its program headers");
        }
        if (ph.p_type == PT_NOTE && notes++ < NOTE_SEGMENT_MAX && !elf.pvh_entry) {
            elf.pvh_entry = elf_note_pvh_entry(source, &ph);
        }
        r = add_segment(&elf, &ph, err);
        if (r < 0) {
            return r;
        }
    }
    end_at(&elf, section_headers_end(&eh, source->len));
    elf.entry = eh.e_entry;
    if (elf.segment_count == 0 || !is_loaded(&elf, elf.entry)) {
        return err_set(err, -ENOEXEC,
                       "ELF file whose entry is not in a loaded segment: is it a kernel?");
    }
    if (elf.pvh_entry > UINT32_MAX || !is_loaded(&elf, elf.pvh_entry)) {
        elf.pvh_entry = 0;
    }
    *ret_elf = elf;
    return 0;
}

static int load_segment(const struct elf *elf, const struct elf_segment *s, struct mem_map *mem,
                        struct err *err)
{
    uint8_t *to = mem_ptr(mem, GPA(s->gpa), s->mem_len);
    char need[32];
    char have[32];
    int r;

    if (!to) {
        return err_set(err, -ENOSPC,
                       "the kernel does not fit into memory: it needs %s, the guest has %s",
                       str_from_size(align_up(elf->end, MIB), need),
                       str_from_size(mem_total_bytes(mem), have));
    }
    r = elf_read(&elf->source, s->offset, to, s->file_len);
    if (r < 0) {
        return err_set(err, r, "cannot read the kernel's segments: %s", strerror(-r));
    }
    mem_note_write(mem, GPA(s->gpa), s->mem_len);
    return 0;
}

int elf_load(const struct elf *elf, struct mem_map *mem, struct err *err)
{
    for (unsigned i = 0; i < elf->segment_count; i++) {
        int r = load_segment(elf, &elf->segments[i], mem, err);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}
