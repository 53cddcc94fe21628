/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.h owns the jailer's cgroups: PARENT/ID in each hierarchy that a --cgroup names, with the
 * values set before the process joins, so that no limit is ever missing.
 */
#ifndef MAYFLY_JAILER_CGROUP_H
#define MAYFLY_JAILER_CGROUP_H

#include "vmm/jailer/options.h"
#include "vmm/jailer/undo.h"

/*
 * Makes the cgroups, writes their values and joins them with the calling process, once each. With
 * version 2, --parent-cgroup and no --cgroup: joins the parent if it exists. `name` is the
 * executable's, the default parent. Controllers that had to be enabled in cgroups of others stay
 * enabled after a failure: meanwhile somebody else may count on them. -errno with a sentence.
 */
int cgroup_join(const struct jailer_options *o, const char *name, struct undo *u,
                struct err *e) __must_check;

#endif
