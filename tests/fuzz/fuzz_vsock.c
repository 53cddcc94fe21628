/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_vsock: the input is a list of commands to a guest, to clients and listeners of the host, and
 * to the ring: packets of any kind and length between a few ports, cut into buffers in any way,
 * receive buffers of any shape, bytes of guest memory changed anywhere, kicks, polls, timers,
 * resets, pauses, the loss of the transport. Whatever they are, in the end every connection is gone
 * with its memory and its descriptors.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/vsock_ends.h"
#include "virtio/vsock/vsock_device.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#define FDS      8
#define PORTS    4
#define LISTENER 52u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *at, *end;
};

static uint32_t take(struct input *in, unsigned bytes)
{
    uint32_t value = 0;

    while (bytes-- > 0 && in->at < in->end)
        value = value << 8 | *in->at++;
    return value;
}

static struct vsock_ends ends;
static int client[FDS], listener;
static unsigned held;

/* Ports that connections are likely to have. */
static uint32_t host_port(struct input *in)
{
    uint32_t n = take(in, 1);

    return n & 1 ? LISTENER + (n >> 7) : VSOCK_FIRST_PORT + (n >> 1) % PORTS;
}

static uint32_t guest_port(struct input *in)
{
    uint32_t n = take(in, 1);

    return n & 1 ? ENDS_PORT : 1024 + n % PORTS;
}

/* A packet that is right in most of its parts. */
static void fill_packet(struct input *in, struct vsock_packet *packet)
{
    static const uint32_t lengths[] = {0, 1, 100, 4096, 40000, 65535, 65536, UINT32_MAX};
    static const uint32_t rooms[] = {256 << 10, 1 << 16, 4096, 1, 0, UINT32_MAX};
    uint32_t odd = take(in, 1);

    *packet = (struct vsock_packet){
        .src_cid = ENDS_CID,
        .dst_cid = VSOCK_HOST_CID,
        .src_port = guest_port(in),
        .dst_port = host_port(in),
        .type = VSOCK_TYPE_STREAM,
        .op = (uint16_t)(take(in, 1) % 10),
        .len = lengths[take(in, 1) % ARRAY_SIZE(lengths)],
        .flags = take(in, 1),
        .buf_alloc = rooms[take(in, 1) % ARRAY_SIZE(rooms)],
        .fwd_cnt = take(in, 2),
    };
    if (odd == 1)
        packet->dst_cid = take(in, 1);
    if (odd == 2)
        packet->src_cid = take(in, 1);
    if (odd == 3)
        packet->type = (uint16_t)take(in, 2);
    if (odd == 4)
        packet->fwd_cnt = take(in, 4);
}

/* The guest's packet, in up to four buffers. */
static void send_packet(struct input *in)
{
    struct guest_driver *driver = &ends.driver[VSOCK_TX];
    struct guest_buffer buffer[4];
    struct vsock_packet packet;
    uint32_t left, shape = take(in, 1);
    unsigned count = 1 + shape % 4;
    uint64_t gpa = ends.tx;

    fill_packet(in, &packet);
    left = (uint32_t)sizeof(packet) + MIN(packet.len, (uint32_t)(100 * KIB));
    if (shape & 0x80)
        left = take(in, 2);
    guest_write(driver, ends.tx, &packet, sizeof(packet));
    for (unsigned i = 0; i < count; i++) {
        uint32_t len = i + 1 == count ? left : MIN(left, 1 + take(in, 1) % 64);

        buffer[i] = (struct guest_buffer){gpa, len, false};
        gpa += len;
        left -= len;
    }
    if (shape & 0x40)
        guest_add_indirect(driver, buffer, count);
    else
        guest_add(driver, buffer, count);
}

/* A receive buffer as Linux has it, or of another shape. */
static void offer(struct input *in)
{
    struct guest_driver *driver = &ends.driver[VSOCK_RX];
    uint32_t shape = take(in, 1), cut = take(in, 1);
    uint64_t gpa = 3 * MIB / 2 + (shape % 16) * 8 * KIB;

    if (shape & 0x80)
        guest_add(driver,
                  (struct guest_buffer[]){{gpa, cut, true}, {gpa + cut, ENDS_RX_SIZE - cut, true}},
                  2);
    else if (shape & 0x40)
        guest_add(driver, &(struct guest_buffer){gpa, cut, cut & 1}, 1);
    else
        guest_add(driver, &(struct guest_buffer){gpa, ENDS_RX_SIZE, true}, 1);
}

/* A client that waits at the device's socket, which would wait for one; -EAGAIN if there is none.
 */
static int take_client(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, 0) == 1 ? accept4(fd, NULL, NULL, SOCK_CLOEXEC) : -EAGAIN;
}

