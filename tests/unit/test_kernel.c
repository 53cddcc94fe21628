/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/boot/kernel.c and initrd.c: real files into real guest memory. */
#include "tests/support/files.h"
#include "tests/support/kernel_files.h"
#include "tests/unit/unit.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/initrd.h"
#include "vmm/boot/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#define PREFIX                                                                                     \
    "System configuration error: Cannot load kernel due to invalid memory configuration or "       \
    "invalid kernel image: Kernel Loader: "

static struct mem make_memory(uint64_t size)
{
    struct mem mem;
    struct err e;

    assert_int_equal(mem_create(&mem, size, MEM_PAGES_DEFAULT, true, &e), 0);
    return mem;
}

static int open_and_load(const struct kernel_file *file, struct mem *mem,
                         struct kernel_image *image, struct err *e)
{
    int fd = kernel_file_open(file), rc;

    assert_true(fd >= 0);
    rc = kernel_open(fd, image, e);
    if (rc == 0)
        rc = kernel_load(fd, image, mem, e);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 0); /* not moved: a start may be tried again */
    close(fd);
    return rc;
}

static void expect_bytes(const struct mem *mem, uint64_t gpa, size_t len)
{
    const uint8_t *at = mem_readable(mem, GPA(gpa), len);

    assert_non_null(at);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(at[i], kernel_file_pattern(i));
}

static void expect_words(const struct err *e, const char *words)
{
    if (!strstr(e->text, words))
        fail_msg("\"%s\" does not say \"%s\"", e->text, words);
}

/* Refused as a file, before memory is looked at. */
static void expect_open_refused(int fd, int code, const char *sentence)
{
    struct kernel_image image;
    struct err e = {0};

    assert_true(fd >= 0);
    assert_int_equal(kernel_open(fd, &image, &e), code);
    assert_string_equal(e.text, sentence);
    close(fd);
}

/* Refused by a machine of `size` bytes. */
static void expect_load_refused(const struct kernel_file *file, uint64_t size, int code,
                                const char *words)
{
    struct mem mem = make_memory(size);
    struct kernel_image image;
    struct err e = {0};

    assert_int_equal(open_and_load(file, &mem, &image, &e), code);
    expect_words(&e, words);
    mem_destroy(&mem);
}

/* ---- what is loaded ---- */

static void test_kernel_elf_segments_land_at_their_addresses(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_file file;
    struct kernel_image image;
    struct err e;

    (void)state;
    kernel_file_make_elf(&file);
    assert_int_equal(open_and_load(&file, &mem, &image, &e), 0);

    expect_bytes(&mem, ELF_FILE_TEXT_GPA, ELF_FILE_TEXT_SIZE);
    expect_bytes(&mem, ELF_FILE_DATA_GPA, ELF_FILE_DATA_SIZE);
    assert_int_equal(kernel_end(&image), ELF_FILE_DATA_GPA + ELF_FILE_DATA_ROOM);
    mem_destroy(&mem);
}

static uint64_t count_dirty(const struct mem *mem)
{
    uint64_t count = 0;

    for (uint64_t page = 0; page < mem->region[0].size / PAGE_SIZE; page++)
        count += mem->region[0].dirty[page / 64] >> (page % 64) & 1;
    return count;
}

/* Fresh memory is zero: what a segment has beyond its bytes in the file is left alone. */
static void test_kernel_bss_is_not_touched(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_file file;
    struct kernel_image image;
    struct err e;

    (void)state;
    kernel_file_make_elf(&file);
    assert_int_equal(open_and_load(&file, &mem, &image, &e), 0);

    assert_int_equal(count_dirty(&mem), 2);
    mem_destroy(&mem);
}

static void test_kernel_bzimage_lands_at_its_preferred_address(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_file file;
    struct kernel_image image;
    struct err e;

    (void)state;
    kernel_file_make_bzimage(&file);
    assert_int_equal(open_and_load(&file, &mem, &image, &e), 0);

    expect_bytes(&mem, BZIMAGE_GPA, BZIMAGE_PAYLOAD_SIZE);
    assert_int_equal(kernel_end(&image), BZIMAGE_GPA + BZIMAGE_INIT_SIZE);
    mem_destroy(&mem);
}

