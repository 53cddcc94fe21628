/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/snapshot/touched.c, on the kernel's page tables and page cache. */
#include "tests/unit/unit.h"
#include "vmm/snapshot/touched.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

enum { PAGES = 256 };

static char directory[] = "/tmp/mayfly-test-XXXXXX";
static char memory_path[64], set_path[64];

/* Memory over a file of which every page is in the page cache, so that a read enters neighbours. */
static struct mem make_memory(void)
{
    static uint8_t page[PAGE_SIZE];
    struct mem mem;
    int fd = open(memory_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    for (unsigned i = 0; i < PAGES; i++) {
        memset(page, (int)i, sizeof(page));
        assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
    }
    assert_int_equal(
        mem_create_from_file(&mem, fd, PAGES * PAGE_SIZE, MEM_PAGES_DEFAULT, false, NULL), 0);
    close(fd);
    return mem;
}

static uint8_t look(const struct mem *mem, unsigned page)
{
    return *(volatile const uint8_t *)(mem->region[0].hva + page * PAGE_SIZE);
}

static void write_to(const struct mem *mem, unsigned page)
{
    *(volatile uint8_t *)(mem->region[0].hva + page * PAGE_SIZE) = 1;
}

/* What pagemap says of a page: 0 nothing, 1 the file's, 2 our own. */
static int kind_of(const struct mem *mem, unsigned page)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry;

    assert_int_equal(
        pread(fd, &entry, 8, (off_t)((uintptr_t)mem->region[0].hva / PAGE_SIZE * 8 + page * 8)), 8);
    close(fd);
    if (!(entry >> 62))
        return 0;
    return entry >> 61 & 1 ? 1 : 2;
}

/* NULL where the kernel cannot tell; the test is skipped. */
static struct recording *begin(const struct mem *mem)
{
    struct recording *recording;
    struct err e;
    int rc = recording_begin(&recording, mem, set_path, &e);

    if (rc == -ENOTSUP) {
        print_message("skipped: %s\n", e.text);
        skip();
    }
    assert_int_equal(rc, 0);
    return recording;
}

static void test_recording_names_each_page_that_was_touched_and_no_other(void **state)
{
    struct mem mem = make_memory();
    struct recording *recording = begin(&mem);
    struct working_set set;

    (void)state;
    assert_int_equal(look(&mem, 3), 3);
    write_to(&mem, 10);
    assert_int_equal(look(&mem, 11), 11);
    write_to(&mem, 11);
    assert_int_equal(look(&mem, 100), 100);
    assert_int_equal(look(&mem, 101), 101);
    assert_int_equal(recording_end(recording, NULL), 0);
    assert_int_equal(working_set_read(&set, set_path, PAGES * PAGE_SIZE, NULL), 0);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.run[0].first, 3);
    assert_int_equal(set.run[0].pages, 1);
    assert_false(set.run[0].written);
    assert_int_equal(set.run[1].first, 10);
    assert_int_equal(set.run[1].pages, 2);
    assert_true(set.run[1].written);
    assert_int_equal(set.run[2].first, 100);
    assert_int_equal(set.run[2].pages, 2);
    assert_false(set.run[2].written);
    working_set_free(&set);
    mem_destroy(&mem);
}

static void test_recording_into_a_missing_directory_is_refused_at_its_beginning(void **state)
{
    struct mem mem = make_memory();
    struct recording *recording;
    struct err e;

    (void)state;
    assert_true(recording_begin(&recording, &mem, "/nowhere/ws", &e) < 0);
    assert_non_null(strstr(e.text, "/nowhere/ws"));
    mem_destroy(&mem);
}

static void test_recording_replaces_the_former_file_at_its_end_only(void **state)
{
    struct mem mem = make_memory();
    struct working_set set = {.mem_size = PAGES * PAGE_SIZE};
    struct recording *recording;

    (void)state;
    assert_int_equal(working_set_add(&set, 7, true), 0);
    assert_int_equal(working_set_write(&set, set_path, NULL), 0);
    working_set_free(&set);
    recording = begin(&mem); /* what it has so far is not written */
    assert_int_equal(working_set_read(&set, set_path, PAGES * PAGE_SIZE, NULL), 0);
    assert_int_equal(set.run[0].first, 7);
    working_set_free(&set);
    assert_int_equal(recording_end(recording, NULL), 0);
    assert_int_equal(working_set_read(&set, set_path, PAGES * PAGE_SIZE, NULL), 0);
    assert_int_equal(set.count, 0);
    working_set_free(&set);
    mem_destroy(&mem);
}

static void test_fetch_makes_what_was_written_private_and_changes_nothing(void **state)
{
    struct mem mem = make_memory();
    struct working_set set = {.mem_size = PAGES * PAGE_SIZE};

    (void)state;
    for (uint32_t page = 20; page < 30; page++)
        assert_int_equal(working_set_add(&set, page, page % 5 == 0), 0);
    working_set_fetch(&set, &mem);
    for (unsigned page = 0; page < PAGES; page++)
        assert_int_equal(kind_of(&mem, page), page == 20 || page == 25 ? 2 : 0);
    for (unsigned page = 0; page < PAGES; page++)
        assert_int_equal(look(&mem, page), page);
    working_set_free(&set);
    mem_destroy(&mem);
}

/* How many pages of the memory file are in the page cache. */
static unsigned cached(void)
{
    int fd = open(memory_path, O_RDONLY | O_CLOEXEC);
    uint8_t *map = mmap(NULL, PAGES * PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char there[PAGES];
    unsigned count = 0;

    assert_int_equal(mincore(map, PAGES * PAGE_SIZE, there), 0);
    for (unsigned i = 0; i < PAGES; i++)
        count += there[i] & 1;
    munmap(map, PAGES * PAGE_SIZE);
    close(fd);
    return count;
}

static void test_fetch_reads_what_was_touched_and_little_else(void **state)
{
    struct mem mem = make_memory();
    struct working_set set = {.mem_size = PAGES * PAGE_SIZE};

    (void)state;
    assert_int_equal(fsync(mem.fd), 0);
    assert_int_equal(posix_fadvise(mem.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    if (cached() > 0)
        skip(); /* a file system that lives in the page cache */
    for (uint32_t page = 0; page < 100; page += 2)
        assert_int_equal(working_set_add(&set, page, page % 4 == 0), 0);
    working_set_fetch(&set, &mem);
    for (unsigned i = 0; i < 1000 && cached() < 50; i++)
        usleep(1000);
    assert_in_range(cached(), 50, 65);
    working_set_free(&set);
    mem_destroy(&mem);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(memory_path, sizeof(memory_path), "%s/mem", directory);
    snprintf(set_path, sizeof(set_path), "%s/ws", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(memory_path);
    unlink(set_path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recording_names_each_page_that_was_touched_and_no_other),
        cmocka_unit_test(test_recording_into_a_missing_directory_is_refused_at_its_beginning),
        cmocka_unit_test(test_recording_replaces_the_former_file_at_its_end_only),
        cmocka_unit_test(test_fetch_makes_what_was_written_private_and_changes_nothing),
        cmocka_unit_test(test_fetch_reads_what_was_touched_and_little_else),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
