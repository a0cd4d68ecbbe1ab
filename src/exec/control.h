/* control.h — short questions to the init of a VM. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/exec.pb-c.h"

/* Freed with ec1__v1__info_response__free_unpacked(info, NULL). */
int exec_info(const char *uds_path, int64_t timeout_ns, Ec1__V1__InfoResponse **ret_info,
              struct err *err);
/* Ask for a regular end: processes get SIGTERM, then SIGKILL; file systems are synced.  Returns
 * once the init has taken it on; the VM ends a little later. */
int exec_shutdown(const char *uds_path, bool reboot, int64_t timeout_ns, struct err *err);

/* Over a connected socket, which stays the caller's: one message there, one back.  The answer is
 * malloc'd. */
int exec_unary_on(int fd, const char *path, const void *data, size_t len, int64_t timeout_ns,
                  uint8_t **ret_data, size_t *ret_len, struct err *err);
