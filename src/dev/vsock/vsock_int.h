/* vsock_int.h — what the files of this room share: the packet on the wire, one connection, and the
 * device.  Everything happens on the device's loop.
 *
 * "Rx" is the queue towards the guest, "tx" the one from it, as the manual has it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/list.h"
#include "dev/port/stream_port.h"
#include "dev/virtio/virtio.h"
#include "dev/vsock/vsock.h"

struct loop_timer;

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUE_COUNT };

/* 5.10.6: little endian, 44 bytes. */
struct vsock_hdr {
    uint64_t src_cid;
    uint64_t dst_cid;
    uint32_t src_port;
    uint32_t dst_port;
    uint32_t len;
    uint16_t type;
    uint16_t op;
    uint32_t flags;
    uint32_t buf_alloc;
    uint32_t fwd_cnt;
} __attribute__((packed));

#define VSOCK_HDR_BYTES ((size_t)44)
_Static_assert(sizeof(struct vsock_hdr) == 44, "the header of virtio 1.2, 5.10.6");

#define VSOCK_TYPE_STREAM 1u

enum vsock_op {
    VSOCK_OP_REQUEST = 1,
    VSOCK_OP_RESPONSE = 2,
    VSOCK_OP_RST = 3,
    VSOCK_OP_SHUTDOWN = 4,
    VSOCK_OP_RW = 5,
    VSOCK_OP_CREDIT_UPDATE = 6,
    VSOCK_OP_CREDIT_REQUEST = 7,
};

#define VSOCK_SHUTDOWN_RCV  1u /* the sender will receive no more */
#define VSOCK_SHUTDOWN_SEND 2u /* the sender will send no more */
#define VSOCK_SHUTDOWN_BOTH 3u

#define VSOCK_HOST_PORT_MIN (UINT32_C(1) << 30)
#define VSOCK_HOST_PORT_MAX ((UINT32_C(1) << 31) - 1)

#define VSOCK_CONN_MAX   1023u
#define VSOCK_STRAY_MAX  256u
#define VSOCK_BUCKETS    256u
#define VSOCK_RX_BATCH   16u                  /* buffers filled by one read of a host socket */
#define VSOCK_PACKET_MAX (UINT32_C(64) << 10) /* payload of one packet to the guest */
#define VSOCK_BUF_BYTES \
    (UINT32_C(256) << 10) /* what the guest may have in flight, per connection */

enum conn_state {
    CONN_HELD,      /* a program on the host asked, the guest's driver is not up */
    CONN_REQUESTED, /* a program on the host asked, the guest was told */
    CONN_OPEN,
    CONN_DEAD,      /* over; the guest is still to be sent RST */
    CONN_LINGERING, /* over for the guest; the host is still to get what is in `pending` */
};

struct vsock_conn {
    struct list by_port; /* in vsock.buckets, or vsock.lingering */
    struct list ready;   /* in vsock.ready while there is something for the guest */
    struct vsock *vsock;
    enum conn_state state;
    uint32_t guest_port;
    uint32_t host_port;

    int fd;             /* -1 once closed */
    bool is_watched;    /* fd is known to the loop, with `watched_events` */
    bool is_readable;   /* the loop said so, and we have not read it empty since */
    bool has_eof;       /* the host's program will send no more */
    bool has_hup;       /* the host's program is gone; fd is not watched any more */
    bool is_write_shut; /* fd takes no more bytes */
    uint32_t watched_events;
    struct loop_timer *timer; /* of CONN_REQUESTED */

    uint32_t todo;           /* packets to be sent: TODO_* */
    uint32_t our_shutdown;   /* VSOCK_SHUTDOWN_* we told or are about to tell the guest */
    uint32_t guest_shutdown; /* what the guest told us */

    /* Towards the guest (5.10.6.3; all counters run free modulo 2^32). */
    uint32_t peer_alloc;
    uint32_t peer_fwd;
    uint32_t sent;
    bool has_asked_credit;

    /* From the guest: `received` - `forwarded` bytes are in `pending`, from `pending_at` on. */
    uint32_t received;
    uint32_t forwarded;
    uint32_t forwarded_told;
    struct buf pending;
    size_t pending_at;
};

