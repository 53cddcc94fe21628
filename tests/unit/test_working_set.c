/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/snapshot/working_set.c: the file of a working set, and what is none. */
#include "tests/unit/unit.h"
#include "vmm/snapshot/crc64.h"
#include "vmm/snapshot/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMORY (64 * PAGE_SIZE)

static char directory[] = "/tmp/mayfly-test-XXXXXX";
static char path[64];

/* Pages 3 and 4 read, 5 written, 9 read; the file has 32 + 3 * 8 + 8 bytes. */
static void write_usual(void)
{
    struct working_set set = {.mem_size = MEMORY};

    assert_int_equal(working_set_add(&set, 3, false), 0);
    assert_int_equal(working_set_add(&set, 4, false), 0);
    assert_int_equal(working_set_add(&set, 5, true), 0);
    assert_int_equal(working_set_add(&set, 9, false), 0);
    assert_int_equal(working_set_write(&set, path, NULL), 0);
    working_set_free(&set);
}

enum { FILE_SIZE = 32 + 3 * 8 + 8 };

static void get_file(uint8_t bytes[FILE_SIZE])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_int_equal(read(fd, bytes, FILE_SIZE), FILE_SIZE);
    assert_int_equal(read(fd, bytes, 1), 0);
    close(fd);
}

static void put_file(const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static void expect_refusal(uint64_t mem_size, const char *part)
{
    struct working_set set;
    struct err e;

    assert_int_equal(working_set_read(&set, path, mem_size, &e), -EINVAL);
    if (!strstr(e.text, part) || !strstr(e.text, path))
        fail_msg("%s", e.text);
}

static void test_working_set_is_read_as_it_was_written(void **state)
{
    struct working_set set;

    (void)state;
    write_usual();
    assert_int_equal(working_set_read(&set, path, MEMORY, NULL), 0);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.run[0].first, 3);
    assert_int_equal(set.run[0].pages, 2);
    assert_false(set.run[0].written);
    assert_int_equal(set.run[1].first, 5);
    assert_true(set.run[1].written);
    assert_int_equal(set.run[2].first, 9);
    assert_int_equal(working_set_pages(&set), 4);
    working_set_free(&set);
}

static void test_working_set_of_no_page_is_one(void **state)
{
    struct working_set set = {.mem_size = MEMORY};

    (void)state;
    assert_int_equal(working_set_write(&set, path, NULL), 0);
    assert_int_equal(working_set_read(&set, path, MEMORY, NULL), 0);
    assert_int_equal(set.count, 0);
    working_set_free(&set);
}

static void test_working_set_with_any_byte_inverted_is_refused(void **state)
{
    uint8_t bytes[FILE_SIZE];
    struct working_set set;

    (void)state;
    write_usual();
    get_file(bytes);
    for (size_t i = 0; i < FILE_SIZE; i++) {
        bytes[i] ^= 0xff;
        put_file(bytes, FILE_SIZE);
        bytes[i] ^= 0xff;
        assert_int_equal(working_set_read(&set, path, MEMORY, NULL), -EINVAL);
    }
}

static void test_working_set_of_any_other_length_is_refused(void **state)
{
    uint8_t bytes[FILE_SIZE + 8] = {0};
    struct working_set set;

    (void)state;
    write_usual();
    get_file(bytes);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        if (len == FILE_SIZE)
            continue;
        put_file(bytes, len);
        assert_int_equal(working_set_read(&set, path, MEMORY, NULL), -EINVAL);
    }
}

static void test_working_set_of_another_memory_file_is_refused(void **state)
{
    (void)state;
    write_usual();
    expect_refusal(MEMORY + PAGE_SIZE, "is of a memory file of 262144 bytes; this one has 266240");
}

static void test_working_set_that_is_none_is_refused(void **state)
{
    static const uint8_t text[64] = "pages";

    (void)state;
    write_usual();
    put_file(text, sizeof(text));
    expect_refusal(MEMORY, "is not a working set");
}

/* With a checksum that is right. */
static void test_working_set_with_runs_that_cannot_be_is_refused(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
    } changes[] = {
        {32, 64},         /* beyond the end */
        {36, 62},         /* up to beyond the end */
        {36, 0},          /* of no page */
        {36, 3},          /* into the next */
        {40, 2},          /* before the former */
        {24, 2},          /* fewer than there are */
        {24, UINT32_MAX}, /* more than there can be */
        {28, 1},          /* where there is zero; found by fuzz_working_set */
        {8, 2},           /* of another version */
        {12, 16384},      /* of larger pages */
        {36, UINT32_MAX},
    };
    uint8_t bytes[FILE_SIZE];
    struct working_set set;
    uint64_t crc;

    (void)state;
    write_usual();
    get_file(bytes);
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        uint8_t bad[FILE_SIZE];

        memcpy(bad, bytes, FILE_SIZE);
        memcpy(bad + changes[i].at, &changes[i].value, sizeof(uint32_t));
        crc = crc64(0, bad, FILE_SIZE - 8);
        memcpy(bad + FILE_SIZE - 8, &crc, 8);
        put_file(bad, FILE_SIZE);
        assert_int_equal(working_set_read(&set, path, MEMORY, NULL), -EINVAL);
    }
}

static void test_working_set_that_is_missing_is_told(void **state)
{
    struct working_set set;
    struct err e;

    (void)state;
    assert_int_equal(working_set_read(&set, "/nowhere/ws", MEMORY, &e), -ENOENT);
    assert_non_null(strstr(e.text, "/nowhere/ws"));
    set = (struct working_set){.mem_size = MEMORY};
    assert_int_equal(working_set_write(&set, "/nowhere/ws", &e), -ENOENT);
    assert_non_null(strstr(e.text, "/nowhere/ws"));
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/ws", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_working_set_is_read_as_it_was_written),
        cmocka_unit_test(test_working_set_of_no_page_is_one),
        cmocka_unit_test(test_working_set_with_any_byte_inverted_is_refused),
        cmocka_unit_test(test_working_set_of_any_other_length_is_refused),
        cmocka_unit_test(test_working_set_of_another_memory_file_is_refused),
        cmocka_unit_test(test_working_set_that_is_none_is_refused),
        cmocka_unit_test(test_working_set_with_runs_that_cannot_be_is_refused),
        cmocka_unit_test(test_working_set_that_is_missing_is_told),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
