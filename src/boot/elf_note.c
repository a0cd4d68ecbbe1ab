/* elf_note.c — the note in a kernel's ELF that names its entry for PVH.
 *
 * A segment of notes is a row of header, name and content, each padded to four bytes, or to eight
 * where the segment is aligned so (System V gABI, "Note Section").
 */
#include "boot/elf_note.h"

#include <string.h>

#include "base/bits.h"

/* Xen, public/elfnote.h: the physical address at which it is entered in 32-bit protected mode. */
#define XEN_NOTE_NAME         "Xen"
#define XEN_NOTE_PHYS32_ENTRY 18

#define NOTE_COUNT_MAX 256 /* each costs two reads of the file; Linux has about 15 */

static uint64_t entry_of(const struct elf_source *source, const Elf64_Nhdr *note, uint64_t name,
                         uint64_t content)
{
    char owner[sizeof(XEN_NOTE_NAME)];
    uint8_t entry[8] = {0};

    if (note->n_type != XEN_NOTE_PHYS32_ENTRY || note->n_namesz != sizeof(owner) ||
        (note->n_descsz != 4 && note->n_descsz != sizeof(entry)) ||
        elf_read(source, name, owner, sizeof(owner)) < 0 ||
        memcmp(owner, XEN_NOTE_NAME, sizeof(owner)) != 0 ||
        elf_read(source, content, entry, note->n_descsz) < 0) {
        return 0;
    }
    return load_le64(entry);
}

uint64_t elf_note_pvh_entry(const struct elf_source *source, const Elf64_Phdr *segment)
{
    uint64_t align = segment->p_align == 8 ? 8 : 4;
    uint64_t at = segment->p_offset;
    uint64_t end;

    if (!range_within(segment->p_offset, segment->p_filesz, source->len)) {
        return 0;
    }
    end = segment->p_offset + segment->p_filesz;
    for (unsigned i = 0; i < NOTE_COUNT_MAX && at < end; i++) {
        Elf64_Nhdr note;
        uint64_t content;
        uint64_t entry;

        if (end - at < sizeof(note) || elf_read(source, at, &note, sizeof(note)) < 0) {
            return 0;
        }
        content = at + align_up(sizeof(note) + (uint64_t)note.n_namesz, align);
        if (content > end || note.n_descsz > end - content) {
            return 0;
        }
        entry = entry_of(source, &note, at + sizeof(note), content);
        if (entry) {
            return entry;
        }
        at = content + align_up(note.n_descsz, align);
    }
    return 0;
}
