/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rate_limiter.h owns token buckets: how many bytes and operations a device may use up a second.
 *
 * A bucket holds `size` tokens, starts full and refills linearly: size tokens in refill_ms. A
 * one-time burst is used up before it and never refilled. A request larger than the bucket passes
 * once the bucket is full and then leaves it in debt, so the average holds. Size 0 or refill time 0
 * = no limit.
 *
 * Pure: the caller passes the time; no clock, no timer. Under the machine lock.
 */
#ifndef MAYFLY_BASE_RATE_LIMITER_H
#define MAYFLY_BASE_RATE_LIMITER_H

#include "vmm/base/state.h"

/* What a user configures; all zero = no limit. */
struct token_bucket_config {
    uint64_t size;           /* tokens */
    uint64_t refill_ms;      /* time in which an empty bucket fills */
    uint64_t one_time_burst; /* extra tokens at the start */
    bool has_burst;          /* whether the user gave one (shown by GET /vm/config) */
};

struct rate_limiter_config {
    bool has_bandwidth, has_ops; /* whether the user gave the bucket at all */
    struct token_bucket_config bandwidth, ops;
};

/*
 * Makes of what a user gave what the user sees (GET /vm/config): a bucket that limits nothing is no
 * bucket, a burst of nothing is none, and a limiter without buckets is not given.
 */
void rate_limiter_config_tidy(struct rate_limiter_config *config, bool *given);

/* A PATCH to what the user sees: buckets that are given replace the old ones. */
void rate_limiter_config_patch(struct rate_limiter_config *config, bool *given,
                               const struct rate_limiter_config *patch);

/* The saved part of a bucket. size 0 = no limit. Tokens have been added up to updated_ns, which
 * moves by whole tokens only, so that slow refills lose nothing. */
struct token_bucket {
    uint64_t size, refill_ms, burst, budget, debt, updated_ns;
};

struct rate_limiter {
    struct token_bucket bandwidth, ops;
};

extern const struct state_desc rate_limiter_state_desc;

/* The rows of a limiter inside a device's saved struct: `at` is the member with its dot
 * (`limiter.`), or nothing. */
#define RATE_LIMITER_STATE_FIELDS(type, at)                                                        \
    TOKEN_BUCKET_STATE_FIELDS(type, at bandwidth), TOKEN_BUCKET_STATE_FIELDS(type, at ops)
#define TOKEN_BUCKET_STATE_FIELDS(type, at)                                                        \
    STATE_FIELD(type, at.size), STATE_FIELD(type, at.refill_ms), STATE_FIELD(type, at.burst),      \
        STATE_FIELD(type, at.budget), STATE_FIELD(type, at.debt), STATE_TIME(type, at.updated_ns)

void rate_limiter_init(struct rate_limiter *limiter, const struct rate_limiter_config *config,
                       uint64_t now);

/* A PATCH: buckets that are given replace the old ones, full; others stay as they are. */
void rate_limiter_update(struct rate_limiter *limiter, const struct rate_limiter_config *patch,
                         uint64_t now);

/*
 * Takes one operation and `bytes` of bandwidth, both or neither. False = over the limit: wait, then
 * ask again. RATE_LIMITER_RETRY_NS is how long Firecracker waits, and so do we at most.
 */
bool rate_limiter_take(struct rate_limiter *limiter, uint64_t bytes, uint64_t now);
#define RATE_LIMITER_RETRY_NS (100 * NSEC_PER_MSEC)

/* Nanoseconds until a request of that size would pass; 0 = now. */
uint64_t rate_limiter_wait_ns(const struct rate_limiter *limiter, uint64_t bytes, uint64_t now);

/* Whether neither bucket limits anything (the data path then skips everything). */
bool rate_limiter_is_unlimited(const struct rate_limiter *limiter);

/* One bucket alone, for the serial port. */
void token_bucket_init(struct token_bucket *bucket, const struct token_bucket_config *config,
                       uint64_t now);
bool token_bucket_take(struct token_bucket *bucket, uint64_t tokens, uint64_t now);

#endif
