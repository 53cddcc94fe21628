/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of persistent memory over a fake loop and a queue in guest memory. The file is a memfd,
 * opened by its path under /proc/self/fd, so that a test keeps a look at it.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/memory/pmem.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#define RAM        (4 * MIB)
#define QUEUE_SIZE 64
#define FEATURES   (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)
#define FILE_SIZE  (2 * MIB + 5000)
#define REGION     (4 * MIB) /* what it takes */

enum { FLUSHED = 0, FAILED = -1, UNTOUCHED = 0x5a5a5a5a };

struct fixture {
    struct mem mem;
    struct loop *loop;
    struct pmem *pmem;
    struct virtio_dev *dev;
    struct guest_driver driver;
    char path[64];
    int fd;
    gpa_t start;
    uint64_t size;
};

static void make_device(struct fixture *f, const struct pmem_config *config)
{
    struct virtio_env env = {.mem = &f->mem};
    static char id[] = "p0";
    struct pmem_config mine = *config;

    log_set_options(&(struct log_options){.level = LOG_OFF});
    memset(f, 0, sizeof(*f));
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    env.loop = f->loop;
    f->fd = memfd_create("pmem", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    assert_int_equal(ftruncate(f->fd, (off_t)FILE_SIZE), 0);
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
    mine.id = id;
    mine.path = mine.path ? mine.path : f->path;
    assert_int_equal(pmem_create(&f->pmem, &env, &mine, NULL), 0);
    f->dev = pmem_dev(f->pmem);
    f->start = mem_device_base(&f->mem, PMEM_ALIGNMENT);
}

static void start_driver(struct fixture *f)
{
    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, FEATURES), 15);
}

static void set_up(struct fixture *f, const struct pmem_config *config)
{
    make_device(f, config);
    assert_int_equal(pmem_map(f->pmem, f->start, &f->size, NULL), 0);
    start_driver(f);
}

static void tear_down(struct fixture *f)
{
    virtio_dev_destroy(f->dev);
    assert_int_equal(f->mem.device_count, 0);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
    close(f->fd);
}

/* Adds a request of that type; returns where its result will be. */
static uint64_t add_request(struct fixture *f, uint32_t type)
{
    static const int32_t untouched = UNTOUCHED;
    uint64_t request = guest_alloc(&f->driver, 4), result = guest_alloc(&f->driver, 4);
    struct guest_buffer buffer[] = {{request, 4, false}, {result, 4, true}};

    guest_write(&f->driver, request, &type, sizeof(type));
    guest_write(&f->driver, result, &untouched, sizeof(untouched));
    guest_add(&f->driver, buffer, 2);
    return result;
}

static int32_t result_at(const struct fixture *f, uint64_t gpa)
{
    int32_t result;

    guest_read(&f->driver, gpa, &result, sizeof(result));
    return result;
}

static unsigned used(struct fixture *f)
{
    struct virtq_used_elem elem;
    unsigned count = 0;

    fake_loop_end_turn(f->loop);
    while (guest_take_used(&f->driver, &elem)) {
        assert_int_equal(elem.len, 4);
        count++;
    }
    return count;
}

static void kick(struct fixture *f)
{
    virtio_dev_kick(f->dev, 0);
    fake_loop_end_turn(f->loop);
}

/* Ends the fsync under way; there is exactly one. */
static void end_sync(struct fixture *f, int res)
{
    const struct fake_op *sync = fake_loop_find(f->loop, FAKE_FSYNC);

    assert_int_equal(fake_loop_count_verb(f->loop, FAKE_FSYNC), 1);
    assert_true(sync->datasync);
    for (unsigned i = 0;; i++) {
        if (fake_loop_op(f->loop, i) != sync)
            continue;
        fake_loop_complete(f->loop, i, res, false);
        return;
    }
}

/* ---- the region ---- */

