/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_metrics_file.c: the lines of the metrics file: increases and gauges, groups of drives and
 * their sum, when lines are written, and what a full FIFO does. The file is opened once in a
 * process, so each test is a process of its own.
 */
#include "api/metrics.h"
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_devices.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

/* What a test has made: tear_down frees it. */
static json_t *read_lines[16];
static unsigned read_count;
static struct machine *machine;
static struct loop *loop;

/* The JSON of line `n` (from 0) of file m; NULL = there are not that many. */
static json_t *line_of_file(unsigned n)
{
    static char text[1 << 18];
    int fd = open("m", O_RDONLY);
    ssize_t len = read(fd, text, sizeof(text) - 1);
    char *at = text, *line = NULL;

    close(fd);
    if (len < 0)
        return NULL;
    text[len] = '\0';
    for (unsigned i = 0; i <= n; i++) {
        line = strsep(&at, "\n");
        if (!line || !*line)
            return NULL;
    }
    assert_true(read_count < ARRAY_SIZE(read_lines));
    return read_lines[read_count++] = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
}

static json_int_t value(const json_t *line, const char *group, const char *name)
{
    json_t *member = json_object_get(json_object_get(line, group), name);

    if (!json_is_integer(member))
        fail_msg("no %s.%s", group, name);
    return json_integer_value(member);
}

static void make_machine(unsigned drives)
{
    static const struct machine_options options;
    struct err e;
    char id[16];

    assert_int_equal(files_make_sparse("disk", 4096), 0);
    assert_int_equal(loop_create(&loop, &e), 0);
    assert_int_equal(machine_create(&machine, loop, &options, &e), 0);
    for (unsigned i = 0; i < drives; i++) {
        struct blk_config config = {.id = id, .path = (char[]){"disk"}};

        snprintf(id, sizeof(id), "d%u", i);
        assert_int_equal(devices_set_drive(machine_devices(machine), &config, &e), 0);
    }
}

static void test_metrics_file_counters_are_increases_and_gauges_stay(void **state)
{
    json_t *line;
    struct err e;

    (void)state;
    assert_int_equal(metrics_open("m", NULL, NULL, &e), 0);
    assert_null(line_of_file(0));
    metrics.uart.write_count = 5;
    metrics.latencies_us.pause_vm = 7;
    metric_agg_add(&metrics.vcpu.exit_io_in_agg, 3 * NSEC_PER_USEC);
    assert_int_equal(metrics_flush(&e), 0);
    metrics.uart.write_count = 6;
    metric_agg_add(&metrics.vcpu.exit_io_in_agg, 9 * NSEC_PER_USEC);
    assert_int_equal(metrics_flush(NULL), 0);

    line = line_of_file(0);
    assert_int_equal(value(line, "uart", "write_count"), 5);
    assert_true(json_integer_value(json_object_get(line, "utc_timestamp_ms")) > 1600000000000);
    assert_null(json_object_get(line, "id"));
    line = line_of_file(1);
    assert_int_equal(value(line, "uart", "write_count"), 1);
    assert_int_equal(value(line, "latencies_us", "pause_vm"), 7);
    line = json_object_get(json_object_get(line, "vcpu"), "exit_io_in_agg");
    assert_int_equal(json_integer_value(json_object_get(line, "min_us")), 3);
    assert_int_equal(json_integer_value(json_object_get(line, "max_us")), 9);
    assert_int_equal(json_integer_value(json_object_get(line, "sum_us")), 9);
    assert_null(line_of_file(2));
}

static void test_metrics_file_of_a_fork_begins_anew_elsewhere(void **state)
{
    json_t *line;
    struct err e;

    (void)state;
    assert_int_equal(metrics_open("parent", "older", "{\"a\":1}", &e), 0);
    metrics.uart.write_count = 5;
    assert_int_equal(metrics_flush(&e), 0);
    assert_true(metrics_have_file());

    metrics_forget();
    assert_false(metrics_have_file());
    metrics.uart.write_count++;
    assert_int_equal(metrics_flush(&e), 0); /* nowhere */
    assert_int_equal(metrics_inherit("m", "younger", &e), 0);
    assert_int_equal(metrics_flush(&e), 0);
    line = line_of_file(0);
    assert_int_equal(value(line, "uart", "write_count"), 1);
    assert_string_equal(json_string_value(json_object_get(line, "id")), "younger");
    assert_int_equal(value(line, "properties", "a"), 1);
}

