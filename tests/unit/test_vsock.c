/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/vsock: the device and how connections come to be, over a fake loop, queues in
 * guest memory and real Unix sockets. */
#include "tests/support/fake_loop.h"
#include "tests/unit/vsock_asserts.h"

#include <errno.h>
#include <unistd.h>

#include <sys/stat.h>

/* ---- creation ---- */

static void test_vsock_listens_on_its_path_from_the_start(void **state)
{
    struct vsock_ends *ends = set_up();
    struct stat st;

    (void)state;
    assert_int_equal(stat(ends->path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    tear_down(ends);
}

static void assert_refused(char *path, const char *sentence)
{
    struct vsock_config config = {.guest_cid = 3, .uds_path = path};
    struct virtio_env env = {0};
    struct vsock *vsock;
    struct err e = {0};

    assert_true(vsock_create(&vsock, &env, &config, &e) < 0);
    assert_string_equal(e.text, sentence);
}

static void test_vsock_refuses_path_that_exists_is_nowhere_or_too_long(void **state)
{
    char taken[] = "/tmp", nowhere[] = "/nowhere/v", too_long[200];

    (void)state;
    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    assert_refused(taken, "Cannot create backend for vsock device: Error binding to the host-side "
                          "Unix socket: Address already in use (os error 98)");
    assert_refused(nowhere, "Cannot create backend for vsock device: Error binding to the "
                            "host-side Unix socket: No such file or directory (os error 2)");
    assert_refused(too_long, "Cannot create backend for vsock device: Error binding to the "
                             "host-side Unix socket: path must be shorter than SUN_LEN");
}

static void test_vsock_takes_empty_path(void **state)
{
    char path[] = "";
    struct vsock_config config = {.guest_cid = 3, .uds_path = path};
    struct virtio_env env = {0};
    struct vsock *vsock;

    (void)state;
    assert_int_equal(vsock_create(&vsock, &env, &config, NULL), 0);
    virtio_dev_destroy(vsock_dev(vsock));
}

static void test_vsock_shows_cid_in_configuration_space(void **state)
{
    struct vsock_ends *ends = set_up();
    uint64_t cid;

    (void)state;
    virtio_dev_read_config(ends->dev, 0, &cid, sizeof(cid));
    assert_int_equal(cid, ENDS_CID);
    tear_down(ends);
}

/* ---- clients of the host ---- */

static void test_vsock_client_is_connected_when_guest_agrees(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    assert_nothing(fd);
    assert_no_packet(ends);
    close(fd);
    tear_down(ends);
}

static void test_vsock_request_says_how_much_room_there_is(void **state)
{
    struct vsock_ends *ends = set_up();
    struct vsock_packet packet;
    int fd = ends_client(ends);

    (void)state;
    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_true(ends_take(ends, &packet, got, sizeof(got)));
    assert_int_equal(packet.buf_alloc, 64 * KIB);
    assert_int_equal(packet.fwd_cnt, 0);
    assert_int_equal(packet.type, VSOCK_TYPE_STREAM);
    close(fd);
    tear_down(ends);
}

static void test_vsock_wish_may_come_in_any_case_and_in_pieces(void **state)
{
    static const char *const pieces[] = {"Con", "nEct ", "  50", "00", " \r", "\n"};
    struct vsock_ends *ends = set_up();
    int fd = ends_client(ends);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        assert_no_packet(ends);
        say(fd, pieces[i]);
    }
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
    close(fd);
    tear_down(ends);
}

static void test_vsock_closes_client_whose_wish_is_no_wish(void **state)
{
    static const char *const wishes[] = {
        "CONNECT\n",
        "CONNECT \n",
        "CONNECT x\n",
        "CONNECT 4294967296\n",
        "CONNECT -1\n",
        "CONNECTED 1\n",
        "CONNECT1\n",
        "HELLO 5000\n",
        "\n",
        "CONNECT 5000x\n",
        "CONNECT 18446744073709551617\n",
        "CONNECT                       50", /* 32 bytes without an end */
    };
    struct vsock_ends *ends = set_up();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        int fd = ends_client(ends);

        say(fd, wishes[i]);
        assert_no_packet(ends);
        errno = 0;
        assert_true(read(fd, got, 1) <= 0 && errno != EAGAIN);
        close(fd);
    }
    tear_down(ends);
}

