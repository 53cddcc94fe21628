/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/boot/acpi.c and aml.c: the tables are found as a kernel finds them and walked by
 * code of the test's own, from the offsets of ACPI 6.5; then iasl, where it is installed, takes the
 * whole set apart and compiles the DSDT again.
 */
#include "tests/support/files.h"
#include "tests/unit/unit.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/aml.h"
#include "vmm/boot/layout.h"
#include "vmm/legacy/i8042.h"
#include "vmm/legacy/power.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/wait.h>

static uint64_t get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

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

static struct mem make_memory(void)
{
    struct mem mem;
    struct err e;

    assert_int_equal(mem_create(&mem, MIB, MEM_PAGES_DEFAULT, false, &e), 0);
    return mem;
}

#define DEVICES 17 /* lines 5 to 21 */

static uint64_t write_tables(struct mem *mem, unsigned cpus, unsigned devices)
{
    struct boot_device device[DEVICES];

    for (unsigned i = 0; i < devices; i++)
        device[i] = (struct boot_device){GPA(LAYOUT_VIRTIO_MMIO + i * PAGE_SIZE), 5 + i};
    return acpi_write(mem, LAYOUT_SYSTEM + 1, cpus, device, devices);
}

/* ---- the walk ---- */

struct table {
    const uint8_t *bytes;
    uint32_t len;
};

static struct table table_at(const struct mem *mem, uint64_t gpa, const char *signature)
{
    struct table t = {.bytes = mem_readable(mem, GPA(gpa), 36)};

    assert_non_null(t.bytes);
    assert_memory_equal(t.bytes, signature, 4);
    t.len = (uint32_t)get(t.bytes + 4, 4);
    assert_true(t.len >= 36);
    assert_true(gpa > LAYOUT_SYSTEM && gpa + t.len <= LAYOUT_VMCLOCK);
    assert_int_equal(sum(t.bytes, t.len), 0);
    assert_memory_equal(t.bytes + 10, "FIRECK", 6);
    return t;
}

static struct table find_xsdt(const struct mem *mem)
{
    for (uint64_t gpa = 0xe0000; gpa < 0x100000; gpa += 16) {
        const uint8_t *at = mem_readable(mem, GPA(gpa), 36);

        if (memcmp(at, "RSD PTR ", 8) == 0) {
            assert_int_equal(sum(at, 20), 0);
            assert_int_equal(at[15], 2);
            assert_int_equal(get(at + 20, 4), 36);
            assert_int_equal(sum(at, 36), 0);
            return table_at(mem, get(at + 24, 8), "XSDT");
        }
    }
    fail_msg("no RSDP");
    return (struct table){0};
}

static struct table find_table(const struct mem *mem, const char *signature)
{
    struct table xsdt = find_xsdt(mem);

    for (uint32_t at = 36; at < xsdt.len; at += 8) {
        uint64_t gpa = get(xsdt.bytes + at, 8);

        if (memcmp(mem_readable(mem, GPA(gpa), 4), signature, 4) == 0)
            return table_at(mem, gpa, signature);
    }
    fail_msg("no %s", signature);
    return (struct table){0};
}

static struct table find_dsdt(const struct mem *mem)
{
    return table_at(mem, get(find_table(mem, "FACP").bytes + 140, 8), "DSDT");
}

static void expect_io_register(const uint8_t *at, uint16_t port)
{
    static const uint8_t byte_in_io_space[] = {1, 8, 0, 1};

    assert_memory_equal(at, byte_in_io_space, 4);
    assert_int_equal(get(at + 4, 8), port);
}

static void test_acpi_fadt_is_hardware_reduced_with_reset_and_sleep_registers(void **state)
{
    struct mem mem = make_memory();
    struct table fadt;

    (void)state;
    write_tables(&mem, 1, 1);
    fadt = find_table(&mem, "FACP");

    assert_int_equal(fadt.len, 276);
    assert_int_equal(fadt.bytes[8], 6);
    assert_true(get(fadt.bytes + 112, 4) & 1 << 20); /* HW_REDUCED_ACPI */
    assert_true(get(fadt.bytes + 112, 4) & 1 << 10); /* RESET_REG_SUP */
    assert_true(get(fadt.bytes + 109, 2) & 1 << 1);  /* 8042: its driver wants to see this */
    assert_true(get(fadt.bytes + 109, 2) & 1 << 5);  /* no CMOS clock */
    expect_io_register(fadt.bytes + 116, 0x64);
    assert_int_equal(fadt.bytes[128], 0xfe);
    expect_io_register(fadt.bytes + 244, POWER_SLEEP_CONTROL);
    expect_io_register(fadt.bytes + 256, POWER_SLEEP_STATUS);
    /* Fixed hardware has no registers. */
    assert_int_equal(get(fadt.bytes + 56, 8) | get(fadt.bytes + 148 + 4, 8), 0);
    mem_destroy(&mem);
}

