/* SPDX-License-Identifier: Apache-2.0 */
/* http_span.c: see http_span.h. */
#include "api/http_span.h"

#include <ctype.h>
#include <string.h>

bool span_is(struct span s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

bool span_is_name(struct span s, const char *name)
{
    return s.len == strlen(name) && strncasecmp(s.at, name, s.len) == 0;
}

struct span span_trim(struct span s)
{
    while (s.len && isspace((unsigned char)s.at[0]))
        s = (struct span){.at = s.at + 1, .len = s.len - 1};
    while (s.len && isspace((unsigned char)s.at[s.len - 1]))
        s.len--;
    return s;
}

bool span_cut(struct span *rest, char separator, struct span *before)
{
    const char *found = memchr(rest->at, separator, rest->len);

    if (!found)
        return false;
    before->at = rest->at;
    before->len = (size_t)(found - rest->at);
    rest->at = found + 1;
    rest->len -= before->len + 1;
    return true;
}

bool span_read_u32(struct span s, uint32_t *result)
{
    uint64_t value = 0;

    if (s.len && s.at[0] == '+')
        s = (struct span){.at = s.at + 1, .len = s.len - 1};
    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(s.at[i] - '0');
        if (value > UINT32_MAX)
            return false;
    }
    *result = (uint32_t)value;
    return true;
}
