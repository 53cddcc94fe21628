/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes_fixture.h owns an API over a machine without KVM, in a fresh directory that holds a file
 * `disk` of 4096 bytes, and the ways to ask it.
 */
#ifndef MAYFLY_TESTS_UNIT_ROUTES_FIXTURE_H
#define MAYFLY_TESTS_UNIT_ROUTES_FIXTURE_H

#include "api/api.h"
#include "tests/unit/fake_machine.h"

#define BEFORE "The requested operation is not supported before starting the microVM."
#define AFTER  "The requested operation is not supported after starting the microVM."
#define JSON   "An error occurred when deserializing the json body of a request: "

struct fixture {
    struct api api;
    struct machine *machine; /* the same as api's, open to look into */
    char *dir;
    struct api_response response; /* the last one */
};

/* The cmocka forms: *state becomes a struct fixture. */
int routes_set_up(void **state);
int routes_tear_down(void **state);

/* Sends one request; body NULL = none. The status. */
int ask(struct fixture *f, const char *method, const char *path, const char *body);

/* Asks and checks: 204; GET with exactly this text; 400 with this fault_message. */
void assert_done(struct fixture *f, const char *method, const char *path, const char *body);
void assert_says(struct fixture *f, const char *path, const char *text);
void assert_fault(struct fixture *f, const char *method, const char *path, const char *body,
                  const char *fault);

#endif
