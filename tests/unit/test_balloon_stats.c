/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/memory/balloon_stats.c: the buffer that is held, the timer, hostile buffers. */
#include "tests/support/fake_loop.h"
#include "tests/unit/balloon_fixture.h"
#include "tests/unit/unit.h"
#include "virtio/memory/balloon_parts.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>

struct entry {
    uint16_t tag;
    uint64_t value;
} __attribute__((packed));

static const struct balloon_config every_five_seconds = {.amount_mib = 1, .stats_interval_s = 5};

static uint16_t send_stats(struct balloon_fixture *f, const struct entry *entry, unsigned count)
{
    uint32_t len = count * (uint32_t)sizeof(*entry);
    struct guest_buffer buffer = {guest_alloc(&f->driver[STATS], len), len, false};

    guest_write(&f->driver[STATS], buffer.gpa, entry, len);
    return guest_add(&f->driver[STATS], &buffer, 1);
}

static struct balloon_stats stats_of(struct balloon_fixture *f)
{
    struct balloon_stats stats;

    assert_int_equal(balloon_stats(f->balloon, &stats, NULL), 0);
    return stats;
}

static void expire(struct balloon_fixture *f)
{
    assert_int_equal(fake_loop_count(f->loop), 1);
    assert_int_equal(fake_loop_op(f->loop, 0)->verb, FAKE_TIMER);
    fake_loop_complete(f->loop, 0, -ETIME, false);
    fake_loop_settle(f->loop);
}

static void test_balloon_stats_are_read_at_once_and_their_buffer_is_held(void **state)
{
    struct balloon_fixture f;
    struct entry entry[BALLOON_STATS];
    struct balloon_stats stats;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    for (unsigned i = 0; i < BALLOON_STATS; i++)
        entry[i] = (struct entry){(uint16_t)(BALLOON_STATS - 1 - i), UINT64_MAX - i};
    assert_false(stats_of(&f).has[BALLOON_FREE_MEMORY]);

    head = send_stats(&f, entry, BALLOON_STATS);
    balloon_kick(&f, STATS);

    balloon_expect_none(&f, STATS);
    stats = stats_of(&f);
    for (unsigned i = 0; i < BALLOON_STATS; i++) {
        assert_true(stats.has[i]);
        assert_true(stats.value[i] == UINT64_MAX - (BALLOON_STATS - 1 - i));
    }
    assert_int_equal(metrics.balloon.stats_updates_count, 1);
    assert_int_equal(fake_loop_op(f.loop, 0)->len, 5 * NSEC_PER_SEC);

    expire(&f);
    balloon_expect_used(&f, STATS, head);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1); /* again and again */
    send_stats(&f, &(struct entry){BALLOON_FREE_MEMORY, 7}, 1);
    balloon_kick(&f, STATS);
    stats = stats_of(&f);
    assert_int_equal(stats.value[BALLOON_FREE_MEMORY], 7);
    assert_true(stats.has[BALLOON_SWAP_IN]); /* what is not sent again stays */
    balloon_tear_down(&f);
}

static void test_balloon_stats_of_linux_that_kicked_before_driver_ok_are_seen(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    virtio_dev_write_status(f.dev, 0);
    guest_driver_init(&f.driver[STATS], &f.mem, f.driver[STATS].desc, QUEUE_SIZE);
    memset(mem_writable(&f.mem, GPA(0), HEAP), 0, HEAP);
    send_stats(&f, &(struct entry){BALLOON_FREE_MEMORY, 7}, 1);

    assert_int_equal(guest_start(f.dev, f.driver, virtio_dev_features(f.dev)), 15);
    fake_loop_settle(f.loop);

    assert_int_equal(stats_of(&f).value[BALLOON_FREE_MEMORY], 7);
    balloon_tear_down(&f);
}

static void test_balloon_stats_that_do_not_come_are_counted_as_failures(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    expire(&f);
    assert_int_equal(metrics.balloon.stats_update_fails, 1);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    balloon_tear_down(&f);
}

static void test_balloon_stats_of_a_second_buffer_give_the_first_back(void **state)
{
    struct balloon_fixture f;
    uint16_t first, second;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    first = send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 1}, 1);
    second = send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 2}, 1);
    balloon_kick(&f, STATS);

    balloon_expect_used(&f, STATS, first);
    balloon_expect_none(&f, STATS);
    assert_int_equal(stats_of(&f).value[BALLOON_OOM_KILL], 2);
    expire(&f);
    balloon_expect_used(&f, STATS, second);
    balloon_tear_down(&f);
}

