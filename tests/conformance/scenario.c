/* SPDX-License-Identifier: Apache-2.0 */
/* Replays one scenario and reports each step that does not answer as wanted. */
#include "tests/conformance/scenario.h"

#include "tests/conformance/compare.h"
#include "tests/conformance/steps.h"
#include "tests/support/clock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long a file may take to show what was recorded. */
enum { CHECK_PATIENCE_MS = 2000 };

struct run {
    const struct scenario *scenario;
    const struct replay_options *options;
    struct stage stage;
    struct tally tally;
    struct text details;
};

static void note(struct run *r, size_t number, const json_t *step, const char *what)
{
    text_printf(&r->details, "    step %zu (", number);
    step_title(&r->details, step);
    text_printf(&r->details, "): %s\n", what);
}

/* A pending endpoint may tell what it likes, but must not claim to have done what it cannot do. */
static void judge_pending(struct run *r, size_t number, const json_t *step, const json_t *came,
                          const char *reason)
{
    json_int_t status = json_integer_value(json_object_get(came, "status"));
    const char *method =
        json_string_value(json_object_get(json_object_get(step, "request"), "method"));
    if (status >= 400 || !method || !strcmp(method, "GET")) {
        r->tally.skipped++;
        if (r->options->verbose)
            note(r, number, step, reason);
        return;
    }
    r->tally.failed++;
    note(r, number, step, "listed as pending, but not refused");
    char *dump = json_dumps(came, JSON_COMPACT);
    text_printf(&r->details, "        came     %s\n", dump);
    free(dump);
}

/* A listed difference must be as listed, and must not agree with the recording. */
static void judge_different(struct run *r, size_t number, const json_t *step, const json_t *came,
                            const struct verdict *verdict)
{
    struct text report = {0}, unused = {0};
    const json_t *recorded = json_object_get(step, "answer");
    const json_t *unordered = json_object_get(step, "unordered");
    bool as_listed = compare_answers(verdict->answer, came, unordered, r->scenario->usual, &report);
    bool as_recorded = compare_answers(recorded, came, unordered, r->scenario->usual, &unused);
    if (as_listed && !as_recorded) {
        r->tally.passed++;
        if (r->options->verbose)
            note(r, number, step, verdict->reason);
    } else {
        r->tally.failed++;
        note(r, number, step,
             as_recorded ? "listed as a difference, but agrees with the recording: "
                           "take it off the list"
                         : "a listed difference, but not as listed");
        text_append(&r->details, text_str(&report), as_recorded ? 0 : report.len);
    }
    text_free(&report);
    text_free(&unused);
}

static json_t *wanted_answer(const json_t *step, const struct verdict *verdict)
{
    json_t *recorded = json_object_get(step, "answer");
    if (verdict->fate == FATE_UNTIL)
        return compare_patched(recorded, verdict->answer);
    return json_deep_copy(verdict->fate == FATE_INSTEAD ? verdict->answer : recorded);
}

static bool agrees(struct run *r, const json_t *step, const json_t *came,
                   const struct verdict *verdict, struct text *report)
{
    json_t *wanted = wanted_answer(step, verdict);
    text_clear(report);
    bool same = compare_answers(wanted, came, json_object_get(step, "unordered"),
                                r->scenario->usual, report);
    json_decref(wanted);
    return same;
}

/* Replays a step whose recorded answer is wanted. Files may take a moment to show it. */
static void judge_same(struct run *r, size_t number, const json_t *step, json_t *came,
                       const struct verdict *verdict)
{
    struct text report = {0};
    int64_t deadline = clock_ms() + CHECK_PATIENCE_MS;
    bool same = agrees(r, step, came, verdict, &report);
    while (!same && json_object_get(step, "check") && clock_left(deadline)) {
        clock_sleep(20);
        json_t *again = step_run(&r->stage, step);
        same = agrees(r, step, again, verdict, &report);
        json_decref(again);
    }
    if (same) {
        r->tally.passed++;
        if (r->options->verbose)
            note(r, number, step, "ok");
    } else {
        r->tally.failed++;
        note(r, number, step, "not as recorded");
        text_puts(&r->details, text_str(&report));
    }
    text_free(&report);
}

