/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon_fixture.h owns a balloon over a fake loop and 64 MiB of guest memory, with a driver on
 * each of its queues.
 */
#ifndef MAYFLY_TESTS_UNIT_BALLOON_FIXTURE_H
#define MAYFLY_TESTS_UNIT_BALLOON_FIXTURE_H

#include "tests/support/guest_driver.h"
#include "virtio/memory/balloon.h"

#define RAM        (64 * MIB)
#define QUEUE_SIZE 16

#define F_TELL      (UINT64_C(1) << 0)
#define F_STATS     (UINT64_C(1) << 1)
#define F_OOM       (UINT64_C(1) << 2)
#define F_HINT      (UINT64_C(1) << 3)
#define F_REPORTING (UINT64_C(1) << 5)
#define F_RING      (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

/* By the standard's numbers. */
enum { INFLATE, DEFLATE, STATS, HINTS, REPORTS, QUEUES };

#define HEAP (16 * MIB) /* of the drivers' buffers; what is above is pages to play with */
#define ALL_ON                                                                                     \
    {                                                                                              \
        .amount_mib = 4, .deflate_on_oom = true, .stats_interval_s = 1, .free_page_hinting = true, \
        .free_page_reporting = true                                                                \
    }

struct balloon_fixture {
    struct mem mem;
    struct loop *loop;
    struct balloon *balloon;
    struct virtio_dev *dev;
    struct guest_driver driver[QUEUES];
    unsigned config_interrupts;
};

/* Makes the device and goes to DRIVER_OK with everything that it offers but the promise to tell it
 * when a page leaves the balloon (F_TELL): so every page goes back before its request does. */
void balloon_set_up(struct balloon_fixture *f, const struct balloon_config *config);
void balloon_tear_down(struct balloon_fixture *f);
/* The driver's queues anew, up to DRIVER_OK with `features`. */
void balloon_start(struct balloon_fixture *f, uint64_t features);

/* Kicks and lets the loop turn until it has nothing left to do by itself. */
void balloon_kick(struct balloon_fixture *f, unsigned q);

/* Fills the page with ones; whether it holds nothing but zeroes. */
void balloon_fill(struct balloon_fixture *f, uint64_t gpa, uint64_t len);
bool balloon_is_empty(struct balloon_fixture *f, uint64_t gpa, uint64_t len);

/* Sends page numbers in one readable buffer; the head. */
uint16_t balloon_send_pages(struct balloon_fixture *f, unsigned q, const uint32_t *page,
                            unsigned count);

/* Takes one used entry of queue q and checks that it is `head`, of which nothing was written. */
void balloon_expect_used(struct balloon_fixture *f, unsigned q, uint16_t head);
/* Nothing has come back in queue q. */
void balloon_expect_none(struct balloon_fixture *f, unsigned q);

/* The configuration space's words. */
uint32_t balloon_read_space(struct balloon_fixture *f, unsigned word);

#endif