static void test_balloon_stats_buffers_that_lie_do_no_harm(void **state)
{
    struct balloon_fixture f;
    struct entry entry[3] = {{BALLOON_SWAP_OUT, 3}, {BALLOON_STATS, 4}, {UINT16_MAX, 5}};
    struct guest_buffer buffer;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);

    send_stats(&f, entry, 3); /* tags of another time */
    balloon_kick(&f, STATS);
    assert_int_equal(stats_of(&f).value[BALLOON_SWAP_OUT], 3);

    buffer = (struct guest_buffer){20 * MIB, 19, false}; /* one and nine tenths */
    entry[0].value = 6;
    guest_write(&f.driver[STATS], buffer.gpa, entry, sizeof(entry[0]));
    guest_add(&f.driver[STATS], &buffer, 1);
    balloon_kick(&f, STATS);
    assert_int_equal(stats_of(&f).value[BALLOON_SWAP_OUT], 6);

    buffer.writable = true; /* nothing to read */
    guest_add(&f.driver[STATS], &buffer, 1);
    balloon_kick(&f, STATS);
    assert_int_equal(metrics.balloon.stats_update_fails, 0);

    buffer = (struct guest_buffer){20 * MIB, 16 * MIB, false}; /* far too long, and held */
    head = guest_add(&f.driver[STATS], &buffer, 1);
    balloon_kick(&f, STATS);
    assert_int_equal(metrics.balloon.stats_update_fails, 1);
    assert_int_equal(stats_of(&f).value[BALLOON_SWAP_OUT], 6);
    for (unsigned i = 0; i < 3; i++) {
        struct virtq_used_elem used;

        assert_true(guest_take_used(&f.driver[STATS], &used));
    }
    expire(&f);
    balloon_expect_used(&f, STATS, head);
    assert_int_equal(f.dev->s.status, 15);
    balloon_tear_down(&f);
}

static void test_balloon_stats_interval_changes_at_once(void **state)
{
    struct balloon_fixture f;
    struct err e;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    head = send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 1}, 1);
    balloon_kick(&f, STATS);

    assert_int_equal(balloon_update_stats(f.balloon, 5, &e), 0); /* no change, no question */
    fake_loop_settle(f.loop);
    balloon_expect_none(&f, STATS);

    assert_int_equal(balloon_update_stats(f.balloon, 60, &e), 0);
    assert_int_equal(balloon_config(f.balloon)->stats_interval_s, 60);
    fake_loop_settle(f.loop);
    balloon_expect_used(&f, STATS, head);
    assert_int_equal(fake_loop_count(f.loop), 1);
    assert_int_equal(fake_loop_op(f.loop, 0)->len, 60 * NSEC_PER_SEC);
    assert_int_equal(metrics.balloon.stats_update_fails, 0);

    assert_int_equal(balloon_update_stats(f.balloon, 0, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Statistics cannot be enabled/disabled after activation.");
    assert_int_equal(balloon_config(f.balloon)->stats_interval_s, 60);
    balloon_tear_down(&f);
}

static void test_balloon_stats_interval_may_change_before_activation(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    virtio_dev_write_status(f.dev, 0);
    assert_int_equal(fake_loop_count(f.loop), 0);

    assert_int_equal(balloon_update_stats(f.balloon, 7, NULL), 0);
    assert_int_equal(metrics.balloon.stats_update_fails, 0);
    balloon_start(&f, virtio_dev_features(f.dev));
    assert_int_equal(fake_loop_op(f.loop, 0)->len, 7 * NSEC_PER_SEC);
    balloon_tear_down(&f);
}

static void test_balloon_stats_that_are_off_stay_off(void **state)
{
    struct balloon_fixture f;
    struct balloon_stats stats;
    struct err e;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    assert_int_equal(fake_loop_count(f.loop), 0);
    assert_int_equal(balloon_stats(f.balloon, &stats, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Received stats query when stats are disabled.");
    assert_int_equal(balloon_update_stats(f.balloon, 0, &e), 0);
    assert_int_equal(balloon_update_stats(f.balloon, 1, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Statistics cannot be enabled/disabled after activation.");
    balloon_tear_down(&f);
}

static void test_balloon_stats_pause_gives_the_buffer_back_to_the_queue(void **state)
{
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    head = send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 1}, 1);
    balloon_kick(&f, STATS);
    assert_int_equal(f.dev->queue[STATS].s.next_avail, 1);

    virtio_dev_quiesce(f.dev);
    assert_false(virtio_dev_is_idle(f.dev)); /* the timer is on its way out */
    fake_loop_settle(f.loop);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(fake_loop_count(f.loop), 0);
    assert_int_equal(f.dev->queue[STATS].s.next_avail, 0);
    assert_int_equal(f.dev->queue[STATS].in_flight, 0);
    balloon_expect_none(&f, STATS);

    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);
    assert_int_equal(f.dev->queue[STATS].s.next_avail, 1);
    expire(&f);
    balloon_expect_used(&f, STATS, head);
    balloon_expect_none(&f, STATS);
    balloon_tear_down(&f);
}

/* The timer's end, and a pause that came first in the same batch of completions. */
static void test_balloon_stats_timer_that_ends_in_a_pause_changes_nothing(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 1}, 1);
    balloon_kick(&f, STATS);

    virtio_dev_quiesce(f.dev);
    fake_loop_complete(f.loop, 0, -ETIME, false);
    fake_loop_settle(f.loop);

    assert_true(virtio_dev_is_idle(f.dev));
    balloon_expect_none(&f, STATS);
    assert_int_equal(metrics.balloon.stats_update_fails, 0);
    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    balloon_tear_down(&f);
}

