/* container.c — see container.h. */
#include "seccomp/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"

#define VERSION   1
#define HEAD_LEN  12 /* magic, version, count */
#define ENTRY_LEN 8  /* length of the name, number of instructions */
#define SUM_LEN   4

static const char g_magic[6] = {'E', 'C', '1', 'B', 'P', 'F'};

static uint32_t sum(const void *data, size_t len)
{
    return (uint32_t)crc32_z(0, data, len);
}

void seccomp_container_fini(struct seccomp_container *container)
{
    for (unsigned i = 0; i < container->count; i++) {
        seccomp_program_fini(&container->filters[i].program);
    }
    container->count = 0;
}

void seccomp_container_write(const struct seccomp_container *container, struct buf *out)
{
    size_t start = out->len;

    buf_append(out, g_magic, sizeof(g_magic));
    buf_append_le16(out, VERSION);
    buf_append_le32(out, container->count);
    for (unsigned i = 0; i < container->count; i++) {
        const struct seccomp_filter *filter = &container->filters[i];
        size_t name_len = strlen(filter->name);

        buf_append_le32(out, (uint32_t)name_len);
        buf_append_le32(out, (uint32_t)filter->program.len);
        buf_append(out, filter->name, name_len);
        buf_append(out, filter->program.code, filter->program.len * sizeof(struct sock_filter));
    }
    if (buf_status(out) == 0) {
        buf_append_le32(out, sum(out->data + start, out->len - start));
    }
}

/* What is left to read. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static const void *take(struct cursor *c, size_t len)
{
    const uint8_t *at = c->at;

    if (len > c->left) {
        return NULL;
    }
    c->at += len;
    c->left -= len;
    return at;
}

/* One filter; it counts as soon as it owns something. */
static int read_filter(struct cursor *c, struct seccomp_container *to, struct err *err)
{
    struct seccomp_filter *filter = &to->filters[to->count];
    const uint8_t *entry = take(c, ENTRY_LEN);
    uint32_t name_len = entry ? load_le32(entry) : 0;
    uint32_t len = entry ? load_le32(entry + 4) : 0;
    const void *name, *code;

    if (!entry || name_len == 0 || name_len > SECCOMP_NAME_MAX || len > BPF_MAXINSNS) {
        return err_set(err, -EINVAL, "filter %u: its head is no head", to->count);
    }
    name = take(c, name_len);
    code = take(c, len * sizeof(struct sock_filter));
    if (!name || !code) {
        return err_set(err, -EINVAL, "filter %u: the file ends within it", to->count);
    }
    *filter = (struct seccomp_filter){.program.len = len};
    memcpy(filter->name, name, name_len);
    if (strlen(filter->name) != name_len) {
        return err_set(err, -EINVAL, "filter %u: its name has a zero byte", to->count);
    }
    filter->program.code = malloc(len * sizeof(struct sock_filter) + 1);
    if (!filter->program.code) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    memcpy(filter->program.code, code, len * sizeof(struct sock_filter));
    to->count++;
    return seccomp_check(&filter->program, err);
}

static int read_all(struct cursor *c, struct seccomp_container *to, struct err *err)
{
    const uint8_t *head = take(c, HEAD_LEN);
    uint32_t count;
    int r = 0;

    if (!head || memcmp(head, g_magic, sizeof(g_magic)) != 0) {
        return err_set(err, -EINVAL, "no file of filters");
    }
    if (load_le16(head + 6) != VERSION) {
        return err_set(err, -EINVAL, "version %u of files of filters: must be %d",
                       load_le16(head + 6), VERSION);
    }
    count = load_le32(head + 8);
    if (count > SECCOMP_COUNT_MAX) {
        return err_set(err, -EINVAL, "%u filters: must be at most %d", count, SECCOMP_COUNT_MAX);
    }
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        r = read_filter(c, to, err);
    }
    return r == 0 && c->left > 0 ? err_set(err, -EINVAL, "%zu bytes too many", c->left) : r;
}

int seccomp_container_read(const void *data, size_t len, struct seccomp_container *container,
                           struct err *err)
{
    const uint8_t *bytes = data;
    struct cursor c = {.at = bytes, .left = len >= SUM_LEN ? len - SUM_LEN : 0};
    int r;

    container->count = 0;
    if (len >= HEAD_LEN + SUM_LEN && memcmp(bytes, g_magic, sizeof(g_magic)) == 0 &&
        load_le32(bytes + c.left) != sum(bytes, c.left)) {
        return err_set(err, -EINVAL, "the checksum does not fit the content");
    }
    r = read_all(&c, container, err);
    if (r < 0) {
        seccomp_container_fini(container);
    }
    return r;
}
