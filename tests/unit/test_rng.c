/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/rng.c over a fake loop and a queue in guest memory. */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/rng.h"
#include "vmm/base/metrics.h"

#include <string.h>

#define RAM        (4 * MIB)
#define QUEUE_SIZE 64
#define FEATURES   (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

struct fixture {
    struct mem mem;
    struct loop *loop;
    struct rng *rng;
    struct virtio_dev *dev;
    struct guest_driver driver;
};

static void set_up(struct fixture *f, const struct rng_config *config)
{
    struct virtio_env env = {.mem = &f->mem};

    memset(&metrics, 0, sizeof(metrics));
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    env.loop = f->loop;
    assert_int_equal(rng_create(&f->rng, &env, config, NULL), 0);
    f->dev = rng_dev(f->rng);
    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, FEATURES), 15);
}

static void tear_down(struct fixture *f)
{
    virtio_dev_destroy(f->dev);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
}

static void kick(struct fixture *f)
{
    virtio_dev_kick(f->dev, 0);
    fake_loop_settle(f->loop);
}

static bool has_zeros(const struct fixture *f, uint64_t gpa, size_t len)
{
    const uint8_t *bytes = mem_readable(&f->mem, GPA(gpa), len);

    assert_non_null(bytes);
    return is_all_zero(bytes, len);
}

static void test_rng_fills_every_buffer_of_a_chain(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;
    struct guest_buffer buffer[2];
    uint16_t head;

    (void)state;
    set_up(&f, &(struct rng_config){0});
    for (int i = 0; i < 2; i++)
        buffer[i] = (struct guest_buffer){guest_alloc(&f.driver, 64), 64, true};

    head = guest_add(&f.driver, buffer, 2);
    kick(&f);

    assert_true(guest_take_used(&f.driver, &used));
    assert_int_equal(used.id, head);
    assert_int_equal(used.len, 128);
    assert_false(has_zeros(&f, buffer[0].gpa, 64));
    assert_false(has_zeros(&f, buffer[1].gpa, 64));
    assert_int_equal(metrics.entropy.entropy_bytes, 128);
    tear_down(&f);
}

static void test_rng_gives_at_most_64_kib_a_request(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;
    struct guest_buffer buffer;

    (void)state;
    set_up(&f, &(struct rng_config){0});
    buffer = (struct guest_buffer){guest_alloc(&f.driver, 128 * KIB), 128 * KIB, true};

    guest_add(&f.driver, &buffer, 1);
    kick(&f);

    assert_true(guest_take_used(&f.driver, &used));
    assert_int_equal(used.len, 64 * KIB);
    assert_true(has_zeros(&f, buffer.gpa + 64 * KIB, 64 * KIB));
    tear_down(&f);
}

static void test_rng_refuses_readable_buffers(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;
    struct guest_buffer buffer;

    (void)state;
    set_up(&f, &(struct rng_config){0});
    buffer = (struct guest_buffer){guest_alloc(&f.driver, 16), 16, false};

    guest_add(&f.driver, &buffer, 1);
    kick(&f);

    assert_false(guest_take_used(&f.driver, &used));
    assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(metrics.entropy.entropy_event_fails, 1);
    tear_down(&f);
}

static void test_rng_serves_a_flood_over_several_turns(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;
    unsigned served = 0;

    (void)state;
    set_up(&f, &(struct rng_config){0});
    for (int i = 0; i < QUEUE_SIZE; i++)
        guest_add(&f.driver, &(struct guest_buffer){guest_alloc(&f.driver, 16), 16, true}, 1);

    virtio_dev_kick(f.dev, 0);
    fake_loop_end_turn(f.loop); /* publishes the first share, and serves the second */
    while (guest_take_used(&f.driver, &used))
        served++;
    assert_true(served > 0 && served < QUEUE_SIZE);
    fake_loop_settle(f.loop);
    while (guest_take_used(&f.driver, &used))
        served++;
    assert_int_equal(served, QUEUE_SIZE);
    assert_int_equal(guest_avail_event(&f.driver), QUEUE_SIZE);
    tear_down(&f);
}

