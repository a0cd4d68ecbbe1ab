/* cache.c — unpacked kernels, kept in files named by the content they were unpacked from.
 *
 * The footer carries the key, the length and a check value over every 16th page.  A file that lost
 * data in a crash of the host (it is not synced before the rename, because the first start would
 * wait for the disk) lost whole extents, which the sample sees; reading 3 MB instead of 50 keeps a
 * hit cheap.
 */
#include "boot/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/bits.h"
#include "base/buf.h"
#include "base/file.h"

#define FOOTER_MAGIC UINT64_C(0x31786c6d76316365) /* "ec1vmlx1" */
#define READ_LEN     (256 * KIB)                  /* a multiple of what mix() takes in */
#define SAMPLE_LEN   UINT64_C(4096)
#define SAMPLE_STEP  (16 * SAMPLE_LEN)

struct footer {
    uint64_t magic;
    uint64_t len;
    uint64_t key[2];
    uint64_t check[2];
};

/* Odd constants with about half of their bits set: the fractional parts of sqrt(2), 3, 5 and 7. */
static const uint64_t mix_key[4] = {
    UINT64_C(0x6a09e667f3bcc909),
    UINT64_C(0xbb67ae8584caa73b),
    UINT64_C(0x3c6ef372fe94f82b),
    UINT64_C(0xa54ff53a5f1d36f1),
};

static uint64_t multiply_fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t rotate_left(uint64_t value, unsigned count)
{
    return value << count | value >> (64 - count);
}

/* Take in 32 bytes.  The old state is added outside of the product, so that no input wipes it out.
 */
static void mix(struct cache_key *state, const uint8_t *p)
{
    uint64_t a = state->part[0];
    uint64_t b = state->part[1];

    state->part[0] = rotate_left(a, 23) +
                     multiply_fold(load_le64(p) ^ mix_key[0] ^ b, load_le64(p + 8) ^ mix_key[1]);
    state->part[1] = rotate_left(b, 41) + multiply_fold(load_le64(p + 16) ^ mix_key[2],
                                                        load_le64(p + 24) ^ mix_key[3] ^ a);
}

static void mix_all(struct cache_key *state, const uint8_t *data, size_t len)
{
    uint8_t tail[32] = {0};

    for (; len >= sizeof(tail); len -= sizeof(tail), data += sizeof(tail)) {
        mix(state, data);
    }
    if (len) {
        memcpy(tail, data, len);
        mix(state, tail);
    }
}

/* Begin and end with the length, so that padding does not make two contents equal. */
static struct cache_key mix_begin(uint64_t len)
{
    return (struct cache_key){{len ^ mix_key[3], mix_key[0] + len}};
}

static void mix_end(struct cache_key *state)
{
    static const uint8_t zero[32];

    for (unsigned i = 0; i < 3; i++) {
        mix(state, zero);
    }
}

struct cache_key cache_key(const void *data, size_t len)
{
    struct cache_key state = mix_begin(len);

    mix_all(&state, data, len);
    mix_end(&state);
    return state;
}

static int file_name(const char *dir, const struct cache_key *key, const char *suffix,
                     struct buf *ret_name)
{
    buf_printf(ret_name, "%s/vmlinux-%016llx%016llx%s", dir, (unsigned long long)key->part[0],
               (unsigned long long)key->part[1], suffix);
    return buf_status(ret_name);
}

int cache_key_of_file(int fd, uint64_t offset, uint64_t len, struct cache_key *ret_key)
{
    AUTO_FREE uint8_t *part = malloc(READ_LEN);
    struct cache_key state = mix_begin(len);

    if (!part) {
        return -ENOMEM;
    }
    while (len > 0) {
        size_t part_len = len < READ_LEN ? (size_t)len : READ_LEN;
        int r = file_read_at(fd, offset, part, part_len);

        if (r < 0) {
            return r;
        }
        mix_all(&state, part, part_len);
        offset += part_len;
        len -= part_len;
    }
    mix_end(&state);
    *ret_key = state;
    return 0;
}

