/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/legacy/pit.c: counters as functions of a clock that the test turns, and channel 0's
 * interrupts. */
#include "tests/support/fake_loop.h"
#include "tests/support/irq_probe.h"
#include "tests/unit/unit.h"
#include "vmm/legacy/pit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static uint64_t clock_ns;

static uint64_t test_clock(void)
{
    return clock_ns;
}

struct fixture {
    struct loop *loop;
    struct bus bus;
    struct irq_probe irq;
    struct pit pit;
};

static void start(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    clock_ns = 77 * NSEC_PER_SEC + 123456789;
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    irq_probe_init(&f->irq, PIT_GSI);
    pit_init(&f->pit, f->loop, &f->irq.line);
    f->pit.now = test_clock;
    assert_int_equal(pit_attach(&f->pit, &f->bus, NULL), 0);
}

static void finish(struct fixture *f)
{
    loop_destroy(f->loop);
}

static uint8_t in(struct fixture *f, uint64_t port)
{
    uint8_t value = 0xee;

    assert_true(bus_read(&f->bus, port, &value, 1));
    return value;
}

static void out(struct fixture *f, uint64_t port, uint8_t value)
{
    assert_true(bus_write(&f->bus, port, &value, 1));
}

/* The time of so many ticks of 1193182 Hz, rounded up. */
static void pass_ticks(uint64_t ticks)
{
    clock_ns += (ticks * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ;
}

static void program(struct fixture *f, unsigned channel, unsigned mode, uint16_t count)
{
    out(f, 0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
    out(f, 0x40 + channel, (uint8_t)count);
    out(f, 0x40 + channel, (uint8_t)(count >> 8));
}

static uint16_t read_latched(struct fixture *f, unsigned channel)
{
    uint8_t low;

    out(f, 0x43, (uint8_t)(channel << 6));
    low = in(f, 0x40 + channel);
    return (uint16_t)(low | in(f, 0x40 + channel) << 8);
}

static void test_pit_state_table_covers_the_struct(void **state)
{
    (void)state;
    assert_true(state_desc_tiles(&pit_state_desc));
}

/* ---- counting -------------------------------------------------------------------------------- */

static void test_pit_counter_and_output_by_mode_and_time(void **state)
{
    static const struct {
        unsigned mode;
        uint16_t reload;
        uint32_t ticks;
        uint16_t count;
        bool output;
    } rows[] = {
        /* interrupt on terminal count: low, then high for good; runs on through zero */
        {0, 1000, 0, 1000, false},
        {0, 1000, 1, 999, false},
        {0, 1000, 999, 1, false},
        {0, 1000, 1000, 0, true},
        {0, 1000, 1001, 0xffff, true},
        {0, 0, 65535, 1, false},
        {0, 0, 65536, 0, true},
        /* rate generator: low in the last tick of each period */
        {2, 1000, 0, 1000, true},
        {2, 1000, 998, 2, true},
        {2, 1000, 999, 1, false},
        {2, 1000, 1000, 1000, true},
        {2, 1000, 2500, 500, true},
        /* square wave: by twos, twice a period */
        {3, 1000, 0, 1000, true},
        {3, 1000, 100, 800, true},
        {3, 1000, 499, 2, true},
        {3, 1000, 500, 1000, false},
        {3, 1000, 999, 2, false},
        {3, 1000, 1000, 1000, true},
        /* strobe: low for one tick */
        {4, 1000, 999, 1, true},
        {4, 1000, 1000, 0, false},
        {4, 1000, 1001, 0xffff, true},
    };
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        start(&f);
        program(&f, 0, rows[i].mode, rows[i].reload);

        pass_ticks(rows[i].ticks);

        assert_int_equal(read_latched(&f, 0), rows[i].count);
        assert_int_equal(pit_channel_output(&f.pit.state.channel[0], clock_ns), rows[i].output);
        finish(&f);
    }
}

static void test_pit_latch_holds_the_count_until_both_bytes_are_read(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 0, 2, 0x1234);
    out(&f, 0x43, 0x00);
    pass_ticks(0x100);
    out(&f, 0x43, 0x00); /* a second latch changes nothing */

    assert_int_equal(in(&f, 0x40), 0x34);
    pass_ticks(0x100);
    assert_int_equal(in(&f, 0x40), 0x12);

    /* Unlatched again: live, low byte first. */
    assert_int_equal(in(&f, 0x40), 0x34);
    assert_int_equal(in(&f, 0x40), 0x10);
    finish(&f);
}

