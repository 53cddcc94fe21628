/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/vsock/vsock_conn.c: bytes and credit in both directions, how connections end, and
 * packets that make no sense. */
#include "tests/support/fake_loop.h"
#include "tests/unit/vsock_asserts.h"

#include <errno.h>
#include <unistd.h>

/* ---- bytes ---- */

static void test_vsock_bytes_of_the_host_fill_many_buffers(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    assert_int_equal(write(fd, bytes, 100 * KIB), 100 * KIB);
    assert_guest_gets(ends, bytes, 100 * KIB);
    assert_int_equal(metrics.vsock.rx_bytes_count, 100 * KIB);
    close(fd);
    tear_down(ends);
}

static void test_vsock_bytes_of_the_guest_reach_a_host_that_is_slow(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends), small = 4096;
    struct vsock_packet packet;
    size_t sent = 0, read_so_far = 0;
    ssize_t n;

    (void)state;
    /* Our end is the one that is full when the client does not read. */
    assert_int_equal(
        setsockopt(vsock_table_find(&ends->vsock->table, VSOCK_FIRST_PORT, ENDS_PORT)->fd,
                   SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
        0);
    while (read_so_far < 200 * KIB) {
        const struct vsock_conn *conn =
            vsock_table_find(&ends->vsock->table, VSOCK_FIRST_PORT, ENDS_PORT);
        uint32_t room = (uint32_t)(64 * KIB) - (conn->received - conn->forwarded);
        uint32_t len = (uint32_t)MIN(room, 200 * KIB - sent);

        if (len > 0)
            guest_says(ends, VSOCK_OP_RW, 0, bytes + sent, len);
        sent += len;
        n = read(fd, got + read_so_far, 1000);
        assert_true(n > 0);
        read_so_far += (size_t)n;
        ends_run(ends);
        while (ends_take(ends, &packet, got + read_so_far, 0)) {
            assert_int_equal(packet.op, VSOCK_OP_CREDIT_UPDATE);
            ends_offer(ends, 1);
        }
    }
    assert_memory_equal(got, bytes, 200 * KIB);
    close(fd);
    tear_down(ends);
}

static void test_vsock_guest_hears_of_room_only_when_it_runs_low(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;

    (void)state;
    guest_says(ends, VSOCK_OP_RW, 0, bytes, 60 * KIB - 1);
    assert_no_packet(ends);
    guest_says(ends, VSOCK_OP_RW, 0, bytes, 1);
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.op, VSOCK_OP_CREDIT_UPDATE);
    assert_int_equal(packet.fwd_cnt, 60 * KIB);
    assert_no_packet(ends);
    guest_says(ends, VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
    assert_packet(ends, VSOCK_OP_CREDIT_UPDATE, VSOCK_FIRST_PORT, ENDS_PORT);
    close(fd);
    tear_down(ends);
}

/* Linux sends no more than its own buffer would hold, whatever it is told. */
static void test_vsock_guest_with_a_small_buffer_hears_of_room_in_time(void **state)
{
    static const uint32_t alloc[] = {1, 100, 8192, 64 << 10};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(alloc); i++) {
        struct vsock_ends *ends = set_up();
        int fd;

        ends->alloc = alloc[i];
        fd = connect_client(ends);
        guest_says(ends, VSOCK_OP_RW, 0, bytes, alloc[i]);
        ends_run(ends);
        assert_packet(ends, VSOCK_OP_CREDIT_UPDATE, VSOCK_FIRST_PORT, ENDS_PORT);
        close(fd);
        tear_down(ends);
    }
}

/* Between two updates, where nothing else tells it. */
static void test_vsock_stream_that_gets_more_room_hears_of_it_at_once(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;
    size_t sent = 0;

    (void)state;
    for (; ends->vsock->streams == 0; sent += 1000) {
        while (ends_take(ends, &packet, got, 0))
            ends_offer(ends, 1);
        guest_says(ends, VSOCK_OP_RW, 0, bytes, 1000);
        assert_bytes(fd, bytes, 1000);
    }
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.op, VSOCK_OP_CREDIT_UPDATE);
    assert_int_equal(packet.buf_alloc, 256 * KIB);
    assert_int_equal(packet.fwd_cnt, sent);
    close(fd);
    tear_down(ends);
}

