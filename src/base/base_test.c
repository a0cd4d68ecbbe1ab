/* base_test.c — sizes, numbers, buffers and errors. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/list.h"
#include "base/str.h"
#include "tests/lib/test.h"

TEST(base, sizes_are_parsed_with_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
        int code;
    } table[] = {
        {"512M", 512 * MIB, 0},   {"512", 512 * MIB, 0}, {"1g", GIB, 0},
        {"2GiB", 2 * GIB, 0},     {"64mb", 64 * MIB, 0}, {"12X", 0, -EINVAL},
        {"", 0, -EINVAL},         {"-1", 0, -EINVAL},    {"1T", 0, -ERANGE},
        {"0", 0, -ERANGE},        {"1Mx", 0, -EINVAL},   {"99999999999999999999", 0, -ERANGE},
        {"1048576B", 0, -ERANGE}, {"M", 0, -EINVAL}};

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct err err = {0};
        uint64_t bytes = 0;

        CHECK_INT(str_to_size("memory", table[i].text, MIB, 2 * MIB, 64 * GIB, &bytes, &err),
                  table[i].code);
        CHECK_INT(bytes, table[i].bytes);
        if (table[i].code) {
            CHECK_HAS(err.text, "memory '");
        }
    }
}

TEST(base, numbers_out_of_range_name_field_value_and_limits)
{
    struct err err = {0};
    uint64_t n = 7;

    CHECK_INT(str_to_u64("cpus", "33", 1, 32, &n, &err), -ERANGE);
    CHECK_STR(err.text, "cpus '33': must be 1 to 32");
    CHECK_INT(str_to_u64("cpus", "two", 1, 32, &n, &err), -EINVAL);
    CHECK_HAS(err.text, "cpus 'two': not a whole number");
    CHECK_INT(n, 7);
    CHECK_INT(str_to_u64("cpus", "4", 1, 32, &n, &err), 0);
    CHECK_INT(n, 4);
}

TEST(base, durations)
{
    struct err err = {0};
    int64_t ns = 0;

    CHECK_INT(str_to_duration("timeout", "250ms", &ns, &err), 0);
    CHECK_INT(ns, 250000000);
    CHECK_INT(str_to_duration("timeout", "2m", &ns, &err), 0);
    CHECK_INT(ns, INT64_C(120000000000));
    CHECK_INT(str_to_duration("timeout", "3 s", &ns, &err), -EINVAL);
    CHECK_INT(str_to_duration("timeout", "99999999999999h", &ns, &err), -EINVAL);
}

TEST(base, errors_wrap_from_the_cause_outwards)
{
    struct err err = {0};

    errno = ENOENT;
    CHECK_INT(err_sys(&err, "open '%s'", "x"), -ENOENT);
    CHECK_INT(err_wrap(&err, -ENOENT, "drive '%s'", "a"), -ENOENT);
    CHECK_STR(err.text, "drive 'a': open 'x': No such file or directory");
    CHECK_INT(err_set(NULL, -EINVAL, "ignored"), -EINVAL);
}

TEST(base, buffers_grow_and_shrink)
{
    struct buf buf = {0};

    CHECK_STR(buf_str(&buf), "");
    for (int i = 0; i < 1000; i++) {
        buf_printf(&buf, "%d,", i);
    }
    CHECK_INT(buf_status(&buf), 0);
    CHECK_INT(buf.len, 3890);
    buf_consume(&buf, 3886);
    CHECK_STR(buf_str(&buf), "999,");
    (void)buf_reserve(&buf, SIZE_MAX);
    CHECK_INT(buf_status(&buf), -ENOMEM);
    buf_fini(&buf);
    buf_fini(NULL);
}

TEST(base, a_file_is_read_at_an_offset_or_not_at_all)
{
    char path[] = "/tmp/ec1-file-XXXXXX", data[4] = "";
    int fd = mkstemp(path);

    CHECK(fd >= 0);
    (void)unlink(path);
    CHECK_INT(write(fd, "0123456", 7), 7);
    CHECK_INT(file_read_at(fd, 3, data, 4), 0);
    CHECK_INT(memcmp(data, "3456", 4), 0);
    CHECK_INT(file_read_at(fd, 4, data, 4), -ENODATA);
    CHECK_INT(lseek(fd, 0, SEEK_CUR), 7);
    (void)close(fd);
    CHECK_INT(file_read_at(-1, 0, data, 1), -EBADF);
}

TEST(base, integers_are_appended_little_endian)
{
    static const uint8_t want[] = {1, 3, 2, 7, 6, 5, 4, 15, 14, 13, 12, 11, 10, 9, 8};
    struct buf b = {0};

    buf_append_u8(&b, 1);
    buf_append_le16(&b, 0x0203);
    buf_append_le32(&b, 0x04050607);
    buf_append_le64(&b, UINT64_C(0x08090a0b0c0d0e0f));
    CHECK_INT(buf_status(&b), 0);
    CHECK_INT(b.len, sizeof(want));
    CHECK_INT(memcmp(b.data, want, sizeof(want)), 0);
    buf_fini(&b);
}
