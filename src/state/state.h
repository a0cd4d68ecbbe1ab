/* state.h — the state file of a snapshot: sections of typed fields, a version, a checksum.
 *
 * The file is a header, sections with a name and a length, and a CRC-64 over all before it
 * (docs/snapshots.md).  A section is walked field by field with one set of calls for both ways:
 * when saving, a call writes the value; when loading, it reads into it.  So whoever has state
 * writes one function that names its fields, and save and load cannot disagree:
 *
 *     static void fields(struct clock *c, struct state *s)
 *     {
 *         STATE(s, c->index);
 *         state_bytes(s, "ram", c->ram, sizeof(c->ram));
 *     }
 *
 * A file is hostile: nothing is read outside of its section, a field of another type, a number that
 * is too large or bytes left over fail the section.  Failures are sticky: after the first, values
 * stay as they were and state_close() gives the sentence.  What a field may hold is checked by its
 * owner after reading (state_refuse()).
 *
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Load wants the same major and a minor that is not newer; the patch does not matter. */
#define STATE_VERSION_MAJOR 11
#define STATE_VERSION_MINOR 0
#define STATE_VERSION_PATCH 0
#define STATE_FILE_MAX      10000000u /* bytes: a larger one is refused unread */
#define STATE_NAME_MAX      128u      /* bytes of a section's name, with the NUL */

struct state_version {
    uint16_t major, minor, patch;
};

/* A state file in memory.  Zero-initialise; end with state_file_fini(). */
struct state_file {
    struct buf bytes;
    size_t end; /* reading: where the sections end */
};

/* One section, being written or read; the storage is the caller's. */
struct state {
    bool is_loading;
    int failed; /* negative errno of the first failure */
    char section[STATE_NAME_MAX];
    char why[192];
    struct state_file *file;
    size_t at;  /* saving: where the body starts; loading: the next byte */
    size_t end; /* loading: first byte after the body */
};

/* --- a file --- */

/* Begin an empty file in memory. */
void state_file_begin(struct state_file *file);
/* All sections are written: put the checksum behind them. */
int state_file_finish(struct state_file *file, struct err *err);
/* Take over `bytes` (left empty) and check all of it: size, magic, version, sections, checksum. */
int state_file_check(struct state_file *file, struct buf *bytes, struct err *err);
void state_file_fini(struct state_file *file);
/* Of a file that begins like one of ours; nothing else of it is looked at. */
int state_file_version(const void *data, size_t len, struct state_version *ret_version,
                       struct err *err);

/* --- a section --- */

/* Begin a section when saving.  `name` is a printf format: "vcpu.%u". */
void state_save(struct state_file *file, struct state *ret_state, const char *name, ...)
    __attribute__((format(printf, 3, 4)));
/* Find a section when loading: -ENOENT where there is none. */
int state_load(struct state_file *file, struct state *ret_state, struct err *err, const char *name,
               ...) __attribute__((format(printf, 4, 5)));
bool state_has(struct state_file *file, const char *name);
/* End a section; 0, or the first failure with a sentence that names section and field. */
int state_close(struct state *state, struct err *err);

/* --- its fields; `field` is for the sentence --- */

void state_u8(struct state *s, const char *field, uint8_t *value);
void state_u16(struct state *s, const char *field, uint16_t *value);
void state_u32(struct state *s, const char *field, uint32_t *value);
void state_u64(struct state *s, const char *field, uint64_t *value);
void state_i32(struct state *s, const char *field, int32_t *value);
void state_i64(struct state *s, const char *field, int64_t *value);
void state_bool(struct state *s, const char *field, bool *value);
/* Exactly `len` bytes. */
void state_bytes(struct state *s, const char *field, void *data, size_t len);
/* Any number of bytes up to `max`; loading replaces what `buf` holds. */
void state_blob(struct state *s, const char *field, struct buf *buf, size_t max);
/* Text or NULL, up to `max` bytes without NUL inside; loading allocates, and the old value is
 * freed. */
void state_str(struct state *s, const char *field, char **text, size_t max);
/* How many of something follow: more than `max` is refused, and 0 then. */
void state_count(struct state *s, const char *field, unsigned *count, unsigned max);

/* Loading found a value that cannot be: the section fails with "field: why". */
void state_refuse(struct state *s, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A field of whatever integer type `place` has. */
#define STATE(s, place) \
    _Generic(&(place), uint8_t *     \
             : state_u8, uint16_t *  \
             : state_u16, uint32_t * \
             : state_u32, uint64_t * \
             : state_u64, int32_t *  \
             : state_i32, int64_t *  \
             : state_i64, bool *     \
             : state_bool)(s, #place, &(place))
