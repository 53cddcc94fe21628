/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/inspect.c, api/inspect_json.c and inspect_print.c: what they say of the golden
 * machine, and of files in which something is wrong. */
#include "api/inspect_json.h"
#include "tests/support/files.h"
#include "tests/unit/state_bytes.h"
#include "tests/unit/unit.h"
#include "vmm/base/util.h"
#include "vmm/snapshot/page_sums.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#define GOLDEN MAYFLY_SOURCE "/tests/unit/golden/machine-1.0.bin"

/* In the golden file: its sections `machine` and `memory`, and what of their headers is used. */
#define AT_MACHINE      32
#define AT_MEMORY       232
#define SECTION_VERSION 20
#define SECTION_PRINT   24
#define SECTION_DATA    32
#define AT_SECTIONS     16

static char *directory;

struct file {
    size_t len;
    uint8_t bytes[64 * KIB];
};

static struct file golden(void)
{
    struct file file;

    file.len = state_bytes_read(GOLDEN, file.bytes, sizeof(file.bytes));
    return file;
}

static void seal(struct file *file)
{
    state_bytes_seal(file->bytes, file->len);
}

static json_t *inspect(const struct file *file, const char *mem_path)
{
    assert_int_equal(files_write("state", file->bytes, file->len), 0);
    return inspect_snapshot("state", mem_path);
}

static const json_t *faults_of(const json_t *snapshot)
{
    return json_object_get(snapshot, "faults");
}

/* What is said to a person. */
static char *printed(const json_t *snapshot)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    inspect_print(out, snapshot);
    fclose(out);
    return text;
}

static void expect_fault(const struct file *file, const char *mem_path, const char *sentence)
{
    json_t *snapshot = inspect(file, mem_path);
    const char *fault = json_string_value(json_array_get(faults_of(snapshot), 0));
    char *text = printed(snapshot);

    if (!fault || !strstr(fault, sentence))
        fail_msg("\"%s\" does not say \"%s\"", fault ? fault : "(nothing)", sentence);
    assert_non_null(strstr(text, "\nWrong: "));
    assert_null(strstr(text, "Nothing is wrong"));
    free(text);
    json_decref(snapshot);
}

static const char *text_at(const json_t *snapshot, size_t device, const char *name)
{
    const json_t *found = json_array_get(json_object_get(snapshot, "devices"), device);

    return json_string_value(json_object_get(json_object_get(found, "texts"), name));
}

static void test_inspect_of_golden_machine_says_what_is_in_it(void **state)
{
    struct file file = golden();
    json_t *snapshot = inspect(&file, NULL);
    const json_t *machine = json_object_get(snapshot, "machine");
    char *text = printed(snapshot);

    (void)state;
    assert_int_equal(json_array_size(faults_of(snapshot)), 0);
    assert_string_equal(json_string_value(json_object_get(snapshot, "format")), "1.0.0");
    assert_string_equal(json_string_value(json_object_get(snapshot, "architecture")), "x86_64");
    assert_string_equal(json_string_value(json_object_get(snapshot, "saved_at")),
                        "2026-11-29T15:24:20Z");
    assert_int_equal(json_integer_value(json_object_get(machine, "vcpu_count")), 2);
    assert_int_equal(json_array_size(json_object_get(snapshot, "devices")), 10);
    assert_string_equal(text_at(snapshot, 1, "drive-path"), "root.img");
    assert_string_equal(text_at(snapshot, 3, "net-tap"), "tap0");
    assert_non_null(strstr(text, "id=\"data\" path=\"data.img\" read_only=1 writeback=1 async=1"));
    assert_non_null(strstr(text, "Nothing is wrong.\n"));
    free(text);
    json_decref(snapshot);
}

static void test_inspect_names_what_is_wrong_with_the_state_file(void **state)
{
    struct file file = golden();

    (void)state;
    file.bytes[5000] ^= 1;
    expect_fault(&file, NULL, "CRC64 validation failed");
    file = golden();
    file.len -= 9;
    expect_fault(&file, NULL, "it has been cut, continued or damaged");
    file = golden();
    file.bytes[AT_MACHINE + SECTION_PRINT] ^= 1;
    seal(&file);
    expect_fault(&file, NULL, "The section machine 0 has other fields than version 1 has here.");
    file = golden();
    file.bytes[AT_MACHINE + SECTION_VERSION] = 9;
    seal(&file);
    expect_fault(&file, NULL, "The section machine 0 of version 9 is not known to this build.");
    file = golden();
    file.bytes[AT_MEMORY + SECTION_DATA + 8] = 1; /* a size of no whole pages */
    seal(&file);
    expect_fault(&file, NULL, "not one that a guest can have");
}

/* The version is told of files that cannot be read. */
static void test_inspect_of_newer_version_and_other_architecture_names_them(void **state)
{
    struct file file = golden();
    json_t *snapshot;

    (void)state;
    file.bytes[8] = 2;
    file.bytes[14] = 183;
    seal(&file);
    expect_fault(&file, NULL, "of architecture 183");
    snapshot = inspect(&file, NULL);
    assert_string_equal(json_string_value(json_object_get(snapshot, "format")), "2.0.0");
    assert_string_equal(json_string_value(json_object_get(snapshot, "architecture")), "aarch64");
    json_decref(snapshot);
}

