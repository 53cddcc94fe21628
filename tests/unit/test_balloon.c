/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/memory/balloon.c and balloon_pages.c: the device, and pages in and out of it. */
#include "tests/support/fake_loop.h"
#include "tests/unit/balloon_fixture.h"
#include "tests/unit/unit.h"
#include "virtio/memory/balloon_parts.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>

#define PAGE(mib) ((uint32_t)((mib)*MIB / PAGE_SIZE))

/* ---- inflate and deflate --------------------------------------------------------------------- */

static void test_balloon_pages_put_in_go_back_and_read_as_zeroes(void **state)
{
    static const uint32_t page[] = {PAGE(20), PAGE(20) + 2, PAGE(20) + 1, PAGE(30)};
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    balloon_fill(&f, 20 * MIB, 4 * PAGE_SIZE);
    balloon_fill(&f, 30 * MIB, PAGE_SIZE);

    head = balloon_send_pages(&f, INFLATE, page, ARRAY_SIZE(page));
    balloon_kick(&f, INFLATE);

    balloon_expect_used(&f, INFLATE, head);
    assert_true(balloon_is_empty(&f, 20 * MIB, 3 * PAGE_SIZE));
    assert_false(balloon_is_empty(&f, 20 * MIB + 3 * PAGE_SIZE, PAGE_SIZE));
    assert_true(balloon_is_empty(&f, 30 * MIB, PAGE_SIZE));
    assert_int_equal(metrics.balloon.inflate_count, 2); /* one of them after the activation */
    assert_int_equal(metrics.balloon.event_fails, 0);
    balloon_tear_down(&f);
}

static void test_balloon_pages_that_went_back_are_dirty(void **state)
{
    static const uint32_t page[] = {PAGE(20)};
    struct balloon_fixture f;
    uint64_t *dirty;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    dirty = f.mem.region[0].dirty;
    memset(dirty, 0, RAM / PAGE_SIZE / 8);

    balloon_send_pages(&f, INFLATE, page, 1);
    balloon_kick(&f, INFLATE);

    assert_int_equal(dirty[page[0] / 64], UINT64_C(1) << (page[0] % 64));
    balloon_tear_down(&f);
}

static void test_balloon_page_numbers_are_a_stream_however_buffers_cut_it(void **state)
{
    static const uint32_t page[] = {PAGE(20), PAGE(21), PAGE(22)};
    struct balloon_fixture f;
    struct guest_buffer buffer[4];
    uint32_t at = 0;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    for (int i = 0; i < 3; i++)
        balloon_fill(&f, (20u + (unsigned)i) * MIB, PAGE_SIZE);
    for (unsigned i = 0; i < 4; i++) { /* 1, 2, 3 and 6 bytes, the last of them one too few */
        static const uint32_t len[] = {1, 2, 3, 5};

        buffer[i] = (struct guest_buffer){guest_alloc(&f.driver[INFLATE], len[i]), len[i], false};
        guest_write(&f.driver[INFLATE], buffer[i].gpa, (const char *)page + at, len[i]);
        at += len[i];
    }

    guest_add(&f.driver[INFLATE], buffer, 4);
    balloon_kick(&f, INFLATE);

    balloon_expect_used(&f, INFLATE, 0);
    assert_true(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    assert_true(balloon_is_empty(&f, 21 * MIB, PAGE_SIZE));
    assert_false(balloon_is_empty(&f, 22 * MIB, PAGE_SIZE));
    balloon_tear_down(&f);
}

static void test_balloon_a_page_that_is_no_memory_costs_only_itself(void **state)
{
    static const uint32_t page[] = {PAGE(20), PAGE(64), UINT32_MAX, PAGE(40)};
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    balloon_fill(&f, 20 * MIB, PAGE_SIZE);
    balloon_fill(&f, 40 * MIB, PAGE_SIZE);

    head = balloon_send_pages(&f, INFLATE, page, ARRAY_SIZE(page));
    balloon_kick(&f, INFLATE);

    balloon_expect_used(&f, INFLATE, head);
    assert_true(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    assert_true(balloon_is_empty(&f, 40 * MIB, PAGE_SIZE));
    assert_int_equal(metrics.balloon.event_fails, 2);
    assert_int_equal(f.dev->s.status, 15);
    balloon_tear_down(&f);
}

static void test_balloon_a_huge_request_is_served_over_several_turns(void **state)
{
    static uint32_t page[4000];
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(page); i++)
        page[i] = PAGE(20) + 2 * i;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    balloon_fill(&f, 20 * MIB, 8000 * PAGE_SIZE);

    head = balloon_send_pages(&f, INFLATE, page, ARRAY_SIZE(page));
    virtio_dev_kick(f.dev, INFLATE);
    assert_true(balloon_is_empty(&f, (uint64_t)page[0] * PAGE_SIZE, PAGE_SIZE));
    assert_false(balloon_is_empty(&f, (uint64_t)page[1000] * PAGE_SIZE, PAGE_SIZE));
    assert_int_equal(f.dev->queue[INFLATE].in_flight, 0); /* a pause could come now */
    fake_loop_settle(f.loop);

    balloon_expect_used(&f, INFLATE, head);
    balloon_expect_none(&f, INFLATE);
    for (unsigned i = 0; i < ARRAY_SIZE(page); i++) {
        assert_true(balloon_is_empty(&f, (uint64_t)page[i] * PAGE_SIZE, PAGE_SIZE));
        assert_false(balloon_is_empty(&f, (uint64_t)(page[i] + 1) * PAGE_SIZE, PAGE_SIZE));
    }
    balloon_tear_down(&f);
}

static void test_balloon_a_pause_in_the_middle_of_a_request_loses_nothing(void **state)
{
    static uint32_t page[2000];
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(page); i++)
        page[i] = PAGE(20) + 2 * i;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    balloon_fill(&f, 20 * MIB, 4000 * PAGE_SIZE);
    head = balloon_send_pages(&f, INFLATE, page, ARRAY_SIZE(page));
    virtio_dev_kick(f.dev, INFLATE);

    virtio_dev_quiesce(f.dev);
    fake_loop_settle(f.loop);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_false(balloon_is_empty(&f, (uint64_t)page[1999] * PAGE_SIZE, PAGE_SIZE));
    balloon_expect_none(&f, INFLATE);
    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);

    balloon_expect_used(&f, INFLATE, head);
    for (unsigned i = 0; i < ARRAY_SIZE(page); i++)
        assert_true(balloon_is_empty(&f, (uint64_t)page[i] * PAGE_SIZE, PAGE_SIZE));
    balloon_tear_down(&f);
}

