/* describe.c — versions of snapshots, for people and scripts. */
#include "vmm/describe.h"

#include <errno.h>
#include <stdio.h>

#include "base/auto.h"
#include "base/os_error.h"
#include "state/state.h"

static const char *format(const struct state_version *v, char out[static SNAPSHOT_VERSION_MAX])
{
    (void)snprintf(out, SNAPSHOT_VERSION_MAX, "%u.%u.%u", v->major, v->minor, v->patch);
    return out;
}

const char *snapshot_version(char out[static SNAPSHOT_VERSION_MAX])
{
    static const struct state_version mine = {
        .major = STATE_VERSION_MAJOR, .minor = STATE_VERSION_MINOR, .patch = STATE_VERSION_PATCH};

    return format(&mine, out);
}

int snapshot_describe(const char *path, char out[static SNAPSHOT_VERSION_MAX], struct err *err)
{
    AUTO_CALL(buf_fini) struct buf bytes = {0};
    char text[OS_ERROR_MAX];
    struct state_version version = {0};
    int r = buf_read_file(&bytes, path, STATE_FILE_MAX);

    if (r < 0) {
        return err_set(err, r, "Failed to open snapshot file: %s", os_error(r, text));
    }
    r = state_file_version(bytes.data, bytes.len, &version, err);
    if (r == 0) {
        (void)format(&version, out);
    }
    return r;
}
