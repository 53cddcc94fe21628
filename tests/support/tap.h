/* SPDX-License-Identifier: Apache-2.0 */
/* Taps of the host for tests. */
#ifndef MAYFLY_TESTS_SUPPORT_TAP_H
#define MAYFLY_TESTS_SUPPORT_TAP_H

/* Makes a tap that stays, gives it an IPv4 address of a network of 256, and sets it up. 0 or -errno
 * (-EPERM, -ENOENT where the host has none). */
int tap_make(const char *name, const char *address);

/* Removes it; what uses it sees it go. */
int tap_remove(const char *name);

#endif
