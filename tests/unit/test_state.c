/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/base/state.c, and the gate that every saved state of the program passes: its table
 * covers its struct, and its shape is the one written down here. Whoever adds a device adds a line
 * to `known`; whoever changes a table raises its version and adds a line with the new fingerprint,
 * below the old one, which stays: what was written can still be read.
 */
#include "tests/unit/unit.h"
#include "virtio/block/blk.h"
#include "virtio/memory/balloon.h"
#include "virtio/memory/hotplug.h"
#include "virtio/memory/pmem.h"
#include "virtio/mmio.h"
#include "virtio/net/net.h"
#include "virtio/rng.h"
#include "virtio/virtio.h"
#include "virtio/virtqueue.h"
#include "virtio/vsock/vsock.h"
#include "vmm/base/rate_limiter.h"
#include "vmm/base/state.h"
#include "vmm/legacy/i8042.h"
#include "vmm/legacy/pit.h"
#include "vmm/legacy/serial.h"
#include "vmm/saved_devices.h"
#include "vmm/saved_machine.h"
#include "vmm/saved_tables.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/vcpu_parts_x86_64.h"
#include "vmm/snapshot/vm_state.h"

#include <errno.h>
#include <string.h>

/* Of the table below: FNV-1a, computed apart from the code under test. */
#define SAMPLE_GOLDEN 0x8c19b440u

struct sample {
    uint64_t address;
    uint32_t flags;
    uint16_t size, index;
    uint8_t bytes[6];
    uint16_t pad;
};

static const struct state_field sample_fields[] = {
    STATE_FIELD(struct sample, address), STATE_FIELD(struct sample, flags),
    STATE_SAME(struct sample, size),     STATE_FIELD(struct sample, index),
    STATE_ARRAY(struct sample, bytes),   STATE_FIELD(struct sample, pad),
};

static const struct state_desc sample_desc = STATE_DESC("sample", 3, struct sample, sample_fields);

static const struct sample example = {
    .address = 0x1122334455667788,
    .flags = 0xa0b0c0d0,
    .size = 256,
    .index = 0x0102,
    .bytes = {1, 2, 3, 4, 5, 6},
};

/* The same table with one row changed, or with fewer rows. */
static struct state_desc changed(struct state_field *fields, unsigned row, struct state_field to)
{
    struct state_desc desc = sample_desc;

    memcpy(fields, sample_fields, sizeof(sample_fields));
    fields[row] = to;
    desc.field = fields;
    return desc;
}

/* ---- coverage ---- */

static void test_state_tiles_accepts_table_that_covers_struct(void **state)
{
    (void)state;
    assert_true(state_desc_tiles(&sample_desc));
}

static void test_state_tiles_rejects_missing_row(void **state)
{
    struct state_field fields[ARRAY_SIZE(sample_fields)];

    (void)state;
    for (uint32_t missing = 0; missing < ARRAY_SIZE(sample_fields); missing++) {
        struct state_desc desc = sample_desc;
        uint32_t n = 0;

        for (uint32_t i = 0; i < ARRAY_SIZE(sample_fields); i++)
            if (i != missing)
                fields[n++] = sample_fields[i];
        desc.field = fields;
        desc.count = n;
        assert_false(state_desc_tiles(&desc));
    }
}

static void test_state_tiles_rejects_doubled_row(void **state)
{
    struct state_field fields[ARRAY_SIZE(sample_fields)];
    struct state_desc desc = changed(fields, 3, sample_fields[2]);

    (void)state;
    assert_false(state_desc_tiles(&desc));
}

static void test_state_tiles_rejects_rows_out_of_order(void **state)
{
    struct state_field fields[ARRAY_SIZE(sample_fields)];
    struct state_desc desc = changed(fields, 2, sample_fields[3]);

    (void)state;
    fields[3] = sample_fields[2];
    assert_false(state_desc_tiles(&desc));
}

static void test_state_tiles_rejects_padding_hole(void **state)
{
    struct holed {
        uint32_t first; /* four bytes that no row names follow */
        uint64_t second;
    };
    static const struct state_field fields[] = {
        STATE_FIELD(struct holed, first),
        STATE_FIELD(struct holed, second),
    };
    static const struct state_desc desc = STATE_DESC("holed", 1, struct holed, fields);

    (void)state;
    assert_false(state_desc_tiles(&desc));
}

static void test_state_tiles_rejects_padding_at_end(void **state)
{
    struct tailed {
        uint64_t first;
        uint8_t second;
    };
    static const struct state_field fields[] = {
        STATE_FIELD(struct tailed, first),
        STATE_FIELD(struct tailed, second),
    };
    static const struct state_desc desc = STATE_DESC("tailed", 1, struct tailed, fields);

    (void)state;
    assert_false(state_desc_tiles(&desc));
}

