/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_loop.h owns a loop without a kernel: it implements vmm/base/loop.h with a list. A test
 * starts something, looks at the operations it caused, and completes them with any result in any
 * order. No ring, no threads, no sleeps.
 */
#ifndef MAYFLY_TESTS_SUPPORT_FAKE_LOOP_H
#define MAYFLY_TESTS_SUPPORT_FAKE_LOOP_H

#include "vmm/base/loop.h"

enum fake_verb {
    FAKE_POLL,
    FAKE_READV,
    FAKE_WRITEV,
    FAKE_WRITE,
    FAKE_FSYNC,
    FAKE_FALLOCATE,
    FAKE_ACCEPT,
    FAKE_RECV,
    FAKE_SEND,
    FAKE_TIMER,
};

/* An operation that has been started and not completed. */
struct fake_op {
    enum fake_verb verb;
    struct op *op;
    int fd;
    bool multishot, datasync, cancelled;
    bool hangup; /* a poll that waits for nothing but the other end's going */
    int mode;    /* fallocate */
    const struct iovec *iov;
    unsigned count;
    void *buf;
    uint64_t offset, len; /* len: bytes, or a timer's nanoseconds */
    bool submitted;       /* a write by loop_submit: it has been carried out, with this result */
    int result;
};

/* Pending operations, oldest first. fake_loop_op returns NULL past the end. */
unsigned fake_loop_count(const struct loop *loop);
const struct fake_op *fake_loop_op(const struct loop *loop, unsigned index);
/* Pending operations of one kind, and the first of them (NULL = none). */
unsigned fake_loop_count_verb(const struct loop *loop, enum fake_verb verb);
const struct fake_op *fake_loop_find(const struct loop *loop, enum fake_verb verb);

/* Completes the operation at `index` with `res`; a multishot one goes on if `more`. */
void fake_loop_complete(struct loop *loop, unsigned index, int res, bool more);

/* What the operation at `index` gives if it is carried out: readv, writev, fsync and fallocate
 * really, a cancelled one -ECANCELED, a timer -ETIME, anything else 0. */
int fake_loop_carry_out(struct loop *loop, unsigned index);

/* The rest of a turn: deferred calls that are queued now, then the batch's hooks. */
void fake_loop_end_turn(struct loop *loop);

/* A moment with nothing to do: one step of the work that waits for it (loop_when_idle). False if
 * there is none. */
bool fake_loop_idle_step(struct loop *loop);

/* Turns until nothing is pending but polls, accepts and timers: each operation is carried out and
 * completed, oldest first. */
void fake_loop_settle(struct loop *loop);

/* What loop_is_current says (true at first): false = the test plays a vCPU. */
void fake_loop_set_current(struct loop *loop, bool current);

/* Called instead of blocking by loop_wait and loop_cond_wait. NULL = settle, and fail if that
 * changes nothing. */
void fake_loop_on_wait(struct loop *loop, void (*wait)(struct loop *loop, void *arg), void *arg);

#endif
