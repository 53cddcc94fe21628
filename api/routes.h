/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.h owns the dispatch of API requests: one table with a row for each method and path, and
 * the rules that are the same for all of them, in Firecracker's order. Whether there must be a
 * body; the row; the id in the path; the body by the row's schema; the row's check; the phase of
 * the machine; only then the action. Each refusal is a 400 with one sentence. Counts and logs each
 * request.
 */
#ifndef MAYFLY_API_ROUTES_H
#define MAYFLY_API_ROUTES_H

#include "api/server.h"

/* The handler to give to api_server_create, with a struct api (api.h) as its owner. */
void routes_handle(void *owner, const struct api_request *request, struct api_response *response);

#endif
