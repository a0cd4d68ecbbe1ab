/* queue.c — split virtqueue: take chains the driver offers, give back used ones.
 *
 * Theory of operation.  The driver publishes heads in the available ring by moving avail.idx; we
 * publish finished ones by moving used.idx.  Both indices run free, modulo 2^16.  Whether the other
 * side wants to be told is said by used.avail_event (we write) and avail.used_event (the driver
 * writes) when EVENT_IDX was negotiated, else by flags.  Each side publishes, then looks at the
 * other's wish; each side states its wish, then looks once more at what is published.  The full
 * fences below are our half of that, the driver's barriers are the other.
 *
 * Numbers are those of virtio 1.2, 2.7: a descriptor is 16 bytes, the available ring 6 + 2 * size,
 * the used ring 6 + 8 * size.
 */
#include "dev/virtio/queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/bits.h"
#include "mem/map.h"

#define DESC_BYTES 16u

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

#define AVAIL_NO_INTERRUPT 1u

#define AVAIL_FLAGS 0u
#define AVAIL_IDX   2u
#define AVAIL_RING  4u

#define USED_IDX  2u
#define USED_RING 4u

struct desc {
    gpa_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

/* Where descriptors of one chain are read from: the queue's table or an indirect one. */
struct table {
    const uint8_t *host;
    unsigned count;
};

static size_t used_event_offset(const struct virtq *q)
{
    return AVAIL_RING + 2u * (size_t)q->size;
}

static size_t avail_event_offset(const struct virtq *q)
{
    return USED_RING + 8u * (size_t)q->size;
}

/* The rings are at even addresses, so 16-bit accesses are single ones. */
static uint16_t ring_load(const uint8_t *at, int order)
{
    return __atomic_load_n((const uint16_t *)(const void *)at, order);
}

static void ring_store(uint8_t *at, uint16_t value, int order)
{
    __atomic_store_n((uint16_t *)(void *)at, value, order);
}

int virtq_enable(struct virtq *q)
{
    size_t size = q->size;

    if (size == 0 || size > VIRTQ_SIZE_MAX || (size & (size - 1))) {
        return -EINVAL;
    }
    if (q->desc.v % 16 || q->avail.v % 2 || q->used.v % 4) {
        return -EINVAL;
    }
    q->desc_host = mem_ptr(q->mem, q->desc, DESC_BYTES * size);
    q->avail_host = mem_ptr(q->mem, q->avail, 6 + 2 * size);
    q->used_host = mem_ptr(q->mem, q->used, 6 + 8 * size);
    if (!q->desc_host || !q->avail_host || !q->used_host) {
        return -EINVAL;
    }
    q->avail_seen = 0;
    q->used_next = 0;
    q->used_signalled = 0;
    q->is_broken = false;
    q->is_enabled = true;
    return 0;
}

int virtq_enable_at(struct virtq *q, uint16_t avail_seen, uint16_t used_next)
{
    int r = virtq_enable(q);

    if (r == 0) {
        q->avail_seen = avail_seen;
        q->used_next = used_next;
        q->used_signalled = used_next;
    }
    return r;
}

void virtq_reset(struct virtq *q)
{
    *q = (struct virtq){.mem = q->mem};
}

static int break_queue(struct virtq *q)
{
    q->is_broken = true;
    return -EPROTO;
}

static struct desc copy_desc(const struct table *table, unsigned index)
{
    uint8_t raw[DESC_BYTES];

