/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of memory that can be plugged, over a fake loop, on real mappings of the host. */
#include "tests/support/fake_loop.h"
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/memory/hotplug.h"
#include "vmm/base/late_write.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#define RAM        (4 * MIB)
#define QUEUE_SIZE 64
#define FEATURES                                                                                   \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | F_UNPLUGGED_INACCESSIBLE)
#define F_UNPLUGGED_INACCESSIBLE (UINT64_C(1) << 1)
#define BLOCK                    (2 * MIB)

enum { PLUG = 0, UNPLUG = 1, UNPLUG_ALL = 2, STATE = 3 };
enum { ACK = 0, NACK = 1, BUSY = 2, ERROR = 3 };
enum { PLUGGED = 0, UNPLUGGED = 1, MIXED = 2 };

struct config_space {
    uint64_t block_size, node, addr, region_size, usable, plugged, requested;
};

struct response {
    uint16_t type, padding[3];
    uint16_t state;
};

struct fixture {
    struct mem mem;
    struct loop *loop;
    struct hotplug *hotplug;
    struct virtio_dev *dev;
    struct guest_driver driver;
    uint64_t start; /* GPA of the region */
    unsigned config_interrupts, config_changes;
};

static const struct hotplug_config usual = {
    .total_size_mib = 256, .block_size_mib = 2, .slot_size_mib = 128};

static void interrupt(void *owner, enum virtio_interrupt why)
{
    struct fixture *f = owner;

    if (why == VIRTIO_INTERRUPT_CONFIG)
        f->config_interrupts++;
}

static void config_changed(void *owner)
{
    struct fixture *f = owner;

    f->config_changes++;
}

static void nothing(void *owner)
{
    (void)owner;
}

static const struct virtio_transport_ops transport = {
    .interrupt = interrupt,
    .config_changed = config_changed,
    .activated = nothing,
    .reset = nothing,
};

static void start_driver(struct fixture *f)
{
    memset(f->mem.region[0].hva, 0, 64 * KIB);
    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, FEATURES), 15);
}

