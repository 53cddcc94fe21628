/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiny=fuzz dev=K seed=S count=N: a hostile driver. N operations against one virtio-mmio device,
 * the same for the same seed, in episodes of two kinds: noise (any write to any register), and a
 * correct start of the device followed by queues no driver would make: descriptors that point
 * outside of memory, overflow, loop or nest, indices that jump, memory that changes after the
 * notification.
 *
 * The device may write wherever we tell it to, so every address we give it lies in the scratch
 * memory, outside of all memory, or from also=ADDRESS on, where another device may have memory of
 * its own: what is at stake is the monitor, not this program.
 *
 * Last words: "FUZZ done ..." and, since a device must survive its driver, whether it works again
 * after a reset.
 */

#include "guest/init/pattern.h"
#include "tiny.h"
#include "virtio.h"

#define QUEUES      5
#define RING_SPACE  0x10000UL              /* of each queue: table, rings, indirect tables */
#define DATA        (SCRATCH + 0x100000UL) /* buffers, well behind the rings */
#define DATA_SIZE   0x700000UL
#define EPISODE_OPS 96
#define REPORT_OPS  10000

struct fuzz_queue {
    struct descriptor *desc, *indirect;
    volatile struct avail_ring *avail;
    volatile struct used_ring *used;
    uint16_t size;
};

static struct fuzz {
    uint64_t base, state, done, count;
    uint64_t also;     /* where another device has memory, or 0 */
    uint64_t patience; /* of this episode: so many times rarer is everything wrong */
    uint64_t resets, needs_reset, completions;
    enum virtio_device_id kind;
    uint16_t used_seen[QUEUES];
    struct fuzz_queue queues[QUEUES];
} fuzz;

/* ---- dice ------------------------------------------------------------------------------------ */

static uint64_t roll(void)
{
    return pattern_mix(++fuzz.state);
}

static uint64_t below(uint64_t n)
{
    return roll() % n;
}

static int one_in(uint64_t n)
{
    return below(n) == 0;
}

/* Whether to make something wrong that in the worst of episodes is so once in `n` times. A device
   stops at the first wrong thing, so what lies beyond its first checks is only reached by episodes
   in which little is wrong. */
static int wrong(uint64_t n)
{
    return one_in(n * fuzz.patience);
}

/* Numbers at which code goes wrong more often than at others. */
static uint64_t odd_number(void)
{
    static const uint64_t odd[] = {
        0,
        1,
        2,
        7,
        8,
        15,
        16,
        17,
        255,
        256,
        257,
        511,
        512,
        513,
        4095,
        4096,
        4097,
        32767,
        32768,
        65535,
        65536,
        1048576,
        0x7fffffff,
        0x80000000,
        0xfffffff0,
        0xffffffff,
        0x100000000,
        0x7fffffffffffffff,
        0x8000000000000000,
        0xffffffffffffffff,
    };

    return one_in(4) ? roll() >> below(64) : odd[below(sizeof(odd) / sizeof(*odd))];
}

/* An address the device may be told to write to: see the top of this file. */
static uint64_t harmless_address(void)
{
    switch (below(8)) {
    case 0:
        return 0xC0000000 + below(0x10000); /* device memory */
    case 1:
        return 0xFEE00000 + below(0x1000); /* the local APIC's */
    case 2:
        return 0xD0000000 + (roll() & 0xfffffff);
    case 3:
        return 0x8000000000000000 | roll();
    case 4:
        return 0xffffffffffffffff - below(0x2000); /* address plus length wraps */
    case 5:
    case 6:
        if (fuzz.also)
            return fuzz.also + (one_in(2) ? below(0x1000) * 16 : below(0x400) * 0x1000);
        /* fall through */
    default:
        return DATA + below(DATA_SIZE - 0x200000);
    }
}

/* Lengths stay so small that a buffer in the scratch memory stays within it, unless the address is
   one where no memory is. */
static uint32_t length_for(uint64_t address)
{
    uint32_t len = (uint32_t)odd_number();

    if (address < SCRATCH + SCRATCH_SIZE)
        return len % 0x200000;
    return len;
}

/* ---- noise ----------------------------------------------------------------------------------- */

