/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of the block device over a fake loop and a queue in guest memory. The disk is a memfd,
 * which refuses RWF_NOWAIT: reads of its first half, which has been written and is in memory, are
 * served at once; reads of its second half, a hole, go through the ring.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/block/blk.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#define RAM          (16 * MIB)
#define QUEUE_SIZE   VIRTQUEUE_SIZE_MAX
#define RING         (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)
#define F_SEG_MAX    (UINT64_C(1) << 2)
#define F_RO         (UINT64_C(1) << 5)
#define F_FLUSH      (UINT64_C(1) << 9)
#define F_DISCARD    (UINT64_C(1) << 13)
#define F_ZEROES     (UINT64_C(1) << 14)
#define SECTOR       512L
#define HOUR_MS      UINT64_C(3600000)
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

static void interrupt(void *owner, enum virtio_interrupt why)
{
    struct fixture *f = owner;

    f->config_interrupts += why == VIRTIO_INTERRUPT_CONFIG;
    f->used_interrupts += why == VIRTIO_INTERRUPT_USED;
}

static void nothing(void *owner)
{
    (void)owner;
}

static const struct virtio_transport_ops transport = {interrupt, nothing, nothing, nothing};

/* A file of `size` bytes, in its first half each the low byte of its sector's number plus one. */
static void make_disk(struct fixture *f, uint64_t size)
{
    uint8_t sector[512];

    f->fd = memfd_create("disk", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
    for (uint64_t i = 0; i < size / 2 / sizeof(sector); i++) {
        memset(sector, (int)(uint8_t)(i + 1), sizeof(sector));
        assert_int_equal(write(f->fd, sector, sizeof(sector)), sizeof(sector));
    }
    assert_int_equal(ftruncate(f->fd, (off_t)size), 0);
}

static struct blk_config simple_config(struct fixture *f)
{
    static char id[] = "root";

    return (struct blk_config){.id = id, .path = f->path, .engine = BLK_ENGINE_ASYNC};
}

/* Creates the drive of `config` and starts it with all the features it offers. */
static void start(struct fixture *f, const struct blk_config *config)
{
    struct virtio_env env = {.mem = &f->mem, .loop = f->loop};
    struct err e = {0};

    assert_int_equal(blk_create(&f->blk, &env, config, &e), 0);
    f->dev = blk_dev(f->blk);
    virtio_dev_attach(f->dev, &transport, f);
    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, virtio_dev_features(f->dev)), 15);
}

static void set_up_empty(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    log_set_options(&(struct log_options){.level = LOG_OFF});
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    make_disk(f, DISK);
}

static void set_up(struct fixture *f)
{
    struct blk_config config;

    set_up_empty(f);
    config = simple_config(f);
    start(f, &config);
}

static void tear_down(struct fixture *f)
{
    virtio_dev_destroy(f->dev);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
    close(f->fd);
}

static struct guest_request prepare(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len)
{
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header = {type, 0, sector};
    struct guest_request request = {
        .header = guest_alloc(&f->driver, sizeof(header)),
        .data = guest_alloc(&f->driver, len),
        .status = guest_alloc(&f->driver, 1),
        .len = len,
    };
    uint8_t untouched = UNTOUCHED;

    guest_write(&f->driver, request.header, &header, sizeof(header));
    guest_write(&f->driver, request.status, &untouched, 1);
    return request;
}

/* Header, data in one buffer, status. */
static struct guest_request add(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len)
{
    struct guest_request request = prepare(f, type, sector, len);
    bool fills = type == IN || type == GET_ID;

    request.head = guest_add(&f->driver,
                             (struct guest_buffer[]){{request.header, 16, false},
                                                     {request.data, len, fills},
                                                     {request.status, 1, true}},
                             3);
    return request;
}

static uint8_t status_of(const struct fixture *f, const struct guest_request *request)
{
    uint8_t status;

    guest_read(&f->driver, request->status, &status, 1);
    return status;
}

static void kick(struct fixture *f)
{
    virtio_dev_kick(f->dev, 0);
}

static void expect_used(struct fixture *f, const struct guest_request *request, uint32_t len)
{
    struct virtq_used_elem used;

    assert_true(guest_take_used(&f->driver, &used));
    assert_int_equal(used.id, request->head);
    assert_int_equal(used.len, len);
}

static uint8_t byte_at(const struct fixture *f, uint64_t gpa)
{
    uint8_t byte;

    guest_read(&f->driver, gpa, &byte, 1);
    return byte;
}

/* The oldest operation in the ring. */
static const struct fake_op *ring(const struct fixture *f)
{
    return fake_loop_op(f->loop, 0);
}

static void complete(struct fixture *f, unsigned index, int res)
{
    fake_loop_complete(f->loop, index, res, false);
    fake_loop_end_turn(f->loop);
}

