/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.h owns the dispatch of API requests: one table with a row for each method and path, and
 * the rules that are the same for all of them, in Firecracker's order. Whether there must be a
 * body; the row; the id in the path; the body by the row's schema; the row's check; the phase of
 * the machine; only then the action. Each refusal is a 400 with one sentence. Counts and logs each
 * request.
 *
 * What the rows say stands for readers in openapi.json, which a unit test compares with them.
 */
#ifndef MAYFLY_API_ROUTES_H
#define MAYFLY_API_ROUTES_H

#include "api/api.h"

enum method { GET, PUT, PATCH, DELETE, METHOD_COUNT };

struct route {
    enum method method;
    const char *path[3]; /* segments; further ones in a request are ignored */
    enum phase phase;
    bool alone;                  /* only without a further segment */
    bool boots;                  /* about a machine to be booted, so none is loaded after it */
    bool has_id;                 /* the segment behind the path is an id */
    const struct schema *schema; /* NULL = the body is not read here */
    call_prepare *prepare;       /* NULL = the body begins as zeroes */
    call_check *check;           /* NULL = nothing to judge */
    call_act *act;               /* NULL = not supported yet */
    call_release *release;       /* NULL = nothing to free */
    const char *prefix;          /* of errors from act; NULL = none */
    uint64_t *count, *fails;     /* metrics; NULL = none */
};

/* The first row that fits is taken. */
extern const struct route routes[];
extern const size_t routes_count;

/* The handler to give to api_server_create, with a struct api (api.h) as its owner. */
void routes_handle(void *owner, const struct api_request *request, struct api_response *response);

#endif
