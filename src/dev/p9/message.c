/* message.c — the numbers and strings of 9P messages (little endian, unaligned), in and out. */
#include <string.h>
#include <sys/stat.h>

#include "dev/p9/p9_int.h"

bool p9_take_n(struct p9_req *r, unsigned bytes, uint64_t *ret_n)
{
    uint64_t n = 0;

    if (r->in_len - r->in_at < bytes) {
        return false;
    }
    for (unsigned i = 0; i < bytes; i++) {
        n |= (uint64_t)r->in[r->in_at + i] << (8 * i);
    }
    r->in_at += bytes;
    *ret_n = n;
    return true;
}

bool p9_take_text(struct p9_req *r, const char **ret_text)
{
    uint64_t len;
    char *text;

    if (!p9_take_n(r, 2, &len) || r->in_len - r->in_at < len) {
        return false;
    }
    /* Over its own length, so that there is room for a NUL. */
    text = (char *)r->in + r->in_at - 2;
    memmove(text, text + 2, len);
    text[len] = '\0';
    r->in_at += len;
    *ret_text = text;
    return strlen(text) == len; /* guest: any bytes */
}

uint8_t *p9_put_room(struct p9_req *r, size_t len)
{
    uint8_t *at = r->s->out + r->out_len;

    if (r->is_cut || len > r->out_max - r->out_len) {
        r->is_cut = true;
        return NULL;
    }
    r->out_len += len;
    return at;
}

void p9_put_n(struct p9_req *r, unsigned bytes, uint64_t n)
{
    uint8_t *at = p9_put_room(r, bytes);

    for (unsigned i = 0; at && i < bytes; i++) {
        at[i] = (uint8_t)(n >> (8 * i));
    }
}

void p9_put_text(struct p9_req *r, const char *text, size_t len)
{
    uint8_t *at;

    p9_put_n(r, 2, len);
    at = p9_put_room(r, len);
    if (at) {
        memcpy(at, text, len);
    }
}

/* Another version says that what the guest has cached of a file is old. */
static uint32_t version_of(const struct stat *st)
{
    uint64_t mix = (uint64_t)st->st_ctim.tv_sec * 1000000007u ^ (uint64_t)st->st_ctim.tv_nsec ^
                   (uint64_t)st->st_size << 20;

    /* 0 means that there are no versions (since Linux 6.4) */
    return (uint32_t)(mix ^ mix >> 32) | 1u;
}

void p9_put_qid(struct p9_req *r, const struct stat *st)
{
    uint8_t type = S_ISDIR(st->st_mode) ? 0x80 : S_ISLNK(st->st_mode) ? 0x02 : 0; /* P9_QT* */

    p9_put_n(r, 1, type);
    p9_put_n(r, 4, version_of(st));
    p9_put_n(r, 8, st->st_ino);
}