static void test_pit_single_byte_access(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);

    out(&f, 0x43, 0x14); /* channel 0, low byte only, mode 2 */
    out(&f, 0x40, 0x80);
    pass_ticks(0x10);
    assert_int_equal(in(&f, 0x40), 0x70);
    assert_int_equal(in(&f, 0x40), 0x70);

    out(&f, 0x43, 0x24); /* high byte only */
    out(&f, 0x40, 0x80);
    pass_ticks(0x1000);
    assert_int_equal(in(&f, 0x40), 0x70);
    finish(&f);
}

static void test_pit_bcd_counts_in_decimal(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, 0x43, 0x35); /* mode 2, BCD */
    out(&f, 0x40, 0x00);
    out(&f, 0x40, 0x10);

    pass_ticks(1);

    assert_int_equal(read_latched(&f, 0), 0x0999);
    finish(&f);
}

static void test_pit_read_back_gives_status_then_count(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, 0x43, 0x34);
    out(&f, 0x43, 0xe2);                  /* status of channel 0 */
    assert_int_equal(in(&f, 0x40), 0xf4); /* output high, no count yet */

    out(&f, 0x40, 0x00);
    out(&f, 0x40, 0x20);
    out(&f, 0x43, 0xc2); /* count and status */
    pass_ticks(5);
    assert_int_equal(in(&f, 0x40), 0xb4);
    assert_int_equal(in(&f, 0x40), 0x00);
    assert_int_equal(in(&f, 0x40), 0x20);
    finish(&f);
}

/* Linux's pit_calibrate_tsc: gate on, mode 0, wait for the output on port 0x61. */
static void test_pit_channel_2_output_shows_on_port_61(void **state)
{
    struct fixture f;
    const uint16_t ms10 = 11932;

    (void)state;
    start(&f);
    out(&f, 0x61, (uint8_t)((in(&f, 0x61) & ~0x02) | 0x01));
    program(&f, 2, 0, ms10);

    assert_int_equal(in(&f, 0x61) & 0x21, 0x01);
    pass_ticks(ms10 - 1);
    assert_int_equal(in(&f, 0x61) & 0x20, 0);
    pass_ticks(1);
    assert_int_equal(in(&f, 0x61) & 0x20, 0x20);
    finish(&f);
}

/* Linux's quick_pit_calibrate: each high byte is seen, in order, when read without latching. */
static void test_pit_high_byte_falls_through_every_value(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, 0x61, 0x01);
    program(&f, 2, 0, 0xffff);

    pass_ticks(1);
    for (int high = 0xff; high >= 0; high--) {
        in(&f, 0x42);
        assert_int_equal(in(&f, 0x42), high);
        pass_ticks(0x100);
    }
    finish(&f);
}

static void test_pit_gate_holds_channel_2_and_goes_on(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, 0x61, 0x01);
    program(&f, 2, 0, 1000);
    pass_ticks(400);

    out(&f, 0x61, 0x00);
    pass_ticks(5000);
    assert_int_equal(read_latched(&f, 2), 600);
    assert_int_equal(in(&f, 0x61) & 0x20, 0);

    out(&f, 0x61, 0x01);
    pass_ticks(599);
    assert_int_equal(in(&f, 0x61) & 0x20, 0);
    pass_ticks(1);
    assert_int_equal(in(&f, 0x61) & 0x20, 0x20);
    finish(&f);
}

static void test_pit_rising_gate_starts_a_one_shot(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 2, 1, 1000);
    pass_ticks(5000);
    assert_int_equal(in(&f, 0x61) & 0x20, 0x20);

    out(&f, 0x61, 0x01);
    assert_int_equal(in(&f, 0x61) & 0x20, 0);
    pass_ticks(1000);
    assert_int_equal(in(&f, 0x61) & 0x20, 0x20);
    finish(&f);
}

