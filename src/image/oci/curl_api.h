/* curl_api.h — libcurl, loaded when the first registry is asked.
 *
 * It brings some thirty libraries with it (TLS, Kerberos, LDAP, ...), and loading those would be
 * the longest part of the start of a command that never sees a registry.
 */
#pragma once

/* The macros that check types want to call the functions by their names. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include "base/err.h"

#define CURL_API_LIST(X)                                                      \
    X(CURL *, easy_init, (void))                                              \
    X(void, easy_cleanup, (CURL *))                                           \
    X(void, easy_reset, (CURL *))                                             \
    X(CURLcode, easy_setopt, (CURL *, CURLoption, ...))                       \
    X(CURLcode, easy_getinfo, (CURL *, CURLINFO, ...))                        \
    X(CURLcode, easy_perform, (CURL *))                                       \
    X(const char *, easy_strerror, (CURLcode))                                \
    X(char *, easy_escape, (CURL *, const char *, int))                       \
    X(void, free, (void *))                                                   \
    X(struct curl_slist *, slist_append, (struct curl_slist *, const char *)) \
    X(void, slist_free_all, (struct curl_slist *))

struct curl_api {
    void *library;
#define X(type, name, args) type(*name) args;
    CURL_API_LIST(X)
#undef X
};

/* -ELIBACC with a sentence that names the package. */
int curl_api_open(struct curl_api *ret_api, struct err *err);
void curl_api_close(struct curl_api *api);
