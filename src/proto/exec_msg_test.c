/* exec_msg_test.c — hand-made messages against the generated code, and queues of bytes. */
#include <stdlib.h>

#include "base/bits.h"
#include "proto/byte_queue.h"
#include "proto/exec.pb-c.h"
#include "proto/exec_msg.h"
#include "tests/lib/test.h"

TEST(exec_msg, is_what_the_generated_code_makes)
{
    static const uint32_t sizes[] = {0, 1, 127, 128, 16383, 16384, 65536, 2097152};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        Ec1__V1__ExecResponse message = EC1__V1__EXEC_RESPONSE__INIT;
        uint8_t head[EXEC_DATA_HEAD_MAX];
        uint8_t *data = calloc(1, sizes[i] + 1);
        uint8_t *packed = malloc(sizes[i] + 16);
        const uint8_t *found;
        unsigned field;
        size_t head_len = exec_msg_data_head(head, EXEC_FIELD_STDERR, sizes[i]);
        size_t found_len;
        size_t len;

        message.what_case = EC1__V1__EXEC_RESPONSE__WHAT_STDERR;
        message.stderr.data = data;
        message.stderr.len = sizes[i];
        len = ec1__v1__exec_response__pack(&message, packed);
        CHECK_INT(len, head_len + sizes[i]);
        CHECK_MEM(packed, head, head_len);
        CHECK(exec_msg_is_data(packed, len, &field, &found, &found_len));
        CHECK_INT(field, EXEC_FIELD_STDERR);
        CHECK_INT(found_len, sizes[i]);
        CHECK(found == packed + head_len);
        free(data);
        free(packed);
    }
}

TEST(exec_msg, anything_else_is_left_to_the_generated_code)
{
    static const struct {
        uint8_t bytes[8];
        size_t len;
    } cases[] = {
        {{0}, 0},
        {{0x0a}, 1},
        {{0x0a, 0x02, 'a'}, 3},                          /* shorter than it says */
        {{0x0a, 0x01, 'a', 'b'}, 4},                     /* longer */
        {{0x08, 0x01}, 2},                               /* a number */
        {{0x0a, 0x80}, 2},                               /* the length does not end */
        {{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 7}, /* too long a length */
        {{0x8a, 0x01, 0x00}, 3},                         /* field 17 */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const uint8_t *data;
        unsigned field;
        size_t len;

        CHECK(!exec_msg_is_data(cases[i].bytes, cases[i].len, &field, &data, &len));
    }
}

TEST(byte_queue, bytes_come_out_in_order)
{
    struct byte_queue queue = {0};
    uint8_t chunk[1000];
    uint8_t next_in = 0;
    uint8_t next_out = 0;

    for (unsigned round = 0; round < 3000; round++) {
        for (size_t i = 0; i < sizeof(chunk); i++) {
            chunk[i] = next_in++;
        }
        CHECK_INT(byte_queue_put(&queue, chunk, sizeof(chunk)), 0);
        for (size_t left = round % 1900; left && byte_queue_len(&queue); left--) {
            CHECK_INT(*byte_queue_data(&queue), next_out++);
            byte_queue_take(&queue, 1);
        }
    }
    while (byte_queue_len(&queue)) {
        CHECK_INT(*byte_queue_data(&queue), next_out++);
        byte_queue_take(&queue, 1);
    }
    CHECK_INT(next_out, next_in);
    CHECK(queue.buf.cap <= 512 * 1024); /* a burst is not kept */
    byte_queue_fini(&queue);
}