static void test_inspect_of_memory_file_judges_its_kind_and_size(void **state)
{
    struct file file = golden();
    json_t *snapshot;

    (void)state;
    expect_fault(&file, "missing", "missing: No such file or directory");
    expect_fault(&file, ".", "The memory file is not a regular file");
    assert_int_equal(mkfifo("fifo", 0600), 0);
    expect_fault(&file, "fifo", "The memory file is not a regular file");
    assert_int_equal(files_make_sparse("mem", 16 * MIB + 1), 0);
    expect_fault(&file, "mem", "The memory file has 16777217 bytes; the guest has 16777216.");
    assert_int_equal(files_make_sparse("mem", 16 * MIB), 0);
    snapshot = inspect(&file, "mem");
    assert_int_equal(json_array_size(faults_of(snapshot)), 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(snapshot, "memory_file"),
                                                        "bytes_of_data")),
                     0);
    json_decref(snapshot);
}

/* Puts the sums of the memory file `fd` behind the last section. */
static void add_sums(struct file *file, int fd)
{
    static uint8_t alone[8 * KIB];
    struct state_writer w;
    uint32_t sections;
    size_t len;

    state_writer_begin(&w, alone, sizeof(alone));
    assert_int_equal(page_sums_write(&w, fd, 16 * MIB, NULL), 0);
    assert_int_equal(state_writer_end(&w, &len, NULL), 0);
    memcpy(&sections, file->bytes + AT_SECTIONS, sizeof(sections));
    sections++;
    memcpy(file->bytes + AT_SECTIONS, &sections, sizeof(sections));
    memcpy(file->bytes + file->len - STATE_CRC, alone + STATE_HEADER,
           len - STATE_HEADER - STATE_CRC);
    file->len += len - STATE_HEADER - STATE_CRC;
    seal(file);
}

static void test_inspect_compares_memory_with_its_sums_if_there_are_any(void **state)
{
    static struct file file;
    json_t *snapshot;
    int fd;

    (void)state;
    file = golden();
    assert_int_equal(files_make_sparse("mem", 16 * MIB), 0);
    fd = open("mem", O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "guest", 5, 5 * MIB), 5);
    add_sums(&file, fd);
    snapshot = inspect(&file, "mem");
    assert_int_equal(json_array_size(faults_of(snapshot)), 0);
    assert_true(json_is_true(json_object_get(json_object_get(snapshot, "memory"), "sums")));
    json_decref(snapshot);
    assert_int_equal(pwrite(fd, "G", 1, 5 * MIB), 1);
    expect_fault(&file, "mem", "mem: ");
    close(fd);
}

static void test_inspect_of_path_with_escapes_prints_them_harmlessly(void **state)
{
    struct file file = golden();
    uint8_t *path = memmem(file.bytes, file.len, "root.img", 8);
    json_t *snapshot;
    char *text;

    (void)state;
    assert_non_null(path);
    memcpy(path, "\x1b[2J\n\x7f", 6);
    seal(&file);
    snapshot = inspect(&file, NULL);
    text = printed(snapshot);
    assert_non_null(strstr(text, "path=\"\\x1b[2J\\x0a\\x7fmg\""));
    free(text);
    json_decref(snapshot);
}

static void test_inspect_of_files_with_names_that_are_no_utf8_says_what_is_wrong(void **state)
{
    struct file file = golden();
    json_t *snapshot;

    (void)state;
    file.bytes[file.len - 1] ^= 1;
    assert_int_equal(files_write("s\xff", file.bytes, file.len), 0);
    assert_int_equal(files_make_sparse("m\xff", 4096), 0);
    snapshot = inspect_snapshot("s\xff", "m\xff");
    assert_int_equal(json_array_size(faults_of(snapshot)), 1);
    assert_int_equal(json_integer_value(json_object_get(snapshot, "bytes")), file.len);
    assert_non_null(json_object_get(snapshot, "memory_file"));
    json_decref(snapshot);
}

/* Whatever the contents under a right checksum, there is something to say, and no crash. */
static void test_inspect_of_hostile_contents_ends(void **state)
{
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0xff};
    const struct file file = golden();

    (void)state;
    for (size_t i = 32; i < file.len; i += i < KIB ? 1 : 67) {
        struct file changed = file;
        json_t *snapshot;

        changed.bytes[i] = values[i % ARRAY_SIZE(values)];
        seal(&changed);
        snapshot = inspect(&changed, NULL);
        free(printed(snapshot));
        json_decref(snapshot);
    }
}

static int enter(void **state)
{
    (void)state;
    directory = files_enter_temporary("inspect");
    return 0;
}

static int leave(void **state)
{
    (void)state;
    files_leave(directory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inspect_of_golden_machine_says_what_is_in_it),
        cmocka_unit_test(test_inspect_names_what_is_wrong_with_the_state_file),
        cmocka_unit_test(test_inspect_of_newer_version_and_other_architecture_names_them),
        cmocka_unit_test(test_inspect_of_memory_file_judges_its_kind_and_size),
        cmocka_unit_test(test_inspect_compares_memory_with_its_sums_if_there_are_any),
        cmocka_unit_test(test_inspect_of_path_with_escapes_prints_them_harmlessly),
        cmocka_unit_test(test_inspect_of_files_with_names_that_are_no_utf8_says_what_is_wrong),
        cmocka_unit_test(test_inspect_of_hostile_contents_ends),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
