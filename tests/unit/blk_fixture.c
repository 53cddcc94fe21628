/* SPDX-License-Identifier: Apache-2.0 */
/* blk_fixture.c: see blk_fixture.h. */
#include "tests/unit/blk_fixture.h"

#include "tests/unit/unit.h"
#include "vmm/base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

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

void make_disk(struct fixture *f, uint64_t size)
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

void set_up_empty(struct fixture *f)
{
    *f = (struct fixture){0};
    log_set_options(&(struct log_options){.level = LOG_OFF});
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    make_disk(f, DISK);
}

void start_drive(struct fixture *f, struct blk_config config)
{
    static char id[] = "root";
    struct virtio_env env = {.mem = &f->mem, .loop = f->loop};
    struct err e = {0};

    config.id = id;
    config.path = f->path;
    assert_int_equal(blk_create(&f->blk, &env, &config, &e), 0);
    f->dev = blk_dev(f->blk);
    virtio_dev_attach(f->dev, &transport, f);
    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, virtio_dev_features(f->dev)), 15);
}

void set_up_drive(struct fixture *f, struct blk_config config)
{
    set_up_empty(f);
    start_drive(f, config);
}

void set_up(struct fixture *f)
{
    set_up_drive(f, (struct blk_config){.engine = BLK_ENGINE_ASYNC});
}

void tear_down(struct fixture *f)
{
    if (f->dev)
        virtio_dev_destroy(f->dev);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
    close(f->fd);
}

struct guest_request prepare(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len)
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
struct guest_request add(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len)
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

uint8_t status_of(const struct fixture *f, const struct guest_request *request)
{
    uint8_t status;

    guest_read(&f->driver, request->status, &status, 1);
    return status;
}

void kick(struct fixture *f)
{
    virtio_dev_kick(f->dev, 0);
}

void expect_used(struct fixture *f, const struct guest_request *request, uint32_t len)
{
    struct virtq_used_elem used;

    assert_true(guest_take_used(&f->driver, &used));
    assert_int_equal(used.id, request->head);
    assert_int_equal(used.len, len);
}

uint8_t byte_at(const struct fixture *f, uint64_t gpa)
{
    uint8_t byte;

    guest_read(&f->driver, gpa, &byte, 1);
    return byte;
}

/* The oldest operation in the ring. */
const struct fake_op *ring(const struct fixture *f)
{
    return fake_loop_op(f->loop, 0);
}

void complete(struct fixture *f, unsigned index, int res)
{
    fake_loop_complete(f->loop, index, res, false);
    fake_loop_end_turn(f->loop);
}

/* Serves one request and expects its status. */
void expect_status(struct fixture *f, const struct guest_request *request, uint8_t want)
{
    struct virtq_used_elem used;

    kick(f);
    fake_loop_settle(f->loop);
    assert_true(guest_take_used(&f->driver, &used));
    assert_int_equal(used.id, request->head);
    assert_int_equal(status_of(f, request), want);
}
