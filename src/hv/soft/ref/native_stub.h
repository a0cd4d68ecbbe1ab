/* native_stub.h — the executable stubs behind native.c. */
#pragma once

#include "hv/soft/cpu/vcpu.h"
#include "hv/soft/isa/insn.h"

/* Load the vector and general registers that the instruction names, run it with its memory operand
 * at `mem`, store what it wrote. */
typedef void (*native_fn)(struct vcpu *v, void *mem);

/* Does this MMX, SSE or x87 instruction write arithmetic flags? */
bool native_defines_flags(const struct insn *insn);

/* The stub for the instruction; with_x87: all x87 and vector state goes through FXRSTOR and FXSAVE
 * around it.  NULL when there is no room left. */
native_fn native_stub(struct native_cache *n, const struct insn *insn, bool with_x87);
