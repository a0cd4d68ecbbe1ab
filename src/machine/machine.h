/* machine.h — a virtual machine: built once from its configuration, run, ended, freed.
 *
 * machine_new() builds everything (memory, CPUs, devices, kernel in memory) and starts nothing;
 * machine_start() lets it run; it ends by itself or by machine_stop(), and then machine_end_fd()
 * becomes readable and machine_end() tells why.  machine_free() stops what still runs.  Between, it
 * can be paused: then no guest instruction runs, no device acts, and what others ask of a device is
 * still done.
 *
 * Threads: machine_stop(), machine_note_panic() and machine_type() from any; the rest from the one
 * that made it.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "config/vm_config.h"
#include "dev/port/tty_port.h"

struct buf;
struct machine;

/* Why a machine ended; the first cause wins. */
#define MACHINE_END_LIST(X)                 \
    X(MACHINE_RUNS, "runs")                 \
    X(MACHINE_POWEROFF, "poweroff")         \
    X(MACHINE_REBOOT, "reboot")             \
    X(MACHINE_PANIC, "panic")               \
    X(MACHINE_TRIPLE_FAULT, "triple fault") \
    X(MACHINE_STOPPED, "stopped")           \
    X(MACHINE_BROKEN, "broken")

enum machine_end {
#define X(name, text) name,
    MACHINE_END_LIST(X)
#undef X
};

const char *machine_end_name(enum machine_end end);

/* `console` receives what the guest writes to its serial port, on a vCPU's thread; it outlives the
 * machine.  The configuration is only read during the call. */
int machine_new(const struct vm_config *config, const struct tty_port *console,
                struct machine **ret_machine, struct err *err);
int machine_start(struct machine *machine, struct err *err);
/* The first half of it: all threads are there, and wait; machine_resume() is the second half. After
 * it the machine makes no further thread. */
int machine_start_paused(struct machine *machine, struct err *err);
/* Returns when everything stands still; nothing happens if it does already.  Time goes on for the
 * guest, which is told that it was stopped.  -ETIMEDOUT: something waits for memory that nobody
 * brings; the machine runs on. */
int machine_pause(struct machine *machine, struct err *err);
/* Let it run on; nothing happens if it runs.  All devices look at all their queues first.  The
 * first resume of a machine that came from a snapshot starts it, if nobody has. */
int machine_resume(struct machine *machine, struct err *err);
/* End it now, without asking the guest. */
void machine_stop(struct machine *machine);
/* The guest said on its console that it panics: the reset that follows is no reboot. */
void machine_note_panic(struct machine *machine);

/* Press Ctrl-Alt-Del.  1 when the guest was interrupted, 0 when it has its keyboard's interrupt
 * disabled, -ENOSPC when it does not read what was typed before. */
int machine_ctrl_alt_del(struct machine *machine);
/* Type into the serial port; returns how many bytes fit.  When that is not all, the console's
 * has_room is called once there is room again.  One thread at a time, any. */
size_t machine_type(struct machine *machine, const void *data, size_t len);

int machine_end_fd(const struct machine *machine);
enum machine_end machine_end(const struct machine *machine);
/* One sentence for MACHINE_BROKEN, "" otherwise. */
const char *machine_why(const struct machine *machine);

/* "kvm" or "soft". */
const char *machine_engine(const struct machine *machine);
/* A one-line warning about the choice of engine, or "". */
const char *machine_engine_warning(const struct machine *machine);

/* What the engine counted, as a table with a line for each counter, the sum and each vCPU in its
 * columns.  Stops the machine if it runs. */
void machine_counters(struct machine *machine, struct buf *out);

/* Put a device into the machine, on its PCI bus, while it runs or not; nobody tells the guest,
 * which looks for itself.  -ENOSPC: the bus is full. */
struct config_net;
int machine_plug_drive(struct machine *machine, const struct config_drive *drive, struct err *err);
int machine_plug_pmem(struct machine *machine, const struct config_pmem *pmem, struct err *err);
int machine_plug_net(struct machine *machine, const struct config_net *net, struct err *err);
/* Take a device off the PCI bus, as if it had been pulled; `kind` is "virtio-net" and the like.
 * After return it uses nothing of the host any more.  -ENOENT; -ETIMEDOUT as of machine_pause(). */
int machine_unplug(struct machine *machine, const char *kind, const char *id);

/* live_drive.c: another disk (NULL: the same) and the limits that the patch names.  The disk is the
 * caller's; the one before is no longer used.  A failure changes nothing. */
int machine_drive_patch(struct machine *machine, const struct resource_drive *patch,
                        struct disk_port *disk, struct err *err);
/* pmems.c: change the limits that the patch names.  -ENOENT. */
int machine_pmem_patch(struct machine *machine, const struct resource_pmem *patch);
/* Of a drive that another process serves: have its configuration read anew.  -ENOENT, or what the
 * process answered. */
int machine_drive_refresh(struct machine *machine, const char *id);
/* live_net.c: change the limits that the patch of an interface names; -ENOENT: there is none of
 * this id. */
int machine_net_patch(struct machine *machine, const struct resource_net *patch);

/* balloon.c: what a running machine's balloon is asked.  -ENOENT: there is none; -ENODEV: no driver
 * is there; -ERANGE: more than there is memory; -ENOTSUP: it was configured without. */
int machine_balloon_resize(struct machine *machine, uint32_t amount_mib);
int machine_balloon_stats(struct machine *machine, struct resource_balloon_stats *ret_stats);
int machine_balloon_set_interval(struct machine *machine, uint16_t interval_s);
int machine_balloon_start_hinting(struct machine *machine, bool acknowledge_on_stop);
int machine_balloon_stop_hinting(struct machine *machine);
int machine_balloon_hinting(struct machine *machine, struct resource_hinting *ret_hinting);

/* hotmem.c: how much memory the guest is to have plugged.  -ENOENT: there is no such device;
 * -ENODEV: the guest's driver is not there; -EINVAL: not whole blocks, or too much. */
int machine_hotmem_request(struct machine *machine, uint64_t mib);
int machine_hotmem_status(struct machine *machine, uint64_t *ret_plugged_mib,
                          uint64_t *ret_requested_mib);

void machine_free(struct machine *machine);
