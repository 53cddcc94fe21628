/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_server.c: see vhost_server.h. */
#include "tests/support/vhost_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#define BIT(n)     (UINT64_C(1) << (n))
#define SECTOR     512u
#define CHAIN_MAX  1024
#define CONFIG_LEN 60u

enum {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    SET_VRING_ENABLE = 18,
    GET_CONFIG = 24,
};

/* On the wire from `request` on; what stands before it aligns the payload. */
#define HEADER 12u
struct message {
    uint32_t unsent;
    uint32_t request, flags, size;
    union {
        uint64_t u64;
        struct {
            uint32_t index, num;
        } vring;
        struct {
            uint32_t index, flags;
            uint64_t desc, used, avail, log;
        } addr;
        struct {
            uint32_t count, padding;
            struct {
                uint64_t gpa, size, front, offset;
            } region[VHOST_SERVER_REGIONS];
        } memory;
        struct {
            uint32_t offset, size, flags;
            uint8_t bytes[256];
        } config;
        uint8_t bytes[272];
    };
    int fds[VHOST_SERVER_REGIONS];
    unsigned fd_count;
};

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
_Static_assert(offsetof(struct message, bytes) - offsetof(struct message, request) == HEADER,
               "as in the specification");
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

/* ---- memory ---------------------------------------------------------------------------------- */

/* `len` bytes at an address of the front end, or of the guest. */
static void *at(const struct vhost_server *s, uint64_t address, uint64_t len, bool guest)
{
    for (unsigned i = 0; i < s->region_count; i++) {
        const struct vhost_server_region *r = &s->region[i];
        uint64_t start = guest ? r->gpa : r->front;
        if (address >= start && address - start <= r->size && len <= r->size - (address - start))
            return r->at + (address - start);
    }
    return NULL;
}

static void unmap_memory(struct vhost_server *s)
{
    for (unsigned i = 0; i < s->region_count; i++)
        munmap(s->region[i].map, s->region[i].map_size);
    s->region_count = 0;
}

static int set_memory(struct vhost_server *s, const struct message *m)
{
    unmap_memory(s);
    if (m->memory.count > VHOST_SERVER_REGIONS || m->memory.count != m->fd_count)
        return -EPROTO;
    for (unsigned i = 0; i < m->memory.count; i++) {
        uint64_t size = m->memory.region[i].size + m->memory.region[i].offset;
        void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fds[i], 0);
        if (map == MAP_FAILED)
            return -errno;
        s->region[s->region_count++] = (struct vhost_server_region){
            .gpa = m->memory.region[i].gpa,
            .size = m->memory.region[i].size,
            .front = m->memory.region[i].front,
            .at = (uint8_t *)map + m->memory.region[i].offset,
            .map = map,
            .map_size = size,
        };
    }
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* The buffers of a chain: first those to read, then those to write. Returns how many, or -1. */
static int gather(const struct vhost_server *s, uint16_t head, struct iovec *iov, int *readable)
{
    const uint8_t *table = at(s, s->desc, s->size * sizeof(struct desc), false);
    uint32_t size = s->size, index = head;
    int count = 0;
    *readable = 0;
    for (unsigned steps = 0; table && index < size && steps < CHAIN_MAX; steps++) {
        struct desc d;
        memcpy(&d, table + index * sizeof(d), sizeof(d)); /* tables may lie anywhere */
        if (d.flags & INDIRECT) {
            table = at(s, d.addr, d.len, true);
            size = d.len / (uint32_t)sizeof(d);
            index = 0;
            continue;
        }
        iov[count] = (struct iovec){at(s, d.addr, d.len, true), d.len};
        if (!iov[count].iov_base)
            return -1;
        count++;
        *readable += !(d.flags & WRITE);
        if (!(d.flags & NEXT))
            return count;
        index = d.next;
    }
    return -1;
}

