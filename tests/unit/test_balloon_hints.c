/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/memory/balloon_hints.c: free pages that the guest reports, and hints at. */
#include "tests/support/fake_loop.h"
#include "tests/unit/balloon_fixture.h"
#include "tests/unit/unit.h"
#include "virtio/memory/balloon_parts.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>

static const struct balloon_config config = ALL_ON;

#define STOP 0u
#define DONE 1u

static uint16_t send_command(struct balloon_fixture *f, uint32_t cmd)
{
    struct guest_buffer buffer = {guest_alloc(&f->driver[HINTS], sizeof(cmd)), sizeof(cmd), false};

    guest_write(&f->driver[HINTS], buffer.gpa, &cmd, sizeof(cmd));
    return guest_add(&f->driver[HINTS], &buffer, 1);
}

/* A filled block of memory, sent as free. */
static uint16_t send_block(struct balloon_fixture *f, unsigned q, uint64_t gpa, uint32_t len)
{
    balloon_fill(f, gpa, len);
    return guest_add(&f->driver[q], &(struct guest_buffer){gpa, len, true}, 1);
}

static void expect_status(struct balloon_fixture *f, uint32_t host, int64_t guest)
{
    struct balloon_hinting_status status;

    assert_int_equal(balloon_hinting_status(f->balloon, &status, NULL), 0);
    assert_int_equal(status.host_cmd, host);
    assert_int_equal(status.has_guest_cmd, guest >= 0);
    if (guest >= 0)
        assert_int_equal(status.guest_cmd, guest);
    assert_int_equal(balloon_read_space(f, 2), host);
}

/* ---- reporting ---- */

static void test_balloon_reported_pages_go_back(void **state)
{
    struct guest_buffer buffer[2] = {{20 * MIB, 2 * MIB, true}, {30 * MIB, PAGE_SIZE, true}};
    struct balloon_fixture f;
    uint16_t head;

    (void)state;
    balloon_set_up(&f, &config);
    balloon_fill(&f, 20 * MIB, 4 * MIB);
    balloon_fill(&f, 30 * MIB, 2 * PAGE_SIZE);

    head = guest_add(&f.driver[REPORTS], buffer, 2);
    balloon_kick(&f, REPORTS);

    balloon_expect_used(&f, REPORTS, head);
    assert_true(balloon_is_empty(&f, 20 * MIB, 2 * MIB));
    assert_false(balloon_is_empty(&f, 22 * MIB, PAGE_SIZE));
    assert_true(balloon_is_empty(&f, 30 * MIB, PAGE_SIZE));
    assert_false(balloon_is_empty(&f, 30 * MIB + PAGE_SIZE, PAGE_SIZE));
    assert_int_equal(metrics.balloon.free_page_report_count, 2);
    assert_int_equal(metrics.balloon.free_page_report_freed, 2 * MIB + PAGE_SIZE);
    assert_int_equal(metrics.balloon.free_page_report_fails, 0);
    balloon_tear_down(&f);
}

static void test_balloon_reported_parts_of_pages_stay(void **state)
{
    struct balloon_fixture f;
    struct guest_buffer buffer = {20 * MIB + 100, 2 * PAGE_SIZE, true};

    (void)state;
    balloon_set_up(&f, &config);
    balloon_fill(&f, 20 * MIB, 3 * PAGE_SIZE);

    guest_add(&f.driver[REPORTS], &buffer, 1);
    balloon_kick(&f, REPORTS);

    balloon_expect_used(&f, REPORTS, 0);
    assert_false(balloon_is_empty(&f, 20 * MIB + PAGE_SIZE - 1, 1));
    assert_true(balloon_is_empty(&f, 20 * MIB + PAGE_SIZE, PAGE_SIZE));
    assert_false(balloon_is_empty(&f, 20 * MIB + 2 * PAGE_SIZE, 1));
    balloon_tear_down(&f);
}

static void test_balloon_a_report_of_everything_takes_several_turns(void **state)
{
    struct balloon_fixture f;
    struct guest_buffer buffer[3] = {
        {20 * MIB, 20 * MIB, true}, {20 * MIB, 40 * MIB, true}, {60 * MIB, 4 * MIB, true}};

    (void)state;
    balloon_set_up(&f, &config);
    balloon_fill(&f, 20 * MIB, 44 * MIB);

    guest_add(&f.driver[REPORTS], buffer, 3);
    virtio_dev_kick(f.dev, REPORTS);
    assert_false(balloon_is_empty(&f, 60 * MIB, 4 * MIB));
    assert_int_equal(f.dev->queue[REPORTS].in_flight, 0);
    fake_loop_settle(f.loop);

    balloon_expect_used(&f, REPORTS, 0);
    assert_true(balloon_is_empty(&f, 20 * MIB, 44 * MIB));
    assert_int_equal(metrics.balloon.free_page_report_count, 3);
    assert_int_equal(metrics.balloon.free_page_report_freed, 64 * MIB);
    balloon_tear_down(&f);
}

