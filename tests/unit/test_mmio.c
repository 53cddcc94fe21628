/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/mmio.c through the bus, as a guest sees it, with the entropy device behind it. */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/support/irq_probe.h"
#include "tests/unit/unit.h"
#include "virtio/mmio.h"
#include "virtio/rng.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>

#define RAM  (4 * MIB)
#define BASE UINT64_C(0xc0001000)
#define SIZE 16

struct fixture {
    struct mem mem;
    struct loop *loop;
    struct bus bus;
    struct irq_probe irq;
    struct rng *rng;
    struct virtio_dev *dev;
    struct virtio_mmio *mmio;
    struct guest_driver driver;
    struct virtio_env env;
    /* what the ioeventfd hook was asked for */
    unsigned ioeventfds;
    uint64_t ioeventfd_addr;
    uint32_t ioeventfd_value;
    int ioeventfd_result;
    /* what the other hooks were asked for */
    uint64_t posted_addr;
    uint32_t posted_ack; /* written by the guest, not yet seen by the transport */
    unsigned flushes;
    int call_fd; /* of the irqfd hook; -1 = it was not asked */
    uint32_t call_gsi;
    int irqfd_result;
    _Alignas(4096) uint8_t page[VIRTIO_MMIO_WINDOW]; /* what the guest reads */
};

static int ioeventfd(void *owner, int fd, gpa_t addr, uint32_t value, bool assign, struct err *e)
{
    struct fixture *f = owner;

    assert_true(fd >= 0);
    assert_true(assign);
    f->ioeventfds++;
    f->ioeventfd_addr = addr.v;
    f->ioeventfd_value = value;
    return f->ioeventfd_result ? err_set(e, f->ioeventfd_result, "refused") : 0;
}

static int irqfd(void *owner, int fd, uint32_t gsi, struct err *e)
{
    struct fixture *f = owner;

    f->call_fd = fd;
    f->call_gsi = gsi;
    return f->irqfd_result ? err_set(e, f->irqfd_result, "refused") : 0;
}

static int post_writes(void *owner, gpa_t addr, struct err *e)
{
    struct fixture *f = owner;

    (void)e;
    f->posted_addr = addr.v;
    return 0;
}

static void flush_posted(void *owner)
{
    struct fixture *f = owner;
    uint32_t ack = f->posted_ack;

    f->flushes++;
    f->posted_ack = 0;
    if (ack)
        assert_true(bus_write(&f->bus, f->posted_addr, &ack, sizeof(ack)));
}

static void set_up_parts(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    memset(&metrics, 0, sizeof(metrics));
    log_set_options(&(struct log_options){.level = LOG_OFF});
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    f->env = (struct virtio_env){&f->mem, f->loop};
    f->call_fd = -1;
    irq_probe_init(&f->irq, 5);
    assert_int_equal(rng_create(&f->rng, &f->env, &(struct rng_config){0}, NULL), 0);
    f->dev = rng_dev(f->rng);
    guest_driver_init(&f->driver, &f->mem, 0x1000, SIZE);
}

static int create(struct fixture *f, struct err *e)
{
    struct virtio_mmio_place place = {
        .base = GPA(BASE),
        .line = &f->irq.line,
        .page = f->page,
        .ioeventfd = ioeventfd,
        .irqfd = irqfd,
        .post_writes = post_writes,
        .flush_posted = flush_posted,
        .owner = f,
    };

    return virtio_mmio_create(&f->mmio, &f->env, f->dev, &place, &f->bus, e);
}

static void set_up(struct fixture *f)
{
    set_up_parts(f);
    assert_int_equal(create(f, NULL), 0);
}

static void tear_down(struct fixture *f)
{
    virtio_mmio_destroy(f->mmio);
    virtio_dev_destroy(f->dev);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
}

static uint32_t read32(struct fixture *f, uint64_t offset)
{
    uint32_t value, shown;

    assert_true(bus_read(&f->bus, BASE + offset, &value, sizeof(value)));
    memcpy(&shown, f->page + offset, sizeof(shown));
    assert_int_equal(shown,
                     value); /* whatever a test reads, the guest reads the same in its page */
    return value;
}

static void write32(struct fixture *f, uint64_t offset, uint32_t value)
{
    assert_true(bus_write(&f->bus, BASE + offset, &value, sizeof(value)));
}

