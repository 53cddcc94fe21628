/* SPDX-License-Identifier: Apache-2.0 */
/* uffd.c: see uffd.h. */
#include "vmm/snapshot/uffd.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>

/* Of the thread that watches: plenty, and too small for the host to back it with a huge page. */
#define STACK_SIZE (256 * KIB)

/* How often a process that has hung up is looked after. */
#define LOOK_MS 250

/* A process that ends hangs up a little before it has ended. */
#define ENDING_MS 100

/* getsockopt(2): a descriptor of the process at the other end (Linux 6.5). */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

struct uffd {
    struct mem_pager pager; /* first */
    const struct mem *mem;
    int fd, socket;
    int process;  /* pidfd of who listened at the socket; -1 = not known */
    int patience; /* timerfd: runs while the monitor waits for a page */
    int answered; /* eventfd: the first page has come */
    int over;     /* eventfd: the watch is to end */
    unsigned waits;
    char *path;
    void (*lost)(const struct err *e);
    pthread_t thread, prober;
    bool watched, probed; /* the threads were started */
};

/* ---- the descriptor -------------------------------------------------------------------------- */

static int open_uffd(void)
{
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

    if (device < 0) {
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        return fd < 0 ? -errno : fd;
    }
    fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fd = -errno;
    close(device);
    return fd;
}

static int create(struct uffd *uffd, struct err *e)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};

    uffd->fd = open_uffd();
    if (uffd->fd == -EPERM)
        return err_set(e, uffd->fd,
                       "Failed to build Uffd object: this process may not have a userfaultfd: let "
                       "it open /dev/userfaultfd, or set the sysctl vm.unprivileged_userfaultfd "
                       "to 1: %s",
                       err_os(uffd->fd));
    if (uffd->fd < 0)
        return err_set(e, uffd->fd, "Failed to build Uffd object: %s", err_os(uffd->fd));
    if (ioctl(uffd->fd, UFFDIO_API, &api))
        return err_set(e, -errno,
                       "Failed to build Uffd object: this kernel has no remove events: %s",
                       err_os(-errno));
    return 0;
}

static int register_memory(const struct uffd *uffd, struct err *e)
{
    for (unsigned i = 0; i < uffd->mem->count; i++) {
        const struct mem_region *region = &uffd->mem->region[i];
        struct uffdio_register range = {
            .range = {(uintptr_t)region->hva, region->size},
            .mode = UFFDIO_REGISTER_MODE_MISSING,
        };

        if (ioctl(uffd->fd, UFFDIO_REGISTER, &range))
            return err_set(e, -errno, "Failed to register memory with Uffd: %s", err_os(-errno));
    }
    return 0;
}

/* ---- the hand-over --------------------------------------------------------------------------- */

char *uffd_message(const struct mem *mem)
{
    unsigned long long page = mem_page_size(mem), offset = 0;
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return NULL;
    for (unsigned i = 0; i < mem->count; i++) {
        const struct mem_region *region = &mem->region[i];

        fprintf(out,
                "%c{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,"
                "\"page_size\":%llu,\"page_size_kib\":%llu}",
                i == 0 ? '[' : ',', (unsigned long long)(uintptr_t)region->hva,
                (unsigned long long)region->size, offset, page, page);
        offset += region->size;
    }
    fputc(']', out);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

/* A listener that does not accept, or a full socket, is waited for as long as for a page. */
static int connect_to(struct uffd *uffd, struct err *e)
{
    const struct timeval patience = {.tv_sec = UFFD_PATIENCE_MS / 1000};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(uffd->path) >= sizeof(address.sun_path))
        return err_set(
            e, -ENAMETOOLONG,
            "Failed to connect to UDS Unix stream: a socket's path has at most %zu bytes.",
            sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, uffd->path, strlen(uffd->path));
    uffd->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (uffd->socket < 0 ||
        setsockopt(uffd->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
        connect(uffd->socket, (const struct sockaddr *)&address, sizeof(address)))
        return err_set(e, -errno, "Failed to connect to UDS Unix stream: %s", err_os(-errno));
    return 0;
}

static int send_message(const struct uffd *uffd, struct err *e)
{
    char *text = uffd_message(uffd->mem);
    struct iovec iov = {text, text ? strlen(text) : 0};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&msg);
    int rc = text ? 0 : -ENOMEM;

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &uffd->fd, sizeof(int));
    if (rc == 0 && sendmsg(uffd->socket, &msg, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
        rc = errno ? -errno : -EIO;
    free(text);
    if (rc)
        return err_set(e, rc, "Failed to send the Uffd to the process behind %s: %s", uffd->path,
                       err_os(rc));
    (void)shutdown(uffd->socket, SHUT_WR);
    return 0;
}

/* Who is at the other end: who listens there, which need not be whom the socket was handed to. */
static int find_process(int socket)
{
    struct ucred who = {0};
    int fd = -1;
    socklen_t len = sizeof(fd);

    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
        return fd;
    len = sizeof(who);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &len) || who.pid <= 0)
        return -1;
    return (int)syscall(SYS_pidfd_open, who.pid, 0);
}

