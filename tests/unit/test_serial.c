/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/legacy/serial.c and stream.c: a 16550A as a driver sees it, both ways. */
#include "tests/support/fake_loop.h"
#include "tests/support/irq_probe.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"
#include "vmm/legacy/serial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Registers, by their offset from the base port. */
enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH };

struct fixture {
    struct loop *loop;
    struct bus bus;
    struct irq_probe irq;
    struct serial serial;
    int guest_out[2]; /* pipe: what the guest sends comes out of [0] */
    int host_in[2];   /* pipe: what the test writes to [1] goes to the guest */
};

static void start(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    irq_probe_init(&f->irq, SERIAL_GSI);
    assert_int_equal(pipe2(f->guest_out, O_NONBLOCK), 0);
    assert_int_equal(pipe2(f->host_in, 0), 0);
    serial_init(&f->serial, f->loop, &f->irq.line);
    assert_int_equal(serial_attach(&f->serial, &f->bus, NULL), 0);
    stream_from_fd(&f->serial.out, f->guest_out[1], false);
    serial_set_input(&f->serial, f->host_in[0]);
}

static void finish(struct fixture *f)
{
    serial_destroy(&f->serial);
    for (int i = 0; i < 2; i++) {
        if (f->guest_out[i] >= 0)
            close(f->guest_out[i]);
        if (f->host_in[i] >= 0)
            close(f->host_in[i]);
    }
    loop_destroy(f->loop);
}

static uint8_t in(struct fixture *f, unsigned reg)
{
    uint8_t value = 0xee;

    assert_true(bus_read(&f->bus, SERIAL_PORT + reg, &value, 1));
    return value;
}

static void out(struct fixture *f, unsigned reg, uint8_t value)
{
    assert_true(bus_write(&f->bus, SERIAL_PORT + reg, &value, 1));
}

/* Edges since the last call. */
static uint64_t edges(struct fixture *f)
{
    return irq_probe_take(&f->irq);
}

/* One turn of the loop: the polls that are in it complete, once each. */
static void turn(struct fixture *f)
{
    unsigned pending;

    fake_loop_end_turn(f->loop);
    pending = fake_loop_count(f->loop);
    for (unsigned i = 0; i < pending; i++)
        fake_loop_complete(f->loop, 0, 1, false);
}

static void type(struct fixture *f, const char *text)
{
    assert_int_equal(write(f->host_in[1], text, strlen(text)), strlen(text));
}

static void assert_guest_sent(struct fixture *f, const char *text)
{
    char buf[256] = {0};
    ssize_t n = read(f->guest_out[0], buf, sizeof(buf) - 1);

    assert_int_equal(MAX(n, 0), strlen(text));
    assert_string_equal(buf, text);
}

/* ---- registers ------------------------------------------------------------------------------- */

static void test_serial_state_table_covers_the_struct(void **state)
{
    (void)state;
    assert_true(state_desc_tiles(&serial_state_desc));
}

static void test_serial_scratch_and_divisor_hold_what_is_written(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);

    out(&f, SCRATCH, 0x5a);
    out(&f, LCR, 0x83);
    out(&f, DATA, 0x01);
    out(&f, IER, 0x02);

    assert_int_equal(in(&f, SCRATCH), 0x5a);
    assert_int_equal(in(&f, DATA), 0x01);
    assert_int_equal(in(&f, IER), 0x02);
    out(&f, LCR, 0x03);
    assert_int_equal(in(&f, LCR), 0x03);
    assert_int_equal(in(&f, IER), 0);
    assert_guest_sent(&f, "");
    finish(&f);
}

static void test_serial_looks_like_a_16550a_to_a_probing_driver(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);

    /* Only four enable bits exist, else it would be a 16C750 or an XScale. */
    out(&f, IER, 0xff);
    assert_int_equal(in(&f, IER), 0x0f);
    out(&f, IER, 0);
    /* FIFO bits appear with the FIFO only. */
    assert_int_equal(in(&f, IIR), 0x01);
    out(&f, IIR, 0x01);
    assert_int_equal(in(&f, IIR), 0xc1);
    out(&f, IIR, 0x21); /* the 64-byte FIFO of a 16750 does not show */
    assert_int_equal(in(&f, IIR) & 0xe0, 0xc0);
    /* The modem lines: ready; in loopback RTS shows as CTS and OUT2 as carrier. */
    assert_int_equal(in(&f, MSR), 0xb0);
    out(&f, MCR, 0x1a);
    assert_int_equal(in(&f, MSR) & 0xf0, 0x90);
    out(&f, MCR, 0x15);
    assert_int_equal(in(&f, MSR) & 0xf0, 0x60);
    finish(&f);
}

