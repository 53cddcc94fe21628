/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/net/net.c and transmit.c: what driver and user see, and frames to the host. */
#include "tests/support/fake_loop.h"
#include "tests/support/fake_tap.h"
#include "tests/unit/net_fixture.h"

#include <errno.h>
#include <string.h>

#define FRAME (TAP_HEADER_SIZE + 100)

static const uint8_t guest_mac[NET_MAC_LEN] = {6, 0, 0xac, 16, 0, 2};

static struct net_config with_mac(void)
{
    struct net_config config = {.has_mac = true};

    memcpy(config.mac, guest_mac, sizeof(guest_mac));
    return config;
}

static void take_all_used(struct net_fixture *f, unsigned q, unsigned wanted)
{
    struct virtq_used_elem used;
    unsigned n = 0;

    while (guest_take_used(&f->driver[q], &used))
        n++;
    assert_int_equal(n, wanted);
}

/* ---- what is offered ------------------------------------------------------------------------- */

static void test_net_offers_mac_and_mtu_only_if_given(void **state)
{
    const uint64_t both = NET_F_MAC | NET_F_MTU;
    struct net_config config = with_mac();
    struct net_fixture f;
    uint16_t mtu;

    (void)state;
    net_set_up(&f, NULL, 0);
    assert_int_equal(virtio_dev_features(f.dev) & both, 0);
    net_tear_down(&f);

    config.has_mtu = true;
    config.mtu = 1400;
    net_set_up(&f, &config, 0);
    assert_int_equal(virtio_dev_features(f.dev) & both, both);
    virtio_dev_read_config(f.dev, 10, &mtu, sizeof(mtu));
    assert_int_equal(mtu, 1400);
    net_tear_down(&f);
}

static void test_net_shows_mac_link_and_one_queue_pair(void **state)
{
    const uint8_t wanted[] = {6, 0, 0xac, 16, 0, 2, 1, 0, 1, 0, 0, 0};
    struct net_config config = with_mac();
    struct net_fixture f;
    uint8_t came[16];

    (void)state;
    net_set_up(&f, &config, 0);
    virtio_dev_read_config(f.dev, 0, came, sizeof(came));
    assert_memory_equal(came, wanted, sizeof(wanted));
    assert_int_equal(came[12] | came[13] | came[14] | came[15], 0);
    net_tear_down(&f);
}

static void test_net_driver_writes_mac_and_nothing_else(void **state)
{
    static const uint8_t ones[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct net_config config = with_mac();
    struct net_fixture f;
    uint8_t came[12];

    (void)state;
    net_set_up(&f, &config, NET_FEATURES | NET_F_MAC);
    virtio_dev_write_config(f.dev, 4, ones, 4);
    virtio_dev_write_config(f.dev, 8, ones, 4);
    virtio_dev_read_config(f.dev, 0, came, sizeof(came));
    assert_memory_equal(came, "\x06\x00\xac\x10\x01\x01\x01\x00\x01\x00\x00\x00", 12);
    net_tear_down(&f);
}

static void test_net_offloads_follow_driver_and_end_with_it(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES | NET_F_GUEST_TSO6 | NET_F_GUEST_UFO);
    assert_int_equal(fake_tap_offloads(),
                     TAP_OFFLOAD_CSUM | TAP_OFFLOAD_TSO4 | TAP_OFFLOAD_TSO6 | TAP_OFFLOAD_UFO);
    virtio_dev_write_status(f.dev, 0);
    assert_int_equal(fake_tap_offloads(), 0);
    net_restart(&f, VIRTIO_F_VERSION_1 | NET_F_GUEST_CSUM);
    assert_int_equal(fake_tap_offloads(), TAP_OFFLOAD_CSUM);
    net_tear_down(&f);
}

static void test_net_activation_fails_if_tap_refuses_offloads(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, 0);
    fake_tap_fail(-EINVAL);
    assert_true(net_restart(&f, NET_FEATURES) & VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(f.metrics->activate_fails, 1);
    net_tear_down(&f);
}

static void test_net_missing_tap_is_an_error_with_a_sentence(void **state)
{
    char id[] = "eth0", tap[] = "missing";
    struct net_config config = {.id = id, .tap = tap};
    struct virtio_env env = {0};
    struct net *net;
    struct err e = {0};

    (void)state;
    assert_int_equal(net_create(&net, &env, &config, &e), -ENODEV);
    assert_string_equal(
        e.text, "Could not create the network device: Open tap device failed: there is none");
}

/* ---- frames to the host ---------------------------------------------------------------------- */