static void test_vsock_guest_gets_no_more_than_it_has_room_for(void **state)
{
    struct vsock_ends *ends = set_up();
    struct vsock_packet packet;
    int fd;

    (void)state;
    ends->alloc = 1000;
    fd = connect_client(ends);
    assert_int_equal(write(fd, bytes, 3000), 3000);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, sizeof(got)));
    assert_int_equal(packet.len, 1000);
    assert_no_packet(ends);

    ends->forwarded = 600;
    guest_says(ends, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got + 1000, sizeof(got)));
    assert_int_equal(packet.len, 600);
    assert_memory_equal(got, bytes, 1600);
    close(fd);
    tear_down(ends);
}

static void test_vsock_guest_without_room_is_asked_once_until_it_answers(void **state)
{
    struct vsock_ends *ends = set_up();
    struct vsock_packet packet;
    int fd;

    (void)state;
    ends->alloc = 1000;
    fd = connect_client(ends);
    assert_int_equal(write(fd, bytes, 3000), 3000);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, sizeof(got)));
    for (unsigned round = 0; round < 2; round++) {
        assert_true(ends->vsock->stall.armed == (round == 0));
        for (unsigned i = 0; i < fake_loop_count(ends->loop); i++)
            if (fake_loop_op(ends->loop, i)->op == &ends->vsock->stall.op)
                fake_loop_complete(ends->loop, i, -ETIME, false);
        ends_run(ends);
        if (round == 0)
            assert_packet(ends, VSOCK_OP_CREDIT_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
        else
            assert_no_packet(ends);
    }
    ends->forwarded = 1000;
    guest_says(ends, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, sizeof(got)));
    assert_int_equal(packet.len, 1000);
    assert_true(ends->vsock->stall.armed);
    close(fd);
    tear_down(ends);
}

static void test_vsock_absurd_credit_of_the_guest_is_no_credit(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    assert_int_equal(write(fd, bytes, 3000), 3000);
    ends->forwarded = 5; /* bytes that it never got */
    ends->alloc = UINT32_MAX;
    guest_says(ends, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
    assert_no_packet(ends);
    ends->forwarded = 0;
    guest_says(ends, VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
    assert_guest_gets(ends, bytes, 3000);
    close(fd);
    tear_down(ends);
}

static void test_vsock_guest_that_sends_more_than_there_is_room_loses_the_connection(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    guest_says(ends, VSOCK_OP_RW, 0, bytes, 64 * KIB + 1);
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_RST, VSOCK_FIRST_PORT, ENDS_PORT);
    assert_end(fd);
    assert_int_equal(ends->dev->s.status, 15);
    close(fd);
    tear_down(ends);
}

static void test_vsock_goes_on_when_the_guest_has_buffers_again(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;
    unsigned taken = 0;

    (void)state;
    assert_int_equal(write(fd, bytes, 150 * KIB), 150 * KIB);
    ends_run(ends);
    while (ends_take(ends, &packet, got, sizeof(got)))
        taken++;
    assert_int_equal(taken, RX - 1); /* one was for the REQUEST */
    /* Only now a kick is asked for. */
    assert_int_equal(guest_avail_event(&ends->driver[0]), RX);
    ends_offer(ends, RX);
    virtio_dev_kick(ends->dev, VSOCK_RX);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, sizeof(got)));
    assert_int_equal(metrics.vsock.rx_queue_event_count, 2);
    close(fd);
    tear_down(ends);
}

static void test_vsock_stream_of_the_guest_gets_more_room(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;
    uint32_t room = 0;

    (void)state;
    for (unsigned i = 0; i < 32; i++) {
        guest_says(ends, VSOCK_OP_RW, 0, bytes, 60 * KIB);
        assert_bytes(fd, bytes, 60 * KIB);
        ends_run(ends);
        while (ends_take(ends, &packet, got, 0)) {
            assert_true(packet.buf_alloc >= room);
            room = packet.buf_alloc;
            ends_offer(ends, 1);
        }
        assert_int_equal(room, i < 17 ? 64 * KIB : 256 * KIB);
    }
    assert_int_equal(ends->vsock->streams, 1);
    close(fd);
    ends_run(ends);
    guest_says(ends, VSOCK_OP_RST, 0, NULL, 0);
    assert_int_equal(ends->vsock->streams, 0);
    tear_down(ends);
}

