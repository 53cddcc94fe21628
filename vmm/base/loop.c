/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c: the ring. The only file that knows liburing. */
#include "vmm/base/loop.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>

/* A full submission queue is submitted at once, so its size only limits a batch; a full completion
 * queue makes the kernel keep the rest. Both are small because every monitor pays for their pages.
 */
#define SQ_ENTRIES 64
#define CQ_ENTRIES 512

/* Completions taken before deferred calls and hooks run: bounds how long a used ring stays
 * unpublished. */
#define BATCH_MAX 64

struct loop {
    struct io_uring ring;
    pthread_mutex_t lock;
    pthread_t thread;
    bool running; /* thread is valid: loop_run has been entered */
    bool stopping;
    int wake_fd;
    struct op wake;
    struct deferred *deferred, **deferred_end;
    struct batch_hook *hooks;
    struct idle_work *idle; /* NULL = none */
};

/* What the verbs use, and nothing else. */
static const uint8_t allowed_opcodes[] = {
    IORING_OP_POLL_ADD,  IORING_OP_READV,        IORING_OP_WRITEV, IORING_OP_FSYNC,
    IORING_OP_FALLOCATE, IORING_OP_ACCEPT,       IORING_OP_RECV,   IORING_OP_SEND,
    IORING_OP_TIMEOUT,   IORING_OP_ASYNC_CANCEL, IORING_OP_WRITE,
};

static int restrict_ring(struct io_uring *ring)
{
    struct io_uring_restriction allow[ARRAY_SIZE(allowed_opcodes)];
    int rc;

    memset(allow, 0, sizeof(allow));
    for (unsigned i = 0; i < ARRAY_SIZE(allow); i++) {
        allow[i].opcode = IORING_RESTRICTION_SQE_OP;
        allow[i].sqe_op = allowed_opcodes[i];
    }
    rc = io_uring_register_restrictions(ring, allow, ARRAY_SIZE(allow));
    return rc ? rc : io_uring_enable_rings(ring);
}

static int explain(int rc, struct err *e)
{
    switch (rc) {
    case -EPERM:
    case -EACCES:
        return err_set(
            e, rc,
            "io_uring is forbidden on this host: set the sysctl kernel.io_uring_disabled to "
            "0, and allow io_uring_* in any seccomp profile around this process. %s",
            err_os(rc));
    case -ENOSYS:
        return err_set(e, rc,
                       "This kernel has no io_uring, or hides it (see the sysctl "
                       "kernel.io_uring_disabled); Linux 6.1 or newer is needed. %s",
                       err_os(rc));
    case -EINVAL:
        return err_set(e, rc, "This kernel's io_uring is too old: Linux 6.1 or newer is needed. %s",
                       err_os(rc));
    default:
        return err_set(e, rc, "Cannot create an io_uring: %s", err_os(rc));
    }
}

static int create_ring(struct io_uring *ring, struct err *e)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED |
                 IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
        .cq_entries = CQ_ENTRIES,
    };
    int rc = io_uring_queue_init_params(SQ_ENTRIES, ring, &params);

    if (rc)
        return explain(rc, e);
    rc = restrict_ring(ring);
    if (rc) {
        io_uring_queue_exit(ring);
        return explain(rc, e);
    }
    return 0;
}

static void arm_wake(struct loop *loop)
{
    loop_poll(loop, &loop->wake, loop->wake_fd, true);
}

static void wake_done(struct op *op, int res, bool more)
{
    (void)res;
    if (!more)
        arm_wake(container_of(op, struct loop, wake));
}

int loop_create(struct loop **out, struct err *e)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    int rc;

    if (!loop)
        return err_set(e, -ENOMEM, "Cannot create the event loop: %s", err_os(-ENOMEM));
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        rc = err_set(e, -errno, "Cannot create the event loop: %s", err_os(-errno));
        free(loop);
        return rc;
    }
    rc = create_ring(&loop->ring, e);
    if (rc) {
        close(loop->wake_fd);
        free(loop);
        return rc;
    }
    pthread_mutex_init(&loop->lock, NULL);
    loop->deferred_end = &loop->deferred;
    loop->wake.done = wake_done;
    arm_wake(loop);
    /* Submitted here, so that a filter that allows to make a ring but not to use it is an error of
     * the start and not a loop that spins. */
    rc = io_uring_submit(&loop->ring);
    if (rc < 0) {
        loop_destroy(loop);
        return explain(rc, e);
    }
    *out = loop;
    return 0;
}

