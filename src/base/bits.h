/* bits.h — sizes, alignment and byte order, as small pure helpers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n)       (UINT64_C(1) << (n))
#define KIB          UINT64_C(1024)
#define MIB          (UINT64_C(1024) * KIB)
#define GIB          (UINT64_C(1024) * MIB)

/* The struct of type `type` whose `member` is at `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* `align` is a power of two. */
static inline uint64_t align_down(uint64_t value, uint64_t align)
{
    return value & ~(align - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t align)
{
    return align_down(value + align - 1, align);
}

/* Does [start, start+len) lie within [0, limit)?  Safe against overflow. */
static inline bool range_within(uint64_t start, uint64_t len, uint64_t limit)
{
    return start <= limit && len <= limit - start;
}

static inline uint16_t load_le16(const void *p)
{
    uint16_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t load_le32(const void *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t load_le64(const void *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline void store_le16(void *p, uint16_t v)
{
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline void store_le32(void *p, uint32_t v)
{
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline void store_le64(void *p, uint64_t v)
{
    __builtin_memcpy(p, &v, sizeof(v));
}
