/* mmds.h — the microVM metadata service: a JSON document that the host sets and the guest reads
 * over HTTP, at an address of its own behind its network interfaces.
 *
 * Threads: the document and the settings may be used from any; a mutex guards them.  What
 * mmds_inner_new() makes belongs to the loop of the network device.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf;
struct http1_request;
struct mmds;
struct net_inner;

struct mmds_config {
    bool is_v2;       /* data only with a token */
    bool imds_compat; /* text whatever the request accepts */
    uint32_t ipv4;    /* in host order */
};

/* What an interface has when nobody says otherwise: 169.254.169.254, version 1. */
extern const struct mmds_config mmds_config_default;

/* `vm_id` binds tokens to this microVM; `size_limit` counts bytes of the compact document. */
int mmds_new(const char *vm_id, size_t size_limit, struct mmds **ret_mmds, struct err *err);
void mmds_free(struct mmds *mmds);
void mmds_configure(struct mmds *mmds, const struct mmds_config *config);

/* The document.  Texts are part of Firecracker's interface.  -EFBIG: it would be too large;
 * -ENODATA: patched before it was ever put; -EINVAL: no JSON.  A failure changes nothing. */
int mmds_put(struct mmds *mmds, const char *text, size_t len, struct err *err);
int mmds_patch(struct mmds *mmds, const char *text, size_t len, struct err *err);
/* "{}" while there is none. */
int mmds_get(struct mmds *mmds, struct buf *out);

/* What the guest gets for a request; appends the bytes of the answer. */
void mmds_answer(struct mmds *mmds, const struct http1_request *request, struct buf *out);
/* The same for something that is no request. */
void mmds_answer_bad(const char *why, struct buf *out);

/* The service behind one network interface.  Free it after the device. */
int mmds_inner_new(struct mmds *mmds, struct net_inner **ret_inner, struct err *err);
void mmds_inner_free(struct net_inner *inner);