static void test_balloon_a_turn_that_is_full_leaves_the_next_report_to_another(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &config);
    send_block(&f, REPORTS, 20 * MIB, 32 * MIB);
    send_block(&f, REPORTS, 60 * MIB, PAGE_SIZE);

    virtio_dev_kick(f.dev, REPORTS);
    assert_true(balloon_is_empty(&f, 20 * MIB, 32 * MIB));
    assert_false(balloon_is_empty(&f, 60 * MIB, PAGE_SIZE));
    fake_loop_settle(f.loop);
    assert_true(balloon_is_empty(&f, 60 * MIB, PAGE_SIZE));
    balloon_expect_used(&f, REPORTS, 0);
    balloon_expect_used(&f, REPORTS, 1);
    balloon_tear_down(&f);
}

/* A file of persistent memory is in the guest's address space, but it is not the guest's to free.
 */
static void test_balloon_leaves_persistent_memory_alone(void **state)
{
    static uint8_t file[2 * MIB] __attribute__((aligned(PAGE_SIZE)));
    struct mem_region region = {.gpa = GPA(512 * GIB), .size = sizeof(file), .hva = file, .fd = -1};
    const uint32_t page = (uint32_t)(region.gpa.v / PAGE_SIZE);
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &config);
    assert_int_equal(mem_add_region(&f.mem, &region, NULL), 0);

    send_block(&f, REPORTS, region.gpa.v, PAGE_SIZE);
    balloon_kick(&f, REPORTS);
    balloon_expect_used(&f, REPORTS, 0);
    assert_int_equal(metrics.balloon.free_page_report_fails, 1);
    assert_int_equal(metrics.balloon.free_page_report_freed, 0);
    balloon_send_pages(&f, INFLATE, &page, 1);
    balloon_kick(&f, INFLATE);
    balloon_expect_used(&f, INFLATE, 0);
    assert_int_equal(metrics.balloon.event_fails, 1);

    assert_int_equal(file[0], 1);
    assert_int_equal(f.dev->s.status, 15);
    balloon_tear_down(&f);
}

/* ---- hinting ---- */

static void test_balloon_hints_of_a_run_go_back_and_its_end_is_acknowledged(void **state)
{
    struct balloon_fixture f;
    uint16_t head[3];

    (void)state;
    balloon_set_up(&f, &config);
    expect_status(&f, STOP, -1);
    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);
    expect_status(&f, 2, -1);
    assert_int_equal(f.config_interrupts, 1);

    head[0] = send_command(&f, 2);
    head[1] = send_block(&f, HINTS, 20 * MIB, 4 * MIB);
    balloon_kick(&f, HINTS);
    assert_true(balloon_is_empty(&f, 20 * MIB, 4 * MIB));
    expect_status(&f, 2, 2);

    head[2] = send_command(&f, STOP);
    balloon_kick(&f, HINTS);
    for (unsigned i = 0; i < 3; i++)
        balloon_expect_used(&f, HINTS, head[i]);
    expect_status(&f, DONE, STOP);
    assert_int_equal(f.config_interrupts, 2);
    assert_int_equal(metrics.balloon.free_page_hint_count, 1);
    assert_int_equal(metrics.balloon.free_page_hint_freed, 4 * MIB);
    balloon_tear_down(&f);
}

static void test_balloon_hints_end_is_the_hosts_to_say_if_it_so_wishes(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &config);
    assert_int_equal(balloon_hinting_start(f.balloon, false, NULL), 0);
    send_command(&f, 2);
    send_command(&f, STOP);
    balloon_kick(&f, HINTS);
    expect_status(&f, 2, STOP);

    assert_int_equal(balloon_hinting_stop(f.balloon, NULL), 0);
    expect_status(&f, DONE, STOP);
    assert_int_equal(f.config_interrupts, 2);
    balloon_tear_down(&f);
}

static void test_balloon_hints_that_belong_to_no_run_are_left_alone(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &config);

    send_block(&f, HINTS, 20 * MIB, PAGE_SIZE); /* before any run */
    balloon_kick(&f, HINTS);
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));

    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);
    send_block(&f, HINTS, 21 * MIB, PAGE_SIZE); /* before the driver has joined it */
    send_command(&f, 77);
    send_block(&f, HINTS, 22 * MIB, PAGE_SIZE); /* of another one */
    balloon_kick(&f, HINTS);
    assert_false(balloon_is_empty(&f, 21 * MIB, PAGE_SIZE));
    assert_false(balloon_is_empty(&f, 22 * MIB, PAGE_SIZE));

    send_command(&f, 2);
    send_command(&f, DONE); /* which only the host says; taken for an end */
    send_block(&f, HINTS, 23 * MIB, PAGE_SIZE);
    balloon_kick(&f, HINTS);
    assert_false(balloon_is_empty(&f, 23 * MIB, PAGE_SIZE));
    expect_status(&f, DONE, DONE);

    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);
    send_command(&f, 3);
    balloon_kick(&f, HINTS);
    assert_int_equal(balloon_hinting_stop(f.balloon, NULL), 0);
    send_block(&f, HINTS, 24 * MIB, PAGE_SIZE); /* after the host's end */
    balloon_kick(&f, HINTS);
    assert_false(balloon_is_empty(&f, 24 * MIB, PAGE_SIZE));
    assert_int_equal(metrics.balloon.free_page_hint_count, 0);
    assert_int_equal(f.driver[HINTS].avail_idx,
                     guest_read16(&f.driver[HINTS], f.driver[HINTS].used + 2));
    balloon_tear_down(&f);
}

