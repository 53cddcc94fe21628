/* SPDX-License-Identifier: Apache-2.0 */
/* test_jailer_undo.c: what was made is removed, newest first, and nothing else. */
#include "tests/support/files.h"
#include "tests/unit/unit.h"
#include "vmm/jailer/text_file.h"
#include "vmm/jailer/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

static char *dir;
static int dir_fd;

static int set_up(void **state)
{
    (void)state;
    dir = files_make_temporary("undo");
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(dir_fd);
    files_remove_tree(dir);
    free(dir);
    return 0;
}

static bool is_there(const char *path)
{
    return faccessat(dir_fd, path, F_OK, 0) == 0;
}

static void make_file(const char *path)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static void test_undo_all_removes_nested_things_newest_first(void **state)
{
    struct undo u = {NULL};

    (void)state;
    assert_int_equal(undo_make_directory(&u, UNDO_DIRECTORY, dir_fd, "a", 0700), 0);
    assert_int_equal(undo_make_directory(&u, UNDO_CGROUP, dir_fd, "a/b", 0700), 0);
    assert_int_equal(undo_push(&u, UNDO_FILE, dir_fd, "a/b/c"), 0);
    make_file("a/b/c");
    undo_all(&u);
    assert_false(is_there("a"));
    assert_null(u.last);
}

static void test_undo_all_leaves_what_was_there_before(void **state)
{
    struct undo u = {NULL};

    (void)state;
    assert_int_equal(mkdirat(dir_fd, "a", 0700), 0);
    assert_int_equal(undo_make_directory(&u, UNDO_DIRECTORY, dir_fd, "a", 0700), 0);
    undo_all(&u);
    assert_true(is_there("a"));
}

static void test_undo_all_leaves_a_directory_in_which_others_put_something(void **state)
{
    struct undo u = {NULL};

    (void)state;
    assert_int_equal(undo_make_directory(&u, UNDO_DIRECTORY, dir_fd, "a", 0700), 0);
    make_file("a/theirs");
    undo_all(&u);
    assert_true(is_there("a/theirs"));
}

static void test_undo_pop_forgets_the_newest_step_alone(void **state)
{
    struct undo u = {NULL};

    (void)state;
    make_file("a");
    make_file("b");
    assert_int_equal(undo_push(&u, UNDO_FILE, dir_fd, "a"), 0);
    assert_int_equal(undo_push(&u, UNDO_FILE, dir_fd, "b"), 0);
    undo_pop(&u);
    undo_all(&u);
    assert_false(is_there("a"));
    assert_true(is_there("b"));
}

static void test_undo_all_joins_a_cgroup_by_writing_0(void **state)
{
    struct undo u = {NULL};
    char *text;

    (void)state;
    make_file("cgroup.procs");
    assert_int_equal(undo_push(&u, UNDO_MEMBER, dir_fd, "cgroup.procs"), 0);
    undo_all(&u);
    text = text_file_read(dir_fd, "cgroup.procs");
    assert_string_equal(text, "0");
    free(text);
}

static void test_undo_make_directory_tells_why_not_and_remembers_nothing(void **state)
{
    struct undo u = {NULL};

    (void)state;
    assert_int_equal(undo_make_directory(&u, UNDO_DIRECTORY, dir_fd, "a/b", 0700), -ENOENT);
    assert_null(u.last);
}

static void test_text_file_read_reads_more_than_a_chunk(void **state)
{
    char big[10000], *text;

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    make_file("big");
    assert_int_equal(text_file_write(dir_fd, "big", big), 0);
    text = text_file_read(dir_fd, "big");
    assert_string_equal(text, big);
    free(text);
}

static void test_text_file_write_makes_no_file(void **state)
{
    (void)state;
    assert_int_equal(text_file_write(dir_fd, "none", "x"), -ENOENT);
    assert_false(is_there("none"));
    assert_null(text_file_read(dir_fd, "none"));
    assert_int_equal(errno, ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_undo_all_removes_nested_things_newest_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_undo_all_leaves_what_was_there_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_undo_all_leaves_a_directory_in_which_others_put_something, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_undo_pop_forgets_the_newest_step_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_undo_all_joins_a_cgroup_by_writing_0, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_undo_make_directory_tells_why_not_and_remembers_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text_file_read_reads_more_than_a_chunk, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_text_file_write_makes_no_file, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
