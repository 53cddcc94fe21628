/* SPDX-License-Identifier: Apache-2.0 */
/* net_fixture.c: the device, its tap and its driver. */
#include "tests/unit/net_fixture.h"

#include <string.h>

#define QUEUE_BASE 0x1000
#define QUEUE_STEP (6 * MIB)

static char id[] = "eth0", tap_name[] = "tap0";

void net_set_up(struct net_fixture *f, const struct net_config *config, uint64_t features)
{
    struct net_config own = config ? *config : (struct net_config){0};
    struct virtio_env env = {.mem = &f->mem};

    *f = (struct net_fixture){0};
    assert_int_equal(mem_create(&f->mem, NET_RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    env.mem = &f->mem;
    env.loop = f->loop;
    own.id = id;
    own.tap = tap_name;
    assert_int_equal(net_create(&f->net, &env, &own, NULL), 0);
    f->dev = net_dev(f->net);
    f->metrics = net_metrics(f->net);
    if (features)
        assert_int_equal(net_restart(f, features), 15);
}

void net_tear_down(struct net_fixture *f)
{
    virtio_dev_quiesce(f->dev);
    fake_loop_settle(f->loop);
    assert_true(virtio_dev_is_idle(f->dev));
    virtio_dev_destroy(f->dev);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
}

uint32_t net_restart(struct net_fixture *f, uint64_t features)
{
    for (unsigned q = 0; q < NET_QUEUES; q++) {
        uint64_t base = QUEUE_BASE + q * QUEUE_STEP;

        memset(mem_writable(&f->mem, GPA(base), 64 * KIB), 0, 64 * KIB);
        guest_driver_init(&f->driver[q], &f->mem, base, NET_QUEUE_SIZE);
    }
    return guest_start(f->dev, f->driver, features);
}

void net_kick_settle(struct net_fixture *f, unsigned q)
{
    virtio_dev_kick(f->dev, q);
    fake_loop_settle(f->loop);
}

uint64_t net_add_buffers(struct net_fixture *f, unsigned count, uint32_t len)
{
    struct guest_driver *driver = &f->driver[NET_RX];
    uint64_t first = driver->heap;

    while (count-- > 0)
        guest_add(driver, &(struct guest_buffer){guest_alloc(driver, len), len, true}, 1);
    return first;
}

void net_make_frame(uint8_t *frame, size_t len, unsigned seed)
{
    memset(frame, 0, TAP_HEADER_SIZE);
    for (size_t i = TAP_HEADER_SIZE; i < len; i++)
        frame[i] = (uint8_t)(seed + i * 7 + i / 251);
}

uint16_t net_add_frame(struct net_fixture *f, const uint8_t *frame, size_t len)
{
    struct guest_driver *driver = &f->driver[NET_TX];
    uint64_t gpa = guest_alloc(driver, len);

    guest_write(driver, gpa, frame, len);
    return guest_add(driver, &(struct guest_buffer){gpa, (uint32_t)len, false}, 1);
}

void net_host_sends(struct net_fixture *f, size_t len, unsigned seed)
{
    static uint8_t frame[NET_RX_FRAME_MAX];

    (void)f;
    net_make_frame(frame, len, seed);
    assert_true(fake_tap_send(frame, len));
}

/* The buffer of a chain that is one direct descriptor. */
static struct virtq_desc buffer_of(const struct guest_driver *driver, uint32_t head)
{
    struct virtq_desc desc;

    guest_read(driver, driver->desc + head * sizeof(desc), &desc, sizeof(desc));
    return desc;
}

void net_expect_received(struct net_fixture *f, size_t len, unsigned seed)
{
    static uint8_t wanted[NET_RX_FRAME_MAX], came[NET_RX_FRAME_MAX];
    struct guest_driver *driver = &f->driver[NET_RX];
    struct virtq_used_elem used;
    uint16_t buffers = 0, said = 0;
    size_t done = 0;

    while (done < len) {
        assert_true(guest_take_used(driver, &used));
        assert_true(done + used.len <= len);
        guest_read(driver, buffer_of(driver, used.id).addr, came + done, used.len);
        done += used.len;
        buffers++;
    }
    memcpy(&said, came + TAP_HEADER_NUM_BUFFERS, sizeof(said));
    assert_int_equal(said, buffers);
    net_make_frame(wanted, len, seed);
    assert_memory_equal(came + TAP_HEADER_SIZE, wanted + TAP_HEADER_SIZE, len - TAP_HEADER_SIZE);
}

void net_expect_sent(struct net_fixture *f, size_t len, unsigned seed)
{
    static uint8_t wanted[TAP_FRAME_MAX], came[TAP_FRAME_MAX];

    (void)f;
    net_make_frame(wanted, len, seed);
    assert_int_equal(fake_tap_receive(came, sizeof(came)), len);
    assert_memory_equal(came, wanted, len);
}
