/* utf8.h — is text UTF-8 (RFC 3629)? */
#pragma once

#include <stddef.h>

/* How many bytes from the beginning on are whole characters; `len` if all of them are. */
size_t utf8_valid(const char *text, size_t len);
