/* digest.c — see digest.h; the arithmetic is libcrypto's. */
#include "image/oci/digest.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "sha256:"

bool digest_is(const char *text)
{
    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0 || strlen(text) != strlen(PREFIX) + DIGEST_HEX) {
        return false;
    }
    for (const char *c = digest_hex(text); *c; c++) {
        if (!isxdigit((unsigned char)*c) || isupper((unsigned char)*c)) {
            return false;
        }
    }
    return true;
}

const char *digest_hex(const char *digest)
{
    return digest + strlen(PREFIX);
}

int digest_init(struct digest *digest)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    digest->context = context;
    return context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

void digest_fini(struct digest *digest)
{
    EVP_MD_CTX_free(digest->context);
    digest->context = NULL;
}

void digest_add(struct digest *digest, const void *data, size_t len)
{
    (void)EVP_DigestUpdate(digest->context, data, len);
}

void digest_text(struct digest *digest, char out[static DIGEST_SIZE])
{
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    char *at = out + strlen(PREFIX);

    (void)EVP_DigestFinal_ex(digest->context, sum, NULL);
    memcpy(out, PREFIX, sizeof(PREFIX));
    for (int i = 0; i < DIGEST_HEX / 2; i++) {
        at += snprintf(at, 3, "%02x", sum[i]);
    }
}

int digest_of(const void *data, size_t len, char out[static DIGEST_SIZE])
{
    struct digest digest;
    int r = digest_init(&digest);

    if (r == 0) {
        digest_add(&digest, data, len);
        digest_text(&digest, out);
    }
    digest_fini(&digest);
    return r;
}

int digest_check(const void *data, size_t len, const char *want, struct err *err)
{
    char digest[DIGEST_SIZE];
    int r = digest_of(data, len, digest);

    if (r < 0) {
        return err_set(err, r, "%s: out of memory", want);
    }
    return strcmp(digest, want) == 0
               ? 0
               : err_set(err, -EBADMSG, "%s: what came has the digest %s", want, digest);
}

int digest_of_fd(int fd, char out[static DIGEST_SIZE])
{
    unsigned char bytes[4096];
    struct digest digest;
    int r = digest_init(&digest);
    off_t at = 0;
    ssize_t n = 1;

    while (r == 0 && n > 0) {
        n = pread(fd, bytes, sizeof(bytes), at);
        if (n < 0) {
            r = -errno;
        } else {
            digest_add(&digest, bytes, (size_t)n);
            at += n;
        }
    }
    if (r == 0) {
        digest_text(&digest, out);
    }
    digest_fini(&digest);
    return r;
}
