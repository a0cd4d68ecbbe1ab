/* packet_test.c — framing, and peers that are not gdb. */
#include "base/buf.h"
#include "gdb/packet.h"
#include "tests/lib/test.h"

static struct gdb_reader g_reader;

/* What the last byte gives. */
static enum gdb_input feed(const char *text, size_t len)
{
    enum gdb_input got = GDB_INPUT_MORE;

    memset(&g_reader, 0, sizeof(g_reader));
    for (size_t i = 0; i < len && got != GDB_INPUT_BROKEN; i++) {
        got = gdb_read_byte(&g_reader, (uint8_t)text[i]);
    }
    return got;
}

#define FEED(text) feed(text, sizeof(text) - 1)

TEST(gdb, packets_have_a_sum)
{
    CHECK_INT(FEED("+$m10,4#5a"), GDB_INPUT_BAD);
    CHECK_INT(FEED("$?#3f"), GDB_INPUT_PACKET);
    CHECK_STR(g_reader.data, "?");
    CHECK_INT(FEED("$?#3F"), GDB_INPUT_PACKET);
    CHECK_INT(FEED("$#00"), GDB_INPUT_PACKET);
    CHECK_INT(g_reader.len, 0);
    CHECK_INT(FEED("$?#3"), GDB_INPUT_MORE);
    CHECK_INT(FEED("\x03"), GDB_INPUT_INTERRUPT);
    CHECK_INT(FEED("-"), GDB_INPUT_REPEAT);
}

TEST(gdb, what_is_no_packet_breaks_the_connection)
{
    static char endless[GDB_PACKET_MAX + 10];

    CHECK_INT(FEED("POST / HTTP/1.1\r\n"), GDB_INPUT_BROKEN);
    CHECK_INT(FEED("$?#xy"), GDB_INPUT_BROKEN);
    CHECK_INT(FEED("$?$"), GDB_INPUT_BROKEN);
    CHECK_INT(FEED("\0"), GDB_INPUT_BROKEN);
    memset(endless, 'a', sizeof(endless));
    endless[0] = '$';
    CHECK_INT(feed(endless, GDB_PACKET_MAX + 1), GDB_INPUT_MORE);
    CHECK_INT(feed(endless, sizeof(endless)), GDB_INPUT_BROKEN);
}

TEST(gdb, special_bytes_are_escaped_and_come_back)
{
    static const char data[] = "a#b$c}d*e";
    struct buf out = {0};
    char copy[64];
    size_t len;

    gdb_put_packet(&out, data, sizeof(data) - 1);
    CHECK_INT(feed((const char *)out.data, out.len), GDB_INPUT_PACKET);
    CHECK_STR(g_reader.data, "a}\x03"
                             "b}\x04"
                             "c}]d}\ne");
    memcpy(copy, g_reader.data, g_reader.len);
    len = gdb_unescape(copy, g_reader.len);
    CHECK_INT(len, sizeof(data) - 1);
    CHECK_MEM(copy, data, len);
    CHECK_INT(gdb_unescape(copy, 0), 0);
    copy[0] = '}';
    CHECK_INT(gdb_unescape(copy, 1), 1);
    buf_fini(&out);
}
