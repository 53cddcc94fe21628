/* SPDX-License-Identifier: Apache-2.0 */
/* body_tables.h owns the short forms by which tables of members (schema.h) are written. */
#ifndef MAYFLY_API_BODY_TABLES_H
#define MAYFLY_API_BODY_TABLES_H

#include "api/bodies.h"

/* A table of names, in place: of_values NULL = numbered 0, 1, 2 ... */
#define NAMES(list, of_values)                                                                     \
    &(const struct schema_names)                                                                   \
    {                                                                                              \
        .names = list, .values = of_values, .count = ARRAY_SIZE(list)                              \
    }

#define SCHEMA(shown, rows, ...)                                                                   \
    {                                                                                              \
        .name = shown, .members = rows, .count = ARRAY_SIZE(rows), __VA_ARGS__                     \
    }

/* A member that is a rate limiter: limiter and has_limiter of the struct, or those named. */
#define RATE_LIMITER(type) RATE_LIMITER_AT("rate_limiter", type, limiter, has_limiter)
#define RATE_LIMITER_AT(name, type, member, flag)                                                  \
    {                                                                                              \
        name, SCHEMA_OBJECT, SCHEMA_NULLABLE, SCHEMA_AT_GIVEN(type, member, flag),                 \
            .object = &rate_limiter_schema                                                         \
    }

#endif
