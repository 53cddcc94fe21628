/* SPDX-License-Identifier: Apache-2.0 */
/*
 * undo.h owns the list of what the jailer has made so far, so that a failure leaves nothing behind.
 * Each thing is remembered by the descriptor of a directory and a path from there: by the time of
 * a failure the process may have another root, from which absolute paths lead elsewhere. The
 * descriptors are borrowed and stay open until the end; all are close-on-exec.
 *
 * A step is pushed before its thing is made, so that nothing is ever made that cannot be undone,
 * and popped again if making it failed.
 */
#ifndef MAYFLY_JAILER_UNDO_H
#define MAYFLY_JAILER_UNDO_H

#include "vmm/base/util.h"

#include <sys/types.h>

enum undo_kind {
    UNDO_FILE,      /* unlink it */
    UNDO_DIRECTORY, /* remove it, unless there is something in it that is not ours */
    UNDO_CGROUP,    /* remove it, once processes that are just ending have left it */
    UNDO_MEMBER,    /* write "0" to it: a cgroup.procs file, and this process joins that cgroup */
};

struct undo {
    struct undo_step *last; /* NULL: nothing to undo */
};

/* -ENOMEM: then nothing may be made. */
int undo_push(struct undo *u, enum undo_kind kind, int dir_fd, const char *path) __must_check;
void undo_pop(struct undo *u);

/* mkdirat(2) with its step; a directory that is there already is as good, and not ours. 0 or
 * -errno. */
int undo_make_directory(struct undo *u, enum undo_kind kind, int dir_fd, const char *path,
                        mode_t mode) __must_check;

/* Undoes everything, newest first, as far as it can. */
void undo_all(struct undo *u);

#endif
