/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/log.c, on real files and FIFOs in a directory of each test's own. */
#include "tests/support/files.h"
#include "tests/support/text.h"
#include "tests/unit/unit.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#define LINES_PER_WINDOW 10
#define WINDOW_NS        (5 * NSEC_PER_SEC)

struct fixture {
    char *dir, *path;
    struct text text;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct log_options options = {.level = LOG_INFO};

    f->dir = files_make_temporary("log");
    f->path = text_format("%s/log", f->dir);
    log_set_options(&options);
    log_set_id("anonymous-instance");
    log_set_thread("main");
    *state = f;
    return log_set_path(f->path, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (log_set_path(NULL, NULL))
        return -1;
    files_remove_tree(f->dir);
    text_free(&f->text);
    free(f->path);
    free(f->dir);
    free(f);
    return 0;
}

/* What the log file holds now. */
static const char *logged(struct fixture *f)
{
    text_clear(&f->text);
    assert_int_equal(text_read_file(&f->text, f->path), 0);
    return text_str(&f->text);
}

static void expect_match(const char *text, const char *pattern)
{
    regex_t regex;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&regex, text, 0, NULL, 0))
        fail_msg("'%s' does not match '%s'", text, pattern);
    regfree(&regex);
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;

    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* ---- the line ---- */

static void test_log_line_has_time_id_thread_and_message(void **state)
{
    log_set_id("vm-7");
    log_info("%d drives", 3);

    expect_match(logged(*state), "^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
                                 "\\.[0-9]{9} \\[vm-7:main\\] 3 drives\n$");
}

static void test_log_line_shows_level_and_origin_when_asked(void **state)
{
    const struct log_options options = {.level = LOG_INFO, .show_level = true, .show_origin = true};

    log_set_options(&options);
    log_warn("look");

    expect_match(logged(*state),
                 " \\[anonymous-instance:main:WARN:tests/unit/test_log\\.c:[0-9]+\\] look\n$");
}

static void test_log_line_shows_level_alone_when_asked(void **state)
{
    const struct log_options options = {.level = LOG_INFO, .show_level = true};

    log_set_options(&options);
    log_error("look");

    expect_match(logged(*state), " \\[anonymous-instance:main:ERROR\\] look\n$");
}

static void *name_and_log(void *arg)
{
    (void)arg;
    log_set_thread("fc_vcpu 3");
    log_info("from a vCPU");
    return NULL;
}

static void test_log_line_names_calling_thread(void **state)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, name_and_log, NULL), 0);
    pthread_join(thread, NULL);
    log_info("from the loop");

    expect_match(logged(*state), ":fc_vcpu 3\\] from a vCPU\n.*:main\\] from the loop\n$");
}

static void test_log_api_line_names_thread_that_clients_look_for(void **state)
{
    log_api(LOG_INFO, "The API server received a %s request.", "Get");

    expect_match(logged(*state), "\\[anonymous-instance:fc_api\\] The API server received");
}

static void test_log_endless_message_is_cut_to_one_line(void **state)
{
    char words[3 * PIPE_BUF];

    memset(words, 'w', sizeof(words) - 1);
    words[sizeof(words) - 1] = '\0';

    log_info("%s", words);
    log_info("next");

    expect_match(logged(*state), "w\n[^\n]*\\] next\n$");
    assert_int_equal(count_lines(logged(*state)), 2);
    assert_in_range(strchr(logged(*state), '\n') - logged(*state) + 1, PIPE_BUF - 2, PIPE_BUF);
}

static void test_log_message_with_control_characters_stays_one_line_of_text(void **state)
{
    log_info("a%sb", "\n2026-01-01T00:00:00.0 [x:main] forged\x1b[2J\r\t\x7f\xc3\xa9");

    expect_match(logged(*state), " a\\?2026[^\n]* forged\\?\\[2J\\?\\?\\?\xc3\xa9"
                                 "b\n$");
    assert_int_equal(count_lines(logged(*state)), 1);
}

