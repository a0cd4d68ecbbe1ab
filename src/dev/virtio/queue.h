/* queue.h — a split virtqueue (virtio 1.2, 2.7): take the chains that the driver offers, give them
 * back used.
 *
 * The driver is hostile.  Ring addresses are checked when the queue is enabled; each descriptor is
 * copied once, then checked.  A chain that loops, is longer than VIRTQ_SEG_MAX, mixes writable
 * before readable, or names memory that is not RAM is taken as one without any buffer, so that the
 * device gives it back as it does with everything that is too short.  A head that is no descriptor,
 * and more offers than there are descriptors, break the queue: virtq_pop() returns -EPROTO from
 * then on and the transport puts the device into DEVICE_NEEDS_RESET.
 *
 * Threads: configuration by the transport under the device's lock while the queue is not enabled;
 * pop, push and notify on the device's loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "mem/addr.h"

struct mem_map;

#define VIRTQ_SIZE_MAX 1024 /* power of two; what a device may offer as QueueNumMax */
#define VIRTQ_SEG_MAX  1024 /* descriptors in one chain, indirect ones included */

struct virtq {
    struct mem_map *mem;
    uint16_t size; /* power of two, 1 to VIRTQ_SIZE_MAX */
    bool is_enabled;
    bool is_broken;
    bool has_event_idx; /* VIRTIO_F_EVENT_IDX was negotiated */
    bool has_indirect;  /* VIRTIO_F_INDIRECT_DESC was */
    gpa_t desc;
    gpa_t avail;
    gpa_t used;
    uint16_t avail_seen;     /* next index to take from the available ring */
    uint16_t used_next;      /* next index to fill in the used ring */
    uint16_t used_signalled; /* used_next at the last interrupt decision */
    /* Where the three areas are on the host; set by virtq_enable(). */
    const uint8_t *desc_host;
    const uint8_t *avail_host;
    uint8_t *used_host;
};

/* One request.  iov[0..readable_count) was written by the driver,
 * iov[readable_count..+writable_count) is for the device to write.  Pointers go straight into guest
 * RAM: copy before deciding on content. */
struct virtq_chain {
    uint16_t head;
    unsigned readable_count;
    unsigned writable_count;
    size_t readable_bytes;
    size_t writable_bytes;
    struct iovec iov[VIRTQ_SEG_MAX];
};

/* Check ring addresses and start.  -EINVAL if they are misaligned or not RAM. */
int virtq_enable(struct virtq *q);
/* virtq_enable(), going on at these indices: for a queue that is taken back from a snapshot. */
int virtq_enable_at(struct virtq *q, uint16_t avail_seen, uint16_t used_next);
/* Back to power-on: not enabled, indices 0. */
void virtq_reset(struct virtq *q);

/* Take the next chain.  1: taken; 0: none is offered (and the driver will notify about the next);
 * -EPROTO: broken. */
int virtq_pop(struct virtq *q, struct virtq_chain *chain);
/* Undo the last `count` calls of virtq_pop() that returned 1: those chains are offered again. */
void virtq_unpop(struct virtq *q, unsigned count);
/* How many chains the driver has offered so far, modulo 2^16; it will notify about the next one. */
uint16_t virtq_expect(struct virtq *q);
/* Would virtq_pop() find something? */
bool virtq_has_work(struct virtq *q);
/* How many chains are offered and not taken; at most the size. */
unsigned virtq_waiting(const struct virtq *q);
/* Give `chain` back (nothing happens if the queue broke or was reset meanwhile) with `written`
 * bytes in its writable part (clamped); reports the writes to mem.
 */
void virtq_push(struct virtq *q, const struct virtq_chain *chain, size_t written);
/* The same for a device that kept only the head of the chain, and reported its writes itself. */
void virtq_push_head(struct virtq *q, uint16_t head, uint32_t written);
/* The same in two halves, for a request that fills several chains which the driver must see at
 * once: virtq_put() each (`iov` is the chain's writable part, `written` at most its bytes), then
 * virtq_publish(). */
void virtq_put(struct virtq *q, uint16_t head, const struct iovec *iov, unsigned count,
               size_t written);
void virtq_publish(struct virtq *q);
/* Has something been pushed that the driver wants to hear of?  Call once per batch; then raise the
 * interrupt if true. */
bool virtq_wants_interrupt(struct virtq *q);

/* The readable part as bytes: copy out at most len bytes from `offset`; returns how many. */
size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *data, size_t len);
/* The writable part: copy in at most len bytes at `offset`; returns how many. */
size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *data,
                         size_t len);
