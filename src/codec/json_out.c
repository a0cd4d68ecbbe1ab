/* json_out.c — write JSON text into a buffer. */
#include "codec/json_out.h"

#include <string.h>

void json_put_string(struct buf *out, const char *text)
{
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";

    if (!text) {
        buf_append_str(out, "null");
        return;
    }
    buf_append_str(out, "\"");
    for (; *text; text++) {
        const char *at = strchr(special, *text);

        if (at) {
            buf_printf(out, "\\%c", letter[at - special]);
        } else if ((unsigned char)*text < 0x20) {
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        } else {
            buf_append(out, text, 1);
        }
    }
    buf_append_str(out, "\"");
}
