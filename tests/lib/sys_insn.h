/* sys_insn.h — hand-made instructions for tests of ref/, and running one. */
#pragma once

#include "hv/soft/ref/ref.h"
#include "tests/lib/sys_vm.h"

/* Execute one operation without operands; the result, or -1 - vector if it raised. */
static inline int run(struct soft_vm *vm, struct insn insn)
{
    insn.len = insn.len ? insn.len : 2;
    if (_setjmp(vm->v->unwind)) {
        return -1 - vm->v->exc.vector;
    }
    return insn.klass == INSN_CLASS_FPSTATE ? (int)ref_fpstate(vm->v, &insn)
                                            : (int)ref_system(vm->v, &insn);
}

static inline int op(struct soft_vm *vm, enum insn_op name)
{
    return run(vm, (struct insn){.op = name, .opsize = 8});
}

#define RAISED(vector) (-1 - (vector))

static inline struct insn_operand reg(uint8_t kind, uint8_t number, uint8_t size)
{
    return (struct insn_operand){.kind = kind, .reg = number, .size = size};
}

/* An instruction with a register operand in RAX. */
static inline struct insn with_rax(enum insn_op name, uint8_t size)
{
    return (struct insn){
        .op = name, .opsize = size, .operand_count = 1, .operand = {reg(INSN_GPR, GPR_RAX, size)}};
}

/* An instruction whose operand is memory at [rbx]. */
static inline struct insn with_mem(enum insn_op name, uint8_t opsize, uint8_t size)
{
    return (struct insn){.op = name,
                         .opsize = opsize,
                         .addrsize = 8,
                         .seg = SEG_DS,
                         .base = GPR_RBX,
                         .index = INSN_NO_REG,
                         .scale = 1,
                         .operand_count = 1,
                         .operand = {{.kind = INSN_MEM, .size = size}}};
}
