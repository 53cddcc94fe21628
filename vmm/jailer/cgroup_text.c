/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup_text.c: parsers of /proc/mounts, /proc/PID/cgroup and lists of controllers. */
#include "vmm/jailer/cgroup_text.h"

#include <stdio.h>
#include <string.h>

/* A piece of text that is not ended by a NUL. */
struct span {
    const char *at;
    size_t len;
};

static bool span_is(struct span s, const char *word)
{
    return s.len == strlen(word) && memcmp(s.at, word, s.len) == 0;
}

/* Takes the next field of a line, up to `separator`, from *line. */
static struct span take(struct span *line, char separator)
{
    const char *end = memchr(line->at, separator, line->len);
    struct span field = {line->at, end ? (size_t)(end - line->at) : line->len};
    size_t taken = field.len + (end != NULL);

    line->at += taken;
    line->len -= taken;
    return field;
}

static bool span_has_word(struct span list, char separator, const char *word)
{
    while (list.len > 0) {
        if (span_is(take(&list, separator), word))
            return true;
    }
    return false;
}

bool cgroup_text_has_word(const char *list, char separator, const char *word)
{
    return span_has_word((struct span){list, strcspn(list, "\n")}, separator, word);
}

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* /proc/mounts writes blanks and backslashes in paths as a backslash and three octal digits. */
static bool unescape(struct span s, char *out, size_t room)
{
    size_t n = 0;

    while (s.len > 0) {
        size_t taken = 1;
        char c = *s.at;

        if (c == '\\' && s.len >= 4 && is_octal(s.at[1]) && is_octal(s.at[2]) &&
            is_octal(s.at[3])) {
            c = (char)((s.at[1] - '0') * 64 + (s.at[2] - '0') * 8 + (s.at[3] - '0'));
            taken = 4;
        }
        if (n + 1 >= room)
            return false;
        out[n++] = c;
        s.at += taken;
        s.len -= taken;
    }
    out[n] = '\0';
    return true;
}

static struct span take_line(const char **text)
{
    struct span line = {*text, strcspn(*text, "\n")};

    *text += line.len + ((*text)[line.len] == '\n');
    return line;
}

bool cgroup_text_find_mount(const char *mounts, unsigned version, const char *controller, char *dir,
                            size_t room)
{
    while (*mounts) {
        struct span line = take_line(&mounts);
        struct span path, type, options;

        take(&line, ' '); /* what is mounted: a name without a meaning */
        path = take(&line, ' ');
        type = take(&line, ' ');
        options = take(&line, ' ');
        if (version == 2 ? span_is(type, "cgroup2")
                         : span_is(type, "cgroup") && span_has_word(options, ',', controller))
            return unescape(path, dir, room);
    }
    return false;
}

void cgroup_text_find_own(const char *text, unsigned version, const char *controller, char *path,
                          size_t room)
{
    path[0] = '\0';
    while (*text) {
        struct span line = take_line(&text);
        struct span number = take(&line, ':'), controllers = take(&line, ':');

        if (version == 2 ? !span_is(number, "0") : !span_has_word(controllers, ',', controller))
            continue;
        if (line.len > 0 && line.at[0] == '/' && line.len < room)
            snprintf(path, room, "%.*s", (int)line.len - 1, line.at + 1);
        return;
    }
}
