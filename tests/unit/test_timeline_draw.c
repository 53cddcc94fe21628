/* SPDX-License-Identifier: Apache-2.0 */
/* test_timeline_draw.c: a timeline read, and drawn twice. */
#include "api/timeline_draw.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse(const char *text, struct timeline_points *points, struct err *e)
{
    return timeline_parse(text, strlen(text), points, e);
}

static void test_timeline_stages_come_in_the_order_of_their_times(void **state)
{
    struct timeline_points points;
    struct err e;

    (void)state;
    assert_int_equal(
        parse("{\"stages\":[{\"name\":\"vm\",\"us\":900},{\"name\":\"exec\",\"us\":0}]}", &points,
              &e),
        0);
    assert_int_equal(points.count, 2);
    assert_string_equal(points.points[0].name, "exec");
    assert_string_equal(points.points[1].name, "vm");
    assert_int_equal(points.points[1].us, 900);
}

static void test_timeline_parse_refuses_what_is_none(void **state)
{
    static const char *const cases[] = {
        "",
        "{}",
        "[]",
        "{\"stages\":1}",
        "{\"stages\":[1]}",
        "{\"stages\":[{\"name\":\"a\"}]}",
        "{\"stages\":[{\"name\":1,\"us\":1}]}",
        "{\"stages\":[{\"name\":\"a\",\"us\":-1}]}",
        "{\"stages\":[{\"name\":\"a\",\"us\":1.5}]}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct timeline_points points;
        struct err e;

        assert_int_equal(parse(cases[i], &points, &e), -EPROTO);
        assert_memory_equal(e.text, "The answer is no timeline", 25);
    }
}

static void test_timeline_parse_refuses_more_stages_than_it_draws(void **state)
{
    struct timeline_points points;
    char text[8192] = "{\"stages\":[";
    struct err e;

    (void)state;
    for (int i = 0; i <= TIMELINE_STAGES_MAX; i++)
        sprintf(text + strlen(text), "%s{\"name\":\"s\",\"us\":%d}", i ? "," : "", i);
    strcat(text, "]}");
    assert_int_equal(parse(text, &points, &e), -EPROTO);
    assert_string_equal(e.text, "The answer is no timeline: see its stage 64");
}

static void test_timeline_text_scales_bars_to_the_width(void **state)
{
    static const struct timeline_points points = {
        .count = 4,
        .points = {{"exec", 0}, {"vm", 500}, {"tiny", 501}, {"pid 1", 2000}},
    };
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    timeline_draw_text(out, &points, 5 + 26 + 20);
    fclose(out);
    assert_string_equal(text, "stage       at ms     took ms\n"
                              "exec        0.000\n"
                              "vm          0.500       0.500  #####\n"
                              "tiny        0.501       0.001       |\n"
                              "pid 1       2.000       1.499       ###############\n");
    free(text);
}

static void test_timeline_of_no_length_draws(void **state)
{
    static const struct timeline_points points = {.count = 2, .points = {{"exec", 0}, {"vm", 0}}};
    static const struct timeline_points none = {.count = 0};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    timeline_draw_text(out, &points, 0);
    timeline_draw_text(out, &none, 80);
    timeline_draw_svg(out, &none);
    fclose(out);
    assert_non_null(strstr(text, "vm          0.000       0.000  |\n"));
    free(text);
}

static void test_timeline_svg_has_a_row_for_each_stage_and_escapes_names(void **state)
{
    static const struct timeline_points points = {
        .count = 3,
        .points = {{"exec", 0}, {"<a&b>", 1500}, {"pid 1", 33123}},
    };
    char *text = NULL;
    size_t len, rows = 0;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    timeline_draw_svg(out, &points);
    fclose(out);
    for (const char *p = text; (p = strstr(p, " rx=\"2\"")); p++)
        rows++;
    assert_int_equal(rows, 3);
    assert_non_null(strstr(text, "Boot timeline: 33.123 ms from exec"));
    assert_non_null(strstr(text, ">&#60;a&#38;b&#62;</text>"));
    assert_non_null(strstr(text, ">31.623 ms</text>"));
    assert_string_equal(text + len - 7, "</svg>\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeline_stages_come_in_the_order_of_their_times),
        cmocka_unit_test(test_timeline_parse_refuses_what_is_none),
        cmocka_unit_test(test_timeline_parse_refuses_more_stages_than_it_draws),
        cmocka_unit_test(test_timeline_text_scales_bars_to_the_width),
        cmocka_unit_test(test_timeline_of_no_length_draws),
        cmocka_unit_test(test_timeline_svg_has_a_row_for_each_stage_and_escapes_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
