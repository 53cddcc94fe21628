/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/virtio.c: the status machine, reset, quiesce and batches, with a device that does
 * what the test says. */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/virtio.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <string.h>

#define RAM      (8 * MIB)
#define SIZE     16
#define F_OWN    (UINT64_C(1) << 5)
#define FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | F_OWN)

/* A device of two queues. Its kick takes chains; they stay in flight until the test ends them. */
struct fixture {
    struct virtio_dev dev;
    struct mem mem;
    struct loop *loop;
    struct guest_driver driver[2];
    int activate_result;
    unsigned activations, kicks[2], quiesces, resumes, taken;
    uint16_t head[SIZE];
    unsigned interrupts[3], config_changes, activated, resets, forgotten;
    bool keep; /* kicks keep chains in flight instead of returning them */
    bool flap; /* the guest shows a chain whenever we do not look */
    uint64_t event_fails, activate_fails;
};

static struct fixture *of(const struct virtio_dev *dev)
{
    return container_of((struct virtio_dev *)(uintptr_t)dev, struct fixture, dev);
}

static uint64_t features(const struct virtio_dev *dev)
{
    (void)dev;
    return F_OWN;
}

static const void *config(const struct virtio_dev *dev, size_t *len)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5};

    (void)dev;
    *len = sizeof(bytes);
    return bytes;
}

static int activate(struct virtio_dev *dev)
{
    of(dev)->activations++;
    return of(dev)->activate_result;
}

static enum virtio_serve serve(struct virtio_dev *dev, unsigned q)
{
    struct fixture *f = of(dev);
    struct vq_chain chain;
    struct iovec iov[SIZE];
    bool taken;

    if (f->flap)
        guest_set_avail_idx(&f->driver[q], 0);
    taken = virtio_dev_pop(dev, q, &chain, iov, SIZE);
    if (f->flap)
        guest_set_avail_idx(&f->driver[q], 1);
    if (!taken)
        return VIRTIO_EMPTY;
    if (f->keep) {
        virtio_dev_op_begin(dev);
        f->head[f->taken++] = chain.head;
    } else {
        virtio_dev_push(dev, q, chain.head, 0);
    }
    return VIRTIO_SERVED;
}

static void device_kick(struct virtio_dev *dev, unsigned q)
{
    of(dev)->kicks[q]++;
    virtio_dev_serve(dev, q, 4, serve);
}

static void device_quiesce(struct virtio_dev *dev)
{
    of(dev)->quiesces++;
}

static void device_resume(struct virtio_dev *dev)
{
    of(dev)->resumes++;
}

static void device_reset(struct virtio_dev *dev)
{
    of(dev)->forgotten++;
}

static void device_destroy(struct virtio_dev *dev)
{
    (void)dev;
}

static const struct virtio_dev_ops ops = {
    .name = "test",
    .device_id = 77,
    .n_queues = 2,
    .queue_size_max = SIZE,
    .features = features,
    .config = config,
    .activate = activate,
    .kick = device_kick,
    .quiesce = device_quiesce,
    .resume = device_resume,
    .reset = device_reset,
    .destroy = device_destroy,
};

static void on_interrupt(void *owner, enum virtio_interrupt why)
{
    ((struct fixture *)owner)->interrupts[why]++;
}

static void on_config_changed(void *owner)
{
    ((struct fixture *)owner)->config_changes++;
}

static void on_activated(void *owner)
{
    ((struct fixture *)owner)->activated++;
}

static void on_reset(void *owner)
{
    ((struct fixture *)owner)->resets++;
}

static const struct virtio_transport_ops transport = {on_interrupt, on_config_changed, on_activated,
                                                      on_reset};

static void set_up(struct fixture *f)
{
    struct virtio_env env;

    memset(f, 0, sizeof(*f));
    log_set_options(&(struct log_options){.level = LOG_OFF});
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    env = (struct virtio_env){&f->mem, f->loop};
    virtio_dev_init(&f->dev, &ops, &env);
    f->dev.event_fails = &f->event_fails;
    f->dev.activate_fails = &f->activate_fails;
    virtio_dev_attach(&f->dev, &transport, f);
    guest_driver_init(&f->driver[0], &f->mem, 0x1000, SIZE);
    guest_driver_init(&f->driver[1], &f->mem, 0x200000, SIZE);
}

static void set_up_started(struct fixture *f)
{
    set_up(f);
    assert_int_equal(guest_start(&f->dev, f->driver, FEATURES), 15);
}

