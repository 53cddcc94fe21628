/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_ends.c: both ends of a socket device under test. */
#include "tests/support/vsock_ends.h"

#include "tests/support/fake_loop.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/un.h>

#define RAM (8 * MIB)

/* ---- both ---- */

void ends_start(struct vsock_ends *ends, unsigned rx)
{
    for (unsigned q = 0; q < ARRAY_SIZE(ends->driver); q++) {
        memset(ends->mem.region[0].hva + 2 * MIB * q, 0, 64 * KIB);
        guest_driver_init(&ends->driver[q], &ends->mem, 0x1000 + 2 * MIB * q, ENDS_QUEUE);
    }
    ends->tx = guest_alloc(&ends->driver[1], 128 * KIB);
    memset(ends->rx_gpa, 0, sizeof(ends->rx_gpa));
    ends->alloc = 256 * KIB;
    ends->forwarded = 0;
    guest_start(ends->dev, ends->driver, ENDS_FEATURES);
    ends_offer(ends, rx);
    virtio_dev_kick(ends->dev, 0);
    fake_loop_end_turn(ends->loop);
}

void ends_open(struct vsock_ends *ends, unsigned rx)
{
    struct virtio_env env = {.mem = &ends->mem};
    struct vsock_config config = {.guest_cid = ENDS_CID, .uds_path = ends->path};

    if (ends->mem.count == 0) {
        strcpy(ends->dir, "/tmp/mayfly-vsock-XXXXXX");
        BUG_ON(!mkdtemp(ends->dir));
        snprintf(ends->path, sizeof(ends->path), "%s/v", ends->dir);
        BUG_ON(mem_create(&ends->mem, RAM, MEM_PAGES_DEFAULT, true, NULL) < 0);
    }
    BUG_ON(loop_create(&ends->loop, NULL) < 0);
    env.loop = ends->loop;
    BUG_ON(vsock_create(&ends->vsock, &env, &config, NULL) < 0);
    ends->dev = vsock_dev(ends->vsock);
    ends_start(ends, rx);
}

/* The sockets that the device and the test have made. */
static void remove_files(const struct vsock_ends *ends)
{
    DIR *dir = opendir(ends->dir);
    const struct dirent *entry;

    BUG_ON(!dir);
    while ((entry = readdir(dir)))
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

void ends_close(struct vsock_ends *ends)
{
    virtio_dev_destroy(ends->dev);
    loop_destroy(ends->loop);
    remove_files(ends);
    BUG_ON(madvise(ends->mem.region[0].hva, RAM, MADV_DONTNEED) < 0);
}

void ends_remove(struct vsock_ends *ends)
{
    mem_destroy(&ends->mem);
    BUG_ON(rmdir(ends->dir) < 0);
    *ends = (struct vsock_ends){0};
}

/* Carries out what the operation waits for, if that is possible now. */
static bool carry_out(struct loop *loop, unsigned index)
{
    struct fake_op op = *fake_loop_op(loop, index);
    struct pollfd fd = {.fd = op.fd, .events = op.hangup ? 0 : POLLIN};
    ssize_t n;

    if (op.cancelled) {
        fake_loop_complete(loop, index, -ECANCELED, false);
        return true;
    }
    if (op.verb == FAKE_SEND) {
        n = send(op.fd, op.buf, op.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return false;
        fake_loop_complete(loop, index, n < 0 ? -errno : (int)n, false);
        return true;
    }
    if ((op.verb != FAKE_POLL && op.verb != FAKE_ACCEPT) || poll(&fd, 1, 0) <= 0)
        return false;
    if (op.verb == FAKE_ACCEPT)
        fake_loop_complete(loop, index, accept4(op.fd, NULL, NULL, SOCK_CLOEXEC), true);
    else
        fake_loop_complete(loop, index, fd.revents, false);
    return true;
}

void ends_run(struct vsock_ends *ends)
{
    unsigned turns = 0;
    bool moved;

    do {
        moved = false;
        for (unsigned i = 0; i < fake_loop_count(ends->loop) && !moved; i++)
            moved = carry_out(ends->loop, i);
        fake_loop_end_turn(ends->loop);
        BUG_ON(++turns > 100000); /* the device spins */
    } while (moved);
}

/* ---- the guest ---- */

void ends_offer(struct vsock_ends *ends, unsigned count)
{
    struct guest_driver *driver = &ends->driver[0];

    while (count-- > 0) {
        uint16_t head = driver->next_desc;

        if (ends->rx_gpa[head] == 0)
            ends->rx_gpa[head] = guest_alloc(driver, ENDS_RX_SIZE);
        guest_add(driver, &(struct guest_buffer){ends->rx_gpa[head], ENDS_RX_SIZE, true}, 1);
    }
}

void ends_send_packet(struct vsock_ends *ends, const struct vsock_packet *packet,
                      const void *payload, uint32_t len)
{
    const struct guest_buffer buffer[] = {{ends->tx, VSOCK_HEADER_SIZE, false},
                                          {ends->tx + VSOCK_HEADER_SIZE, len, false}};
    struct virtq_used_elem used;

    guest_write(&ends->driver[1], ends->tx, packet, sizeof(*packet));
    if (len > 0)
        guest_write(&ends->driver[1], ends->tx + VSOCK_HEADER_SIZE, payload, len);
    guest_add(&ends->driver[1], buffer, len > 0 ? 2 : 1);
    virtio_dev_kick(ends->dev, 1);
    fake_loop_end_turn(ends->loop);
    while (guest_take_used(&ends->driver[1], &used))
        ;
}

void ends_send(struct vsock_ends *ends, enum vsock_op op, uint32_t host_port, uint32_t guest_port,
               uint32_t flags, const void *payload, uint32_t len)
{
    const struct vsock_packet packet = {
        .src_cid = ENDS_CID,
        .dst_cid = VSOCK_HOST_CID,
        .src_port = guest_port,
        .dst_port = host_port,
        .len = len,
        .type = VSOCK_TYPE_STREAM,
        .op = (uint16_t)op,
        .flags = flags,
        .buf_alloc = ends->alloc,
        .fwd_cnt = ends->forwarded,
    };

    ends_send_packet(ends, &packet, payload, len);
}

bool ends_take(struct vsock_ends *ends, struct vsock_packet *packet, void *payload, size_t room)
{
    struct virtq_used_elem used;
    uint64_t gpa;

    if (!guest_take_used(&ends->driver[0], &used))
        return false;
    BUG_ON(used.id >= ENDS_QUEUE || used.len < VSOCK_HEADER_SIZE);
    gpa = ends->rx_gpa[used.id];
    guest_read(&ends->driver[0], gpa, packet, sizeof(*packet));
    BUG_ON(used.len != VSOCK_HEADER_SIZE + packet->len || packet->len > room);
    if (packet->len > 0)
        guest_read(&ends->driver[0], gpa + VSOCK_HEADER_SIZE, payload, packet->len);
    return true;
}

/* ---- the host ---- */

static void address_of(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
}

int ends_client(struct vsock_ends *ends)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un address;

    address_of(&address, ends->path);
    BUG_ON(fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0);
    return fd;
}

int ends_listener(struct vsock_ends *ends, uint32_t port, int backlog)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un address;
    char path[96];

    snprintf(path, sizeof(path), "%s_%u", ends->path, port);
    address_of(&address, path);
    BUG_ON(fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
           listen(fd, backlog) < 0);
    return fd;
}
