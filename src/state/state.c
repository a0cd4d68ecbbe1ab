/* state.c — write and read the sections of a state file.
 *
 * Theory of operation.  All numbers are little endian.
 *
 *   header    u64 magic, u16 major, u16 minor, u16 patch, u16 zero
 *   section   u8 length of the name, the name, u32 length of the body, the body      (any number)
 *   trailer   u64 CRC-64 of everything before it
 *
 * A body is a row of fields: a byte that names the type, then the value; bytes and text have their
 * length, u32, before them.  The checksum has the polynomial 0xad93d23594c935a9 (Jones), reflected,
 * starting from 0 and not inverted: so the checksum of a whole file is 0.  It is checked after the
 * structure, so that a truncated file is told by what is missing.
 */
#include "state/state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/bits.h"
#include "state/crc64.h"

#define MAGIC        UINT64_C(0x0000746573316365) /* "ec1set", two zero bytes: x86-64 */
#define HEADER_BYTES 16u
#define CRC_BYTES    8u

enum field_type {
    FIELD_U8 = 1,
    FIELD_U16,
    FIELD_U32,
    FIELD_U64,
    FIELD_I32,
    FIELD_I64,
    FIELD_BOOL,
    FIELD_BYTES,
    FIELD_TEXT,
    FIELD_NO_TEXT,
    FIELD_COUNT_OF,
};

static const char *const type_names[] = {
    [FIELD_U8] = "u8",        [FIELD_U16] = "u16",        [FIELD_U32] = "u32",
    [FIELD_U64] = "u64",      [FIELD_I32] = "i32",        [FIELD_I64] = "i64",
    [FIELD_BOOL] = "bool",    [FIELD_BYTES] = "bytes",    [FIELD_TEXT] = "text",
    [FIELD_NO_TEXT] = "none", [FIELD_COUNT_OF] = "count",
};

/* --- a file --- */

void state_file_begin(struct state_file *file)
{
    *file = (struct state_file){0};
    buf_append_le64(&file->bytes, MAGIC);
    buf_append_le16(&file->bytes, STATE_VERSION_MAJOR);
    buf_append_le16(&file->bytes, STATE_VERSION_MINOR);
    buf_append_le16(&file->bytes, STATE_VERSION_PATCH);
    buf_append_le16(&file->bytes, 0);
}

int state_file_finish(struct state_file *file, struct err *err)
{
    int r;

    file->end = file->bytes.len;
    buf_append_le64(&file->bytes, crc64(file->bytes.data, file->bytes.len));
    r = buf_status(&file->bytes);
    if (r == 0 && file->bytes.len > STATE_FILE_MAX) {
        r = err_set(err, -EFBIG, "Snapshot size exceeds limit of %u bytes", STATE_FILE_MAX);
    }
    return r == -ENOMEM ? err_set(err, r, "state file: out of memory") : r;
}

void state_file_fini(struct state_file *file)
{
    if (file) {
        buf_fini(&file->bytes);
        file->end = 0;
    }
}

int state_file_version(const void *data, size_t len, struct state_version *ret_version,
                       struct err *err)
{
    const uint8_t *head = data;

    if (len < HEADER_BYTES) {
        return err_set(err, -ENODATA,
                       "An error occurred during bitcode serialization: "
                       "the header is cut off after %zu bytes of %u",
                       len, HEADER_BYTES);
    }
    if (load_le64(head) != MAGIC) {
        return err_set(err, -EINVAL, "Magic value does not match arch: 0x%llx",
                       (unsigned long long)load_le64(head));
    }
    *ret_version = (struct state_version){
        .major = load_le16(head + 8), .minor = load_le16(head + 10), .patch = load_le16(head + 12)};
    return 0;
}

/* One section's place in a file. */
struct place {
    const char *name;
    size_t name_len;
    size_t body;
    size_t body_len;
};

/* The section at `at`; false where its name or its body does not fit in front of `end`. */
static bool section_at(const struct state_file *file, size_t at, size_t end,
                       struct place *ret_place)
{
    const uint8_t *data = file->bytes.data;
    struct place p = {0};

