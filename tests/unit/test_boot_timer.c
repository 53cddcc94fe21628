/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/legacy/boot_timer.c: the log line that tools look for, and the timeline's stamps. */
#include "tests/unit/unit.h"
#include "vmm/base/log.h"
#include "vmm/base/timeline.h"
#include "vmm/legacy/boot_timer.h"

#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    struct bus bus;
    struct boot_timer timer;
    char path[32];
    char log[1024];
};

static void start(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    strcpy(f->path, "/tmp/mayfly-test-XXXXXX");
    close(mkstemp(f->path));
    assert_int_equal(log_set_path(f->path, NULL), 0);
    boot_timer_init(&f->timer);
    assert_int_equal(boot_timer_attach(&f->timer, &f->bus, NULL), 0);
}

static void finish(struct fixture *f)
{
    assert_int_equal(log_set_path(NULL, NULL), 0);
    unlink(f->path);
}

static const char *read_log(struct fixture *f)
{
    int fd = open(f->path, O_RDONLY);
    ssize_t n = read(fd, f->log, sizeof(f->log) - 1);

    f->log[MAX(n, 0)] = 0;
    close(fd);
    return f->log;
}

static bool matches(const char *text, const char *pattern, long value[4])
{
    regmatch_t group[5];
    regex_t regex;
    bool found;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED), 0);
    found = regexec(&regex, text, 5, group, 0) == 0;
    for (int i = 0; found && i < 4; i++)
        value[i] = strtol(text + group[i + 1].rm_so, NULL, 10);
    regfree(&regex);
    return found;
}

static void test_boot_timer_other_values_stamp_the_timeline_only(void **state)
{
    struct fixture f;
    uint8_t value = 1;

    (void)state;
    start(&f);

    assert_true(bus_write(&f.bus, BOOT_TIMER_ADDR, &value, 1));

    assert_non_null(timeline_guest(0));
    assert_int_equal(timeline_guest(0)->value, value);
    assert_int_equal(timeline_ns(TIMELINE_INIT), 0);
    assert_string_equal(read_log(&f), "");
    finish(&f);
}

static void test_boot_timer_ignores_wide_and_displaced_writes(void **state)
{
    struct fixture f;
    uint32_t wide = BOOT_TIMER_VALUE;
    uint8_t value = BOOT_TIMER_VALUE;

    (void)state;
    start(&f);

    assert_true(bus_write(&f.bus, BOOT_TIMER_ADDR, &wide, 4));
    assert_true(bus_write(&f.bus, BOOT_TIMER_ADDR + 1, &value, 1));

    assert_int_equal(timeline_ns(TIMELINE_INIT), 0);
    assert_string_equal(read_log(&f), "");
    finish(&f);
}

static void test_boot_timer_logs_wall_and_processor_time(void **state)
{
    struct fixture f;
    uint8_t value = BOOT_TIMER_VALUE;
    long times[4] = {0};

    (void)state;
    start(&f);
    f.timer.start_wall_ns -= 28 * NSEC_PER_MSEC;

    assert_true(bus_write(&f.bus, BOOT_TIMER_ADDR, &value, 1));

    assert_true(matches(read_log(&f),
                        "Guest-boot-time = +([0-9]+) us ([0-9]+) ms, +([0-9]+) CPU us ([0-9]+) CPU "
                        "ms\n$",
                        times));
    assert_in_range(times[0], 28000, 1000 * 1000);
    assert_int_equal(times[1], times[0] / 1000);
    assert_int_equal(times[3], times[2] / 1000);
    assert_int_not_equal(timeline_ns(TIMELINE_INIT), 0);
    finish(&f);
}

static void test_boot_timer_pads_times_to_six_columns(void **state)
{
    struct fixture f;
    uint8_t value = BOOT_TIMER_VALUE;
    const char *field, *end;

    (void)state;
    start(&f);

    assert_true(bus_write(&f.bus, BOOT_TIMER_ADDR, &value, 1));

    /* Far less than a second has passed: fewer than six digits, padded on the left. */
    field = strstr(read_log(&f), "Guest-boot-time = ");
    assert_non_null(field);
    field += strlen("Guest-boot-time = ");
    end = strstr(field, " us ");
    assert_non_null(end);
    assert_int_equal(end - field, 6);
    assert_int_equal(field[0], ' ');
    finish(&f);
}

int main(void)
{
    /* In this order: the timeline keeps the first stamp of each stage. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot_timer_other_values_stamp_the_timeline_only),
        cmocka_unit_test(test_boot_timer_ignores_wide_and_displaced_writes),
        cmocka_unit_test(test_boot_timer_logs_wall_and_processor_time),
        cmocka_unit_test(test_boot_timer_pads_times_to_six_columns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