static void test_log_long_id_is_cut(void **state)
{
    char id[200];

    memset(id, 'i', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    log_set_id(id);
    log_info("here");

    expect_match(logged(*state), "\\[i{64}:main\\] here\n$");
}

/* ---- what is shown ---- */

static void test_log_level_hides_everything_below_it(void **state)
{
    static const enum log_level levels[] = {LOG_OFF,  LOG_ERROR, LOG_WARN,
                                            LOG_INFO, LOG_DEBUG, LOG_TRACE};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        const struct log_options options = {.level = levels[i]};

        assert_int_equal(truncate(f->path, 0), 0);
        log_set_options(&options);
        log_api(LOG_ERROR, "e");
        log_api(LOG_WARN, "w");
        log_api(LOG_INFO, "i");
        log_api(LOG_DEBUG, "d");
        log_api(LOG_TRACE, "t");
        assert_int_equal(count_lines(logged(f)), levels[i]);
    }
}

static void test_log_module_shows_only_files_below_it(void **state)
{
    const struct log_options ours = {.level = LOG_INFO, .module = "tests/unit"};
    const struct log_options others = {.level = LOG_INFO, .module = "virtio"};

    log_set_options(&others);
    log_info("hidden");
    log_set_options(&ours);
    log_info("shown");
    log_write(NULL, LOG_INFO, NULL, "virtio/blk.c", 1, "hidden too");

    expect_match(logged(*state), "^[^\n]*\\] shown\n$");
}

static void test_log_module_string_is_copied(void **state)
{
    char module[] = "tests";
    const struct log_options options = {.level = LOG_INFO, .module = module};

    log_set_options(&options);
    memset(module, 'x', sizeof(module) - 1);
    log_info("shown");

    expect_match(logged(*state), "shown");
}

static void test_log_level_names_parse_in_any_case(void **state)
{
    static const struct {
        const char *name;
        enum log_level level;
    } cases[] = {{"Off", LOG_OFF},      {"Error", LOG_ERROR},  {"WARN", LOG_WARN},
                 {"warning", LOG_WARN}, {"Warning", LOG_WARN}, {"info", LOG_INFO},
                 {"dEbUg", LOG_DEBUG},  {"Trace", LOG_TRACE}};
    enum log_level level;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(log_level_parse(cases[i].name, &level), 0);
        assert_int_equal(level, cases[i].level);
    }
}

static void test_log_level_of_other_name_is_refused(void **state)
{
    static const char *const names[] = {"", "Information", "inf", "info ", "0"};
    enum log_level level = LOG_TRACE;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(log_level_parse(names[i], &level), -EINVAL);
    assert_int_equal(level, LOG_TRACE);
}

/* ---- the limit ---- */

static void repeat(struct log_site *site, unsigned times)
{
    while (times--)
        log_write(site, LOG_INFO, NULL, __FILE__, __LINE__, "again");
}

static void test_log_site_is_limited_to_ten_lines(void **state)
{
    struct log_site site = {0};
    uint64_t before = metrics.logger.rate_limited_log_count;

    repeat(&site, 50);

    assert_int_equal(count_lines(logged(*state)), LINES_PER_WINDOW);
    assert_int_equal(metrics.logger.rate_limited_log_count - before, 40);
}

static void test_log_site_sums_up_what_its_window_swallowed(void **state)
{
    struct log_site site = {0};

    repeat(&site, 17);
    site.window_start_ns -= WINDOW_NS; /* five seconds later */
    repeat(&site, 2);

    expect_match(logged(*state), "7 messages were suppressed here\n[^\n]*again\n[^\n]*again\n$");
    assert_int_equal(count_lines(logged(*state)), LINES_PER_WINDOW + 3);
}

static void test_log_site_that_was_quiet_sums_up_nothing(void **state)
{
    struct log_site site = {0};

    repeat(&site, LINES_PER_WINDOW);
    site.window_start_ns -= WINDOW_NS;
    repeat(&site, 1);

    assert_int_equal(count_lines(logged(*state)), LINES_PER_WINDOW + 1);
    assert_null(strstr(logged(*state), "suppressed"));
}

static void test_log_sites_have_budgets_of_their_own(void **state)
{
    struct log_site one = {0}, other = {0};

    repeat(&one, 30);
    repeat(&other, 30);

    assert_int_equal(count_lines(logged(*state)), 2 * LINES_PER_WINDOW);
}