static void test_state_tiles_rejects_array_listed_as_scalar(void **state)
{
    struct state_field row = sample_fields[4], fields[ARRAY_SIZE(sample_fields)];

    (void)state;
    row.count = 1;
    struct state_desc desc = changed(fields, 4, row);
    assert_false(state_desc_tiles(&desc));
}

/* ---- encoding ---- */

static void test_state_encode_is_little_endian_in_order(void **state)
{
    static const uint8_t expected[] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
                                       0xd0, 0xc0, 0xb0, 0xa0, 0x00, 0x01, 0x02, 0x01,
                                       1,    2,    3,    4,    5,    6,    0,    0};
    uint8_t out[sizeof(expected) + 1] = {[sizeof(expected)] = 0xee};

    (void)state;
    assert_int_equal(state_encode(&sample_desc, &example, out, sizeof(out)), sizeof(expected));

    assert_memory_equal(out, expected, sizeof(expected));
    assert_int_equal(out[sizeof(expected)], 0xee);
}

static void test_state_encode_without_room_writes_nothing(void **state)
{
    uint8_t out[sizeof(struct sample)] = {0xee};

    (void)state;
    assert_int_equal(state_encode(&sample_desc, &example, out, sizeof(out) - 1), -ENOSPC);
    assert_int_equal(out[0], 0xee);
}

static void test_state_decode_of_encoded_gives_same_struct(void **state)
{
    uint8_t bytes[sizeof(struct sample)];
    struct sample back = {.size = 256};

    (void)state;
    assert_int_equal(state_encode(&sample_desc, &example, bytes, sizeof(bytes)), sizeof(bytes));

    assert_int_equal(
        state_decode(&sample_desc, sample_desc.version, bytes, sizeof(bytes), &back, NULL), 0);
    assert_memory_equal(&back, &example, sizeof(back));
}

static void test_state_decode_of_wrong_length_changes_nothing(void **state)
{
    static const size_t lengths[] = {0, sizeof(struct sample) - 1, sizeof(struct sample) + 1};
    const uint8_t bytes[sizeof(struct sample) + 1] = {0};
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct sample back = example;

        assert_int_equal(
            state_decode(&sample_desc, sample_desc.version, bytes, lengths[i], &back, &e), -EINVAL);
        assert_non_null(strstr(e.text, "sample"));
        assert_memory_equal(&back, &example, sizeof(back));
    }
}

/* A row before the compared one must not have been loaded either. */
static void test_state_decode_onto_different_device_changes_nothing(void **state)
{
    uint8_t bytes[sizeof(struct sample)];
    struct sample configured = {.address = 7, .size = 128}, before = configured;
    struct err e;

    (void)state;
    assert_int_equal(state_encode(&sample_desc, &example, bytes, sizeof(bytes)), sizeof(bytes));

    assert_int_equal(
        state_decode(&sample_desc, sample_desc.version, bytes, sizeof(bytes), &configured, &e),
        -EINVAL);

    assert_string_equal(e.text, "The saved size of sample differs from the configured device's.");
    assert_memory_equal(&configured, &before, sizeof(before));
}

/* ---- moments ---- */

static void test_state_shift_moves_moments_and_nothing_else(void **state)
{
    struct timed {
        uint64_t before, moment, never, after;
    };
    static const struct state_field fields[] = {
        STATE_FIELD(struct timed, before),
        STATE_TIME(struct timed, moment),
        STATE_TIME(struct timed, never),
        STATE_FIELD(struct timed, after),
    };
    static const struct state_desc desc = STATE_DESC("timed", 1, struct timed, fields);
    struct timed timed = {1, 1000, 0, 4};

    (void)state;
    state_shift_moments(&desc, &timed, 500);
    assert_int_equal(timed.moment, 1500);
    state_shift_moments(&desc, &timed, -1400);
    assert_int_equal(timed.moment, 100);
    state_shift_moments(&desc, &timed, -5000); /* another host, which has just booted */
    assert_int_equal(timed.moment, 1);
    state_shift_moments(&desc, &timed, INT64_MIN);
    assert_int_equal(timed.moment, 1);
    assert_int_equal(timed.before, 1);
    assert_int_equal(timed.never, 0);
    assert_int_equal(timed.after, 4);
}

/* ---- fingerprints ---- */

static void test_state_fingerprint_is_golden(void **state)
{
    (void)state;
    assert_int_equal(state_fingerprint(&sample_desc, sample_desc.version), SAMPLE_GOLDEN);
}

