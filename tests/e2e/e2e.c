/* SPDX-License-Identifier: Apache-2.0 */
/* e2e: runs the end-to-end tests, each in processes of its own, and prints what came of them. */
#include "tests/e2e/e2e.h"

#include "tests/e2e/keeper.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/wait.h>

enum {
    TESTS_MAX = 512,
    JOBS_MAX = 16,
    NAMES_MAX = 32,
    LIMIT_MS = 60000,
    SLOW_LIMIT_MS = 240000,
    SOAK_SECONDS = 300,
    LAST_WORDS_MS = 5000
};

/* How a test's process tells its outcome; anything else is a crash. */
enum { CODE_PASSED = 0, CODE_FAILED = 1, CODE_SKIPPED = 77 };

struct e2e_options e2e = {.patience = 1, .soak_seconds = SOAK_SECONDS};
const char *e2e_dir;

static struct test tests[TESTS_MAX];
static unsigned n_tests;
static void (*tell_more)(void);

static const struct {
    const char *word;
    unsigned label;
} labels[] = {{"tiny", TINY},   {"linux", LINUX},         {"debian", DEBIAN},
              {"intel", INTEL}, {"sanitizer", SANITIZER}, {"slow", SLOW},
              {"host", HOST},   {"jail", JAIL},           {"soak", SOAK}};
enum { N_LABELS = sizeof(labels) / sizeof(*labels) };

static const char usage[] =
    "Usage: e2e --monitor PATH [options] [NAME...]\n"
    "Runs the end-to-end tests whose names contain one of NAME (all when none is given).\n\n"
    "  --monitor PATH   the program under test\n"
    "  --jailer PATH    the jailer (mayfly-jailer beside the monitor)\n"
    "  --guest DIR      where the guest images are ($MAYFLY_GUESTS)\n"
    "  --label L        only tests with this label; repeatable, one of them suffices:\n"
    "                   host tiny linux debian intel sanitizer slow jail soak\n"
    "  --not L          no tests with this label (repeatable)\n"
    "  --patience N     multiply all time limits\n"
    "  --soak SECONDS   how long a soak takes (300)\n"
    "  --strict         fail where a guest image is missing, instead of skipping\n"
    "  --list           print the names and labels and stop\n"
    "  -j N             this many tests at a time (1)\n"
    "  --help           this text\n";

struct selection {
    const char *names[NAMES_MAX];
    unsigned n_names;
    unsigned labels, not_labels;
    unsigned jobs;
    bool list;
};

struct job {
    const struct test *test;
    unsigned number;
    pid_t pid; /* of its keeper */
    int output;
    char *dir;
    int64_t started, deadline;
    bool told, done; /* that its time is up; it has ended */
    struct text text;
};

struct tally {
    unsigned passed, failed, skipped;
};

void e2e_register(const struct test *test)
{
    if (n_tests < TESTS_MAX)
        tests[n_tests++] = *test;
}

/* ---- what tests call ---------------------------------------------------------------------- */

void e2e_on_failure(void (*tell)(void))
{
    tell_more = tell;
}

void e2e_fail(const char *file, int line, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    printf("%s:%d: ", file, line);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    if (tell_more)
        tell_more();
    fflush(stdout);
    _exit(CODE_FAILED);
}

void e2e_skip(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    fflush(stdout);
    _exit(CODE_SKIPPED);
}

void e2e_check_has(const char *file, int line, const char *what, const char *text, const char *part)
{
    if (!strstr(text, part))
        e2e_fail(file, line, "%s does not contain \"%s\" but is:\n%s", what, part, text);
}

int e2e_ms(int ms)
{
    return ms * (int)e2e.patience;
}

const char *e2e_path(const char *name)
{
    return text_format("%s/%s", e2e_dir, name);
}

