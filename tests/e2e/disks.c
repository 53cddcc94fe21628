/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of real guests: that what is written is what is read, on both sides, whatever happens. */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/gpt.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

/* A guest with one disk of holes, /dev/vda. */
static struct vm *vm_with_disk(const char *path, const char *more)
{
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "d", path, more);
    linux_boot(vm);
    return vm;
}

static void writes_arrive(const char *more)
{
    const char *disk = disk_new("disk", 8);
    struct vm *vm = vm_with_disk(disk, more);
    ask(vm, "write vda 16384 7");
    ask(vm, "flush vda");
    disk_holds(disk, 0, 16384, 7);
    ask(vm, "verify vda 16384 7");
    ask(vm, "write vda 100 8 5001"); /* neither aligned to a page nor to a request */
    disk_holds(disk, 5001, 100, 8);
    disk_holds(disk, 5101, 1000, 7);
    disk_holds(disk, 4000, 1001, 7);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
    disk_holds(disk, 5001, 100, 8);
}

E2E(what_a_guest_writes_the_host_reads, LINUX | INTEL | SANITIZER)
{
    writes_arrive("");
}

E2E(what_a_guest_writes_by_the_async_engine_the_host_reads, LINUX | SANITIZER)
{
    writes_arrive(",\"io_engine\":\"Async\"");
}

E2E(what_a_guest_writes_and_flushes_through_a_writeback_cache_the_host_reads, LINUX)
{
    writes_arrive(",\"cache_type\":\"Writeback\"");
}

E2E(what_the_host_wrote_a_guest_reads, LINUX | INTEL)
{
    const char *disk = disk_new("disk", 8);
    disk_fill(disk, 0, 16384, 21);
    struct vm *vm = vm_with_disk(disk, "");
    ask(vm, "verify vda 16384 21");
}

E2E(flushes_are_offered_only_with_a_writeback_cache, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "a", disk_new("a", 1), "");
    linux_drive(vm, "b", disk_new("b", 1), ",\"cache_type\":\"Writeback\"");
    linux_boot(vm);
    CHECK_HAS(disk_line(vm, "vda"), "cache=write-through");
    CHECK_HAS(disk_line(vm, "vdb"), "cache=write-back");
}

E2E(a_megabyte_is_few_requests, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_metrics(vm);
    linux_drive(vm, "d", disk_new("disk", 8), "");
    linux_boot(vm);
    CHECK(number_of(disk_line(vm, "vda"), "segments") >= 64);
    long long before = vm_counted(vm, "block", "read_count");
    ask(vm, "sum vda"); /* 8 MiB in direct reads of 64 KiB */
    long long requests = vm_counted(vm, "block", "read_count") - before;
    if (requests < 8 || requests > 8 * 20)
        FAIL("8 MiB took %lld requests", requests);
}

E2E(a_read_only_disk_refuses_writes_and_stays_as_it_was, LINUX | INTEL)
{
    const char *disk = disk_new("disk", 1);
    disk_fill(disk, 0, SECTORS_PER_MIB, 3);
    struct vm *vm = vm_with_disk(disk, ",\"is_read_only\":true");
    CHECK_INT(number_of(disk_line(vm, "vda"), "ro"), 1);
    ask(vm, "verify vda 2048 3");
    ask_failing(vm, "write vda 8 4");
    disk_holds(disk, 0, SECTORS_PER_MIB, 3);
}

E2E(two_disks_keep_to_themselves, LINUX | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    const char *a = disk_new("a", 2), *b = disk_new("b", 4);
    linux_drive(vm, "first", a, "");
    linux_drive(vm, "second", b, "");
    linux_boot(vm);
    CHECK_INT(number_of(disk_line(vm, "vda"), "sectors"), 2 * SECTORS_PER_MIB);
    CHECK_INT(number_of(disk_line(vm, "vdb"), "sectors"), 4 * SECTORS_PER_MIB);
    ask(vm, "write vda 4096 1");
    ask(vm, "write vdb 8192 2");
    ask(vm, "verify vda 4096 1");
    ask(vm, "verify vdb 8192 2");
    disk_holds(a, 0, 4096, 1);
    disk_holds(b, 0, 8192, 2);
}