static void expect_stopped(struct fixture *f)
{
    assert_true(f->dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(blk_metrics(f->blk)->event_fails, 1);
}

/* Serves one request and expects its status. */
static void expect_status(struct fixture *f, const struct guest_request *request, uint8_t want)
{
    struct virtq_used_elem used;

    kick(f);
    fake_loop_settle(f->loop);
    assert_true(guest_take_used(&f->driver, &used));
    assert_int_equal(used.id, request->head);
    assert_int_equal(status_of(f, request), want);
}

/* ---- reading and writing ---- */

static void test_blk_read_in_memory_is_served_at_once(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up(&f);

    request = add(&f, IN, 7, 1024);
    kick(&f);
    assert_int_equal(fake_loop_count(f.loop), 0);
    fake_loop_end_turn(f.loop);

    expect_used(&f, &request, 1025);
    assert_int_equal(status_of(&f, &request), OK);
    assert_int_equal(byte_at(&f, request.data), 8);
    assert_int_equal(byte_at(&f, request.data + 1023), 9);
    assert_int_equal(f.used_interrupts, 1);
    assert_int_equal(blk_metrics(f.blk)->read_count, 1);
    assert_int_equal(blk_metrics(f.blk)->read_bytes, 1024);
    tear_down(&f);
}

static void test_blk_read_not_in_memory_goes_through_the_ring(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up(&f);
    request = add(&f, IN, HOLE + 8, 4096);
    kick(&f);
    fake_loop_end_turn(f.loop);

    assert_int_equal(ring(&f)->verb, FAKE_READV);
    assert_int_equal(ring(&f)->offset, (HOLE + 8) * 512);
    assert_int_equal(ring(&f)->len, 4096);
    assert_int_equal(status_of(&f, &request), UNTOUCHED);
    assert_int_equal(f.dev->in_flight, 1);

    complete(&f, 0, 4096);
    expect_used(&f, &request, 4097);
    assert_int_equal(status_of(&f, &request), OK);
    assert_int_equal(f.dev->in_flight, 0);
    tear_down(&f);
}

static void test_blk_write_reaches_the_file(void **state)
{
    static const enum blk_engine engines[] = {BLK_ENGINE_SYNC, BLK_ENGINE_ASYNC};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
        struct fixture f;
        struct blk_config config;
        struct guest_request request;
        uint8_t data[4096], back[4096];

        set_up_empty(&f);
        config = simple_config(&f);
        config.engine = engines[i];
        start(&f, &config);
        memset(data, 0xa5, sizeof(data));

        request = add(&f, OUT, 16, sizeof(data));
        guest_write(&f.driver, request.data, data, sizeof(data));
        kick(&f);
        /* with Sync a write this small is complete at once */
        assert_int_equal(fake_loop_count_verb(f.loop, FAKE_WRITEV), engines[i] == BLK_ENGINE_ASYNC);
        fake_loop_settle(f.loop);

        expect_used(&f, &request, 1);
        assert_int_equal(status_of(&f, &request), OK);
        assert_int_equal(pread(f.fd, back, sizeof(back), 16 * SECTOR), sizeof(back));
        assert_memory_equal(back, data, sizeof(back));
        assert_int_equal(blk_metrics(f.blk)->write_bytes, sizeof(data));
        tear_down(&f);
    }
}

static void test_blk_large_write_goes_through_the_ring_with_sync_too(void **state)
{
    struct fixture f;
    struct blk_config config;
    struct guest_request request;

    (void)state;
    set_up_empty(&f);
    config = simple_config(&f);
    config.engine = BLK_ENGINE_SYNC;
    start(&f, &config);
    request = add(&f, OUT, 0, 64 * KIB + 512);
    kick(&f);
    assert_int_equal(ring(&f)->verb, FAKE_WRITEV);
    expect_status(&f, &request, OK);
    tear_down(&f);
}

/*
 * A worker of the ring gets no SIGXFSZ, so what it finds too far (RLIMIT_FSIZE) we try ourselves
 * with the Sync engine, whose users know that signal; with Async it is the guest's error.
 */
static void test_blk_write_too_far_for_the_ring_is_tried_by_ourselves_with_sync_only(void **state)
{
    static const enum blk_engine engines[] = {BLK_ENGINE_SYNC, BLK_ENGINE_ASYNC};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
        bool sync = engines[i] == BLK_ENGINE_SYNC;
        struct fixture f;
        struct blk_config config;
        struct guest_request request;
        uint8_t byte = 0xab, back;

        set_up_empty(&f);
        config = simple_config(&f);
        config.engine = engines[i];
        start(&f, &config);
        request = add(&f, OUT, 0, 64 * KIB + 512);
        guest_write(&f.driver, request.data + 64 * KIB, &byte, 1);
        kick(&f);
        fake_loop_complete(f.loop, 0, -EFBIG, false);
        fake_loop_end_turn(f.loop);
        assert_int_equal(status_of(&f, &request), sync ? OK : IOERR);
        assert_int_equal(pread(f.fd, &back, 1, 64 * KIB), 1);
        assert_int_equal(back == byte, sync);
        tear_down(&f);
    }
}

static void test_blk_request_may_be_cut_anywhere(void **state)
{
    struct fixture f;
    struct guest_request request;
    char last = 0;

    (void)state;
    set_up(&f);
    /* a header in three parts; data and status in one buffer after a part of the data */
    request = prepare(&f, IN, 7, 1024);
    request.head = guest_add(&f.driver,
                             (struct guest_buffer[]){{request.header, 1, false},
                                                     {request.header + 1, 10, false},
                                                     {request.header + 11, 5, false},
                                                     {request.data, 500, true},
                                                     {request.data + 500, 525, true}},
                             5);
    request.status = request.data + 1024;
    expect_status(&f, &request, OK);
    assert_int_equal(byte_at(&f, request.data), 8);
    assert_int_equal(byte_at(&f, request.data + 511), 8);
    assert_int_equal(byte_at(&f, request.data + 512), 9);

    /* header and data in one buffer */
    request = prepare(&f, OUT, 3, 512);
    request.head = guest_add(
        &f.driver,
        (struct guest_buffer[]){{request.header, 16 + 512, false}, {request.status, 1, true}}, 2);
    guest_write(&f.driver, request.header + 16 + 511, "x", 1);
    kick(&f);
    fake_loop_settle(f.loop);
    assert_int_equal(pread(f.fd, &last, 1, 3 * 512 + 511), 1);
    assert_int_equal(last, 'x');
    tear_down(&f);
}