/* The other half of a restore: the state as a snapshot would hold it, into a new device. */
static void test_balloon_stats_buffer_is_returned_by_a_restored_device(void **state)
{
    struct balloon_fixture f, restored;
    struct virtqueue_state queue[QUEUES];
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    head = send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 9}, 1);
    balloon_kick(&f, STATS);
    virtio_dev_quiesce(f.dev);
    fake_loop_settle(f.loop);
    for (unsigned q = 0; q < f.dev->ops->n_queues; q++)
        queue[q] = f.dev->queue[q].s;

    balloon_set_up(&restored, &every_five_seconds);
    virtio_dev_write_status(restored.dev, 0);
    memcpy(mem_writable(&restored.mem, GPA(0), RAM), mem_readable(&f.mem, GPA(0), RAM), RAM);
    memcpy(restored.dev->ops->saved(restored.dev), f.dev->ops->saved(f.dev),
           f.dev->ops->state->size);
    restored.dev->s = f.dev->s;
    restored.dev->s.status = 11;
    for (unsigned q = 0; q < f.dev->ops->n_queues; q++)
        restored.dev->queue[q].s = queue[q];
    virtio_dev_write_status(restored.dev, 15);
    fake_loop_settle(restored.loop);

    assert_int_equal(stats_of(&restored).value[BALLOON_OOM_KILL], 9);
    restored.driver[STATS] = f.driver[STATS];
    restored.driver[STATS].mem = &restored.mem;
    expire(&restored);
    balloon_expect_used(&restored, STATS, head);
    balloon_tear_down(&restored);
    virtio_dev_resume(f.dev);
    balloon_tear_down(&f);
}

static void test_balloon_stats_reset_forgets_the_buffer_and_ends_the_timer(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &every_five_seconds);
    send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 1}, 1);
    balloon_kick(&f, STATS);

    virtio_dev_write_status(f.dev, 0);
    assert_int_equal(fake_loop_count(f.loop), 0);

    balloon_start(&f, virtio_dev_features(f.dev) & ~F_STATS); /* a driver without them */
    assert_int_equal(fake_loop_count(f.loop), 0);
    balloon_start(&f, virtio_dev_features(f.dev));
    send_stats(&f, &(struct entry){BALLOON_OOM_KILL, 2}, 1);
    balloon_kick(&f, STATS);
    balloon_expect_none(&f, STATS);
    expire(&f);
    balloon_expect_used(&f, STATS, 0);
    balloon_tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_balloon_stats_are_read_at_once_and_their_buffer_is_held),
        cmocka_unit_test(test_balloon_stats_of_linux_that_kicked_before_driver_ok_are_seen),
        cmocka_unit_test(test_balloon_stats_that_do_not_come_are_counted_as_failures),
        cmocka_unit_test(test_balloon_stats_of_a_second_buffer_give_the_first_back),
        cmocka_unit_test(test_balloon_stats_buffers_that_lie_do_no_harm),
        cmocka_unit_test(test_balloon_stats_interval_changes_at_once),
        cmocka_unit_test(test_balloon_stats_interval_may_change_before_activation),
        cmocka_unit_test(test_balloon_stats_that_are_off_stay_off),
        cmocka_unit_test(test_balloon_stats_pause_gives_the_buffer_back_to_the_queue),
        cmocka_unit_test(test_balloon_stats_timer_that_ends_in_a_pause_changes_nothing),
        cmocka_unit_test(test_balloon_stats_buffer_is_returned_by_a_restored_device),
        cmocka_unit_test(test_balloon_stats_reset_forgets_the_buffer_and_ends_the_timer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
