/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of virtio/blk.c and its file over a fake loop and a queue in guest memory. The file is a
 * memfd: it refuses RWF_NOWAIT, so reads of it go through the ring unless they are in memory.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/blk.h"
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
#define QUEUE_SIZE   256
#define RING         (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)
#define F_SEG_MAX    (UINT64_C(1) << 2)
#define F_RO         (UINT64_C(1) << 5)
#define F_FLUSH      (UINT64_C(1) << 9)
#define F_DISCARD    (UINT64_C(1) << 13)
#define F_ZEROES     (UINT64_C(1) << 14)
#define DISK         (1 * MIB)
#define DISK_SECTORS (DISK / 512)

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

static const struct virtio_transport_ops transport = {interrupt, nothing, nothing};

/* A file of `size` bytes, each the low byte of its sector's number plus one. */
static void make_disk(struct fixture *f, uint64_t size)
{
    uint8_t sector[512];

    f->fd = memfd_create("disk", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
    for (uint64_t i = 0; i < size / sizeof(sector); i++) {
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

/* ---- reading and writing ---- */

static void test_blk_read_gives_the_bytes_of_the_file(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up(&f);

    request = add(&f, IN, 7, 1024);
    kick(&f);
    fake_loop_settle(f.loop);

    expect_used(&f, &request, 1025);
    assert_int_equal(status_of(&f, &request), OK);
    assert_int_equal(byte_at(&f, request.data), 8);
    assert_int_equal(byte_at(&f, request.data + 1023), 9);
    assert_int_equal(blk_metrics(f.blk)->read_count, 1);
    assert_int_equal(blk_metrics(f.blk)->read_bytes, 1024);
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
        assert_int_equal(pread(f.fd, back, sizeof(back), 16 * 512), sizeof(back));
        assert_memory_equal(back, data, sizeof(back));
        assert_int_equal(blk_metrics(f.blk)->write_bytes, sizeof(data));
        tear_down(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blk_read_gives_the_bytes_of_the_file),
        cmocka_unit_test(test_blk_write_reaches_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
