/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/net/receive.c: frames to the guest, whatever room it has made. */
#include "tests/support/fake_loop.h"
#include "tests/support/fake_tap.h"
#include "tests/unit/net_fixture.h"

#include <errno.h>
#include <string.h>

#define FRAME        (TAP_HEADER_SIZE + 100)
#define BUFFER       1536
#define NO_MERGEABLE (NET_FEATURES & ~NET_F_MRG_RXBUF)

static void expect_nothing_received(struct net_fixture *f)
{
    struct virtq_used_elem used;

    assert_false(guest_take_used(&f->driver[NET_RX], &used));
}

static unsigned parked(const struct net_fixture *f)
{
    return fake_loop_count_verb(f->loop, FAKE_READV);
}

/* ---- where frames go ------------------------------------------------------------------------- */

static void test_net_rx_read_is_parked_and_frame_lands_in_buffer(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 4, BUFFER);
    net_kick_settle(&f, NET_RX);
    assert_int_equal(parked(&f), 1);
    expect_nothing_received(&f);

    net_host_sends(&f, FRAME, 1);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 1);
    assert_int_equal(parked(&f), 1);
    assert_int_equal(f.metrics->rx_packets_count, 1);
    assert_int_equal(f.metrics->rx_bytes_count, FRAME);
    assert_int_equal(f.metrics->rx_tap_event_count, 1);
    net_tear_down(&f);
}

static void test_net_rx_burst_comes_whole_and_in_order(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 40, BUFFER);
    net_kick_settle(&f, NET_RX);
    for (unsigned i = 0; i < 30; i++)
        net_host_sends(&f, FRAME + i, i);
    fake_loop_settle(f.loop);
    for (unsigned i = 0; i < 30; i++)
        net_expect_received(&f, FRAME + i, i);
    net_tear_down(&f);
}

static void test_net_rx_lone_frames_cost_no_look_behind_them(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 10, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, FRAME, 1);
    net_host_sends(&f, FRAME, 2);
    fake_loop_complete(f.loop, 0, fake_loop_carry_out(f.loop, 0), false);
    fake_loop_end_turn(f.loop);
    net_expect_received(&f, FRAME, 1);
    expect_nothing_received(&f); /* the second is the parked read's to find */
    assert_int_equal(parked(&f), 1);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 2);
    net_tear_down(&f);
}

static void test_net_rx_takes_no_kick_a_buffer(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 50, BUFFER);
    net_kick_settle(&f, NET_RX);
    for (unsigned i = 0; i < 40; i++) {
        net_host_sends(&f, FRAME, i);
        fake_loop_settle(f.loop);
        net_expect_received(&f, FRAME, i);
    }
    /* The driver would kick when its index passes the event: it never has a reason to. */
    assert_int_equal(guest_avail_event(&f.driver[NET_RX]), 0);
    net_tear_down(&f);
}

static void test_net_rx_large_frame_is_spread_over_buffers(void **state)
{
    static const size_t sizes[] = {BUFFER,     BUFFER + 1,    2 * BUFFER,         9000,
                                   65549 + 12, TAP_FRAME_MAX, TAP_HEADER_SIZE + 1};
    struct net_fixture f;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        net_set_up(&f, NULL, NET_FEATURES);
        net_add_buffers(&f, 60, BUFFER);
        net_kick_settle(&f, NET_RX);
        for (unsigned k = 0; k < 2 && (k + 1) * sizes[i] < 60 * BUFFER; k++) {
            /* the first through the spill, the next straight into its buffers */
            net_host_sends(&f, sizes[i], k);
            fake_loop_settle(f.loop);
            net_expect_received(&f, sizes[i], k);
        }
        net_tear_down(&f);
    }
}

static void test_net_rx_small_frames_after_large_ones_offer_little_room_again(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 60, BUFFER);
    net_kick_settle(&f, NET_RX);
    assert_int_equal(fake_loop_find(f.loop, FAKE_READV)->count, 2); /* a buffer, the spill */
    net_host_sends(&f, 9000, 1);
    fake_loop_settle(f.loop);
    net_expect_received(&f, 9000, 1);
    assert_true(fake_loop_find(f.loop, FAKE_READV)->count > 40);
    for (unsigned i = 0; i < 120; i++) {
        net_add_buffers(&f, 1, BUFFER);
        net_host_sends(&f, FRAME, i);
        fake_loop_settle(f.loop);
        net_expect_received(&f, FRAME, i);
    }
    assert_int_equal(fake_loop_find(f.loop, FAKE_READV)->count, 2);
    net_tear_down(&f);
}