static void test_vsock_chains_of_the_guest_come_back_with_the_next_packet_or_soon(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    const struct vsock_packet packet = {.src_cid = ENDS_CID,
                                        .dst_cid = VSOCK_HOST_CID,
                                        .src_port = ENDS_PORT,
                                        .dst_port = VSOCK_FIRST_PORT,
                                        .type = VSOCK_TYPE_STREAM,
                                        .op = VSOCK_OP_CREDIT_UPDATE,
                                        .buf_alloc = 256 * KIB};
    const struct virtqueue *tx = &ends->dev->queue[VSOCK_TX];
    uint16_t shown;

    (void)state;
    guest_set_used_event(&ends->driver[VSOCK_TX], tx->published);
    ends_send_packet(ends, &packet, NULL, 0);
    assert_int_not_equal(tx->published, tx->s.next_used);
    say(fd, "x");
    ends_run(ends);
    assert_int_equal(tx->published, tx->s.next_used);

    shown = tx->published;
    guest_set_used_event(&ends->driver[VSOCK_TX], shown);
    ends_send_packet(ends, &packet, NULL, 0);
    assert_int_equal(tx->published, shown);
    for (unsigned round = 0; round < 2; round++) { /* the first began before it was held */
        for (unsigned i = 0; i < fake_loop_count(ends->loop); i++)
            if (fake_loop_op(ends->loop, i)->op == &ends->vsock->held.op)
                fake_loop_complete(ends->loop, i, -ETIME, false);
        fake_loop_end_turn(ends->loop);
    }
    assert_int_equal(tx->published, (uint16_t)(shown + 1));
    close(fd);
    tear_down(ends);
}

/* ---- the end of connections ---- */

static void test_vsock_host_that_closes_is_followed_by_the_guest(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;

    (void)state;
    say(fd, "bye");
    close(fd);
    assert_guest_gets(ends, "bye", 3);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.op, VSOCK_OP_SHUTDOWN);
    assert_int_equal(packet.flags, VSOCK_SHUTDOWN_BOTH);
    assert_int_equal(ends->vsock->table.count, 1);
    guest_says(ends, VSOCK_OP_RST, 0, NULL, 0);
    assert_int_equal(ends->vsock->table.count, 0);
    assert_no_packet(ends);
    tear_down(ends);
}

static void test_vsock_guest_that_does_not_follow_is_reset(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;

    (void)state;
    close(fd);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.op, VSOCK_OP_SHUTDOWN);
    vsock_table_find(&ends->vsock->table, VSOCK_FIRST_PORT, ENDS_PORT)->deadline_ns = 0;
    for (unsigned i = 0; i < fake_loop_count(ends->loop); i++)
        if (fake_loop_op(ends->loop, i)->op == &ends->vsock->deadline.op)
            fake_loop_complete(ends->loop, i, -ETIME, false);
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_RST, VSOCK_FIRST_PORT, ENDS_PORT);
    assert_int_equal(ends->vsock->table.count, 0);
    tear_down(ends);
}

static void test_vsock_host_that_half_closes_can_still_read(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;

    (void)state;
    shutdown(fd, SHUT_WR);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.op, VSOCK_OP_SHUTDOWN);
    assert_int_equal(packet.flags, VSOCK_SHUTDOWN_SEND);
    guest_says(ends, VSOCK_OP_RW, 0, "answer", 6);
    assert_text(fd, "answer");
    close(fd);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.flags, VSOCK_SHUTDOWN_BOTH);
    tear_down(ends);
}

static void test_vsock_guest_that_half_closes_can_still_read(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    guest_says(ends, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_SEND, NULL, 0);
    assert_end(fd);
    say(fd, "answer");
    assert_guest_gets(ends, "answer", 6);
    close(fd);
    tear_down(ends);
}

static void test_vsock_guest_that_receives_no_more_stops_the_host(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    guest_says(ends, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_RECEIVE, NULL, 0);
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    guest_says(ends, VSOCK_OP_RW, 0, "more", 4);
    assert_text(fd, "more");
    close(fd);
    tear_down(ends);
}

