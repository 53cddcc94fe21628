/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/generation.c: the two pages as a guest's drivers read them, from the offsets of
 * <linux/vmclock-abi.h>, and the two lines.
 */
#include "tests/support/irq_probe.h"
#include "tests/unit/unit.h"
#include "vmm/boot/layout.h"
#include "vmm/generation.h"

#include <string.h>

#define ID_SIZE 16

struct fixture {
    struct mem mem;
    struct irq_probe id, clock;
    struct generation generation;
};

static void set_up(struct fixture *f)
{
    struct err e;

    assert_int_equal(mem_create(&f->mem, MIB, MEM_PAGES_DEFAULT, true, &e), 0);
    irq_probe_init(&f->id, LAYOUT_IRQ_VMGENID);
    irq_probe_init(&f->clock, LAYOUT_IRQ_VMCLOCK);
    f->generation = (struct generation){.id_irq = f->id.line, .clock_irq = f->clock.line};
}

static void begin(struct fixture *f)
{
    struct err e;

    assert_int_equal(generation_begin(&f->mem, &e), 0);
}

static void renew(struct fixture *f)
{
    struct err e;

    assert_int_equal(generation_renew(&f->generation, &f->mem, &e), 0);
}

static void copy_id(const struct fixture *f, uint8_t id[ID_SIZE])
{
    assert_int_equal(mem_read(&f->mem, GPA(LAYOUT_VMGENID), id, ID_SIZE), 0);
}

static uint64_t clock_field(const struct fixture *f, unsigned offset, unsigned bytes)
{
    uint64_t value = 0;

    assert_int_equal(mem_read(&f->mem, GPA(LAYOUT_VMCLOCK + offset), &value, bytes), 0);
    return value;
}

static void set_clock_field(struct fixture *f, unsigned offset, uint64_t value, unsigned bytes)
{
    assert_int_equal(mem_write(&f->mem, GPA(LAYOUT_VMCLOCK + offset), &value, bytes), 0);
}

static bool is_dirty(const struct fixture *f, uint64_t gpa)
{
    uint64_t page = gpa / PAGE_SIZE;

    return f->mem.region[0].dirty[page / 64] >> page % 64 & 1;
}

static void test_generation_of_a_boot_is_random_and_raises_nothing(void **state)
{
    static const uint8_t zero[ID_SIZE];
    uint8_t first[ID_SIZE], second[ID_SIZE];
    struct fixture f;

    (void)state;
    set_up(&f);
    begin(&f);
    copy_id(&f, first);
    begin(&f);
    copy_id(&f, second);

    assert_memory_not_equal(first, zero, ID_SIZE);
    assert_memory_not_equal(first, second, ID_SIZE);
    assert_int_equal(irq_probe_take(&f.id) + irq_probe_take(&f.clock), 0);
    mem_destroy(&f.mem);
}

static void test_generation_clock_of_a_boot_promises_the_counter_and_no_time(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    begin(&f);

    assert_int_equal(clock_field(&f, 0, 4), 0x4b4c4356);
    assert_int_equal(clock_field(&f, 4, 4), 4096);
    assert_int_equal(clock_field(&f, 8, 2), 1);
    assert_int_equal(clock_field(&f, 10, 1), 0xff);            /* no counter to read time by */
    assert_int_equal(clock_field(&f, 24, 8), 1 << 8 | 1 << 9); /* generation, notification */
    assert_int_equal(clock_field(&f, 34, 1), 0);               /* the clock's status: unknown */
    assert_int_equal(clock_field(&f, 12, 4), 0);
    assert_int_equal(clock_field(&f, 16, 8) | clock_field(&f, 104, 8), 0);
    mem_destroy(&f.mem);
}

static void test_generation_renewed_is_another_id_and_a_step_of_both_counters(void **state)
{
    uint8_t before[ID_SIZE], after[ID_SIZE];
    struct fixture f;

    (void)state;
    set_up(&f);
    begin(&f);
    for (unsigned step = 1; step <= 3; step++) {
        copy_id(&f, before);
        renew(&f);
        copy_id(&f, after);
        assert_memory_not_equal(before, after, ID_SIZE);
        assert_int_equal(clock_field(&f, 104, 8), step);
        assert_int_equal(clock_field(&f, 16, 8), step);
        assert_int_equal(clock_field(&f, 12, 4), 2 * step);
    }
    mem_destroy(&f.mem);
}

static void test_generation_renewed_raises_each_line_once(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    begin(&f);
    renew(&f);

    assert_int_equal(irq_probe_take(&f.id), 1);
    assert_int_equal(irq_probe_take(&f.clock), 1);
    mem_destroy(&f.mem);
}

static void test_generation_renewed_is_in_the_next_diff(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    begin(&f);
    memset(f.mem.region[0].dirty, 0, MIB / PAGE_SIZE / 8);
    renew(&f);

    assert_true(is_dirty(&f, LAYOUT_VMGENID));
    assert_true(is_dirty(&f, LAYOUT_VMCLOCK));
    assert_false(is_dirty(&f, LAYOUT_VMCLOCK - PAGE_SIZE));
    mem_destroy(&f.mem);
}

/* As in a snapshot of a monitor that had none, or after a guest that scribbles. */
static void test_generation_renewed_makes_a_sound_page_of_any(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f);
    renew(&f);
    assert_int_equal(clock_field(&f, 0, 4), 0x4b4c4356);
    assert_int_equal(clock_field(&f, 104, 8), 1);

    set_clock_field(&f, 0, 0, 4);
    set_clock_field(&f, 12, 0xffffffff, 4);
    set_clock_field(&f, 104, UINT64_MAX, 8);
    renew(&f);
    assert_int_equal(clock_field(&f, 0, 4), 0x4b4c4356);
    assert_int_equal(clock_field(&f, 12, 4), 0);
    assert_int_equal(clock_field(&f, 104, 8), 0);
    mem_destroy(&f.mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generation_of_a_boot_is_random_and_raises_nothing),
        cmocka_unit_test(test_generation_clock_of_a_boot_promises_the_counter_and_no_time),
        cmocka_unit_test(test_generation_renewed_is_another_id_and_a_step_of_both_counters),
        cmocka_unit_test(test_generation_renewed_raises_each_line_once),
        cmocka_unit_test(test_generation_renewed_is_in_the_next_diff),
        cmocka_unit_test(test_generation_renewed_makes_a_sound_page_of_any),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
