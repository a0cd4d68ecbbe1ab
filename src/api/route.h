/* route.h — from a request of the REST interface to an action: path and method, the id, the body.
 *
 * Everything that can be told without the microVM is checked here, in the order that clients know:
 * is there a body, is there such a path, is the id one, is the body JSON of the right form, does it
 * name the same id.  No thread of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/request_json.h"
#include "base/buf.h"
#include "base/err.h"
#include "codec/http1.h"
#include "vmm/microvm.h"

struct metric;

/* What a body becomes. */
union api_body {
    struct resource_machine machine;
    struct resource_boot boot;
    struct resource_cpu cpu;
    struct resource_drive drive;
    struct resource_net net;
    struct resource_pmem pmem;
    struct resource_vsock vsock;
    struct resource_entropy entropy;
    struct resource_balloon balloon;
    struct resource_memory memory;
    struct resource_serial serial;
    struct resource_logger logger;
    struct resource_metrics metrics;
    struct resource_mmds_config mmds_config;
    struct resource_snapshot_create create;
    struct resource_snapshot_load load;
    struct request_action action;
    struct request_vm vm;
    struct request_hinting hinting;
    struct request_memory size;
};

/* What a GET brings beside microvm_resources(). */
union api_result {
    struct resource_balloon balloon;
    struct resource_balloon_stats balloon_stats;
    struct resource_hinting hinting;
    struct resource_memory_status memory;
};

struct api_call;

/* A line of the table of routes. */
struct api_route {
    enum http1_method method;
    const char *path; /* segments; "{id}" is any.  What follows is ignored */
    bool is_exact;    /* nothing may follow */
    enum action_kind action;
    const struct json_type *body; /* NULL: none, or `decode` reads it */
    /* The defaults; the id within; for what a table cannot say.  Each may be missing. */
    const void *defaults;
    size_t id_at;
    bool has_id_in_body;
    int (*decode)(struct api_call *call, const char *text, size_t len, struct err *err);
    int (*check)(struct api_call *call, struct err *err);
    /* The answer of 200; NULL: 204.  On the microVM's thread. */
    void (*show)(struct api_call *call, const struct microvm *vm, struct buf *out);
    struct metric *count, *fails;
};

/* One request on its way. */
struct api_call {
    const struct api_route *route;
    struct action action;
    union api_body body;
    union api_result result;
    struct buf text;         /* JSON that has no fixed form, in or out */
    char *id;                /* of the path */
    const char *deprecation; /* what to log, and the answer's header; NULL: none */
};

/* 0, or -EINVAL with the text of the fault.  api_call_fini() in any case; *call need not be
 * initialised. */
int api_route(const struct http1_request *request, struct api_call *call, struct err *err);
void api_call_fini(struct api_call *call);

/* route_table.c */
extern const struct api_route api_routes[];
extern const size_t api_route_count;
