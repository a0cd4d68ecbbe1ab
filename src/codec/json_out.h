/* json_out.h — write JSON text into a buffer. */
#pragma once

#include "base/buf.h"

/* The text in quotes, escaped; NULL: null. */
void json_put_string(struct buf *out, const char *text);
