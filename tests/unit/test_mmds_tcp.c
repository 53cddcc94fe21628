/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mmds_tcp.c: one connection over a bad wire: sizes, loss, order, lies, windows, ends.
 */
#include "tests/support/fake_loop.h"
#include "tests/unit/mmds_fixture.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <string.h>

/* ---- sizes ---- */

static void test_mmds_segments_fit_the_mtu_and_what_the_guest_takes(void **state)
{
    static const struct {
        uint16_t mtu, mss;
        size_t longest;
    } cases[] = {
        {1500, 1460, 1514}, {1500, 9000, 1514}, {1500, 1000, 1054}, {9000, 8960, 9014},
        {68, 1460, 82},     {1500, 1, 142},     {1500, 0, 590},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct tcp_peer peer;

        set_up_mtu(&f, cases[i].mtu);
        set_answer(&f, 20000);
        tcp_peer_init(&peer, 1);
        peer.mss = cases[i].mss;
        connect_peer(&f, &peer);
        assert_int_equal(peer.service_mss, cases[i].mtu - 40);
        send_text(&f, &peer, REQUEST);
        exchange(&f, &peer);
        assert_answered(&f, &peer);
        assert_int_equal(peer.longest, cases[i].longest);
        tcp_peer_release(&peer);
        tear_down(&f);
    }
}

static void test_mmds_broken_options_are_no_options(void **state)
{
    /* the eight bytes of options that the peer sends: what they become, and the size that follows
     */
    static const struct {
        uint8_t option[8];
        size_t longest;
    } cases[] = {
        {{1, 1, 2, 4, 3, 0xe8, 0, 0}, 14 + 40 + 1000},
        {{2, 4, 3, 0xe8, 1, 1, 1, 1}, 14 + 40 + 1000},
        {{2, 0, 3, 0xe8, 1, 1, 1, 1}, 14 + 40 + 536},
        {{2, 1, 3, 0xe8, 1, 1, 1, 1}, 14 + 40 + 536},
        {{1, 1, 1, 1, 1, 1, 1, 2}, 14 + 40 + 536},
        {{1, 1, 1, 1, 2, 5, 3, 0xe8}, 14 + 40 + 536},
        {{0, 1, 2, 4, 3, 0xe8, 1, 1}, 14 + 40 + 536},
        {{3, 3, 7, 2, 3, 0xe8, 1, 1}, 14 + 40 + 536},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct tcp_peer peer;
        size_t len;

        set_up(&f);
        set_answer(&f, 3000);
        tcp_peer_init(&peer, 1);
        len = tcp_peer_segment(&peer, PEER_SYN, NULL, 0);
        memcpy(peer.frame + 54, cases[i].option, 8);
        give(&f, &peer, len);
        exchange(&f, &peer);
        send_text(&f, &peer, REQUEST);
        exchange(&f, &peer);
        assert_answered(&f, &peer);
        assert_int_equal(peer.longest, cases[i].longest);
        tcp_peer_release(&peer);
        tear_down(&f);
    }
}

/* ---- loss, repetition, order ---- */

static void test_mmds_lossy_wires_deliver_everything(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        struct fixture f;
        struct tcp_peer peer;

        set_up(&f);
        f.random = seed;
        f.lost = seed % 4 * 15;
        f.doubled = seed % 3 * 30;
        f.backwards = seed % 2;
        set_answer(&f, 51200);
        open_peer(&f, &peer, (uint16_t)seed);
        for (int request = 0; request < 2; request++) {
            uint32_t seq = peer.next;

            peer.next += strlen(REQUEST);
            for (int tries = 0; f.requests <= (unsigned)request && tries < 100; tries++) {
                /* the guest's own retransmissions, which are its timer's business */
                size_t len = tcp_peer_segment_at(&peer, seq, PEER_ACK, REQUEST, strlen(REQUEST));

                give(&f, &peer, len);
            }
            exchange_patiently(&f, &peer, f.answer_len);
            assert_false(peer.reset);
            assert_answered(&f, &peer);
            tcp_peer_forget(&peer);
            /* and it acknowledges, lest the next request waits for the timer */
            f.lost = 0;
            give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, NULL, 0));
        }
        tcp_peer_release(&peer);
        tear_down(&f);
    }
}