static void test_blk_request_of_510_segments_by_indirect_table(void **state)
{
    struct guest_buffer buffers[QUEUE_SIZE];
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up(&f);
    request = prepare(&f, IN, HOLE, 510 * 512);
    buffers[0] = (struct guest_buffer){request.header, 16, false};
    for (unsigned i = 0; i < 510; i++)
        buffers[1 + i] = (struct guest_buffer){request.data + i * UINT64_C(512), 512, true};
    buffers[QUEUE_SIZE - 1] = (struct guest_buffer){request.status, 1, true};
    request.head = guest_add_indirect(&f.driver, buffers, QUEUE_SIZE);

    kick(&f);
    assert_int_equal(ring(&f)->count, 510);
    complete(&f, 0, 100 * 512 + 7); /* and it goes on in the middle of a segment */
    assert_int_equal(ring(&f)->count, 410);
    assert_int_equal(ring(&f)->iov[0].iov_len, 505);
    assert_int_equal(ring(&f)->offset, (HOLE + 100) * 512 + 7);
    complete(&f, 0, 410 * 512 - 7);
    expect_used(&f, &request, 510 * 512 + 1);
    assert_int_equal(status_of(&f, &request), OK);
    tear_down(&f);
}

static void test_blk_completions_in_any_order_reach_their_requests(void **state)
{
    static const unsigned order[] = {2, 0, 3, 1};
    struct guest_request request[4];
    struct virtq_used_elem used;
    struct fixture f;
    bool done[4] = {false};

    (void)state;
    set_up(&f);
    for (unsigned i = 0; i < 4; i++)
        request[i] = add(&f, IN, HOLE + i, 512);
    kick(&f);
    for (unsigned i = 0; i < 4; i++) {
        unsigned which = order[i], index = 0;

        for (unsigned j = 0; j < which; j++)
            index += !done[j];
        done[which] = true;
        complete(&f, index, 512);
        assert_true(guest_take_used(&f.driver, &used));
        assert_int_equal(used.id, request[which].head);
        for (unsigned j = 0; j < 4; j++)
            assert_int_equal(status_of(&f, &request[j]), done[j] ? OK : UNTOUCHED);
    }
    tear_down(&f);
}

static void test_blk_full_queue_in_flight_twice(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up(&f);
    for (int round = 0; round < 2; round++) {
        uint64_t heap = f.driver.heap;

        for (unsigned i = 0; i < QUEUE_SIZE; i++) {
            struct guest_buffer buffers[12];
            struct guest_request request = prepare(&f, IN, HOLE, 10 * 512);

            buffers[0] = (struct guest_buffer){request.header, 16, false};
            for (unsigned j = 0; j < 10; j++)
                buffers[1 + j] = (struct guest_buffer){request.data + j * UINT64_C(512), 512, true};
            buffers[11] = (struct guest_buffer){request.status, 1, true};
            guest_add_indirect(&f.driver, buffers, 12);
        }
        kick(&f);
        while (f.dev->in_flight < QUEUE_SIZE)
            fake_loop_end_turn(f.loop);
        for (unsigned i = 0; i < QUEUE_SIZE; i++) /* newest first, then the rest */
            fake_loop_complete(f.loop, fake_loop_count(f.loop) - 1, 5120, false);
        fake_loop_end_turn(f.loop);
        for (unsigned i = 0; i < QUEUE_SIZE; i++)
            assert_true(guest_take_used(&f.driver, &used));
        f.driver.heap = heap;
    }
    assert_int_equal(blk_metrics(f.blk)->read_count, 2 * QUEUE_SIZE);
    tear_down(&f);
}

static void test_blk_flood_is_served_a_share_a_turn(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;
    unsigned served = 0;

    (void)state;
    set_up(&f);
    for (unsigned i = 0; i < 80; i++) /* 240 descriptors */
        add(&f, IN, 0, 512);
    kick(&f);
    assert_int_equal(blk_metrics(f.blk)->read_count, 64);
    assert_true(f.dev->work.queued);
    fake_loop_settle(f.loop);
    while (guest_take_used(&f.driver, &used))
        served++;
    assert_int_equal(served, 80);
    tear_down(&f);
}

static void test_blk_large_reads_at_once_are_bounded_a_turn(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    for (unsigned i = 0; i < 8; i++)
        add(&f, IN, 0, 400 * KIB);
    kick(&f);
    assert_int_equal(blk_metrics(f.blk)->read_count, 3); /* the third passes a megabyte */
    fake_loop_settle(f.loop);
    assert_int_equal(blk_metrics(f.blk)->read_count, 8);
    tear_down(&f);
}

/* ---- what cannot be ---- */

static void test_blk_out_of_range_requests_are_ioerr(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t len;
        uint8_t want;
    } cases[] = {
        {IN, DISK_SECTORS - 1, 512, OK},
        {OUT, DISK_SECTORS - 1, 512, OK},
        {IN, DISK_SECTORS - 1, 1024, IOERR},
        {OUT, DISK_SECTORS - 1, 1024, IOERR},
        {IN, DISK_SECTORS, 512, IOERR},
        {IN, UINT64_MAX, 512, IOERR},
        {OUT, UINT64_MAX / 512, 512, IOERR},
        {OUT, UINT64_C(1) << 55, 512, IOERR},
        {IN, 0, 511, IOERR},
        {OUT, 0, 513, IOERR},
        {IN, DISK_SECTORS, 0, OK},
        {IN, DISK_SECTORS + 1, 0, IOERR},
        {99, 0, 512, UNSUPP},
        {FLUSH, 0, 0, UNSUPP},
        {DISCARD, 0, 16, UNSUPP},
        {WRITE_ZEROES, 0, 16, UNSUPP},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct guest_request request;

        set_up(&f);
        request = add(&f, cases[i].type, cases[i].sector, cases[i].len);
        kick(&f);
        fake_loop_settle(f.loop);
        if (status_of(&f, &request) != cases[i].want)
            fail_msg("case %zu: %u", i, status_of(&f, &request));
        assert_int_equal(blk_metrics(f.blk)->invalid_reqs_count, cases[i].want != OK);
        tear_down(&f);
    }
}

