/* SPDX-License-Identifier: Apache-2.0 */
/* The socket device with a real Linux guest, both ways. */
#include "guest/init/stream.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/e2e/hostile.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define HOST_PORT 52
#define SOCKET    "v.sock"

/* ---- the host's side ---- */

static int listen_host(int backlog)
{
    struct sockaddr_un un = guest_socket(text_format(SOCKET "_%d", HOST_PORT));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) || listen(fd, backlog))
        FAIL("listen: %s", strerror(errno));
    return fd;
}

/* Runs something beside the test, which goes on with the guest's console; returns its pid. */
static pid_t beside(int (*run)(int fd, uint64_t seed), int fd, uint64_t seed, int accept_first)
{
    pid_t pid = fork();

    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (accept_first)
        fd = accept(fd, NULL, NULL);
    _exit(fd < 0 || run(fd, seed) ? 1 : 0);
}

static void check_done(pid_t pid)
{
    int status;

    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

static struct vm *boot(void)
{
    struct vm *vm = vm_new(NULL);

    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    linux_boot(vm);
    ask(vm, "vsock-serve");
    return vm;
}

/* Checked streams in all four ways: who connects, and who sends. */
static void check_streams(struct vm *vm, int listener)
{
    int fd = guest_connect(SOCKET, VSOCK_PORT_SINK);
    pid_t pid;

    CHECK_INT(stream_send(fd, VSOCK_PORT_SINK), 0);
    close(fd);
    fd = guest_connect(SOCKET, VSOCK_PORT_SOURCE);
    CHECK_INT(stream_receive(fd, VSOCK_PORT_SOURCE), 0);
    close(fd);

    pid = beside(stream_receive, listener, HOST_PORT, 1);
    ask(vm, "vsock-out %d", HOST_PORT);
    check_done(pid);
    pid = beside(stream_send, listener, HOST_PORT, 1);
    ask(vm, "vsock-in %d", HOST_PORT);
    check_done(pid);
}

static void check_echo(int fd, uint64_t word)
{
    uint64_t came = 0;

    CHECK_INT(stream_write(fd, &word, sizeof(word)), 0);
    CHECK_INT(stream_read(fd, &came, sizeof(came)), 0);
    CHECK(came == word);
}

/* ---- claims ---- */

E2E(vsock_streams_arrive_unchanged_whoever_connects_and_whoever_sends, LINUX | SANITIZER)
{
    struct vm *vm = boot();

    check_streams(vm, listen_host(4));
}

E2E(vsock_streams_of_guests_with_small_buffers_do_not_stop, LINUX)
{
    struct vm *vm = boot();
    int listener = listen_host(4);
    pid_t pid;

    for (unsigned size = 1000; size < 100000; size *= 9) {
        pid = beside(stream_receive, listener, HOST_PORT, 1);
        ask(vm, "vsock-out %d %u", HOST_PORT, size);
        check_done(pid);
        pid = beside(stream_send, listener, HOST_PORT, 1);
        ask(vm, "vsock-in %d %u", HOST_PORT, size);
        check_done(pid);
    }
}

E2E(vsock_ports_that_nobody_listens_on_refuse, LINUX)
{
    struct vm *vm = boot();

    CHECK_INT(guest_try_connect(SOCKET, 4), -1);
    CHECK_HAS(ask_failing(vm, "vsock-out 53"), "connect: Connection reset by peer");
    check_echo(guest_connect(SOCKET, VSOCK_PORT_ECHO), 1);
}

E2E(vsock_half_closed_connections_still_answer, LINUX | SANITIZER)
{
    struct vm *vm = boot();
    int listener = listen_host(4), fd = guest_connect(SOCKET, VSOCK_PORT_COUNT);
    char answer[64] = "";
    uint64_t words[1000] = {0};

    CHECK_INT(stream_write(fd, words, sizeof(words)), 0);
    shutdown(fd, SHUT_WR);
    CHECK_INT(read(fd, answer, sizeof(answer) - 1), 5);
    CHECK(strcmp(answer, "8000\n") == 0);
    CHECK_INT(read(fd, answer, 1), 0);
    close(fd);

    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fd = accept(listener, NULL, NULL);
        while (read(fd, answer, sizeof(answer)) > 0)
            ;
        dprintf(fd, "after-the-end");
        _exit(0);
    }
    CHECK_HAS(ask(vm, "vsock-half %d", HOST_PORT), "answer=after-the-end");
}

E2E(vsock_a_thousand_connections_at_once_each_have_their_own_bytes, LINUX | SLOW)
{
    struct rlimit limit = {2000, 2000};
    static int fd[1000];

    boot();
    setrlimit(RLIMIT_NOFILE, &limit);
    for (uint64_t i = 0; i < 1000; i++) {
        fd[i] = guest_connect(SOCKET, VSOCK_PORT_ECHO);
        CHECK_INT(stream_write(fd[i], &i, sizeof(i)), 0);
    }
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t came;

        CHECK_INT(stream_read(fd[i], &came, sizeof(came)), 0);
        CHECK(came == i);
    }
    for (uint64_t i = 0; i < 1000; i++)
        check_echo(fd[i], ~i);
}

