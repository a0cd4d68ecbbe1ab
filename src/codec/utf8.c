/* utf8.c — see utf8.h. */
#include "codec/utf8.h"

#include <stdint.h>

#include "base/bits.h"

/* Length of the sequence at `s`, 0 if it is none (RFC 3629, section 4). */
static size_t utf8_len(const uint8_t *s, size_t left)
{
    static const struct {
        uint8_t mask, lead, len;
        uint32_t min;
    } forms[] = {{0x80, 0x00, 1, 0},
                 {0xe0, 0xc0, 2, 0x80},
                 {0xf0, 0xe0, 3, 0x800},
                 {0xf8, 0xf0, 4, 0x10000}};

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        uint32_t c = s[0] & (uint8_t)~forms[i].mask;

        if ((s[0] & forms[i].mask) != forms[i].lead) {
            continue;
        }
        if (left < forms[i].len) {
            return 0;
        }
        for (size_t k = 1; k < forms[i].len; k++) {
            if ((s[k] & 0xc0) != 0x80) {
                return 0;
            }
            c = c << 6 | (s[k] & 0x3f);
        }
        return c < forms[i].min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : forms[i].len;
    }
    return 0;
}

size_t utf8_valid(const char *text, size_t len)
{
    size_t at = 0;

    while (at < len) {
        size_t step = utf8_len((const uint8_t *)text + at, len - at);

        if (step == 0) {
            break;
        }
        at += step;
    }
    return at;
}
