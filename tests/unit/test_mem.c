/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/mem.c, on real mappings: nothing of them is touched but what a test writes. */
#include "tests/unit/unit.h"
#include "vmm/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define ABOVE_BOTH_HOLES                                                                           \
    (300 * GIB) /* of RAM: 3 below the first hole, 252 between them, 45 above */

static void create(struct mem *mem, uint64_t size, bool track_dirty)
{
    struct err e;
    int rc = mem_create(mem, size, MEM_PAGES_DEFAULT, track_dirty, &e);

    if (rc == -ENOMEM && size >= ABOVE_BOTH_HOLES)
        skip(); /* a host that counts every reservation (vm.overcommit_memory = 2) */
    assert_int_equal(rc, 0);
}

static bool is_dirty(const struct mem_region *region, uint64_t page)
{
    return region->dirty[page / 64] >> (page % 64) & 1;
}

static uint64_t count_dirty(const struct mem_region *region)
{
    uint64_t count = 0;

    for (uint64_t page = 0; page < region->size / PAGE_SIZE; page++)
        count += is_dirty(region, page);
    return count;
}

static void expect_region(const struct mem *mem, unsigned i, uint64_t gpa, uint64_t size)
{
    assert_true(i < mem->count);
    assert_int_equal(mem->region[i].gpa.v, gpa);
    assert_int_equal(mem->region[i].size, size);
}

/* ---- layout ---- */

static void test_mem_create_small_is_one_zeroed_region_at_zero(void **state)
{
    static const uint8_t zeros[PAGE_SIZE];
    struct mem mem;

    (void)state;
    create(&mem, 64 * MIB, false);

    assert_int_equal(mem.count, 1);
    expect_region(&mem, 0, 0, 64 * MIB);
    assert_int_equal(mem_size(&mem), 64 * MIB);
    assert_memory_equal(mem.region[0].hva + 63 * MIB, zeros, sizeof(zeros));
    assert_null(mem.region[0].dirty);
    mem_destroy(&mem);
}

static void test_mem_create_up_to_first_hole_stays_one_region(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, MEM_HOLE32_START, false);

    assert_int_equal(mem.count, 1);
    expect_region(&mem, 0, 0, MEM_HOLE32_START);
    mem_destroy(&mem);
}

static void test_mem_create_one_mib_more_goes_above_first_hole(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, MEM_HOLE32_START + MIB, false);

    assert_int_equal(mem.count, 2);
    expect_region(&mem, 1, MEM_HOLE32_END, MIB);
    mem_destroy(&mem);
}

static void test_mem_create_large_goes_around_both_holes(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, ABOVE_BOTH_HOLES, false);

    assert_int_equal(mem.count, 3);
    expect_region(&mem, 0, 0, 3 * GIB);
    expect_region(&mem, 1, 4 * GIB, 252 * GIB);
    expect_region(&mem, 2, 512 * GIB, 45 * GIB);
    assert_int_equal(mem_size(&mem), ABOVE_BOTH_HOLES);
    mem_destroy(&mem);
}

/* KVM wants slots that do not share a host page, and huge pages want 2 MiB alignment. */
static void test_mem_regions_follow_each_other_in_aligned_mapping(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, 5 * GIB, false);

    assert_int_equal((uintptr_t)mem.region[0].hva % (2 * MIB), 0);
    assert_ptr_equal(mem.region[1].hva, mem.region[0].hva + mem.region[0].size);
    assert_true(mem.region[0].hva >= (uint8_t *)mem.map);
    assert_true(
        range_fits((uint64_t)(mem.region[0].hva - (uint8_t *)mem.map), 5 * GIB, mem.map_size));
    mem_destroy(&mem);
}

static void test_mem_create_with_transparent_huge_pages_is_usable(void **state)
{
    struct mem mem;
    uint32_t value = 0x12345678, back = 0;

    (void)state;
    assert_int_equal(mem_create(&mem, 4 * MIB, MEM_PAGES_TRANSPARENT, false, NULL), 0);

    assert_int_equal(mem_write(&mem, GPA(0x1000), &value, sizeof(value)), 0);
    assert_int_equal(mem_read(&mem, GPA(0x1000), &back, sizeof(back)), 0);
    assert_int_equal(back, value);
    mem_destroy(&mem);
}

