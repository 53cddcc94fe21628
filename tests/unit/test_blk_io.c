/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the block device: what its requests do, and what becomes of those that cannot be. */
#include "tests/support/fake_loop.h"
#include "tests/unit/blk_fixture.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

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
        struct guest_request request;
        uint8_t data[4096], back[4096];

        set_up_drive(&f, (struct blk_config){.engine = engines[i]});
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
    struct guest_request request;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_SYNC});
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
        struct guest_request request;
        uint8_t byte = 0xab, back;

        set_up_drive(&f, (struct blk_config){.engine = engines[i]});
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
    static const struct {
        uint32_t header, status;
        bool writable; /* the status */
    } cases[] = {{15, 1, true}, {16, 0, true}, {16, 1, false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;
        struct guest_request request;

        set_up(&f);
        request = prepare(&f, IN, 0, 0);
        guest_add(&f.driver,
                  (struct guest_buffer[]){
                      {request.header, cases[i].header, false},
                      {request.status, cases[i].status, cases[i].writable},
                  },
                  2);
        kick(&f);
        fake_loop_settle(f.loop);
        assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
        assert_int_equal(blk_metrics(f.blk)->event_fails, 1);
        assert_int_equal(blk_metrics(f.blk)->execute_fails, 1);
        tear_down(&f);
    }
}

static void test_blk_read_only_drive_says_so_and_refuses_writes(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_ASYNC, .read_only = true});
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
    struct guest_request request;

    (void)state;
    set_up_drive(&f, (struct blk_config){.engine = BLK_ENGINE_ASYNC, .cache = BLK_CACHE_WRITEBACK});
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