static void test_net_sends_frames_in_order_whole(void **state)
{
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    for (unsigned i = 0; i < 20; i++) {
        net_make_frame(frame, FRAME - i, i);
        net_add_frame(&f, frame, FRAME - i);
    }
    net_kick_settle(&f, NET_TX);
    for (unsigned i = 0; i < 20; i++)
        net_expect_sent(&f, FRAME - i, i);
    take_all_used(&f, NET_TX, 20);
    assert_int_equal(f.metrics->tx_packets_count, 20);
    assert_int_equal(f.metrics->tx_bytes_count, 20 * FRAME - 190);
    assert_int_equal(guest_avail_event(&f.driver[NET_TX]), 20);
    net_tear_down(&f);
}

static void test_net_sends_lone_frame_at_once(void **state)
{
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_make_frame(frame, FRAME, 1);
    net_add_frame(&f, frame, FRAME);
    virtio_dev_kick(f.dev, NET_TX);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_WRITE), 0);
    net_expect_sent(&f, FRAME, 1);
    net_tear_down(&f);
}

static void test_net_frames_of_many_segments_keep_their_place(void **state)
{
    struct net_fixture f;
    struct guest_driver *driver = &f.driver[NET_TX];
    struct guest_buffer buffer[40];
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    for (unsigned i = 0; i < 5; i++) {
        net_make_frame(frame, FRAME, i);
        if (i != 2) {
            net_add_frame(&f, frame, FRAME);
            continue;
        }
        for (unsigned k = 0; k < 40; k++) {
            size_t at = k * (FRAME / 40), len = k < 39 ? FRAME / 40 : FRAME - at;

            buffer[k] = (struct guest_buffer){guest_alloc(driver, len), (uint32_t)len, false};
            guest_write(driver, buffer[k].gpa, frame + at, len);
        }
        guest_add_indirect(driver, buffer, 40);
    }
    net_kick_settle(&f, NET_TX);
    for (unsigned i = 0; i < 5; i++)
        net_expect_sent(&f, FRAME, i);
    take_all_used(&f, NET_TX, 5);
    net_tear_down(&f);
}

static void test_net_malformed_frames_cost_only_themselves(void **state)
{
    struct net_fixture f;
    struct guest_driver *driver = &f.driver[NET_TX];
    static uint8_t frame[TAP_FRAME_MAX + 1];
    struct guest_buffer two[2];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_make_frame(frame, sizeof(frame), 3);
    net_add_frame(&f, frame, sizeof(frame));        /* too long */
    net_add_frame(&f, frame, TAP_HEADER_SIZE + 13); /* no Ethernet header */
    net_add_frame(&f, frame, 0);
    two[0] = (struct guest_buffer){guest_alloc(driver, FRAME), FRAME, false};
    two[1] = (struct guest_buffer){guest_alloc(driver, FRAME), FRAME, true};
    guest_add(driver, two, 2); /* a writable buffer */
    net_add_frame(&f, frame, TAP_FRAME_MAX);
    net_kick_settle(&f, NET_TX);

    assert_int_equal(f.metrics->tx_malformed_frames, 4);
    net_expect_sent(&f, TAP_FRAME_MAX, 3);
    assert_int_equal(fake_tap_receive(frame, sizeof(frame)), -1);
    take_all_used(&f, NET_TX, 5);
    net_tear_down(&f);
}

static void test_net_counts_spoofed_source_and_sends_it(void **state)
{
    struct net_config config = with_mac();
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, &config, NET_FEATURES | NET_F_MAC);
    net_make_frame(frame, FRAME, 1);
    net_add_frame(&f, frame, FRAME);
    net_kick_settle(&f, NET_TX);
    assert_int_equal(f.metrics->tx_spoofed_mac_count, 1);
    net_expect_sent(&f, FRAME, 1);

    memcpy(frame + TAP_HEADER_SIZE + 6, guest_mac, NET_MAC_LEN);
    net_add_frame(&f, frame, FRAME);
    net_kick_settle(&f, NET_TX);
    assert_int_equal(f.metrics->tx_spoofed_mac_count, 1);
    net_tear_down(&f);
}

static void test_net_failed_write_costs_that_frame(void **state)
{
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_make_frame(frame, FRAME, 1);
    net_add_frame(&f, frame, FRAME);
    fake_tap_fail(-EIO);
    net_kick_settle(&f, NET_TX);
    assert_int_equal(f.metrics->tap_write_fails, 1);
    assert_int_equal(f.metrics->tx_packets_count, 0);

    fake_tap_fail(0);
    net_add_frame(&f, frame, FRAME);
    net_kick_settle(&f, NET_TX);
    net_expect_sent(&f, FRAME, 1);
    take_all_used(&f, NET_TX, 2);
    net_tear_down(&f);
}

