/* state_test.c — a state file gives back what was saved, and nothing that was not. */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "state/crc64.h"
#include "state/state.h"
#include "tests/lib/test.h"

struct thing {
    uint8_t a;
    uint16_t b;
    uint32_t c;
    uint64_t d;
    int32_t e;
    int64_t f;
    bool g;
    uint8_t raw[5];
    char *text;
    char *nothing;
    struct buf blob;
    unsigned count;
};

static void fields(struct thing *t, struct state *s)
{
    STATE(s, t->a);
    STATE(s, t->b);
    STATE(s, t->c);
    STATE(s, t->d);
    STATE(s, t->e);
    STATE(s, t->f);
    STATE(s, t->g);
    state_bytes(s, "raw", t->raw, sizeof(t->raw));
    state_str(s, "text", &t->text, 16);
    state_str(s, "nothing", &t->nothing, 16);
    state_blob(s, "blob", &t->blob, 16);
    state_count(s, "count", &t->count, 8);
}

static void thing_fini(struct thing *t)
{
    free(t->text);
    free(t->nothing);
    buf_fini(&t->blob);
}

static void save(struct state_file *file)
{
    struct thing t = {.a = 1,
                      .b = 2,
                      .c = 3,
                      .d = UINT64_C(4) << 40,
                      .e = -5,
                      .f = -6,
                      .g = true,
                      .raw = "abcd",
                      .text = strdup("hello"),
                      .count = 7};
    struct state s;
    struct err err = {0};

    state_file_begin(file);
    buf_append_str(&t.blob, "blob");
    state_save(file, &s, "first");
    fields(&t, &s);
    CHECK_OK(state_close(&s, &err), &err);
    state_save(file, &s, "thing.%d", 2);
    fields(&t, &s);
    CHECK_OK(state_close(&s, &err), &err);
    CHECK_OK(state_file_finish(file, &err), &err);
    thing_fini(&t);
}

/* All that a reader of the file does; the first failure. */
static int load_bytes(const uint8_t *data, size_t len, struct thing *t, struct err *err)
{
    static const char *const names[] = {"first", "thing.2"};
    struct state_file file = {0};
    struct buf bytes = {0};
    int r;

    buf_append(&bytes, data, len);
    r = state_file_check(&file, &bytes, err);
    for (unsigned i = 0; r == 0 && i < ARRAY_LEN(names); i++) {
        struct state s;

        r = state_load(&file, &s, err, "%s", names[i]);
        if (r == 0) {
            fields(t, &s);
            r = state_close(&s, err);
        }
    }
    state_file_fini(&file);
    return r;
}

/* Put the right checksum on what was changed. */
static void seal(uint8_t *data, size_t len)
{
    store_le64(data + len - 8, crc64(data, len - 8));
}

TEST(state, gives_back_what_was_saved)
{
    struct state_file file;
    struct thing t = {.nothing = strdup("gone")};
    struct err err = {0};

    save(&file);
    CHECK_OK(load_bytes(file.bytes.data, file.bytes.len, &t, &err), &err);
    CHECK(t.a == 1 && t.b == 2 && t.c == 3 && t.d == UINT64_C(4) << 40 && t.e == -5 && t.f == -6);
    CHECK(t.g && t.count == 7 && !t.nothing);
    CHECK_MEM(t.raw, "abcd", 5);
    CHECK_STR(t.text, "hello");
    CHECK_STR(buf_str(&t.blob), "blob");
    CHECK(crc64(file.bytes.data, file.bytes.len) == 0);
    CHECK(crc64("123456789", 9) == UINT64_C(0xe9c6d914c4b8d9ca)); /* the published check value */
    thing_fini(&t);
    state_file_fini(&file);
}

TEST(state, every_truncation_is_refused)
{
    struct state_file file;
    struct err err = {0};

    save(&file);
    for (size_t len = 0; len < file.bytes.len; len++) {
        struct thing t = {0};

        CHECK(load_bytes(file.bytes.data, len, &t, &err) < 0);
        thing_fini(&t);
    }
    CHECK(load_bytes(file.bytes.data, 7, &(struct thing){0}, &err) < 0);
    CHECK_STR(err.text, "IO Error: File too short to contain CRC");
    CHECK(load_bytes(file.bytes.data, file.bytes.len - 1, &(struct thing){0}, &err) < 0);
    CHECK_HAS(err.text, "section 'thing.2' (after 'first') is cut off");
    state_file_fini(&file);
}

