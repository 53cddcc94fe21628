/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/timeline.c. Its stamps are the process's, so one test uses one stage. */
#include "tests/unit/unit.h"
#include "vmm/base/timeline.h"

static void test_timeline_stage_not_reached_is_zero(void **state)
{
    (void)state;
    assert_int_equal(timeline_ns(TIMELINE_INIT), 0);
}

static void test_timeline_stamp_is_monotonic_clock(void **state)
{
    uint64_t before = now_ns();

    (void)state;
    timeline_stamp(TIMELINE_EXEC);

    assert_in_range(timeline_ns(TIMELINE_EXEC), before, now_ns());
}

static void test_timeline_first_stamp_wins(void **state)
{
    uint64_t first;

    (void)state;
    timeline_stamp(TIMELINE_VM);
    first = timeline_ns(TIMELINE_VM);
    while (now_ns() == first)
        ;
    timeline_stamp(TIMELINE_VM);

    assert_int_equal(timeline_ns(TIMELINE_VM), first);
}

static void test_timeline_keeps_the_first_stamp_of_each_guest_value_until_it_is_full(void **state)
{
    uint64_t first;

    (void)state;
    timeline_stamp_guest(7);
    first = timeline_guest(0)->ns;
    while (now_ns() == first)
        ;
    for (unsigned value = 0; value < 3 * TIMELINE_GUEST_MAX; value++)
        timeline_stamp_guest((uint8_t)value);

    assert_int_equal(timeline_guest(0)->ns, first);
    assert_int_equal(timeline_guest(0)->value, 7);
    assert_int_equal(timeline_guest(1)->value, 0);
    assert_int_equal(timeline_guest(TIMELINE_GUEST_MAX - 1)->value, TIMELINE_GUEST_MAX - 1);
    assert_null(timeline_guest(TIMELINE_GUEST_MAX));
}

static void test_timeline_forget_leaves_only_earlier_stages(void **state)
{
    (void)state;
    timeline_stamp(TIMELINE_API);
    timeline_stamp(TIMELINE_CONFIG);
    timeline_stamp(TIMELINE_KERNEL);
    timeline_forget(TIMELINE_CONFIG);

    assert_int_not_equal(timeline_ns(TIMELINE_API), 0);
    assert_int_equal(timeline_ns(TIMELINE_CONFIG), 0);
    assert_int_equal(timeline_ns(TIMELINE_KERNEL), 0);
}

static void test_timeline_restart_keeps_nothing_and_begins_now(void **state)
{
    uint64_t before = now_ns();

    (void)state;
    timeline_stamp(TIMELINE_EXEC);
    timeline_stamp(TIMELINE_INIT);
    timeline_stamp_guest(1);
    timeline_restart();
    assert_true(timeline_ns(TIMELINE_EXEC) >= before);
    for (unsigned i = TIMELINE_EXEC + 1; i < TIMELINE_COUNT; i++)
        assert_int_equal(timeline_ns((enum timeline_stage)i), 0);
    assert_null(timeline_guest(0));
}

static void test_timeline_stages_have_distinct_names(void **state)
{
    (void)state;
    for (int i = 0; i < TIMELINE_COUNT; i++) {
        assert_non_null(timeline_name((enum timeline_stage)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(timeline_name((enum timeline_stage)i),
                                    timeline_name((enum timeline_stage)j));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeline_stage_not_reached_is_zero),
        cmocka_unit_test(test_timeline_stamp_is_monotonic_clock),
        cmocka_unit_test(test_timeline_first_stamp_wins),
        cmocka_unit_test(test_timeline_keeps_the_first_stamp_of_each_guest_value_until_it_is_full),
        cmocka_unit_test(test_timeline_forget_leaves_only_earlier_stages),
        cmocka_unit_test(test_timeline_restart_keeps_nothing_and_begins_now),
        cmocka_unit_test(test_timeline_stages_have_distinct_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
