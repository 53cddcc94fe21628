/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h owns the event loop: one io_uring, one thread, one lock.
 *
 * An operation is a struct op embedded in its owner. A verb starts it; its `done` is called on the
 * loop thread, with the machine lock held, when it completes: res is the result (-errno on
 * failure), `more` tells that a multishot operation goes on. An op lives until a completion with
 * more == false; cancelling asks for that completion (-ECANCELED) and does not replace it. Nothing
 * is allocated per operation.
 *
 * One turn: unlock; submit everything queued and wait for one completion; lock; call each `done`;
 * run deferred calls; run the end-of-batch hooks (publish used rings, raise interrupts, once each);
 * repeat.
 *
 * Only the loop thread may call the verbs (the ring is SINGLE_ISSUER); until loop_run they may also
 * be called by the thread that will call it. Other threads (vCPUs) use loop_defer. The ring is
 * restricted to the opcodes of these verbs before it is enabled, since seccomp filters do not see
 * ring operations.
 *
 * Verbs cannot fail: a full submission queue is submitted and the verb goes on; a failing operation
 * tells so by its completion.
 */
#ifndef MAYFLY_BASE_LOOP_H
#define MAYFLY_BASE_LOOP_H

#include "vmm/base/err.h"

#include <pthread.h>

#include <sys/socket.h>
#include <sys/uio.h>

struct loop;

struct op {
    void (*done)(struct op *op, int res, bool more);
};

/* A call handed to the loop thread; embedded in its owner like an op. */
struct deferred {
    void (*run)(struct deferred *deferred);
    struct deferred *next;
    bool queued;
};

/* Runs after each batch of completions, under the lock; embedded in its owner. */
struct batch_hook {
    void (*run)(struct batch_hook *hook);
    struct batch_hook *next;
    bool armed;
};

/* Work for when there is nothing else to do; embedded in its owner. */
struct idle_work {
    bool (*step)(struct idle_work *work); /* a part of it; whether there is more */
};

/*
 * Makes the ring (R_DISABLED, restricted, then enabled) and the lock, unlocked. -EPERM or -ENOSYS
 * where the host forbids io_uring, with a sentence that names kernel.io_uring_disabled.
 */
int loop_create(struct loop **loop, struct err *e) __must_check;

/* After loop_run; what is still in the ring ends without a completion. NULL is accepted. */
void loop_destroy(struct loop *loop);

/*
 * For a forked child: lets go of its parent's ring, whose operations go on as if there were no
 * child. Everything that was in flight is the parent's; nothing of it is called here. No thread but
 * the caller.
 */
void loop_forget(struct loop *loop);

/* The machine lock. A leaf of nothing: only the log's lock is taken inside it. */
void loop_lock(struct loop *loop);
void loop_unlock(struct loop *loop);

/* Releases the lock, waits for `cond`, takes it again: for a vCPU thread that waits for a drained
 * device. */
void loop_cond_wait(struct loop *loop, pthread_cond_t *cond);

/* Runs until loop_stop; the caller becomes the loop thread and holds the lock inside callbacks. */
void loop_run(struct loop *loop);

/*
 * Ends everything that is in the ring, without calling anybody: for a process that is about to end.
 * The kernel would do it later, in a thread of its own, and what the operations hold (a tap, say)
 * would still be busy when the process is gone. The thread of loop_run, which has returned.
 */
void loop_abandon(struct loop *loop);

/* Makes loop_run return after the current turn. Any thread, under the lock. */
void loop_stop(struct loop *loop);

/*
 * Runs turns until cond(arg) is true, from inside a callback: for a request that must wait (park
 * the vCPUs, drain a device) while completions go on. Loop thread only. Other owners' callbacks run
 * meanwhile; whoever must not be re-entered (the API server) guards itself.
 */
void loop_wait(struct loop *loop, bool (*cond)(void *arg), void *arg);

/* Wakes the loop thread so that loop_wait looks again. Any thread. */
void loop_wake(struct loop *loop);

/* Whether the caller is the thread inside loop_run. */
bool loop_is_current(const struct loop *loop);

/* POLLIN on fd, once or (multishot) until cancelled; a multishot that ends with more == false is
 * re-armed by its owner. The kernel never reads the fd: an eventfd's counter just grows. */
void loop_poll(struct loop *loop, struct op *op, int fd, bool multishot);

/* The other end of fd's stream hangs up; once. */
void loop_poll_hangup(struct loop *loop, struct op *op, int fd);

/* iov must stay valid until completion. offset -1 = the file's own position. */
void loop_readv(struct loop *loop, struct op *op, int fd, const struct iovec *iov, unsigned count,
                uint64_t offset);
void loop_writev(struct loop *loop, struct op *op, int fd, const struct iovec *iov, unsigned count,
                 uint64_t offset);
/* write(2) at the file's own position: cheaper than a vector of one. */
void loop_write(struct loop *loop, struct op *op, int fd, const void *buf, uint32_t len);
/* datasync: fdatasync instead of fsync. */
void loop_fsync(struct loop *loop, struct op *op, int fd, bool datasync);
/* fallocate(2) with its mode bits: discard and write-zeroes. */
void loop_fallocate(struct loop *loop, struct op *op, int fd, int mode, uint64_t offset,
                    uint64_t len);
/* Accepts one connection: its descriptor, close-on-exec, is the result. */
void loop_accept(struct loop *loop, struct op *op, int fd);
/* The same again and again, until cancelled or an error. */
void loop_accept_many(struct loop *loop, struct op *op, int fd);
/* recv(2) and send(2), without SIGPIPE; the buffer must stay valid until completion. */
void loop_recv(struct loop *loop, struct op *op, int fd, void *buf, size_t len);
void loop_send(struct loop *loop, struct op *op, int fd, const void *buf, size_t len);

/*
 * Submits now what the verbs have queued, without waiting for anything: what needs no waiting is
 * done when this returns, in the order in which it was queued, and its completions come in this
 * turn. For a batch whose parts would each cost a system call, and a switch to whoever they wake.
 */
void loop_submit(struct loop *loop);

struct loop_timer {
    struct op op;    /* first: `done` gets this */
    int64_t spec[2]; /* the kernel's struct __kernel_timespec, read when submitted */
    bool armed;      /* set by the start, cleared by the owner's `done` */
};

/* Completes with -ETIME after ns nanoseconds (CLOCK_MONOTONIC), with -ECANCELED after loop_cancel.
 * One at a time per timer. */
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t ns);

/* Asks for op's end: its last completion comes with -ECANCELED, or with its result if that was
 * first. Harmless for an op that has just completed and not yet been seen. */
void loop_cancel(struct loop *loop, struct op *op);

/* Queues a call on the loop thread and wakes it. Any thread, under the lock. Queuing twice runs it
 * once. */
void loop_defer(struct loop *loop, struct deferred *deferred);

/*
 * Calls work->step whenever loop_run would wait otherwise, under the lock, until it returns false.
 * Between two steps completions are looked for, so whoever comes meanwhile waits for one step at
 * most. One work at a time; NULL = no more. Where loop_defer may be called from the loop thread.
 */
void loop_when_idle(struct loop *loop, struct idle_work *work);

/* Arms a hook for the end of this batch. Loop thread or any thread under the lock (then it also
 * wakes the loop). Arming twice runs it once. */
void loop_at_batch_end(struct loop *loop, struct batch_hook *hook);

#endif