static void test_vsock_guest_that_closes_is_let_go_at_once(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    guest_says(ends, VSOCK_OP_RW, 0, "bye", 3);
    guest_says(ends, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH, NULL, 0);
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_RST, VSOCK_FIRST_PORT, ENDS_PORT);
    assert_text(fd, "bye");
    assert_end(fd);
    assert_int_equal(ends->vsock->table.count, 0);
    close(fd);
    tear_down(ends);
}

static void test_vsock_last_bytes_of_a_guest_that_closes_are_not_lost(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends), small = 4096;
    size_t done = 0;

    (void)state;
    setsockopt(vsock_table_find(&ends->vsock->table, VSOCK_FIRST_PORT, ENDS_PORT)->fd, SOL_SOCKET,
               SO_SNDBUF, &small, sizeof(small));
    guest_says(ends, VSOCK_OP_RW, 0, bytes, 64 * KIB);
    guest_says(ends, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_BOTH, NULL, 0);
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_RST, VSOCK_FIRST_PORT, ENDS_PORT);
    while (done < 64 * KIB) {
        ssize_t n = read(fd, got + done, 5000);

        assert_true(n > 0);
        done += (size_t)n;
        ends_run(ends);
    }
    assert_memory_equal(got, bytes, 64 * KIB);
    assert_end(fd);
    assert_int_equal(ends->vsock->table.count, 0);
    close(fd);
    tear_down(ends);
}

static void test_vsock_half_close_of_the_guest_comes_after_its_bytes(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends), small = 4096;
    size_t done = 0;

    (void)state;
    setsockopt(vsock_table_find(&ends->vsock->table, VSOCK_FIRST_PORT, ENDS_PORT)->fd, SOL_SOCKET,
               SO_SNDBUF, &small, sizeof(small));
    guest_says(ends, VSOCK_OP_RW, 0, bytes, 32 * KIB);
    guest_says(ends, VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_SEND, NULL, 0);
    while (done < 32 * KIB) {
        ssize_t n = read(fd, got + done, 5000);

        assert_true(n > 0);
        done += (size_t)n;
        ends_run(ends);
    }
    assert_memory_equal(got, bytes, 32 * KIB);
    assert_end(fd);
    close(fd);
    tear_down(ends);
}

static void test_vsock_guest_that_writes_to_a_closed_host_is_told(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;

    (void)state;
    shutdown(fd, SHUT_RD);
    guest_says(ends, VSOCK_OP_RW, 0, "x", 1);
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.op, VSOCK_OP_SHUTDOWN);
    assert_int_equal(packet.flags, VSOCK_SHUTDOWN_RECEIVE);
    assert_int_equal(metrics.vsock.tx_write_fails, 1);
    close(fd);
    tear_down(ends);
}

/* ---- packets that make no sense ---- */

static void test_vsock_unknown_connection_is_reset(void **state)
{
    struct vsock_ends *ends = set_up();

    (void)state;
    ends_send(ends, VSOCK_OP_RW, 7, 8, 0, "x", 1);
    assert_packet(ends, VSOCK_OP_RST, 7, 8);
    ends_send(ends, VSOCK_OP_RST, 7, 8, 0, NULL, 0); /* no answer to an answer */
    assert_no_packet(ends);
    tear_down(ends);
}

static void test_vsock_unknown_type_is_reset_in_kind(void **state)
{
    struct vsock_ends *ends = set_up();
    struct vsock_packet packet = {.src_cid = ENDS_CID,
                                  .dst_cid = VSOCK_HOST_CID,
                                  .src_port = 8,
                                  .dst_port = 7,
                                  .type = 2,
                                  .op = VSOCK_OP_REQUEST};

    (void)state;
    ends_send_packet(ends, &packet, NULL, 0);
    assert_true(ends_take(ends, &packet, got, 0));
    assert_int_equal(packet.op, VSOCK_OP_RST);
    assert_int_equal(packet.type, 2);
    tear_down(ends);
}

