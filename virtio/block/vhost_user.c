/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_user.c: messages to and from a vhost-user back end. */
#include "virtio/block/vhost_user.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define VERSION     1u
#define REPLY       4u
#define FLAGS_KNOWN 0xfu /* version, reply, and "wants a reply", which says nothing in one */

/* Of a descriptor's number in a message: the vring that it is for. */
#define VRING 0u

/* Between two attempts to connect to a socket whose backlog is full. */
#define CONNECT_AGAIN_NS NSEC_PER_MSEC

/* ---- the connection -------------------------------------------------------------------------- */

static int explain(struct err *e, int rc)
{
    return err_set(e, rc, "Vhost-user error: Failed to connect to UDS Unix stream: %s", err_os(rc));
}

/* connect(2) on a Unix socket never waits when non-blocking, and says EAGAIN for a full backlog. */
static int connect_by(int fd, const struct sockaddr_un *address, uint64_t deadline_ns)
{
    const struct timespec pause = {.tv_nsec = CONNECT_AGAIN_NS};

    while (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (now_ns() >= deadline_ns)
            return -ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
    return 0;
}

int vhost_user_connect(struct vhost_user *conn, const char *path, uint64_t deadline_ns,
                       struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd, rc;

    vhost_user_open(conn, -1);
    if (len == 0 || len >= sizeof(address.sun_path))
        return explain(e, len ? -ENAMETOOLONG : -ENOENT);
    memcpy(address.sun_path, path, len);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return explain(e, -errno);
    rc = connect_by(fd, &address, deadline_ns);
    if (rc) {
        close(fd);
        return explain(e, rc);
    }
    vhost_user_open(conn, fd);
    return 0;
}

void vhost_user_open(struct vhost_user *conn, int fd)
{
    *conn = (struct vhost_user){.fd = fd, .over = fd < 0};
}

static void finish(struct vhost_user_call *call, int rc)
{
    call->pending = false;
    call->rc = rc;
    if (call->done)
        call->done(call, rc);
}

static struct vhost_user_call *take_call(struct vhost_user *conn)
{
    struct vhost_user_call *call = conn->calls;

    if (call)
        conn->calls = call->next;
    return call;
}

void vhost_user_end(struct vhost_user *conn, int rc)
{
    struct vhost_user_call *call;

    if (conn->over)
        return;
    conn->over = true;
    shutdown(conn->fd, SHUT_RDWR);
    while ((call = take_call(conn)))
        finish(call, rc);
}

void vhost_user_close(struct vhost_user *conn)
{
    vhost_user_end(conn, -ECANCELED);
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

const char *vhost_user_fault(int rc)
{
    switch (rc) {
    case -ECONNRESET:
    case -EPIPE:
    case -ENOTCONN:
        return "has closed the connection";
    case -EPROTO:
        return "does not keep to the vhost-user protocol";
    case -ETIMEDOUT:
        return "does not answer";
    case -EAGAIN:
        return "does not read what it is sent";
    case -EREMOTEIO:
        return "cannot tell its configuration";
    default:
        return err_os(rc);
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Descriptors go in the control part of the message. */
union rights {
    struct cmsghdr head;
    char room[CMSG_SPACE(VHOST_USER_REGIONS_MAX * sizeof(int))];
};

static void attach(struct msghdr *message, union rights *rights, const int *fds, unsigned count)
{
    struct cmsghdr *head = &rights->head;

    if (count == 0)
        return;
    BUG_ON(count > VHOST_USER_REGIONS_MAX);
    message->msg_control = rights;
    message->msg_controllen = CMSG_SPACE(count * sizeof(int));
    *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
                             .cmsg_level = SOL_SOCKET,
                             .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(head), fds, count * sizeof(int));
}

int vhost_user_send(struct vhost_user *conn, enum vhost_user_request request, const void *payload,
                    size_t size, const int *fds, unsigned fd_count)
{
    struct vhost_user_header header = {request, VERSION, (uint32_t)size};
    struct iovec iov[] = {{&header, sizeof(header)}, {(void *)(uintptr_t)payload, size}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = size > 0 ? 2 : 1};
    union rights rights = {0};
    ssize_t n;

    if (conn->over)
        return -ENOTCONN;
    attach(&message, &rights, fds, fd_count);
    do
        n = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    /* The socket's buffer took a part: the back end has stopped reading long ago. */
    return (size_t)n == sizeof(header) + size ? 0 : -EAGAIN;
}

int vhost_user_send_u64(struct vhost_user *conn, enum vhost_user_request request, uint64_t value)
{
    return vhost_user_send(conn, request, &value, sizeof(value), NULL, 0);
}

int vhost_user_send_vring(struct vhost_user *conn, enum vhost_user_request request, uint32_t value)
{
    struct vhost_user_vring vring = {.index = VRING, .num = value};

    return vhost_user_send(conn, request, &vring, sizeof(vring), NULL, 0);
}

int vhost_user_send_vring_fd(struct vhost_user *conn, enum vhost_user_request request, int fd)
{
    uint64_t vring = VRING;

    return vhost_user_send(conn, request, &vring, sizeof(vring), &fd, 1);
}

struct table {
    struct vhost_user_memory memory;
    int fds[VHOST_USER_REGIONS_MAX];
};

static void add_region(struct table *table, const struct mem_region *region, uint64_t size, int fd,
                       uint64_t file_offset)
{
    unsigned i = table->memory.count;

    if (size == 0 || i == VHOST_USER_REGIONS_MAX)
        return;
    table->memory.region[i] = (struct vhost_user_region){
        .gpa = region->gpa.v,
        .size = size,
        .hva = (uintptr_t)region->hva,
        .file_offset = file_offset,
    };
    table->fds[i] = fd;
    table->memory.count++;
}

/*
 * How much of a device's region its file has. The file of persistent memory may end before its
 * region: a guest that let a back end touch the rest would kill it, and with it perhaps the drives
 * of other guests.
 */
static uint64_t size_in_file(const struct mem_region *region)
{
    struct stat st;

    if (fstat(region->fd, &st) < 0)
        return 0;
    return MIN(region->size, align_down((uint64_t)st.st_size, PAGE_SIZE));
}

int vhost_user_send_memory(struct vhost_user *conn, const struct mem *mem)
{
    struct table table = {0};

    _Static_assert(MEM_REGIONS_MAX <= VHOST_USER_REGIONS_MAX, "a table has room for RAM");
    if (!mem->shared)
        return -EINVAL;
    for (unsigned i = 0; i < mem->count; i++)
        add_region(&table, &mem->region[i], mem->region[i].size, mem->fd,
                   (uint64_t)(mem->region[i].hva - mem->region[0].hva));
    /* A back end maps what it is given for writing, and refuses all if it cannot. */
    for (unsigned i = 0; i < mem->device_count; i++) {
        const struct mem_region *region = &mem->device[i];

        if (region->fd >= 0 && !region->read_only)
            add_region(&table, region, size_in_file(region), region->fd, 0);
    }
    return vhost_user_send(conn, VHOST_USER_SET_MEM_TABLE, &table.memory,
                           offsetof(struct vhost_user_memory, region) +
                               table.memory.count * sizeof(table.memory.region[0]),
                           table.fds, table.memory.count);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int ask(struct vhost_user *conn, struct vhost_user_call *call,
               enum vhost_user_request request, const void *payload, size_t size, size_t reply_size)
{
    struct vhost_user_call **end = &conn->calls;
    int rc = vhost_user_send(conn, request, payload, size, NULL, 0);

    BUG_ON(call->pending);
    if (rc)
        return rc;
    while (*end)
        end = &(*end)->next;
    *end = call;
    call->next = NULL;
    call->request = request;
    call->size = (uint32_t)reply_size;
    call->pending = true;
    return 0;
}

int vhost_user_ask_u64(struct vhost_user *conn, struct vhost_user_call *call,
                       enum vhost_user_request request)
{
    return ask(conn, call, request, NULL, 0, sizeof(uint64_t));
}

int vhost_user_ask_vring_base(struct vhost_user *conn, struct vhost_user_call *call)
{
    struct vhost_user_vring vring = {.index = VRING};

    return ask(conn, call, VHOST_USER_GET_VRING_BASE, &vring, sizeof(vring), sizeof(vring));
}

int vhost_user_ask_config(struct vhost_user *conn, struct vhost_user_call *call, uint32_t size)
{
    struct vhost_user_config_space space = {.size = size};
    size_t len = VHOST_USER_CONFIG_HEAD + size;

    BUG_ON(size > VHOST_USER_CONFIG_MAX);
    return ask(conn, call, VHOST_USER_GET_CONFIG, &space, len, len);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* An empty answer to this one says that the back end could not answer; the others always can. */
static bool is_refusal(const struct vhost_user_header *header)
{
    return header->request == VHOST_USER_GET_CONFIG && header->size == 0;
}

static bool is_answer(const struct vhost_user_header *header, const struct vhost_user_call *call)
{
    return call && header->request == call->request && (header->flags & ~FLAGS_KNOWN) == 0 &&
           (header->flags & 3) == VERSION && header->flags & REPLY &&
           (header->size == call->size || is_refusal(header));
}

/* What the answer says about itself must be what was asked. */
static bool is_consistent(const struct vhost_user *conn)
{
    const union vhost_user_payload *payload = &conn->payload;

    if (conn->header.request == VHOST_USER_GET_VRING_BASE)
        return payload->vring.index == VRING && payload->vring.num <= UINT16_MAX;
    if (conn->header.request == VHOST_USER_GET_CONFIG)
        return payload->config.offset == 0 &&
               payload->config.size == conn->header.size - VHOST_USER_CONFIG_HEAD;
    return true;
}

/* The message is whole. */
static int hand_out(struct vhost_user *conn)
{
    bool refused = is_refusal(&conn->header);
    struct vhost_user_call *call;

    if (!refused && !is_consistent(conn))
        return -EPROTO;
    call = take_call(conn);
    memcpy(&call->reply, &conn->payload, conn->header.size);
    conn->received = 0;
    finish(call, refused ? -EREMOTEIO : 0);
    return 0;
}

/* The next bytes of the message: first of the header, then of the payload. Returns their number. */
static ssize_t receive_some(struct vhost_user *conn)
{
    size_t have = conn->received, head = sizeof(conn->header);
    ssize_t n;

    do {
        if (have < head)
            n = recv(conn->fd, (uint8_t *)&conn->header + have, head - have, MSG_DONTWAIT);
        else
            n = recv(conn->fd, (uint8_t *)&conn->payload + (have - head),
                     head + conn->header.size - have, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n == 0)
        return -ECONNRESET;
    return n < 0 ? -errno : n;
}

/* One step of it: 0, or why not. */
static int receive_step(struct vhost_user *conn)
{
    ssize_t n = receive_some(conn);

    if (n < 0)
        return (int)n;
    conn->received += (size_t)n;
    if (conn->received < sizeof(conn->header))
        return 0;
    if (!is_answer(&conn->header, conn->calls))
        return -EPROTO;
    if (conn->received < sizeof(conn->header) + conn->header.size)
        return 0;
    return hand_out(conn);
}

/* Takes in what has come, up to the answer to `call` (NULL = all). Bounded: every whole message
 * takes a call off the list, and one too many is an error. */
static int receive_until(struct vhost_user *conn, const struct vhost_user_call *call)
{
    int rc = 0;

    while (rc == 0 && !conn->over && (!call || call->pending))
        rc = receive_step(conn);
    return rc == -EAGAIN || conn->over ? 0 : rc;
}

int vhost_user_receive(struct vhost_user *conn)
{
    return receive_until(conn, NULL);
}

/* The answer has come: 0. Else why it will not. */
static int wait_for(struct vhost_user *conn, const struct vhost_user_call *call)
{
    struct pollfd poll_fd = {.fd = conn->fd, .events = POLLIN};
    int rc = 0;

    while (rc == 0 && call->pending) {
        uint64_t now = now_ns();

        if (now >= call->deadline_ns)
            return -ETIMEDOUT;
        (void)poll(&poll_fd, 1, (int)((call->deadline_ns - now) / NSEC_PER_MSEC) + 1);
        rc = receive_until(conn, call);
    }
    return rc;
}

int vhost_user_wait(struct vhost_user *conn, struct vhost_user_call *call)
{
    int rc = wait_for(conn, call);

    if (rc)
        vhost_user_end(conn, rc);
    return call->rc;
}
