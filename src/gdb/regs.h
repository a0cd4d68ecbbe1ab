/* regs.h — registers as gdb knows them: their order, their description in XML, their bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct buf;
struct cpu_state;

#define GDB_REG_BYTES_MAX 16

unsigned gdb_reg_count(void);
/* Bytes of register `index`. */
size_t gdb_reg_bytes(unsigned index);
void gdb_reg_get(const struct cpu_state *cpu, unsigned index, uint8_t out[GDB_REG_BYTES_MAX]);
void gdb_reg_set(struct cpu_state *cpu, unsigned index, const uint8_t data[GDB_REG_BYTES_MAX]);
/* All of them for `qXfer:features:read:target.xml`. */
void gdb_reg_describe(struct buf *out);