static void test_pmem_region_is_the_file_and_a_tail_up_to_2_mib(void **state)
{
    struct fixture f;
    uint64_t config[2];
    char back[6] = "";

    (void)state;
    set_up(&f, &(struct pmem_config){0});

    assert_int_equal(f.size, REGION);
    virtio_dev_read_config(f.dev, 0, config, sizeof(config));
    assert_int_equal(config[0], 512 * GIB);
    assert_int_equal(config[1], REGION);
    assert_int_equal(mem_write(&f.mem, gpa_add(f.start, FILE_SIZE - 5), "12345", 5), 0);
    assert_int_equal(mem_write(&f.mem, gpa_add(f.start, REGION - 5), "abcde", 5), 0);
    assert_int_equal(pread(f.fd, back, 5, (off_t)FILE_SIZE - 5), 5);
    assert_string_equal(back, "12345");
    assert_int_equal(mem_read(&f.mem, gpa_add(f.start, REGION - 5), back, 5), 0);
    assert_string_equal(back, "abcde");
    assert_int_equal(lseek(f.fd, 0, SEEK_END), FILE_SIZE); /* it has not grown */
    assert_null(mem_readable(&f.mem, gpa_add(f.start, REGION), 1));
    tear_down(&f);
}

static void test_pmem_hva_is_aligned_so_that_huge_pages_can_map_it(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    assert_int_equal((uintptr_t)mem_readable(&f.mem, f.start, 1) % PMEM_ALIGNMENT, 0);
    tear_down(&f);
}

static void test_pmem_read_only_cannot_be_written(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, &(struct pmem_config){.read_only = true});
    assert_non_null(mem_readable(&f.mem, f.start, FILE_SIZE));
    assert_null(mem_writable(&f.mem, f.start, 1));
    assert_true(f.mem.device[0].read_only);
    tear_down(&f);
}

static void expect_refusal(char *path, int code, const char *words)
{
    struct fixture f;
    struct err e;

    make_device(&f, &(struct pmem_config){.path = path});
    assert_int_equal(pmem_map(f.pmem, f.start, &f.size, &e), code);
    assert_string_equal(e.text, words);
    assert_int_equal(f.mem.device_count, 0);
    tear_down(&f);
}

static void test_pmem_map_refuses_what_is_no_file_with_content(void **state)
{
    char missing[] = "/nonexistent/p", directory[] = "/", device[] = "/dev/null", fifo[64];

    (void)state;
    expect_refusal(missing, -ENOENT,
                   "Error accessing backing file: No such file or directory (os error 2) "
                   "/nonexistent/p");
    expect_refusal(directory, -EISDIR,
                   "Error accessing backing file: Is a directory (os error 21) /");
    expect_refusal(device, -EINVAL, "Error backing file size is 0");
    snprintf(fifo, sizeof(fifo), "/tmp/mayfly-test-pmem-%d", (int)getpid());
    assert_int_equal(mkfifo(fifo, 0600), 0);
    expect_refusal(fifo, -EINVAL, "Error backing file size is 0"); /* and does not hang */
    unlink(fifo);
}

static void test_pmem_map_of_an_empty_file_is_refused_and_can_be_tried_again(void **state)
{
    struct fixture f;
    struct err e;

    (void)state;
    make_device(&f, &(struct pmem_config){0});
    assert_int_equal(ftruncate(f.fd, 0), 0);
    assert_int_equal(pmem_map(f.pmem, f.start, &f.size, &e), -EINVAL);
    assert_string_equal(e.text, "Error backing file size is 0");

    assert_int_equal(ftruncate(f.fd, 1), 0);
    assert_int_equal(pmem_map(f.pmem, f.start, &f.size, &e), 0);
    assert_int_equal(f.size, 2 * MIB);
    pmem_unmap(f.pmem);
    assert_null(mem_readable(&f.mem, f.start, 1));
    pmem_unmap(f.pmem);
    assert_int_equal(pmem_map(f.pmem, f.start, &f.size, &e), 0);
    tear_down(&f);
}

/* ---- flushes ---- */

static void test_pmem_flush_is_an_fsync_and_then_an_answer(void **state)
{
    struct fixture f;
    uint64_t result;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    result = add_request(&f, 0);
    kick(&f);

    assert_int_equal(used(&f), 0); /* not before the disk has it */
    assert_int_equal(result_at(&f, result), UNTOUCHED);
    assert_int_not_equal(fake_loop_find(f.loop, FAKE_FSYNC)->fd, f.fd); /* its own descriptor */
    end_sync(&f, 0);
    assert_int_equal(used(&f), 1);
    assert_int_equal(result_at(&f, result), FLUSHED);
    assert_int_equal(pmem_metrics(f.pmem)->queue_event_count, 1);
    tear_down(&f);
}

