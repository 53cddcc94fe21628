/* SPDX-License-Identifier: Apache-2.0 */
/*
 * background_save.h owns the snapshot that is written while the guest already goes on: a forked
 * process, the writer, has the memory as it was when the guest stood still, writes the files from
 * it and says how that ended. It is nothing but that: no loop, no KVM, no log.
 *
 *      none --begin--> writing --the writer's word, or its end--> done, failed
 *
 * One at a time. The dirty pages stay taken (dirty.h) until the word, so that a writer that fails
 * costs none. The writer outlives this process if it must: then it ends with what it can, and the
 * former snapshot or the new one is there (snapshot_files.h).
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_VMM_BACKGROUND_SAVE_H
#define MAYFLY_VMM_BACKGROUND_SAVE_H

#include "vmm/machine.h"
#include "vmm/saved_layers.h"
#include "vmm/snapshot/snapshot_files.h"

struct machine;

/* -EBUSY while one is being written. */
int background_save_check(const struct machine *machine, struct err *e) __must_check;

/* What is left of a save when the machine may go on: everything has been opened, and what is dirty
 * has been taken. */
struct save_work {
    struct snapshot_writer *files;
    struct saved_layers *layers;
    struct state_writer *state; /* the state file's contents but for its end */
};

/* Writes all of it and closes the layers. Touches neither loop nor KVM. */
int save_work_run(struct save_work *work, struct err *e) __must_check;

/* Forks the writer of a paused machine. On success the files and layers are the writer's; on error
 * nothing has begun, and the caller still has them. */
int background_save_begin(struct machine *machine, struct save_work *work,
                          struct err *e) __must_check;

#endif