const char *e2e_guest(const char *name)
{
    const char *path = text_format("%s/%s", e2e.guests ? e2e.guests : "/nonexistent", name);
    if (access(path, R_OK) == 0)
        return path;
    if (e2e.strict)
        FAIL("there is no %s in the guest directory", name);
    e2e_skip("there is no %s in the guest directory", name);
}

uint64_t e2e_random(uint64_t *state)
{
    /* splitmix64: small, and good enough for test data. */
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* ---- one test in its process --------------------------------------------------------------- */

/* Whether this machine's KVM runs ordinary kernels: it has hardware virtualisation under it. */
static bool runs_linux(void)
{
    struct text info = {0};
    text_read_file(&info, "/proc/cpuinfo");
    bool good = text_contains(&info, " vmx") || text_contains(&info, " svm");
    text_free(&info);
    return good;
}

/*
 * The time limit of a test is told by SIGTERM, so that it can still show its consoles. Nothing here
 * is safe in a signal handler, but the test is lost anyway, and SIGKILL follows.
 */
static void out_of_time(int number)
{
    (void)number;
    e2e_fail(__FILE__, __LINE__, "not done within its time limit");
}

static void check_needs(const struct test *test)
{
    if ((test->labels & (TINY | LINUX)) && access("/dev/kvm", R_OK | W_OK) < 0)
        e2e_skip("/dev/kvm cannot be opened here");
    if ((test->labels & LINUX) && !runs_linux())
        e2e_skip("the KVM here cannot run an ordinary kernel");
}

/* What a test's process begins with. */
struct beginning {
    const struct test *test;
    const char *dir;
    int output;
};

static void run_test(const void *arg)
{
    const struct beginning *begin = arg;
    const struct test *test = begin->test;
    setsid(); /* a terminal of our own to give to monitors */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGTERM, out_of_time);
    dup2(begin->output, 1);
    dup2(begin->output, 2);
    e2e_dir = begin->dir;
    check_needs(test);
    if (chdir(e2e_dir) < 0)
        FAIL("cannot enter %s: %s", e2e_dir, strerror(errno));
    test->run();
    fflush(stdout);
    _exit(CODE_PASSED);
}

static bool start_job(struct job *job, const struct test *test, unsigned number)
{
    int ends[2];
    char *dir = files_make_temporary("e2e");
    if (!dir || pipe2(ends, O_CLOEXEC) < 0)
        return false;
    fflush(stdout);
    const struct beginning begin = {.test = test, .dir = dir, .output = ends[1]};
    pid_t pid = keeper_start(&(struct kept){.run = run_test, .arg = &begin});
    close(ends[1]);
    int limit = test->labels & SOAK              ? (int)e2e.soak_seconds * 1000 + 2 * SLOW_LIMIT_MS
                : test->labels & (SLOW | DEBIAN) ? SLOW_LIMIT_MS
                                                 : LIMIT_MS;
    *job = (struct job){.test = test,
                        .number = number,
                        .pid = pid,
                        .output = ends[0],
                        .dir = dir,
                        .started = clock_ms(),
                        .deadline = clock_ms() + e2e_ms(limit)};
    return pid > 0;
}

/* ---- all of them ---------------------------------------------------------------------------- */