static void test_pmem_flushes_of_one_kick_share_one_fsync(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    for (int i = 0; i < 5; i++)
        add_request(&f, 0);
    kick(&f);
    end_sync(&f, 0);
    assert_int_equal(used(&f), 5);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_FSYNC), 0);
    tear_down(&f);
}

static void test_pmem_flush_of_a_file_cut_short_fails(void **state)
{
    struct fixture f;
    uint64_t result;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    assert_int_equal(ftruncate(f.fd, (off_t)FILE_SIZE - 1), 0);
    result = add_request(&f, 0);
    kick(&f);
    end_sync(&f, 0);
    assert_int_equal(result_at(&f, result), FAILED);
    assert_int_equal(ftruncate(f.fd, (off_t)FILE_SIZE + 1), 0); /* longer is fine */
    result = add_request(&f, 0);
    kick(&f);
    end_sync(&f, 0);
    assert_int_equal(result_at(&f, result), FLUSHED);
    tear_down(&f);
}

/* What was written before a flush came may have been passed by: that flush needs one of its own. */
static void test_pmem_flush_during_an_fsync_waits_for_the_next(void **state)
{
    struct fixture f;
    uint64_t first, second, third;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    first = add_request(&f, 0);
    kick(&f);
    second = add_request(&f, 0);
    kick(&f);
    third = add_request(&f, 0);
    kick(&f);

    end_sync(&f, 0);
    assert_int_equal(used(&f), 1);
    assert_int_equal(result_at(&f, first), FLUSHED);
    assert_int_equal(result_at(&f, second), UNTOUCHED);
    end_sync(&f, -EIO);
    assert_int_equal(used(&f), 2);
    assert_int_equal(result_at(&f, second), FAILED);
    assert_int_equal(result_at(&f, third), FAILED);
    assert_true(virtio_dev_is_idle(f.dev));
    tear_down(&f);
}

static void test_pmem_many_flushes_are_answered_in_order(void **state)
{
    struct fixture f;
    struct virtq_used_elem elem;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    for (uint16_t round = 0; round < 3; round++) {
        for (int i = 0; i < QUEUE_SIZE / 2; i++)
            add_request(&f, 0);
        virtio_dev_kick(f.dev, 0);
        fake_loop_settle(f.loop);
        for (uint32_t i = 0; i < QUEUE_SIZE / 2; i++) {
            assert_true(guest_take_used(&f.driver, &elem));
            assert_int_equal(elem.id, 2 * i);
        }
        assert_false(guest_take_used(&f.driver, &elem));
    }
    tear_down(&f);
}

static void test_pmem_request_may_be_cut_anywhere(void **state)
{
    struct fixture f;
    struct guest_buffer buffer[8];
    uint64_t base;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    base = guest_alloc(&f.driver, 64);
    for (unsigned i = 0; i < 8; i++)
        buffer[i] = (struct guest_buffer){base + 3 * i, 1, i >= 4};
    for (unsigned i = 4; i < 8; i++)
        guest_write(&f.driver, buffer[i].gpa, "x", 1);
    guest_add_indirect(&f.driver, buffer, 8);
    kick(&f);
    end_sync(&f, -EIO);

    assert_int_equal(used(&f), 1);
    for (unsigned i = 4; i < 8; i++) {
        uint8_t byte;

        guest_read(&f.driver, buffer[i].gpa, &byte, 1);
        assert_int_equal(byte, 0xff);
    }
    tear_down(&f);
}

static void test_pmem_unknown_request_fails_and_the_device_goes_on(void **state)
{
    struct fixture f;
    uint64_t unknown, flush;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    unknown = add_request(&f, 1);
    flush = add_request(&f, 0);
    kick(&f);
    assert_int_equal(used(&f), 1);
    assert_int_equal(result_at(&f, unknown), FAILED);
    end_sync(&f, 0);
    assert_int_equal(used(&f), 1);
    assert_int_equal(result_at(&f, flush), FLUSHED);
    tear_down(&f);
}

