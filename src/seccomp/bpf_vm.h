/* bpf_vm.h — for tests: what the kernel would answer to a call, by a program. */
#pragma once

#include <linux/seccomp.h>
#include <stdbool.h>
#include <string.h>

#include "seccomp/compile.h"

/* The whole of the instruction set that seccomp takes from classic BPF, apart from the scratch
 * memory: more than our compiler makes, so that it may be held against another one.  false: an
 * instruction that is none. */
static bool bpf_vm_run(const struct sock_filter *code, size_t len, const struct seccomp_data *data,
                       uint32_t *ret_action)
{
    uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {0};

    for (size_t pc = 0; pc < len; pc++) {
        const struct sock_filter *f = &code[pc];
        uint32_t operand = BPF_SRC(f->code) == BPF_X ? x : f->k;
        bool taken;

        switch (BPF_CLASS(f->code)) {
        case BPF_LD:
            if (BPF_MODE(f->code) == BPF_MEM) {
                a = memory[f->k % BPF_MEMWORDS];
            } else if (f->code == (BPF_LD | BPF_W | BPF_ABS) && f->k + 4 <= sizeof(*data)) {
                memcpy(&a, (const char *)data + f->k, 4);
            } else {
                return false;
            }
            break;
        case BPF_ST: memory[f->k % BPF_MEMWORDS] = a; break;
        case BPF_ALU:
            if (BPF_OP(f->code) != BPF_AND) {
                return false;
            }
            a &= operand;
            break;
        case BPF_JMP:
            if (BPF_OP(f->code) == BPF_JA) {
                pc += f->k;
                break;
            }
            switch (BPF_OP(f->code)) {
            case BPF_JEQ: taken = a == operand; break;
            case BPF_JGT: taken = a > operand; break;
            case BPF_JGE: taken = a >= operand; break;
            case BPF_JSET: taken = a & operand; break;
            default: return false;
            }
            pc += taken ? f->jt : f->jf;
            break;
        case BPF_RET: *ret_action = f->k; return f->code == (BPF_RET | BPF_K);
        default: return false;
        }
    }
    return false;
}
