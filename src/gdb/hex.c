/* hex.c — see hex.h. */
#include "gdb/hex.h"

#include <string.h>

#include "base/buf.h"

int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

    return at ? (int)(at - digits) : -1;
}

bool hex_number(const char **at, uint64_t *ret_value)
{
    uint64_t value = 0;
    unsigned count = 0;

    while (hex_digit((*at)[count]) >= 0) {
        if (count == 16) {
            return false;
        }
        value = value << 4 | (unsigned)hex_digit((*at)[count++]);
    }
    if (count == 0) {
        return false;
    }
    *at += count;
    *ret_value = value;
    return true;
}

bool hex_bytes(const char *text, uint8_t *out, size_t len)
{
    if (strlen(text) != len * 2) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[i * 2]);
        int low = hex_digit(text[i * 2 + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void hex_append(struct buf *out, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        const char pair[] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};

        buf_append(out, pair, sizeof(pair));
    }
}
