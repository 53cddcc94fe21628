/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/boot/mptable.c: the table is found as a kernel finds it and read back by a parser of
 * its own, from the offsets of the MultiProcessor Specification 1.4, chapter 4.
 */
#include "tests/unit/unit.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/mptable.h"

#include <stdlib.h>
#include <string.h>

struct parsed {
    unsigned cpus, boot_cpus, isa_buses, ioapics, extint, nmi;
    uint32_t ioapic_id, ioapic_address, lapic;
    uint32_t apic_ids; /* a bit each */
    uint32_t pins;     /* a bit each */
    bool identity, default_flags;
};

static uint32_t get(const uint8_t *at, unsigned bytes)
{
    uint32_t value = 0;

    memcpy(&value, at, bytes);
    return value;
}

static uint8_t sum(const uint8_t *at, size_t len)
{
    uint8_t total = 0;

    while (len--)
        total = (uint8_t)(total + *at++);
    return total;
}

/* A kernel looks at every 16th byte of the last KiB below 640 KiB. */
static uint32_t find_table(const struct mem *mem)
{
    for (uint64_t gpa = 0x9fc00; gpa < 0xa0000; gpa += 16) {
        const uint8_t *at = mem_readable(mem, GPA(gpa), 16);

        if (memcmp(at, "_MP_", 4) == 0) {
            assert_int_equal(at[8], 1); /* length in units of 16 */
            assert_int_equal(at[9], 4); /* version 1.4 */
            assert_int_equal(sum(at, 16), 0);
            assert_int_equal(at[11], 0); /* no default configuration: the table counts */
            assert_int_equal(at[12], 0); /* no PIC mode */
            return get(at + 4, 4);
        }
    }
    fail_msg("no floating pointer");
    return 0;
}

static void parse_processor(const uint8_t *at, struct parsed *p)
{
    assert_true(at[1] < 32);
    assert_false(p->apic_ids >> at[1] & 1);
    p->apic_ids |= 1u << at[1];
    p->cpus++;
    assert_true(at[3] & 1); /* enabled */
    if (at[3] & 2) {
        p->boot_cpus++;
        assert_int_equal(at[1], 0);
    }
    assert_int_equal(at[2] & 0xf0, 0x10); /* an integrated local APIC */
    assert_true(get(at + 8, 4) & 1 << 9); /* says the features, too */
}

static void parse_interrupt(const uint8_t *at, struct parsed *p)
{
    assert_int_equal(at[1], 0); /* vectored */
    assert_int_equal(at[4], 0); /* the ISA bus */
    assert_int_equal(at[6], p->ioapic_id);
    assert_true(at[7] < 24);
    assert_false(p->pins >> at[7] & 1);
    p->pins |= 1u << at[7];
    p->identity = p->identity && at[5] == at[7];
    p->default_flags = p->default_flags && get(at + 2, 2) == 0;
}

static void parse_local_interrupt(const uint8_t *at, struct parsed *p)
{
    if (at[1] == 3) {
        p->extint++;
        assert_int_equal(at[6], 0);
        assert_int_equal(at[7], 0); /* LINT0 of the boot processor */
    } else {
        p->nmi++;
        assert_int_equal(at[1], 1);
        assert_int_equal(at[6], 0xff);
        assert_int_equal(at[7], 1); /* LINT1 of all */
    }
}

static size_t parse_entry(const uint8_t *at, struct parsed *p)
{
    switch (at[0]) {
    case 0:
        parse_processor(at, p);
        return 20;
    case 1:
        p->isa_buses += memcmp(at + 2, "ISA   ", 6) == 0 && at[1] == 0;
        return 8;
    case 2:
        p->ioapics++;
        p->ioapic_id = at[1];
        assert_int_equal(at[3], 1); /* usable */
        p->ioapic_address = get(at + 4, 4);
        return 8;
    case 3:
        parse_interrupt(at, p);
        return 8;
    case 4:
        parse_local_interrupt(at, p);
        return 8;
    default:
        fail_msg("entry of type %u", at[0]);
        return 0;
    }
}

static struct parsed parse(const struct mem *mem, size_t written)
{
    uint32_t gpa = find_table(mem);
    const uint8_t *header = mem_readable(mem, GPA(gpa), 44);
    uint32_t len = get(header + 4, 2), entries = get(header + 34, 2);
    const uint8_t *table = mem_readable(mem, GPA(gpa), len), *at = table + 44;
    struct parsed p = {.lapic = get(header + 36, 4), .identity = true, .default_flags = true};
    uint8_t last_type = 0;

    assert_memory_equal(header, "PCMP", 4);
    assert_int_equal(header[6], 4);
    assert_int_equal(sum(table, len), 0);
    assert_int_equal(get(header + 40, 2), 0); /* no extended table */
    assert_int_equal(gpa + len, LAYOUT_SYSTEM + written);
    for (uint32_t i = 0; i < entries; i++) {
        assert_true(at[0] >= last_type); /* the specification wants them sorted */
        last_type = at[0];
        at += parse_entry(at, &p);
    }
    assert_ptr_equal(at, table + len);
    return p;
}

static struct parsed write_and_parse(unsigned cpus, const struct boot_device *device,
                                     unsigned count)
{
    struct mem mem;
    struct err e;
    struct parsed p;
    size_t len;

    assert_int_equal(mem_create(&mem, MIB, MEM_PAGES_DEFAULT, false, &e), 0);
    len = mptable_write(&mem, LAYOUT_SYSTEM, cpus, device, count);
    p = parse(&mem, len);
    mem_destroy(&mem);
    return p;
}

static void test_mptable_lists_every_cpu_from_1_to_32(void **state)
{
    (void)state;
    for (unsigned cpus = 1; cpus <= 32; cpus++) {
        struct parsed p = write_and_parse(cpus, NULL, 0);

        assert_int_equal(p.cpus, cpus);
        assert_int_equal(p.boot_cpus, 1);
        assert_int_equal(p.apic_ids, cpus == 32 ? UINT32_MAX : (1u << cpus) - 1);
        assert_true(p.ioapic_id >= cpus);
        assert_int_equal(p.isa_buses, 1);
        assert_int_equal(p.ioapics, 1);
        assert_int_equal(p.ioapic_address, 0xfec00000);
        assert_int_equal(p.lapic, 0xfee00000);
        assert_int_equal(p.extint, 1);
        assert_int_equal(p.nmi, 1);
    }
}

static void test_mptable_without_devices_lists_timer_keyboard_and_serial_only(void **state)
{
    struct parsed p = write_and_parse(1, NULL, 0);

    (void)state;
    assert_int_equal(p.pins, 1u << 0 | 1u << 1 | 1u << 4);
    assert_true(p.identity);
    assert_true(p.default_flags);
}

static void test_mptable_lists_each_devices_pin_and_no_other(void **state)
{
    struct boot_device device[19];

    (void)state;
    for (unsigned i = 0; i < 19; i++)
        device[i] = (struct boot_device){GPA(LAYOUT_VIRTIO_MMIO + i * PAGE_SIZE), 5 + i};
    for (unsigned count = 1; count <= 19; count++) {
        struct parsed p = write_and_parse(32, device, count);

        assert_int_equal(p.pins, (1u << 0 | 1u << 1 | 1u << 4) | ((1u << count) - 1) << 5);
        assert_true(p.identity);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mptable_lists_every_cpu_from_1_to_32),
        cmocka_unit_test(test_mptable_without_devices_lists_timer_keyboard_and_serial_only),
        cmocka_unit_test(test_mptable_lists_each_devices_pin_and_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