static void start(struct fixture *f)
{
    struct virtqueue_state queue = {0};

    guest_driver_set_up(&f->driver, &queue);
    write32(f, 0x70, 0);
    write32(f, 0x70, 1);
    write32(f, 0x70, 3);
    for (uint32_t word = 0; word < 2; word++) {
        write32(f, 0x14, word);
        write32(f, 0x24, word);
        write32(f, 0x20, read32(f, 0x10));
    }
    write32(f, 0x70, 11);
    write32(f, 0x30, 0);
    write32(f, 0x38, queue.size);
    write32(f, 0x80, (uint32_t)queue.desc);
    write32(f, 0x84, (uint32_t)(queue.desc >> 32));
    write32(f, 0x90, (uint32_t)queue.avail);
    write32(f, 0x94, (uint32_t)(queue.avail >> 32));
    write32(f, 0xa0, (uint32_t)queue.used);
    write32(f, 0xa4, (uint32_t)(queue.used >> 32));
    write32(f, 0x44, 1);
    write32(f, 0x70, 15);
    assert_int_equal(read32(f, 0x70), 15);
}

static void add(struct fixture *f)
{
    struct guest_buffer buffer = {guest_alloc(&f->driver, 16), 16, true};

    guest_add(&f->driver, &buffer, 1);
}

/* Edges raised since the last look. */
static uint64_t edges(struct fixture *f)
{
    return irq_probe_take(&f->irq);
}

/* ---- registers ---- */

static void test_mmio_identifies_itself(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(read32(&f, 0x00), 0x74726976);
    assert_int_equal(read32(&f, 0x04), 2);
    assert_int_equal(read32(&f, 0x08), 4);
    assert_int_equal(read32(&f, 0x0c), 0);
    assert_int_equal(read32(&f, 0x34), 256);
    assert_int_equal(read32(&f, 0x44), 0);
    assert_int_equal(read32(&f, 0x70), 0);
    assert_int_equal(read32(&f, 0xfc), 0);
    tear_down(&f);
}

static void test_mmio_offers_features_in_two_words(void **state)
{
    static const uint32_t want[] = {(1u << 28) | (1u << 29), 1, 0, 0};
    struct fixture f;

    (void)state;
    set_up(&f);
    for (uint32_t word = 0; word < ARRAY_SIZE(want); word++) {
        write32(&f, 0x14, word);
        assert_int_equal(read32(&f, 0x10), want[word]);
    }
    write32(&f, 0x14, UINT32_MAX);
    assert_int_equal(read32(&f, 0x10), 0);
    tear_down(&f);
}

static void test_mmio_has_no_shared_memory(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    for (uint64_t offset = 0xb0; offset <= 0xbc; offset += 4)
        assert_int_equal(read32(&f, offset), UINT32_MAX);
    tear_down(&f);
}

static void test_mmio_queue_that_does_not_exist_reads_as_zero(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    write32(&f, 0x70, 1);
    write32(&f, 0x70, 3);
    write32(&f, 0x70, 11);
    write32(&f, 0x30, 1);
    assert_int_equal(read32(&f, 0x34), 0);
    write32(&f, 0x44, 1);
    assert_int_equal(read32(&f, 0x44), 0);
    write32(&f, 0x30, UINT32_MAX);
    write32(&f, 0x38, 16);
    assert_int_equal(read32(&f, 0x44), 0);
    tear_down(&f);
}

static void test_mmio_queue_registers_reach_the_queue(void **state)
{
    struct fixture f;
    const struct virtqueue_state *s;

    (void)state;
    set_up(&f);
    s = &f.dev->queue[0].s;
    write32(&f, 0x38, 8); /* too early: ignored */
    assert_int_equal(s->size, 256);
    write32(&f, 0x70, 1);
    write32(&f, 0x70, 3);
    write32(&f, 0x70, 11);
    write32(&f, 0x38, 8);
    write32(&f, 0x84, 1);
    write32(&f, 0x80, 2);
    write32(&f, 0x90, 4);
    write32(&f, 0x94, 3);
    write32(&f, 0xa0, 6);
    write32(&f, 0xa4, 5);
    write32(&f, 0x44, 1);
    assert_int_equal(s->size, 8);
    assert_int_equal(s->desc, 0x100000002);
    assert_int_equal(s->avail, 0x300000004);
    assert_int_equal(s->used, 0x500000006);
    assert_int_equal(read32(&f, 0x44), 1);
    write32(&f, 0x38, 0x10008); /* must not come out as 8 */
    assert_int_equal(s->size, 0);
    write32(&f, 0x44, 2);
    assert_int_equal(read32(&f, 0x44), 0);
    tear_down(&f);
}