/* One write of any width to any register, or a read; addresses of queues stay harmless. */
static void noise(void)
{
    uint64_t offset = one_in(3) ? below(0x200) : below(0x28) * 4, value = odd_number();

    if (offset >= MMIO_QUEUE_DESC - 7 && offset < MMIO_QUEUE_DEVICE + 8) {
        /* Either half by itself must make a harmless address with whatever the other is. */
        offset &= ~3UL;
        if (offset & 4)
            write32(fuzz.base + offset, one_in(2) ? 0 : (uint32_t)roll() | 1);
        else
            write32(fuzz.base + offset, (uint32_t)(DATA + below(DATA_SIZE)));
        return;
    }
    uint64_t at = fuzz.base + offset;
    switch (below(8)) {
    case 0:
        (void)*(volatile uint8_t *)at;
        break;
    case 1:
        (void)*(volatile uint16_t *)at;
        break;
    case 2:
        (void)*(volatile uint64_t *)at;
        break;
    case 3:
        *(volatile uint8_t *)at = (uint8_t)value;
        break;
    case 4:
        *(volatile uint16_t *)at = (uint16_t)value;
        break;
    case 5:
        *(volatile uint64_t *)at = value;
        break;
    default:
        *(volatile uint32_t *)at = (uint32_t)value;
        break;
    }
}

/* ---- queues nobody would make ---------------------------------------------------------------- */

static void place_queue(struct fuzz_queue *q, unsigned int n)
{
    uint64_t at = SCRATCH + n * RING_SPACE;

    memset((void *)at, 0, RING_SPACE);
    q->desc = (struct descriptor *)at;
    q->avail = (struct avail_ring *)(at + 0x2000);
    q->used = (struct used_ring *)(at + 0x4000);
    q->indirect = (struct descriptor *)(at + 0x8000);
}

static void set_address(uint64_t reg, uint64_t value)
{
    write32(fuzz.base + reg, (uint32_t)value);
    write32(fuzz.base + reg + 4, (uint32_t)(value >> 32));
}

static void start_queue(unsigned int n)
{
    struct fuzz_queue *q = &fuzz.queues[n];

    place_queue(q, n);
    fuzz.used_seen[n] = 0;
    write32(fuzz.base + MMIO_QUEUE_SEL, n);
    uint32_t max = read32(fuzz.base + MMIO_QUEUE_NUM_MAX);
    q->size = (uint16_t)(max > QUEUE_MAX ? QUEUE_MAX : max);
    if (q->size == 0)
        return;
    if (wrong(8))
        q->size = (uint16_t)(1U << below(9));
    write32(fuzz.base + MMIO_QUEUE_NUM, q->size);
    set_address(MMIO_QUEUE_DESC, wrong(40) ? harmless_address() : (uintptr_t)q->desc);
    set_address(MMIO_QUEUE_DRIVER, wrong(40) ? harmless_address() : (uintptr_t)q->avail);
    set_address(MMIO_QUEUE_DEVICE, wrong(40) ? harmless_address() : (uintptr_t)q->used);
    write32(fuzz.base + MMIO_QUEUE_READY, 1);
}

