/* exec_msg.c — protobuf messages of a single bytes field, by hand. */
#include "proto/exec_msg.h"

enum { WIRE_BYTES = 2 };

size_t exec_msg_data_head(uint8_t head[static EXEC_DATA_HEAD_MAX], unsigned field, uint32_t len)
{
    size_t at = 0;

    head[at++] = (uint8_t)(field << 3 | WIRE_BYTES);
    while (len >= 0x80) {
        head[at++] = (uint8_t)(len | 0x80);
        len >>= 7;
    }
    head[at++] = (uint8_t)len;
    return at;
}

bool exec_msg_is_data(const uint8_t *msg, size_t len, unsigned *ret_field, const uint8_t **ret_data,
                      size_t *ret_len)
{
    uint64_t size = 0;
    size_t at = 1;

    if (len < 2 || (msg[0] & 0x87) != WIRE_BYTES) {
        return false;
    }
    for (unsigned shift = 0; shift < 35; shift += 7) {
        if (at >= len) {
            return false;
        }
        size |= (uint64_t)(msg[at] & 0x7f) << shift;
        if (!(msg[at++] & 0x80)) {
            break;
        }
    }
    if (size != len - at || (msg[at - 1] & 0x80)) {
        return false;
    }
    *ret_field = msg[0] >> 3;
    *ret_data = msg + at;
    *ret_len = len - at;
    return true;
}
