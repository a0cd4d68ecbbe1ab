/* vimto.h — what the files of `vimto` share: tests on a kernel of one's choice. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "exec/forward.h"
#include "vmm/vm.h"

/* vimto itself failed. */
#define VIMTO_FAILED 128

/* --- the flags --- */

struct vimto_flags {
    const char *kernel; /* NULL: not said */
    const char *memory; /* as it was said: for `go test`, which hands it on */
    const char *smp;
    const char *gdb;    /* "": at the usual address */
    uint64_t mem_bytes; /* 0: not said */
    unsigned vcpu_count;
    struct forward_ports ports;
    bool sudo;
    bool show_console;
    bool is_verbose;
    bool help;
};

/* "size=128M" or "128M"; "cpus=2" or "2".  `name` is what an error calls it. */
int vimto_memory(const char *text, uint64_t *ret_bytes, struct err *err);
int vimto_smp(const char *text, unsigned *ret_count, struct err *err);

/* --- .vimto.toml (vimto_config.c) --- */

struct vimto_commands {
    char ***list; /* each ends with NULL */
    size_t count;
};

struct vimto_config {
    char *kernel; /* a file or folder, absolute, or an image; NULL: none */
    char *user;   /* NULL: the caller */
    uint64_t mem_bytes;
    unsigned vcpu_count;
    struct vimto_commands setup;
    struct vimto_commands teardown;
};

/* The root of the repository around `dir`, or of the Go module where there is none; allocated, NULL
 * if there is neither. */
char *vimto_find_root(const char *dir);
/* Defaults, then .vimto.toml of `dir` or the next one above it, up to `root` (NULL: of `dir`
 * alone), then `flags`. */
int vimto_config_load(const char *dir, const char *root, const struct vimto_flags *flags,
                      struct vimto_config *ret_config, struct err *err);
void vimto_config_fini(struct vimto_config *config);
/* A kernel as somebody in `dir` names it, for somebody who is elsewhere; allocated. */
char *vimto_kernel_path(const char *dir, const char *text);

/* --- what the VM shares with the host (vimto_shares.c) --- */

struct vimto_shares {
    char *paths[VM_MOUNT_MAX];
    unsigned count;
};

/* For `argv` run in `cwd`.  Nested folders are one share. */
int vimto_shares_find(const char *cwd, const char *root, char *const *argv,
                      struct vimto_shares *ret_shares, struct err *err);
void vimto_shares_fini(struct vimto_shares *shares);

/* --- after a core dump (vimto_core.c) --- */

/* Copy `program` into `cwd`, if it is a test binary that is elsewhere: its name there, else NULL.
 */
int vimto_keep_binary(const char *cwd, const char *program, const char **ret_name, struct err *err);

/* --- verbs; they return the exit status --- */

int vimto_exec(const struct vimto_flags *flags, char **argv);
/* Is this word a `go` of some version? */
bool vimto_is_go(const char *word);
/* `go test ...`, each test binary in a VM; returns only if it failed. */
int vimto_go_test(const struct vimto_flags *flags, char **argv);
