/* map_test.c — guest memory is checked before it is touched, and watched writes are reported. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

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

static uint8_t g_extra[8192] __attribute__((aligned(4096)));

TEST(mem, extra_ranges_are_watched_and_are_no_ram)
{
    struct mem_map *map = two_ranges();
    struct mem_range range = {.gpa = GPA(GIB), .len = sizeof(g_extra), .host = g_extra};
    struct err err = {0};
    uint8_t byte = 1;
    unsigned index = 99;

    CHECK_OK(mem_extra_add(map, &range, &index, &err), &err);
    CHECK_INT(index, 0);
    CHECK_INT(mem_extra_add(map, &range, &index, &err), -EEXIST);
    CHECK_INT(mem_map_add(map, GPA(GIB), 4096, &err), -EEXIST);
    CHECK(mem_ptr(map, GPA(GIB), 1) == NULL);
    CHECK_INT(mem_write(map, GPA(GIB), &byte, 1), -EFAULT);
    CHECK_INT(mem_total_bytes(map), 3 * MIB);
    mem_page_flag(map, GPA(GIB + 4096), true);
    CHECK(mem_page_is_flagged(map, GPA(GIB + 5000)));
    CHECK(!mem_page_is_flagged(map, GPA(GIB)));
    range.gpa = GPA(GIB + sizeof(g_extra));
    CHECK_OK(mem_extra_add(map, &range, &index, &err), &err);
    CHECK_INT(index, 1);
    mem_extra_remove(map, 0);
    CHECK(!mem_page_is_flagged(map, GPA(GIB + 4096)));
    CHECK_INT(mem_extra_at(map, 0)->len, 0);
    CHECK_INT(mem_extra_at(map, 1)->len, sizeof(g_extra));
    range.gpa = GPA(GIB);
    CHECK_OK(mem_extra_add(map, &range, &index, &err), &err); /* the place is free again */
    CHECK_INT(index, 0);
    mem_map_free(map);
}

TEST(mem, shared_ram_is_in_a_file_that_can_be_handed_on)
{
    struct mem_map *map = mem_map_new();
    struct mem_backing backing = {.pages = MEM_PAGES_HOST, .is_shared = true};
    struct err err = {0};
    uint32_t value = 0x12345678;
    uint32_t seen = 0;

    CHECK_OK(mem_map_add_backed(map, GPA(0), MIB, &backing, &err), &err);
    CHECK(mem_range_at(map, 0)->fd >= 0);
    CHECK_INT(mem_write(map, GPA(4096), &value, 4), 0);
    CHECK_INT(pread(mem_range_at(map, 0)->fd, &seen, 4, 4096), 4);
    CHECK_INT(seen, value);
    mem_map_free(map);
    map = two_ranges();
    CHECK_INT(mem_range_at(map, 0)->fd, -1);
    mem_map_free(map);
}

/* Fill a page of `map` and discard the two from `gpa` on: both read as zeros, their neighbours do
 * not. */
static void check_discard(struct mem_map *map, gpa_t gpa)
{
    uint8_t ones[4 * 4096];
    uint8_t got[4 * 4096];

    memset(ones, 1, sizeof(ones));
    CHECK_INT(mem_write(map, GPA(gpa.v - 4096), ones, sizeof(ones)), 0);
    CHECK_INT(mem_discard(map, gpa, 2 * 4096), 0);
    memset(ones + 4096, 0, 2 * 4096);
    CHECK_INT(mem_read(map, GPA(gpa.v - 4096), got, sizeof(got)), 0);
    CHECK_MEM(got, ones, sizeof(got));
    CHECK_INT(mem_write(map, gpa, "x", 1), 0); /* and can be used again */
}

