/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines of the test programs, on CLOCK_MONOTONIC, in milliseconds. */
#ifndef MAYFLY_TESTS_SUPPORT_CLOCK_H
#define MAYFLY_TESTS_SUPPORT_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What is left until `deadline`, never below zero: the argument poll() wants. */
static inline int clock_left(int64_t deadline)
{
    int64_t left = deadline - clock_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static inline void clock_sleep(int64_t ms)
{
    struct timespec span = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&span, NULL);
}

#endif