static void test_kernel_program_headers_far_into_the_file_are_read(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_file file;
    struct kernel_image image;
    struct err e;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 4);
    file.len = KERNEL_FILE_MAX;
    memcpy(file.bytes + 0x7001, kernel_file_phdr(&file, 0), 3 * sizeof(Elf64_Phdr));
    memset(kernel_file_phdr(&file, 0), 0xff, 3 * sizeof(Elf64_Phdr));
    kernel_file_ehdr(&file)->e_phoff = 0x7001;
    assert_int_equal(open_and_load(&file, &mem, &image, &e), 0);

    assert_int_equal(image.protocol, BOOT_PVH);
    expect_bytes(&mem, ELF_FILE_TEXT_GPA, ELF_FILE_TEXT_SIZE);
    mem_destroy(&mem);
}

/* ---- files that are none ---- */

static void test_kernel_empty_and_tiny_files_are_refused_as_recorded(void **state)
{
    const char *sentence =
        PREFIX "failed to load ELF kernel image: Kernel Loader: Unable to read elf header";
    struct kernel_file file = {.len = 0};

    (void)state;
    expect_open_refused(kernel_file_open(&file), -EINVAL, sentence);
    memcpy(file.bytes, "\177EL", 3);
    file.len = 3;
    expect_open_refused(kernel_file_open(&file), -EINVAL, sentence);
    memcpy(file.bytes, "\177ELF", 4);
    file.len = 63;
    expect_open_refused(kernel_file_open(&file), -EINVAL, sentence);
}

static void test_kernel_text_file_is_refused_as_recorded(void **state)
{
    struct kernel_file file = {.len = 87};

    (void)state;
    memset(file.bytes, 't', file.len);
    expect_open_refused(kernel_file_open(&file), -EINVAL,
                        PREFIX
                        "failed to load bzImage kernel image: Kernel Loader: Invalid bzImage");
}

static void test_kernel_that_is_no_regular_file_is_refused(void **state)
{
    char *dir = files_make_temporary("kernel"), path[256];

    (void)state;
    assert_non_null(dir);
    expect_open_refused(open(dir, O_RDONLY), -EISDIR,
                        PREFIX "the kernel is a directory, not a file");
    snprintf(path, sizeof(path), "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_open_refused(open(path, O_RDONLY | O_NONBLOCK), -EINVAL,
                        PREFIX "the kernel is not a regular file");
    expect_open_refused(open("/dev/zero", O_RDONLY), -EINVAL,
                        PREFIX "the kernel is not a regular file");
    files_remove_tree(dir);
    free(dir);
}

static void test_kernel_descriptor_that_cannot_be_read_is_an_error(void **state)
{
    struct kernel_file file;
    struct kernel_image image;
    struct err e = {0};
    int fd, only_write;
    char path[64];

    (void)state;
    assert_int_equal(kernel_open(-1, &image, &e), -EBADF);
    expect_words(&e, "Bad file descriptor (os error 9)");

    kernel_file_make_elf(&file);
    fd = kernel_file_open(&file);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    only_write = open(path, O_WRONLY);
    assert_true(only_write >= 0);
    assert_int_equal(kernel_open(only_write, &image, &e), -EBADF);
    expect_words(&e, "reading the file failed: Bad file descriptor");
    close(only_write);
    close(fd);
}