static void test_blk_requests_too_short_stop_the_device(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct fixture f;
        struct guest_request request;
        struct guest_buffer buffers[2];

        set_up(&f);
        request = prepare(&f, IN, 0, 0);
        buffers[0] = (struct guest_buffer){request.header, i == 0 ? 15 : 16, false};
        buffers[1] = (struct guest_buffer){request.status, i == 1 ? 0 : 1, i != 2};
        guest_add(&f.driver, buffers, 2);
        kick(&f);
        fake_loop_settle(f.loop);
        expect_stopped(&f);
        assert_int_equal(blk_metrics(f.blk)->execute_fails, 1);
        tear_down(&f);
    }
}

static void test_blk_read_only_drive_says_so_and_refuses_writes(void **state)
{
    struct fixture f;
    struct blk_config config;
    struct guest_request request;

    (void)state;
    set_up_empty(&f);
    config = simple_config(&f);
    config.read_only = true;
    start(&f, &config);
    assert_true(virtio_dev_features(f.dev) & F_RO);
    request = add(&f, OUT, 0, 512);
    expect_status(&f, &request, IOERR);
    request = add(&f, IN, 0, 512);
    expect_status(&f, &request, OK);
    tear_down(&f);
}

/* ---- results of the ring ---- */

static void test_blk_failing_operations_are_ioerr_and_count(void **state)
{
    static const int results[] = {-EIO, -ENOSPC, -EFBIG, -ECANCELED, 0 /* the file ends there */};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
        struct fixture f;
        struct guest_request request;

        set_up(&f);
        request = add(&f, i % 2 ? OUT : IN, HOLE, 512);
        kick(&f);
        complete(&f, 0, results[i]);
        assert_int_equal(status_of(&f, &request), IOERR);
        expect_used(&f, &request, i % 2 ? 1 : 0);
        assert_int_equal(blk_metrics(f.blk)->invalid_reqs_count, 1);
        assert_int_equal(blk_metrics(f.blk)->read_count + blk_metrics(f.blk)->write_count, 0);
        tear_down(&f);
    }
}

static void test_blk_file_shrunk_in_use_gives_ioerr_and_no_hang(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up(&f);
    assert_int_equal(ftruncate(f.fd, 5 * SECTOR), 0);
    request = add(&f, IN, 4, 1024); /* half of it is still there */
    expect_status(&f, &request, IOERR);
    request = add(&f, IN, 100, 512);
    expect_status(&f, &request, IOERR);
    request = add(&f, IN, 4, 512);
    expect_status(&f, &request, OK);
    tear_down(&f);
}

static void test_blk_short_transfers_are_continued(void **state)
{
    static const uint32_t types[] = {IN, OUT};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        struct fixture f;
        struct guest_request request;

        set_up(&f);
        request = add(&f, types[i], HOLE, 4096);
        kick(&f);
        complete(&f, 0, 1000);
        assert_int_equal(status_of(&f, &request), UNTOUCHED);
        assert_int_equal(ring(&f)->offset, HOLE * 512 + 1000);
        assert_int_equal(ring(&f)->len, 3096);
        complete(&f, 0, 3096);
        assert_int_equal(status_of(&f, &request), OK);
        assert_int_equal(f.dev->in_flight, 0);
        tear_down(&f);
    }
}

static void test_blk_again_is_tried_again_but_not_for_ever(void **state)
{
    struct fixture f;
    struct guest_request request;
    unsigned tries = 0;

    (void)state;
    set_up(&f);
    request = add(&f, IN, HOLE, 512);
    kick(&f);
    complete(&f, 0, -EINTR);
    complete(&f, 0, 512);
    expect_used(&f, &request, 513);

    request = add(&f, IN, HOLE, 512);
    kick(&f);
    while (fake_loop_count(f.loop) > 0 && tries++ < 100)
        complete(&f, 0, -EAGAIN);
    assert_in_range(tries, 2, 50);
    assert_int_equal(status_of(&f, &request), IOERR);
    tear_down(&f);
}

/* ---- flush and identity ---- */

static void test_blk_flush_is_offered_and_done_only_with_writeback(void **state)
{
    struct fixture f;
    struct blk_config config;
    struct guest_request request;

    (void)state;
    set_up_empty(&f);
    config = simple_config(&f);
    config.cache = BLK_CACHE_WRITEBACK;
    start(&f, &config);
    assert_true(virtio_dev_features(f.dev) & F_FLUSH);
    request = prepare(&f, FLUSH, 0, 0);
    request.head = guest_add(
        &f.driver, (struct guest_buffer[]){{request.header, 16, false}, {request.status, 1, true}},
        2);
    kick(&f);
    assert_int_equal(ring(&f)->verb, FAKE_FSYNC);
    assert_true(ring(&f)->datasync);
    complete(&f, 0, 0);
    expect_used(&f, &request, 1);
    assert_int_equal(status_of(&f, &request), OK);
    assert_int_equal(blk_metrics(f.blk)->flush_count, 1);

    request = add(&f, FLUSH, 0, 0);
    kick(&f);
    complete(&f, 0, -EIO);
    assert_int_equal(status_of(&f, &request), IOERR);
    tear_down(&f);
}

static void test_blk_get_id_is_made_of_the_numbers_of_the_file(void **state)
{
    struct fixture f;
    struct guest_request request;
    struct stat st;
    char want[64] = {0}, got[20];

    (void)state;
    set_up(&f);
    assert_int_equal(fstat(f.fd, &st), 0);
    snprintf(want, sizeof(want), "%lu%lu%lu", (unsigned long)st.st_dev, (unsigned long)st.st_rdev,
             (unsigned long)st.st_ino);

    request = add(&f, GET_ID, 0, 20);
    kick(&f);
    fake_loop_settle(f.loop);
    expect_used(&f, &request, 21);
    guest_read(&f.driver, request.data, got, sizeof(got));
    assert_memory_equal(got, want, sizeof(got));

    request = add(&f, GET_ID, 0, 19);
    expect_status(&f, &request, IOERR);
    tear_down(&f);
}

