/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/virtqueue.c against proper drivers and hostile rings, on real guest memory. */
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/virtqueue.h"

#include <string.h>

#define RAM  (8 * MIB)
#define BASE 0x1000
#define SIZE 8
#define ROOM 16

struct fixture {
    struct mem mem;
    struct guest_driver driver;
    struct virtqueue vq;
    struct vq_chain chain;
    struct iovec iov[ROOM];
};

static void set_up_with(struct fixture *f, uint16_t size, bool event_idx, bool indirect)
{
    assert_int_equal(mem_create(&f->mem, RAM, MEM_PAGES_DEFAULT, true, NULL), 0);
    guest_driver_init(&f->driver, &f->mem, BASE, size);
    virtqueue_init(&f->vq, size);
    guest_driver_set_up(&f->driver, &f->vq.s);
    assert_int_equal(virtqueue_map(&f->vq, &f->mem, event_idx, indirect), VQ_OK);
}

static void set_up(struct fixture *f)
{
    set_up_with(f, SIZE, true, true);
}

static void tear_down(struct fixture *f)
{
    mem_destroy(&f->mem);
}

static enum vq_result pop(struct fixture *f)
{
    return virtqueue_pop(&f->vq, &f->chain, f->iov, ROOM);
}

static struct guest_buffer buffer(struct fixture *f, uint32_t len, bool writable)
{
    return (struct guest_buffer){guest_alloc(&f->driver, len), len, writable};
}

static uint16_t add_one(struct fixture *f)
{
    struct guest_buffer one = buffer(f, 16, true);

    return guest_add(&f->driver, &one, 1);
}

static const void *hva(struct fixture *f, uint64_t gpa)
{
    return mem_readable(&f->mem, GPA(gpa), 1);
}

static bool is_dirty(const struct fixture *f, uint64_t gpa)
{
    uint64_t page = gpa / PAGE_SIZE;

    return f->mem.region[0].dirty[page / 64] >> (page % 64) & 1;
}

/* ---- mapping ---- */

static void test_virtqueue_map_judges_size_alignment_and_place(void **state)
{
    static const struct {
        struct virtqueue_state s;
        enum vq_result want;
    } cases[] = {
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3000, .size = 8}, VQ_OK},
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3000, .size = 1}, VQ_OK},
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3000, .size = 256}, VQ_OK},
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3000, .size = 0}, VQ_BAD_SIZE},
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3000, .size = 7}, VQ_BAD_SIZE},
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3000, .size = 512}, VQ_BAD_SIZE},
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3000, .size = 32768}, VQ_BAD_SIZE},
        {{.desc = 0x1008, .avail = 0x2000, .used = 0x3000, .size = 8}, VQ_MISALIGNED_RING},
        {{.desc = 0x1000, .avail = 0x2001, .used = 0x3000, .size = 8}, VQ_MISALIGNED_RING},
        {{.desc = 0x1000, .avail = 0x2000, .used = 0x3002, .size = 8}, VQ_MISALIGNED_RING},
        /* each area may end exactly at the end of RAM, and not one word later */
        {{.desc = RAM - 128, .avail = 0x2000, .used = 0x3000, .size = 8}, VQ_OK},
        {{.desc = RAM - 112, .avail = 0x2000, .used = 0x3000, .size = 8}, VQ_RING_OUTSIDE_RAM},
        {{.desc = 0x1000, .avail = RAM - 22, .used = 0x3000, .size = 8}, VQ_OK},
        {{.desc = 0x1000, .avail = RAM - 20, .used = 0x3000, .size = 8}, VQ_RING_OUTSIDE_RAM},
        {{.desc = 0x1000, .avail = 0x2000, .used = RAM - 72, .size = 8}, VQ_OK},
        {{.desc = 0x1000, .avail = 0x2000, .used = RAM - 68, .size = 8}, VQ_RING_OUTSIDE_RAM},
        /* and sums must not wrap */
        {{.desc = ~UINT64_C(15), .avail = 0x2000, .used = 0x3000, .size = 8}, VQ_RING_OUTSIDE_RAM},
        {{.desc = 0x1000, .avail = ~UINT64_C(1), .used = 0x3000, .size = 8}, VQ_RING_OUTSIDE_RAM},
        {{.desc = 0x1000, .avail = 0x2000, .used = ~UINT64_C(3), .size = 8}, VQ_RING_OUTSIDE_RAM},
    };
    struct mem mem;

    (void)state;
    assert_int_equal(mem_create(&mem, RAM, MEM_PAGES_DEFAULT, false, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct virtqueue vq;

        virtqueue_init(&vq, 256);
        assert_int_equal(vq.s.size, 256);
        vq.s = cases[i].s;
        vq.s.size_max = 256;
        if (virtqueue_map(&vq, &mem, true, true) != cases[i].want)
            fail_msg("case %zu", i);
        assert_int_equal(vq.mem != NULL, cases[i].want == VQ_OK);
    }
    mem_destroy(&mem);
}