static void test_serial_loopback_returns_bytes_and_sends_nothing(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, MCR, 0x10);

    out(&f, DATA, 'a');
    out(&f, DATA, 'b');

    assert_int_equal(in(&f, LSR), 0x61);
    assert_int_equal(in(&f, DATA), 'a');
    assert_int_equal(in(&f, DATA), 'b');
    assert_int_equal(in(&f, LSR), 0x60);
    assert_guest_sent(&f, "");
    finish(&f);
}

static void test_serial_loopback_overrun_shows_once_and_keeps_the_fifo(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, MCR, 0x10);
    out(&f, IER, 0x04);

    for (unsigned i = 0; i < SERIAL_FIFO_SIZE + 1; i++)
        out(&f, DATA, (uint8_t)i);

    assert_int_equal(edges(&f), 1);
    assert_int_equal(in(&f, IIR) & 0x0f, 0x06);
    assert_int_equal(in(&f, LSR), 0x63);
    assert_int_equal(in(&f, LSR), 0x61);
    for (unsigned i = 0; i < SERIAL_FIFO_SIZE; i++)
        assert_int_equal(in(&f, DATA), i);
    assert_int_equal(in(&f, LSR), 0x60);
    finish(&f);
}

static void test_serial_wide_access_is_counted_and_ignored(void **state)
{
    struct fixture f;
    uint16_t value = 0x4141;
    uint64_t reads = metrics.uart.missed_read_count, writes = metrics.uart.missed_write_count;

    (void)state;
    start(&f);

    assert_true(bus_write(&f.bus, SERIAL_PORT, &value, 2));
    assert_true(bus_read(&f.bus, SERIAL_PORT, &value, 2));

    assert_int_equal(metrics.uart.missed_read_count - reads, 1);
    assert_int_equal(metrics.uart.missed_write_count - writes, 1);
    assert_guest_sent(&f, "");
    finish(&f);
}

/* ---- transmit -------------------------------------------------------------------------------- */

static void test_serial_output_arrives_in_order_and_is_counted(void **state)
{
    struct fixture f;
    uint64_t count = metrics.uart.write_count;

    (void)state;
    start(&f);

    for (const char *c = "hello"; *c; c++) {
        assert_int_equal(in(&f, LSR) & 0x60, 0x60);
        out(&f, DATA, (uint8_t)*c);
    }

    assert_guest_sent(&f, "hello");
    assert_int_equal(metrics.uart.write_count - count, 5);
    assert_int_equal(edges(&f), 0);
    finish(&f);
}

static void test_serial_transmit_interrupt_once_per_acknowledged_edge(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);

    /* Enabling with an empty transmitter interrupts at once; reading the cause acknowledges. */
    out(&f, IER, 0x02);
    assert_int_equal(edges(&f), 1);
    assert_int_equal(in(&f, IIR) & 0x0f, 0x02);
    assert_int_equal(in(&f, IIR) & 0x0f, 0x01);
    assert_int_equal(edges(&f), 0);

    /* A burst written by one handler is one more edge, not sixteen. */
    for (int i = 0; i < 16; i++)
        out(&f, DATA, 'x');
    assert_int_equal(edges(&f), 1);

    /* Linux's probe: off and on again must interrupt anew. */
    assert_int_equal(in(&f, IIR) & 0x0f, 0x02);
    out(&f, IER, 0);
    assert_int_equal(in(&f, IIR) & 0x0f, 0x01);
    out(&f, IER, 0x02);
    assert_int_equal(edges(&f), 1);
    assert_int_equal(in(&f, IIR) & 0x0f, 0x02);
    finish(&f);
}

static void test_serial_full_pipe_drops_bytes_and_never_waits(void **state)
{
    struct fixture f;
    uint64_t missed = metrics.uart.missed_write_count;
    char fill[4096] = {0};
    ssize_t n, filled = 0;

    (void)state;
    start(&f);
    while ((n = write(f.guest_out[1], fill, sizeof(fill))) > 0)
        filled += n;
    assert_true(filled > 0);

    out(&f, DATA, 'x');
    out(&f, DATA, 'y');
    assert_int_equal(metrics.uart.missed_write_count - missed, 2);

    for (; filled > 0; filled -= n)
        assert_true((n = read(f.guest_out[0], fill, sizeof(fill))) > 0);
    out(&f, DATA, 'z');
    assert_guest_sent(&f, "z");
    finish(&f);
}

