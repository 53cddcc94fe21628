/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/snapshot/state_file.c, crc64.c and mem_map.c: the golden file, made by another
 * program after FORMAT.md, is what the writer writes and the reader reads; whatever is wrong with a
 * file is refused by a sentence.
 */
#include "tests/unit/state_bytes.h"
#include "tests/unit/unit.h"
#include "vmm/snapshot/crc64.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/state_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN     MAYFLY_SOURCE "/tests/unit/golden/state-1.1.bin"
#define GOLDEN_1_0 MAYFLY_SOURCE "/tests/unit/golden/state-1.0.bin"

/* Offsets of the format. */
#define AT_MAJOR        8
#define AT_MINOR        10
#define AT_ARCHITECTURE 14
#define AT_SECTIONS     16
#define AT_ZERO         20
#define SECTION_INDEX   16
#define SECTION_VERSION 20
#define SECTION_PRINT   24
#define SECTION_LEN     28

struct sample {
    uint64_t number;
    uint16_t small;
    uint8_t bytes[6];
};

static const struct state_field sample_fields[] = {
    STATE_FIELD(struct sample, number),
    STATE_FIELD(struct sample, small),
    STATE_ARRAY(struct sample, bytes),
};
static const struct state_desc sample_desc = STATE_DESC("sample", 7, struct sample, sample_fields);

static struct sample sample_of(uint64_t number)
{
    struct sample sample = {.number = number, .small = (uint16_t)number};

    for (unsigned i = 0; i < sizeof(sample.bytes); i++)
        sample.bytes[i] = (uint8_t)(number + i);
    return sample;
}

struct file {
    uint8_t bytes[4096];
    size_t len;
};

static int write_samples(struct state_writer *w, struct file *file, size_t room, struct err *e)
{
    const struct sample first = sample_of(0x1122334455660011),
                        three[] = {sample_of(0x20), sample_of(0x30), sample_of(0x40)};

    state_writer_begin(w, file->bytes, room);
    state_write(w, &sample_desc, 0, &first, 1);
    state_write(w, &sample_desc, 1, three, 3);
    state_write(w, &sample_desc, 2, NULL, 0);
    state_write_bytes(w, "blob", 5, "\x01\x02\x03", 3);
    state_write_text(w, "path", 0, "/tmp/root.img");
    state_write_text(w, "path", 1, NULL);
    state_write_text(w, "path", 2, "");
    return state_writer_end(w, &file->len, e);
}

static struct file file_at(const char *path)
{
    struct file file;

    file.len = state_bytes_read(path, file.bytes, sizeof(file.bytes));
    return file;
}

static struct file golden(void)
{
    return file_at(GOLDEN);
}

static void seal(struct file *file)
{
    state_bytes_seal(file->bytes, file->len);
}

static void put16(struct file *file, size_t at, uint16_t value)
{
    memcpy(file->bytes + at, &value, sizeof(value));
    seal(file);
}

static void put32(struct file *file, size_t at, uint32_t value)
{
    memcpy(file->bytes + at, &value, sizeof(value));
    seal(file);
}

static void expect_refused(const struct file *file, const char *sentence)
{
    struct state_reader r;
    struct err e = {0};

    assert_int_equal(state_reader_begin(&r, file->bytes, file->len, &e), -EINVAL);
    if (!strstr(e.text, sentence))
        fail_msg("\"%s\" does not say \"%s\"", e.text, sentence);
}

static void begin(struct state_reader *r, const struct file *file)
{
    struct err e = {0};

    if (state_reader_begin(r, file->bytes, file->len, &e))
        fail_msg("%s", e.text);
}

/* ---- the checksum ---- */

static void test_crc64_of_check_string_is_that_of_jones(void **state)
{
    (void)state;
    assert_true(crc64(0, "123456789", 9) == UINT64_C(0xe9c6d914c4b8d9ca));
    assert_true(crc64(crc64(0, "1234", 4), "56789", 5) == UINT64_C(0xe9c6d914c4b8d9ca));
}

