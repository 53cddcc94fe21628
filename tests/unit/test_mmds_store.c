/* SPDX-License-Identifier: Apache-2.0 */
/* test_mmds_store.c: replacing, merging, limits, and that a refusal changes nothing. */
#include "api/mmds_store.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static struct mmds_store *store_with(size_t limit, const char *text)
{
    struct mmds_store *store;
    struct err e;

    assert_int_equal(mmds_store_create(&store, limit, &e), 0);
    if (text)
        assert_int_equal(mmds_store_put(store, text, strlen(text), &e), 0);
    return store;
}

static void assert_holds(const struct mmds_store *store, const char *text)
{
    size_t len;
    char *got = mmds_store_get(store, &len);

    assert_string_equal(got, text);
    assert_int_equal(len, strlen(text));
    free(got);
}

static int patch(struct mmds_store *store, const char *text, struct err *e)
{
    return mmds_store_patch(store, text, strlen(text), e);
}

static void test_mmds_store_is_an_empty_object_until_put(void **state)
{
    struct mmds_store *store = store_with(100, NULL);
    struct err e;

    (void)state;
    assert_holds(store, "{}");
    assert_int_equal(patch(store, "{\"a\":1}", &e), -ENOENT);
    assert_string_equal(e.text, "MMDS error: The MMDS data store is not initialized.");
    assert_holds(store, "{}");
    mmds_store_destroy(store);
    mmds_store_destroy(NULL);
}

static void test_mmds_store_takes_any_value_and_shows_null_as_empty(void **state)
{
    static const char *const values[][2] = {
        {"[1,2]", "[1,2]"}, {"\"text\"", "\"text\""},
        {"5", "5"},         {"null", "{}"},
        {"true", "true"},   {"18446744073709551615", "18446744073709551615"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        struct mmds_store *store = store_with(100, values[i][0]);

        assert_holds(store, values[i][1]);
        mmds_store_destroy(store);
    }
}

static void test_mmds_store_patch_merges_as_rfc_7396(void **state)
{
    static const char *const cases[][3] = {
        /* the RFC's own examples, appendix A */
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"},
        {"null", "{\"a\":1}", "{\"a\":1}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct mmds_store *store = store_with(100, cases[i][0]);
        struct err e;

        assert_int_equal(patch(store, cases[i][1], &e), 0);
        assert_holds(store, cases[i][2]);
        mmds_store_destroy(store);
    }
}

static void test_mmds_store_counts_compact_text_against_its_limit(void **state)
{
    struct mmds_store *store = store_with(10, NULL);
    struct err e;

    (void)state;
    assert_int_equal(mmds_store_put(store, " { \"a\" : \"xx\" } ", 16, &e), 0);
    assert_int_equal(mmds_store_put(store, "{\"a\":\"xxx\"}", 11, &e), -EFBIG);
    assert_string_equal(e.text, "MMDS limit exceeded error: The MMDS patch request doesn't fit.");
    assert_int_equal(patch(store, "{\"b\":1}", &e), -EFBIG);
    assert_holds(store, "{\"a\":\"xx\"}");
    assert_int_equal(patch(store, "{\"a\":null,\"b\":1}", &e), 0);
    assert_holds(store, "{\"b\":1}");
    mmds_store_destroy(store);
}

static void test_mmds_store_refuses_what_is_not_json_unchanged(void **state)
{
    struct mmds_store *store = store_with(100, "{\"a\":1,\"a\":2}");
    struct err e;

    (void)state;
    assert_int_equal(mmds_store_put(store, "{bad", 4, &e), -EINVAL);
    assert_string_equal(e.text, "key must be a string at line 1 column 2");
    assert_int_equal(patch(store, "{} x", &e), -EINVAL);
    assert_string_equal(e.text, "trailing characters at line 1 column 4");
    assert_holds(store, "{\"a\":2}");
    mmds_store_destroy(store);
}

static unsigned allocations_left;

static void *failing_malloc(size_t size)
{
    return allocations_left && allocations_left-- ? malloc(size) : NULL;
}

static void test_mmds_store_patch_without_memory_changes_nothing(void **state)
{
    struct mmds_store *store = store_with(100, "{\"a\":{\"b\":[1,2]}}");
    struct err e;
    unsigned n = 0;

    (void)state;
    json_set_alloc_funcs(failing_malloc, free);
    for (allocations_left = 0; patch(store, "{\"a\":{\"c\":{\"d\":[3]}}}", &e);
         allocations_left = ++n)
        assert_holds(store, "{\"a\":{\"b\":[1,2]}}");
    json_set_alloc_funcs(malloc, free);
    assert_holds(store, "{\"a\":{\"b\":[1,2],\"c\":{\"d\":[3]}}}");
    assert_true(n > 10);
    mmds_store_destroy(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmds_store_is_an_empty_object_until_put),
        cmocka_unit_test(test_mmds_store_takes_any_value_and_shows_null_as_empty),
        cmocka_unit_test(test_mmds_store_patch_merges_as_rfc_7396),
        cmocka_unit_test(test_mmds_store_counts_compact_text_against_its_limit),
        cmocka_unit_test(test_mmds_store_refuses_what_is_not_json_unchanged),
        cmocka_unit_test(test_mmds_store_patch_without_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
