/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiny guest's network mode: how long frames take, both ways and there and back. The other end
 * is guest/bench/wire.c on the tap, which does what a frame of ours asks it for.
 */

#include "guest/bench/wire.h"
#include "tiny.h"
#include "virtio.h"

enum { RX, TX };

#define NET_FEATURE_CSUM       (1UL << 0)
#define NET_FEATURE_GUEST_CSUM (1UL << 1)
#define NET_FEATURE_GUEST_TSO4 (1UL << 7)
#define NET_FEATURE_HOST_TSO4  (1UL << 11)
#define NET_FEATURE_MRG_RXBUF  (1UL << 15)

#define HEADER_NEEDS_CSUM 1
#define HEADER_GSO_TCPV4  1

struct net_header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

#define RX_BUFFERS 256
#define RX_LEN     4096
#define TX_SLOTS   128
#define FRAME_MAX  (60 * 1024)

#define SPINS_LAST 400000000UL /* without a frame: what was to come has come */

/* Receive buffers, then one frame that all transmissions share. */
#define RX_BUFFER(i) ((uint8_t *)SCRATCH + (i)*RX_LEN)
#define FRAME        ((uint8_t *)SCRATCH + RX_BUFFERS * RX_LEN)

static const struct net_header plain;
static struct net_header large = {
    .flags = HEADER_NEEDS_CSUM,
    .gso_type = HEADER_GSO_TCPV4,
    .hdr_len = 54,
    .gso_size = 1448,
    .csum_start = 34,
    .csum_offset = 16,
};

static void post(struct virtio *dev, uint16_t slot)
{
    virtio_add(&dev->queue[RX], slot, &(struct buffer){RX_BUFFER((uint64_t)slot), RX_LEN, 1}, 1);
}

static int start(struct virtio *dev)
{
    uint64_t base = virtio_find((unsigned int)option("dev", 0));

    if (virtio_start(dev, base, DEVICE_NET,
                     NET_FEATURE_CSUM | NET_FEATURE_GUEST_CSUM | NET_FEATURE_GUEST_TSO4 |
                         NET_FEATURE_HOST_TSO4 | NET_FEATURE_MRG_RXBUF | FEATURE_EVENT_IDX,
                     2, QUEUE_MAX))
        return -1;
    if (!(dev->features & NET_FEATURE_MRG_RXBUF) || !(dev->features & NET_FEATURE_HOST_TSO4)) {
        print("NET the device lacks features: 0x%x\n", dev->features);
        return -1;
    }
    /* The first touch of guest memory is the host's work, not the network's. */
    memset((void *)SCRATCH, 0, RX_BUFFERS * RX_LEN + FRAME_MAX);
    for (uint16_t i = 0; i < dev->queue[RX].size; i++)
        post(dev, i);
    virtio_go(dev);
    virtio_kick(dev, &dev->queue[RX]);
    return 0;
}

/* Puts the frame, `len` bytes of it, into a slot of the transmit queue. */
static void send(struct virtio *dev, unsigned int slot, uint32_t len)
{
    const struct net_header *header = len > 1514 ? &large : &plain;
    const struct buffer chain[] = {{header, sizeof(*header), 0}, {FRAME, len, 0}};

    virtio_add(&dev->queue[TX], (uint16_t)(slot * 2), chain, 2);
}

/* Takes the buffers of one frame; returns its first, or -1 when none came for long. */
static int receive(struct virtio *dev, uint64_t spins, unsigned int *buffers)
{
    uint16_t head, more;

    for (uint64_t i = 0; !virtio_poll(&dev->queue[RX], &head, NULL); i++) {
        if (i == spins)
            return -1;
        __asm__ volatile("pause");
    }
    *buffers = ((const struct net_header *)(const void *)RX_BUFFER((uint64_t)head))->num_buffers;
    for (unsigned int i = 1; i < *buffers; i++) {
        while (!virtio_poll(&dev->queue[RX], &more, NULL))
            __asm__ volatile("pause");
        post(dev, more);
    }
    return head;
}

/* An Ethernet header to the peer and what it should do. */
static void ask(uint8_t what, uint32_t size)
{
    struct wire_frame *frame = (struct wire_frame *)FRAME;

    *frame = (struct wire_frame){.to = WIRE_PEER_MAC,
                                 .from = WIRE_GUEST_MAC,
                                 .type = what == WIRE_NOTHING ? WIRE_IGNORED : WIRE_ASKS,
                                 .what = what,
                                 .size = size};
}

