/* SPDX-License-Identifier: Apache-2.0 */
/* test_jailer_options.c: the jailer's command line: what is taken, what is refused, in which words.
 */
#include "tests/unit/unit.h"
#include "vmm/jailer/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define USUAL "--id a-1 --exec-file /bin/fc --uid 1000 --gid 1001"

/* Parses the words of `line`, which are separated by single spaces; `''` stands for an empty one.
 */
static int parse(struct jailer_options *o, const char *line, struct err *e)
{
    static char copy[8192];
    static char *argv[256];
    char *at = copy;
    int argc = 1;

    snprintf(copy, sizeof(copy), "%s", line);
    argv[0] = (char[]){"jailer"};
    while (*line && at) {
        argv[argc] = strsep(&at, " ");
        if (strcmp(argv[argc], "''") == 0)
            argv[argc][0] = '\0';
        argc++;
    }
    argv[argc] = NULL;
    return jailer_options_parse(o, argc, argv, e);
}

static void assert_refused(const char *line, const char *sentence)
{
    struct jailer_options o;
    struct err e = {0};

    assert_int_equal(parse(&o, line, &e), -EINVAL);
    assert_string_equal(e.text, sentence);
}

/* The usual options and these. */
static void assert_taken(struct jailer_options *o, const char *more)
{
    char line[4096];
    struct err e;

    snprintf(line, sizeof(line), USUAL " %s", more);
    if (parse(o, line, &e))
        fail_msg("%s: %s", more, e.text);
}

static void assert_more_refused(const char *more, const char *sentence)
{
    char line[4096];

    snprintf(line, sizeof(line), USUAL " %s", more);
    assert_refused(line, sentence);
}

static void test_jailer_options_have_defaults(void **state)
{
    struct jailer_options o;

    (void)state;
    assert_taken(&o, "--");
    assert_int_equal(o.action, JAILER_RUN);
    assert_string_equal(o.id, "a-1");
    assert_string_equal(o.exec_file, "/bin/fc");
    assert_int_equal(o.uid, 1000);
    assert_int_equal(o.gid, 1001);
    assert_string_equal(o.base_dir, "/srv/jailer");
    assert_int_equal(o.cgroup_version, 1);
    assert_int_equal(o.no_file, 2048);
    assert_false(o.has_fsize || o.daemonize || o.new_pid_ns || o.netns || o.parent_cgroup);
    assert_int_equal(o.n_cgroups, 0);
    assert_null(o.monitor_args[0]);
}

static void test_jailer_options_take_every_option(void **state)
{
    struct jailer_options o;

    (void)state;
    assert_taken(&o,
                 "--chroot-base-dir /b --netns /n --daemonize --new-pid-ns --cgroup cpu.shares=10 "
                 "--cgroup io.max=8:0=1 --cgroup-version 2 --parent-cgroup p/q --resource-limit "
                 "no-file=9 --resource-limit fsize=18446744073709551615");
    assert_string_equal(o.base_dir, "/b");
    assert_string_equal(o.netns, "/n");
    assert_true(o.daemonize && o.new_pid_ns && o.has_fsize);
    assert_int_equal(o.cgroup_version, 2);
    assert_string_equal(o.parent_cgroup, "p/q");
    assert_int_equal(o.n_cgroups, 2);
    assert_string_equal(o.cgroups[0].file, "cpu.shares");
    assert_string_equal(o.cgroups[0].controller, "cpu");
    assert_string_equal(o.cgroups[0].value, "10");
    assert_string_equal(o.cgroups[1].value, "8:0=1");
    assert_int_equal(o.no_file, 9);
    assert_true(o.fsize == UINT64_MAX);
}

static void test_jailer_options_leave_what_follows_the_dashes_to_the_monitor(void **state)
{
    struct jailer_options o;

    (void)state;
    assert_taken(&o, "-- --id b -- --uid x --help");
    assert_int_equal(o.action, JAILER_RUN);
    assert_string_equal(o.id, "a-1");
    assert_string_equal(o.monitor_args[0], "--id");
    assert_string_equal(o.monitor_args[2], "--");
    assert_string_equal(o.monitor_args[5], "--help");
    assert_null(o.monitor_args[6]);
    assert_taken(&o, "--daemonize");
    assert_null(o.monitor_args[0]);
}

