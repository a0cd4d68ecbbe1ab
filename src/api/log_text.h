/* log_text.h — how a request of the REST interface reads in the log. */
#pragma once

#include <stdbool.h>

struct buf;
struct http1_request;

/* `is_verbose`: also bodies that are long by nature. */
void api_log_text(const struct http1_request *request, bool is_verbose, struct buf *out);
