/* hex.h — numbers and bytes in the form of gdb's packets: hexadecimal, without a prefix. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

/* 0 to 15, or -1. */
int hex_digit(char c);
/* One to sixteen digits at *at, which moves behind them. */
bool hex_number(const char **at, uint64_t *ret_value);
/* Exactly `len` bytes, and then the end of the text. */
bool hex_bytes(const char *text, uint8_t *out, size_t len);
void hex_append(struct buf *out, const void *data, size_t len);