#define TODO_REQUEST        1u
#define TODO_RESPONSE       2u
#define TODO_CREDIT_UPDATE  4u
#define TODO_CREDIT_REQUEST 8u
#define TODO_SHUTDOWN       16u
#define TODO_RST            32u

/* An RST for something that is no connection. */
struct vsock_stray {
    uint32_t guest_port;
    uint32_t host_port;
    uint16_t type;
};

struct vsock {
    struct virtio_dev base;
    struct stream_port *port;
    uint32_t guest_cid;
    int64_t request_timeout_ns;
    bool is_started;
    uint32_t next_host_port;
    /* After a snapshot, until the guest has handled TRANSPORT_RESET: it is sent nothing. */
    bool awaits_reset;
    bool is_reset_sent;  /* false: there was no buffer for the event yet */
    uint16_t reset_mark; /* what the guest had offered in the event queue by then */
    unsigned conn_count; /* all states */
    struct list buckets[VSOCK_BUCKETS];
    struct list lingering;
    struct list ready;
    struct vsock_conn *in_event; /* whose event is being handled; NULL once it is freed */
    unsigned stray_at;
    unsigned stray_count;
    struct vsock_stray strays[VSOCK_STRAY_MAX]; /* a ring */
    struct iovec iov[VIRTQ_SEG_MAX];
    struct virtq_chain tx_chain;
    struct virtq_chain rx_chains[VSOCK_RX_BATCH];
};

static inline struct vsock *vsock_of(struct virtio_dev *dev)
{
    return container_of(dev, struct vsock, base);
}

/* vsock.c: move whatever can move, in both directions, then interrupt once. */
void vsock_service(struct vsock *v);

/* vsock.c: tell the guest of the programs on the host that wait. */
void vsock_request_held(struct vsock *v);

/* snapshot.c */
void vsock_save(struct virtio_dev *dev, struct state *s);
void vsock_load(struct virtio_dev *dev, struct state *s);
/* Has the guest handled TRANSPORT_RESET meanwhile? */
void vsock_check_reset(struct vsock *v);

/* guest.c: take packets from the guest.  True if there may be more. */
bool vsock_take_packets(struct vsock *v);

/* deliver.c: send the guest what waits for it.  True if there may be more and buffers for it. */
bool vsock_deliver(struct vsock *v);
/* An RST without a connection; false if too many wait already. */
bool vsock_add_stray(struct vsock *v, const struct vsock_hdr *hdr);

/* conn.c: connections and their host side.  conn_new() takes `fd` only if it succeeds. */
struct vsock_conn *conn_new(struct vsock *v, int fd, uint32_t guest_port, uint32_t host_port,
                            enum conn_state state);
void conn_free(struct vsock_conn *c);
struct vsock_conn *conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);
/* A program on the host came: see stream_client.offer. */
int conn_offer(void *owner, int fd, uint32_t guest_port);
/* Tell the guest of a program on the host. */
void conn_request(struct vsock_conn *c);
/* The guest answered. */
void conn_open(struct vsock_conn *c);
/* Something is to be sent to the guest: remember, and have vsock_deliver() look at `c`. */
void conn_todo(struct vsock_conn *c, uint32_t todo);
/* Let the loop watch exactly what can be handled now. */
void conn_watch(struct vsock_conn *c);
/* Bytes are allowed towards the guest. */
uint32_t conn_credit(const struct vsock_conn *c);
/* May the host's socket be read for the guest? */
bool conn_can_read(const struct vsock_conn *c);
/* `len` payload bytes of tx_chain go to the host, now or when it takes them.  Negative errno: the
 * connection cannot go on. */
int conn_write(struct vsock_conn *c, size_t len);
/* The host's program will send no more / is gone. */
void conn_set_eof(struct vsock_conn *c);
void conn_set_hup(struct vsock_conn *c);
/* The guest sent SHUTDOWN. */
void conn_shutdown_by_guest(struct vsock_conn *c, uint32_t flags);
/* It is over, after an RST to the guest if it is to be told.  `c` may be gone after. */
void conn_end(struct vsock_conn *c, bool tell_guest);
/* The guest's driver is gone: connections end, requests are held again. */
void conn_forget_guest(struct vsock *v);
/* iov of the bytes [skip, skip + len) of `from`, at most `max` entries. */
unsigned vsock_slice(const struct iovec *from, unsigned count, size_t skip, size_t len,
                     struct iovec *out, unsigned max);