static void test_net_rx_header_split_over_buffers(void **state)
{
    struct net_fixture f;
    struct guest_driver *driver = &f.driver[NET_RX];
    struct guest_buffer buffer[3];
    uint8_t frame[FRAME], came[FRAME];
    struct virtq_used_elem used;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    for (unsigned i = 0; i < 3; i++) {
        uint32_t len = i == 2 ? FRAME - 14 : i ? 3 : 11;

        buffer[i] = (struct guest_buffer){guest_alloc(driver, len), len, true};
    }
    guest_add_indirect(driver, buffer, 3);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, FRAME, 9);
    fake_loop_settle(f.loop);

    assert_true(guest_take_used(driver, &used));
    assert_int_equal(used.len, FRAME);
    guest_read(driver, buffer[0].gpa, came, 11);
    guest_read(driver, buffer[1].gpa, came + 11, 3);
    guest_read(driver, buffer[2].gpa, came + 14, FRAME - 14);
    net_make_frame(frame, FRAME, 9);
    frame[TAP_HEADER_NUM_BUFFERS] = 1;
    assert_memory_equal(came, frame, FRAME);
    net_tear_down(&f);
}

/* ---- too little room ------------------------------------------------------------------------- */

static void test_net_rx_without_buffers_leaves_frames_in_tap(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_host_sends(&f, FRAME, 1);
    net_host_sends(&f, FRAME, 2);
    net_kick_settle(&f, NET_RX);
    assert_int_equal(parked(&f), 0);
    assert_int_equal(f.metrics->no_rx_avail_buffer, 1);

    net_add_buffers(&f, 1, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_expect_received(&f, FRAME, 1);
    expect_nothing_received(&f);
    /* the driver is to kick for the next buffer */
    assert_int_equal(guest_avail_event(&f.driver[NET_RX]), 1);

    net_add_buffers(&f, 1, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_expect_received(&f, FRAME, 2);
    net_tear_down(&f);
}

static void test_net_rx_large_frame_waits_for_buffers_and_comes_whole(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 2, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, 9000, 1);
    net_host_sends(&f, FRAME, 2);
    fake_loop_settle(f.loop);
    expect_nothing_received(&f);

    net_add_buffers(&f, 2, BUFFER); /* still too few */
    net_kick_settle(&f, NET_RX);
    expect_nothing_received(&f);
    net_add_buffers(&f, 3, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_expect_received(&f, 9000, 1);
    net_expect_received(&f, FRAME, 2);
    net_tear_down(&f);
}

static void test_net_rx_frame_larger_than_whole_queue_is_dropped(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, NET_QUEUE_SIZE, 128);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, 9000, 1);
    net_host_sends(&f, FRAME, 2);
    fake_loop_settle(f.loop);
    assert_int_equal(f.metrics->rx_fails, 1);
    net_expect_received(&f, FRAME, 2);
    net_tear_down(&f);
}

static void test_net_rx_without_mergeable_buffers_drops_what_does_not_fit(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NO_MERGEABLE);
    net_add_buffers(&f, 4, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, BUFFER, 1);
    net_host_sends(&f, BUFFER + 1, 2);
    net_host_sends(&f, FRAME, 3);
    fake_loop_settle(f.loop);
    net_expect_received(&f, BUFFER, 1);
    net_expect_received(&f, FRAME, 3);
    assert_int_equal(f.metrics->rx_fails, 1);
    net_tear_down(&f);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void test_net_rx_frame_over_limit_waits_and_comes_later(void **state)
{
    struct net_config config = {
        .has_rx_limiter = true,
        .rx_limiter = {.has_ops = true, .ops = {.size = 2, .refill_ms = 3600000}},
    };
    struct net_fixture f;

    (void)state;
    net_set_up(&f, &config, NET_FEATURES);
    net_add_buffers(&f, 8, BUFFER);
    net_kick_settle(&f, NET_RX);
    for (unsigned i = 0; i < 4; i++)
        net_host_sends(&f, FRAME, i);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 0);
    net_expect_received(&f, FRAME, 1);
    expect_nothing_received(&f);
    assert_int_equal(parked(&f), 0); /* what it has not read, the tap keeps */
    assert_int_equal(f.metrics->rx_rate_limiter_throttled, 1);

    net_update(f.net,
               &(struct rate_limiter_config){.has_ops = true, .ops = {.size = 9, .refill_ms = 9}},
               NULL);
    assert_int_equal(net_config(f.net)->rx_limiter.ops.size, 9);
    fake_loop_complete(f.loop, 0, -ETIME, false);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 2);
    net_expect_received(&f, FRAME, 3);
    assert_int_equal(f.metrics->rx_event_rate_limiter_count, 1);
    net_tear_down(&f);
}

