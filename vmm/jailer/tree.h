/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h owns the jail's directory, BASE/NAME/ID/root, and what the jailer puts there: a copy of
 * the executable, four directories, the device nodes a monitor needs, the PID file. What a user has
 * placed in it before, kernels and disks, stays as it is.
 */
#ifndef MAYFLY_JAILER_TREE_H
#define MAYFLY_JAILER_TREE_H

#include "vmm/jailer/options.h"
#include "vmm/jailer/undo.h"

struct tree {
    char exec_file[PATH_MAX]; /* resolved */
    const char *name;         /* its last part */
    char root[PATH_MAX];      /* of the jail, from the host's root */
    int base_fd, root_fd;     /* BASE, and the jail's root */
};

/*
 * Resolves the executable and the base directory, then makes the jail. A jail in which an earlier
 * monitor's nodes or PID file still are is refused before anything is changed. Follows no symbolic
 * link inside the jail: whoever filled it may have been less than root. -errno with a sentence.
 */
int tree_create(struct tree *t, const struct jailer_options *o, struct undo *u,
                struct err *e) __must_check;

/* Makes NAME.pid with that number in it; it must not be there. -errno with a sentence. */
int tree_write_pid(const struct tree *t, pid_t pid, struct err *e) __must_check;
void tree_remove_pid(const struct tree *t);

/* The minor number of the misc device of that name, by the text of /proc/misc; -1: none. Pure. */
int tree_find_misc_minor(const char *misc, const char *name);

#endif
