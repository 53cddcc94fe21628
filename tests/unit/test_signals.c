/* SPDX-License-Identifier: Apache-2.0 */
/* test_signals.c: how a process ends by each signal, what it does before, what it says. */
#include "tests/unit/unit.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"
#include "vmm/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

static int pipe_end;

static void flush(void)
{
    static const char flushed[] = "<flushed>";
    ssize_t n = write(pipe_end, flushed, sizeof(flushed) - 1);

    (void)n;
}

/* Raises `signal` in a process of its own, with the log going to the same pipe as its flush. */
static int die_by(int signal, char *said, size_t room)
{
    int end[2], status;
    size_t len = 0;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(end), 0);
    pid = fork();
    if (pid == 0) {
        struct err e;

        pipe_end = end[1];
        dup2(end[1], STDOUT_FILENO);
        if (signals_install(flush, &e))
            _exit(99);
        raise(signal);
        _exit(metrics.signals.sigpipe == 1 ? 42 : 43);
    }
    close(end[1]);
    while ((n = read(end[0], said + len, room - len - 1)) > 0)
        len += (size_t)n;
    said[len] = '\0';
    close(end[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_signals_that_stop_kill_after_a_flush(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGABRT};
    char said[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        int status = die_by(signals[i], said, sizeof(said));

        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
        assert_string_equal(said, "<flushed>");
    }
}

static void test_signals_of_failure_have_exit_codes_and_a_line(void **state)
{
    static const struct {
        int signal, code;
        const char *line;
    } cases[] = {
        {SIGSYS, 148, ":main] Shutting down VM after intercepting signal 31, code -6.\n"},
        {SIGBUS, 149, ":main] Shutting down VM after intercepting signal 7, code -6.\n"},
        {SIGSEGV, 150, ":main] Shutting down VM after intercepting signal 11, code -6.\n"},
        {SIGXFSZ, 151, ":main] Shutting down VM after intercepting signal 25, code -6.\n"},
        {SIGXCPU, 154, ":main] Shutting down VM after intercepting signal 24, code -6.\n"},
        {SIGHUP, 156, ":main] Shutting down VM after intercepting signal 1, code -6.\n"},
        {SIGILL, 157, ":main] Shutting down VM after intercepting signal 4, code -6.\n"},
    };
    char said[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int status = die_by(cases[i].signal, said, sizeof(said));

        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), cases[i].code);
        assert_non_null(strstr(said, cases[i].line));
        assert_non_null(strstr(said, "<flushed>"));
    }
}

static void test_signals_pipe_is_only_counted(void **state)
{
    char said[512];
    int status = die_by(SIGPIPE, said, sizeof(said));

    (void)state;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    assert_string_equal(said, "");
}

static void test_signals_term_stays_ignored_where_it_was(void **state)
{
    char said[512];
    int status;

    (void)state;
    signal(SIGTERM, SIG_IGN);
    status = die_by(SIGTERM, said, sizeof(said));
    signal(SIGTERM, SIG_DFL);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 43);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_that_stop_kill_after_a_flush),
        cmocka_unit_test(test_signals_of_failure_have_exit_codes_and_a_line),
        cmocka_unit_test(test_signals_pipe_is_only_counted),
        cmocka_unit_test(test_signals_term_stays_ignored_where_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