/* ---- errors of the tap ----------------------------------------------------------------------- */

static void test_net_rx_failing_tap_is_asked_again_after_a_while(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 4, BUFFER);
    net_kick_settle(&f, NET_RX);
    fake_loop_complete(f.loop, 0, -EFAULT, false);
    fake_loop_settle(f.loop);
    assert_int_equal(f.metrics->tap_read_fails, 1);
    assert_int_equal(parked(&f), 0);
    assert_int_equal(fake_loop_find(f.loop, FAKE_TIMER)->len, RATE_LIMITER_RETRY_NS);

    net_host_sends(&f, FRAME, 1);
    fake_loop_complete(f.loop, 0, -ETIME, false);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 1);
    net_tear_down(&f);
}

static void test_net_rx_deleted_tap_is_not_asked_again(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 4, BUFFER);
    net_kick_settle(&f, NET_RX);
    fake_tap_fail(-EBADFD);
    fake_loop_complete(f.loop, 0, -EBADFD, false);
    fake_loop_settle(f.loop);
    assert_true(f.net->tap_gone);
    for (unsigned i = 0; i < 3; i++)
        net_kick_settle(&f, NET_RX);
    assert_int_equal(fake_loop_count(f.loop), 0);
    assert_int_equal(f.metrics->tap_read_fails, 1);
    net_tear_down(&f);
}

/* ---- pauses and resets ----------------------------------------------------------------------- */

static void test_net_rx_pause_gives_buffers_back_and_resume_takes_them(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 6, BUFFER);
    net_kick_settle(&f, NET_RX);
    virtio_dev_quiesce(f.dev);
    fake_loop_settle(f.loop);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(f.dev->queue[NET_RX].in_flight, 0);
    assert_int_equal(f.dev->queue[NET_RX].s.next_avail, 0);

    net_host_sends(&f, FRAME, 1);
    fake_loop_settle(f.loop);
    expect_nothing_received(&f);
    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 1);
    net_tear_down(&f);
}

static void test_net_rx_frame_read_before_the_cancel_is_delivered_in_pause(void **state)
{
    struct net_fixture f;
    int n;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 6, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, FRAME, 1);
    n = fake_loop_carry_out(f.loop, 0);
    virtio_dev_quiesce(f.dev);
    fake_loop_complete(f.loop, 0, n, false);
    fake_loop_end_turn(f.loop);
    assert_true(virtio_dev_is_idle(f.dev));
    net_expect_received(&f, FRAME, 1);
    assert_int_equal(f.dev->queue[NET_RX].in_flight, 0);
    net_tear_down(&f);
}

static void test_net_rx_large_frame_that_waits_survives_a_pause(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 2, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, 9000, 1);
    fake_loop_settle(f.loop);
    virtio_dev_quiesce(f.dev);
    fake_loop_settle(f.loop);
    assert_int_equal(f.dev->queue[NET_RX].in_flight, 0);
    virtio_dev_resume(f.dev);
    net_add_buffers(&f, 5, BUFFER);
    fake_loop_settle(f.loop);
    net_expect_received(&f, 9000, 1);
    net_tear_down(&f);
}

static void test_net_rx_frame_held_by_limit_is_delivered_in_pause(void **state)
{
    struct net_config config = {
        .has_rx_limiter = true,
        .rx_limiter = {.has_ops = true, .ops = {.size = 1, .refill_ms = 3600000}},
    };
    struct net_fixture f;

    (void)state;
    net_set_up(&f, &config, NET_FEATURES);
    net_add_buffers(&f, 4, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, FRAME, 0);
    net_host_sends(&f, FRAME, 1);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 0);
    expect_nothing_received(&f);
    virtio_dev_quiesce(f.dev);
    fake_loop_settle(f.loop);
    net_expect_received(&f, FRAME, 1);
    assert_int_equal(f.dev->queue[NET_RX].in_flight, 0);
    net_tear_down(&f);
}

