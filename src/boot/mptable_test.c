/* mptable_test.c — a kernel that knows only MP tables finds CPUs, I/O APIC and interrupts. */
#include <errno.h>

#include "base/bits.h"
#include "boot/mptable.h"
#include "mem/map.h"
#include "tests/lib/test.h"

static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t total = 0;

    while (len-- > 0) {
        total = (uint8_t)(total + *p++);
    }
    return total;
}

TEST(boot, mp_table_has_cpus_and_interrupts)
{
    struct mem_map *mem = mem_map_new();
    struct err err = {0};
    const uint8_t *pointer;
    const uint8_t *table;
    const uint8_t *at;

    CHECK_OK(mem_map_add(mem, GPA(0), MIB, &err), &err);
    CHECK_OK(mptable_write(32, mem, &err), &err); /* the most there are */
    pointer = mem_ptr(mem, GPA(0x9fc00), 16);
    CHECK_MEM(pointer, "_MP_", 4);
    CHECK_INT(sum(pointer, 16), 0);
    table = mem_ptr(mem, GPA(load_le32(pointer + 4)), 44);
    CHECK_MEM(table, "PCMP", 4);
    CHECK_MEM(table + 8, "FC      000000000000", 20);
    CHECK_INT(sum(table, load_le16(table + 4)), 0);
    CHECK_INT(load_le16(table + 34), 32 + 2 + 24 + 2);
    at = table + 44;
    CHECK_INT(at[3], 3); /* the boot processor */
    CHECK_INT(at[20 + 1], 1);
    CHECK_INT(at[20 + 3], 1);
    at += 32 * 20;
    CHECK_MEM(at + 2, "ISA", 3);
    CHECK_INT(at[8], 2);
    CHECK_INT(at[8 + 1], 33);
    CHECK_INT(load_le32(at + 8 + 4), 0xfec00000);
    at += 16 + 23 * 8;
    CHECK_INT(at[5], 23);
    CHECK_INT(at[6], 33);
    CHECK_INT(at[7], 23);
    CHECK_INT(load_le16(table + 4), at + 8 + 16 - table);
    CHECK_INT(mptable_write(40, mem, &err), -ENOSPC);
    mem_map_free(mem);
}