static void test_pmem_requests_too_short_stop_the_device(void **state)
{
    static const uint32_t lengths[][2] = {{3, 4}, {4, 3}, {0, 4}, {4, 0}, {0, 0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct fixture f;
        struct guest_buffer buffer[2];

        set_up(&f, &(struct pmem_config){0});
        for (unsigned b = 0; b < 2; b++)
            buffer[b] = (struct guest_buffer){guest_alloc(&f.driver, 16), lengths[i][b], b == 1};
        guest_add(&f.driver, buffer, 2);
        kick(&f);
        assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
        assert_int_equal(pmem_metrics(f.pmem)->event_fails, 1);
        tear_down(&f);
    }
}

/* The result of a flush may lie in the persistent memory itself. */
static void test_pmem_request_may_lie_in_its_own_region(void **state)
{
    struct fixture f;
    struct guest_buffer buffer[2];
    int32_t result = UNTOUCHED;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    buffer[0] = (struct guest_buffer){f.start.v, 4, false};
    buffer[1] = (struct guest_buffer){f.start.v + 8, 4, true};
    assert_int_equal(mem_write(&f.mem, gpa_add(f.start, 8), &result, 4), 0);
    guest_add(&f.driver, buffer, 2);
    kick(&f);
    end_sync(&f, 0);
    assert_int_equal(used(&f), 1);
    assert_int_equal(pread(f.fd, &result, 4, 8), 4);
    assert_int_equal(result, FLUSHED);
    tear_down(&f);
}

/* ---- limits ---- */

static const struct pmem_config limited = {
    .has_limiter = true,
    .limiter = {.has_bandwidth = true, .bandwidth = {.size = FILE_SIZE, .refill_ms = 3600000}},
};

static void test_pmem_flush_over_the_limit_waits_for_the_timer(void **state)
{
    struct fixture f;
    uint64_t second;
    unsigned i = 0;

    (void)state;
    set_up(&f, &limited);
    add_request(&f, 0);
    kick(&f);
    end_sync(&f, 0); /* the length of the file was in the bucket */
    assert_int_equal(used(&f), 1);

    second = add_request(&f, 0);
    kick(&f);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_FSYNC), 0);
    assert_int_equal(pmem_metrics(f.pmem)->rate_limiter_throttled_events, 1);
    assert_int_equal(fake_loop_find(f.loop, FAKE_TIMER)->len, RATE_LIMITER_RETRY_NS);
    assert_true(virtio_dev_is_idle(f.dev)); /* a pause need not wait for it */

    pmem_update(f.pmem, &(struct rate_limiter_config){.has_bandwidth = true});
    while (fake_loop_op(f.loop, i)->verb != FAKE_TIMER)
        i++;
    fake_loop_complete(f.loop, i, -ETIME, false);
    assert_int_equal(pmem_metrics(f.pmem)->rate_limiter_event_count, 1);
    end_sync(&f, 0);
    assert_int_equal(used(&f), 1);
    assert_int_equal(result_at(&f, second), FLUSHED);
    tear_down(&f);
}

/* What is paid for is the fsync. */
static void test_pmem_flushes_that_share_an_fsync_pay_once(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, &limited);
    add_request(&f, 0);
    add_request(&f, 0);
    add_request(&f, 0);
    kick(&f);
    end_sync(&f, 0);
    assert_int_equal(used(&f), 3);
    assert_int_equal(pmem_metrics(f.pmem)->rate_limiter_throttled_events, 0);
    tear_down(&f);
}

static void test_pmem_config_shows_what_was_put(void **state)
{
    struct fixture f;
    struct rate_limiter_config patch = {.has_ops = true, .ops = {.size = 7, .refill_ms = 7}};

    (void)state;
    make_device(&f, &(struct pmem_config){.is_root = true, .has_limiter = true});
    assert_false(pmem_config(f.pmem)->has_limiter); /* one that limits nothing */
    assert_true(pmem_config(f.pmem)->is_root);
    assert_string_equal(pmem_config(f.pmem)->id, "p0");
    assert_string_equal(pmem_config(f.pmem)->path, f.path);
    pmem_update(f.pmem, &patch);
    assert_false(pmem_config(f.pmem)->has_limiter);
    tear_down(&f);
}

