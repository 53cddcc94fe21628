/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c: see frame.h; each offset is named where it is used. */
#include "virtio/mmds/frame.h"

#include <errno.h>
#include <string.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806

#define PROTOCOL_TCP 6

/* A datagram does not leave the wire: one hop, and no fragments. */
#define TTL           1
#define DONT_FRAGMENT 0x4000

const uint8_t frame_service_mac[FRAME_MAC_LEN] = {0x06, 0x01, 0x23, 0x45, 0x67, 0x01};

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, (uint16_t)(value >> 16));
    put16(at + 2, (uint16_t)value);
}

/* ---- checksums (RFC 1071) ---- */

static uint32_t sum(uint32_t so_far, const uint8_t *at, size_t len)
{
    for (; len > 1; at += 2, len -= 2)
        so_far += get16(at);
    return len ? so_far + (uint32_t)(*at << 8) : so_far;
}

/* Sums of up to 64 KiB do not overflow 32 bits before they are folded. */
static uint16_t fold(uint32_t total)
{
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    return (uint16_t)~total;
}

/* ---- Ethernet and ARP ---- */

enum frame_kind frame_kind(const uint8_t *frame, size_t len)
{
    uint16_t type = len < FRAME_ETH_LEN ? 0 : get16(frame + 12);

    return type == ETHERTYPE_IPV4 ? FRAME_IPV4 : type == ETHERTYPE_ARP ? FRAME_ARP : FRAME_OTHER;
}

static size_t write_eth(uint8_t *frame, const uint8_t *to, uint16_t type)
{
    memcpy(frame, to, FRAME_MAC_LEN);
    memcpy(frame + 6, frame_service_mac, FRAME_MAC_LEN);
    put16(frame + 12, type);
    return FRAME_ETH_LEN;
}

/* Ethernet (1) and IPv4, addresses of 6 and 4 bytes; then the operation, request or reply. */
static const uint8_t arp_request[] = {0, 1, 8, 0, 6, 4, 0, 1},
                     arp_reply[] = {0, 1, 8, 0, 6, 4, 0, 2};

bool frame_read_arp_request(const uint8_t *frame, size_t len, uint32_t address,
                            struct frame_host *from)
{
    const uint8_t *arp = frame + FRAME_ETH_LEN;

    if (len < FRAME_ETH_LEN + FRAME_ARP_LEN || memcmp(arp, arp_request, sizeof(arp_request)) != 0 ||
        get32(arp + 24) != address)
        return false;
    memcpy(from->mac, arp + 8, FRAME_MAC_LEN);
    from->address = get32(arp + 14);
    return true;
}

size_t frame_write_arp_reply(uint8_t *frame, uint32_t address, const struct frame_host *to)
{
    uint8_t *arp = frame + write_eth(frame, to->mac, ETHERTYPE_ARP);

    memcpy(arp, arp_reply, sizeof(arp_reply));
    memcpy(arp + 8, frame_service_mac, FRAME_MAC_LEN);
    put32(arp + 14, address);
    memcpy(arp + 18, to->mac, FRAME_MAC_LEN);
    put32(arp + 24, to->address);
    return FRAME_ETH_LEN + FRAME_ARP_LEN;
}

/* ---- IPv4 ---- */

bool frame_read_destination(const uint8_t *frame, size_t len, uint32_t *address)
{
    if (len < FRAME_TCP_OFFSET)
        return false;
    *address = get32(frame + FRAME_ETH_LEN + 16);
    return true;
}

/* What a packet carries, into *payload and *len; a frame may be longer than its packet (padding).
 */
static int read_ipv4(const uint8_t *frame, size_t frame_len, const uint8_t **payload, size_t *len)
{
    const uint8_t *ip = frame + FRAME_ETH_LEN;
    size_t header, total;

    if (frame_len < FRAME_TCP_OFFSET || ip[0] >> 4 != 4)
        return -EBADMSG;
    header = (size_t)(ip[0] & 15) * 4;
    total = get16(ip + 2);
    if (header < FRAME_IP_LEN || total < header || total > frame_len - FRAME_ETH_LEN)
        return -EBADMSG;
    if (fold(sum(0, ip, header)) != 0 || get16(ip + 6) & 0x3fff) /* more fragments, or an offset */
        return -EBADMSG;
    *payload = ip + header;
    *len = total - header;
    return ip[9] == PROTOCOL_TCP ? 0 : -EPROTO;
}