    memcpy(raw, table->host + (size_t)index * DESC_BYTES, sizeof(raw));
    /* the compiler must not read guest memory a second time in place of the copy */
    atomic_signal_fence(memory_order_seq_cst);
    return (struct desc){
        .addr = GPA(load_le64(raw)),
        .len = load_le32(raw + 8),
        .flags = load_le16(raw + 12),
        .next = load_le16(raw + 14),
    };
}

/* Put one buffer at the end of the chain. */
static int add_segment(const struct virtq *q, const struct desc *d, struct virtq_chain *chain)
{
    unsigned at = chain->readable_count + chain->writable_count;
    void *host;

    if (!(d->flags & DESC_WRITE) && chain->writable_count > 0) {
        return -EPROTO; /* 2.7.4.2: readable before writable */
    }
    if (d->len == 0) {
        return 0;
    }
    host = mem_ptr(q->mem, d->addr, d->len);
    if (!host || at == VIRTQ_SEG_MAX) {
        return -EPROTO;
    }
    chain->iov[at] = (struct iovec){.iov_base = host, .iov_len = d->len};
    if (d->flags & DESC_WRITE) {
        chain->writable_count++;
        chain->writable_bytes += d->len;
    } else {
        chain->readable_count++;
        chain->readable_bytes += d->len;
    }
    return 0;
}

/* 2.7.5.3: an indirect descriptor is the last of its chain, and its table holds none. */
static int enter_indirect(const struct virtq *q, const struct desc *d, struct table *table,
                          bool *is_indirect)
{
    if (!q->has_indirect || *is_indirect || (d->flags & DESC_NEXT) || d->len == 0 ||
        d->len % DESC_BYTES) {
        return -EPROTO;
    }
    table->host = mem_ptr(q->mem, d->addr, d->len);
    table->count = d->len / DESC_BYTES;
    *is_indirect = true;
    return table->host ? 0 : -EPROTO;
}

static int walk(const struct virtq *q, uint16_t head, struct virtq_chain *chain)
{
    struct table table = {.host = q->desc_host, .count = q->size};
    bool is_indirect = false;
    unsigned at = head;

    /* guest: every index, flag and address below; a loop runs into the bound */
    for (unsigned steps = 0; steps <= VIRTQ_SEG_MAX; steps++) {
        struct desc d;
        int r;

        if (at >= table.count) {
            return -EPROTO;
        }
        d = copy_desc(&table, at);
        if (d.flags & DESC_INDIRECT) {
            r = enter_indirect(q, &d, &table, &is_indirect);
            at = 0;
        } else {
            r = add_segment(q, &d, chain);
            at = d.next;
        }
        if (r < 0 || !(d.flags & (DESC_NEXT | DESC_INDIRECT))) {
            return r;
        }
    }
    return -EPROTO;
}

static void clear(struct virtq_chain *chain, uint16_t head)
{
    chain->head = head;
    chain->readable_count = 0;
    chain->writable_count = 0;
    chain->readable_bytes = 0;
    chain->writable_bytes = 0;
}

/* Ask to be notified about the chain after `seen`, and see how many there are meanwhile. */
static uint16_t arm(struct virtq *q, uint16_t seen)
{
    if (q->has_event_idx) {
        ring_store(q->used_host + avail_event_offset(q), seen, __ATOMIC_RELAXED);
        mem_note_write(q->mem, GPA(q->used.v + avail_event_offset(q)), 2);
        /* pairs with the driver's barrier between moving avail.idx and reading avail_event */
        atomic_thread_fence(memory_order_seq_cst);
    }
    return ring_load(q->avail_host + AVAIL_IDX, __ATOMIC_ACQUIRE);
}

uint16_t virtq_expect(struct virtq *q)
{
    uint16_t seen = 0;
    uint16_t now;

    if (!q->is_enabled || q->is_broken) {
        return 0;
    }
    now = ring_load(q->avail_host + AVAIL_IDX, __ATOMIC_ACQUIRE);
    /* a driver that keeps offering is heard at its next notification: twice is enough */
    for (unsigned i = 0; i < 2 && (i == 0 || now != seen); i++) {
        seen = now;
        now = arm(q, seen);
    }
    return now;
}

int virtq_pop(struct virtq *q, struct virtq_chain *chain)
{
    uint16_t avail;
    uint16_t head;

    if (q->is_broken) {
        return -EPROTO;
    }
    if (!q->is_enabled) {
        return 0;
    }
    /* acquire: pairs with the driver's write barrier before it moves avail.idx */
    avail = ring_load(q->avail_host + AVAIL_IDX, __ATOMIC_ACQUIRE);
    if (avail == q->avail_seen) {
        avail = arm(q, q->avail_seen);
        if (avail == q->avail_seen) {
            return 0;
        }
    }
    if ((uint16_t)(avail - q->avail_seen) > q->size) {
        return break_queue(q); /* guest: more offered than there are descriptors */
    }
    head = ring_load(q->avail_host + AVAIL_RING + 2u * (q->avail_seen & (q->size - 1u)),
                     __ATOMIC_RELAXED);
    if (head >= q->size) {
        return break_queue(q); /* guest: nothing that could be given back */
    }
    clear(chain, head);
    if (walk(q, head, chain) < 0) {
        clear(chain, head); /* guest: malformed */
    }
    q->avail_seen++;
    return 1;
}

void virtq_unpop(struct virtq *q, unsigned count)
{
    if (q->is_enabled && !q->is_broken) {
        q->avail_seen = (uint16_t)(q->avail_seen - count);
    }
}

unsigned virtq_waiting(const struct virtq *q)
{
    unsigned count;

    if (!q->is_enabled || q->is_broken) {
        return 0;
    }
    count = (uint16_t)(ring_load(q->avail_host + AVAIL_IDX, __ATOMIC_ACQUIRE) - q->avail_seen);
    return count < q->size ? count : q->size;
}

bool virtq_has_work(struct virtq *q)
{
    return q->is_enabled && !q->is_broken &&
           ring_load(q->avail_host + AVAIL_IDX, __ATOMIC_ACQUIRE) != q->avail_seen;
}

static void note_written(const struct virtq *q, const struct iovec *iov, unsigned count,
                         size_t written)
{
    for (unsigned i = 0; i < count && written > 0; i++) {
        size_t part = iov[i].iov_len < written ? iov[i].iov_len : written;

        mem_note_write_host(q->mem, iov[i].iov_base, part);
        written -= part;
    }
}

/* One slot of the used ring; the driver does not look at it yet. */
static void fill_slot(struct virtq *q, uint16_t head, uint32_t written)
{
    size_t slot = USED_RING + 8u * (size_t)(q->used_next & (q->size - 1u));

    store_le32(q->used_host + slot, head);
    store_le32(q->used_host + slot + 4, written);
    q->used_next++;
    mem_note_write(q->mem, GPA(q->used.v + slot), 8);
}

void virtq_put(struct virtq *q, uint16_t head, const struct iovec *iov, unsigned count,
               size_t written)
{
    if (q->is_enabled && !q->is_broken) {
        note_written(q, iov, count, written);
        fill_slot(q, head, written > UINT32_MAX ? UINT32_MAX : (uint32_t)written);
    }
}

void virtq_publish(struct virtq *q)
{
    if (!q->is_enabled || q->is_broken) {
        return;
    }
    /* release: the bytes and the slots are there before the index says so; pairs with the driver's
     * read barrier after it saw used.idx move */
    ring_store(q->used_host + USED_IDX, q->used_next, __ATOMIC_RELEASE);
    mem_note_write(q->mem, GPA(q->used.v + USED_IDX), 2);
}

void virtq_push(struct virtq *q, const struct virtq_chain *chain, size_t written)
{
    size_t room = chain->writable_bytes;

    virtq_put(q, chain->head, chain->iov + chain->readable_count, chain->writable_count,
              written < room ? written : room);
    virtq_publish(q);
}

void virtq_push_head(struct virtq *q, uint16_t head, uint32_t written)
{
    virtq_put(q, head, NULL, 0, written);
    virtq_publish(q);
}

bool virtq_wants_interrupt(struct virtq *q)
{
    uint16_t before = q->used_signalled;
    uint16_t now = q->used_next;

    if (!q->is_enabled || q->is_broken || before == now) {
        return false;
    }
    q->used_signalled = now;
    /* pairs with the driver's barrier between stating its wish and looking at used.idx */
    atomic_thread_fence(memory_order_seq_cst);
    if (q->has_event_idx) {
        uint16_t event = ring_load(q->avail_host + used_event_offset(q), __ATOMIC_RELAXED);

        /* 2.7.7.2: did the index step over the event since last time? */
        return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
    }
    return !(ring_load(q->avail_host + AVAIL_FLAGS, __ATOMIC_RELAXED) & AVAIL_NO_INTERRUPT);
}

/* Copy between `data` and the bytes of iov[0..count) that start at `offset`. */
static size_t copy_iov(const struct iovec *iov, unsigned count, size_t offset, void *out,
                       const void *in, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < len; i++) {
        size_t part;

        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        part = iov[i].iov_len - offset;
        part = part < len - done ? part : len - done;
        if (out) {
            memcpy((uint8_t *)out + done, (const uint8_t *)iov[i].iov_base + offset, part);
        } else {
            memcpy((uint8_t *)iov[i].iov_base + offset, (const uint8_t *)in + done, part);
        }
        done += part;
        offset = 0;
    }
    return done;
}

size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *data, size_t len)
{
    size_t done = copy_iov(chain->iov, chain->readable_count, offset, data, NULL, len);

    /* the caller decides on the copy, never on guest memory read again */
    atomic_signal_fence(memory_order_seq_cst);
    return done;
}

size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *data,
                         size_t len)
{
    return copy_iov(chain->iov + chain->readable_count, chain->writable_count, offset, NULL, data,
                    len);
}