/* ---- is anybody there? ----------------------------------------------------------------------- */

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

/* Of who has hung up: has ended, or nobody knows. */
static bool process_is_gone(const struct uffd *uffd)
{
    struct pollfd p = {.fd = uffd->process, .events = POLLIN};

    return uffd->process < 0 || poll(&p, 1, ENDING_MS) > 0;
}

/* Since when events wait unread, as far as was looked; whether that is too long. */
static bool is_unread(const struct uffd *uffd, uint64_t *since)
{
    uint64_t now = now_ns();

    if (!is_readable(uffd->fd))
        *since = 0;
    else if (*since == 0)
        *since = now;
    return *since && now - *since >= UFFD_UNREAD_MS * NSEC_PER_MSEC;
}

/* A page that has not come yet, or was given back; NULL when there is none. */
static const uint8_t *find_missing(const struct mem *mem)
{
    uint64_t page = mem_page_size(mem);
    unsigned char there[512];

    for (unsigned i = 0; i < mem->count; i++) {
        const struct mem_region *region = &mem->region[i];

        for (uint64_t at = 0; at < region->size; at += sizeof(there) * PAGE_SIZE) {
            uint64_t len = MIN(sizeof(there) * PAGE_SIZE, region->size - at);

            if (mincore(region->hva + at, len, there))
                return NULL;
            for (uint64_t j = 0; j < len / PAGE_SIZE; j += page / PAGE_SIZE) {
                if (!(there[j] & 1))
                    return region->hva + at + j * PAGE_SIZE;
            }
        }
    }
    return NULL;
}

/* Everything but what the thread's own faults raise belongs to the main thread. */
static void choose_signals(void)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
    sigset_t set;

    sigfillset(&set);
    for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static int start_thread(pthread_t *thread, void *(*run)(void *arg), struct uffd *uffd)
{
    pthread_attr_t attributes;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    rc = pthread_create(thread, &attributes, run, uffd);
    pthread_attr_destroy(&attributes);
    return -rc;
}

static void *prober_thread(void *arg)
{
    const struct uffd *uffd = arg;
    const uint8_t *missing = find_missing(uffd->mem);

    choose_signals();
    if (missing)
        (void)*(const volatile uint8_t *)missing;
    return NULL;
}

/* ---- the watch ------------------------------------------------------------------------------- */

static void lose(const struct uffd *uffd, const char *why)
{
    struct err e;

    err_set(&e, -EPIPE, "The process behind %s, which serves the guest's memory, %s.", uffd->path,
            why);
    uffd->lost(&e);
}

static void lose_patience(const struct uffd *uffd)
{
    uint64_t expired;

    /* Nothing to read: the wait was over before we looked. */
    if (read(uffd->patience, &expired, sizeof(expired)) == sizeof(expired))
        lose(uffd, "has not served a page for 10 seconds that the monitor itself needs");
}

/* Lives it, then a page is asked for: whoever serves will read that. */
static void see_hang_up(struct uffd *uffd)
{
    if (process_is_gone(uffd))
        lose(uffd, "has hung up");
    log_warn("The process behind %s has hung up. It may still serve the guest's memory.",
             uffd->path);
    uffd->probed = start_thread(&uffd->prober, prober_thread, uffd) == 0;
}

static void watch(struct uffd *uffd)
{
    bool hung_up = false;
    uint64_t unread = 0;

    for (;;) {
        struct pollfd p[] = {
            {.fd = uffd->over, .events = POLLIN},
            {.fd = uffd->patience, .events = POLLIN},
            {.fd = hung_up ? uffd->process : uffd->socket, .events = hung_up ? POLLIN : POLLRDHUP},
        };

        if (poll(p, ARRAY_SIZE(p), hung_up ? LOOK_MS : -1) < 0)
            continue;
        if (p[0].revents)
            return;
        if (p[1].revents)
            lose_patience(uffd);
        if (p[2].revents && hung_up)
            lose(uffd, "has ended");
        if (p[2].revents)
            see_hang_up(uffd);
        hung_up |= p[2].revents != 0;
        if (hung_up && is_unread(uffd, &unread))
            lose(uffd, "has hung up and serves no pages any more");
    }
}

static void *watch_thread(void *arg)
{
    struct uffd *uffd = arg;

    choose_signals();
    prctl(PR_SET_NAME, "fc_uffd");
    log_set_thread("fc_uffd");
    (void)*(const volatile uint8_t *)uffd->mem->region[0].hva;
    (void)eventfd_write(uffd->answered, 1);
    watch(uffd);
    return NULL;
}