static void test_balloon_its_own_ring_may_be_discarded(void **state)
{
    struct balloon_fixture f;
    uint32_t page[2];

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    page[0] = (uint32_t)(f.driver[INFLATE].desc / PAGE_SIZE); /* table and available ring */
    page[1] = (uint32_t)(f.driver[INFLATE].used / PAGE_SIZE);

    balloon_send_pages(&f, INFLATE, page, 2);
    balloon_kick(&f, INFLATE);
    balloon_kick(&f, INFLATE);

    /* The available index went back to 0, which is a lie by 65535 entries. */
    assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
    balloon_start(&f, F_RING);
    page[0] = PAGE(20);
    balloon_send_pages(&f, INFLATE, page, 1);
    balloon_kick(&f, INFLATE);
    balloon_expect_used(&f, INFLATE, 0);
    balloon_tear_down(&f);
}

static void test_balloon_deflate_only_returns_the_request(void **state)
{
    static const uint32_t page[] = {PAGE(20)};
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    balloon_fill(&f, 20 * MIB, PAGE_SIZE);

    head = balloon_send_pages(&f, DEFLATE, page, 1);
    balloon_kick(&f, DEFLATE);

    balloon_expect_used(&f, DEFLATE, head);
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    assert_int_equal(metrics.balloon.deflate_count, 2);
    balloon_tear_down(&f);
}

/* ---- blocks that outlive requests ------------------------------------------------------------ */

#define BLOCK_PAGES 512u

/* A balloon whose driver tells before it uses a page again, over memory of which only whole blocks
 * of 2 MiB go back. */
static void set_up_blocks(struct balloon_fixture *f)
{
    balloon_set_up(f, &(struct balloon_config){.amount_mib = 1});
    balloon_start(f, virtio_dev_features(f->dev));
    balloon_fill(f, 20 * MIB, 40 * MIB);
}

/* Sends pages in a request of its own, which has to come back at once. */
static void inflate(struct balloon_fixture *f, uint32_t first, unsigned count, int step)
{
    uint32_t page[BLOCK_PAGES];
    uint16_t head;

    for (unsigned i = 0; i < count; i++)
        page[i] = (uint32_t)((int)first + (int)i * step);
    head = balloon_send_pages(f, INFLATE, page, count);
    balloon_kick(f, INFLATE);
    balloon_expect_used(f, INFLATE, head);
}