static void test_vsock_bytes_behind_the_wish_reach_the_guest(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = ends_client(ends);

    (void)state;
    say(fd, "CONNECT 5000\nhello");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
    assert_no_packet(ends);
    guest_says(ends, VSOCK_OP_RESPONSE, 0, NULL, 0);
    assert_guest_gets(ends, "hello", 5);
    close(fd);
    tear_down(ends);
}

static void test_vsock_closes_client_whom_the_guest_refuses(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = ends_client(ends);

    (void)state;
    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
    guest_says(ends, VSOCK_OP_RST, 0, NULL, 0);
    ends_run(ends);
    assert_end(fd);
    assert_no_packet(ends);
    close(fd);
    tear_down(ends);
}

static void test_vsock_closes_client_whom_the_guest_does_not_answer(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = ends_client(ends);
    const struct fake_op *timer;

    (void)state;
    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
    timer = fake_loop_find(ends->loop, FAKE_TIMER);
    assert_non_null(timer);
    assert_int_equal(timer->len, 2 * NSEC_PER_SEC);

    vsock_table_find(&ends->vsock->table, VSOCK_FIRST_PORT, ENDS_PORT)->deadline_ns = 0;
    for (unsigned i = 0; i < fake_loop_count(ends->loop); i++)
        if (fake_loop_op(ends->loop, i)->verb == FAKE_TIMER)
            fake_loop_complete(ends->loop, i, -ETIME, false);
    ends_run(ends);

    assert_end(fd);
    assert_packet(ends, VSOCK_OP_RST, VSOCK_FIRST_PORT, ENDS_PORT);
    close(fd);
    tear_down(ends);
}

static void test_vsock_client_that_leaves_early_is_taken_back(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = ends_client(ends);

    (void)state;
    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
    close(fd);
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_RST, VSOCK_FIRST_PORT, ENDS_PORT);
    assert_int_equal(ends->vsock->table.count, 0);
    tear_down(ends);
}

