/* SPDX-License-Identifier: Apache-2.0 */
/* name.c: which characters names may have. */
#include "vmm/name.h"

#include "vmm/base/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* Ranges of characters outside ASCII that are neither letters nor digits. */
static bool is_symbol(uint32_t code)
{
    static const uint32_t ranges[][2] = {
        {0x80, 0xa9},          {0xab, 0xb1},       {0xb4, 0xb4},       {0xb6, 0xb8},
        {0xbb, 0xbb},          {0xbf, 0xbf},       {0xd7, 0xd7},       {0xf7, 0xf7},
        {0x2b9, 0x2bf},        {0x2c2, 0x2c5},     {0x2000, 0x206f},   {0x207a, 0x207e},
        {0x20a0, 0x20ff},      {0x2190, 0x245f},   {0x2500, 0x2bff},   {0x2e00, 0x2fff},
        {0x3000, 0x3004},      {0x3008, 0x3020},   {0xd800, 0xf8ff},   {0xfe00, 0xfe6f},
        {0xff00, 0xff0f},      {0xff1a, 0xff20},   {0xff3b, 0xff40},   {0xff5b, 0xff65},
        {0xffe0, 0xffff},      {0x1d000, 0x1d3ff}, {0x1f000, 0x1f0ff}, {0x1f200, 0x1faff},
        {0xe0000, UINT32_MAX},
    };

    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        if (code >= ranges[i][0] && code <= ranges[i][1])
            return true;
    }
    return false;
}

ptrdiff_t name_first_odd(const char *name, char also, size_t *len)
{
    size_t valid = utf8_valid_prefix(name, strlen(name), NULL);
    unsigned step = 0;

    for (const char *s = name; *s; s += step) {
        uint32_t code = 0;
        bool good;

        step = 1; /* of a byte that is no UTF-8 */
        if ((size_t)(s - name) < valid)
            code = utf8_decode(s, &step);
        good = code < 0x80 ? isalnum((int)code) || (code && code == (unsigned char)also)
                           : !is_symbol(code);
        if (good)
            continue;
        if (len)
            *len = step;
        return s - name;
    }
    return -1;
}

int instance_id_check(const char *id, const char *what, struct err *e)
{
    size_t len = strlen(id), bad_len;
    ptrdiff_t bad;

    if (len < 1 || len > INSTANCE_ID_MAX)
        return err_set(e, -EINVAL, "%s takes 1 to %d letters, digits and hyphens, not %zu bytes.",
                       what, INSTANCE_ID_MAX, len);
    bad = name_first_odd(id, '-', &bad_len);
    if (bad >= 0)
        return err_set(e, -EINVAL, "%s takes letters, digits and hyphens, not `%.*s` (at %td).",
                       what, (int)bad_len, id + bad, bad);
    return 0;
}