static void write_ipv4(uint8_t *frame, uint32_t from, uint32_t to, size_t payload)
{
    uint8_t *ip = frame + FRAME_ETH_LEN;

    memset(ip, 0, FRAME_IP_LEN);
    ip[0] = 4 << 4 | FRAME_IP_LEN / 4;
    put16(ip + 2, (uint16_t)(FRAME_IP_LEN + payload));
    put16(ip + 6, DONT_FRAGMENT);
    ip[8] = TTL;
    ip[9] = PROTOCOL_TCP;
    put32(ip + 12, from);
    put32(ip + 16, to);
    put16(ip + 10, fold(sum(0, ip, FRAME_IP_LEN)));
}

/* ---- TCP ---- */

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_MSS = 2 };

/* The maximum segment size among the options; 0 if it is not there or they are broken. */
static uint16_t find_mss(const uint8_t *option, size_t len)
{
    while (len > 0 && option[0] != OPTION_END) {
        size_t n = option[0] == OPTION_NOP ? 1 : len < 2 ? 0 : option[1];

        if (n == 0 || n > len || (n < 2 && option[0] != OPTION_NOP))
            return 0;
        if (option[0] == OPTION_MSS && n == FRAME_MSS_LEN)
            return get16(option + 2);
        option += n;
        len -= n;
    }
    return 0;
}

int frame_read_segment(const uint8_t *frame, size_t frame_len, struct frame_segment *segment)
{
    const uint8_t *tcp = NULL;
    size_t len = 0, header;
    int rc = read_ipv4(frame, frame_len, &tcp, &len);

    if (rc)
        return rc;
    if (len < FRAME_TCP_LEN)
        return -EBADMSG;
    header = (size_t)(tcp[12] >> 4) * 4;
    if (header < FRAME_TCP_LEN || header > len)
        return -EBADMSG;
    memcpy(segment->host.mac, frame + 6, FRAME_MAC_LEN);
    segment->host.address = get32(frame + FRAME_ETH_LEN + 12);
    segment->host_port = get16(tcp);
    segment->our_port = get16(tcp + 2);
    segment->seq = get32(tcp + 4);
    segment->ack = get32(tcp + 8);
    segment->flags = tcp[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH | TCP_ACK);
    segment->window = get16(tcp + 14);
    segment->mss = find_mss(tcp + FRAME_TCP_LEN, header - FRAME_TCP_LEN);
    segment->data = tcp + header;
    segment->len = len - header;
    return 0;
}

/* The checksum covers the addresses and the length as well. */
static void put_tcp_checksum(uint8_t *frame, size_t len)
{
    uint8_t *tcp = frame + FRAME_TCP_OFFSET;
    uint32_t total = sum(PROTOCOL_TCP + (uint32_t)len, frame + FRAME_ETH_LEN + 12, 8);

    put16(tcp + 16, fold(sum(total, tcp, len)));
}

size_t frame_write_segment(uint8_t *frame, uint32_t address, const struct frame_segment *segment)
{
    size_t header = FRAME_TCP_LEN + (segment->mss ? FRAME_MSS_LEN : 0);
    uint8_t *tcp = frame + FRAME_TCP_OFFSET;

    write_eth(frame, segment->host.mac, ETHERTYPE_IPV4);
    write_ipv4(frame, address, segment->host.address, header + segment->len);
    memset(tcp, 0, header);
    put16(tcp, segment->our_port);
    put16(tcp + 2, segment->host_port);
    put32(tcp + 4, segment->seq);
    put32(tcp + 8, segment->ack);
    tcp[12] = (uint8_t)(header / 4 << 4);
    tcp[13] = segment->flags;
    put16(tcp + 14, segment->window);
    if (segment->mss) {
        tcp[20] = OPTION_MSS;
        tcp[21] = FRAME_MSS_LEN;
        put16(tcp + 22, segment->mss);
    }
    if (segment->len)
        memcpy(tcp + header, segment->data, segment->len);
    put_tcp_checksum(frame, header + segment->len);
    return FRAME_TCP_OFFSET + header + segment->len;
}
