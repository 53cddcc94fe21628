/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-vsock: the guest's side of the socket device's tests. A server that host programs connect
 * to, and connects to listeners of the host.
 */

#include "stream.h"
#include "test-init.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/vm_sockets.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define SOCKETS_MAX 4096

static int open_socket(int flags)
{
    return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

static int connect_to_host(int fd, uint64_t port)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = (unsigned int)port};

    return connect(fd, (struct sockaddr *)&address, sizeof(address));
}

static int listen_at(unsigned int port)
{
    struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
    int fd = open_socket(0);

    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 128))
        return fail_errno("listen at %u", port);
    return fd;
}

/* As many sockets as a test asks for. */
static void allow_sockets(void)
{
    const struct rlimit limit = {SOCKETS_MAX + 64, SOCKETS_MAX + 64};

    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- the server ------------------------------------------------------------------------------ */

static void serve_sink(int fd)
{
    (void)stream_receive(fd, VSOCK_PORT_SINK);
}

static void serve_source(int fd)
{
    (void)stream_send(fd, VSOCK_PORT_SOURCE);
}

/* Counts until the other end has sent all, and then tells it. */
static void serve_count(int fd)
{
    char bytes[4096];
    unsigned long count = 0;
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        count += (unsigned long)n;
    dprintf(fd, "%lu\n", count);
}

static void serve_one_after_another(int listener, void (*serve)(int fd))
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            continue;
        serve(fd);
        close(fd);
    }
}

static void echo(int fd)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof(bytes));

    if (n <= 0 || stream_write(fd, bytes, (size_t)n))
        close(fd);
}

/* Any number at once. */
static void serve_echo(int listener)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    int poll = epoll_create1(EPOLL_CLOEXEC);

    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        if (epoll_wait(poll, &event, 1, -1) != 1)
            continue;
        if (event.data.fd != listener) {
            echo(event.data.fd);
            continue;
        }
        event.data.fd = accept(listener, NULL, NULL);
        event.events = EPOLLIN;
        if (event.data.fd >= 0)
            epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event);
    }
}

static int start(unsigned int port, void (*serve)(int fd))
{
    int listener = listen_at(port);

    if (listener < 0)
        return -1;
    if (fork() == 0) {
        signal(SIGPIPE, SIG_IGN);
        allow_sockets();
        if (serve)
            serve_one_after_another(listener, serve);
        serve_echo(listener);
    }
    close(listener);
    return 0;
}

static int cmd_serve(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (start(VSOCK_PORT_SINK, serve_sink) || start(VSOCK_PORT_SOURCE, serve_source) ||
        start(VSOCK_PORT_COUNT, serve_count) || start(VSOCK_PORT_ECHO, NULL))
        return -1;
    return 0;
}

/* ---- connects -------------------------------------------------------------------------------- */

/* A whole connection to the host, by one of the ways to use it: the words are its port and, if
 * there is a second, the size of this end's buffer. */
static int with_host(int argc, char **argv, int (*use)(int fd, uint64_t port))
{
    uint64_t port, size;
    int fd, rc;

    if (parse_number(argv[0], "port", &port) ||
        (argc > 1 && parse_number(argv[1], "buffer", &size)))
        return -1;
    fd = open_socket(0);
    if (argc > 1 && setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof(size)))
        return fail_errno("buffer");
    if (connect_to_host(fd, port)) {
        close(fd);
        return fail_errno("connect");
    }
    rc = use(fd, port);
    if (rc)
        fail_errno("stream");
    close(fd);
    return rc;
}

static int cmd_out(int argc, char **argv)
{
    return with_host(argc, argv, stream_send);
}

static int cmd_in(int argc, char **argv)
{
    return with_host(argc, argv, stream_receive);
}

static int ask_and_half_close(int fd, uint64_t port)
{
    char answer[128];
    size_t len = 0;
    ssize_t n;

    (void)port;
    if (stream_write(fd, "question", 8) || shutdown(fd, SHUT_WR))
        return -1;
    while (len < sizeof(answer) - 1 && (n = read(fd, answer + len, sizeof(answer) - 1 - len)) > 0)
        len += (size_t)n;
    answer[len] = '\0';
    printf("answer=%s\n", answer);
    return 0;
}

static int cmd_half(int argc, char **argv)
{
    return with_host(argc, argv, ask_and_half_close);
}

static int is_connected(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof(error);

    if (poll(&poll_fd, 1, 30000) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
        return 0;
    return error == 0 && !(poll_fd.revents & (POLLERR | POLLHUP));
}

/* All connects are on their way before the first is waited for. */
static int cmd_burst(int argc, char **argv)
{
    static int fd[SOCKETS_MAX];
    const struct timeval patience = {.tv_sec = 20};
    uint64_t port, count, connected = 0;

    (void)argc;
    if (parse_number(argv[0], "port", &port) || parse_number(argv[1], "count", &count))
        return -1;
    if (count > SOCKETS_MAX)
        return fail("at most %d", SOCKETS_MAX);
    allow_sockets();
    for (uint64_t i = 0; i < count; i++) {
        fd[i] = open_socket(SOCK_NONBLOCK);
        setsockopt(fd[i], AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
        if (connect_to_host(fd[i], port) && errno != EINPROGRESS)
            return fail_errno("connect");
    }
    for (uint64_t i = 0; i < count; i++)
        connected += (uint64_t)is_connected(fd[i]);
    for (uint64_t i = 0; i < count; i++)
        close(fd[i]);
    printf("connected=%llu\n", (unsigned long long)connected);
    return 0;
}

const struct command vsock_commands[] = {
    {"vsock-burst", 2, 2, cmd_burst, "PORT COUNT"}, {"vsock-half", 1, 1, cmd_half, "PORT"},
    {"vsock-in", 1, 2, cmd_in, "PORT [BUFFER]"},    {"vsock-out", 1, 2, cmd_out, "PORT [BUFFER]"},
    {"vsock-serve", 0, 0, cmd_serve, ""},           {0},
};
