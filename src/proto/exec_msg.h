/* exec_msg.h — names of the exec protocol, and a short way for its bulk data.
 *
 * exec.proto is the protocol.  ExecRequest.stdin and ExecResponse.stdout and .stderr carry nearly
 * all bytes, and the data of Connect; they are put together and taken apart here without a copy.
 * Everything else, and any message that a foreign peer encodes differently, goes through the
 * generated code.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXEC_VERSION "0.1.0"

#define EXEC_PATH_EXEC     "/ec1.v1.Init/Exec"
#define EXEC_PATH_CONNECT  "/ec1.v1.Init/Connect"
#define EXEC_PATH_INFO     "/ec1.v1.Init/Info"
#define EXEC_PATH_SHUTDOWN "/ec1.v1.Init/Shutdown"

/* In the initramfs. */
#define EXEC_BOOT_FILE "/ec1/boot.pb"
/* What the init writes to the console when it has no other way; the sentence follows. */
#define EXEC_FATAL_PREFIX "ec1-init: fatal: "

enum {
    EXEC_PORT = 1025,  /* the init listens */
    READY_PORT = 1024, /* the host listens */
    EXEC_HOST_CID = 2,

    EXEC_CHUNK = 64 * 1024,              /* stdin, stdout, stderr: bytes of one message */
    EXEC_REQUEST_MAX = 72 * 1024 * 1024, /* ExecStart: argv and env up to the kernel's limits */
    EXEC_RESPONSE_MAX = 4 * 1024 * 1024, /* foreign servers may send larger chunks than ours */
    EXEC_READY_MAX = 1024 * 1024,        /* a Ready message */
    EXEC_HEARTBEAT_S = 1,

    EXEC_FIELD_STDIN = 2,  /* of ExecRequest */
    EXEC_FIELD_STDOUT = 1, /* of ExecResponse */
    EXEC_FIELD_STDERR = 2,
    EXEC_FIELD_TO_PORT = 2,   /* data of ConnectRequest */
    EXEC_FIELD_FROM_PORT = 1, /* data of ConnectResponse */

    EXEC_DATA_HEAD_MAX = 6,
};

/* The bytes in front of `len` bytes of field `field` in a message that has only this field. Returns
 * their number. */
size_t exec_msg_data_head(uint8_t head[static EXEC_DATA_HEAD_MAX], unsigned field, uint32_t len);
/* Is the message just one bytes field with a number up to 15?  Then where its value is. */
bool exec_msg_is_data(const uint8_t *msg, size_t len, unsigned *ret_field, const uint8_t **ret_data,
                      size_t *ret_len);