static void test_net_flood_of_frames_is_served_over_several_turns(void **state)
{
    struct net_fixture f;
    struct guest_buffer buffer;
    unsigned first;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    buffer =
        (struct guest_buffer){guest_alloc(&f.driver[NET_TX], TAP_FRAME_MAX), TAP_FRAME_MAX, false};
    for (unsigned i = 0; i < NET_QUEUE_SIZE; i++)
        guest_add(&f.driver[NET_TX], &buffer, 1);
    virtio_dev_kick(f.dev, NET_TX);
    first = fake_loop_count_verb(f.loop, FAKE_WRITE);
    assert_in_range(first, 1, NET_QUEUE_SIZE - 1);
    fake_loop_settle(f.loop);
    take_all_used(&f, NET_TX, NET_QUEUE_SIZE);
    net_tear_down(&f);
}

/* Sends `count` frames, each with a kick of its own. */
static void send_singly(struct net_fixture *f, unsigned count)
{
    uint8_t frame[FRAME];

    net_make_frame(frame, FRAME, 1);
    while (count-- > 0) {
        net_add_frame(f, frame, FRAME);
        f->net->tx.served_ns = UINT64_MAX / 2; /* a busy machine shall not make a gap */
        net_kick_settle(f, NET_TX);
        while (fake_tap_receive(frame, sizeof(frame)) > 0)
            ;
        net_make_frame(frame, FRAME, 1);
    }
}

static void test_net_stream_of_kicks_lets_frames_gather_until_it_pauses(void **state)
{
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    send_singly(&f, 17);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    assert_int_equal(guest_avail_event(&f.driver[NET_TX]), 17 + NET_QUEUE_SIZE / 4);

    /* what has gathered goes when the timer ends; frames go on gathering */
    net_make_frame(frame, FRAME, 7);
    for (unsigned i = 0; i < 10; i++)
        net_add_frame(&f, frame, FRAME);
    fake_loop_complete(f.loop, 0, -ETIME, false);
    fake_loop_settle(f.loop);
    for (unsigned i = 0; i < 10; i++)
        net_expect_sent(&f, FRAME, 7);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);

    /* a look that finds few ends it: the next frame has its kick */
    net_add_frame(&f, frame, FRAME);
    fake_loop_complete(f.loop, 0, -ETIME, false);
    fake_loop_settle(f.loop);
    net_expect_sent(&f, FRAME, 7);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 0);
    assert_int_equal(guest_avail_event(&f.driver[NET_TX]), 28);

    /* and the next try takes twice as many, that look among them */
    send_singly(&f, 30);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 0);
    send_singly(&f, 1);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    net_tear_down(&f);
}

static void test_net_frames_that_are_answered_never_gather(void **state)
{
    struct net_fixture f;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_add_buffers(&f, 60, 1536);
    net_kick_settle(&f, NET_RX);
    for (unsigned i = 0; i < 40; i++) {
        send_singly(&f, 1);
        net_host_sends(&f, FRAME, i);
        fake_loop_settle(f.loop);
    }
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 0);
    assert_int_equal(guest_avail_event(&f.driver[NET_TX]), 40);
    net_tear_down(&f);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static void test_net_frame_over_tx_limit_waits_and_is_sent_later(void **state)
{
    struct net_config config = {
        .has_tx_limiter = true,
        .tx_limiter = {.has_ops = true, .ops = {.size = 2, .refill_ms = 3600000}},
    };
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, &config, NET_FEATURES);
    for (unsigned i = 0; i < 3; i++) {
        net_make_frame(frame, FRAME, i);
        net_add_frame(&f, frame, FRAME);
    }
    net_kick_settle(&f, NET_TX);
    take_all_used(&f, NET_TX, 2);
    assert_int_equal(f.metrics->tx_rate_limiter_throttled, 1);
    assert_int_equal(fake_loop_find(f.loop, FAKE_TIMER)->len, RATE_LIMITER_RETRY_NS);
    net_kick_settle(&f, NET_TX); /* a kick does not get past it */
    take_all_used(&f, NET_TX, 0);

    net_update(f.net, NULL,
               &(struct rate_limiter_config){.has_ops = true, .ops = {.size = 9, .refill_ms = 9}});
    assert_int_equal(net_config(f.net)->tx_limiter.ops.size, 9);
    fake_loop_complete(f.loop, 0, -ETIME, false);
    fake_loop_settle(f.loop);
    for (unsigned i = 0; i < 3; i++)
        net_expect_sent(&f, FRAME, i);
    assert_int_equal(f.metrics->tx_rate_limiter_event_count, 1);
    net_tear_down(&f);
}