/* A guest whose network and windows do anything for a while, and then are well again. */
static void test_mmds_answers_arrive_whatever_went_before(void **state)
{
    static const uint16_t windows[] = {0, 1, 50, 87, 500, 1459, 1460, 3000, 64240};
    static const uint16_t sizes[] = {1, 88, 300, 536, 1460};

    (void)state;
    for (uint32_t seed = 1; seed <= 500; seed++) {
        struct fixture f;
        struct tcp_peer peer;

        set_up(&f);
        set_answer(&f, 1 + seed * 97 % 30000);
        tcp_peer_init(&peer, (uint16_t)seed);
        peer.mss = sizes[seed % ARRAY_SIZE(sizes)];
        peer.window = windows[seed % ARRAY_SIZE(windows)];
        connect_peer(&f, &peer);
        send_text(&f, &peer, REQUEST);
        f.random = seed;
        for (unsigned step = 0; step < TCP_RETRIES_MAX; step++) {
            f.lost = seed * step % 90;
            f.doubled = seed % 50;
            f.backwards = step % 2;
            peer.stubborn = step % 5 == 4;
            peer.window = windows[seed * (step + 3) / 7 % ARRAY_SIZE(windows)];
            if (step % 3)
                run_timer(&f);
            else
                give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, NULL, 0));
            exchange(&f, &peer);
        }
        f.lost = f.doubled = 0;
        peer.stubborn = false;
        peer.window = 64240;
        give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, NULL, 0));
        exchange_patiently(&f, &peer, f.answer_len);
        assert_false(peer.reset);
        assert_answered(&f, &peer);
        tcp_peer_release(&peer);
        tear_down(&f);
    }
}

static void test_mmds_requests_out_of_order_are_asked_for_again(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint32_t seq;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    seq = peer.next;
    /* the second half first, then the first half twice, then all of it */
    give(&f, &peer, tcp_peer_segment_at(&peer, seq + 9, PEER_ACK, &REQUEST[9], 9));
    exchange(&f, &peer);
    assert_int_equal(peer.acked, seq);
    give(&f, &peer, tcp_peer_segment_at(&peer, seq, PEER_ACK, REQUEST, 9));
    give(&f, &peer, tcp_peer_segment_at(&peer, seq, PEER_ACK, REQUEST, 9));
    exchange(&f, &peer);
    assert_int_equal(peer.acked, seq + 9);
    assert_int_equal(f.requests, 0);
    give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, REQUEST, strlen(REQUEST)));
    exchange(&f, &peer);
    assert_int_equal(f.requests, 1);
    assert_string_equal(f.last, REQUEST);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_three_same_acks_send_again_at_once(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];

    (void)state;
    set_up(&f);
    set_answer(&f, 10 * 1460);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    assert_true(take(&f, frame) > 0); /* the first is lost, the others arrive */
    exchange(&f, &peer);
    assert_answered(&f, &peer); /* without a timer */
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_silent_guest_is_asked_a_bounded_number_of_times(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];
    uint64_t longest = 0;
    unsigned times = 0;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    while (take(&f, frame)) {
        times++;
        if (run_timer(&f) && fake_loop_count(f.loop))
            longest = MAX(longest, fake_loop_op(f.loop, 0)->len);
    }
    assert_int_equal(times, 1 + TCP_RETRIES_MAX + 1); /* and a reset */
    assert_true(longest <= TCP_RTO_MAX && longest > TCP_RTO_MAX / 2);
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    assert_int_equal(fake_loop_count(f.loop), 0);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_unsent_frames_are_not_counted_as_tries(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    for (int i = 0; i < 100; i++) /* the guest has no buffers for a while */
        run_timer(&f);
    exchange_patiently(&f, &peer, f.answer_len);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

/* ---- lies about the sequence ---- */

static void test_mmds_acks_of_what_was_never_sent_are_not_believed(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    set_answer(&f, 3000);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    peer.expected += 100000;
    give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, NULL, 0));
    peer.expected -= 100000;
    assert_int_equal(metrics.mmds.rx_accepted_unusual, 1);
    exchange(&f, &peer);
    assert_answered(&f, &peer);
    /* nor are old ones */
    peer.expected -= 2000;
    send_text(&f, &peer, REQUEST);
    peer.expected += 2000;
    exchange(&f, &peer);
    assert_int_equal(peer.len, 2 * f.answer_len);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_repeated_syn_is_answered_again(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    give(&f, &peer, tcp_peer_segment(&peer, PEER_SYN, NULL, 0));
    assert_true(take(&f, frame) > 0); /* lost */
    give(&f, &peer, tcp_peer_segment_at(&peer, peer.next - 1, PEER_SYN, NULL, 0));
    exchange(&f, &peer);
    assert_true(peer.open);
    send_text(&f, &peer, REQUEST);
    exchange(&f, &peer);
    assert_answered(&f, &peer);
    assert_int_equal(metrics.mmds.connections_created, 1);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_segments_without_ack_are_unusual(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    give(&f, &peer, tcp_peer_segment_at(&peer, peer.next, PEER_PSH, REQUEST, strlen(REQUEST)));
    assert_int_equal(metrics.mmds.rx_accepted_unusual, 1);
    assert_int_equal(f.requests, 0);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_data_behind_the_end_are_not_read(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    set_answer(&f, 3000);
    open_peer(&f, &peer, 1);
    give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK | PEER_FIN, REQUEST, strlen(REQUEST)));
    give(&f, &peer, tcp_peer_segment_at(&peer, peer.next, PEER_ACK, REQUEST, strlen(REQUEST)));
    exchange(&f, &peer);
    assert_int_equal(f.requests, 1);
    assert_int_equal(peer.acked, peer.next);
    assert_true(peer.closed);
    tcp_peer_release(&peer);
    tear_down(&f);
}