static void tear_down(struct fixture *f)
{
    virtio_dev_destroy(&f->dev);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
}

static void add(struct fixture *f, unsigned q)
{
    struct guest_buffer buffer = {guest_alloc(&f->driver[q], 16), 16, true};

    guest_add(&f->driver[q], &buffer, 1);
}

/* Ends the i-th chain that was kept. */
static void end(struct fixture *f, unsigned i)
{
    virtio_dev_push(&f->dev, 0, f->head[i], 0);
    virtio_dev_op_end(&f->dev);
}

static unsigned take_all_used(struct fixture *f, unsigned q)
{
    struct virtq_used_elem used;
    unsigned n = 0;

    while (guest_take_used(&f->driver[q], &used))
        n++;
    return n;
}

/* ---- status ---- */

static void test_virtio_status_steps_are_taken_only_in_order(void **state)
{
    static const uint32_t reachable[] = {0, 1, 3, 11, 15};

    (void)state;
    for (size_t at = 0; at < ARRAY_SIZE(reachable); at++)
        for (uint32_t value = 1; value < 128; value++) {
            struct fixture f;
            uint32_t next = at + 1 < ARRAY_SIZE(reachable) ? reachable[at + 1] : reachable[at];

            set_up(&f);
            for (size_t i = 1; i <= at; i++)
                virtio_dev_write_status(&f.dev, reachable[i]);
            assert_int_equal(f.dev.s.status, reachable[at]);

            virtio_dev_write_status(&f.dev, value);

            assert_int_equal(f.dev.s.status, value == next ? next : reachable[at]);
            tear_down(&f);
        }
}

static void test_virtio_features_not_offered_are_refused_at_features_ok(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    virtio_dev_write_status(&f.dev, 1);
    virtio_dev_write_status(&f.dev, 3);
    virtio_dev_write_features(&f.dev, 0, 1u << 6);
    virtio_dev_write_status(&f.dev, 11);
    assert_int_equal(f.dev.s.status, 3);

    virtio_dev_write_features(&f.dev, 0, (uint32_t)F_OWN);
    virtio_dev_write_status(&f.dev, 11);
    assert_int_equal(f.dev.s.status, 11);
    assert_true(virtio_dev_has(&f.dev, F_OWN));
    assert_false(virtio_dev_has(&f.dev, VIRTIO_F_EVENT_IDX));
    tear_down(&f);
}

static void test_virtio_features_are_written_only_in_the_driver_step(void **state)
{
    static const uint32_t steps[] = {1, 3, 11, 15};
    struct fixture f;

    (void)state;
    set_up(&f);
    virtio_dev_write_features(&f.dev, 0, 1u << 5);
    assert_int_equal(f.dev.s.features, 0);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        uint64_t before = f.dev.s.features;

        virtio_dev_write_status(&f.dev, steps[i]);
        virtio_dev_write_features(&f.dev, 1, 1);
        virtio_dev_write_features(&f.dev, 2, 0xffffffff); /* there is no third word */
        assert_int_equal(f.dev.s.features, steps[i] == 3 ? VIRTIO_F_VERSION_1 : before);
    }
    tear_down(&f);
}

static void test_virtio_queues_are_set_up_only_between_features_ok_and_driver_ok(void **state)
{
    static const uint32_t steps[] = {1, 3, 11, 15};
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_null(virtio_dev_queue_setup(&f.dev, 0));
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        virtio_dev_write_status(&f.dev, steps[i]);
        assert_int_equal(virtio_dev_queue_setup(&f.dev, 0) != NULL, steps[i] == 11);
        assert_null(virtio_dev_queue_setup(&f.dev, 2));
        assert_non_null(virtio_dev_queue(&f.dev, 1));
        assert_null(virtio_dev_queue(&f.dev, 2));
    }
    tear_down(&f);
}

static void test_virtio_driver_ok_activates_once(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    assert_int_equal(f.activations, 1);
    assert_int_equal(f.activated, 1);
    virtio_dev_write_status(&f.dev, 15);
    assert_int_equal(f.activations, 1);
    tear_down(&f);
}

static void test_virtio_activation_with_a_bad_queue_needs_reset(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    f.driver[1].used = RAM;

    assert_int_equal(guest_start(&f.dev, f.driver, FEATURES), 15 | VIRTIO_STATUS_NEEDS_RESET);

    assert_int_equal(f.activations, 0);
    assert_int_equal(f.activated, 0);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_CONFIG], 1);
    assert_int_equal(f.activate_fails, 1);
    tear_down(&f);
}

