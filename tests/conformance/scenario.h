/* SPDX-License-Identifier: Apache-2.0 */
/* One recorded scenario: its fresh directory, its monitor, its steps. Runs in a process of
 * its own. */
#ifndef MAYFLY_TESTS_CONFORMANCE_SCENARIO_H
#define MAYFLY_TESTS_CONFORMANCE_SCENARIO_H

#include "tests/conformance/lists.h"
#include "tests/support/text.h"

#include <jansson.h>
#include <stdbool.h>

struct scenario {
    const char *name;
    const char *file;    /* base name of the file it comes from */
    const json_t *json;  /* the scenario object */
    const json_t *usual; /* the file's `usual_headers`, or NULL */
};

struct replay_options {
    const char *monitor; /* absolute path of the program under test */
    const char *work;    /* directory that may be filled and is removed by the caller */
    const struct lists *lists;
    bool verbose;      /* report each step, also those that agree */
    bool with_pending; /* replay what the pending list would skip */
};

struct tally {
    unsigned passed, failed, skipped;
};

/*
 * Replays `s` in the fresh directory `dir` (which must not exist yet) and appends its report: one
 * line `ok`, `not ok` or `skip` with the name, then the details. Counts steps in `tally`.
 */
void scenario_run(const struct scenario *s, const struct replay_options *options, const char *dir,
                  struct tally *tally, struct text *report);

#endif