    if (!range_within(at, 1, end)) {
        return false;
    }
    p.name_len = data[at++];
    p.name = (const char *)data + at;
    if (!range_within(at, p.name_len, end) || !range_within(at + p.name_len, 4, end)) {
        return false;
    }
    p.body = at + p.name_len + 4;
    p.body_len = load_le32(data + at + p.name_len);
    if (!range_within(p.body, p.body_len, end)) {
        return false;
    }
    *ret_place = p;
    return true;
}

/* For a sentence: the name as far as it is there and printable. */
static void name_for_people(const struct state_file *file, size_t at, size_t end,
                            char out[static STATE_NAME_MAX])
{
    size_t len = at < end ? file->bytes.data[at] : 0;
    size_t i = 0;

    at++;
    while (i < len && at + i < end && i + 1 < STATE_NAME_MAX) {
        uint8_t c = file->bytes.data[at + i];

        out[i++] = (char)(c > ' ' && c < 0x7f ? c : '?');
    }
    out[i] = 0;
}

static int check_sections(const struct state_file *file, size_t end, struct err *err)
{
    struct place p = {.body = HEADER_BYTES};
    char last[STATE_NAME_MAX] = "";

    for (size_t at = HEADER_BYTES; at < end; at = p.body + p.body_len) {
        char name[STATE_NAME_MAX];

        name_for_people(file, at, end, name);
        if (!section_at(file, at, end, &p)) {
            return err_set(err, -EBADMSG,
                           "An error occurred during bitcode serialization: section '%s' (after "
                           "'%s') is cut off",
                           name, last);
        }
        if (p.name_len == 0 || p.name_len >= STATE_NAME_MAX || memchr(p.name, 0, p.name_len)) {
            return err_set(err, -EBADMSG,
                           "An error occurred during bitcode serialization: the name of the "
                           "section after '%s' is not one",
                           last);
        }
        memcpy(last, name, sizeof(last));
    }
    return 0;
}

static int check_header(const struct state_file *file, struct err *err)
{
    struct state_version v = {0};
    int r = state_file_version(file->bytes.data, file->bytes.len - CRC_BYTES, &v, err);

    if (r == 0 && (v.major != STATE_VERSION_MAJOR || v.minor > STATE_VERSION_MINOR)) {
        r = err_set(err, -EPROTONOSUPPORT, "Invalid data version: %u.%u.%u", v.major, v.minor,
                    v.patch);
    }
    return r;
}

int state_file_check(struct state_file *file, struct buf *bytes, struct err *err)
{
    int r;

    file->bytes = *bytes;
    *bytes = (struct buf){0};
    if (file->bytes.len > STATE_FILE_MAX) {
        return err_set(err, -EFBIG, "Snapshot size exceeds limit of %u bytes", STATE_FILE_MAX);
    }
    if (file->bytes.len < CRC_BYTES) {
        return err_set(err, -ENODATA, "IO Error: File too short to contain CRC");
    }
    r = check_header(file, err);
    if (r == 0) {
        file->end = file->bytes.len - CRC_BYTES;
        r = check_sections(file, file->end, err);
    }
    if (r == 0 && crc64(file->bytes.data, file->bytes.len) != 0) {
        r = err_set(err, -EBADMSG, "CRC64 validation failed");
    }
    return r;
}

/* --- a section --- */

void state_save(struct state_file *file, struct state *ret_state, const char *name, ...)
{
    va_list ap;

    *ret_state = (struct state){.file = file};
    va_start(ap, name);
    (void)vsnprintf(ret_state->section, sizeof(ret_state->section), name, ap);
    va_end(ap);
    buf_append_u8(&file->bytes, (uint8_t)strlen(ret_state->section));
    buf_append_str(&file->bytes, ret_state->section);
    buf_append_le32(&file->bytes, 0);
    ret_state->at = file->bytes.len;
}

