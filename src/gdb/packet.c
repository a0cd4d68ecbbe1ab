/* packet.c — see packet.h. */
#include "gdb/packet.h"

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"
#include "gdb/hex.h"

#define CTRL_C 0x03

/* Between packets. */
static enum gdb_input outside(struct gdb_reader *r, uint8_t byte)
{
    switch (byte) {
    case '+': return GDB_INPUT_MORE;
    case '-': return GDB_INPUT_REPEAT;
    case CTRL_C: return GDB_INPUT_INTERRUPT;
    case '$':
        r->state = READ_INSIDE;
        r->len = 0;
        r->sum = 0;
        return GDB_INPUT_MORE;
    default: return GDB_INPUT_BROKEN;
    }
}

static enum gdb_input inside(struct gdb_reader *r, uint8_t byte)
{
    if (byte == '#') {
        r->state = READ_SUM_HIGH;
        return GDB_INPUT_MORE;
    }
    if (byte == '$' || r->len == GDB_PACKET_MAX) {
        return GDB_INPUT_BROKEN;
    }
    r->data[r->len++] = (char)byte;
    r->sum = (uint8_t)(r->sum + byte);
    return GDB_INPUT_MORE;
}

enum gdb_input gdb_read_byte(struct gdb_reader *r, uint8_t byte)
{
    int digit = hex_digit((char)byte);

    if (r->state == READ_OUTSIDE) {
        return outside(r, byte);
    }
    if (r->state == READ_INSIDE) {
        return inside(r, byte);
    }
    if (digit < 0) {
        return GDB_INPUT_BROKEN;
    }
    r->got = (uint8_t)(r->got << 4 | digit);
    if (r->state == READ_SUM_HIGH) {
        r->state = READ_SUM_LOW;
        return GDB_INPUT_MORE;
    }
    r->state = READ_OUTSIDE;
    r->data[r->len] = 0;
    return r->got == r->sum ? GDB_INPUT_PACKET : GDB_INPUT_BAD;
}

static bool is_special(uint8_t byte)
{
    return byte == '#' || byte == '$' || byte == '}' || byte == '*';
}

void gdb_put_packet(struct buf *out, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    uint8_t sum = 0;

    buf_append_u8(out, '$');
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = bytes[i];

        if (is_special(byte)) {
            buf_append_u8(out, '}');
            sum = (uint8_t)(sum + '}');
            byte ^= 0x20;
        }
        buf_append_u8(out, byte);
        sum = (uint8_t)(sum + byte);
    }
    buf_printf(out, "#%02x", sum);
}

size_t gdb_unescape(char *data, size_t len)
{
    size_t to = 0;

    for (size_t from = 0; from < len; from++) {
        if (data[from] == '}' && from + 1 < len) {
            data[to++] = (char)(data[++from] ^ 0x20);
        } else {
            data[to++] = data[from];
        }
    }
    return to;
}
