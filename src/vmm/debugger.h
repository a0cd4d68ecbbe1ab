/* debugger.h — a gdb server for a VM that was asked for with one. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct debugger;
struct kernel_choice;
struct machine;

/* Before the machine starts: it will stand still before its first instruction.  `address` as
 * gdb_listen() takes it. */
int debugger_new(struct machine *machine, const struct kernel_choice *kernel, const char *address,
                 struct debugger **ret_debugger, struct err *err);
int debugger_start(struct debugger *debugger, struct err *err);
/* A command line of gdb, to be pasted into a shell. */
const char *debugger_command(const struct debugger *debugger);
/* How long the guest has stood still for it; 0 for NULL. */
int64_t debugger_stopped_ns(const struct debugger *debugger);
/* Before machine_free().  `status`: what the guest's command exited with. */
void debugger_free(struct debugger *debugger, int status);