static void test_mmio_odd_accesses_change_nothing_and_read_zero(void **state)
{
    struct fixture f;
    uint8_t data[8];

    (void)state;
    set_up(&f);
    for (uint64_t offset = 0; offset < 0x100; offset++)
        for (unsigned len = 1; len <= 8; len *= 2) {
            static const uint8_t none[8];

            if (len == 4 && offset % 4 == 0)
                continue;
            memset(data, 0xff, sizeof(data));
            assert_true(bus_write(&f.bus, BASE + offset, data, len));
            assert_true(bus_read(&f.bus, BASE + offset, data, len));
            assert_memory_equal(data, none, len);
        }
    assert_int_equal(read32(&f, 0x70), 0);
    assert_int_equal(f.dev->s.features, 0);
    tear_down(&f);
}

static void test_mmio_writes_to_configuration_are_ignored(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    write32(&f, 0x100, 0xffffffff);
    write32(&f, 0xffc, 0xffffffff);
    assert_int_equal(read32(&f, 0x100), 0);
    assert_int_equal(read32(&f, 0xffc), 0);
    tear_down(&f);
}

/* ---- kicks ---- */

static void test_mmio_connects_each_queue_at_creation_and_polls_from_activation(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(f.ioeventfds, 1);
    assert_int_equal(f.ioeventfd_addr, BASE + 0x50);
    assert_int_equal(f.ioeventfd_value, 0);
    fake_loop_settle(f.loop);
    assert_int_equal(fake_loop_count(f.loop), 0);

    start(&f);
    fake_loop_settle(f.loop);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_POLL), 1);
    assert_true(fake_loop_find(f.loop, FAKE_POLL)->multishot);

    start(&f); /* over a reset: still the one poll */
    fake_loop_settle(f.loop);
    assert_int_equal(fake_loop_count(f.loop), 1);
    tear_down(&f);
}

static void test_mmio_poll_kicks_the_device_and_is_rearmed_when_it_ends(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up(&f);
    start(&f);
    fake_loop_settle(f.loop);
    for (int more = 1; more >= 0; more--) {
        add(&f);
        fake_loop_complete(f.loop, 0, 1, more);
        fake_loop_settle(f.loop);
        assert_true(guest_take_used(&f.driver, &used));
        assert_int_equal(fake_loop_count_verb(f.loop, FAKE_POLL), 1);
    }
    fake_loop_complete(f.loop, 0, -ECANCELED, false);
    assert_int_equal(fake_loop_count(f.loop), 0);
    tear_down(&f);
}

static void test_mmio_notify_through_the_bus_kicks_on_the_loop_thread(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up(&f);
    start(&f);
    add(&f);
    write32(&f, 0x50, 7); /* no such queue */
    fake_loop_settle(f.loop);
    assert_false(guest_take_used(&f.driver, &used));

    fake_loop_set_current(f.loop, false); /* a vCPU */
    write32(&f, 0x50, 0);
    assert_false(guest_take_used(&f.driver, &used));
    fake_loop_set_current(f.loop, true);
    fake_loop_settle(f.loop);
    assert_true(guest_take_used(&f.driver, &used));
    tear_down(&f);
}

/* ---- interrupts ---- */

static void test_mmio_interrupt_status_says_why_until_acknowledged(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    start(&f);
    add(&f);
    write32(&f, 0x50, 0);
    fake_loop_settle(f.loop);
    assert_int_equal(edges(&f), 1);
    assert_int_equal(read32(&f, 0x60), 1);

    virtio_dev_config_changed(f.dev);
    assert_int_equal(edges(&f), 1);
    assert_int_equal(read32(&f, 0x60), 3);
    assert_int_equal(read32(&f, 0xfc), 1);
    assert_int_equal(metrics.interrupts.config_updates, 1);

    write32(&f, 0x64, 1);
    assert_int_equal(read32(&f, 0x60), 2);
    write32(&f, 0x64, 0xffffffff);
    assert_int_equal(read32(&f, 0x60), 0);
    tear_down(&f);
}