static void test_acpi_madt_lists_every_cpu_from_1_to_32_and_the_ioapic(void **state)
{
    (void)state;
    for (unsigned cpus = 1; cpus <= 32; cpus++) {
        struct mem mem = make_memory();
        unsigned lapics = 0, ioapics = 0, nmis = 0;
        struct table madt;

        write_tables(&mem, cpus, 0);
        madt = find_table(&mem, "APIC");
        assert_int_equal(get(madt.bytes + 36, 4), 0xfee00000);
        for (const uint8_t *at = madt.bytes + 44; at < madt.bytes + madt.len; at += at[1]) {
            assert_true(at[1] >= 6);
            if (at[0] == 0) {
                assert_int_equal(at[3], lapics++); /* vCPU n has APIC id n */
                assert_int_equal(get(at + 4, 4), 1);
            } else if (at[0] == 1) {
                ioapics++;
                assert_true(at[2] >= cpus);
                assert_int_equal(get(at + 4, 4), 0xfec00000);
                assert_int_equal(get(at + 8, 4), 0);
            } else {
                nmis += at[0] == 4 && at[2] == 0xff && at[5] == 1;
            }
        }
        assert_int_equal(lapics, cpus);
        assert_int_equal(ioapics, 1);
        assert_int_equal(nmis, 1);
        mem_destroy(&mem);
    }
}

/* Where `len` bytes of `needle` begin in the table, or -1. */
static long find_bytes(struct table t, const void *needle, size_t len)
{
    const uint8_t *at = memmem(t.bytes, t.len, needle, len);

    return at ? at - t.bytes : -1;
}

/* _CRS of a virtio-mmio device, byte for byte as 6.4.3.4 and 6.4.3.6 have it. */
static void test_acpi_dsdt_gives_each_virtio_device_its_window_and_interrupt(void **state)
{
    struct mem mem = make_memory();
    struct table dsdt;

    (void)state;
    write_tables(&mem, 1, DEVICES);
    dsdt = find_dsdt(&mem);
    for (unsigned i = 0; i < DEVICES; i++) {
        uint8_t crs[] = {0x86, 9, 0, 1, 0, 0, 0, 0xc0, 0, 0x10, 0, 0,
                         0x89, 6, 0, 3, 1, 0, 0, 0,    0, 0x79, 0};
        uint32_t address = 0xc0001000 + i * 0x1000;
        char name[6];

        memcpy(crs + 4, &address, 4);
        crs[17] = (uint8_t)(5 + i);
        snprintf(name, sizeof(name), "V%03u", i);
        assert_true(find_bytes(dsdt, name, 4) > 0);
        assert_true(find_bytes(dsdt, crs, sizeof(crs)) > find_bytes(dsdt, name, 4));
    }
    mem_destroy(&mem);
}

static void test_acpi_dsdt_offers_power_off_by_the_type_the_port_expects(void **state)
{
    static const uint8_t s5[] = {0x08, '_', 'S', '5', '_', 0x12, 5, 2, 0x0a, POWER_S5, 0};
    struct mem mem = make_memory();

    (void)state;
    write_tables(&mem, 1, 1);
    assert_true(find_bytes(find_dsdt(&mem), s5, sizeof(s5)) > 0);
    assert_int_equal(find_bytes(find_dsdt(&mem), "_S3_", 4), -1);
    mem_destroy(&mem);
}

/* Strings with the NUL that ends them, as the byte code has them. */
static void test_acpi_dsdt_says_where_the_generation_id_is_to_drivers_of_any_age(void **state)
{
    static const uint8_t address[] = {0x08, 'A',  'D',  'D',  'R',  0x12, 8,
                                      2,    0x0c, 0x00, 0xf0, 0x0d, 0x00, 0x00};
    static const uint8_t ids[] = "\x08_CID\x12\x1c\x02\x0dVM_Gen_Counter\0\x0dVMGENCTR";
    struct mem mem = make_memory();
    struct table dsdt;

    (void)state;
    write_tables(&mem, 1, 1);
    dsdt = find_dsdt(&mem);
    assert_true(find_bytes(dsdt, ids, sizeof(ids)) > find_bytes(dsdt, "VGEN", 4));
    assert_true(find_bytes(dsdt, address, sizeof(address)) > find_bytes(dsdt, "VGEN", 4));
    mem_destroy(&mem);
}