static void test_rng_over_the_limit_waits_for_the_timer(void **state)
{
    static const struct rng_config config = {
        .has_limiter = true,
        .limiter = {.has_ops = true, .ops = {.size = 1, .refill_ms = 3600000}},
    };
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up(&f, &config);
    for (int i = 0; i < 2; i++)
        guest_add(&f.driver, &(struct guest_buffer){guest_alloc(&f.driver, 16), 16, true}, 1);

    kick(&f);
    assert_true(guest_take_used(&f.driver, &used));
    assert_false(guest_take_used(&f.driver, &used));
    assert_int_equal(metrics.entropy.entropy_rate_limiter_throttled, 1);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);
    assert_int_equal(fake_loop_find(f.loop, FAKE_TIMER)->len, RATE_LIMITER_RETRY_NS);

    /* a further kick does not get past it */
    kick(&f);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_TIMER), 1);

    /* with tokens in the bucket the timer's end serves the request */
    ((struct rate_limiter *)f.dev->ops->saved(f.dev))->ops.budget = 1;
    fake_loop_complete(f.loop, 0, -62 /* ETIME */, false);
    fake_loop_settle(f.loop);
    assert_true(guest_take_used(&f.driver, &used));
    assert_int_equal(used.len, 16);
    tear_down(&f);
}

/* Puts what a save of the held device has into a new one over the same memory, whose bucket is
 * full again, and lets it go on. */
static void go_on_in_a_new_device(struct fixture *f)
{
    struct virtio_env env = {.mem = &f->mem, .loop = f->loop};
    struct virtio_dev *old = f->dev;

    assert_int_equal(rng_create(&f->rng, &env, &(struct rng_config){0}, NULL), 0);
    f->dev = rng_dev(f->rng);
    f->dev->s = old->s;
    f->dev->queue[0].s = old->queue[0].s;
    memcpy(f->dev->ops->saved(f->dev), old->ops->saved(old), sizeof(struct rate_limiter));
    ((struct rate_limiter *)f->dev->ops->saved(f->dev))->ops.budget = 1;
    assert_int_equal(virtio_dev_restore(f->dev, NULL), 0);
    virtio_dev_resume(f->dev);
    fake_loop_settle(f->loop);
    virtio_dev_destroy(old);
}

/* Nothing is drawn before the limiter lets a request pass, so nothing drawn can be saved. */
static void test_rng_request_held_at_a_save_is_filled_afresh_behind_each_load(void **state)
{
    static const struct rng_config config = {
        .has_limiter = true,
        .limiter = {.has_ops = true, .ops = {.size = 1, .refill_ms = 3600000}},
    };
    uint8_t drawn[2][16];
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    for (int load = 0; load < 2; load++) {
        uint64_t held;

        set_up(&f, &config);
        guest_add(&f.driver, &(struct guest_buffer){guest_alloc(&f.driver, 16), 16, true}, 1);
        held = guest_alloc(&f.driver, 16);
        guest_add(&f.driver, &(struct guest_buffer){held, 16, true}, 1);
        kick(&f);
        virtio_dev_quiesce(f.dev);
        assert_true(guest_take_used(&f.driver, &used));
        assert_false(guest_take_used(&f.driver, &used));
        assert_true(has_zeros(&f, held, 16));

        go_on_in_a_new_device(&f);
        assert_true(guest_take_used(&f.driver, &used));
        assert_int_equal(used.len, 16);
        assert_int_equal(mem_read(&f.mem, GPA(held), drawn[load], 16), 0);
        tear_down(&f);
    }
    assert_memory_not_equal(drawn[0], drawn[1], 16);
}

static void test_rng_state_table_covers_its_struct(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, &(struct rng_config){0});
    assert_true(state_desc_tiles(f.dev->ops->state));
    assert_int_equal(f.dev->ops->state->size, sizeof(struct rate_limiter));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rng_fills_every_buffer_of_a_chain),
        cmocka_unit_test(test_rng_gives_at_most_64_kib_a_request),
        cmocka_unit_test(test_rng_refuses_readable_buffers),
        cmocka_unit_test(test_rng_serves_a_flood_over_several_turns),
        cmocka_unit_test(test_rng_over_the_limit_waits_for_the_timer),
        cmocka_unit_test(test_rng_request_held_at_a_save_is_filled_afresh_behind_each_load),
        cmocka_unit_test(test_rng_state_table_covers_its_struct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
