/* cache_test.c — keys name content, wherever it is read from. */
#include <errno.h>
#include <stdlib.h>

#include "boot/cache.h"
#include "boot/fake_kernel.h"
#include "tests/lib/test.h"

TEST(boot, cache_key_is_the_same_from_file_and_memory)
{
    struct buf data = {0};
    struct cache_key a;
    struct cache_key b;
    char path[64];
    int fd;

    for (uint32_t i = 0; i < 200000; i++) { /* several reads, the last one odd */
        buf_append(&data, &i, i % 4 + 1);
    }
    fd = fake_file(&data, path);
    a = cache_key(data.data + 5, data.len - 5);
    CHECK_INT(cache_key_of_file(fd, 5, data.len - 5, &b), 0);
    CHECK_MEM(&a, &b, sizeof(a));
    CHECK_INT(cache_key_of_file(fd, 5, data.len, &b), -ENODATA);
    (void)close(fd);
    buf_fini(&data);
}

TEST(boot, cache_key_changes_with_every_byte_and_the_length)
{
    uint8_t data[97] = {0};
    struct cache_key zero = cache_key(data, sizeof(data));
    struct cache_key other = cache_key(data, sizeof(data) - 1);

    CHECK(memcmp(&zero, &other, sizeof(zero)) != 0);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = 1;
        other = cache_key(data, sizeof(data));
        CHECK(zero.part[0] != other.part[0]);
        CHECK(zero.part[1] != other.part[1]);
        data[i] = 0;
    }
}
