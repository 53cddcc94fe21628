/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of virtio/block/layer.c: which files are layers, and which can be gone on with. */
#include "tests/support/files.h"
#include "tests/unit/unit.h"
#include "virtio/block/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#define SIZE (10 * MIB + 512)

static char *directory;

static int set_up(void **state)
{
    (void)state;
    directory = files_enter_temporary("layer");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    files_leave(directory);
    return 0;
}

static const struct layer_head head = {
    .size = SIZE,
    .base = 0x1122334455667788,
    .below = {{3, 4}},
};

/* A layer of that name that holds the blocks 1 and 2560, the last one. */
static struct layer make(const char *name)
{
    uint8_t *bits = calloc(1, layer_bits_size(SIZE));
    struct layer layer;
    struct err e;
    bool fresh;

    assert_non_null(bits);
    assert_int_equal(layer_open_top(&layer, name, &head, false, &fresh, &e), 0);
    assert_true(fresh);
    bits[0] = 2;
    bits[2560 / 8] = 1;
    assert_int_equal(layer_write_bits(layer.file.fd, bits, 0), 0);
    free(bits);
    return layer;
}

static void refuse(const char *name, int code, const char *why)
{
    struct layer layer;
    struct err e = {0};

    assert_int_equal(layer_open(&layer, name, &e), code);
    if (!strstr(e.text, why) || !strstr(e.text, name))
        fail_msg("%s: %s", name, e.text);
    assert_int_equal(layer.file.fd, -1);
}

static void refuse_top(const char *name, const struct layer_head *other, int code, const char *why)
{
    struct layer layer;
    struct err e = {0};
    bool fresh;

    assert_int_equal(layer_open_top(&layer, name, other, false, &fresh, &e), code);
    if (!strstr(e.text, why))
        fail_msg("%s: %s", name, e.text);
    assert_int_equal(layer.file.fd, -1);
}

/* ---- the file ---- */

static void test_layer_says_what_it_was_made_with(void **state)
{
    struct layer layer = make("l"), again;
    uint8_t bits[LAYER_BLOCK], owner[2561] = {0};
    struct layer_id id = layer.head.id;
    struct err e;

    (void)state;
    assert_int_equal(layer_bits_size(SIZE), sizeof(bits));
    assert_int_equal(layer_complete(&layer), 0);
    layer_close(&layer);
    assert_int_equal(layer_open(&again, "l", &e), 0);
    assert_int_equal(again.head.size, SIZE);
    assert_int_equal(again.head.base, head.base);
    assert_true(layer_id_is(&again.head.id, &id));
    assert_true(layer_id_is(&again.head.below, &head.below));
    assert_true(again.head.complete);
    assert_int_equal(layer_read_bits(&again, bits), 0);
    assert_int_equal(layer_mark(SIZE, bits, owner, 7), 2);
    assert_int_equal(owner[1], 7);
    assert_int_equal(owner[2560], 7);
    assert_int_equal(owner[2], 0);
    layer_close(&again);
}

static void test_layer_bits_behind_the_drive_are_nobodys(void **state)
{
    uint8_t bits[LAYER_BLOCK], owner[2561] = {0};

    (void)state;
    memset(bits, 0xff, sizeof(bits));
    assert_int_equal(layer_mark(SIZE, bits, owner, 1), 2561);
}

