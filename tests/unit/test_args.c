/* SPDX-License-Identifier: Apache-2.0 */
/* test_args.c: the command line: what is accepted, what is refused and in which words. */
#include "tests/unit/unit.h"
#include "vmm/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parses the words of `line`, which are separated by single spaces. */
static int parse(struct args *args, const char *line, struct err *e)
{
    static char copy[512];
    char *argv[32] = {(char[]){"mayfly"}}, *at = copy;
    int argc = 1;

    snprintf(copy, sizeof(copy), "%s", line);
    while (*line && at)
        argv[argc++] = strsep(&at, " ");
    return args_parse(args, argc, argv, e);
}

static void assert_refused(const char *line, const char *last_line)
{
    struct args args;
    struct err e;
    const char *last;

    assert_int_equal(parse(&args, line, &e), -22);
    last = strrchr(e.text, '\n');
    assert_string_equal(last ? last + 1 : e.text, last_line);
}

static void test_args_have_defaults(void **state)
{
    struct args args;
    struct err e;

    (void)state;
    assert_int_equal(parse(&args, "", &e), 0);
    assert_int_equal(args.action, ARGS_RUN);
    assert_string_equal(args.api_sock, "/run/firecracker.socket");
    assert_string_equal(args.id, "anonymous-instance");
    assert_null(args.config_file);
    assert_true(args.payload_limit == SIZE_MAX && args.mmds_limit == SIZE_MAX);
    assert_false(args.no_api || args.boot_timer || args.no_seccomp);
}

static void test_args_take_every_option(void **state)
{
    struct args args;
    struct err e;

    (void)state;
    assert_int_equal(parse(&args,
                           "--api-sock /run//s --id a-1 --config-file c --no-api --metadata m "
                           "--log-path l --level Info --module vmm --show-level --show-log-origin "
                           "--metrics-path p --boot-timer --http-api-max-payload-size 0 "
                           "--mmds-size-limit 77 --start-time-us 1 --start-time-cpu-us 2 "
                           "--parent-cpu-time-us 18446744073709551615 --no-seccomp",
                           &e),
                     0);
    assert_string_equal(args.api_sock, "/run//s");
    assert_string_equal(args.id, "a-1");
    assert_string_equal(args.config_file, "c");
    assert_string_equal(args.metadata, "m");
    assert_string_equal(args.log_path, "l");
    assert_string_equal(args.level, "Info");
    assert_string_equal(args.module, "vmm");
    assert_string_equal(args.metrics_path, "p");
    assert_true(args.no_api && args.show_level && args.show_log_origin && args.boot_timer &&
                args.no_seccomp);
    assert_int_equal(args.payload_limit, 0);
    assert_int_equal(args.mmds_limit, 77);
    assert_int_equal(args.start_time_us, 1);
    assert_int_equal(args.start_time_cpu_us, 2);
    assert_true(args.parent_cpu_time_us == UINT64_MAX);
}

static void test_args_refuse_in_the_words_that_clients_know(void **state)
{
    static const char *const cases[][2] = {
        {"--unknown", "Error: ParseArguments(UnexpectedArgument(\"unknown\"))"},
        {"--api-sock", "Error: ParseArguments(MissingValue(\"api-sock\"))"},
        {"--id a --id b", "Error: ParseArguments(DuplicateArgument(\"id\"))"},
        {"--boot-timer --boot-timer", "Error: ParseArguments(DuplicateArgument(\"boot-timer\"))"},
        {"--api-sock --id", "Error: ParseArguments(MissingValue(\"api-sock\"))"},
        {"positional", "Error: ParseArguments(UnexpectedArgument(\"positional\"))"},
        {"--no-api", "Error: ParseArguments(MissingArgument(\"config-file\"))"},
        {"--no-seccomp --seccomp-filter x",
         "Error: ParseArguments(ForbiddenArgument(\"no-seccomp\", \"seccomp-filter\"))"},
        {"--id=abc", "Error: ParseArguments(UnexpectedArgument(\"id=abc\"))"},
        {"--a\"\\b", "Error: ParseArguments(UnexpectedArgument(\"a\\\"\\\\b\"))"},
        {"-v", "Error: ParseArguments(UnexpectedArgument(\"-v\"))"},
        {"--http-api-max-payload-size 5k",
         "Error: --http-api-max-payload-size takes a whole number, not `5k`."},
        {"--mmds-size-limit -1", "Error: --mmds-size-limit takes a whole number, not `-1`."},
        {"--start-time-us 18446744073709551616",
         "Error: --start-time-us takes a whole number, not `18446744073709551616`."},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_refused(cases[i][0], cases[i][1]);
}

static void test_args_help_and_version_win_over_mistakes(void **state)
{
    static const struct {
        const char *line;
        enum args_action action;
    } cases[] = {
        {"--help", ARGS_SHOW_HELP},           {"-h", ARGS_SHOW_HELP},
        {"--version", ARGS_SHOW_VERSION},     {"--version --unknown", ARGS_SHOW_VERSION},
        {"--id --help", ARGS_SHOW_HELP},      {"--unknown -h", ARGS_SHOW_HELP},
        {"--version --help", ARGS_SHOW_HELP},
    };
    struct args args;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(parse(&args, cases[i].line, &e), 0);
        assert_int_equal(args.action, cases[i].action);
    }
}

