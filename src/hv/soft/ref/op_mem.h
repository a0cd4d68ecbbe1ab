/* op_mem.h — templates of handlers with a memory operand.
 *
 * Each makes two functions: NAME, which runs on a soft TLB hit and calls nothing, and NAME_slow,
 * which sets v->rip and goes through mmu/.  `ea` is op_la_base or op_la_full.  The body sees `v`,
 * `op`, and `x`, the value in memory; it runs after everything that can raise.
 */
#pragma once

#include "hv/soft/ref/op.h"

#define OP_UINT(bits) uint##bits##_t

/* x = memory; body. */
#define OP_LOAD(name, bits, ea, ...)                                                 \
    OP_COLD OP_HANDLER(name##_slow)                                                  \
    {                                                                                \
        OP_UINT(bits) x = (OP_UINT(bits))op_load_slow(v, op, ea(v, op), (bits) / 8); \
        __VA_ARGS__;                                                                 \
        return op + 1;                                                               \
    }                                                                                \
    OP_HANDLER(name)                                                                 \
    {                                                                                \
        const void *p = mmu_hit(v, TLB_READ, ea(v, op), (bits) / 8);                 \
        OP_UINT(bits) x;                                                             \
        if (UNLIKELY(!p)) {                                                          \
            OP_TAIL return name##_slow(v, op);                                       \
        }                                                                            \
        memcpy(&x, p, sizeof(x));                                                    \
        __VA_ARGS__;                                                                 \
        OP_NEXT(v, op);                                                              \
    }

/* body computes x (and changes nothing else); memory = x. */
#define OP_STORE(name, bits, ea, ...)                           \
    OP_COLD OP_HANDLER(name##_slow)                             \
    {                                                           \
        OP_UINT(bits) x;                                        \
        __VA_ARGS__;                                            \
        op_store_slow(v, op, ea(v, op), x, (bits) / 8);         \
        return op_after_write(v, op);                           \
    }                                                           \
    OP_HANDLER(name)                                            \
    {                                                           \
        void *p = mmu_hit(v, TLB_WRITE, ea(v, op), (bits) / 8); \
        OP_UINT(bits) x;                                        \
        if (UNLIKELY(!p)) {                                     \
            OP_TAIL return name##_slow(v, op);                  \
        }                                                       \
        __VA_ARGS__;                                            \
        memcpy(p, &x, sizeof(x));                               \
        OP_NEXT(v, op);                                         \
    }

/* x = memory; body changes x, flags and registers; memory = x. */
#define OP_RMW(name, bits, ea, ...)                             \
    OP_COLD OP_HANDLER(name##_slow)                             \
    {                                                           \
        uint64_t la = ea(v, op);                                \
        OP_UINT(bits) x;                                        \
        op_check_write(v, op, la, (bits) / 8);                  \
        x = (OP_UINT(bits))op_load_slow(v, op, la, (bits) / 8); \
        __VA_ARGS__;                                            \
        op_store_slow(v, op, la, x, (bits) / 8);                \
        return op_after_write(v, op);                           \
    }                                                           \
    OP_HANDLER(name)                                            \
    {                                                           \
        void *p = mmu_hit(v, TLB_WRITE, ea(v, op), (bits) / 8); \
        OP_UINT(bits) x;                                        \
        if (UNLIKELY(!p)) {                                     \
            OP_TAIL return name##_slow(v, op);                  \
        }                                                       \
        memcpy(&x, p, sizeof(x));                               \
        __VA_ARGS__;                                            \
        memcpy(p, &x, sizeof(x));                               \
        OP_NEXT(v, op);                                         \
    }
