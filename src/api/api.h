/* api.h — the REST interface of a microVM: a server whose requests become actions on the main
 * thread. */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct api;
struct loop;
struct microvm;

struct api_config {
    const char *path; /* of the socket */
    size_t body_max;  /* bytes */
    struct microvm *vm;
    /* Of the thread that owns the microVM.  It runs from api_start() on until it is stopped: by
     * the machine's end, or after the answer to an action that ends the process. */
    struct loop *loop;
    /* The server's thread calls it first of all; NULL: nothing. */
    void (*enter_thread)(void *owner);
    void *enter_owner;
};

/* Binds the socket, and starts to serve it.  Errors as api_server_new(). */
int api_start(const struct api_config *config, struct api **ret_api, struct err *err);
/* Before the microVM is freed; the loop no longer runs. */
void api_stop(struct api *api);
