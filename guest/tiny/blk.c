/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiny guest's disk modes: write, flush, read back and check; and the time that requests take.
 */

#include "guest/init/pattern.h"
#include "tiny.h"
#include "virtio.h"

enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4 };

#define BLK_FEATURE_RO    (1UL << 5)
#define BLK_FEATURE_FLUSH (1UL << 9)
#define BLK_STATUS_NONE   0xff

#define DEPTH 32
#define BLOCK 4096
#define MIB   (1U << 20)
#define CHAIN 3 /* header, data, status */

struct blk_header {
    uint32_t type, reserved;
    uint64_t sector;
};

/* One for each request in flight. */
static struct blk_header headers[DEPTH];
static volatile uint8_t statuses[DEPTH];

/* Puts a request into slot `slot` of the queue. */
static void blk_add(struct virtio *dev, unsigned int slot, uint32_t type, uint64_t sector,
                    uint8_t *data, uint32_t len)
{
    struct buffer chain[CHAIN];
    unsigned int n = 0;

    headers[slot] = (struct blk_header){.type = type, .sector = sector};
    statuses[slot] = BLK_STATUS_NONE;
    chain[n++] = (struct buffer){&headers[slot], sizeof(headers[slot]), 0};
    if (len)
        chain[n++] = (struct buffer){data, len, type == BLK_IN};
    chain[n++] = (struct buffer){(const void *)&statuses[slot], 1, 1};
    virtio_add(&dev->queue[0], (uint16_t)(slot * CHAIN), chain, n);
}

/* One request, to its end. Returns its status byte, or -1 if the device does not answer. */
static int blk_do(struct virtio *dev, uint32_t type, uint64_t sector, uint8_t *data, uint32_t len)
{
    blk_add(dev, 0, type, sector, data, len);
    virtio_kick(dev, &dev->queue[0]);
    return virtio_wait(dev, &dev->queue[0], NULL) < 0 ? -1 : statuses[0];
}

static int blk_start(struct virtio *dev, uint64_t *sectors)
{
    uint64_t base = virtio_find((unsigned int)option("dev", 0));

    if (virtio_start(dev, base, DEVICE_BLK, BLK_FEATURE_RO | BLK_FEATURE_FLUSH | FEATURE_EVENT_IDX,
                     1, QUEUE_MAX))
        return -1;
    virtio_go(dev);
    *sectors = read32(base + MMIO_CONFIG) | (uint64_t)read32(base + MMIO_CONFIG + 4) << 32;
    return 0;
}

/* ----
 * tiny=blk ----------------------------------------------------------------------------------- */

/* Writes (or checks) `sectors` sectors of the pattern, a block at a time. */
static int blk_pattern(struct virtio *dev, uint32_t type, uint64_t sectors, uint64_t seed)
{
    uint8_t *data = (uint8_t *)SCRATCH;

    for (uint64_t at = 0; at < sectors; at += BLOCK / SECTOR_SIZE) {
        uint64_t n = sectors - at < BLOCK / SECTOR_SIZE ? sectors - at : BLOCK / SECTOR_SIZE;
        for (uint64_t i = 0; i < n && type == BLK_OUT; i++)
            pattern_fill(data + i * SECTOR_SIZE, at + i, seed);
        int status = blk_do(dev, type, at, data, (uint32_t)n * SECTOR_SIZE);
        if (status != 0) {
            print("BLK failed type=%u sector=%u status=%u\n", (uint64_t)type, at,
                  (uint64_t)(uint8_t)status);
            return -1;
        }
        for (uint64_t i = 0; i < n && type == BLK_IN; i++) {
            if (!pattern_matches(data + i * SECTOR_SIZE, at + i, seed)) {
                print("BLK wrong sector=%u\n", at + i);
                return -1;
            }
        }
    }
    return 0;
}

/* dev=K sectors=N seed=S; check=1 only reads and checks. */
void mode_blk(void)
{
    struct virtio dev;
    uint64_t capacity;

    if (blk_start(&dev, &capacity))
        return;
    uint64_t sectors = option("sectors", capacity), seed = option("seed", 1);
    if (!option("check", 0)) {
        if (blk_pattern(&dev, BLK_OUT, sectors, seed))
            return;
        if ((dev.features & BLK_FEATURE_FLUSH) && blk_do(&dev, BLK_FLUSH, 0, NULL, 0) != 0) {
            print("BLK flush failed\n");
            return;
        }
    }
    if (blk_pattern(&dev, BLK_IN, sectors, seed) == 0)
        print("BLK ok capacity=%u sectors=%u readonly=%u\n", capacity, sectors,
              (uint64_t) !!(dev.features & BLK_FEATURE_RO));
}