static void test_virtio_activation_failed_by_the_device_needs_reset(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    f.activate_result = -ENOMEM;
    assert_int_equal(guest_start(&f.dev, f.driver, FEATURES), 15 | VIRTIO_STATUS_NEEDS_RESET);
    virtio_dev_kick(&f.dev, 0);
    assert_int_equal(f.kicks[0], 0);

    f.activate_result = 0; /* a reset cures it */
    assert_int_equal(guest_start(&f.dev, f.driver, FEATURES), 15);
    tear_down(&f);
}

static void test_virtio_failed_stops_the_device_until_reset(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    virtio_dev_write_status(&f.dev, 15 | VIRTIO_STATUS_FAILED);
    assert_int_equal(f.dev.s.status, 15 | VIRTIO_STATUS_FAILED);
    virtio_dev_kick(&f.dev, 0);
    assert_int_equal(f.kicks[0], 0);
    virtio_dev_write_status(&f.dev, 15);
    assert_int_equal(f.dev.s.status, 15 | VIRTIO_STATUS_FAILED);
    tear_down(&f);
}

/* ---- configuration ---- */

static void test_virtio_config_reads_zeros_past_its_end(void **state)
{
    static const uint8_t want[8] = {4, 5}, none[8];
    struct fixture f;
    uint8_t got[8];

    (void)state;
    set_up(&f);
    memset(got, 0xff, sizeof(got));
    virtio_dev_read_config(&f.dev, 3, got, 8);
    assert_memory_equal(got, want, 8);
    memset(got, 0xff, sizeof(got));
    virtio_dev_read_config(&f.dev, UINT64_MAX, got, 8);
    assert_memory_equal(got, none, 8);
    tear_down(&f);
}

static void test_virtio_config_change_interrupts_only_a_running_driver(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    virtio_dev_config_changed(&f.dev);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_CONFIG], 0);
    assert_int_equal(f.config_changes, 1);
    assert_int_equal(f.dev.s.config_generation, 1);
    guest_start(&f.dev, f.driver, FEATURES);
    virtio_dev_config_changed(&f.dev);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_CONFIG], 1);
    assert_int_equal(f.dev.s.config_generation, 2);
    tear_down(&f);
}

/* ---- kicks and batches ---- */

static void test_virtio_kick_of_a_strange_or_unready_queue_is_ignored(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    virtio_dev_kick(&f.dev, 0); /* not active */
    virtio_dev_write_status(&f.dev, 1);
    virtio_dev_write_status(&f.dev, 3);
    virtio_dev_write_status(&f.dev, 11);
    guest_driver_set_up(&f.driver[0], virtio_dev_queue_setup(&f.dev, 0));
    virtio_dev_write_status(&f.dev, 15);
    virtio_dev_kick(&f.dev, 1); /* never made ready */
    virtio_dev_kick(&f.dev, 2);
    virtio_dev_kick(&f.dev, UINT32_MAX);
    assert_int_equal(f.kicks[0] + f.kicks[1], 0);
    virtio_dev_kick(&f.dev, 0);
    assert_int_equal(f.kicks[0], 1);
    tear_down(&f);
}

static void test_virtio_batch_publishes_both_queues_with_one_interrupt(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    for (unsigned q = 0; q < 2; q++)
        for (unsigned i = 0; i < 3; i++)
            add(&f, q);
    virtio_dev_kick(&f.dev, 0);
    virtio_dev_kick(&f.dev, 1);
    assert_int_equal(take_all_used(&f, 0), 0);

    fake_loop_settle(f.loop);

    assert_int_equal(take_all_used(&f, 0), 3);
    assert_int_equal(take_all_used(&f, 1), 3);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_USED], 1);
    tear_down(&f);
}

static void test_virtio_batch_without_a_wish_does_not_interrupt(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    guest_set_used_event(&f.driver[0], 5);
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    fake_loop_settle(f.loop);
    assert_int_equal(take_all_used(&f, 0), 1);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_USED], 0);
    tear_down(&f);
}