static void test_serial_broken_pipe_counts_errors(void **state)
{
    struct fixture f;
    uint64_t errors = metrics.uart.error_count;
    void (*old)(int) = signal(SIGPIPE, SIG_IGN);

    (void)state;
    start(&f);
    close(f.guest_out[0]);
    f.guest_out[0] = -1;

    out(&f, DATA, 'x');

    assert_int_equal(metrics.uart.error_count - errors, 1);
    signal(SIGPIPE, old);
    finish(&f);
}

static void test_serial_limiter_drops_what_exceeds_the_bucket(void **state)
{
    struct fixture f;
    const struct token_bucket_config limit = {.size = 3, .refill_ms = 3600 * 1000};
    uint64_t dropped = metrics.uart.rate_limiter_dropped_bytes;

    (void)state;
    start(&f);
    serial_set_limiter(&f.serial, &limit, now_ns());

    for (const char *c = "abcdef"; *c; c++)
        out(&f, DATA, (uint8_t)*c);

    assert_guest_sent(&f, "abc");
    assert_int_equal(metrics.uart.rate_limiter_dropped_bytes - dropped, 3);
    finish(&f);
}

/* ---- receive --------------------------------------------------------------------------------- */

static void test_serial_input_waits_until_the_guest_receives(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    type(&f, "hi");
    turn(&f);

    /* A driver that opens the port clears the FIFO first: nothing may be in it. */
    assert_int_equal(in(&f, LSR) & 1, 0);
    out(&f, IIR, 0x07);
    assert_int_equal(edges(&f), 0);

    out(&f, IER, 0x01);
    turn(&f);
    assert_int_equal(edges(&f), 1);
    assert_int_equal(in(&f, IIR) & 0x0f, 0x04);
    assert_int_equal(in(&f, DATA), 'h');
    assert_int_equal(in(&f, LSR) & 1, 1);
    assert_int_equal(in(&f, DATA), 'i');
    assert_int_equal(in(&f, LSR) & 1, 0);
    assert_int_equal(in(&f, IIR) & 0x0f, 0x01);
    finish(&f);
}

static void test_serial_input_reaches_a_guest_that_polls(void **state)
{
    struct fixture f;
    unsigned polls;

    (void)state;
    start(&f);
    type(&f, "k");

    for (polls = 0; polls < 100 && !(in(&f, LSR) & 1); polls++)
        turn(&f);

    assert_true(polls < 100);
    assert_int_equal(in(&f, DATA), 'k');
    assert_int_equal(edges(&f), 0);
    finish(&f);
}

static void test_serial_console_output_does_not_look_like_polling(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    type(&f, "early");

    for (int i = 0; i < 100; i++) {
        in(&f, LSR);
        out(&f, DATA, '.');
        turn(&f);
    }

    assert_int_equal(in(&f, LSR) & 1, 0);
    finish(&f);
}

static void test_serial_long_input_flows_without_loss_or_overrun(void **state)
{
    struct fixture f;
    const unsigned total = 1000;
    unsigned got = 0;

    (void)state;
    start(&f);
    for (unsigned i = 0; i < total; i++) {
        uint8_t byte = (uint8_t)(i * 7);
        assert_int_equal(write(f.host_in[1], &byte, 1), 1);
    }
    out(&f, IIR, 0x01);
    out(&f, IER, 0x01);

    for (unsigned rounds = 0; rounds < 10 * total && got < total; rounds++) {
        turn(&f);
        while (in(&f, LSR) & 1)
            assert_int_equal(in(&f, DATA), (uint8_t)(got++ * 7));
    }

    assert_int_equal(got, total);
    assert_int_equal(in(&f, LSR) & 2, 0);
    finish(&f);
}

static void test_serial_full_fifo_stops_polling_until_the_guest_drains(void **state)
{
    struct fixture f;
    char text[SERIAL_FIFO_SIZE * 2 + 1];

    (void)state;
    start(&f);
    memset(text, 'q', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    type(&f, text);
    out(&f, IER, 0x01);
    turn(&f);

    assert_int_equal(f.serial.state.rx_count, SERIAL_FIFO_SIZE);
    fake_loop_end_turn(f.loop);
    assert_int_equal(fake_loop_count(f.loop), 0);

    for (unsigned i = 0; i < SERIAL_FIFO_SIZE / 2; i++)
        in(&f, DATA);
    fake_loop_end_turn(f.loop);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_POLL), 1);
    finish(&f);
}

