/* SPDX-License-Identifier: Apache-2.0 */
/* keeper.c: see keeper.h. */
#include "tests/e2e/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/wait.h>

/* The parent of a process; 0 when there is none any more. */
static pid_t parent_of(const char *pid)
{
    char path[64], line[512] = "";
    const char *name_end;
    FILE *file;
    int parent = 0;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fgets(line, sizeof(line), file) && (name_end = strrchr(line, ')')))
        (void)sscanf(name_end + 1, " %*c %d", &parent);
    fclose(file);
    return parent;
}

static void kill_children(void)
{
    DIR *all = opendir("/proc");
    struct dirent *entry;

    while (all && (entry = readdir(all))) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            parent_of(entry->d_name) == getpid())
            kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
    }
    if (all)
        closedir(all);
}

/* The children of each that ends become ours. */
static void end_all(void)
{
    do
        kill_children();
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
}

/* Waits for the test's end, or for the word that it is to end. */
static int wait_for(pid_t test, const sigset_t *signals)
{
    for (;;) {
        int status, number = sigwaitinfo(signals, NULL);
        pid_t ended;

        if (number == SIGHUP)
            return SIGKILL; /* as waitpid() tells an end by it */
        if (number == SIGTERM)
            kill(test, SIGTERM);
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
            if (ended == test)
                return status;
        }
    }
}

static _Noreturn void end_like(int status, const sigset_t *before)
{
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        sigprocmask(SIG_SETMASK, before, NULL);
        raise(WTERMSIG(status));
    }
    _exit(WEXITSTATUS(status));
}

static _Noreturn void keep(const struct kept *kept, pid_t program)
{
    sigset_t signals, before;
    pid_t test;
    int status;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, &before);
    setsid(); /* a key on the program's terminal ends the program, and that is told to us */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGHUP);
    if (getppid() != program)
        _exit(1);
    test = fork();
    if (test == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        kept->run(kept->arg);
        _exit(1);
    }
    status = test < 0 ? SIGKILL : wait_for(test, &signals);
    end_all();
    end_like(status, &before);
}

pid_t keeper_start(const struct kept *kept)
{
    pid_t program = getpid(), pid = fork();

    if (pid == 0)
        keep(kept, program);
    return pid;
}
