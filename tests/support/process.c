/* SPDX-License-Identifier: Apache-2.0 */
/* Children of the test programs: start, gather output, wait with a deadline, end. */
#include "tests/support/process.h"

#include "tests/support/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* A guest's console must not lose bytes only because a test reads late. */
enum { PIPE_BYTES = 1 << 20 };

/* The two ends of each standard stream; -1 where there is none. */
struct streams {
    int child[3];
    int ours[3];
    int terminal, slave;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_streams(struct streams *s, bool ours_too)
{
    for (int i = 0; i < 3; i++) {
        close_fd(&s->child[i]);
        if (ours_too)
            close_fd(&s->ours[i]);
    }
    if (ours_too) {
        close_fd(&s->terminal);
        close_fd(&s->slave);
    }
}

static int open_pipe(struct streams *s, int i)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES);
    s->child[i] = ends[i == 0 ? 0 : 1];
    s->ours[i] = ends[i == 0 ? 1 : 0];
    return 0;
}

/* The first terminal becomes our own controlling one, if we lead a session: a monitor that ends
 * must not hang it up, which would reset its modes. */
static int open_terminal(struct streams *s, int i)
{
    if (s->terminal < 0) {
        if (openpty(&s->terminal, &s->slave, NULL, NULL, NULL) < 0)
            return -errno;
        fcntl(s->terminal, F_SETFD, FD_CLOEXEC);
        fcntl(s->slave, F_SETFD, FD_CLOEXEC);
        ioctl(s->slave, TIOCSCTTY, 0);
    }
    s->child[i] = fcntl(s->slave, F_DUPFD_CLOEXEC, 3);
    return s->child[i] < 0 ? -errno : 0;
}

static int open_stream(struct streams *s, int i, enum process_stream kind)
{
    switch (kind) {
    case PROCESS_NULL:
        s->child[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        break;
    case PROCESS_INHERIT:
        s->child[i] = fcntl(i, F_DUPFD_CLOEXEC, 3);
        break;
    case PROCESS_PIPE:
        return open_pipe(s, i);
    case PROCESS_TERMINAL:
        return open_terminal(s, i);
    }
    return s->child[i] < 0 ? -errno : 0;
}

static int open_streams(struct streams *s, const struct process_spec *spec)
{
    enum process_stream kinds[3] = {spec->in, spec->out, spec->err};
    int ret = 0;
    for (int i = 0; i < 3; i++)
        s->child[i] = s->ours[i] = -1;
    s->terminal = s->slave = -1;
    for (int i = 0; i < 3 && !ret; i++)
        ret = open_stream(s, i, kinds[i]);
    if (ret)
        close_streams(s, true);
    return ret;
}

/* execv() takes pointers to mutable strings for historical reasons and changes none of them. */
static void exec_argv(const char *const *argv)
{
    union {
        const char *const *in;
        char *const *out;
    } cast = {.in = argv};
    execv(argv[0], cast.out);
}

static void run_child(const struct process_spec *spec, struct streams *s, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    for (int i = 0; i < 3; i++)
        if (dup2(s->child[i], i) < 0)
            _exit(126);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (spec->cwd && chdir(spec->cwd) < 0)
        _exit(126);
    if (spec->prepare && spec->prepare(spec->prepare_arg) < 0)
        _exit(126);
    exec_argv(spec->argv);
    fprintf(stderr, "cannot run %s: %s\n", spec->argv[0], strerror(errno));
    _exit(127);
}

int process_start(struct process *p, const struct process_spec *spec)
{
    *p = (struct process){.pidfd = -1, .in = -1, .out = -1, .err = -1, .terminal = -1, .slave = -1};
    struct streams s;
    int ret = open_streams(&s, spec);
    if (ret)
        return ret;
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        ret = -errno;
        close_streams(&s, true);
        return ret;
    }
    if (pid == 0)
        run_child(spec, &s, parent);
    close_streams(&s, false);
    p->pid = pid;
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    p->in = s.ours[0];
    p->out = s.ours[1];
    p->err = s.ours[2];
    p->terminal = s.terminal;
    p->slave = s.slave;
    return 0;
}

/* Takes what `*fd` has now; closes it at its end. A terminal whose child is gone reads as EIO. */
static void take(int *fd, struct text *into)
{
    char part[65536];
    ssize_t n = read(*fd, part, sizeof(part));
    if (n > 0)
        text_append(into, part, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        close_fd(fd);
}

static void reap(struct process *p)
{
    if (!p->ended && waitpid(p->pid, &p->status, WNOHANG) == p->pid)
        p->ended = true;
}

/* One poll over the outputs and, unless the end is known, the process itself. */
static int pump_once(struct process *p, int timeout_ms)
{
    int *fds[3] = {&p->out, &p->err, &p->terminal};
    struct text *texts[3] = {&p->out_text, &p->err_text, &p->out_text};
    struct pollfd polls[4];
    for (int i = 0; i < 3; i++)
        polls[i] = (struct pollfd){.fd = *fds[i], .events = POLLIN};
    polls[3] = (struct pollfd){.fd = p->ended ? -1 : p->pidfd, .events = POLLIN};
    int ready = poll(polls, 4, timeout_ms);
    for (int i = 0; i < 3 && ready > 0; i++)
        if (polls[i].revents)
            take(fds[i], texts[i]);
    if (ready > 0 && polls[3].revents)
        reap(p);
    return ready;
}

void process_pump(struct process *p, int timeout_ms)
{
    if (p->ended && p->out < 0 && p->err < 0 && p->terminal < 0)
        return;
    if (pump_once(p, timeout_ms) <= 0)
        return;
    while (pump_once(p, 0) > 0 && !p->ended)
        ;
}

bool process_wait(struct process *p, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    while (!p->ended) {
        int left = clock_left(deadline);
        if (pump_once(p, left) <= 0 && left == 0)
            return false;
    }
    while (pump_once(p, 0) > 0)
        ; /* the last words, already in the pipes */
    return true;
}

int process_write(struct process *p, const void *data, size_t len)
{
    int fd = p->in >= 0 ? p->in : p->terminal;
    const char *bytes = data;
    while (len) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

void process_end(struct process *p)
{
    if (p->pid <= 0)
        return;
    if (!p->ended) {
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
            ;
    }
    close_fd(&p->pidfd);
    close_fd(&p->in);
    close_fd(&p->out);
    close_fd(&p->err);
    close_fd(&p->terminal);
    close_fd(&p->slave);
    text_free(&p->out_text);
    text_free(&p->err_text);
    *p = (struct process){.pidfd = -1, .in = -1, .out = -1, .err = -1, .terminal = -1, .slave = -1};
}

const char *process_how(const struct process *p)
{
    static char how[32];
    if (!p->ended)
        return "running";
    if (WIFSIGNALED(p->status))
        return signal_word(WTERMSIG(p->status));
    snprintf(how, sizeof(how), "exit %d", WEXITSTATUS(p->status));
    return how;
}

const char *signal_word(int number)
{
    static char word[32];
    const char *abbreviation = sigabbrev_np(number);
    if (abbreviation)
        snprintf(word, sizeof(word), "SIG%s", abbreviation);
    else
        snprintf(word, sizeof(word), "signal %d", number);
    return word;
}