/* ---- taking ---- */

static void test_virtqueue_pop_of_an_empty_queue_takes_nothing(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    assert_int_equal(pop(&f), VQ_EMPTY);
    assert_int_equal(f.vq.in_flight, 0);
    tear_down(&f);
}

static void test_virtqueue_pop_gives_readable_then_writable_buffers(void **state)
{
    struct fixture f;
    struct guest_buffer buffers[4];
    uint16_t head;

    (void)state;
    set_up(&f);
    buffers[0] = buffer(&f, 16, false);
    buffers[1] = buffer(&f, 0, false); /* empty: left out */
    buffers[2] = buffer(&f, 512, true);
    buffers[3] = buffer(&f, 1, true);

    head = guest_add(&f.driver, buffers, 4);

    assert_int_equal(pop(&f), VQ_OK);
    assert_int_equal(f.chain.head, head);
    assert_int_equal(f.chain.n_readable, 1);
    assert_int_equal(f.chain.n_writable, 2);
    assert_int_equal(f.chain.readable_len, 16);
    assert_int_equal(f.chain.writable_len, 513);
    assert_ptr_equal(f.iov[0].iov_base, hva(&f, buffers[0].gpa));
    assert_ptr_equal(f.iov[1].iov_base, hva(&f, buffers[2].gpa));
    assert_ptr_equal(f.iov[2].iov_base, hva(&f, buffers[3].gpa));
    assert_int_equal(pop(&f), VQ_EMPTY);
    tear_down(&f);
}

static void test_virtqueue_pop_marks_only_writable_buffers_dirty(void **state)
{
    struct fixture f;
    struct virtqueue_state s;

    (void)state;
    set_up(&f);
    s = f.vq.s;
    guest_set_desc(&f.driver, 0, (struct virtq_desc){0x300000, 16, VIRTQ_DESC_NEXT, 1});
    guest_set_desc(&f.driver, 1, (struct virtq_desc){0x400000, 16, VIRTQ_DESC_WRITE, 0});
    guest_offer(&f.driver, 0);

    assert_int_equal(pop(&f), VQ_OK);

    assert_false(is_dirty(&f, 0x300000));
    assert_true(is_dirty(&f, 0x400000));
    assert_int_equal(s.desc, f.vq.s.desc);
    tear_down(&f);
}

static void test_virtqueue_pop_follows_an_indirect_table(void **state)
{
    struct fixture f;
    struct guest_buffer buffers[ROOM];

    (void)state;
    set_up(&f);
    for (int i = 0; i < ROOM; i++) /* longer than the queue: that is what tables are for */
        buffers[i] = buffer(&f, 32, i >= 4);

    guest_add_indirect(&f.driver, buffers, ROOM);

    f.vq.s.size_max = ROOM;
    assert_int_equal(pop(&f), VQ_OK);
    assert_int_equal(f.chain.n_readable, 4);
    assert_int_equal(f.chain.n_writable, 12);
    for (int i = 0; i < ROOM; i++)
        assert_ptr_equal(f.iov[i].iov_base, hva(&f, buffers[i].gpa));
    tear_down(&f);
}

