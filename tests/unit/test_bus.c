/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/bus.c. */
#include "tests/unit/unit.h"
#include "vmm/base/bus.h"

#include <errno.h>
#include <string.h>

/* A device that remembers the last access and answers with a pattern of its own. */
struct probe {
    unsigned reads, writes, len;
    uint64_t offset;
    uint8_t fill, data[8];
};

static void probe_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    struct probe *probe = owner;

    probe->reads++;
    probe->offset = offset;
    probe->len = len;
    memcpy(probe->data, data, len);
    memset(data, probe->fill, len);
}

static void probe_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct probe *probe = owner;

    probe->writes++;
    probe->offset = offset;
    probe->len = len;
    memcpy(probe->data, data, len);
}

static struct bus_range range_of(struct probe *probe, const char *name, uint64_t base, uint64_t len)
{
    return (struct bus_range){.name = name,
                              .base = base,
                              .len = len,
                              .owner = probe,
                              .read = probe_read,
                              .write = probe_write};
}

static void add(struct bus *bus, struct probe *probe, uint64_t base, uint64_t len)
{
    struct bus_range range = range_of(probe, "probe", base, len);

    assert_int_equal(bus_add(bus, &range, NULL), 0);
}

static void test_bus_read_gives_offset_and_zeroed_data(void **state)
{
    struct bus bus = {0};
    struct probe probe = {.fill = 0x5a};
    uint32_t value = 0xffffffff;

    (void)state;
    add(&bus, &probe, 0x3f8, 8);

    assert_true(bus_read(&bus, 0x3fc, &value, 4));

    assert_int_equal(probe.offset, 4);
    assert_int_equal(probe.len, 4);
    assert_memory_equal(probe.data, "\0\0\0\0", 4);
    assert_int_equal(value, 0x5a5a5a5a);
}

static void test_bus_write_hands_over_data(void **state)
{
    struct bus bus = {0};
    struct probe probe = {0};

    (void)state;
    add(&bus, &probe, 0x1000, 0x1000);

    assert_true(bus_write(&bus, 0x1ff8, "12345678", 8));

    assert_int_equal(probe.offset, 0xff8);
    assert_memory_equal(probe.data, "12345678", 8);
}

static void test_bus_read_of_nobody_gives_zeros(void **state)
{
    struct bus bus = {0};
    struct probe probe = {.fill = 0xff};
    uint64_t value = UINT64_MAX;

    (void)state;
    assert_false(bus_read(&bus, 0, &value, 8));
    assert_int_equal(value, 0);

    add(&bus, &probe, 0x100, 0x10);
    value = UINT64_MAX;
    assert_false(bus_read(&bus, 0xff, &value, 1));
    assert_false(bus_read(&bus, 0x110, &value, 1));
    assert_false(bus_write(&bus, 0xff, &value, 1));
    assert_false(bus_write(&bus, 0x110, &value, 1));
    assert_int_equal(probe.reads + probe.writes, 0);
}

static void test_bus_access_at_first_and_last_byte_reaches_device(void **state)
{
    struct bus bus = {0};
    struct probe probe = {0};
    uint8_t value;

    (void)state;
    add(&bus, &probe, 0x100, 0x10);

    assert_true(bus_read(&bus, 0x100, &value, 1));
    assert_int_equal(probe.offset, 0);
    assert_true(bus_read(&bus, 0x10f, &value, 1));
    assert_int_equal(probe.offset, 0xf);
}

/* Neither device may see a part of an access that it does not own whole. */
static void test_bus_access_straddling_end_belongs_to_nobody(void **state)
{
    struct bus bus = {0};
    struct probe low = {.fill = 1}, high = {.fill = 2};
    uint32_t value = 0xffffffff;

    (void)state;
    add(&bus, &low, 0x100, 0x10);
    add(&bus, &high, 0x110, 0x10);

    assert_false(bus_read(&bus, 0x10e, &value, 4));
    assert_int_equal(value, 0);
    assert_false(bus_write(&bus, 0x10e, &value, 4));
    assert_false(bus_read(&bus, 0xfe, &value, 4));
    assert_false(bus_read(&bus, 0x11d, &value, 4));
    assert_int_equal(low.reads + low.writes + high.reads + high.writes, 0);
}