static uint8_t move_data(struct vhost_server *s, uint32_t type, uint64_t sector,
                         const struct iovec *iov, int count)
{
    off_t offset = (off_t)(sector * SECTOR);
    ssize_t n, wanted = 0;
    struct stat st;
    for (int i = 0; i < count; i++)
        wanted += (ssize_t)iov[i].iov_len;
    if (fstat(s->disk, &st) < 0 || offset + wanted > st.st_size)
        return 1;
    if (type == 1 && s->options.read_only)
        return 1;
    n = type == 0 ? preadv(s->disk, iov, count, offset) : pwritev(s->disk, iov, count, offset);
    return n == wanted ? 0 : 1;
}

/* Does one request; returns the bytes written to its buffers. */
static uint32_t serve(struct vhost_server *s, uint16_t head)
{
    static const char serial[20] = "vhost-server";
    struct iovec iov[CHAIN_MAX + 1];
    int readable, count = gather(s, head, iov, &readable);
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    uint8_t status = 2;
    uint32_t written = 1;
    if (count < 2 || readable < 1 || iov[0].iov_len != sizeof(header) ||
        iov[count - 1].iov_len != 1)
        return 0;
    memcpy(&header, iov[0].iov_base, sizeof(header));
    for (int i = readable; i < count - 1; i++)
        written += (uint32_t)iov[i].iov_len;
    if (header.type == 0)
        status = move_data(s, 0, header.sector, iov + readable, count - readable - 1);
    else if (header.type == 1)
        status = move_data(s, 1, header.sector, iov + 1, readable - 1);
    else if (header.type == 4)
        status = fdatasync(s->disk) < 0;
    s->flushes += header.type == 4;
    if (header.type == 8 && count == 3 && iov[1].iov_len >= sizeof(serial)) {
        memcpy(iov[1].iov_base, serial, sizeof(serial));
        status = 0;
    }
    *(uint8_t *)iov[count - 1].iov_base = status;
    return written;
}

/* ---- the ring -------------------------------------------------------------------------------- */

static void put_used(struct vhost_server *s, uint16_t head, uint32_t len)
{
    uint8_t *used = at(s, s->used, 6 + 8 * s->size, false);
    uint32_t entry[2] = {head, len};
    memcpy(used + 4 + 8 * (s->next_used % s->size), entry, sizeof(entry));
    s->next_used++;
    __atomic_store_n((uint16_t *)(void *)(used + 2), s->next_used, __ATOMIC_RELEASE);
    s->served++;
}

/* Signals if the driver wants to hear of what was put since `before`. */
static void call(struct vhost_server *s, uint16_t before)
{
    const uint16_t *avail = at(s, s->avail, 6 + 2 * s->size, false);
    uint64_t one = 1;
    bool wanted;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (s->features & BIT(VHOST_SERVER_EVENT_IDX)) {
        uint16_t event = __atomic_load_n(&avail[2 + s->size], __ATOMIC_RELAXED);
        wanted = (uint16_t)(s->next_used - event - 1) < (uint16_t)(s->next_used - before);
    } else {
        wanted = s->next_used != before && !(__atomic_load_n(&avail[0], __ATOMIC_RELAXED) & 1);
    }
    if (wanted && s->call >= 0 && write(s->call, &one, sizeof(one)) > 0)
        s->calls++;
}

static void take(struct vhost_server *s, uint16_t head)
{
    if (s->hold && s->held_count < sizeof(s->held) / sizeof(s->held[0]))
        s->held[s->held_count++] = head;
    else
        put_used(s, head, serve(s, head));
}

static void serve_ring(struct vhost_server *s)
{
    const uint16_t *avail = at(s, s->avail, 6 + 2 * s->size, false);
    uint8_t *used = at(s, s->used, 6 + 8 * s->size, false);
    uint16_t before = s->next_used;
    if (!s->started || !s->enabled || !avail || !used)
        return;
    for (;;) {
        uint16_t idx = __atomic_load_n(&avail[1], __ATOMIC_ACQUIRE);
        if ((uint16_t)(idx - s->next_avail) > s->size) { /* a driver that lies gets no more */
            s->started = false;
            break;
        }
        if (idx == s->next_avail) {
            uint16_t *event = (uint16_t *)(void *)(used + 4 + 8 * s->size);
            __atomic_store_n(event, s->next_avail, __ATOMIC_RELAXED);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            if (__atomic_load_n(&avail[1], __ATOMIC_ACQUIRE) == idx)
                break;
            continue;
        }
        take(s, avail[2 + s->next_avail++ % s->size]);
    }
    call(s, before);
}

