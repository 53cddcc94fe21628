/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/boot/cmdline.c. */
#include "tests/unit/unit.h"
#include "vmm/boot/cmdline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void expect_line(const struct boot_request *request, const char *expected)
{
    struct cmdline line;
    struct err e = {0};

    if (cmdline_compose(&line, request, &e))
        fail_msg("refused: %s", e.text);
    assert_string_equal(line.text, expected);
    assert_int_equal(line.len, strlen(expected));
}

static void expect_refused(const struct boot_request *request, const char *words)
{
    struct cmdline line;
    struct err e = {0};

    assert_int_equal(cmdline_compose(&line, request, &e), -EINVAL);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void test_cmdline_is_args_then_pci_off(void **state)
{
    struct boot_request request = {.args = "reboot=k panic=1"};

    (void)state;
    expect_line(&request, "reboot=k panic=1 pci=off");
}

static void test_cmdline_of_empty_args_begins_without_a_space(void **state)
{
    struct boot_request request = {.args = ""};

    (void)state;
    expect_line(&request, "pci=off");
    request.args = "   ";
    expect_line(&request, "pci=off");
}

static void test_cmdline_root_and_devices_follow_in_order(void **state)
{
    const struct boot_device device[] = {{GPA(0xc0001000), 5}, {GPA(0xc000f000), 16}};
    struct boot_request request = {
        .args = "a", .root = BOOT_ROOT_DRIVE, .device = device, .device_count = 2};

    (void)state;
    expect_line(&request, "a pci=off root=/dev/vda rw virtio_mmio.device=4K@0xc0001000:5 "
                          "virtio_mmio.device=4K@0xc000f000:16");
    request.root_read_only = true;
    request.device_count = 0;
    expect_line(&request, "a pci=off root=/dev/vda ro");
    request.root_partuuid = "0eaa91a0-01";
    expect_line(&request, "a pci=off root=PARTUUID=0eaa91a0-01 ro");
    request.root = BOOT_ROOT_PMEM;
    request.root_pmem = 2;
    expect_line(&request, "a pci=off root=/dev/pmem2 ro");
    request.root_read_only = false;
    expect_line(&request, "a pci=off root=/dev/pmem2 rw");
}

static void test_cmdline_what_is_for_init_stays_last(void **state)
{
    static const struct {
        const char *args, *line;
    } row[] = {
        {"a -- b c", "a pci=off -- b c"},
        {"a --", "a pci=off --"},
        {"-- b", "pci=off -- b"},
        {"--", "pci=off --"},
        {"a  --  b", "a pci=off --  b"},
        {"a -- b -- c", "a pci=off -- b -- c"},
        /* Not a word of its own: */
        {"a --b", "a --b pci=off"},
        {"a-- b", "a-- b pci=off"},
        {"a=-- b", "a=-- b pci=off"},
        {"a --- b", "a --- b pci=off"},
        /* Quotes hide it, as from Linux: */
        {"a=\"x -- y\" b", "a=\"x -- y\" b pci=off"},
        {"a=\"x -- y\" -- b", "a=\"x -- y\" pci=off -- b"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct boot_request request = {.args = row[i].args};

        expect_line(&request, row[i].line);
    }
}

static char *filled(size_t len)
{
    char *text = malloc(len + 1);

    assert_non_null(text);
    memset(text, 'x', len);
    text[len] = '\0';
    return text;
}

static void test_cmdline_fits_to_the_byte_and_not_one_more(void **state)
{
    size_t room = 2047 - strlen(" pci=off");
    char *args = filled(room + 1);
    struct boot_request request = {.args = args};
    struct cmdline line;
    struct err e;

    (void)state;
    expect_refused(&request, "has 2048 bytes with all that belongs to it, more than the 2047");
    args[room] = '\0';
    assert_int_equal(cmdline_compose(&line, &request, &e), 0);
    assert_int_equal(line.len, 2047);
    assert_int_equal(line.text[2047], '\0');
    assert_string_equal(line.text + room, " pci=off");
    free(args);
}

static void test_cmdline_much_too_long_parts_are_refused(void **state)
{
    char *args = filled(100000);
    struct boot_request request = {.args = args};

    (void)state;
    expect_refused(&request, "has 100008 bytes");
    request.args = "";
    request.root = BOOT_ROOT_DRIVE;
    request.root_partuuid = args;
    expect_refused(&request, "more than the 2047");
    free(args);
}

static void test_cmdline_bytes_that_are_not_printable_ascii_are_refused(void **state)
{
    static const char *const text[] = {"a\n", "a\tb", "\x7f", "caf\xc3\xa9", "a -- \x01"};
    struct boot_request request = {.args = "a", .root = BOOT_ROOT_DRIVE, .root_partuuid = "1\n2"};

    (void)state;
    expect_refused(&request, "byte 26 of it is not printable ASCII");
    for (unsigned i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        struct boot_request bad = {.args = text[i]};

        expect_refused(&bad, "not printable ASCII");
    }
}

static void test_boot_args_check_judges_length_and_bytes(void **state)
{
    char *args = filled(2048);
    struct err e = {0};

    (void)state;
    assert_int_equal(boot_args_check(args, &e), -EINVAL);
    assert_string_equal(e.text, "The kernel command line is invalid: Inserting string would make "
                                "command line too long.");
    args[2047] = '\0';
    assert_int_equal(boot_args_check(args, &e), 0);
    args[2046] = '\x80';
    assert_int_equal(boot_args_check(args, &e), -EINVAL);
    assert_string_equal(e.text, "The kernel command line is invalid: String contains a "
                                "non-printable ASCII character.");
    assert_int_equal(boot_args_check("", &e), 0);
    free(args);
}

static void test_cmdline_has_finds_whole_words_of_the_kernels_part(void **state)
{
    static const struct {
        const char *args;
        bool found;
    } rows[] = {
        {"noapic", true},   {"a noapic b", true},     {"noapic=1 b", true},   {"a  noapic", true},
        {"noapics", false}, {"xnoapic", false},       {"a -- noapic", false}, {"noapic -- b", true},
        {"", false},        {"noapic-noapic", false}, {"foo=noapic", false},  {"noapi", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (cmdline_has(rows[i].args, "noapic") != rows[i].found)
            fail_msg("\"%s\"", rows[i].args);
}

static void test_cmdline_without_kvmclock_tells_the_tsc_rate(void **state)
{
    struct boot_request request = {.args = "no-kvmclock -- x", .tsc_khz = 2596124};

    (void)state;
    expect_line(&request, "no-kvmclock pci=off tsc_early_khz=2596124 -- x");
    request.args = "no-kvmclock-vsyscall";
    expect_line(&request, "no-kvmclock-vsyscall pci=off");
    request = (struct boot_request){.args = "no-kvmclock"};
    expect_line(&request, "no-kvmclock pci=off");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmdline_is_args_then_pci_off),
        cmocka_unit_test(test_cmdline_has_finds_whole_words_of_the_kernels_part),
        cmocka_unit_test(test_cmdline_without_kvmclock_tells_the_tsc_rate),
        cmocka_unit_test(test_cmdline_of_empty_args_begins_without_a_space),
        cmocka_unit_test(test_cmdline_root_and_devices_follow_in_order),
        cmocka_unit_test(test_cmdline_what_is_for_init_stays_last),
        cmocka_unit_test(test_cmdline_fits_to_the_byte_and_not_one_more),
        cmocka_unit_test(test_cmdline_much_too_long_parts_are_refused),
        cmocka_unit_test(test_cmdline_bytes_that_are_not_printable_ascii_are_refused),
        cmocka_unit_test(test_boot_args_check_judges_length_and_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