static void expire(struct balloon_fixture *f)
{
    assert_int_equal(fake_loop_count_verb(f->loop, FAKE_TIMER), 1);
    fake_loop_complete(f->loop, 0, -ETIME, false);
    fake_loop_settle(f->loop);
}

static void test_balloon_a_complete_block_goes_back_at_once_and_whole(void **state)
{
    struct balloon_fixture f;

    (void)state;
    set_up_blocks(&f);
    f.mem.pages = MEM_PAGES_HUGETLB_2M; /* only whole ones can go */

    inflate(&f, PAGE(20), 200, 1);
    inflate(&f, PAGE(22) - 1, 200, -1);  /* in the other direction */
    inflate(&f, PAGE(20) + 150, 100, 1); /* some of them again */
    assert_false(balloon_is_empty(&f, 20 * MIB, 2 * MIB));
    inflate(&f, PAGE(20) + 250, 62, 1);
    assert_true(balloon_is_empty(&f, 20 * MIB, 2 * MIB));
    assert_false(balloon_is_empty(&f, 22 * MIB, PAGE_SIZE));
    balloon_tear_down(&f);
}

static void test_balloon_an_incomplete_block_goes_back_when_nothing_comes_any_more(void **state)
{
    struct balloon_fixture f;

    (void)state;
    set_up_blocks(&f);
    inflate(&f, PAGE(20), 200, 1);
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));

    expire(&f); /* it came since the timer was started */
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    inflate(&f, PAGE(20) + 200, 1, 1);
    expire(&f);
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    expire(&f);
    assert_true(balloon_is_empty(&f, 20 * MIB, 201 * PAGE_SIZE));
    assert_false(balloon_is_empty(&f, 20 * MIB + 201 * PAGE_SIZE, PAGE_SIZE));
    assert_int_equal(fake_loop_count(f.loop), 0);
    balloon_tear_down(&f);
}

static void test_balloon_a_block_makes_room_for_others(void **state)
{
    struct balloon_fixture f;
    unsigned empty = 0;

    (void)state;
    set_up_blocks(&f);
    for (uint32_t i = 0; i < BALLOON_BLOCKS; i++)
        inflate(&f, PAGE(20 + 2 * i), 1, 1);
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    inflate(&f, PAGE(20 + 2 * BALLOON_BLOCKS), 1, 1);
    for (uint32_t i = 0; i <= BALLOON_BLOCKS; i++)
        empty += balloon_is_empty(&f, (20 + 2 * i) * MIB, PAGE_SIZE);
    assert_int_equal(empty, 1);
    balloon_tear_down(&f);
}

static void test_balloon_pages_that_the_driver_wants_back_are_empty(void **state)
{
    static const uint32_t page[] = {PAGE(20)};
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    set_up_blocks(&f);
    inflate(&f, PAGE(20), 3, 1);
    head = balloon_send_pages(&f, DEFLATE, page, 1);
    balloon_kick(&f, DEFLATE);
    balloon_expect_used(&f, DEFLATE, head);
    assert_true(balloon_is_empty(&f, 20 * MIB, 3 * PAGE_SIZE));

    balloon_fill(&f, 20 * MIB, 3 * PAGE_SIZE); /* the guest uses them: nothing may come after */
    expire(&f);
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    assert_int_equal(fake_loop_count(f.loop), 0);
    balloon_tear_down(&f);
}

static void test_balloon_a_pause_gives_incomplete_blocks_back(void **state)
{
    struct balloon_fixture f;

    (void)state;
    set_up_blocks(&f);
    inflate(&f, PAGE(20), 3, 1);

    virtio_dev_quiesce(f.dev);
    assert_true(balloon_is_empty(&f, 20 * MIB, 3 * PAGE_SIZE));
    fake_loop_settle(f.loop);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(fake_loop_count(f.loop), 0);
    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);
    inflate(&f, PAGE(30), 3, 1);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    balloon_tear_down(&f);
}

static void test_balloon_the_last_block_there_can_be_does_no_harm(void **state)
{
    struct balloon_fixture f;

    (void)state;
    set_up_blocks(&f);
    inflate(&f, UINT32_MAX - 511, 512, 1);
    assert_int_equal(metrics.balloon.event_fails, 1); /* one range, which is no memory */
    assert_int_equal(f.dev->s.status, 15);
    balloon_tear_down(&f);
}

