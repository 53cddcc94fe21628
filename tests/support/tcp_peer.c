/* SPDX-License-Identifier: Apache-2.0 */
/* tcp_peer.c: see tcp_peer.h; headers as structs, where the code under test has offsets. */
#include "tests/support/tcp_peer.h"

#include <endian.h>
#include <net/ethernet.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

const uint8_t peer_mac[6] = {0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee};
static const uint8_t service_mac[6] = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};

struct headers {
    struct ether_header eth;
    struct ip ip;
    struct tcphdr tcp;
} __attribute__((packed));

void tcp_peer_init(struct tcp_peer *peer, uint16_t port)
{
    memset(peer, 0, sizeof(*peer));
    peer->address = 0xa9fea902;
    peer->service = 0xa9fea9fe;
    peer->port = port;
    peer->service_port = 80;
    peer->mss = 1460;
    peer->window = 64240;
    peer->next = 0xfffff000u + port; /* a request's length away from the turn of the circle */
    tcp_peer_forget(peer);
}

void tcp_peer_release(struct tcp_peer *peer)
{
    free(peer->data);
}

void tcp_peer_forget(struct tcp_peer *peer)
{
    free(peer->data);
    peer->data = calloc(1, 1);
    peer->len = 0;
}

/* Of 16-bit words in network order; a trailing byte is followed by a zero. */
static uint16_t checksum(uint64_t total, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < len; i++)
        total += i % 2 ? at[i] : (uint64_t)at[i] << 8;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}

static uint64_t pseudo_header(uint32_t a, uint32_t b, size_t len)
{
    return (a >> 16) + (a & 0xffff) + (b >> 16) + (b & 0xffff) + IPPROTO_TCP + len;
}

size_t tcp_peer_arp(struct tcp_peer *peer)
{
    struct {
        struct ether_header eth;
        struct ether_arp arp;
    } __attribute__((packed)) ask = {
        .eth.ether_type = htobe16(ETHERTYPE_ARP),
        .arp.ea_hdr = {htobe16(ARPHRD_ETHER), htobe16(ETHERTYPE_IP), 6, 4, htobe16(ARPOP_REQUEST)},
    };
    uint32_t from = htobe32(peer->address), to = htobe32(peer->service);

    memset(ask.eth.ether_dhost, 0xff, 6);
    memcpy(ask.eth.ether_shost, peer_mac, 6);
    memcpy(ask.arp.arp_sha, peer_mac, 6);
    memcpy(ask.arp.arp_spa, &from, 4);
    memcpy(ask.arp.arp_tpa, &to, 4);
    memcpy(peer->frame, &ask, sizeof(ask));
    return sizeof(ask);
}

/* ---- sending ---- */

static size_t put_mss(const struct tcp_peer *peer, uint8_t *at)
{
    const uint8_t option[] = {
        TCPOPT_NOP,    TCPOPT_NOP,     TCPOPT_SACK_PERMITTED,     2,
        TCPOPT_MAXSEG, TCPOLEN_MAXSEG, (uint8_t)(peer->mss >> 8), (uint8_t)peer->mss};

    memcpy(at, option, sizeof(option));
    return sizeof(option);
}

size_t tcp_peer_segment_at(struct tcp_peer *peer, uint32_t seq, uint8_t flags, const void *data,
                           size_t len)
{
    uint8_t *behind = peer->frame + sizeof(struct headers);
    size_t options = flags & PEER_SYN && peer->mss ? put_mss(peer, behind) : 0;
    size_t payload = sizeof(struct tcphdr) + options + len;
    struct headers h = {
        .eth.ether_type = htobe16(ETHERTYPE_IP),
        .ip = {.ip_v = 4,
               .ip_hl = 5,
               .ip_len = htobe16((uint16_t)(sizeof(struct ip) + payload)),
               .ip_ttl = 64,
               .ip_p = IPPROTO_TCP,
               .ip_src.s_addr = htobe32(peer->address),
               .ip_dst.s_addr = htobe32(peer->service)},
        .tcp = {.th_sport = htobe16(peer->port),
                .th_dport = htobe16(peer->service_port),
                .th_seq = htobe32(seq),
                .th_ack = htobe32(flags & PEER_ACK ? peer->expected : 0),
                .th_off = (sizeof(struct tcphdr) + options) / 4 & 15,
                .th_flags = flags,
                .th_win = htobe16(peer->window)},
    };

    memcpy(h.eth.ether_dhost, service_mac, 6);
    memcpy(h.eth.ether_shost, peer_mac, 6);
    h.ip.ip_sum = htobe16(checksum(0, &h.ip, sizeof(h.ip)));
    memcpy(peer->frame, &h, sizeof(h)); /* no checksum of TCP: offloaded */
    if (len)
        memcpy(behind + options, data, len);
    return sizeof(h) + options + len;
}

