/* http1.h — the HTTP/1 of Firecracker's API socket and of its metadata service: bytes to requests,
 * answers to bytes.
 *
 * Clients compare bytes and error texts, so this is neither general nor lenient: four methods, two
 * versions, lines of at most HTTP1_LINE_MAX bytes, bodies by Content-Length alone, no chunks.  The
 * error of http1_feed() is the sentence that goes into the answer.
 *
 * No I/O, no threads of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define HTTP1_LINE_MAX 1024u /* bytes of a line with its CR LF */

enum http1_method { HTTP1_GET, HTTP1_PUT, HTTP1_PATCH, HTTP1_DELETE, HTTP1_METHOD_COUNT };
enum http1_version { HTTP1_0, HTTP1_1 };
enum http1_media { HTTP1_TEXT, HTTP1_JSON };

/* "GET", ... */
const char *http1_method_name(enum http1_method method);

struct http1_request {
    enum http1_method method;
    enum http1_version version;
    struct buf uri;          /* as sent */
    struct buf fields;       /* of the header: "name\0value\0"..., without blanks around them */
    struct buf body;         /* when has_body; shorter until it is complete */
    size_t body_len;         /* Content-Length */
    bool has_body;           /* Content-Length is there and not 0 */
    bool wants_continue;     /* Expect: 100-continue came with a body */
    enum http1_media accept; /* the last Accept that is one of the two; text without any */
};

void http1_request_fini(struct http1_request *request);

/* Path of the URI: from its first '/', behind the authority of an absolute one; "/" if there is
 * none.  Points into request->uri. */
const char *http1_path(const struct http1_request *request);
/* The value of a header field, NULL if it did not come.  `name` in any case. */
const char *http1_field(const struct http1_request *request, const char *name);

struct http1_parser {
    size_t body_max;
    int state;
    char line[HTTP1_LINE_MAX];
    size_t line_len;
    struct http1_request request; /* in progress */
};

void http1_parser_init(struct http1_parser *parser, size_t body_max);
void http1_parser_fini(struct http1_parser *parser);

enum http1_event {
    HTTP1_MORE,     /* all bytes are used up, no request is complete */
    HTTP1_READY,    /* *ret_request is complete and the caller's; call again with the rest */
    HTTP1_CONTINUE, /* the peer waits for "100 Continue"; call again with the rest */
};

/* Use up to `len` bytes, *ret_used says how many.  An event, or a negative errno with a sentence:
 * the parser has started over then, and the rest of the bytes is to be thrown away.
 * -E2BIG: the body is larger than body_max; -ENOMEM; -EINVAL: everything else. */
int http1_feed(struct http1_parser *parser, const void *data, size_t len, size_t *ret_used,
               struct http1_request *ret_request, struct err *err);

struct http1_answer {
    enum http1_version version;
    unsigned status;
    const char *server; /* of the Server field */
    const char *allow;  /* NULL: no Allow field */
    bool is_deprecated; /* Deprecation: true */
    enum http1_media media;
    const char *extra; /* further fields, each with CR LF at its end; NULL: none */
    const void *body;  /* not with 100 and 204 */
    size_t body_len;
};

/* Append the answer's bytes. */
void http1_put_answer(struct buf *out, const struct http1_answer *answer);
