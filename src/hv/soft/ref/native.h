/* native.h — SIMD and x87 instructions, run by the host CPU itself: life of the stub cache. */
#pragma once

#include "hv/soft/cpu/vcpu.h"

/* 0 or negative errno; v->native. */
int native_init(struct vcpu *v);
void native_fini(struct vcpu *v);
/* Forget all stubs: no block refers to one any more. */
void native_clear(struct vcpu *v);
bool native_is_full(const struct vcpu *v);

/* Extensions beyond x86-64-v2 that the host may lack. */
#define NATIVE_AES    0x01u
#define NATIVE_PCLMUL 0x02u
#define NATIVE_SHA    0x04u
#define NATIVE_GFNI   0x08u
#define NATIVE_RDRAND 0x10u
#define NATIVE_RDSEED 0x20u
/* Does the host have all of `features`? */
bool native_has(const struct vcpu *v, unsigned features);