static void test_jailer_options_show_help_and_version_in_spite_of_mistakes(void **state)
{
    struct jailer_options o;
    struct err e;

    (void)state;
    assert_int_equal(parse(&o, "--nonsense --version", &e), 0);
    assert_int_equal(o.action, JAILER_SHOW_VERSION);
    assert_int_equal(parse(&o, "--uid -h", &e), 0);
    assert_int_equal(o.action, JAILER_SHOW_HELP);
    assert_int_equal(parse(&o, "--version --help", &e), 0);
    assert_int_equal(o.action, JAILER_SHOW_HELP);
}

static void test_jailer_options_help_names_every_option(void **state)
{
    const char *names[] = {"--id ",      "--exec-file ", "--uid ",           "--gid ",
                           "--netns ",   "--daemonize ", "--cgroup ",        "--chroot-base-dir ",
                           "--version ", "--new-pid-ns", "--help",           "--cgroup-version ",
                           "no-file",    "fsize",        "--parent-cgroup ", "--resource-limit "};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_non_null(strstr(jailer_options_help(), names[i]));
}

static void test_jailer_options_refuse_wrong_words(void **state)
{
    (void)state;
    assert_refused("", "Failed to parse arguments: Argument 'id' required, but not found.");
    assert_refused("--id a --uid 1 --gid 1",
                   "Failed to parse arguments: Argument 'exec-file' required, but not found.");
    assert_refused("--id",
                   "Failed to parse arguments: The argument 'id' requires a value, but none "
                   "was supplied.");
    assert_refused("--id --uid 1", "Failed to parse arguments: The argument 'id' requires a value, "
                                   "but none was supplied.");
    assert_refused("--id a --id b",
                   "Failed to parse arguments: The argument 'id' was provided more than once.");
    assert_refused("--daemonize --daemonize", "Failed to parse arguments: The argument 'daemonize' "
                                              "was provided more than once.");
    assert_refused("--node 1", "Failed to parse arguments: Found argument 'node' which wasn't "
                               "expected, or isn't valid in this context.");
    assert_refused("--id=a", "Failed to parse arguments: Found argument 'id=a' which wasn't "
                             "expected, or isn't valid in this context.");
    assert_refused("a", "Failed to parse arguments: Found argument 'a' which wasn't expected, or "
                        "isn't valid in this context.");
}

static void test_jailer_options_refuse_bad_ids(void **state)
{
    char line[256];

    (void)state;
    assert_refused("--id ''", "Invalid instance ID: Invalid len (0);  the length must be between 1 "
                              "and 64");
    assert_refused("--id a_b", "Invalid instance ID: Invalid char (_) at position 1");
    assert_refused("--id a/b", "Invalid instance ID: Invalid char (/) at position 1");
    assert_refused("--id ..", "Invalid instance ID: Invalid char (.) at position 0");
    snprintf(line, sizeof(line), "--id %065d", 0);
    assert_refused(line,
                   "Invalid instance ID: Invalid len (65);  the length must be between 1 and 64");
}

static void test_jailer_options_refuse_users_that_are_none(void **state)
{
    const char *bad[] = {"-1", "x", "''", "4294967295", "4294967296", "1x", "+1", "0x10"};
    struct jailer_options o;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const char *shown = bad[i][0] == '\'' ? "" : bad[i];
        char line[64], sentence[64];

        snprintf(line, sizeof(line), "--uid %s", bad[i]);
        snprintf(sentence, sizeof(sentence), "Invalid uid: %s", shown);
        assert_refused(line, sentence);
        snprintf(line, sizeof(line), "--gid %s", bad[i]);
        snprintf(sentence, sizeof(sentence), "Invalid gid: %s", shown);
        assert_refused(line, sentence);
    }
    assert_int_equal(parse(&o, "--id a --exec-file b --uid 4294967294 --gid 0", &e), 0);
    assert_int_equal(o.uid, 4294967294);
}