E2E(the_root_drive_is_the_first_disk_whenever_it_was_configured, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 128);
    linux_drive(vm, "data", disk_new("data", 3), "");
    vm_put(vm, "/drives/root",
           "{\"drive_id\":\"root\",\"is_root_device\":true,\"is_read_only\":true,"
           "\"path_on_host\":\"%s\"}",
           e2e_guest(TEST_ROOT));
    linux_start(vm, REFERENCE_ELF, NULL, "");
    CHECK_INT(number_of(disk_line(vm, "vda"), "ro"), 1);
    CHECK_INT(number_of(disk_line(vm, "vdb"), "sectors"), 3 * SECTORS_PER_MIB);
}

E2E(a_root_drive_is_found_by_the_partuuid_of_a_gpt, LINUX)
{
    struct vm *vm = vm_new(NULL);
    const char *disk = e2e_path("gpt");
    const char *partuuid = gpt_make_disk(disk, e2e_guest(TEST_ROOT));
    linux_machine(vm, 1, 192);
    vm_put(vm, "/drives/root",
           "{\"drive_id\":\"root\",\"is_root_device\":true,\"partuuid\":\"%s\","
           "\"path_on_host\":\"%s\"}",
           partuuid, disk);
    linux_start(vm, FULL_ELF, NULL, "");
    CHECK_HAS(ask(vm, "cmdline"), partuuid);
    CHECK_HAS(ask(vm, "cat /proc/mounts"), "/dev/root / ext4 rw");
}

E2E(the_serial_number_of_a_disk_is_its_files_identity, LINUX | INTEL)
{
    const char *disk = disk_new("disk", 1);
    struct stat st;
    CHECK_INT(stat(disk, &st), 0);
    char *id = text_format("%llu%llu%llu", (unsigned long long)st.st_dev,
                           (unsigned long long)st.st_rdev, (unsigned long long)st.st_ino);
    id[strlen(id) < 20 ? strlen(id) : 20] = '\0';
    char *serial = text_format("serial=%s ", id);
    struct vm *vm = vm_with_disk(disk, "");
    CHECK_HAS(text_format("%s ", disk_line(vm, "vda")), serial);
}

E2E(a_trailing_part_of_a_sector_is_left_out, LINUX)
{
    const char *disk = e2e_path("odd");
    CHECK_INT(files_make_sparse(disk, 10 * 512 + 100), 0);
    struct vm *vm = vm_with_disk(disk, "");
    CHECK_INT(number_of(disk_line(vm, "vda"), "sectors"), 10);
}

