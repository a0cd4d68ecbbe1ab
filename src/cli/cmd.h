/* cmd.h — the subcommands: each takes its own argv (argv[0] is its name) and returns the exit
 * status. */
#pragma once

#include "base/err.h"

/* ec1 itself failed; the command's own statuses are below. */
#define STATUS_FAILED 125
/* The guest kernel panicked. */
#define STATUS_PANIC 255

/* What clients of the REST interface are told, who compare it with what they know. */
#define FC_VERSION "1.17.0-dev"

#define CMD_LIST(X)                                                                           \
    X(run, "[flags] [--] COMMAND...", "boot a VM, run COMMAND in it, exit with its status")   \
    X(exec, "[flags] VM [--] COMMAND...", "run COMMAND in a running VM")                      \
    X(ps, "[-a] [--json]", "list running VMs")                                                \
    X(logs, "[--boot] [-f] VM", "show the output of a detached VM, or its console")           \
    X(stop, "[--timeout T] VM...", "end a VM in order")                                       \
    X(kill, "VM...", "end a VM at once")                                                      \
    X(rm, "[-f] VM...", "forget a VM that ended")                                             \
    X(vimto, "[flags] exec [--] COMMAND...", "run tests on a chosen kernel: what `vimto` is") \
    X(pull, "IMAGE", "fetch an image of a kernel, print its folder")                          \
    X(api, "[options]", "a microVM with a REST interface: what `firecracker` is")             \
    X(seccompiler, "[options]", "compile system call filters for it")                         \
    X(doctor, "[--json]", "what this host can do, and how to mend what it cannot")

#define X(name, usage, help) int cmd_##name(int argc, char **argv);
CMD_LIST(X)
#undef X

/* First of all in main(): standard descriptors that are there, no death by SIGPIPE. */
void cmd_begin(void);
/* Show a failure as "ec1: <sentence>" and return STATUS_FAILED. */
int cmd_fail(const struct err *err);
/* For --help: "usage: ec1 <name> <usage>" to stdout. */
void cmd_usage(const char *name);