/* The end of a run that the host has given up for a new one must not end the new one. */
static void test_balloon_hints_late_end_does_not_end_the_next_run(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &config);
    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);
    send_command(&f, 2);
    balloon_kick(&f, HINTS);
    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);

    send_command(&f, STOP);
    balloon_kick(&f, HINTS);
    expect_status(&f, 3, STOP);
    send_command(&f, 3);
    send_block(&f, HINTS, 20 * MIB, PAGE_SIZE);
    balloon_kick(&f, HINTS);
    assert_true(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    balloon_tear_down(&f);
}

static void test_balloon_hints_number_of_a_run_is_never_stop_nor_done(void **state)
{
    struct balloon_fixture f;
    struct balloon_state *s;

    (void)state;
    balloon_set_up(&f, &config);
    s = f.dev->ops->saved(f.dev);
    s->last_run = UINT32_MAX - 1;
    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);
    expect_status(&f, UINT32_MAX, -1);
    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);
    expect_status(&f, 2, -1);
    balloon_tear_down(&f);
}

static void test_balloon_hints_refuse_what_cannot_be(void **state)
{
    static const struct balloon_config off = {.amount_mib = 1};
    struct balloon_hinting_status status;
    struct balloon_fixture f;
    struct err e;

    (void)state;
    balloon_set_up(&f, &config);
    virtio_dev_write_status(f.dev, 0);
    assert_int_equal(balloon_hinting_start(f.balloon, true, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Device not activated yet.");
    assert_int_equal(balloon_hinting_stop(f.balloon, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Device not activated yet.");
    expect_status(&f, STOP, -1);
    balloon_start(&f, virtio_dev_features(f.dev));
    assert_int_equal(balloon_hinting_start(f.balloon, true, &e), 0);
    expect_status(&f, 2, -1); /* the refused one has not taken the number */
    balloon_tear_down(&f);

    balloon_set_up(&f, &off);
    assert_int_equal(balloon_hinting_start(f.balloon, true, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Attempting to use hinting when not enabled");
    assert_int_equal(balloon_hinting_stop(f.balloon, &e), -EINVAL);
    assert_int_equal(balloon_hinting_status(f.balloon, &status, &e), -EINVAL);
    assert_string_equal(e.text, "Balloon: Attempting to use hinting when not enabled");
    balloon_tear_down(&f);
}

static void test_balloon_hints_run_ends_with_its_driver(void **state)
{
    struct balloon_fixture f;

    (void)state;
    balloon_set_up(&f, &config);
    assert_int_equal(balloon_hinting_start(f.balloon, true, NULL), 0);
    send_command(&f, 2);
    balloon_kick(&f, HINTS);

    virtio_dev_write_status(f.dev, 0);
    expect_status(&f, DONE, -1);
    balloon_start(&f, virtio_dev_features(f.dev));
    send_block(&f, HINTS, 20 * MIB, PAGE_SIZE);
    balloon_kick(&f, HINTS);
    assert_false(balloon_is_empty(&f, 20 * MIB, PAGE_SIZE));
    expect_status(&f, DONE, -1);
    balloon_tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_balloon_reported_pages_go_back),
        cmocka_unit_test(test_balloon_reported_parts_of_pages_stay),
        cmocka_unit_test(test_balloon_a_report_of_everything_takes_several_turns),
        cmocka_unit_test(test_balloon_a_turn_that_is_full_leaves_the_next_report_to_another),
        cmocka_unit_test(test_balloon_leaves_persistent_memory_alone),
        cmocka_unit_test(test_balloon_hints_of_a_run_go_back_and_its_end_is_acknowledged),
        cmocka_unit_test(test_balloon_hints_end_is_the_hosts_to_say_if_it_so_wishes),
        cmocka_unit_test(test_balloon_hints_that_belong_to_no_run_are_left_alone),
        cmocka_unit_test(test_balloon_hints_late_end_does_not_end_the_next_run),
        cmocka_unit_test(test_balloon_hints_number_of_a_run_is_never_stop_nor_done),
        cmocka_unit_test(test_balloon_hints_refuse_what_cannot_be),
        cmocka_unit_test(test_balloon_hints_run_ends_with_its_driver),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