/* ---- windows ---- */

/* A window that is small beside what it was: the timer, not the guest, ends the wait for more. */
static void test_mmds_window_that_shrinks_is_filled_after_a_while(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    set_answer(&f, 3000);
    open_peer(&f, &peer, 1); /* it has offered 64240 bytes */
    peer.window = 100;
    send_text(&f, &peer, REQUEST);
    exchange(&f, &peer);
    assert_int_equal(peer.len, 0);
    for (unsigned i = 1; i < 29; i++) {
        run_timer(&f);
        exchange(&f, &peer);
        assert_int_equal(peer.len, i * 100);
    }
    run_timer(&f);
    exchange(&f, &peer);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_small_piece_that_is_lost_is_sent_again(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];

    (void)state;
    set_up(&f);
    set_answer(&f, 3000);
    open_peer(&f, &peer, 1);
    peer.window = 100;
    send_text(&f, &peer, REQUEST);
    exchange(&f, &peer);
    for (unsigned i = 0; i < TCP_RETRIES_MAX; i++) {
        run_timer(&f);
        assert_true(take(&f, frame) > 100); /* lost */
    }
    peer.window = 64240;
    run_timer(&f);
    exchange(&f, &peer);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_small_windows_are_kept_to(void **state)
{
    static const uint16_t windows[] = {1, 10, 87, 1000, 1460, 1461, 5000};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
        struct fixture f;
        struct tcp_peer peer;
        uint8_t frame[PEER_FRAME_MAX];
        size_t len, most = 0;

        set_up(&f);
        set_answer(&f, 3000);
        tcp_peer_init(&peer, 1);
        peer.window = windows[i];
        connect_peer(&f, &peer);
        send_text(&f, &peer, REQUEST);
        while (peer.len < f.answer_len) {
            size_t before = peer.len;

            while ((len = take(&f, frame)) > 0)
                assert_true(tcp_peer_take(&peer, frame, len));
            most = MAX(most, peer.len - before);
            give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, NULL, 0));
        }
        assert_answered(&f, &peer);
        assert_true(most <= windows[i]);
        tcp_peer_release(&peer);
        tear_down(&f);
    }
}

