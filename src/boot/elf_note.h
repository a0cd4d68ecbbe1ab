/* elf_note.h — the note in a kernel's ELF that names its entry for PVH. */
#pragma once

#include <elf.h>
#include <stdint.h>

#include "boot/elf.h"

/* Look through a segment of notes.  0: it has no such note, or is damaged, which is no reason not
 * to load the kernel. */
uint64_t elf_note_pvh_entry(const struct elf_source *source, const Elf64_Phdr *segment);
