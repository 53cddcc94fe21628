/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_text.h owns what /proc and the cgroup files say of cgroups. Pure: all of it is text. */
#ifndef MAYFLY_JAILER_CGROUP_TEXT_H
#define MAYFLY_JAILER_CGROUP_TEXT_H

#include "vmm/base/util.h"

/*
 * Where, by the text of /proc/mounts, the hierarchy is mounted: with version 1 the first that has
 * `controller`, with version 2 the first at all. False when there is none, or its path is longer
 * than `room`.
 */
bool cgroup_text_find_mount(const char *mounts, unsigned version, const char *controller, char *dir,
                            size_t room);

/*
 * The cgroup of a process in that hierarchy by the text of its /proc/PID/cgroup, without the
 * leading slash; "" for the root, and when the text does not say or it is longer than `room`.
 */
void cgroup_text_find_own(const char *text, unsigned version, const char *controller, char *path,
                          size_t room);

/* Whether `word` is one of the words of a list with `separator`s; a line's end is one too. */
bool cgroup_text_has_word(const char *list, char separator, const char *word);

#endif
