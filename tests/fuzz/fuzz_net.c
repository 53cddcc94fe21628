/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_net: the input is a list of commands to a guest, to the host behind the tap and to the ring:
 * buffers and frames of any size, cut in any way, bytes of guest memory changed anywhere, kicks,
 * completions in any order with any result, failing taps, limits, resets, pauses. Whatever they
 * are, in the end everything in flight ends, and no chain is out.
 */
#include "tests/fuzz/fuzz_device.h"
#include "tests/support/fake_loop.h"
#include "tests/support/fake_tap.h"
#include "tests/support/guest_driver.h"
#include "virtio/net/device.h"

#include <errno.h>
#include <string.h>

#define RAM        (8 * MIB)
#define QUEUE_SIZE 64
#define QUEUE_STEP (4 * MIB)

struct fixture {
    struct loop *loop;
    struct net *net;
    struct virtio_dev *dev;
    struct guest_driver driver[NET_QUEUES];
    uint64_t features;
    unsigned held;
};

static struct mem mem;

/* A chain of up to 8 buffers; those of the transmit queue hold whatever was there before. */
static void add_chain(struct fixture *f, struct input *in, unsigned q)
{
    static const uint32_t sizes[] = {1536, 12, 1, 14, 4096, 65562, 11, 0, 100, 2048, 513, 65536};
    struct guest_driver *driver = &f->driver[q];
    struct guest_buffer buffer[8];
    uint32_t how = take(in, 1);
    unsigned count = how & 8 ? 1 + take(in, 1) % 8 : 1;

    for (unsigned i = 0; i < count; i++) {
        uint32_t len = sizes[take(in, 1) % ARRAY_SIZE(sizes)];
        bool writable = (q == NET_RX) != ((how & 0xf0) == 0xf0);

        if (driver->heap + len > (q + 1) * QUEUE_STEP)
            driver->heap = (q + 1) * QUEUE_STEP - MIB;
        buffer[i] = (struct guest_buffer){guest_alloc(driver, len), len, writable};
        /* A header whose fields are of the input; the rest of the guest's memory is not looked at.
         */
        if (q == NET_TX && len >= TAP_HEADER_SIZE && (how & 1)) {
            uint8_t header[TAP_HEADER_SIZE];

            for (unsigned k = 0; k < sizeof(header); k++)
                header[k] = (uint8_t)take(in, 1);
            guest_write(driver, buffer[i].gpa, header, sizeof(header));
        }
    }
    if (how & 4)
        guest_add_indirect(driver, buffer, count);
    else
        guest_add(driver, buffer, count);
}

static void host_sends(struct input *in)
{
    static const uint32_t sizes[] = {64, 1526, 1527, 12, 9000, 65562, 65580, 11, 4096};
    static uint8_t frame[NET_RX_FRAME_MAX];
    uint32_t len = sizes[take(in, 1) % ARRAY_SIZE(sizes)];

    frame[1] = (uint8_t)(take(in, 1) & 1);
    (void)fake_tap_send(frame, len);
}

static void restart(struct fixture *f, uint32_t how)
{
    f->features = virtio_dev_features(f->dev);
    if (how & 1)
        f->features &= ~NET_F_MRG_RXBUF;
    if (how & 2)
        f->features &= ~VIRTIO_F_EVENT_IDX;
    if (how & 4)
        f->features &= ~(NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_UFO);
    for (unsigned q = 0; q < NET_QUEUES; q++) {
        uint64_t base = q * QUEUE_STEP + 0x1000;

        memset(mem.region[0].hva + base, 0, 32 * KIB);
        guest_driver_init(&f->driver[q], &mem, base, QUEUE_SIZE);
    }
    guest_start(f->dev, f->driver, f->features);
}

static void complete(struct fixture *f, struct input *in)
{
    static const int results[] = {-EIO, -EAGAIN, -EINTR, -EBADFD, 0,     11,        12,
                                  64,   1526,    4000,   -EFAULT, 70000, -ECANCELED};
    unsigned count = fake_loop_count(f->loop), how = take(in, 1), index;
    int res;

    if (count == 0)
        return;
    index = take(in, 1) % count;
    res = fake_loop_carry_out(f->loop, index);
    if (how >= 128) {
        const struct fake_op *op = fake_loop_op(f->loop, index);

        res = results[how % ARRAY_SIZE(results)];
        if (res > 0) /* the kernel never says more than it was offered */
            res = (int)MIN((uint64_t)res, op->len);
    }
    fake_loop_complete(f->loop, index, res, false);
}

static void limit(struct fixture *f, struct input *in)
{
    uint32_t how = take(in, 1);
    struct rate_limiter_config limiter = {
        .has_ops = how & 1,
        .has_bandwidth = how & 2,
        .ops = {.size = take(in, 1), .refill_ms = how >> 6},
        .bandwidth = {.size = take(in, 2), .refill_ms = 1, .one_time_burst = take(in, 1)},
    };

    net_update(f->net, how & 4 ? &limiter : NULL, how & 8 ? &limiter : NULL);
}

static void command(struct fixture *f, struct input *in)
{
    static const int errors[] = {0, 0, -EIO, -EBADFD, -EFAULT, -EINVAL};
    uint8_t frame[64];
    uint32_t value;

    switch (take(in, 1) % 14) {
    case 0:
    case 1:
        add_chain(f, in, NET_RX);
        break;
    case 2:
    case 3:
        add_chain(f, in, NET_TX);
        break;
    case 4:
        virtio_dev_kick(f->dev, take(in, 1) % 3);
        break;
    case 5:
    case 6:
        host_sends(in);
        break;
    case 7:
        complete(f, in);
        break;
    case 8:
        fake_loop_end_turn(f->loop);
        break;
    case 9: /* the rings, mostly */
        value = take(in, 1);
        guest_write16(&f->driver[0], (value & 1) * QUEUE_STEP + 0x1000 + take(in, 2) % 0x3000,
                      (uint16_t)take(in, 2));
        break;
    case 10:
        restart(f, take(in, 1));
        break;
    case 11:
        fuzz_pause_or_resume(f->dev, &f->held);
        break;
    case 12:
        limit(f, in);
        break;
    default:
        value = take(in, 1);
        if (value < 240)
            while (fake_tap_receive(frame, sizeof(frame)) >= 0)
                ;
        else
            fake_tap_fail(errors[value % ARRAY_SIZE(errors)]);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct virtio_env env = fuzz_env(&mem, RAM);
    struct fixture f = {.loop = env.loop};
    char id[] = "fuzz", tap[] = "tap";
    struct net_config config = {.id = id, .tap = tap, .has_mac = true};

    BUG_ON(net_create(&f.net, &env, &config, NULL) < 0);
    f.dev = net_dev(f.net);
    restart(&f, take(&in, 1));

    while (in.at < in.end)
        command(&f, &in);

    fake_tap_fail(0);
    virtio_dev_quiesce(f.dev);
    fake_loop_settle(f.loop);
    BUG_ON(!virtio_dev_is_idle(f.dev));
    if (!f.dev->broken)
        for (unsigned q = 0; q < NET_QUEUES; q++)
            BUG_ON(f.dev->queue[q].in_flight != 0);
    virtio_dev_destroy(f.dev);
    loop_destroy(f.loop);
    return 0;
}
