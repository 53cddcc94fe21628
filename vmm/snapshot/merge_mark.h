/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge_mark.h owns the mark of a memory file into which a Diff is being merged: while it is there,
 * the file is neither the old memory nor the new, and no load takes it.
 *
 * The mark is a small file beside the memory file, with MERGE_MARK_SUFFIX at its name's end. It
 * names the inode, so that it says nothing of another file that has taken the name since.
 *
 * Blocking calls; whoever sets and clears it has the memory file alone (file_lock.h).
 */
#ifndef MAYFLY_SNAPSHOT_MERGE_MARK_H
#define MAYFLY_SNAPSHOT_MERGE_MARK_H

#include "vmm/snapshot/new_file.h"

#define MERGE_MARK_SUFFIX ".merging"

/* Marks `mem`, which was opened in place; on the disk unless it is lazy. On error there is no
 * mark. */
int merge_mark_set(const struct new_file *mem, struct err *e) __must_check;

/* The merge is complete, and so is all that belongs to it. */
int merge_mark_clear(const struct new_file *mem, struct err *e) __must_check;

/* Another file has taken the name of one that may have been marked: whatever mark there is says
 * nothing any more. */
void merge_mark_forget(const struct new_file *mem);

/* -EUCLEAN and a sentence if the memory file at `path`, open as `fd`, is marked, or if a mark
 * cannot be read. */
int merge_mark_check(const char *path, int fd, struct err *e) __must_check;

#endif