static void run_step(struct run *r, size_t number, const json_t *step)
{
    struct verdict verdict = lists_step(r->options->lists, r->scenario->name, number);
    if (r->options->with_pending && verdict.fate != FATE_DIFFERENT)
        verdict.fate = FATE_SAME;
    json_t *came = step_run(&r->stage, step);
    if (!came) {
        r->tally.failed++;
        note(r, number, step, "a kind of step that this program does not know");
        return;
    }
    if (verdict.fate == FATE_PENDING)
        judge_pending(r, number, step, came, verdict.reason);
    else if (verdict.fate == FATE_DIFFERENT)
        judge_different(r, number, step, came, &verdict);
    else
        judge_same(r, number, step, came, &verdict);
    json_decref(came);
}

/* The last lines of what the monitor said, for a failure's report. */
static void append_errors(struct run *r)
{
    struct text errors = {0};
    text_read_file(&errors, r->stage.errors);
    const char *tail = text_str(&errors);
    if (errors.len > 2000)
        tail += errors.len - 2000;
    if (errors.len)
        text_printf(&r->details, "    the monitor's standard error ended:\n%s\n", tail);
    text_free(&errors);
}

static void run_steps(struct run *r)
{
    const json_t *json = r->scenario->json;
    bool with_monitor = !json_is_false(json_object_get(json, "vmm"));
    r->stage.args = json_object_get(json, "args");
    if (with_monitor && stage_start_monitor(&r->stage) < 0)
        text_puts(&r->details, "    the monitor could not be started\n");
    size_t i;
    json_t *step;
    json_array_foreach (json_object_get(json, "steps"), i, step) {
        run_step(r, i + 1, step);
    }
    stage_clear(&r->stage);
    if (r->tally.failed)
        append_errors(r);
}

static void finish(struct run *r, struct tally *tally, struct text *report)
{
    const char *word = r->tally.failed ? "not ok" : "ok";
    text_printf(report, "%s %s (%u steps", word, r->scenario->name,
                r->tally.passed + r->tally.failed + r->tally.skipped);
    if (r->tally.failed)
        text_printf(report, ", %u failed", r->tally.failed);
    if (r->tally.skipped)
        text_printf(report, ", %u skipped", r->tally.skipped);
    text_printf(report, ")\n%s", text_str(&r->details));
    tally->passed += r->tally.passed;
    tally->failed += r->tally.failed;
    tally->skipped += r->tally.skipped;
}

/* Why the scenario cannot be replayed here, or NULL. */
static const char *reason_to_skip(const struct scenario *s, const struct replay_options *options)
{
    const char *pending = lists_scenario_pending(options->lists, s->name);
    if (pending && !options->with_pending)
        return pending;
    if (json_object_get(json_object_get(s->json, "setup"), "taps") &&
        access("/dev/net/tun", R_OK | W_OK) < 0)
        return "needs taps, and /dev/net/tun cannot be opened here";
    return NULL;
}

void scenario_run(const struct scenario *s, const struct replay_options *options, const char *dir,
                  struct tally *tally, struct text *report)
{
    size_t steps = json_array_size(json_object_get(s->json, "steps"));
    const char *reason = reason_to_skip(s, options);
    if (reason) {
        tally->skipped += (unsigned)steps;
        text_printf(report, "skip %s (%zu steps): %s\n", s->name, steps, reason);
        return;
    }
    struct run r = {.scenario = s, .options = options, .stage = {.monitor = options->monitor}};
    struct text why = {0};
    r.stage.errors = text_format("%s/stderr", dir);
    if (places_make(&r.stage.places, dir, json_object_get(s->json, "setup"), &why)) {
        run_steps(&r);
    } else {
        r.tally.failed = (unsigned)steps;
        text_printf(&r.details, "    %s\n", text_str(&why));
    }
    finish(&r, tally, report);
    places_clear(&r.stage.places);
    free(r.stage.errors);
    text_free(&r.details);
    text_free(&why);
}
