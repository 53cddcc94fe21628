/* SPDX-License-Identifier: Apache-2.0 */
/* launch.c: forks, the PID file, limits, user and group, exec. */
#include "vmm/jailer/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/wait.h>

/* ---- telling a process that waits ---- */

/* The last words of a child whose pipe to the one that waits is `fd`. */
static _Noreturn void report(int fd, const struct err *e)
{
    (void)!write(fd, e, sizeof(*e)); /* if nobody listens, nobody wants to know */
    _exit(1);
}

/*
 * Waits until the other ends of the pipe are gone: closed by an exec, which is success, or by the
 * end of a process, which told why. 0, or the error's code.
 */
static int await(int fd, struct err *e)
{
    struct err told;
    size_t len = 0;
    ssize_t n;

    do {
        n = read(fd, (char *)&told + len, sizeof(told) - len);
        if (n > 0)
            len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    close(fd);
    if (len < sizeof(told))
        return 0;
    *e = told;
    return e->code;
}

/* ---- becoming the monitor ---- */

static uint64_t cpu_time_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / NSEC_PER_USEC;
}

static int set_limit(__rlimit_resource_t resource, uint64_t value, const char *what, struct err *e)
{
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

    if (setrlimit(resource, &limit) < 0)
        return err_set(e, -errno, "Failed to set limit for resource: %s: %s", what, err_os(-errno));
    return 0;
}

static int set_limits(const struct jailer_options *o, struct err *e)
{
    int ret = set_limit(RLIMIT_NOFILE, o->no_file, "number of file descriptors", e);

    if (ret == 0 && o->has_fsize)
        ret = set_limit(RLIMIT_FSIZE, o->fsize, "size of file", e);
    return ret;
}

/* What our own starter blocked or ignored is none of the monitor's business. */
static void reset_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
}

/*
 * The saved user stays root's until the exec, which overwrites it: an exec that fails leaves a
 * process that can still put things back. The permitted capabilities go the same way.
 */
static int drop_privileges(const struct jailer_options *o, struct err *e)
{
    if (setgroups(0, NULL) < 0 || setresgid(o->gid, o->gid, o->gid) < 0)
        return err_set(e, -errno, "Failed to become group %u: %s", o->gid, err_os(-errno));
    if (setresuid(o->uid, o->uid, 0) < 0)
        return err_set(e, -errno, "Failed to become user %u: %s", o->uid, err_os(-errno));
    return 0;
}

char **launch_make_arguments(const char *path, const struct jailer_options *o,
                             struct launch_numbers *numbers)
{
    const char *own[] = {path,
                         "--id",
                         o->id,
                         "--start-time-us",
                         numbers->start_us,
                         "--start-time-cpu-us",
                         numbers->start_cpu_us,
                         "--parent-cpu-time-us",
                         numbers->parent_cpu_us};
    size_t more = 0;
    char **list;

    while (o->monitor_args[more])
        more++;
    list = malloc((ARRAY_SIZE(own) + more + 1) * sizeof(*list));
    if (!list)
        return NULL;
    memcpy(list, own, sizeof(own));
    memcpy(list + ARRAY_SIZE(own), o->monitor_args, (more + 1) * sizeof(*list));
    return list;
}

/* The monitor adds its CPU clock's advance since now to what the jailer's processes used. */
static void note_numbers(const struct launch *l, struct launch_numbers *numbers)
{
    uint64_t cpu_us = cpu_time_us();

    snprintf(numbers->start_us, sizeof(numbers->start_us), "%" PRIu64, l->start_us);
    snprintf(numbers->start_cpu_us, sizeof(numbers->start_cpu_us), "%" PRIu64, cpu_us);
    snprintf(numbers->parent_cpu_us, sizeof(numbers->parent_cpu_us), "%" PRIu64,
             l->cpu_us + cpu_us);
}

static int fail_exec(int code, struct err *e)
{
    bool dynamic = code == -ENOENT; /* the file is there: what it asks for is not */

    return err_set(e, code, "Failed to exec into Firecracker: %s%s", err_os(code),
                   dynamic ? "; is it a static program?" : "");
}

/* Returns only with an error, and then as root again. */
static int become_monitor(const struct launch *l, struct err *e)
{
    char *const no_environment[] = {NULL};
    struct launch_numbers numbers;
    char path[NAME_MAX + 2], **arguments;
    int ret = set_limits(l->o, e);

    if (ret)
        return ret;
    snprintf(path, sizeof(path), "/%s", l->tree->name);
    note_numbers(l, &numbers);
    arguments = launch_make_arguments(path, l->o, &numbers);
    if (!arguments)
        return fail_exec(-ENOMEM, e);
    reset_signals();
    ret = drop_privileges(l->o, e);
    if (ret == 0) {
        execve(path, arguments, no_environment);
        ret = fail_exec(-errno, e);
    }
    (void)!seteuid(0);
    free(arguments);
    return ret;
}