static void test_serial_end_of_input_is_not_polled_again(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    type(&f, "z");
    close(f.host_in[1]);
    f.host_in[1] = -1;
    out(&f, IER, 0x01);

    turn(&f);
    turn(&f);

    assert_int_equal(in(&f, DATA), 'z');
    fake_loop_end_turn(f.loop);
    assert_int_equal(fake_loop_count(f.loop), 0);
    finish(&f);
}

static void test_serial_quiesce_leaves_input_on_the_host(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, IER, 0x01);
    fake_loop_end_turn(f.loop); /* a poll is in the ring */
    serial_quiesce(&f.serial);
    type(&f, "w");

    turn(&f);
    assert_int_equal(f.serial.state.rx_count, 0);
    assert_int_equal(edges(&f), 0);

    serial_resume(&f.serial);
    turn(&f);
    assert_int_equal(edges(&f), 1);
    assert_int_equal(in(&f, DATA), 'w');
    finish(&f);
}

/* ---- streams --------------------------------------------------------------------------------- */

static void test_stream_of_a_pipe_leaves_the_shared_description_blocking(void **state)
{
    struct stream stream;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, 0), 0);

    stream_from_fd(&stream, fds[1], false);

    assert_int_equal(stream.kind, STREAM_NONBLOCK);
    assert_int_not_equal(stream.fd, fds[1]);
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    stream_close(&stream);
    close(fds[0]);
    close(fds[1]);
}

static void test_stream_of_a_socket_refuses_when_full(void **state)
{
    struct stream stream;
    char fill[4096] = {0};
    int fds[2], n;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    stream_from_fd(&stream, fds[1], false);
    assert_int_equal(stream.kind, STREAM_SOCKET);

    do {
        n = stream_write(&stream, fill, sizeof(fill));
    } while (n > 0);

    assert_int_equal(n, -EAGAIN);
    assert_int_equal(stream_read(&stream, fill, 1), -EAGAIN);
    shutdown(fds[0], SHUT_WR);
    assert_int_equal(stream_read(&stream, fill, 1), 0);
    close(fds[0]);
    close(fds[1]);
}

static void test_stream_of_a_file_keeps_the_shared_offset(void **state)
{
    char path[] = "/tmp/mayfly-test-XXXXXX", text[8] = {0};
    struct stream stream;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "one", 3), 3);

    stream_from_fd(&stream, fd, false);
    assert_int_equal(stream.kind, STREAM_PLAIN);
    assert_int_equal(stream_write(&stream, "two", 3), 3);

    assert_int_equal(pread(fd, text, 7, 0), 6);
    assert_string_equal(text, "onetwo");
    unlink(path);
    close(fd);
}

static void test_stream_open_makes_a_file_and_appends(void **state)
{
    char dir[] = "/tmp/mayfly-test-XXXXXX", path[64], text[16] = {0};
    struct stream stream;
    struct err e;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/out", dir);

    for (int i = 0; i < 2; i++) {
        assert_int_equal(stream_open(&stream, path, &e), 0);
        assert_int_equal(stream_write(&stream, "ab", 2), 2);
        stream_close(&stream);
    }

    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text) - 1), 4);
    assert_string_equal(text, "abab");
    close(fd);
    unlink(path);
    rmdir(dir);
}

static void test_stream_open_of_a_fifo_needs_no_reader(void **state)
{
    char dir[] = "/tmp/mayfly-test-XXXXXX", path[64];
    struct stream stream;
    char fill[4096] = {0};
    int n;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);

    assert_int_equal(stream_open(&stream, path, NULL), 0);
    do {
        n = stream_write(&stream, fill, sizeof(fill));
    } while (n > 0);

    assert_int_equal(n, -EAGAIN);
    stream_close(&stream);
    unlink(path);
    rmdir(dir);
}

static void test_stream_open_names_path_and_reason(void **state)
{
    struct stream stream;
    struct err e;

    (void)state;

    assert_int_equal(stream_open(&stream, "/nonexistent/x", &e), -ENOENT);

    assert_non_null(strstr(e.text, "/nonexistent/x"));
    assert_non_null(strstr(e.text, "No such file or directory"));
}

