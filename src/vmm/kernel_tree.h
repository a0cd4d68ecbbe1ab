/* kernel_tree.h — the kernel of a folder with boot/ and lib/modules/, and the modules for a kernel.
 *
 * Links in the folder are followed below it first, as a system that has it as its root would.  One
 * that only leads somewhere outside is the user's own (boot/vmlinux -> ../linux/vmlinux) and
 * followed as usual, but never in an image, which strangers made.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "vmm/kernel_find.h"

/* Image, release and modules of the folder `dir` ("" for "/").  -ENOENT without a kernel, -EACCES
 * if it cannot be read, -ENOEXEC when the modules are those of another one. */
int kernel_tree_find(const char *dir, bool is_image, struct kernel_choice *choice, struct err *err);
/* The modules for choice->image below the folder `dir`; false if there are none. */
bool kernel_tree_modules(const char *dir, struct kernel_choice *choice);