static void test_virtio_serve_does_its_share_and_goes_on_in_later_turns(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    for (unsigned i = 0; i < SIZE; i++)
        add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    assert_int_equal(f.kicks[0], 1);
    assert_int_equal(f.dev.queue[0].s.next_used, 4); /* its share */
    fake_loop_settle(f.loop);
    assert_int_equal(take_all_used(&f, 0), SIZE);
    assert_int_equal(guest_avail_event(&f.driver[0]), SIZE);
    tear_down(&f);
}

static void test_virtio_serve_ends_though_the_index_never_settles(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    f.flap = true;
    virtio_dev_kick(&f.dev, 0); /* returns */
    assert_true(f.dev.work.queued);
    f.flap = false;
    guest_set_avail_idx(&f.driver[0], 0);
    fake_loop_settle(f.loop);
    assert_int_equal(f.kicks[0], 2);
    tear_down(&f);
}

/* ---- mistakes ---- */

static void test_virtio_mistake_stops_the_device_and_tells_the_driver_once(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    add(&f, 0);
    guest_offer(&f.driver[0], SIZE); /* no such descriptor */
    virtio_dev_kick(&f.dev, 0);
    fake_loop_settle(f.loop);

    assert_int_equal(f.dev.s.status, 15 | VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_CONFIG], 1);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_USED], 0);
    assert_int_equal(f.event_fails, 1);
    assert_int_equal(take_all_used(&f, 0), 0);

    virtio_dev_needs_reset(&f.dev, "again");
    virtio_dev_kick(&f.dev, 1);
    assert_int_equal(f.kicks[1], 0);
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_CONFIG], 1);
    tear_down(&f);
}

/* Takes a chain of queue q and gives it back as one that nobody hurries for. */
static void return_held(struct fixture *f, unsigned q)
{
    struct vq_chain chain;
    struct iovec iov[SIZE];

    add(f, q);
    assert_true(virtio_dev_pop(&f->dev, q, &chain, iov, SIZE));
    virtio_dev_push_held(&f->dev, q, chain.head, 0);
}

static void test_virtio_held_entry_shares_the_interrupt_of_the_next(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up_started(&f);
    return_held(&f, 0);
    assert_true(virtio_dev_is_holding(&f.dev));
    fake_loop_end_turn(f.loop);
    assert_false(guest_take_used(&f.driver[0], &used));

    add(&f, 1);
    virtio_dev_kick(&f.dev, 1);
    assert_false(virtio_dev_is_holding(&f.dev));
    fake_loop_end_turn(f.loop);
    assert_true(guest_take_used(&f.driver[0], &used));
    assert_true(guest_take_used(&f.driver[1], &used));
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_USED], 1);
    tear_down(&f);
}

static void test_virtio_held_entry_is_shown_when_asked_and_by_a_pause(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up_started(&f);
    return_held(&f, 0);
    virtio_dev_publish(&f.dev);
    fake_loop_end_turn(f.loop);
    assert_true(guest_take_used(&f.driver[0], &used));
    guest_set_used_event(&f.driver[0], 1);
    return_held(&f, 0);
    virtio_dev_quiesce(&f.dev);
    fake_loop_end_turn(f.loop);
    assert_true(guest_take_used(&f.driver[0], &used));
    tear_down(&f);
}

static void test_virtio_entry_that_nobody_waits_for_is_not_held(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up_started(&f);
    guest_set_used_event(&f.driver[0], 100);
    return_held(&f, 0);
    assert_false(virtio_dev_is_holding(&f.dev));
    fake_loop_end_turn(f.loop);
    assert_true(guest_take_used(&f.driver[0], &used));
    assert_int_equal(f.interrupts[VIRTIO_INTERRUPT_USED], 0);
    tear_down(&f);
}

static void test_virtio_completions_after_a_mistake_are_not_published(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    f.keep = true;
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    virtio_dev_needs_reset(&f.dev, "a mistake");
    end(&f, 0);
    fake_loop_settle(f.loop);
    assert_int_equal(take_all_used(&f, 0), 0);
    assert_true(virtio_dev_is_idle(&f.dev));
    tear_down(&f);
}

/* ---- reset ---- */