/* By the definition: bit by bit. */
static uint64_t crc64_of_bits(uint64_t crc, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < 8 * len; i++) {
        uint64_t bit = bytes[i / 8] >> (i % 8) & 1;

        crc = crc >> 1 ^ ((crc & 1) != bit ? UINT64_C(0x95ac9329ac4bc9b5) : 0);
    }
    return crc;
}

static void test_crc64_of_any_length_at_any_place_is_that_of_its_bits(void **state)
{
    uint8_t bytes[64];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * i * 37 + 11);
    for (size_t at = 0; at < 9; at++) {
        for (size_t len = 0; len + at <= sizeof(bytes); len++)
            assert_true(crc64(at, bytes + at, len) == crc64_of_bits(at, bytes + at, len));
    }
}

static void test_crc64_over_file_with_its_checksum_is_zero(void **state)
{
    struct file file = golden();

    (void)state;
    assert_true(crc64(0, file.bytes, file.len) == 0);
}

/* Bit by bit, as the polynomial says. */
static uint64_t crc64_by_bits(uint64_t crc, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT64_C(0x95ac9329ac4bc9b5) : 0);
    }
    return crc;
}

static void test_crc64_of_any_length_place_and_start_is_that_of_the_bits(void **state)
{
    static uint8_t bytes[400];
    uint64_t random = 1;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[i] = (uint8_t)(random >> 56);
    }
    for (size_t len = 0; len < 300; len++) {
        for (size_t at = 0; at < 16; at++) {
            uint64_t start = at % 2 ? random * len : 0;

            assert_true(crc64(start, bytes + at, len) == crc64_by_bits(start, bytes + at, len));
        }
    }
}

/* ---- the golden file ---- */

static void test_writer_writes_golden_file(void **state)
{
    struct file file = {{0}, 0}, expected = golden();
    struct state_writer w;

    (void)state;
    memset(file.bytes, 0xee, sizeof(file.bytes)); /* padding is written, not found */
    assert_int_equal(write_samples(&w, &file, sizeof(file.bytes), NULL), 0);

    assert_int_equal(file.len, expected.len);
    assert_memory_equal(file.bytes, expected.bytes, file.len);
}

static void expect_golden(const struct file *file, unsigned minor)
{
    struct sample sample, three[3], expected = sample_of(0x1122334455660011);
    struct state_reader r;
    const void *bytes;
    const char *text;
    uint32_t count;
    size_t len;

    begin(&r, file);
    assert_int_equal(r.major, 1);
    assert_int_equal(r.minor, minor);
    assert_int_equal(state_read(&r, &sample_desc, 0, &sample, NULL), 0);
    assert_memory_equal(&sample, &expected, sizeof(sample));
    assert_int_equal(state_read_array(&r, &sample_desc, 1, three, 3, &count, NULL), 0);
    assert_int_equal(count, 3);
    expected = sample_of(0x40);
    assert_memory_equal(&three[2], &expected, sizeof(expected));
    assert_int_equal(state_read_array(&r, &sample_desc, 2, three, 3, &count, NULL), 0);
    assert_int_equal(count, 0);
    assert_int_equal(state_read_bytes(&r, "blob", 5, &bytes, &len, NULL), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, "\x01\x02\x03", 3);
    assert_int_equal(state_read_text(&r, "path", 0, &text, NULL), 0);
    assert_string_equal(text, "/tmp/root.img");
    assert_int_equal(state_read_text(&r, "path", 1, &text, NULL), 0);
    assert_null(text);
    assert_int_equal(state_read_text(&r, "path", 2, &text, NULL), 0);
    assert_string_equal(text, "");
    assert_int_equal(state_reader_end(&r, NULL), 0);
}

static void test_reader_reads_golden_files_of_every_minor(void **state)
{
    struct file newest = golden(), first = file_at(GOLDEN_1_0);

    (void)state;
    expect_golden(&first, 0);
    expect_golden(&newest, 1);
}

