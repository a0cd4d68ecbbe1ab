/* doorbell.c — see doorbell.h.  A few entries, looked at one after the other: a device has few
 * queues, and a write that finds none costs an exit anyway. */
#include "hv/soft/doorbell.h"

#include <errno.h>
#include <unistd.h>

#include "base/bits.h"

void soft_doorbells_init(struct soft_doorbells *d)
{
    (void)pthread_rwlock_init(&d->lock, NULL);
    d->count = 0;
}

void soft_doorbells_fini(struct soft_doorbells *d)
{
    (void)pthread_rwlock_destroy(&d->lock);
}

/* With the lock held.  `count` if there is none. */
static unsigned find(const struct soft_doorbells *d, gpa_t gpa, size_t len, uint32_t value)
{
    unsigned i = 0;

    while (i < d->count &&
           (d->bells[i].gpa.v != gpa.v || d->bells[i].len != len || d->bells[i].match != value)) {
        i++;
    }
    return i;
}

int soft_doorbells_add(struct soft_doorbells *d, const struct hv_doorbell *bell)
{
    int r = 0;

    (void)pthread_rwlock_wrlock(&d->lock);
    if (find(d, bell->gpa, bell->len, bell->match) < d->count) {
        r = -EEXIST;
    } else if (d->count == SOFT_DOORBELL_MAX) {
        r = -ENOSPC;
    } else {
        d->bells[d->count++] = *bell;
    }
    (void)pthread_rwlock_unlock(&d->lock);
    return r;
}

int soft_doorbells_remove(struct soft_doorbells *d, const struct hv_doorbell *bell)
{
    unsigned i;
    int r = -ENOENT;

    (void)pthread_rwlock_wrlock(&d->lock);
    i = find(d, bell->gpa, bell->len, bell->match);
    if (i < d->count) {
        d->bells[i] = d->bells[--d->count];
        r = 0;
    }
    (void)pthread_rwlock_unlock(&d->lock);
    return r;
}

bool soft_doorbells_ring(struct soft_doorbells *d, gpa_t gpa, const void *data, size_t len)
{
    uint64_t one = 1;
    uint32_t value;
    unsigned i;
    bool is_bell;

    if (len != 2 && len != 4) {
        return false;
    }
    value = len == 2 ? load_le16(data) : load_le32(data);
    (void)pthread_rwlock_rdlock(&d->lock);
    i = find(d, gpa, len, value);
    is_bell = i < d->count;
    if (is_bell) {
        (void)!write(d->bells[i].eventfd, &one, sizeof(one)); /* EAGAIN: already rung */
    }
    (void)pthread_rwlock_unlock(&d->lock);
    return is_bell;
}