static void test_virtio_reset_returns_to_the_first_state_and_works_again(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    fake_loop_settle(f.loop);
    assert_int_equal(take_all_used(&f, 0), 1);

    virtio_dev_write_status(&f.dev, 0);
    assert_int_equal(f.dev.s.status, 0);
    assert_int_equal(f.dev.s.features, 0);
    assert_int_equal(f.dev.queue[0].s.ready, 0);
    assert_int_equal(f.dev.queue[0].s.size, SIZE);
    assert_int_equal(f.resets, 1 + 1); /* guest_start began with one */
    assert_int_equal(f.forgotten, 1 + 1);
    virtio_dev_kick(&f.dev, 0);
    assert_int_equal(f.kicks[0], 1);

    guest_driver_init(&f.driver[0], &f.mem, 0x400000, SIZE);
    assert_int_equal(guest_start(&f.dev, f.driver, FEATURES), 15);
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    fake_loop_settle(f.loop);
    assert_int_equal(take_all_used(&f, 0), 1);
    tear_down(&f);
}

/* Stands for the loop thread, which goes on while a vCPU waits: first another vCPU meddles, then
 * the operation ends. */
static void meddle_then_end(struct loop *loop, void *arg)
{
    struct fixture *f = arg;

    fake_loop_on_wait(loop, NULL, NULL);
    virtio_dev_write_status(&f->dev, 15);
    virtio_dev_write_status(&f->dev, 15 | VIRTIO_STATUS_FAILED);
    virtio_dev_write_features(&f->dev, 0, 1);
    assert_null(virtio_dev_queue_setup(&f->dev, 0));
    virtio_dev_kick(&f->dev, 0);
    assert_int_equal(f->dev.s.status, 15);
    fake_loop_end_turn(loop); /* runs the quiesce */
    end(f, 0);
    fake_loop_end_turn(loop);
}

static void test_virtio_reset_by_a_vcpu_waits_for_what_is_in_flight(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    f.keep = true;
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    add(&f, 0);

    fake_loop_set_current(f.loop, false);
    fake_loop_on_wait(f.loop, meddle_then_end, &f);
    virtio_dev_write_status(&f.dev, 0);

    assert_int_equal(f.dev.s.status, 0);
    assert_int_equal(f.quiesces, 1);
    assert_int_equal(f.dev.in_flight, 0);
    assert_int_equal(f.taken, 1); /* the second chain was never taken */
    assert_int_equal(f.dev.holds, 0);
    tear_down(&f);
}

static void second_waits(struct loop *loop, void *arg)
{
    struct fixture *f = arg;

    /* the first vCPU goes on while the second waits */
    fake_loop_on_wait(loop, NULL, NULL);
    fake_loop_end_turn(loop);
    end(f, 0);
    f->dev.resetting = false;
}

static void test_virtio_second_reset_waits_for_the_first(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    f.keep = true;
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    f.dev.resetting = true;
    fake_loop_set_current(f.loop, false);
    fake_loop_on_wait(f.loop, second_waits, &f);

    virtio_dev_write_status(&f.dev, 0);

    assert_false(f.dev.resetting);
    assert_int_equal(f.resets, 1); /* only what guest_start did */
    tear_down(&f);
}

/* ---- quiesce ---- */

static void test_virtio_quiesced_device_starts_nothing_and_resume_kicks_ready_queues(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    virtio_dev_quiesce(&f.dev);
    virtio_dev_quiesce(&f.dev);
    assert_int_equal(f.quiesces, 1);
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    assert_int_equal(f.kicks[0], 0);
    assert_true(virtio_dev_is_idle(&f.dev));

    virtio_dev_resume(&f.dev);
    fake_loop_settle(f.loop);
    assert_int_equal(f.kicks[0], 0); /* held twice */
    virtio_dev_resume(&f.dev);
    assert_int_equal(f.resumes, 1);
    fake_loop_settle(f.loop);
    assert_int_equal(f.kicks[0], 1);
    assert_int_equal(f.kicks[1], 1);
    assert_int_equal(take_all_used(&f, 0), 1);

    virtio_dev_resume(&f.dev); /* one too many changes nothing */
    assert_int_equal(f.resumes, 1);
    tear_down(&f);
}

static void end_first(struct loop *loop, void *arg)
{
    fake_loop_on_wait(loop, NULL, NULL);
    end(arg, 0);
}

static void test_virtio_drain_on_the_loop_thread_waits_for_completions(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    f.keep = true;
    add(&f, 0);
    virtio_dev_kick(&f.dev, 0);
    virtio_dev_quiesce(&f.dev);
    assert_false(virtio_dev_is_idle(&f.dev));
    fake_loop_on_wait(f.loop, end_first, &f);
    virtio_dev_drain(&f.dev);
    assert_true(virtio_dev_is_idle(&f.dev));
    fake_loop_settle(f.loop);
    assert_int_equal(take_all_used(&f, 0), 1); /* a pause still delivers */
    tear_down(&f);
}

