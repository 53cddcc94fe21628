/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_pmem: the input is a list of commands to a guest with persistent memory and to the ring:
 * requests of any kind, cut in any way, in RAM and in the persistent memory itself, bytes of guest
 * memory changed anywhere, kicks, fsyncs that end in any way, resets, pauses, other limits.
 * Whatever they are, in the end everything in flight ends, and the file is as long as it was.
 */
#include "tests/fuzz/fuzz_device.h"
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "virtio/memory/pmem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#define RAM        (8 * MIB)
#define QUEUE_SIZE 64
#define FILE_SIZE  (64 * KIB + 100)

struct fixture {
    struct loop *loop;
    struct pmem *pmem;
    struct virtio_dev *dev;
    struct guest_driver driver;
    gpa_t start;
    uint64_t size;
    unsigned held;
    bool read_only;
};

static struct mem mem;

/* A request of up to 8 buffers, whose sizes and places the input chooses. */
static void add_request(struct fixture *f, struct input *in)
{
    static const uint32_t sizes[] = {4, 1, 2, 3, 8, 4096, 0, 5};
    struct guest_buffer buffers[8];
    unsigned count = 1 + take(in, 1) % 8, readable = take(in, 1) % (count + 1);
    unsigned how = take(in, 1);
    uint32_t type = how & 1 ? take(in, 1) : 0;

    for (unsigned i = 0; i < count; i++) {
        uint32_t len = sizes[take(in, 1) % ARRAY_SIZE(sizes)];
        uint64_t gpa = guest_alloc(&f->driver, len);

        if (f->driver.heap > RAM - MIB)
            f->driver.heap = 4 * MIB;
        if (how & 4) /* in the persistent memory, or over its end */
            gpa = f->start.v + take(in, 3) % (f->size + 16);
        buffers[i] = (struct guest_buffer){gpa, len, i >= readable};
    }
    if (mem_write(&mem, GPA(buffers[0].gpa), &type, sizeof(type)) < 0)
        take(in, 1); /* it is read-only, or over the end */
    if (how & 2)
        guest_add_indirect(&f->driver, buffers, count);
    else
        guest_add(&f->driver, buffers, count);
}

/* The rings are in RAM, or in the persistent memory. */
static void restart(struct fixture *f, bool inside)
{
    uint64_t base = inside && !f->read_only ? f->start.v : 0x1000;

    memset(mem.region[0].hva, 0, 64 * KIB);
    guest_driver_init(&f->driver, &mem, base, inside ? 16 : QUEUE_SIZE);
    if (inside)
        f->driver.heap = 4 * MIB;
    guest_start(f->dev, &f->driver, virtio_dev_features(f->dev));
}

static void complete(struct fixture *f, struct input *in)
{
    static const int results[] = {0, 0, -EIO, -ENOSPC, -ECANCELED, -EINTR};
    unsigned count = fake_loop_count(f->loop);

    if (count > 0)
        fake_loop_complete(f->loop, take(in, 1) % count, results[take(in, 1) % ARRAY_SIZE(results)],
                           false);
}

static void change_limits(struct fixture *f, struct input *in)
{
    struct rate_limiter_config patch = {
        .has_bandwidth = take(in, 1) & 1,
        .has_ops = take(in, 1) & 1,
        .bandwidth = {.size = take(in, 2), .refill_ms = take(in, 1)},
        .ops = {.size = take(in, 1), .refill_ms = take(in, 1), .one_time_burst = take(in, 1)},
    };

    pmem_update(f->pmem, &patch);
}

static void change_memory(struct fixture *f, struct input *in)
{
    uint16_t gpa = (uint16_t)take(in, 2), value = (uint16_t)take(in, 2);

    if (take(in, 1) & 1)
        guest_write16(&f->driver, gpa, value); /* the rings, mostly */
    else if (mem_write(&mem, gpa_add(f->start, gpa), &value, sizeof(value)) < 0)
        BUG_ON(!f->read_only);
}

static void command(struct fixture *f, struct input *in)
{
    switch (take(in, 1) % 10) {
    case 0:
    case 1:
    case 2:
        add_request(f, in);
        break;
    case 3:
        virtio_dev_kick(f->dev, 0);
        break;
    case 4:
    case 5:
        complete(f, in);
        break;
    case 6:
        change_memory(f, in);
        break;
    case 7:
        restart(f, take(in, 1) & 1);
        break;
    case 8:
        fuzz_pause_or_resume(f->dev, &f->held);
        break;
    default:
        if (take(in, 1) % 2)
            change_limits(f, in);
        else
            fake_loop_end_turn(f->loop);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct virtio_env env = fuzz_env(&mem, RAM);
    struct fixture f = {.loop = env.loop};
    int fd = memfd_create("pmem", MFD_CLOEXEC);
    char path[64], id[] = "fuzz";
    struct pmem_config config = {.id = id, .path = path};
    uint32_t how = take(&in, 1);

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    BUG_ON(ftruncate(fd, (off_t)FILE_SIZE) < 0);
    f.read_only = config.read_only = how & 1;
    config.has_limiter = how & 2;
    config.limiter = (struct rate_limiter_config){.has_ops = true,
                                                  .ops = {.size = 1 + (how >> 4), .refill_ms = 1}};
    BUG_ON(pmem_create(&f.pmem, &env, &config, NULL) < 0);
    f.dev = pmem_dev(f.pmem);
    f.start = mem_device_base(&mem, PMEM_ALIGNMENT);
    BUG_ON(pmem_map(f.pmem, f.start, &f.size, NULL) < 0);
    restart(&f, false);

    while (in.at < in.end)
        command(&f, &in);

    fake_loop_settle(f.loop);
    BUG_ON(!virtio_dev_is_idle(f.dev));
    BUG_ON(lseek(fd, 0, SEEK_END) != (off_t)FILE_SIZE);
    virtio_dev_destroy(f.dev);
    BUG_ON(mem.device_count != 0);
    loop_destroy(f.loop);
    close(fd);
    return 0;
}