static void test_state_fingerprint_notices_every_change_of_shape(void **state)
{
    struct state_field fields[ARRAY_SIZE(sample_fields)], row;
    struct state_desc desc = sample_desc;
    uint32_t golden = state_fingerprint(&sample_desc, sample_desc.version);

    (void)state;
    desc.version++;
    assert_int_not_equal(state_fingerprint(&desc, desc.version), golden);
    desc = sample_desc;
    desc.name = "sampl";
    assert_int_not_equal(state_fingerprint(&desc, desc.version), golden);
    desc = sample_desc;
    desc.count--;
    assert_int_not_equal(state_fingerprint(&desc, desc.version), golden);

    row = sample_fields[3];
    row.name = "indez";
    desc = changed(fields, 3, row);
    assert_int_not_equal(state_fingerprint(&desc, desc.version), golden);
    row = sample_fields[3];
    row.size = 4;
    desc = changed(fields, 3, row);
    assert_int_not_equal(state_fingerprint(&desc, desc.version), golden);
    row = sample_fields[4];
    row.count = 5;
    desc = changed(fields, 4, row);
    assert_int_not_equal(state_fingerprint(&desc, desc.version), golden);
}

/* ---- older versions of a table ---- */

/* Version 1 had `first` and `last`, version 2 added `bytes`, version 3 `late`. */
struct grown {
    uint32_t first;
    uint16_t bytes[2];
    uint32_t late, last;
};

static const struct state_field grown_fields[] = {
    STATE_FIELD(struct grown, first),
    STATE_ARRAY_SINCE(2, struct grown, bytes),
    STATE_FIELD_SINCE(3, struct grown, late),
    STATE_FIELD(struct grown, last),
};
static const struct state_desc grown_desc = STATE_DESC("grown", 3, struct grown, grown_fields);

static void test_state_of_older_table_is_decoded_around_what_is_new(void **state)
{
    static const uint32_t written[] = {0x11, 0x22, 0x33, 0x44};
    static const struct {
        uint32_t version, size;
        struct grown expected;
    } cases[] = {
        {1, 8, {0x11, {8, 9}, 7, 0x22}},
        {2, 12, {0x11, {0x22, 0}, 7, 0x33}},
        {3, 16, {0x11, {0x22, 0}, 0x33, 0x44}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct grown grown = {1, {8, 9}, 7, 2};
        uint32_t version = cases[i].version, size = cases[i].size;

        assert_int_equal(state_size(&grown_desc, version), size);
        assert_int_equal(state_decode(&grown_desc, version, written, size + 4, &grown, NULL),
                         -EINVAL);
        assert_int_equal(state_decode(&grown_desc, version, written, size, &grown, NULL), 0);
        assert_memory_equal(&grown, &cases[i].expected, sizeof(grown));
    }
}

static void test_state_fingerprint_of_older_version_is_that_of_older_table(void **state)
{
    struct old {
        uint32_t first, last;
    };
    static const struct state_field old_fields[] = {
        STATE_FIELD(struct old, first),
        STATE_FIELD(struct old, last),
    };
    static const struct state_desc old_desc = STATE_DESC("grown", 1, struct old, old_fields);

    (void)state;
    assert_true(state_desc_tiles(&grown_desc));
    assert_int_equal(state_fingerprint(&grown_desc, 1), state_fingerprint(&old_desc, 1));
    assert_int_not_equal(state_fingerprint(&grown_desc, 2), state_fingerprint(&grown_desc, 3));
}

/* ---- every saved state of the program ---- */

struct known_state {
    const struct state_desc *desc;
    uint32_t version, fingerprint;
};

static const struct known_state known[] = {
    {&sample_desc, 3, SAMPLE_GOLDEN},         {&rate_limiter_state_desc, 1, 0x979093eb},
    {&virtqueue_state_desc, 1, 0x54ad4cad},   {&virtio_dev_state_desc, 1, 0x04139db6},
    {&virtio_mmio_state_desc, 1, 0x4b69631c}, {&blk_state_desc, 1, 0x6ce09d33},
    {&rng_state_desc, 1, 0xb20a6159},         {&serial_state_desc, 1, 0x6ac8cd89},
    {&net_state_desc, 1, 0x96fbe3aa},         {&i8042_state_desc, 1, 0x775c847b},
    {&pit_state_desc, 1, 0x65fbbe11},         {&balloon_state_desc, 1, 0xcc1a6a1b},
    {&pmem_state_desc, 1, 0x2958b4e0},        {&vsock_state_desc, 1, 0xfe541d05},
    {&hotplug_state_desc, 1, 0xafb376e3},     {&vcpu_clock_desc, 1, 0x83adcfb2},
    {&vcpu_sregs_desc, 1, 0x37b6ce02},        {&vcpu_regs_desc, 1, 0xb9e8156e},
    {&vcpu_xcrs_desc, 1, 0xb86be738},         {&vcpu_debug_desc, 1, 0x619111c4},
    {&vcpu_lapic_desc, 1, 0xefc5116a},        {&vcpu_events_desc, 1, 0x6f2bbbc7},
    {&vcpu_mp_state_desc, 1, 0x4ba302ce},     {&vcpu_cpuid_desc, 1, 0xb0243810},
    {&vcpu_msr_desc, 1, 0xc151e474},          {&vm_pic_desc, 1, 0x3de181db},
    {&vm_ioapic_desc, 1, 0x30e1a2a5},         {&vm_clock_desc, 1, 0x9b9e0f80},
    {&mem_map_desc, 1, 0xcbada4d2},           {&saved_machine_desc, 1, 0x38f50054},
    {&saved_counts_desc, 1, 0xea57c2cc},      {&saved_balloon_desc, 1, 0x7dceba0a},
    {&saved_drive_desc, 1, 0xd9ba4a3d},       {&saved_drive_desc, 2, 0xff60c192},
    {&saved_net_desc, 1, 0x03c391cf},         {&saved_pmem_desc, 1, 0xc692c57f},
    {&saved_vsock_desc, 1, 0x16394f94},       {&saved_entropy_desc, 1, 0x3c02acb7},
    {&saved_hotplug_desc, 1, 0x7500befc},     {&saved_mmds_desc, 1, 0x46d8d3c8},
    {&saved_overlay_desc, 1, 0x30828c17},
};

static void test_every_saved_state_covers_its_struct(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        const struct state_desc *desc = known[i].desc;

        if (!state_desc_tiles(desc))
            fail_msg("the rows of %s do not cover its struct", desc->name);
        assert_in_range(strlen(desc->name), 1, 15);
    }
}

