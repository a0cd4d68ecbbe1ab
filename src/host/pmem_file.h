/* pmem_file.h — pmem_port.h over a file, mapped shared.  The texts of errors are the interface's.
 */
#pragma once

#include "base/err.h"
#include "dev/port/pmem_port.h"

int pmem_file_open(const char *path, bool is_read_only, struct pmem_port **ret_port,
                   struct err *err);
