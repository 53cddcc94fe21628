/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiny guest's socket mode: connections to the host (CID 2) and how long bytes take through
 * them (virtio 1.3, section 5.10). One connection at a time. The other end is guest/bench/wire.c.
 */

#include "guest/bench/wire.h"
#include "tiny.h"
#include "virtio.h"

enum { RX, TX, EVENT };
enum {
    OP_REQUEST = 1,
    OP_RESPONSE,
    OP_RST,
    OP_SHUTDOWN,
    OP_RW,
    OP_CREDIT_UPDATE,
    OP_CREDIT_REQUEST
};

#define TYPE_STREAM   1
#define SHUTDOWN_BOTH 3
#define CID_HOST      2
#define MIB           (1U << 20)

struct __attribute__((packed)) header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
};

#define RX_BUFFERS   256
#define RX_LEN       4096
#define RX_BUFFER(i) ((uint8_t *)SCRATCH + (i)*RX_LEN)
#define TX_SLOTS     16
#define TX_LEN       (64U * 1024)
#define TX_DATA      ((uint8_t *)SCRATCH + RX_BUFFERS * RX_LEN) /* that all packets share */
#define WINDOW       (256U * 1024)
#define SPINS_LAST   400000000UL

static struct {
    struct virtio dev;
    uint64_t cid;
    struct header tx[TX_SLOTS];
    uint32_t tx_free; /* a bit a slot */

    uint32_t port;
    uint32_t received, told;         /* of the stream, and what the host knows of it */
    uint32_t sent, alloc, forwarded; /* of ours, and the host's window */
    int connected, closed;
} sock;

static int start(void)
{
    uint64_t base = virtio_find((unsigned int)option("dev", 0));

    if (virtio_start(&sock.dev, base, DEVICE_VSOCK, FEATURE_EVENT_IDX, 3, QUEUE_MAX))
        return -1;
    sock.cid = read32(base + MMIO_CONFIG);
    sock.port = 5000;
    sock.tx_free = (1U << TX_SLOTS) - 1;
    memset((void *)SCRATCH, 0, RX_BUFFERS * RX_LEN + TX_LEN);
    for (uint16_t i = 0; i < sock.dev.queue[RX].size; i++)
        virtio_add(&sock.dev.queue[RX], i, &(struct buffer){RX_BUFFER((uint64_t)i), RX_LEN, 1}, 1);
    virtio_go(&sock.dev);
    virtio_kick(&sock.dev, &sock.dev.queue[RX]);
    return 0;
}

static unsigned int take_slot(void)
{
    uint16_t head;

    do {
        while (virtio_poll(&sock.dev.queue[TX], &head, NULL))
            sock.tx_free |= 1U << head / 2;
    } while (sock.tx_free == 0);
    unsigned int slot = (unsigned int)__builtin_ctz(sock.tx_free);
    sock.tx_free &= sock.tx_free - 1;
    return slot;
}

/* A packet of the connection with `len` bytes of TX_DATA. Waits for a slot. */
static void send(uint16_t op, uint32_t flags, uint32_t len)
{
    struct queue *queue = &sock.dev.queue[TX];
    unsigned int slot = take_slot();
    struct header *h = &sock.tx[slot];
    const struct buffer chain[] = {{h, sizeof(*h), 0}, {TX_DATA, len, 0}};

    *h = (struct header){
        .src_cid = sock.cid,
        .dst_cid = CID_HOST,
        .src_port = sock.port,
        .dst_port = WIRE_PORT,
        .len = len,
        .type = TYPE_STREAM,
        .op = op,
        .flags = flags,
        .buf_alloc = WINDOW,
        .fwd_cnt = sock.received,
    };
    virtio_add(queue, (uint16_t)(2 * slot), chain, len ? 2 : 1);
    virtio_kick(&sock.dev, queue);
    sock.told = sock.received;
}

static void take_packet(const struct header *h)
{
    if (h->dst_port != sock.port)
        return;
    sock.alloc = h->buf_alloc;
    sock.forwarded = h->fwd_cnt;
    if (h->op == OP_RESPONSE)
        sock.connected = 1;
    else if (h->op == OP_RW)
        sock.received += h->len;
    else if (h->op == OP_RST || h->op == OP_SHUTDOWN)
        sock.closed = 1;
    else if (h->op == OP_CREDIT_REQUEST)
        send(OP_CREDIT_UPDATE, 0, 0);
}

