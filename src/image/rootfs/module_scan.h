/* module_scan.h — the modules.dep of a tree that has none, from the modules themselves. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define MODULE_FILE_MAX (256 * 1024 * 1024) /* bytes, packed or not */

/* Append the lines of modules.dep for the modules in `names` that the tree `dir` has, and for what
 * they need.   -ENOENT: one needs another that is not
 * there. */
int module_scan(const char *dir, const char *const *names, size_t name_count, struct buf *dep,
                struct err *err);

/* Does the file at `path` hold the module `name`?  '-' and '_' are the same. */
bool module_is(const char *path, size_t len, const char *name);

/* Append the module file at `path`, unpacked. */
int module_read(const char *path, struct buf *out, struct err *err);
