/* microvm_int.h — what the files that do actions (do_<resource>.c) share.
 *
 * A handler checks and keeps, or does.  Its failure is a sentence without the prefix, which
 * microvm_do() puts in front; microvm_fault() makes one that stands alone.  Host objects (a disk's
 * file, a TAP, a vsock's socket) belong to struct microvm; the machine's devices borrow them from
 * its start on, so machine_free() comes before theirs.
 */
#pragma once

#include "base/buf.h"
#include "dev/port/vhost_port.h"
#include "machine/machine.h"
#include "vmm/microvm.h"

struct cpu_template;
struct loop_timer;
struct mmds;
struct net_inner;
struct net_port;
struct serial;
struct start_plan;

/* What was opened for a drive: one of the two. */
struct drive_host {
    struct disk_port *disk;
    struct vhost_port *vhost;
    uint8_t vhost_config[VHOST_CONFIG_BYTES];
};

struct microvm {
    struct microvm_options options;
    enum microvm_state state;
    bool blocks_load;     /* something was tried after which no snapshot can be loaded */
    bool has_whole_fault; /* the text of the failure is complete: no prefix */
    int exit_code;        /* -1 while it goes on */
    struct microvm_resources resources;
    struct machine *machine; /* NULL before the start */

    struct stream_port *vsock_port; /* do_vsock.c; NULL: none */

    /* do_boot.c */
    int kernel_fd; /* -1: none */
    int initrd_fd;

    /* do_net.c: one for each of resources.nets, in its order */
    struct net_port **net_ports;
    struct net_inner **net_inners; /* each may be NULL: no metadata service there */

    /* do_mmds.c */
    struct mmds *mmds; /* NULL while nobody asked for it */

    /* do_drive.c: one for each of resources.drives */
    struct drive_host *drive_hosts;

    /* do_cpu.c */
    struct cpu_template *cpu_template; /* custom; NULL: none */
    char *cpu_json;                    /* its text */
    /* do_pmem.c: one for each of resources.pmems while there is a machine, or one is being built */
    struct pmem_port **pmem_ports;

    /* do_serial.c */
    struct resource_serial serial_config;
    struct serial *serial; /* of the machine; NULL before the start */

    /* do_logger.c */
    struct loop_timer *metrics_timer;
};

typedef int (*microvm_fn)(struct microvm *vm, const struct action *action, struct err *err);