static void test_net_link_after_restore_is_that_of_the_tap(void **state)
{
    struct net_fixture f;
    uint8_t status;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    virtio_dev_quiesce(f.dev);
    f.net->s.status = 0; /* as loaded from a state whose tap was gone */
    virtio_dev_resume(f.dev);
    virtio_dev_read_config(f.dev, 6, &status, 1);
    assert_int_equal(status, NET_S_LINK_UP);
    net_tear_down(&f);
}

static void test_net_rx_reset_forgets_frame_of_former_driver(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 2, BUFFER);
    net_kick_settle(&f, NET_RX);
    net_host_sends(&f, 9000, 1);
    fake_loop_settle(f.loop);
    net_restart(&f, NET_FEATURES);
    net_add_buffers(&f, 20, BUFFER);
    net_host_sends(&f, FRAME, 2);
    net_kick_settle(&f, NET_RX);
    net_expect_received(&f, FRAME, 2);
    net_tear_down(&f);
}

static void
test_net_rx_segmented_frame_for_former_driver_is_not_given_to_one_without_tso(void **state)
{
    uint8_t frame[FRAME];
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, VIRTIO_F_VERSION_1 | NET_F_MRG_RXBUF);
    net_add_buffers(&f, 4, BUFFER);
    net_make_frame(frame, FRAME, 1);
    frame[1] = 1; /* gso_type: TCPv4 */
    assert_true(fake_tap_send(frame, FRAME));
    net_host_sends(&f, FRAME, 2);
    net_kick_settle(&f, NET_RX);
    net_expect_received(&f, FRAME, 2);
    assert_int_equal(f.metrics->rx_fails, 1);
    net_tear_down(&f);
}

/* ---- hostile drivers ------------------------------------------------------------------------- */

static void test_net_rx_buffer_too_small_for_header_stops_the_device(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 2, TAP_HEADER_SIZE - 1);
    net_kick_settle(&f, NET_RX);
    assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
    net_tear_down(&f);
}

static void test_net_rx_readable_buffer_stops_the_device(void **state)
{
    struct net_fixture f;
    struct guest_driver *driver = &f.driver[NET_RX];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    guest_add(driver, &(struct guest_buffer){guest_alloc(driver, BUFFER), BUFFER, false}, 1);
    net_kick_settle(&f, NET_RX);
    assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
    net_tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_net_rx_read_is_parked_and_frame_lands_in_buffer),
        cmocka_unit_test(test_net_rx_burst_comes_whole_and_in_order),
        cmocka_unit_test(test_net_rx_lone_frames_cost_no_look_behind_them),
        cmocka_unit_test(test_net_rx_takes_no_kick_a_buffer),
        cmocka_unit_test(test_net_rx_large_frame_is_spread_over_buffers),
        cmocka_unit_test(test_net_rx_small_frames_after_large_ones_offer_little_room_again),
        cmocka_unit_test(test_net_rx_header_split_over_buffers),
        cmocka_unit_test(test_net_rx_without_buffers_leaves_frames_in_tap),
        cmocka_unit_test(test_net_rx_large_frame_waits_for_buffers_and_comes_whole),
        cmocka_unit_test(test_net_rx_frame_larger_than_whole_queue_is_dropped),
        cmocka_unit_test(test_net_rx_without_mergeable_buffers_drops_what_does_not_fit),
        cmocka_unit_test(test_net_rx_frame_over_limit_waits_and_comes_later),
        cmocka_unit_test(test_net_rx_failing_tap_is_asked_again_after_a_while),
        cmocka_unit_test(test_net_rx_deleted_tap_is_not_asked_again),
        cmocka_unit_test(test_net_rx_pause_gives_buffers_back_and_resume_takes_them),
        cmocka_unit_test(test_net_rx_frame_read_before_the_cancel_is_delivered_in_pause),
        cmocka_unit_test(test_net_rx_large_frame_that_waits_survives_a_pause),
        cmocka_unit_test(test_net_rx_frame_held_by_limit_is_delivered_in_pause),
        cmocka_unit_test(test_net_link_after_restore_is_that_of_the_tap),
        cmocka_unit_test(test_net_rx_reset_forgets_frame_of_former_driver),
        cmocka_unit_test(
            test_net_rx_segmented_frame_for_former_driver_is_not_given_to_one_without_tso),
        cmocka_unit_test(test_net_rx_buffer_too_small_for_header_stops_the_device),
        cmocka_unit_test(test_net_rx_readable_buffer_stops_the_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