static void make_device(struct fixture *f, const struct hotplug_config *config, bool shared)
{
    struct virtio_env env = {.mem = &f->mem};

    log_set_options(&(struct log_options){.level = LOG_OFF});
    memset(&metrics, 0, sizeof(metrics));
    memset(f, 0, sizeof(*f));
    if (shared)
        assert_int_equal(mem_create_shared(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    else
        assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    env.loop = f->loop;
    assert_int_equal(hotplug_create(&f->hotplug, &env, config, NULL), 0);
    f->dev = hotplug_dev(f->hotplug);
    virtio_dev_attach(f->dev, &transport, f);
}

static struct config_space config_space(const struct fixture *f)
{
    struct config_space config;

    virtio_dev_read_config(f->dev, 0, &config, sizeof(config));
    return config;
}

static void set_up_as(struct fixture *f, const struct hotplug_config *config, bool shared)
{
    make_device(f, config, shared);
    assert_int_equal(hotplug_map(f->hotplug, NULL), 0);
    f->start = config_space(f).addr;
    start_driver(f);
}

static void set_up(struct fixture *f)
{
    set_up_as(f, &usual, false);
}

static void tear_down(struct fixture *f)
{
    virtio_dev_destroy(f->dev);
    assert_int_equal(f->mem.device_count, 0);
    loop_destroy(f->loop);
    mem_destroy(&f->mem);
}

/* Asks and waits for the answer. */
static struct response ask_at(struct fixture *f, uint16_t type, uint64_t addr, uint16_t blocks)
{
    struct {
        uint16_t type, padding[3];
        uint64_t addr;
        uint16_t blocks, padding2[3];
    } request = {.type = type, .padding = {1, 2, 3}, .addr = addr, .blocks = blocks};
    struct guest_buffer buffer[] = {{guest_alloc(&f->driver, 24), 24, false},
                                    {guest_alloc(&f->driver, 10), 10, true}};
    struct response response;
    struct virtq_used_elem used;

    if (f->driver.heap > RAM - 64 * KIB)
        f->driver.heap = 3 * MIB;
    guest_write(&f->driver, buffer[0].gpa, &request, sizeof(request));
    guest_add(&f->driver, buffer, 2);
    virtio_dev_kick(f->dev, 0);
    fake_loop_settle(f->loop);
    assert_true(guest_take_used(&f->driver, &used));
    assert_int_equal(used.len, sizeof(response));
    guest_read(&f->driver, buffer[1].gpa, &response, sizeof(response));
    return response;
}

static int ask(struct fixture *f, uint16_t type, uint64_t block, uint16_t blocks)
{
    return ask_at(f, type, f->start + block * BLOCK, blocks).type;
}

static int state_of(struct fixture *f, uint64_t block, uint16_t blocks)
{
    struct response response = ask_at(f, STATE, f->start + block * BLOCK, blocks);

    assert_int_equal(response.type, ACK);
    return response.state;
}

static uint8_t *hva_of(const struct fixture *f, uint64_t block)
{
    return f->mem.device[0].hva + block * BLOCK;
}

static unsigned resident_pages(const struct fixture *f, uint64_t block)
{
    static unsigned char map[BLOCK / PAGE_SIZE];
    unsigned count = 0;

    assert_int_equal(mincore(hva_of(f, block), BLOCK, map), 0);
    for (size_t i = 0; i < sizeof(map); i++)
        count += map[i] & 1;
    return count;
}

/* ---- configuration ---- */

static void test_hotplug_create_refuses_sizes_that_do_not_go_together(void **state)
{
    static const struct {
        struct hotplug_config config;
        const char *words;
    } cases[] = {
        {{0, 2, 128}, "Total size must not be lower than slot size (128 MiB)"},
        {{200, 2, 128}, "Total size must be a multiple of slot size (128 MiB)"},
        {{1024, 1, 128}, "Block size must not be lower than 2 MiB"},
        {{1024, 3, 128}, "Block size must be a power of 2"},
        {{1024, 2, 64}, "Slot size must not be lower than 128 MiB"},
        {{1024, 256, 128}, "Slot size must be a multiple of block size (256 MiB)"},
    };
    struct virtio_env env = {0};
    struct hotplug *hotplug;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(hotplug_create(&hotplug, &env, &cases[i].config, &e), -EINVAL);
        assert_string_equal(e.text, cases[i].words);
    }
}

static void test_hotplug_map_refuses_more_blocks_than_there_can_be(void **state)
{
    static const struct hotplug_config large = {
        .total_size_mib = 1024 * 1024, .block_size_mib = 2, .slot_size_mib = 128};
    struct fixture f;
    struct err e;

    (void)state;
    make_device(&f, &large, false);
    assert_int_equal(hotplug_map(f.hotplug, &e), -ENOSPC);
    assert_string_equal(e.text,
                        "Of blocks of 2 MiB there can be 262144, 512 GiB: choose larger ones.");
    tear_down(&f);
}

static void test_hotplug_begins_with_nothing_plugged_above_ram(void **state)
{
    struct fixture f;
    struct config_space config;

    (void)state;
    set_up(&f);
    config = config_space(&f);
    assert_int_equal(config.block_size, BLOCK);
    assert_int_equal(config.addr, 512 * GIB);
    assert_int_equal(config.region_size, 256 * MIB);
    assert_int_equal(config.usable + config.plugged + config.requested, 0);
    assert_null(mem_readable(&f.mem, GPA(f.start), 1));
    assert_int_equal((uintptr_t)hva_of(&f, 0) % BLOCK, 0);
    assert_true(virtio_dev_features(f.dev) & F_UNPLUGGED_INACCESSIBLE);
    tear_down(&f);
}

static void test_hotplug_update_before_the_driver_is_refused_whatever_the_size(void **state)
{
    static const uint32_t sizes[] = {0, 3, 128, 100000};
    struct fixture f;
    struct err e;

    (void)state;
    make_device(&f, &usual, false);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_int_equal(hotplug_update(f.hotplug, sizes[i], &e), -EINVAL);
        assert_string_equal(e.text, "Failed to create memory hotplug device: Device is not active");
    }
    tear_down(&f);
}

static void test_hotplug_update_refuses_parts_of_blocks_and_more_than_there_is(void **state)
{
    struct fixture f;
    struct err e;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 3, &e), -EINVAL);
    assert_string_equal(e.text, "Failed to create memory hotplug device: Size 3145728 is invalid: "
                                "it must be a multiple of block size and less than the total "
                                "size");
    assert_int_equal(hotplug_update(f.hotplug, 258, &e), -EINVAL);
    assert_int_equal(hotplug_update(f.hotplug, UINT32_MAX - 1, &e), -EINVAL);
    assert_int_equal(f.config_interrupts, 0);
    assert_int_equal(hotplug_update(f.hotplug, 256, &e), 0);
    tear_down(&f);
}

static void test_hotplug_update_tells_the_driver_and_plugging_does_not(void **state)
{
    struct hotplug_status status;
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 64, NULL), 0);
    assert_int_equal(f.config_interrupts, 1);
    assert_int_equal(config_space(&f).requested, 64 * MIB);
    assert_true(config_space(&f).usable >= 64 * MIB);

    assert_int_equal(ask(&f, PLUG, 0, 32), ACK);
    assert_int_equal(f.config_interrupts, 1);
    assert_int_equal(f.config_changes, 2); /* but what it reads has changed */
    assert_int_equal(config_space(&f).plugged, 64 * MIB);
    hotplug_status(f.hotplug, &status);
    assert_int_equal(status.plugged_size_mib, 64);
    assert_int_equal(status.requested_size_mib, 64);
    assert_int_equal(status.config.total_size_mib, 256);
    tear_down(&f);
}