/* A failure whose text is complete.  Returns `code`. */
int microvm_fault(struct microvm *vm, struct err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The process is to end with this code once the action is answered. */
void microvm_exit(struct microvm *vm, int code);

/* An action as if a client had asked, for a machine that comes from a snapshot: no check of the
 * phase, no prefix. */
int microvm_configure(struct microvm *vm, const struct action *action, struct err *err);
void microvm_resources_fini(struct microvm_resources *resources);

/* For what only reads microvm_resources(). */
int do_nothing(struct microvm *vm, const struct action *action, struct err *err);

int do_put_machine(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_machine(struct microvm *vm, const struct action *action, struct err *err);

int do_put_boot(struct microvm *vm, const struct action *action, struct err *err);
void microvm_boot_fini(struct microvm *vm);

int do_put_cpu(struct microvm *vm, const struct action *action, struct err *err);
void microvm_cpu_fini(struct microvm *vm);
/* Is the host's CPU one that the built-in template is for?  Before a start; a snapshot brings its
 * own CPU. */
int microvm_check_cpu(const struct microvm *vm, struct err *err);
/* Template and threads into the machine's configuration. */
void microvm_lend_cpu(const struct microvm *vm, struct vm_config *config);

int do_put_drive(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_drive(struct microvm *vm, const struct action *action, struct err *err);
int do_delete_drive(struct microvm *vm, const struct action *action, struct err *err);
void microvm_drives_fini(struct microvm *vm);
int start_plan_add_drives(struct microvm *vm, struct start_plan *plan, struct err *err);

int do_put_net(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_net(struct microvm *vm, const struct action *action, struct err *err);
int do_delete_net(struct microvm *vm, const struct action *action, struct err *err);

void microvm_nets_fini(struct microvm *vm);
int start_plan_add_nets(struct microvm *vm, struct start_plan *plan, struct err *err);

int do_put_pmem(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_pmem(struct microvm *vm, const struct action *action, struct err *err);
int do_delete_pmem(struct microvm *vm, const struct action *action, struct err *err);
void microvm_close_pmems(struct microvm *vm);
int start_plan_add_pmems(struct microvm *vm, struct start_plan *plan, struct err *err);

int do_put_balloon(struct microvm *vm, const struct action *action, struct err *err);
int do_get_balloon(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_balloon(struct microvm *vm, const struct action *action, struct err *err);
int do_get_balloon_stats(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_balloon_stats(struct microvm *vm, const struct action *action, struct err *err);
int do_start_hinting(struct microvm *vm, const struct action *action, struct err *err);
int do_stop_hinting(struct microvm *vm, const struct action *action, struct err *err);
int do_get_hinting(struct microvm *vm, const struct action *action, struct err *err);

int do_put_vsock(struct microvm *vm, const struct action *action, struct err *err);
/* The host's end of it, as vm->resources.vsock says; there is none yet. */
int microvm_open_vsock(struct microvm *vm, struct err *err);

int do_put_entropy(struct microvm *vm, const struct action *action, struct err *err);

int do_put_serial(struct microvm *vm, const struct action *action, struct err *err);

/* With the machine: before it is made, when it runs, after it was freed. */
int microvm_open_serial(struct microvm *vm, struct err *err);
void microvm_connect_serial(struct microvm *vm);
void microvm_close_serial(struct microvm *vm);

int do_put_logger(struct microvm *vm, const struct action *action, struct err *err);

int do_put_metrics(struct microvm *vm, const struct action *action, struct err *err);
int do_flush_metrics(struct microvm *vm, const struct action *action, struct err *err);

/* A line now and one every minute; when the machine runs, and before it is freed. */
void microvm_start_metrics(struct microvm *vm);
void microvm_stop_metrics(struct microvm *vm);

int do_put_mmds(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_mmds(struct microvm *vm, const struct action *action, struct err *err);
int do_get_mmds(struct microvm *vm, const struct action *action, struct err *err);
int do_put_mmds_config(struct microvm *vm, const struct action *action, struct err *err);
/* The interface `id` goes, and with it the service behind it. */
void microvm_mmds_forget(struct microvm *vm, const char *id);
void microvm_mmds_fini(struct microvm *vm);

int do_put_memory(struct microvm *vm, const struct action *action, struct err *err);
int do_patch_memory(struct microvm *vm, const struct action *action, struct err *err);
int do_get_memory(struct microvm *vm, const struct action *action, struct err *err);

int do_start(struct microvm *vm, const struct action *action, struct err *err);
int do_send_ctrl_alt_del(struct microvm *vm, const struct action *action, struct err *err);

int do_patch_vm(struct microvm *vm, const struct action *action, struct err *err);

int do_create_snapshot(struct microvm *vm, const struct action *action, struct err *err);
int do_load_snapshot(struct microvm *vm, const struct action *action, struct err *err);

/* --- do_start.c, also for a machine that comes from a snapshot --- */

/* A machine's configuration and what it points to. */
struct start_plan {
    struct vm_config config;
    struct buf initrd;
    struct config_drive *drives;
    struct config_pmem *pmems;
    struct config_net *nets;
};

/* From the resources to what machine_new() takes; the host objects are lent. */
int start_plan_fill(struct microvm *vm, struct start_plan *plan, struct err *err);
void start_plan_fini(struct start_plan *plan);
/* The console, machine_new() and a watch for its end; nothing runs yet.  A failure leaves nothing
 * behind. */
int microvm_build(struct microvm *vm, const struct start_plan *plan, struct err *err);
/* Back to before microvm_build(); host objects stay for a retry. */
void microvm_unbuild(struct microvm *vm);
/* The machine's threads, and the filter of this one, which makes no thread any more. */
int microvm_start_threads(struct microvm *vm, struct err *err);
