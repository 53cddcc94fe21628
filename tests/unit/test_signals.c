/* SPDX-License-Identifier: Apache-2.0 */
/* test_signals.c: how a process ends by each signal, what it does before, what it says. */
#include "tests/unit/unit.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"
#include "vmm/legacy/console.h"
#include "vmm/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
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

/* In a process group of its own: takes the terminal, makes it raw, gives it up, dies. */
static _Noreturn void die_in_background(int terminal, pid_t leader)
{
    struct err e;

    setpgid(0, 0);
    signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(terminal, getpgrp());
    console_enter_raw(terminal);
    tcsetpgrp(terminal, leader);
    signal(SIGTTOU, SIG_DFL);
    if (signals_install(flush, &e))
        _exit(99);
    raise(SIGTERM);
    _exit(98);
}

/* A session's leader, as a shell is; ends with 0 if its job did as it should. */
static _Noreturn void lead(const char *name)
{
    struct termios mode;
    int status = 0, terminal;
    pid_t leader = setsid(), job;

    terminal = open(name, O_RDWR); /* becomes the session's */
    pipe_end = terminal;
    job = fork();
    if (job == 0)
        die_in_background(terminal, leader);
    waitpid(job, &status, WUNTRACED);
    kill(job, SIGKILL);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM)
        _exit(1);
    _exit(tcgetattr(terminal, &mode) == 0 && (mode.c_lflag & ICANON) ? 0 : 2);
}

static void test_signals_term_in_background_restores_terminal_and_kills(void **state)
{
    int controller = posix_openpt(O_RDWR | O_NOCTTY), status;
    pid_t pid;

    (void)state;
    if (controller < 0 || grantpt(controller) || unlockpt(controller))
        skip(); /* no terminals here */
    pid = fork();
    if (pid == 0)
        lead(ptsname(controller));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(controller);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_that_stop_kill_after_a_flush),
        cmocka_unit_test(test_signals_of_failure_have_exit_codes_and_a_line),
        cmocka_unit_test(test_signals_pipe_is_only_counted),
        cmocka_unit_test(test_signals_term_stays_ignored_where_it_was),
        cmocka_unit_test(test_signals_term_in_background_restores_terminal_and_kills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
