/* auth.h — the user's passwords for registries, where docker and its kin keep them:
 * $DOCKER_CONFIG/config.json or ~/.docker/config.json, with "auths", "credHelpers" and
 * "credsStore".
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct oci_login {
    char *user; /* "<token>": the secret is an identity token, for the token server */
    char *secret;
};

#define OCI_LOGIN_TOKEN "<token>"

/* What is known for `host`; both members NULL if nothing is.  An unreadable file or a helper that
 * fails is an error. */
int oci_login_find(const char *host, struct oci_login *ret_login, struct err *err);
void oci_login_fini(struct oci_login *login);

/* Base 64 of some bytes; allocated, NULL when out of memory. */
char *oci_base64(const char *data, size_t len);
