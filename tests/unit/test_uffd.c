/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/snapshot/uffd.c and of served memory, on the kernel's userfaultfd: the other process
 * is a child that listens, and does as its test says. */
#include "tests/unit/unit.h"
#include "vmm/snapshot/uffd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define RAM (4 * MIB)

static char directory[] = "/tmp/mayfly-test-XXXXXX";

static const char *socket_path(void)
{
    static char path[64];

    snprintf(path, sizeof(path), "%s/uffd", directory);
    return path;
}

static struct mem make_memory(void)
{
    struct mem mem;

    assert_int_equal(mem_create_served(&mem, RAM, MEM_PAGES_DEFAULT, false, NULL), 0);
    return mem;
}

/* ---- the other process ----------------------------------------------------------------------- */

static int receive_uffd(int connection)
{
    char text[1024], control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {text, sizeof(text)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    int fd;

    if (recvmsg(connection, &msg, 0) <= 0 || !CMSG_FIRSTHDR(&msg))
        _exit(1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
    return fd;
}

/* Serves so many pages of the byte 7, or as removed ones of zeroes; then it is silent. */
static _Noreturn void serve(int listener, unsigned pages)
{
    int uffd = receive_uffd(accept(listener, NULL, NULL));
    static uint8_t page[PAGE_SIZE];
    struct uffd_msg msg;

    memset(page, 7, sizeof(page));
    for (unsigned served = 0; served < pages;) {
        if (read(uffd, &msg, sizeof(msg)) != sizeof(msg)) {
            usleep(500);
            continue;
        }
        if (msg.event == UFFD_EVENT_REMOVE) {
            memset(page, 0, sizeof(page));
            continue;
        }
        struct uffdio_copy copy = {.dst = msg.arg.pagefault.address & ~(PAGE_SIZE - 1),
                                   .src = (uintptr_t)page,
                                   .len = PAGE_SIZE};
        if (ioctl(uffd, UFFDIO_COPY, &copy))
            _exit(2);
        served++;
    }
    for (;;)
        pause();
}

static pid_t start_server(unsigned pages)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ready = eventfd(0, 0);
    pid_t pid;

    unlink(socket_path());
    strcpy(address.sun_path, socket_path());
    pid = fork();
    if (pid == 0) {
        int listener = socket(AF_UNIX, SOCK_STREAM, 0);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 1))
            _exit(1);
        eventfd_write(ready, 1);
        serve(listener, pages);
    }
    eventfd_t value;
    assert_int_equal(eventfd_read(ready, &value), 0);
    close(ready);
    return pid;
}

