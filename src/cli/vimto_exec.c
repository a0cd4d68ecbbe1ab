/* vimto_exec.c — `vimto exec`: one command in a VM that looks like the host. */
#include <unistd.h>

#include "base/bits.h"
#include "base/clock.h"
#include "cli/run_vm.h"
#include "cli/vimto.h"

/* Go's tools need more than a plain program. */
#define DEFAULT_MEM_BYTES (512 * MIB)

int vimto_exec(const struct vimto_flags *flags, char **argv)
{
    struct process_args process = {.user = flags->sudo ? "root" : NULL};
    struct vm_spec spec = {.vcpu_count = flags->vcpu_count ? flags->vcpu_count : 1,
                           .mem_bytes = flags->mem_bytes ? flags->mem_bytes : DEFAULT_MEM_BYTES,
                           .kernel = flags->kernel,
                           .overlay = true,
                           .show_console = flags->show_console};
    struct run_vm run = {.spec = &spec,
                         .process = &process,
                         .argv = argv,
                         .io = {.in = STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO},
                         .failed_status = VIMTO_FAILED,
                         .is_verbose = flags->is_verbose,
                         .start_ns = clock_mono_ns()};

    return run_vm(&run);
}
