/* resource_json.h — the resources' JSON forms: tables for json_in(), and text as GET /vm/config
 * shows them. */
#pragma once

#include "base/buf.h"
#include "codec/json_in.h"
#include "config/resource.h"

extern const struct json_type json_limiter, json_bucket;
extern const struct json_type json_machine;       /* PUT: counts are required */
extern const struct json_type json_machine_patch; /* PATCH: nothing is */
extern const struct json_type json_boot;
extern const struct json_type json_drive, json_drive_patch;
extern const struct json_type json_net, json_net_patch;
extern const struct json_type json_vsock;
extern const struct json_type json_entropy;
extern const struct json_type json_balloon;
extern const struct json_type json_pmem, json_pmem_patch;
extern const struct json_type json_memory;
extern const struct resource_memory json_memory_defaults;
extern const struct json_type json_serial;

/* Names by enum resource_template, resource_pages, ...; NULL at the end. */
extern const char *const json_template_names[],
    *const json_pages_names[], *const json_cache_names[], *const json_io_names[];

void json_put_limiter(struct buf *out, const struct resource_limiter *limiter, bool is_there);
void json_put_machine(struct buf *out, const struct resource_machine *machine);
void json_put_boot(struct buf *out, const struct resource_boot *boot);
void json_put_drive(struct buf *out, const struct resource_drive *drive);
void json_put_net(struct buf *out, const struct resource_net *net);
void json_put_vsock(struct buf *out, const struct resource_vsock *vsock);
void json_put_entropy(struct buf *out, const struct resource_entropy *entropy);
void json_put_balloon(struct buf *out, const struct resource_balloon *balloon);
void json_put_pmem(struct buf *out, const struct resource_pmem *pmem);
void json_put_memory(struct buf *out, const struct resource_memory *memory);