void loop_destroy(struct loop *loop)
{
    if (!loop)
        return;
    io_uring_queue_exit(&loop->ring);
    close(loop->wake_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

void loop_forget(struct loop *loop)
{
    /* Unmaps and closes: what the ring holds ends with its last reference, which is not ours. */
    io_uring_queue_exit(&loop->ring);
    close(loop->wake_fd);
    free(loop);
}

void loop_lock(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
}

void loop_unlock(struct loop *loop)
{
    pthread_mutex_unlock(&loop->lock);
}

void loop_cond_wait(struct loop *loop, pthread_cond_t *cond)
{
    pthread_cond_wait(cond, &loop->lock);
}

bool loop_is_current(const struct loop *loop)
{
    return loop->running && pthread_equal(loop->thread, pthread_self());
}

/* How many completions there were. */
static unsigned dispatch(struct loop *loop)
{
    struct io_uring_cqe *cqe;
    unsigned n;

    for (n = 0; n < BATCH_MAX && io_uring_peek_cqe(&loop->ring, &cqe) == 0; n++) {
        /* Copied and given back first: a callback may run turns of its own (loop_wait). */
        struct op *op = io_uring_cqe_get_data(cqe);
        bool more = cqe->flags & IORING_CQE_F_MORE;
        int res = cqe->res;

        io_uring_cqe_seen(&loop->ring, cqe);
        if (op) /* NULL: the completion of a cancel request itself */
            op->done(op, res, more);
    }
    return n;
}

static void run_deferred(struct loop *loop)
{
    struct deferred *list = loop->deferred;

    /* Taken whole: what a call defers anew runs in the next turn, so the loop cannot be starved. */
    loop->deferred = NULL;
    loop->deferred_end = &loop->deferred;
    while (list) {
        struct deferred *deferred = list;

        list = deferred->next;
        deferred->queued = false;
        deferred->run(deferred);
    }
}

static void run_hooks(struct loop *loop)
{
    while (loop->hooks) {
        struct batch_hook *hook = loop->hooks;

        loop->hooks = hook->next;
        hook->armed = false;
        hook->run(hook);
    }
}

static void run_idle(struct loop *loop)
{
    struct idle_work *work = loop->idle;

    if (!work->step(work) && loop->idle == work)
        loop->idle = NULL;
}

/* One turn. Called and left with the lock held; it is free while the kernel works or we wait.
 * `idle`: instead of waiting, a step of the work for that time. */
static void turn(struct loop *loop, bool idle)
{
    bool work_left = loop->deferred || loop->hooks || loop->stopping;
    unsigned completed;

    pthread_mutex_unlock(&loop->lock);
    /*
     * With work left we do not wait, but still ask for events: a DEFER_TASKRUN ring makes
     * completions only when asked, and a guest that always leaves work must not hide them. -EINTR
     * and -EBUSY (completions pending) both mean: look at what there is.
     */
    if (work_left || idle)
        (void)io_uring_submit_and_get_events(&loop->ring);
    else
        (void)io_uring_submit_and_wait(&loop->ring, 1);
    pthread_mutex_lock(&loop->lock);
    completed = dispatch(loop);
    if (idle && !work_left && completed == 0)
        run_idle(loop);
    run_deferred(loop);
    run_hooks(loop);
}

void loop_run(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->thread = pthread_self();
    loop->running = true;
    while (!loop->stopping)
        turn(loop, loop->idle != NULL);
    loop->running = false;
    loop->stopping = false;
    pthread_mutex_unlock(&loop->lock);
}

void loop_abandon(struct loop *loop)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

    if (!sqe) /* a full queue: the kernel does it all later */
        return;
    io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    io_uring_sqe_set_data(sqe, NULL);
    /* Cancelled operations end when the ring is asked for events. */
    (void)io_uring_submit_and_get_events(&loop->ring);
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
    if (!loop_is_current(loop))
        loop_wake(loop);
}

void loop_wait(struct loop *loop, bool (*cond)(void *arg), void *arg)
{
    while (!cond(arg))
        turn(loop, false);
}

void loop_wake(struct loop *loop)
{
    static const uint64_t one = 1;
    ssize_t n = write(loop->wake_fd, &one, sizeof(one));

    (void)n; /* the counter is never read; it would take 2^64 - 2 wakes to fill it */
}

void loop_defer(struct loop *loop, struct deferred *deferred)
{
    if (deferred->queued)
        return;
    deferred->queued = true;
    deferred->next = NULL;
    *loop->deferred_end = deferred;
    loop->deferred_end = &deferred->next;
    if (!loop_is_current(loop))
        loop_wake(loop);
}

void loop_when_idle(struct loop *loop, struct idle_work *work)
{
    loop->idle = work;
}

void loop_at_batch_end(struct loop *loop, struct batch_hook *hook)
{
    if (hook->armed)
        return;
    hook->armed = true;
    hook->next = loop->hooks;
    loop->hooks = hook;
    if (!loop_is_current(loop))
        loop_wake(loop);
}

/* ---- verbs ----------------------------------------------------------------------------------- */

/* A free submission entry; submits what is queued when there is none. */
static struct io_uring_sqe *get_sqe(struct loop *loop)
{
    struct io_uring_sqe *sqe;

    while (!(sqe = io_uring_get_sqe(&loop->ring)))
        (void)io_uring_submit(&loop->ring);
    return sqe;
}

void loop_poll(struct loop *loop, struct op *op, int fd, bool multishot)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    if (multishot)
        io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    else
        io_uring_prep_poll_add(sqe, fd, POLLIN);
    io_uring_sqe_set_data(sqe, op);
}