static void test_pit_port_61_keeps_speaker_bit_and_toggles_refresh(void **state)
{
    struct fixture f;
    uint8_t first;

    (void)state;
    start(&f);

    out(&f, 0x61, 0x02);
    first = in(&f, 0x61);
    assert_int_equal(first & 0x03, 0x02);
    clock_ns += 15085;
    assert_int_equal((in(&f, 0x61) ^ first) & 0x10, 0x10);
    finish(&f);
}

static void test_pit_far_future_does_not_overflow(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, 0x61, 0x01);
    program(&f, 2, 2, 1000);

    clock_ns += UINT64_C(10) * 365 * 24 * 3600 * NSEC_PER_SEC;
    assert_in_range(read_latched(&f, 2), 1, 1000);

    out(&f, 0x61, 0x00);
    out(&f, 0x61, 0x01);
    clock_ns -= 5 * NSEC_PER_SEC; /* a clock that steps back is no more than odd */
    assert_in_range(read_latched(&f, 2), 1, 1000);
    finish(&f);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

static uint64_t edges(struct fixture *f)
{
    return irq_probe_take(&f->irq);
}

/* Runs the loop until `until`: timers fire at their time, `late` ns too late. */
static void run_until(struct fixture *f, uint64_t until, uint64_t late)
{
    for (unsigned guard = 0; guard < 100000; guard++) {
        const struct fake_op *op;

        fake_loop_end_turn(f->loop);
        op = fake_loop_op(f->loop, 0);
        if (op && op->cancelled) {
            fake_loop_complete(f->loop, 0, -ECANCELED, false);
            continue;
        }
        if (!op || clock_ns + op->len + late > until)
            break;
        clock_ns += op->len + late;
        fake_loop_complete(f->loop, 0, -ETIME, false);
    }
    clock_ns = until;
}

static void test_pit_unused_channel_0_arms_no_timer(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);

    /* Linux stopping a timer that it does not use, and calibrating on channel 2. */
    out(&f, 0x43, 0x30);
    out(&f, 0x61, 0x01);
    program(&f, 2, 0, 1000);
    fake_loop_end_turn(f.loop);

    assert_int_equal(fake_loop_count(f.loop), 0);
    finish(&f);
}

static void test_pit_periodic_channel_0_interrupts_each_period(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 0, 2, 11932); /* 100 Hz */

    run_until(&f, clock_ns + 1005 * NSEC_PER_MSEC, 0);

    assert_int_equal(edges(&f), 100);
    finish(&f);
}

static void test_pit_late_loop_keeps_the_rate(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 0, 3, 11932);

    run_until(&f, clock_ns + 1005 * NSEC_PER_MSEC, 3 * NSEC_PER_MSEC);

    assert_in_range(edges(&f), 99, 100);
    finish(&f);
}

static void test_pit_one_shot_interrupts_once_even_when_the_loop_is_late(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 0, 0, 100);
    clock_ns += 20 * NSEC_PER_MSEC; /* long past before the loop hears of it */

    run_until(&f, clock_ns + NSEC_PER_SEC, 0);

    assert_int_equal(edges(&f), 1);
    assert_int_equal(fake_loop_count(f.loop), 0);
    finish(&f);
}

static void test_pit_reprogramming_replaces_the_pending_interrupt(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 0, 0, 60000); /* 50 ms */
    run_until(&f, clock_ns + 10 * NSEC_PER_MSEC, 0);
    program(&f, 0, 0, 6000); /* 5 ms */
    run_until(&f, clock_ns + 6 * NSEC_PER_MSEC, 0);
    assert_int_equal(edges(&f), 1);

    program(&f, 0, 0, 60000);
    run_until(&f, clock_ns + 10 * NSEC_PER_MSEC, 0);
    out(&f, 0x43, 0x30); /* stopped */
    run_until(&f, clock_ns + NSEC_PER_SEC, 0);
    assert_int_equal(edges(&f), 0);
    assert_int_equal(fake_loop_count(f.loop), 0);
    finish(&f);
}

