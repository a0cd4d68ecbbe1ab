/* dump.h — a jansson document as compact text: keys in ascending byte order, numbers in their
 * shortest form that reads back the same (jansson's own writer gives 0.10000000000000001). */
#pragma once

#include <jansson.h>

struct buf;

void dump_json(struct buf *out, const json_t *value);

/* The keys of an object in ascending byte order; `keys` has room for json_object_size() of them. */
void dump_sort_keys(const json_t *object, const char **keys);
