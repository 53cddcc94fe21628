/* SPDX-License-Identifier: Apache-2.0 */
/* json_writer.c: JSON text, piece by piece. No stdio: it also runs in signal handlers. */
#include "api/json_writer.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 512

void json_writer_open(struct json_writer *w)
{
    *w = (struct json_writer){0};
}

void json_writer_open_in(struct json_writer *w, char *buffer, size_t room)
{
    *w = (struct json_writer){.text = buffer, .room = room, .fixed = true};
}

/* Room for `len` bytes and the NUL behind them. */
static bool make_room(struct json_writer *w, size_t len)
{
    size_t room = MAX(w->room, FIRST_ROOM);
    char *text;

    if (w->failed || w->room - w->len > len)
        return !w->failed;
    while (room - w->len <= len)
        room *= 2;
    text = w->fixed ? NULL : realloc(w->text, room);
    if (!text) {
        w->failed = true;
        return false;
    }
    w->text = text;
    w->room = room;
    return true;
}

static void put(struct json_writer *w, const char *text, size_t len)
{
    if (!make_room(w, len))
        return;
    memcpy(w->text + w->len, text, len);
    w->len += len;
}

static void put_char(struct json_writer *w, char c)
{
    put(w, &c, 1);
}

static void before_value(struct json_writer *w)
{
    if (w->comma)
        put_char(w, ',');
    w->comma = true;
}

char *json_writer_finish(struct json_writer *w, size_t *len)
{
    if (!make_room(w, 0)) {
        if (!w->fixed)
            free(w->text);
        return NULL;
    }
    w->text[w->len] = '\0';
    if (len)
        *len = w->len;
    return w->text;
}

void json_write_begin(struct json_writer *w, char bracket)
{
    before_value(w);
    put_char(w, bracket);
    w->comma = false;
}

void json_write_end(struct json_writer *w, char bracket)
{
    put_char(w, bracket);
    w->comma = true;
}

void json_write_unsigned(struct json_writer *w, uint64_t value)
{
    char digits[20];
    size_t n = 0;

    do {
        digits[sizeof(digits) - ++n] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    before_value(w);
    put(w, digits + sizeof(digits) - n, n);
}

void json_write_bool(struct json_writer *w, bool value)
{
    json_write_raw(w, value ? "true" : "false", value ? 4 : 5);
}

void json_write_null(struct json_writer *w)
{
    json_write_raw(w, "null", 4);
}

void json_write_raw(struct json_writer *w, const char *text, size_t len)
{
    before_value(w);
    put(w, text, len);
}

static void put_escaped(struct json_writer *w, unsigned char c)
{
    static const char hex[] = "0123456789abcdef", short_of[] = "\"\\\b\f\n\r\t",
                      names[] = "\"\\bfnrt";
    const char *found = memchr(short_of, c, sizeof(short_of) - 1);
    char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

    if (found) {
        escape[1] = names[found - short_of];
        put(w, escape, 2);
    } else if (c < 0x20) {
        put(w, escape, sizeof(escape));
    } else {
        put_char(w, (char)c);
    }
}

static void put_quoted(struct json_writer *w, const char *s)
{
    put_char(w, '"');
    for (; *s; s++)
        put_escaped(w, (unsigned char)*s);
    put_char(w, '"');
}

void json_write_string(struct json_writer *w, const char *value)
{
    if (!value) {
        json_write_null(w);
        return;
    }
    before_value(w);
    put_quoted(w, value);
}

void json_write_key(struct json_writer *w, const char *name)
{
    before_value(w);
    put_quoted(w, name);
    put_char(w, ':');
    w->comma = false;
}

void json_member_unsigned(struct json_writer *w, const char *name, uint64_t value)
{
    json_write_key(w, name);
    json_write_unsigned(w, value);
}

void json_member_bool(struct json_writer *w, const char *name, bool value)
{
    json_write_key(w, name);
    json_write_bool(w, value);
}

void json_member_string(struct json_writer *w, const char *name, const char *value)
{
    json_write_key(w, name);
    json_write_string(w, value);
}

void json_member_null(struct json_writer *w, const char *name)
{
    json_write_key(w, name);
    json_write_null(w);
}
