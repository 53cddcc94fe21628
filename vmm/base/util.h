/* SPDX-License-Identifier: Apache-2.0 */
/* util.h owns the few helpers that every file needs: sizes, containers, checked sums, BUG_ON. */
#ifndef MAYFLY_BASE_UTIL_H
#define MAYFLY_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define PAGE_SIZE UINT64_C(4096)

#define NSEC_PER_SEC  UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_USEC UINT64_C(1000)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The struct of type `type` whose member `member` is at `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define __must_check       __attribute__((warn_unused_result))
#define __printf(fmt, arg) __attribute__((format(printf, fmt, arg)))

/*
 * For our own broken invariants, never for input: evaluated in every build type, says where,
 * aborts.
 */
#define BUG_ON(cond)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!!(cond), 0))                                                         \
            bug(__FILE__, __LINE__, #cond);                                                        \
    } while (0)

_Noreturn void bug(const char *file, int line, const char *what);

/* Whether the range of `len` bytes from `start` ends at or before `limit`, without overflow. */
static inline bool range_fits(uint64_t start, uint64_t len, uint64_t limit)
{
    return start <= limit && len <= limit - start;
}

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

static inline bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* Whether all of the bytes are zero: as the first is, and each is as the one before it. */
static inline bool is_all_zero(const void *bytes, size_t len)
{
    const unsigned char *at = bytes;

    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

#endif
