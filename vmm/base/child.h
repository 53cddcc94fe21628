/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h owns the processes that this one has forked: how each is born, the one word that it sends
 * back, and its end, which the loop sees, so that none is left a zombie.
 *
 * A child is this process over again, with one thread: the caller of child_fork. No other thread
 * may hold a lock then that the child will want (vCPUs are parked outside of all). It stays in our
 * process group and session, so that whoever ends the group ends it too, and has no other tie to
 * us: when we go, whoever adopts orphans reaps it.
 *
 * Loop thread, machine lock held, but for what is marked as the child's.
 */
#ifndef MAYFLY_BASE_CHILD_H
#define MAYFLY_BASE_CHILD_H

#include "vmm/base/loop.h"

#include <sys/types.h>

struct child;

/*
 * Forks. Returns the pid, 0 in the child, or -errno. `cgroup` is the directory of the cgroup that
 * the child is born in, -1 = ours. *out is the parent's until child_let_go or child_dismiss; in
 * the child it is its own end.
 */
pid_t child_fork(struct child **out, struct loop *loop, int cgroup, struct err *e) __must_check;

/* Whether it has said its word, or has ended without one: for loop_wait. */
bool child_is_heard(const struct child *child);

/* Has `on_word` called, by the loop, when child_is_heard becomes true, which it is not yet. */
void child_on_word(struct child *child, void (*on_word)(struct child *child, void *owner),
                   void *owner);

/* What it said: 0, or the error of its err; -ECHILD when it ended without a word. */
int child_word(const struct child *child, struct err *e) __must_check;

/* Lets a child that waits (child_wait) go on. */
void child_go_on(struct child *child);

/* The same, and the parent is done with it: the end of it is still seen to, and logged. */
void child_let_go(struct child *child);

/* Ends it, and returns when it is gone; the loop turns meanwhile. One that waits ends itself, with
 * time to tidy up; any other is killed. */
void child_dismiss(struct child *child);

/*
 * The child's own. The word: NULL = all is well. And, before or after it, to wait until it may go
 * on: true when it may, false when it is to end instead, or the parent has. At last it has nothing
 * more to say.
 */
void child_say(struct child *self, const struct err *e);
bool child_wait(struct child *self) __must_check;
void child_part(struct child *self);

/* Closes every descriptor from 3 on but the link to the parent and those listed. */
#define CHILD_KEEP_MAX 2048
void child_close_others(const struct child *self, const int *keep, unsigned count);

#endif
