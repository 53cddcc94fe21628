/* SPDX-License-Identifier: Apache-2.0 */
/* util.c: what util.h cannot do inline. */
#include "vmm/base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void bug(const char *file, int line, const char *what)
{
    fprintf(stderr, "mayfly: bug at %s:%d: %s\n", file, line, what);
    abort();
}

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}
