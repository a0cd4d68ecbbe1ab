/* aml.c — encode the little ACPI machine language that our DSDT needs (ACPI 6.5, chapter 20). */
#include "boot/aml.h"

#include <string.h>

#include "base/bits.h"

/* 20.3, table 20.2. */
#define OP_ZERO    0x00
#define OP_ONE     0x01
#define OP_NAME    0x08
#define OP_BYTE    0x0a
#define OP_DWORD   0x0c
#define OP_STRING  0x0d
#define OP_SCOPE   0x10
#define OP_BUFFER  0x11
#define OP_PACKAGE 0x12
#define OP_METHOD  0x14
#define OP_ARG0    0x68
#define OP_NOTIFY  0x86
#define OP_EQUAL   0x93
#define OP_IF      0xa0
#define OP_EXT     0x5b
#define OP_DEVICE  0x82 /* after OP_EXT */

#define METHOD_SERIALIZED 0x08 /* 20.2.5.2, MethodFlags */

static void put_int(struct buf *out, uint32_t value)
{
    if (value <= 1) {
        buf_append_u8(out, value ? OP_ONE : OP_ZERO);
    } else if (value <= 0xff) {
        buf_append_u8(out, OP_BYTE);
        buf_append_u8(out, (uint8_t)value);
    } else {
        buf_append_u8(out, OP_DWORD);
        buf_append_le32(out, value);
    }
}

/* PkgLength (20.2.4): counts itself and `len` bytes that follow. */
static void put_package_len(struct buf *out, size_t len)
{
    if (len + 1 < 0x40) {
        buf_append_u8(out, (uint8_t)(len + 1));
    } else if (len + 2 < 0x1000) {
        buf_append_u8(out, (uint8_t)(0x40 | ((len + 2) & 0xf)));
        buf_append_u8(out, (uint8_t)((len + 2) >> 4));
    } else {
        buf_append_u8(out, (uint8_t)(0x80 | ((len + 3) & 0xf)));
        buf_append_le16(out, (uint16_t)((len + 3) >> 4));
    }
}

static void put_name(struct buf *out, const char *name)
{
    buf_append_u8(out, OP_NAME);
    buf_append_str(out, name);
}

void aml_name_int(struct buf *out, const char *name, uint32_t value)
{
    put_name(out, name);
    put_int(out, value);
}

void aml_name_str(struct buf *out, const char *name, const char *value)
{
    put_name(out, name);
    buf_append_u8(out, OP_STRING);
    buf_append(out, value, strlen(value) + 1);
}

void aml_name_pair(struct buf *out, const char *name, uint32_t a, uint32_t b)
{
    struct buf items = {0};

    buf_append_u8(&items, 2);
    put_int(&items, a);
    put_int(&items, b);
    put_name(out, name);
    buf_append_u8(out, OP_PACKAGE);
    put_package_len(out, items.len);
    buf_append(out, items.data, items.len);
    out->failed |= items.failed;
    buf_fini(&items);
}

size_t aml_open(const struct buf *out)
{
    return out->len;
}

/* Put `head` in front of what was appended since `mark`. */
static void wrap(struct buf *out, size_t mark, struct buf *head)
{
    size_t len = out->len - mark;

    buf_append_zero(out, head->len);
    out->failed |= head->failed;
    if (!out->failed) {
        memmove(out->data + mark + head->len, out->data + mark, len);
        memcpy(out->data + mark, head->data, head->len);
    }
    buf_fini(head);
}

void aml_close_scope(struct buf *out, size_t mark, const char *path)
{
    struct buf head = {0};

    buf_append_u8(&head, OP_SCOPE);
    put_package_len(&head, strlen(path) + out->len - mark);
    buf_append_str(&head, path);
    wrap(out, mark, &head);
}

void aml_close_device(struct buf *out, size_t mark, const char *name)
{
    struct buf head = {0};

    buf_append_u8(&head, OP_EXT);
    buf_append_u8(&head, OP_DEVICE);
    put_package_len(&head, strlen(name) + out->len - mark);
    buf_append_str(&head, name);
    wrap(out, mark, &head);
}