static int start_watch(struct uffd *uffd, struct err *e)
{
    int rc;

    uffd->process = find_process(uffd->socket);
    uffd->patience = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    uffd->answered = eventfd(0, EFD_CLOEXEC);
    uffd->over = eventfd(0, EFD_CLOEXEC);
    rc = uffd->patience < 0 || uffd->answered < 0 || uffd->over < 0
             ? -errno
             : start_thread(&uffd->thread, watch_thread, uffd);
    uffd->watched = rc == 0;
    return rc ? err_set(e, rc, "Failed to watch over the Uffd: %s", err_os(rc)) : 0;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* The watch has asked for it. */
static int wait_for_first_page(const struct uffd *uffd, struct err *e)
{
    const uint64_t deadline = now_ns() + UFFD_PATIENCE_MS * NSEC_PER_MSEC;
    bool hung_up = false;
    uint64_t unread = 0;

    while (now_ns() < deadline) {
        struct pollfd p[] = {
            {.fd = uffd->answered, .events = POLLIN},
            {.fd = hung_up ? -1 : uffd->socket, .events = POLLRDHUP},
        };

        if (poll(p, ARRAY_SIZE(p), hung_up ? LOOK_MS : (int)UFFD_PATIENCE_MS) < 0)
            continue;
        if (p[0].revents)
            return 0;
        hung_up |= p[1].revents != 0;
        if (hung_up && (process_is_gone(uffd) || is_unread(uffd, &unread)))
            return err_set(e, -EPIPE, "The process behind %s has hung up before it served a page.",
                           uffd->path);
    }
    return err_set(e, -ETIMEDOUT, "The process behind %s has not served a page for %u seconds.",
                   uffd->path, UFFD_PATIENCE_MS / 1000);
}

static void set_patience(const struct uffd *uffd, unsigned seconds)
{
    const struct itimerspec spec = {.it_value.tv_sec = seconds};

    (void)timerfd_settime(uffd->patience, 0, &spec, NULL);
}

static void wait_begins(struct mem_pager *pager)
{
    struct uffd *uffd = container_of(pager, struct uffd, pager);

    if (uffd->waits++ == 0)
        set_patience(uffd, UFFD_PATIENCE_MS / 1000);
}

static void wait_is_over(struct mem_pager *pager)
{
    struct uffd *uffd = container_of(pager, struct uffd, pager);

    if (--uffd->waits == 0)
        set_patience(uffd, 0);
}

/* ---- its life -------------------------------------------------------------------------------- */

static int hand_over(struct uffd *uffd, struct err *e)
{
    int rc = create(uffd, e);

    if (rc == 0)
        rc = register_memory(uffd, e);
    if (rc == 0)
        rc = connect_to(uffd, e);
    if (rc == 0)
        rc = send_message(uffd, e);
    if (rc == 0)
        rc = start_watch(uffd, e);
    return rc ? rc : wait_for_first_page(uffd, e);
}

int uffd_serve(struct uffd **out, struct mem *mem, const char *path,
               void (*lost)(const struct err *e), struct err *e)
{
    struct uffd *uffd = malloc(sizeof(*uffd));
    char *copy = strdup(path);
    int rc;

    if (!uffd || !copy) {
        free(uffd);
        free(copy);
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    }
    *uffd = (struct uffd){
        .pager = {wait_begins, wait_is_over},
        .mem = mem,
        .fd = -1,
        .socket = -1,
        .process = -1,
        .patience = -1,
        .answered = -1,
        .over = -1,
        .path = copy,
        .lost = lost,
    };
    rc = hand_over(uffd, e);
    if (rc) {
        uffd_destroy(uffd);
        return rc;
    }
    mem->pager = &uffd->pager;
    *out = uffd;
    return 0;
}

/* Wakes whoever waits for a page. */
static void unregister_memory(const struct uffd *uffd)
{
    for (unsigned i = 0; i < uffd->mem->count; i++) {
        const struct mem_region *region = &uffd->mem->region[i];
        struct uffdio_range range = {(uintptr_t)region->hva, region->size};

        (void)ioctl(uffd->fd, UFFDIO_UNREGISTER, &range);
    }
}

void uffd_destroy(struct uffd *uffd)
{
    if (!uffd)
        return;
    if (uffd->watched) {
        (void)eventfd_write(uffd->over, 1); /* first: who is woken must not look for hang-ups */
        unregister_memory(uffd);
        pthread_join(uffd->thread, NULL);
    }
    if (uffd->probed)
        pthread_join(uffd->prober, NULL);
    const int fds[] = {uffd->fd,       uffd->socket,   uffd->process,
                       uffd->patience, uffd->answered, uffd->over};

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    free(uffd->path);
    free(uffd);
}