static void test_blk_get_id_into_many_small_buffers(void **state)
{
    struct guest_buffer buffers[22];
    struct fixture f;
    struct guest_request request;
    char whole[20], parts[20];

    (void)state;
    set_up(&f);
    request = add(&f, GET_ID, 0, 20);
    expect_status(&f, &request, OK);
    guest_read(&f.driver, request.data, whole, sizeof(whole));

    request = prepare(&f, GET_ID, 0, 20);
    buffers[0] = (struct guest_buffer){request.header, 16, false};
    for (unsigned i = 0; i < 20; i++)
        buffers[1 + i] = (struct guest_buffer){request.data + i, 1, true};
    buffers[21] = (struct guest_buffer){request.status, 1, true};
    request.head = guest_add(&f.driver, buffers, 22);
    expect_status(&f, &request, OK);
    guest_read(&f.driver, request.data, parts, sizeof(parts));
    assert_memory_equal(parts, whole, sizeof(parts));
    tear_down(&f);
}

/* ---- discard ---- */

static void set_up_discard(struct fixture *f)
{
    struct blk_config config;

    set_up_empty(f);
    config = simple_config(f);
    config.engine = BLK_ENGINE_SYNC;
    config.discard = true;
    start(f, &config);
    assert_true(virtio_dev_features(f->dev) & F_DISCARD);
    assert_true(virtio_dev_features(f->dev) & F_ZEROES);
}

static struct guest_request add_discard(struct fixture *f, uint32_t type, uint64_t sector,
                                        uint32_t sectors, uint32_t flags)
{
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } segment = {sector, sectors, flags};
    struct guest_request request = add(f, type, 0, sizeof(segment));

    guest_write(&f->driver, request.data, &segment, sizeof(segment));
    return request;
}

