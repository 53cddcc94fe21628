/* SPDX-License-Identifier: Apache-2.0 */
/* child.c: see child.h. */
#include "vmm/base/child.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/close_range.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct child {
    pid_t pid;
    int link;  /* a socket to the other side; -1 = closed */
    int pidfd; /* readable when it has ended */
    struct loop *loop;
    struct op word_op, end_op;
    bool listening; /* word_op is in flight */
    bool heard, ended, released;
    void (*on_word)(struct child *child, void *owner); /* NULL = nobody is called */
    void *owner;
    struct err word;
};

/* A word as it crosses the link. */
struct message {
    int32_t code;
    char text[sizeof(((struct err *)0)->text)];
};

/* ---- birth ----------------------------------------------------------------------------------- */

/*
 * fork(2) has no word for cgroups, and moving a process later waits for a grace period of RCU. The
 * C library's own record of the thread's id is the one thing of its fork that we cannot do without:
 * signals to ourselves (abort) go by it.
 */
static pid_t fork_into(int cgroup)
{
    struct clone_args args = {
        .flags = CLONE_INTO_CGROUP | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID,
        .exit_signal = SIGCHLD,
        .cgroup = (unsigned)cgroup,
    };
    int *own_id = NULL;

    if (prctl(PR_GET_TID_ADDRESS, &own_id))
        return -1;
    args.child_tid = (uintptr_t)own_id;
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static void close_link(struct child *child)
{
    if (child->link >= 0)
        close(child->link);
    child->link = -1;
}

static void free_if_over(struct child *child)
{
    if (!child->ended || !child->released || child->listening)
        return;
    close_link(child);
    free(child);
}

static void take_word(struct child *child)
{
    struct message message;
    ssize_t n = recv(child->link, &message, sizeof(message), MSG_DONTWAIT);
    size_t head = offsetof(struct message, text);

    if (n <= (ssize_t)head) {
        err_set(&child->word, -ECHILD,
                "it ended without a word; it was killed, or ran out of memory");
        return;
    }
    message.text[MIN((size_t)n - head, sizeof(message.text) - 1)] = '\0';
    if (message.code)
        err_set(&child->word, message.code, "%s", message.text);
}

static void word_done(struct op *op, int res, bool more)
{
    struct child *child = container_of(op, struct child, word_op);

    (void)res, (void)more;
    child->heard = true;
    take_word(child);
    if (child->on_word)
        child->on_word(child, child->owner);
    child->listening = false;
    if (child->released)
        close_link(child);
    free_if_over(child);
}

static void end_done(struct op *op, int res, bool more)
{
    struct child *child = container_of(op, struct child, end_op);
    int status = 0;

    (void)res, (void)more;
    waitpid(child->pid, &status, 0);
    close(child->pidfd);
    child->ended = true;
    if (WIFSIGNALED(status))
        log_info("Child %d ended by signal %d.", child->pid, WTERMSIG(status));
    else
        log_info("Child %d ended with exit code %d.", child->pid, WEXITSTATUS(status));
    free_if_over(child);
}

/* The parent's side, once there is a child. */
static int watch(struct child *child, int link, struct err *e)
{
    child->link = link;
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0u);
    if (child->pidfd < 0) {
        int code = -errno;

        kill(child->pid, SIGKILL);
        waitpid(child->pid, NULL, 0);
        return err_set(e, code, "Cannot watch a child: %s", err_os(code));
    }
    child->word_op.done = word_done;
    child->end_op.done = end_done;
    child->listening = true;
    loop_poll(child->loop, &child->word_op, child->link, false);
    loop_poll(child->loop, &child->end_op, child->pidfd, false);
    return 0;
}

pid_t child_fork(struct child **out, struct loop *loop, int cgroup, struct err *e)
{
    struct child *child = calloc(1, sizeof(*child));
    int link[2], code;

    if (!child || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link)) {
        code = child ? -errno : -ENOMEM;
        free(child);
        return err_set(e, code, "Cannot make a child: %s", err_os(code));
    }
    child->loop = loop;
    child->pid = cgroup < 0 ? fork() : fork_into(cgroup);
    code = -errno;
    if (child->pid == 0) {
        close(link[0]);
        child->link = link[1];
        *out = child;
        return 0;
    }
    close(link[1]);
    if (child->pid > 0)
        code = watch(child, link[0], e);
    else if (cgroup >= 0)
        err_set(e, code,
                "Cannot make a child in its cgroup, which must be one of version 2 that takes "
                "processes: %s",
                err_os(code));
    else
        err_set(e, code, "Cannot make a child: %s", err_os(code));
    if (code) {
        close(link[0]);
        free(child);
        return code;
    }
    *out = child;
    return child->pid;
}

/* ---- the parent ------------------------------------------------------------------------------ */

bool child_is_heard(const struct child *child)
{
    return child->heard;
}

void child_on_word(struct child *child, void (*on_word)(struct child *child, void *owner),
                   void *owner)
{
    child->on_word = on_word;
    child->owner = owner;
}

int child_word(const struct child *child, struct err *e)
{
    return child->word.code ? err_set(e, child->word.code, "%s", child->word.text) : 0;
}

static void release(struct child *child)
{
    child->released = true;
    if (!child->listening)
        close_link(child);
    free_if_over(child);
}

void child_go_on(struct child *child)
{
    if (child->link >= 0)
        (void)!send(child->link, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void child_let_go(struct child *child)
{
    child_go_on(child);
    release(child);
}

static bool is_gone(void *arg)
{
    const struct child *child = arg;

    return child->ended && !child->listening;
}

void child_dismiss(struct child *child)
{
    bool waits = child->heard && child->word.code == 0;

    if (waits)
        close_link(child);
    else if (!child->ended)
        kill(child->pid, SIGKILL);
    loop_wait(child->loop, is_gone, child);
    release(child);
}

/* ---- the child ------------------------------------------------------------------------------- */

void child_say(struct child *self, const struct err *e)
{
    struct message message = {.code = e ? e->code : 0};

    if (e)
        snprintf(message.text, sizeof(message.text), "%s", e->text);
    /* Nobody hears it when the parent is gone: child_wait finds that out. */
    (void)!send(self->link, &message, offsetof(struct message, text) + strlen(message.text) + 1,
                MSG_NOSIGNAL);
}

bool child_wait(struct child *self)
{
    char go;
    ssize_t n;

    do
        n = recv(self->link, &go, 1, 0);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

void child_part(struct child *self)
{
    close_link(self);
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void child_close_others(const struct child *self, const int *keep, unsigned count)
{
    int kept[CHILD_KEEP_MAX + 1];
    unsigned next = STDERR_FILENO + 1, n = 0;

    BUG_ON(count > CHILD_KEEP_MAX);
    kept[n++] = self->link;
    for (unsigned i = 0; i < count; i++)
        kept[n++] = keep[i];
    qsort(kept, n, sizeof(kept[0]), ascending);
    for (unsigned i = 0; i < n; i++) {
        if (kept[i] < (int)next) /* none, or a standard stream */
            continue;
        if ((unsigned)kept[i] > next)
            close_range(next, (unsigned)kept[i] - 1, 0);
        next = (unsigned)kept[i] + 1;
    }
    close_range(next, ~0u, 0);
}
