/* cpio.c — write a "newc" cpio archive. */
#include "codec/cpio.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define TRAILER    "TRAILER!!!"
#define HEADER_LEN 110

struct entry {
    const char *name;
    mode_t mode;
    unsigned links;
    unsigned major;
    unsigned minor;
    const void *data;
    size_t len;
};

void cpio_init(struct cpio *cpio, struct buf *out)
{
    *cpio = (struct cpio){.out = out, .next_inode = 1};
    buf_append_zero(out, -out->len & 3);
}

static void pad(struct buf *out)
{
    buf_append_zero(out, -out->len & 3);
}

static void put(struct cpio *cpio, uint32_t inode, const struct entry *e)
{
    size_t name_len = strlen(e->name) + 1;

    /* magic, inode, mode, uid, gid, links, mtime, size, device, device node, name length, check */
    buf_printf(cpio->out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08zX%08X", inode,
               (unsigned)e->mode, 0u, 0u, e->links, 0u, (unsigned)e->len, 0u, 0u, e->major,
               e->minor, name_len, 0u);
    buf_append(cpio->out, e->name, name_len);
    pad(cpio->out);
    buf_append(cpio->out, e->data, e->len);
    pad(cpio->out);
}

static void put_checked(struct cpio *cpio, const struct entry *e)
{
    if (cpio->status == 0 && (e->name[0] == 0 || e->name[0] == '/')) {
        cpio->status = -EINVAL;
    }
    if (cpio->status == 0 && e->len > UINT32_MAX) {
        cpio->status = -EFBIG;
    }
    if (cpio->status == 0) {
        put(cpio, cpio->next_inode++, e);
    }
}

void cpio_dir(struct cpio *cpio, const char *name, mode_t mode)
{
    put_checked(cpio, &(struct entry){.name = name, .mode = S_IFDIR | (mode & 07777), .links = 2});
}

void cpio_file(struct cpio *cpio, const char *name, mode_t mode, const void *data, size_t len)
{
    put_checked(
        cpio,
        &(struct entry){
            .name = name, .mode = S_IFREG | (mode & 07777), .links = 1, .data = data, .len = len});
}

void cpio_symlink(struct cpio *cpio, const char *name, const char *target)
{
    put_checked(cpio, &(struct entry){.name = name,
                                      .mode = S_IFLNK | 0777,
                                      .links = 1,
                                      .data = target,
                                      .len = strlen(target)});
}

void cpio_node(struct cpio *cpio, const char *name, mode_t mode, unsigned major, unsigned minor)
{
    put_checked(cpio, &(struct entry){
                          .name = name, .mode = mode, .links = 1, .major = major, .minor = minor});
}

int cpio_end(struct cpio *cpio)
{
    if (cpio->status == 0) {
        put(cpio, 0, &(struct entry){.name = TRAILER, .links = 1});
        cpio->status = buf_status(cpio->out);
    }
    return cpio->status;
}

_Static_assert(HEADER_LEN == 6 + 13 * 8, "newc header");
