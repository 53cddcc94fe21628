/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_host.c: the Unix sockets of the host. */
#include "virtio/vsock/vsock_host.h"

#include "virtio/vsock/vsock_device.h"
#include "virtio/vsock/vsock_queues.h"
#include "vmm/base/metrics.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/un.h>

#define RETRY_MIN_NS (1 * NSEC_PER_MSEC)
#define RETRY_MAX_NS (16 * NSEC_PER_MSEC)
#define WAIT_MAX_NS  (10 * NSEC_PER_SEC)

/* ---- listening ------------------------------------------------------------------------------- */

static int fill_address(struct sockaddr_un *address, socklen_t *len, const char *path)
{
    size_t size = strlen(path);

    if (size >= sizeof(address->sun_path))
        return -ENAMETOOLONG;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, size);
    /* Of an empty path not even the NUL: the kernel then chooses an abstract address. */
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size > 0 ? size + 1 : 0));
    return 0;
}

int vsock_host_listen(const char *path, struct err *e)
{
    struct sockaddr_un address;
    socklen_t len;
    int fd, rc;

    if (fill_address(&address, &len, path) < 0)
        return err_set(e, -ENAMETOOLONG, "path must be shorter than SUN_LEN");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(e, -errno, "%s", err_os(-errno));
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, SOMAXCONN) < 0) {
        rc = err_set(e, -errno, "%s", err_os(-errno));
        close(fd);
        return rc;
    }
    return fd;
}

static void arm_accept(struct vsock *vsock)
{
    vsock->accepting = true;
    loop_accept_many(vsock->dev.env.loop, &vsock->accept, vsock->listen_fd);
}

void vsock_host_start(struct vsock *vsock)
{
    if (!vsock->accepting)
        arm_accept(vsock);
}

static void start_retry(struct vsock *vsock, uint64_t ns)
{
    vsock->retry_ns = ns;
    if (!vsock->retry.armed)
        loop_timer_start(vsock->dev.env.loop, &vsock->retry, ns);
}

static void take_client(struct vsock *vsock, int fd)
{
    struct vsock_conn *conn = NULL;

    if (vsock->table.count < VSOCK_CONNS_MAX)
        conn = vsock_conn_new(vsock, VSOCK_HELLO, fd);
    if (!conn) {
        close(fd);
        return;
    }
    vsock_conn_greet(conn);
}

static void accept_done(struct op *op, int res, bool more)
{
    struct vsock *vsock = container_of(op, struct vsock, accept);

    if (res >= 0)
        take_client(vsock, res);
    if (!more) {
        /* Out of descriptors, say: clients wait in the backlog meanwhile. */
        vsock->accepting = false;
        if (res < 0) {
            metric_add(&metrics.vsock.muxer_event_fails, 1);
            start_retry(vsock, RETRY_MAX_NS);
        } else {
            arm_accept(vsock);
        }
    }
    vsock_queues_deliver(vsock);
}

/* ---- a client's first line ------------------------------------------------------------------- */

/* The port of a whole line, NUL instead of its end. Words behind the port are ignored, as clients
 * know it. */
static int parse_wish(const char *line, uint32_t *port)
{
    static const char keyword[] = "connect";
    uint64_t value = 0;

    while (isspace((unsigned char)*line))
        line++;
    if (strncasecmp(line, keyword, strlen(keyword)) != 0)
        return -EINVAL;
    line += strlen(keyword);
    if (!isspace((unsigned char)*line))
        return -EINVAL;
    while (isspace((unsigned char)*line))
        line++;
    if (!isdigit((unsigned char)*line))
        return -EINVAL;
    for (; isdigit((unsigned char)*line) && value <= UINT32_MAX; line++)
        value = value * 10 + (uint64_t)(*line - '0');
    if (value > UINT32_MAX || (*line && !isspace((unsigned char)*line)))
        return -EINVAL;
    *port = (uint32_t)value;
    return 0;
}

/* Drops `len` bytes off the front of what has been kept. */
static void drop_front(struct vsock_conn *conn, size_t len)
{
    conn->wish_len = (uint8_t)(conn->wish_len - len);
    memmove(conn->wish, conn->wish + len, conn->wish_len);
}

