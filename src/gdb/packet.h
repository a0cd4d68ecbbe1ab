/* packet.h — bytes to packets and back: "$text#sum", acknowledged by '+' until both sides agree not
 * to (gdb's manual, "Remote Protocol", "Overview" and "Packet Acknowledgment").
 *
 * The peer is not trusted: a packet has a length that is checked before each byte is kept, and a
 * byte that can stand at no such place ends the connection.  So does the first line of an HTTP
 * request, by which a web page would reach a port of this host.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct buf;

#define GDB_PACKET_MAX 16384u

enum gdb_input {
    GDB_INPUT_MORE,      /* nothing yet */
    GDB_INPUT_PACKET,    /* reader->data, NUL behind reader->len bytes */
    GDB_INPUT_BAD,       /* a packet whose sum is wrong */
    GDB_INPUT_INTERRUPT, /* Ctrl-C */
    GDB_INPUT_REPEAT,    /* '-': the last answer did not arrive */
    GDB_INPUT_BROKEN,    /* this is not gdb */
};

struct gdb_reader {
    enum { READ_OUTSIDE, READ_INSIDE, READ_SUM_HIGH, READ_SUM_LOW } state;
    uint8_t sum, got;
    size_t len;
    char data[GDB_PACKET_MAX + 1];
};

enum gdb_input gdb_read_byte(struct gdb_reader *reader, uint8_t byte);
/* Frame and escape. */
void gdb_put_packet(struct buf *out, const void *data, size_t len);
/* In place, of binary data in a packet; returns the new length. */
size_t gdb_unescape(char *data, size_t len);
