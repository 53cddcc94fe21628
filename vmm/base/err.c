/* SPDX-License-Identifier: Apache-2.0 */
/* err.c: the sentence of an error. */
#include "vmm/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list args;

    if (e) {
        e->code = code;
        va_start(args, fmt);
        vsnprintf(e->text, sizeof(e->text), fmt, args);
        va_end(args);
    }
    return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    char before[512];
    va_list args;
    size_t len, old;

    va_start(args, fmt);
    vsnprintf(before, sizeof(before), fmt, args);
    va_end(args);

    len = strlen(before);
    old = MIN(strlen(e->text), sizeof(e->text) - 1 - len);
    memmove(e->text + len, e->text, old);
    memcpy(e->text, before, len);
    e->text[len + old] = '\0';
    return e->code;
}

const char *err_os(int code)
{
    static _Thread_local char text[128];
    char words[96];

    /* The GNU strerror_r: may return a string of its own instead of filling the buffer. */
    snprintf(text, sizeof(text), "%s (os error %d)", strerror_r(-code, words, sizeof(words)),
             -code);
    return text;
}