/* Headers said so when they were judged; the file has been cut since. */
static void test_kernel_that_becomes_shorter_is_an_error(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_file file;
    struct kernel_image image;
    struct err e = {0};
    int fd;

    (void)state;
    kernel_file_make_elf(&file);
    fd = kernel_file_open(&file);
    assert_true(fd >= 0);
    assert_int_equal(kernel_open(fd, &image, &e), 0);
    assert_int_equal(ftruncate(fd, ELF_FILE_TEXT_AT + 7), 0);

    assert_int_equal(kernel_load(fd, &image, &mem, &e), -EIO);
    assert_string_equal(e.text, PREFIX "the file became shorter while it was read");
    close(fd);
    mem_destroy(&mem);
}

/* ---- kernels that memory cannot take ---- */

static void test_kernel_larger_than_memory_is_refused(void **state)
{
    struct kernel_file file;

    (void)state;
    kernel_file_make_elf(&file);
    expect_load_refused(&file, 18 * MIB, -ENOMEM,
                        PREFIX "the kernel needs 0x5000 bytes of memory at 0x1200000, which a "
                               "machine of 18 MiB does not have");
    kernel_file_make_bzimage(&file);
    expect_load_refused(&file, 16 * MIB, -ENOMEM, "the kernel needs 0x80000 bytes");
}