/* ---- requests ---- */

static void test_hotplug_plugged_blocks_are_memory_and_no_others(void **state)
{
    struct fixture f;
    uint64_t value = 0x1122334455667788;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 3, 2), ACK);

    assert_int_equal(mem_write(&f.mem, GPA(f.start + 4 * BLOCK - 4), &value, 8), 0);
    assert_int_equal(mem_read(&f.mem, GPA(f.start + 4 * BLOCK - 4), &value, 8), 0);
    assert_int_equal(value, 0x1122334455667788);
    assert_non_null(f.mem.device[0].dirty);
    assert_null(mem_writable(&f.mem, GPA(f.start + 3 * BLOCK - 1), 2));
    assert_null(mem_writable(&f.mem, GPA(f.start + 5 * BLOCK - 1), 2));
    assert_int_equal(state_of(&f, 3, 2), PLUGGED);
    assert_int_equal(state_of(&f, 0, 3), UNPLUGGED);
    assert_int_equal(state_of(&f, 2, 2), MIXED);
    assert_int_equal(state_of(&f, 0, 128), MIXED);
    tear_down(&f);
}

static void test_hotplug_unplugged_memory_goes_back_to_the_host_and_comes_back_zeroed(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 0, 4), ACK);
    memset(hva_of(&f, 0), 7, 4 * BLOCK);
    assert_int_equal(resident_pages(&f, 1), 512);

    assert_int_equal(ask(&f, UNPLUG, 1, 2), ACK);
    assert_int_equal(resident_pages(&f, 1), 0);
    assert_int_equal(resident_pages(&f, 2), 0);
    assert_int_equal(*hva_of(&f, 0), 7); /* the others are as they were */
    assert_int_equal(*hva_of(&f, 3), 7);
    assert_int_equal(config_space(&f).plugged, 2 * BLOCK);

    assert_int_equal(ask(&f, PLUG, 1, 1), ACK);
    assert_int_equal(*hva_of(&f, 1), 0);
    tear_down(&f);
}

static void test_hotplug_hostile_requests_are_answered_as_the_specification_says(void **state)
{
    static const struct {
        uint16_t type;
        int64_t addr; /* from the start of the region */
        uint16_t blocks;
        int answer;
    } cases[] = {
        {PLUG, 0, 0, ERROR},
        {PLUG, 4096, 1, ERROR},
        {PLUG, -(int64_t)BLOCK, 1, ERROR},
        {PLUG, -(int64_t)BLOCK, 2, ERROR},
        {PLUG, -(int64_t)(512 * GIB), 1, ERROR},
        {PLUG, 128 * BLOCK, 1, ERROR}, /* the end of the region */
        {PLUG, 127 * BLOCK, 2, ERROR},
        {PLUG, 0, UINT16_MAX, ERROR},
        {PLUG, INT64_MAX - (int64_t)(512 * GIB) - (int64_t)BLOCK + 1, 2, ERROR},
        {PLUG, 10 * BLOCK, 1, ERROR}, /* it is plugged */
        {PLUG, 9 * BLOCK, 3, ERROR},
        {PLUG, 20 * BLOCK, 16, NACK}, /* more than is asked for */
        {UNPLUG, 11 * BLOCK, 1, ERROR},
        {UNPLUG, 10 * BLOCK, 2, ERROR},
        {UNPLUG, 10 * BLOCK, 0, ERROR},
        {UNPLUG, 10 * BLOCK + 8, 1, ERROR},
        {STATE, 128 * BLOCK, 1, ERROR},
        {STATE, 0, 0, ERROR},
        {4, 0, 1, ERROR},
        {UINT16_MAX, 0, 1, ERROR},
    };
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 32, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 10, 1), ACK);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct response response =
            ask_at(&f, cases[i].type, f.start + (uint64_t)cases[i].addr, cases[i].blocks);

        if (response.type != cases[i].answer)
            fail_msg("case %zu is answered %u", i, response.type);
    }
    assert_int_equal(config_space(&f).plugged, BLOCK);
    assert_int_equal(state_of(&f, 10, 1), PLUGGED);
    assert_int_equal(metrics.memory_hotplug.plug_fails, 12);
    assert_int_equal(metrics.memory_hotplug.unplug_fails, 4);
    assert_int_equal(metrics.memory_hotplug.state_fails, 2);
    assert_int_equal(f.dev->s.status, 15); /* none of it stops the device */
    tear_down(&f);
}

