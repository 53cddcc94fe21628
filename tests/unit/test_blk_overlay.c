/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of drives with an overlay (blk_overlay.c, overlay.c): whatever a guest does, in whatever
 * order the ring ends it, it reads what it has written, and what it has not from the file below,
 * which stays as it is.
 */
#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/blk_fixture.h"
#include "tests/unit/unit.h"
#include "virtio/block/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK (LAYER_BLOCK / 512) /* sectors */

/* Blocks at both ends of the written half, for gaps that can be read at once and by the ring. */
#define CACHED_BLOCK   4
#define UNCACHED_BLOCK (HOLE + 4 * BLOCK)

static char *directory;

static int enter_directory(void **state)
{
    (void)state;
    directory = files_enter_temporary("overlay");
    return 0;
}

static int leave_directory(void **state)
{
    (void)state;
    files_leave(directory);
    return 0;
}

static struct blk_config memory_config(void)
{
    return (struct blk_config){.engine = BLK_ENGINE_ASYNC, .overlay.type = BLK_OVERLAY_MEMORY};
}

static struct blk_config file_config(char *path)
{
    return (struct blk_config){
        .engine = BLK_ENGINE_ASYNC,
        .overlay = {.type = BLK_OVERLAY_FILE, .path = path},
    };
}

/* Ends the drive and begins another one over the same disk. */
static void start_again(struct fixture *f, struct blk_config config)
{
    virtio_dev_destroy(f->dev);
    f->dev = NULL;
    start_drive(f, config);
}

static void fill(struct fixture *f, const struct guest_request *request, uint8_t byte)
{
    uint8_t data[64 * KIB];

    assert_true(request->len <= sizeof(data));
    memset(data, byte, request->len);
    guest_write(&f->driver, request->data, data, request->len);
}

static struct guest_request add_write(struct fixture *f, uint64_t sector, uint32_t len,
                                      uint8_t byte)
{
    struct guest_request request = add(f, OUT, sector, len);

    fill(f, &request, byte);
    return request;
}

static void write_sectors(struct fixture *f, uint64_t sector, uint32_t len, uint8_t byte)
{
    struct guest_request request = add_write(f, sector, len, byte);

    expect_status(f, &request, OK);
}

static uint8_t read_byte(struct fixture *f, uint64_t sector)
{
    struct guest_request request = add(f, IN, sector, 512);

    expect_status(f, &request, OK);
    return byte_at(f, request.data);
}

/* Takes what has come back, of which only the status matters. */
static void take_used(struct fixture *f)
{
    struct virtq_used_elem used;

    while (guest_take_used(&f->driver, &used))
        continue;
}

/* What make_disk has written. */
static uint8_t base_byte(uint64_t sector)
{
    return sector < HOLE ? (uint8_t)(sector + 1) : 0;
}

static void expect_base_untouched(const struct fixture *f)
{
    uint8_t sector[512];

    for (uint64_t i = 0; i < DISK_SECTORS; i++) {
        assert_int_equal(pread(f->fd, sector, sizeof(sector), (off_t)(i * 512)), sizeof(sector));
        assert_int_equal(sector[0], base_byte(i));
        assert_int_equal(sector[511], base_byte(i));
    }
}

/* ---- single requests ---- */

static void test_overlay_read_in_one_place_is_one_operation(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up_drive(&f, memory_config());
    request = add(&f, IN, HOLE, 32 * KIB);
    kick(&f);
    assert_int_equal(fake_loop_count(f.loop), 1);
    assert_int_equal(ring(&f)->verb, FAKE_READV);
    assert_int_equal(ring(&f)->len, 32 * KIB);
    expect_status(&f, &request, OK);
    tear_down(&f);
}

static void test_overlay_read_across_places_gathers_them(void **state)
{
    struct fixture f;
    struct guest_request request;

    (void)state;
    set_up_drive(&f, memory_config());
    write_sectors(&f, HOLE, 4096, 0x77);
    request = add(&f, IN, HOLE - 2, 2 * 512 + 4096 + 1024);
    expect_status(&f, &request, OK);
    assert_int_equal(byte_at(&f, request.data), base_byte(HOLE - 2));
    assert_int_equal(byte_at(&f, request.data + 512), base_byte(HOLE - 1));
    assert_int_equal(byte_at(&f, request.data + 1024), 0x77);
    assert_int_equal(byte_at(&f, request.data + 1024 + 4095), 0x77);
    assert_int_equal(byte_at(&f, request.data + 1024 + 4096), 0);
    tear_down(&f);
}

