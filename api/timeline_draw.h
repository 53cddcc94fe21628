/* SPDX-License-Identifier: Apache-2.0 */
/* timeline_draw.h owns the picture of GET /timeline: where the milliseconds of a boot went. */
#ifndef MAYFLY_API_TIMELINE_DRAW_H
#define MAYFLY_API_TIMELINE_DRAW_H

#include "vmm/base/err.h"

#include <stdio.h>

#define TIMELINE_STAGES_MAX 64

/* One point in time, reached `us` microseconds after exec. */
struct timeline_point {
    char name[48];
    uint64_t us;
};

struct timeline_points {
    size_t count;
    struct timeline_point points[TIMELINE_STAGES_MAX];
};

/* Reads {"stages":[{"name":"exec","us":0},...]}, sorted by time. -EPROTO with a sentence. */
int timeline_parse(const char *text, size_t len, struct timeline_points *points,
                   struct err *e) __must_check;

/* A line for each stage: when it was reached, how long it took, and a bar for that, `width` columns
 * in all. */
void timeline_draw_text(FILE *out, const struct timeline_points *points, unsigned width);

/* The same as an SVG picture. */
void timeline_draw_svg(FILE *out, const struct timeline_points *points);

#endif