static void test_acpi_dsdt_gives_vmclock_a_page_of_its_own(void **state)
{
    static const uint8_t crs[] = {0x86, 9, 0, 1, 0, 0xe0, 0x0d, 0, 0, 0x10, 0, 0, 0x79, 0};
    struct mem mem = make_memory();
    struct table dsdt;

    (void)state;
    write_tables(&mem, 1, 1);
    dsdt = find_dsdt(&mem);
    assert_true(find_bytes(dsdt, "AMZNC10C", 9) > find_bytes(dsdt, "VCLK", 4));
    assert_true(find_bytes(dsdt, "VMCLOCK", 8) > 0);
    assert_true(find_bytes(dsdt, crs, sizeof(crs)) > find_bytes(dsdt, "VCLK", 4));
    mem_destroy(&mem);
}

/* _EVT: if (Arg0 == 22) Notify(VGEN, 0x80), if (Arg0 == 23) Notify(VCLK, 0x80). */
static void test_acpi_dsdt_notifies_each_half_of_the_generation_by_its_own_line(void **state)
{
    static const uint8_t lines[] = {0x89, 6, 0, 3, 1,  22, 0, 0, 0,    0x89,
                                    6,    0, 3, 1, 23, 0,  0, 0, 0x79, 0};
    static const uint8_t method[] = {
        0x14, 32,   '_',  'E',  'V',  'T',  9, /* serialized, one argument */
        0xa0, 12,   0x93, 0x68, 0x0a, 22,      /* the line */
        0x86, 'V',  'G',  'E',  'N',  0x0a, 0x80, 0xa0, 12,   0x93,
        0x68, 0x0a, 23,   0x86, 'V',  'C',  'L',  'K',  0x0a, 0x80,
    };
    struct mem mem = make_memory();
    struct table dsdt;

    (void)state;
    write_tables(&mem, 1, DEVICES);
    dsdt = find_dsdt(&mem);
    assert_true(find_bytes(dsdt, "ACPI0013", 9) > 0);
    assert_true(find_bytes(dsdt, lines, sizeof(lines)) > find_bytes(dsdt, "ACPI0013", 9));
    assert_true(find_bytes(dsdt, method, sizeof(method)) > find_bytes(dsdt, lines, sizeof(lines)));
    mem_destroy(&mem);
}

static void test_acpi_largest_machine_fits_below_the_generations_pages(void **state)
{
    struct mem mem = make_memory();
    uint64_t end = write_tables(&mem, 32, DEVICES);

    (void)state;
    assert_true(end > LAYOUT_SYSTEM && end <= LAYOUT_VMCLOCK);
    assert_int_equal(end % 16, 0);
    mem_destroy(&mem);
}

/* ---- the encoding ---- */

static void test_aml_integers_take_the_shortest_form(void **state)
{
    static const struct {
        uint64_t value;
        size_t len;
        uint8_t bytes[9];
    } row[] = {
        {0, 1, {0x00}},
        {1, 1, {0x01}},
        {2, 2, {0x0a, 2}},
        {0xff, 2, {0x0a, 0xff}},
        {0x100, 3, {0x0b, 0, 1}},
        {0xffff, 3, {0x0b, 0xff, 0xff}},
        {0x10000, 5, {0x0c, 0, 0, 1, 0}},
        {0xffffffff, 5, {0x0c, 0xff, 0xff, 0xff, 0xff}},
        {0x100000000, 9, {0x0e, 0, 0, 0, 0, 1, 0, 0, 0}},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        uint8_t bytes[16];
        struct aml aml = {.bytes = bytes, .size = sizeof(bytes)};

        aml_integer(&aml, row[i].value);
        assert_int_equal(aml.len, row[i].len);
        assert_memory_equal(bytes, row[i].bytes, row[i].len);
    }
}

/* The length before a package counts itself, and takes a byte more at 64 and at 4096. */
static void test_aml_lengths_at_their_limits_are_read_back(void **state)
{
    static const size_t content[] = {1, 61, 62, 63, 64, 4092, 4093, 4094, 4095, 9000, 70000};
    uint8_t *bytes = malloc(80000);

    (void)state;
    assert_non_null(bytes);
    for (unsigned i = 0; i < ARRAY_SIZE(content); i++) {
        struct aml aml = {.bytes = bytes, .size = 80000};
        size_t mark = aml_package(&aml, 0), length, follow;

        for (size_t n = 1; n < content[i]; n++)
            aml_integer(&aml, 1);
        aml_end(&aml, mark);
        assert_int_equal(bytes[0], 0x12);
        follow = bytes[1] >> 6;
        length = follow ? bytes[1] & 0xf : bytes[1] & 0x3f;
        for (size_t n = 0; n < follow; n++)
            length |= (size_t)bytes[2 + n] << (4 + 8 * n);
        assert_int_equal(length, aml.len - 1);
        assert_int_equal(length, content[i] + 1 + follow);
        assert_int_equal(bytes[2 + follow], 0); /* the package's own first byte follows */
    }
    free(bytes);
}

