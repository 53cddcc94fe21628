/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_fork.h owns the live fork: further machines out of one that has been started, each in a
 * process of its own, with the memory shared copy-on-write and no file written.
 *
 *      parent                                  child
 *      park the vCPUs, drain the devices
 *      save the state into memory
 *      fork, once for each child  ------->     let go of what is the parent's
 *      let its own guest run on                loop, VM and devices of its own
 *                                 <-------     its word: ready, or why not
 *      all are ready: let them go ------->     the guest runs
 *
 * All or none: no child's guest runs before every child can, and if one cannot be made, none
 * remains. The parent's guest stands still until the last fork only.
 *
 * What the child has of the parent by nature of fork(2): the guest's memory, at the same addresses;
 * the parent's structs, which it never touches again (they are shared pages until then); nothing of
 * KVM and nothing of the ring, which belong to the parent's address space.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_VMM_MACHINE_FORK_H
#define MAYFLY_VMM_MACHINE_FORK_H

#include "vmm/base/child.h"
#include "vmm/machine.h"

/* Children of one fork at most. */
#define FORK_CHILDREN_MAX 128

/* What a child begins with. */
struct inheritance {
    struct machine *parent; /* as it was */
    const void *state;      /* the state file's bytes */
    size_t state_len;
    struct child *self;
};

struct birthplace {
    const char *name; /* for errors */
    int cgroup;       /* a directory; -1 = ours */
};

struct machine_fork {
    const struct birthplace *place; /* one for each child */
    unsigned count;
    /*
     * Makes the child number `index` into a monitor, without the lock of any loop: fork_let_go,
     * machine_inherit, child_say, child_wait. Never returns.
     */
    void (*become)(void *owner, unsigned index, const struct inheritance *of);
    void *owner;
};

/*
 * Forks, and returns when every child's guest has been let go: their ids in `pid`. On error there
 * is no child and the machine goes on as before, but that overlays in files may have become layers
 * and go on in new ones (devices_split_overlays). -EBUSY before the start and after the end,
 * -ENOTSUP for what cannot be shared copy-on-write, -ETIMEDOUT, and whatever a child says. The loop
 * turns meanwhile.
 */
int machine_fork(struct machine *machine, const struct machine_fork *fork, pid_t *pid,
                 struct err *e) __must_check;

/*
 * In the child: lets go of the parent's VM, ring, terminal and descriptors, but for `listener`, its
 * own. After it nothing of the parent's but its memory and the state may be used.
 */
void fork_let_go(const struct inheritance *of, int listener);

/*
 * In the child: makes a machine that was told nothing yet the parent's, paused. It takes the memory
 * over. On error the process can only end.
 */
int machine_inherit(struct machine *machine, const struct inheritance *of,
                    const struct saved_overrides *overrides, struct err *e) __must_check;

#endif
