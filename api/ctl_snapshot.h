/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_snapshot.h owns `mayflyctl snapshot`. */
#ifndef MAYFLY_API_CTL_SNAPSHOT_H
#define MAYFLY_API_CTL_SNAPSHOT_H

/* argv[0] is "snapshot". The exit status: 0, 1 when something is wrong with what was looked at, 2
 * for wrong usage. */
int ctl_snapshot(int argc, char **argv);

#endif
