/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c: the process's counters. */
#include "vmm/base/metrics.h"

struct metrics metrics;

void metric_agg_add(struct metric_agg *agg, uint64_t ns)
{
    uint64_t us = ns / NSEC_PER_USEC;

    if (agg->sum_us == 0 || us < agg->min_us)
        agg->min_us = us;
    if (us > agg->max_us)
        agg->max_us = us;
    agg->sum_us += us;
}
