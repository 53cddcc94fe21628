/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmds_http.h owns what the metadata service answers a guest: one HTTP request, head only, to one
 * answer, in Firecracker's statuses, headers and words.
 *
 *  - GET of any path: the store's value there, as JSON if Accept says exactly "application/json"
 *    and the service does not keep to EC2's form (imds_compat), else in that form. 404, or 501
 *    where the form has no way to say it. In version 2 only with a token, else 401; version 1
 *    merely counts what it would have refused.
 *  - PUT of /latest/api/token, in both versions: a token for as many seconds as the time-to-live
 *    header says, which is sent back. 400 for a bad header and for a request that was forwarded;
 *    404 for any other path.
 *  - PATCH and DELETE are 405; what is no method of the API's either, 501.
 *
 * A head is judged by the rules of http_head.h, line lengths apart (a request is at most 2500 bytes
 * as a whole); there is nothing left of it that would want a parser. A request that announces a
 * body is refused, because a body is never read: its bytes are taken for the next request.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_API_MMDS_HTTP_H
#define MAYFLY_API_MMDS_HTTP_H

#include "api/mmds_store.h"
#include "api/mmds_token.h"
#include "virtio/mmds/mmds.h"

struct mmds_http {
    struct mmds_store *store;   /* borrowed */
    struct mmds_tokens *tokens; /* borrowed */
    enum mmds_version version;
    bool imds_compat;
};

/* As struct mmds_service wants it; owner is a struct mmds_http. */
char *mmds_http_answer(void *owner, const char *request, size_t len, size_t *answer_len);

#endif