static int sample_file(int fd, uint64_t len, struct cache_key *ret_check)
{
    struct cache_key state = mix_begin(len);
    uint8_t page[SAMPLE_LEN];

    for (uint64_t at = 0; at < len; at += SAMPLE_STEP) {
        size_t part = len - at < SAMPLE_LEN ? (size_t)(len - at) : SAMPLE_LEN;
        int r = file_read_at(fd, at, page, part);

        if (r < 0) {
            return r;
        }
        mix_all(&state, page, part);
    }
    mix_end(&state);
    *ret_check = state;
    return 0;
}

static struct cache_key sample_data(const uint8_t *data, size_t len)
{
    struct cache_key state = mix_begin(len);

    for (size_t at = 0; at < len; at += SAMPLE_STEP) {
        mix_all(&state, data + at, len - at < SAMPLE_LEN ? len - at : SAMPLE_LEN);
    }
    mix_end(&state);
    return state;
}

static int check_file(int fd, const struct cache_key *key, uint64_t *ret_len)
{
    struct footer footer;
    struct cache_key check;
    struct stat st;
    int r;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0) {
        return -EPERM;
    }
    if (st.st_size < (off_t)sizeof(footer)) {
        return -EBADMSG;
    }
    r = file_read_at(fd, (uint64_t)st.st_size - sizeof(footer), &footer, sizeof(footer));
    if (r < 0) {
        return r;
    }
    if (footer.magic != FOOTER_MAGIC || footer.len != (uint64_t)st.st_size - sizeof(footer) ||
        memcmp(footer.key, key->part, sizeof(footer.key)) != 0) {
        return -EBADMSG;
    }
    r = sample_file(fd, footer.len, &check);
    if (r < 0) {
        return r;
    }
    if (memcmp(footer.check, check.part, sizeof(footer.check)) != 0) {
        return -EBADMSG;
    }
    *ret_len = footer.len;
    return 0;
}

int cache_open(const char *dir, const struct cache_key *key, uint64_t *ret_len)
{
    AUTO_CALL(buf_fini) struct buf path = {0};
    AUTO_CLOSE int fd = -1;
    int r = file_name(dir, key, "", &path);

    if (r < 0) {
        return r;
    }
    fd = open(buf_str(&path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    r = check_file(fd, key, ret_len);
    return r < 0 ? r : take_fd(&fd);
}

/* mkdir -p, private. */
static int make_dir(const char *dir)
{
    AUTO_CALL(buf_fini) struct buf path = {0};

    for (const char *p = dir; *p; p++) {
        if (*p == '/' && path.len > 0 && mkdir(buf_str(&path), 0700) < 0 && errno != EEXIST) {
            return -errno;
        }
        buf_append(&path, p, 1);
    }
    if (buf_status(&path) < 0) {
        return -ENOMEM;
    }
    return mkdir(buf_str(&path), 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_exact(int fd, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        ssize_t put = write(fd, from, len);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return -errno;
        }
        from += put;
        len -= (size_t)put;
    }
    return 0;
}

int cache_store(const char *dir, const struct cache_key *key, const void *data, size_t len)
{
    struct cache_key check = sample_data(data, len);
    struct footer footer = {.magic = FOOTER_MAGIC,
                            .len = len,
                            .key = {key->part[0], key->part[1]},
                            .check = {check.part[0], check.part[1]}};
    AUTO_CALL(buf_fini) struct buf path = {0};
    AUTO_CALL(buf_fini) struct buf temp = {0};
    AUTO_CLOSE int fd = -1;
    int r = make_dir(dir);

    if (r < 0 || (r = file_name(dir, key, "", &path)) < 0 ||
        (r = file_name(dir, key, ".XXXXXX", &temp)) < 0) {
        return r;
    }
    fd = mkostemp((char *)temp.data, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    r = write_exact(fd, data, len);
    if (r == 0) {
        r = write_exact(fd, &footer, sizeof(footer));
    }
    if (r == 0 && rename(buf_str(&temp), buf_str(&path)) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlink(buf_str(&temp));
    }
    return r;
}
