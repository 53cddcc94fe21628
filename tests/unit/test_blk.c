/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the block device: its limits, what it tells its driver, its updates, its reset. */
#include "tests/support/fake_loop.h"
#include "tests/unit/blk_fixture.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define HOUR_MS UINT64_C(3600000)

/* ---- limits ---- */

static void test_blk_over_the_limit_waits_in_the_queue_for_the_timer(void **state)
{
    struct fixture f;
    struct guest_request first, second;
    struct rate_limiter *limiter;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_ASYNC,
                                         .has_limiter = true,
                                         .limiter.has_bandwidth = true,
                                         .limiter.bandwidth = {1024, HOUR_MS, 0, false}});
    first = add(&f, IN, 0, 1024);
    second = add(&f, IN, 0, 512);
    kick(&f);
    fake_loop_end_turn(f.loop);

    expect_used(&f, &first, 1025);
    assert_int_equal(status_of(&f, &second), UNTOUCHED);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    assert_int_equal(ring(&f)->len, RATE_LIMITER_RETRY_NS);
    assert_int_equal(blk_metrics(f.blk)->rate_limiter_throttled_events, 1);
    assert_true(virtio_dev_is_idle(f.dev)); /* a pause does not wait for a timer */
    kick(&f);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);

    complete(&f, 0, -ETIME); /* still nothing: the timer again */
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    limiter = f.dev->ops->saved(f.dev);
    limiter->bandwidth.budget = 512;
    complete(&f, 0, -ETIME);
    expect_used(&f, &second, 513);
    assert_int_equal(blk_metrics(f.blk)->rate_limiter_event_count, 2);
    tear_down(&f);
}

static void test_blk_flush_and_id_cost_operations_but_no_bytes(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_ASYNC,
                                         .has_limiter = true,
                                         .limiter.has_bandwidth = true,
                                         .limiter.has_ops = true,
                                         .limiter.bandwidth = {1, HOUR_MS, 0, false},
                                         .limiter.ops = {2, HOUR_MS, 0, false}});
    for (int i = 0; i < 2; i++) {
        request = add(&f, GET_ID, 0, 20);
        expect_status(&f, &request, OK);
    }
    request = add(&f, GET_ID, 0, 20);
    kick(&f);
    fake_loop_end_turn(f.loop);
    assert_int_equal(status_of(&f, &request), UNTOUCHED);
    tear_down(&f);
}

static void test_blk_timer_of_a_device_that_was_reset_is_harmless(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_ASYNC,
                                         .has_limiter = true,
                                         .limiter.has_ops = true,
                                         .limiter.ops = {1, 1, 0, false}});
    add(&f, IN, 0, 512);
    add(&f, IN, 0, 512);
    kick(&f);
    if (fake_loop_count(f.loop) == 1) { /* unless a millisecond has passed meanwhile */
        virtio_dev_write_status(f.dev, 0);
        complete(&f, 0, -ETIME);
    }
    guest_driver_init(&f.driver, &f.mem, 0x800000, QUEUE_SIZE);
    guest_start(f.dev, &f.driver, RING);
    usleep(2000);
    request = add(&f, IN, 0, 512);
    expect_status(&f, &request, OK);
    tear_down(&f);
}

/* ---- creation ---- */

static void expect_refused(struct fixture *f, const char *path, int code, const char *text)
{
    struct virtio_env env = {&f->mem, f->loop};
    char copy[128], want[512];
    struct blk_config config = {.id = copy, .path = copy, .engine = BLK_ENGINE_ASYNC};
    struct err e = {0};

    snprintf(copy, sizeof(copy), "%s", path);
    for (int read_only = 0; read_only < 2; read_only++) {
        config.read_only = read_only;
        assert_int_equal(blk_create(&f->blk, &env, &config, &e), code);
        snprintf(want, sizeof(want),
                 "Unable to create the virtio block device: Virtio backend error: Error "
                 "manipulating the backing file: %s %s",
                 text, path);
        assert_string_equal(e.text, want);
    }
}

static void test_blk_create_refuses_what_is_no_disk(void **state)
{
    struct fixture f;
    char fifo[64];
    int ends[2];

    (void)state;
    set_up_empty(&f);
    assert_int_equal(pipe(ends), 0);
    snprintf(fifo, sizeof(fifo), "/proc/self/fd/%d", ends[0]);

    expect_refused(&f, "/nonexistent/a.img", -ENOENT, "No such file or directory (os error 2)");
    expect_refused(&f, "", -ENOENT, "No such file or directory (os error 2)");
    expect_refused(&f, "/proc/", -EISDIR, "Is a directory (os error 21)");
    expect_refused(&f, "/dev/null", -EINVAL, "neither a regular file nor a block device");
    expect_refused(&f, fifo, -EINVAL, "neither a regular file nor a block device"); /* no hang */

    close(ends[0]);
    close(ends[1]);
    tear_down(&f);
}

