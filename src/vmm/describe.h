/* describe.h — versions of the format of snapshots (docs/snapshots.md). */
#pragma once

#include "base/err.h"

#define SNAPSHOT_VERSION_MAX 24

/* "11.0.0": what this program writes.  Writes into and returns `out`. */
const char *snapshot_version(char out[static SNAPSHOT_VERSION_MAX]);
/* The version of the state file at `path`. */
int snapshot_describe(const char *path, char out[static SNAPSHOT_VERSION_MAX], struct err *err);