static void test_vsock_packets_from_or_to_others_are_dropped(void **state)
{
    struct vsock_ends *ends = set_up();
    struct vsock_packet packet = {.src_cid = ENDS_CID,
                                  .dst_cid = 4,
                                  .src_port = 8,
                                  .dst_port = 7,
                                  .type = VSOCK_TYPE_STREAM,
                                  .op = VSOCK_OP_REQUEST};

    (void)state;
    ends_send_packet(ends, &packet, NULL, 0);
    packet.dst_cid = VSOCK_HOST_CID;
    packet.src_cid = 9;
    ends_send_packet(ends, &packet, NULL, 0);
    packet.src_cid = ENDS_CID;
    packet.len = 1; /* which is not there */
    ends_send_packet(ends, &packet, NULL, 0);
    assert_no_packet(ends);
    assert_int_equal(ends->dev->s.status, 15);
    assert_int_equal(metrics.vsock.tx_queue_event_fails, 1);
    tear_down(ends);
}

static void test_vsock_wrong_operation_costs_its_connection(void **state)
{
    static const uint16_t wrong[] = {0, VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE, 8, 999};
    struct vsock_ends *ends;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        int fd;

        ends = set_up();
        fd = connect_client(ends);
        guest_says(ends, (enum vsock_op)wrong[i], 0, NULL, 0);
        ends_run(ends);
        assert_packet(ends, VSOCK_OP_RST, VSOCK_FIRST_PORT, ENDS_PORT);
        assert_end(fd);
        close(fd);
        tear_down(ends);
    }
}

static void test_vsock_receive_buffer_without_room_breaks_the_device(void **state)
{
    struct vsock_ends *ends = set_up();
    struct guest_driver *driver = &ends->driver[0];
    struct vsock_packet packet;
    int fd = ends_client(ends);

    (void)state;
    ends_close(ends);
    ends_open(ends, 0);
    close(fd);
    fd = ends_client(ends);
    guest_add(driver, &(struct guest_buffer){guest_alloc(driver, 44), 44, true}, 1);
    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_false(ends_take(ends, &packet, got, 0));
    assert_true(ends->dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
    assert_end(fd);
    close(fd);
    tear_down(ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vsock_bytes_of_the_host_fill_many_buffers),
        cmocka_unit_test(test_vsock_bytes_of_the_guest_reach_a_host_that_is_slow),
        cmocka_unit_test(test_vsock_guest_hears_of_room_only_when_it_runs_low),
        cmocka_unit_test(test_vsock_guest_with_a_small_buffer_hears_of_room_in_time),
        cmocka_unit_test(test_vsock_stream_that_gets_more_room_hears_of_it_at_once),
        cmocka_unit_test(test_vsock_guest_gets_no_more_than_it_has_room_for),
        cmocka_unit_test(test_vsock_guest_without_room_is_asked_once_until_it_answers),
        cmocka_unit_test(test_vsock_absurd_credit_of_the_guest_is_no_credit),
        cmocka_unit_test(test_vsock_guest_that_sends_more_than_there_is_room_loses_the_connection),
        cmocka_unit_test(test_vsock_goes_on_when_the_guest_has_buffers_again),
        cmocka_unit_test(test_vsock_stream_of_the_guest_gets_more_room),
        cmocka_unit_test(test_vsock_chains_of_the_guest_come_back_with_the_next_packet_or_soon),
        cmocka_unit_test(test_vsock_host_that_closes_is_followed_by_the_guest),
        cmocka_unit_test(test_vsock_guest_that_does_not_follow_is_reset),
        cmocka_unit_test(test_vsock_host_that_half_closes_can_still_read),
        cmocka_unit_test(test_vsock_guest_that_half_closes_can_still_read),
        cmocka_unit_test(test_vsock_guest_that_receives_no_more_stops_the_host),
        cmocka_unit_test(test_vsock_guest_that_closes_is_let_go_at_once),
        cmocka_unit_test(test_vsock_last_bytes_of_a_guest_that_closes_are_not_lost),
        cmocka_unit_test(test_vsock_half_close_of_the_guest_comes_after_its_bytes),
        cmocka_unit_test(test_vsock_guest_that_writes_to_a_closed_host_is_told),
        cmocka_unit_test(test_vsock_unknown_connection_is_reset),
        cmocka_unit_test(test_vsock_unknown_type_is_reset_in_kind),
        cmocka_unit_test(test_vsock_packets_from_or_to_others_are_dropped),
        cmocka_unit_test(test_vsock_wrong_operation_costs_its_connection),
        cmocka_unit_test(test_vsock_receive_buffer_without_room_breaks_the_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
