/* run_vm.h — one VM for one command: `ec1 run` and `vimto`.
 *
 * Builds the machine, boots it, runs the command with the caller's stdin, stdout and stderr, ends
 * the machine.  What goes wrong is said on stderr here, with the tail of the console where the
 * guest died. INT, TERM, HUP and QUIT cancel the boot; while a command runs they are the command's.
 * One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/process.h"
#include "cli/run_cancel.h"
#include "exec/forward.h"
#include "vmm/vm.h"

/* The caller fills what stands above the line, and keeps all that it points at. */
struct run_vm {
    struct vm_spec *spec; /* command_text, workdir and pull are set here */
    const struct process_args *process;
    char **argv;
    struct process_io io;              /* cancel_fd is set here */
    int failed_status;                 /* the exit status of our own failures */
    int64_t timeout_ns;                /* 0: none */
    pid_t parent;                      /* 0, or: with the end of this process the run ends */
    bool is_quiet;                     /* no warnings, no progress */
    bool is_verbose;                   /* what is done, and when */
    int64_t start_ns;                  /* clock_mono_ns() when the caller began */
    const struct forward_ports *ports; /* of this host that lead into the VM; NULL: none */
    /* NULL, or called when the guest is up, before the command: 0, an exit status in place of the
     * command's (its reason has been said), or a negative errno. */
    int (*before)(struct run_vm *run, struct err *err);
    /* NULL, or called with the exit status of the command, or of before(), while the guest is still
     * up: returns the one to end with. */
    int (*after)(struct run_vm *run, int status);
    void *owner;

    /* --- */
    struct vm *vm;
    struct forward *forward;
    bool has_core; /* the command died and left a core dump */
    struct run_cancel cancel;
    int64_t built_ns, ready_ns, ended_ns; /* clock_mono_ns() */
};

/* Returns the exit status. */
int run_vm(struct run_vm *run);
/* For before() and after(): another process in the guest, until it ends.  Returns its exit status;
 * a failure has been said. */
int run_vm_process(struct run_vm *run, const struct process_args *process, char **argv,
                   const struct process_io *io);
