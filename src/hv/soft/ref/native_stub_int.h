/* native_stub_int.h — what builds stubs: bytes, and how guest state gets into registers and back.
 *
 * A stub has struct vcpu in RDI and the memory operand in RSI.  A general register of the guest
 * that ModRM.reg names is RAX there, ModRM.rm RCX, VEX.vvvv RDX.
 */
#pragma once

#include <string.h>

#include "hv/soft/cpu/vcpu.h"
#include "hv/soft/isa/insn.h"

#define STUB_MAX 320u

struct code {
    uint8_t bytes[STUB_MAX];
    unsigned len;
};

static inline void emit(struct code *c, const void *bytes, unsigned len)
{
    memcpy(c->bytes + c->len, bytes, len);
    c->len += len;
}

#define EMIT(c, ...)                            \
    do {                                        \
        const uint8_t bytes_[] = {__VA_ARGS__}; \
        emit((c), bytes_, sizeof(bytes_));      \
    } while (0)

static inline void emit32(struct code *c, size_t value)
{
    uint32_t v32 = (uint32_t)value;

    emit(c, &v32, 4);
}

/* MOV host, [rdi+off of guest] or back; host is RAX, RCX or RDX.  native_stub.c */
void stub_gpr(struct code *c, bool is_store, unsigned host, unsigned guest);
/* Arithmetic flags to v->aflags, by way of AX. */
void stub_flags_out(struct code *c);

/* A whole stub for a VEX or EVEX instruction; has_zmm: ZMM registers are guest state.
 * native_avx_stub.c */
void stub_build_avx(struct code *c, const struct insn *insn, bool has_zmm);