E2E(a_disk_of_length_zero_is_a_disk_of_no_sectors, LINUX)
{
    struct vm *vm = vm_with_disk(disk_new("none", 0), "");
    CHECK_INT(number_of(disk_line(vm, "vda"), "sectors"), 0);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

/* ---- discard --------------------------------------------------------------------------------- */

static long long allocated(const char *path)
{
    struct stat st;
    CHECK_INT(stat(path, &st), 0);
    return st.st_blocks * 512LL;
}

E2E(discarded_sectors_are_given_back_to_the_host, LINUX)
{
    const char *disk = disk_new("disk", 8);
    disk_fill(disk, 0, 8 * SECTORS_PER_MIB, 5);
    struct vm *vm = vm_with_disk(disk, ",\"discard\":true");
    CHECK(number_of(disk_line(vm, "vda"), "discard") > 0);
    long long before = allocated(disk);
    ask(vm, "discard vda 4096 8192");
    disk_holds(disk, 0, 4096, 5);
    CHECK(disk_is_zero(disk, 4096, 8192));
    disk_holds(disk, 12288, 4096, 5);
    CHECK(allocated(disk) <= before - 3 * MIB);
}

E2E(sectors_are_zeroed_without_their_bytes_being_sent, LINUX)
{
    const char *disk = disk_new("disk", 8);
    disk_fill(disk, 0, 8 * SECTORS_PER_MIB, 5);
    struct vm *vm = vm_with_disk(disk, ",\"discard\":true");
    CHECK(number_of(disk_line(vm, "vda"), "zeroes") > 0);
    ask(vm, "zeroes vda 1000 5000");
    disk_holds(disk, 0, 1000, 5);
    CHECK(disk_is_zero(disk, 1000, 5000));
    disk_holds(disk, 6000, 1000, 5);
}

E2E(discard_is_not_offered_unless_asked_for, LINUX)
{
    struct vm *vm = vm_with_disk(disk_new("disk", 1), "");
    CHECK_INT(number_of(disk_line(vm, "vda"), "discard"), 0);
}

/* ---- while it
 * runs ----------------------------------------------------------------------------- */

/* Waits until the guest sees the disk with this many sectors. */
static void must_become(struct vm *vm, const char *disk, unsigned long long sectors)
{
    int64_t deadline = clock_ms() + e2e_ms(10000);
    unsigned long long seen;
    while ((seen = number_of(disk_line(vm, disk), "sectors")) != sectors) {
        if (!clock_left(deadline))
            FAIL("the guest sees %llu sectors, not %llu", seen, sectors);
        ask(vm, "sleep 20");
    }
}

E2E(a_new_path_and_its_size_are_seen_by_the_running_guest, LINUX | INTEL)
{
    const char *small = disk_new("small", 1), *large = disk_new("large", 3);
    disk_fill(large, 0, 3 * SECTORS_PER_MIB, 9);
    struct vm *vm = vm_with_disk(small, "");
    ask(vm, "write vda 2048 1");
    vm_patch(vm, "/drives/d", "{\"drive_id\":\"d\",\"path_on_host\":\"%s\"}", large);
    must_become(vm, "vda", 3 * SECTORS_PER_MIB);
    ask(vm, "verify vda 6144 9");
    ask(vm, "write vda 100 2");
    disk_holds(large, 0, 100, 2);
    disk_holds(small, 0, 2048, 1);
}

E2E(a_file_that_has_grown_is_seen_after_its_path_is_given_again, LINUX)
{
    const char *disk = disk_new("disk", 1);
    struct vm *vm = vm_with_disk(disk, "");
    CHECK_INT(truncate(disk, 5 * MIB), 0);
    vm_patch(vm, "/drives/d", "{\"drive_id\":\"d\",\"path_on_host\":\"%s\"}", disk);
    must_become(vm, "vda", 5 * SECTORS_PER_MIB);
    ask(vm, "write vda 10240 4");
    disk_holds(disk, 0, 10240, 4);
}

E2E(a_new_path_that_is_wrong_changes_nothing, LINUX)
{
    const char *disk = disk_new("disk", 1);
    struct vm *vm = vm_with_disk(disk, "");
    vm_refused(vm, "PATCH", "/drives/d", "No such file",
               "{\"drive_id\":\"d\",\"path_on_host\":\"%s\"}", e2e_path("missing"));
    ask(vm, "write vda 2048 6");
    disk_holds(disk, 0, 2048, 6);
}

E2E(a_file_cut_short_while_in_use_gives_the_guest_an_error_and_it_goes_on, LINUX | SANITIZER)
{
    const char *disk = disk_new("disk", 4);
    struct vm *vm = vm_with_disk(disk, "");
    ask(vm, "write vda 8192 1");
    CHECK_INT(truncate(disk, 2 * MIB), 0);
    ask_failing(vm, "verify vda 4096 1 4096");
    ask(vm, "verify vda 4096 1");
    CHECK(!strcmp(vm_state(vm), "Running"));
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(a_thousand_pauses_under_disk_load_lose_no_request, LINUX | SLOW)
{
    struct vm *vm = vm_with_disk(disk_new("disk", 4), "");
    ask(vm, "load vda on");
    for (unsigned i = 0; i < 1000; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
        if (i % 100 == 0)
            ask(vm, "load vda show");
    }
    const char *load = ask(vm, "load vda off");
    CHECK_INT(number_of(load, "bad"), 0);
    CHECK(number_of(load, "reads") > 0 && number_of(load, "writes") > 0);
}

E2E(fifty_pauses_under_disk_load_of_two_engines_lose_no_request, LINUX | SANITIZER | INTEL)
{
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "a", disk_new("a", 2), "");
    linux_drive(vm, "b", disk_new("b", 2), ",\"io_engine\":\"Async\"");
    linux_boot(vm);
    ask(vm, "load vda on");
    ask(vm, "load vdb on");
    for (unsigned i = 0; i < 50; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    }
    ask(vm, "sleep 100");
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
    CHECK_INT(number_of(ask(vm, "load vdb off"), "bad"), 0);
}

E2E(a_reset_under_disk_load_ends_cleanly, LINUX | SANITIZER)
{
    struct vm *vm = vm_with_disk(disk_new("disk", 4), ",\"io_engine\":\"Async\"");
    ask(vm, "load vda on");
    ask(vm, "sleep 50");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

static unsigned long long operations(struct vm *vm)
{
    const char *load = ask(vm, "load vdb show");
    return number_of(load, "reads") + number_of(load, "writes");
}

/* Waits until the second disk stands still; returns how much went through it. */
static unsigned long long operations_when_held(struct vm *vm)
{
    int64_t deadline = clock_ms() + e2e_ms(20000);
    unsigned long long before, after = 0;
    do {
        if (!clock_left(deadline))
            FAIL("nothing holds the disk back: %llu operations by now", after);
        before = after;
        ask(vm, "sleep 400");
        after = operations(vm);
    } while (!after || after != before);
    return after;
}

/* A bucket of 200 operations that takes an hour to refill: 200 go through and no more. */
E2E(a_rate_limiter_holds_the_disk_back_until_it_is_lifted, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "a", disk_new("a", 1), "");
    linux_drive(vm, "b", disk_new("b", 1),
                ",\"rate_limiter\":{\"ops\":{\"size\":200,\"refill_time\":3600000}}");
    linux_boot(vm);
    ask(vm, "load vdb on");
    unsigned long long before = operations_when_held(vm);
    /* The kernel's own look for partitions took a few. */
    if (before > 200 || before < 150)
        FAIL("%llu operations went through a bucket of 200", before);
    ask(vm, "write vda 2048 1"); /* the other disk is free */
    vm_patch(vm, "/drives/b",
             "{\"drive_id\":\"b\",\"rate_limiter\":{\"ops\":{\"size\":0,\"refill_time\":0}}}");
    int64_t deadline = clock_ms() + e2e_ms(10000);
    while (operations(vm) <= before + 200)
        if (!clock_left(deadline))
            FAIL("the disk is still held back after its limit was lifted");
    CHECK_INT(number_of(ask(vm, "load vdb off"), "bad"), 0);
}

E2E(a_limited_bandwidth_holds_the_disk_back, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "a", disk_new("a", 1), "");
    linux_drive(vm, "b", disk_new("b", 4),
                ",\"rate_limiter\":{\"bandwidth\":{\"size\":1048576,\"refill_time\":3600000}}");
    linux_boot(vm);
    ask(vm, "load vdb on");
    unsigned long long before = operations_when_held(vm);
    if (before > 257 || before < 200) /* blocks of 4 KiB */
        FAIL("%llu blocks of 4 KiB went through a bucket of 1 MiB", before);
}

/* ---- the driver lets go ---- */

E2E(a_driver_unbound_and_bound_again_finds_its_disk_as_it_was, LINUX | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "d", disk_new("d", 2), ",\"io_engine\":\"Async\"");
    linux_boot(vm);
    ask(vm, "write vda 4096 7");
    for (int i = 0; i < 3; i++) {
        ask(vm, "set /sys/bus/virtio/drivers/virtio_blk/unbind virtio0");
        CHECK(!strstr(ask(vm, "disks"), "vda"));
        ask(vm, "set /sys/bus/virtio/drivers/virtio_blk/bind virtio0");
        CHECK_INT(number_of(disk_line(vm, "vda"), "sectors"), 2 * SECTORS_PER_MIB);
        ask(vm, "verify vda 4096 7");
    }
}