void vhost_server_release(struct vhost_server *s)
{
    uint16_t before = s->next_used;
    for (unsigned i = 0; i < s->held_count; i++)
        put_used(s, s->held[i], serve(s, s->held[i]));
    s->held_count = 0;
    call(s, before);
}

static void stop_ring(struct vhost_server *s)
{
    s->started = false;
    if (s->kick >= 0)
        close(s->kick);
    if (s->call >= 0 && !s->held_count) /* requests that are still to be returned want it */
        close(s->call);
    s->kick = -1;
    if (!s->held_count)
        s->call = -1;
}

static int start_ring(struct vhost_server *s)
{
    const uint16_t *used = at(s, s->used, 6 + 8 * s->size, false);
    if (!used || s->size == 0)
        return -EPROTO;
    s->next_used = used[1];
    s->started = true;
    return 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

static int receive_all(int fd, void *to, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = recv(fd, (char *)to + done, len - done, 0);
        if (n <= 0)
            return n < 0 ? -errno : -ECONNRESET;
        done += (size_t)n;
    }
    return 0;
}

static int receive(struct vhost_server *s, struct message *m)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(m->fds))];
    } control;
    struct iovec iov = {&m->request, HEADER};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(s->fd, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    m->fd_count = 0;
    if (n <= 0)
        return n < 0 ? -errno : -ECONNRESET;
    if (c && c->cmsg_type == SCM_RIGHTS) {
        m->fd_count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(m->fds, CMSG_DATA(c), m->fd_count * sizeof(int));
    }
    if ((size_t)n != iov.iov_len || (m->flags & 3) != 1 || m->size > sizeof(m->bytes))
        return -EPROTO;
    return receive_all(s->fd, m->bytes, m->size);
}

