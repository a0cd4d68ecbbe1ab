/* inner.c — the frames of the metadata service: ARP and IPv4 for its address out of the guest's
 * traffic, answers back into it.
 *
 * The guest is one neighbour: its MAC address is that of its last frame to us.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/list.h"
#include "dev/port/net_port.h"
#include "metrics/metrics.h"
#include "mmds/mmds_int.h"
#include "mmds/tcp.h"

#define FRAMES_MAX                                                                \
    512 /* that the guest did not fetch yet; what is more is lost, and sent again \
         */

/* Ethernet (IEEE 802.3), ARP (RFC 826), IPv4 (RFC 791). */
#define MAC_BYTES  6
#define ETH_SOURCE 6
#define ETH_TYPE   12
#define ETH_BYTES  14
#define TYPE_IPV4  0x0800
#define TYPE_ARP   0x0806
#define ARP_BYTES  28
#define ARP_OP     6
#define ARP_SHA    8  /* sender, MAC */
#define ARP_SPA    14 /* sender, IPv4 */
#define ARP_THA    18 /* target */
#define ARP_TPA    24
#define IP_BYTES   20
#define IP_PROTO   9
#define IP_DEST    16
#define PROTO_TCP  6

/* As Firecracker's: clients have it in their notes. */
static const uint8_t g_own_mac[MAC_BYTES] = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};

struct frame {
    struct list link;
    size_t len;
    uint8_t bytes[];
};

struct inner {
    struct net_inner base;
    struct mmds *mmds;
    uint32_t ipv4;
    struct net_client client;
    bool has_client;
    struct tcp_if *tcp; /* while there is a client */
    uint8_t guest_mac[MAC_BYTES];
    bool owes_arp;                    /* the last request is answered */
    uint8_t arp_asker[MAC_BYTES + 4]; /* its addresses, as they stood in the request */
    struct list frames;
    unsigned frame_count;
};

static struct inner *inner_of(struct net_inner *base)
{
    return container_of(base, struct inner, base);
}

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static void put_be16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

/* --- from the guest --- */

/* The fixed fields of a request for an IPv4 address over Ethernet. */
static bool is_arp_for(const struct inner *inner, const uint8_t *arp, size_t len)
{
    static const uint8_t request[] = {0, 1, 8, 0, MAC_BYTES, 4, 0, 1};

    return len >= ARP_BYTES && memcmp(arp, request, sizeof(request)) == 0 &&
           be32(arp + ARP_TPA) == inner->ipv4;
}

static bool inner_wants(struct net_inner *base, const void *head, size_t len)
{
    const struct inner *inner = inner_of(base);
    const uint8_t *frame = head;

    if (len < ETH_BYTES) {
        metric_inc(&g_metrics.mmds.rx_bad_eth);
        return false;
    }
    frame += ETH_BYTES;
    len -= ETH_BYTES;
    switch (be16(frame - ETH_BYTES + ETH_TYPE)) {
    case TYPE_ARP: return is_arp_for(inner, frame, len);
    case TYPE_IPV4:
        return len >= IP_BYTES && frame[0] >> 4 == 4 && be32(frame + IP_DEST) == inner->ipv4;
    default: return false;
    }
}

static void wake(const struct inner *inner)
{
    if (inner->has_client) {
        inner->client.readable(inner->client.owner);
    }
}

static void take_packet(struct inner *inner, const uint8_t *packet, size_t len)
{
    metric_inc(&g_metrics.mmds.rx_accepted);
    if (len < IP_BYTES || packet[IP_PROTO] != PROTO_TCP || !inner->tcp) {
        metric_inc(&g_metrics.mmds.rx_accepted_unusual);
    } else if (tcp_if_take(inner->tcp, packet, len) < 0) {
        metric_inc(&g_metrics.mmds.rx_accepted_err);
    } else {
        metric_inc(&g_metrics.mmds.rx_count);
    }
}

static void inner_take(struct net_inner *base, const void *data, size_t len)
{
    struct inner *inner = inner_of(base);
    const uint8_t *frame = data;

    /* guest: it may have changed since wants() looked */
    if (!inner_wants(base, frame, len)) {
        return;
    }
    memcpy(inner->guest_mac, frame + ETH_SOURCE, MAC_BYTES);
    if (be16(frame + ETH_TYPE) == TYPE_ARP) {
        inner->owes_arp = true;
        memcpy(inner->arp_asker, frame + ETH_BYTES + ARP_SHA, sizeof(inner->arp_asker));
        wake(inner);
    } else {
        take_packet(inner, frame + ETH_BYTES, len - ETH_BYTES);
    }
}