/* Takes what the host has sent; returns whether there was anything. */
static int take_packets(void)
{
    struct queue *queue = &sock.dev.queue[RX];
    unsigned int taken = 0;
    uint16_t head;

    while (virtio_poll(queue, &head, NULL)) {
        take_packet((const struct header *)(const void *)RX_BUFFER((uint64_t)head));
        virtio_add(queue, head, &(struct buffer){RX_BUFFER((uint64_t)head), RX_LEN, 1}, 1);
        if (++taken % (RX_BUFFERS / 8) == 0)
            virtio_kick(&sock.dev, queue);
    }
    virtio_kick(&sock.dev, queue);
    if (sock.connected && sock.received - sock.told > WINDOW / 2)
        send(OP_CREDIT_UPDATE, 0, 0);
    return taken > 0;
}

/* Waits until `done` is true; returns -1 when the connection ends, or nothing comes, before that.
 */
static int wait_for(int (*done)(uint64_t arg), uint64_t arg)
{
    for (uint64_t idle = 0; !done(arg); idle++) {
        if (take_packets())
            idle = 0;
        if (idle > SPINS_LAST || (sock.closed && !done(arg)))
            return -1;
        __asm__ volatile("pause");
    }
    return 0;
}

static int is_connected(uint64_t arg)
{
    (void)arg;
    return sock.connected;
}

static int is_closed(uint64_t arg)
{
    (void)arg;
    return sock.closed;
}

static int has_received(uint64_t bytes)
{
    return sock.received >= bytes;
}

static int may_send(uint64_t bytes)
{
    return sock.alloc - (sock.sent - sock.forwarded) >= bytes;
}

static int open_connection(uint8_t what)
{
    sock.port++;
    sock.received = sock.told = sock.sent = 0;
    sock.connected = sock.closed = 0;
    send(OP_REQUEST, 0, 0);
    if (wait_for(is_connected, 0))
        return -1;
    TX_DATA[0] = what;
    send(OP_RW, 0, 1);
    sock.sent++;
    return 0;
}

static int close_connection(void)
{
    send(OP_SHUTDOWN, SHUTDOWN_BOTH, 0);
    return sock.closed ? 0 : wait_for(is_closed, 0);
}

/* Sends `bytes`, as many in a packet as the host's window takes. */
static int send_bytes(uint64_t bytes)
{
    while (bytes) {
        uint32_t len = (uint32_t)(bytes < TX_LEN ? bytes : TX_LEN);

        if (!may_send(len)) {
            if (wait_for(may_send, 1))
                return -1;
            uint32_t room = sock.alloc - (sock.sent - sock.forwarded);
            len = len < room ? len : room;
        }
        send(OP_RW, 0, len);
        sock.sent += len;
        bytes -= len;
    }
    return 0;
}

static int bench_round_trip(uint64_t rounds)
{
    uint64_t begin = 0;

    if (open_connection(WIRE_SOCKET_ECHO))
        return -1;
    for (uint64_t i = 0; i <= rounds; i++) {
        if (i == 1)
            begin = rdtsc();
        if (send_bytes(1) || wait_for(has_received, i + 1))
            return -1;
    }
    report("VSOCK", "round trip 1 B", rdtsc() - begin, rounds);
    return close_connection();
}

static int bench_connect(uint64_t rounds)
{
    uint64_t begin = rdtsc();

    for (uint64_t i = 0; i < rounds; i++) {
        if (open_connection(WIRE_SOCKET_ECHO) || send_bytes(1) || wait_for(has_received, 1) ||
            close_connection())
            return -1;
    }
    report("VSOCK", "connect, echo, close", rdtsc() - begin, rounds);
    return 0;
}

static int bench_out(void)
{
    uint64_t begin;

    if (open_connection(WIRE_SINK))
        return -1;
    begin = rdtsc();
    /* One byte comes back when all have been read. */
    if (send_bytes(WIRE_SINK_LEN - 1) || wait_for(has_received, 1))
        return -1;
    report("VSOCK", "out 1 MiB", rdtsc() - begin, WIRE_SINK_LEN / MIB);
    return close_connection();
}

static int bench_in(uint64_t mib)
{
    uint64_t begin;

    if (open_connection(WIRE_SOURCE))
        return -1;
    begin = rdtsc();
    if (wait_for(has_received, mib * MIB))
        return -1;
    report("VSOCK", "in 1 MiB", rdtsc() - begin, mib);
    return close_connection();
}

void mode_vsock_bench(void)
{
    uint64_t n = option("rounds", 2000);

    if (start())
        return;
    settle();
    if (bench_round_trip(n) || bench_connect(n / 4) || bench_out() || bench_in(512))
        print("VSOCK a connection failed\n");
    else
        print("VSOCK done\n");
}
