/* elf.h — the loadable part of an x86-64 ELF executable.
 *
 * Works on bytes in memory and on files, so that a vmlinux of several hundred megabytes is not read
 * for the 30 that are loaded.  Nothing in the file is trusted.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define ELF_SEGMENT_MAX 32

struct mem_map;

/* Where the bytes are: `data` if it is not NULL, else the file. Not owned. */
struct elf_source {
    const uint8_t *data;
    int fd;
    uint64_t start; /* of the ELF within */
    uint64_t len;   /* of the ELF, from there */
};

struct elf_segment {
    uint64_t offset;
    uint64_t gpa;
    uint64_t file_len;
    uint64_t mem_len; /* at least file_len; the rest is zeroed */
};

struct elf {
    struct elf_source source;
    uint64_t entry;     /* physical, 64-bit */
    uint64_t pvh_entry; /* physical, 32-bit: where a note says PVH begins; 0: it does not say */
    uint64_t start;     /* lowest physical address of a segment */
    uint64_t end;       /* first address above all segments */
    uint64_t file_end;  /* in the source; what follows there is not the ELF's */
    unsigned segment_count;
    struct elf_segment segments[ELF_SEGMENT_MAX];
};

/* Does it begin like an ELF file? */
bool elf_sniff(const void *data, size_t len);

/* Check the headers.  The source must outlive *ret_elf. */
int elf_parse(const struct elf_source *source, struct elf *ret_elf, struct err *err);

/* Exactly `len` bytes at `offset` of the source, -ENODATA if there are fewer. */
int elf_read(const struct elf_source *source, uint64_t offset, void *data, uint64_t len);

/* Copy the segments to guest memory, which must be zeroed where nothing was loaded before.
 * -ENOSPC: guest memory is too small. */
int elf_load(const struct elf *elf, struct mem_map *mem, struct err *err);