TEST(state, every_flipped_bit_is_refused)
{
    struct state_file file;
    struct err err = {0};

    save(&file);
    for (size_t bit = 0; bit < file.bytes.len * 8; bit++) {
        struct thing t = {0};

        if (bit / 8 >= 12 && bit / 8 < 14) {
            continue; /* the patch version does not matter, but the checksum does */
        }
        file.bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(load_bytes(file.bytes.data, file.bytes.len, &t, &err) < 0);
        file.bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        thing_fini(&t);
    }
    file.bytes.data[file.bytes.len - 9] ^= 1;
    CHECK(load_bytes(file.bytes.data, file.bytes.len, &(struct thing){0}, &err) < 0);
    CHECK_STR(err.text, "CRC64 validation failed");
    state_file_fini(&file);
}

/* Whoever forges a checksum still cannot make the reader leave its section. */
TEST(state, forged_files_are_read_within_bounds)
{
    struct state_file file;
    struct err err = {0};
    unsigned refused = 0;

    save(&file);
    for (size_t at = 0; at < (file.bytes.len - 8) * 256; at++) {
        uint8_t *byte = &file.bytes.data[at / 256];
        uint8_t was = *byte;
        struct thing t = {0};

        *byte = (uint8_t)at;
        seal(file.bytes.data, file.bytes.len);
        refused += load_bytes(file.bytes.data, file.bytes.len, &t, &err) < 0;
        *byte = was;
        thing_fini(&t);
    }
    CHECK(refused > file.bytes.len);
    state_file_fini(&file);
}

TEST(state, a_wrong_type_is_told_with_section_and_field)
{
    struct state_file file;
    struct state s;
    struct err err = {0};
    uint32_t value = 3;
    uint64_t wide = 0;
    char *text = NULL;

    state_file_begin(&file);
    state_save(&file, &s, "vcpu.%u", 1u);
    STATE(&s, value);
    CHECK_OK(state_close(&s, &err), &err);
    CHECK_OK(state_file_finish(&file, &err), &err);

    CHECK_OK(state_load(&file, &s, &err, "vcpu.1"), &err);
    STATE(&s, wide);
    state_str(&s, "text", &text, 9);
    CHECK_INT(state_close(&s, &err), -EBADMSG);
    CHECK_STR(err.text, "section 'vcpu.1': wide: is not u64 (type 3)");
    CHECK_OK(state_load(&file, &s, &err, "vcpu.1"), &err);
    CHECK_INT(state_close(&s, &err), -EBADMSG);
    CHECK_STR(err.text, "section 'vcpu.1': end: 5 bytes are left over");
    CHECK_INT(state_load(&file, &s, &err, "vcpu.%d", 2), -ENOENT);
    CHECK_STR(err.text, "section 'vcpu.2' is missing");
    state_file_fini(&file);
}

TEST(state, limits_are_kept)
{
    struct state_file file;
    struct state s;
    struct err err = {0};
    unsigned count = 9;
    char *text = strdup("12345678");

    state_file_begin(&file);
    state_save(&file, &s, "x");
    state_count(&s, "count", &count, 9);
    state_str(&s, "text", &text, 9);
    CHECK_OK(state_close(&s, &err), &err);
    CHECK_OK(state_file_finish(&file, &err), &err);

    CHECK_OK(state_load(&file, &s, &err, "x"), &err);
    state_count(&s, "count", &count, 8);
    CHECK_INT(count, 0);
    CHECK_INT(state_close(&s, &err), -EBADMSG);
    CHECK_STR(err.text, "section 'x': count: 9: must be at most 8");
    count = 0;
    CHECK_OK(state_load(&file, &s, &err, "x"), &err);
    state_count(&s, "count", &count, 9);
    state_str(&s, "text", &text, 7);
    CHECK_INT(state_close(&s, &err), -EBADMSG);
    CHECK_STR(err.text, "section 'x': text: 8: must be at most 7");
    CHECK_STR(text, "12345678");
    free(text);
    state_file_fini(&file);
}

TEST(state, versions_and_other_files_are_told)
{
    struct state_file file;
    struct state_version v = {0};
    struct err err = {0};

    save(&file);
    CHECK_OK(state_file_version(file.bytes.data, file.bytes.len, &v, &err), &err);
    CHECK(v.major == STATE_VERSION_MAJOR && v.minor == STATE_VERSION_MINOR);
    file.bytes.data[12] = 9; /* patch */
    seal(file.bytes.data, file.bytes.len);
    {
        struct thing t = {0};

        CHECK_OK(load_bytes(file.bytes.data, file.bytes.len, &t, &err), &err);
        thing_fini(&t);
    }
    file.bytes.data[10] = STATE_VERSION_MINOR + 1;
    CHECK(load_bytes(file.bytes.data, file.bytes.len, &(struct thing){0}, &err) < 0);
    CHECK_STR(err.text, "Invalid data version: 11.1.9");
    store_le64(file.bytes.data, UINT64_C(0x0710198486640000));
    CHECK(load_bytes(file.bytes.data, file.bytes.len, &(struct thing){0}, &err) < 0);
    CHECK_STR(err.text, "Magic value does not match arch: 0x710198486640000");
    state_file_fini(&file);
}
