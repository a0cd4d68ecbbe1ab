/* crc64.h — CRC-64 with Jones' polynomial: reflected, from 0, not inverted. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t crc64(const void *data, size_t len);