static void test_blk_capacity_is_whole_sectors_and_may_be_none(void **state)
{
    static const struct {
        uint64_t size, sectors;
    } cases[] = {{0, 0}, {1, 0}, {511, 0}, {512, 1}, {1000, 1}, {1024, 2}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct guest_request request;
        uint64_t capacity;

        set_up_empty(&f);
        assert_int_equal(ftruncate(f.fd, (off_t)cases[i].size), 0);
        start_drive(&f, (struct blk_config){.engine = BLK_ENGINE_ASYNC});
        virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
        assert_int_equal(capacity, cases[i].sectors);
        request = add(&f, IN, cases[i].sectors, 512);
        expect_status(&f, &request, IOERR);
        tear_down(&f);
    }
}

static void test_blk_configuration_space_is_what_the_specification_says(void **state)
{
    static const struct {
        uint64_t offset;
        unsigned width;
        uint32_t value;
    } fields[] = {
        {8, 4, 0},        /* size_max is not offered */
        {12, 4, 510},     /* seg_max */
        {36, 4, 1 << 22}, /* max_discard_sectors */
        {40, 4, 1},       /* max_discard_seg */
        {48, 4, 1 << 22}, /* max_write_zeroes_sectors */
        {52, 4, 1},       /* max_write_zeroes_seg */
        {56, 1, 1},       /* write_zeroes_may_unmap */
    };
    struct fixture f;
    uint32_t value;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_SYNC, .discard = true});
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        value = 0;
        virtio_dev_read_config(f.dev, fields[i].offset, &value, fields[i].width);
        if (value != fields[i].value)
            fail_msg("at %u: %u", (unsigned)fields[i].offset, value);
    }
    virtio_dev_read_config(f.dev, 44, &value, 4);
    assert_true(value > 0); /* discard_sector_alignment, the file system's block */
    assert_true(virtio_dev_features(f.dev) & F_SEG_MAX);
    assert_false(virtio_dev_features(f.dev) & (F_RO | F_FLUSH));
    tear_down(&f);
}

static void test_blk_configuration_space_cannot_be_written(void **state)
{
    struct fixture f;
    uint32_t value = 7;

    (void)state;
    set_up(&f);
    virtio_dev_write_config(f.dev, 12, &value, 4);
    virtio_dev_read_config(f.dev, 12, &value, 4);
    assert_int_equal(value, 510);
    assert_int_equal(blk_metrics(f.blk)->cfg_fails, 1);
    tear_down(&f);
}

static void test_blk_limiter_shown_is_the_limiter_in_force(void **state)
{
    struct fixture f;
    struct rate_limiter_config patch = {0};
    const struct blk_config *shown;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_ASYNC,
                                         .has_limiter = true,
                                         .limiter.has_bandwidth = true,
                                         .limiter.bandwidth = {1000, 100, 0, true}});
    shown = blk_config(f.blk);
    assert_true(shown->has_limiter);
    assert_false(shown->limiter.bandwidth.has_burst); /* of nothing */

    patch.has_ops = true;
    patch.ops = (struct token_bucket_config){7, 7, 3, true};
    assert_int_equal(blk_update(f.blk, NULL, &patch, NULL), 0);
    assert_int_equal(shown->limiter.bandwidth.size, 1000);
    assert_int_equal(shown->limiter.ops.one_time_burst, 3);

    patch = (struct rate_limiter_config){.has_bandwidth = true}; /* size 0 takes it away */
    assert_int_equal(blk_update(f.blk, NULL, &patch, NULL), 0);
    assert_false(shown->limiter.has_bandwidth);
    assert_true(shown->limiter.has_ops);

    patch = (struct rate_limiter_config){.has_ops = true};
    assert_int_equal(blk_update(f.blk, NULL, &patch, NULL), 0);
    assert_false(shown->has_limiter);
    assert_int_equal(blk_metrics(f.blk)->update_count, 3);
    tear_down(&f);
}

/* ---- updates ---- */

static void test_blk_update_to_a_bad_path_changes_nothing(void **state)
{
    struct rate_limiter_config patch = {.has_ops = true, .ops = {1, 1, 0, false}};
    struct fixture f;
    struct guest_request request;
    struct err e = {0};

    (void)state;
    set_up(&f);
    assert_int_equal(blk_update(f.blk, "/nonexistent/b.img", &patch, &e), -ENOENT);
    assert_string_equal(e.text,
                        "Unable to patch the block device: Block: Virtio backend error: Error "
                        "manipulating the backing file: No such file or directory (os error 2) "
                        "/nonexistent/b.img Please verify the request arguments.");
    assert_string_equal(blk_config(f.blk)->path, f.path);
    assert_false(blk_config(f.blk)->has_limiter);
    assert_int_equal(f.config_interrupts, 0);
    assert_int_equal(blk_metrics(f.blk)->update_fails, 1);
    request = add(&f, IN, 0, 512);
    expect_status(&f, &request, OK);

    assert_int_equal(blk_update(f.blk, NULL, NULL, &e), -EINVAL);
    assert_string_equal(e.text, "Unable to patch the block device: Block: Running method expected "
                                "different backend. Please verify the request arguments.");
    tear_down(&f);
}

