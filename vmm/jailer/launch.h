/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.h owns the last step: from the jailer, which by then is inside, to the monitor. Without
 * --daemonize and --new-pid-ns the process itself becomes the monitor; with them a child does, and
 * whoever waits hears first that it runs, or why not.
 */
#ifndef MAYFLY_JAILER_LAUNCH_H
#define MAYFLY_JAILER_LAUNCH_H

#include "vmm/jailer/options.h"
#include "vmm/jailer/tree.h"

struct launch {
    const struct jailer_options *o;
    const struct tree *tree;
    int null_fd;       /* /dev/null of the host, for --daemonize */
    uint64_t start_us; /* CLOCK_MONOTONIC when the jailer started */
    uint64_t cpu_us;   /* CPU time of the jailer's earlier processes; 0 at first */
};

/*
 * Ends in one of three ways: it does not return, as the process is the monitor now; it returns 0,
 * as a child is; or -errno with a sentence, and then neither a child nor a PID file is left.
 */
int launch(struct launch *l, struct err *e) __must_check;

/* The monitor's arguments, in malloc'ed memory (the list; its numbers stand in `numbers`). Pure. */
struct launch_numbers {
    char start_us[24], start_cpu_us[24], parent_cpu_us[24];
};
char **launch_make_arguments(const char *path, const struct jailer_options *o,
                             struct launch_numbers *numbers);

#endif