static void test_blk_discard_and_write_zeroes_choose_their_fallocate(void **state)
{
    static const struct {
        uint32_t type, flags;
        int mode;
    } cases[] = {
        {DISCARD, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
        {WRITE_ZEROES, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE},
        {WRITE_ZEROES, 1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct guest_request request;

        set_up_discard(&f);
        request = add_discard(&f, cases[i].type, 8, 16, cases[i].flags);
        kick(&f);
        assert_int_equal(ring(&f)->verb, FAKE_FALLOCATE);
        assert_int_equal(ring(&f)->mode, cases[i].mode);
        assert_int_equal(ring(&f)->offset, 8 * 512);
        assert_int_equal(ring(&f)->len, 16 * 512);
        complete(&f, 0, 0);
        expect_used(&f, &request, 1);
        assert_int_equal(status_of(&f, &request), OK);
        tear_down(&f);
    }
}

static void test_blk_write_zeroes_really_zeroes_where_zero_range_is_unknown(void **state)
{
    struct fixture f;
    struct guest_request request;
    uint8_t sector[512], zeros[512] = {0};

    (void)state;
    set_up_discard(&f); /* a memfd knows holes only, so this needs the second attempt */
    request = add_discard(&f, WRITE_ZEROES, 8, 8, 0);
    expect_status(&f, &request, OK);
    assert_int_equal(pread(f.fd, sector, sizeof(sector), 8 * SECTOR), sizeof(sector));
    assert_memory_equal(sector, zeros, sizeof(sector));
    assert_int_equal(pread(f.fd, sector, sizeof(sector), 16 * SECTOR), sizeof(sector));
    assert_int_equal(sector[0], 17);
    tear_down(&f);
}

static void test_blk_discard_that_the_file_refuses_is_unsupp(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up_discard(&f);
    request = add_discard(&f, WRITE_ZEROES, 0, 8, 0);
    kick(&f);
    complete(&f, 0, -EOPNOTSUPP);
    assert_int_equal(ring(&f)->mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    complete(&f, 0, -EOPNOTSUPP);
    assert_int_equal(status_of(&f, &request), UNSUPP);
    tear_down(&f);
}

static void test_blk_discard_judges_its_segment(void **state)
{
    static const struct {
        uint32_t type, sectors, flags;
        uint64_t sector;
        uint8_t want;
    } cases[] = {
        {DISCARD, 8, 1, 0, UNSUPP},
        {DISCARD, 8, 2, 0, UNSUPP},
        {WRITE_ZEROES, 8, 2, 0, UNSUPP},
        {WRITE_ZEROES, 8, 3, 0, UNSUPP},
        {DISCARD, 8, 0, DISK_SECTORS - 7, IOERR},
        {DISCARD, 8, 0, UINT64_MAX - 3, IOERR},
        {WRITE_ZEROES, UINT32_MAX, 0, 0, IOERR},
        {DISCARD, 0, 0, 0, OK},
        {DISCARD, DISK_SECTORS, 0, 0, OK},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct guest_request request;

        set_up_discard(&f);
        request = add_discard(&f, cases[i].type, cases[i].sector, cases[i].sectors, cases[i].flags);
        kick(&f);
        fake_loop_settle(f.loop);
        if (status_of(&f, &request) != cases[i].want)
            fail_msg("case %zu", i);
        tear_down(&f);
    }
}

static void test_blk_discard_of_several_segments_or_a_part_is_ioerr(void **state)
{
    static const uint32_t lengths[] = {0, 8, 15, 17, 32};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct fixture f;
        struct guest_request request;

        set_up_discard(&f);
        request = add(&f, DISCARD, 0, lengths[i]);
        expect_status(&f, &request, IOERR);
        tear_down(&f);
    }
}

static void test_blk_discard_is_refused_for_read_only_and_async_drives(void **state)
{
    struct fixture f;
    struct virtio_env env;
    struct blk_config config;
    struct err e;

    (void)state;
    set_up_empty(&f);
    env = (struct virtio_env){&f.mem, f.loop};
    config = simple_config(&f);
    config.discard = true;
    assert_int_equal(blk_create(&f.blk, &env, &config, &e), -EINVAL);
    config.engine = BLK_ENGINE_SYNC;
    config.read_only = true;
    assert_int_equal(blk_create(&f.blk, &env, &config, &e), -EINVAL);
    loop_destroy(f.loop);
    mem_destroy(&f.mem);
    close(f.fd);
}

/* ---- limits ---- */

static void test_blk_over_the_limit_waits_in_the_queue_for_the_timer(void **state)
{
    struct fixture f;
    struct blk_config config;
    struct guest_request first, second;
    struct rate_limiter *limiter;

    (void)state;
    set_up_empty(&f);
    config = simple_config(&f);
    config.has_limiter = true;
    config.limiter.has_bandwidth = true;
    config.limiter.bandwidth = (struct token_bucket_config){1024, HOUR_MS, 0, false};
    start(&f, &config);
    first = add(&f, IN, 0, 1024);
    second = add(&f, IN, 0, 512);
    kick(&f);
    fake_loop_end_turn(f.loop);

    expect_used(&f, &first, 1025);
    assert_int_equal(status_of(&f, &second), UNTOUCHED);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    assert_int_equal(ring(&f)->len, RATE_LIMITER_RETRY_NS);
    assert_int_equal(blk_metrics(f.blk)->rate_limiter_throttled_events, 1);
    assert_true(virtio_dev_is_idle(f.dev)); /* a pause does not wait for a timer */
    kick(&f);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);

    complete(&f, 0, -ETIME); /* still nothing: the timer again */
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    limiter = f.dev->ops->saved(f.dev);
    limiter->bandwidth.budget = 512;
    complete(&f, 0, -ETIME);
    expect_used(&f, &second, 513);
    assert_int_equal(blk_metrics(f.blk)->rate_limiter_event_count, 2);
    tear_down(&f);
}

static void test_blk_flush_and_id_cost_operations_but_no_bytes(void **state)
{
    struct fixture f;
    struct blk_config config;
    struct guest_request request;

    (void)state;
    set_up_empty(&f);
    config = simple_config(&f);
    config.has_limiter = true;
    config.limiter.has_bandwidth = config.limiter.has_ops = true;
    config.limiter.bandwidth = (struct token_bucket_config){1, HOUR_MS, 0, false};
    config.limiter.ops = (struct token_bucket_config){2, HOUR_MS, 0, false};
    start(&f, &config);
    for (int i = 0; i < 2; i++) {
        request = add(&f, GET_ID, 0, 20);
        expect_status(&f, &request, OK);
    }
    request = add(&f, GET_ID, 0, 20);
    kick(&f);
    fake_loop_end_turn(f.loop);
    assert_int_equal(status_of(&f, &request), UNTOUCHED);
    tear_down(&f);
}

static void test_blk_timer_of_a_device_that_was_reset_is_harmless(void **state)
{
    struct fixture f;
    struct blk_config config;
    struct guest_request request;

    (void)state;
    set_up_empty(&f);
    config = simple_config(&f);
    config.has_limiter = true;
    config.limiter.has_ops = true;
    config.limiter.ops = (struct token_bucket_config){1, 1, 0, false};
    start(&f, &config);
    add(&f, IN, 0, 512);
    add(&f, IN, 0, 512);
    kick(&f);
    if (fake_loop_count(f.loop) == 1) { /* unless a millisecond has passed meanwhile */
        virtio_dev_write_status(f.dev, 0);
        complete(&f, 0, -ETIME);
    }
    guest_driver_init(&f.driver, &f.mem, 0x800000, QUEUE_SIZE);
    guest_start(f.dev, &f.driver, RING);
    usleep(2000);
    request = add(&f, IN, 0, 512);
    expect_status(&f, &request, OK);
    tear_down(&f);
}

/* ---- creation ---- */

static void expect_refused(struct fixture *f, const char *path, int code, const char *text)
{
    struct virtio_env env = {&f->mem, f->loop};
    struct blk_config config = simple_config(f);
    struct err e = {0};
    char copy[128], want[512];

    snprintf(copy, sizeof(copy), "%s", path);
    config.path = copy;
    for (int read_only = 0; read_only < 2; read_only++) {
        config.read_only = read_only;
        assert_int_equal(blk_create(&f->blk, &env, &config, &e), code);
        snprintf(want, sizeof(want),
                 "Unable to create the virtio block device: Virtio backend error: Error "
                 "manipulating the backing file: %s %s",
                 text, path);
        assert_string_equal(e.text, want);
    }
}

static void test_blk_create_refuses_what_is_no_disk(void **state)
{
    struct fixture f;
    char fifo[64];
    int ends[2];

    (void)state;
    set_up_empty(&f);
    assert_int_equal(pipe(ends), 0);
    snprintf(fifo, sizeof(fifo), "/proc/self/fd/%d", ends[0]);

    expect_refused(&f, "/nonexistent/a.img", -ENOENT, "No such file or directory (os error 2)");
    expect_refused(&f, "", -ENOENT, "No such file or directory (os error 2)");
    expect_refused(&f, "/proc/", -EISDIR, "Is a directory (os error 21)");
    expect_refused(&f, "/dev/null", -EINVAL, "neither a regular file nor a block device");
    expect_refused(&f, fifo, -EINVAL, "neither a regular file nor a block device"); /* no hang */

    close(ends[0]);
    close(ends[1]);
    loop_destroy(f.loop);
    mem_destroy(&f.mem);
    close(f.fd);
}

static void test_blk_capacity_is_whole_sectors_and_may_be_none(void **state)
{
    static const struct {
        uint64_t size, sectors;
    } cases[] = {{0, 0}, {1, 0}, {511, 0}, {512, 1}, {1000, 1}, {1024, 2}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct blk_config config;
        struct guest_request request;
        uint64_t capacity;

        set_up_empty(&f);
        assert_int_equal(ftruncate(f.fd, (off_t)cases[i].size), 0);
        config = simple_config(&f);
        start(&f, &config);
        virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
        assert_int_equal(capacity, cases[i].sectors);
        request = add(&f, IN, cases[i].sectors, 512);
        expect_status(&f, &request, IOERR);
        tear_down(&f);
    }
}

static void test_blk_configuration_space_is_what_the_specification_says(void **state)
{
    struct fixture f;
    uint32_t word;
    uint8_t byte;

    (void)state;
    set_up_discard(&f);
    virtio_dev_read_config(f.dev, 8, &word, 4);
    assert_int_equal(word, 0); /* size_max is not offered */
    virtio_dev_read_config(f.dev, 12, &word, 4);
    assert_int_equal(word, 510);
    virtio_dev_read_config(f.dev, 36, &word, 4);
    assert_int_equal(word, 1 << 22);
    virtio_dev_read_config(f.dev, 40, &word, 4);
    assert_int_equal(word, 1);
    virtio_dev_read_config(f.dev, 44, &word, 4);
    assert_true(word > 0);
    virtio_dev_read_config(f.dev, 48, &word, 4);
    assert_int_equal(word, 1 << 22);
    virtio_dev_read_config(f.dev, 52, &word, 4);
    assert_int_equal(word, 1);
    virtio_dev_read_config(f.dev, 56, &byte, 1);
    assert_int_equal(byte, 1);
    assert_true(virtio_dev_features(f.dev) & F_SEG_MAX);
    assert_false(virtio_dev_features(f.dev) & (F_RO | F_FLUSH));
    virtio_dev_write_config(f.dev, 12, &(uint32_t){7}, 4); /* none of it can be written */
    virtio_dev_read_config(f.dev, 12, &word, 4);
    assert_int_equal(word, 510);
    assert_int_equal(blk_metrics(f.blk)->cfg_fails, 1);
    tear_down(&f);
}

static void test_blk_limiter_shown_is_the_limiter_in_force(void **state)
{
    struct fixture f;
    struct blk_config config;
    struct rate_limiter_config patch = {0};
    const struct blk_config *shown;

    (void)state;
    set_up_empty(&f);
    config = simple_config(&f);
    config.has_limiter = true;
    config.limiter.has_bandwidth = true;
    config.limiter.bandwidth = (struct token_bucket_config){1000, 100, 0, true};
    start(&f, &config);
    shown = blk_config(f.blk);
    assert_true(shown->has_limiter);
    assert_false(shown->limiter.bandwidth.has_burst); /* of nothing */

    patch.has_ops = true;
    patch.ops = (struct token_bucket_config){7, 7, 3, true};
    assert_int_equal(blk_update(f.blk, NULL, &patch, NULL), 0);
    assert_int_equal(shown->limiter.bandwidth.size, 1000);
    assert_int_equal(shown->limiter.ops.one_time_burst, 3);

    patch = (struct rate_limiter_config){.has_bandwidth = true}; /* size 0 takes it away */
    assert_int_equal(blk_update(f.blk, NULL, &patch, NULL), 0);
    assert_false(shown->limiter.has_bandwidth);
    assert_true(shown->limiter.has_ops);

    patch = (struct rate_limiter_config){.has_ops = true};
    assert_int_equal(blk_update(f.blk, NULL, &patch, NULL), 0);
    assert_false(shown->has_limiter);
    assert_int_equal(blk_metrics(f.blk)->update_count, 3);
    tear_down(&f);
}

/* ---- updates ---- */

static void test_blk_update_to_a_bad_path_changes_nothing(void **state)
{
    struct rate_limiter_config patch = {.has_ops = true, .ops = {1, 1, 0, false}};
    struct fixture f;
    struct guest_request request;
    struct err e = {0};

    (void)state;
    set_up(&f);
    assert_int_equal(blk_update(f.blk, "/nonexistent/b.img", &patch, &e), -ENOENT);
    assert_string_equal(e.text,
                        "Unable to patch the block device: Block: Virtio backend error: Error "
                        "manipulating the backing file: No such file or directory (os error 2) "
                        "/nonexistent/b.img Please verify the request arguments.");
    assert_string_equal(blk_config(f.blk)->path, f.path);
    assert_false(blk_config(f.blk)->has_limiter);
    assert_int_equal(f.config_interrupts, 0);
    assert_int_equal(blk_metrics(f.blk)->update_fails, 1);
    request = add(&f, IN, 0, 512);
    expect_status(&f, &request, OK);

    assert_int_equal(blk_update(f.blk, NULL, NULL, &e), -EINVAL);
    assert_string_equal(e.text, "Unable to patch the block device: Block: Running method expected "
                                "different backend. Please verify the request arguments.");
    tear_down(&f);
}

static void test_blk_update_drains_the_old_file_and_goes_on_with_the_new(void **state)
{
    struct fixture f, other = {0};
    struct guest_request before, after;
    uint64_t capacity;
    char path[64];

    (void)state;
    set_up(&f);
    make_disk(&other, 2 * MIB);
    snprintf(path, sizeof(path), "%s", other.path);
    before = add(&f, IN, HOLE, 512);
    kick(&f);
    assert_int_equal(status_of(&f, &before), UNTOUCHED);
    after = add(&f, IN, 3000, 512); /* beyond the old file's end */

    assert_int_equal(blk_update(f.blk, path, NULL, NULL), 0);

    assert_int_equal(status_of(&f, &before), OK);
    virtio_dev_read_config(f.dev, 0, &capacity, sizeof(capacity));
    assert_int_equal(capacity, 4096);
    assert_int_equal(f.config_interrupts, 1);
    assert_int_equal(f.dev->s.config_generation, 1);
    fake_loop_settle(f.loop);
    assert_int_equal(status_of(&f, &after), OK); /* resume has kicked the queue */
    assert_string_equal(blk_config(f.blk)->path, path);
    close(other.fd);
    tear_down(&f);
}

/* ---- reset and pause ---- */

static void test_blk_reset_during_io_waits_and_the_device_works_again(void **state)
{
    struct fixture f;
    struct guest_request old, new;

    (void)state;
    set_up(&f);
    old = add(&f, IN, HOLE, 512);
    kick(&f);

    virtio_dev_write_status(f.dev, 0);

    assert_int_equal(f.dev->in_flight, 0);
    assert_int_equal(status_of(&f, &old), OK); /* done before the write to Status returned */
    guest_driver_init(&f.driver, &f.mem, 0x800000, QUEUE_SIZE);
    assert_int_equal(guest_start(f.dev, &f.driver, RING), 15);
    new = add(&f, IN, 7, 512);
    expect_status(&f, &new, OK);
    assert_int_equal(byte_at(&f, new.data), 8);
    tear_down(&f);
}

static void test_blk_pause_waits_for_inflight_reads_and_resume_goes_on(void **state)
{
    struct fixture f;
    struct guest_request first, second;

    (void)state;
    set_up(&f);
    first = add(&f, IN, HOLE, 512);
    kick(&f);
    virtio_dev_quiesce(f.dev);
    second = add(&f, IN, HOLE, 512);
    kick(&f);
    assert_false(virtio_dev_is_idle(f.dev));
    complete(&f, 0, 512);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(status_of(&f, &first), OK);
    assert_int_equal(status_of(&f, &second), UNTOUCHED);
    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);
    assert_int_equal(status_of(&f, &second), OK);
    tear_down(&f);
}