static int reply(struct vhost_server *s, struct message *m, uint32_t size)
{
    size_t len = HEADER + size;
    m->flags = 1 | 4;
    m->size = size;
    if (s->mute)
        return 0;
    return send(s->fd, &m->request, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -ECONNRESET;
}

static int take_fd(struct message *m, int *fd)
{
    if (m->u64 != 0 || m->fd_count != 1) /* vring 0, and there is a descriptor */
        return -EPROTO;
    if (*fd >= 0)
        close(*fd);
    *fd = m->fds[0];
    m->fd_count = 0;
    return 0;
}

static uint64_t offered(const struct vhost_server *s)
{
    uint64_t bits = BIT(VHOST_SERVER_SEG_MAX) | BIT(VHOST_SERVER_FLUSH) |
                    BIT(VHOST_SERVER_INDIRECT) | BIT(VHOST_SERVER_EVENT_IDX) |
                    BIT(VHOST_SERVER_PROTOCOL) | BIT(VHOST_SERVER_VERSION_1);
    return (bits | (s->options.read_only ? BIT(VHOST_SERVER_RO) : 0)) & ~s->options.without;
}

static int tell_config(struct vhost_server *s, struct message *m)
{
    struct stat st;
    uint64_t sectors;
    uint32_t segments = 1022; /* more than the front end's queue has room for */
    if (m->config.offset != 0 || m->config.size != CONFIG_LEN)
        return -EPROTO;
    if (fstat(s->disk, &st) < 0)
        return -errno;
    sectors = (uint64_t)st.st_size / SECTOR;
    memset(m->config.bytes, 0, CONFIG_LEN);
    memcpy(m->config.bytes, &sectors, sizeof(sectors));
    memcpy(m->config.bytes + 12, &segments, sizeof(segments));
    return reply(s, m, 12 + CONFIG_LEN);
}

static int tell_base(struct vhost_server *s, struct message *m)
{
    stop_ring(s);
    m->vring.num = s->next_avail;
    return reply(s, m, sizeof(m->vring));
}

static int handle(struct vhost_server *s, struct message *m)
{
    int rc;
    switch (m->request) {
    case GET_FEATURES:
        m->u64 = offered(s);
        return reply(s, m, 8);
    case SET_FEATURES:
        s->features = m->u64;
        s->enabled = !(m->u64 & BIT(VHOST_SERVER_PROTOCOL));
        return m->u64 & ~offered(s) ? -EPROTO : 0;
    case GET_PROTOCOL_FEATURES:
        m->u64 = s->options.no_config ? 0 : BIT(9);
        return reply(s, m, 8);
    case SET_OWNER:
    case SET_PROTOCOL_FEATURES:
        return 0;
    case SET_MEM_TABLE:
        return set_memory(s, m);
    case SET_VRING_NUM:
        s->size = m->vring.num;
        return 0;
    case SET_VRING_ADDR:
        s->desc = m->addr.desc;
        s->avail = m->addr.avail;
        s->used = m->addr.used;
        return 0;
    case SET_VRING_BASE:
        s->next_avail = (uint16_t)m->vring.num;
        return 0;
    case GET_VRING_BASE:
        return tell_base(s, m);
    case SET_VRING_KICK:
        rc = take_fd(m, &s->kick);
        return rc ? rc : start_ring(s);
    case SET_VRING_CALL:
        return take_fd(m, &s->call);
    case SET_VRING_ENABLE:
        s->enabled = m->vring.num == 1;
        serve_ring(s);
        return 0;
    case GET_CONFIG:
        return tell_config(s, m);
    default:
        return -EPROTO;
    }
}

static int handle_message(struct vhost_server *s)
{
    struct message m;
    int rc = receive(s, &m);
    if (rc == 0 && m.request < VHOST_SERVER_REQUESTS)
        s->count[m.request]++;
    if (rc == 0)
        rc = handle(s, &m);
    for (unsigned i = 0; i < m.fd_count; i++)
        close(m.fds[i]);
    return rc;
}

int vhost_server_step(struct vhost_server *s, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = s->fd, .events = POLLIN}, {.fd = s->kick, .events = POLLIN}};
    uint64_t kicks;
    int rc;
    if (poll(fds, 2, timeout_ms) <= 0)
        return 0;
    if (fds[1].revents && read(s->kick, &kicks, sizeof(kicks)) > 0)
        serve_ring(s);
    if (fds[0].revents) {
        rc = handle_message(s);
        if (rc)
            return rc;
    }
    return 1;
}

/* ---- its life -------------------------------------------------------------------------------- */

int vhost_server_open(struct vhost_server *s, const struct vhost_server_options *options, int fd)
{
    int disk = open(options->disk, (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    *s = (struct vhost_server){.options = *options, .fd = fd, .disk = disk, .kick = -1, .call = -1};
    return disk < 0 ? -errno : 0;
}

void vhost_server_close(struct vhost_server *s)
{
    s->held_count = 0;
    stop_ring(s);
    unmap_memory(s);
    if (s->disk >= 0)
        close(s->disk);
    if (s->fd >= 0)
        close(s->fd);
    s->disk = s->fd = -1;
}

int vhost_server_listen(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    unlink(path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 4) == 0)
        return fd;
    close(fd);
    return -errno;
}

void vhost_server_run(int listener, const struct vhost_server_options *options)
{
    static struct vhost_server s;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), rc = 0;
        if (fd < 0 || vhost_server_open(&s, options, fd) < 0)
            _exit(1);
        while (rc >= 0)
            rc = vhost_server_step(&s, -1);
        if (rc != -ECONNRESET)
            fprintf(stderr, "vhost_server: %s\n", strerror(-rc));
        vhost_server_close(&s);
    }
}

pid_t vhost_server_fork(const char *path, const struct vhost_server_options *options)
{
    int listener = vhost_server_listen(path);
    pid_t pid;
    if (listener < 0)
        return listener;
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        vhost_server_run(listener, options);
    }
    close(listener);
    return pid < 0 ? -errno : pid;
}