static void test_vsock_ports_of_clients_go_round(void **state)
{
    struct vsock_ends *ends = set_up();
    uint32_t first = VSOCK_FIRST_PORT;
    int fd[2] = {ends_client(ends), -1};

    (void)state;
    say(fd[0], "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, first, ENDS_PORT);
    ends->vsock->s.last_port = 2 * first - 1; /* the last there is: the next one is in use */
    fd[1] = ends_client(ends);
    say(fd[1], "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, first + 1, ENDS_PORT);
    close(fd[0]);
    close(fd[1]);
    tear_down(ends);
}

/* ---- connections of the guest ---- */

static void test_vsock_guest_reaches_listener_of_the_host(void **state)
{
    struct vsock_ends *ends = set_up();
    int listener = ends_listener(ends, 52, 4), fd;

    (void)state;
    ends_send(ends, VSOCK_OP_REQUEST, 52, 1024, 0, NULL, 0);
    assert_packet(ends, VSOCK_OP_RESPONSE, 52, 1024);
    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fd >= 0);
    ends_send(ends, VSOCK_OP_RW, 52, 1024, 0, "hello", 5);
    assert_bytes(fd, "hello", 5);
    close(fd);
    close(listener);
    tear_down(ends);
}

static void test_vsock_guest_is_refused_where_nobody_listens(void **state)
{
    struct vsock_ends *ends = set_up();
    int listener = ends_listener(ends, 53, 4);

    (void)state;
    close(listener); /* the file stays */
    ends_send(ends, VSOCK_OP_REQUEST, 52, 1024, 0, NULL, 0);
    assert_packet(ends, VSOCK_OP_RST, 52, 1024);
    ends_send(ends, VSOCK_OP_REQUEST, 53, 1024, 0, NULL, 0);
    assert_packet(ends, VSOCK_OP_RST, 53, 1024);
    assert_int_equal(ends->vsock->table.count, 0);
    tear_down(ends);
}

/* The retry timer's turn. */
static void retry(struct vsock_ends *ends)
{
    for (unsigned i = 0; i < fake_loop_count(ends->loop); i++) {
        if (fake_loop_op(ends->loop, i)->op == &ends->vsock->retry.op) {
            fake_loop_complete(ends->loop, i, -ETIME, false);
            break;
        }
    }
    ends_run(ends);
}

static void test_vsock_burst_past_the_backlog_waits(void **state)
{
    struct vsock_ends *ends = set_up();
    int listener = ends_listener(ends, 52, 0), fd[3];
    struct vsock_packet packet;

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        ends_send(ends, VSOCK_OP_REQUEST, 52, 1024 + i, 0, NULL, 0);
    assert_packet(ends, VSOCK_OP_RESPONSE, 52, 1024);
    retry(ends);
    assert_no_packet(ends);
    for (uint32_t i = 0; i < 3; i++) {
        fd[i] = accept(listener, NULL, NULL);
        assert_true(fd[i] >= 0);
        retry(ends);
        if (i < 2)
            assert_packet(ends, VSOCK_OP_RESPONSE, 52, 1025 + i);
    }
    assert_false(ends->vsock->retry.armed);
    assert_false(ends_take(ends, &packet, got, sizeof(got)));
    for (int i = 0; i < 3; i++)
        close(fd[i]);
    close(listener);
    tear_down(ends);
}

static void test_vsock_connection_that_waited_too_long_is_refused(void **state)
{
    struct vsock_ends *ends = set_up();
    int listener = ends_listener(ends, 52, 0);

    (void)state;
    ends_send(ends, VSOCK_OP_REQUEST, 52, 1024, 0, NULL, 0);
    ends_send(ends, VSOCK_OP_REQUEST, 52, 1025, 0, NULL, 0);
    assert_packet(ends, VSOCK_OP_RESPONSE, 52, 1024);
    vsock_table_find(&ends->vsock->table, 52, 1025)->deadline_ns = 0;
    retry(ends);
    assert_packet(ends, VSOCK_OP_RST, 52, 1025);
    close(listener);
    tear_down(ends);
}

/* ---- resets, pauses ---- */

static void test_vsock_reset_by_the_driver_ends_every_connection(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);

    (void)state;
    virtio_dev_write_status(ends->dev, 0);
    ends_run(ends);
    assert_end(fd);
    close(fd);
    assert_int_equal(ends->vsock->table.count, 0);

    ends_start(ends, RX); /* and the next driver finds a device as good as new */
    fd = ends_client(ends);
    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT + 1, ENDS_PORT);
    close(fd);
    tear_down(ends);
}

static void test_vsock_pause_disturbs_nothing(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = connect_client(ends);
    struct vsock_packet packet;

    (void)state;
    virtio_dev_quiesce(ends->dev);
    assert_true(virtio_dev_is_idle(ends->dev));
    say(fd, "hello");
    ends_run(ends);
    assert_false(ends_take(ends, &packet, got, sizeof(got)));
    virtio_dev_resume(ends->dev);
    assert_guest_gets(ends, "hello", 5);
    guest_says(ends, VSOCK_OP_RW, 0, "world", 5);
    assert_text(fd, "world");
    close(fd);
    tear_down(ends);
}

