/* SPDX-License-Identifier: Apache-2.0 */
/* balloon_fixture.c: see balloon_fixture.h. */
#include "tests/unit/balloon_fixture.h"

#include "tests/support/fake_loop.h"
#include "tests/unit/unit.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <string.h>

static void on_interrupt(void *owner, enum virtio_interrupt why)
{
    struct balloon_fixture *f = owner;

    f->config_interrupts += why == VIRTIO_INTERRUPT_CONFIG;
}

static void on_event(void *owner)
{
    (void)owner;
}

static const struct virtio_transport_ops transport = {on_interrupt, on_event, on_event, on_event};

void balloon_start(struct balloon_fixture *f, uint64_t features)
{
    memset(mem_writable(&f->mem, GPA(0), HEAP), 0, HEAP);
    for (unsigned q = 0; q < QUEUES; q++)
        guest_driver_init(&f->driver[q], &f->mem, PAGE_SIZE + q * (HEAP / QUEUES & ~0xfffull),
                          QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, f->driver, features), 15);
    fake_loop_settle(f->loop);
}

void balloon_set_up(struct balloon_fixture *f, const struct balloon_config *config)
{
    struct virtio_env env = {.mem = &f->mem};

    log_set_options(&(struct log_options){.level = LOG_OFF});
    memset(&metrics, 0, sizeof(metrics));
    memset(f, 0, sizeof(*f));
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    env.loop = f->loop;
    assert_int_equal(balloon_create(&f->balloon, &env, config, NULL), 0);
    f->dev = balloon_dev(f->balloon);
    virtio_dev_attach(f->dev, &transport, f);
    balloon_start(f, virtio_dev_features(f->dev) & ~F_TELL);
    f->config_interrupts = 0;
}

void balloon_tear_down(struct balloon_fixture *f)
{
    virtio_dev_write_status(f->dev, 0);
    virtio_dev_destroy(f->dev);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
}

void balloon_kick(struct balloon_fixture *f, unsigned q)
{
    virtio_dev_kick(f->dev, q);
    fake_loop_settle(f->loop);
}

void balloon_fill(struct balloon_fixture *f, uint64_t gpa, uint64_t len)
{
    void *at = mem_writable(&f->mem, GPA(gpa), len);

    assert_non_null(at);
    memset(at, 1, len);
}

bool balloon_is_empty(struct balloon_fixture *f, uint64_t gpa, uint64_t len)
{
    const uint8_t *byte = mem_readable(&f->mem, GPA(gpa), len);

    assert_non_null(byte);
    while (len-- > 0)
        if (*byte++)
            return false;
    return true;
}

uint16_t balloon_send_pages(struct balloon_fixture *f, unsigned q, const uint32_t *page,
                            unsigned count)
{
    uint32_t len = count * (uint32_t)sizeof(*page);
    struct guest_buffer buffer = {guest_alloc(&f->driver[q], len), len, false};

    guest_write(&f->driver[q], buffer.gpa, page, len);
    return guest_add(&f->driver[q], &buffer, 1);
}

void balloon_expect_used(struct balloon_fixture *f, unsigned q, uint16_t head)
{
    struct virtq_used_elem used;

    assert_true(guest_take_used(&f->driver[q], &used));
    assert_int_equal(used.id, head);
    assert_int_equal(used.len, 0);
}

void balloon_expect_none(struct balloon_fixture *f, unsigned q)
{
    struct virtq_used_elem used;

    assert_false(guest_take_used(&f->driver[q], &used));
}

uint32_t balloon_read_space(struct balloon_fixture *f, unsigned word)
{
    uint32_t value;

    virtio_dev_read_config(f->dev, word * sizeof(value), &value, sizeof(value));
    return value;
}
