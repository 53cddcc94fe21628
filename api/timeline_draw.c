/* SPDX-License-Identifier: Apache-2.0 */
/* timeline_draw.c: bars, in text and in SVG. */
#include "api/timeline_draw.h"

#include "api/json_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static int compare_points(const void *a, const void *b)
{
    const struct timeline_point *x = a, *y = b;

    return (x->us > y->us) - (x->us < y->us);
}

int timeline_parse(const char *text, size_t len, struct timeline_points *points, struct err *e)
{
    char *error = NULL;
    json_t *root = json_parse(text, len, &error), *stages = json_object_get(root, "stages"), *stage;
    size_t i;
    int rc = 0;

    points->count = 0;
    if (!json_is_array(stages))
        rc = err_set(e, -EPROTO, "The answer is no timeline%s%s", error ? ": " : "",
                     error ? error : "");
    json_array_foreach (stages, i, stage) {
        json_t *name = json_object_get(stage, "name"), *us = json_object_get(stage, "us");
        struct timeline_point *point = &points->points[points->count];

        if (points->count == TIMELINE_STAGES_MAX || !json_is_string(name) || !json_is_integer(us) ||
            json_integer_value(us) < 0) {
            rc = err_set(e, -EPROTO, "The answer is no timeline: see its stage %zu", i);
            break;
        }
        snprintf(point->name, sizeof(point->name), "%s", json_string_value(name));
        point->us = (uint64_t)json_integer_value(us);
        points->count++;
    }
    free(error);
    json_decref(root);
    qsort(points->points, points->count, sizeof(points->points[0]), compare_points);
    return rc;
}

static uint64_t total(const struct timeline_points *points)
{
    return points->count ? points->points[points->count - 1].us : 0;
}

static uint64_t took(const struct timeline_points *points, size_t i)
{
    return i ? points->points[i].us - points->points[i - 1].us : 0;
}

/* us, of `all`, as a share of `size`, rounded. */
static unsigned scale(uint64_t us, uint64_t all, unsigned size)
{
    return all ? (unsigned)((us * size + all / 2) / all) : 0;
}

/* ---- text ---- */

static void put_times(FILE *out, char c, unsigned n)
{
    while (n--)
        fputc(c, out);
}

static int longest_name(const struct timeline_points *points)
{
    size_t longest = strlen("stage");

    for (size_t i = 0; i < points->count; i++)
        longest = MAX(longest, strlen(points->points[i].name));
    return (int)longest;
}

void timeline_draw_text(FILE *out, const struct timeline_points *points, unsigned width)
{
    static const unsigned columns = 2 + 10 + 2 + 10 + 2; /* the two times and the gaps */
    int name = longest_name(points);
    uint64_t all = total(points);
    unsigned bar = width > (unsigned)name + columns + 10 ? width - (unsigned)name - columns : 10;

    fprintf(out, "%-*s  %10s  %10s\n", name, "stage", "at ms", "took ms");
    for (size_t i = 0; i < points->count; i++) {
        const struct timeline_point *point = &points->points[i];
        unsigned from = scale(point->us - took(points, i), all, bar),
                 to = scale(point->us, all, bar);

        fprintf(out, "%-*s  %6" PRIu64 ".%03" PRIu64, name, point->name, point->us / 1000,
                point->us % 1000);
        if (i == 0) {
            fputc('\n', out);
            continue;
        }
        fprintf(out, "  %6" PRIu64 ".%03" PRIu64 "  ", took(points, i) / 1000,
                took(points, i) % 1000);
        put_times(out, ' ', to > from ? from : MIN(from, bar - 1));
        put_times(out, to > from ? '#' : '|',
                  to > from ? to - from : 1); /* '|': too short for a # */
        fputc('\n', out);
    }
}

/* ---- SVG ---- */

#define SVG_LEFT  190 /* the names */
#define SVG_BAR   560
#define SVG_RIGHT 110 /* the figures */
#define SVG_ROW   26
#define SVG_TOP   46

static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<' || *text == '>' || *text == '&' || *text == '"')
            fprintf(out, "&#%d;", *text);
        else if ((unsigned char)*text >= ' ')
            fputc(*text, out);
    }
}

static void svg_row(FILE *out, const struct timeline_points *points, size_t i)
{
    const struct timeline_point *point = &points->points[i];
    unsigned y = SVG_TOP + (unsigned)i * SVG_ROW, all = SVG_BAR;
    unsigned from = scale(point->us - took(points, i), total(points), all),
             to = scale(point->us, total(points), all);

    fprintf(out, "<text x=\"%d\" y=\"%u\" text-anchor=\"end\">", SVG_LEFT - 8, y + 17);
    put_escaped(out, point->name);
    fprintf(out,
            "</text>\n<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%d\" rx=\"2\" fill=\"%s\"/>\n",
            SVG_LEFT + from, y + 4, MAX(to - from, 2), SVG_ROW - 8, i % 2 ? "#2f6f9f" : "#5b9bc8");
    fprintf(out, "<text x=\"%u\" y=\"%u\" class=\"f\">%" PRIu64 ".%03" PRIu64 " ms</text>\n",
            SVG_LEFT + MAX(to, from + 2) + 6, y + 17, took(points, i) / 1000,
            took(points, i) % 1000);
}

void timeline_draw_svg(FILE *out, const struct timeline_points *points)
{
    unsigned width = SVG_LEFT + SVG_BAR + SVG_RIGHT,
             height = SVG_TOP + (unsigned)points->count * SVG_ROW + 14;
    uint64_t all = total(points);

    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
            "viewBox=\"0 0 %u %u\" font-family=\"sans-serif\" font-size=\"13\">\n"
            "<style>.f{fill:#555;font-size:12px}</style>\n"
            "<rect width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n"
            "<text x=\"%d\" y=\"26\" font-size=\"16\">Boot timeline: %" PRIu64 ".%03" PRIu64
            " ms from exec</text>\n",
            width, height, width, height, width, height, SVG_LEFT, all / 1000, all % 1000);
    for (size_t i = 0; i < points->count; i++)
        svg_row(out, points, i);
    fputs("</svg>\n", out);
}