static void test_log_hidden_lines_use_up_no_budget(void **state)
{
    const struct log_options quiet = {.level = LOG_ERROR}, loud = {.level = LOG_INFO};
    struct log_site site = {0};

    log_set_options(&quiet);
    repeat(&site, 30);
    log_set_options(&loud);
    repeat(&site, 1);

    assert_int_equal(count_lines(logged(*state)), 1);
}

static void test_log_api_lines_are_never_limited(void **state)
{
    for (int i = 0; i < 100; i++)
        log_api(LOG_INFO, "request %d", i);

    assert_int_equal(count_lines(logged(*state)), 100);
}

/* ---- where it goes ---- */

static void test_log_file_is_appended_to(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(files_write(f->path, "before\n", 7), 0);
    assert_int_equal(log_set_path(f->path, NULL), 0);
    log_info("after");

    expect_match(logged(f), "^before\n[^\n]*after\n$");
}

static void test_log_path_that_cannot_be_opened_leaves_log_where_it_was(void **state)
{
    struct fixture *f = *state;
    char *missing = text_format("%s/no/such/dir/log", f->dir);
    struct err e;

    assert_int_equal(log_set_path(missing, &e), -ENOENT);
    assert_string_equal(e.text, "No such file or directory (os error 2)");
    assert_int_equal(log_set_path(f->dir, &e), -EISDIR);
    log_info("still here");

    expect_match(logged(f), "still here\n$");
    free(missing);
}

/* Which of our descriptors is open on the file; -1 = none. */
static int descriptor_of(const char *path)
{
    struct stat wanted, st;

    assert_int_equal(stat(path, &wanted), 0);
    for (int fd = 3; fd < 64; fd++) {
        if (fstat(fd, &st) == 0 && st.st_ino == wanted.st_ino && st.st_dev == wanted.st_dev)
            return fd;
    }
    return -1;
}

static void test_log_path_that_is_forgotten_is_neither_written_to_nor_closed(void **state)
{
    struct fixture *f = *state;
    char *other = text_format("%s/other", f->dir);
    int fd = descriptor_of(f->path);

    assert_true(log_has_path());
    log_forget_path();
    assert_false(log_has_path());
    assert_int_equal(log_set_path(other, NULL), 0);
    assert_true(log_has_path());
    log_info("elsewhere");
    assert_string_equal(logged(f), "");
    assert_int_equal(descriptor_of(f->path), fd);
    close(fd);
    free(other);
}

static void test_log_into_fifo_reaches_its_reader(void **state)
{
    struct fixture *f = *state;
    char *fifo = text_format("%s/fifo", f->dir), line[256] = "";

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(log_set_path(fifo, NULL), 0); /* no reader yet, and no wait for one */
    log_info("early");
    int reader = open(fifo, O_RDONLY | O_NONBLOCK);
    assert_true(read(reader, line, sizeof(line) - 1) > 0);

    expect_match(line, "early\n$");
    close(reader);
    free(fifo);
}

/* Reads the FIFO empty and checks that only whole lines were in it; returns how many. */
static unsigned drain_whole_lines(int fd)
{
    struct text all = {0};
    char part[PIPE_BUF];
    ssize_t n;

    while ((n = read(fd, part, sizeof(part))) > 0)
        text_append(&all, part, (size_t)n);
    assert_int_equal(text_str(&all)[all.len - 1], '\n');
    unsigned lines = count_lines(text_str(&all));
    text_free(&all);
    return lines;
}

static void test_log_into_full_fifo_drops_whole_lines_and_counts_them(void **state)
{
    enum { LINES = 4000 };
    struct fixture *f = *state;
    char *fifo = text_format("%s/fifo", f->dir);
    uint64_t missed = metrics.logger.missed_log_count;

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(log_set_path(fifo, NULL), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK);
    for (int i = 0; i < LINES; i++)
        log_api(LOG_INFO, "a line of some length, to fill the pipe sooner than later");

    unsigned arrived = drain_whole_lines(reader);
    missed = metrics.logger.missed_log_count - missed;
    assert_true(missed > 0);
    assert_int_equal(arrived + missed, LINES);

    log_api(LOG_INFO, "room again");
    assert_int_equal(drain_whole_lines(reader), 1);
    close(reader);
    free(fifo);
}