/* ---- in this process, or in a new PID namespace ---- */

static int launch_in_place(const struct launch *l, struct err *e)
{
    int ret = tree_write_pid(l->tree, getpid(), e);

    if (ret)
        return ret;
    ret = become_monitor(l, e);
    tree_remove_pid(l->tree);
    return ret;
}

/* Both pipes of a child that waits for the word to go on, and then tells how it went. */
struct pipes {
    int go[2], result[2];
};

static int make_pipes(struct pipes *p)
{
    if (pipe2(p->go, O_CLOEXEC) < 0)
        return -errno;
    return pipe2(p->result, O_CLOEXEC) < 0 ? -errno : 0;
}

/* Process 1 of its namespace. It waits for its PID file, which clients read as soon as it runs. */
static _Noreturn void be_first(const struct launch *l, struct pipes *p, bool new_session)
{
    struct err e;
    char go;

    close(p->go[1]);
    if (read(p->go[0], &go, 1) != 1)
        _exit(1);
    if (new_session)
        setsid(); /* cannot fail: a new process leads no group */
    (void)become_monitor(l, &e);
    report(p->result[1], &e);
}

/* The child runs when its PID is known; waits until it is the monitor or has ended. */
static int attend(const struct launch *l, struct pipes *p, pid_t child, struct err *e)
{
    int ret = tree_write_pid(l->tree, child, e);

    close(p->go[0]);
    close(p->result[1]);
    if (ret == 0)
        (void)!write(p->go[1], "", 1);
    close(p->go[1]);
    if (ret == 0) {
        ret = await(p->result[0], e);
        if (ret)
            tree_remove_pid(l->tree);
    }
    if (ret)
        waitpid(child, NULL, 0);
    return ret;
}

static int launch_first(struct launch *l, struct err *e)
{
    /* A leader's end sends SIGHUP to its session; the monitor would take it for its own. */
    bool leads = getsid(0) == getpid();
    struct pipes p;
    pid_t child;
    int ret = make_pipes(&p);

    if (ret)
        return err_set(e, ret, "Failed cloning into a new child process: %s", err_os(ret));
    l->cpu_us += cpu_time_us();
    child = unshare(CLONE_NEWPID) < 0 ? -1 : fork();
    if (child < 0)
        return err_set(e, -errno, "Failed cloning into a new child process: %s", err_os(-errno));
    if (child == 0)
        be_first(l, &p, leads);
    return attend(l, &p, child, e);
}

static int launch_here(struct launch *l, struct err *e)
{
    return l->o->new_pid_ns ? launch_first(l, e) : launch_in_place(l, e);
}

/* ---- as a daemon ---- */

static int fail_daemonize(int code, struct err *e)
{
    return err_set(e, code, "Failed to daemonize: %s", err_os(code));
}

/* In a session whose leader has ended, so that no terminal can become its own. */
static int be_daemon(struct launch *l, struct err *e)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (dup2(l->null_fd, fd) < 0)
            return err_set(e, -errno, "Failed to duplicate fd: %s", err_os(-errno));
    }
    return launch_here(l, e);
}

/* Between the jailer and the daemon: leads the session, and ends. */
static _Noreturn void be_middle(struct launch *l, int result)
{
    struct err e;
    pid_t child;

    setsid(); /* cannot fail: a new process leads no group */
    l->cpu_us += cpu_time_us();
    child = fork();
    if (child < 0) {
        fail_daemonize(-errno, &e);
        report(result, &e);
    }
    if (child > 0)
        _exit(0);
    if (be_daemon(l, &e))
        report(result, &e);
    _exit(0);
}

static int launch_daemon(struct launch *l, struct err *e)
{
    int result[2];
    pid_t child;

    if (pipe2(result, O_CLOEXEC) < 0)
        return fail_daemonize(-errno, e);
    l->cpu_us += cpu_time_us();
    child = fork();
    if (child < 0)
        return fail_daemonize(-errno, e);
    if (child == 0)
        be_middle(l, result[1]);
    close(result[1]);
    waitpid(child, NULL, 0);
    return await(result[0], e);
}

int launch(struct launch *l, struct err *e)
{
    return l->o->daemonize ? launch_daemon(l, e) : launch_here(l, e);
}
