/* SPDX-License-Identifier: Apache-2.0 */
/* fake_loop.c: the loop's verbs over a list in memory. */
#include "tests/support/fake_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PENDING_MAX 2048

/* Waits that make no progress before the test is declared stuck. */
#define WAITS_MAX 10000

struct loop {
    struct fake_op pending[PENDING_MAX];
    unsigned count;
    struct deferred *deferred;
    struct batch_hook *hooks;
    struct idle_work *idle;
    bool not_current, stopped;
    void (*wait)(struct loop *loop, void *arg);
    void *wait_arg;
};

/* ---- the test's side ------------------------------------------------------------------------- */

unsigned fake_loop_count(const struct loop *loop)
{
    return loop->count;
}

const struct fake_op *fake_loop_op(const struct loop *loop, unsigned index)
{
    return index < loop->count ? &loop->pending[index] : NULL;
}

unsigned fake_loop_count_verb(const struct loop *loop, enum fake_verb verb)
{
    unsigned n = 0;

    for (unsigned i = 0; i < loop->count; i++)
        n += loop->pending[i].verb == verb;
    return n;
}

const struct fake_op *fake_loop_find(const struct loop *loop, enum fake_verb verb)
{
    for (unsigned i = 0; i < loop->count; i++)
        if (loop->pending[i].verb == verb)
            return &loop->pending[i];
    return NULL;
}

void fake_loop_complete(struct loop *loop, unsigned index, int res, bool more)
{
    struct op *op;
    bool was = loop->not_current;

    BUG_ON(index >= loop->count);
    op = loop->pending[index].op;
    if (!more) {
        loop->count--;
        memmove(&loop->pending[index], &loop->pending[index + 1],
                (loop->count - index) * sizeof(loop->pending[0]));
    }
    loop->not_current = false;
    op->done(op, res, more);
    loop->not_current = was;
}

int fake_loop_carry_out(struct loop *loop, unsigned index)
{
    const struct fake_op *op = &loop->pending[index];
    ssize_t n = 0;

    BUG_ON(index >= loop->count);
    if (op->submitted)
        return op->result;
    if (op->cancelled)
        return -ECANCELED;
    if (op->verb == FAKE_TIMER)
        return -ETIME;
    if (op->verb == FAKE_READV)
        n = preadv2(op->fd, op->iov, (int)op->count, (off_t)op->offset, 0);
    else if (op->verb == FAKE_WRITEV)
        n = pwritev2(op->fd, op->iov, (int)op->count, (off_t)op->offset, 0);
    else if (op->verb == FAKE_WRITE)
        n = write(op->fd, op->buf, op->len);
    else if (op->verb == FAKE_FSYNC)
        n = op->datasync ? fdatasync(op->fd) : fsync(op->fd);
    else if (op->verb == FAKE_FALLOCATE)
        n = fallocate(op->fd, op->mode, (off_t)op->offset, (off_t)op->len);
    return n < 0 ? -errno : (int)n;
}

void fake_loop_end_turn(struct loop *loop)
{
    struct deferred *list = loop->deferred;
    bool was = loop->not_current;

    loop->not_current = false;
    loop->deferred = NULL;
    while (list) {
        struct deferred *deferred = list;

        list = deferred->next;
        deferred->queued = false;
        deferred->run(deferred);
    }
    while (loop->hooks) {
        struct batch_hook *hook = loop->hooks;

        loop->hooks = hook->next;
        hook->armed = false;
        hook->run(hook);
    }
    loop->not_current = was;
}

bool fake_loop_idle_step(struct loop *loop)
{
    struct idle_work *work = loop->idle;

    if (!work)
        return false;
    if (!work->step(work) && loop->idle == work)
        loop->idle = NULL;
    return true;
}

static bool is_idle_verb(const struct fake_op *op)
{
    if (op->cancelled)
        return false;
    return op->verb == FAKE_POLL || op->verb == FAKE_ACCEPT || op->verb == FAKE_RECV ||
           op->verb == FAKE_TIMER;
}

/* Completes the oldest operation that ends by itself; false if there is none. A read of a file
 * without positions waits for its data. */
static bool complete_one(struct loop *loop)
{
    for (unsigned i = 0; i < loop->count; i++) {
        int res;

        if (is_idle_verb(&loop->pending[i]))
            continue;
        res = fake_loop_carry_out(loop, i);
        if (res == -EAGAIN && loop->pending[i].verb == FAKE_READV &&
            loop->pending[i].offset == UINT64_MAX)
            continue;
        fake_loop_complete(loop, i, res, false);
        return true;
    }
    return false;
}

void fake_loop_settle(struct loop *loop)
{
    do {
        while (complete_one(loop))
            ;
        fake_loop_end_turn(loop);
    } while (loop->deferred || complete_one(loop));
}

void fake_loop_set_current(struct loop *loop, bool current)
{
    loop->not_current = !current;
}

void fake_loop_on_wait(struct loop *loop, void (*wait)(struct loop *loop, void *arg), void *arg)
{
    loop->wait = wait;
    loop->wait_arg = arg;
}

static void wait_once(struct loop *loop)
{
    if (loop->wait)
        loop->wait(loop, loop->wait_arg);
    else
        fake_loop_settle(loop);
}

/* ---- loop.h ---------------------------------------------------------------------------------- */

int loop_create(struct loop **out, struct err *e)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    (void)e;
    BUG_ON(!loop);
    *out = loop;
    return 0;
}

void loop_destroy(struct loop *loop)
{
    free(loop);
}