static void test_stream_null_device_is_no_console_input(void **state)
{
    int fd = open("/dev/null", O_RDONLY), fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);

    assert_false(stream_is_interactive(fd));
    assert_false(stream_is_interactive(-1));
    assert_true(stream_is_interactive(fds[0]));
    close(fd);
    close(fds[0]);
    close(fds[1]);
}

static void test_stream_read_of_a_pseudo_terminal_gives_what_is_typed(void **state)
{
    struct stream stream;
    char text[8] = {0};
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave;

    (void)state;
    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    stream_from_fd(&stream, slave, true);
    assert_true(stream.terminal);

    assert_int_equal(stream_read(&stream, text, 7), -EAGAIN);
    assert_int_equal(write(master, "ok\n", 3), 3);
    assert_int_equal(stream_read(&stream, text, 7), 3);

    assert_string_equal(text, "ok\n");
    stream_close(&stream);
    close(slave);
    close(master);
}

/* A fixed sequence: the same accesses in every run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void test_serial_random_accesses_leave_it_in_a_valid_state(void **state)
{
    struct fixture f;
    uint32_t seed = 3;

    (void)state;
    start(&f);
    serial_set_limiter(&f.serial, &(struct token_bucket_config){.size = 1, .refill_ms = 1000000},
                       now_ns());

    for (unsigned i = 0; i < 100000; i++) {
        uint64_t data = next_random(&seed);
        uint64_t port = SERIAL_PORT + next_random(&seed) % SERIAL_PORTS;
        unsigned len = 1u << next_random(&seed) % 8 / 6;

        if (next_random(&seed) % 2)
            bus_write(&f.bus, port, &data, len);
        else
            bus_read(&f.bus, port, &data, len);
        if (i % 64 == 0)
            turn(&f);
        assert_true(f.serial.state.rx_count <= SERIAL_FIFO_SIZE);
        assert_true(f.serial.state.rx_head < SERIAL_FIFO_SIZE);
        assert_true(fake_loop_count(f.loop) <= 1);
    }
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serial_state_table_covers_the_struct),
        cmocka_unit_test(test_serial_scratch_and_divisor_hold_what_is_written),
        cmocka_unit_test(test_serial_looks_like_a_16550a_to_a_probing_driver),
        cmocka_unit_test(test_serial_loopback_returns_bytes_and_sends_nothing),
        cmocka_unit_test(test_serial_loopback_overrun_shows_once_and_keeps_the_fifo),
        cmocka_unit_test(test_serial_wide_access_is_counted_and_ignored),
        cmocka_unit_test(test_serial_output_arrives_in_order_and_is_counted),
        cmocka_unit_test(test_serial_transmit_interrupt_once_per_acknowledged_edge),
        cmocka_unit_test(test_serial_full_pipe_drops_bytes_and_never_waits),
        cmocka_unit_test(test_serial_broken_pipe_counts_errors),
        cmocka_unit_test(test_serial_limiter_drops_what_exceeds_the_bucket),
        cmocka_unit_test(test_serial_input_waits_until_the_guest_receives),
        cmocka_unit_test(test_serial_input_reaches_a_guest_that_polls),
        cmocka_unit_test(test_serial_console_output_does_not_look_like_polling),
        cmocka_unit_test(test_serial_long_input_flows_without_loss_or_overrun),
        cmocka_unit_test(test_serial_full_fifo_stops_polling_until_the_guest_drains),
        cmocka_unit_test(test_serial_end_of_input_is_not_polled_again),
        cmocka_unit_test(test_serial_quiesce_leaves_input_on_the_host),
        cmocka_unit_test(test_stream_of_a_pipe_leaves_the_shared_description_blocking),
        cmocka_unit_test(test_stream_of_a_socket_refuses_when_full),
        cmocka_unit_test(test_stream_of_a_file_keeps_the_shared_offset),
        cmocka_unit_test(test_stream_open_makes_a_file_and_appends),
        cmocka_unit_test(test_stream_open_of_a_fifo_needs_no_reader),
        cmocka_unit_test(test_stream_open_names_path_and_reason),
        cmocka_unit_test(test_stream_null_device_is_no_console_input),
        cmocka_unit_test(test_stream_read_of_a_pseudo_terminal_gives_what_is_typed),
        cmocka_unit_test(test_serial_random_accesses_leave_it_in_a_valid_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
