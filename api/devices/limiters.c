/* SPDX-License-Identifier: Apache-2.0 */
/* limiters.c: rate limiters as text, in every device that has one. */
#include "api/body_tables.h"
#include "api/vm_config.h"

static const struct schema_member token_bucket_members[] = {
    {"size", SCHEMA_U64, SCHEMA_REQUIRED, SCHEMA_AT(struct token_bucket_config, size)},
    {"one_time_burst", SCHEMA_U64, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct token_bucket_config, one_time_burst, has_burst)},
    {"refill_time", SCHEMA_U64, SCHEMA_REQUIRED, SCHEMA_AT(struct token_bucket_config, refill_ms)},
};
const struct schema token_bucket_schema =
    SCHEMA("struct TokenBucketConfig", token_bucket_members, .lets_unknown = true);

static const struct schema_member rate_limiter_members[] = {
    {"bandwidth", SCHEMA_OBJECT, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct rate_limiter_config, bandwidth, has_bandwidth),
     .object = &token_bucket_schema},
    {"ops", SCHEMA_OBJECT, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct rate_limiter_config, ops, has_ops), .object = &token_bucket_schema},
};
const struct schema rate_limiter_schema =
    SCHEMA("struct RateLimiterConfig", rate_limiter_members, .lets_unknown = false);

static void bucket_write(struct json_writer *w, const char *key, bool given,
                         const struct token_bucket_config *bucket)
{
    json_write_key(w, key);
    if (!given) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    json_member_unsigned(w, "size", bucket->size);
    json_write_key(w, "one_time_burst");
    if (bucket->has_burst)
        json_write_unsigned(w, bucket->one_time_burst);
    else
        json_write_null(w);
    json_member_unsigned(w, "refill_time", bucket->refill_ms);
    json_write_end(w, '}');
}

void limiter_write(struct json_writer *w, const char *key, bool given,
                   const struct rate_limiter_config *limiter)
{
    json_write_key(w, key);
    if (!given) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    bucket_write(w, "bandwidth", limiter->has_bandwidth, &limiter->bandwidth);
    bucket_write(w, "ops", limiter->has_ops, &limiter->ops);
    json_write_end(w, '}');
}