static void test_hotplug_nothing_is_usable_until_something_is_asked_for(void **state)
{
    static const struct hotplug_config large = {
        .total_size_mib = 16 * 1024, .block_size_mib = 2, .slot_size_mib = 128};
    struct fixture f;

    (void)state;
    set_up_as(&f, &large, false);
    assert_int_equal(ask(&f, PLUG, 0, 1), ERROR);
    assert_int_equal(hotplug_update(f.hotplug, 128, NULL), 0);
    assert_int_equal(config_space(&f).usable, 4 * GIB);
    assert_int_equal(ask(&f, PLUG, 2048, 1), ERROR);
    assert_int_equal(ask(&f, PLUG, 2047, 1), ACK);
    assert_int_equal(hotplug_update(f.hotplug, 0, NULL), 0);
    assert_int_equal(config_space(&f).usable, 4 * GIB); /* shrinks by UNPLUG_ALL alone */
    assert_int_equal(ask(&f, UNPLUG_ALL, 0, 0), ACK);
    assert_int_equal(config_space(&f).usable, 0);
    tear_down(&f);
}

static void test_hotplug_unplug_all_unplugs_every_run(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 0, 1), ACK);
    assert_int_equal(ask(&f, PLUG, 62, 5), ACK); /* across a word of the bitmap */
    assert_int_equal(ask(&f, PLUG, 127, 1), ACK);
    memset(hva_of(&f, 63), 7, BLOCK);
    assert_int_equal(ask_at(&f, UNPLUG_ALL, 12345, 777).type, ACK); /* only the type counts */
    assert_int_equal(config_space(&f).plugged, 0);
    assert_int_equal(state_of(&f, 0, 128), UNPLUGGED);
    assert_int_equal(resident_pages(&f, 63), 0);
    assert_int_equal(metrics.memory_hotplug.unplug_all_count, 1);
    assert_int_equal(metrics.memory_hotplug.unplug_bytes, 7 * BLOCK);
    tear_down(&f);
}

/* Puts a request into the queue and kicks; returns where the answer will be. */
static uint64_t begin(struct fixture *f, uint16_t type, uint64_t block, uint16_t blocks)
{
    struct {
        uint16_t type, padding[3];
        uint64_t addr;
        uint16_t blocks, padding2[3];
    } request = {.type = type, .addr = f->start + block * BLOCK, .blocks = blocks};
    struct guest_buffer buffer[] = {{guest_alloc(&f->driver, 24), 24, false},
                                    {guest_alloc(&f->driver, 10), 10, true}};

    guest_write(&f->driver, buffer[0].gpa, &request, sizeof(request));
    guest_add(&f->driver, buffer, 2);
    virtio_dev_kick(f->dev, 0);
    return buffer[1].gpa;
}

/* Memory goes back page by page: much of it in one turn would keep the other devices waiting. */
static void test_hotplug_large_unplug_takes_several_turns_and_a_pause_waits_for_it(void **state)
{
    struct virtq_used_elem used;
    struct fixture f;
    unsigned turns = 0;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 0, 128), ACK);
    *hva_of(&f, 127) = 7;

    begin(&f, UNPLUG, 0, 128);
    begin(&f, STATE, 0, 128); /* waits its turn */
    virtio_dev_quiesce(f.dev);
    while (!virtio_dev_is_idle(f.dev)) {
        assert_false(guest_take_used(&f.driver, &used));
        assert_int_equal(*hva_of(&f, 127), 7);
        assert_int_equal(config_space(&f).plugged, 240 * MIB - turns * 16 * MIB);
        fake_loop_end_turn(f.loop);
        turns++;
    }
    assert_int_equal(turns, 15);
    assert_int_equal(config_space(&f).plugged, 0);
    assert_int_equal(*hva_of(&f, 127), 0);
    fake_loop_settle(f.loop);
    assert_true(guest_take_used(&f.driver, &used));
    assert_false(guest_take_used(&f.driver, &used));

    virtio_dev_resume(f.dev);
    fake_loop_settle(f.loop);
    assert_true(guest_take_used(&f.driver, &used));
    tear_down(&f);
}

/* The driver writes 0 to Status and uses its memory for something else at once. */
static void test_hotplug_reset_during_a_large_unplug_waits_for_its_end(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 0, 128), ACK);
    begin(&f, UNPLUG_ALL, 0, 0);
    assert_false(virtio_dev_is_idle(f.dev));
    virtio_dev_write_status(f.dev, 0);
    assert_true(virtio_dev_is_idle(f.dev));
    assert_int_equal(config_space(&f).plugged, 0);
    start_driver(&f);
    assert_int_equal(state_of(&f, 0, 128), UNPLUGGED);
    tear_down(&f);
}