static void test_virtqueue_pop_follows_direct_descriptors_into_a_table(void **state)
{
    struct fixture f;
    struct virtq_desc table[2] = {{0x5000, 8, VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE, 1},
                                  {0x6000, 8, VIRTQ_DESC_WRITE, 0}};

    (void)state;
    set_up(&f);
    guest_write(&f.driver, 0x300001, table, sizeof(table)); /* tables need no alignment */
    guest_set_desc(&f.driver, 3, (struct virtq_desc){0x4000, 8, VIRTQ_DESC_NEXT, 6});
    /* WRITE on the descriptor that leads to a table means nothing */
    guest_set_desc(
        &f.driver, 6,
        (struct virtq_desc){0x300001, sizeof(table), VIRTQ_DESC_INDIRECT | VIRTQ_DESC_WRITE, 0});
    guest_offer(&f.driver, 3);

    assert_int_equal(pop(&f), VQ_OK);
    assert_int_equal(f.chain.n_readable, 1);
    assert_int_equal(f.chain.n_writable, 2);
    tear_down(&f);
}

static void test_virtqueue_chain_is_read_and_written_however_it_is_cut(void **state)
{
    static const uint32_t cuts[] = {1, 3, 2};
    struct guest_buffer buffers[6];
    uint8_t *at[7] = {0};
    struct fixture f;
    char text[8] = "";

    (void)state;
    set_up(&f);
    for (unsigned i = 0; i < 6; i++)
        buffers[i] = buffer(&f, cuts[i % 3], i >= 3);
    guest_write(&f.driver, buffers[0].gpa, "a", 1);
    guest_write(&f.driver, buffers[1].gpa, "bcd", 3);
    guest_write(&f.driver, buffers[2].gpa, "ef", 2);
    guest_add(&f.driver, buffers, 6);
    assert_int_equal(pop(&f), VQ_OK);

    assert_int_equal(vq_chain_read(&f.chain, text, 5), 5);
    assert_string_equal(text, "abcde");
    assert_int_equal(vq_chain_read(&f.chain, text, 8), 6); /* there is no more */
    assert_int_equal(vq_chain_write(&f.chain, "uvwxyz!", 7), 6);
    assert_memory_equal(hva(&f, buffers[4].gpa), "vwx", 3);
    assert_memory_equal(hva(&f, buffers[5].gpa), "yz", 2);
    assert_true(vq_chain_place(&f.chain, at, 5));
    assert_ptr_equal(at[0], hva(&f, buffers[3].gpa));
    assert_ptr_equal(at[4], hva(&f, buffers[5].gpa));
    assert_null(at[5]);
    assert_true(vq_chain_place(&f.chain, at, 6));
    assert_false(vq_chain_place(&f.chain, at, 7));
    tear_down(&f);
}

static void test_virtqueue_unpop_gives_the_same_chain_again(void **state)
{
    struct fixture f;
    uint16_t head;

    (void)state;
    set_up(&f);
    add_one(&f);
    head = add_one(&f);
    assert_int_equal(pop(&f), VQ_OK);
    assert_int_equal(pop(&f), VQ_OK);

    virtqueue_unpop(&f.vq);

    assert_int_equal(virtqueue_waiting(&f.vq), 1);
    assert_int_equal(pop(&f), VQ_OK);
    assert_int_equal(f.chain.head, head);
    tear_down(&f);
}

static void test_virtqueue_indices_wrap_around(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up(&f);
    /* as after 65530 chains */
    f.vq.s.next_avail = f.vq.s.next_used = f.driver.used_idx = f.driver.avail_idx = 65530;
    guest_set_avail_idx(&f.driver, 65530);
    guest_write16(&f.driver, f.driver.used + 2, 65530);
    assert_int_equal(virtqueue_map(&f.vq, &f.mem, true, true), VQ_OK);

    for (unsigned i = 0; i < 3 * SIZE; i++) {
        uint16_t head = add_one(&f);

        guest_set_used_event(&f.driver, f.driver.used_idx);
        assert_int_equal(pop(&f), VQ_OK);
        assert_int_equal(f.chain.head, head);
        virtqueue_push(&f.vq, head, i);
        assert_true(virtqueue_publish(&f.vq));
        assert_true(guest_take_used(&f.driver, &used));
        assert_int_equal(used.id, head);
        assert_int_equal(used.len, i);
    }
    assert_int_equal(f.vq.s.next_avail, (uint16_t)(65530 + 3 * SIZE));
    tear_down(&f);
}

