/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.c: Unicode 15, table 3-7, as code. */
#include "vmm/base/utf8.h"

/* What may follow a first byte: how many bytes more, and the range of the first of them. */
struct lead {
    unsigned more;
    unsigned char low, high;
};

static bool lead_of(unsigned char byte, struct lead *lead)
{
    if (byte < 0x80)
        *lead = (struct lead){0, 0, 0};
    else if (byte >= 0xc2 && byte <= 0xdf)
        *lead = (struct lead){1, 0x80, 0xbf};
    else if (byte == 0xe0) /* nothing shorter */
        *lead = (struct lead){2, 0xa0, 0xbf};
    else if (byte == 0xed) /* no surrogates */
        *lead = (struct lead){2, 0x80, 0x9f};
    else if (byte >= 0xe1 && byte <= 0xef)
        *lead = (struct lead){2, 0x80, 0xbf};
    else if (byte == 0xf0)
        *lead = (struct lead){3, 0x90, 0xbf};
    else if (byte >= 0xf1 && byte <= 0xf3)
        *lead = (struct lead){3, 0x80, 0xbf};
    else if (byte == 0xf4) /* nothing above U+10FFFF */
        *lead = (struct lead){3, 0x80, 0x8f};
    else
        return false;
    return true;
}

/* The bytes of the sequence at s that fit together; *whole: it is complete. 0: s[0]
 * begins nothing. */
static unsigned sequence(const char *s, size_t len, bool *whole)
{
    struct lead lead;
    unsigned n = 1;

    *whole = false;
    if (!lead_of((unsigned char)s[0], &lead))
        return 0;
    for (; n <= lead.more; n++) {
        unsigned char byte;

        if (n == len)
            return n;
        byte = (unsigned char)s[n];
        if (byte < (n == 1 ? lead.low : 0x80) || byte > (n == 1 ? lead.high : 0xbf))
            return n;
    }
    *whole = true;
    return n;
}

size_t utf8_valid_prefix(const char *s, size_t len, unsigned *bad)
{
    size_t at = 0;

    while (at < len) {
        bool whole;
        unsigned n = sequence(s + at, len - at, &whole);

        if (!whole) {
            if (bad)
                *bad = n == 0 ? 1 : at + n == len ? 0 : n;
            return at;
        }
        at += n;
    }
    return len;
}

uint32_t utf8_decode(const char *s, unsigned *len)
{
    struct lead lead = {0, 0, 0};
    uint32_t code;

    (void)lead_of((unsigned char)s[0], &lead);
    code = (unsigned char)s[0] & (lead.more ? 0x3fu >> lead.more : 0x7fu);
    for (unsigned i = 1; i <= lead.more; i++)
        code = code << 6 | ((unsigned char)s[i] & 0x3f);
    *len = lead.more + 1;
    return code;
}

unsigned utf8_put(uint32_t code, char *out)
{
    unsigned more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};

    out[0] = (char)(first[more] | (code >> (6 * more)));
    for (unsigned i = 1; i <= more; i++)
        out[i] = (char)(0x80 | ((code >> (6 * (more - i))) & 0x3f));
    return more + 1;
}