int vsock_host_read_wish(struct vsock_conn *conn, uint32_t *port)
{
    char line[VSOCK_WISH_MAX];
    ssize_t n = recv(conn->fd, conn->wish + conn->wish_len, sizeof(conn->wish) - conn->wish_len,
                     MSG_DONTWAIT);
    const char *end;
    size_t len;

    if (n <= 0)
        return n < 0 && errno == EAGAIN ? -EAGAIN : -ECONNRESET;
    conn->wish_len = (uint8_t)(conn->wish_len + n);
    end = memchr(conn->wish, '\n', conn->wish_len);
    if (!end)
        return conn->wish_len == sizeof(conn->wish) ? -EINVAL : -EAGAIN;
    len = (size_t)(end - conn->wish);
    memcpy(line, conn->wish, len);
    line[len] = '\0';
    drop_front(conn, len + 1);
    return parse_wish(line, port);
}

/* ---- on behalf of the guest ------------------------------------------------------------------ */

int vsock_host_connect(const struct vsock *vsock, uint32_t port)
{
    struct sockaddr_un address;
    char path[sizeof(address.sun_path) + 1];
    socklen_t len;
    int fd, rc;

    /* A path that snprintf cuts is too long for an address too. */
    if (snprintf(path, sizeof(path), "%s_%u", vsock->config.uds_path, port) < 0 ||
        fill_address(&address, &len, path) < 0)
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, len) < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

void vsock_host_wait(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;

    conn->deadline_ns = now_ns() + WAIT_MAX_NS;
    link_append(&vsock->waiting, &conn->timed);
    start_retry(vsock, RETRY_MIN_NS);
}

/* One more try for one connection: whether its listener is still too busy. */
static bool is_still_busy(struct vsock_conn *conn, uint64_t now)
{
    int fd;

    if (now >= conn->deadline_ns) {
        vsock_conn_end(conn, true);
        return false;
    }
    fd = vsock_host_connect(conn->vsock, conn->host_port);
    if (fd == -EAGAIN)
        return true;
    if (fd < 0)
        vsock_conn_end(conn, true);
    else
        vsock_conn_accept(conn, fd);
    return false;
}

/* In order; behind the first one that a listener refuses, others of the same listener need not
 * try. */
static void try_waiting(struct vsock *vsock)
{
    struct vsock_link *link = vsock->waiting.next;
    uint64_t now = now_ns(), busy_port = UINT64_MAX, ns = MIN(vsock->retry_ns * 2, RETRY_MAX_NS);

    while (link != &vsock->waiting) {
        struct vsock_conn *conn = container_of(link, struct vsock_conn, timed);

        link = link->next;
        if (conn->host_port == busy_port && now < conn->deadline_ns)
            continue;
        if (is_still_busy(conn, now))
            busy_port = conn->host_port;
        else
            ns = RETRY_MIN_NS;
    }
    if (link_is_used(&vsock->waiting))
        start_retry(vsock, ns);
}

static void retry_done(struct op *op, int res, bool more)
{
    struct vsock *vsock = container_of(op, struct vsock, retry.op);

    (void)res;
    (void)more;
    vsock->retry.armed = false;
    if (vsock->started && !vsock->accepting)
        arm_accept(vsock);
    try_waiting(vsock);
    vsock_queues_deliver(vsock);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The bytes that came with the first line, before all others. */
static ssize_t read_kept(struct vsock_conn *conn, const struct iovec *iov, unsigned count)
{
    size_t done = 0;

    for (unsigned i = 0; i < count && done < conn->wish_len; i++) {
        size_t n = MIN(iov[i].iov_len, conn->wish_len - done);

        memcpy(iov[i].iov_base, conn->wish + done, n);
        done += n;
    }
    drop_front(conn, done);
    return (ssize_t)done;
}

uint32_t vsock_host_readable(const struct vsock_conn *conn, uint32_t most, bool *all)
{
    int n = 0;

    *all = false;
    if (ioctl(conn->fd, SIOCINQ, &n) < 0 || n <= 0 || (uint32_t)n > most)
        return most;
    *all = true;
    return (uint32_t)n;
}

ssize_t vsock_host_read(struct vsock_conn *conn, const struct iovec *iov, unsigned count,
                        bool *more)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
    ssize_t n;

    *more = true;
    if (conn->wish_len > 0)
        return read_kept(conn, iov, count);
    do
        n = recvmsg(conn->fd, &message, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    /* The kernel ends a read behind descriptors that came with the bytes; it has closed them, since
     * we gave no room for them, and says so. */
    *more = n > 0 && message.msg_flags & MSG_CTRUNC;
    return n < 0 ? -errno : n;
}

void vsock_host_init(struct vsock *vsock)
{
    vsock->accept.done = accept_done;
    vsock->retry.op.done = retry_done;
}
