/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_json.c: bytes as a JSON text. Oracles: our reader and jansson's accept the same texts, and
 * read the same from them, apart from what jansson cannot hold (integers of more than 63 bits, NUL
 * in a key) and our limit of depth; printing what was read and reading it again prints the same;
 * skipping takes whatever reading takes.
 */
#include "api/json_text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_against_jansson(const char *text, size_t len, json_t *ours, const char *printed,
                                  const char *error)
{
    json_error_t why;
    json_t *theirs = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    char *their_print;

    if (memchr(text, '\0', len)) { /* ends a text for jansson, and is refused by us everywhere */
        if (ours)
            abort();
        json_decref(theirs);
        return;
    }
    if (!theirs) {
        enum json_error_code code = json_error_code(&why);

        if (ours && code != json_error_numeric_overflow && code != json_error_null_byte_in_key)
            abort();
        return;
    }
    if (!ours && strncmp(error, "recursion limit", 15) != 0)
        abort();
    if (ours && !memmem(text, len, "-0", 2)) { /* 0 there, -0.0 here */
        their_print = json_print(theirs, NULL);
        if (strcmp(their_print, printed) != 0)
            abort();
        free(their_print);
    }
    json_decref(theirs);
}

static void check_printed(const char *printed, size_t len)
{
    char *error, *again;
    json_t *value = json_parse(printed, len, &error);

    if (!value)
        abort();
    again = json_print(value, NULL);
    if (strcmp(again, printed) != 0)
        abort();
    free(again);
    json_decref(value);
}

static bool skips(const char *text, size_t len)
{
    struct json_cursor c;
    bool ok;

    json_open(&c, text, len);
    json_skip(&c);
    ok = json_finish(&c) == 0;
    if (c.at > len)
        abort();
    json_close(&c);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *error, *printed = NULL;
    json_t *ours;
    size_t len;

    memcpy(text, data, size);
    ours = json_parse(text, size, &error);
    if (!ours == !error)
        abort();
    if (ours) {
        printed = json_print(ours, &len);
        check_printed(printed, len);
        if (!skips(text, size))
            abort();
    } else {
        (void)skips(text, size);
    }
    check_against_jansson(text, size, ours, printed, error);
    json_decref(ours);
    free(printed);
    free(error);
    free(text);
    return 0;
}