/* The header as it is on the disk: what clients of other programs may rely on. */
static void test_layer_header_is_as_documented(void **state)
{
    static const uint8_t begins[] = {'M', 'A', 'Y',  'L',  'A',  'Y',  0x1a, '\n', 1,    0,   0,
                                     0,   0,   0x10, 0,    0,    0x00, 0x02, 0xa0, 0,    0,   0,
                                     0,   0,   0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
    struct layer layer = make("l");
    uint8_t bytes[80];

    (void)state;
    assert_int_equal(pread(layer.file.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_memory_equal(bytes, begins, sizeof(begins));
    assert_memory_equal(bytes + 32, &layer.head.id, 16);
    assert_memory_equal(bytes + 48, &head.below, 16);
    assert_int_equal(bytes[64], 0);
    assert_int_equal(layer_complete(&layer), 0);
    assert_int_equal(pread(layer.file.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(bytes[64], 1);
    layer_close(&layer);
}

static void test_layer_is_refused_with_any_byte_of_its_header_changed(void **state)
{
    struct layer layer = make("l");
    int fd = open("l", O_RDWR | O_CLOEXEC);
    uint8_t byte;

    (void)state;
    layer_close(&layer);
    assert_true(fd >= 0);
    for (off_t at = 0; at < (off_t)LAYER_BLOCK; at++) {
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        refuse("l", -EINVAL, at < 8 ? "is no layer" : "is a damaged layer");
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
    assert_int_equal(layer_open(&layer, "l", NULL), 0);
    layer_close(&layer);
}

static void test_layer_is_refused_at_any_other_length(void **state)
{
    static const off_t lengths[] = {0, 1, 4095, 4096, 4097, 8192, 12288, -4096, -1, 1, 4096};
    struct layer layer = make("l");
    off_t whole = (off_t)layer_length(SIZE);

    (void)state;
    layer_close(&layer);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        bool from_end = i >= 7;

        assert_int_equal(truncate("l", from_end ? whole + lengths[i] : lengths[i]), 0);
        refuse("l", -EINVAL, "layer");
        assert_int_equal(unlink("l"), 0);
        layer = make("l");
        layer_close(&layer);
    }
}

static void test_layer_is_no_directory_nor_pipe_nor_image(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d", 0700), 0);
    assert_int_equal(mkfifo("p", 0600), 0);
    assert_int_equal(files_make_sparse("i", MIB), 0);
    refuse("d", -EISDIR, "Is a directory");
    refuse("p", -EINVAL, "neither a regular file");
    refuse("i", -EINVAL, "is no layer");
    refuse("missing", -ENOENT, "No such file");
}

/* ---- who has it ---- */

static void test_layer_that_is_written_to_is_refused_until_that_ends(void **state)
{
    struct layer top = make("l"), reader;

    (void)state;
    refuse("l", -EBUSY, "is being written to");
    refuse_top("l", &head, -EBUSY, "in use");
    layer_close(&top);
    assert_int_equal(layer_open(&reader, "l", NULL), 0);
    refuse_top("l", &head, -EBUSY, "in use");
    layer_close(&reader);
}

static void test_layer_that_is_complete_has_readers_and_no_writer(void **state)
{
    struct layer top = make("l"), one, other;

    (void)state;
    assert_int_equal(layer_complete(&top), 0);
    assert_int_equal(layer_open(&one, "l", NULL), 0);
    assert_int_equal(layer_open(&other, "l", NULL), 0);
    layer_close(&top);
    layer_close(&one);
    layer_close(&other);
    refuse_top("l", &head, -EINVAL, "is complete");
}

static unsigned flushes_until_failure; /* 0 = none fails */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    if (flushes_until_failure == 0 || --flushes_until_failure > 0)
        return __real_fdatasync(fd);
    errno = EIO;
    return -1;
}

static void test_layer_that_cannot_be_completed_is_gone_on_with(void **state)
{
    (void)state;
    for (unsigned failing = 1; failing <= 2; failing++) {
        struct layer top = make("l");
        bool fresh;

        flushes_until_failure = failing;
        assert_int_equal(layer_complete(&top), -EIO);
        assert_false(top.head.complete);
        layer_close(&top);
        assert_int_equal(layer_open_top(&top, "l", &head, false, &fresh, NULL), 0);
        assert_false(fresh);
        layer_close(&top);
        assert_int_equal(unlink("l"), 0);
    }
}

/* ---- going on ---- */

static void test_layer_is_gone_on_with_over_the_same_and_nothing_else(void **state)
{
    struct layer_head other = head;
    struct layer layer = make("l");
    struct layer_id id = layer.head.id;
    bool fresh;

    (void)state;
    layer_close(&layer);
    assert_int_equal(layer_open_top(&layer, "l", &head, false, &fresh, NULL), 0);
    assert_false(fresh);
    assert_true(layer_id_is(&layer.head.id, &id));
    layer_close(&layer);
    other.base++;
    refuse_top("l", &other, -EINVAL, "is an overlay of another file");
    other = head;
    other.size += 512;
    refuse_top("l", &other, -EINVAL, "is an overlay of another file");
    other = head;
    other.below.word[0]++;
    refuse_top("l", &other, -EINVAL, "is an overlay of other layers");
}

static void test_layer_takes_the_place_of_holes_and_of_nothing_else(void **state)
{
    struct layer layer;
    bool fresh;

    (void)state;
    assert_int_equal(files_write("empty", "", 0), 0);
    assert_int_equal(layer_open_top(&layer, "empty", &head, false, &fresh, NULL), 0);
    assert_true(fresh);
    layer_close(&layer);
    assert_int_equal(files_write("one", "x", 1), 0);
    refuse_top("one", &head, -EINVAL, "is no layer");
    assert_int_equal(truncate("one", 100000), 0);
    refuse_top("one", &head, -EINVAL, "is no layer");
    assert_int_equal(access("one", F_OK), 0);
}

static void test_layer_that_must_be_new_is_not_taken_from_anybody(void **state)
{
    struct layer layer;
    struct err e;
    bool fresh;

    (void)state;
    assert_int_equal(files_write("theirs", "", 0), 0);
    assert_int_equal(layer_open_top(&layer, "theirs", &head, true, &fresh, &e), -EEXIST);
    assert_int_equal(layer_open_top(&layer, "mine", &head, true, &fresh, &e), 0);
    layer_close(&layer);
}

static void test_layer_that_cannot_be_made_leaves_no_file(void **state)
{
    struct layer_head large = {.size = UINT64_C(1) << 62};

    (void)state;
    refuse_top("large", &large, -EFBIG, "File too large");
    assert_int_equal(access("large", F_OK), -1);
    refuse_top("no/where", &head, -ENOENT, "no/where");
}

/* ---- bases and copies ---- */

static void test_layer_base_is_known_by_how_it_begins(void **state)
{
    uint64_t before, after;
    int fd;

    (void)state;
    assert_int_equal(files_make_sparse("base", MIB), 0);
    fd = open("base", O_RDWR | O_CLOEXEC);
    assert_int_equal(layer_hash_base(fd, "base", &before, NULL), 0);
    assert_int_equal(pwrite(fd, "x", 1, 512 * 1024), 1); /* further inside: not seen */
    assert_int_equal(layer_hash_base(fd, "base", &after, NULL), 0);
    assert_int_equal(before, after);
    assert_int_equal(pwrite(fd, "x", 1, 64 * 1024 + 64), 1);
    assert_int_equal(layer_hash_base(fd, "base", &after, NULL), 0);
    assert_int_not_equal(before, after);
    before = after;
    assert_int_equal(pwrite(fd, "x", 1, 4095), 1);
    assert_int_equal(layer_hash_base(fd, "base", &after, NULL), 0);
    assert_int_not_equal(before, after);
    close(fd);
}

static void test_layer_is_no_base(void **state)
{
    struct layer layer = make("l");
    uint64_t hash;
    struct err e;

    (void)state;
    assert_int_equal(layer_hash_base(layer.file.fd, "l", &hash, &e), -EINVAL);
    assert_string_equal(e.text,
                        "l is a layer, and no image: it belongs to the layers of an overlay.");
    layer_close(&layer);
}

static void test_layer_copy_is_the_same_layer_and_as_sparse(void **state)
{
    struct layer layer = make("l"), copy;
    struct stat st;
    uint8_t byte = 0;
    int fd = open("c", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    assert_int_equal(layer_write_at(layer.file.fd, "y", 1, layer_data(SIZE) + 4096), 0);
    assert_int_equal(layer_copy(&layer, fd), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_blocks < 100);
    close(fd);
    assert_int_equal(layer_open(&copy, "c", NULL), 0);
    assert_true(layer_id_is(&copy.head.id, &layer.head.id));
    assert_int_equal(pread(copy.file.fd, &byte, 1, (off_t)layer_data(SIZE) + 4096), 1);
    assert_int_equal(byte, 'y');
    layer_close(&copy);
    layer_close(&layer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_layer_says_what_it_was_made_with),
        TEST(test_layer_bits_behind_the_drive_are_nobodys),
        TEST(test_layer_header_is_as_documented),
        TEST(test_layer_is_refused_with_any_byte_of_its_header_changed),
        TEST(test_layer_is_refused_at_any_other_length),
        TEST(test_layer_is_no_directory_nor_pipe_nor_image),
        TEST(test_layer_that_is_written_to_is_refused_until_that_ends),
        TEST(test_layer_that_is_complete_has_readers_and_no_writer),
        TEST(test_layer_that_cannot_be_completed_is_gone_on_with),
        TEST(test_layer_is_gone_on_with_over_the_same_and_nothing_else),
        TEST(test_layer_takes_the_place_of_holes_and_of_nothing_else),
        TEST(test_layer_that_must_be_new_is_not_taken_from_anybody),
        TEST(test_layer_that_cannot_be_made_leaves_no_file),
        TEST(test_layer_base_is_known_by_how_it_begins),
        TEST(test_layer_is_no_base),
        TEST(test_layer_copy_is_the_same_layer_and_as_sparse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
