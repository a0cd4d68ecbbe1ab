/* vimto.h — what the files of `vimto` share: tests on a kernel of one's choice. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* vimto itself failed. */
#define VIMTO_FAILED 128

/* What the flags say. */
struct vimto_flags {
    const char *kernel; /* NULL: not said */
    uint64_t mem_bytes; /* 0: not said */
    unsigned vcpu_count;
    bool sudo;
    bool show_console;
    bool is_verbose;
    bool help;
};

/* `vimto exec`: returns the exit status. */
int vimto_exec(const struct vimto_flags *flags, char **argv);