static void test_mmio_page_shows_a_configuration_changed_before_there_is_a_driver(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    virtio_dev_config_changed(f.dev);
    assert_int_equal(read32(&f, 0xfc), 1);
    assert_int_equal(edges(&f), 0);
    tear_down(&f);
}

static void test_mmio_reset_clears_its_registers(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    start(&f);
    virtio_dev_config_changed(f.dev);
    write32(&f, 0x30, 5);
    write32(&f, 0x70, 0);
    assert_int_equal(read32(&f, 0x70), 0);
    assert_int_equal(read32(&f, 0x60), 0);
    assert_int_equal(read32(&f, 0x34), 256); /* queue 0 is selected again */
    tear_down(&f);
}

static void test_mmio_driver_can_unbind_and_bind_again(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up(&f);
    for (int i = 0; i < 3; i++) {
        start(&f);
        add(&f);
        write32(&f, 0x50, 0);
        fake_loop_settle(f.loop);
        assert_true(guest_take_used(&f.driver, &used));
        write32(&f, 0x70, 0);
        guest_driver_init(&f.driver, &f.mem, 0x100000 * (uint64_t)(i % 2), SIZE);
        memset(f.mem.region[0].hva, 0, RAM);
    }
    tear_down(&f);
}

/* ---- creation ---- */

static void test_mmio_create_fails_cleanly_when_the_ioeventfd_is_refused(void **state)
{
    struct fixture f;
    struct err e = {0};

    (void)state;
    set_up_parts(&f);
    f.ioeventfd_result = -ENOSPC;
    assert_int_equal(create(&f, &e), -ENOSPC);
    assert_string_equal(e.text, "refused");
    assert_int_equal(f.bus.count, 0);

    f.ioeventfd_result = 0; /* and may be tried again */
    assert_int_equal(create(&f, &e), 0);
    tear_down(&f);
}

static void test_mmio_create_fails_cleanly_when_the_window_is_taken(void **state)
{
    struct fixture f;
    struct err e = {0};

    (void)state;
    set_up_parts(&f);
    assert_int_equal(
        bus_add(&f.bus, &(struct bus_range){.name = "other", .base = BASE + 8, .len = 8}, NULL), 0);
    assert_int_equal(create(&f, &e), -EEXIST);
    assert_null(f.dev->transport);
    tear_down(&f);
}

static void test_mmio_posted_acknowledgement_does_not_take_a_later_interrupt_away(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    start(&f);
    assert_int_equal(f.posted_addr, BASE + 0x64);
    f.dev->transport->interrupt(f.mmio, VIRTIO_INTERRUPT_USED);
    assert_int_equal(read32(&f, 0x60), 1);

    f.posted_ack = 1; /* the guest acknowledges; then something else happens */
    f.dev->transport->interrupt(f.mmio, VIRTIO_INTERRUPT_USED);

    assert_true(f.flushes >= 2);
    assert_int_equal(f.posted_ack, 0);
    assert_int_equal(read32(&f, 0x60), 1);
    assert_int_equal(edges(&f), 2);
    tear_down(&f);
}

static void test_mmio_page_shows_the_need_of_a_reset(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    start(&f);

    virtio_dev_needs_reset(f.dev, "for a test");

    assert_int_equal(read32(&f, 0x70), 15 | 64);
    assert_int_equal(read32(&f, 0x60), 2);
    tear_down(&f);
}

/* ---- devices that another process serves ---- */

/* The entropy device, as if another process served it. */
static void set_up_elsewhere(struct fixture *f)
{
    static struct virtio_dev_ops ops;

    set_up_parts(f);
    ops = *f->dev->ops;
    ops.served_elsewhere = true;
    f->dev->ops = &ops;
}

static void test_mmio_device_served_elsewhere_gets_the_eventfds_and_is_not_polled(void **state)
{
    struct fixture f;

    (void)state;
    set_up_elsewhere(&f);
    assert_int_equal(create(&f, NULL), 0);
    assert_true(f.dev->kick_fd[0] >= 0);
    assert_true(f.dev->call_fd >= 0);
    assert_int_equal(f.dev->call_fd, f.call_fd);
    assert_int_equal(f.call_gsi, 5);
    guest_start(f.dev, &f.driver, virtio_dev_features(f.dev));
    fake_loop_settle(f.loop);
    assert_int_equal(fake_loop_count_verb(f.loop, FAKE_POLL), 0);
    virtio_mmio_destroy(f.mmio);
    f.mmio = NULL;
    assert_int_equal(f.dev->kick_fd[0], -1);
    assert_int_equal(f.dev->call_fd, -1);
    tear_down(&f);
}