/* ---- tiny=blk-bench -------------------------------------------------------------------------- */

static uint64_t random_sector(uint64_t capacity)
{
    static uint64_t state;

    return pattern_mix(++state) % (capacity / (BLOCK / SECTOR_SIZE)) * (BLOCK / SECTOR_SIZE);
}

/* Keeps `depth` requests of `len` bytes in flight until `ops` are done. */
static int blk_run(struct virtio *dev, uint32_t type, unsigned int depth, uint32_t len,
                   uint64_t ops, uint64_t capacity)
{
    uint64_t submitted = 0, done = 0, next = 0;
    uint16_t head;

    for (; submitted < depth && submitted < ops; submitted++)
        blk_add(dev, (unsigned int)submitted, type, len == BLOCK ? random_sector(capacity) : next,
                (uint8_t *)SCRATCH + submitted * BLOCK, len);
    virtio_kick(dev, &dev->queue[0]);
    while (done < ops) {
        int first = virtio_wait(dev, &dev->queue[0], NULL);
        if (first < 0)
            return -1;
        head = (uint16_t)first;
        do {
            unsigned int slot = head / CHAIN;
            if (statuses[slot] != 0)
                return -1;
            done++;
            if (submitted < ops) {
                next = (next + len / SECTOR_SIZE) % (capacity & ~(uint64_t)(MIB / SECTOR_SIZE - 1));
                blk_add(dev, slot, type, len == BLOCK ? random_sector(capacity) : next,
                        (uint8_t *)SCRATCH + slot * BLOCK, len);
                submitted++;
            }
        } while (virtio_poll(&dev->queue[0], &head, NULL));
        virtio_kick(dev, &dev->queue[0]);
    }
    return 0;
}

void mode_blk_bench(void)
{
    static const struct {
        const char *name;
        uint32_t type, len;
        unsigned int depth;
        uint64_t ops;
    } parts[] = {
        {"4k depth1 read", BLK_IN, BLOCK, 1, 2000},
        {"4k depth1 write", BLK_OUT, BLOCK, 1, 2000},
        {"4k depth32 read", BLK_IN, BLOCK, DEPTH, 20000},
        {"4k depth32 write", BLK_OUT, BLOCK, DEPTH, 20000},
        {"1M read", BLK_IN, MIB, 1, 64},
        {"1M write", BLK_OUT, MIB, 1, 64},
    };
    struct virtio dev;
    uint64_t capacity;

    if (blk_start(&dev, &capacity))
        return;
    if (capacity < 2 * MIB / SECTOR_SIZE) {
        print("BLK the disk is smaller than 2 MiB\n");
        return;
    }
    settle();
    /* The first touch of guest memory is the host's work, not the disk's. */
    memset((void *)SCRATCH, 1, 2 * MIB);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        if ((dev.features & BLK_FEATURE_RO) && parts[i].type == BLK_OUT)
            continue;
        uint64_t begin = rdtsc();
        if (blk_run(&dev, parts[i].type, parts[i].depth, parts[i].len, parts[i].ops, capacity)) {
            print("BLK a request failed\n");
            return;
        }
        report("BLK", parts[i].name, rdtsc() - begin, parts[i].ops);
    }
    print("BLK done\n");
}

/* ---- tiny=rng -------------------------------------------------------------------------------- */

/* dev=K bytes=N: asks the entropy device for bytes and prints them in hex. */
void mode_rng(void)
{
    uint8_t *data = (uint8_t *)SCRATCH;
    uint32_t len = (uint32_t)option("bytes", 16);
    struct virtio dev;

    if (virtio_start(&dev, virtio_find((unsigned int)option("dev", 0)), DEVICE_RNG, 0, 1,
                     QUEUE_MAX))
        return;
    virtio_go(&dev);
    virtio_add(&dev.queue[0], 0, &(struct buffer){data, len, 1}, 1);
    virtio_kick(&dev, &dev.queue[0]);
    uint32_t got;
    if (virtio_wait(&dev, &dev.queue[0], &got) < 0) {
        print("RNG no answer\n");
        return;
    }
    print("RNG %u bytes ", (uint64_t)got);
    for (uint32_t i = 0; i < got && i < len; i++)
        print("%x%x", (uint64_t)(data[i] >> 4), (uint64_t)(data[i] & 15));
    print("\n");
}
