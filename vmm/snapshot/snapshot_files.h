/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_files.h owns how the two files of a snapshot are written as if they were one thing.
 *
 * New files are written beside the old ones, and take their names only when both are complete and
 * on the disk: the memory first, the state last. Between the two renames the old state would be
 * beside the new memory; so before them the new state has a name that tells which memory it
 * belongs to (STATE_FOR), under which a load finds it (snapshot_find_state). Whatever
 * fails, and whenever the process dies, the former snapshot or the new one is there.
 *
 * A Diff over a memory file of the right size is merged into it, in place: then a failure costs
 * the old memory, which a mark tells (merge_mark.h). It is refused while anybody else runs from the
 * file (file_lock.h). This monitor itself may: what is merged is what its guest has there, so pages
 * that it has not touched yet do not change under it, and those that it has are its own.
 *
 * Nothing here needs the loop or KVM, so that a forked process can do it.
 */
#ifndef MAYFLY_SNAPSHOT_SNAPSHOT_FILES_H
#define MAYFLY_SNAPSHOT_SNAPSHOT_FILES_H

#include "vmm/base/mem.h"
#include "vmm/snapshot/file_lock.h"
#include "vmm/snapshot/new_file.h"
#include "vmm/snapshot/state_file.h"

/* Where a snapshot is, or goes. */
struct snapshot_files {
    const char *state_path, *mem_path;
};

/* What the memory file holds: all of memory, or the pages written since the last snapshot. */
enum snapshot_type { SNAPSHOT_DIFF, SNAPSHOT_FULL };

#define STATE_FOR ".mayfly-for-"

/* One that is being written; everything is borrowed. */
struct snapshot_job {
    struct snapshot_files files;
    enum snapshot_type type;
    bool lazy; /* nothing needs to be on the disk */
    bool sums; /* checksums of the memory file go into the state (page_sums.h) */
    const struct mem *mem;
    const struct file_lock *mem_lock; /* ours on the file of mem->fd */
};

struct snapshot_writer {
    struct snapshot_job job;
    struct new_file state, mem;
    bool in_place; /* `mem` is the old file */
};

/* Opens what will be written to; nothing is changed yet. Sentences begin as clients know them. */
int snapshot_writer_open(struct snapshot_writer *w, const struct snapshot_job *job,
                         struct err *e) __must_check;

/*
 * Writes and commits both files. `state` has all of the state file but its end; it is ended. Pages:
 * of a Full, all but those of zeros; of a Diff, what dirty_take has taken, or, without tracking,
 * what mem_file.h says. Sentences name the path.
 */
int snapshot_writer_run(struct snapshot_writer *w, struct state_writer *state,
                        struct err *e) __must_check;

/* Removes what was not committed. Accepts one that could not be opened. */
void snapshot_writer_close(struct snapshot_writer *w);

/* Lets go of the files without a change to any: they are somebody else's now, a forked process's
 * that has them too. */
void snapshot_writer_hand_over(struct snapshot_writer *w);

/* The state file that belongs to the memory file at `mem_path`: the one at `state_path`, or a
 * newer one that a dying process could not give its name. malloc'ed; NULL without memory. */
char *snapshot_find_state(const struct snapshot_files *files) __must_check;

#endif