static void test_hotplug_request_may_be_cut_anywhere(void **state)
{
    struct fixture f;
    struct guest_buffer buffer[34];
    uint64_t base;
    uint8_t byte;

    (void)state;
    set_up(&f);
    base = guest_alloc(&f.driver, 128);
    for (unsigned i = 0; i < 34; i++)
        buffer[i] = (struct guest_buffer){base + 3 * i, 1, i >= 24};
    guest_write(&f.driver, buffer[0].gpa, "\x02", 1); /* UNPLUG_ALL, the rest is zeroes */
    for (unsigned i = 24; i < 34; i++)
        guest_write(&f.driver, buffer[i].gpa, "x", 1);
    guest_add_indirect(&f.driver, buffer, 34);
    virtio_dev_kick(f.dev, 0);
    fake_loop_settle(f.loop);
    for (unsigned i = 24; i < 34; i++) {
        guest_read(&f.driver, buffer[i].gpa, &byte, 1);
        assert_int_equal(byte, 0);
    }
    tear_down(&f);
}

static void test_hotplug_requests_too_short_stop_the_device(void **state)
{
    static const uint32_t lengths[][2] = {{23, 10}, {24, 9}, {24, 0}, {0, 10}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct guest_buffer buffer[2];
        struct fixture f;

        set_up(&f);
        for (unsigned b = 0; b < 2; b++)
            buffer[b] = (struct guest_buffer){guest_alloc(&f.driver, 32), lengths[i][b], b == 1};
        guest_add(&f.driver, buffer, 2);
        virtio_dev_kick(f.dev, 0);
        fake_loop_settle(f.loop);
        assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);
        assert_int_equal(metrics.memory_hotplug.queue_event_fails, 1);
        tear_down(&f);
    }
}

/* Each would be two mappings, of which a process may have 65530. */
static void test_hotplug_blocks_scattered_without_end_are_refused(void **state)
{
    static const struct hotplug_config large = {
        .total_size_mib = 64 * 1024, .block_size_mib = 2, .slot_size_mib = 128};
    struct fixture f;
    uint64_t block = 0;

    (void)state;
    set_up_as(&f, &large, false);
    assert_int_equal(hotplug_update(f.hotplug, 64 * 1024, NULL), 0);
    while (ask(&f, PLUG, block, 1) == ACK)
        block += 2;
    assert_int_equal(block, 2 * 8192);
    assert_int_equal(ask(&f, PLUG, block, 1), BUSY);
    assert_int_equal(ask(&f, PLUG, 1, 1), ACK); /* closes a gap */
    assert_int_equal(ask(&f, PLUG, block, 1), ACK);
    assert_int_equal(ask(&f, UNPLUG, 1, 1), BUSY); /* would open one */
    assert_int_equal(ask(&f, UNPLUG_ALL, 0, 0), ACK);
    tear_down(&f);
}

/* ---- what is not plugged ---- */

static void mend(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    if (!late_write_allow(info->si_addr))
        _exit(99);
}

static void test_hotplug_unplugged_memory_reads_as_zeros_and_takes_nothing(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    for (size_t i = 0; i < BLOCK; i += PAGE_SIZE)
        assert_int_equal(((volatile uint8_t *)hva_of(&f, 0))[i], 0);
    /* The page of zeros is everybody's; a kernel's copy into it fails instead of taking memory. */
    int zero = open("/dev/zero", 0);
    assert_int_equal(read(zero, hva_of(&f, 0), 4096), -1);
    assert_int_equal(errno, EFAULT);
    close(zero);
    tear_down(&f);
}

/* A device that still had a pointer into a block that was unplugged writes to it. */
static void test_hotplug_late_write_of_ours_goes_nowhere_and_is_swept(void **state)
{
    struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO}, before;
    struct fixture f;
    volatile uint8_t *status;

    (void)state;
    set_up(&f);
    assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 0, 1), ACK);
    status = hva_of(&f, 0) + 5000;
    *status = 1;
    assert_int_equal(ask(&f, UNPLUG, 0, 1), ACK);

    *status = 2;
    assert_int_equal(*status, 2);
    assert_null(mem_readable(&f.mem, GPA(f.start + 5000), 1));

    assert_int_equal(state_of(&f, 0, 1), UNPLUGGED); /* any request */
    assert_int_equal(*status, 0);
    assert_int_equal(resident_pages(&f, 0), 1); /* that of zeros */
    *status = 3;                                /* and protected again, or this would not be seen */
    assert_true(late_write_happened());
    sigaction(SIGSEGV, &before, NULL);
    tear_down(&f);
}

