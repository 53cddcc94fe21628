/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc64.h owns the checksum at the end of a state file: CRC-64 with the polynomial of Jones,
 * 0xad93d23594c935a9, bits reflected, register 0 at the start and not inverted at the end. Clients
 * of Firecracker recompute it after they have changed a path, so it must be this one.
 *
 * Pure.
 */
#ifndef MAYFLY_SNAPSHOT_CRC64_H
#define MAYFLY_SNAPSHOT_CRC64_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `len` bytes that follow others whose checksum is `crc` (0 = none). Over bytes and
 * their checksum in little-endian order it is 0. */
uint64_t crc64(uint64_t crc, const void *bytes, size_t len);

#endif
