/* config_file.h — a microVM from one JSON file: its sections become the actions that requests of
 * the REST interface would be, in an order of their own, then the start. */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct microvm;

struct config_file {
    const char *text;
    size_t len;
    const char *metadata; /* JSON for the metadata store, which comes between; NULL: none */
    size_t metadata_len;
};

/* Configure and start.  The sentence of a failure says which of the two it was. */
int config_file_start(struct microvm *vm, const struct config_file *file, struct err *err);
/* Only the metadata. */
int config_file_metadata(struct microvm *vm, const char *text, size_t len, struct err *err);
