/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/snapshot/new_file.c and mem_file.c, on real files. */
#include "tests/unit/unit.h"
#include "vmm/snapshot/mem_file.h"
#include "vmm/snapshot/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char directory[] = "/tmp/mayfly-test-XXXXXX";

static const char *at(const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

static void put(const char *name, const char *text)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void expect_file(const char *name, const char *text)
{
    char found[64] = {0};
    int fd = open(at(name), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_true(read(fd, found, sizeof(found) - 1) >= 0);
    close(fd);
    assert_string_equal(found, text);
}

static void expect_no_leftover(const char *name)
{
    char beside[300];

    snprintf(beside, sizeof(beside), "%s" NEW_FILE_SUFFIX, at(name));
    assert_int_equal(access(beside, F_OK), -1);
}

static void replace(const char *name, const char *text)
{
    struct new_file file;
    struct err e = {0};

    if (new_file_open(&file, at(name), &e) || new_file_write(&file, text, strlen(text), 0, &e) ||
        new_file_sync(&file, &e) || new_file_commit(&file, &e))
        fail_msg("%s", e.text);
    new_file_close(&file);
}

/* ---- files that take another's place ---- */

static void test_new_file_takes_name_only_when_committed(void **state)
{
    struct new_file file;

    (void)state;
    put("a", "old");
    assert_int_equal(new_file_open(&file, at("a"), NULL), 0);
    assert_int_equal(new_file_write(&file, "new", 3, 0, NULL), 0);
    expect_file("a", "old");
    assert_int_equal(new_file_commit(&file, NULL), 0);
    expect_file("a", "new");
    new_file_close(&file);
    expect_file("a", "new");
    expect_no_leftover("a");
}

static void test_new_file_given_up_leaves_old_one_and_nothing_else(void **state)
{
    struct new_file file;

    (void)state;
    put("b", "old");
    assert_int_equal(new_file_open(&file, at("b"), NULL), 0);
    assert_int_equal(new_file_write(&file, "new", 3, 0, NULL), 0);
    new_file_close(&file);
    new_file_close(&file);
    expect_file("b", "old");
    expect_no_leftover("b");
}

static void test_new_file_keeps_mapping_of_old_one(void **state)
{
    const char *map;
    int fd;

    (void)state;
    put("c", "old");
    fd = open(at("c"), O_RDONLY | O_CLOEXEC);
    map = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(map != MAP_FAILED);
    replace("c", "new");
    assert_string_equal(map, "old");
    close(fd);
}

static void test_new_file_replaces_what_link_leads_to(void **state)
{
    struct stat st;

    (void)state;
    put("target", "old");
    assert_int_equal(symlink("target", at("link")), 0);
    replace("link", "new");
    expect_file("target", "new");
    assert_int_equal(lstat(at("link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));

    /* One that leads nowhere yet makes its target, as opening it would. */
    assert_int_equal(symlink("target-to-be", at("dangling")), 0);
    replace("dangling", "new");
    expect_file("target-to-be", "new");
}

static mode_t mode_of(const char *name)
{
    struct stat st;

    assert_int_equal(stat(at(name), &st), 0);
    return st.st_mode & 07777;
}

static void test_new_file_has_mode_of_old_one_or_that_of_any_new_file(void **state)
{
    mode_t before = umask(027);

    (void)state;
    replace("mode", "new");
    assert_int_equal(mode_of("mode"), 0640);
    assert_int_equal(chmod(at("mode"), 0604), 0);
    replace("mode", "newer");
    assert_int_equal(mode_of("mode"), 0604);
    umask(before);
}

static void test_new_file_overwrites_leftover_of_dead_process(void **state)
{
    (void)state;
    put("d" NEW_FILE_SUFFIX, "much longer than what is written now");
    replace("d", "new");
    expect_file("d", "new");
    expect_no_leftover("d");
}

static void test_new_file_is_refused_while_another_writes_one_in_the_same_place(void **state)
{
    struct new_file file, other;
    struct err e;

    (void)state;
    assert_int_equal(new_file_open(&file, at("shared"), &e), 0);
    assert_int_equal(new_file_write(&file, "first", 5, 0, &e), 0);
    assert_int_equal(new_file_open(&other, at("shared"), &e), -EBUSY);
    assert_string_equal(e.text, "Another process is writing it at this moment.");
    assert_int_equal(new_file_commit(&file, &e), 0);
    assert_int_equal(new_file_open(&other, at("shared"), &e), 0);
    new_file_close(&file);
    assert_int_equal(new_file_write(&other, "second", 6, 0, &e), 0);
    assert_int_equal(new_file_commit(&other, &e), 0);
    new_file_close(&other);
    expect_file("shared", "second");
}

static void test_new_file_in_place_of_what_is_no_file_is_refused(void **state)
{
    struct new_file file;
    struct err e;

    (void)state;
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    assert_int_equal(new_file_open(&file, at("fifo"), &e), -EINVAL);
    assert_int_equal(new_file_open(&file, directory, &e), -EISDIR);
    assert_int_equal(new_file_open(&file, at("missing/x"), &e), -ENOENT);
    assert_string_equal(e.text, "No such file or directory (os error 2)");
    new_file_close(&file);
}

static void test_new_file_beyond_limit_names_path_and_leaves_old_one(void **state)
{
    struct rlimit limit, small = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
    static const char block[8192];
    struct new_file file;
    struct err e;

    (void)state;
    put("e", "old");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small.rlim_max = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(new_file_open(&file, at("e"), NULL), 0);
    assert_int_equal(new_file_write(&file, block, sizeof(block), 0, &e), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_non_null(strstr(e.text, "Cannot write "));
    assert_non_null(strstr(e.text, at("e")));
    new_file_close(&file);
    expect_file("e", "old");
    expect_no_leftover("e");
}

/* ---- memory ---- */

static void write_pages(const char *name, const struct mem *mem, enum mem_file_pages pages)
{
    struct new_file file;
    struct err e = {0};

    if (new_file_open(&file, at(name), &e) || new_file_resize(&file, mem_file_size(mem), &e) ||
        mem_file_write(&file, mem, pages, &e) || new_file_commit(&file, &e))
        fail_msg("%s", e.text);
    new_file_close(&file);
}

static void write_memory(const char *name, const struct mem *mem)
{
    write_pages(name, mem, MEM_FILE_ALL);
}

/* The pages that the file has, and nothing else, by the first byte of each; '.' is a zero. */
static void expect_pages(const char *name, const char *letters, const uint64_t *pages)
{
    int fd = open(at(name), O_RDONLY | O_CLOEXEC);
    off_t data = 0, hole;
    uint8_t byte;

    assert_true(fd >= 0);
    for (; *letters; letters++, pages++) {
        data = lseek(fd, data, SEEK_DATA);
        assert_int_equal(data, *pages * PAGE_SIZE);
        assert_int_equal(pread(fd, &byte, 1, data), 1);
        assert_int_equal(byte, *letters == '.' ? 0 : *letters);
        hole = lseek(fd, data, SEEK_HOLE);
        assert_true(hole >= data + (off_t)PAGE_SIZE);
        data += (off_t)PAGE_SIZE;
    }
    assert_int_equal(lseek(fd, data, SEEK_DATA), -1);
    close(fd);
}

static uint64_t blocks_of(const char *name)
{
    struct stat st;

    assert_int_equal(stat(at(name), &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void test_memory_file_has_what_was_written_and_holes_elsewhere(void **state)
{
    struct mem mem, back;
    int fd;

    (void)state;
    assert_int_equal(mem_create(&mem, 64 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    memset(mem.region[0].hva + 3 * PAGE_SIZE, 0x33, 2 * PAGE_SIZE);
    memset(mem.region[0].hva + 10 * MIB, 0, MIB); /* touched, and zero */
    mem.region[0].hva[20 * MIB + 4095] = 1;       /* the last byte of a page */
    mem.region[0].hva[64 * MIB - 1] = 0x7f;
    write_memory("memory", &mem);

    fd = open(at("memory"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(mem_create_from_file(&back, fd, 64 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_memory_equal(back.region[0].hva, mem.region[0].hva, 64 * MIB);
    assert_true(blocks_of("memory") <= 8 * PAGE_SIZE);
    close(fd);
    mem_destroy(&back);
    mem_destroy(&mem);
}

/* Pages that are not there of a file's copy are not zero. */
static void test_memory_file_of_copy_has_pages_nobody_has_read(void **state)
{
    struct mem mem, copy, back;
    int fd;

    (void)state;
    assert_int_equal(mem_create(&mem, 8 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    memset(mem.region[0].hva + MIB, 0x11, MIB);
    write_memory("first", &mem);
    fd = open(at("first"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(mem_create_from_file(&copy, fd, 8 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    close(fd);
    copy.region[0].hva[5 * MIB] = 5;
    assert_int_equal(mem_discard(&copy, copy.region[0].hva + MIB, PAGE_SIZE), 0);

    write_memory("first", &copy); /* over the very file that it runs from */
    fd = open(at("first"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(mem_create_from_file(&back, fd, 8 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    close(fd);
    assert_memory_equal(back.region[0].hva, copy.region[0].hva, 8 * MIB);
    assert_int_equal(back.region[0].hva[5 * MIB], 5);
    assert_int_equal(back.region[0].hva[MIB], 0);
    assert_int_equal(back.region[0].hva[MIB + PAGE_SIZE], 0x11);
    mem_destroy(&back);
    mem_destroy(&copy);
    mem_destroy(&mem);
}

static void test_memory_file_of_two_regions_has_second_behind_first(void **state)
{
    struct mem mem;
    uint8_t byte = 0;
    int fd;

    (void)state;
    assert_int_equal(mem_create(&mem, 3 * GIB + 16 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    mem.region[1].hva[PAGE_SIZE] = 0x66;
    write_memory("large", &mem);
    fd = open(at("large"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)(3 * GIB + PAGE_SIZE)), 1);
    assert_int_equal(byte, 0x66);
    assert_true(blocks_of("large") <= 2 * PAGE_SIZE);
    close(fd);
    mem_destroy(&mem);
}

static void test_memory_file_has_plugged_blocks_and_holes_for_others(void **state)
{
    static const uint64_t plugged[1] = {2}; /* the second of two */
    uint8_t *more = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mem_region region = {.gpa = GPA(MEM_HOLE64_END),
                                .size = 4 * MIB,
                                .hva = more,
                                .plugged = plugged,
                                .block_shift = 21};
    struct mem mem;
    struct stat st;
    uint8_t found[2];
    int fd;

    (void)state;
    assert_true(more != MAP_FAILED);
    more[7] = 0x17; /* of nobody: what is not plugged is not the guest's */
    more[2 * MIB + 7] = 0x27;
    assert_int_equal(mem_create(&mem, 8 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(mem_add_region(&mem, &region, NULL), 0);
    write_memory("plugged", &mem);
    fd = open(at("plugged"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 12 * MIB);
    assert_int_equal(pread(fd, &found[0], 1, 8 * MIB + 7), 1);
    assert_int_equal(pread(fd, &found[1], 1, 10 * MIB + 7), 1);
    assert_int_equal(found[0], 0);
    assert_int_equal(found[1], 0x27);
    assert_true(blocks_of("plugged") <= PAGE_SIZE);
    close(fd);
    mem_destroy(&mem);
    munmap(more, 4 * MIB);
}

static void test_diff_has_exactly_taken_pages_and_zeros_among_them(void **state)
{
    static const uint64_t pages[] = {3, 64, 65, 2047};
    struct mem mem;

    (void)state;
    assert_int_equal(mem_create(&mem, 8 * MIB, MEM_PAGES_DEFAULT, true, NULL), 0);
    memset(mem.region[0].hva, 'x', 8 * MIB);
    memset(mem.region[0].hva + 64 * PAGE_SIZE, 0, PAGE_SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
        mem.region[0].taken[pages[i] / 64] |= UINT64_C(1) << (pages[i] % 64);
    write_pages("diff", &mem, MEM_FILE_CHANGED);
    expect_pages("diff", "x.xx", pages);
    mem_destroy(&mem);
}

static void test_diff_of_fresh_memory_that_is_not_tracked_has_what_was_touched(void **state)
{
    static const uint64_t pages[] = {0, 200, 511}; /* where there are no huge pages */
    struct mem mem;

    (void)state;
    assert_int_equal(mem_create(&mem, 8 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    mem.region[0].hva[0] = 'a';
    mem.region[0].hva[200 * PAGE_SIZE] = 0; /* touched, and zero */
    mem.region[0].hva[511 * PAGE_SIZE] = 'c';
    write_pages("touched", &mem, MEM_FILE_CHANGED);
    expect_pages("touched", "a.c", pages);
    mem_destroy(&mem);
}

/* Pages that were only read are the file's; those that were given back are zeros, and the file must
 * not bring its own back. */
static void test_diff_of_copy_that_is_not_tracked_has_what_is_not_the_files(void **state)
{
    static const uint64_t pages[] = {5, 9, 11};
    struct mem mem, copy;
    volatile uint8_t sum = 0;
    int fd;

    (void)state;
    assert_int_equal(mem_create(&mem, 8 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    memset(mem.region[0].hva, 'x', MIB);
    write_memory("base", &mem);
    fd = open(at("base"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(mem_create_from_file(&copy, fd, 8 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    close(fd);
    for (unsigned i = 0; i < 64; i++)
        sum = (uint8_t)(sum + copy.region[0].hva[i * PAGE_SIZE]);
    copy.region[0].hva[5 * PAGE_SIZE] = 'e';
    assert_int_equal(mem_discard(&copy, copy.region[0].hva + 9 * PAGE_SIZE, PAGE_SIZE), 0);
    assert_int_equal(mem_discard(&copy, copy.region[0].hva + 11 * PAGE_SIZE, PAGE_SIZE), 0);
    copy.region[0].hva[11 * PAGE_SIZE] = 'k';
    write_pages("own", &copy, MEM_FILE_CHANGED);
    expect_pages("own", "e.k", pages);
    mem_destroy(&copy);
    mem_destroy(&mem);
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    char command[300];

    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_file_takes_name_only_when_committed),
        cmocka_unit_test(test_new_file_given_up_leaves_old_one_and_nothing_else),
        cmocka_unit_test(test_new_file_keeps_mapping_of_old_one),
        cmocka_unit_test(test_new_file_replaces_what_link_leads_to),
        cmocka_unit_test(test_new_file_has_mode_of_old_one_or_that_of_any_new_file),
        cmocka_unit_test(test_new_file_overwrites_leftover_of_dead_process),
        cmocka_unit_test(test_new_file_is_refused_while_another_writes_one_in_the_same_place),
        cmocka_unit_test(test_new_file_in_place_of_what_is_no_file_is_refused),
        cmocka_unit_test(test_new_file_beyond_limit_names_path_and_leaves_old_one),
        cmocka_unit_test(test_memory_file_has_what_was_written_and_holes_elsewhere),
        cmocka_unit_test(test_memory_file_of_copy_has_pages_nobody_has_read),
        cmocka_unit_test(test_diff_has_exactly_taken_pages_and_zeros_among_them),
        cmocka_unit_test(test_diff_of_fresh_memory_that_is_not_tracked_has_what_was_touched),
        cmocka_unit_test(test_diff_of_copy_that_is_not_tracked_has_what_is_not_the_files),
        cmocka_unit_test(test_memory_file_has_plugged_blocks_and_holes_for_others),
        cmocka_unit_test(test_memory_file_of_two_regions_has_second_behind_first),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
