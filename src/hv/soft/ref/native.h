/* native.h — SIMD and x87 instructions, run by the host CPU itself: life of the stub cache. */
#pragma once

#include "hv/soft/cpu/vcpu.h"

/* 0 or negative errno; v->native. */
int native_init(struct vcpu *v);
void native_fini(struct vcpu *v);
/* Forget all stubs: no block refers to one any more. */
void native_clear(struct vcpu *v);
bool native_is_full(const struct vcpu *v);
