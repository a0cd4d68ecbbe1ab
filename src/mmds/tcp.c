/* tcp.c — see tcp.h.
 *
 * Theory of operation.  lwIP is used by its callback interface, without threads and without its
 * timers but for TCP's, which run while there are connections.  There is one listener, since lwIP
 * has one for each address and port; before a packet goes in, the listener and the default route
 * are tied to the packet's interface, so that what grows out of it stays there.  No ARP: the frame
 * around a packet is inner.c's.
 *
 * The guest is hostile.  What lwIP would take and keep without bound is refused before it gets
 * there: packets that are not a plain segment to our port, segments out of order (the way from the
 * guest neither loses nor reorders), and connections beyond the limit, half-open ones included.
 * Checksums are computed here, because the guest may have left them to us.
 */
#include "mmds/tcp.h"

#include <errno.h>
#include <lwip/inet_chksum.h>
#include <lwip/init.h>
#include <lwip/ip.h>
#include <lwip/netif.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/prot/tcp.h>
#include <lwip/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/clock.h"
#include "base/list.h"
#include "io/loop.h"
#include "metrics/metrics.h"
#include "mmds/conn.h"

#define PORT      80
#define CONN_MAX  30
#define MTU_BYTES 1500

/* A connection that was silent for so long gives way to a new one: what 4e10 cycles of a 3 GHz
 * processor take, by which Firecracker counts. */
#define IDLE_NS (13 * NS_PER_S)

#define IP_HDR_MIN   20u
#define IP_PROTO_POS 9u
#define TCP_HDR_MIN  20u

struct tcp_if {
    struct list link; /* in g_stack.ifs */
    struct netif netif;
    struct mmds *mmds;
    tcp_if_send_fn send;
    void *owner;
    struct list conns; /* of struct mmds_conn */
};

/* lwIP's state is global, and so is what goes with it. */
static struct {
    bool is_ready;
    struct loop *loop; /* NULL without interfaces */
    struct loop_timer *timer;
    struct tcp_pcb *listener;
    struct list ifs;
} g_stack;

/* --- time --- */

static void on_timer(void *owner);

static void keep_time(void)
{
    if (!g_stack.timer && (tcp_active_pcbs || tcp_tw_pcbs)) {
        g_stack.timer = loop_add_timer(g_stack.loop, TCP_TMR_INTERVAL * NS_PER_MS, on_timer, NULL);
    }
}

static void on_timer(void *owner)
{
    (void)owner;
    g_stack.timer = NULL;
    tcp_tmr();
    keep_time();
}

/* --- packets out --- */

static err_t on_output(struct netif *netif, struct pbuf *p, const ip4_addr_t *to)
{
    struct tcp_if *tif = netif->state;
    uint8_t packet[MTU_BYTES];

    (void)to; /* there is one neighbour */
    if (p->tot_len > sizeof(packet)) {
        return ERR_IF;
    }
    (void)pbuf_copy_partial(p, packet, p->tot_len, 0);
    if (tif->send(tif->owner, packet, p->tot_len) < 0) {
        return ERR_MEM;
    }
    return ERR_OK;
}

static err_t on_netif_init(struct netif *netif)
{
    netif->name[0] = 'm';
    netif->name[1] = 'm';
    netif->mtu = MTU_BYTES;
    netif->output = on_output;
    netif->flags = NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

/* --- connections --- */

static void drop(struct mmds_conn *conn)
{
    struct tcp_pcb *pcb = mmds_conn_pcb(conn);

    mmds_conn_free(conn);
    if (pcb) {
        tcp_abort(pcb);
    }
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t why)
{
    (void)arg;
    if (why != ERR_OK || !pcb) {
        return ERR_VAL;
    }
    list_for_each (pos, &g_stack.ifs) {
        struct tcp_if *tif = container_of(pos, struct tcp_if, link);

        if (pcb->netif_idx == netif_get_index(&tif->netif)) {
            if (mmds_conn_new(tif->mmds, pcb, &tif->conns) < 0) {
                return ERR_MEM;
            }
            return ERR_OK;
        }
    }
    return ERR_RTE;
}

static unsigned count_pcbs(const struct tcp_if *tif)
{
    unsigned count = 0;

    for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next) {
        count += pcb->netif_idx == netif_get_index(&tif->netif);
    }
    return count;
}

/* The connection that was silent longest, if it was for too long. */
static struct mmds_conn *find_idle(struct tcp_if *tif)
{
    int64_t oldest = clock_mono_ns() - IDLE_NS;
    struct mmds_conn *found = NULL;