/* ---- life ---- */

static void end_sync_when_waited_for(struct loop *loop, void *arg)
{
    unsigned *waits = arg;

    ++*waits;
    BUG_ON(*waits > 4);
    fake_loop_complete(loop, 0, 0, false);
}

static void test_pmem_reset_during_a_flush_waits_and_the_device_works_again(void **state)
{
    struct fixture f;
    unsigned waits = 0;
    uint64_t result;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    add_request(&f, 0);
    kick(&f);
    add_request(&f, 0);
    kick(&f);
    fake_loop_on_wait(f.loop, end_sync_when_waited_for, &waits);
    virtio_dev_write_status(f.dev, 0);
    assert_int_equal(waits, 2); /* also the one that waited */
    assert_int_equal(fake_loop_count(f.loop), 0);
    fake_loop_on_wait(f.loop, NULL, NULL);

    memset(f.mem.region[0].hva, 0, 64 * KIB);
    start_driver(&f);
    result = add_request(&f, 0);
    kick(&f);
    end_sync(&f, 0);
    assert_int_equal(used(&f), 1);
    assert_int_equal(result_at(&f, result), FLUSHED);
    tear_down(&f);
}

static void test_pmem_pause_waits_for_the_flush_and_resume_serves_the_rest(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, &(struct pmem_config){0});
    add_request(&f, 0);
    kick(&f);
    virtio_dev_quiesce(f.dev);
    assert_false(virtio_dev_is_idle(f.dev));
    add_request(&f, 0);
    kick(&f);
    end_sync(&f, 0);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(used(&f), 1);

    virtio_dev_resume(f.dev);
    fake_loop_end_turn(f.loop);
    end_sync(&f, 0);
    assert_int_equal(used(&f), 1);
    tear_down(&f);
}

static void test_pmem_state_holds_place_and_limiter(void **state)
{
    uint64_t saved[2];
    struct fixture f;

    (void)state;
    assert_true(state_desc_tiles(&pmem_state_desc));
    set_up(&f, &limited);
    assert_ptr_equal(f.dev->ops->state, &pmem_state_desc);
    memcpy(saved, f.dev->ops->saved(f.dev), sizeof(saved));
    assert_int_equal(saved[0], f.start.v);
    assert_int_equal(saved[1], REGION);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pmem_region_is_the_file_and_a_tail_up_to_2_mib),
        cmocka_unit_test(test_pmem_hva_is_aligned_so_that_huge_pages_can_map_it),
        cmocka_unit_test(test_pmem_read_only_cannot_be_written),
        cmocka_unit_test(test_pmem_map_refuses_what_is_no_file_with_content),
        cmocka_unit_test(test_pmem_map_of_an_empty_file_is_refused_and_can_be_tried_again),
        cmocka_unit_test(test_pmem_flush_is_an_fsync_and_then_an_answer),
        cmocka_unit_test(test_pmem_flushes_of_one_kick_share_one_fsync),
        cmocka_unit_test(test_pmem_flush_of_a_file_cut_short_fails),
        cmocka_unit_test(test_pmem_flush_during_an_fsync_waits_for_the_next),
        cmocka_unit_test(test_pmem_many_flushes_are_answered_in_order),
        cmocka_unit_test(test_pmem_request_may_be_cut_anywhere),
        cmocka_unit_test(test_pmem_unknown_request_fails_and_the_device_goes_on),
        cmocka_unit_test(test_pmem_requests_too_short_stop_the_device),
        cmocka_unit_test(test_pmem_request_may_lie_in_its_own_region),
        cmocka_unit_test(test_pmem_flush_over_the_limit_waits_for_the_timer),
        cmocka_unit_test(test_pmem_flushes_that_share_an_fsync_pay_once),
        cmocka_unit_test(test_pmem_config_shows_what_was_put),
        cmocka_unit_test(test_pmem_reset_during_a_flush_waits_and_the_device_works_again),
        cmocka_unit_test(test_pmem_pause_waits_for_the_flush_and_resume_serves_the_rest),
        cmocka_unit_test(test_pmem_state_holds_place_and_limiter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