void loop_poll_hangup(struct loop *loop, struct op *op, int fd)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_poll_add(sqe, fd, 0); /* POLLHUP and POLLERR are always told */
    io_uring_sqe_set_data(sqe, op);
}

void loop_readv(struct loop *loop, struct op *op, int fd, const struct iovec *iov, unsigned count,
                uint64_t offset)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_readv(sqe, fd, iov, count, offset);
    io_uring_sqe_set_data(sqe, op);
}

void loop_writev(struct loop *loop, struct op *op, int fd, const struct iovec *iov, unsigned count,
                 uint64_t offset)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_writev(sqe, fd, iov, count, offset);
    io_uring_sqe_set_data(sqe, op);
}

void loop_write(struct loop *loop, struct op *op, int fd, const void *buf, uint32_t len)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_write(sqe, fd, buf, len, UINT64_MAX);
    io_uring_sqe_set_data(sqe, op);
}

void loop_fsync(struct loop *loop, struct op *op, int fd, bool datasync)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_fsync(sqe, fd, datasync ? IORING_FSYNC_DATASYNC : 0);
    io_uring_sqe_set_data(sqe, op);
}

void loop_fallocate(struct loop *loop, struct op *op, int fd, int mode, uint64_t offset,
                    uint64_t len)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_fallocate(sqe, fd, mode, (off_t)offset, (off_t)len);
    io_uring_sqe_set_data(sqe, op);
}

void loop_accept(struct loop *loop, struct op *op, int fd)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, op);
}

void loop_accept_many(struct loop *loop, struct op *op, int fd)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, op);
}

void loop_recv(struct loop *loop, struct op *op, int fd, void *buf, size_t len)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_recv(sqe, fd, buf, len, 0);
    io_uring_sqe_set_data(sqe, op);
}

void loop_send(struct loop *loop, struct op *op, int fd, const void *buf, size_t len)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_send(sqe, fd, buf, len, MSG_NOSIGNAL);
    io_uring_sqe_set_data(sqe, op);
}

void loop_submit(struct loop *loop)
{
    (void)io_uring_submit(&loop->ring); /* what cannot be submitted now is in the next turn */
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t ns)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    timer->spec[0] = (int64_t)(ns / NSEC_PER_SEC);
    timer->spec[1] = (int64_t)(ns % NSEC_PER_SEC);
    timer->armed = true;
    io_uring_prep_timeout(sqe, (struct __kernel_timespec *)(void *)timer->spec, 0, 0);
    io_uring_sqe_set_data(sqe, &timer->op);
}

void loop_cancel(struct loop *loop, struct op *op)
{
    struct io_uring_sqe *sqe = get_sqe(loop);

    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data(sqe, NULL);
}
