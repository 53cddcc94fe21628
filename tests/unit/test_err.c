/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/err.c. */
#include "tests/unit/unit.h"
#include "vmm/base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void test_err_set_records_code_and_sentence(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(err_set(&e, -ENOENT, "drive %s: no such %s", "a", "file"), -ENOENT);

    assert_int_equal(e.code, -ENOENT);
    assert_string_equal(e.text, "drive a: no such file");
}

static void test_err_set_without_err_returns_code(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, -EIO, "nobody wants %s", "words"), -EIO);
}

static void test_err_prefix_puts_context_first_and_keeps_code(void **state)
{
    struct err e;

    (void)state;
    (void)err_set(&e, -EBUSY, "it is in use");
    assert_int_equal(err_prefix(&e, "Drive %d: ", 3), -EBUSY);

    assert_int_equal(e.code, -EBUSY);
    assert_string_equal(e.text, "Drive 3: it is in use");
}

static void test_err_set_cuts_endless_sentence(void **state)
{
    struct err e;
    char *words = malloc(2 * sizeof(e.text));

    (void)state;
    assert_non_null(words);
    memset(words, 'x', 2 * sizeof(e.text));
    words[2 * sizeof(e.text) - 1] = '\0';

    (void)err_set(&e, -EINVAL, "%s", words);

    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    free(words);
}

/* The context stays whole and the end of the sentence goes: it was longest in the middle anyway. */
static void test_err_prefix_of_full_sentence_keeps_context(void **state)
{
    struct err e;

    (void)state;
    memset(e.text, 'x', sizeof(e.text) - 1);
    e.text[sizeof(e.text) - 1] = '\0';
    e.code = -EINVAL;

    (void)err_prefix(&e, "Kernel: ");

    assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
    assert_memory_equal(e.text, "Kernel: xxx", 11);
}

static void test_err_holds_longest_path_whole(void **state)
{
    struct err e;
    char path[PATH_MAX];

    (void)state;
    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';

    (void)err_set(&e, -ENOENT, "Cannot open the kernel %s: %s", path, err_os(-ENOENT));

    assert_non_null(strstr(e.text, "(os error 2)"));
}

static void test_err_os_words_errors_as_clients_know_them(void **state)
{
    (void)state;
    assert_string_equal(err_os(-ENOENT), "No such file or directory (os error 2)");
    assert_string_equal(err_os(-EACCES), "Permission denied (os error 13)");
    assert_string_equal(err_os(-EINVAL), "Invalid argument (os error 22)");
}

static void test_err_os_of_unknown_code_names_number(void **state)
{
    (void)state;
    assert_non_null(strstr(err_os(-4000), "(os error 4000)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_set_records_code_and_sentence),
        cmocka_unit_test(test_err_set_without_err_returns_code),
        cmocka_unit_test(test_err_prefix_puts_context_first_and_keeps_code),
        cmocka_unit_test(test_err_set_cuts_endless_sentence),
        cmocka_unit_test(test_err_prefix_of_full_sentence_keeps_context),
        cmocka_unit_test(test_err_holds_longest_path_whole),
        cmocka_unit_test(test_err_os_words_errors_as_clients_know_them),
        cmocka_unit_test(test_err_os_of_unknown_code_names_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