static void test_overlay_write_of_whole_blocks_reads_nothing(void **state)
{
    struct fixture f;

    (void)state;
    set_up_drive(&f, memory_config());
    write_sectors(&f, UNCACHED_BLOCK, 2 * 4096, 0x11);
    assert_int_equal(fake_loop_count(f.loop), 0);
    assert_int_equal(blk_overlay(f.blk)->written, 2);
    assert_int_equal(read_byte(&f, UNCACHED_BLOCK + BLOCK), 0x11);
    expect_base_untouched(&f);
    tear_down(&f);
}

static void test_overlay_write_of_a_part_keeps_the_rest_of_its_block(void **state)
{
    static const uint64_t places[] = {CACHED_BLOCK * BLOCK, UNCACHED_BLOCK};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct fixture f;

        set_up_drive(&f, i ? file_config((char[]){"part"}) : memory_config());
        write_sectors(&f, places[i] + 3, 2 * 512, 0x22);
        for (uint64_t sector = places[i]; sector < places[i] + BLOCK; sector++) {
            bool is_written = sector == places[i] + 3 || sector == places[i] + 4;

            assert_int_equal(read_byte(&f, sector), is_written ? 0x22 : base_byte(sector));
        }
        expect_base_untouched(&f);
        tear_down(&f);
    }
}

/* The second would read what was below, and write it over what the first has written. */
static void test_overlay_writes_to_one_new_block_wait_for_each_other(void **state)
{
    struct blk_config configs[] = {memory_config(), file_config((char[]){"wait"})};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        struct fixture f;
        struct guest_request first, second, third;

        set_up_drive(&f, configs[i]);
        first = add_write(&f, UNCACHED_BLOCK, 512, 1);
        second = add_write(&f, UNCACHED_BLOCK + 1, 512, 2);
        third = add_write(&f, UNCACHED_BLOCK, 4096, 3);
        kick(&f);
        assert_int_equal(fake_loop_count(f.loop), 1);
        assert_int_equal(f.dev->in_flight, 3);
        fake_loop_settle(f.loop);
        assert_int_equal(f.dev->in_flight, 0);
        assert_int_equal(status_of(&f, &first), OK);
        assert_int_equal(status_of(&f, &second), OK);
        assert_int_equal(status_of(&f, &third), OK);
        take_used(&f);
        /* They were there at once: the guest may find any of them, but no block half of below. */
        assert_in_range(read_byte(&f, UNCACHED_BLOCK), 1, 3);
        assert_in_range(read_byte(&f, UNCACHED_BLOCK + 1), 2, 3);
        assert_int_equal(read_byte(&f, UNCACHED_BLOCK + 2), 3);
        tear_down(&f);
    }
}

static void test_overlay_block_that_could_not_be_copied_stays_what_it_was(void **state)
{
    struct fixture f;
    struct guest_request failing, waiting;

    (void)state;
    set_up_drive(&f, file_config((char[]){"fails"}));
    failing = add_write(&f, UNCACHED_BLOCK + 1, 512, 9);
    waiting = add_write(&f, UNCACHED_BLOCK + 2, 512, 8);
    kick(&f);
    complete(&f, 0, -EIO);
    assert_int_equal(status_of(&f, &failing), IOERR);
    fake_loop_settle(f.loop);
    assert_int_equal(status_of(&f, &waiting), OK);
    take_used(&f);
    assert_int_equal(read_byte(&f, UNCACHED_BLOCK + 1), 0);
    assert_int_equal(read_byte(&f, UNCACHED_BLOCK + 2), 8);
    tear_down(&f);
}

static void test_overlay_identity_is_that_of_the_file_below(void **state)
{
    struct fixture plain, over;
    struct guest_request a, b;
    uint8_t id_a[20], id_b[20];

    (void)state;
    set_up(&plain);
    a = add(&plain, GET_ID, 0, 20);
    expect_status(&plain, &a, OK);
    guest_read(&plain.driver, a.data, id_a, sizeof(id_a));
    over = plain;
    virtio_dev_destroy(plain.dev);
    start_drive(&over, memory_config());
    b = add(&over, GET_ID, 0, 20);
    expect_status(&over, &b, OK);
    guest_read(&over.driver, b.data, id_b, sizeof(id_b));
    assert_memory_equal(id_a, id_b, sizeof(id_a));
    tear_down(&over);
}