/* Its interrupts do not come through us, so the register cannot but always say "perhaps". */
static void test_mmio_device_served_elsewhere_always_shows_used_buffers(void **state)
{
    struct fixture f;

    (void)state;
    set_up_elsewhere(&f);
    assert_int_equal(create(&f, NULL), 0);
    assert_int_equal(read32(&f, 0x060), 0);
    guest_start(f.dev, &f.driver, virtio_dev_features(f.dev));
    write32(&f, 0x034, 0); /* any write shows the registers anew */
    assert_int_equal(read32(&f, 0x060), 1);
    write32(&f, 0x064, 1);
    assert_int_equal(read32(&f, 0x060), 1);
    virtio_dev_config_changed(f.dev);
    assert_int_equal(read32(&f, 0x060), 3);
    write32(&f, 0x064, 3);
    assert_int_equal(read32(&f, 0x060), 1);
    write32(&f, 0x070, 0);
    assert_int_equal(read32(&f, 0x060), 0);
    tear_down(&f);
}

static void test_mmio_create_fails_cleanly_when_the_irqfd_is_refused(void **state)
{
    struct fixture f;
    struct err e = {0};

    (void)state;
    set_up_elsewhere(&f);
    f.irqfd_result = -EINVAL;
    assert_int_equal(create(&f, &e), -EINVAL);
    assert_string_equal(e.text, "refused");
    assert_int_equal(f.dev->call_fd, -1);
    tear_down(&f);
}

static void test_mmio_other_devices_have_no_irqfd(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(f.call_fd, -1);
    assert_int_equal(f.dev->call_fd, -1);
    tear_down(&f);
}

static void test_mmio_state_table_covers_its_struct(void **state)
{
    (void)state;
    assert_true(state_desc_tiles(&virtio_mmio_state_desc));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmio_identifies_itself),
        cmocka_unit_test(test_mmio_offers_features_in_two_words),
        cmocka_unit_test(test_mmio_has_no_shared_memory),
        cmocka_unit_test(test_mmio_queue_that_does_not_exist_reads_as_zero),
        cmocka_unit_test(test_mmio_queue_registers_reach_the_queue),
        cmocka_unit_test(test_mmio_odd_accesses_change_nothing_and_read_zero),
        cmocka_unit_test(test_mmio_writes_to_configuration_are_ignored),
        cmocka_unit_test(test_mmio_connects_each_queue_at_creation_and_polls_from_activation),
        cmocka_unit_test(test_mmio_poll_kicks_the_device_and_is_rearmed_when_it_ends),
        cmocka_unit_test(test_mmio_notify_through_the_bus_kicks_on_the_loop_thread),
        cmocka_unit_test(test_mmio_interrupt_status_says_why_until_acknowledged),
        cmocka_unit_test(test_mmio_page_shows_a_configuration_changed_before_there_is_a_driver),
        cmocka_unit_test(test_mmio_reset_clears_its_registers),
        cmocka_unit_test(test_mmio_driver_can_unbind_and_bind_again),
        cmocka_unit_test(test_mmio_create_fails_cleanly_when_the_ioeventfd_is_refused),
        cmocka_unit_test(test_mmio_create_fails_cleanly_when_the_window_is_taken),
        cmocka_unit_test(test_mmio_posted_acknowledgement_does_not_take_a_later_interrupt_away),
        cmocka_unit_test(test_mmio_page_shows_the_need_of_a_reset),
        cmocka_unit_test(test_mmio_device_served_elsewhere_gets_the_eventfds_and_is_not_polled),
        cmocka_unit_test(test_mmio_device_served_elsewhere_always_shows_used_buffers),
        cmocka_unit_test(test_mmio_create_fails_cleanly_when_the_irqfd_is_refused),
        cmocka_unit_test(test_mmio_other_devices_have_no_irqfd),
        cmocka_unit_test(test_mmio_state_table_covers_its_struct),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
