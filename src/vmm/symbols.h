/* symbols.h — what a debugger wants to know of a kernel: its symbols, its sources, its gdb scripts.
 */
#pragma once

#include "vmm/kernel_find.h"

struct kernel_symbols {
    char vmlinux[KERNEL_PATH_MAX]; /* an ELF with symbols; "" if none was found */
    char source[KERNEL_PATH_MAX];  /* of the tree it was built from; "" if unknown */
    char scripts[KERNEL_PATH_MAX]; /* vmlinux-gdb.py; "" if there is none */
};

/* Beside the kernel, in the folder or image it came from, and where Debian and Fedora put the
 * debug information of a kernel of this release. */
void kernel_symbols_find(const struct kernel_choice *kernel, struct kernel_symbols *ret_symbols);