static void test_args_end_at_a_bare_double_dash(void **state)
{
    struct args args;
    struct err e;

    (void)state;
    assert_int_equal(parse(&args, "--id a -- --unknown --help", &e), 0);
    assert_int_equal(args.action, ARGS_RUN);
    assert_string_equal(args.id, "a");
    assert_refused("--id --", "Error: ParseArguments(MissingValue(\"id\"))");
}

static void test_args_id_has_letters_digits_and_hyphens(void **state)
{
    static const char *const bad[] = {"a_b", "a.b", "a/b", "\xc3", "a\xe2\x82\xac", "\xc0\xaf"};
    struct args args;
    struct err e;
    char line[80];

    (void)state;
    assert_int_equal(parse(&args, "--id \xc3\xa9-\xe6\x97\xa5-9Z", &e), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(line, sizeof(line), "--id %s", bad[i]);
        assert_int_equal(parse(&args, line, &e), -22);
        assert_non_null(strstr(e.text, "letters, digits and hyphens"));
    }
}

static void test_args_id_is_1_to_64_bytes_long(void **state)
{
    char long_id[70] = "--id ";
    struct args args;
    struct err e;

    (void)state;
    memset(long_id + 5, 'a', 64);
    assert_int_equal(parse(&args, long_id, &e), 0);
    assert_int_equal(parse(&args, "--id ", &e), -22);
    assert_non_null(strstr(e.text, "not 0 bytes"));
    assert_int_equal(
        parse(&args, "--id 12345678901234567890123456789012345678901234567890123456789012345", &e),
        -22);
    assert_non_null(strstr(e.text, "not 65 bytes"));
}

static void test_args_help_lists_every_option(void **state)
{
    static const char *const options[] = {
        "--api-sock ",
        "--boot-timer",
        "--config-file ",
        "--describe-snapshot ",
        "--enable-pci",
        "--help",
        "--http-api-max-payload-size ",
        "--id ",
        "--level ",
        "--log-path ",
        "--metadata ",
        "--metrics-path ",
        "--mmds-size-limit ",
        "--module ",
        "--no-api",
        "--no-seccomp",
        "--parent-cpu-time-us ",
        "--seccomp-filter ",
        "--show-level",
        "--show-log-origin",
        "--snapshot-version",
        "--start-time-cpu-us ",
        "--start-time-us ",
        "--version",
    };
    char *help = args_help();

    (void)state;
    assert_non_null(help);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        assert_non_null(strstr(help, options[i]));
    free(help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args_have_defaults),
        cmocka_unit_test(test_args_take_every_option),
        cmocka_unit_test(test_args_refuse_in_the_words_that_clients_know),
        cmocka_unit_test(test_args_help_and_version_win_over_mistakes),
        cmocka_unit_test(test_args_end_at_a_bare_double_dash),
        cmocka_unit_test(test_args_id_has_letters_digits_and_hyphens),
        cmocka_unit_test(test_args_id_is_1_to_64_bytes_long),
        cmocka_unit_test(test_args_help_lists_every_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