static void test_blk_update_drains_the_old_file_and_goes_on_with_the_new(void **state)
{
    struct fixture f, other = {0};
    struct guest_request before, after;
    uint64_t capacity;
    char path[64];

    (void)state;
    set_up(&f);
    make_disk(&other, 2 * MIB);
    snprintf(path, sizeof(path), "%s", other.path);
    before = add(&f, IN, HOLE, 512);
    kick(&f);
    assert_int_equal(status_of(&f, &before), UNTOUCHED);
    after = add(&f, IN, 3000, 512); /* beyond the old file's end */

    assert_int_equal(blk_update(f.blk, path, NULL, NULL), 0);

    assert_int_equal(status_of(&f, &before), OK);
    virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, 4096);
    assert_int_equal(f.config_interrupts, 1);
    assert_int_equal(f.dev->s.config_generation, 1);
    fake_loop_settle(f.loop);
    assert_int_equal(status_of(&f, &after), OK); /* resume has kicked the queue */
    assert_string_equal(blk_config(f.blk)->path, path);
    close(other.fd);
    tear_down(&f);
}

/* ---- reset and pause ---- */

static void test_blk_reset_during_io_waits_and_the_device_works_again(void **state)
{
    struct fixture f;
    struct guest_request old, new;

    (void)state;
    set_up(&f);
    old = add(&f, IN, HOLE, 512);
    kick(&f);

    virtio_dev_write_status(f.dev, 0);

    assert_int_equal(f.dev->in_flight, 0);
    assert_int_equal(status_of(&f, &old), OK); /* done before the write to Status returned */
    guest_driver_init(&f.driver, &f.mem, 0x800000, QUEUE_SIZE);
    assert_int_equal(guest_start(f.dev, &f.driver, RING), 15);
    new = add(&f, IN, 7, 512);
    expect_status(&f, &new, OK);
    assert_int_equal(byte_at(&f, new.data), 8);
    tear_down(&f);
}

static void test_blk_pause_waits_for_inflight_reads_and_resume_goes_on(void **state)
{
    struct fixture f;
    struct guest_request first, second;

    (void)state;
    set_up(&f);
    first = add(&f, IN, HOLE, 512);
    kick(&f);
    virtio_dev_quiesce(f.dev);
    second = add(&f, IN, HOLE, 512);
    kick(&f);
    assert_false(virtio_dev_is_idle(f.dev));
    complete(&f, 0, 512);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(status_of(&f, &first), OK);
    assert_int_equal(status_of(&f, &second), UNTOUCHED);
    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);
    assert_int_equal(status_of(&f, &second), OK);
    tear_down(&f);
}

static void test_blk_destroy_with_io_in_flight_does_not_die(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    add(&f, IN, HOLE, 512);
    kick(&f);
    virtio_dev_destroy(f.dev); /* leaves it to the end of the process */
    complete(&f, 0, 512);
    tear_down(&f);
}

static void test_blk_state_table_covers_its_struct(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_true(state_desc_tiles(f.dev->ops->state));
    assert_int_equal(f.dev->ops->state->size, sizeof(struct rate_limiter));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blk_over_the_limit_waits_in_the_queue_for_the_timer),
        cmocka_unit_test(test_blk_flush_and_id_cost_operations_but_no_bytes),
        cmocka_unit_test(test_blk_timer_of_a_device_that_was_reset_is_harmless),
        cmocka_unit_test(test_blk_create_refuses_what_is_no_disk),
        cmocka_unit_test(test_blk_capacity_is_whole_sectors_and_may_be_none),
        cmocka_unit_test(test_blk_configuration_space_is_what_the_specification_says),
        cmocka_unit_test(test_blk_configuration_space_cannot_be_written),
        cmocka_unit_test(test_blk_limiter_shown_is_the_limiter_in_force),
        cmocka_unit_test(test_blk_update_to_a_bad_path_changes_nothing),
        cmocka_unit_test(test_blk_update_drains_the_old_file_and_goes_on_with_the_new),
        cmocka_unit_test(test_blk_reset_during_io_waits_and_the_device_works_again),
        cmocka_unit_test(test_blk_pause_waits_for_inflight_reads_and_resume_goes_on),
        cmocka_unit_test(test_blk_destroy_with_io_in_flight_does_not_die),
        cmocka_unit_test(test_blk_state_table_covers_its_struct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