TEST(mem, discarded_pages_are_zero_whatever_they_were_made_of)
{
    struct mem_backing shared = {.pages = MEM_PAGES_HOST, .is_shared = true};
    struct mem_backing file = {.pages = MEM_PAGES_HOST, .has_file = true};
    struct mem_map *map = two_ranges();
    char path[] = "/tmp/ec1-discard-XXXXXX";
    static uint8_t content[64 * 1024];
    struct err err = {0};
    uint64_t log[3] = {0};

    check_discard(map, GPA(64 * KIB));
    mem_watch_set(map, watch, log);
    mem_page_flag(map, GPA(MIB), true);
    CHECK_INT(mem_discard(map, GPA(MIB - 4096), 8192), 0);
    CHECK_INT(log[0], 1); /* code in it is code no more */
    CHECK_INT(log[1], MIB);
    CHECK_INT(mem_discard(map, GPA(1), 4096), -EINVAL);
    CHECK_INT(mem_discard(map, GPA(0), 4095), -EINVAL);
    CHECK_INT(mem_discard(map, GPA(2 * MIB - 4096), 8192), -EINVAL);
    CHECK_INT(mem_discard(map, GPA(0), 0), -EINVAL);
    mem_map_free(map);

    map = mem_map_new();
    CHECK_OK(mem_map_add_backed(map, GPA(0), MIB, &shared, &err), &err);
    check_discard(map, GPA(64 * KIB));
    mem_map_free(map);

    map = mem_map_new();
    memset(content, 2, sizeof(content));
    file.fd = mkstemp(path);
    CHECK(file.fd >= 0 && unlink(path) == 0);
    CHECK_INT(write(file.fd, content, sizeof(content)), sizeof(content));
    CHECK_OK(mem_map_add_backed(map, GPA(0), sizeof(content), &file, &err), &err);
    check_discard(map, GPA(32 * KIB));
    mem_map_free(map);
    (void)close(file.fd);
}

TEST(mem, of_a_piece_of_memory_its_whole_pages_are_discarded)
{
    struct mem_map *map = two_ranges();
    uint8_t ones[3 * 4096];
    uint8_t *host = mem_ptr(map, GPA(4 * GIB), 3 * 4096);

    memset(ones, 1, sizeof(ones));
    CHECK_INT(mem_write(map, GPA(4 * GIB), ones, sizeof(ones)), 0);
    CHECK_INT(mem_discard_host(map, host + 1, 4096), -EINVAL); /* no whole page */
    CHECK_INT(mem_discard_host(map, host + 4095, 4098), 0);
    CHECK_INT(host[4095], 1);
    CHECK_INT(host[4096], 0);
    CHECK_INT(host[8191], 0);
    CHECK_INT(host[8192], 1);
    CHECK_INT(mem_discard_host(map, ones, sizeof(ones)), -EINVAL);
    mem_map_free(map);
}

TEST(mem, written_pages_are_noted_until_they_are_cleared)
{
    struct mem_map *map = two_ranges();
    uint8_t page[8192] = {0};

    mem_dirty_mark(map, GPA(0x3000), 1); /* not tracked: nothing happens */
    CHECK_INT(mem_dirty_track(map), 0);
    CHECK(mem_dirty_is_tracked(map) && !mem_dirty_test(map, 0, 0x3000));
    CHECK_INT(mem_write(map, GPA(0x3fff), page, 2), 0);
    CHECK(mem_dirty_test(map, 0, 0x3000) && mem_dirty_test(map, 0, 0x4000));
    CHECK(!mem_dirty_test(map, 0, 0x2000) && !mem_dirty_test(map, 0, 0x5000));
    mem_note_write_host(map, mem_ptr(map, GPA(0x6010), 4), 4);
    CHECK(mem_dirty_test(map, 0, 0x6000));
    mem_dirty_mark(map, GPA(UINT64_C(1) << 50), 4096);
    mem_dirty_clear(map);
    CHECK(!mem_dirty_test(map, 0, 0x3000) && !mem_dirty_test(map, 0, 0x6000));
    mem_map_free(map);
}

TEST(mem, memory_of_a_file_is_private_and_within_it)
{
    char path[] = "/tmp/ec1-test-XXXXXX";
    int fd = mkstemp(path);
    struct mem_map *map = mem_map_new();
    struct mem_backing backing = {.has_file = true, .fd = fd, .offset = 4096};
    struct err err = {0};
    char byte = 'f';

    CHECK(fd >= 0);
    (void)unlink(path);
    CHECK_INT(ftruncate(fd, 3 * 4096), 0);
    CHECK_INT(pwrite(fd, "f", 1, 4096), 1);
    CHECK_INT(mem_map_add_backed(map, GPA(0), 3 * 4096, &backing, &err), -EINVAL);
    CHECK_HAS(err.text, "the memory file has 12288 bytes");
    CHECK_OK(mem_map_add_backed(map, GPA(0), 2 * 4096, &backing, &err), &err);
    CHECK_INT(*(char *)mem_ptr(map, GPA(0), 1), 'f');
    CHECK_INT(mem_write(map, GPA(0), "g", 1), 0);
    CHECK_INT(pread(fd, &byte, 1, 4096), 1);
    CHECK_INT(byte, 'f');
    mem_map_free(map);
    (void)close(fd);
}
