/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two lists beside the recordings: what is not built yet (pending.json) and where Mayfly
 * differs on purpose (differences.json). README.md describes both formats.
 */
#ifndef MAYFLY_TESTS_CONFORMANCE_LISTS_H
#define MAYFLY_TESTS_CONFORMANCE_LISTS_H

#include "tests/support/text.h"

#include <jansson.h>
#include <stdbool.h>

struct lists {
    json_t *pending; /* arrays; owned */
    json_t *differences;
};

enum fate {
    /* The recorded answer is wanted. */
    FATE_SAME,
    /* The feature comes later: any refusal will do. */
    FATE_PENDING,
    /* Until a feature comes: the recorded answer with some members replaced. */
    FATE_UNTIL,
    /* Until a feature comes: another answer. */
    FATE_INSTEAD,
    /* Another answer is wanted, and the recorded one is an error in the list. */
    FATE_DIFFERENT,
};

struct verdict {
    enum fate fate;
    const char *reason;
    const json_t *answer; /* what is wanted; FATE_UNTIL: pointer -> value; borrowed */
};

/* Reads both lists of `dir`. False, with a sentence in `why`, when one is missing or malformed. */
bool lists_load(struct lists *lists, const char *dir, struct text *why);
void lists_free(struct lists *lists);

/* The reason why a whole scenario waits, or NULL. */
const char *lists_scenario_pending(const struct lists *lists, const char *scenario);

/* What to expect of step `number` (from 1). */
struct verdict lists_step(const struct lists *lists, const char *scenario, size_t number);

/*
 * Checks the entries for one scenario of `steps` steps against it and marks them as belonging to
 * something. Then lists_leftovers() finds entries that name nothing. Both append sentences to
 * `why`.
 */
bool lists_check_scenario(const struct lists *lists, const char *scenario, size_t steps,
                          struct text *why);
bool lists_leftovers(const struct lists *lists, struct text *why);

#endif
