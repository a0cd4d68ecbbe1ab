/* jailer.h — the program `jailer`: run a program in a folder, cgroup, namespaces and under a user
 * of its own, as Firecracker's does (docs/jailer.md). */
#pragma once

/* Returns the exit status only where nothing is run: a failure, --help, a parent that is done. */
int jailer_main(int argc, char **argv, const char *version);