static void stop_server(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* The last words, instead of the end of the process. */
static int lost_fd;
static struct err lost_words;

static void lost(const struct err *e)
{
    lost_words = *e;
    eventfd_write(lost_fd, 1);
    pthread_exit(NULL);
}

static void expect_lost(const char *part)
{
    eventfd_t value;

    assert_int_equal(eventfd_read(lost_fd, &value), 0);
    if (!strstr(lost_words.text, part))
        fail_msg("the last words were: %s", lost_words.text);
}

/* ---- the message ----------------------------------------------------------------------------- */

static void test_uffd_message_tells_regions_in_bytes_and_in_the_order_of_the_file(void **state)
{
    struct mem mem = {
        .count = 2,
        .region = {{.hva = (void *)0x1000000, .size = 3 * GIB},
                   {.hva = (void *)0x200000000, .size = GIB}},
    };
    char *text = uffd_message(&mem);

    (void)state;
    assert_string_equal(
        text, "[{\"base_host_virt_addr\":16777216,\"size\":3221225472,\"offset\":0,"
              "\"page_size\":4096,\"page_size_kib\":4096},"
              "{\"base_host_virt_addr\":8589934592,\"size\":1073741824,\"offset\":3221225472,"
              "\"page_size\":4096,\"page_size_kib\":4096}]");
    free(text);
    mem.pages = MEM_PAGES_HUGETLB_2M;
    text = uffd_message(&mem);
    assert_non_null(strstr(text, "\"page_size\":2097152,\"page_size_kib\":2097152}"));
    free(text);
}

/* ---- the hand-over --------------------------------------------------------------------------- */

static void expect_refusal(const char *path, const char *part)
{
    struct mem mem = make_memory();
    struct uffd *uffd;
    struct err e;

    assert_true(uffd_serve(&uffd, &mem, path, lost, &e) < 0);
    assert_non_null(strstr(e.text, part));
    assert_null(mem.pager);
    mem_destroy(&mem);
}

static void test_uffd_serve_without_a_listener_fails_with_the_systems_words(void **state)
{
    char path[200];

    (void)state;
    expect_refusal("/nowhere/uffd",
                   "Failed to connect to UDS Unix stream: No such file or directory (os error 2)");
    memset(path, 'x', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    expect_refusal(path, "a socket's path has at most 107 bytes");
}

static void test_uffd_serve_of_a_process_that_dies_first_fails(void **state)
{
    pid_t pid = start_server(0);

    (void)state;
    if (fork() == 0) {
        usleep(50000);
        kill(pid, SIGKILL);
        _exit(0);
    }
    expect_refusal(socket_path(), "has hung up before it served a page");
    stop_server(pid);
}

static void test_served_memory_holds_what_the_other_process_gives(void **state)
{
    struct mem mem = make_memory();
    pid_t pid = start_server(3);
    struct uffd *uffd;
    uint8_t bytes[2];

    (void)state;
    assert_int_equal(uffd_serve(&uffd, &mem, socket_path(), lost, NULL), 0);
    assert_true(mem_is_served(&mem));
    assert_int_equal(mem_read(&mem, GPA(0), bytes, 1), 0);
    assert_int_equal(bytes[0], 7);
    assert_int_equal(mem_read(&mem, GPA(3 * PAGE_SIZE - 1), bytes, 2), 0);
    assert_int_equal(bytes[0], 7);
    assert_int_equal(bytes[1], 7);
    uffd_destroy(uffd);
    mem_destroy(&mem);
    stop_server(pid);
}

static void test_served_memory_that_was_discarded_is_asked_for_again(void **state)
{
    struct mem mem = make_memory();
    pid_t pid = start_server(3);
    struct uffd *uffd;
    uint8_t byte;

    (void)state;
    assert_int_equal(uffd_serve(&uffd, &mem, socket_path(), lost, NULL), 0);
    assert_int_equal(mem_read(&mem, GPA(PAGE_SIZE), &byte, 1), 0);
    assert_int_equal(byte, 7);
    assert_int_equal(mem_discard(&mem, mem_writable(&mem, GPA(PAGE_SIZE), PAGE_SIZE), PAGE_SIZE),
                     0);
    assert_int_equal(mem_read(&mem, GPA(PAGE_SIZE), &byte, 1), 0);
    assert_int_equal(byte, 0);
    uffd_destroy(uffd);
    mem_destroy(&mem);
    stop_server(pid);
}

/* ---- the watch ------------------------------------------------------------------------------- */

static void test_uffd_is_lost_when_the_process_dies(void **state)
{
    struct mem mem = make_memory();
    pid_t pid = start_server(1);
    struct uffd *uffd;

    (void)state;
    assert_int_equal(uffd_serve(&uffd, &mem, socket_path(), lost, NULL), 0);
    stop_server(pid);
    expect_lost("which serves the guest's memory, has hung up.");
    uffd_destroy(uffd);
    mem_destroy(&mem);
}

/* The end of the registration wakes it: the test's own way out. */
static void *touch(void *arg)
{
    struct mem *mem = arg;

    mem_wait_begins(mem);
    (void)*(volatile uint8_t *)(mem->region[0].hva + MIB);
    return NULL;
}

static void test_uffd_is_lost_when_the_monitor_waits_too_long_for_a_page(void **state)
{
    struct mem mem = make_memory();
    pid_t pid = start_server(1);
    struct uffd *uffd;
    pthread_t waiting;

    (void)state;
    assert_int_equal(uffd_serve(&uffd, &mem, socket_path(), lost, NULL), 0);
    mem_wait_begins(&mem); /* a short one, which is forgotten */
    mem_wait_is_over(&mem);
    assert_int_equal(pthread_create(&waiting, NULL, touch, &mem), 0);
    expect_lost("has not served a page for 10 seconds that the monitor itself needs");
    uffd_destroy(uffd);
    pthread_join(waiting, NULL);
    mem_destroy(&mem);
    stop_server(pid);
}

static int set_up(void **state)
{
    (void)state;
    lost_fd = eventfd(0, 0);
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(socket_path());
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uffd_message_tells_regions_in_bytes_and_in_the_order_of_the_file),
        cmocka_unit_test(test_uffd_serve_without_a_listener_fails_with_the_systems_words),
        cmocka_unit_test(test_uffd_serve_of_a_process_that_dies_first_fails),
        cmocka_unit_test(test_served_memory_holds_what_the_other_process_gives),
        cmocka_unit_test(test_served_memory_that_was_discarded_is_asked_for_again),
        cmocka_unit_test(test_uffd_is_lost_when_the_process_dies),
        cmocka_unit_test(test_uffd_is_lost_when_the_monitor_waits_too_long_for_a_page),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
