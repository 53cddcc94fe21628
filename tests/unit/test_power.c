/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/legacy/power.c: only "sleep, state S5" ends the machine. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_off_only_by_s5_with_enable),
        cmocka_unit_test(test_power_status_and_wide_writes_do_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
