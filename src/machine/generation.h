/* generation.h — how the guest learns that it was restored: a VM generation id and a VM clock page,
 * both in its memory (boot/layout.h), with an interrupt each that ACPI turns into a notification.
 *
 * The id is 16 random bytes (Microsoft, "Virtual Machine Generation ID").  The page is the VMClock
 * of the UAPI group, without a clock: only its counters of disruptions and generations.  All state
 * is in the guest's memory, and so is part of every snapshot.
 */
#pragma once

#include "base/err.h"

struct machine;

/* Takes the two lowest free interrupt lines, behind the virtio devices. */
int machine_add_generation(struct machine *machine, struct err *err);
/* Before the first start: the first id, the empty clock. */
int machine_write_generation(struct machine *machine, struct err *err);
/* After a restore, before vCPUs run: a new id, counted disruption and generation, notifications. */
int machine_renew_generation(struct machine *machine, struct err *err);
