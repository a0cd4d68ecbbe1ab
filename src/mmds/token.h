/* token.h — session tokens: an expiry time, sealed with a key that lives and dies with this
 * process.
 *
 * A token is the base64 of 12 random bytes, the expiry encrypted with AES-256-GCM, and the 16 bytes
 * of its tag; the microVM's id is authenticated with it, so that a token of one VM is worth nothing
 * in another.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TOKEN_CHARS   48 /* base64 of 36 bytes */
#define TOKEN_TTL_MIN 1u
#define TOKEN_TTL_MAX 21600u /* seconds */

struct token_key {
    uint8_t bytes[32];
    bool is_made; /* at the first token */
    char *vm_id;
};

int token_key_init(struct token_key *key, const char *vm_id, struct err *err);
void token_key_fini(struct token_key *key);

/* A token that expires in `ttl_s` seconds of the monotonic clock at `now_ms`. */
int token_make(struct token_key *key, uint32_t ttl_s, uint64_t now_ms,
               char ret_token[static TOKEN_CHARS + 1]);
/* Is it one of ours that has not expired?  `token` is anything. */
bool token_is_valid(const struct token_key *key, const char *token, uint64_t now_ms);