static void test_kernel_segment_at_impossible_addresses_is_refused(void **state)
{
    static const struct {
        uint64_t gpa, room;
        int code;
        const char *words;
    } row[] = {
        {0, 0x5000, -EINVAL, "lies at 0x0, but the first 0xe1000 bytes are taken"},
        {LAYOUT_CMDLINE, 0x5000, -EINVAL, "lies at 0x20000"},
        {LAYOUT_TABLES_END - 1, 0x5000, -EINVAL, "lies at 0xe0fff"},
        {UINT64_MAX, 0x5000, -ENOMEM, "at 0xffffffffffffffff"},
        {UINT64_MAX - 0x4fff, 0x5000, -ENOMEM, "does not have"},
        {ELF_FILE_DATA_GPA, UINT64_MAX, -ENOMEM, "needs 0xffffffffffffffff bytes"},
        {ELF_FILE_DATA_GPA, UINT64_MAX - ELF_FILE_DATA_GPA + 1, -ENOMEM, "does not have"},
        {MEM_HOLE32_START - 0x1000, 0x5000, -ENOMEM, "at 0xbffff000"},
        {MEM_HOLE32_START, 0x5000, -ENOMEM, "at 0xc0000000"},
        {GIB - 0x1000, 0x1001, -EINVAL, "ends at 0x40000001, but only the first GiB"},
        {MEM_HOLE32_END, 0x5000, -EINVAL, "only the first GiB is mapped"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct kernel_file file;

        kernel_file_make_elf(&file);
        kernel_file_phdr(&file, ELF_FILE_DATA)->p_paddr = row[i].gpa;
        kernel_file_phdr(&file, ELF_FILE_DATA)->p_memsz = row[i].room;
        expect_load_refused(&file, 4 * GIB, row[i].code, row[i].words);
    }
}

static void test_kernel_segment_just_above_the_tables_is_accepted(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_file file;
    struct kernel_image image;
    struct err e;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_phdr(&file, ELF_FILE_DATA)->p_paddr = LAYOUT_TABLES_END;
    assert_int_equal(open_and_load(&file, &mem, &image, &e), 0);
    mem_destroy(&mem);
}

static void test_kernel_entry_outside_of_the_files_bytes_is_refused(void **state)
{
    static const uint64_t entry[] = {
        0,
        ELF_FILE_TEXT_GPA - 1,
        ELF_FILE_TEXT_GPA + ELF_FILE_TEXT_SIZE,
        ELF_FILE_DATA_GPA + ELF_FILE_DATA_SIZE, /* zeros */
        UINT64_MAX,
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(entry) / sizeof(entry[0]); i++) {
        struct kernel_file file;

        kernel_file_make_elf(&file);
        kernel_file_ehdr(&file)->e_entry = entry[i];
        expect_load_refused(&file, 32 * MIB, -EINVAL, "is in none of its segments");
    }
}

/* PVH needs no page tables of ours, so a segment above 1 GiB will do. */
static void test_kernel_pvh_may_have_segments_above_the_first_gib(void **state)
{
    struct mem mem = make_memory(2 * GIB);
    struct kernel_file file;
    struct kernel_image image;
    struct err e;

    (void)state;
    kernel_file_make_elf(&file);
    kernel_file_add_pvh(&file, 8);
    kernel_file_phdr(&file, ELF_FILE_DATA)->p_paddr = GIB;
    assert_int_equal(open_and_load(&file, &mem, &image, &e), 0);

    expect_bytes(&mem, GIB, ELF_FILE_DATA_SIZE);
    mem_destroy(&mem);
}

/* ---- initrd ---- */

static struct kernel_image image_up_to(uint64_t end, uint64_t limit)
{
    return (struct kernel_image){
        .segment_count = 1,
        .segment = {{.gpa = GPA(MIB), .mem_size = end - MIB}},
        .initrd_limit = limit,
    };
}

static void test_initrd_place_is_the_highest_page_that_will_do(void **state)
{
    static const struct {
        uint64_t memory, kernel_end, limit, size, start;
    } row[] = {
        {64 * MIB, 8 * MIB, UINT64_MAX, 1, 64 * MIB - PAGE_SIZE},
        {64 * MIB, 8 * MIB, UINT64_MAX, PAGE_SIZE, 64 * MIB - PAGE_SIZE},
        {64 * MIB, 8 * MIB, UINT64_MAX, PAGE_SIZE + 1, 64 * MIB - 2 * PAGE_SIZE},
        {64 * MIB, 8 * MIB, UINT64_MAX, 56 * MIB, 8 * MIB},
        {64 * MIB, 8 * MIB, 0x2000001, PAGE_SIZE, 32 * MIB - PAGE_SIZE},
        {8 * GIB, 8 * MIB, UINT64_MAX, MIB, 3 * GIB - MIB},
        {8 * GIB, 8 * MIB, 0x80000000, MIB, 2 * GIB - MIB},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct mem mem = make_memory(row[i].memory);
        struct kernel_image image = image_up_to(row[i].kernel_end, row[i].limit);
        struct initrd initrd;
        struct err e;

        assert_int_equal(initrd_place(&mem, &image, row[i].size, &initrd, &e), 0);
        assert_int_equal(initrd.gpa.v, row[i].start);
        assert_int_equal(initrd.size, row[i].size);
        mem_destroy(&mem);
    }
}

static void test_initrd_that_would_reach_into_the_kernel_is_refused(void **state)
{
    static const struct {
        uint64_t kernel_end, limit, size;
    } row[] = {
        {8 * MIB, UINT64_MAX, 56 * MIB + 1},
        {8 * MIB + 1, UINT64_MAX, 56 * MIB},
        {8 * MIB, UINT64_MAX, 64 * MIB},
        {8 * MIB, UINT64_MAX, 64 * MIB + 1},
        {8 * MIB, UINT64_MAX, UINT64_MAX},
        {8 * MIB, 8 * MIB, 1},
        {8 * MIB, 1, 1},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct mem mem = make_memory(64 * MIB);
        struct kernel_image image = image_up_to(row[i].kernel_end, row[i].limit);
        struct initrd initrd;
        struct err e = {0};

        assert_int_equal(initrd_place(&mem, &image, row[i].size, &initrd, &e), -ENOMEM);
        expect_words(&e, "Cannot load initrd due to an invalid memory configuration: its ");
        mem_destroy(&mem);
    }
}

static void test_initrd_is_read_and_none_is_none(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_image image = image_up_to(4 * MIB, UINT64_MAX);
    struct kernel_file file = {.len = 5000};
    struct initrd initrd;
    struct err e;
    int fd;

    (void)state;
    for (size_t i = 0; i < file.len; i++)
        file.bytes[i] = kernel_file_pattern(i);
    fd = kernel_file_open(&file);
    assert_int_equal(initrd_load(fd, &image, &mem, &initrd, &e), 0);
    assert_int_equal(initrd.gpa.v, 32 * MIB - 2 * PAGE_SIZE);
    assert_int_equal(initrd.size, 5000);
    expect_bytes(&mem, initrd.gpa.v, 5000);
    close(fd);

    assert_int_equal(initrd_load(-1, &image, &mem, &initrd, &e), 0);
    assert_int_equal(initrd.size, 0);
    mem_destroy(&mem);
}

static void test_initrd_that_is_empty_or_no_file_is_refused(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_image image = image_up_to(4 * MIB, UINT64_MAX);
    struct kernel_file empty = {.len = 0};
    struct initrd initrd;
    struct err e = {0};
    int fd = kernel_file_open(&empty);

    (void)state;
    assert_int_equal(initrd_load(fd, &image, &mem, &initrd, &e), -EINVAL);
    expect_words(&e, "Cannot load initrd due to an invalid image: the initrd is empty");
    close(fd);
    fd = open("/", O_RDONLY);
    assert_int_equal(initrd_load(fd, &image, &mem, &initrd, &e), -EISDIR);
    expect_words(&e, "is a directory, not a file");
    close(fd);
    fd = open("/dev/zero", O_RDONLY);
    assert_int_equal(initrd_load(fd, &image, &mem, &initrd, &e), -EINVAL);
    expect_words(&e, "is not a regular file");
    assert_int_equal(close(fd), 0);
    assert_int_equal(initrd_load(fd, &image, &mem, &initrd, &e), -EBADF);
    expect_words(&e, "Bad file descriptor (os error 9)");
    mem_destroy(&mem);
}

static void test_initrd_that_cannot_be_read_is_an_error(void **state)
{
    struct mem mem = make_memory(32 * MIB);
    struct kernel_image image = image_up_to(4 * MIB, UINT64_MAX);
    struct kernel_file file = {.len = 100};
    int fd = kernel_file_open(&file), only_write;
    struct initrd initrd;
    struct err e = {0};
    char path[64];

    (void)state;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    only_write = open(path, O_WRONLY);
    assert_true(only_write >= 0);
    assert_int_equal(initrd_load(only_write, &image, &mem, &initrd, &e), -EBADF);
    expect_words(&e, "invalid image: reading the file failed: Bad file descriptor");
    close(only_write);
    close(fd);
    mem_destroy(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel_elf_segments_land_at_their_addresses),
        cmocka_unit_test(test_kernel_bss_is_not_touched),
        cmocka_unit_test(test_kernel_bzimage_lands_at_its_preferred_address),
        cmocka_unit_test(test_kernel_program_headers_far_into_the_file_are_read),
        cmocka_unit_test(test_kernel_empty_and_tiny_files_are_refused_as_recorded),
        cmocka_unit_test(test_kernel_text_file_is_refused_as_recorded),
        cmocka_unit_test(test_kernel_that_is_no_regular_file_is_refused),
        cmocka_unit_test(test_kernel_descriptor_that_cannot_be_read_is_an_error),
        cmocka_unit_test(test_kernel_that_becomes_shorter_is_an_error),
        cmocka_unit_test(test_kernel_larger_than_memory_is_refused),
        cmocka_unit_test(test_kernel_segment_at_impossible_addresses_is_refused),
        cmocka_unit_test(test_kernel_segment_just_above_the_tables_is_accepted),
        cmocka_unit_test(test_kernel_entry_outside_of_the_files_bytes_is_refused),
        cmocka_unit_test(test_kernel_pvh_may_have_segments_above_the_first_gib),
        cmocka_unit_test(test_initrd_place_is_the_highest_page_that_will_do),
        cmocka_unit_test(test_initrd_that_would_reach_into_the_kernel_is_refused),
        cmocka_unit_test(test_initrd_is_read_and_none_is_none),
        cmocka_unit_test(test_initrd_that_is_empty_or_no_file_is_refused),
        cmocka_unit_test(test_initrd_that_cannot_be_read_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
