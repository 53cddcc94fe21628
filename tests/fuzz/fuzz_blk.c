/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_blk: the input is a list of commands to a guest and to the ring: requests of any kind, cut
 * in any way, bytes of guest memory changed anywhere, kicks, completions in any order with any
 * result, resets, pauses, another file. The drive may have an overlay. Whatever they are, in the
 * end everything in flight ends.
 */
#include "tests/fuzz/fuzz_device.h"
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "virtio/block/blk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#define RAM        (8 * MIB)
#define QUEUE_SIZE 64
#define DISK       (256 * KIB)

struct fixture {
    struct loop *loop;
    struct blk *blk;
    struct virtio_dev *dev;
    struct guest_driver driver;
    unsigned held;
};

static struct mem mem;

/* A request of up to 16 buffers, whose sizes the input chooses. */
static void add_request(struct fixture *f, struct input *in)
{
    static const uint8_t types[] = {0, 1, 4, 8, 11, 13, 2, 0xff};
    struct {
        uint32_t type, reserved;
        uint64_t sector;
        uint64_t segment_sector;
        uint32_t segment_sectors, segment_flags;
    } header = {.type = types[take(in, 1) % sizeof(types)], .sector = take(in, 2)};
    struct guest_buffer buffers[16];
    unsigned count = 1 + take(in, 1) % 16, readable = take(in, 1) % (count + 1);
    bool indirect = take(in, 1) & 1;

    header.segment_sector = take(in, 2);
    header.segment_sectors = take(in, 2);
    header.segment_flags = take(in, 1) & 3;
    for (unsigned i = 0; i < count; i++) {
        static const uint32_t sizes[] = {16, 512, 1, 32, 513, 4096, 20, 0};
        uint32_t len = sizes[take(in, 1) % ARRAY_SIZE(sizes)];

        if (f->driver.heap + len > RAM - MIB)
            f->driver.heap = 4 * MIB;
        buffers[i] = (struct guest_buffer){guest_alloc(&f->driver, len), len, i >= readable};
        if (i == 0)
            guest_write(&f->driver, buffers[0].gpa, &header, sizeof(header));
    }
    if (indirect)
        guest_add_indirect(&f->driver, buffers, count);
    else
        guest_add(&f->driver, buffers, count);
}

static void restart(struct fixture *f)
{
    memset(mem.region[0].hva, 0, 64 * KIB);
    guest_driver_init(&f->driver, &mem, 0x1000, QUEUE_SIZE);
    guest_start(f->dev, &f->driver, virtio_dev_features(f->dev));
}

static void complete(struct fixture *f, struct input *in)
{
    static const int results[] = {-EIO, -EAGAIN, -EINTR, -EOPNOTSUPP, 0, 1, 511, -ECANCELED};
    unsigned count = fake_loop_count(f->loop), how = take(in, 1), index;

    if (count == 0)
        return;
    index = take(in, 1) % count;
    if (how < 128)
        fake_loop_complete(f->loop, index, fake_loop_carry_out(f->loop, index), false);
    else
        fake_loop_complete(f->loop, index, results[how % ARRAY_SIZE(results)], false);
}

static void command(struct fixture *f, struct input *in, char *path)
{
    uint32_t gpa;

    switch (take(in, 1) % 10) {
    case 0:
    case 1:
        add_request(f, in);
        break;
    case 2:
        virtio_dev_kick(f->dev, 0);
        break;
    case 3:
    case 4:
        complete(f, in);
        break;
    case 5:
        fake_loop_end_turn(f->loop);
        break;
    case 6: /* the rings, mostly */
        gpa = take(in, 2);
        guest_write16(&f->driver, gpa, (uint16_t)take(in, 2));
        break;
    case 7:
        restart(f);
        break;
    case 8:
        fuzz_pause_or_resume(f->dev, &f->held);
        break;
    default:
        if (take(in, 1) % 8 == 0)
            BUG_ON((blk_update(f->blk, path, NULL, NULL) < 0) != (blk_overlay(f->blk) != NULL));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct virtio_env env = fuzz_env(&mem, RAM);
    struct fixture f = {.loop = env.loop};
    int fd = memfd_create("disk", MFD_CLOEXEC);
    int top = memfd_create("overlay", MFD_CLOEXEC);
    char path[64], top_path[64], id[] = "fuzz";
    struct blk_config config = {.id = id, .path = path};
    uint32_t how = take(&in, 1);

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    BUG_ON(ftruncate(fd, DISK) < 0);
    config.engine = how & 1 ? BLK_ENGINE_ASYNC : BLK_ENGINE_SYNC;
    config.cache = how & 2 ? BLK_CACHE_WRITEBACK : BLK_CACHE_UNSAFE;
    config.read_only = how & 4;
    config.discard = (how & 5) == 0;
    config.has_limiter = how & 8;
    config.limiter = (struct rate_limiter_config){.has_ops = true,
                                                  .ops = {.size = 1 + (how >> 4), .refill_ms = 1}};
    config.overlay.type = config.read_only ? BLK_OVERLAY_NONE : take(&in, 1) % 3;
    snprintf(top_path, sizeof(top_path), "/proc/self/fd/%d", top);
    config.overlay.path = config.overlay.type == BLK_OVERLAY_FILE ? top_path : NULL;
    BUG_ON(blk_create(&f.blk, &env, &config, NULL) < 0);
    f.dev = blk_dev(f.blk);
    restart(&f);

    while (in.at < in.end)
        command(&f, &in, path);

    fake_loop_settle(f.loop);
    BUG_ON(!virtio_dev_is_idle(f.dev));
    virtio_dev_destroy(f.dev);
    loop_destroy(f.loop);
    close(fd);
    close(top);
    return 0;
}
