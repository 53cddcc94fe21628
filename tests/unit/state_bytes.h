/* SPDX-License-Identifier: Apache-2.0 */
/* A state file as bytes that a test reads, changes and makes right again. The offsets are those of
 * vmm/snapshot/FORMAT.md. */
#ifndef MAYFLY_TESTS_UNIT_STATE_BYTES_H
#define MAYFLY_TESTS_UNIT_STATE_BYTES_H

#include "vmm/base/util.h"
#include "vmm/snapshot/crc64.h"

#include <stdio.h>
#include <string.h>

enum { STATE_AT_LEN = 24, STATE_HEADER = 32, STATE_CRC = 8 };

/* Reads the file at `path`, which must be there and be shorter than `room`; its length. */
static inline size_t state_bytes_read(const char *path, uint8_t *bytes, size_t room)
{
    FILE *f = fopen(path, "rb");
    size_t len;

    BUG_ON(!f);
    len = fread(bytes, 1, room, f);
    fclose(f);
    BUG_ON(len < STATE_HEADER + STATE_CRC || len == room);
    return len;
}

/* Makes length and checksum right after a change. */
static inline void state_bytes_seal(uint8_t *bytes, size_t len)
{
    uint64_t whole = len, crc;

    memcpy(bytes + STATE_AT_LEN, &whole, sizeof(whole));
    crc = crc64(0, bytes, len - STATE_CRC);
    memcpy(bytes + len - STATE_CRC, &crc, sizeof(crc));
}

#endif