/* ---- discards ---- */

static struct guest_request add_zeroes(struct fixture *f, uint32_t type, uint64_t sector,
                                       uint32_t sectors)
{
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } segment = {sector, sectors, 0};
    struct guest_request request = add(f, type, 0, sizeof(segment));

    guest_write(&f->driver, request.data, &segment, sizeof(segment));
    return request;
}

static void test_overlay_zeroes_any_sectors_and_discards_whole_blocks(void **state)
{
    struct blk_config configs[] = {memory_config(), file_config((char[]){"zero"})};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        struct fixture f;
        struct guest_request request;

        configs[i].engine = BLK_ENGINE_SYNC;
        configs[i].discard = true;
        set_up_drive(&f, configs[i]);
        request = add_zeroes(&f, WRITE_ZEROES, 3, 2 * BLOCK);
        expect_status(&f, &request, OK);
        for (uint64_t sector = 0; sector < 4 * BLOCK; sector++)
            assert_int_equal(read_byte(&f, sector),
                             sector >= 3 && sector < 3 + 2 * BLOCK ? 0 : base_byte(sector));
        request = add_zeroes(&f, DISCARD, 4 * BLOCK + 1, 2 * BLOCK);
        expect_status(&f, &request, OK);
        for (uint64_t sector = 4 * BLOCK; sector < 7 * BLOCK; sector++)
            assert_int_equal(read_byte(&f, sector),
                             sector >= 5 * BLOCK && sector < 6 * BLOCK ? 0 : base_byte(sector));
        write_sectors(&f, 5 * BLOCK + 1, 512, 0x33);
        assert_int_equal(read_byte(&f, 5 * BLOCK + 1), 0x33);
        assert_int_equal(read_byte(&f, 5 * BLOCK + 2), 0);
        expect_base_untouched(&f);
        tear_down(&f);
    }
}

/* ---- flushes ---- */

/* Whether the file of the overlay says that it has the block. */
static bool file_has(const char *path, uint64_t block)
{
    uint8_t bits = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &bits, 1, (off_t)(LAYER_BLOCK + block / 8)), 1);
    close(fd);
    return bits & 1u << block % 8;
}

static void test_overlay_flush_writes_bits_behind_the_data_that_it_covers(void **state)
{
    struct blk_config config = file_config((char[]){"flush"});
    struct fixture f;
    struct guest_request flush, late;

    (void)state;
    config.cache = BLK_CACHE_WRITEBACK;
    set_up_drive(&f, config);
    write_sectors(&f, 0, 4096, 1);
    assert_false(file_has("flush", 0));

    flush = add(&f, FLUSH, 0, 0);
    kick(&f);
    assert_int_equal(ring(&f)->verb, FAKE_FSYNC);
    late = add_write(&f, BLOCK, 4096, 2);
    kick(&f);
    assert_int_equal(fake_loop_count(f.loop), 2);
    fake_loop_complete(f.loop, 1, fake_loop_carry_out(f.loop, 1), false);
    fake_loop_end_turn(f.loop);
    assert_int_equal(status_of(&f, &late), OK);
    assert_false(file_has("flush", 0));

    complete(&f, 0, 0); /* the data are on the disk: those of block 0, but who knows of block 1 */
    assert_true(file_has("flush", 0));
    assert_false(file_has("flush", 1));
    assert_int_equal(status_of(&f, &flush), UNTOUCHED);
    complete(&f, 0, 0); /* the bits too */
    assert_int_equal(status_of(&f, &flush), OK);

    flush = add(&f, FLUSH, 0, 0);
    kick(&f);
    fake_loop_settle(f.loop);
    assert_int_equal(status_of(&f, &flush), OK);
    assert_true(file_has("flush", 1));
    tear_down(&f);
}

static void test_overlay_flush_that_fails_is_made_up_by_the_next(void **state)
{
    struct blk_config config = file_config((char[]){"again"});
    struct fixture f;
    struct guest_request flush, behind;

    (void)state;
    config.cache = BLK_CACHE_WRITEBACK;
    set_up_drive(&f, config);
    write_sectors(&f, 0, 4096, 1);
    flush = add(&f, FLUSH, 0, 0);
    behind = add(&f, FLUSH, 0, 0);
    kick(&f);
    assert_int_equal(fake_loop_count(f.loop), 1);
    complete(&f, 0, -EIO);
    assert_int_equal(status_of(&f, &flush), IOERR);
    assert_false(file_has("again", 0));
    fake_loop_settle(f.loop);
    assert_int_equal(status_of(&f, &behind), OK);
    assert_true(file_has("again", 0));
    tear_down(&f);
}

