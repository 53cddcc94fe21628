/* SPDX-License-Identifier: Apache-2.0 */
/* crc64_fold.h owns the architecture's part of crc64.h: many bytes into few with the same
 * checksum, by the processor's carry-less multiplication. Private to crc64.c. */
#ifndef MAYFLY_SNAPSHOT_CRC64_FOLD_H
#define MAYFLY_SNAPSHOT_CRC64_FOLD_H

#include <stddef.h>
#include <stdint.h>

#define CRC64_BLOCK 16u

/*
 * Takes as many whole blocks as there are, and returns their length: their checksum behind `crc` is
 * that of `rest` behind 0. Returns 0 and takes nothing where the processor cannot, or there are too
 * few.
 */
size_t crc64_fold(uint64_t crc, const uint8_t *bytes, size_t len, uint8_t rest[CRC64_BLOCK]);

#endif
