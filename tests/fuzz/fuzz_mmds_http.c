/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_mmds_http.c: bytes as a guest's request to the metadata service, in both versions and with
 * and without imds_compat. Oracle: there is an answer, its status is one of the service's, its
 * length is as it says, and in version 2 no value is shown without a token.
 */
#include "api/mmds_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE                                                                                      \
    "{\"a\":{\"b\":\"secret\",\"c\":[1,\"secret\",{\"d\":null}]},\"~/\":12.5,\"\":\"secret\"}"

/* Stands for a token that is good, which no input can hold. */
#define TOKEN_MARK '\x01'

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mmds_http http;

static void set_up(void)
{
    struct err e;

    if (mmds_store_create(&http.store, 1000, &e) ||
        mmds_store_put(http.store, STORE, strlen(STORE), &e) ||
        mmds_tokens_create(&http.tokens, "vm", &e))
        abort();
}

/* The request as one would come: at most 2500 bytes, nothing behind it; marks become tokens. */
static char *make_request(const uint8_t *data, size_t size, size_t *len, bool *has_token)
{
    char *text = malloc(2500 + MMDS_TOKEN_LEN + 1), token[MMDS_TOKEN_LEN + 1];

    if (mmds_token_make(http.tokens, 60, now_ns(), token))
        abort();
    *len = 0;
    *has_token = false;
    for (size_t i = 0; i < size && *len < 2490; i++) {
        if (data[i] == TOKEN_MARK && !*has_token) {
            memcpy(text + *len, token, MMDS_TOKEN_LEN);
            *len += MMDS_TOKEN_LEN;
            *has_token = true;
        } else {
            text[(*len)++] = (char)data[i];
        }
    }
    memcpy(text + *len, "\r\n\r\n", 4);
    *len += 4;
    return realloc(text, *len); /* so that reading past its end is seen */
}

static void check(const char *answer, size_t len, bool has_token)
{
    static const int statuses[] = {200, 400, 401, 404, 405, 501};
    const char *body = memmem(answer, len, "\r\n\r\n", 4);
    size_t announced = 0;
    int minor, status;
    bool known = false;

    if (!body || sscanf(answer, "HTTP/1.%d %d ", &minor, &status) != 2)
        abort();
    body += 4;
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
        known |= status == statuses[i];
    if (!known ||
        sscanf(strstr(answer, "Content-Length: "), "Content-Length: %zu", &announced) != 1 ||
        announced != len - (size_t)(body - answer))
        abort();
    if (http.version == MMDS_V2 && !has_token && status == 200 &&
        memmem(body, announced, "secret", 6))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len, answer_len;
    char *request, *answer;
    bool has_token;

    if (!size)
        return 0;
    if (!http.store)
        set_up();
    http.version = data[0] & 1 ? MMDS_V2 : MMDS_V1;
    http.imds_compat = data[0] & 2;
    request = make_request(data + 1, size - 1, &len, &has_token);
    answer = mmds_http_answer(&http, request, len, &answer_len);
    if (!answer)
        abort();
    check(answer, answer_len, has_token);
    free(answer);
    free(request);
    return 0;
}
