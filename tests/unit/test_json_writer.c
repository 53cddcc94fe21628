/* SPDX-License-Identifier: Apache-2.0 */
/* test_json_writer.c: commas, escapes, growth, and what happens at the end of a fixed buffer. */
#include "api/json_writer.h"
#include "tests/unit/unit.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_sample(struct json_writer *w)
{
    json_write_begin(w, '{');
    json_write_key(w, "a");
    json_write_begin(w, '[');
    json_write_unsigned(w, 0);
    json_write_unsigned(w, UINT64_MAX);
    json_write_begin(w, '[');
    json_write_end(w, ']');
    json_write_begin(w, '{');
    json_write_end(w, '}');
    json_write_end(w, ']');
    json_write_key(w, "b");
    json_write_bool(w, true);
    json_write_key(w, "c");
    json_write_null(w);
    json_write_key(w, "d");
    json_write_string(w, NULL);
    json_write_key(w, "e");
    json_write_raw(w, "{\"x\":1}", 7);
    json_write_end(w, '}');
}

static const char sample[] = "{\"a\":[0,18446744073709551615,[],{}],\"b\":true,\"c\":null,"
                             "\"d\":null,\"e\":{\"x\":1}}";

static void test_json_writer_puts_commas_between_values_only(void **state)
{
    struct json_writer w;
    size_t len;
    char *text;

    (void)state;
    json_writer_open(&w);
    write_sample(&w);
    text = json_writer_finish(&w, &len);
    assert_string_equal(text, sample);
    assert_int_equal(len, strlen(sample));
    free(text);
}

static void test_json_writer_escapes_so_that_a_reader_gets_the_same(void **state)
{
    char every[256], *text;
    struct json_writer w;
    json_t *root;

    (void)state;
    for (int i = 1; i < 128; i++)
        every[i - 1] = (char)i;
    snprintf(every + 127, sizeof(every) - 127, "\xc3\xa9\xf0\x9f\x98\x80");
    json_writer_open(&w);
    json_write_begin(&w, '[');
    json_write_string(&w, every);
    json_write_end(&w, ']');
    text = json_writer_finish(&w, NULL);
    root = json_loads(text, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_array_get(root, 0)), every);
    json_decref(root);
    free(text);
}

static void test_json_writer_grows_to_any_length(void **state)
{
    struct json_writer w;
    size_t len;
    char *text;

    (void)state;
    json_writer_open(&w);
    json_write_begin(&w, '[');
    for (int i = 0; i < 10000; i++)
        json_write_unsigned(&w, 1234567);
    json_write_end(&w, ']');
    text = json_writer_finish(&w, &len);
    assert_int_equal(len, 10000 * 8 + 1);
    free(text);
}

static void test_json_writer_in_a_buffer_fits_exactly_or_fails(void **state)
{
    char buffer[sizeof(sample) + 1];
    struct json_writer w;

    (void)state;
    memset(buffer, '#', sizeof(buffer));
    json_writer_open_in(&w, buffer, sizeof(sample));
    write_sample(&w);
    assert_ptr_equal(json_writer_finish(&w, NULL), buffer);
    assert_string_equal(buffer, sample);

    for (size_t room = 1; room < sizeof(sample); room++) {
        memset(buffer, '#', sizeof(buffer));
        json_writer_open_in(&w, buffer, room);
        write_sample(&w);
        assert_null(json_writer_finish(&w, NULL));
        assert_int_equal(buffer[room], '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_writer_puts_commas_between_values_only),
        cmocka_unit_test(test_json_writer_escapes_so_that_a_reader_gets_the_same),
        cmocka_unit_test(test_json_writer_grows_to_any_length),
        cmocka_unit_test(test_json_writer_in_a_buffer_fits_exactly_or_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