static bool find(const struct state_file *file, const char *name, struct place *ret_place)
{
    size_t len = strlen(name);

    for (size_t at = HEADER_BYTES; at < file->end; at = ret_place->body + ret_place->body_len) {
        if (!section_at(file, at, file->end, ret_place)) {
            return false;
        }
        if (ret_place->name_len == len && memcmp(ret_place->name, name, len) == 0) {
            return true;
        }
    }
    return false;
}

bool state_has(struct state_file *file, const char *name)
{
    struct place p;

    return find(file, name, &p);
}

int state_load(struct state_file *file, struct state *ret_state, struct err *err, const char *name,
               ...)
{
    struct place p = {0};
    va_list ap;

    *ret_state = (struct state){.file = file, .is_loading = true};
    va_start(ap, name);
    (void)vsnprintf(ret_state->section, sizeof(ret_state->section), name, ap);
    va_end(ap);
    if (!find(file, ret_state->section, &p)) {
        ret_state->failed = -ENOENT;
        return err_set(err, -ENOENT, "section '%s' is missing", ret_state->section);
    }
    ret_state->at = p.body;
    ret_state->end = p.body + p.body_len;
    return 0;
}

int state_close(struct state *s, struct err *err)
{
    if (!s->is_loading) {
        if (s->file->bytes.len - s->at > UINT32_MAX) {
            s->file->bytes.failed = true;
        }
        if (buf_status(&s->file->bytes) < 0) {
            return err_set(err, -ENOMEM, "section '%s': out of memory", s->section);
        }
        store_le32(s->file->bytes.data + s->at - 4, (uint32_t)(s->file->bytes.len - s->at));
    } else if (!s->failed && s->at != s->end) {
        state_refuse(s, "end", "%zu bytes are left over", s->end - s->at);
    }
    return s->failed ? err_set(err, s->failed, "section '%s': %s", s->section, s->why) : 0;
}

void state_refuse(struct state *s, const char *field, const char *fmt, ...)
{
    char text[128];
    va_list ap;

    if (s->failed) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)snprintf(s->why, sizeof(s->why), "%.60s: %s", field, text);
    s->failed = -EBADMSG;
}

/* --- fields --- */

static void put_type(struct state *s, enum field_type type)
{
    buf_append_u8(&s->file->bytes, (uint8_t)type);
}

/* The next `len` bytes of the section, or NULL. */
static const uint8_t *take(struct state *s, const char *field, size_t len)
{
    const uint8_t *at = s->file->bytes.data + s->at;

    if (s->failed) {
        return NULL;
    }
    if (!range_within(s->at, len, s->end)) {
        state_refuse(s, field, "ends after %zu bytes of %zu", s->end - s->at, len);
        return NULL;
    }
    s->at += len;
    return at;
}

static bool take_type(struct state *s, const char *field, enum field_type type)
{
    const uint8_t *got = take(s, field, 1);

    if (!got) {
        return false;
    }
    if (*got != type) {
        state_refuse(s, field, "is not %s (type %u)", type_names[type], *got);
        return false;
    }
    return true;
}

/* A little-endian value of `len` bytes, in place. */
static void number(struct state *s, const char *field, enum field_type type, void *value,
                   size_t len)
{
    if (!s->is_loading) {
        put_type(s, type);
        buf_append(&s->file->bytes, value, len);
    } else if (take_type(s, field, type)) {
        const uint8_t *got = take(s, field, len);

        if (got) {
            memcpy(value, got, len);
        }
    }
}

void state_u8(struct state *s, const char *field, uint8_t *value)
{
    number(s, field, FIELD_U8, value, sizeof(*value));
}

void state_u16(struct state *s, const char *field, uint16_t *value)
{
    number(s, field, FIELD_U16, value, sizeof(*value));
}

void state_u32(struct state *s, const char *field, uint32_t *value)
{
    number(s, field, FIELD_U32, value, sizeof(*value));
}

void state_u64(struct state *s, const char *field, uint64_t *value)
{
    number(s, field, FIELD_U64, value, sizeof(*value));
}

void state_i32(struct state *s, const char *field, int32_t *value)
{
    number(s, field, FIELD_I32, value, sizeof(*value));
}

