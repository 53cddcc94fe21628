/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc64.c: whole blocks as the architecture can, the rest a byte at a time. Entry n of the table is
 * the remainder of the byte n by the reflected polynomial 0x95ac9329ac4bc9b5. A remainder of a sum
 * is the sum of remainders, so it is spelled out by those of the bytes with one bit.
 *
 * A state file has 13 to 60 KiB. By the table they cost 6 instructions a byte, each waiting for the
 * one before; folded, 0.6.
 */
#include "vmm/snapshot/crc64.h"

#include "vmm/snapshot/crc64_fold.h"

#define SUM(n, a, b, c, d, e, f, g, h)                                                             \
    (((n)&1 ? (a) : 0) ^ ((n)&2 ? (b) : 0) ^ ((n)&4 ? (c) : 0) ^ ((n)&8 ? (d) : 0) ^               \
     ((n)&16 ? (e) : 0) ^ ((n)&32 ? (f) : 0) ^ ((n)&64 ? (g) : 0) ^ ((n)&128 ? (h) : 0))
#define OF_1(n)                                                                                    \
    SUM(n, UINT64_C(0x7ad870c830358979), UINT64_C(0xf5b0e190606b12f2),                             \
        UINT64_C(0xc038e5739841b68f), UINT64_C(0xab28ecb46814fe75), UINT64_C(0x7d08ff3b88be6f81),  \
        UINT64_C(0xfa11fe77117cdf02), UINT64_C(0xdf7adabd7a6e2d6f), UINT64_C(0x95ac9329ac4bc9b5))
#define OF_4(n)  OF_1(n), OF_1((n) + 1), OF_1((n) + 2), OF_1((n) + 3)
#define OF_16(n) OF_4(n), OF_4((n) + 4), OF_4((n) + 8), OF_4((n) + 12)
#define OF_64(n) OF_16(n), OF_16((n) + 16), OF_16((n) + 32), OF_16((n) + 48)

static const uint64_t table[256] = {OF_64(0), OF_64(64), OF_64(128), OF_64(192)};

static uint64_t by_table(uint64_t crc, const uint8_t *at, size_t len)
{
    while (len-- > 0)
        crc = table[(crc ^ *at++) & 0xff] ^ (crc >> 8);
    return crc;
}

uint64_t crc64(uint64_t crc, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint8_t rest[CRC64_BLOCK];
    size_t folded = crc64_fold(crc, at, len, rest);

    if (folded > 0)
        crc = by_table(0, rest, sizeof(rest));
    return by_table(crc, at + folded, len - folded);
}