E2E(vsock_burst_of_the_guest_past_the_backlog_waits_and_does_not_fail, LINUX)
{
    struct vm *vm = boot();
    int listener = listen_host(4);

    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        usleep(300000); /* all are waiting by now */
        for (int i = 0; i < 64; i++) {
            if (accept(listener, NULL, NULL) < 0) /* and is kept */
                _exit(1);
            usleep(5000);
        }
        pause();
    }
    CHECK_HAS(ask(vm, "vsock-burst %d 64", HOST_PORT), "connected=64");
}

static unsigned count_descriptors(const struct vm *vm)
{
    char *path = text_format("/proc/%d/fd", (int)vm->monitor.process.pid);
    DIR *dir = opendir(path);
    unsigned count = 0;

    CHECK(dir != NULL);
    while (readdir(dir))
        count++;
    closedir(dir);
    free(path);
    return count;
}

E2E(vsock_many_connections_one_after_another_leave_nothing, LINUX | SLOW)
{
    struct vm *vm = boot();
    unsigned before;

    check_echo(guest_connect(SOCKET, VSOCK_PORT_ECHO), 1);
    before = count_descriptors(vm);
    for (uint64_t i = 0; i < 1000; i++) {
        int fd = guest_connect(SOCKET, VSOCK_PORT_ECHO);

        check_echo(fd, i);
        close(fd);
    }
    usleep(200000);
    CHECK(count_descriptors(vm) <= before);
}

/* Streams both ways, again and again, until one fails. */
static void stream_on(void)
{
    for (;;) {
        int fd = guest_connect(SOCKET, VSOCK_PORT_SINK);

        if (stream_send(fd, VSOCK_PORT_SINK))
            _exit(1);
        close(fd);
        fd = guest_connect(SOCKET, VSOCK_PORT_SOURCE);
        if (stream_receive(fd, VSOCK_PORT_SOURCE))
            _exit(2);
        close(fd);
    }
}

E2E(vsock_pauses_under_load_disturb_nothing, LINUX | SANITIZER | SLOW)
{
    struct vm *vm = boot();
    int held = guest_connect(SOCKET, VSOCK_PORT_ECHO), status;
    pid_t load = fork();

    if (load == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        stream_on();
    }
    for (unsigned i = 0; i < 40; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        usleep(i % 4 * 3000);
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
        usleep(i % 5 * 3000);
        check_echo(held, i);
    }
    CHECK_INT(waitpid(load, &status, WNOHANG), 0); /* it still runs, so nothing was wrong */
    kill(load, SIGKILL);
}

E2E(vsock_driver_that_is_unbound_and_bound_again_works, LINUX | SANITIZER)
{
    static const char driver[] = "/sys/bus/virtio/drivers/vmw_vsock_virtio_transport";
    struct vm *vm = boot();
    int listener = listen_host(4), held = guest_connect(SOCKET, VSOCK_PORT_ECHO);
    const char *name = strstr(ask(vm, "ls %s", driver), "virtio");
    char device[32], byte;

    CHECK(name && sscanf(name, "%31s", device) == 1);
    check_echo(held, 1);
    for (int i = 0; i < 3; i++) {
        ask(vm, "set %s/unbind %s", driver, device);
        CHECK_INT(read(held, &byte, 1), 0);
        close(held);
        ask(vm, "set %s/bind %s", driver, device);
        held = guest_connect(SOCKET, VSOCK_PORT_ECHO);
        check_echo(held, 2);
        check_streams(vm, listener);
    }
}

E2E(vsock_socket_file_stays_at_the_end, LINUX)
{
    struct vm *vm = boot();

    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
    CHECK_INT(access(e2e_path("v.sock"), F_OK), 0);
}

/* ---- a driver that is an enemy --------------------------------------------------------------- */

/* A host that listens: takes every connection, sends into some and closes others. */
static void accept_without_end(int listener)
{
    static const char bytes[70000];

    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    int held[32] = {0};
    for (unsigned i = 0;; i++) {
        int fd = accept(listener, NULL, NULL), *place = &held[i * 7 % 32];

        (void)!send(fd, bytes, i * 997 % sizeof(bytes), MSG_DONTWAIT);
        if (i % 3 == 0)
            shutdown(fd, SHUT_WR);
        if (*place)
            close(*place);
        *place = fd;
    }
}

/* Clients that ask for ports, send, and go, most before they are answered. */
static void connect_without_end(void)
{
    static const char bytes[70000];
    struct sockaddr_un un = guest_socket(SOCKET);

    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    int held[32] = {0};
    for (unsigned i = 0;; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), *place = &held[i % 32];

        if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
            dprintf(fd, "CONNECT %u\n", i % 20);
        (void)!send(fd, bytes, i * 991 % sizeof(bytes), MSG_DONTWAIT);
        if (*place)
            close(*place);
        *place = fd;
        usleep(2000);
    }
}

static void add_victim(struct vm *vm)
{
    (void)unlink(e2e_path("v.sock")); /* of the guest before */
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
}

E2E(a_hostile_driver_of_the_socket_device_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    accept_without_end(listen_host(64));
    connect_without_end();
    hostile_driver(add_victim, 1, 0, 20);
}
