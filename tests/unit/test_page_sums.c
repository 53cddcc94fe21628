/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/snapshot/page_sums.c, on files in memory. */
#include "tests/unit/unit.h"
#include "vmm/snapshot/crc64.h"
#include "vmm/snapshot/page_sums.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#define SIZE  (MIB + 8192) /* the last block is a short one */
#define BLOCK UINT64_C(65536)

struct fixture {
    int fd;
    uint8_t bytes[8192];
    size_t len;
    struct state_reader r;
    struct page_sums sums;
};

static void put(const struct fixture *f, uint64_t at, const char *text)
{
    assert_int_equal(pwrite(f->fd, text, strlen(text), (off_t)at), strlen(text));
}

static void make(struct fixture *f, uint64_t size)
{
    struct state_writer w;

    state_writer_begin(&w, f->bytes, sizeof(f->bytes));
    assert_int_equal(page_sums_write(&w, f->fd, size, NULL), 0);
    assert_int_equal(state_writer_end(&w, &f->len, NULL), 0);
    assert_int_equal(state_reader_begin(&f->r, f->bytes, f->len, NULL), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->fd = memfd_create("memory", MFD_CLOEXEC);
    assert_int_equal(ftruncate(f->fd, SIZE), 0);
    put(f, 10, "first");
    put(f, 3 * BLOCK - 2, "over the edge");
    put(f, SIZE - 4, "last");
    make(f, SIZE);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close(f->fd);
    free(f);
    return 0;
}

static void read_sums(struct fixture *f)
{
    assert_int_equal(page_sums_read(&f->sums, SIZE, &f->r, NULL), 0);
    assert_int_equal(state_reader_end(&f->r, NULL), 0);
}

static void test_sums_are_checksums_of_blocks_and_zero_of_zeros(void **state)
{
    struct fixture *f = *state;
    uint8_t block[BLOCK] = {0};
    uint64_t sum;

    read_sums(f);
    assert_int_equal(f->sums.block, BLOCK);
    assert_int_equal(f->sums.count, 17);
    strcpy((char *)block + 10, "first");
    memcpy(&sum, f->sums.sums, 8);
    assert_true(sum == crc64(0, block, BLOCK));
    memcpy(&sum, f->sums.sums + 8, 8);
    assert_true(sum == 0);
}

static void test_file_that_is_what_it_was_is_verified(void **state)
{
    struct fixture *f = *state;
    static const char zeros[BLOCK];

    read_sums(f);
    assert_int_equal(page_sums_verify(&f->sums, f->fd, SIZE, NULL), 0);
    /* Zeros are zeros, as a hole or not: copies differ in that. */
    assert_int_equal(pwrite(f->fd, zeros, BLOCK, 5 * BLOCK), BLOCK);
    assert_int_equal(page_sums_verify(&f->sums, f->fd, SIZE, NULL), 0);
}

static void test_byte_that_differs_is_found_and_its_block_named(void **state)
{
    static const uint64_t at[] = {0, 10, BLOCK, 3 * BLOCK, 7 * BLOCK + 5, SIZE - 1};
    struct fixture *f = *state;
    struct err e;
    char was, other, where[64];

    read_sums(f);
    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        assert_int_equal(pread(f->fd, &was, 1, (off_t)at[i]), 1);
        other = (char)(was ^ 4);
        assert_int_equal(pwrite(f->fd, &other, 1, (off_t)at[i]), 1);
        assert_int_equal(page_sums_verify(&f->sums, f->fd, SIZE, &e), -EUCLEAN);
        snprintf(where, sizeof(where), "bytes %#llx to",
                 (unsigned long long)align_down(at[i], BLOCK));
        assert_non_null(strstr(e.text, where));
        assert_int_equal(pwrite(f->fd, &was, 1, (off_t)at[i]), 1);
    }
    assert_int_equal(page_sums_verify(&f->sums, f->fd, SIZE, NULL), 0);
}

static void test_data_that_became_a_hole_is_found(void **state)
{
    struct fixture *f = *state;
    struct err e;

    read_sums(f);
    assert_int_equal(ftruncate(f->fd, BLOCK), 0);
    assert_int_equal(ftruncate(f->fd, SIZE), 0);
    assert_int_equal(page_sums_verify(&f->sums, f->fd, SIZE, &e), -EUCLEAN);
    assert_non_null(strstr(e.text, "bytes 0x20000 to 0x30000"));
}

static void test_sums_of_memory_of_another_size_are_refused(void **state)
{
    static const uint64_t sizes[] = {SIZE + BLOCK, SIZE - BLOCK, 0, UINT64_C(1) << 50};
    struct fixture *f = *state;
    struct state_reader r;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        r = f->r;
        assert_int_equal(page_sums_read(&f->sums, sizes[i], &r, NULL), -EINVAL);
    }
}

static void test_file_without_sums_has_none(void **state)
{
    struct fixture *f = *state;
    struct state_writer w;

    state_writer_begin(&w, f->bytes, sizeof(f->bytes));
    state_write_text(&w, "other", 0, "x");
    assert_int_equal(state_writer_end(&w, &f->len, NULL), 0);
    assert_int_equal(state_reader_begin(&f->r, f->bytes, f->len, NULL), 0);
    assert_int_equal(page_sums_read(&f->sums, SIZE, &f->r, NULL), 0);
    assert_int_equal(f->sums.count, 0);
    assert_int_equal(page_sums_verify(&f->sums, f->fd, SIZE, NULL), 0);
    assert_int_equal(state_reader_end(&f->r, NULL), -EINVAL); /* it was not read */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sums_are_checksums_of_blocks_and_zero_of_zeros, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_file_that_is_what_it_was_is_verified, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_byte_that_differs_is_found_and_its_block_named, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_data_that_became_a_hole_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sums_of_memory_of_another_size_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_file_without_sums_has_none, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
