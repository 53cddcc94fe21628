/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon.h owns the memory balloon (virtio 1.3, section 5.5): pages that the guest gives back to
 * the host, by order (inflate) or by itself (free page reporting and hinting), and its statistics.
 */
#ifndef MAYFLY_MEMORY_BALLOON_H
#define MAYFLY_MEMORY_BALLOON_H

#include "virtio/virtio.h"

/* What a user says of the device. */
struct balloon_config {
    uint32_t amount_mib;
    bool deflate_on_oom;
    uint16_t stats_interval_s; /* 0 = no statistics */
    bool free_page_hinting, free_page_reporting;
};

/* A statistic that the guest has sent: has[i] says whether value[i] counts. The order is that of
 * the tags in virtio 1.3, section 5.5.6.4. */
enum balloon_stat {
    BALLOON_SWAP_IN,
    BALLOON_SWAP_OUT,
    BALLOON_MAJOR_FAULTS,
    BALLOON_MINOR_FAULTS,
    BALLOON_FREE_MEMORY,
    BALLOON_TOTAL_MEMORY,
    BALLOON_AVAILABLE_MEMORY,
    BALLOON_DISK_CACHES,
    BALLOON_HUGETLB_ALLOCATIONS,
    BALLOON_HUGETLB_FAILURES,
    BALLOON_OOM_KILL,
    BALLOON_ALLOC_STALL,
    BALLOON_ASYNC_SCAN,
    BALLOON_DIRECT_SCAN,
    BALLOON_ASYNC_RECLAIM,
    BALLOON_DIRECT_RECLAIM,
    BALLOON_STATS
};

struct balloon_stats {
    uint32_t target_pages, actual_pages, target_mib, actual_mib;
    bool has[BALLOON_STATS];
    uint64_t value[BALLOON_STATS];
};

struct balloon_hinting_status {
    uint32_t host_cmd, guest_cmd;
    bool has_guest_cmd;
};

struct balloon;

/* The device's saved struct, for the test that walks them all. */
extern const struct state_desc balloon_state_desc;

/* -ENOMEM, -EINVAL. That the amount fits into the guest's memory is the machine's to check. */
int balloon_create(struct balloon **out, const struct virtio_env *env,
                   const struct balloon_config *config, struct err *e) __must_check;

struct virtio_dev *balloon_dev(struct balloon *balloon);
/* As it was given, or as it has been changed since. */
const struct balloon_config *balloon_config(const struct balloon *balloon);

/* What clients ask of a running balloon, in Firecracker's words where it refuses (-EINVAL): a guest
 * that has not activated it, an amount beyond RAM, statistics or hinting that were not asked for.
 * Loop thread. */
int balloon_update(struct balloon *balloon, uint32_t amount_mib, struct err *e) __must_check;
int balloon_update_stats(struct balloon *balloon, uint16_t interval_s, struct err *e) __must_check;
int balloon_stats(struct balloon *balloon, struct balloon_stats *stats, struct err *e) __must_check;
int balloon_hinting_start(struct balloon *balloon, bool acknowledge_on_stop,
                          struct err *e) __must_check;
int balloon_hinting_stop(struct balloon *balloon, struct err *e) __must_check;
int balloon_hinting_status(struct balloon *balloon, struct balloon_hinting_status *status,
                           struct err *e) __must_check;

#endif