/* ---- features and queues --------------------------------------------------------------------- */

static void test_balloon_offers_what_was_configured(void **state)
{
    static const struct {
        struct balloon_config config;
        uint64_t features;
        unsigned queues;
    } cases[] = {
        {{.amount_mib = 0}, 0, 2},
        {{.deflate_on_oom = true}, F_OOM, 2},
        {{.stats_interval_s = 1}, F_STATS, 3},
        {{.free_page_hinting = true}, F_HINT, 4},
        {{.free_page_reporting = true}, F_REPORTING, 5},
        {ALL_ON, F_OOM | F_STATS | F_HINT | F_REPORTING, 5},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct balloon_fixture f;

        balloon_set_up(&f, &cases[i].config);
        assert_int_equal(virtio_dev_features(f.dev), F_RING | F_TELL | cases[i].features);
        assert_int_equal(f.dev->ops->n_queues, cases[i].queues);
        assert_int_equal(f.dev->ops->device_id, 5);
        balloon_tear_down(&f);
    }
}

/* Linux gives no number to a queue that it has not negotiated. */
static void test_balloon_understands_both_ways_to_number_queues(void **state)
{
    static const struct {
        uint64_t features;
        bool counted;     /* as Linux does it */
        unsigned reports; /* the queue of reports */
    } cases[] = {
        {F_REPORTING, true, 2},
        {F_REPORTING, false, 4},
        {F_REPORTING | F_STATS, true, 3},
        {F_REPORTING | F_HINT, true, 3},
        {F_REPORTING | F_HINT | F_STATS, true, 4},
    };
    static const struct balloon_config config = ALL_ON;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct balloon_fixture f;
        struct guest_buffer buffer = {20 * MIB, PAGE_SIZE, true};
        unsigned last = cases[i].reports;

        balloon_set_up(&f, &config);
        virtio_dev_write_status(f.dev, 0);
        virtio_dev_write_status(f.dev, 1);
        virtio_dev_write_status(f.dev, 3);
        virtio_dev_write_features(f.dev, 0, (uint32_t)(cases[i].features | F_RING));
        virtio_dev_write_features(f.dev, 1, 1);
        virtio_dev_write_status(f.dev, 11);
        for (unsigned q = 0; q <= last; q++)
            if (q < 2 || cases[i].counted || q == last)
                guest_driver_set_up(&f.driver[q], virtio_dev_queue_setup(f.dev, q));
        guest_driver_init(&f.driver[last], &f.mem, f.driver[last].desc, QUEUE_SIZE);
        memset(mem_writable(&f.mem, GPA(0), HEAP), 0, HEAP);
        virtio_dev_write_status(f.dev, 15);
        balloon_fill(&f, buffer.gpa, PAGE_SIZE);

        guest_add(&f.driver[last], &buffer, 1);
        balloon_kick(&f, last);

        balloon_expect_used(&f, last, 0);
        assert_true(balloon_is_empty(&f, buffer.gpa, PAGE_SIZE));
        assert_int_equal(metrics.balloon.free_page_report_count, 1);
        balloon_tear_down(&f);
    }
}

/* ---- configuration space --------------------------------------------------------------------- */

static void test_balloon_driver_writes_actual_and_nothing_else(void **state)
{
    static const struct balloon_config config = ALL_ON;
    struct balloon_fixture f;
    uint32_t all[3] = {7, 8, 9};
    struct balloon_stats stats;

    (void)state;
    balloon_set_up(&f, &config);
    assert_int_equal(balloon_read_space(&f, 0), 4 * 256);
    assert_int_equal(balloon_read_space(&f, 1), 0);

    virtio_dev_write_config(f.dev, 0, all, sizeof(all));
    assert_int_equal(balloon_read_space(&f, 0), 4 * 256);
    assert_int_equal(balloon_read_space(&f, 1), 8);
    assert_int_equal(balloon_read_space(&f, 2), 0);
    virtio_dev_write_config(f.dev, 5, "\2", 1);
    assert_int_equal(balloon_read_space(&f, 1), 0x208);
    virtio_dev_write_config(f.dev, 10, all, 4); /* beyond the end */
    assert_int_equal(balloon_read_space(&f, 2), 0);

    assert_int_equal(balloon_stats(f.balloon, &stats, NULL), 0);
    assert_int_equal(stats.actual_pages, 0x208);
    assert_int_equal(stats.actual_mib, 2);
    assert_int_equal(stats.target_pages, 1024);
    assert_int_equal(stats.target_mib, 4);
    balloon_tear_down(&f);
}

