/* bzimage.h — the setup header of a bzImage (Documentation/arch/x86/boot.rst, "The real-mode kernel
 * header"). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BZIMAGE_HEAD_LEN  0x1000 /* enough of a file's beginning to parse it */
#define BZIMAGE_SETUP_MAX 0x9f   /* bytes of setup header: from 1F1H to the end of its room, 290H */

struct bzimage {
    uint64_t payload_offset; /* in the file */
    uint64_t payload_len;
    uint64_t initrd_max;  /* first address above where an initrd may be */
    uint64_t cmdline_max; /* longest command line, without its NUL */
    uint64_t alignment; /* of its linear address, a power of 2 from 2 MiB; 0: it cannot be moved */
    size_t setup_len;
    uint8_t setup[BZIMAGE_SETUP_MAX]; /* what belongs at 1F1H of the zero page */
};

/* Does it have a Linux boot sector? */
bool bzimage_sniff(const uint8_t *head, size_t len);

/* `head` is the beginning of a file of `file_len` bytes: all of it or BZIMAGE_HEAD_LEN. */
int bzimage_parse(const uint8_t *head, size_t len, uint64_t file_len, struct bzimage *ret_image,
                  struct err *err);

/* The header of a kernel that has none (a plain ELF). */
void bzimage_make_up(struct bzimage *ret_image);
