/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/rate_limiter.c. Time is a number the test chooses. */
#include "tests/unit/unit.h"
#include "vmm/base/rate_limiter.h"

#define MS NSEC_PER_MSEC

/* Some moment; nothing may depend on clocks that start at 0. */
#define T0 (UINT64_C(123456789) * 1000)

static struct token_bucket bucket_of(uint64_t size, uint64_t refill_ms, uint64_t burst)
{
    struct token_bucket_config config = {size, refill_ms, burst, burst > 0};
    struct token_bucket bucket;

    token_bucket_init(&bucket, &config, T0);
    return bucket;
}

static void test_token_bucket_starts_full_and_then_refuses(void **state)
{
    struct token_bucket bucket = bucket_of(10, 1000, 0);

    (void)state;
    assert_true(token_bucket_take(&bucket, 4, T0));
    assert_true(token_bucket_take(&bucket, 6, T0));
    assert_false(token_bucket_take(&bucket, 1, T0));
}

static void test_token_bucket_refills_linearly_up_to_its_size(void **state)
{
    struct token_bucket bucket = bucket_of(10, 1000, 0);

    (void)state;
    assert_true(token_bucket_take(&bucket, 10, T0));
    assert_false(token_bucket_take(&bucket, 1, T0 + 99 * MS));
    assert_true(token_bucket_take(&bucket, 1, T0 + 100 * MS));
    assert_true(token_bucket_take(&bucket, 4, T0 + 500 * MS));
    assert_false(token_bucket_take(&bucket, 1, T0 + 500 * MS));
    assert_true(token_bucket_take(&bucket, 10, T0 + 3600000 * MS));
    assert_false(token_bucket_take(&bucket, 1, T0 + 3600000 * MS));
}

static void test_token_bucket_loses_nothing_to_frequent_looks(void **state)
{
    struct token_bucket bucket = bucket_of(3, 1000, 0); /* a token takes 333.3 ms */
    unsigned taken = 0;

    (void)state;
    assert_true(token_bucket_take(&bucket, 3, T0));
    for (uint64_t t = T0; t <= T0 + 10000 * MS; t += 100001)
        taken += token_bucket_take(&bucket, 1, t);
    assert_in_range(taken, 29, 30);
}

static void test_token_bucket_burst_is_used_first_and_once(void **state)
{
    struct token_bucket bucket = bucket_of(10, 1000, 5);

    (void)state;
    assert_true(token_bucket_take(&bucket, 3, T0));
    assert_int_equal(bucket.burst, 2);
    assert_int_equal(bucket.budget, 10);
    assert_true(token_bucket_take(&bucket, 12, T0)); /* two of the burst, ten of the budget */
    assert_false(token_bucket_take(&bucket, 1, T0));
    assert_true(token_bucket_take(&bucket, 10, T0 + 1000 * MS));
    assert_false(token_bucket_take(&bucket, 1, T0 + 1000 * MS));
}

static void test_token_bucket_lets_a_large_request_pass_when_full_and_then_owes(void **state)
{
    struct token_bucket bucket = bucket_of(10, 1000, 0);

    (void)state;
    assert_true(token_bucket_take(&bucket, 1, T0));
    assert_false(token_bucket_take(&bucket, 35, T0)); /* not full */
    assert_true(token_bucket_take(&bucket, 35, T0 + 100 * MS));
    assert_int_equal(bucket.debt, 25);
    /* 25 tokens of debt take 2.5 s, and the next token 0.1 s */
    assert_false(token_bucket_take(&bucket, 1, T0 + 2600 * MS));
    assert_true(token_bucket_take(&bucket, 1, T0 + 2700 * MS));
}

static void test_token_bucket_of_nothing_limits_nothing(void **state)
{
    struct token_bucket no_size = bucket_of(0, 1000, 5), no_time = bucket_of(10, 0, 5);

    (void)state;
    assert_true(token_bucket_take(&no_size, UINT64_MAX, T0));
    assert_true(token_bucket_take(&no_time, UINT64_MAX, T0));
}

