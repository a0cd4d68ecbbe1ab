/* json_table.h — how the tables of resource_json.c and request_json.c are written. */
#pragma once

#include "base/bits.h"
#include "codec/json_in.h"

#define FIELD(struct_, member_, kind_) \
    .name = #member_, JSON_AT(struct struct_, member_), .kind = (kind_)
#define REQUIRED .is_required = true
#define NULLABLE .is_nullable = true
#define TYPE(label_, struct_, fields_, denies_)                                    \
    {                                                                              \
        (label_), sizeof(struct struct_), (fields_), ARRAY_LEN(fields_), (denies_) \
    }
