/* sink.h — write to a descriptor that may block, without blocking and without changing it.
 *
 * O_NONBLOCK belongs to the open file, which the caller's shell shares: it is never set.  A pipe or
 * a terminal is opened a second time instead; where that is not possible, writes are small enough
 * not to block once poll(2) says there is room.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/byte_queue.h"

enum exec_sink_kind { EXEC_SINK_FILE, EXEC_SINK_SOCKET, EXEC_SINK_REOPENED, EXEC_SINK_CAREFUL };

struct exec_sink {
    enum exec_sink_kind kind;
    int fd;       /* the caller's; -1: everything is dropped */
    int reopened; /* ours */
    struct byte_queue queue;
    size_t credit; /* owed to the sender for what is queued */
    int code;      /* negative errno once writing failed */
};

void exec_sink_init(struct exec_sink *sink, int fd);
void exec_sink_fini(struct exec_sink *sink);
/* Write or keep.  Returns the credit that may be given back now.  After a failure all is dropped.
 */
size_t exec_sink_put(struct exec_sink *sink, const void *data, size_t len, size_t credit);
/* There may be room again: go on.  Returns credit as above. */
size_t exec_sink_push(struct exec_sink *sink);
bool exec_sink_is_empty(const struct exec_sink *sink);
/* What to poll for POLLOUT while not empty. */
int exec_sink_poll_fd(const struct exec_sink *sink);