static void test_bus_access_at_top_of_address_space_does_not_wrap(void **state)
{
    struct bus bus = {0};
    struct probe probe = {0};
    uint64_t value = 1;

    (void)state;
    add(&bus, &probe, 0, 0x10);

    assert_false(bus_read(&bus, UINT64_MAX - 3, &value, 8));
    assert_int_equal(value, 0);
    assert_int_equal(probe.reads, 0);
}

static void test_bus_add_refuses_overlap_and_names_both(void **state)
{
    static const struct {
        uint64_t base, len;
    } overlapping[] = {
        {0x100, 0x10}, {0xf8, 0x10}, {0x108, 0x10}, {0x104, 4},
        {0x80, 0x100}, {0xff, 2},    {0x10f, 1},    {0x100, 1},
    };
    struct bus bus = {0};
    struct probe probe = {0};
    struct err e;

    (void)state;
    add(&bus, &probe, 0x100, 0x10);

    for (size_t i = 0; i < ARRAY_SIZE(overlapping); i++) {
        struct bus_range range =
            range_of(&probe, "newcomer", overlapping[i].base, overlapping[i].len);

        assert_int_equal(bus_add(&bus, &range, &e), -EEXIST);
        assert_non_null(strstr(e.text, "newcomer"));
        assert_non_null(strstr(e.text, "probe"));
        assert_int_equal(bus.count, 1);
    }
}

static void test_bus_add_accepts_neighbours_in_any_order(void **state)
{
    static const uint64_t bases[] = {0x300, 0x100, 0x400, 0x200, 0x000};
    struct bus bus = {0};
    struct probe probes[ARRAY_SIZE(bases)] = {0};
    uint8_t value;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
        add(&bus, &probes[i], bases[i], 0x100);

    for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
        assert_true(bus_read(&bus, bases[i] + 0xff, &value, 1));
        assert_int_equal(probes[i].reads, 1);
        assert_int_equal(probes[i].offset, 0xff);
    }
}

static void test_bus_add_to_full_bus_names_device(void **state)
{
    struct bus bus = {0};
    struct probe probe = {0};
    struct bus_range range = range_of(&probe, "one too many", 0x10000, 1);
    struct err e;

    (void)state;
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++)
        add(&bus, &probe, i, 1);

    assert_int_equal(bus_add(&bus, &range, &e), -ENOSPC);
    assert_non_null(strstr(e.text, "one too many"));
    assert_int_equal(bus.count, BUS_RANGES_MAX);
}

static void test_bus_range_without_handlers_reads_zeros_and_drops_writes(void **state)
{
    struct bus bus = {0};
    struct bus_range range = {.name = "hole", .base = 0x80, .len = 1};
    uint8_t value = 0xff;

    (void)state;
    assert_int_equal(bus_add(&bus, &range, NULL), 0);

    assert_true(bus_read(&bus, 0x80, &value, 1));
    assert_int_equal(value, 0);
    assert_true(bus_write(&bus, 0x80, &value, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bus_read_gives_offset_and_zeroed_data),
        cmocka_unit_test(test_bus_write_hands_over_data),
        cmocka_unit_test(test_bus_read_of_nobody_gives_zeros),
        cmocka_unit_test(test_bus_access_at_first_and_last_byte_reaches_device),
        cmocka_unit_test(test_bus_access_straddling_end_belongs_to_nobody),
        cmocka_unit_test(test_bus_access_at_top_of_address_space_does_not_wrap),
        cmocka_unit_test(test_bus_add_refuses_overlap_and_names_both),
        cmocka_unit_test(test_bus_add_accepts_neighbours_in_any_order),
        cmocka_unit_test(test_bus_add_to_full_bus_names_device),
        cmocka_unit_test(test_bus_range_without_handlers_reads_zeros_and_drops_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
