/* forms.c — the tables made from insn.def, vex.def, evex.def and ops.def.
 *
 * The tables of instructions are read twice: once for names of row numbers, once for the rows.
 * INSN_OPCODE lines make a row too, which ends the forms of the opcode before it.
 */
#include "hv/soft/isa/forms.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)

/* Row numbers: those of INSN_OPCODE lines have a name made of map and opcode, the others of the
 * line they are on. */
enum row {
#define INSN_OPCODE(map, opcode)     ROW_##map##_##opcode,
#define INSN_OPCODE_RM(map, opcode)  ROW_##map##_##opcode,
#define INSN_OPCODE8(map, opcode)    ROW_##map##_##opcode,
#define INSN_OPCODE8_RM(map, opcode) ROW_##map##_##opcode,
#define INSN_FORM(...)               JOIN(ROW_LINE_, __LINE__),
#define INSN_FORM_IF(...)            JOIN(ROW_LINE_, __LINE__),
#include "hv/soft/isa/insn.def"
#define INSN_FORM_VEX(...) JOIN(ROW_EVEX_LINE_, __LINE__),
#include "hv/soft/isa/evex.def"
#undef INSN_FORM_VEX
#define INSN_FORM_VEX(...) JOIN(ROW_VEX_LINE_, __LINE__),
#include "hv/soft/isa/vex.def"
#undef INSN_OPCODE
#undef INSN_OPCODE_RM
#undef INSN_OPCODE8
#undef INSN_OPCODE8_RM
#undef INSN_FORM
#undef INSN_FORM_IF
#undef INSN_FORM_VEX
    ROW_END
};

#define ONE(map, opcode, more, rm) \
    [(map) << 8 | ((opcode) + (more))] = {ROW_##map##_##opcode + 1, rm},
#define EIGHT(map, opcode)     \
    ONE(map, opcode, 0, false) \
    ONE(map, opcode, 1, false) \
    ONE(map, opcode, 2, false) \
    ONE(map, opcode, 3, false) \
    ONE(map, opcode, 4, false) \
    ONE(map, opcode, 5, false) \
    ONE(map, opcode, 6, false) \
    ONE(map, opcode, 7, false)

const struct insn_opcode insn_opcode[INSN_MAP_COUNT * 256] = {
#define INSN_OPCODE(map, opcode)    ONE(map, opcode, 0, false)
#define INSN_OPCODE_RM(map, opcode) ONE(map, opcode, 0, true)
#define INSN_OPCODE8(map, opcode)   EIGHT(map, opcode)
#define INSN_FORM(...)
#define INSN_FORM_IF(...)
#define INSN_FORM_VEX(...)
#include "hv/soft/isa/evex.def"
#include "hv/soft/isa/insn.def"
#include "hv/soft/isa/vex.def"
#undef INSN_OPCODE
#undef INSN_OPCODE_RM
#undef INSN_OPCODE8
#undef INSN_FORM
#undef INSN_FORM_IF
#undef INSN_FORM_VEX
};

/* What `select` names: mask and value of the key. */
#define MASK_ALL       0u
#define MASK_MEM       KEY_MEM
#define MASK_REG       KEY_MEM
#define MASK_G(n)      0x38u
#define MASK_MEMG(n)   (0x38u | KEY_MEM)
#define MASK_REGG(n)   (0x38u | KEY_MEM)
#define MASK_MEMG_W(n) (0x38u | KEY_MEM | KEY_W)
#define MASK_EXACT(b)  (0xffu | KEY_MEM)
#define MASK_NO_B      KEY_B

#define VALUE_ALL       0u
#define VALUE_MEM       KEY_MEM
#define VALUE_REG       0u
#define VALUE_G(n)      ((n) << 3)
#define VALUE_MEMG(n)   ((n) << 3 | KEY_MEM)
#define VALUE_REGG(n)   ((n) << 3)
#define VALUE_MEMG_W(n) ((n) << 3 | KEY_MEM | KEY_W)
#define VALUE_EXACT(b)  (b)
#define VALUE_NO_B      0u

#define MASK_W0   KEY_W
#define VALUE_W0  0u
#define MASK_W1   KEY_W
#define VALUE_W1  KEY_W
#define MASK_WIG  0u
#define VALUE_WIG 0u

#define MODE_MASK(flags)  ((flags) & (F_I64 | F_O64) ? KEY_LONG : 0u)
#define MODE_VALUE(flags) ((flags)&F_O64 ? KEY_LONG : 0u)

const struct insn_form insn_form[] = {
#define INSN_OPCODE(map, opcode)    {.op = INSN_INVALID},
#define INSN_OPCODE_RM(map, opcode) {.op = INSN_INVALID},
#define INSN_OPCODE8(map, opcode)   {.op = INSN_INVALID},
#define INSN_FORM_IF(has, class_, op_, prefix_, select, a, b, c, flags_) \
    {.op = INSN_##op_,                                                   \
     .klass = INSN_CLASS_##class_,                                       \
     .prefix = PREFIX_##prefix_,                                         \
     .mask = (MASK_##select) | MODE_MASK(flags_),                        \
     .value = (VALUE_##select) | MODE_VALUE(flags_),                     \
     .operand = {OPERAND_##a, OPERAND_##b, OPERAND_##c},                 \
     .flags = (flags_),                                                  \
     .features = (has)},
#define INSN_FORM(...) INSN_FORM_IF(0, __VA_ARGS__)
#include "hv/soft/isa/insn.def"
#define INSN_FORM_VEX(class_, op_, prefix_, select, w, l, a, b, c, d, flags_, avx_, elem_, has) \
    {.op = INSN_##op_,                                                                          \
     .klass = INSN_CLASS_##class_,                                                              \
     .prefix = PREFIX_##prefix_,                                                                \
     .mask = (MASK_##select) | (MASK_##w) | MODE_MASK(flags_),                                  \
     .value = (VALUE_##select) | (VALUE_##w) | MODE_VALUE(flags_),                              \
     .operand = {OPERAND_##a, OPERAND_##b, OPERAND_##c, OPERAND_##d},                           \
     .flags = (flags_),                                                                         \
     .avx = (avx_),                                                                             \
     .vl = VL_##l,                                                                              \
     .elem = (elem_),                                                                           \
     .features = (has)},
#include "hv/soft/isa/evex.def"
#include "hv/soft/isa/vex.def"
#undef INSN_OPCODE
#undef INSN_OPCODE_RM
#undef INSN_OPCODE8
#undef INSN_FORM
#undef INSN_FORM_IF
#undef INSN_FORM_VEX
    {.op = INSN_INVALID},
};

_Static_assert(sizeof(insn_form) / sizeof(insn_form[0]) == ROW_END + 1, "one row per line");

const struct operand_spec insn_operand_spec[OPERAND_COUNT] = {
#define X(name, place_, size_, more_) {AT_##place_, SIZE_##size_, more_},
    OPERAND_LIST(X)
#undef X
};

static const char *const op_names[] = {
    "INVALID",
#define INSN_OP(name) #name,
#include "hv/soft/isa/ops.def"
#undef INSN_OP
};

const char *insn_op_name(enum insn_op op)
{
    return (unsigned)op < INSN_OP_COUNT ? op_names[op] : "?";
}