static void test_overlay_of_memory_is_flushed_at_once(void **state)
{
    struct blk_config config = memory_config();
    struct fixture f;
    struct guest_request flush;

    (void)state;
    config.cache = BLK_CACHE_WRITEBACK;
    set_up_drive(&f, config);
    flush = add(&f, FLUSH, 0, 0);
    expect_status(&f, &flush, OK);
    tear_down(&f);
}

/* ---- over the drive's end ---- */

static void test_overlay_file_is_gone_on_with(void **state)
{
    struct blk_config config = file_config((char[]){"goes-on"});
    struct fixture f;

    (void)state;
    set_up_drive(&f, config);
    write_sectors(&f, 5, 512, 0x44);
    start_again(&f, config);
    assert_int_equal(blk_overlay(f.blk)->written, 1);
    assert_int_equal(read_byte(&f, 5), 0x44);
    assert_int_equal(read_byte(&f, 6), base_byte(6));
    tear_down(&f);
}

static void test_overlay_without_flush_forgets_what_was_not_flushed_as_a_whole(void **state)
{
    struct blk_config config = file_config((char[]){"forgets"});
    struct fixture f;

    (void)state;
    config.cache = BLK_CACHE_WRITEBACK;
    set_up_drive(&f, config);
    write_sectors(&f, 5, 512, 0x44);
    start_again(&f, config);
    assert_int_equal(read_byte(&f, 5), base_byte(5));
    tear_down(&f);
}

/* The file becomes a layer, what follows goes into another. */
static void test_overlay_that_is_split_reads_the_same(void **state)
{
    struct blk_config config = file_config((char[]){"split"}), other;
    struct layer layer;
    struct fixture f;
    struct err e;

    (void)state;
    assert_int_equal(files_make_sparse("split.1", 1), 0); /* somebody else's */
    set_up_drive(&f, config);
    write_sectors(&f, 5, 512, 0x44);
    assert_int_equal(blk_split_overlay(f.blk, &e), 0);
    assert_string_equal(blk_config(f.blk)->overlay.path, "split.2");
    assert_int_equal(blk_config(f.blk)->overlay.layer_count, 1);
    assert_string_equal(blk_config(f.blk)->overlay.layer[0], "split");
    assert_int_equal(read_byte(&f, 5), 0x44);
    write_sectors(&f, 6, 512, 0x45);
    assert_int_equal(read_byte(&f, 6), 0x45);

    assert_int_equal(layer_open(&layer, "split", &e), 0);
    assert_true(layer.head.complete);
    layer_close(&layer);
    other = file_config((char[]){"elsewhere"});
    other.overlay.layer[0] = (char[]){"split"};
    other.overlay.layer_count = 1;
    start_again(&f, other);
    assert_int_equal(read_byte(&f, 5), 0x44);
    assert_int_equal(read_byte(&f, 6), base_byte(6));
    tear_down(&f);
}

static void test_overlay_that_holds_nothing_is_not_split(void **state)
{
    struct fixture f;
    struct err e;

    (void)state;
    set_up_drive(&f, file_config((char[]){"empty"}));
    assert_int_equal(blk_split_overlay(f.blk, &e), 0);
    assert_int_equal(blk_config(f.blk)->overlay.layer_count, 0);
    assert_string_equal(blk_config(f.blk)->overlay.path, "empty");
    tear_down(&f);
}

/* A fork's child has the parent's memory, and what was the parent's drive in it. */
static void test_overlay_of_memory_is_inherited_as_it_is(void **state)
{
    struct blk_config config = memory_config();
    struct blk *parent;
    struct fixture f;

    (void)state;
    set_up_drive(&f, config);
    write_sectors(&f, 5, 512, 0x44);
    parent = f.blk;
    config.forked_from = parent;
    start_drive(&f, config);
    assert_int_equal(read_byte(&f, 5), 0x44);
    assert_int_equal(read_byte(&f, 6), base_byte(6));
    virtio_dev_destroy(blk_dev(parent));
    assert_int_equal(read_byte(&f, 5), 0x44);
    tear_down(&f);
}

