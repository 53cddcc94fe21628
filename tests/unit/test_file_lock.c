/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/snapshot/file_lock.c, on real files and processes. */
#include "tests/unit/unit.h"
#include "vmm/snapshot/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/wait.h>

static char path[] = "/tmp/mayfly-test-lock-XXXXXX";

static int open_file(int flags)
{
    int fd = open(path, flags | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* Whether somebody who writes could have the file now. */
static int try_alone(const struct file_lock *own)
{
    int fd = open_file(O_RDWR), rc = file_lock_alone(fd, own);

    close(fd);
    return rc;
}

static void test_file_shared_by_another_cannot_be_had_alone(void **state)
{
    struct file_lock first, second;
    int a = open_file(O_RDONLY), b = open_file(O_RDONLY);

    (void)state;
    assert_int_equal(try_alone(NULL), 0);
    assert_int_equal(file_lock_share(&first, a), 0);
    assert_int_equal(file_lock_share(&second, b), 0);
    assert_true(first.byte > 0 && second.byte > 0 && first.byte != second.byte);
    assert_int_equal(try_alone(NULL), -EAGAIN);
    assert_int_equal(try_alone(&first), -EAGAIN);
    close(b);
    assert_int_equal(try_alone(NULL), -EAGAIN);
    assert_int_equal(try_alone(&first), 0);
    close(a);
    assert_int_equal(try_alone(NULL), 0);
}

static void test_file_had_alone_cannot_be_shared_or_had_by_another(void **state)
{
    struct file_lock own, other;
    int a = open_file(O_RDONLY), b = open_file(O_RDONLY), writer = open_file(O_RDWR);

    (void)state;
    assert_int_equal(file_lock_share(&own, a), 0);
    assert_int_equal(file_lock_alone(writer, &own), 0);
    assert_int_equal(file_lock_share(&other, b), -EAGAIN);
    assert_int_equal(other.byte, 0);
    assert_int_equal(try_alone(NULL), -EAGAIN);
    assert_int_equal(try_alone(&own), -EAGAIN);
    close(writer);
    assert_int_equal(file_lock_share(&other, b), 0);
    close(a);
    close(b);
}

/* What could not be had must not be kept from others by half. */
static void test_refused_writer_holds_nothing(void **state)
{
    struct file_lock own, other, third;
    int a = open_file(O_RDONLY), b = open_file(O_RDONLY), c = open_file(O_RDONLY);
    int writer = open_file(O_RDWR);

    (void)state;
    assert_int_equal(file_lock_share(&own, a), 0);
    assert_int_equal(file_lock_share(&other, b), 0);
    assert_int_equal(file_lock_alone(writer, &own), -EAGAIN);
    assert_int_equal(file_lock_alone(writer, &other), -EAGAIN);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(file_lock_share(&third, c), 0);
    close(writer);
    close(a);
    close(b);
    close(c);
}

/* A child that only inherited the descriptor would be its parent, as far as locks go. */
static void test_forked_child_counts_when_it_has_locked_anew(void **state)
{
    struct file_lock own, child;
    int ready[2], status, a = open_file(O_RDONLY);
    char byte;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(file_lock_share(&own, a), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int anew = file_lock_share_anew(&child, a, path);

        close(a);
        if (anew < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(try_alone(&own), -EAGAIN);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(try_alone(&own), 0);
    close(ready[0]);
    close(ready[1]);
    close(a);
}

static void test_lock_of_file_that_lost_its_name_is_taken_anew(void **state)
{
    struct file_lock own, anew;
    char other[] = "/tmp/mayfly-test-lock-XXXXXX";
    int fd = mkstemp(other), second;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(file_lock_share(&own, fd), 0);
    second = file_lock_share_anew(&anew, fd, other);
    assert_true(second >= 0);
    assert_int_equal(file_lock_alone(fd, NULL), -EAGAIN);
    close(second);
    assert_int_equal(file_lock_alone(fd, NULL), 0);
    close(fd);
}

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    if (fd >= 0)
        close(fd);
    return fd < 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_shared_by_another_cannot_be_had_alone),
        cmocka_unit_test(test_file_had_alone_cannot_be_shared_or_had_by_another),
        cmocka_unit_test(test_refused_writer_holds_nothing),
        cmocka_unit_test(test_forked_child_counts_when_it_has_locked_anew),
        cmocka_unit_test(test_lock_of_file_that_lost_its_name_is_taken_anew),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