static void test_net_tx_bandwidth_counts_whole_frames(void **state)
{
    struct net_config config = {
        .has_tx_limiter = true,
        .tx_limiter = {.has_bandwidth = true,
                       .bandwidth = {.size = 2 * FRAME, .refill_ms = 3600000, .one_time_burst = 1}},
    };
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, &config, NET_FEATURES);
    net_make_frame(frame, FRAME, 0);
    for (unsigned i = 0; i < 3; i++)
        net_add_frame(&f, frame, FRAME);
    net_kick_settle(&f, NET_TX);
    take_all_used(&f, NET_TX, 2);

    net_update(f.net, NULL, &(struct rate_limiter_config){.has_bandwidth = true});
    assert_false(net_config(f.net)->has_tx_limiter);
    fake_loop_complete(f.loop, 0, -ETIME, false);
    fake_loop_settle(f.loop);
    take_all_used(&f, NET_TX, 1);
    net_tear_down(&f);
}

/* ---- the end of a tap, of a driver, of a configuration --------------------------------------- */

static void test_net_deleted_tap_takes_link_down_and_frames_are_dropped(void **state)
{
    struct net_fixture f;
    uint8_t frame[FRAME], status;

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    fake_tap_fail(-EBADFD);
    net_make_frame(frame, FRAME, 1);
    for (unsigned i = 0; i < 2; i++) {
        net_add_frame(&f, frame, FRAME);
        net_kick_settle(&f, NET_TX);
    }
    take_all_used(&f, NET_TX, 2);
    virtio_dev_read_config(f.dev, 6, &status, 1);
    assert_int_equal(status & NET_S_LINK_UP, 0);
    assert_int_equal(f.metrics->tx_fails, 2);
    assert_int_equal(fake_loop_count(f.loop), 0);

    /* a driver that begins anew finds a device without link, not a failed one */
    assert_int_equal(net_restart(&f, NET_FEATURES), 15);
    net_tear_down(&f);
}

static void test_net_reset_in_flight_ends_with_nothing_in_flight(void **state)
{
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    net_make_frame(frame, FRAME, 1);
    net_add_buffers(&f, 4, 1536);
    net_kick_settle(&f, NET_RX);
    for (unsigned i = 0; i < 3; i++)
        net_add_frame(&f, frame, FRAME);
    virtio_dev_kick(f.dev, NET_TX);
    virtio_dev_write_status(f.dev, 0);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(fake_loop_count(f.loop), 0);

    net_restart(&f, NET_FEATURES);
    net_add_frame(&f, frame, FRAME);
    net_kick_settle(&f, NET_TX);
    take_all_used(&f, NET_TX, 1);
    net_tear_down(&f);
}

static void test_net_bad_ring_stops_only_the_device_until_reset(void **state)
{
    struct net_fixture f;
    uint8_t frame[FRAME];

    (void)state;
    net_set_up(&f, NULL, NET_FEATURES);
    guest_set_avail_idx(&f.driver[NET_TX], NET_QUEUE_SIZE + 1);
    net_kick_settle(&f, NET_TX);
    assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(f.metrics->event_fails, 1);

    assert_int_equal(net_restart(&f, NET_FEATURES), 15);
    net_make_frame(frame, FRAME, 5);
    net_add_frame(&f, frame, FRAME);
    net_kick_settle(&f, NET_TX);
    net_expect_sent(&f, FRAME, 5);
    net_tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_net_offers_mac_and_mtu_only_if_given),
        cmocka_unit_test(test_net_shows_mac_link_and_one_queue_pair),
        cmocka_unit_test(test_net_driver_writes_mac_and_nothing_else),
        cmocka_unit_test(test_net_offloads_follow_driver_and_end_with_it),
        cmocka_unit_test(test_net_activation_fails_if_tap_refuses_offloads),
        cmocka_unit_test(test_net_missing_tap_is_an_error_with_a_sentence),
        cmocka_unit_test(test_net_sends_frames_in_order_whole),
        cmocka_unit_test(test_net_sends_lone_frame_at_once),
        cmocka_unit_test(test_net_frames_of_many_segments_keep_their_place),
        cmocka_unit_test(test_net_malformed_frames_cost_only_themselves),
        cmocka_unit_test(test_net_counts_spoofed_source_and_sends_it),
        cmocka_unit_test(test_net_failed_write_costs_that_frame),
        cmocka_unit_test(test_net_flood_of_frames_is_served_over_several_turns),
        cmocka_unit_test(test_net_stream_of_kicks_lets_frames_gather_until_it_pauses),
        cmocka_unit_test(test_net_frames_that_are_answered_never_gather),
        cmocka_unit_test(test_net_frame_over_tx_limit_waits_and_is_sent_later),
        cmocka_unit_test(test_net_tx_bandwidth_counts_whole_frames),
        cmocka_unit_test(test_net_deleted_tap_takes_link_down_and_frames_are_dropped),
        cmocka_unit_test(test_net_reset_in_flight_ends_with_nothing_in_flight),
        cmocka_unit_test(test_net_bad_ring_stops_only_the_device_until_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
