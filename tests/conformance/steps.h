/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out the steps of a scenario and describes what came in the form of the recordings. */
#ifndef MAYFLY_TESTS_CONFORMANCE_STEPS_H
#define MAYFLY_TESTS_CONFORMANCE_STEPS_H

#include "tests/conformance/places.h"
#include "tests/support/process.h"
#include "tests/support/text.h"

#include <jansson.h>
#include <stdbool.h>

enum { STEPS_CONNECTIONS_MAX = 32 };

struct connection {
    const char *name; /* NULL for one that is only held; borrowed from the recording */
    int fd;
    struct text pending;
};

/* A running scenario. */
struct stage {
    struct places places;
    const char *monitor;
    const json_t *args; /* more arguments for the monitor, or NULL */
    char *errors;       /* path of the file that gets the monitor's standard error */
    struct process vmm; /* pid 0 when none was started */
    struct connection connections[STEPS_CONNECTIONS_MAX];
    unsigned n_connections;
};

/* Starts the monitor and waits until its socket accepts or it has ended. 0 or -errno. */
int stage_start_monitor(struct stage *stage);

/* Ends the monitor and every connection. */
void stage_clear(struct stage *stage);

/* Carries out one step. Returns its answer, which the caller owns; NULL for an unknown kind. */
json_t *step_run(struct stage *stage, const json_t *step);

/* One line that names a step: its own name, or its method and path. */
void step_title(struct text *out, const json_t *step);

#endif