static void test_vsock_time_stands_still_while_paused(void **state)
{
    struct vsock_ends *ends = set_up();
    int fd = ends_client(ends);
    struct vsock_conn *conn;
    uint64_t deadline;

    (void)state;
    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
    conn = vsock_table_find(&ends->vsock->table, VSOCK_FIRST_PORT, ENDS_PORT);
    deadline = conn->deadline_ns;
    virtio_dev_quiesce(ends->dev);
    for (unsigned i = 0; i < fake_loop_count(ends->loop); i++)
        if (fake_loop_op(ends->loop, i)->op == &ends->vsock->deadline.op)
            fake_loop_complete(ends->loop, i, -ETIME, false);
    assert_false(ends->vsock->deadline.armed);
    virtio_dev_resume(ends->dev);
    assert_true(ends->vsock->deadline.armed);
    assert_true(conn->deadline_ns > deadline);
    close(fd);
    tear_down(ends);
}

/* ---- the reset of the transport ---- */

static void test_vsock_transport_reset_is_told_and_waited_for(void **state)
{
    struct vsock_ends *ends = set_up();
    struct guest_driver *events = &ends->driver[2];
    int fd = connect_client(ends), next;
    struct virtq_used_elem used;
    uint64_t gpa = 0;
    uint32_t id = 99;

    (void)state;
    for (int i = 0; i < 8; i++) {
        uint64_t buffer = guest_alloc(events, 4);

        gpa = gpa ? gpa : buffer;
        guest_write(events, buffer, &id, sizeof(id));
        guest_add(events, &(struct guest_buffer){buffer, 4, true}, 1);
    }
    virtio_dev_quiesce(ends->dev);
    vsock_reset_connections(ends->vsock);
    ends_run(ends);
    assert_end(fd);
    close(fd);
    assert_false(guest_take_used(events, &used)); /* not while it is held */
    assert_int_equal(ends->vsock->s.reset_owed, 1);

    virtio_dev_resume(ends->dev);
    next = ends_client(ends);
    say(next, "CONNECT 5000\n");
    assert_no_packet(ends); /* not before the guest has taken the event */
    assert_true(guest_take_used(events, &used));
    assert_int_equal(used.len, 4);
    guest_read(events, gpa, &id, sizeof(id));
    assert_int_equal(id, 0);
    assert_int_equal(guest_avail_event(events), 8); /* a kick at its next buffer */

    guest_add(events, &(struct guest_buffer){gpa, 4, true}, 1);
    virtio_dev_kick(ends->dev, VSOCK_EVENTS);
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT + 1, ENDS_PORT);
    assert_false(guest_take_used(events, &used));
    close(next);
    tear_down(ends);
}

static void test_vsock_transport_reset_waits_for_an_event_buffer(void **state)
{
    struct vsock_ends *ends = set_up();
    struct guest_driver *events = &ends->driver[2];
    struct virtq_used_elem used;

    (void)state;
    vsock_reset_connections(ends->vsock);
    ends_run(ends);
    guest_add(events, &(struct guest_buffer){guest_alloc(events, 4), 4, true}, 1);
    virtio_dev_kick(ends->dev, VSOCK_EVENTS);
    ends_run(ends);
    assert_true(guest_take_used(events, &used));
    tear_down(ends);
}

/* ---- many ---- */

static void test_vsock_takes_a_thousand_clients_and_refuses_more(void **state)
{
    struct vsock_ends *ends = set_up();
    static int fd[VSOCK_CONNS_MAX + 1];
    struct vsock_packet packet;

    (void)state;
    for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
        fd[i] = ends_client(ends);
        say(fd[i], "CONNECT 5000\n");
        for (unsigned op = 0; op < fake_loop_count(ends->loop); op++)
            if (fake_loop_op(ends->loop, op)->verb == FAKE_ACCEPT)
                fake_loop_complete(ends->loop, op,
                                   accept(fake_loop_op(ends->loop, op)->fd, NULL, NULL), true);
        fake_loop_end_turn(ends->loop);
        assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT + i, ENDS_PORT);
        ends_send(ends, VSOCK_OP_RESPONSE, VSOCK_FIRST_PORT + i, ENDS_PORT, 0, NULL, 0);
        ends_offer(ends, 1);
    }
    fd[VSOCK_CONNS_MAX] = ends_client(ends);
    ends_run(ends);
    assert_end(fd[VSOCK_CONNS_MAX]);
    ends_send(ends, VSOCK_OP_REQUEST, 52, 1024, 0, NULL, 0);
    assert_packet(ends, VSOCK_OP_RST, 52, 1024);

    for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++) {
        ends_send(ends, VSOCK_OP_RW, VSOCK_FIRST_PORT + i, ENDS_PORT, 0, &i, sizeof(i));
        assert_text(fd[i], "OK ");
        assert_true(read(fd[i], got, 64) > 0);
    }
    for (unsigned i = 0; i <= VSOCK_CONNS_MAX; i++)
        close(fd[i]);
    assert_false(ends_take(ends, &packet, got, 0));
    tear_down(ends);
}