void state_i64(struct state *s, const char *field, int64_t *value)
{
    number(s, field, FIELD_I64, value, sizeof(*value));
}

void state_bool(struct state *s, const char *field, bool *value)
{
    uint8_t byte = *value;

    number(s, field, FIELD_BOOL, &byte, sizeof(byte));
    if (s->is_loading && !s->failed && byte > 1) {
        state_refuse(s, field, "%u is neither true nor false", byte);
    }
    if (!s->failed) {
        *value = byte;
    }
}

/* Loading: the length that stands before bytes or text. */
static bool take_len(struct state *s, const char *field, size_t max, uint32_t *ret_len)
{
    const uint8_t *got = take(s, field, sizeof(*ret_len));

    if (!got) {
        return false;
    }
    *ret_len = load_le32(got);
    if (*ret_len > max) {
        state_refuse(s, field, "%u: must be at most %zu", *ret_len, max);
        return false;
    }
    return true;
}

void state_bytes(struct state *s, const char *field, void *data, size_t len)
{
    const uint8_t *got;
    uint32_t stored = 0;

    if (!s->is_loading) {
        put_type(s, FIELD_BYTES);
        buf_append_le32(&s->file->bytes, (uint32_t)len);
        buf_append(&s->file->bytes, data, len);
        return;
    }
    if (!take_type(s, field, FIELD_BYTES) || !take_len(s, field, len, &stored)) {
        return;
    }
    if (stored != len) {
        state_refuse(s, field, "%u bytes instead of %zu", stored, len);
        return;
    }
    got = take(s, field, len);
    if (got) {
        memcpy(data, got, len);
    }
}

void state_blob(struct state *s, const char *field, struct buf *buf, size_t max)
{
    const uint8_t *got;
    uint32_t len = 0;

    if (!s->is_loading) {
        state_bytes(s, field, buf->data, buf->len);
        return;
    }
    if (!take_type(s, field, FIELD_BYTES) || !take_len(s, field, max, &len)) {
        return;
    }
    got = take(s, field, len);
    if (got) {
        buf_clear(buf);
        buf_append(buf, got, len);
        if (buf_status(buf) < 0) {
            state_refuse(s, field, "out of memory");
        }
    }
}

/* Loading: the text as a copy, NULL after a failure. */
static char *take_text(struct state *s, const char *field, size_t max)
{
    uint32_t len = 0;
    const uint8_t *got;
    char *copy;

    if (!take_len(s, field, max, &len)) {
        return NULL;
    }
    got = take(s, field, len);
    if (!got) {
        return NULL;
    }
    if (memchr(got, 0, len)) {
        state_refuse(s, field, "has a zero byte inside");
        return NULL;
    }
    copy = strndup((const char *)got, len);
    if (!copy) {
        state_refuse(s, field, "out of memory");
    }
    return copy;
}

void state_str(struct state *s, const char *field, char **text, size_t max)
{
    if (!s->is_loading) {
        put_type(s, *text ? FIELD_TEXT : FIELD_NO_TEXT);
        if (*text) {
            buf_append_le32(&s->file->bytes, (uint32_t)strlen(*text));
            buf_append_str(&s->file->bytes, *text);
        }
        return;
    }
    if (!s->failed && s->at < s->end && s->file->bytes.data[s->at] == FIELD_NO_TEXT) {
        s->at++;
        free(*text);
        *text = NULL;
    } else if (take_type(s, field, FIELD_TEXT)) {
        char *copy = take_text(s, field, max);

        if (copy) {
            free(*text);
            *text = copy;
        }
    }
}

void state_count(struct state *s, const char *field, unsigned *count, unsigned max)
{
    uint32_t value = *count;

    number(s, field, FIELD_COUNT_OF, &value, sizeof(value));
    if (s->is_loading && !s->failed && value > max) {
        state_refuse(s, field, "%u: must be at most %u", value, max);
    }
    if (s->is_loading) {
        *count = s->failed ? 0 : value;
    }
}
