/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_tap.h owns a tap without a host: it implements virtio/net/tap.h with a pair of sockets that
 * keep frames apart. The test has the host's end. One tap at a time.
 */
#ifndef MAYFLY_TESTS_SUPPORT_FAKE_TAP_H
#define MAYFLY_TESTS_SUPPORT_FAKE_TAP_H

#include "virtio/net/tap.h"

/* The host sends a frame, header first; false when the tap has no room. */
bool fake_tap_send(const void *frame, size_t len);

/* Takes the next frame that the device has written; its length, or -1 when there is none. */
int fake_tap_receive(void *frame, size_t room);

/* What the device last told the host, and how often. */
unsigned fake_tap_offloads(void);
unsigned fake_tap_offload_calls(void);

/* From now on every read, write and setting of the tap gives this (a negative errno; 0 = no
 * more). */
void fake_tap_fail(int error);

#endif