static void test_blk_destroy_with_io_in_flight_does_not_die(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    add(&f, IN, HOLE, 512);
    kick(&f);
    virtio_dev_destroy(f.dev); /* leaves it to the end of the process */
    complete(&f, 0, 512);
    tear_down(&f);
}

static void test_blk_state_table_covers_its_struct(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_true(state_desc_tiles(f.dev->ops->state));
    assert_int_equal(f.dev->ops->state->size, sizeof(struct rate_limiter));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blk_read_in_memory_is_served_at_once),
        cmocka_unit_test(test_blk_read_not_in_memory_goes_through_the_ring),
        cmocka_unit_test(test_blk_write_reaches_the_file),
        cmocka_unit_test(test_blk_large_write_goes_through_the_ring_with_sync_too),
        cmocka_unit_test(test_blk_write_too_far_for_the_ring_is_tried_by_ourselves_with_sync_only),
        cmocka_unit_test(test_blk_request_may_be_cut_anywhere),
        cmocka_unit_test(test_blk_request_of_510_segments_by_indirect_table),
        cmocka_unit_test(test_blk_completions_in_any_order_reach_their_requests),
        cmocka_unit_test(test_blk_full_queue_in_flight_twice),
        cmocka_unit_test(test_blk_flood_is_served_a_share_a_turn),
        cmocka_unit_test(test_blk_large_reads_at_once_are_bounded_a_turn),
        cmocka_unit_test(test_blk_out_of_range_requests_are_ioerr),
        cmocka_unit_test(test_blk_requests_too_short_stop_the_device),
        cmocka_unit_test(test_blk_read_only_drive_says_so_and_refuses_writes),
        cmocka_unit_test(test_blk_failing_operations_are_ioerr_and_count),
        cmocka_unit_test(test_blk_file_shrunk_in_use_gives_ioerr_and_no_hang),
        cmocka_unit_test(test_blk_short_transfers_are_continued),
        cmocka_unit_test(test_blk_again_is_tried_again_but_not_for_ever),
        cmocka_unit_test(test_blk_flush_is_offered_and_done_only_with_writeback),
        cmocka_unit_test(test_blk_get_id_is_made_of_the_numbers_of_the_file),
        cmocka_unit_test(test_blk_get_id_into_many_small_buffers),
        cmocka_unit_test(test_blk_discard_and_write_zeroes_choose_their_fallocate),
        cmocka_unit_test(test_blk_write_zeroes_really_zeroes_where_zero_range_is_unknown),
        cmocka_unit_test(test_blk_discard_that_the_file_refuses_is_unsupp),
        cmocka_unit_test(test_blk_discard_judges_its_segment),
        cmocka_unit_test(test_blk_discard_of_several_segments_or_a_part_is_ioerr),
        cmocka_unit_test(test_blk_discard_is_refused_for_read_only_and_async_drives),
        cmocka_unit_test(test_blk_over_the_limit_waits_in_the_queue_for_the_timer),
        cmocka_unit_test(test_blk_flush_and_id_cost_operations_but_no_bytes),
        cmocka_unit_test(test_blk_timer_of_a_device_that_was_reset_is_harmless),
        cmocka_unit_test(test_blk_create_refuses_what_is_no_disk),
        cmocka_unit_test(test_blk_capacity_is_whole_sectors_and_may_be_none),
        cmocka_unit_test(test_blk_configuration_space_is_what_the_specification_says),
        cmocka_unit_test(test_blk_limiter_shown_is_the_limiter_in_force),
        cmocka_unit_test(test_blk_update_to_a_bad_path_changes_nothing),
        cmocka_unit_test(test_blk_update_drains_the_old_file_and_goes_on_with_the_new),
        cmocka_unit_test(test_blk_reset_during_io_waits_and_the_device_works_again),
        cmocka_unit_test(test_blk_pause_waits_for_inflight_reads_and_resume_goes_on),
        cmocka_unit_test(test_blk_destroy_with_io_in_flight_does_not_die),
        cmocka_unit_test(test_blk_state_table_covers_its_struct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