static void test_token_bucket_survives_extreme_numbers(void **state)
{
    struct token_bucket bucket = bucket_of(UINT64_MAX, UINT64_MAX, UINT64_MAX);
    struct token_bucket fast = bucket_of(UINT64_MAX, 1, 0);

    (void)state;
    assert_true(token_bucket_take(&bucket, UINT64_MAX, T0));
    assert_true(token_bucket_take(&bucket, UINT64_MAX, T0));
    assert_false(token_bucket_take(&bucket, UINT64_MAX, UINT64_MAX));
    assert_true(token_bucket_take(&fast, UINT64_MAX, T0));
    assert_true(token_bucket_take(&fast, UINT64_MAX, T0 + MS));
    assert_false(token_bucket_take(&fast, UINT64_MAX, T0)); /* a clock that goes back */
}

static void test_rate_limiter_takes_both_or_neither(void **state)
{
    static const struct rate_limiter_config config = {
        .has_bandwidth = true,
        .has_ops = true,
        .bandwidth = {.size = 100, .refill_ms = 1000},
        .ops = {.size = 2, .refill_ms = 1000},
    };
    struct rate_limiter limiter;

    (void)state;
    rate_limiter_init(&limiter, &config, T0);
    assert_false(rate_limiter_is_unlimited(&limiter));
    assert_true(rate_limiter_take(&limiter, 60, T0));
    assert_false(rate_limiter_take(&limiter, 60, T0)); /* bandwidth says no: no operation lost */
    assert_int_equal(limiter.ops.budget, 1);
    assert_true(rate_limiter_take(&limiter, 40, T0));
    assert_false(rate_limiter_take(&limiter, 0, T0)); /* operations say no: no byte lost */
    assert_int_equal(limiter.bandwidth.budget, 0);
}

static void test_rate_limiter_wait_is_exactly_until_the_request_passes(void **state)
{
    static const struct {
        uint64_t size, refill_ms, taken, wanted;
    } cases[] = {
        {10, 1000, 10, 1},
        {10, 1000, 10, 10},
        {10, 1000, 10, 25},
        {3, 1000, 3, 1},
        {7, 3, 7, 5},
        {10, 1000, 35, 1},
        {1000000007, 9, 1000000007, 12345},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rate_limiter_config config = {
            .has_bandwidth = true,
            .bandwidth = {.size = cases[i].size, .refill_ms = cases[i].refill_ms},
        };
        struct rate_limiter limiter, copy;
        uint64_t wait;

        rate_limiter_init(&limiter, &config, T0);
        assert_true(rate_limiter_take(&limiter, cases[i].taken, T0));
        wait = rate_limiter_wait_ns(&limiter, cases[i].wanted, T0);
        copy = limiter;
        if (wait == 0 || rate_limiter_take(&copy, cases[i].wanted, T0 + wait - 1) ||
            !rate_limiter_take(&limiter, cases[i].wanted, T0 + wait))
            fail_msg("case %zu: %llu ns", i, (unsigned long long)wait);
    }
}

static void test_rate_limiter_wait_is_zero_when_nothing_limits(void **state)
{
    static const struct rate_limiter_config none,
        some = {.has_ops = true, .ops = {.size = 1, .refill_ms = 1}};
    struct rate_limiter limiter;

    (void)state;
    rate_limiter_init(&limiter, &none, T0);
    assert_true(rate_limiter_is_unlimited(&limiter));
    assert_int_equal(rate_limiter_wait_ns(&limiter, UINT64_MAX, T0), 0);
    rate_limiter_init(&limiter, &some, T0);
    assert_int_equal(rate_limiter_wait_ns(&limiter, UINT64_MAX, T0), 0);
}

static void test_rate_limiter_patch_resets_only_the_buckets_given(void **state)
{
    struct rate_limiter_config config = {
        .has_bandwidth = true,
        .has_ops = true,
        .bandwidth = {.size = 100, .refill_ms = 1000},
        .ops = {.size = 5, .refill_ms = 1000},
    };
    struct rate_limiter limiter;

    (void)state;
    rate_limiter_init(&limiter, &config, T0);
    assert_true(rate_limiter_take(&limiter, 100, T0));

    config = (struct rate_limiter_config){.has_ops = true, .ops = {.size = 9, .refill_ms = 1}};
    rate_limiter_update(&limiter, &config, T0);
    assert_int_equal(limiter.ops.budget, 9);
    assert_int_equal(limiter.bandwidth.budget, 0);

    config = (struct rate_limiter_config){.has_bandwidth = true}; /* size 0: the limit is lifted */
    rate_limiter_update(&limiter, &config, T0);
    assert_int_equal(limiter.bandwidth.size, 0);
    assert_true(rate_limiter_take(&limiter, UINT64_MAX, T0));
}