static void test_overlay_of_a_file_is_inherited_as_a_layer(void **state)
{
    struct blk_config config = file_config((char[]){"parent"});
    struct blk *parent;
    struct fixture f;
    struct err e;

    (void)state;
    set_up_drive(&f, config);
    write_sectors(&f, 5, 512, 0x44);
    assert_int_equal(blk_split_overlay(f.blk, &e), 0);
    parent = f.blk;
    config = file_config((char[]){"child"});
    config.forked_from = parent;
    start_drive(&f, config);
    assert_int_equal(read_byte(&f, 5), 0x44);
    write_sectors(&f, 5, 512, 0x55);
    virtio_dev_destroy(blk_dev(parent));
    assert_int_equal(read_byte(&f, 5), 0x55);
    tear_down(&f);
}

/* ---- everything at once, against a model ---- */

struct model {
    uint8_t sector[DISK_SECTORS]; /* each is full of one byte */
    uint64_t random;
};

static uint64_t draw(struct model *m, uint64_t below)
{
    m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (m->random >> 33) % below;
}

/* A few requests to sectors that they do not share, though blocks they may. */
#define WAVE 6
struct wave {
    struct guest_request request[WAVE];
    uint32_t type[WAVE];
    uint64_t sector[WAVE];
    uint32_t sectors[WAVE];
};

static void add_one(struct fixture *f, struct model *m, struct wave *w, unsigned i)
{
    static const uint32_t types[] = {IN, OUT, OUT, WRITE_ZEROES, DISCARD};
    const uint64_t share = DISK_SECTORS / WAVE / 4;
    bool discards = blk_config(f->blk)->discard;
    uint8_t byte = (uint8_t)draw(m, 256);

    w->type[i] = types[draw(m, discards ? ARRAY_SIZE(types) : 3)];
    w->sector[i] = (draw(m, 4) * WAVE + i) * share + draw(m, share / 2);
    w->sectors[i] = (uint32_t)(1 + draw(m, share / 2));
    if (w->type[i] == WRITE_ZEROES || w->type[i] == DISCARD)
        w->request[i] = add_zeroes(f, w->type[i], w->sector[i], w->sectors[i]);
    else
        w->request[i] = add(f, w->type[i], w->sector[i], w->sectors[i] * 512);
    if (w->type[i] == OUT)
        fill(f, &w->request[i], byte);
    for (uint64_t s = w->sector[i]; s < w->sector[i] + w->sectors[i]; s++) {
        bool whole =
            s - s % BLOCK >= w->sector[i] && s - s % BLOCK + BLOCK <= w->sector[i] + w->sectors[i];

        if (w->type[i] == OUT)
            m->sector[s] = byte;
        else if (w->type[i] == WRITE_ZEROES || (w->type[i] == DISCARD && whole))
            m->sector[s] = 0;
    }
}

static void check_one(struct fixture *f, const struct model *m, const struct wave *w, unsigned i)
{
    assert_int_equal(status_of(f, &w->request[i]), OK);
    for (uint64_t s = 0; w->type[i] == IN && s < w->sectors[i]; s++) {
        assert_int_equal(byte_at(f, w->request[i].data + s * 512), m->sector[w->sector[i] + s]);
        assert_int_equal(byte_at(f, w->request[i].data + s * 512 + 511),
                         m->sector[w->sector[i] + s]);
    }
}

static void run_wave(struct fixture *f, struct model *m)
{
    struct virtq_used_elem used;
    struct wave w;

    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, virtio_dev_features(f->dev)), 15);
    for (unsigned i = 0; i < WAVE; i++)
        add_one(f, m, &w, i);
    kick(f);
    while (fake_loop_count(f->loop) > 0) {
        unsigned index = (unsigned)draw(m, fake_loop_count(f->loop));

        fake_loop_complete(f->loop, index, fake_loop_carry_out(f->loop, index), false);
        fake_loop_end_turn(f->loop);
    }
    fake_loop_end_turn(f->loop);
    assert_int_equal(f->dev->in_flight, 0);
    for (unsigned i = 0; i < WAVE; i++) {
        assert_true(guest_take_used(&f->driver, &used));
        check_one(f, m, &w, i);
    }
    virtio_dev_write_status(f->dev, 0);
}