static void test_vsock_a_hundred_thousand_connections_leave_nothing(void **state)
{
    struct vsock_ends *ends = set_up();
    int listener = ends_listener(ends, 52, 4);
    struct vsock_packet packet;

    (void)state;
    for (uint32_t i = 0; i < 100000; i++) {
        int fd;

        ends_send(ends, VSOCK_OP_REQUEST, 52, 1024 + i, 0, NULL, 0);
        assert_true(ends_take(ends, &packet, got, 0));
        fd = accept(listener, NULL, NULL);
        assert_true(fd >= 0 && fd < 64);
        close(fd);
        ends_send(ends, VSOCK_OP_RST, 52, 1024 + i, 0, NULL, 0);
        ends_offer(ends, 1);
        while (fake_loop_count_verb(ends->loop, FAKE_POLL) > 0)
            ends_run(ends);
    }
    assert_int_equal(ends->vsock->table.count, 0);
    assert_false(link_is_used(&ends->vsock->table.all));
    assert_int_equal(metrics.vsock.conns_added, 100000);
    assert_int_equal(metrics.vsock.conns_removed, 100000);
    close(listener);
    tear_down(ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vsock_listens_on_its_path_from_the_start),
        cmocka_unit_test(test_vsock_refuses_path_that_exists_is_nowhere_or_too_long),
        cmocka_unit_test(test_vsock_takes_empty_path),
        cmocka_unit_test(test_vsock_shows_cid_in_configuration_space),
        cmocka_unit_test(test_vsock_client_is_connected_when_guest_agrees),
        cmocka_unit_test(test_vsock_request_says_how_much_room_there_is),
        cmocka_unit_test(test_vsock_wish_may_come_in_any_case_and_in_pieces),
        cmocka_unit_test(test_vsock_closes_client_whose_wish_is_no_wish),
        cmocka_unit_test(test_vsock_bytes_behind_the_wish_reach_the_guest),
        cmocka_unit_test(test_vsock_closes_client_whom_the_guest_refuses),
        cmocka_unit_test(test_vsock_closes_client_whom_the_guest_does_not_answer),
        cmocka_unit_test(test_vsock_client_that_leaves_early_is_taken_back),
        cmocka_unit_test(test_vsock_ports_of_clients_go_round),
        cmocka_unit_test(test_vsock_guest_reaches_listener_of_the_host),
        cmocka_unit_test(test_vsock_guest_is_refused_where_nobody_listens),
        cmocka_unit_test(test_vsock_burst_past_the_backlog_waits),
        cmocka_unit_test(test_vsock_connection_that_waited_too_long_is_refused),
        cmocka_unit_test(test_vsock_reset_by_the_driver_ends_every_connection),
        cmocka_unit_test(test_vsock_pause_disturbs_nothing),
        cmocka_unit_test(test_vsock_time_stands_still_while_paused),
        cmocka_unit_test(test_vsock_transport_reset_is_told_and_waited_for),
        cmocka_unit_test(test_vsock_transport_reset_waits_for_an_event_buffer),
        cmocka_unit_test(test_vsock_takes_a_thousand_clients_and_refuses_more),
        cmocka_unit_test(test_vsock_a_hundred_thousand_connections_leave_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