static void test_rate_limiter_config_without_limits_is_not_given(void **state)
{
    struct rate_limiter_config config = {.has_bandwidth = true, .bandwidth = {.size = 5}};
    bool given = true;

    (void)state;
    rate_limiter_config_tidy(&config, &given);
    assert_false(given);
    assert_false(config.has_bandwidth);

    config = (struct rate_limiter_config){
        .has_ops = true,
        .ops = {.size = 5, .refill_ms = 1, .has_burst = true, .one_time_burst = 0},
    };
    given = true;
    rate_limiter_config_tidy(&config, &given);
    assert_true(given);
    assert_true(config.has_ops);
    assert_false(config.ops.has_burst);
}

static void test_rate_limiter_config_patch_replaces_only_the_buckets_given(void **state)
{
    struct rate_limiter_config config = {.has_ops = true, .ops = {.size = 9, .refill_ms = 1}};
    struct rate_limiter_config patch = {.has_bandwidth = true,
                                        .bandwidth = {.size = 7, .refill_ms = 2}};
    bool given = false; /* whatever stands in config then does not count */

    (void)state;
    rate_limiter_config_patch(&config, &given, &patch);
    assert_true(given);
    assert_false(config.has_ops);
    assert_int_equal(config.bandwidth.size, 7);

    patch = (struct rate_limiter_config){.has_ops = true, .ops = {.size = 3, .refill_ms = 4}};
    rate_limiter_config_patch(&config, &given, &patch);
    assert_int_equal(config.bandwidth.size, 7);
    assert_int_equal(config.ops.size, 3);

    patch = (struct rate_limiter_config){.has_ops = true, .has_bandwidth = true};
    rate_limiter_config_patch(&config, &given, &patch);
    assert_false(given);
}

/* No user can configure it, but a state file may say anything. */
static void test_rate_limiter_that_refills_in_no_time_is_full(void **state)
{
    struct rate_limiter limiter = {.ops = {.size = 3, .updated_ns = T0}};

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        assert_true(rate_limiter_take(&limiter, 1, T0 + i));
    assert_int_equal(rate_limiter_wait_ns(&limiter, 1, T0 + 10), 0);
}

static void test_rate_limiter_state_table_covers_its_struct(void **state)
{
    (void)state;
    assert_true(state_desc_tiles(&rate_limiter_state_desc));
    assert_int_equal(rate_limiter_state_desc.size, sizeof(struct rate_limiter));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_bucket_starts_full_and_then_refuses),
        cmocka_unit_test(test_token_bucket_refills_linearly_up_to_its_size),
        cmocka_unit_test(test_token_bucket_loses_nothing_to_frequent_looks),
        cmocka_unit_test(test_token_bucket_burst_is_used_first_and_once),
        cmocka_unit_test(test_token_bucket_lets_a_large_request_pass_when_full_and_then_owes),
        cmocka_unit_test(test_token_bucket_of_nothing_limits_nothing),
        cmocka_unit_test(test_token_bucket_survives_extreme_numbers),
        cmocka_unit_test(test_rate_limiter_takes_both_or_neither),
        cmocka_unit_test(test_rate_limiter_wait_is_exactly_until_the_request_passes),
        cmocka_unit_test(test_rate_limiter_wait_is_zero_when_nothing_limits),
        cmocka_unit_test(test_rate_limiter_patch_resets_only_the_buckets_given),
        cmocka_unit_test(test_rate_limiter_config_without_limits_is_not_given),
        cmocka_unit_test(test_rate_limiter_config_patch_replaces_only_the_buckets_given),
        cmocka_unit_test(test_rate_limiter_that_refills_in_no_time_is_full),
        cmocka_unit_test(test_rate_limiter_state_table_covers_its_struct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