/* Prints text behind a mark that keeps it apart from the result lines. */
static void print_indented(const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        printf("    | %.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

static void print_result(const struct job *job, int status, struct tally *tally)
{
    double seconds = (double)(clock_ms() - job->started) / 1000;
    const char *text = text_str(&job->text);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == CODE_PASSED) {
        tally->passed++;
        printf("ok %u - %s (%.1f s)\n", job->number, job->test->name, seconds);
    } else if (code == CODE_SKIPPED) {
        tally->skipped++;
        printf("ok %u - %s # SKIP %s\n", job->number, job->test->name, text);
    } else {
        tally->failed++;
        printf("not ok %u - %s (%.1f s)\n", job->number, job->test->name, seconds);
        if (!job->done)
            printf("    | not done within its time limit, and beyond speech\n");
        else if (code < 0)
            printf("    | the test itself died: %s\n", strsignal(WTERMSIG(status)));
        print_indented(text);
    }
    fflush(stdout);
}

static void finish_job(struct job *job, struct tally *tally)
{
    int status = 0;
    if (!job->done)
        kill(job->pid, SIGHUP);
    waitpid(job->pid, &status, 0);
    close(job->output);
    print_result(job, status, tally);
    files_remove_tree(job->dir);
    free(job->dir);
    text_free(&job->text);
    *job = (struct job){0};
}

/* Reads a job's words; true when it has ended. */
static bool pump_job(struct job *job)
{
    char part[16384];
    struct pollfd ready = {.fd = job->output, .events = POLLIN};
    siginfo_t info = {0};
    while (poll(&ready, 1, 0) > 0) {
        ssize_t n = read(job->output, part, sizeof(part));
        if (n <= 0)
            return true;
        text_append(&job->text, part, (size_t)n);
    }
    /* Its keeper holds the pipe open as long as anything of it is left. */
    return waitid(P_PID, (id_t)job->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

/* Tells a job whose time is up; true when it did not react to that either. */
static bool is_beyond_help(struct job *job)
{
    if (clock_left(job->deadline))
        return false;
    if (job->told)
        return true;
    job->told = true;
    job->deadline = clock_ms() + e2e_ms(LAST_WORDS_MS);
    kill(job->pid, SIGTERM);
    return false;
}

static void wait_for_jobs(struct job *jobs, unsigned n, struct tally *tally)
{
    struct pollfd polls[JOBS_MAX];
    for (unsigned i = 0; i < n; i++)
        polls[i] = (struct pollfd){.fd = jobs[i].pid ? jobs[i].output : -1, .events = POLLIN};
    poll(polls, n, 100);
    for (unsigned i = 0; i < n; i++) {
        if (!jobs[i].pid)
            continue;
        jobs[i].done = pump_job(&jobs[i]);
        if (jobs[i].done || is_beyond_help(&jobs[i]))
            finish_job(&jobs[i], tally);
    }
}

static struct job *find_job(struct job *jobs, unsigned n, bool busy)
{
    for (unsigned i = 0; i < n; i++)
        if (!jobs[i].pid == !busy)
            return &jobs[i];
    return NULL;
}

static bool selected(const struct selection *s, const struct test *test)
{
    bool named = s->n_names == 0;
    for (unsigned i = 0; i < s->n_names; i++)
        named |= strstr(test->name, s->names[i]) != NULL;
    if ((test->labels & SOAK) && !(s->labels & SOAK) && s->n_names == 0)
        return false;
    return named && (!s->labels || (test->labels & s->labels)) && !(test->labels & s->not_labels);
}

static unsigned count_selected(const struct selection *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < n_tests; i++)
        n += selected(s, &tests[i]);
    return n;
}

static void run_all(const struct selection *s, struct tally *tally)
{
    struct job jobs[JOBS_MAX] = {0};
    unsigned number = 0;
    printf("1..%u\n", count_selected(s));
    for (unsigned i = 0; i < n_tests; i++) {
        struct job *slot;
        if (!selected(s, &tests[i]))
            continue;
        while (!(slot = find_job(jobs, s->jobs, false)))
            wait_for_jobs(jobs, s->jobs, tally);
        if (!start_job(slot, &tests[i], ++number)) {
            printf("not ok %u - %s\n    | cannot start: %s\n", number, tests[i].name,
                   strerror(errno));
            tally->failed++;
            *slot = (struct job){0};
        }
    }
    while (find_job(jobs, s->jobs, true))
        wait_for_jobs(jobs, s->jobs, tally);
}

/* ---- command line ---------------------------------------------------------------------------- */

static bool add_label(unsigned *set, const char *word)
{
    for (unsigned i = 0; i < N_LABELS; i++)
        if (!strcmp(labels[i].word, word)) {
            *set |= labels[i].label;
            return true;
        }
    fprintf(stderr, "e2e: there is no label %s\n", word);
    return false;
}

static const char *absolute(const char *path)
{
    const char *resolved = realpath(path, NULL);
    return resolved ? resolved : path;
}

static bool parse_option(struct selection *s, int c)
{
    switch (c) {
    case 'm':
        e2e.monitor = absolute(optarg);
        return true;
    case 'J':
        e2e.jailer = absolute(optarg);
        return true;
    case 'g':
        e2e.guests = absolute(optarg);
        return true;
    case 'l':
        return add_label(&s->labels, optarg);
    case 'n':
        return add_label(&s->not_labels, optarg);
    case 'p':
        e2e.patience = (unsigned)strtoul(optarg, NULL, 10);
        return e2e.patience >= 1 && e2e.patience <= 1000;
    case 'k':
        e2e.soak_seconds = (unsigned)strtoul(optarg, NULL, 10);
        return e2e.soak_seconds >= 10 && e2e.soak_seconds <= 86400;
    case 's':
        e2e.strict = true;
        return true;
    case 'L':
        s->list = true;
        return true;
    case 'j':
        s->jobs = (unsigned)strtoul(optarg, NULL, 10);
        return s->jobs >= 1 && s->jobs <= JOBS_MAX;
    case 'h':
        fputs(usage, stdout);
        exit(0);
    default:
        return false;
    }
}

static bool parse_options(struct selection *s, int argc, char **argv)
{
    static const struct option options[] = {{"monitor", required_argument, NULL, 'm'},
                                            {"jailer", required_argument, NULL, 'J'},
                                            {"guest", required_argument, NULL, 'g'},
                                            {"label", required_argument, NULL, 'l'},
                                            {"soak", required_argument, NULL, 'k'},
                                            {"not", required_argument, NULL, 'n'},
                                            {"patience", required_argument, NULL, 'p'},
                                            {"strict", no_argument, NULL, 's'},
                                            {"list", no_argument, NULL, 'L'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int c;
    e2e.guests = getenv("MAYFLY_GUESTS");
    while ((c = getopt_long(argc, argv, "j:", options, NULL)) != -1)
        if (!parse_option(s, c))
            return false;
    for (; optind < argc && s->n_names < NAMES_MAX; optind++)
        s->names[s->n_names++] = argv[optind];
    return optind == argc;
}

static int by_place(const void *a, const void *b)
{
    const struct test *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : x->line - y->line;
}

static void list_tests(const struct selection *s)
{
    for (unsigned i = 0; i < n_tests; i++) {
        if (!selected(s, &tests[i]))
            continue;
        printf("%s", tests[i].name);
        for (unsigned j = 0; j < N_LABELS; j++)
            if (tests[i].labels & labels[j].label)
                printf(" %s", labels[j].word);
        putchar('\n');
    }
}

int main(int argc, char **argv)
{
    struct selection s = {.jobs = 1};
    struct tally tally = {0};
    signal(SIGPIPE, SIG_IGN);
    qsort(tests, n_tests, sizeof(*tests), by_place);
    if (!parse_options(&s, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (s.list) {
        list_tests(&s);
        return 0;
    }
    if (!e2e.monitor || access(e2e.monitor, X_OK) < 0) {
        fprintf(stderr, "e2e: --monitor must name a program that can be run\n");
        return 2;
    }
    if (!e2e.jailer)
        e2e.jailer = text_format("%.*s/mayfly-jailer",
                                 (int)(strrchr(e2e.monitor, '/') - e2e.monitor), e2e.monitor);
    run_all(&s, &tally);
    printf("%u passed, %u failed, %u skipped\n", tally.passed, tally.failed, tally.skipped);
    return tally.failed || !count_selected(&s) ? 1 : 0;
}
