/* log_text.c — see log_text.h. */
#include "api/log_text.h"

#include <string.h>

#include "base/buf.h"
#include "codec/http1.h"

/* In quotes, with what is not to be seen escaped as log readers expect it. */
static void put_quoted(struct buf *out, const char *text)
{
    static const char special[] = "\"\\\n\r\t", letter[] = "\"\\nrt";

    buf_append_str(out, "\"");
    for (; *text; text++) {
        const char *at = strchr(special, *text);

        if (at) {
            buf_printf(out, "\\%c", letter[at - special]);
        } else if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            buf_printf(out, "\\u{%x}", (unsigned)(unsigned char)*text);
        } else {
            buf_append(out, text, 1);
        }
    }
    buf_append_str(out, "\"");
}

void api_log_text(const struct http1_request *request, bool is_verbose, struct buf *out)
{
    static const char *const names[HTTP1_METHOD_COUNT] = {[HTTP1_GET] = "Get",
                                                          [HTTP1_PUT] = "Put",
                                                          [HTTP1_PATCH] = "Patch",
                                                          [HTTP1_DELETE] = "Delete"};
    const char *path = http1_path(request);
    bool is_cpu = strcmp(path, "/cpu-config") == 0;

    buf_printf(out, "The API server received a %s request on ", names[request->method]);
    put_quoted(out, path);
    if (request->has_body && is_cpu && !is_verbose) {
        buf_append_str(out,
                       ". To view the CPU template received by the API, configure log-level to "
                       "DEBUG.");
        return;
    }
    /* The metadata store may hold secrets. */
    if (request->has_body && strcmp(path, "/mmds") != 0) {
        buf_append_str(out, " with body ");
        put_quoted(out, buf_str(&request->body));
    }
    buf_append_str(out, ".");
}
