/* SPDX-License-Identifier: Apache-2.0 */
/* rate_limiter.c: token buckets over a clock that the caller reads. */
#include "vmm/base/rate_limiter.h"

static const struct state_field fields[] = {RATE_LIMITER_STATE_FIELDS(struct rate_limiter, )};
const struct state_desc rate_limiter_state_desc =
    STATE_DESC("rate-limiter", 1, struct rate_limiter, fields);

/* tokens x nanoseconds passes 64 bits after five hours at a gigabyte a second. */
__extension__ typedef unsigned __int128 uint128;

static uint64_t saturate(uint128 value)
{
    return value > UINT64_MAX ? UINT64_MAX : (uint64_t)value;
}

static bool is_limited(const struct token_bucket *bucket)
{
    return bucket->size > 0;
}

void token_bucket_init(struct token_bucket *bucket, const struct token_bucket_config *config,
                       uint64_t now)
{
    *bucket = (struct token_bucket){0};
    if (config->size == 0 || config->refill_ms == 0)
        return;
    bucket->size = config->size;
    bucket->refill_ms = config->refill_ms;
    bucket->burst = config->one_time_burst;
    bucket->budget = config->size;
    bucket->updated_ns = now;
}

/* Nanoseconds in which `tokens` come in, rounded up. */
static uint128 time_for(const struct token_bucket *bucket, uint64_t tokens)
{
    uint128 product = (uint128)tokens * bucket->refill_ms * NSEC_PER_MSEC;

    return (product + bucket->size - 1) / bucket->size;
}

/* Tokens that came in since the last look pay the debt first and then fill the bucket. */
static void refill(struct token_bucket *bucket, uint64_t now)
{
    uint128 refill_ns = (uint128)bucket->refill_ms * NSEC_PER_MSEC;
    uint64_t wanted = saturate((uint128)bucket->debt + (bucket->size - bucket->budget));
    uint64_t elapsed = now > bucket->updated_ns ? now - bucket->updated_ns : 0;
    /* No bucket of ours fills in no time, but one out of a file may. */
    uint64_t tokens = refill_ns ? saturate((uint128)elapsed * bucket->size / refill_ns) : wanted;

    if (tokens >= wanted) { /* full: time does not pile up beyond that */
        bucket->debt = 0;
        bucket->budget = bucket->size;
        bucket->updated_ns = MAX(now, bucket->updated_ns);
        return;
    }
    /* Only whole tokens are taken from the clock, so that frequent looks lose nothing. */
    bucket->updated_ns += (uint64_t)((uint128)tokens * refill_ns / bucket->size);
    if (tokens <= bucket->debt) {
        bucket->debt -= tokens;
    } else {
        bucket->budget += tokens - bucket->debt;
        bucket->debt = 0;
    }
}

/* What of `tokens` the budget has to give, after the one-time burst. */
static uint64_t after_burst(const struct token_bucket *bucket, uint64_t tokens)
{
    return tokens > bucket->burst ? tokens - bucket->burst : 0;
}

/* Whether a refilled bucket lets `tokens` pass. What is larger than the bucket waits until it is
 * full. */
static bool has_room(const struct token_bucket *bucket, uint64_t tokens)
{
    uint64_t needed = after_burst(bucket, tokens);

    return needed == 0 || (bucket->debt == 0 && bucket->budget >= MIN(needed, bucket->size));
}

static void take(struct token_bucket *bucket, uint64_t tokens)
{
    uint64_t needed = after_burst(bucket, tokens);

    bucket->burst -= tokens - needed;
    if (needed > bucket->budget) {
        bucket->debt = needed - bucket->budget;
        bucket->budget = 0;
    } else {
        bucket->budget -= needed;
    }
}

bool token_bucket_take(struct token_bucket *bucket, uint64_t tokens, uint64_t now)
{
    if (!is_limited(bucket))
        return true;
    refill(bucket, now);
    if (!has_room(bucket, tokens))
        return false;
    take(bucket, tokens);
    return true;
}

/* Time until has_room. */
static uint64_t bucket_wait_ns(const struct token_bucket *old, uint64_t tokens, uint64_t now)
{
    struct token_bucket bucket = *old;
    uint64_t needed, elapsed;
    uint128 wait;

    if (!is_limited(old))
        return 0;
    refill(&bucket, now);
    if (has_room(&bucket, tokens))
        return 0;
    needed = MIN(after_burst(&bucket, tokens), bucket.size);
    wait = time_for(&bucket, saturate((uint128)bucket.debt + (needed - bucket.budget)));
    elapsed = now > bucket.updated_ns ? now - bucket.updated_ns : 0;
    return wait > elapsed ? saturate(wait - elapsed) : 1;
}

void rate_limiter_init(struct rate_limiter *limiter, const struct rate_limiter_config *config,
                       uint64_t now)
{
    *limiter = (struct rate_limiter){0};
    rate_limiter_update(limiter, config, now);
}

void rate_limiter_update(struct rate_limiter *limiter, const struct rate_limiter_config *patch,
                         uint64_t now)
{
    if (patch->has_bandwidth)
        token_bucket_init(&limiter->bandwidth, &patch->bandwidth, now);
    if (patch->has_ops)
        token_bucket_init(&limiter->ops, &patch->ops, now);
}

bool rate_limiter_take(struct rate_limiter *limiter, uint64_t bytes, uint64_t now)
{
    if (is_limited(&limiter->ops)) {
        refill(&limiter->ops, now);
        if (!has_room(&limiter->ops, 1))
            return false;
    }
    if (!token_bucket_take(&limiter->bandwidth, bytes, now))
        return false;
    if (is_limited(&limiter->ops))
        take(&limiter->ops, 1);
    return true;
}

uint64_t rate_limiter_wait_ns(const struct rate_limiter *limiter, uint64_t bytes, uint64_t now)
{
    uint64_t ops = bucket_wait_ns(&limiter->ops, 1, now);
    uint64_t bandwidth = bucket_wait_ns(&limiter->bandwidth, bytes, now);

    return MAX(ops, bandwidth);
}

bool rate_limiter_is_unlimited(const struct rate_limiter *limiter)
{
    return !is_limited(&limiter->bandwidth) && !is_limited(&limiter->ops);
}

static void tidy_bucket(struct token_bucket_config *bucket, bool *given)
{
    *given = *given && bucket->size > 0 && bucket->refill_ms > 0;
    bucket->has_burst = *given && bucket->one_time_burst > 0;
    if (!*given)
        *bucket = (struct token_bucket_config){0};
}

void rate_limiter_config_tidy(struct rate_limiter_config *config, bool *given)
{
    if (!*given)
        *config = (struct rate_limiter_config){0};
    tidy_bucket(&config->bandwidth, &config->has_bandwidth);
    tidy_bucket(&config->ops, &config->has_ops);
    *given = config->has_bandwidth || config->has_ops;
}

void rate_limiter_config_patch(struct rate_limiter_config *config, bool *given,
                               const struct rate_limiter_config *patch)
{
    if (!*given)
        *config = (struct rate_limiter_config){0};
    if (patch->has_bandwidth)
        config->bandwidth = patch->bandwidth;
    if (patch->has_ops)
        config->ops = patch->ops;
    config->has_bandwidth |= patch->has_bandwidth;
    config->has_ops |= patch->has_ops;
    *given = true;
    rate_limiter_config_tidy(config, given);
}
