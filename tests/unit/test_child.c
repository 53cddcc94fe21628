/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/child.c, with a real loop and real processes. */
#include "tests/unit/unit.h"
#include "vmm/base/child.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

static struct loop *loop;

static int set_up(void **state)
{
    (void)state;
    log_set_options(&(struct log_options){.level = LOG_OFF});
    if (loop_create(&loop, NULL))
        exit(UNIT_SKIPPED); /* no io_uring here */
    loop_lock(loop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    loop_unlock(loop);
    loop_destroy(loop);
    return 0;
}

static bool is_heard(void *arg)
{
    return child_is_heard(arg);
}

/* Waits for the word; the child is still there. */
static int hear(struct child *child, struct err *e)
{
    loop_wait(loop, is_heard, child);
    return child_word(child, e);
}

/* Forks one that lives as `life` says, and ends with what that returns. */
static struct child *bear(int (*life)(struct child *self))
{
    struct child *child;
    struct err e;
    pid_t pid = child_fork(&child, loop, -1, &e);

    if (pid < 0)
        fail_msg("%s", e.text);
    if (pid == 0)
        _exit(life(child));
    return child;
}

/* Neither one that runs nor a zombie. */
static bool nobody_is_left(void *arg)
{
    siginfo_t info;

    (void)arg;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

static int say_well_and_wait(struct child *self)
{
    child_say(self, NULL);
    return child_wait(self) ? 0 : 1;
}

static void test_child_that_says_all_is_well_is_let_go_and_reaped(void **state)
{
    struct child *child = bear(say_well_and_wait);

    (void)state;
    assert_int_equal(hear(child, NULL), 0);
    child_let_go(child);
    loop_wait(loop, nobody_is_left, NULL);
}

static int fail_for_want_of_room(struct child *self)
{
    struct err why;

    err_set(&why, -ENOSPC, "there is no room for %s", "it");
    child_say(self, &why);
    return 1;
}

static void test_child_that_failed_says_why(void **state)
{
    struct child *child = bear(fail_for_want_of_room);
    struct err e;

    (void)state;
    assert_int_equal(hear(child, &e), -ENOSPC);
    assert_string_equal(e.text, "there is no room for it");
    child_dismiss(child);
    assert_true(nobody_is_left(NULL));
}

static int die(struct child *self)
{
    (void)self;
    return raise(SIGKILL);
}

static void test_child_that_dies_without_a_word_is_an_error(void **state)
{
    struct child *child = bear(die);
    struct err e;

    (void)state;
    assert_int_equal(hear(child, &e), -ECHILD);
    assert_non_null(strstr(e.text, "without a word"));
    child_dismiss(child);
    assert_true(nobody_is_left(NULL));
}

static int ends[2]; /* of a pipe */

static int tell_that_it_was_dismissed(struct child *self)
{
    child_say(self, NULL);
    return !child_wait(self) && write(ends[1], "t", 1) == 1 ? 0 : 1;
}

static void test_child_that_waits_and_is_dismissed_ends_itself(void **state)
{
    struct child *child;
    char how = 0;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    child = bear(tell_that_it_was_dismissed);
    assert_int_equal(hear(child, NULL), 0);
    child_dismiss(child);
    assert_int_equal(read(ends[0], &how, 1), 1);
    assert_int_equal(how, 't');
    close(ends[0]);
    close(ends[1]);
}

static int sleep_for_ever(struct child *self)
{
    (void)self;
    return pause();
}

static void test_child_that_says_nothing_and_is_dismissed_is_killed(void **state)
{
    (void)state;
    child_dismiss(bear(sleep_for_ever));
    assert_true(nobody_is_left(NULL));
}

static int kept, other;

static int close_other(struct child *self)
{
    const int keep[] = {kept, -1, STDERR_FILENO};
    bool right;

    child_close_others(self, keep, 3);
    right = fcntl(kept, F_GETFD) >= 0 && fcntl(other, F_GETFD) < 0 &&
            fcntl(STDERR_FILENO, F_GETFD) >= 0;
    child_say(self, right ? NULL : &(struct err){.code = -EBADF});
    return 0;
}

static void test_child_keeps_only_the_descriptors_that_it_names(void **state)
{
    struct child *child;

    (void)state;
    kept = open("/dev/null", O_RDONLY);
    other = fcntl(kept, F_DUPFD, 40);
    child = bear(close_other);
    close(kept);
    close(other);
    assert_int_equal(hear(child, NULL), 0); /* and the link was open */
    child_dismiss(child);
}

static int take_a_loop_of_its_own(struct child *self)
{
    struct loop *own;
    struct err e;

    loop_forget(loop);
    child_say(self, loop_create(&own, &e) ? &e : NULL);
    return 0;
}

static void test_child_that_forgets_its_parents_loop_leaves_it_working(void **state)
{
    struct child *child = bear(take_a_loop_of_its_own);

    (void)state;
    assert_int_equal(hear(child, NULL), 0); /* by the parent's ring, which the child let go of */
    child_dismiss(child);
}

static void test_child_into_what_is_no_cgroup_is_refused(void **state)
{
    int cgroup = open("/", O_RDONLY | O_DIRECTORY);
    struct child *child;
    struct err e;

    (void)state;
    assert_true(child_fork(&child, loop, cgroup, &e) < 0);
    assert_non_null(strstr(e.text, "cgroup"));
    close(cgroup);
}

static char *cgroup_root(void)
{
    static const char *const roots[] = {"/sys/fs/cgroup/cgroup.procs",
                                        "/sys/fs/cgroup/unified/cgroup.procs"};
    for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
        if (access(roots[i], W_OK) == 0)
            return strndup(roots[i], strlen(roots[i]) - strlen("/cgroup.procs"));
    }
    return NULL;
}

static bool is_in(const char *cgroup)
{
    char line[1024];
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "r");

    while (f && fgets(line, sizeof(line), f))
        found |= strncmp(line, "0::", 3) == 0 && strstr(line, cgroup);
    if (f)
        fclose(f);
    return found;
}

