/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/irq.c. */
#include "tests/unit/unit.h"
#include "vmm/base/irq.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

static void test_irq_raise_signals_once_per_call_and_counts(void **state)
{
    struct irq_line line;
    uint64_t count = 0, triggers = metrics.interrupts.triggers;

    (void)state;
    assert_int_equal(irq_line_create(&line, 5, NULL), 0);
    assert_int_equal(line.gsi, 5);

    irq_raise(&line);
    irq_raise(&line);
    irq_raise(&line);

    assert_int_equal(read(line.fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 3);
    assert_int_equal(metrics.interrupts.triggers - triggers, 3);
    irq_line_destroy(&line);
}

static void test_irq_line_is_closed_on_exec_and_never_blocks(void **state)
{
    struct irq_line line;
    uint64_t count;

    (void)state;
    assert_int_equal(irq_line_create(&line, 5, NULL), 0);

    assert_true(fcntl(line.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(read(line.fd, &count, sizeof(count)), -1);
    assert_int_equal(errno, EAGAIN);
    irq_line_destroy(&line);
}

static void test_irq_raise_without_descriptor_does_nothing(void **state)
{
    struct irq_line line = {.gsi = 5, .fd = -1};
    uint64_t triggers = metrics.interrupts.triggers;

    (void)state;
    irq_raise(&line);

    assert_int_equal(metrics.interrupts.triggers, triggers);
}

static void test_irq_line_destroy_twice_closes_once(void **state)
{
    struct irq_line line;
    int fd;

    (void)state;
    assert_int_equal(irq_line_create(&line, 5, NULL), 0);
    fd = line.fd;

    irq_line_destroy(&line);
    assert_int_equal(line.fd, -1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    irq_line_destroy(&line);
}

static void test_irq_line_create_without_descriptors_names_interrupt(void **state)
{
    struct irq_line line;
    struct rlimit old, none = {0};
    struct err e;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);

    int rc = irq_line_create(&line, 23, &e);

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(rc, -EMFILE);
    assert_non_null(strstr(e.text, "interrupt 23"));
    assert_int_equal(line.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_irq_raise_signals_once_per_call_and_counts),
        cmocka_unit_test(test_irq_line_is_closed_on_exec_and_never_blocks),
        cmocka_unit_test(test_irq_raise_without_descriptor_does_nothing),
        cmocka_unit_test(test_irq_line_destroy_twice_closes_once),
        cmocka_unit_test(test_irq_line_create_without_descriptors_names_interrupt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
