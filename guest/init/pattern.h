/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test disks are filled with: every sector's bytes follow from its number and a seed, so that
 * guest and host can each tell a right sector from a stale, torn or misplaced one.
 */
#ifndef MAYFLY_GUEST_PATTERN_H
#define MAYFLY_GUEST_PATTERN_H

#include <stdint.h>
#include <string.h>

#define SECTOR_SIZE  512
#define SECTOR_WORDS (SECTOR_SIZE / 8)

/* The output function of SplitMix64: a good mixing of 64 bits into 64. */
static inline uint64_t pattern_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/* Word `i` of sector `n` is mix(mix(seed) + n * 64 + i), little-endian. */
static inline void pattern_fill(void *sector, uint64_t n, uint64_t seed)
{
    uint64_t words[SECTOR_WORDS], base = pattern_mix(seed) + n * SECTOR_WORDS;

    for (uint64_t i = 0; i < SECTOR_WORDS; i++)
        words[i] = pattern_mix(base + i);
    memcpy(sector, words, SECTOR_SIZE);
}

/* Returns 1 if the sector holds what pattern_fill() would put there. */
static inline int pattern_matches(const void *sector, uint64_t n, uint64_t seed)
{
    uint8_t expected[SECTOR_SIZE];

    pattern_fill(expected, n, seed);
    return memcmp(sector, expected, SECTOR_SIZE) == 0;
}

#endif