/* The driver's own rings lie in the block that it unplugs. */
static void test_hotplug_queue_in_memory_that_is_unplugged_costs_the_device_only(void **state)
{
    struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO}, before;
    struct guest_driver inside;
    struct fixture f;
    struct {
        uint16_t type, padding[3];
        uint64_t addr;
        uint16_t blocks, padding2[3];
    } request = {.type = UNPLUG, .blocks = 1};
    struct guest_buffer buffer[2];

    (void)state;
    set_up(&f);
    assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 0, 1), ACK);
    guest_driver_init(&inside, &f.mem, f.start, 16);
    assert_int_equal(guest_start(f.dev, &inside, FEATURES), 15);

    request.addr = f.start;
    buffer[0] = (struct guest_buffer){guest_alloc(&inside, 24), 24, false};
    buffer[1] = (struct guest_buffer){guest_alloc(&inside, 10), 10, true};
    guest_write(&inside, buffer[0].gpa, &request, sizeof(request));
    guest_add(&inside, buffer, 2);
    virtio_dev_kick(f.dev, 0);
    fake_loop_settle(f.loop);
    assert_int_equal(config_space(&f).plugged, 0);
    virtio_dev_kick(f.dev, 0);
    fake_loop_settle(f.loop);
    assert_true(f.dev->s.status & VIRTIO_STATUS_NEEDS_RESET);

    start_driver(&f);
    assert_int_equal(state_of(&f, 0, 1), UNPLUGGED);
    assert_int_equal(ask(&f, PLUG, 0, 1), ACK);
    sigaction(SIGSEGV, &before, NULL);
    tear_down(&f);
}

/* ---- memory that another process maps ---- */

static void test_hotplug_shared_memory_leaves_the_file_when_it_is_unplugged(void **state)
{
    struct fixture f;
    char back[4] = "";
    int fd;

    (void)state;
    set_up_as(&f, &usual, true);
    fd = f.mem.device[0].fd;
    assert_true(fd >= 0);
    assert_int_equal(hotplug_update(f.hotplug, 256, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 1, 1), ACK);
    assert_int_equal(mem_write(&f.mem, GPA(f.start + BLOCK + 100), "abc", 3), 0);
    assert_int_equal(pread(fd, back, 3, (off_t)BLOCK + 100), 3);
    assert_string_equal(back, "abc");

    assert_int_equal(ask(&f, UNPLUG, 1, 1), ACK);
    assert_int_equal(lseek(fd, 0, SEEK_DATA), -1); /* nothing but holes */
    assert_int_equal(errno, ENXIO);
    assert_int_equal(ask(&f, PLUG, 1, 1), ACK);
    assert_int_equal(mem_read(&f.mem, GPA(f.start + BLOCK + 100), back, 3), 0);
    assert_int_equal(back[0], 0);
    tear_down(&f);
}

/* ---- life ---- */

static void test_hotplug_reset_of_the_driver_changes_no_block(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(hotplug_update(f.hotplug, 64, NULL), 0);
    assert_int_equal(ask(&f, PLUG, 5, 2), ACK);
    *hva_of(&f, 5) = 9;

    virtio_dev_write_status(f.dev, 0);
    assert_int_equal(hotplug_update(f.hotplug, 64, NULL), -EINVAL); /* not active */
    assert_int_equal(*hva_of(&f, 5), 9);
    start_driver(&f);
    assert_int_equal(config_space(&f).plugged, 2 * BLOCK);
    assert_int_equal(config_space(&f).requested, 64 * MIB);
    assert_int_equal(state_of(&f, 5, 2), PLUGGED);
    tear_down(&f);
}

static void test_hotplug_failed_start_can_be_tried_again(void **state)
{
    struct fixture f;

    (void)state;
    make_device(&f, &usual, false);
    assert_int_equal(hotplug_map(f.hotplug, NULL), 0);
    hotplug_unmap(f.hotplug);
    assert_int_equal(f.mem.device_count, 0);
    hotplug_unmap(f.hotplug);
    assert_int_equal(hotplug_map(f.hotplug, NULL), 0);
    assert_int_equal(f.mem.device_count, 1);
    tear_down(&f);
}

static void test_hotplug_state_begins_with_the_configuration_space(void **state)
{
    struct config_space config;
    struct fixture f;

    (void)state;
    assert_true(state_desc_tiles(&hotplug_state_desc));
    set_up(&f);
    config = config_space(&f);
    assert_memory_equal(f.dev->ops->saved(f.dev), &config, sizeof(config));
    tear_down(&f);
}

/* ---- snapshots ---- */

/* As struct hotplug_state is. */
struct saved {
    struct config_space config;
    uint64_t plugged[4096];
};

static struct saved *saved_of(struct fixture *f)
{
    return f->dev->ops->saved(f->dev);
}

/* A machine out of a memory file, in which every block begins with its number; `plugged` of the
 * first 64 blocks were. */
