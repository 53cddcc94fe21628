/* SPDX-License-Identifier: Apache-2.0 */
/* The growable byte string of the test programs. */
#include "tests/support/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make_room(struct text *t, size_t more)
{
    if (t->len + more + 1 <= t->room)
        return;
    size_t room = t->room ? t->room : 64;
    while (room < t->len + more + 1)
        room *= 2;
    char *data = realloc(t->data, room);
    if (!data)
        abort();
    t->data = data;
    t->room = room;
}

void text_append(struct text *t, const void *data, size_t len)
{
    make_room(t, len);
    if (len)
        memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

void text_puts(struct text *t, const char *string)
{
    text_append(t, string, strlen(string));
}

__attribute__((format(printf, 1, 0))) static char *format_list(const char *format, va_list list)
{
    char *s;
    if (vasprintf(&s, format, list) < 0)
        abort();
    return s;
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char *s = format_list(format, list);
    va_end(list);
    text_puts(t, s);
    free(s);
}

char *text_format(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char *s = format_list(format, list);
    va_end(list);
    return s;
}

void text_replace(struct text *t, const char *from, const char *to)
{
    struct text out = {0};
    size_t step = strlen(from);
    const char *rest = text_str(t);
    const char *end = rest + t->len;
    for (;;) {
        const char *hit = memmem(rest, (size_t)(end - rest), from, step);
        if (!hit)
            break;
        text_append(&out, rest, (size_t)(hit - rest));
        text_puts(&out, to);
        rest = hit + step;
    }
    text_append(&out, rest, (size_t)(end - rest));
    text_free(t);
    *t = out;
}

const char *text_str(const struct text *t)
{
    return t->data ? t->data : "";
}

bool text_contains(const struct text *t, const char *needle)
{
    return memmem(text_str(t), t->len, needle, strlen(needle)) != NULL;
}

void text_clear(struct text *t)
{
    t->len = 0;
    if (t->data)
        t->data[0] = '\0';
}

void text_free(struct text *t)
{
    free(t->data);
    *t = (struct text){0};
}

int text_read_file(struct text *t, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char part[16384];
    ssize_t n;
    while ((n = read(fd, part, sizeof(part))) > 0)
        text_append(t, part, (size_t)n);
    int ret = n < 0 ? -errno : 0;
    close(fd);
    return ret;
}
