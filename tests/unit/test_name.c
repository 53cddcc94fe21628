/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/name.c. */
#include "tests/unit/unit.h"
#include "vmm/name.h"

static void test_name_first_odd_gives_place_and_length(void **state)
{
    static const struct {
        const char *name;
        char also;
        ptrdiff_t at;
        size_t len;
    } cases[] = {
        {"abc9", '-', -1, 0},        {"a-b", '-', -1, 0}, {"a-b", '_', 1, 1},
        {"\xc3\xa9t", '-', -1, 0},   {"a b", '-', 1, 1},  {"ab\xe2\x82\xac", '-', 2, 3},
        {"\xc3\xa9\xff", '-', 2, 1}, /* a byte that is no UTF-8, behind a character of two */
        {"a\xc3", '-', 1, 1},        /* one that ends inside a character */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t len = 0;

        assert_int_equal(name_first_odd(cases[i].name, cases[i].also, &len), cases[i].at);
        assert_int_equal(len, cases[i].len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_first_odd_gives_place_and_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