/* One operation of the ring, as a real one would end or as none ever does. */
static void complete(struct input *in)
{
    static const int results[] = {-ECANCELED, -EPIPE, -ENOMEM, -EAGAIN, -EINTR, 0};
    unsigned count = fake_loop_count(ends.loop), how = take(in, 1), index;
    struct fake_op op;
    int res = results[how % ARRAY_SIZE(results)];

    if (count == 0)
        return;
    index = take(in, 1) % count;
    op = *fake_loop_op(ends.loop, index);
    if (op.cancelled)
        res = -ECANCELED;
    else if (op.verb == FAKE_TIMER)
        res = -ETIME;
    else if (op.verb == FAKE_ACCEPT)
        res = how & 0x80 ? -EMFILE : take_client(op.fd);
    else if (op.verb == FAKE_POLL && !(how & 0x80))
        res = how & 0x40 ? POLLIN | POLLHUP : POLLIN;
    if (op.verb == FAKE_ACCEPT && res == -EAGAIN)
        return;
    fake_loop_complete(ends.loop, index, res, op.multishot && res >= 0);
}

static void act_as_host(struct input *in)
{
    static const char *const words[] = {
        "CONNECT 5000\n", "CONNECT 1024\nhello", "CONN", "\n", "connect 5000", "x"};
    uint32_t how = take(in, 1), which = take(in, 1) % FDS;
    static char bytes[128 * 1024];

    if (client[which] < 0) {
        client[which] = how & 1 ? ends_client(&ends) : accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        return;
    }
    switch (how % 6) {
    case 0:
        close(client[which]);
        client[which] = -1;
        break;
    case 1:
        shutdown(client[which], (int)(how >> 3) % 3);
        break;
    case 2:
        (void)!read(client[which], bytes, sizeof(bytes));
        break;
    case 3:
        (void)!send(client[which], bytes, (how >> 3) * 4000, MSG_NOSIGNAL);
        break;
    default:
        (void)!send(client[which], words[(how >> 3) % ARRAY_SIZE(words)],
                    strlen(words[(how >> 3) % ARRAY_SIZE(words)]), MSG_NOSIGNAL);
        break;
    }
}

static void command(struct input *in)
{
    switch (take(in, 1) % 16) {
    case 0:
    case 1:
    case 2:
        send_packet(in);
        virtio_dev_kick(ends.dev, VSOCK_TX);
        break;
    case 3:
        offer(in);
        break;
    case 4:
        virtio_dev_kick(ends.dev, take(in, 1) % 4);
        break;
    case 5:
    case 6:
        complete(in);
        break;
    case 7:
    case 8:
    case 9:
        act_as_host(in);
        break;
    case 10:
        ends_run(&ends);
        break;
    case 11: /* the rings, mostly */
        guest_write16(&ends.driver[0], (take(in, 1) % 3) * 2 * MIB + take(in, 2),
                      (uint16_t)take(in, 2));
        break;
    case 12:
        if (take(in, 1) % 8 == 0)
            ends_start(&ends, take(in, 1) % ENDS_QUEUE);
        break;
    case 13:
        if (held++ % 2 == 0)
            virtio_dev_quiesce(ends.dev);
        else
            virtio_dev_resume(ends.dev);
        break;
    case 14:
        if (take(in, 1) % 8 == 0)
            vsock_reset_connections(ends.vsock);
        break;
    default:
        fake_loop_end_turn(ends.loop);
        break;
    }
}

/* All that is waited for comes too late. */
static void expire(void)
{
    struct vsock_link *all = &ends.vsock->table.all;

    for (struct vsock_link *link = all->next; link != all; link = link->next)
        container_of(link, struct vsock_conn, all)->deadline_ns = 0;
    for (unsigned i = fake_loop_count(ends.loop); i-- > 0;)
        if (i < fake_loop_count(ends.loop) && fake_loop_op(ends.loop, i)->verb == FAKE_TIMER)
            fake_loop_complete(ends.loop, i, -ETIME, false);
    ends_run(&ends);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};

    log_set_options(&(struct log_options){.level = LOG_OFF});
    held = 0;
    ends_open(&ends, 8);
    listener = ends_listener(&ends, LISTENER, 2);
    for (unsigned i = 0; i < FDS; i++)
        client[i] = -1;

    while (in.at < in.end)
        command(&in);

    if (held % 2 == 1)
        virtio_dev_resume(ends.dev);
    virtio_dev_write_status(ends.dev, 0);
    for (unsigned i = 0; i < FDS; i++)
        if (client[i] >= 0)
            close(client[i]);
    close(listener);
    ends_run(&ends);
    for (int i = 0; i < 3; i++) /* clients may have waited for the socket to be listened to again */
        expire();
    BUG_ON(!virtio_dev_is_idle(ends.dev) || ends.vsock->table.count > 0 ||
           link_is_used(&ends.vsock->table.all) || ends.vsock->streams > 0);
    ends_close(&ends);
    return 0;
}
