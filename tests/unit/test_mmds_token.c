/* SPDX-License-Identifier: Apache-2.0 */
/* test_mmds_token.c: tokens hold until they end, and for nobody else. */
#include "api/mmds_token.h"
#include "tests/unit/unit.h"

#include <string.h>

#define NOW (1000 * NSEC_PER_SEC)

static struct mmds_tokens *tokens_of(const char *id)
{
    struct mmds_tokens *tokens;
    struct err e;

    assert_int_equal(mmds_tokens_create(&tokens, id, &e), 0);
    return tokens;
}

static bool is_valid(const struct mmds_tokens *tokens, const char *text, uint64_t now)
{
    return mmds_token_is_valid(tokens, text, strlen(text), now);
}

static void test_mmds_token_holds_until_it_ends(void **state)
{
    struct mmds_tokens *tokens = tokens_of("vm");
    char first[MMDS_TOKEN_LEN + 1], second[MMDS_TOKEN_LEN + 1];

    (void)state;
    assert_int_equal(mmds_token_make(tokens, 1, NOW, first), 0);
    assert_int_equal(mmds_token_make(tokens, MMDS_TOKEN_TTL_MAX, NOW, second), 0);
    assert_int_equal(strlen(first), MMDS_TOKEN_LEN);
    assert_int_equal(strspn(first, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789+/"),
                     MMDS_TOKEN_LEN);
    assert_string_not_equal(first, second);
    assert_true(is_valid(tokens, first, NOW));
    assert_true(is_valid(tokens, first, NOW + NSEC_PER_SEC - 1));
    assert_false(is_valid(tokens, first, NOW + NSEC_PER_SEC));
    assert_true(is_valid(tokens, second, NOW + MMDS_TOKEN_TTL_MAX * NSEC_PER_SEC - 1));
    assert_false(is_valid(tokens, second, NOW + MMDS_TOKEN_TTL_MAX * NSEC_PER_SEC));
    mmds_tokens_destroy(tokens);
    mmds_tokens_destroy(NULL);
}

static void test_mmds_token_of_another_process_is_refused(void **state)
{
    struct mmds_tokens *tokens = tokens_of("vm"), *other = tokens_of("vm");
    char text[MMDS_TOKEN_LEN + 1];

    (void)state;
    assert_int_equal(mmds_token_make(tokens, 60, NOW, text), 0);
    assert_false(is_valid(other, text, NOW));
    mmds_tokens_destroy(tokens);
    mmds_tokens_destroy(other);
}

static void test_mmds_token_with_any_bit_changed_is_refused(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct mmds_tokens *tokens = tokens_of("vm");
    char text[MMDS_TOKEN_LEN + 1];

    (void)state;
    assert_int_equal(mmds_token_make(tokens, 60, NOW, text), 0);
    for (size_t i = 0; i < MMDS_TOKEN_LEN; i++) {
        char was = text[i];
        size_t digit = (size_t)(strchr(digits, was) - digits);

        for (int bit = 0; bit < 6; bit++) {
            text[i] = digits[digit ^ (1u << bit)];
            assert_false(is_valid(tokens, text, NOW));
        }
        text[i] = was;
    }
    assert_true(is_valid(tokens, text, NOW));
    mmds_tokens_destroy(tokens);
}

static void test_mmds_token_of_the_wrong_form_is_refused(void **state)
{
    struct mmds_tokens *tokens = tokens_of("vm");
    char text[200];

    (void)state;
    assert_int_equal(mmds_token_make(tokens, 60, NOW, text), 0);
    assert_false(mmds_token_is_valid(tokens, text, 0, NOW));
    assert_false(mmds_token_is_valid(tokens, text, MMDS_TOKEN_LEN - 1, NOW));
    strcpy(text + MMDS_TOKEN_LEN, "A===");
    assert_false(is_valid(tokens, text, NOW));
    for (const char *odd = " =-_%\n\x80"; *odd; odd++) {
        text[MMDS_TOKEN_LEN] = '\0';
        text[7] = *odd;
        assert_false(is_valid(tokens, text, NOW));
    }
    memset(text, 'A', 71);
    text[71] = '\0';
    assert_false(is_valid(tokens, text, NOW));
    mmds_tokens_destroy(tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmds_token_holds_until_it_ends),
        cmocka_unit_test(test_mmds_token_of_another_process_is_refused),
        cmocka_unit_test(test_mmds_token_with_any_bit_changed_is_refused),
        cmocka_unit_test(test_mmds_token_of_the_wrong_form_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