/* --- to the guest --- */

static void put_eth(const struct inner *inner, uint8_t *frame, uint16_t type)
{
    memcpy(frame, inner->guest_mac, MAC_BYTES);
    memcpy(frame + ETH_SOURCE, g_own_mac, MAC_BYTES);
    put_be16(frame + ETH_TYPE, type);
}

/* tcp.c has a packet. */
static int on_packet(void *owner, const void *packet, size_t len)
{
    struct inner *inner = owner;
    struct frame *frame;

    if (!inner->has_client || inner->frame_count == FRAMES_MAX) {
        metric_inc(&g_metrics.mmds.tx_errors);
        return -ENOBUFS;
    }
    frame = malloc(sizeof(*frame) + ETH_BYTES + len);
    if (!frame) {
        metric_inc(&g_metrics.mmds.tx_errors);
        return -ENOMEM;
    }
    frame->len = ETH_BYTES + len;
    put_eth(inner, frame->bytes, TYPE_IPV4);
    memcpy(frame->bytes + ETH_BYTES, packet, len);
    list_append(&inner->frames, &frame->link);
    if (inner->frame_count++ == 0) {
        wake(inner);
    }
    return 0;
}

static size_t give_arp(struct inner *inner, uint8_t *frame)
{
    static const uint8_t reply[] = {0, 1, 8, 0, MAC_BYTES, 4, 0, 2};
    uint8_t *arp = frame + ETH_BYTES;

    inner->owes_arp = false;
    put_eth(inner, frame, TYPE_ARP);
    memcpy(arp, reply, sizeof(reply));
    memcpy(arp + ARP_SHA, g_own_mac, MAC_BYTES);
    put_be16(arp + ARP_SPA, (uint16_t)(inner->ipv4 >> 16));
    put_be16(arp + ARP_SPA + 2, (uint16_t)inner->ipv4);
    memcpy(arp + ARP_THA, inner->arp_asker, sizeof(inner->arp_asker));
    return ETH_BYTES + ARP_BYTES;
}

static void drop_frame(struct inner *inner, struct frame *frame)
{
    list_remove(&frame->link);
    inner->frame_count--;
    free(frame);
}

static size_t inner_give(struct net_inner *base, void *data, size_t max)
{
    struct inner *inner = inner_of(base);
    size_t len = 0;

    if (inner->owes_arp) {
        len = give_arp(inner, data);
    } else if (!list_is_empty(&inner->frames)) {
        struct frame *frame = container_of(inner->frames.next, struct frame, link);

        len = frame->len < max ? frame->len : max;
        memcpy(data, frame->bytes, len);
        drop_frame(inner, frame);
    }
    if (len > 0) {
        metric_inc(&g_metrics.mmds.tx_count);
        metric_inc(&g_metrics.mmds.tx_frames);
        metric_add(&g_metrics.mmds.tx_bytes, len);
    }
    return len;
}

/* --- life --- */

static void forget(struct inner *inner)
{
    inner->has_client = false;
    inner->owes_arp = false;
    tcp_if_free(inner->tcp);
    inner->tcp = NULL;
    list_for_each (pos, &inner->frames) {
        drop_frame(inner, container_of(pos, struct frame, link));
    }
}

static int inner_set_client(struct net_inner *base, struct loop *loop,
                            const struct net_client *client)
{
    struct inner *inner = inner_of(base);
    int r;

    forget(inner);
    if (!client) {
        return 0;
    }
    inner->ipv4 = mmds_config_now(inner->mmds).ipv4;
    r = tcp_if_new(inner->mmds, inner->ipv4, loop, on_packet, inner, &inner->tcp, NULL);
    if (r == 0) {
        inner->client = *client;
        inner->has_client = true;
    }
    return r;
}

static const struct net_inner_ops inner_ops = {
    .set_client = inner_set_client,
    .wants = inner_wants,
    .take = inner_take,
    .give = inner_give,
};

int mmds_inner_new(struct mmds *mmds, struct net_inner **ret_inner, struct err *err)
{
    struct inner *inner = calloc(1, sizeof(*inner));

    if (!inner) {
        return err_set(err, -ENOMEM, "metadata service: out of memory");
    }
    inner->base.ops = &inner_ops;
    inner->mmds = mmds;
    list_init(&inner->frames);
    *ret_inner = &inner->base;
    return 0;
}

void mmds_inner_free(struct net_inner *base)
{
    struct inner *inner = base ? inner_of(base) : NULL;

    if (inner) {
        forget(inner);
        free(inner);
    }
}