static void test_identity_is_told_of_a_file_that_cannot_be_read(void **state)
{
    struct state_identity identity;
    struct file file = golden();
    struct err e;

    (void)state;
    put16(&file, AT_MAJOR, 7);
    put16(&file, AT_ARCHITECTURE, 183);
    assert_int_equal(state_file_identify(&identity, file.bytes, file.len, NULL), 0);
    assert_int_equal(identity.major, 7);
    assert_int_equal(identity.minor, 1);
    assert_int_equal(identity.patch, 0);
    assert_int_equal(identity.architecture, 183);
    file.bytes[STATE_HEADER] ^= 1;
    assert_int_equal(state_file_identify(&identity, file.bytes, file.len, &e), -EINVAL);
    assert_string_equal(e.text, "CRC64 validation failed");
}

/* A tool that puts another path of the same length into a file, and a new checksum behind it. */
static void test_reader_takes_path_replaced_in_place(void **state)
{
    struct file file = golden();
    uint8_t *path = memmem(file.bytes, file.len, "/tmp/root.img", 13);
    struct state_reader r;
    const char *text = NULL;

    (void)state;
    assert_non_null(path);
    memcpy(path, "/tmp/copy.img", 13);
    seal(&file);

    begin(&r, &file);
    for (unsigned i = 0; i < 4; i++)
        state_reader_skip(&r);
    assert_int_equal(state_read_text(&r, "path", 0, &text, NULL), 0);
    assert_string_equal(text, "/tmp/copy.img");
}

/* ---- the writer's limits ---- */

static void test_writer_without_room_writes_nothing_beyond_it(void **state)
{
    size_t needed = golden().len;

    (void)state;
    for (size_t room = 0; room <= needed; room++) {
        struct file file = {{0}, 0};
        struct state_writer w;
        struct err e;
        int rc;

        memset(file.bytes, 0xee, sizeof(file.bytes));
        rc = write_samples(&w, &file, room, &e);
        assert_int_equal(rc, room < needed ? -EFBIG : 0);
        for (size_t i = room; i < sizeof(file.bytes); i++)
            assert_int_equal(file.bytes[i], 0xee);
    }
}

static void test_writer_beyond_largest_file_is_refused(void **state)
{
    const size_t most = STATE_FILE_MAX - STATE_HEADER - STATE_HEADER - 8;
    uint8_t *to = malloc(STATE_FILE_MAX + MIB), *from = calloc(1, STATE_FILE_MAX + MIB);
    size_t len;

    (void)state;
    for (unsigned more = 0; more <= 8; more += 8) {
        struct state_writer w;
        struct state_reader r;

        state_writer_begin(&w, to, STATE_FILE_MAX + MIB);
        state_write_bytes(&w, "blob", 0, from, most + more);
        assert_int_equal(state_writer_end(&w, &len, NULL), more ? -EFBIG : 0);
        if (!more)
            assert_int_equal(state_reader_begin(&r, to, len, NULL), 0);
    }
    free(from);
    free(to);
}

/* ---- a damaged file ---- */

static void test_reader_of_file_flipped_at_any_byte_refuses(void **state)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    struct file file = golden();

    (void)state;
    for (size_t i = 0; i < file.len; i++) {
        for (size_t m = 0; m < ARRAY_SIZE(masks); m++) {
            file.bytes[i] ^= masks[m];
            expect_refused(&file, "");
            file.bytes[i] ^= masks[m];
        }
    }
}

static void test_reader_of_shortened_file_refuses(void **state)
{
    struct file file = golden();
    size_t whole = file.len;

    (void)state;
    for (file.len = 0; file.len < whole; file.len++)
        expect_refused(&file, file.len < 8 ? "IO Error: File too short to contain CRC"
                              : file.len < STATE_HEADER + 8 ? "less than a state file's header"
                                                            : "it has been cut");
}

static void test_reader_of_continued_file_refuses(void **state)
{
    struct file file = golden();

    (void)state;
    file.bytes[file.len++] = 0;
    expect_refused(&file, "continued");
}