static void test_jailer_options_refuse_cgroup_files_that_are_paths(void **state)
{
    (void)state;
    assert_more_refused("--cgroup cpu.shares", "Invalid format for cgroups: cpu.shares");
    assert_more_refused("--cgroup cpu.shares=", "Invalid format for cgroups: cpu.shares=");
    assert_more_refused("--cgroup ''", "Invalid format for cgroups: ");
    assert_more_refused("--cgroup shares=1", "Cgroup invalid file: shares");
    assert_more_refused("--cgroup .shares=1", "Cgroup invalid file: .shares");
    assert_more_refused("--cgroup cpu.=1", "Cgroup invalid file: cpu.");
    assert_more_refused("--cgroup cpu./../x=1", "Cgroup invalid file: cpu./../x");
    assert_more_refused("--cgroup ../a.b=1", "Cgroup invalid file: ../a.b");
}

static void test_jailer_options_take_as_many_cgroup_settings_as_there_is_room_for(void **state)
{
    char line[4096] = "";
    struct jailer_options o;

    (void)state;
    for (int i = 0; i < JAILER_CGROUP_SETTINGS_MAX; i++)
        strcat(line, "--cgroup cpu.shares=10 ");
    line[strlen(line) - 1] = '\0';
    assert_taken(&o, line);
    assert_int_equal(o.n_cgroups, JAILER_CGROUP_SETTINGS_MAX);
    strcat(line, " --cgroup cpu.shares=10");
    assert_more_refused(line, "Invalid format for cgroups: more than 64 of them");
}

static void test_jailer_options_refuse_parents_that_leave_the_hierarchy(void **state)
{
    const char *bad[] = {"/a", ".", "..", "a/..", "a/../b", "./a", "a/.", "a/./b"};
    const char *good[] = {"a", "a/b", "a..b", "...", ".a", "a/", "a//b", "''"};
    struct jailer_options o;
    char more[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(more, sizeof(more), "--parent-cgroup %s", bad[i]);
        assert_more_refused(more, "Parent cgroup path is invalid. Path should not be absolute or "
                                  "contain '..' or '.'");
    }
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        snprintf(more, sizeof(more), "--parent-cgroup %s", good[i]);
        assert_taken(&o, more);
    }
}

static void test_jailer_options_refuse_other_values(void **state)
{
    (void)state;
    assert_more_refused("--cgroup-version 0", "0 is an invalid cgroup version specifier");
    assert_more_refused("--cgroup-version 12", "12 is an invalid cgroup version specifier");
    assert_more_refused("--cgroup-version ''", " is an invalid cgroup version specifier");
    assert_more_refused("--resource-limit no-file", "Invalid format for resources limits: no-file");
    assert_more_refused("--resource-limit no-file=-1",
                        "Invalid limit value for resource: -1: not a whole number");
    assert_more_refused(
        "--resource-limit fsize=18446744073709551616",
        "Invalid limit value for resource: 18446744073709551616: not a whole number");
    assert_more_refused("--resource-limit as=1", "Invalid resource argument: as");
    assert_more_refused("--resource-limit =1", "Invalid resource argument: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jailer_options_have_defaults),
        cmocka_unit_test(test_jailer_options_take_every_option),
        cmocka_unit_test(test_jailer_options_leave_what_follows_the_dashes_to_the_monitor),
        cmocka_unit_test(test_jailer_options_show_help_and_version_in_spite_of_mistakes),
        cmocka_unit_test(test_jailer_options_help_names_every_option),
        cmocka_unit_test(test_jailer_options_refuse_wrong_words),
        cmocka_unit_test(test_jailer_options_refuse_bad_ids),
        cmocka_unit_test(test_jailer_options_refuse_users_that_are_none),
        cmocka_unit_test(test_jailer_options_refuse_cgroup_files_that_are_paths),
        cmocka_unit_test(test_jailer_options_take_as_many_cgroup_settings_as_there_is_room_for),
        cmocka_unit_test(test_jailer_options_refuse_parents_that_leave_the_hierarchy),
        cmocka_unit_test(test_jailer_options_refuse_other_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
