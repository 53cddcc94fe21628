/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/boot/bzimage.c: setup headers as bytes, sound and damaged. */
#include "tests/support/kernel_files.h"
#include "tests/unit/unit.h"
#include "vmm/boot/bzimage.h"

#include <errno.h>
#include <string.h>

static int parse(const struct kernel_file *file, struct kernel_image *image, struct err *e)
{
    size_t head = file->len < KERNEL_HEAD_SIZE ? file->len : KERNEL_HEAD_SIZE;

    return bzimage_parse(file->bytes, head, file->len, image, e);
}

static void expect_refused(const struct kernel_file *file, const char *words)
{
    struct kernel_image image;
    struct err e = {0};

    assert_int_equal(parse(file, &image, &e), -EINVAL);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void expect_accepted(const struct kernel_file *file, struct kernel_image *image)
{
    struct err e = {0};

    if (parse(file, image, &e))
        fail_msg("refused: %s", e.text);
}

static void test_bzimage_sound_file_goes_to_its_preferred_address(void **state)
{
    struct kernel_file file;
    struct kernel_image image;

    (void)state;
    kernel_file_make_bzimage(&file);
    expect_accepted(&file, &image);

    assert_int_equal(image.protocol, BOOT_LINUX64);
    assert_int_equal(image.segment_count, 1);
    assert_int_equal(image.segment[0].offset, BZIMAGE_PAYLOAD_AT);
    assert_int_equal(image.segment[0].file_size, BZIMAGE_PAYLOAD_SIZE);
    assert_int_equal(image.segment[0].gpa.v, BZIMAGE_GPA);
    assert_int_equal(image.segment[0].mem_size, BZIMAGE_INIT_SIZE);
    assert_int_equal(image.entry, BZIMAGE_GPA + 0x200);
    assert_int_equal(image.initrd_limit, BZIMAGE_INITRD_MAX + UINT64_C(1));
    assert_int_equal(image.cmdline_max, 2047);
    assert_int_equal(image.setup_header_len, 0x26c - 0x1f1);
    assert_memory_equal(image.setup_header, file.bytes + 0x1f1, image.setup_header_len);
}

static void test_bzimage_with_zero_setup_sectors_has_four(void **state)
{
    struct kernel_file file;
    struct kernel_image image;

    (void)state;
    kernel_file_make_bzimage(&file);
    file.len += 512;
    kernel_file_put(&file, 0x1f1, 0, 1);
    expect_accepted(&file, &image);

    assert_int_equal(image.segment[0].offset, 5 * 512);
}

/* A signature after the kernel is not loaded, and the last unit of 16 bytes may be begun only. */
static void test_bzimage_payload_is_what_the_header_says_not_the_rest_of_the_file(void **state)
{
    struct kernel_file file;
    struct kernel_image image;

    (void)state;
    kernel_file_make_bzimage(&file);
    file.len += 1000;
    expect_accepted(&file, &image);
    assert_int_equal(image.segment[0].file_size, BZIMAGE_PAYLOAD_SIZE);

    file.len = BZIMAGE_PAYLOAD_AT + BZIMAGE_PAYLOAD_SIZE - 15;
    expect_accepted(&file, &image);
    assert_int_equal(image.segment[0].file_size, BZIMAGE_PAYLOAD_SIZE - 15);

    file.len--;
    expect_refused(&file, "cut off");
}

static void test_bzimage_address_is_at_least_1_mib_and_aligned_when_relocatable(void **state)
{
    static const struct {
        uint64_t preferred, alignment;
        unsigned relocatable;
        uint64_t address;
    } row[] = {
        {0, 0x200000, 1, 0x200000},           {0, 0x200000, 0, 0x100000},
        {0x1000000, 0x1000000, 1, 0x1000000}, {0x1000001, 0x1000000, 1, 0x2000000},
        {0x1001000, 0x1000000, 0, 0x1001000}, /* cannot be moved, so is not */
        {0x1000000, 3, 0, 0x1000000},         /* and its alignment says nothing */
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct kernel_file file;
        struct kernel_image image;

        kernel_file_make_bzimage(&file);
        kernel_file_put(&file, 0x258, row[i].preferred, 8);
        kernel_file_put(&file, 0x230, row[i].alignment, 4);
        kernel_file_put(&file, 0x234, row[i].relocatable, 1);
        expect_accepted(&file, &image);
        assert_int_equal(image.segment[0].gpa.v, row[i].address);
        assert_int_equal(image.entry, row[i].address + 0x200);
    }
}

static void test_bzimage_each_damaged_field_is_refused_in_words(void **state)
{
    static const struct {
        size_t offset;
        unsigned bytes;
        uint64_t value;
        const char *words;
    } damage[] = {
        {0x202, 1, 'X', "Invalid bzImage"},
        {0x1fe, 2, 0x55aa, "Invalid bzImage"},
        {0x206, 2, 0x020b, "protocol is 2.11; 2.12"},
        {0x206, 2, 0, "protocol is 0.00"},
        {0x201, 1, 0x61, "header ends at 0x263"},
        {0x201, 1, 0x8f, "header ends at 0x291"},
        {0x201, 1, 0, "header ends at 0x202"},
        {0x201, 1, 0xff, "header ends at 0x301"},
        {0x211, 1, 0, "zImage, which loads below 1 MiB"},
        {0x236, 2, 0xfffe, "no 64-bit entry"},
        {0x1f1, 1, 255, "cut off"},
        {0x1f4, 4, BZIMAGE_PAYLOAD_SIZE / 16 + 1, "cut off"},
        {0x1f4, 4, 0xffffffff, "cut off"},
        {0x1f4, 4, 0, "no code at its 64-bit entry"},
        {0x1f4, 4, 1, "no code at its 64-bit entry"},
        {0x1f4, 4, 0x20, "no code at its 64-bit entry"},
        {0x258, 8, 0x40000001, "only the first GiB"},
        {0x258, 8, UINT64_MAX, "only the first GiB"},
        {0x230, 4, 0, "alignment 0x0 is not a power of two"},
        {0x230, 4, 0x300000, "alignment 0x300000 is not"},
        {0x230, 4, 0x80000000, "alignment 0x80000000 is not"},
        {0x260, 4, BZIMAGE_PAYLOAD_SIZE - 1, "less than its own 0x1230"},
        {0x260, 4, 0, "needs 0x0 bytes"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
        struct kernel_file file;

        kernel_file_make_bzimage(&file);
        kernel_file_put(&file, damage[i].offset, damage[i].value, damage[i].bytes);
        expect_refused(&file, damage[i].words);
    }
}

static void test_bzimage_cut_anywhere_is_refused(void **state)
{
    struct kernel_file file;
    struct kernel_image image;
    size_t whole;

    (void)state;
    kernel_file_make_bzimage(&file);
    whole = file.len;
    for (file.len = 0; file.len < whole - 15; file.len++) {
        struct err e;

        assert_int_equal(parse(&file, &image, &e), -EINVAL);
    }
}

/* The header may say that it is longer than what of the file was read. */
static void test_bzimage_header_longer_than_the_head_is_refused(void **state)
{
    struct kernel_file file;
    struct kernel_image image;
    struct err e = {0};

    (void)state;
    kernel_file_make_bzimage(&file);
    assert_int_equal(bzimage_parse(file.bytes, 0x26b, file.len, &image, &e), -EINVAL);
    assert_int_equal(bzimage_parse(file.bytes, 0x26c, file.len, &image, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bzimage_sound_file_goes_to_its_preferred_address),
        cmocka_unit_test(test_bzimage_with_zero_setup_sectors_has_four),
        cmocka_unit_test(test_bzimage_payload_is_what_the_header_says_not_the_rest_of_the_file),
        cmocka_unit_test(test_bzimage_address_is_at_least_1_mib_and_aligned_when_relocatable),
        cmocka_unit_test(test_bzimage_each_damaged_field_is_refused_in_words),
        cmocka_unit_test(test_bzimage_cut_anywhere_is_refused),
        cmocka_unit_test(test_bzimage_header_longer_than_the_head_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