static void test_reader_of_damaged_contents_names_checksum(void **state)
{
    struct file file = golden();

    (void)state;
    file.bytes[STATE_HEADER + 40] ^= 4;
    expect_refused(&file, "CRC64 validation failed");
}

static void test_reader_of_other_file_says_so(void **state)
{
    struct file file = {{0}, 1600};

    (void)state;
    for (size_t i = 0; i < file.len; i++)
        file.bytes[i] = (uint8_t) "garbage "[i % 8];
    expect_refused(&file, "not a state file");
}

static void test_reader_of_too_large_file_refuses(void **state)
{
    size_t len = STATE_FILE_MAX + 1;
    uint8_t *bytes = calloc(1, len);
    struct state_reader r;
    struct err e;

    (void)state;
    assert_int_equal(state_reader_begin(&r, bytes, len, &e), -EINVAL);
    assert_non_null(strstr(e.text, "at most 10000000"));
    free(bytes);
}

/* ---- a sound file of somewhere else ---- */

static void test_reader_of_newer_minor_names_both(void **state)
{
    struct file file = golden();

    (void)state;
    put16(&file, AT_MINOR, STATE_FILE_MINOR + 1);
    expect_refused(&file, "format version 1.2.0; this monitor reads 1.0 to 1.1");
}

static void test_reader_of_other_major_refuses(void **state)
{
    static const uint16_t majors[] = {0, STATE_FILE_MAJOR + 1, 0xffff};
    struct file file = golden();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(majors); i++) {
        put16(&file, AT_MAJOR, majors[i]);
        expect_refused(&file, "format version");
    }
}

static void test_reader_of_other_architecture_names_both(void **state)
{
    struct file file = golden();

    (void)state;
    put16(&file, AT_ARCHITECTURE, 183);
    expect_refused(&file, "of architecture 183, this monitor is of architecture 62");
}

static void test_reader_of_unknown_flag_refuses(void **state)
{
    struct file file = golden();

    (void)state;
    put32(&file, AT_ZERO, 2);
    expect_refused(&file, "a flag 0x2 that nobody knows");
}

/* ---- malformed sections under a right checksum ---- */

static void test_reader_of_wrong_section_count_refuses(void **state)
{
    static const uint32_t counts[] = {0, 6, 8, UINT32_MAX};
    struct file file = golden();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        put32(&file, AT_SECTIONS, counts[i]);
        expect_refused(&file, "7 sections where its header says");
    }
}

static void test_reader_of_absurd_section_length_refuses(void **state)
{
    static const uint32_t lengths[] = {UINT32_MAX, UINT32_MAX - 7, 0x7fffffff, 4096};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        struct file file = golden();

        put32(&file, STATE_HEADER + SECTION_LEN, lengths[i]);
        expect_refused(&file, "section 0, at byte 32, is malformed");
    }
}

static void test_reader_of_bad_section_name_refuses(void **state)
{
    static const char names[][16] = {"", "has space", "a\0b", "sixteen-letters-"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct file file = golden();

        memcpy(file.bytes + STATE_HEADER, names[i], sizeof(names[i]));
        seal(&file);
        expect_refused(&file, "is malformed");
    }
}

static void test_reader_of_padding_that_is_not_zero_refuses(void **state)
{
    struct file file = golden();
    uint8_t *blob = memmem(file.bytes, file.len, "\x01\x02\x03\0", 4);

    (void)state;
    assert_non_null(blob);
    blob[3] = 1;
    seal(&file);
    expect_refused(&file, "is malformed");
}

/* The last section lacks its data, and the checksum stands where they would be. */
static void test_reader_of_section_that_reaches_into_checksum_refuses(void **state)
{
    struct file file = golden();

    (void)state;
    file.len -= 8;
    seal(&file);
    expect_refused(&file, "is malformed");
}

/* ---- sections that do not fit what is expected ---- */

