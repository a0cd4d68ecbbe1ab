/* module.h — load kernel modules from files. */
#pragma once

#include <stddef.h>

#include "guest/init/report.h"

/* In this order; files are removed afterwards, as the initramfs stays in memory.  What fails
 * becomes a warning: whether it matters shows when the feature is used. */
void modules_load(char *const *paths, size_t count, struct report *report);
