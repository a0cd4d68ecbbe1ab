/* core.h — core dumps: the kernel hands each to this program, which puts it into a folder of the
 * host.
 *
 * Written by the kernel itself, a dump would have to belong to the process that died, which a file
 * on a share cannot when the host's user is another one; and its name, with the folder, would have
 * to fit into core_pattern's 127 bytes.
 */
#pragma once

#include <stddef.h>

#include "guest/init/report.h"

/* Make dumps go to the folder `dir` as "core-<program>-<pid>". */
void core_setup(const void *dir, size_t len, struct report *report);
/* `ec1-init core LIMIT NAME`: the dump comes on stdin.  Returns the exit status. */
int core_main(int argc, char **argv);

/* The dump on `in` to the file `path`, with holes where it has zeros.  0 or -errno, and no file. */
int core_store(int in, const char *path);
