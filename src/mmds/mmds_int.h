/* mmds_int.h — what the files of this room share. */
#pragma once

#include <pthread.h>

#include "mmds/mmds.h"
#include "mmds/token.h"

struct mmds {
    pthread_mutex_t lock;
    struct mmds_config config;
    struct json_t *document; /* jansson's; NULL before the first put */
    size_t size_limit;
    struct token_key key;
};

/* The settings as they are now. */
struct mmds_config mmds_config_now(struct mmds *mmds);

/* What data looks like on the wire. */
enum mmds_form { MMDS_JSON, MMDS_TEXT };

/* The value at `path` (a JSON pointer; slashes may be doubled, one may end it), appended to `out`.
 * -ENOENT: there is none; -ENOTSUP: it has no such form; -ENOMEM. */
int mmds_read(struct mmds *mmds, const char *path, enum mmds_form form, struct buf *out);
