/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/legacy/power.c: only "sleep, state S5" ends the machine; the timer's rate. */
#include "tests/unit/unit.h"
#include "vmm/legacy/power.h"

static void count_off(void *owner)
{
    ++*(unsigned *)owner;
}

static void test_power_off_only_by_s5_with_enable(void **state)
{
    struct bus bus = {0};
    struct power power;
    unsigned offs = 0;

    (void)state;
    power_init(&power, count_off, &offs);
    assert_int_equal(power_attach(&power, &bus, NULL), 0);

    for (unsigned value = 0; value < 256; value++) {
        uint8_t byte = (uint8_t)value;
        bool s5 = (value & 0x20) && (value >> 2 & 7) == POWER_S5;
        unsigned before = offs;

        assert_true(bus_write(&bus, POWER_SLEEP_CONTROL, &byte, 1));
        assert_int_equal(offs - before, s5);
    }
}

static void test_power_status_and_wide_writes_do_nothing(void **state)
{
    struct bus bus = {0};
    struct power power;
    unsigned offs = 0;
    uint8_t byte = 0x20 | POWER_S5 << 2;
    uint16_t wide = byte;

    (void)state;
    power_init(&power, count_off, &offs);
    assert_int_equal(power_attach(&power, &bus, NULL), 0);

    bus_write(&bus, POWER_SLEEP_STATUS, &byte, 1);
    bus_write(&bus, POWER_SLEEP_CONTROL, &wide, 2);
    assert_int_equal(offs, 0);

    byte = 0xee;
    assert_true(bus_read(&bus, POWER_SLEEP_STATUS, &byte, 1));
    assert_int_equal(byte, 0);
}

static uint64_t clock_ns;

static uint64_t test_clock(void)
{
    return clock_ns;
}

static void test_power_timer_runs_at_its_rate_and_wraps_at_24_bits(void **state)
{
    static const struct {
        uint64_t ns;
        uint32_t ticks;
    } rows[] = {
        {0, 0},
        {1000, 3},
        {NSEC_PER_SEC, 3579545},
        {4 * NSEC_PER_SEC, 14318180},
        {5 * NSEC_PER_SEC, 17897725 - (1 << 24)},
        {UINT64_C(1000000) * NSEC_PER_SEC, (uint32_t)(UINT64_C(3579545000000) % (1 << 24))},
    };
    struct bus bus = {0};
    struct power power;

    (void)state;
    power_init(&power, count_off, NULL);
    power.now = test_clock;
    assert_int_equal(power_attach(&power, &bus, NULL), 0);

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint32_t ticks = 0xeeeeeeee;

        clock_ns = rows[i].ns;
        assert_true(bus_read(&bus, POWER_TIMER, &ticks, sizeof(ticks)));
        assert_int_equal(ticks, rows[i].ticks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_off_only_by_s5_with_enable),
        cmocka_unit_test(test_power_status_and_wide_writes_do_nothing),
        cmocka_unit_test(test_power_timer_runs_at_its_rate_and_wraps_at_24_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