static void expect_read_refused(const struct file *file, const char *sentence)
{
    struct sample sample = {0}, before = sample;
    struct state_reader r, after;
    struct err e = {0};

    begin(&r, file);
    after = r;
    assert_int_equal(state_read(&r, &sample_desc, 0, &sample, &e), -EINVAL);
    if (!strstr(e.text, sentence))
        fail_msg("\"%s\" does not say \"%s\"", e.text, sentence);
    assert_memory_equal(&sample, &before, sizeof(sample));
    assert_memory_equal(&r, &after, sizeof(r));
}

static void test_read_of_another_section_names_both(void **state)
{
    struct file file = golden();

    (void)state;
    put32(&file, STATE_HEADER + SECTION_INDEX, 9);
    expect_read_refused(&file, "section sample 9 where sample 0 is expected");
    memcpy(file.bytes + STATE_HEADER, "sampla", 6);
    seal(&file);
    expect_read_refused(&file, "section sampla 9 where sample 0 is expected");
}

static void test_read_of_other_section_version_refuses(void **state)
{
    struct file file = golden();

    (void)state;
    put32(&file, STATE_HEADER + SECTION_VERSION, 8);
    expect_read_refused(&file, "section sample has version 8; this monitor reads up to 7");
}

static void test_read_of_other_fields_refuses(void **state)
{
    struct file file = golden();

    (void)state;
    put32(&file, STATE_HEADER + SECTION_PRINT, 1);
    expect_read_refused(&file, "other fields");
}

/* Found by fuzz_state_file: the fingerprint of bytes is 0, and was not looked at. */
static void test_read_of_bytes_with_fingerprint_refuses(void **state)
{
    struct file file = golden();
    struct state_reader r;
    const void *bytes;
    size_t len, at;
    struct err e;

    (void)state;
    begin(&r, &file);
    for (unsigned i = 0; i < 3; i++)
        state_reader_skip(&r);
    at = r.at;
    put32(&file, at + SECTION_PRINT, 0x300000);
    assert_int_equal(state_read_bytes(&r, "blob", 5, &bytes, &len, &e), -EINVAL);
    assert_non_null(strstr(e.text, "section blob has other fields"));
    put32(&file, at + SECTION_PRINT, 0);
    put32(&file, at + SECTION_VERSION, 1);
    assert_int_equal(state_read_bytes(&r, "blob", 5, &bytes, &len, &e), -EINVAL);
    assert_non_null(strstr(e.text, "section blob has version 1"));
}

static void test_read_of_array_as_one_struct_refuses(void **state)
{
    struct file file = golden();
    struct state_reader r;
    struct sample sample;
    struct err e;

    (void)state;
    begin(&r, &file);
    state_reader_skip(&r);
    assert_int_equal(state_read(&r, &sample_desc, 1, &sample, &e), -EINVAL);
    assert_non_null(strstr(e.text, "48 bytes instead of 16"));
}

static void test_read_of_more_structs_than_fit_refuses(void **state)
{
    struct file file = golden();
    struct state_reader r;
    struct sample two[3] = {{0}};
    uint32_t count = 77;
    struct err e;

    (void)state;
    begin(&r, &file);
    state_reader_skip(&r);
    assert_int_equal(state_read_array(&r, &sample_desc, 1, two, 2, &count, &e), -EINVAL);
    assert_non_null(strstr(e.text, "not up to 2 times 16"));
    assert_int_equal(two[0].number, 0);
}

static void test_read_of_broken_text_refuses(void **state)
{
    static const char texts[][14] = {"/tmp/root.imgX", "/tmp/roo\0.img"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct file file = golden();
        uint8_t *path = memmem(file.bytes, file.len, "/tmp/root.img", 13);
        struct state_reader r;
        const char *text;
        struct err e;

        assert_non_null(path);
        memcpy(path, texts[i], sizeof(texts[i]));
        seal(&file);
        begin(&r, &file);
        for (unsigned n = 0; n < 4; n++)
            state_reader_skip(&r);
        assert_int_equal(state_read_text(&r, "path", 0, &text, &e), -EINVAL);
        assert_non_null(strstr(e.text, "not one text"));
    }
}

