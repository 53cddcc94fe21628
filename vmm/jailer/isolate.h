/* SPDX-License-Identifier: Apache-2.0 */
/* isolate.h owns the namespaces that this process itself enters: network, and mounts with a root.
 */
#ifndef MAYFLY_JAILER_ISOLATE_H
#define MAYFLY_JAILER_ISOLATE_H

#include "vmm/base/err.h"

/* Joins the network namespace at `path` (of a file, or a link to one). -errno with a sentence. */
int isolate_join_netns(const char *path, struct err *e) __must_check;

/*
 * Takes a mount namespace of its own, in which `root` is the root, and is in it. Nothing of the old
 * root can be reached by path any more; what is mounted below `root` can, and comes along. What the
 * host unmounts later is unmounted here too; nothing that is mounted here gets out. *outside gets
 * the namespace of before, close-on-exec, or -1; also on failure: -errno with a sentence.
 */
int isolate_enter_root(const char *root, int *outside, struct err *e) __must_check;

/* Back to it, since nobody can remove a directory that is mounted on in his own namespace. */
void isolate_leave_root(int outside);

#endif