static void test_virtio_quiesce_by_another_thread_runs_on_the_loop(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    fake_loop_set_current(f.loop, false);
    virtio_dev_quiesce(&f.dev);
    assert_int_equal(f.quiesces, 0);
    assert_false(virtio_dev_is_idle(&f.dev));
    fake_loop_end_turn(f.loop);
    assert_int_equal(f.quiesces, 1);
    assert_true(virtio_dev_is_idle(&f.dev));
    tear_down(&f);
}

static void test_virtio_state_table_covers_its_struct(void **state)
{
    (void)state;
    assert_true(state_desc_tiles(&virtio_dev_state_desc));
}

/* ---- restore ---- */

/* Another device over the same memory and driver, with what a state file would have of the first.
 */
static void load_into_new_device(struct fixture *f)
{
    struct virtio_dev saved = f->dev;
    struct virtio_env env = {&f->mem, f->loop};

    virtio_dev_init(&f->dev, &ops, &env);
    virtio_dev_attach(&f->dev, &transport, f);
    f->dev.s = saved.s;
    for (unsigned q = 0; q < 2; q++)
        f->dev.queue[q].s = saved.queue[q].s;
    f->kicks[0] = f->kicks[1] = f->activations = f->activated = 0;
}

static void serve_one(struct fixture *f)
{
    add(f, 0);
    virtio_dev_kick(&f->dev, 0);
    fake_loop_end_turn(f->loop);
}

static void test_virtio_restored_device_is_held_and_then_goes_on_where_it_was(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    for (unsigned i = 0; i < 3; i++)
        serve_one(&f);
    assert_int_equal(take_all_used(&f, 0), 3);
    virtio_dev_quiesce(&f.dev);
    add(&f, 0); /* the driver's kick comes when nobody looks */

    load_into_new_device(&f);
    assert_int_equal(virtio_dev_restore(&f.dev, NULL), 0);
    assert_int_equal(f.activations, 1);
    assert_int_equal(f.activated, 1);
    virtio_dev_kick(&f.dev, 0);
    fake_loop_end_turn(f.loop);
    assert_int_equal(f.kicks[0], 0);
    assert_int_equal(take_all_used(&f, 0), 0);

    virtio_dev_resume(&f.dev);
    fake_loop_settle(f.loop);
    assert_int_equal(take_all_used(&f, 0), 1);
    serve_one(&f);
    assert_int_equal(take_all_used(&f, 0), 1);
    tear_down(&f);
}

static void test_virtio_restored_device_that_was_never_started_waits_for_its_driver(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    load_into_new_device(&f);
    assert_int_equal(virtio_dev_restore(&f.dev, NULL), 0);
    assert_int_equal(f.activations, 0);
    virtio_dev_resume(&f.dev);

    assert_int_equal(guest_start(&f.dev, f.driver, FEATURES), 15);
    serve_one(&f);
    assert_int_equal(take_all_used(&f, 0), 1);
    tear_down(&f);
}

static void test_virtio_restored_device_that_was_broken_needs_its_reset(void **state)
{
    struct fixture f;

    (void)state;
    set_up_started(&f);
    virtio_dev_needs_reset(&f.dev, "a test");
    virtio_dev_quiesce(&f.dev);

    load_into_new_device(&f);
    assert_int_equal(virtio_dev_restore(&f.dev, NULL), 0);
    virtio_dev_resume(&f.dev);
    serve_one(&f);
    fake_loop_settle(f.loop);
    assert_int_equal(f.kicks[0], 0);

    virtio_dev_write_status(&f.dev, 0);
    guest_driver_init(&f.driver[0], &f.mem, 0x1000, SIZE);
    guest_driver_init(&f.driver[1], &f.mem, 0x200000, SIZE);
    memset(f.mem.region[0].hva + 0x1000, 0, 0x4000);
    assert_int_equal(guest_start(&f.dev, f.driver, FEATURES), 15);
    serve_one(&f);
    assert_int_equal(take_all_used(&f, 0), 1);
    tear_down(&f);
}