static void test_metrics_file_drives_have_groups_and_block_is_their_sum(void **state)
{
    json_t *line;
    struct err e;

    (void)state;
    make_machine(DEVICES_MAX);
    assert_int_equal(metrics_open("m", "vm-1", "{\"a\":\"\\\"b\"}", &e), 0);
    metrics_start(loop, machine);
    blk_metrics(machine->devices.drive[0].blk)->read_bytes += 10;
    blk_metrics(machine->devices.drive[31].blk)->read_bytes += 32;
    metric_agg_add(&blk_metrics(machine->devices.drive[31].blk)->read_agg, 5 * NSEC_PER_USEC);
    assert_int_equal(metrics_flush(&e), 0);
    blk_metrics(machine->devices.drive[0].blk)->read_bytes += 1;
    assert_int_equal(metrics_flush(&e), 0);

    line = line_of_file(1);
    assert_string_equal(json_string_value(json_object_get(line, "id")), "vm-1");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(line, "properties"), "a")), "\"b");
    assert_int_equal(value(line, "block_d0", "read_bytes"), 10);
    assert_int_equal(value(line, "block_d31", "read_bytes"), 32);
    assert_int_equal(value(line, "block", "read_bytes"), 42);
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(json_object_get(line, "block"), "read_agg"), "min_us")),
                     5);
    line = line_of_file(2);
    assert_int_equal(value(line, "block", "read_bytes"), 1);
    assert_int_equal(value(line, "block_d31", "read_bytes"), 0);
}

static void test_metrics_file_every_kind_of_device_has_its_groups(void **state)
{
    struct net_config eth = {.id = (char[]){"eth0"}, .tap = (char[]){"t"}};
    struct vhost_user_blk_config vhost = {.id = (char[]){"v"}, .socket = (char[]){"s"}};
    struct net *eth0, *eth1;
    json_t *line;
    struct err e;

    (void)state;
    make_machine(1);
    assert_int_equal(devices_set_net(&machine->devices, &eth, &e), 0);
    eth.id = (char[]){"eth1"};
    assert_int_equal(devices_set_net(&machine->devices, &eth, &e), 0);
    assert_int_equal(devices_set_vhost_user_drive(&machine->devices, &vhost, &e), 0);
    eth0 = devices_find_net(&machine->devices, "eth0");
    eth1 = devices_find_net(&machine->devices, "eth1");
    net_metrics(eth0)->tx_bytes_count = 10;
    net_metrics(eth1)->tx_bytes_count = 5;
    metric_agg_add(&net_metrics(eth0)->tap_write_agg, 3 * NSEC_PER_USEC);
    metric_agg_add(&net_metrics(eth1)->tap_write_agg, 7 * NSEC_PER_USEC);
    vhost_user_blk_metrics(machine->devices.drive[1].vhost)->init_time_us = 99;
    assert_int_equal(metrics_open("m", NULL, NULL, &e), 0);
    metrics_start(loop, machine);
    net_metrics(eth1)->tx_bytes_count += 2;
    assert_int_equal(metrics_flush(&e), 0);

    line = line_of_file(0);
    assert_int_equal(value(line, "net_eth0", "tx_bytes_count"), 10);
    assert_int_equal(value(line, "net_eth1", "tx_bytes_count"), 5);
    assert_int_equal(value(line, "net", "tx_bytes_count"), 15);
    assert_int_equal(json_integer_value(json_object_get(
                         json_object_get(json_object_get(line, "net"), "tap_write_agg"), "sum_us")),
                     10);
    assert_int_equal(value(line, "vhost_user_block_v", "init_time_us"), 99);
    assert_int_equal(value(line, "vhost_user_block_v", "config_change_time_us"), 0);
    assert_non_null(json_object_get(line, "block_d0"));
    assert_null(json_object_get(line, "block_v"));
    assert_null(json_object_get(line, "vhost_user_block"));
    line = line_of_file(1);
    assert_int_equal(value(line, "net_eth0", "tx_bytes_count"), 0);
    assert_int_equal(value(line, "net_eth1", "tx_bytes_count"), 2);
    assert_int_equal(value(line, "net", "tx_bytes_count"), 2);
    assert_int_equal(value(line, "vhost_user_block_v", "init_time_us"), 99);
}

