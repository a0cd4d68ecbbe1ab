/* map_test.c — guest memory is checked before it is touched, and watched writes are reported. */
#include <errno.h>

#include "base/bits.h"
#include "mem/map.h"
#include "tests/lib/test.h"

static struct mem_map *two_ranges(void)
{
    struct mem_map *map = mem_map_new();
    struct err err = {0};

    CHECK_OK(mem_map_add(map, GPA(4 * GIB), MIB, &err), &err);
    CHECK_OK(mem_map_add(map, GPA(0), 2 * MIB, &err), &err);
    return map;
}

TEST(mem, ranges_are_sorted_and_disjoint)
{
    struct mem_map *map = two_ranges();
    struct err err = {0};

    CHECK_INT(mem_range_count(map), 2);
    CHECK_INT(mem_range_at(map, 0)->gpa.v, 0);
    CHECK_INT(mem_total_bytes(map), 3 * MIB);
    CHECK_INT(mem_map_add(map, GPA(MIB), 4096, &err), -EEXIST);
    CHECK_INT(mem_map_add(map, GPA(8 * GIB), 100, &err), -EINVAL);
    CHECK_INT(mem_map_add(map, GPA(8 * GIB), UINT64_C(1) << 63, &err), -ENOMEM);
    mem_map_free(map);
}

TEST(mem, accesses_outside_ram_fail_whole)
{
    struct mem_map *map = two_ranges();
    uint8_t data[16] = {1};

    CHECK_INT(mem_write(map, GPA(2 * MIB - 16), data, 16), 0);
    CHECK_INT(mem_write(map, GPA(2 * MIB - 15), data, 16), -EFAULT);
    CHECK_INT(mem_read(map, GPA(3 * GIB), data, 1), -EFAULT);
    CHECK_INT(mem_read(map, GPA(UINT64_MAX), data, 16), -EFAULT);
    CHECK(mem_ptr(map, GPA(4 * GIB), MIB) != NULL);
    CHECK(mem_ptr(map, GPA(4 * GIB), MIB + 1) == NULL);
    mem_map_free(map);
}

static void watch(void *owner, gpa_t gpa, uint64_t len)
{
    uint64_t *log = owner;

    log[0]++;
    log[1] = gpa.v;
    log[2] = len;
}

TEST(mem, a_page_stays_flagged_until_every_flag_is_taken_back)
{
    struct mem_map *map = mem_map_new();

    CHECK_INT(mem_map_add(map, GPA(0), 0x10000, NULL), 0);
    mem_page_flag(map, GPA(0x3000), true);
    mem_page_flag(map, GPA(0x3000), true);
    mem_page_flag(map, GPA(0x3000), false);
    CHECK(mem_page_is_flagged(map, GPA(0x3000)));
    mem_page_flag(map, GPA(0x3000), false);
    CHECK(!mem_page_is_flagged(map, GPA(0x3000)));
    mem_map_free(map);
}

TEST(mem, writes_to_flagged_pages_are_reported)
{
    struct mem_map *map = two_ranges();
    uint64_t log[3] = {0};
    uint8_t page[8192] = {0};

    mem_watch_set(map, watch, log);
    mem_page_flag(map, GPA(0x5000), true);
    CHECK(mem_page_is_flagged(map, GPA(0x5fff)));
    CHECK_INT(mem_write(map, GPA(0x3000), page, 8192), 0);
    CHECK_INT(log[0], 0);
    CHECK_INT(mem_write(map, GPA(0x4800), page, 8192), 0);
    CHECK_INT(log[0], 1);
    CHECK_INT(log[1], 0x5000);
    CHECK_INT(log[2], 4096);
    mem_note_write_host(map, mem_ptr(map, GPA(0x5010), 4), 4);
    CHECK_INT(log[0], 2);
    CHECK_INT(log[1], 0x5010);
    mem_page_flag(map, GPA(0x5000), false);
    CHECK_INT(mem_write(map, GPA(0x5000), page, 1), 0);
    CHECK_INT(log[0], 2);
    mem_map_free(map);
}
