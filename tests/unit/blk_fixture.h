/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_fixture.h owns what the tests of the block device share: a drive over the fake loop and a
 * queue in guest memory, and requests in it. The disk is a memfd, which refuses RWF_NOWAIT: reads
 * of its first half, which has been written and is in memory, are served at once; reads of its
 * second half, a hole, go through the ring. Every function ends the test when it fails.
 */
#ifndef MAYFLY_TESTS_UNIT_BLK_FIXTURE_H
#define MAYFLY_TESTS_UNIT_BLK_FIXTURE_H

#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "virtio/block/blk.h"

#define RAM          (16 * MIB)
#define QUEUE_SIZE   VIRTQUEUE_SIZE_MAX
#define RING         (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)
#define F_SEG_MAX    (UINT64_C(1) << 2)
#define F_RO         (UINT64_C(1) << 5)
#define F_FLUSH      (UINT64_C(1) << 9)
#define F_DISCARD    (UINT64_C(1) << 13)
#define F_ZEROES     (UINT64_C(1) << 14)
#define SECTOR       512L
#define DISK         (1 * MIB)
#define DISK_SECTORS (DISK / 512)
#define HOLE         (DISK_SECTORS / 2) /* its first sector */

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, UNTOUCHED = 0xee };

struct fixture {
    struct mem mem;
    struct loop *loop;
    struct blk *blk;
    struct virtio_dev *dev;
    struct guest_driver driver;
    char path[64];
    int fd;
    unsigned config_interrupts, used_interrupts;
};

/* A request in guest memory. */
struct guest_request {
    uint64_t header, data, status;
    uint32_t len;
    uint16_t head;
};

/* A file of `size` bytes, in its first half each the low byte of its sector's number plus one. */
void make_disk(struct fixture *f, uint64_t size);

/* Memory, loop and disk; then a drive of `config`, whose id and path are filled in, started with
 * all the features that it offers. */
void set_up_empty(struct fixture *f);
void start_drive(struct fixture *f, struct blk_config config);
/* Both; and both for a drive with the Async engine and nothing special. */
void set_up_drive(struct fixture *f, struct blk_config config);
void set_up(struct fixture *f);
void tear_down(struct fixture *f);

/* A request that is not in the queue yet; header, data in one buffer and status, in the queue. */
struct guest_request prepare(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len);
struct guest_request add(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len);
void kick(struct fixture *f);

/* The oldest operation in the ring; and the end of one. */
const struct fake_op *ring(const struct fixture *f);
void complete(struct fixture *f, unsigned index, int res);

uint8_t byte_at(const struct fixture *f, uint64_t gpa);
uint8_t status_of(const struct fixture *f, const struct guest_request *request);
/* The next used entry must be the request's. */
void expect_used(struct fixture *f, const struct guest_request *request, uint32_t len);
/* Serves one request and expects its status. */
void expect_status(struct fixture *f, const struct guest_request *request, uint8_t want);

#endif