static void test_metrics_file_has_a_line_at_the_start_and_every_minute(void **state)
{
    struct err e;

    (void)state;
    make_machine(0);
    assert_int_equal(metrics_open("m", NULL, NULL, &e), 0);
    metrics_start(loop, machine);
    assert_non_null(line_of_file(0));
    for (unsigned minute = 1; minute <= 2; minute++) {
        assert_null(line_of_file(minute));
        assert_int_equal(fake_loop_count(loop), 1);
        assert_int_equal(fake_loop_op(loop, 0)->verb, FAKE_TIMER);
        assert_int_equal(fake_loop_op(loop, 0)->len, 60 * NSEC_PER_SEC);
        fake_loop_complete(loop, 0, -ETIME, false);
        assert_non_null(line_of_file(minute));
    }
    fake_loop_complete(loop, 0, -ECANCELED, false);
    assert_null(line_of_file(3));
    assert_int_equal(fake_loop_count(loop), 0);
}

static void test_metrics_file_that_is_not_there_fails_nothing(void **state)
{
    struct err e;

    (void)state;
    make_machine(0);
    metrics_start(loop, machine);
    assert_int_equal(fake_loop_count(loop), 0);
    assert_int_equal(metrics_flush(&e), 0);
}

static void test_metrics_file_is_refused_a_second_time(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(metrics_open("no/m", NULL, NULL, &e), -ENOENT);
    assert_string_equal(e.text, "Cannot initialize the metrics system due to bad user input: No "
                                "such file or directory (os error 2)");
    assert_int_equal(metrics_open("m", NULL, NULL, &e), 0);
    assert_int_equal(metrics_open("m2", NULL, NULL, &e), -EEXIST);
    assert_string_equal(e.text, "Cannot initialize the metrics system due to bad user input: "
                                "Reinitialization of metrics not allowed.");
}

static void test_metrics_file_full_fifo_drops_lines_and_loses_no_increase(void **state)
{
    static char text[1 << 17];
    struct err e;
    int fd;

    (void)state;
    assert_int_equal(mkfifo("m", 0644), 0);
    assert_int_equal(metrics_open("m", NULL, NULL, &e), 0);
    while (metrics.logger.missed_metrics_count == 0)
        (void)metrics_flush(NULL);
    metrics.uart.write_count = 17;
    assert_int_equal(metrics_flush(&e), -EAGAIN);
    assert_non_null(strstr(e.text, "could not be written"));
    assert_int_equal(metrics.logger.missed_metrics_count, 2);

    fd = open("m", O_RDONLY | O_NONBLOCK);
    assert_true(read(fd, text, sizeof(text)) > 0);
    assert_int_equal(metrics_flush(&e), 0);
    memset(text, 0, sizeof(text));
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "\"write_count\":17"));
    close(fd);
}

static void test_metrics_file_line_after_a_torn_one_stands_by_itself(void **state)
{
    static char text[1 << 17];
    struct err e;
    ssize_t n;
    int fd;

    (void)state;
    assert_int_equal(mkfifo("m", 0644), 0);
    assert_int_equal(metrics_open("m", NULL, NULL, &e), 0);
    while (metrics.logger.missed_metrics_count < 3)
        (void)metrics_flush(NULL);
    fd = open("m", O_RDONLY | O_NONBLOCK);
    n = read(fd, text, sizeof(text));
    assert_true(n > 0 && text[n - 1] != '\n');
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(metrics_flush(&e), 0);
    memset(text, 0, sizeof(text));
    n = read(fd, text, sizeof(text));
    assert_true(n > 0 && text[n - 1] == '\n');
    assert_memory_equal(text, "\n{", 2);
    assert_non_null(strstr(text, "}\n{"));
    close(fd);
}

static int set_up(void **state)
{
    *state = files_enter_temporary("metrics");
    return 0;
}

static int tear_down(void **state)
{
    for (unsigned i = 0; i < read_count; i++)
        json_decref(read_lines[i]);
    if (machine)
        machine_destroy(machine);
    if (loop)
        loop_destroy(loop);
    files_leave(*state);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_metrics_file_counters_are_increases_and_gauges_stay),
        TEST(test_metrics_file_of_a_fork_begins_anew_elsewhere),
        TEST(test_metrics_file_drives_have_groups_and_block_is_their_sum),
        TEST(test_metrics_file_every_kind_of_device_has_its_groups),
        TEST(test_metrics_file_has_a_line_at_the_start_and_every_minute),
        TEST(test_metrics_file_that_is_not_there_fails_nothing),
        TEST(test_metrics_file_is_refused_a_second_time),
        TEST(test_metrics_file_full_fifo_drops_lines_and_loses_no_increase),
        TEST(test_metrics_file_line_after_a_torn_one_stands_by_itself),
    };
    int failed = 0, status;

    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        const struct CMUnitTest one[] = {tests[i]};
        pid_t pid = fork();

        if (pid == 0)
            return cmocka_run_group_tests_name(tests[i].name, one, NULL, NULL);
        failed += pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
    }
    return failed;
}