size_t tcp_peer_segment(struct tcp_peer *peer, uint8_t flags, const void *data, size_t len)
{
    size_t n = tcp_peer_segment_at(peer, peer->next, flags, data, len);

    peer->next += (uint32_t)len + (flags & PEER_SYN ? 1 : 0) + (flags & PEER_FIN ? 1 : 0);
    peer->ack_due = false;
    return n;
}

/* ---- receiving ---- */

static bool is_whole(const struct tcp_peer *peer, const struct headers *h, const uint8_t *frame,
                     size_t len)
{
    size_t payload = len - sizeof(h->eth) - sizeof(h->ip);

    return memcmp(h->eth.ether_dhost, peer_mac, 6) == 0 &&
           memcmp(h->eth.ether_shost, service_mac, 6) == 0 &&
           be16toh(h->eth.ether_type) == ETHERTYPE_IP && h->ip.ip_v == 4 && h->ip.ip_hl == 5 &&
           h->ip.ip_ttl == 1 && h->ip.ip_p == IPPROTO_TCP &&
           be16toh(h->ip.ip_len) == len - sizeof(h->eth) &&
           be32toh(h->ip.ip_src.s_addr) == peer->service &&
           be32toh(h->ip.ip_dst.s_addr) == peer->address &&
           checksum(0, &h->ip, sizeof(h->ip)) == 0 &&
           checksum(pseudo_header(peer->address, peer->service, payload), frame + len - payload,
                    payload) == 0;
}

static void take_data(struct tcp_peer *peer, uint32_t seq, const uint8_t *data, size_t len)
{
    peer->segments++;
    peer->ack_due = true;
    if (seq != peer->expected || peer->stubborn)
        return;
    peer->data = realloc(peer->data, peer->len + len + 1);
    memcpy(peer->data + peer->len, data, len);
    peer->len += len;
    peer->data[peer->len] = '\0';
    peer->expected += (uint32_t)len;
}

static void take_syn(struct tcp_peer *peer, uint32_t seq, const uint8_t *option, size_t len)
{
    peer->open = true;
    peer->ack_due = true;
    peer->expected = seq + 1;
    if (len == TCPOLEN_MAXSEG && option[0] == TCPOPT_MAXSEG)
        peer->service_mss = (uint16_t)(option[2] << 8 | option[3]);
}

bool tcp_peer_take(struct tcp_peer *peer, const uint8_t *frame, size_t len)
{
    struct headers h;
    size_t header;
    uint32_t seq;

    if (len < sizeof(h))
        return false;
    memcpy(&h, frame, sizeof(h));
    header = sizeof(h.eth) + sizeof(h.ip) + h.tcp.th_off * 4u;
    if (!is_whole(peer, &h, frame, len) || header > len)
        return false;
    if (be16toh(h.tcp.th_dport) != peer->port || be16toh(h.tcp.th_sport) != peer->service_port)
        return false;
    peer->longest = MAX(peer->longest, len);
    peer->acked = be32toh(h.tcp.th_ack);
    peer->service_window = be16toh(h.tcp.th_win);
    seq = be32toh(h.tcp.th_seq);
    if (h.tcp.th_flags & PEER_RST) {
        peer->reset = true;
        return true;
    }
    if (h.tcp.th_flags & PEER_SYN)
        take_syn(peer, seq, frame + sizeof(h), header - sizeof(h));
    else if (len > header)
        take_data(peer, seq, frame + header, len - header);
    else if (seq != peer->expected)
        peer->ack_due = true;
    if (h.tcp.th_flags & PEER_FIN) {
        peer->ack_due = true;
        if (!peer->closed && seq + (uint32_t)(len - header) == peer->expected) {
            peer->closed = true;
            peer->expected++;
        }
    }
    return true;
}
