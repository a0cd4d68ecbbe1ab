/* progress.h — what is fetched, and how much of it, on one line of a terminal. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "image/oci/oci.h"

struct progress {
    struct oci_progress oci; /* to hand on */
    int64_t shown_ns;        /* when the line was written last; 0: never */
};

/* On stderr, where that is a terminal; elsewhere nothing is shown. */
void progress_init(struct progress *progress);
/* Remove the line. */
void progress_end(struct progress *progress);