static void test_virtqueue_of_one_entry_works(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up_with(&f, 1, true, true);
    for (uint32_t i = 0; i < 3; i++) {
        add_one(&f);
        assert_int_equal(pop(&f), VQ_OK);
        virtqueue_push(&f.vq, f.chain.head, i);
        virtqueue_publish(&f.vq);
        assert_true(guest_take_used(&f.driver, &used));
        assert_int_equal(used.len, i);
    }
    tear_down(&f);
}

/* ---- mistakes ---- */

/* One hand-made chain, from descriptor 0 on, and what becomes of it. */
static void expect_refused(const struct virtq_desc *desc, uint16_t count, enum vq_result want)
{
    struct fixture f;

    set_up(&f);
    for (uint16_t i = 0; i < count; i++)
        guest_set_desc(&f.driver, i, desc[i]);
    guest_offer(&f.driver, 0);

    assert_int_equal(pop(&f), want);
    assert_int_equal(f.vq.in_flight, 0);
    assert_int_equal(f.vq.s.next_avail, 0);
    tear_down(&f);
}

static void test_virtqueue_pop_rejects_chain_longer_than_queue(void **state)
{
    static const struct virtq_desc loop[] = {
        {0x4000, 1, VIRTQ_DESC_NEXT, 1},
        {0x4000, 1, VIRTQ_DESC_NEXT, 2},
        {0x4000, 1, VIRTQ_DESC_NEXT, 0},
    };
    static const struct virtq_desc itself[] = {{0x4000, 0, VIRTQ_DESC_NEXT, 0}};

    (void)state;
    expect_refused(loop, ARRAY_SIZE(loop), VQ_CHAIN_TOO_LONG);
    expect_refused(itself, ARRAY_SIZE(itself), VQ_CHAIN_TOO_LONG);
}

static void test_virtqueue_pop_rejects_next_outside_the_table(void **state)
{
    static const struct virtq_desc chain[] = {{0x4000, 1, VIRTQ_DESC_NEXT, SIZE}};

    (void)state;
    expect_refused(chain, 1, VQ_BAD_INDEX);
}

static void test_virtqueue_pop_rejects_head_outside_the_table(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    guest_offer(&f.driver, SIZE);
    assert_int_equal(pop(&f), VQ_BAD_INDEX);
    tear_down(&f);
}

static void test_virtqueue_pop_rejects_readable_after_writable(void **state)
{
    static const struct virtq_desc chain[] = {
        {0x4000, 1, VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE, 1},
        {0x4000, 1, 0, 0},
    };

    (void)state;
    expect_refused(chain, 2, VQ_READABLE_AFTER_WRITABLE);
}

