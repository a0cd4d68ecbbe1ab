/* crc64.c — CRC-64, a byte at a time over a table made on first use. */
#include "state/crc64.h"

#include <pthread.h>

#define POLYNOMIAL UINT64_C(0x95ac9329ac4bc9b5) /* 0xad93d23594c935a9 with its bits reversed */

static uint64_t g_table[256];
static pthread_once_t g_table_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t crc = byte;

        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        }
        g_table[byte] = crc;
    }
}

uint64_t crc64(const void *data, size_t len)
{
    const uint8_t *at = data;
    uint64_t crc = 0;

    (void)pthread_once(&g_table_once, make_table);
    while (len-- > 0) {
        crc = g_table[(uint8_t)crc ^ *at++] ^ crc >> 8;
    }
    return crc;
}
