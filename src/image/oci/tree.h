/* tree.h — an unpacked image on disk, with a list of its files by which one sees later whether it
 * is still whole.
 *
 *     <folder>/root/...   the files
 *     <folder>/list       for each: type, size, time of change, name
 */
#pragma once

#include "base/err.h"

/* Write <folder>/list from what is in <folder>/root. */
int oci_tree_seal(int folder_fd, struct err *err);
/* 0 if all files are as they were listed; -ESTALE with the name of one that is not. */
int oci_tree_check(int folder_fd, struct err *err);
/* Remove `name` in `folder_fd`, a file or a folder with all in it. */
void oci_tree_remove(int folder_fd, const char *name);