static void test_pit_fastest_period_does_not_flood_the_host(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 0, 2, 2); /* 596591 Hz */

    run_until(&f, clock_ns + NSEC_PER_SEC, 0);

    assert_in_range(edges(&f), 1, NSEC_PER_SEC / PIT_PERIOD_MIN_NS + 1);
    finish(&f);
}

static void test_pit_quiesce_stops_interrupts_and_resume_delivers_the_pending_one(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    program(&f, 0, 0, 11932);
    run_until(&f, clock_ns + 5 * NSEC_PER_MSEC, 0);

    pit_quiesce(&f.pit);
    run_until(&f, clock_ns + NSEC_PER_SEC, 0);
    assert_int_equal(edges(&f), 0);
    assert_int_equal(fake_loop_count(f.loop), 0);

    pit_resume(&f.pit);
    run_until(&f, clock_ns + NSEC_PER_MSEC, 0);
    assert_int_equal(edges(&f), 1);
    finish(&f);
}

/* A fixed sequence: the same accesses in every run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void test_pit_random_accesses_leave_it_in_a_valid_state(void **state)
{
    struct fixture f;
    uint32_t seed = 7;

    (void)state;
    start(&f);

    for (unsigned i = 0; i < 100000; i++) {
        uint32_t which = next_random(&seed) % 5;
        uint64_t port = which == 4 ? 0x61 : 0x40 + which;
        uint8_t data = (uint8_t)next_random(&seed);

        if (next_random(&seed) % 2)
            bus_write(&f.bus, port, &data, 1);
        else
            bus_read(&f.bus, port, &data, 1);
        clock_ns += next_random(&seed) % (10 * NSEC_PER_MSEC);
        run_until(&f, clock_ns, 0);
        for (unsigned c = 0; c < PIT_CHANNELS; c++) {
            assert_in_range(f.pit.state.channel[c].reload, 1, 65536);
            assert_in_range(f.pit.state.channel[c].mode, 0, 5);
        }
        assert_true(fake_loop_count(f.loop) <= 1);
    }

    program(&f, 0, 2, 1000);
    pass_ticks(10);
    assert_int_equal(read_latched(&f, 0), 990);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pit_state_table_covers_the_struct),
        cmocka_unit_test(test_pit_counter_and_output_by_mode_and_time),
        cmocka_unit_test(test_pit_latch_holds_the_count_until_both_bytes_are_read),
        cmocka_unit_test(test_pit_single_byte_access),
        cmocka_unit_test(test_pit_bcd_counts_in_decimal),
        cmocka_unit_test(test_pit_read_back_gives_status_then_count),
        cmocka_unit_test(test_pit_channel_2_output_shows_on_port_61),
        cmocka_unit_test(test_pit_high_byte_falls_through_every_value),
        cmocka_unit_test(test_pit_gate_holds_channel_2_and_goes_on),
        cmocka_unit_test(test_pit_rising_gate_starts_a_one_shot),
        cmocka_unit_test(test_pit_port_61_keeps_speaker_bit_and_toggles_refresh),
        cmocka_unit_test(test_pit_far_future_does_not_overflow),
        cmocka_unit_test(test_pit_unused_channel_0_arms_no_timer),
        cmocka_unit_test(test_pit_periodic_channel_0_interrupts_each_period),
        cmocka_unit_test(test_pit_late_loop_keeps_the_rate),
        cmocka_unit_test(test_pit_one_shot_interrupts_once_even_when_the_loop_is_late),
        cmocka_unit_test(test_pit_reprogramming_replaces_the_pending_interrupt),
        cmocka_unit_test(test_pit_fastest_period_does_not_flood_the_host),
        cmocka_unit_test(test_pit_quiesce_stops_interrupts_and_resume_delivers_the_pending_one),
        cmocka_unit_test(test_pit_random_accesses_leave_it_in_a_valid_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
