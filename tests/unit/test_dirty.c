/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/dirty.c, with a dirty log of our own in place of KVM's. */
#include "tests/unit/unit.h"
#include "vmm/base/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

/* What the log of each slot has; a call empties it. */
#define SLOTS 8
static uint64_t logged[SLOTS];
static unsigned fails_at; /* this slot's log cannot be read; SLOTS = none */

int kvm_dirty_log(const struct kvm *kvm, uint32_t slot, uint64_t *bitmap)
{
    (void)kvm;
    if (slot == fails_at)
        return -EIO;
    bitmap[0] = logged[slot];
    logged[slot] = 0;
    return 0;
}

struct fixture {
    struct mem mem;
    struct kvm kvm;
    uint64_t plugged;
};

static struct fixture *set_up(bool track)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct mem_region more = {.gpa = GPA(MEM_HOLE64_END + GIB), .size = 4 * MIB, .block_shift = 21};

    assert_non_null(f);
    memset(logged, 0, sizeof(logged));
    fails_at = SLOTS;
    f->kvm.device_slot = 3;
    more.plugged = &f->plugged;
    more.hva = mmap(NULL, more.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(more.hva != MAP_FAILED);
    assert_int_equal(mem_create(&f->mem, 3 * GIB + MIB, MEM_PAGES_DEFAULT, track, NULL), 0);
    assert_int_equal(mem_add_region(&f->mem, &more, NULL), 0);
    return f;
}

static void tear_down(struct fixture *f)
{
    munmap(f->mem.device[0].hva, f->mem.device[0].size);
    mem_destroy(&f->mem);
    free(f);
}

static void touch(struct fixture *f, uint64_t gpa)
{
    assert_non_null(mem_writable(&f->mem, GPA(gpa), 1));
}

static void test_taken_pages_are_those_of_guest_and_monitor(void **state)
{
    struct fixture *f = set_up(true);

    (void)state;
    logged[0] = 1;
    logged[1] = 2;
    touch(f, 4 * PAGE_SIZE);
    touch(f, MEM_HOLE32_END);
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    assert_int_equal(f->mem.region[0].taken[0], 0x11);
    assert_int_equal(f->mem.region[1].taken[0], 3);
    assert_int_equal(f->mem.region[0].dirty[0], 0);
    assert_int_equal(f->mem.region[1].dirty[0], 0);

    dirty_settle(&f->mem, true);
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    assert_int_equal(f->mem.region[0].taken[0], 0);
    assert_int_equal(f->mem.region[1].taken[0], 0);
    tear_down(f);
}

static void test_pages_of_failed_snapshot_are_taken_again_with_later_ones(void **state)
{
    struct fixture *f = set_up(true);

    (void)state;
    logged[0] = 1;
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    logged[0] = 2; /* written while the first snapshot is on its way */
    touch(f, 2 * PAGE_SIZE);
    dirty_settle(&f->mem, false);
    assert_int_equal(f->mem.region[0].taken[0], 0);
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    assert_int_equal(f->mem.region[0].taken[0], 7);
    tear_down(f);
}

static void test_log_that_cannot_be_read_leaves_all_pages_dirty(void **state)
{
    struct fixture *f = set_up(true);
    struct err e;

    (void)state;
    logged[0] = 1;
    touch(f, PAGE_SIZE);
    fails_at = 1;
    assert_int_equal(dirty_take(&f->mem, &f->kvm, &e), -EIO);
    assert_non_null(strstr(e.text, "dirty log"));
    assert_int_equal(f->mem.region[0].dirty[0], 3);
    assert_int_equal(f->mem.region[0].taken[0], 0);
    fails_at = SLOTS;
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    assert_int_equal(f->mem.region[0].taken[0], 3);
    tear_down(f);
}

/* Else a block that is plugged after the snapshot would have its old contents in a chain of Diffs.
 */
static void test_pages_of_unplugged_block_stay_dirty_until_it_is_plugged(void **state)
{
    struct fixture *f = set_up(true);
    const struct mem_region *more = &f->mem.device[0];

    (void)state;
    f->plugged = 1;
    mem_mark_gone(&f->mem, gpa_add(more->gpa, 2 * MIB), 2 * MIB);
    touch(f, more->gpa.v);
    logged[3] = 2;
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    assert_int_equal(more->taken[0], 3);
    assert_int_equal(more->taken[8], 0);
    dirty_settle(&f->mem, true);

    f->plugged = 3;
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    assert_int_equal(more->taken[0], 0);
    for (unsigned i = 8; i < 16; i++)
        assert_true(more->taken[i] == UINT64_MAX);
    tear_down(f);
}

static void test_memory_that_is_not_tracked_has_nothing_taken(void **state)
{
    struct fixture *f = set_up(false);

    (void)state;
    fails_at = 0;
    assert_int_equal(dirty_take(&f->mem, &f->kvm, NULL), 0);
    assert_null(f->mem.region[0].taken);
    dirty_settle(&f->mem, true);
    dirty_settle(&f->mem, false);
    tear_down(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_pages_are_those_of_guest_and_monitor),
        cmocka_unit_test(test_pages_of_failed_snapshot_are_taken_again_with_later_ones),
        cmocka_unit_test(test_log_that_cannot_be_read_leaves_all_pages_dirty),
        cmocka_unit_test(test_pages_of_unplugged_block_stay_dirty_until_it_is_plugged),
        cmocka_unit_test(test_memory_that_is_not_tracked_has_nothing_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
