/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay: sends the recorded requests to a monitor and compares the answers. Each scenario runs in
 * a child process with a time limit, so that nothing it leaves behind outlives it.
 */
#include "tests/conformance/scenario.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/wait.h>

enum { SCENARIOS_MAX = 256, FILES_MAX = 32, JOBS_MAX = 16, SCENARIO_MS = 60000 };

static const char usage[] =
    "Usage: replay --monitor PATH [options] DIR\n"
    "Replays the recorded exchanges in DIR/*.json against a monitor.\n\n"
    "  --monitor PATH   the program under test\n"
    "  --only NAME      only scenarios whose name contains NAME (repeatable)\n"
    "  --file F         only scenarios of the file F, such as http.json (repeatable)\n"
    "  --list           print the names of the scenarios and stop\n"
    "  --pending        replay also what DIR/pending.json lists as not built yet\n"
    "  -j N             this many scenarios at a time (2)\n"
    "  -v               report each step\n"
    "  --help           this text\n";

struct choice {
    const char *names[FILES_MAX];
    unsigned n;
};

struct program {
    struct scenario scenarios[SCENARIOS_MAX];
    unsigned n_scenarios;
    json_t *files[FILES_MAX];
    char *file_names[FILES_MAX];
    unsigned n_files;
    struct choice only, file;
    struct replay_options options;
    struct lists lists;
    const char *dir;
    bool list;
    unsigned jobs;
    struct tally tally;
};

/* A scenario under way in a child. */
struct job {
    const struct scenario *scenario;
    pid_t pid;
    int output;
    int64_t deadline;
    struct text text; /* "passed failed skipped\n", then the report */
};

static bool add_scenarios(struct program *p, json_t *file, const char *name)
{
    size_t i;
    json_t *json;
    json_array_foreach (json_object_get(file, "scenarios"), i, json) {
        if (p->n_scenarios == SCENARIOS_MAX)
            return false;
        p->scenarios[p->n_scenarios++] =
            (struct scenario){.name = json_string_value(json_object_get(json, "name")),
                              .file = name,
                              .json = json,
                              .usual = json_object_get(file, "usual_headers")};
    }
    return true;
}

static bool load_file(struct program *p, const char *name)
{
    json_error_t error;
    char *path = text_format("%s/%s", p->dir, name);
    json_t *file = json_load_file(path, 0, &error);
    if (!file)
        fprintf(stderr, "replay: %s, line %d: %s\n", path, error.line, error.text);
    free(path);
    if (!file || p->n_files == FILES_MAX) {
        json_decref(file);
        return false;
    }
    p->files[p->n_files] = file;
    p->file_names[p->n_files] = strdup(name);
    return add_scenarios(p, file, p->file_names[p->n_files++]);
}

static int is_recording(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && !strcmp(entry->d_name + length - 5, ".json") &&
           strcmp(entry->d_name, "pending.json") && strcmp(entry->d_name, "differences.json");
}

