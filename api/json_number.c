/* SPDX-License-Identifier: Apache-2.0 */
/* json_number.c: numbers, from text and to text. 64 bits of integer, signed or not, are kept
 * exactly. */
#include "api/json_lex.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static void skip_digits(struct json_cursor *c)
{
    while (is_digit(json_look(c)))
        c->at++;
}

/*
 * What a number's text amounts to. Skipping (skip set) judges the form only, and calls every flaw
 * of it by the same name; reading tells an early end from a wrong byte, and minds the size.
 */
struct scan {
    bool skip;
    uint64_t value;  /* of the digits before the point */
    bool fits, real; /* value is right; a point or an exponent was there */
};

static const char *early_end(const struct scan *scan)
{
    return scan->skip ? "invalid number" : "EOF while parsing a value";
}

static int scan_integer(struct json_cursor *c, struct scan *scan)
{
    int next = json_look(c);

    scan->fits = true;
    if (next == JSON_END)
        return json_error_at(c, early_end(scan));
    if (!is_digit(next)) {
        c->at++;
        return json_error_at(c, "invalid number");
    }
    if (next == '0') { /* leads nothing */
        c->at++;
        return is_digit(json_look(c)) ? json_error_next(c, "invalid number") : 0;
    }
    for (; is_digit(json_look(c)); c->at++) {
        uint64_t digit = (uint64_t)(c->text[c->at] - '0');

        if (scan->value > (UINT64_MAX - digit) / 10)
            scan->fits = false;
        scan->value = scan->value * 10 + digit;
    }
    return 0;
}

static int scan_fraction(struct json_cursor *c, struct scan *scan)
{
    size_t digits;

    if (json_look(c) != '.')
        return 0;
    scan->real = true;
    digits = ++c->at;
    skip_digits(c);
    if (c->at == digits)
        return json_error_next(c, json_look(c) == JSON_END ? early_end(scan) : "invalid number");
    return 0;
}

/* zero: the digits so far are all 0, so that no exponent is too large. */
static int scan_exponent(struct json_cursor *c, struct scan *scan, bool zero)
{
    bool negative = false;
    int exponent = 0;

    if (json_look(c) != 'e' && json_look(c) != 'E')
        return 0;
    scan->real = true;
    c->at++;
    if (json_look(c) == '+' || json_look(c) == '-')
        negative = c->text[c->at++] == '-';
    if (c->at == c->len)
        return json_error_at(c, early_end(scan));
    if (!is_digit(c->text[c->at++]))
        return json_error_at(c, "invalid number");
    for (c->at--; is_digit(json_look(c));) {
        int digit = c->text[c->at++] - '0';

        if (exponent > (INT32_MAX - digit) / 10) {
            if (!scan->skip && !zero && !negative)
                return json_error_at(c, "number out of range");
            skip_digits(c);
            break;
        }
        exponent = exponent * 10 + digit;
    }
    return 0;
}

static bool all_zero(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] >= '1' && text[i] <= '9')
            return false;
    }
    return true;
}

static int scan_number(struct json_cursor *c, struct scan *scan)
{
    size_t start = c->at;

    if (json_look(c) == '-')
        c->at++;
    if (scan_integer(c, scan) || scan_fraction(c, scan))
        return -EINVAL;
    return scan_exponent(c, scan, all_zero(c->text + start, c->at - start));
}

int json_skip_number(struct json_cursor *c)
{
    struct scan scan = {.skip = true};

    return scan_number(c, &scan);
}

/* strtod of the text from `start` to here, which is a valid number. */
static int to_float(struct json_cursor *c, size_t start, struct json_number *number)
{
    char *copy = json_string_space(c);

    if (!copy)
        return -EINVAL;
    memcpy(copy, c->text + start, c->at - start);
    copy[c->at - start] = '\0';
    number->kind = JSON_FLOAT;
    number->f = strtod(copy, NULL);
    if (isinf(number->f))
        return json_error_at(c, "number out of range");
    return 0;
}

int json_lex_number(struct json_cursor *c, struct json_number *number)
{
    size_t start = c->at;
    bool negative = json_look(c) == '-';
    struct scan scan = {.skip = false};

    if (scan_number(c, &scan))
        return -EINVAL;
    if (scan.real || !scan.fits)
        return to_float(c, start, number);
    if (!negative)
        *number = (struct json_number){.kind = JSON_UNSIGNED, .u = scan.value};
    else if (scan.value != 0 && scan.value <= (uint64_t)INT64_MAX + 1)
        *number = (struct json_number){.kind = JSON_NEGATIVE, .i = (int64_t)-scan.value};
    else
        return to_float(c, start, number);
    return 0;
}

/* The fewest significant digits that read back as f, as "d.ddde<exponent>". */
static void shortest_scientific(char out[40], double f)
{
    for (int digits = 0; digits < 17; digits++) {
        snprintf(out, 40, "%.*e", digits, f);
        if (strtod(out, NULL) == f)
            return;
    }
}

void json_format_float(char out[40], double f)
{
    char scientific[40], digits[20], *mantissa_end;
    const char *sign = signbit(f) ? "-" : "";
    int exponent, count = 0;

    shortest_scientific(scientific, fabs(f));
    mantissa_end = strchr(scientific, 'e');
    exponent = (int)strtol(mantissa_end + 1, NULL, 10);
    for (char *p = scientific; p < mantissa_end; p++) {
        if (*p != '.')
            digits[count++] = *p;
    }
    digits[count] = '\0';
    if (exponent >= 16 || exponent < -5)
        snprintf(out, 40, "%s%c%s%se%+d", sign, digits[0], count > 1 ? "." : "", digits + 1,
                 exponent);
    else if (exponent < 0)
        snprintf(out, 40, "%s0.%.*s%s", sign, -exponent - 1, "0000", digits);
    else if (count <= exponent + 1)
        snprintf(out, 40, "%s%s%.*s.0", sign, digits, exponent + 1 - count, "0000000000000000");
    else
        snprintf(out, 40, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
}