static void test_child_is_born_in_its_cgroup_and_can_abort_there(void **state)
{
    char *root = cgroup_root(), path[200], name[64];
    struct child *child;
    struct err e;
    int cgroup;
    pid_t pid;

    (void)state;
    snprintf(name, sizeof(name), "mayfly-test-%d", (int)getpid());
    snprintf(path, sizeof(path), "%s/%s", root ? root : "", name);
    if (!root || mkdir(path, 0755)) {
        free(root);
        skip();
    }
    cgroup = open(path, O_RDONLY | O_DIRECTORY);
    pid = child_fork(&child, loop, cgroup, &e);
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        child_say(child, is_in(name) ? NULL : &(struct err){.code = -ENOENT});
        (void)!child_wait(child);
        abort(); /* goes by the thread's id, which must be the child's own */
    }
    close(cgroup);
    assert_int_equal(hear(child, &e), 0);
    child_dismiss(child);
    assert_int_equal(rmdir(path), 0);
    free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_that_says_all_is_well_is_let_go_and_reaped),
        cmocka_unit_test(test_child_that_failed_says_why),
        cmocka_unit_test(test_child_that_dies_without_a_word_is_an_error),
        cmocka_unit_test(test_child_that_waits_and_is_dismissed_ends_itself),
        cmocka_unit_test(test_child_that_says_nothing_and_is_dismissed_is_killed),
        cmocka_unit_test(test_child_keeps_only_the_descriptors_that_it_names),
        cmocka_unit_test(test_child_that_forgets_its_parents_loop_leaves_it_working),
        cmocka_unit_test(test_child_into_what_is_no_cgroup_is_refused),
        cmocka_unit_test(test_child_is_born_in_its_cgroup_and_can_abort_there),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