static void test_read_past_end_refuses(void **state)
{
    struct file file = golden();
    struct state_reader r;
    struct state_section section;
    struct sample sample;
    struct err e;

    (void)state;
    begin(&r, &file);
    while (state_reader_peek(&r, &section))
        state_reader_skip(&r);
    assert_int_equal(state_read(&r, &sample_desc, 0, &sample, &e), -EINVAL);
    assert_string_equal(e.text, "The snapshot ends where its section sample 0 is expected.");
}

static void test_end_before_last_section_names_it(void **state)
{
    struct file file = golden();
    struct state_reader r;
    struct err e;

    (void)state;
    begin(&r, &file);
    for (unsigned i = 0; i < 6; i++)
        state_reader_skip(&r);
    assert_int_equal(state_reader_end(&r, &e), -EINVAL);
    assert_non_null(strstr(e.text, "path 2"));
}

/* ---- the memory map ---- */

static int read_map(const struct mem_map_region *regions, uint32_t count, struct mem_map *map)
{
    struct file file;
    struct state_writer w;
    struct state_reader r;

    state_writer_begin(&w, file.bytes, sizeof(file.bytes));
    state_write(&w, &mem_map_desc, 0, regions, count);
    assert_int_equal(state_writer_end(&w, &file.len, NULL), 0);
    begin(&r, &file);
    return mem_map_read(map, &r, NULL);
}