static void test_mem_create_shared_is_seen_by_whoever_maps_the_file(void **state)
{
    struct mem mem;
    struct err e = {0};
    uint32_t value = 0x12345678;
    uint8_t *other;

    (void)state;
    assert_int_equal(mem_create_shared(&mem, 3 * GIB + 2 * MIB, MEM_PAGES_DEFAULT, true, &e), 0);
    assert_true(mem.shared);
    assert_int_equal((uintptr_t)mem.region[0].hva % (2 * MIB), 0);
    assert_ptr_equal(mem.region[1].hva, mem.region[0].hva + 3 * GIB);

    other = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 3 * (off_t)GIB);
    assert_true(other != MAP_FAILED);
    assert_int_equal(mem_write(&mem, GPA(4 * GIB + 0x1000), &value, sizeof(value)), 0);
    assert_memory_equal(other + 0x1000, &value, sizeof(value));
    other[0x1000] = 0x99;
    assert_int_equal(mem_read(&mem, GPA(4 * GIB + 0x1000), &value, sizeof(value)), 0);
    assert_int_equal(value, 0x12345699);
    assert_true(is_dirty(&mem.region[1], 1));
    munmap(other, 2 * MIB);
    mem_destroy(&mem);
    assert_false(mem.shared);
}

/* Whoever was handed the file could otherwise kill the monitor with one call. */
static void test_mem_create_shared_cannot_be_cut_short_by_another_process(void **state)
{
    struct mem mem;

    (void)state;
    assert_int_equal(mem_create_shared(&mem, 4 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(ftruncate(mem.fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(mem.fd, 8 * MIB), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(fcntl(mem.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    mem_destroy(&mem);
}

/* Beyond the limit, which a jail may set, making the file would be SIGXFSZ. */
/* A file of `size` bytes in memory whose page n is filled with n. */
static int numbered_file(uint64_t size)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    uint8_t page[PAGE_SIZE];

    assert_true(fd >= 0);
    for (uint64_t at = 0; at < size; at += sizeof(page)) {
        memset(page, (int)(at / PAGE_SIZE), sizeof(page));
        assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
    }
    return fd;
}

static void test_mem_create_from_file_shows_it_and_keeps_writes_to_itself(void **state)
{
    int fd = numbered_file(2 * MIB);
    struct mem mem, other;
    uint8_t byte = 0xaa;

    (void)state;
    assert_int_equal(mem_create_from_file(&mem, fd, 2 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(mem_create_from_file(&other, fd, 2 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    expect_region(&mem, 0, 0, 2 * MIB);
    assert_int_equal(mem.region[0].backing, MEM_FILE_COPY);
    assert_int_equal(mem_write(&mem, GPA(5 * PAGE_SIZE), &byte, 1), 0);

    assert_int_equal(mem.region[0].hva[5 * PAGE_SIZE], 0xaa);
    assert_int_equal(mem.region[0].hva[5 * PAGE_SIZE + 1], 5);
    assert_int_equal(other.region[0].hva[5 * PAGE_SIZE], 5);
    assert_int_equal(pread(fd, &byte, 1, 5 * PAGE_SIZE), 1);
    assert_int_equal(byte, 5);
    mem_destroy(&mem);
    mem_destroy(&other);
    close(fd);
}

/* RAM goes around the hole; the file does not. */
static void test_mem_create_from_file_continues_behind_hole_where_the_file_does(void **state)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    struct mem mem;
    uint8_t byte = 0x3c, back = 0;

    (void)state;
    assert_int_equal(ftruncate(fd, 4 * GIB), 0);
    assert_int_equal(pwrite(fd, &byte, 1, 3 * GIB), 1);
    assert_int_equal(mem_create_from_file(&mem, fd, 4 * GIB, MEM_PAGES_DEFAULT, true, NULL), 0);
    assert_int_equal(mem.count, 2);
    assert_int_equal(mem_read(&mem, GPA(MEM_HOLE32_END), &back, 1), 0);
    assert_int_equal(back, 0x3c);
    assert_int_equal(count_dirty(&mem.region[1]), 0);
    mem_destroy(&mem);
    close(fd);
}

static void test_mem_create_from_file_of_another_kind_or_size_is_refused(void **state)
{
    int fd = numbered_file(MIB), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct mem mem;
    struct err e;

    (void)state;
    assert_int_equal(mem_create_from_file(&mem, fd, 2 * MIB, MEM_PAGES_DEFAULT, false, &e),
                     -EINVAL);
    assert_string_equal(e.text, "The memory file has 1048576 bytes; the guest has 2097152.");
    mem_destroy(&mem); /* nothing to be undone, and no harm */
    assert_int_equal(mem_create_from_file(&mem, null, MIB, MEM_PAGES_DEFAULT, false, &e), -EINVAL);
    assert_string_equal(e.text, "The memory file is not a regular file.");
    assert_int_equal(mem_create_from_file(&mem, fd, MIB, MEM_PAGES_HUGETLB_2M, false, &e), -EINVAL);
    close(null);
    close(fd);
}

static void test_mem_create_shared_beyond_the_limit_of_file_sizes_is_refused(void **state)
{
    struct rlimit all, small;
    struct mem mem;
    struct err e;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
    small = (struct rlimit){.rlim_cur = MIB, .rlim_max = all.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(mem_create_shared(&mem, 4 * MIB, MEM_PAGES_DEFAULT, false, &e), -EFBIG);
    assert_non_null(strstr(e.text, "File too large (os error 27)"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
    mem_destroy(&mem);
}

/* Free huge pages of 2 MiB on this host; -1 where it knows none. */
static long free_huge_pages(void)
{
    FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
    long count = -1;

    if (!file)
        return -1;
    if (fscanf(file, "%ld", &count) != 1)
        count = -1;
    fclose(file);
    return count;
}

static void test_mem_create_without_a_free_huge_page_is_refused_and_says_so(void **state)
{
    struct mem mem;
    struct err e;

    (void)state;
    if (free_huge_pages() != 0)
        skip();
    assert_int_equal(mem_create(&mem, 4 * MIB, MEM_PAGES_HUGETLB_2M, false, &e), -ENOMEM);
    assert_non_null(strstr(e.text, "vm.nr_hugepages"));
    assert_null(mem.map);
    assert_int_equal(mem_create_shared(&mem, 4 * MIB, MEM_PAGES_HUGETLB_2M, false, &e), -ENOMEM);
    assert_non_null(strstr(e.text, "vm.nr_hugepages"));
    assert_null(mem.map);
}

static void test_mem_create_refuses_sizes_no_host_has(void **state)
{
    static const uint64_t sizes[] = {0, UINT64_C(1) << 46, UINT64_MAX, UINT64_MAX - MIB + 1};
    struct mem mem;
    struct err e;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_int_equal(mem_create(&mem, sizes[i], MEM_PAGES_DEFAULT, true, &e), -ENOMEM);
        assert_string_equal(e.text, "Cannot create mmap region: Cannot allocate memory "
                                    "(os error 12)");
        assert_int_equal(mem.count, 0);
        mem_destroy(&mem);
        assert_int_equal(mem_create_shared(&mem, sizes[i], MEM_PAGES_DEFAULT, true, &e), -ENOMEM);
        assert_int_equal(mem.count, 0);
        mem_destroy(&mem);
    }
}

static void test_mem_destroy_accepts_zeroed_and_twice(void **state)
{
    struct mem mem = {0};

    (void)state;
    mem_destroy(&mem);
    create(&mem, 2 * MIB, true);
    mem_destroy(&mem);
    assert_int_equal(mem.count, 0);
    assert_null(mem_readable(&mem, GPA(0), 1));
    mem_destroy(&mem);
}

/* ---- translation ---- */

static void test_mem_translates_whole_region_and_its_last_byte(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, 2 * MIB, false);

    assert_ptr_equal(mem_readable(&mem, GPA(0), 2 * MIB), mem.region[0].hva);
    assert_ptr_equal(mem_readable(&mem, GPA(2 * MIB - 1), 1), mem.region[0].hva + 2 * MIB - 1);
    assert_ptr_equal(mem_writable(&mem, GPA(0x1234), 5), mem.region[0].hva + 0x1234);
    mem_destroy(&mem);
}

static void test_mem_refuses_range_past_end(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, 2 * MIB, false);

    assert_null(mem_readable(&mem, GPA(0), 2 * MIB + 1));
    assert_null(mem_readable(&mem, GPA(2 * MIB - 1), 2));
    assert_null(mem_readable(&mem, GPA(2 * MIB), 1));
    assert_null(mem_writable(&mem, GPA(2 * MIB), 1));
    assert_null(mem_readable(&mem, GPA(3 * MIB), 1));
    mem_destroy(&mem);
}

static void test_mem_refuses_range_that_overflows(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, 5 * GIB, false);

    assert_null(mem_readable(&mem, GPA(1), UINT64_MAX));
    assert_null(mem_readable(&mem, GPA(UINT64_MAX), 1));
    assert_null(mem_readable(&mem, GPA(UINT64_MAX), UINT64_MAX));
    assert_null(mem_readable(&mem, GPA(UINT64_MAX - 7), 16));
    assert_null(mem_writable(&mem, GPA(4 * GIB), UINT64_MAX - 4 * GIB + 1));
    assert_null(mem_writable(&mem, GPA(5 * GIB), UINT64_MAX - 4 * GIB));
    mem_destroy(&mem);
}

static void test_mem_refuses_holes_and_what_reaches_into_them(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, ABOVE_BOTH_HOLES, false);

    assert_non_null(mem_readable(&mem, GPA(MEM_HOLE32_START - 8), 8));
    assert_null(mem_readable(&mem, GPA(MEM_HOLE32_START - 4), 8));
    assert_null(mem_readable(&mem, GPA(MEM_HOLE32_START), 1));
    assert_null(mem_readable(&mem, GPA(0xfee00000), 4));
    assert_null(mem_readable(&mem, GPA(MEM_HOLE32_END - 4), 8));
    assert_non_null(mem_readable(&mem, GPA(MEM_HOLE32_END), 8));

    assert_non_null(mem_readable(&mem, GPA(MEM_HOLE64_START - 8), 8));
    assert_null(mem_readable(&mem, GPA(MEM_HOLE64_START - 4), 8));
    assert_null(mem_readable(&mem, GPA(MEM_HOLE64_END - 1), 1));
    assert_non_null(mem_readable(&mem, GPA(MEM_HOLE64_END), 1));
    mem_destroy(&mem);
}

/* Host memory is contiguous across a hole; guest memory is not, and must not look so. */
static void test_mem_refuses_range_from_one_region_to_next(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, 5 * GIB, false);

    assert_null(mem_readable(&mem, GPA(2 * GIB), 3 * GIB));
    assert_null(mem_writable(&mem, GPA(0), 5 * GIB));
    mem_destroy(&mem);
}

static void test_mem_empty_range_must_still_start_in_ram(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, 2 * MIB, true);

    assert_non_null(mem_readable(&mem, GPA(0), 0));
    assert_ptr_equal(mem_writable(&mem, GPA(2 * MIB), 0), mem.region[0].hva + 2 * MIB);
    assert_null(mem_readable(&mem, GPA(2 * MIB + 1), 0));
    assert_int_equal(count_dirty(&mem.region[0]), 0);
    mem_destroy(&mem);
}

/* ---- copying ---- */

static void test_mem_write_then_read_gives_same_bytes(void **state)
{
    static const char words[] = "a page boundary lies in here";
    struct mem mem;
    char back[sizeof(words)];

    (void)state;
    create(&mem, 5 * GIB, false);

    assert_int_equal(mem_write(&mem, GPA(4 * GIB + PAGE_SIZE - 10), words, sizeof(words)), 0);
    assert_int_equal(mem_read(&mem, GPA(4 * GIB + PAGE_SIZE - 10), back, sizeof(back)), 0);

    assert_string_equal(back, words);
    assert_memory_equal(mem.region[1].hva + PAGE_SIZE - 10, words, sizeof(words));
    mem_destroy(&mem);
}

static void test_mem_copies_of_bad_range_move_nothing(void **state)
{
    struct mem mem;
    char buffer[8] = "before!";

    (void)state;
    create(&mem, 2 * MIB, true);

    assert_int_equal(mem_read(&mem, GPA(2 * MIB - 4), buffer, sizeof(buffer)), -EFAULT);
    assert_string_equal(buffer, "before!");
    assert_int_equal(mem_write(&mem, GPA(2 * MIB - 4), buffer, sizeof(buffer)), -EFAULT);
    assert_memory_equal(mem.region[0].hva + 2 * MIB - 4, "\0\0\0\0", 4);
    assert_int_equal(count_dirty(&mem.region[0]), 0);
    mem_destroy(&mem);
}

/* ---- dirty pages ---- */

static void test_mem_writable_marks_exactly_touched_pages(void **state)
{
    static const struct {
        uint64_t offset, len, first, last;
    } cases[] = {
        {0, 1, 0, 0},
        {PAGE_SIZE - 1, 1, 0, 0},
        {PAGE_SIZE - 1, 2, 0, 1},
        {5 * PAGE_SIZE, PAGE_SIZE, 5, 5},
        {5 * PAGE_SIZE, PAGE_SIZE + 1, 5, 6},
        {63 * PAGE_SIZE, 2 * PAGE_SIZE, 63, 64},        /* two words of the bitmap */
        {10 * PAGE_SIZE + 1, 200 * PAGE_SIZE, 10, 210}, /* whole words between them */
        {4 * MIB - 1, 1, 4 * MIB / PAGE_SIZE - 1, 4 * MIB / PAGE_SIZE - 1},
        {0, 4 * MIB, 0, 4 * MIB / PAGE_SIZE - 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct mem mem;

        create(&mem, 4 * MIB, true);
        assert_non_null(mem_writable(&mem, GPA(cases[i].offset), cases[i].len));
        for (uint64_t page = 0; page < 4 * MIB / PAGE_SIZE; page++)
            assert_int_equal(is_dirty(&mem.region[0], page),
                             page >= cases[i].first && page <= cases[i].last);
        mem_destroy(&mem);
    }
}

static void test_mem_dirty_pages_are_kept_per_region(void **state)
{
    struct mem mem;

    (void)state;
    create(&mem, MEM_HOLE32_START + MIB, true);

    assert_int_equal(mem_write(&mem, GPA(MEM_HOLE32_END + 7 * PAGE_SIZE), "x", 1), 0);

    assert_int_equal(count_dirty(&mem.region[0]), 0);
    assert_int_equal(count_dirty(&mem.region[1]), 1);
    assert_true(is_dirty(&mem.region[1], 7));
    mem_destroy(&mem);
}

static void test_mem_reading_marks_nothing(void **state)
{
    struct mem mem;
    uint64_t value;

    (void)state;
    create(&mem, 2 * MIB, true);

    assert_non_null(mem_readable(&mem, GPA(0), 2 * MIB));
    assert_int_equal(mem_read(&mem, GPA(64), &value, sizeof(value)), 0);

    assert_int_equal(count_dirty(&mem.region[0]), 0);
    mem_destroy(&mem);
}

/* ---- regions of devices ---- */

#define BLOCK_SHIFT 21
#define BLOCK       (UINT64_C(1) << BLOCK_SHIFT)

/* RAM of 2 MiB, and above it a region of `size` bytes as a device would add it. */
static gpa_t create_with_region(struct mem *mem, bool track_dirty, struct mem_region region)
{
    create(mem, 2 * MIB, track_dirty);
    region.gpa = mem_device_base(mem, 2 * MIB);
    assert_int_equal(mem_add_region(mem, &region, NULL), 0);
    return region.gpa;
}

static void test_mem_device_base_is_above_all_that_is_there(void **state)
{
    static uint8_t file[4096];
    struct mem mem;

    (void)state;
    create(&mem, 2 * MIB, false);
    assert_int_equal(mem_end(&mem), 2 * MIB);
    assert_int_equal(mem_device_base(&mem, 2 * MIB).v, 512 * GIB);
    assert_int_equal(
        mem_add_region(
            &mem,
            &(struct mem_region){.gpa = GPA(512 * GIB), .size = 6 * MIB, .hva = file, .fd = -1},
            NULL),
        0);
    assert_int_equal(mem_device_base(&mem, 2 * MIB).v, 512 * GIB + 6 * MIB);
    assert_int_equal(mem_device_base(&mem, 2 * GIB).v, 514 * GIB);
    assert_int_equal(mem_end(&mem), 512 * GIB + 6 * MIB);
    mem_destroy(&mem);

    create(&mem, ABOVE_BOTH_HOLES, false);
    assert_int_equal(mem_device_base(&mem, 2 * MIB).v, 557 * GIB);
    assert_int_equal(mem_end(&mem), 557 * GIB);
    mem_destroy(&mem);
}

static void test_mem_translates_a_region_of_a_device_until_it_is_removed(void **state)
{
    static uint8_t file[8192];
    struct mem mem;
    gpa_t gpa;

    (void)state;
    gpa = create_with_region(&mem, true, (struct mem_region){.size = 8192, .hva = file, .fd = -1});

    assert_ptr_equal(mem_readable(&mem, gpa, 8192), file);
    assert_ptr_equal(mem_writable(&mem, gpa_add(gpa, 4096), 4096), file + 4096);
    assert_null(mem_readable(&mem, gpa, 8193));
    assert_null(mem_readable(&mem, GPA(gpa.v - 1), 2));
    assert_null(mem_readable(&mem, gpa_add(gpa, 8192), 1));
    assert_null(mem.device[0].dirty); /* a file is its own copy */
    assert_int_equal(mem_size(&mem), 2 * MIB);

    mem_remove_region(&mem, gpa);
    assert_null(mem_readable(&mem, gpa, 1));
    mem_remove_region(&mem, gpa);
    assert_int_equal(mem.device_count, 0);
    mem_destroy(&mem);
}

static void test_mem_read_only_region_is_not_writable(void **state)
{
    static uint8_t file[4096];
    struct mem mem;
    gpa_t gpa;

    (void)state;
    gpa = create_with_region(
        &mem, false, (struct mem_region){.size = 4096, .hva = file, .fd = -1, .read_only = true});

    assert_ptr_equal(mem_readable(&mem, gpa, 4096), file);
    assert_null(mem_writable(&mem, gpa, 1));
    assert_int_equal(mem_write(&mem, gpa, "x", 1), -EFAULT);
    mem_destroy(&mem);
}

/* Of eight blocks the second, third and last are there. */
static void test_mem_reaches_plugged_blocks_and_no_others(void **state)
{
    uint64_t plugged = 0x86;
    struct mem mem;
    gpa_t gpa;
    uint8_t *hva = (uint8_t *)(uintptr_t)(64 * BLOCK); /* never touched */

    (void)state;
    gpa = create_with_region(&mem, true,
                             (struct mem_region){.size = 8 * BLOCK,
                                                 .hva = hva,
                                                 .fd = -1,
                                                 .plugged = &plugged,
                                                 .block_shift = BLOCK_SHIFT});

    assert_ptr_equal(mem_readable(&mem, gpa_add(gpa, BLOCK), 2 * BLOCK), hva + BLOCK);
    assert_ptr_equal(mem_readable(&mem, gpa_add(gpa, 8 * BLOCK - 1), 1), hva + 8 * BLOCK - 1);
    assert_null(mem_readable(&mem, gpa, 1));
    assert_null(mem_readable(&mem, gpa_add(gpa, BLOCK - 1), 2));
    assert_null(mem_readable(&mem, gpa_add(gpa, 2 * BLOCK), BLOCK + 1));
    assert_null(mem_readable(&mem, gpa_add(gpa, BLOCK), 7 * BLOCK)); /* both ends, not the middle */
    assert_null(mem_readable(&mem, gpa_add(gpa, 7 * BLOCK), BLOCK + 1));
    assert_null(mem_readable(&mem, gpa_add(gpa, 8 * BLOCK), 0)); /* the end is in no block */
    assert_null(mem_writable(&mem, gpa_add(gpa, 3 * BLOCK), 1));

    assert_non_null(mem_writable(&mem, gpa_add(gpa, 2 * BLOCK), 1));
    assert_int_equal(count_dirty(&mem.device[0]), 1);
    assert_true(is_dirty(&mem.device[0], 2 * BLOCK / PAGE_SIZE));
    plugged = 0;
    assert_null(mem_readable(&mem, gpa_add(gpa, BLOCK), 1));
    mem_destroy(&mem);
}

static void test_mem_refuses_regions_beyond_any_address_and_more_than_it_has_room_for(void **state)
{
    static uint8_t file[4096];
    struct mem_region region = {.size = UINT64_C(1) << 46, .hva = file, .fd = -1};
    struct mem mem;
    struct err e;

    (void)state;
    create(&mem, 2 * MIB, false);
    region.gpa = mem_device_base(&mem, 2 * MIB);
    assert_int_equal(mem_add_region(&mem, &region, &e), -ENOSPC);
    region.size = 4096;
    for (int i = 0; i < MEM_DEVICE_REGIONS_MAX; i++) {
        region.gpa = mem_device_base(&mem, 2 * MIB);
        assert_int_equal(mem_add_region(&mem, &region, &e), 0);
    }
    region.gpa = mem_device_base(&mem, 2 * MIB);
    assert_int_equal(mem_add_region(&mem, &region, &e), -ENOSPC);
    mem_destroy(&mem);
}

/* ---- discarding ---- */

/* Pages of [at, at+len) that take memory of the host. */
static unsigned count_resident(void *at, uint64_t len)
{
    unsigned char seen[64] = {0};
    unsigned count = 0;

    assert_true(len / PAGE_SIZE <= sizeof(seen));
    assert_int_equal(mincore(at, len, seen), 0);
    for (uint64_t page = 0; page < len / PAGE_SIZE; page++)
        count += seen[page] & 1;
    return count;
}

static bool holds(const uint8_t *at, uint64_t len, uint8_t value)
{
    while (len-- > 0)
        if (*at++ != value)
            return false;
    return true;
}

/* Eight pages of `mem` at 1 MiB, filled; the two in the middle are discarded. */
static uint8_t *discard_middle(struct mem *mem)
{
    uint8_t *at = mem_writable(mem, GPA(MIB), 8 * PAGE_SIZE);

    assert_non_null(at);
    memset(at, 0x5a, 8 * PAGE_SIZE);
    assert_int_equal(mem_discard(mem, at + 3 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
    return at;
}

static void expect_middle_gone(const uint8_t *at)
{
    assert_true(holds(at, 3 * PAGE_SIZE, 0x5a));
    assert_true(holds(at + 3 * PAGE_SIZE, 2 * PAGE_SIZE, 0));
    assert_true(holds(at + 5 * PAGE_SIZE, 3 * PAGE_SIZE, 0x5a));
}

static void test_mem_discard_gives_pages_back_and_they_read_as_zeroes(void **state)
{
    struct mem mem;
    uint8_t *at;

    (void)state;
    create(&mem, 4 * MIB, false);
    madvise(mem.map, mem.map_size, MADV_NOHUGEPAGE); /* or mincore sees all of a huge page */
    at = discard_middle(&mem);

    assert_int_equal(count_resident(at, 8 * PAGE_SIZE), 6);
    expect_middle_gone(at);
    at[3 * PAGE_SIZE] = 1;
    assert_int_equal(at[3 * PAGE_SIZE], 1);
    mem_destroy(&mem);
}

static void test_mem_discard_takes_whole_pages_only(void **state)
{
    struct mem mem;
    uint8_t *at;

    (void)state;
    create(&mem, 4 * MIB, false);
    at = mem_writable(&mem, GPA(0), 4 * PAGE_SIZE);
    memset(at, 0x5a, 4 * PAGE_SIZE);

    assert_int_equal(mem_discard(&mem, at + 1, 3 * PAGE_SIZE - 2), 0);
    assert_true(holds(at, PAGE_SIZE, 0x5a));
    assert_true(holds(at + PAGE_SIZE, PAGE_SIZE, 0));
    assert_true(holds(at + 2 * PAGE_SIZE, 2 * PAGE_SIZE, 0x5a));
    assert_int_equal(mem_discard(&mem, at + 100, PAGE_SIZE - 100), 0);
    assert_int_equal(mem_discard(&mem, at, PAGE_SIZE - 1), 0);
    assert_int_equal(mem_discard(&mem, at, 0), 0);
    assert_true(holds(at, PAGE_SIZE, 0x5a));

    mem.pages = MEM_PAGES_HUGETLB_2M;
    assert_int_equal(mem_discard(&mem, at, 2 * MIB - PAGE_SIZE), 0);
    assert_true(holds(at, PAGE_SIZE, 0x5a));
    mem_destroy(&mem);
}

static void test_mem_discard_of_shared_memory_frees_the_file(void **state)
{
    struct mem mem;
    struct stat st;
    uint8_t *at, *other;

    (void)state;
    assert_int_equal(mem_create_shared(&mem, 4 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    other = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
    assert_true(other != MAP_FAILED);
    at = discard_middle(&mem);

    assert_int_equal(fstat(mem.fd, &st), 0);
    assert_int_equal(st.st_blocks, 6 * PAGE_SIZE / 512);
    expect_middle_gone(at);
    expect_middle_gone(other + MIB);
    munmap(other, 4 * MIB);
    mem_destroy(&mem);
}

static void test_mem_discard_of_a_files_copy_does_not_bring_the_file_back(void **state)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    static uint8_t saved[2 * MIB];
    struct mem mem;
    uint8_t *at;

    (void)state;
    memset(saved, 0x77, sizeof(saved));
    assert_int_equal(write(fd, saved, sizeof(saved)), sizeof(saved));
    create(&mem, 2 * MIB, false);
    at = mmap(mem.region[0].hva, 2 * MIB, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE, fd, 0);
    assert_true(at != MAP_FAILED);
    mem.region[0].backing = MEM_FILE_COPY;
    at = discard_middle(&mem);

    expect_middle_gone(at);
    assert_true(holds(at + 8 * PAGE_SIZE, PAGE_SIZE, 0x77));
    at[4 * PAGE_SIZE] = 1; /* it is memory like any other */
    assert_int_equal(at[4 * PAGE_SIZE], 1);
    mem_destroy(&mem);
    close(fd);
}

static void test_mem_discard_refuses_what_is_not_memory_of_one_region(void **state)
{
    static uint8_t file[2 * MIB] __attribute__((aligned(PAGE_SIZE)));
    struct mem_region region = {.gpa = GPA(512 * GIB), .size = sizeof(file), .hva = file, .fd = -1};
    struct mem mem;
    uint8_t *at;

    (void)state;
    create(&mem, 4 * MIB, false);
    at = mem_writable(&mem, GPA(0), 4 * MIB);

    assert_int_equal(mem_discard(&mem, at + 4 * MIB - PAGE_SIZE, 2 * PAGE_SIZE), -EACCES);
    assert_int_equal(mem_discard(&mem, at - PAGE_SIZE, PAGE_SIZE), -EACCES);
    assert_int_equal(mem_discard(&mem, at, UINT64_MAX), -EACCES);

    file[0] = 0x5a;
    assert_int_equal(mem_add_region(&mem, &region, NULL), 0);
    assert_int_equal(mem_discard(&mem, file, PAGE_SIZE), -EACCES);
    assert_int_equal(file[0], 0x5a);
    mem_destroy(&mem);
}

static void test_mem_discard_reaches_memory_that_can_be_plugged(void **state)
{
    static const uint64_t plugged = 1;
    struct mem_region region = {
        .gpa = GPA(512 * GIB), .size = 2 * MIB, .plugged = &plugged, .block_shift = 21, .fd = -1};
    struct mem mem;

    (void)state;
    create(&mem, 4 * MIB, false);
    region.hva =
        mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(region.hva != MAP_FAILED);
    region.hva[PAGE_SIZE] = 0x5a;
    assert_int_equal(mem_add_region(&mem, &region, NULL), 0);

    assert_int_equal(mem_discard(&mem, region.hva, 2 * MIB), 0);
    assert_int_equal(region.hva[PAGE_SIZE], 0);
    mem_destroy(&mem);
    munmap(region.hva, region.size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mem_create_small_is_one_zeroed_region_at_zero),
        cmocka_unit_test(test_mem_create_up_to_first_hole_stays_one_region),
        cmocka_unit_test(test_mem_create_one_mib_more_goes_above_first_hole),
        cmocka_unit_test(test_mem_create_large_goes_around_both_holes),
        cmocka_unit_test(test_mem_regions_follow_each_other_in_aligned_mapping),
        cmocka_unit_test(test_mem_create_with_transparent_huge_pages_is_usable),
        cmocka_unit_test(test_mem_create_shared_is_seen_by_whoever_maps_the_file),
        cmocka_unit_test(test_mem_create_shared_cannot_be_cut_short_by_another_process),
        cmocka_unit_test(test_mem_create_from_file_shows_it_and_keeps_writes_to_itself),
        cmocka_unit_test(test_mem_create_from_file_continues_behind_hole_where_the_file_does),
        cmocka_unit_test(test_mem_create_from_file_of_another_kind_or_size_is_refused),
        cmocka_unit_test(test_mem_create_shared_beyond_the_limit_of_file_sizes_is_refused),
        cmocka_unit_test(test_mem_create_without_a_free_huge_page_is_refused_and_says_so),
        cmocka_unit_test(test_mem_create_refuses_sizes_no_host_has),
        cmocka_unit_test(test_mem_destroy_accepts_zeroed_and_twice),
        cmocka_unit_test(test_mem_translates_whole_region_and_its_last_byte),
        cmocka_unit_test(test_mem_refuses_range_past_end),
        cmocka_unit_test(test_mem_refuses_range_that_overflows),
        cmocka_unit_test(test_mem_refuses_holes_and_what_reaches_into_them),
        cmocka_unit_test(test_mem_refuses_range_from_one_region_to_next),
        cmocka_unit_test(test_mem_empty_range_must_still_start_in_ram),
        cmocka_unit_test(test_mem_write_then_read_gives_same_bytes),
        cmocka_unit_test(test_mem_copies_of_bad_range_move_nothing),
        cmocka_unit_test(test_mem_writable_marks_exactly_touched_pages),
        cmocka_unit_test(test_mem_dirty_pages_are_kept_per_region),
        cmocka_unit_test(test_mem_reading_marks_nothing),
        cmocka_unit_test(test_mem_device_base_is_above_all_that_is_there),
        cmocka_unit_test(test_mem_translates_a_region_of_a_device_until_it_is_removed),
        cmocka_unit_test(test_mem_read_only_region_is_not_writable),
        cmocka_unit_test(test_mem_reaches_plugged_blocks_and_no_others),
        cmocka_unit_test(test_mem_refuses_regions_beyond_any_address_and_more_than_it_has_room_for),

        cmocka_unit_test(test_mem_discard_gives_pages_back_and_they_read_as_zeroes),
        cmocka_unit_test(test_mem_discard_takes_whole_pages_only),
        cmocka_unit_test(test_mem_discard_of_shared_memory_frees_the_file),
        cmocka_unit_test(test_mem_discard_of_a_files_copy_does_not_bring_the_file_back),
        cmocka_unit_test(test_mem_discard_refuses_what_is_not_memory_of_one_region),
        cmocka_unit_test(test_mem_discard_reaches_memory_that_can_be_plugged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