static void expect_no_restore(void (*change)(struct virtio_dev *dev), const char *why)
{
    struct fixture f;
    struct err e = {0};

    set_up_started(&f);
    virtio_dev_quiesce(&f.dev);
    load_into_new_device(&f);
    change(&f.dev);
    assert_int_equal(virtio_dev_restore(&f.dev, &e), -EINVAL);
    if (!strstr(e.text, why))
        fail_msg("\"%s\" does not say \"%s\"", e.text, why);
    tear_down(&f);
}

static void use_unknown_feature(struct virtio_dev *dev)
{
    dev->s.features |= UINT64_C(1) << 40;
}

static void use_unknown_status(struct virtio_dev *dev)
{
    dev->s.status |= 16;
}

static void skip_features_ok(struct virtio_dev *dev)
{
    dev->s.status &= ~VIRTIO_STATUS_FEATURES_OK;
}

static void move_ring_out_of_ram(struct virtio_dev *dev)
{
    dev->queue[1].s.used = RAM;
}

static void be_longer(struct virtio_dev *dev)
{
    dev->queue[0].s.size_max *= 2;
}

static void fail_activation(struct virtio_dev *dev)
{
    of(dev)->activate_result = -EIO;
}

static void test_virtio_restore_of_what_no_device_can_be_is_refused(void **state)
{
    (void)state;
    expect_no_restore(use_unknown_feature, "features that the device does not have here");
    expect_no_restore(use_unknown_status, "its status");
    expect_no_restore(skip_features_ok, "its status");
    expect_no_restore(move_ring_out_of_ram, "ring");
    expect_no_restore(be_longer, "a queue of it");
    expect_no_restore(fail_activation, "failed on the host");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_status_steps_are_taken_only_in_order),
        cmocka_unit_test(test_virtio_features_not_offered_are_refused_at_features_ok),
        cmocka_unit_test(test_virtio_features_are_written_only_in_the_driver_step),
        cmocka_unit_test(test_virtio_queues_are_set_up_only_between_features_ok_and_driver_ok),
        cmocka_unit_test(test_virtio_driver_ok_activates_once),
        cmocka_unit_test(test_virtio_activation_with_a_bad_queue_needs_reset),
        cmocka_unit_test(test_virtio_activation_failed_by_the_device_needs_reset),
        cmocka_unit_test(test_virtio_failed_stops_the_device_until_reset),
        cmocka_unit_test(test_virtio_config_reads_zeros_past_its_end),
        cmocka_unit_test(test_virtio_config_change_interrupts_only_a_running_driver),
        cmocka_unit_test(test_virtio_kick_of_a_strange_or_unready_queue_is_ignored),
        cmocka_unit_test(test_virtio_batch_publishes_both_queues_with_one_interrupt),
        cmocka_unit_test(test_virtio_batch_without_a_wish_does_not_interrupt),
        cmocka_unit_test(test_virtio_serve_does_its_share_and_goes_on_in_later_turns),
        cmocka_unit_test(test_virtio_serve_ends_though_the_index_never_settles),
        cmocka_unit_test(test_virtio_mistake_stops_the_device_and_tells_the_driver_once),
        cmocka_unit_test(test_virtio_held_entry_shares_the_interrupt_of_the_next),
        cmocka_unit_test(test_virtio_held_entry_is_shown_when_asked_and_by_a_pause),
        cmocka_unit_test(test_virtio_entry_that_nobody_waits_for_is_not_held),
        cmocka_unit_test(test_virtio_completions_after_a_mistake_are_not_published),
        cmocka_unit_test(test_virtio_reset_returns_to_the_first_state_and_works_again),
        cmocka_unit_test(test_virtio_reset_by_a_vcpu_waits_for_what_is_in_flight),
        cmocka_unit_test(test_virtio_second_reset_waits_for_the_first),
        cmocka_unit_test(test_virtio_quiesced_device_starts_nothing_and_resume_kicks_ready_queues),
        cmocka_unit_test(test_virtio_drain_on_the_loop_thread_waits_for_completions),
        cmocka_unit_test(test_virtio_quiesce_by_another_thread_runs_on_the_loop),
        cmocka_unit_test(test_virtio_state_table_covers_its_struct),
        cmocka_unit_test(test_virtio_restored_device_is_held_and_then_goes_on_where_it_was),
        cmocka_unit_test(test_virtio_restored_device_that_was_never_started_waits_for_its_driver),
        cmocka_unit_test(test_virtio_restored_device_that_was_broken_needs_its_reset),
        cmocka_unit_test(test_virtio_restore_of_what_no_device_can_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
