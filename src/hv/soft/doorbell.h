/* doorbell.h — the places where a guest's write signals an eventfd instead of a device.
 *
 * Threads: all functions on any.  A bell that was removed rings no more after the return.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "hv/hv.h"

#define SOFT_DOORBELL_MAX 256u

struct soft_doorbells {
    pthread_rwlock_t lock; /* guards all below */
    unsigned count;
    struct hv_doorbell bells[SOFT_DOORBELL_MAX];
};

void soft_doorbells_init(struct soft_doorbells *d);
void soft_doorbells_fini(struct soft_doorbells *d);
/* 0, -ENOSPC, -EEXIST. */
int soft_doorbells_add(struct soft_doorbells *d, const struct hv_doorbell *bell);
/* 0, -ENOENT. */
int soft_doorbells_remove(struct soft_doorbells *d, const struct hv_doorbell *bell);
/* The guest writes `len` bytes at gpa: was it a bell? */
bool soft_doorbells_ring(struct soft_doorbells *d, gpa_t gpa, const void *data, size_t len);