static int say(struct virtio *dev, uint8_t what, uint32_t size)
{
    ask(what, size);
    send(dev, 0, WIRE_FRAME_MIN);
    virtio_kick(dev, &dev->queue[TX]);
    return virtio_wait(dev, &dev->queue[TX], NULL);
}

static void bench_round_trip(struct virtio *dev, uint64_t rounds)
{
    unsigned int buffers;
    uint64_t begin = 0;

    for (uint64_t i = 0; i <= rounds; i++) {
        if (i == 1) /* the first one warms everything up */
            begin = rdtsc();
        if (say(dev, WIRE_ECHO, 0) < 0)
            return print("NET a frame was not sent\n");
        int head = receive(dev, SPINS_LAST, &buffers);
        if (head < 0)
            return print("NET no answer\n");
        post(dev, (uint16_t)head);
        virtio_kick(dev, &dev->queue[RX]);
    }
    report("NET", "round trip 64 B", rdtsc() - begin, rounds);
}

/* A TCP segment for nobody, so that the host drops it where it has seen what it is. */
static void make_segment(void)
{
    static const uint8_t ip[] = {0x45, 0, 0,  0, 0, 0, 0x40, 0, 64, 6,
                                 0,    0, 10, 0, 0, 2, 10,   0, 0,  9};

    ask(WIRE_NOTHING, 0);
    FRAME[12] = 0x08; /* IPv4 */
    FRAME[13] = 0x00;
    memcpy(FRAME + 14, ip, sizeof(ip));
    FRAME[16] = (FRAME_MAX - 14) >> 8;
    FRAME[17] = (FRAME_MAX - 14) & 0xff;
    memset(FRAME + 34, 0, 20);
    FRAME[46] = 0x50; /* five words of header */
    FRAME[47] = 0x10; /* ACK */
}

static void bench_out(struct virtio *dev, const char *what, uint32_t len, uint64_t frames)
{
    uint64_t submitted = 0, done = 0, begin;
    uint16_t head;

    ask(WIRE_NOTHING, 0);
    if (len > 1514)
        make_segment();
    begin = rdtsc();
    for (; submitted < TX_SLOTS; submitted++)
        send(dev, (unsigned int)submitted, len);
    virtio_kick(dev, &dev->queue[TX]);
    while (done < frames) {
        int first = virtio_wait(dev, &dev->queue[TX], NULL);
        if (first < 0)
            return print("NET a frame was not sent\n");
        head = (uint16_t)first;
        do {
            done++;
            if (submitted < frames) {
                send(dev, head / 2u, len);
                submitted++;
            }
        } while (virtio_poll(&dev->queue[TX], &head, NULL));
        virtio_kick(dev, &dev->queue[TX]);
    }
    report("NET", what, rdtsc() - begin, frames);
}

/* The peer sends as fast as it can until it is told to stop; counted is what arrives. */
static void bench_in(struct virtio *dev, const char *what, uint32_t size, uint64_t frames)
{
    uint64_t begin = 0, unshown = 0;
    unsigned int buffers;

    if (say(dev, WIRE_FLOOD, size) < 0)
        return print("NET a frame was not sent\n");
    for (uint64_t i = 0; i <= frames; i++) {
        int head = receive(dev, SPINS_LAST, &buffers);
        if (head < 0)
            return print("NET the flood ended\n");
        if (i == 0)
            begin = rdtsc();
        post(dev, (uint16_t)head);
        unshown += buffers;
        if (unshown >= RX_BUFFERS / 8) {
            virtio_kick(dev, &dev->queue[RX]);
            unshown = 0;
        }
    }
    report("NET", what, rdtsc() - begin, frames);
    if (say(dev, WIRE_STOP, 0) < 0)
        return print("NET a frame was not sent\n");
    for (int head; (head = receive(dev, SPINS_LAST / 16, &buffers)) >= 0;) {
        post(dev, (uint16_t)head);
        virtio_kick(dev, &dev->queue[RX]);
    }
}

void mode_net_bench(void)
{
    uint64_t n = option("frames", 100000);
    struct virtio dev;

    if (start(&dev))
        return;
    settle();
    bench_round_trip(&dev, n / 50);
    bench_out(&dev, "out 64 B", 64, n);
    bench_out(&dev, "out 1500 B", 1514, n);
    bench_out(&dev, "out 60 KiB", FRAME_MAX, n / 10);
    bench_in(&dev, "in 64 B", 64, n);
    bench_in(&dev, "in 1500 B", 1514, n);
    bench_in(&dev, "in 60 KiB", FRAME_MAX, n / 10);
    print("NET done\n");
}