static void test_balloon_update_tells_the_driver(void **state)
{
    struct balloon_fixture f;
    struct err e;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});

    assert_int_equal(balloon_update(f.balloon, 64, &e), 0);
    assert_int_equal(balloon_read_space(&f, 0), 64 * 256);
    assert_int_equal(balloon_config(f.balloon)->amount_mib, 64);
    assert_int_equal(f.config_interrupts, 1);

    assert_int_equal(balloon_update(f.balloon, 65, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Requested memory should be less than 65MiB");
    assert_int_equal(balloon_update(f.balloon, UINT32_MAX, &e), -EINVAL);
    assert_int_equal(balloon_read_space(&f, 0), 64 * 256);
    assert_int_equal(f.config_interrupts, 1);
    balloon_tear_down(&f);
}

static void test_balloon_update_needs_an_active_device(void **state)
{
    struct balloon_fixture f;
    struct err e;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    virtio_dev_write_status(f.dev, 0);

    assert_int_equal(balloon_update(f.balloon, 2, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Device not activated yet.");
    assert_int_equal(balloon_update(f.balloon, UINT32_MAX, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Device not activated yet.");
    assert_int_equal(balloon_read_space(&f, 0), 256);
    balloon_tear_down(&f);
}

static void test_balloon_is_empty_after_a_reset(void **state)
{
    static const uint32_t eight = 8;
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &(struct balloon_config){.amount_mib = 1});
    virtio_dev_write_config(f.dev, 4, &eight, sizeof(eight));

    virtio_dev_write_status(f.dev, 0);

    assert_int_equal(balloon_read_space(&f, 0), 256);
    assert_int_equal(balloon_read_space(&f, 1), 0);
    balloon_tear_down(&f);
}

static void test_balloon_refuses_more_pages_than_can_be_told(void **state)
{
    struct balloon_config config = {.amount_mib = UINT32_MAX / 256};
    struct balloon_fixture f;
    struct balloon *more;
    struct err e;

    (void)state;
    balloon_set_up(&f, &config);
    assert_int_equal(balloon_read_space(&f, 0), UINT32_MAX - 255);
    config.amount_mib++;
    assert_int_equal(balloon_create(&more, &f.dev->env, &config, &e), -EINVAL);
    assert_string_equal(e.text, "Amount of pages requested is too large.");
    balloon_tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_balloon_pages_put_in_go_back_and_read_as_zeroes),
        cmocka_unit_test(test_balloon_pages_that_went_back_are_dirty),
        cmocka_unit_test(test_balloon_page_numbers_are_a_stream_however_buffers_cut_it),
        cmocka_unit_test(test_balloon_a_page_that_is_no_memory_costs_only_itself),
        cmocka_unit_test(test_balloon_a_huge_request_is_served_over_several_turns),
        cmocka_unit_test(test_balloon_a_pause_in_the_middle_of_a_request_loses_nothing),
        cmocka_unit_test(test_balloon_its_own_ring_may_be_discarded),
        cmocka_unit_test(test_balloon_deflate_only_returns_the_request),
        cmocka_unit_test(test_balloon_a_complete_block_goes_back_at_once_and_whole),
        cmocka_unit_test(test_balloon_an_incomplete_block_goes_back_when_nothing_comes_any_more),
        cmocka_unit_test(test_balloon_a_block_makes_room_for_others),
        cmocka_unit_test(test_balloon_pages_that_the_driver_wants_back_are_empty),
        cmocka_unit_test(test_balloon_a_pause_gives_incomplete_blocks_back),
        cmocka_unit_test(test_balloon_the_last_block_there_can_be_does_no_harm),
        cmocka_unit_test(test_balloon_offers_what_was_configured),
        cmocka_unit_test(test_balloon_understands_both_ways_to_number_queues),
        cmocka_unit_test(test_balloon_driver_writes_actual_and_nothing_else),
        cmocka_unit_test(test_balloon_update_tells_the_driver),
        cmocka_unit_test(test_balloon_update_needs_an_active_device),
        cmocka_unit_test(test_balloon_is_empty_after_a_reset),
        cmocka_unit_test(test_balloon_refuses_more_pages_than_can_be_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
