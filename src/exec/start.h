/* start.h — an exec_request as the first message of a call. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "exec/client.h"
#include "proto/exec.pb-c.h"

/* An ExecRequest with `start`; 0, -EINVAL without argv, -ENOMEM. */
int exec_start_pack(const struct exec_request *request, struct buf *ret_buf);
/* The size of the first of the two that is a terminal. */
bool exec_start_window(int in, int out, Ec1__V1__WindowSize *ret_window);
