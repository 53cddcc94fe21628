/* SPDX-License-Identifier: Apache-2.0 */
/* saved_parts.c: see saved_parts.h. */
#include "vmm/saved_parts.h"

#include <errno.h>

static void save_bucket(struct saved_limiter *to, unsigned i, bool given,
                        const struct token_bucket_config *bucket)
{
    to->size[i] = bucket->size;
    to->refill_ms[i] = bucket->refill_ms;
    to->burst[i] = bucket->one_time_burst;
    to->bucket_given[i] = given;
    to->burst_given[i] = bucket->has_burst;
}

struct saved_limiter saved_limiter_of(bool given, const struct rate_limiter_config *config)
{
    struct saved_limiter to = {.given = given};

    if (!given)
        return to;
    save_bucket(&to, 0, config->has_bandwidth, &config->bandwidth);
    save_bucket(&to, 1, config->has_ops, &config->ops);
    return to;
}

static struct token_bucket_config load_bucket(const struct saved_limiter *from, unsigned i)
{
    return (struct token_bucket_config){
        .size = from->size[i],
        .refill_ms = from->refill_ms[i],
        .one_time_burst = from->burst[i],
        .has_burst = from->burst_given[i],
    };
}

struct rate_limiter_config saved_limiter_config(const struct saved_limiter *from)
{
    return (struct rate_limiter_config){
        .has_bandwidth = from->bucket_given[0],
        .has_ops = from->bucket_given[1],
        .bandwidth = load_bucket(from, 0),
        .ops = load_bucket(from, 1),
    };
}

int saved_read_text(struct state_reader *r, const char *name, unsigned i, char **text,
                    struct err *e)
{
    const char *found = NULL;
    int rc = state_read_text(r, name, i, &found, e);

    *text = (char *)(uintptr_t)found;
    return rc;
}

int saved_read_set_text(struct state_reader *r, const char *name, unsigned i, char **text,
                        struct err *e)
{
    int rc = saved_read_text(r, name, i, text, e);

    if (rc == 0 && !*text)
        rc = err_set(e, -EINVAL, "The snapshot's section %s %u is empty.", name, i);
    return rc;
}