/* Resets the device and brings it to DRIVER_OK with some of its features, mostly as one should. */
static void start_device(void)
{
    uint64_t keep = roll() | roll() | FEATURE_VERSION_1;

    fuzz.resets++;
    write32(fuzz.base + MMIO_STATUS, 0);
    write32(fuzz.base + MMIO_STATUS, STATUS_ACKNOWLEDGE);
    write32(fuzz.base + MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        write32(fuzz.base + MMIO_DEVICE_FEATURES_SEL, half);
        uint32_t offered = read32(fuzz.base + MMIO_DEVICE_FEATURES);
        write32(fuzz.base + MMIO_DRIVER_FEATURES_SEL, half);
        write32(fuzz.base + MMIO_DRIVER_FEATURES, offered & (uint32_t)(keep >> 32 * half));
    }
    write32(fuzz.base + MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    for (unsigned int n = 0; n < QUEUES; n++)
        start_queue(n);
    write32(fuzz.base + MMIO_STATUS,
            STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

static void set_descriptor(struct descriptor *d, uint64_t addr, uint32_t len, uint16_t flags)
{
    d->addr = addr;
    d->len = len;
    d->flags = flags;
}

/* What a disk takes for a request: type, sector. Returns whether the device is to write
 * the data. */
static int fill_header(struct descriptor *d)
{
    static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 14, 0xffffffff};
    uint32_t *header = (uint32_t *)(DATA + below(0x1000) * 16);

    header[0] = wrong(3) ? types[below(sizeof(types) / sizeof(*types))] : (uint32_t)below(2);
    header[1] = (uint32_t)roll();
    *(uint64_t *)(header + 2) = wrong(3) ? odd_number() : below(64);
    set_descriptor(d, (uintptr_t)header, 16, 0);
    return header[0] != 1;
}

/* A buffer for the device to fill, which is all that an entropy device takes. */
static int fill_buffer(struct descriptor *d)
{
    set_descriptor(d, DATA + 0x10000 + below(0x1000) * 512, (uint32_t)(1 + below(8)) * 512,
                   DESC_WRITE);
    return 1;
}

/* What memory that can be plugged takes: type, address, number of blocks. */
static int fill_plug(struct descriptor *d)
{
    uint64_t *request = (uint64_t *)(DATA + below(0x1000) * 32);
    uint64_t start = *(volatile uint64_t *)(fuzz.base + MMIO_CONFIG + 16);

    request[0] = wrong(3) ? roll() : below(4);
    request[1] = wrong(3) ? odd_number() : start + below(256) * 0x200000;
    request[2] = wrong(3) ? roll() : below(8);
    set_descriptor(d, (uintptr_t)request, 24, 0);
    return 1;
}

/* What persistent memory takes: a type. */
static int fill_flush(struct descriptor *d)
{
    uint32_t *request = (uint32_t *)(DATA + below(0x1000) * 16);

    request[0] = wrong(3) ? (uint32_t)odd_number() : 0;
    set_descriptor(d, (uintptr_t)request, 4, 0);
    return 1;
}

/*
 * What the queues of a balloon take. Pages that go into it are lost, so all that is ever read as
 * the number of one, from whatever place the device is led to, is that of a page of the scratch
 * memory (rings too), or of none.
 */
static int fill_pages(struct descriptor *d)
{
    uint32_t *page = (uint32_t *)(DATA + below(0x100) * 0x1000), n = (uint32_t)(1 + below(600));

    for (uint32_t i = 0; i < n; i++)
        page[i] = (uint32_t)(one_in(8) ? harmless_address() | 0xffff000
                                       : SCRATCH + below(SCRATCH_SIZE)) >>
                  12;
    set_descriptor(d, (uintptr_t)page, n * 4, 0);
    return 0;
}

static int fill_statistics(struct descriptor *d)
{
    uint8_t *at = (uint8_t *)(DATA + below(0x100) * 0x1000);
    uint32_t n = (uint32_t)(1 + below(20));

    for (uint32_t i = 0; i < n; i++) {
        uint16_t tag = (uint16_t)below(18);
        uint64_t value = roll() | 0xffff010101010101;
        memcpy(at + i * 10UL, &tag, 2);
        memcpy(at + i * 10UL + 2, &value, 8);
    }
    set_descriptor(d, (uintptr_t)at, n * 10, 0);
    return 0;
}

static int fill_balloon(struct descriptor *d, unsigned int n)
{
    if (n < 2)
        return fill_pages(d);
    if (n == 2 && one_in(2))
        return fill_statistics(d);
    if (one_in(2))
        return fill_buffer(d); /* pages that are free */
    uint32_t *command = (uint32_t *)(DATA + 0x1000);
    *command = 0xff000000 | (uint32_t)roll();
    if (one_in(2)) /* what the device asked for last */
        *command = read32(fuzz.base + MMIO_CONFIG + 8);
    set_descriptor(d, (uintptr_t)command, 4, 0);
    return 1;
}

/* What a socket device takes to send: a packet of one of few connections, to ports where somebody
   may listen. Only then its header is where the rest of the request begins. */
static int fill_packet(struct descriptor *d)
{
    struct __attribute__((packed)) {
        uint64_t src_cid, dst_cid;
        uint32_t src_port, dst_port, len;
        uint16_t type, op;
        uint32_t flags, buf_alloc, fwd_cnt;
    } *h = (void *)(DATA + below(0x1000) * 64);

    h->src_cid = wrong(12) ? odd_number() : 3;
    h->dst_cid = wrong(12) ? odd_number() : 2;
    h->src_port = (uint32_t)below(20);
    h->dst_port = (uint32_t)(one_in(3) ? 0x40000000 + below(64) : 52 + below(3));
    h->len = (uint32_t)(wrong(6) ? odd_number() : below(1024));
    h->type = wrong(12) ? (uint16_t)odd_number() : 1;
    h->op = (uint16_t)(wrong(12) ? odd_number() : one_in(2) ? 5 : 1 + below(7));
    h->flags = wrong(6) ? (uint32_t)odd_number() : (uint32_t)below(4);
    h->buf_alloc = (uint32_t)odd_number();
    h->fwd_cnt = (uint32_t)odd_number();
    set_descriptor(d, (uintptr_t)h, sizeof(*h), 0);
    return 0;
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* A segment to the metadata service from one of few ports, in a sequence that may fit; `at` is the
   start of an IPv4 packet. Returns its length. */
static uint32_t fill_segment(uint8_t *at)
{
    static const char request[] = "GET /a HTTP/1.1\r\nAccept: */*\r\n\r\n";
    static const uint8_t head[20] = {0x45, 0, 0,   0,   0, 0, 0x40, 0,   64,  6,
                                     0,    0, 169, 254, 1, 2, 169,  254, 169, 254};
    uint32_t text = (uint32_t)(one_in(2) ? below(sizeof(request)) : 0), sum = 0;
    uint8_t *tcp = at + 20;

    memcpy(at, head, sizeof(head));
    put16(at + 2, wrong(6) ? (uint32_t)roll() : 40 + text);
    for (unsigned int i = 0; i < 20; i += 2)
        sum += (uint32_t)at[i] << 8 | at[i + 1];
    put16(at + 10, wrong(8) ? (uint32_t)roll() : ~(sum + (sum >> 16)));
    memset(tcp, 0, 20);
    put16(tcp, (uint32_t)(40000 + below(4)));
    put16(tcp + 2, wrong(8) ? (uint32_t)odd_number() : 80);
    put16(tcp + 6, (uint32_t)(wrong(4) ? odd_number() : below(40)));
    for (unsigned int i = 8; i < 12; i++)
        tcp[i] = (uint8_t)(one_in(2) ? roll() : 0);
    tcp[12] = (uint8_t)(wrong(4) ? roll() : 0x50);
    tcp[13] = (uint8_t)(one_in(4) ? roll() : one_in(3) ? 0x02 : 0x10);
    put16(tcp + 14, (uint32_t)odd_number());
    memcpy(tcp + 20, request, text);
    return 40 + text;
}

/* What an interface takes to send: the header of Virtio, and a frame. */
static int fill_frame(struct descriptor *d)
{
    static const uint8_t eth[14] = {6, 1, 0x23, 0x45, 0x67, 1, 2, 0, 0, 0, 0, 1, 8, 0};
    static const uint8_t arp[8] = {0, 1, 8, 0, 6, 4, 0, 1};
    uint8_t *at = (uint8_t *)(DATA + below(0x1000) * 256), *frame = at + 12;
    uint32_t len = 14;

    memset(at, 0, 256);
    if (wrong(4)) { /* checksums and segmentation */
        at[0] = (uint8_t)below(4);
        at[1] = (uint8_t)(one_in(2) ? roll() : 1 + 3 * below(2));
        for (unsigned int i = 2; i < 12; i++)
            at[i] = (uint8_t)(one_in(2) ? roll() : below(64));
    }
    memcpy(frame, eth, sizeof(eth));
    if (one_in(4)) { /* who has that address? */
        frame[13] = 6;
        memcpy(frame + 14, arp, sizeof(arp));
        memcpy(frame + 38, "\xa9\xfe\xa9\xfe", 4);
        len += 28;
    } else {
        len += fill_segment(frame + 14);
    }
    if (wrong(6))
        frame[below(len)] = (uint8_t)roll();
    set_descriptor(d, (uintptr_t)at, 12 + (wrong(6) ? (uint32_t)below(len) : len), 0);
    return 0;
}

/* The first buffer of a request, by the kind of device and the queue: all others take what a disk
   takes. Returns whether the device is to write the rest. */
static int fill_first(struct descriptor *d, unsigned int n)
{
    switch (fuzz.kind) {
    case DEVICE_RNG:
        return fill_buffer(d);
    case DEVICE_MEM:
        return fill_plug(d);
    case DEVICE_PMEM:
        return fill_flush(d);
    case DEVICE_BALLOON:
        return fill_balloon(d, n);
    case DEVICE_VSOCK:
        return n == 1 ? fill_packet(d) : fill_buffer(d);
    case DEVICE_NET:
        return n == 1 ? fill_frame(d) : fill_buffer(d);
    case DEVICE_BLK:
        break;
    }
    return fill_header(d);
}

/* Makes one thing wrong. A buffer that may reach beyond the scratch memory is never one the device
   may write: what lies there is not known. */
static void spoil(struct descriptor *d)
{
    switch (below(6)) {
    case 0:
        d->addr = harmless_address();
        d->len = length_for(d->addr);
        break;
    case 1:
        d->len = length_for(d->addr);
        break;
    case 2:
        d->flags = (uint16_t)roll();
        break;
    case 3:
        d->flags ^= (uint16_t)(1U << below(3));
        break;
    case 4:
        d->next = (uint16_t)odd_number();
        break;
    default:
        d->addr = SCRATCH + SCRATCH_SIZE - d->len % 0x1000;
        break;
    }
    if (d->addr >= SCRATCH && d->addr < SCRATCH + SCRATCH_SIZE &&
        d->len > SCRATCH + SCRATCH_SIZE - d->addr)
        d->flags &= (uint16_t)~DESC_WRITE;
}

/* A request in `table`, which has room for `room` descriptors, from `head` on: header, data and
   status as a disk wants them, or what other devices do, and then some of it spoilt. */
static void fill_chain(struct descriptor *table, unsigned int queue, uint16_t room, uint16_t head)
{
    uint16_t n = (uint16_t)(wrong(16) ? room : 2 + below(4)), i = head;

    n = n > room ? room : n;
    int reading = fill_first(&table[head], queue);
    for (uint16_t k = 0; k < n; k++, i = (uint16_t)((i + 1) % room)) {
        if (k > 0)
            set_descriptor(&table[i], DATA + 0x10000 + below(0x1000) * 512,
                           (uint32_t)(1 + below(8)) * 512, reading ? DESC_WRITE : 0);
        if (k > 0 && k + 1 == n && fuzz.kind == DEVICE_BLK)
            set_descriptor(&table[i], DATA + below(0x1000), 1, DESC_WRITE);
        if (k + 1 < n)
            table[i].flags |= DESC_NEXT;
        table[i].next = (uint16_t)((i + 1) % room);
    }
    for (unsigned int times = 0; times < 3; times++) {
        if (wrong(6))
            spoil(&table[(head + below(n)) % room]);
    }
    if (wrong(12)) /* the end leads back into the chain */
        table[(head + n - 1) % room].flags |= DESC_NEXT;
}

/* Hides a chain behind an indirect descriptor, whose table is itself not to be trusted. */
static void make_indirect(struct fuzz_queue *q, uint16_t head)
{
    uint16_t entries = (uint16_t)(2 + below(16));

    fill_chain(q->indirect, (unsigned int)(q - fuzz.queues), entries, 0);
    set_descriptor(&q->desc[head], (uintptr_t)q->indirect, (uint32_t)entries * 16, DESC_INDIRECT);
    if (wrong(6))
        q->desc[head].len = (uint32_t)odd_number() % 0x8000;
    if (wrong(8))
        q->desc[head].addr = harmless_address();
    if (wrong(8))
        q->desc[head].flags |= (uint16_t)(roll() & 3);
    if (wrong(6)) /* a table within a table */
        q->indirect[below(entries)].flags |= DESC_INDIRECT;
}

static void offer_chain(struct fuzz_queue *q)
{
    uint16_t head = (uint16_t)below(q->size);

    fill_chain(q->desc, (unsigned int)(q - fuzz.queues), q->size, head);
    if (one_in(4))
        make_indirect(q, head);
    q->avail->ring[q->avail->idx % q->size] = wrong(12) ? (uint16_t)odd_number() : head;
    barrier();
    q->avail->idx = (uint16_t)(q->avail->idx + (wrong(16) ? odd_number() : 1));
}

/* Changes what the device may be looking at right now. */
static void change_under_its_feet(struct fuzz_queue *q)
{
    uint16_t i = (uint16_t)below(q->size);

    switch (below(5)) {
    case 0:
        spoil(&q->desc[i]);
        break;
    case 1:
        q->avail->ring[i] = (uint16_t)odd_number();
        break;
    case 2:
        q->avail->idx = (uint16_t)odd_number();
        break;
    case 3:
        q->avail->flags = (uint16_t)roll();
        break;
    default:
        q->used->idx = (uint16_t)roll();
        fuzz.used_seen[q - fuzz.queues] = q->used->idx;
        break;
    }
}

static void look_at_used(void)
{
    for (unsigned int n = 0; n < QUEUES; n++) {
        uint16_t idx = fuzz.queues[n].used->idx, fresh = (uint16_t)(idx - fuzz.used_seen[n]);
        if (fresh <= fuzz.queues[n].size) /* else it is our own scribbling */
            fuzz.completions += fresh;
        fuzz.used_seen[n] = idx;
    }
}

static void ring_operation(void)
{
    unsigned int n = one_in(2) ? 0 : (unsigned int)below(QUEUES);
    struct fuzz_queue *q = &fuzz.queues[n];

    if (q->size == 0)
        return;
    switch (below(8)) {
    case 0:
        if (wrong(1))
            change_under_its_feet(q);
        break;
    case 1:
        look_at_used();
        write32(fuzz.base + MMIO_INTERRUPT_ACK, read32(fuzz.base + MMIO_INTERRUPT_STATUS));
        break;
    case 2:
        write32(fuzz.base + MMIO_QUEUE_NOTIFY, wrong(4) ? (uint32_t)odd_number() : n);
        break;
    default:
        offer_chain(q);
        write32(fuzz.base + MMIO_QUEUE_NOTIFY, n);
        if (wrong(3))
            change_under_its_feet(q);
        break;
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void episode(void)
{
    int quiet = one_in(3); /* nothing but noise, from whatever state the device is in */

    fuzz.patience = 1U << 3 * below(4);
    if (!quiet)
        start_device();
    for (unsigned int i = 0; i < EPISODE_OPS && fuzz.done < fuzz.count; i++) {
        if (quiet || wrong(24))
            noise();
        else
            ring_operation();
        if (++fuzz.done % REPORT_OPS == 0)
            print("FUZZ %u\n", fuzz.done);
    }
    uint32_t status = read32(fuzz.base + MMIO_STATUS);
    if (status & STATUS_NEEDS_RESET)
        fuzz.needs_reset++;
    if (!quiet)
        look_at_used();
}

/* After a reset a device is as good as new, whatever was done to it. A disk has to serve a request
   to show it; of others, coming up is asked. */
static int works_again(void)
{
    static struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    static uint8_t data[512], status;
    const struct buffer chain[] = {{&header, 16, 0}, {data, 512, 1}, {&status, 1, 1}};
    enum virtio_device_id kind = (enum virtio_device_id)read32(fuzz.base + MMIO_DEVICE_ID);
    struct virtio dev;

    if (virtio_start(&dev, fuzz.base, kind, 0, 1, QUEUE_MAX))
        return 0;
    virtio_go(&dev);
    if (kind != DEVICE_BLK)
        return 1;
    status = 0xff;
    virtio_add(&dev.queue[0], 0, chain, 3);
    virtio_kick(&dev, &dev.queue[0]);
    return virtio_wait(&dev, &dev.queue[0], NULL) == 0 && status == 0;
}

void mode_fuzz(void)
{
    fuzz.base = virtio_find((unsigned int)option("dev", 0));
    fuzz.state = pattern_mix(option("seed", 1));
    fuzz.patience = 1;
    fuzz.count = option("count", 100000);
    fuzz.also = option("also", 0);
    if (!fuzz.base || read32(fuzz.base + MMIO_MAGIC) != MMIO_MAGIC_VALUE) {
        print("FUZZ there is no device %u\n", option("dev", 0));
        return;
    }
    fuzz.kind = (enum virtio_device_id)read32(fuzz.base + MMIO_DEVICE_ID);
    print("FUZZ begin device=%u seed=%u count=%u\n", (uint64_t)fuzz.kind, option("seed", 1),
          fuzz.count);
    for (unsigned int n = 0; n < QUEUES; n++)
        place_queue(&fuzz.queues[n], n);
    while (fuzz.done < fuzz.count)
        episode();
    print("FUZZ done ops=%u resets=%u needs_reset=%u completions=%u\n", fuzz.done, fuzz.resets,
          fuzz.needs_reset, fuzz.completions);
    print(works_again() ? "FUZZ the device works again\n"
                        : "FUZZ the device does not work any more\n");
}