static void load_from_file(struct fixture *f, int *fd, uint64_t plugged)
{
    struct virtio_env env = {.mem = &f->mem};

    memset(f, 0, sizeof(*f));
    *fd = memfd_create("memory", MFD_CLOEXEC);
    assert_int_equal(ftruncate(*fd, RAM + 256 * MIB), 0);
    for (uint64_t block = 0; block < 128; block++)
        assert_int_equal(pwrite(*fd, &block, 8, (off_t)(RAM + block * BLOCK)), 8);
    assert_int_equal(mem_create_from_file(&f->mem, *fd, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(loop_create(&f->loop, NULL), 0);
    env.loop = f->loop;
    assert_int_equal(hotplug_create(&f->hotplug, &env, &usual, NULL), 0);
    f->dev = hotplug_dev(f->hotplug);
    virtio_dev_attach(f->dev, &transport, f);
    assert_int_equal(hotplug_map(f->hotplug, NULL), 0);
    f->start = config_space(f).addr;
    saved_of(f)->plugged[0] = plugged;
    saved_of(f)->config.plugged = (uint64_t)__builtin_popcountll(plugged) * BLOCK;
    saved_of(f)->config.requested = saved_of(f)->config.usable = 256 * MIB;
}

static uint64_t first_number(const struct fixture *f, uint64_t block)
{
    uint64_t number;

    assert_int_equal(mem_read(&f->mem, GPA(f->start + block * BLOCK), &number, 8), 0);
    return number;
}

static void test_hotplug_restored_blocks_are_the_files_until_they_are_written(void **state)
{
    static const uint64_t other = 4711;
    struct fixture f;
    uint64_t number;
    int fd;

    (void)state;
    load_from_file(&f, &fd, 0x8000000000000036);
    assert_int_equal(hotplug_restore(f.hotplug, fd, RAM, NULL), 0);
    start_driver(&f);
    for (uint64_t block = 0; block < 64; block++) {
        if (block == 1 || block == 2 || block == 4 || block == 5 || block == 63)
            assert_int_equal(first_number(&f, block), block);
        else
            assert_null(mem_readable(&f.mem, GPA(f.start + block * BLOCK), 1));
    }
    assert_int_equal(hva_of(&f, 3)[0], 0); /* nor is it the file's beneath */

    assert_int_equal(mem_write(&f.mem, GPA(f.start + 5 * BLOCK), &other, 8), 0);
    assert_int_equal(first_number(&f, 5), other);
    assert_int_equal(pread(fd, &number, 8, RAM + 5 * BLOCK), 8);
    assert_int_equal(number, 5);
    close(fd);
    tear_down(&f);
}

static void test_hotplug_restored_block_that_is_unplugged_comes_back_zeroed(void **state)
{
    struct fixture f;
    int fd;

    (void)state;
    load_from_file(&f, &fd, 6);
    assert_int_equal(hotplug_restore(f.hotplug, fd, RAM, NULL), 0);
    close(fd);
    start_driver(&f);
    assert_int_equal(state_of(&f, 1, 2), PLUGGED);
    assert_int_equal(ask(&f, UNPLUG, 1, 1), ACK);
    assert_null(mem_readable(&f.mem, GPA(f.start + BLOCK), 1));
    assert_int_equal(config_space(&f).plugged, BLOCK);
    assert_int_equal(ask(&f, PLUG, 1, 1), ACK);
    assert_int_equal(ask(&f, PLUG, 7, 1), ACK);
    assert_int_equal(first_number(&f, 1), 0);
    assert_int_equal(first_number(&f, 2), 2);
    assert_int_equal(first_number(&f, 7), 0);
    tear_down(&f);
}

/* What a balloon takes of it must not come back as the file has it. */
/* A Diff does not touch what its file has of them; the next one has to. */
static void test_hotplug_restored_block_that_is_not_plugged_is_dirty(void **state)
{
    const struct mem_region *region;
    struct fixture f;
    int fd;

    (void)state;
    load_from_file(&f, &fd, 6);
    assert_int_equal(hotplug_restore(f.hotplug, fd, RAM, NULL), 0);
    close(fd);
    region = &f.mem.device[0];
    for (uint64_t block = 0; block < 64; block++) {
        uint64_t page = block * BLOCK / PAGE_SIZE;
        bool dirty = region->dirty[page / 64] >> (page % 64) & 1;

        assert_int_equal(dirty, block != 1 && block != 2);
    }
    tear_down(&f);
}

static void test_hotplug_restored_memory_that_is_discarded_reads_as_zeros(void **state)
{
    struct fixture f;
    int fd;

    (void)state;
    load_from_file(&f, &fd, 1 << 9);
    assert_int_equal(hotplug_restore(f.hotplug, fd, RAM, NULL), 0);
    assert_int_equal(first_number(&f, 9), 9);
    assert_int_equal(
        mem_discard(&f.mem, mem_writable(&f.mem, GPA(f.start + 9 * BLOCK), BLOCK), BLOCK), 0);
    assert_int_equal(first_number(&f, 9), 0);
    close(fd);
    tear_down(&f);
}

static void test_hotplug_restore_of_plugged_blocks_needs_the_file_that_has_them(void **state)
{
    struct fixture f;
    struct err e;
    int fd;

    (void)state;
    load_from_file(&f, &fd, 0);
    assert_int_equal(hotplug_restore(f.hotplug, -1, RAM, NULL), 0);
    saved_of(&f)->plugged[0] = 1;
    saved_of(&f)->config.plugged = BLOCK;
    assert_int_equal(hotplug_restore(f.hotplug, -1, RAM, &e), -EINVAL);
    assert_non_null(strstr(e.text, "can only be loaded from a memory file"));
    close(fd);
    tear_down(&f);
}

static void test_hotplug_restore_of_hostile_state_is_refused(void **state)
{
    struct fixture f;
    struct err e;
    int fd;

    (void)state;
    load_from_file(&f, &fd, 6);
    for (unsigned i = 0; i < 9; i++) {
        struct saved *saved = saved_of(&f), before = *saved;

        saved->config.plugged += (i == 0) - (uint64_t)(i == 1);
        saved->config.plugged += i == 2 ? 1ull << 63 : 0;
        saved->config.requested += i == 3 ? BLOCK : i == 4 ? UINT64_MAX - MIB : 0;
        saved->config.usable += i == 5 ? BLOCK : i == 6 ? UINT64_MAX : 0;
        if (i == 7) { /* beyond the region, and counted */
            saved->plugged[2] = 1;
            saved->config.plugged += BLOCK;
        }
        if (i == 8) {
            saved->plugged[4095] = 1ull << 63;
            saved->config.plugged += BLOCK;
        }
        assert_int_equal(hotplug_restore(f.hotplug, fd, RAM, &e), -EINVAL);
        assert_non_null(strstr(e.text, "a state that it cannot have"));
        *saved = before;
    }
    assert_int_equal(hotplug_restore(f.hotplug, fd, RAM, NULL), 0);
    close(fd);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hotplug_create_refuses_sizes_that_do_not_go_together),
        cmocka_unit_test(test_hotplug_map_refuses_more_blocks_than_there_can_be),
        cmocka_unit_test(test_hotplug_begins_with_nothing_plugged_above_ram),
        cmocka_unit_test(test_hotplug_update_before_the_driver_is_refused_whatever_the_size),
        cmocka_unit_test(test_hotplug_update_refuses_parts_of_blocks_and_more_than_there_is),
        cmocka_unit_test(test_hotplug_update_tells_the_driver_and_plugging_does_not),
        cmocka_unit_test(test_hotplug_plugged_blocks_are_memory_and_no_others),
        cmocka_unit_test(test_hotplug_unplugged_memory_goes_back_to_the_host_and_comes_back_zeroed),
        cmocka_unit_test(test_hotplug_hostile_requests_are_answered_as_the_specification_says),
        cmocka_unit_test(test_hotplug_nothing_is_usable_until_something_is_asked_for),
        cmocka_unit_test(test_hotplug_unplug_all_unplugs_every_run),
        cmocka_unit_test(test_hotplug_large_unplug_takes_several_turns_and_a_pause_waits_for_it),
        cmocka_unit_test(test_hotplug_reset_during_a_large_unplug_waits_for_its_end),
        cmocka_unit_test(test_hotplug_request_may_be_cut_anywhere),
        cmocka_unit_test(test_hotplug_requests_too_short_stop_the_device),
        cmocka_unit_test(test_hotplug_blocks_scattered_without_end_are_refused),
        cmocka_unit_test(test_hotplug_unplugged_memory_reads_as_zeros_and_takes_nothing),
        cmocka_unit_test(test_hotplug_late_write_of_ours_goes_nowhere_and_is_swept),
        cmocka_unit_test(test_hotplug_queue_in_memory_that_is_unplugged_costs_the_device_only),
        cmocka_unit_test(test_hotplug_shared_memory_leaves_the_file_when_it_is_unplugged),
        cmocka_unit_test(test_hotplug_reset_of_the_driver_changes_no_block),
        cmocka_unit_test(test_hotplug_failed_start_can_be_tried_again),
        cmocka_unit_test(test_hotplug_state_begins_with_the_configuration_space),
        cmocka_unit_test(test_hotplug_restored_blocks_are_the_files_until_they_are_written),
        cmocka_unit_test(test_hotplug_restored_block_that_is_unplugged_comes_back_zeroed),
        cmocka_unit_test(test_hotplug_restored_block_that_is_not_plugged_is_dirty),
        cmocka_unit_test(test_hotplug_restored_memory_that_is_discarded_reads_as_zeros),
        cmocka_unit_test(test_hotplug_restore_of_plugged_blocks_needs_the_file_that_has_them),
        cmocka_unit_test(test_hotplug_restore_of_hostile_state_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
