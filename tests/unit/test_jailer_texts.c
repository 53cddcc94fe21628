/* SPDX-License-Identifier: Apache-2.0 */
/* test_jailer_texts.c: what the jailer reads in /proc, and the arguments it gives. */
#include "tests/unit/unit.h"
#include "vmm/jailer/cgroup_text.h"
#include "vmm/jailer/launch.h"
#include "vmm/jailer/tree.h"

#include <stdlib.h>
#include <string.h>

static const char mounts[] = "proc /proc proc rw,relatime 0 0\n"
                             "tmpfs /sys/fs/cgroup tmpfs rw,cpuset 0 0\n"
                             "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
                             "cgroup /sys/fs/cgroup/named cgroup rw,name=pids 0 0\n"
                             "x /a\\040b\\134c/pids cgroup rw,pids 0 0\n"
                             "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n"
                             "cgroup2 /second cgroup2 rw 0 0\n";

static void assert_mount(unsigned version, const char *controller, const char *expected)
{
    char dir[64] = "";

    assert_true(cgroup_text_find_mount(mounts, version, controller, dir, sizeof(dir)));
    assert_string_equal(dir, expected);
}

static void test_cgroup_text_find_mount_goes_by_whole_controller_names(void **state)
{
    char dir[64];

    (void)state;
    assert_mount(1, "cpu", "/sys/fs/cgroup/cpu,cpuacct");
    assert_mount(1, "cpuacct", "/sys/fs/cgroup/cpu,cpuacct");
    assert_false(cgroup_text_find_mount(mounts, 1, "cpuset", dir, sizeof(dir))); /* a tmpfs */
    assert_false(cgroup_text_find_mount(mounts, 1, "acct", dir, sizeof(dir)));
    assert_false(cgroup_text_find_mount(mounts, 1, "", dir, sizeof(dir)));
}

static void test_cgroup_text_find_mount_reads_escaped_blanks(void **state)
{
    (void)state;
    assert_mount(1, "pids", "/a b\\c/pids");
}

static void test_cgroup_text_find_mount_takes_the_first_of_version_2(void **state)
{
    (void)state;
    assert_mount(2, "whatever", "/sys/fs/cgroup/unified");
}

static void test_cgroup_text_find_mount_refuses_what_does_not_fit(void **state)
{
    char dir[8];

    (void)state;
    assert_true(cgroup_text_find_mount("a /123456 cgroup2 rw 0 0", 2, "", dir, sizeof(dir)));
    assert_false(cgroup_text_find_mount("a /1234567 cgroup2 rw 0 0", 2, "", dir, sizeof(dir)));
}

static void test_cgroup_text_find_mount_survives_cut_lines(void **state)
{
    const char *cut[] = {"", "\n\n", "a", "a ", "a /b", "a /b cgroup", "a /b cgroup ", " "};
    char dir[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cut); i++)
        assert_false(cgroup_text_find_mount(cut[i], 1, "cpu", dir, sizeof(dir)));
}

static void assert_own(unsigned version, const char *controller, const char *expected)
{
    static const char own[] = "5:pids:/\n4:cpu,cpuacct:/a/b:c\n1:name=systemd:/s\n0::/user.slice\n";
    char path[32] = "before";

    cgroup_text_find_own(own, version, controller, path, sizeof(path));
    assert_string_equal(path, expected);
}

static void test_cgroup_text_find_own_reads_both_versions(void **state)
{
    char path[4] = "x";

    (void)state;
    assert_own(1, "cpuacct", "a/b:c");
    assert_own(1, "pids", "");
    assert_own(1, "memory", "");
    assert_own(2, "", "user.slice");
    cgroup_text_find_own("0::/abcd", 2, "", path, sizeof(path));
    assert_string_equal(path, "");
    cgroup_text_find_own("0:", 2, "", path, sizeof(path));
    assert_string_equal(path, "");
}

static void test_cgroup_text_has_word_knows_whole_words_only(void **state)
{
    (void)state;
    assert_true(cgroup_text_has_word("cpu io memory\n", ' ', "cpu"));
    assert_true(cgroup_text_has_word("cpu io memory\n", ' ', "memory"));
    assert_false(cgroup_text_has_word("cpuset io\n", ' ', "cpu"));
    assert_false(cgroup_text_has_word("cpuset io\ncpu", ' ', "cpu"));
    assert_false(cgroup_text_has_word("", ' ', "cpu"));
    assert_false(cgroup_text_has_word("\n", ' ', "cpu"));
}

static void test_tree_find_misc_minor_reads_aligned_numbers(void **state)
{
    static const char misc[] = "257 userfaultfd2\n 58 userfaultfd\n200 tun\n";

    (void)state;
    assert_int_equal(tree_find_misc_minor(misc, "userfaultfd"), 58);
    assert_int_equal(tree_find_misc_minor(misc, "tun"), 200);
    assert_int_equal(tree_find_misc_minor(misc, "kvm"), -1);
    assert_int_equal(tree_find_misc_minor("232 kvm", "kvm"), 232);
    assert_int_equal(tree_find_misc_minor("", "kvm"), -1);
    assert_int_equal(tree_find_misc_minor("kvm\n\n232", "kvm"), -1);
}

static void test_launch_make_arguments_puts_its_own_first_and_ends_the_list(void **state)
{
    char *more[] = {(char[]){"--api-sock"}, (char[]){"/s"}, NULL};
    struct jailer_options o = {.id = "a", .monitor_args = more};
    struct launch_numbers numbers = {"1", "22", "333"};
    const char *expected[] = {"/fc", "--id",
                              "a",   "--start-time-us",
                              "1",   "--start-time-cpu-us",
                              "22",  "--parent-cpu-time-us",
                              "333", "--api-sock",
                              "/s"};
    char **list = launch_make_arguments("/fc", &o, &numbers);

    (void)state;
    assert_non_null(list);
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
        assert_string_equal(list[i], expected[i]);
    assert_null(list[ARRAY_SIZE(expected)]);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cgroup_text_find_mount_goes_by_whole_controller_names),
        cmocka_unit_test(test_cgroup_text_find_mount_reads_escaped_blanks),
        cmocka_unit_test(test_cgroup_text_find_mount_takes_the_first_of_version_2),
        cmocka_unit_test(test_cgroup_text_find_mount_refuses_what_does_not_fit),
        cmocka_unit_test(test_cgroup_text_find_mount_survives_cut_lines),
        cmocka_unit_test(test_cgroup_text_find_own_reads_both_versions),
        cmocka_unit_test(test_cgroup_text_has_word_knows_whole_words_only),
        cmocka_unit_test(test_tree_find_misc_minor_reads_aligned_numbers),
        cmocka_unit_test(test_launch_make_arguments_puts_its_own_first_and_ends_the_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
