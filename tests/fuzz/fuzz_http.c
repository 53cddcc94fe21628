/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_http.c: bytes as a client's stream. Oracle: up to the first error the reader finds the same
 * things, in the same order, whether the stream comes whole or cut where the input says; every
 * request has a path and a body within the limit.
 */
#include "api/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PAYLOAD 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything found, as bytes to compare; ends with the first error. */
struct found_text {
    FILE *out;
    char *text;
    size_t len;
    bool error;
};

static void note_request(struct found_text *f, struct http_request *request)
{
    if (request->path[0] != '/' || request->body_len > MAX_PAYLOAD ||
        (request->body && request->body[request->body_len] != '\0') || !request->method)
        abort();
    fprintf(f->out, "%s %s %zu ", request->method, request->path, request->body_len);
    if (request->body)
        fwrite(request->body, 1, request->body_len, f->out);
    http_request_free(request);
}

/* False once there is nothing more to find in what has been received. */
static bool note_next(struct found_text *f, struct http_reader *reader)
{
    struct http_found found;
    size_t len;

    switch (http_reader_next(reader, &found)) {
    case HTTP_FOUND_NOTHING:
        return false;
    case HTTP_FOUND_REQUEST:
        note_request(f, found.request);
        return true;
    case HTTP_FOUND_EXPECT:
        fprintf(f->out, "expect %u ", found.minor);
        return true;
    case HTTP_FOUND_ERROR:
        f->error = true;
        fwrite(found.error.text, 1, found.error.len, f->out);
        free(http_error_format(&found.error, &len));
        return false;
    }
    abort();
}

/* `cuts` gives the sizes of the pieces in turn; none = as large as the reader takes them. */
static void read_stream(struct found_text *f, const uint8_t *data, size_t size, const uint8_t *cuts,
                        size_t n_cuts)
{
    struct http_reader *reader = http_reader_create(MAX_PAYLOAD);

    f->out = open_memstream(&f->text, &f->len);
    for (size_t i = 0; size && !f->error; i++) {
        char *at;
        size_t space, n;

        http_reader_space(reader, &at, &space);
        if (!space)
            abort();
        n = MIN(size, space);
        if (n_cuts)
            n = MIN(n, (size_t)cuts[i % n_cuts] + 1);
        memcpy(at, data, n);
        http_reader_received(reader, n);
        data += n;
        size -= n;
        while (note_next(f, reader))
            ;
    }
    fclose(f->out);
    http_reader_destroy(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n_cuts = size ? MIN((size_t)(data[0] % 8) + 1, size) : 0;
    struct found_text whole = {.out = NULL}, cut = {.out = NULL};

    read_stream(&whole, data + n_cuts, size - n_cuts, NULL, 0);
    read_stream(&cut, data + n_cuts, size - n_cuts, data, n_cuts);
    if (whole.len != cut.len || memcmp(whole.text, cut.text, whole.len) != 0)
        abort();
    free(whole.text);
    free(cut.text);
    return 0;
}