static void test_aml_eisa_id_is_compressed_as_the_specification_has_it(void **state)
{
    static const uint8_t pnp0501[] = {0x0c, 0x41, 0xd0, 0x05, 0x01};
    static const uint8_t pnp0c0f[] = {0x0c, 0x41, 0xd0, 0x0c, 0x0f};
    uint8_t bytes[16];
    struct aml aml = {.bytes = bytes, .size = sizeof(bytes)};

    (void)state;
    aml_eisa_id(&aml, "PNP0501");
    aml_eisa_id(&aml, "PNP0C0F");
    assert_int_equal(aml.len, 10);
    assert_memory_equal(bytes, pnp0501, 5);
    assert_memory_equal(bytes + 5, pnp0c0f, 5);
}

/* ---- iasl ---- */

static void write_file(const char *dir, const char *name, struct table t)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(files_write(path, t.bytes, t.len), 0);
}

/* Runs `what` by the shell in `dir` and returns its exit status. */
static int run_in(const char *dir, const char *what)
{
    char command[512];
    int status;

    snprintf(command, sizeof(command), "cd %s && { %s; } >out 2>&1", dir, what);
    status = system(command); // NOLINT(cert-env33-c): words of this file only
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_acpi_iasl_takes_all_tables_apart_and_compiles_the_dsdt_again(void **state)
{
    struct mem mem = make_memory();
    char *dir = files_make_temporary("acpi");

    (void)state;
    assert_non_null(dir);
    if (run_in(dir, "command -v iasl") != 0) {
        files_remove_tree(dir);
        free(dir);
        mem_destroy(&mem);
        skip();
    }
    write_tables(&mem, 32, DEVICES);
    write_file(dir, "dsdt", find_dsdt(&mem));
    write_file(dir, "facp", find_table(&mem, "FACP"));
    write_file(dir, "apic", find_table(&mem, "APIC"));
    write_file(dir, "xsdt", find_xsdt(&mem));

    for (unsigned i = 0; i < 4; i++) {
        static const char *const name[] = {"facp", "apic", "xsdt", "dsdt"};
        char command[128];

        snprintf(command, sizeof(command),
                 "iasl -d %s >log 2>&1 && ! grep -i 'error\\|invalid' log %s.dsl", name[i],
                 name[i]);
        if (run_in(dir, command) != 0)
            fail_msg("iasl -d %s", name[i]);
    }
    assert_int_equal(run_in(dir, "iasl dsdt.dsl >log 2>&1 && grep ' 0 Errors, 0 Warnings' log"), 0);
    assert_int_equal(run_in(dir, "test $(grep -c LNRO0005 dsdt.dsl) = 17"), 0);
    assert_int_equal(run_in(dir, "test $(grep -c 'Notify (V' dsdt.dsl) = 2"), 0);
    assert_int_equal(run_in(dir, "grep 'Edge, ActiveHigh, Exclusive' dsdt.dsl"), 0);
    assert_int_equal(run_in(dir, "test $(grep -c 'Processor Enabled : 1' apic.dsl) = 32"), 0);
    files_remove_tree(dir);
    free(dir);
    mem_destroy(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acpi_fadt_is_hardware_reduced_with_reset_and_sleep_registers),
        cmocka_unit_test(test_acpi_madt_lists_every_cpu_from_1_to_32_and_the_ioapic),
        cmocka_unit_test(test_acpi_dsdt_gives_each_virtio_device_its_window_and_interrupt),
        cmocka_unit_test(test_acpi_dsdt_offers_power_off_by_the_type_the_port_expects),
        cmocka_unit_test(test_acpi_dsdt_says_where_the_generation_id_is_to_drivers_of_any_age),
        cmocka_unit_test(test_acpi_dsdt_gives_vmclock_a_page_of_its_own),
        cmocka_unit_test(test_acpi_dsdt_notifies_each_half_of_the_generation_by_its_own_line),
        cmocka_unit_test(test_acpi_largest_machine_fits_below_the_generations_pages),
        cmocka_unit_test(test_aml_integers_take_the_shortest_form),
        cmocka_unit_test(test_aml_lengths_at_their_limits_are_read_back),
        cmocka_unit_test(test_aml_eisa_id_is_compressed_as_the_specification_has_it),
        cmocka_unit_test(test_acpi_iasl_takes_all_tables_apart_and_compiles_the_dsdt_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