static void test_virtqueue_pop_rejects_buffers_outside_ram(void **state)
{
    static const struct virtq_desc chains[] = {
        {RAM, 1, 0, 0},        {RAM - 1, 2, VIRTQ_DESC_WRITE, 0},
        {UINT64_MAX, 1, 0, 0}, {UINT64_MAX - 4, 16, VIRTQ_DESC_WRITE, 0},
        {0, UINT32_MAX, 0, 0}, {MEM_HOLE32_START, 4096, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
        expect_refused(&chains[i], 1, VQ_BUFFER_OUTSIDE_RAM);
}

static void test_virtqueue_pop_takes_an_empty_buffer_anywhere(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    guest_set_desc(&f.driver, 0, (struct virtq_desc){UINT64_MAX, 0, VIRTQ_DESC_WRITE, 0});
    guest_offer(&f.driver, 0);
    assert_int_equal(pop(&f), VQ_OK);
    assert_int_equal(f.chain.n_readable + f.chain.n_writable, 0);
    tear_down(&f);
}

static void test_virtqueue_pop_rejects_more_than_4_gib(void **state)
{
    struct mem mem;
    struct virtqueue vq;
    struct vq_chain chain;
    struct guest_driver driver;
    struct iovec iov[ROOM];

    (void)state;
    /* 3 GiB are in one region, so two buffers of it are each fine and together too large */
    assert_int_equal(mem_create(&mem, 3 * GIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    guest_driver_init(&driver, &mem, BASE, SIZE);
    virtqueue_init(&vq, SIZE);
    guest_driver_set_up(&driver, &vq.s);
    assert_int_equal(virtqueue_map(&vq, &mem, true, true), VQ_OK);
    guest_set_desc(&driver, 0, (struct virtq_desc){0, 0x80000000, VIRTQ_DESC_NEXT, 1});
    guest_set_desc(&driver, 1, (struct virtq_desc){0, 0x80000000, 0, 0});
    guest_offer(&driver, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain, iov, ROOM), VQ_CHAIN_TOO_LARGE);
    mem_destroy(&mem);
}

static void test_virtqueue_pop_rejects_more_buffers_than_room(void **state)
{
    struct fixture f;
    struct guest_buffer buffers[SIZE];

    (void)state;
    set_up(&f);
    for (int i = 0; i < SIZE; i++)
        buffers[i] = buffer(&f, 8, false);
    guest_add(&f.driver, buffers, SIZE);
    assert_int_equal(virtqueue_pop(&f.vq, &f.chain, f.iov, SIZE - 1), VQ_TOO_MANY_BUFFERS);
    assert_int_equal(virtqueue_pop(&f.vq, &f.chain, f.iov, SIZE), VQ_OK);
    tear_down(&f);
}

static void test_virtqueue_pop_rejects_indirect_without_the_feature(void **state)
{
    struct fixture f;
    struct guest_buffer one;

    (void)state;
    set_up_with(&f, SIZE, true, false);
    one = buffer(&f, 8, false);
    guest_add_indirect(&f.driver, &one, 1);
    assert_int_equal(pop(&f), VQ_INDIRECT_NOT_NEGOTIATED);
    tear_down(&f);
}

static void test_virtqueue_pop_rejects_nested_indirect(void **state)
{
    struct fixture f;
    struct virtq_desc inner = {0x4000, 16, VIRTQ_DESC_INDIRECT, 0};

    (void)state;
    set_up(&f);
    guest_write(&f.driver, 0x300000, &inner, sizeof(inner));
    guest_set_desc(&f.driver, 0, (struct virtq_desc){0x300000, 16, VIRTQ_DESC_INDIRECT, 0});
    guest_offer(&f.driver, 0);
    assert_int_equal(pop(&f), VQ_INDIRECT_NESTED);
    tear_down(&f);
}

static void test_virtqueue_pop_rejects_bad_indirect_tables(void **state)
{
    static const struct virtq_desc tables[] = {
        {0x300000, 0, VIRTQ_DESC_INDIRECT, 0},               /* empty */
        {0x300000, 24, VIRTQ_DESC_INDIRECT, 0},              /* no whole number of descriptors */
        {0x300000, (SIZE + 1) * 16, VIRTQ_DESC_INDIRECT, 0}, /* longer than the device's maximum */
        {0x300000, 0xfffffff0, VIRTQ_DESC_INDIRECT, 0},      /* much longer */
        {RAM - 16, 32, VIRTQ_DESC_INDIRECT, 0},              /* outside RAM */
        {UINT64_MAX - 15, 16, VIRTQ_DESC_INDIRECT, 0},
    };
    static const struct virtq_desc with_next = {0x300000, 16, VIRTQ_DESC_INDIRECT | VIRTQ_DESC_NEXT,
                                                0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        expect_refused(&tables[i], 1, VQ_INDIRECT_BAD_TABLE);
    expect_refused(&with_next, 1, VQ_INDIRECT_WITH_NEXT);
}

static void test_virtqueue_pop_rejects_loops_and_bad_next_in_a_table(void **state)
{
    static const struct {
        struct virtq_desc table[2];
        enum vq_result want;
    } cases[] = {
        {{{0x4000, 1, VIRTQ_DESC_NEXT, 1}, {0x4000, 1, VIRTQ_DESC_NEXT, 0}}, VQ_CHAIN_TOO_LONG},
        {{{0x4000, 1, VIRTQ_DESC_NEXT, 2}, {0, 0, 0, 0}}, VQ_BAD_INDEX},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;

        set_up(&f);
        guest_write(&f.driver, 0x300000, cases[i].table, sizeof(cases[i].table));
        guest_set_desc(&f.driver, 0, (struct virtq_desc){0x300000, 32, VIRTQ_DESC_INDIRECT, 0});
        guest_offer(&f.driver, 0);
        assert_int_equal(pop(&f), cases[i].want);
        tear_down(&f);
    }
}

static void test_virtqueue_pop_rejects_avail_index_more_than_size_ahead(void **state)
{
    static const uint16_t bad[] = {SIZE + 1, 0x8000, 0xffff};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct fixture f;

        set_up(&f);
        guest_set_avail_idx(&f.driver, bad[i]);
        assert_int_equal(pop(&f), VQ_AVAIL_OVERRUN);
        tear_down(&f);
    }
}

static void test_virtqueue_pop_takes_a_full_queue_and_no_chain_more(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    for (int i = 0; i < SIZE; i++)
        add_one(&f);
    for (int i = 0; i < SIZE; i++)
        assert_int_equal(pop(&f), VQ_OK);

    add_one(&f); /* though none has come back */
    assert_int_equal(pop(&f), VQ_TOO_MANY_IN_FLIGHT);

    virtqueue_push(&f.vq, 0, 0);
    assert_int_equal(pop(&f), VQ_OK);
    tear_down(&f);
}

static void test_virtqueue_every_result_has_a_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VQ_RESULTS; i++)
        assert_true(strlen(vq_result_name((enum vq_result)i)) > 5);
    assert_string_equal(vq_result_name(VQ_RESULTS), "unknown");
}

/* ---- returning ---- */

static void test_virtqueue_push_is_invisible_until_published_and_marks_dirty(void **state)
{
    struct fixture f;
    struct virtq_used_elem used;

    (void)state;
    set_up(&f);
    add_one(&f);
    assert_int_equal(pop(&f), VQ_OK);
    memset(f.mem.region[0].dirty, 0, RAM / PAGE_SIZE / 8);

    virtqueue_push(&f.vq, f.chain.head, 7);
    assert_false(guest_take_used(&f.driver, &used));
    assert_true(is_dirty(&f, f.driver.used));

    memset(f.mem.region[0].dirty, 0, RAM / PAGE_SIZE / 8);
    virtqueue_publish(&f.vq);
    assert_true(guest_take_used(&f.driver, &used));
    assert_int_equal(used.len, 7);
    assert_true(is_dirty(&f, f.driver.used));
    assert_false(is_dirty(&f, f.driver.avail));
    tear_down(&f);
}

static void test_virtqueue_publish_of_nothing_interrupts_nobody(void **state)
{
    struct fixture f;

    (void)state;
    set_up_with(&f, SIZE, false, false);
    assert_false(virtqueue_publish(&f.vq));
    tear_down(&f);
}

static void test_virtqueue_publish_respects_no_interrupt(void **state)
{
    struct fixture f;

    (void)state;
    set_up_with(&f, SIZE, false, false);
    for (int quiet = 0; quiet < 2; quiet++) {
        guest_set_no_interrupt(&f.driver, quiet);
        add_one(&f);
        assert_int_equal(pop(&f), VQ_OK);
        virtqueue_push(&f.vq, f.chain.head, 0);
        assert_int_equal(virtqueue_publish(&f.vq), !quiet);
    }
    tear_down(&f);
}

static void test_virtqueue_publish_interrupts_when_it_passes_used_event(void **state)
{
    /* from index `old`, `n` entries at once, the driver wants word of index `event` */
    static const struct {
        uint16_t old, n, event;
        bool want;
    } cases[] = {
        {0, 1, 0, true},           {0, 1, 1, false},
        {0, 1, 0xffff, false},     {0, 3, 2, true},
        {0, 3, 3, false},          {5, 3, 4, false},
        {5, 3, 5, true},           {5, 3, 7, true},
        {5, 3, 8, false},          {0xfffe, 4, 0xfffd, false},
        {0xfffe, 4, 0xfffe, true}, {0xfffe, 4, 0xffff, true},
        {0xfffe, 4, 1, true},      {0xfffe, 4, 2, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture f;

        set_up(&f);
        f.vq.s.next_avail = f.vq.s.next_used = cases[i].old;
        guest_set_avail_idx(&f.driver, cases[i].old);
        assert_int_equal(virtqueue_map(&f.vq, &f.mem, true, true), VQ_OK);
        guest_set_used_event(&f.driver, cases[i].event);
        guest_set_no_interrupt(&f.driver, true); /* means nothing with EVENT_IDX */
        for (uint16_t n = 0; n < cases[i].n; n++) {
            add_one(&f);
            assert_int_equal(pop(&f), VQ_OK);
            virtqueue_push(&f.vq, f.chain.head, 0);
        }
        if (virtqueue_publish(&f.vq) != cases[i].want)
            fail_msg("case %zu", i);
        tear_down(&f);
    }
}

/* ---- kicks ---- */

static void test_virtqueue_kicks_with_event_idx_are_asked_for_only_when_idle(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    add_one(&f);
    virtqueue_kicks_off(&f.vq);
    assert_int_equal(guest_avail_event(&f.driver), 0);
    assert_int_equal(guest_used_flags(&f.driver), 0);
    assert_int_equal(pop(&f), VQ_OK);
    assert_int_equal(guest_avail_event(&f.driver), 0);

    assert_false(virtqueue_kicks_on(&f.vq));
    assert_int_equal(guest_avail_event(&f.driver), 1);

    add_one(&f); /* between the last look and the wish: must be noticed */
    assert_true(virtqueue_kicks_on(&f.vq));
    tear_down(&f);
}

static void test_virtqueue_kick_after_an_index_does_not_depend_on_what_waits(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    add_one(&f);
    add_one(&f);
    assert_int_equal(virtqueue_driver_index(&f.vq), 2);
    assert_false(virtqueue_kicks_on_after(&f.vq, 2));
    assert_int_equal(guest_avail_event(&f.driver), 2);
    add_one(&f);
    assert_true(virtqueue_kicks_on_after(&f.vq, 2));
    tear_down(&f);
}

static void test_virtqueue_kicks_without_event_idx_use_the_flag(void **state)
{
    struct fixture f;

    (void)state;
    set_up_with(&f, SIZE, false, true);
    virtqueue_kicks_off(&f.vq);
    assert_int_equal(guest_used_flags(&f.driver), VIRTQ_USED_NO_NOTIFY);
    guest_write16(&f.driver, f.driver.used, 0x5555);
    virtqueue_kicks_off(&f.vq); /* already off: not written again */
    assert_int_equal(guest_used_flags(&f.driver), 0x5555);

    add_one(&f);
    assert_true(virtqueue_kicks_on(&f.vq));
    assert_int_equal(guest_used_flags(&f.driver), 0);
    assert_int_equal(pop(&f), VQ_OK);
    assert_false(virtqueue_kicks_on(&f.vq));
    assert_int_equal(guest_avail_event(&f.driver), 0);
    tear_down(&f);
}

/* ---- saved state ---- */

static void test_virtqueue_goes_on_from_its_saved_state(void **state)
{
    struct fixture f;
    struct virtqueue other;
    struct virtq_used_elem used;
    uint8_t bytes[64];
    uint16_t head;
    int len;

    (void)state;
    set_up(&f);
    for (int i = 0; i < 3; i++) {
        add_one(&f);
        assert_int_equal(pop(&f), VQ_OK);
        virtqueue_push(&f.vq, f.chain.head, 0);
    }
    virtqueue_publish(&f.vq);
    head = add_one(&f);
    len = state_encode(&virtqueue_state_desc, &f.vq.s, bytes, sizeof(bytes));
    assert_true(len > 0);

    virtqueue_init(&other, SIZE);
    assert_int_equal(state_decode(&virtqueue_state_desc, virtqueue_state_desc.version, bytes,
                                  (size_t)len, &other.s, NULL),
                     0);
    assert_int_equal(virtqueue_map(&other, &f.mem, true, true), VQ_OK);

    assert_int_equal(virtqueue_pop(&other, &f.chain, f.iov, ROOM), VQ_OK);
    assert_int_equal(f.chain.head, head);
    virtqueue_push(&other, head, 9);
    virtqueue_publish(&other);
    for (int i = 0; i < 4; i++)
        assert_true(guest_take_used(&f.driver, &used));
    assert_int_equal(used.len, 9);
    tear_down(&f);
}

static void test_virtqueue_state_of_another_maximum_is_refused(void **state)
{
    struct virtqueue a, b;
    uint8_t bytes[64];
    int len;

    (void)state;
    virtqueue_init(&a, 256);
    virtqueue_init(&b, 128);
    len = state_encode(&virtqueue_state_desc, &a.s, bytes, sizeof(bytes));
    assert_true(state_desc_tiles(&virtqueue_state_desc));
    assert_true(state_decode(&virtqueue_state_desc, virtqueue_state_desc.version, bytes,
                             (size_t)len, &b.s, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtqueue_map_judges_size_alignment_and_place),
        cmocka_unit_test(test_virtqueue_pop_of_an_empty_queue_takes_nothing),
        cmocka_unit_test(test_virtqueue_pop_gives_readable_then_writable_buffers),
        cmocka_unit_test(test_virtqueue_pop_marks_only_writable_buffers_dirty),
        cmocka_unit_test(test_virtqueue_pop_follows_an_indirect_table),
        cmocka_unit_test(test_virtqueue_pop_follows_direct_descriptors_into_a_table),
        cmocka_unit_test(test_virtqueue_chain_is_read_and_written_however_it_is_cut),
        cmocka_unit_test(test_virtqueue_unpop_gives_the_same_chain_again),
        cmocka_unit_test(test_virtqueue_indices_wrap_around),
        cmocka_unit_test(test_virtqueue_of_one_entry_works),
        cmocka_unit_test(test_virtqueue_pop_rejects_chain_longer_than_queue),
        cmocka_unit_test(test_virtqueue_pop_rejects_next_outside_the_table),
        cmocka_unit_test(test_virtqueue_pop_rejects_head_outside_the_table),
        cmocka_unit_test(test_virtqueue_pop_rejects_readable_after_writable),
        cmocka_unit_test(test_virtqueue_pop_rejects_buffers_outside_ram),
        cmocka_unit_test(test_virtqueue_pop_takes_an_empty_buffer_anywhere),
        cmocka_unit_test(test_virtqueue_pop_rejects_more_than_4_gib),
        cmocka_unit_test(test_virtqueue_pop_rejects_more_buffers_than_room),
        cmocka_unit_test(test_virtqueue_pop_rejects_indirect_without_the_feature),
        cmocka_unit_test(test_virtqueue_pop_rejects_nested_indirect),
        cmocka_unit_test(test_virtqueue_pop_rejects_bad_indirect_tables),
        cmocka_unit_test(test_virtqueue_pop_rejects_loops_and_bad_next_in_a_table),
        cmocka_unit_test(test_virtqueue_pop_rejects_avail_index_more_than_size_ahead),
        cmocka_unit_test(test_virtqueue_pop_takes_a_full_queue_and_no_chain_more),
        cmocka_unit_test(test_virtqueue_every_result_has_a_name),
        cmocka_unit_test(test_virtqueue_push_is_invisible_until_published_and_marks_dirty),
        cmocka_unit_test(test_virtqueue_publish_of_nothing_interrupts_nobody),
        cmocka_unit_test(test_virtqueue_publish_respects_no_interrupt),
        cmocka_unit_test(test_virtqueue_publish_interrupts_when_it_passes_used_event),
        cmocka_unit_test(test_virtqueue_kicks_with_event_idx_are_asked_for_only_when_idle),
        cmocka_unit_test(test_virtqueue_kick_after_an_index_does_not_depend_on_what_waits),
        cmocka_unit_test(test_virtqueue_kicks_without_event_idx_use_the_flag),
        cmocka_unit_test(test_virtqueue_goes_on_from_its_saved_state),
        cmocka_unit_test(test_virtqueue_state_of_another_maximum_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