void aml_close_method(struct buf *out, size_t mark, const char *name, unsigned argc)
{
    struct buf head = {0};

    buf_append_u8(&head, OP_METHOD);
    put_package_len(&head, strlen(name) + 1 + out->len - mark);
    buf_append_str(&head, name);
    buf_append_u8(&head, (uint8_t)(argc | METHOD_SERIALIZED));
    wrap(out, mark, &head);
}

void aml_notify_if_arg(struct buf *out, uint32_t value, const char *name, uint32_t notification)
{
    size_t mark = aml_open(out);
    struct buf head = {0};

    buf_append_u8(out, OP_EQUAL);
    buf_append_u8(out, OP_ARG0);
    put_int(out, value);
    buf_append_u8(out, OP_NOTIFY);
    buf_append_str(out, name);
    put_int(out, notification);
    buf_append_u8(&head, OP_IF);
    put_package_len(&head, out->len - mark);
    wrap(out, mark, &head);
}

void aml_close_resources(struct buf *out, size_t mark)
{
    struct buf head = {0};
    struct buf size = {0};

    buf_append(out, "\x79\0", 2); /* end tag; checksum 0 means "not given" (6.4.2.9) */
    put_int(&size, (uint32_t)(out->len - mark));
    put_name(&head, "_CRS");
    buf_append_u8(&head, OP_BUFFER);
    put_package_len(&head, size.len + out->len - mark);
    buf_append(&head, size.data, size.len);
    head.failed |= size.failed;
    buf_fini(&size);
    wrap(out, mark, &head);
}

void aml_memory32(struct buf *out, uint32_t start, uint32_t len)
{
    buf_append_u8(out, 0x86); /* 6.4.3.4, 32-bit fixed memory range */
    buf_append_le16(out, 9);
    buf_append_u8(out, 1); /* writeable */
    buf_append_le32(out, start);
    buf_append_le32(out, len);
}

void aml_io(struct buf *out, uint16_t start, uint8_t len)
{
    buf_append_u8(out, 0x47); /* 6.4.2.5, I/O port */
    buf_append_u8(out, 1);    /* decodes 16 address bits */
    buf_append_le16(out, start);
    buf_append_le16(out, start);
    buf_append_u8(out, 1); /* alignment */
    buf_append_u8(out, len);
}

void aml_interrupt(struct buf *out, uint32_t line)
{
    buf_append_u8(out, 0x89); /* 6.4.3.6, extended interrupt */
    buf_append_le16(out, 6);
    buf_append_u8(out, 0x03); /* bit 0: consumer, bit 1: edge; active high, exclusive */
    buf_append_u8(out, 1);
    buf_append_le32(out, line);
}

void aml_bus_range(struct buf *out, uint16_t first, uint16_t last)
{
    buf_append_u8(out, 0x88); /* 6.4.3.5.3, word address space */
    buf_append_le16(out, 13);
    buf_append_u8(out, 2);    /* bus numbers */
    buf_append_u8(out, 0x0c); /* both ends are fixed */
    buf_append_u8(out, 0);
    buf_append_le16(out, 0); /* granularity */
    buf_append_le16(out, first);
    buf_append_le16(out, last);
    buf_append_le16(out, 0); /* translation */
    buf_append_le16(out, (uint16_t)(last - first + 1));
}

void aml_memory_window(struct buf *out, uint64_t start, uint64_t len)
{
    buf_append_u8(out, 0x8a); /* 6.4.3.5.1, quad word address space */
    buf_append_le16(out, 43);
    buf_append_u8(out, 0);    /* memory */
    buf_append_u8(out, 0x0c); /* both ends are fixed */
    buf_append_u8(out, 1);    /* read and write, not cached */
    buf_append_le64(out, 0);  /* granularity */
    buf_append_le64(out, start);
    buf_append_le64(out, start + len - 1);
    buf_append_le64(out, 0); /* translation */
    buf_append_le64(out, len);
}
