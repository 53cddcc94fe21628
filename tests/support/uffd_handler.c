/* SPDX-License-Identifier: Apache-2.0 */
/* uffd_handler.c: see uffd_handler.h. What goes wrong ends the process, which the test sees. */
#include "tests/support/uffd_handler.h"

#include "tests/support/vhost_server.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { REGIONS = 4, FAULTS = 64 };

struct region {
    uint64_t base, size, offset;
};

struct handler {
    struct uffd_handler_options options;
    struct uffd_handler_seen *seen;
    int connection, uffd;
    const uint8_t *file;
    uint64_t page;
    bool silent;
    int signals;
    struct region region[REGIONS];
    unsigned region_count;
    uint8_t *gone;          /* a byte a page of the file: given back, zeroes from now on */
    uint64_t fault[FAULTS]; /* that could not be served while something was being removed */
    unsigned fault_count;
};

static _Noreturn void give_up(void)
{
    _exit(3);
}

/* ---- the hand-over ----------------------------------------------------------------------------*/

static void receive(struct handler *h)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {h->seen->message, sizeof(h->seen->message) - 1};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n = recvmsg(h->connection, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&msg);

    if (n <= 0 || !rights || rights->cmsg_type != SCM_RIGHTS)
        give_up();
    memcpy(&h->uffd, CMSG_DATA(rights), sizeof(int));
}

static uint64_t member(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_integer(value))
        give_up();
    return (uint64_t)json_integer_value(value);
}

static void read_regions(struct handler *h)
{
    json_t *list = json_loads(h->seen->message, 0, NULL);

    h->region_count = (unsigned)json_array_size(list);
    if (h->region_count == 0 || h->region_count > REGIONS)
        give_up();
    for (unsigned i = 0; i < h->region_count; i++) {
        const json_t *one = json_array_get(list, i);

        h->region[i] = (struct region){member(one, "base_host_virt_addr"), member(one, "size"),
                                       member(one, "offset")};
        h->page = member(one, "page_size");
        if (json_object_size(one) != 5 || member(one, "page_size_kib") != h->page)
            give_up();
    }
    h->seen->page_size = (unsigned)h->page;
}

static void map_file(struct handler *h)
{
    int fd = open(h->options.memory, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        give_up();
    h->file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    h->gone = calloc((size_t)st.st_size / h->page, 1);
    if (h->file == MAP_FAILED || !h->gone)
        give_up();
}

/* ---- pages ------------------------------------------------------------------------------------*/

/* The byte of the file that belongs at an address. */
static uint64_t offset_of(const struct handler *h, uint64_t address)
{
    for (unsigned i = 0; i < h->region_count; i++) {
        const struct region *r = &h->region[i];

        if (address >= r->base && address - r->base < r->size)
            return r->offset + (address - r->base);
    }
    give_up();
}

/* False: something is being removed, whose event must be read first. */
static bool serve(struct handler *h, uint64_t address)
{
    static uint8_t zeroes[2 << 20];
    uint64_t offset = offset_of(h, address);
    bool gone = h->gone[offset / h->page];
    struct uffdio_copy copy = {
        .dst = address,
        .src = (uintptr_t)(gone ? zeroes : h->file + offset),
        .len = h->page,
    };
    struct uffdio_range range = {address, h->page};

    if (h->options.delay_us)
        usleep(h->options.delay_us);
    if (ioctl(h->uffd, UFFDIO_COPY, &copy)) {
        if (errno == EAGAIN)
            return false;
        if (errno != EEXIST)
            give_up();
        (void)ioctl(h->uffd, UFFDIO_WAKE, &range);
        return true;
    }
    if (gone)
        h->seen->zeroed++;
    else
        h->seen->copied++;
    return true;
}

static void serve_waiting(struct handler *h)
{
    unsigned count = h->fault_count;

    h->fault_count = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!serve(h, h->fault[i]))
            h->fault[h->fault_count++] = h->fault[i];
    }
}

static void remove_pages(struct handler *h, uint64_t start, uint64_t end)
{
    for (uint64_t at = start; at < end; at += h->page) {
        h->gone[offset_of(h, at) / h->page] = 1;
        h->seen->removed++;
    }
}

static void take(struct handler *h, const struct uffd_msg *msg)
{
    if (msg->event == UFFD_EVENT_REMOVE)
        remove_pages(h, msg->arg.remove.start, msg->arg.remove.end);
    else if (msg->event == UFFD_EVENT_PAGEFAULT && h->fault_count < FAULTS)
        h->fault[h->fault_count++] = msg->arg.pagefault.address & ~(h->page - 1);
    else
        give_up();
}

/* ---- its life ---------------------------------------------------------------------------------*/

static void come_to_the_end(struct handler *h)
{
    switch (h->options.end) {
    case UFFD_HANDLER_DIES:
        _exit(0);
    case UFFD_HANDLER_IS_SILENT:
        h->silent = true;
        return;
    case UFFD_HANDLER_HANGS_UP:
        close(h->connection);
        return;
    case UFFD_HANDLER_WALKS_AWAY:
        close(h->connection);
        close(h->uffd);
        for (;;)
            pause();
    }
}

static _Noreturn void run(struct handler *h, int listener)
{
    h->connection = accept(listener, NULL, NULL);
    if (h->connection < 0)
        give_up();
    receive(h);
    read_regions(h);
    map_file(h);
    if (h->options.at_once)
        come_to_the_end(h);
    for (;;) {
        struct pollfd p[] = {{.fd = h->uffd, .events = POLLIN},
                             {.fd = h->signals, .events = POLLIN}};
        struct signalfd_siginfo info;
        struct uffd_msg msg;

        if (poll(p, 2, h->fault_count ? 1 : -1) < 0 || p[0].revents & (POLLERR | POLLHUP))
            give_up();
        if (p[1].revents && read(h->signals, &info, sizeof(info)) > 0)
            come_to_the_end(h);
        while (h->fault_count < FAULTS && read(h->uffd, &msg, sizeof(msg)) == sizeof(msg))
            take(h, &msg);
        if (h->silent)
            h->fault_count = 0;
        serve_waiting(h);
    }
}

static int take_signal(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

pid_t uffd_handler_fork(const char *path, const struct uffd_handler_options *options,
                        const struct uffd_handler_seen **seen)
{
    struct uffd_handler_seen *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int listener = vhost_server_listen(path);
    pid_t pid;

    if (listener < 0 || shared == MAP_FAILED)
        return listener < 0 ? listener : -ENOMEM;
    *seen = shared;
    pid = fork();
    if (pid == 0) {
        struct handler h = {.options = *options, .seen = shared, .signals = take_signal()};

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(&h, listener);
    }
    close(listener);
    return pid < 0 ? -errno : pid;
}