static bool load_recordings(struct program *p)
{
    struct dirent **entries;
    int n = scandir(p->dir, &entries, is_recording, alphasort);
    bool good = n > 0;
    if (!good)
        fprintf(stderr, "replay: no recordings in %s\n", p->dir);
    for (int i = 0; i < n; i++) {
        good = good && load_file(p, entries[i]->d_name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return good;
}

static bool load_lists(struct program *p)
{
    struct text why = {0};
    bool good = lists_load(&p->lists, p->dir, &why);
    for (unsigned i = 0; good && i < p->n_scenarios; i++) {
        const struct scenario *s = &p->scenarios[i];
        size_t steps = json_array_size(json_object_get(s->json, "steps"));
        good = lists_check_scenario(&p->lists, s->name, steps, &why);
    }
    good = good && lists_leftovers(&p->lists, &why);
    fputs(text_str(&why), stderr);
    text_free(&why);
    return good;
}

static bool chosen(const struct choice *choice, const char *name, bool in_part)
{
    for (unsigned i = 0; i < choice->n; i++)
        if (in_part ? strstr(name, choice->names[i]) != NULL : !strcmp(name, choice->names[i]))
            return true;
    return choice->n == 0;
}

static bool selected(const struct program *p, const struct scenario *s)
{
    return chosen(&p->only, s->name, true) && chosen(&p->file, s->file, false);
}

static void write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

static void run_job(const struct program *p, const struct scenario *s, const char *dir, int fd)
{
    struct tally tally = {0};
    struct text report = {0}, head = {0};
    setpgid(0, 0);
    scenario_run(s, &p->options, dir, &tally, &report);
    text_printf(&head, "%u %u %u\n", tally.passed, tally.failed, tally.skipped);
    write_all(fd, head.data, head.len);
    write_all(fd, text_str(&report), report.len);
    _exit(0);
}

static bool start_job(const struct program *p, struct job *job, const struct scenario *s)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    char *dir = text_format("%s/%u", p->options.work, (unsigned)(s - p->scenarios));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        run_job(p, s, dir, ends[1]);
    free(dir);
    close(ends[1]);
    *job = (struct job){
        .scenario = s, .pid = pid, .output = ends[0], .deadline = clock_ms() + SCENARIO_MS};
    return pid > 0;
}

/* Prints the report of a finished job and adds up its counts. */
static void finish_job(struct program *p, struct job *job)
{
    int status;
    kill(-job->pid, SIGKILL);
    waitpid(job->pid, &status, 0);
    close(job->output);
    struct tally t;
    int head = 0;
    if (sscanf(text_str(&job->text), "%u %u %u\n%n", &t.passed, &t.failed, &t.skipped, &head) < 3) {
        size_t steps = json_array_size(json_object_get(job->scenario->json, "steps"));
        t = (struct tally){.failed = (unsigned)steps};
        printf("not ok %s (%zu steps, all failed)\n    no report within %d s\n",
               job->scenario->name, steps, SCENARIO_MS / 1000);
    }
    fputs(text_str(&job->text) + head, stdout);
    fflush(stdout);
    p->tally.passed += t.passed;
    p->tally.failed += t.failed;
    p->tally.skipped += t.skipped;
    text_free(&job->text);
    *job = (struct job){0};
}

/* Takes output of a job; true when it has come to its end or its time is up. */
static bool pump_job(struct job *job)
{
    char part[16384];
    struct pollfd ready = {.fd = job->output, .events = POLLIN};
    if (poll(&ready, 1, 0) > 0) {
        ssize_t n = read(job->output, part, sizeof(part));
        if (n <= 0)
            return true;
        text_append(&job->text, part, (size_t)n);
    }
    return clock_left(job->deadline) == 0;
}

static void wait_for_jobs(struct program *p, struct job *jobs)
{
    struct pollfd polls[JOBS_MAX];
    for (unsigned i = 0; i < p->jobs; i++)
        polls[i] = (struct pollfd){.fd = jobs[i].pid ? jobs[i].output : -1, .events = POLLIN};
    poll(polls, p->jobs, 200);
    for (unsigned i = 0; i < p->jobs; i++)
        if (jobs[i].pid && pump_job(&jobs[i]))
            finish_job(p, &jobs[i]);
}

static struct job *free_slot(const struct program *p, struct job *jobs)
{
    for (unsigned i = 0; i < p->jobs; i++)
        if (!jobs[i].pid)
            return &jobs[i];
    return NULL;
}

static bool busy(const struct program *p, const struct job *jobs)
{
    for (unsigned i = 0; i < p->jobs; i++)
        if (jobs[i].pid)
            return true;
    return false;
}

static void run_all(struct program *p)
{
    struct job jobs[JOBS_MAX] = {0};
    for (unsigned i = 0; i < p->n_scenarios; i++) {
        struct job *slot;
        if (!selected(p, &p->scenarios[i]))
            continue;
        while (!(slot = free_slot(p, jobs)))
            wait_for_jobs(p, jobs);
        if (!start_job(p, slot, &p->scenarios[i])) {
            printf("not ok %s\n    cannot start a process: %s\n", p->scenarios[i].name,
                   strerror(errno));
            p->tally.failed++;
        }
    }
    while (busy(p, jobs))
        wait_for_jobs(p, jobs);
}

static bool add_choice(struct choice *choice, const char *name)
{
    if (choice->n == FILES_MAX)
        return false;
    choice->names[choice->n++] = name;
    return true;
}

/* Returns -1 to go on, or the exit code. */
static int parse_options(struct program *p, int argc, char **argv)
{
    static const struct option options[] = {{"monitor", required_argument, NULL, 'm'},
                                            {"only", required_argument, NULL, 'o'},
                                            {"file", required_argument, NULL, 'f'},
                                            {"list", no_argument, NULL, 'l'},
                                            {"pending", no_argument, NULL, 'p'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static char monitor[PATH_MAX];
    bool good = true;
    int c;
    while (good && (c = getopt_long(argc, argv, "j:v", options, NULL)) != -1) {
        if (c == 'm')
            p->options.monitor = realpath(optarg, monitor) ? monitor : optarg;
        else if (c == 'o')
            good = add_choice(&p->only, optarg);
        else if (c == 'f')
            good = add_choice(&p->file, optarg);
        else if (c == 'l')
            p->list = true;
        else if (c == 'p')
            p->options.with_pending = true;
        else if (c == 'j')
            p->jobs = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'v')
            p->options.verbose = true;
        else
            good = c == 'h' && (fputs(usage, stdout), exit(0), true);
    }
    good = good && optind == argc - 1 && p->jobs >= 1 && p->jobs <= JOBS_MAX;
    p->dir = good ? argv[optind] : NULL;
    return good;
}

static void list_scenarios(const struct program *p)
{
    for (unsigned i = 0; i < p->n_scenarios; i++)
        if (selected(p, &p->scenarios[i]))
            printf("%s\t%s\n", p->scenarios[i].file, p->scenarios[i].name);
}

static int replay(struct program *p)
{
    if (!p->options.monitor || access(p->options.monitor, X_OK) < 0) {
        fprintf(stderr, "replay: --monitor must name a program that can be run\n");
        return 2;
    }
    char *work = files_make_temporary("replay");
    if (!work) {
        fprintf(stderr, "replay: cannot make a directory under /tmp: %s\n", strerror(errno));
        return 2;
    }
    p->options.work = work;
    p->options.lists = &p->lists;
    run_all(p);
    files_remove_tree(work);
    free(work);
    printf("%u passed, %u failed, %u skipped\n", p->tally.passed, p->tally.failed,
           p->tally.skipped);
    return p->tally.failed || !p->tally.passed ? 1 : 0;
}

int main(int argc, char **argv)
{
    static struct program p = {.jobs = 2};
    signal(SIGPIPE, SIG_IGN);
    if (!parse_options(&p, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (!load_recordings(&p) || !load_lists(&p))
        return 2;
    if (p.list) {
        list_scenarios(&p);
        return 0;
    }
    int code = replay(&p);
    for (unsigned i = 0; i < p.n_files; i++) {
        json_decref(p.files[i]);
        free(p.file_names[i]);
    }
    lists_free(&p.lists);
    return code;
}
