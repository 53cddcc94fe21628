/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mmds.c: the endpoint: what it takes off the wire, requests and answers, how many connections
 * it holds and for whom, floods, pauses.
 */
#include "tests/support/fake_loop.h"
#include "tests/unit/mmds_fixture.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <stdlib.h>
#include <string.h>

/* ---- addresses and frames ---- */

static void test_mmds_arp_request_is_answered_with_its_address(void **state)
{
    static const uint8_t reply[] = {
        0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x06, 0x01, 0x23, 0x45, 0x67, 0x01, 8,    6,
        0,    1,    8,    0,    6,    4,    0,    2,    0x06, 0x01, 0x23, 0x45, 0x67, 0x01,
        169,  254,  169,  254,  0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 169,  254,  169,  2};
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    give(&f, &peer, tcp_peer_arp(&peer));
    give(&f, &peer, tcp_peer_arp(&peer)); /* asked twice, answered once */
    assert_int_equal(f.ready, 2);
    assert_int_equal(take(&f, frame), sizeof(reply));
    assert_memory_equal(frame, reply, sizeof(reply));
    assert_int_equal(take(&f, frame), 0);
    assert_int_equal(metrics.mmds.rx_accepted, 2);
    assert_int_equal(metrics.mmds.tx_frames, 1);
    assert_int_equal(metrics.mmds.tx_bytes, sizeof(reply));
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_wants_only_what_is_for_its_address(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    size_t len;

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    len = tcp_peer_arp(&peer);
    assert_false(mmds_endpoint_wants(f.endpoint, peer.frame, len - 1));
    peer.frame[21] = 2; /* a reply */
    assert_false(mmds_endpoint_wants(f.endpoint, peer.frame, len));
    peer.service++;
    assert_false(mmds_endpoint_wants(f.endpoint, peer.frame, tcp_peer_arp(&peer)));
    len = tcp_peer_segment(&peer, PEER_SYN, NULL, 0);
    assert_false(mmds_endpoint_wants(f.endpoint, peer.frame, len));
    peer.service--;
    len = tcp_peer_segment(&peer, PEER_SYN, NULL, 0);
    assert_true(mmds_endpoint_wants(f.endpoint, peer.frame, 34));
    assert_false(mmds_endpoint_wants(f.endpoint, peer.frame, 33));
    peer.frame[12] = 0x86; /* IPv6 */
    assert_false(mmds_endpoint_wants(f.endpoint, peer.frame, len));
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_broken_packets_are_counted_and_dropped(void **state)
{
    /* at, value: version, header length, total length, fragment, checksum, TCP header length */
    static const uint8_t breaks[][2] = {{14, 0x65}, {14, 0x44}, {14, 0x4f}, {16, 0xff}, {20, 0x20},
                                        {21, 0x01}, {24, 0x55}, {46, 0x40}, {46, 0xf0}};
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    for (size_t i = 0; i < ARRAY_SIZE(breaks); i++) {
        size_t len = tcp_peer_segment(&peer, PEER_SYN, NULL, 0);

        peer.frame[breaks[i][0]] = breaks[i][1];
        mmds_endpoint_input(f.endpoint, peer.frame, len);
        assert_int_equal(metrics.mmds.rx_accepted_err, i + 1);
    }
    for (size_t len = 0; len < 54; len++)
        mmds_endpoint_input(f.endpoint, peer.frame, len);
    assert_int_equal(metrics.mmds.rx_bad_eth, 14);
    assert_int_equal(metrics.mmds.connections_created, 0);
    assert_int_equal(f.ready, 0);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_other_protocols_are_unusual(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    size_t len;

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    len = tcp_peer_segment(&peer, PEER_SYN, NULL, 0);
    peer.frame[23] = 17;  /* UDP */
    peer.frame[25] -= 11; /* the header's checksum again: 17 instead of 6 */
    mmds_endpoint_input(f.endpoint, peer.frame, len);
    assert_int_equal(metrics.mmds.rx_accepted_unusual, 1);
    assert_int_equal(metrics.mmds.rx_accepted_err, 0);
    tcp_peer_release(&peer);
    tear_down(&f);
}

/* ---- requests and answers ---- */

static void test_mmds_request_is_answered_and_connection_stays(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    assert_int_equal(peer.service_mss, MTU - 40);
    assert_int_equal(peer.service_window, TCP_RECEIVE_MAX);
    for (unsigned i = 1; i <= 3; i++) {
        send_text(&f, &peer, REQUEST);
        exchange(&f, &peer);
        assert_answered(&f, &peer);
        assert_int_equal(f.requests, i);
        assert_string_equal(f.last, REQUEST);
        assert_int_equal(peer.acked, peer.next);
        tcp_peer_forget(&peer);
    }
    assert_int_equal(metrics.mmds.connections_created, 1);
    assert_int_equal(metrics.mmds.connections_destroyed, 0);
    assert_int_equal(fake_loop_count(f.loop), 1); /* the timer, set for what has come since */
    assert_true(run_timer(&f));
    assert_int_equal(fake_loop_count(f.loop), 0);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_request_may_come_byte_by_byte(void **state)
{
    static const char text[] = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    for (size_t i = 0; text[i]; i++) {
        assert_int_equal(f.requests, 0);
        give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, text + i, 1));
        exchange(&f, &peer);
    }
    assert_string_equal(f.last, text);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_request_ends_at_a_blank_line_of_either_kind(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, "GET / HTTP/1.1\n\n");
    exchange(&f, &peer);
    assert_string_equal(f.last, "GET / HTTP/1.1\n\n");
    send_text(&f, &peer, "GET / HTTP/1.1\n\r\n");
    exchange(&f, &peer);
    assert_string_equal(f.last, "GET / HTTP/1.1\n\r\n");
    assert_int_equal(f.requests, 2);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_pipelined_requests_are_answered_in_turn(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    set_answer(&f, 4000);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST REQUEST REQUEST);
    assert_int_equal(f.requests, 1); /* the next one waits until this answer has arrived */
    exchange(&f, &peer);
    assert_int_equal(f.requests, 3);
    assert_int_equal(peer.len, 3 * f.answer_len);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_answers_of_every_size_around_a_segment_arrive(void **state)
{
    static const size_t sizes[] = {1, 1459, 1460, 1461, 2919, 2920, 2921, 51200, 300000};
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        set_answer(&f, sizes[i]);
        peer.segments = 0;
        send_text(&f, &peer, REQUEST);
        exchange(&f, &peer);
        assert_answered(&f, &peer);
        assert_true(peer.segments <= sizes[i] / 1460 + sizes[i] / 64240 + 2);
        tcp_peer_forget(&peer);
    }
    assert_int_equal(peer.longest, 14 + MTU);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_short_buffers_get_short_segments(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[100];
    size_t len;

    (void)state;
    set_up(&f);
    set_answer(&f, 500);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    assert_int_equal(mmds_endpoint_output(f.endpoint, frame, MMDS_FRAME_MIN - 1), 0);
    assert_int_equal(metrics.mmds.tx_errors, 1);
    while ((len = mmds_endpoint_output(f.endpoint, frame, sizeof(frame))) > 0)
        assert_true(tcp_peer_take(&peer, frame, len));
    assert_answered(&f, &peer);
    assert_int_equal(peer.longest, sizeof(frame));
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_request_over_its_limit_is_reset(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    char line[TCP_RECEIVE_MAX / 2];

    (void)state;
    memset(line, 'x', sizeof(line));
    set_up(&f);
    open_peer(&f, &peer, 1);
    for (int i = 0; i < 2; i++) {
        assert_false(peer.reset);
        give(&f, &peer, tcp_peer_segment(&peer, PEER_ACK, line, sizeof(line)));
        exchange(&f, &peer);
    }
    assert_true(peer.reset);
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    assert_int_equal(f.requests, 0);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_service_without_memory_costs_the_connection(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    free(f.answer);
    f.answer = NULL;
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    exchange(&f, &peer);
    assert_true(peer.reset);
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    tcp_peer_release(&peer);
    tear_down(&f);
}

/* ---- connections there are, and there are not ---- */

static void test_mmds_segments_of_no_connection_are_reset(void **state)
{
    struct fixture f;
    struct tcp_peer peer;

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    send_text(&f, &peer, REQUEST);
    exchange(&f, &peer);
    assert_true(peer.reset);
    peer.reset = false;
    give(&f, &peer, tcp_peer_segment(&peer, PEER_RST, NULL, 0)); /* a reset is not answered */
    exchange(&f, &peer);
    assert_false(peer.reset);
    peer.service_port = 443;
    give(&f, &peer, tcp_peer_segment(&peer, PEER_SYN, NULL, 0));
    exchange(&f, &peer);
    assert_true(peer.reset);
    assert_int_equal(peer.acked, peer.next);
    assert_int_equal(metrics.mmds.rx_accepted_err, 1);
    assert_int_equal(metrics.mmds.connections_created, 0);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_new_syn_of_a_guest_started_anew_gets_through(void **state)
{
    struct fixture f;
    struct tcp_peer peer, anew;

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    tcp_peer_init(&anew, 1); /* the same port, another sequence */
    anew.next = peer.next + 70000;
    give(&f, &anew, tcp_peer_segment(&anew, PEER_SYN, NULL, 0));
    exchange(&f, &peer); /* the old connection's acknowledgement, to which a new guest says: */
    give(&f, &anew, tcp_peer_segment_at(&anew, peer.acked, PEER_RST, NULL, 0));
    anew.next--;
    connect_peer(&f, &anew);
    send_text(&f, &anew, REQUEST);
    exchange(&f, &anew);
    assert_answered(&f, &anew);
    tcp_peer_release(&peer);
    tcp_peer_release(&anew);
    tear_down(&f);
}

/* Found by fuzzing: what was left of a connection was taken for a part of the next one's answer. */
static void test_mmds_sequences_of_one_port_do_not_meet(void **state)
{
    struct fixture f;
    uint32_t begin[8];

    (void)state;
    set_up(&f);
    set_answer(&f, 100000);
    for (size_t i = 0; i < ARRAY_SIZE(begin); i++) {
        struct tcp_peer peer;

        open_peer(&f, &peer, 1);
        begin[i] = peer.expected;
        for (size_t j = 0; j < i; j++)
            assert_true(begin[i] - begin[j] > 100 * MIB && begin[j] - begin[i] > 100 * MIB);
        send_text(&f, &peer, REQUEST);
        exchange(&f, &peer);
        assert_answered(&f, &peer);
        give(&f, &peer, tcp_peer_segment(&peer, PEER_RST, NULL, 0));
        tcp_peer_release(&peer);
    }
    tear_down(&f);
}

/* ---- floods ---- */

static void test_mmds_connections_over_the_limit_are_refused(void **state)
{
    static struct tcp_peer peer[MMDS_CONNECTIONS_MAX + 1];
    struct fixture f;
    struct tcp_peer *last = &peer[MMDS_CONNECTIONS_MAX];

    (void)state;
    set_up(&f);
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++)
        open_peer(&f, &peer[i], (uint16_t)(i + 1));
    tcp_peer_init(last, 1000);
    give(&f, last, tcp_peer_segment(last, PEER_SYN, NULL, 0));
    exchange(&f, last);
    assert_true(last->reset);
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++) { /* the others are as they were */
        send_text(&f, &peer[i], REQUEST);
        exchange(&f, &peer[i]);
        assert_answered(&f, &peer[i]);
    }
    /* one that closes makes room */
    give(&f, &peer[3], tcp_peer_segment(&peer[3], PEER_ACK | PEER_FIN, NULL, 0));
    exchange(&f, &peer[3]);
    last->reset = false;
    connect_peer(&f, last);
    for (unsigned i = 0; i <= MMDS_CONNECTIONS_MAX; i++)
        tcp_peer_release(&peer[i]);
    tear_down(&f);
}

static void test_mmds_syn_flood_costs_no_more_than_its_connections(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];
    unsigned frames = 0;

    (void)state;
    set_up(&f);
    tcp_peer_init(&peer, 1);
    for (unsigned i = 0; i < 10000; i++) {
        peer.port = (uint16_t)(i + 1);
        give(&f, &peer, tcp_peer_segment(&peer, PEER_SYN, NULL, 0));
    }
    assert_int_equal(metrics.mmds.connections_created, MMDS_CONNECTIONS_MAX);
    assert_int_equal(fake_loop_count(f.loop), 0); /* nothing has been sent that could be lost */
    while (take(&f, frame))
        frames++;
    assert_int_equal(frames, MMDS_CONNECTIONS_MAX + MMDS_RESETS_MAX);
    for (int i = 0; run_timer(&f) && i < 1000; i++) { /* the handshakes run out by themselves */
        while (take(&f, frame))
            frames++;
    }
    assert_int_equal(metrics.mmds.connections_destroyed, MMDS_CONNECTIONS_MAX);
    assert_true(frames <= MMDS_CONNECTIONS_MAX * (TCP_SYN_RETRIES + 2) + MMDS_RESETS_MAX);
    peer.port = 1;
    connect_peer(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

static void test_mmds_still_connections_make_room(void **state)
{
    static struct tcp_peer peer[MMDS_CONNECTIONS_MAX];
    struct fixture f;
    struct tcp_peer last, stuck;

    (void)state;
    set_up(&f);
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX - 1; i++)
        open_peer(&f, &peer[i], (uint16_t)(i + 1));
    tcp_peer_init(&stuck, 500); /* time passes by the timer of one that does not read */
    stuck.window = 0;
    connect_peer(&f, &stuck);
    send_text(&f, &stuck, REQUEST);
    for (int i = 0; i < 5; i++) {
        exchange(&f, &stuck);
        run_timer(&f);
    }
    for (unsigned i = 1; i < MMDS_CONNECTIONS_MAX - 1; i++)
        send_text(&f, &peer[i], "G"); /* all but the first have been busy */
    exchange(&f, &stuck);
    tcp_peer_init(&last, 600);
    for (int i = 0; i < 10 && !last.open; i++) {
        run_timer(&f);
        exchange(&f, &stuck);
        last.reset = false;
        last.next--;
        give(&f, &last, tcp_peer_segment(&last, PEER_SYN, NULL, 0));
        exchange(&f, &last);
    }
    assert_true(last.open);
    assert_int_equal(metrics.mmds.connections_destroyed, 1);
    send_text(&f, &peer[0], REQUEST); /* the one that is gone */
    exchange(&f, &peer[0]);
    assert_true(peer[0].reset);
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX - 1; i++)
        tcp_peer_release(&peer[i]);
    tcp_peer_release(&last);
    tcp_peer_release(&stuck);
    tear_down(&f);
}

/* ---- pauses ---- */

static void test_mmds_pause_stops_the_timer_and_keeps_the_answer(void **state)
{
    struct fixture f;
    struct tcp_peer peer;
    uint8_t frame[PEER_FRAME_MAX];

    (void)state;
    set_up(&f);
    open_peer(&f, &peer, 1);
    send_text(&f, &peer, REQUEST);
    assert_true(take(&f, frame) > 0); /* lost */
    assert_int_equal(fake_loop_count(f.loop), 1);
    mmds_endpoint_quiesce(f.endpoint);
    assert_true(fake_loop_op(f.loop, 0)->cancelled);
    run_timer(&f);
    assert_int_equal(fake_loop_count(f.loop), 0);
    mmds_endpoint_quiesce(f.endpoint); /* twice is once */
    mmds_endpoint_resume(f.endpoint);
    assert_int_equal(fake_loop_count(f.loop), 1);
    mmds_endpoint_quiesce(f.endpoint);
    mmds_endpoint_resume(f.endpoint); /* before the cancelled timer has come back */
    assert_true(run_timer(&f));
    exchange(&f, &peer);
    assert_answered(&f, &peer);
    tcp_peer_release(&peer);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmds_arp_request_is_answered_with_its_address),
        cmocka_unit_test(test_mmds_wants_only_what_is_for_its_address),
        cmocka_unit_test(test_mmds_broken_packets_are_counted_and_dropped),
        cmocka_unit_test(test_mmds_other_protocols_are_unusual),
        cmocka_unit_test(test_mmds_request_is_answered_and_connection_stays),
        cmocka_unit_test(test_mmds_request_may_come_byte_by_byte),
        cmocka_unit_test(test_mmds_request_ends_at_a_blank_line_of_either_kind),
        cmocka_unit_test(test_mmds_pipelined_requests_are_answered_in_turn),
        cmocka_unit_test(test_mmds_answers_of_every_size_around_a_segment_arrive),
        cmocka_unit_test(test_mmds_short_buffers_get_short_segments),
        cmocka_unit_test(test_mmds_request_over_its_limit_is_reset),
        cmocka_unit_test(test_mmds_service_without_memory_costs_the_connection),
        cmocka_unit_test(test_mmds_segments_of_no_connection_are_reset),
        cmocka_unit_test(test_mmds_new_syn_of_a_guest_started_anew_gets_through),
        cmocka_unit_test(test_mmds_sequences_of_one_port_do_not_meet),
        cmocka_unit_test(test_mmds_connections_over_the_limit_are_refused),
        cmocka_unit_test(test_mmds_syn_flood_costs_no_more_than_its_connections),
        cmocka_unit_test(test_mmds_still_connections_make_room),
        cmocka_unit_test(test_mmds_pause_stops_the_timer_and_keeps_the_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