static void test_mmds_closed_window_is_asked_about_until_it_opens(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    set_answer(&f, 3000);
    tcp_peer_init(&peer, 1);
    peer.window = 0;
    connect_peer(&f, &peer);
    send_text(&f, &peer, REQUEST);
    exchange(&f, &peer);
    for (int i = 0; i < 100; i++) { /* many more than retries: it answers every time */
        unsigned asked = (unsigned)metrics.mmds.tx_frames;

        assert_true(run_timer(&f));
        exchange(&f, &peer);
        assert_true(metrics.mmds.tx_frames > asked);
    }
    assert_int_equal(peer.len, 0);
    assert_false(peer.reset);
    peer.window = 64000;
    give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, NULL, 0));
    exchange(&f, &peer);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_window_that_closes_under_data_is_asked_about(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    set_answer(&f, 3000);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    peer.stubborn = true;
    peer.window = 0;
    exchange(&f, &peer);
    for (int i = 0; i < 100; i++) {
        run_timer(&f);
        exchange(&f, &peer);
    }
    assert_false(peer.reset);
    peer.stubborn = false;
    peer.window = 64000;
    give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, NULL, 0));
    exchange_patiently(&f, &peer, f.answer_len);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_closed_window_without_answers_ends(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];
    unsigned probes = 0;

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    peer.window = 0;
    connect_peer(&f, &peer);
    send_text(&f, &peer, REQUEST);
    exchange(&f, &peer);
    while (run_timer(&f)) {
        while (take(&f, frame))
            probes++;
    }
    assert_int_equal(probes, TCP_RETRIES_MAX + 1); /* the last is a reset */
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    tcp_peer_release(&peer);
    tear_down(&f);
}

/* ---- ends ---- */

static void test_mmds_half_closed_guest_gets_its_answer(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    set_answer(&f, 10000);
    open_peer(&f, &peer, 1);
    give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK | PEER_FIN, REQUEST, strlen(REQUEST)));
    exchange(&f, &peer);
    assert_answered(&f, &peer);
    assert_true(peer.closed && !peer.reset);
    assert_int_equal(peer.acked, peer.next);
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_idle_close_is_answered_and_repeated_when_lost(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK | PEER_FIN, NULL, 0));
    assert_true(take(&f, frame) > 0); /* our FIN, lost */
    give(&f, &peer, tcp_peer_segment_at(&peer, peer.next - 1, PEER_ACK | PEER_FIN, NULL, 0));
    exchange(&f, &peer);
    assert_false(peer.closed);
    run_timer(&f);
    exchange(&f, &peer);
    assert_true(peer.closed);
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_reset_ends_a_connection_only_where_it_is_due(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    give(&f, &peer, tcp_peer_segment_at(&peer, peer.next + 5, PEER_RST, NULL, 0));
    give(&f, &peer, tcp_peer_segment_at(&peer, peer.next - 5, PEER_RST, NULL, 0));
    give(&f, &peer, tcp_peer_segment_at(&peer, peer.next + 50000, PEER_RST, NULL, 0));
    assert_int_equal(metrics.mmds.connections_destroyed, 0);
    give(&f, &peer, tcp_peer_segment(&peer, PEER_RST, NULL, 0));
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    tcp_peer_release(&peer);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmds_segments_fit_the_mtu_and_what_the_guest_takes),
        cmocka_unit_test(test_mmds_broken_options_are_no_options),
        cmocka_unit_test(test_mmds_lossy_wires_deliver_everything),
        cmocka_unit_test(test_mmds_answers_arrive_whatever_went_before),
        cmocka_unit_test(test_mmds_requests_out_of_order_are_asked_for_again),
        cmocka_unit_test(test_mmds_three_same_acks_send_again_at_once),
        cmocka_unit_test(test_mmds_silent_guest_is_asked_a_bounded_number_of_times),
        cmocka_unit_test(test_mmds_unsent_frames_are_not_counted_as_tries),
        cmocka_unit_test(test_mmds_acks_of_what_was_never_sent_are_not_believed),
        cmocka_unit_test(test_mmds_repeated_syn_is_answered_again),
        cmocka_unit_test(test_mmds_segments_without_ack_are_unusual),
        cmocka_unit_test(test_mmds_data_behind_the_end_are_not_read),
        cmocka_unit_test(test_mmds_window_that_shrinks_is_filled_after_a_while),
        cmocka_unit_test(test_mmds_small_piece_that_is_lost_is_sent_again),
        cmocka_unit_test(test_mmds_small_windows_are_kept_to),
        cmocka_unit_test(test_mmds_closed_window_is_asked_about_until_it_opens),
        cmocka_unit_test(test_mmds_window_that_closes_under_data_is_asked_about),
        cmocka_unit_test(test_mmds_closed_window_without_answers_ends),
        cmocka_unit_test(test_mmds_half_closed_guest_gets_its_answer),
        cmocka_unit_test(test_mmds_idle_close_is_answered_and_repeated_when_lost),
        cmocka_unit_test(test_mmds_reset_ends_a_connection_only_where_it_is_due),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
