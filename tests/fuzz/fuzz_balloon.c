/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_balloon: the input is a list of commands to a guest, to a client and to the ring: requests
 * of every queue, cut in any way, with any pages (the rings' own among them), bytes of guest memory
 * changed anywhere, kicks, the timer's end, resets with any features and both ways to number
 * queues, pauses, new sizes and intervals, runs of hints. Between any two of them nothing is in
 * flight but the one buffer of statistics that may be held, its timer, and that of blocks that are
 * not complete; and in a pause not even these, once the loop has turned.
 */
#include "tests/fuzz/fuzz_device.h"
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "virtio/memory/balloon_parts.h"

#include <errno.h>
#include <string.h>

#define RAM        (8 * MIB)
#define QUEUE_SIZE 16
#define QUEUES     5
#define HEAP       (2 * MIB) /* of the drivers, one behind the other, with their rings */

struct fixture {
    struct loop *loop;
    struct balloon *balloon;
    struct virtio_dev *dev;
    struct guest_driver driver[QUEUES];
    unsigned held;
};

static struct mem mem;

/* ---- the guest ---- */

/* Some memory of guest_driver's heap; a little is used again and again. */
static uint64_t room(struct guest_driver *driver, uint64_t len)
{
    if (driver->heap + len > RAM)
        driver->heap = HEAP;
    return guest_alloc(driver, MIN(len, RAM - HEAP));
}

/* Words in readable buffers: page numbers, commands, entries of statistics. */
static unsigned add_words(struct guest_driver *driver, struct input *in,
                          struct guest_buffer buffer[4])
{
    unsigned count = 1 + take(in, 1) % 4, words = take(in, 1);

    for (unsigned i = 0; i < count; i++) {
        uint32_t len = (uint32_t)(words * 4 / count + (i == 0 ? take(in, 1) % 5 : 0));

        buffer[i] = (struct guest_buffer){room(driver, len), len, false};
        for (uint32_t at = 0; at + 4 <= len; at += 4) {
            uint32_t value = in->at < in->end ? take(in, 1 + at / 4 % 2) : at;

            guest_write(driver, buffer[i].gpa + at, &value, sizeof(value));
        }
    }
    return count;
}

/* Ranges of any memory, as writable buffers. */
static unsigned add_ranges(struct input *in, struct guest_buffer buffer[4])
{
    unsigned count = 1 + take(in, 1) % 4;

    for (unsigned i = 0; i < count; i++)
        buffer[i] = (struct guest_buffer){(uint64_t)take(in, 2) << (take(in, 1) % 10),
                                          take(in, 2) << (take(in, 1) % 9), true};
    return count;
}

static void add_request(struct fixture *f, struct input *in)
{
    struct guest_driver *driver = &f->driver[take(in, 1) % QUEUES];
    struct guest_buffer buffer[8];
    unsigned how = take(in, 1), count = 0;

    if (how & 1)
        count += add_words(driver, in, buffer);
    if (how & 2)
        count += add_ranges(in, buffer + count);
    if (count == 0)
        buffer[count++] = (struct guest_buffer){room(driver, 4), 4, how & 4};
    if (how & 8)
        guest_add_indirect(driver, buffer, count);
    else
        guest_add(driver, buffer, count);
}

/* A command of the driver about hints, which a random word would seldom be. */
static void add_command(struct fixture *f, struct input *in)
{
    struct balloon_hinting_status status = {0};
    struct guest_driver *driver = &f->driver[BALLOON_HINTS];
    struct guest_buffer buffer = {room(driver, 4), 4, false};
    uint32_t cmd = take(in, 1) % 4;

    if (cmd > 1 && balloon_hinting_status(f->balloon, &status, NULL) == 0)
        cmd = status.host_cmd;
    guest_write(driver, buffer.gpa, &cmd, sizeof(cmd));
    guest_add(driver, &buffer, 1);
}

static void set_up_queues(struct fixture *f, uint32_t which)
{
    for (unsigned q = 0; q < f->dev->ops->n_queues; q++) {
        struct virtqueue_state *queue = virtio_dev_queue_setup(f->dev, q);

        if (queue && which & 1u << q)
            guest_driver_set_up(&f->driver[q], queue);
    }
}

static void restart(struct fixture *f, uint32_t features, uint32_t queues)
{
    uint64_t offered = virtio_dev_features(f->dev);

    memset(mem.region[0].hva, 0, HEAP);
    for (unsigned q = 0; q < QUEUES; q++) {
        guest_driver_init(&f->driver[q], &mem, PAGE_SIZE + q * (HEAP / 8), QUEUE_SIZE);
        f->driver[q].heap = HEAP;
    }
    virtio_dev_write_status(f->dev, 0);
    virtio_dev_write_status(f->dev, 1);
    virtio_dev_write_status(f->dev, 3);
    virtio_dev_write_features(f->dev, 0, (uint32_t)offered & (features | ~UINT32_C(0x3f)));
    virtio_dev_write_features(f->dev, 1, (uint32_t)(offered >> 32));
    virtio_dev_write_status(f->dev, 11);
    set_up_queues(f, queues);
    virtio_dev_write_status(f->dev, 15);
}

/* ---- the client and the ring ---- */

static void ask(struct fixture *f, struct input *in)
{
    struct balloon_hinting_status status;
    struct balloon_stats stats;
    struct err e;
    int rc = 0;

    switch (take(in, 1) % 6) {
    case 0:
        rc = balloon_update(f->balloon, take(in, 1), &e);
        break;
    case 1:
        rc = balloon_update_stats(f->balloon, (uint16_t)take(in, 2), &e);
        break;
    case 2:
        rc = balloon_stats(f->balloon, &stats, &e);
        break;
    case 3:
        rc = balloon_hinting_start(f->balloon, take(in, 1) & 1, &e);
        break;
    case 4:
        rc = balloon_hinting_stop(f->balloon, &e);
        break;
    default:
        rc = balloon_hinting_status(f->balloon, &status, &e);
        break;
    }
    BUG_ON(rc != 0 && rc != -EINVAL);
}

static void complete(struct fixture *f, struct input *in)
{
    unsigned count = fake_loop_count(f->loop), index = take(in, 1);

    if (count > 0)
        fake_loop_complete(f->loop, index % count, fake_loop_carry_out(f->loop, index % count),
                           false);
}

static void pause_or_resume(struct fixture *f)
{
    if (f->held++ % 2 == 0) {
        virtio_dev_quiesce(f->dev);
        for (unsigned i = 0; i < BALLOON_BLOCKS; i++)
            BUG_ON(f->balloon->block[i].count > 0);
    } else {
        virtio_dev_resume(f->dev);
    }
}

static void command(struct fixture *f, struct input *in)
{
    uint32_t gpa;

    switch (take(in, 1) % 12) {
    case 0:
    case 1:
    case 2:
        add_request(f, in);
        break;
    case 3:
        add_command(f, in);
        break;
    case 4:
    case 5:
        virtio_dev_kick(f->dev, take(in, 1) % QUEUES);
        break;
    case 6:
        fake_loop_end_turn(f->loop);
        break;
    case 7:
        complete(f, in);
        break;
    case 8: /* the rings, mostly */
        gpa = take(in, 3) % (RAM - 1);
        guest_write16(&f->driver[0], gpa, (uint16_t)take(in, 2));
        break;
    case 9:
        restart(f, take(in, 1), take(in, 1) | 3);
        break;
    case 10:
        pause_or_resume(f);
        break;
    default:
        ask(f, in);
        break;
    }
}

static void check(const struct fixture *f)
{
    unsigned timers = fake_loop_count_verb(f->loop, FAKE_TIMER), in_flight = 0;

    for (unsigned q = 0; q < f->dev->ops->n_queues; q++)
        in_flight += f->dev->queue[q].in_flight;
    BUG_ON(in_flight > 1 || timers > 2 || fake_loop_count(f->loop) != timers);
    BUG_ON(f->dev->in_flight != timers);
    BUG_ON(f->held % 2 && in_flight > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct virtio_env env = fuzz_env(&mem, RAM);
    struct fixture f = {.loop = env.loop};
    uint32_t how = take(&in, 1);
    struct balloon_config config = {
        .amount_mib = 1,
        .deflate_on_oom = how & 1,
        .stats_interval_s = how & 2 ? 1 : 0,
        .free_page_hinting = how & 4,
        .free_page_reporting = how & 8,
    };

    BUG_ON(balloon_create(&f.balloon, &env, &config, NULL) < 0);
    f.dev = balloon_dev(f.balloon);
    restart(&f, UINT32_MAX, UINT32_MAX);

    while (in.at < in.end) {
        command(&f, &in);
        check(&f);
    }

    virtio_dev_write_status(f.dev, 0);
    fake_loop_settle(f.loop);
    BUG_ON(!virtio_dev_is_idle(f.dev) || fake_loop_count(f.loop) > 0);
    virtio_dev_destroy(f.dev);
    loop_destroy(f.loop);
    return 0;
}