static void test_memory_map_of_split_ram_is_read_back(void **state)
{
    struct mem mem;
    struct mem_map map, back;

    (void)state;
    assert_int_equal(mem_create(&mem, 4 * GIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    mem_map_of(&map, &mem);
    assert_int_equal(map.count, 2);
    assert_true(mem_map_size(&map) == 4 * GIB);
    assert_true(map.region[1].offset == map.region[0].size);

    assert_int_equal(read_map(map.region, map.count, &back), 0);
    assert_int_equal(back.count, map.count);
    assert_int_equal(mem_map_set_ram(&back, 4 * GIB, NULL), 0);
    assert_int_equal(back.ram, map.ram);
    assert_memory_equal(back.region, map.region, map.count * sizeof(map.region[0]));
    mem_destroy(&mem);
}

static void test_memory_map_that_no_guest_has_is_refused(void **state)
{
    static const struct mem_map_region bad[][2] = {
        {{0, 0, 0}, {GIB, MIB, 0}},                         /* empty */
        {{0, MIB + 1, 0}, {GIB, MIB, MIB + 1}},             /* no whole pages */
        {{12, MIB, 0}, {GIB, MIB, MIB}},                    /* nor at a page */
        {{GIB, MIB, 0}, {0, MIB, MIB}},                     /* out of order */
        {{0, MIB, 0}, {PAGE_SIZE, MIB, MIB}},               /* they overlap */
        {{0, MIB, 0}, {GIB, MIB, 2 * MIB}},                 /* a gap in the file */
        {{0, MIB, 4096}, {GIB, MIB, MIB + 4096}},           /* not from its start */
        {{0, MIB, 0}, {GIB, UINT64_MAX - GIB - 4095, MIB}}, /* beyond every address */
        {{UINT64_MAX - 4095, 4096, 0}, {GIB, MIB, 4096}},   /* wraps */
    };
    struct mem_map map;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(read_map(bad[i], 2, &map), -EINVAL);
    assert_int_equal(read_map(bad[0], 0, &map), -EINVAL);
}

/* Memory that can be plugged lies behind RAM, whole; persistent memory is not there at all. */
static void test_memory_map_has_pluggable_memory_behind_ram(void **state)
{
    static const uint64_t plugged[1] = {1};
    struct mem_region pmem = {.gpa = GPA(MEM_HOLE64_END), .size = MIB};
    struct mem_region more = {
        .gpa = GPA(MEM_HOLE64_END + GIB), .size = 4 * MIB, .plugged = plugged, .block_shift = 21};
    struct mem mem;
    struct mem_map map, back;

    (void)state;
    assert_int_equal(mem_create(&mem, 4 * GIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(mem_add_region(&mem, &pmem, NULL), 0);
    assert_int_equal(mem_add_region(&mem, &more, NULL), 0);
    mem_map_of(&map, &mem);
    assert_int_equal(map.count, 3);
    assert_int_equal(map.ram, 2);
    assert_true(mem_map_size(&map) == 4 * GIB + 4 * MIB);
    assert_true(map.region[2].gpa == MEM_HOLE64_END + GIB && map.region[2].offset == 4 * GIB);

    assert_int_equal(read_map(map.region, map.count, &back), 0);
    assert_int_equal(mem_map_set_ram(&back, 4 * GIB, NULL), 0);
    assert_int_equal(back.ram, 2);
    assert_int_equal(mem_map_set_ram(&back, 3 * GIB, NULL), -EINVAL); /* two would follow */
    assert_int_equal(mem_map_set_ram(&back, 2 * GIB, NULL), -EINVAL); /* in a region's middle */
    assert_int_equal(mem_map_set_ram(&back, 5 * GIB, NULL), -EINVAL);
    mem_destroy(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc64_of_check_string_is_that_of_jones),
        cmocka_unit_test(test_crc64_of_any_length_at_any_place_is_that_of_its_bits),
        cmocka_unit_test(test_crc64_over_file_with_its_checksum_is_zero),
        cmocka_unit_test(test_crc64_of_any_length_place_and_start_is_that_of_the_bits),
        cmocka_unit_test(test_writer_writes_golden_file),
        cmocka_unit_test(test_reader_reads_golden_files_of_every_minor),
        cmocka_unit_test(test_identity_is_told_of_a_file_that_cannot_be_read),
        cmocka_unit_test(test_reader_takes_path_replaced_in_place),
        cmocka_unit_test(test_writer_without_room_writes_nothing_beyond_it),
        cmocka_unit_test(test_writer_beyond_largest_file_is_refused),
        cmocka_unit_test(test_reader_of_file_flipped_at_any_byte_refuses),
        cmocka_unit_test(test_reader_of_shortened_file_refuses),
        cmocka_unit_test(test_reader_of_continued_file_refuses),
        cmocka_unit_test(test_reader_of_damaged_contents_names_checksum),
        cmocka_unit_test(test_reader_of_other_file_says_so),
        cmocka_unit_test(test_reader_of_too_large_file_refuses),
        cmocka_unit_test(test_reader_of_newer_minor_names_both),
        cmocka_unit_test(test_reader_of_other_major_refuses),
        cmocka_unit_test(test_reader_of_other_architecture_names_both),
        cmocka_unit_test(test_reader_of_unknown_flag_refuses),
        cmocka_unit_test(test_reader_of_wrong_section_count_refuses),
        cmocka_unit_test(test_reader_of_absurd_section_length_refuses),
        cmocka_unit_test(test_reader_of_bad_section_name_refuses),
        cmocka_unit_test(test_reader_of_padding_that_is_not_zero_refuses),
        cmocka_unit_test(test_reader_of_section_that_reaches_into_checksum_refuses),
        cmocka_unit_test(test_read_of_another_section_names_both),
        cmocka_unit_test(test_read_of_other_section_version_refuses),
        cmocka_unit_test(test_read_of_other_fields_refuses),
        cmocka_unit_test(test_read_of_bytes_with_fingerprint_refuses),
        cmocka_unit_test(test_read_of_array_as_one_struct_refuses),
        cmocka_unit_test(test_read_of_more_structs_than_fit_refuses),
        cmocka_unit_test(test_read_of_broken_text_refuses),
        cmocka_unit_test(test_read_past_end_refuses),
        cmocka_unit_test(test_end_before_last_section_names_it),
        cmocka_unit_test(test_memory_map_of_split_ram_is_read_back),
        cmocka_unit_test(test_memory_map_has_pluggable_memory_behind_ram),
        cmocka_unit_test(test_memory_map_that_no_guest_has_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
