/* cpu_json.h — a CPU template written as JSON: the form of PUT /cpu-config and of template files.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct cpu_template;

/* -EINVAL with a sentence that says where, -ENOMEM. */
int cpu_json_parse(const char *text, size_t len, struct cpu_template **ret_template,
                   struct err *err);
void cpu_json_free(struct cpu_template *template);