void loop_forget(struct loop *loop)
{
    loop_destroy(loop);
}

void loop_lock(struct loop *loop)
{
    (void)loop;
}

void loop_unlock(struct loop *loop)
{
    (void)loop;
}

void loop_when_idle(struct loop *loop, struct idle_work *work)
{
    loop->idle = work;
}

void loop_cond_wait(struct loop *loop, pthread_cond_t *cond)
{
    (void)cond;
    wait_once(loop);
}

void loop_run(struct loop *loop)
{
    while (!loop->stopped)
        fake_loop_settle(loop);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

void loop_wait(struct loop *loop, bool (*cond)(void *arg), void *arg)
{
    for (unsigned waits = 0; !cond(arg); waits++) {
        BUG_ON(waits == WAITS_MAX);
        wait_once(loop);
    }
}

void loop_wake(struct loop *loop)
{
    (void)loop;
}

bool loop_is_current(const struct loop *loop)
{
    return !loop->not_current;
}

void loop_defer(struct loop *loop, struct deferred *deferred)
{
    struct deferred **end = &loop->deferred;

    if (deferred->queued)
        return;
    while (*end)
        end = &(*end)->next;
    deferred->queued = true;
    deferred->next = NULL;
    *end = deferred;
}

void loop_at_batch_end(struct loop *loop, struct batch_hook *hook)
{
    if (hook->armed)
        return;
    hook->armed = true;
    hook->next = loop->hooks;
    loop->hooks = hook;
}

static struct fake_op *start(struct loop *loop, enum fake_verb verb, struct op *op, int fd)
{
    struct fake_op *new = &loop->pending[loop->count];

    /* The real ring is SINGLE_ISSUER: a verb on another thread fails there. */
    BUG_ON(loop->not_current);
    BUG_ON(loop->count == PENDING_MAX || !op->done);
    for (unsigned i = 0; i < loop->count; i++)
        BUG_ON(loop->pending[i].op == op); /* started twice */
    loop->count++;
    *new = (struct fake_op){.verb = verb, .op = op, .fd = fd};
    return new;
}

void loop_poll(struct loop *loop, struct op *op, int fd, bool multishot)
{
    start(loop, FAKE_POLL, op, fd)->multishot = multishot;
}

void loop_poll_hangup(struct loop *loop, struct op *op, int fd)
{
    start(loop, FAKE_POLL, op, fd)->hangup = true;
}

static void start_vector(struct loop *loop, enum fake_verb verb, struct op *op, int fd,
                         const struct iovec *iov, unsigned count, uint64_t offset)
{
    struct fake_op *new = start(loop, verb, op, fd);

    new->iov = iov;
    new->count = count;
    new->offset = offset;
    for (unsigned i = 0; i < count; i++)
        new->len += iov[i].iov_len;
}

void loop_readv(struct loop *loop, struct op *op, int fd, const struct iovec *iov, unsigned count,
                uint64_t offset)
{
    start_vector(loop, FAKE_READV, op, fd, iov, count, offset);
}

void loop_writev(struct loop *loop, struct op *op, int fd, const struct iovec *iov, unsigned count,
                 uint64_t offset)
{
    start_vector(loop, FAKE_WRITEV, op, fd, iov, count, offset);
}

void loop_write(struct loop *loop, struct op *op, int fd, const void *buf, uint32_t len)
{
    struct fake_op *new = start(loop, FAKE_WRITE, op, fd);

    new->buf = (void *)(uintptr_t)buf;
    new->len = len;
}

void loop_fsync(struct loop *loop, struct op *op, int fd, bool datasync)
{
    start(loop, FAKE_FSYNC, op, fd)->datasync = datasync;
}

void loop_fallocate(struct loop *loop, struct op *op, int fd, int mode, uint64_t offset,
                    uint64_t len)
{
    struct fake_op *new = start(loop, FAKE_FALLOCATE, op, fd);

    new->mode = mode;
    new->offset = offset;
    new->len = len;
}

void loop_accept(struct loop *loop, struct op *op, int fd)
{
    start(loop, FAKE_ACCEPT, op, fd);
}

void loop_accept_many(struct loop *loop, struct op *op, int fd)
{
    start(loop, FAKE_ACCEPT, op, fd)->multishot = true;
}

void loop_recv(struct loop *loop, struct op *op, int fd, void *buf, size_t len)
{
    struct fake_op *new = start(loop, FAKE_RECV, op, fd);

    new->buf = buf;
    new->len = len;
}

void loop_send(struct loop *loop, struct op *op, int fd, const void *buf, size_t len)
{
    struct fake_op *new = start(loop, FAKE_SEND, op, fd);

    new->buf = (void *)(uintptr_t)buf;
    new->len = len;
}

/* Writes are carried out, and complete in their turn. */
void loop_submit(struct loop *loop)
{
    for (unsigned i = 0; i < loop->count; i++) {
        struct fake_op *op = &loop->pending[i];

        if ((op->verb != FAKE_WRITEV && op->verb != FAKE_WRITE) || op->submitted)
            continue;
        op->result = fake_loop_carry_out(loop, i);
        op->submitted = true;
    }
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t ns)
{
    start(loop, FAKE_TIMER, &timer->op, -1)->len = ns;
    timer->armed = true;
}

void loop_cancel(struct loop *loop, struct op *op)
{
    for (unsigned i = 0; i < loop->count; i++)
        if (loop->pending[i].op == op)
            loop->pending[i].cancelled = true;
}
