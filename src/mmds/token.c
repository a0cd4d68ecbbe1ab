/* token.c — see token.h. */
#include "mmds/token.h"

#include <errno.h>
#include <nettle/base64.h>
#include <nettle/gcm.h>
#include <nettle/memops.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bits.h"

#define IV_BYTES     12 /* of GCM (NIST SP 800-38D, 5.2.1.1) */
#define EXPIRY_BYTES 8
#define TAG_BYTES    16
#define SEALED_BYTES (IV_BYTES + EXPIRY_BYTES + TAG_BYTES)

_Static_assert(SEALED_BYTES / 3 * 4 == TOKEN_CHARS, "base64 without padding");

int token_key_init(struct token_key *key, const char *vm_id, struct err *err)
{
    *key = (struct token_key){.vm_id = strdup(vm_id)};
    return key->vm_id ? 0 : err_set(err, -ENOMEM, "metadata service: out of memory");
}

void token_key_fini(struct token_key *key)
{
    explicit_bzero(key->bytes, sizeof(key->bytes));
    free(key->vm_id);
    key->vm_id = NULL;
}

static int fill_random(void *data, size_t len)
{
    return getrandom(data, len, 0) == (ssize_t)len ? 0 : -EIO;
}

/* Set up for the message that begins with its IV. */
static void begin(const struct token_key *key, const uint8_t *iv, struct gcm_aes256_ctx *ctx)
{
    gcm_aes256_set_key(ctx, key->bytes);
    gcm_aes256_set_iv(ctx, IV_BYTES, iv);
    gcm_aes256_update(ctx, strlen(key->vm_id), (const uint8_t *)key->vm_id);
}

int token_make(struct token_key *key, uint32_t ttl_s, uint64_t now_ms,
               char ret_token[static TOKEN_CHARS + 1])
{
    struct gcm_aes256_ctx ctx;
    uint8_t sealed[SEALED_BYTES];
    uint8_t expiry[EXPIRY_BYTES];

    if (!key->is_made) {
        if (fill_random(key->bytes, sizeof(key->bytes)) < 0) {
            return -EIO;
        }
        key->is_made = true;
    }
    if (fill_random(sealed, IV_BYTES) < 0) {
        return -EIO;
    }
    store_le64(expiry, now_ms + (uint64_t)ttl_s * 1000);
    begin(key, sealed, &ctx);
    gcm_aes256_encrypt(&ctx, EXPIRY_BYTES, sealed + IV_BYTES, expiry);
    gcm_aes256_digest(&ctx, TAG_BYTES, sealed + IV_BYTES + EXPIRY_BYTES);
    base64_encode_raw(ret_token, SEALED_BYTES, sealed);
    ret_token[TOKEN_CHARS] = '\0';
    explicit_bzero(&ctx, sizeof(ctx));
    return 0;
}

/* guest: exactly the characters of a token of ours. */
static bool decode(const char *token, uint8_t sealed[static SEALED_BYTES])
{
    struct base64_decode_ctx ctx;
    size_t len = SEALED_BYTES;

    base64_decode_init(&ctx);
    return strlen(token) == TOKEN_CHARS && !strpbrk(token, "= \t\r\n\v\f") &&
           base64_decode_update(&ctx, &len, sealed, TOKEN_CHARS, token) && len == SEALED_BYTES;
}

bool token_is_valid(const struct token_key *key, const char *token, uint64_t now_ms)
{
    struct gcm_aes256_ctx ctx;
    uint8_t sealed[BASE64_DECODE_LENGTH(TOKEN_CHARS)];
    uint8_t expiry[EXPIRY_BYTES];
    uint8_t tag[TAG_BYTES];

    if (!key->is_made || !decode(token, sealed)) {
        return false;
    }
    begin(key, sealed, &ctx);
    gcm_aes256_decrypt(&ctx, EXPIRY_BYTES, expiry, sealed + IV_BYTES);
    gcm_aes256_digest(&ctx, TAG_BYTES, tag);
    explicit_bzero(&ctx, sizeof(ctx));
    return memeql_sec(tag, sealed + IV_BYTES + EXPIRY_BYTES, TAG_BYTES) &&
           load_le64(expiry) > now_ms;
}
