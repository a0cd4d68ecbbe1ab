/* token.c — see token.h. */
#include "mmds/token.h"

#include <errno.h>
#include <openssl/evp.h>
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

/* Seal (`encrypts`) or open the expiry in the message that begins with its IV; the tag is written
 * or compared.  0, or -EBADMSG: it was not sealed with this key for this microVM. */
static int crypt_expiry(const struct token_key *key, bool encrypts, uint8_t sealed[SEALED_BYTES],
                        uint8_t expiry[EXPIRY_BYTES])
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t *text = sealed + IV_BYTES;
    uint8_t *tag = text + EXPIRY_BYTES;
    uint8_t rest[EVP_MAX_BLOCK_LENGTH];
    int n = 0;
    bool ok =
        ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->bytes, sealed, encrypts) == 1 &&
        EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)key->vm_id, (int)strlen(key->vm_id)) ==
            1 &&
        EVP_CipherUpdate(ctx, encrypts ? text : expiry, &n, encrypts ? expiry : text,
                         EXPIRY_BYTES) == 1;

    if (ok && !encrypts) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1;
    }
    ok = ok && EVP_CipherFinal_ex(ctx, rest, &n) == 1;
    if (ok && encrypts) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1;
    }
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 0 : -EBADMSG;
}

int token_make(struct token_key *key, uint32_t ttl_s, uint64_t now_ms,
               char ret_token[static TOKEN_CHARS + 1])
{
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
    if (crypt_expiry(key, true, sealed, expiry) < 0) {
        return -EIO;
    }
    (void)EVP_EncodeBlock((uint8_t *)ret_token, sealed, SEALED_BYTES); /* ends it with a NUL */
    return 0;
}

/* guest: exactly the characters of a token of ours. */
static bool decode(const char *token, uint8_t sealed[static SEALED_BYTES])
{
    return strlen(token) == TOKEN_CHARS && !strpbrk(token, "= \t\r\n\v\f") &&
           EVP_DecodeBlock(sealed, (const uint8_t *)token, TOKEN_CHARS) == SEALED_BYTES;
}

bool token_is_valid(const struct token_key *key, const char *token, uint64_t now_ms)
{
    uint8_t sealed[SEALED_BYTES];
    uint8_t expiry[EXPIRY_BYTES];

    return key->is_made && decode(token, sealed) && crypt_expiry(key, false, sealed, expiry) == 0 &&
           load_le64(expiry) > now_ms;
}