/* Standard output may be a pipe that nobody reads, and is not ours to make non-blocking. */
static void test_log_to_full_standard_output_drops_instead_of_waiting(void **state)
{
    int saved = dup(STDOUT_FILENO), ends[2];
    uint64_t missed = metrics.logger.missed_log_count;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(dup2(ends[1], STDOUT_FILENO) >= 0);
    assert_int_equal(log_set_path(NULL, NULL), 0);
    for (int i = 0; i < 4000; i++)
        log_api(LOG_INFO, "a line of some length, to fill the pipe sooner than later");
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);

    assert_true(metrics.logger.missed_log_count > missed);
    close(ends[0]);
    close(ends[1]);
    close(saved);
}

/* One that edits lines keeps a writer waiting who has more than fits. */
static void test_log_to_terminal_that_nobody_reads_drops_instead_of_waiting(void **state)
{
    int saved = dup(STDOUT_FILENO), controller = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    uint64_t missed = metrics.logger.missed_log_count;
    int terminal;

    (void)state;
    if (controller < 0 || grantpt(controller) || unlockpt(controller))
        skip(); /* no terminals here */
    terminal = open(ptsname(controller), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(terminal >= 0);
    assert_true(dup2(terminal, STDOUT_FILENO) >= 0);
    assert_int_equal(log_set_path(NULL, NULL), 0);
    alarm(60);
    for (int i = 0; i < 4000; i++)
        log_api(LOG_INFO, "a line of some length, to fill the terminal sooner than later");
    alarm(0);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);

    assert_true(metrics.logger.missed_log_count > missed);
    close(terminal);
    close(controller);
    close(saved);
}

static void *log_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 500; i++)
        log_api(LOG_INFO, "0123456789");
    return NULL;
}

static void test_log_lines_of_two_threads_do_not_mix(void **state)
{
    pthread_t threads[2];
    char *at;

    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);

    assert_int_equal(count_lines(logged(*state)), 1000);
    at = ((struct fixture *)*state)->text.data;
    for (char *line; (line = strsep(&at, "\n")) && *line;)
        assert_string_equal(line + strlen(line) - 12, "] 0123456789");
}

#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_log_line_has_time_id_thread_and_message),
        LOG_TEST(test_log_line_shows_level_and_origin_when_asked),
        LOG_TEST(test_log_line_shows_level_alone_when_asked),
        LOG_TEST(test_log_line_names_calling_thread),
        LOG_TEST(test_log_api_line_names_thread_that_clients_look_for),
        LOG_TEST(test_log_endless_message_is_cut_to_one_line),
        LOG_TEST(test_log_message_with_control_characters_stays_one_line_of_text),
        LOG_TEST(test_log_long_id_is_cut),
        LOG_TEST(test_log_level_hides_everything_below_it),
        LOG_TEST(test_log_module_shows_only_files_below_it),
        LOG_TEST(test_log_module_string_is_copied),
        LOG_TEST(test_log_level_names_parse_in_any_case),
        LOG_TEST(test_log_level_of_other_name_is_refused),
        LOG_TEST(test_log_site_is_limited_to_ten_lines),
        LOG_TEST(test_log_site_sums_up_what_its_window_swallowed),
        LOG_TEST(test_log_site_that_was_quiet_sums_up_nothing),
        LOG_TEST(test_log_sites_have_budgets_of_their_own),
        LOG_TEST(test_log_hidden_lines_use_up_no_budget),
        LOG_TEST(test_log_api_lines_are_never_limited),
        LOG_TEST(test_log_file_is_appended_to),
        LOG_TEST(test_log_path_that_cannot_be_opened_leaves_log_where_it_was),
        LOG_TEST(test_log_path_that_is_forgotten_is_neither_written_to_nor_closed),
        LOG_TEST(test_log_into_fifo_reaches_its_reader),
        LOG_TEST(test_log_into_full_fifo_drops_whole_lines_and_counts_them),
        LOG_TEST(test_log_to_full_standard_output_drops_instead_of_waiting),
        LOG_TEST(test_log_to_terminal_that_nobody_reads_drops_instead_of_waiting),
        LOG_TEST(test_log_lines_of_two_threads_do_not_mix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