    list_for_each (pos, &tif->conns) {
        struct mmds_conn *conn = mmds_conn_of(pos);

        if (mmds_conn_active_ns(conn) < oldest) {
            oldest = mmds_conn_active_ns(conn);
            found = conn;
        }
    }
    return found;
}

/* --- packets in --- */

struct segment {
    size_t ip_bytes, total_bytes;
    uint32_t source;
    uint16_t source_port;
    uint32_t seq;
    uint8_t flags;
    size_t len; /* in sequence numbers: data and FIN */
};

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

/* guest: is it a whole segment to our port, from an address that can be answered? */
static int parse(const struct tcp_if *tif, const uint8_t *packet, size_t len, struct segment *s)
{
    const uint8_t *tcp;
    size_t tcp_bytes;
    uint32_t own = be32((const uint8_t *)&netif_ip4_addr(&tif->netif)->addr);

    if (len < IP_HDR_MIN || packet[0] >> 4 != 4 || packet[IP_PROTO_POS] != IP_PROTO_TCP) {
        return -EPROTO;
    }
    s->ip_bytes = (size_t)(packet[0] & 15) * 4;
    s->total_bytes = be16(packet + 2);
    s->source = be32(packet + 12);
    if (s->ip_bytes < IP_HDR_MIN || s->total_bytes > len ||
        s->total_bytes < s->ip_bytes + TCP_HDR_MIN || (be16(packet + 6) & 0x3fff) != 0) {
        return -EPROTO; /* among them fragments: flag MF, or an offset */
    }
    tcp = packet + s->ip_bytes;
    s->source_port = be16(tcp);
    s->seq = be32(tcp + 4);
    s->flags = tcp[13];
    tcp_bytes = (size_t)(tcp[12] >> 4) * 4;
    if (tcp_bytes < TCP_HDR_MIN || s->ip_bytes + tcp_bytes > s->total_bytes) {
        return -EPROTO;
    }
    s->len = s->total_bytes - s->ip_bytes - tcp_bytes + ((s->flags & TCP_FIN) ? 1 : 0);
    if (be16(tcp + 2) != PORT || s->source == own || s->source == 0 || s->source >> 24 == 127 ||
        s->source >> 28 >= 14) {
        return -EPROTO; /* nobody, we, loopback, multicast, broadcast */
    }
    return 0;
}

static struct tcp_pcb *find_pcb(const struct tcp_if *tif, const struct segment *s)
{
    struct tcp_pcb *pcb = tcp_active_pcbs;

    while (pcb &&
           (pcb->netif_idx != netif_get_index(&tif->netif) || pcb->remote_port != s->source_port ||
            lwip_ntohl(ip_2_ip4(&pcb->remote_ip)->addr) != s->source)) {
        pcb = pcb->next;
    }
    return pcb;
}

/* Is it the segment that the connection waits for, or one without content?  lwIP would keep one
 * that leaves a gap, and one of length 1 from before ends the process (tcp_in.c takes the wrong
 * edge off: "insane offset!").  The answer tells the guest where to go on. */
static bool is_in_order(struct tcp_pcb *pcb, const struct segment *s)
{
    if (s->flags & TCP_SYN) {
        if (pcb->state == SYN_RCVD && !(s->flags & TCP_ACK) && s->seq == pcb->rcv_nxt - 1) {
            return true; /* the guest did not see our answer to its first */
        }
    } else if (s->len == 0 || s->seq == pcb->rcv_nxt) {
        return true;
    }
    (void)tcp_send_empty_ack(pcb);
    return false;
}

static void refuse(const struct tcp_if *tif, const struct segment *s)
{
    ip_addr_t from;
    ip_addr_t to = IPADDR4_INIT(lwip_htonl(s->source));

    ip_addr_copy_from_ip4(from, *netif_ip4_addr(&tif->netif));
    tcp_rst(g_stack.listener, 0, s->seq + 1, &from, &to, PORT, s->source_port);
}

/* Is there room for the connection that a SYN asks for? */
static bool has_room(struct tcp_if *tif)
{
    struct mmds_conn *idle;

    if (count_pcbs(tif) < CONN_MAX) {
        return true;
    }
    idle = find_idle(tif);
    if (idle) {
        drop(idle);
    }
    return idle != NULL;
}

static void set_checksums(struct pbuf *p, const struct segment *s)
{
    struct ip_hdr *ip = p->payload;
    struct tcp_hdr *tcp;
    ip_addr_t source = IPADDR4_INIT(ip->src.addr);
    ip_addr_t dest = IPADDR4_INIT(ip->dest.addr);

    IPH_CHKSUM_SET(ip, 0);
    IPH_CHKSUM_SET(ip, inet_chksum(ip, (u16_t)s->ip_bytes));
    (void)pbuf_remove_header(p, s->ip_bytes);
    tcp = p->payload;
    tcp->chksum = 0;
    tcp->chksum = ip_chksum_pseudo(p, IP_PROTO_TCP, p->tot_len, &source, &dest);
    (void)pbuf_add_header(p, s->ip_bytes);
}

