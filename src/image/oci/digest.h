/* digest.h — SHA-256 as images write it: "sha256:" and 64 hexadecimal digits (OCI image
 * specification 1.1, "Digests").
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define DIGEST_HEX  64
#define DIGEST_SIZE (7 + DIGEST_HEX + 1) /* with the NUL */

bool digest_is(const char *text);
/* Its hexadecimal digits. */
const char *digest_hex(const char *digest);

struct digest {
    void *context; /* EVP_MD_CTX */
};

/* -ENOMEM.  digest_fini() is right in any case. */
int digest_init(struct digest *digest);
void digest_fini(struct digest *digest);
void digest_add(struct digest *digest, const void *data, size_t len);
/* Ends it. */
void digest_text(struct digest *digest, char out[static DIGEST_SIZE]);

/* Of bytes in memory / of a whole file; 0 or negative errno. */
int digest_of(const void *data, size_t len, char out[static DIGEST_SIZE]);
/* -EBADMSG if the bytes have another digest than `want`. */
int digest_check(const void *data, size_t len, const char *want, struct err *err);
int digest_of_fd(int fd, char out[static DIGEST_SIZE]);
