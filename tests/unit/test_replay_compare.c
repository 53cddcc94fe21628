/* SPDX-License-Identifier: Apache-2.0 */
/* The comparison behind the conformance replayer: what counts as the same answer. */
/* cmocka.h wants these before it. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

/* The replayer is a program, not a library: take the one file under test. */
#include "tests/conformance/compare.c"

static const char usual_text[] =
    "{\"204\":{\"Server\":\"S\"},\"other\":{\"Server\":\"S\",\"Content-Length\":true}}";

/* Compares two answers; with a report wanted, leaves it to the caller to free. */
static bool agree(const char *expected, const char *came, const char *unordered,
                  struct text *report)
{
    struct text unused = {0};
    json_t *a = json_loads(expected, 0, NULL), *b = json_loads(came, 0, NULL);
    json_t *list = unordered ? json_loads(unordered, 0, NULL) : NULL;
    json_t *usual = json_loads(usual_text, 0, NULL);
    bool same = compare_answers(a, b, list, usual, report ? report : &unused);
    json_decref(a);
    json_decref(b);
    json_decref(list);
    json_decref(usual);
    text_free(&unused);
    return same;
}

#define OK_HEADERS "\"headers\":{\"Content-Length\":true,\"Server\":\"S\"}"

static void test_compare_accepts_same_answer_with_usual_headers(void **state)
{
    (void)state;
    assert_true(agree("{\"status\":200,\"body\":{\"a\":[1,null]}}",
                      "{\"status\":200," OK_HEADERS ",\"body\":{\"a\":[1,null]}}", NULL, NULL));
}

static void test_compare_reports_status_body_and_headers_separately(void **state)
{
    (void)state;
    struct text report = {0};
    assert_false(agree("{\"status\":400,\"body\":{\"f\":\"x\"}}",
                       "{\"status\":204,\"headers\":{\"Server\":\"T\"}}", NULL, &report));
    assert_non_null(strstr(report.data, "status differs"));
    assert_non_null(strstr(report.data, "body differs"));
    assert_non_null(strstr(report.data, "headers/Content-Length differs"));
    text_free(&report);
}

static void test_compare_rejects_a_header_that_was_not_recorded(void **state)
{
    (void)state;
    assert_false(agree("{\"status\":204}",
                       "{\"status\":204,\"headers\":{\"Server\":\"S\",\"Deprecation\":\"true\"}}",
                       NULL, NULL));
}

static void test_compare_rejects_a_body_where_none_was_recorded(void **state)
{
    (void)state;
    assert_false(agree("{\"status\":204}",
                       "{\"status\":204,\"headers\":{\"Server\":\"S\"},\"body\":{}}", NULL, NULL));
}

static void test_compare_star_stands_for_any_value_but_not_for_none(void **state)
{
    (void)state;
    const char *star = "{\"status\":200,\"body\":{\"v\":\"*\"}}";
    assert_true(
        agree(star, "{\"status\":200," OK_HEADERS ",\"body\":{\"v\":{\"x\":1}}}", NULL, NULL));
    assert_false(agree(star, "{\"status\":200," OK_HEADERS ",\"body\":{}}", NULL, NULL));
}

static void test_compare_array_order_counts_unless_listed_as_unordered(void **state)
{
    (void)state;
    const char *a = "{\"status\":200,\"body\":{\"d\":[{\"i\":1},{\"i\":2}]}}";
    const char *b = "{\"status\":200," OK_HEADERS ",\"body\":{\"d\":[{\"i\":2},{\"i\":1}]}}";
    assert_false(agree(a, b, NULL, NULL));
    assert_true(agree(a, b, "[\"/body/d\",\"/body/missing\"]", NULL));
    assert_false(
        agree("{\"status\":200,\"body\":{\"d\":[{\"i\":1},{\"i\":3}]}}", b, "[\"/body/d\"]", NULL));
}

static void test_compare_member_order_counts(void **state)
{
    (void)state;
    struct text report = {0};
    assert_false(agree("{\"status\":200,\"body\":{\"a\":1,\"b\":2}}",
                       "{\"status\":200," OK_HEADERS ",\"body\":{\"b\":2,\"a\":1}}", NULL,
                       &report));
    assert_non_null(strstr(report.data, "in the order of its members"));
    text_free(&report);
}

static void test_compare_numbers_of_different_kind_differ(void **state)
{
    (void)state;
    assert_false(agree("{\"status\":200,\"body\":{\"a\":1}}",
                       "{\"status\":200," OK_HEADERS ",\"body\":{\"a\":1.0}}", NULL, NULL));
    assert_false(agree("{\"status\":200,\"body\":{\"a\":1}}",
                       "{\"status\":200," OK_HEADERS ",\"body\":{\"a\":\"1\"}}", NULL, NULL));
}

static void test_compare_several_answers_counts_them(void **state)
{
    (void)state;
    const char *two = "{\"answers\":[{\"status\":204},{\"status\":204}],\"then\":\"open\"}";
    const char *one =
        "{\"answers\":[{\"headers\":{\"Server\":\"S\"},\"status\":204}],\"then\":\"open\"}";
    assert_true(agree("{\"answers\":[{\"status\":204}],\"then\":\"open\"}", one, NULL, NULL));
    assert_false(agree(two, one, NULL, NULL));
    assert_false(agree("{\"answers\":[],\"then\":\"open\"}", one, NULL, NULL));
    assert_false(agree("{\"answers\":[{\"status\":204}],\"then\":\"closed\"}", one, NULL, NULL));
}

static void test_compare_patched_replaces_only_what_it_names(void **state)
{
    (void)state;
    json_t *answer = json_loads("{\"body\":{\"a\":{\"x\":1},\"b\":2}}", 0, NULL);
    json_t *pointers = json_loads("{\"/body/a\":null}", 0, NULL);
    json_t *patched = compare_patched(answer, pointers);
    char *dump = json_dumps(patched, JSON_COMPACT);
    assert_string_equal(dump, "{\"body\":{\"a\":null,\"b\":2}}");
    free(dump);
    json_decref(patched);
    json_decref(pointers);
    json_decref(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare_accepts_same_answer_with_usual_headers),
        cmocka_unit_test(test_compare_reports_status_body_and_headers_separately),
        cmocka_unit_test(test_compare_rejects_a_header_that_was_not_recorded),
        cmocka_unit_test(test_compare_rejects_a_body_where_none_was_recorded),
        cmocka_unit_test(test_compare_star_stands_for_any_value_but_not_for_none),
        cmocka_unit_test(test_compare_array_order_counts_unless_listed_as_unordered),
        cmocka_unit_test(test_compare_member_order_counts),
        cmocka_unit_test(test_compare_numbers_of_different_kind_differ),
        cmocka_unit_test(test_compare_several_answers_counts_them),
        cmocka_unit_test(test_compare_patched_replaces_only_what_it_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