int tcp_if_take(struct tcp_if *tif, const uint8_t *packet, size_t len)
{
    struct segment s;
    struct tcp_pcb *pcb;
    struct pbuf *p;

    if (parse(tif, packet, len, &s) < 0) {
        return -EPROTO;
    }
    tcp_bind_netif(g_stack.listener, &tif->netif);
    netif_set_default(&tif->netif);
    pcb = find_pcb(tif, &s);
    if (pcb && !is_in_order(pcb, &s)) {
        return -EPROTO;
    }
    if (!pcb && (s.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN && !has_room(tif)) {
        refuse(tif, &s);
        return 0;
    }
    p = pbuf_alloc(PBUF_RAW, (u16_t)s.total_bytes, PBUF_RAM);
    if (!p) {
        return 0; /* lost, as on a wire */
    }
    (void)pbuf_take(p, packet, (u16_t)s.total_bytes);
    set_checksums(p, &s);
    if (tif->netif.input(p, &tif->netif) != ERR_OK) {
        (void)pbuf_free(p);
    }
    keep_time();
    return 0;
}

/* --- life --- */

static int open_stack(struct loop *loop, struct err *err)
{
    struct tcp_pcb *pcb;

    if (!g_stack.is_ready) {
        lwip_init();
        list_init(&g_stack.ifs);
        g_stack.is_ready = true;
    }
    if (g_stack.loop) {
        return g_stack.loop == loop
                   ? 0
                   : err_set(err, -EBUSY, "metadata service: another loop has the TCP stack");
    }
    pcb = tcp_new();
    /* tcp_listen() puts a smaller block in the place of the first */
    if (pcb && tcp_bind(pcb, IP4_ADDR_ANY, PORT) == ERR_OK) {
        g_stack.listener = tcp_listen(pcb);
    }
    if (!g_stack.listener) {
        if (pcb) {
            tcp_abort(pcb);
        }
        return err_set(err, -ENOMEM, "metadata service: out of memory");
    }
    tcp_accept(g_stack.listener, on_accept);
    g_stack.loop = loop;
    return 0;
}

static void close_stack(void)
{
    if (list_is_empty(&g_stack.ifs) && g_stack.loop) {
        (void)tcp_close(g_stack.listener);
        loop_del_timer(g_stack.loop, g_stack.timer);
        g_stack.timer = NULL;
        g_stack.listener = NULL;
        g_stack.loop = NULL;
    }
}

int tcp_if_new(struct mmds *mmds, uint32_t ipv4, struct loop *loop, tcp_if_send_fn send,
               void *owner, struct tcp_if **ret_if, struct err *err)
{
    struct tcp_if *tif = calloc(1, sizeof(*tif));
    ip4_addr_t address = {.addr = lwip_htonl(ipv4)};
    ip4_addr_t mask = {.addr = UINT32_MAX}; /* nobody else is on its network: see above */
    ip4_addr_t none = {0};
    int r;

    if (!tif) {
        return err_set(err, -ENOMEM, "metadata service: out of memory");
    }
    r = open_stack(loop, err);
    if (r < 0) {
        free(tif);
        return r;
    }
    tif->mmds = mmds;
    tif->send = send;
    tif->owner = owner;
    list_init(&tif->conns);
    list_append(&g_stack.ifs, &tif->link);
    (void)netif_add(&tif->netif, &address, &mask, &none, tif, on_netif_init, ip_input);
    netif_set_up(&tif->netif);
    *ret_if = tif;
    return 0;
}

/* End all connections without a word. */
static void end_all(struct tcp_if *tif)
{
    struct tcp_pcb *next;

    list_for_each (pos, &tif->conns) {
        drop(mmds_conn_of(pos));
    }
    /* half-open, or on their way out */
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = next) {
        next = pcb->next;
        if (pcb->netif_idx == netif_get_index(&tif->netif)) {
            tcp_abort(pcb);
        }
    }
}

void tcp_if_free(struct tcp_if *tif)
{
    if (tif) {
        end_all(tif);
        /* else lwIP would end what other interfaces have at the same address */
        ip_addr_set_zero_ip4(&tif->netif.ip_addr);
        netif_remove(&tif->netif);
        list_remove(&tif->link);
        close_stack();
        free(tif);
    }
}
