/* source.h — filters in their readable form, Firecracker's: a JSON object with a filter for each
 * thread (docs/seccomp.md).
 */
#pragma once

#include "seccomp/container.h"

struct seccomp_source_options {
    const char *arch; /* "x86_64" or "aarch64", whose programs are made */
    bool is_basic;    /* conditions on arguments are left out */
};

/* Compile `text`.  `container` is empty before, and after a failure: -EINVAL, -E2BIG or -ENOMEM
 * with a sentence. */
int seccomp_source_compile(const char *text, size_t len,
                           const struct seccomp_source_options *options,
                           struct seccomp_container *container, struct err *err);
