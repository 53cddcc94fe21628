/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/metrics.c. */
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <pthread.h>

static void test_metric_agg_keeps_min_max_and_sum_in_microseconds(void **state)
{
    struct metric_agg agg = {0};

    (void)state;
    metric_agg_add(&agg, 7 * NSEC_PER_USEC + 999);
    metric_agg_add(&agg, 3 * NSEC_PER_USEC);
    metric_agg_add(&agg, 20 * NSEC_PER_USEC);

    assert_int_equal(agg.min_us, 3);
    assert_int_equal(agg.max_us, 20);
    assert_int_equal(agg.sum_us, 30);
}

static void test_metric_agg_first_duration_is_both_min_and_max(void **state)
{
    struct metric_agg agg = {0};

    (void)state;
    metric_agg_add(&agg, 5 * NSEC_PER_MSEC);

    assert_int_equal(agg.min_us, 5000);
    assert_int_equal(agg.max_us, 5000);
}

enum { ADDS = 20000 };

static void *add_many(void *counter)
{
    for (int i = 0; i < ADDS; i++)
        metric_add(counter, 1);
    return NULL;
}

static void test_metric_add_from_two_threads_loses_nothing(void **state)
{
    uint64_t counter = 0;
    pthread_t threads[2];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &counter), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);

    assert_int_equal(counter, 2 * ADDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metric_agg_keeps_min_max_and_sum_in_microseconds),
        cmocka_unit_test(test_metric_agg_first_duration_is_both_min_and_max),
        cmocka_unit_test(test_metric_add_from_two_threads_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