static void check_all(struct fixture *f, const struct model *m)
{
    guest_driver_init(&f->driver, &f->mem, 0x1000, QUEUE_SIZE);
    assert_int_equal(guest_start(f->dev, &f->driver, virtio_dev_features(f->dev)), 15);
    for (uint64_t s = 0; s < DISK_SECTORS; s++) {
        if (s % 100 == 0) /* room for buffers */
            f->driver.heap = 8 * MIB;
        assert_int_equal(read_byte(f, s), m->sector[s]);
    }
    virtio_dev_write_status(f->dev, 0);
}

/* Stores the overlay as it is, as a snapshot does. */
static void store(const struct fixture *f, const char *path)
{
    struct layer_id id;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(layer_id_make(&id), 0);
    assert_int_equal(overlay_store(blk_overlay(f->blk), fd, &id), 0);
    close(fd);
}

/* Ten generations: each writes over what those before have left. */
static void run_generations(struct blk_config config, uint64_t seed)
{
    struct model m = {.random = seed};
    char name[BLK_LAYERS_MAX][32];
    char top[32];
    struct fixture f;

    for (uint64_t s = 0; s < DISK_SECTORS; s++)
        m.sector[s] = base_byte(s);
    set_up_empty(&f);
    for (unsigned generation = 0; generation < 10; generation++) {
        snprintf(top, sizeof(top), "top.%u", generation);
        if (config.overlay.type == BLK_OVERLAY_FILE)
            config.overlay.path = top;
        if (f.dev)
            start_again(&f, config);
        else
            start_drive(&f, config);
        virtio_dev_write_status(f.dev, 0);
        check_all(&f, &m);
        for (unsigned i = 0; i < 12; i++)
            run_wave(&f, &m);
        check_all(&f, &m);
        snprintf(name[generation], sizeof(name[0]), "layer.%u", generation);
        store(&f, name[generation]);
        config.overlay.layer[config.overlay.layer_count++] = name[generation];
    }
    expect_base_untouched(&f);
    tear_down(&f);
}

static void test_overlay_of_memory_agrees_with_model_ten_generations_deep(void **state)
{
    struct blk_config config = memory_config();

    (void)state;
    run_generations(config, 1);
}

static void test_overlay_of_memory_with_discards_agrees_with_model(void **state)
{
    struct blk_config config = memory_config();

    (void)state;
    config.engine = BLK_ENGINE_SYNC;
    config.discard = true;
    run_generations(config, 2);
}

static void test_overlay_of_file_agrees_with_model_ten_generations_deep(void **state)
{
    (void)state;
    run_generations(file_config(NULL), 3);
}

static void test_overlay_of_file_with_discards_agrees_with_model(void **state)
{
    struct blk_config config = file_config(NULL);

    (void)state;
    config.engine = BLK_ENGINE_SYNC;
    config.cache = BLK_CACHE_WRITEBACK;
    config.discard = true;
    run_generations(config, 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_directory, leave_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_overlay_read_in_one_place_is_one_operation),
        TEST(test_overlay_read_across_places_gathers_them),
        TEST(test_overlay_write_of_whole_blocks_reads_nothing),
        TEST(test_overlay_write_of_a_part_keeps_the_rest_of_its_block),
        TEST(test_overlay_writes_to_one_new_block_wait_for_each_other),
        TEST(test_overlay_block_that_could_not_be_copied_stays_what_it_was),
        TEST(test_overlay_identity_is_that_of_the_file_below),
        TEST(test_overlay_zeroes_any_sectors_and_discards_whole_blocks),
        TEST(test_overlay_flush_writes_bits_behind_the_data_that_it_covers),
        TEST(test_overlay_flush_that_fails_is_made_up_by_the_next),
        TEST(test_overlay_of_memory_is_flushed_at_once),
        TEST(test_overlay_file_is_gone_on_with),
        TEST(test_overlay_without_flush_forgets_what_was_not_flushed_as_a_whole),
        TEST(test_overlay_that_is_split_reads_the_same),
        TEST(test_overlay_that_holds_nothing_is_not_split),
        TEST(test_overlay_of_memory_is_inherited_as_it_is),
        TEST(test_overlay_of_a_file_is_inherited_as_a_layer),
        TEST(test_overlay_of_memory_agrees_with_model_ten_generations_deep),
        TEST(test_overlay_of_memory_with_discards_agrees_with_model),
        TEST(test_overlay_of_file_agrees_with_model_ten_generations_deep),
        TEST(test_overlay_of_file_with_discards_agrees_with_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