static void test_every_saved_state_has_fingerprint_of_its_version(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        const struct state_desc *desc = known[i].desc;
        bool newest = i + 1 == ARRAY_SIZE(known) || known[i + 1].desc != desc;

        if (state_fingerprint(desc, known[i].version) != known[i].fingerprint)
            fail_msg("%s of version %u has no longer fingerprint %#x: what it was must stay",
                     desc->name, known[i].version, known[i].fingerprint);
        if (newest && desc->version != known[i].version)
            fail_msg("%s is now version %u with fingerprint %#x: write both down in this file",
                     desc->name, desc->version, state_fingerprint(desc, desc->version));
    }
}

static void test_every_saved_state_has_name_of_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        for (size_t j = 0; j < i; j++)
            if (known[i].desc != known[j].desc)
                assert_string_not_equal(known[i].desc->name, known[j].desc->name);
}

/* Who looks at a file without loading it must know the table of each section; a limiter and the
 * sample above are in no file by themselves. */
static void test_every_saved_state_can_be_inspected(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        const struct state_desc *desc = known[i].desc;

        if (desc != &sample_desc && desc != &rate_limiter_state_desc &&
            saved_table(desc->name) != desc)
            fail_msg("%s is not in vmm/saved_tables_x86_64.c", desc->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_tiles_accepts_table_that_covers_struct),
        cmocka_unit_test(test_state_tiles_rejects_missing_row),
        cmocka_unit_test(test_state_tiles_rejects_doubled_row),
        cmocka_unit_test(test_state_tiles_rejects_rows_out_of_order),
        cmocka_unit_test(test_state_tiles_rejects_padding_hole),
        cmocka_unit_test(test_state_tiles_rejects_padding_at_end),
        cmocka_unit_test(test_state_tiles_rejects_array_listed_as_scalar),
        cmocka_unit_test(test_state_encode_is_little_endian_in_order),
        cmocka_unit_test(test_state_encode_without_room_writes_nothing),
        cmocka_unit_test(test_state_decode_of_encoded_gives_same_struct),
        cmocka_unit_test(test_state_decode_of_wrong_length_changes_nothing),
        cmocka_unit_test(test_state_decode_onto_different_device_changes_nothing),
        cmocka_unit_test(test_state_shift_moves_moments_and_nothing_else),
        cmocka_unit_test(test_state_fingerprint_is_golden),
        cmocka_unit_test(test_state_fingerprint_notices_every_change_of_shape),
        cmocka_unit_test(test_state_of_older_table_is_decoded_around_what_is_new),
        cmocka_unit_test(test_state_fingerprint_of_older_version_is_that_of_older_table),
        cmocka_unit_test(test_every_saved_state_covers_its_struct),
        cmocka_unit_test(test_every_saved_state_has_fingerprint_of_its_version),
        cmocka_unit_test(test_every_saved_state_has_name_of_its_own),
        cmocka_unit_test(test_every_saved_state_can_be_inspected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
