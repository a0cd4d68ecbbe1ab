/* snapshot.h — a machine's state into files and back (docs/snapshots.md).
 *
 * Restoring is building: machine_new() with config->restored makes the same machine without a
 * kernel, machine_load() puts the state into it, and its first machine_resume() lets it run.
 *
 * Threads: as machine.h.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct machine;
struct state_file;

/* Everything but memory, as sections.  The machine is paused.  Devices may finish what is in
 * flight, so memory comes after. */
int machine_save(struct machine *machine, struct state_file *file, struct err *err);
/* `advance_clock`: the guest's wall clock goes on as if it had not been stopped. */
int machine_load(struct machine *machine, struct state_file *file, bool advance_clock,
                 struct err *err);
/* Devices that cannot be saved, as "kind(id: x)" with commas; 0: none. */
int machine_check_saveable(const struct machine *machine, struct err *err);

enum memory_part {
    MEMORY_ALL,
    MEMORY_CHANGED, /* what was written since the last time, or all that is in use */
};

/* Guest memory into `fd`, whose content it takes over if it has the right size (in place). */
int machine_save_memory(struct machine *machine, int fd, enum memory_part part, struct err *err);
/* The snapshot is complete: what is written from now on is what the next one calls changed. */
void machine_forget_changes(struct machine *machine);
