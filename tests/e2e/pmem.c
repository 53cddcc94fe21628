/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent memory in real guests: that its file is what both sides see, with and without a file
 * system, mapped by the guest's programs without a page cache (DAX), and as the root.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/hostile.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

static void add_pmem(struct vm *vm, const char *id, const char *path, const char *more)
{
    vm_put(vm, text_format("/pmem/%s", id), "{\"id\":\"%s\",\"path_on_host\":\"%s\"%s}", id, path,
           more);
}

/* The kernel that has the driver, with the test initramfs. */
static void boot(struct vm *vm)
{
    linux_machine(vm, 1, 128);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
}

/* A guest with one file of holes, /dev/pmem0. */
static struct vm *vm_with_pmem(const char *path, const char *more)
{
    struct vm *vm = vm_new(NULL);
    add_pmem(vm, "p", path, more);
    boot(vm);
    return vm;
}

/* A file with an ext4 file system that has room for a megabyte or two. */
static const char *file_system(const char *name)
{
    const char *path = e2e_path(name);
    CHECK_INT(files_copy(e2e_guest(TEST_ROOT), path), 0);
    return path;
}

static bool holds_text(const char *path, const char *text)
{
    struct text t = {0};
    CHECK_INT(text_read_file(&t, path), 0);
    bool found = memmem(t.data, t.len, text, strlen(text)) != NULL;
    text_free(&t);
    return found;
}

/* ---- as a disk ------------------------------------------------------------------------------- */

E2E(what_a_guest_writes_to_persistent_memory_the_host_reads, LINUX | INTEL | SANITIZER)
{
    const char *file = disk_new("p", 8);
    struct vm *vm = vm_with_pmem(file, "");
    CHECK_INT(number_of(disk_line(vm, "pmem0"), "sectors"), 8 * SECTORS_PER_MIB);
    ask(vm, "write pmem0 16384 7");
    ask(vm, "flush pmem0");
    disk_holds(file, 0, 16384, 7);
    disk_fill(file, 100, 50, 9); /* and the other way round, at once */
    ask(vm, "verify pmem0 50 9 100");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
    disk_holds(file, 150, 16384 - 150, 7);
}

E2E(persistent_memory_is_rounded_up_and_its_tail_is_not_kept, LINUX)
{
    const char *file = e2e_path("p");
    CHECK_INT(files_make_sparse(file, 3 * MIB + 4096), 0);
    struct vm *vm = vm_with_pmem(file, "");
    CHECK_INT(number_of(disk_line(vm, "pmem0"), "sectors"), 4 * SECTORS_PER_MIB);
    ask(vm, "write pmem0 8192 5");
    ask(vm, "verify pmem0 8192 5");
    struct stat st;
    CHECK_INT(stat(file, &st), 0);
    CHECK_INT(st.st_size, 3 * MIB + 4096);
    disk_holds(file, 0, 3 * SECTORS_PER_MIB + 8, 5);
}

E2E(several_persistent_memories_are_numbered_in_order, LINUX)
{
    struct vm *vm = vm_new(NULL);
    const char *file[3];
    for (unsigned i = 0; i < 3; i++) {
        file[i] = disk_new(text_format("p%u", i), 2 + 2 * i);
        add_pmem(vm, text_format("p%u", i), file[i], "");
    }
    boot(vm);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_INT(number_of(disk_line(vm, text_format("pmem%u", i)), "sectors"),
                  (2 + 2 * i) * SECTORS_PER_MIB);
        ask(vm, "write pmem%u 64 %u", i, 20 + i);
        ask(vm, "flush pmem%u", i);
        disk_holds(file[i], 0, 64, 20 + i);
    }
}

E2E(read_only_persistent_memory_is_shared_and_stays_as_it_was, LINUX)
{
    const char *file = disk_new("p", 4);
    disk_fill(file, 0, 4 * SECTORS_PER_MIB, 3);
    CHECK_INT(chmod(file, 0444), 0);
    struct vm *one = vm_with_pmem(file, ",\"read_only\":true");
    struct vm *two = vm_with_pmem(file, ",\"read_only\":true");
    ask(one, "verify pmem0 8192 3");
    ask(two, "verify pmem0 8192 3");
    disk_holds(file, 0, 4 * SECTORS_PER_MIB, 3);
}

/* ---- file systems without a page cache ------------------------------------------------------- */

E2E(a_dax_mapping_in_a_guest_is_the_hosts_file, LINUX | SANITIZER)
{
    const char *file = file_system("p");
    struct vm *vm = vm_with_pmem(file, "");
    ask(vm, "mount pmem0 /mnt ext4 dax=always");
    ask(vm, "mapwrite /mnt/data 1024 77");
    CHECK_INT(number_of(ask(vm, "dax /mnt/data"), "dax"), 1);
    ask(vm, "mapverify /mnt/data 1024 77");
    ask(vm, "umount /mnt");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);

    /* Another guest, another mapping: the file on the host has it all. */
    vm = vm_with_pmem(file, ",\"read_only\":true");
    ask(vm, "mount pmem0 /mnt ext4 ro");
    ask(vm, "mapverify /mnt/data 1024 77");
}

/* The requests of one device point into the memory of the other. */
E2E(direct_io_between_a_disk_and_a_dax_mapping, LINUX | SANITIZER)
{
    const char *file = file_system("p"), *disk = disk_new("disk", 2);
    disk_fill(disk, 0, 2 * SECTORS_PER_MIB, 41);
    struct vm *vm = vm_new(NULL);
    add_pmem(vm, "p", file, "");
    linux_drive(vm, "d", disk, "");
    boot(vm);
    ask(vm, "mount pmem0 /mnt ext4 dax=always");
    ask(vm, "mapdisk read vda /mnt/copy 1024");
    ask(vm, "mapverify /mnt/copy 1024 41");
    ask(vm, "mapwrite /mnt/copy 1024 42");
    ask(vm, "mapdisk write vda /mnt/copy 1024");
    ask(vm, "flush vda");
    disk_holds(disk, 0, 2048, 42);
}

E2E(a_root_on_persistent_memory_is_mounted_with_dax, LINUX)
{
    const char *file = file_system("root");
    struct vm *vm = vm_new(NULL);
    add_pmem(vm, "other", disk_new("other", 2), "");
    add_pmem(vm, "root", file, ",\"root_device\":true");
    linux_machine(vm, 1, 128);
    linux_start(vm, FULL_ELF, NULL, "rootflags=dax");
    CHECK_HAS(ask(vm, "cmdline"), "root=/dev/pmem1 rw");
    CHECK_HAS(ask(vm, "cat /proc/mounts"), "/dev/root / ext4 rw,");
    CHECK_INT(number_of(ask(vm, "dax /sbin/init"), "dax"), 1);
    ask(vm, "mapwrite /note 4 5");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
    CHECK(holds_text(file, "note"));
}

E2E(a_read_only_root_on_persistent_memory_is_shared_by_two_guests, LINUX)
{
    const char *file = file_system("root");
    CHECK_INT(chmod(file, 0444), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct vm *vm = vm_new(NULL);
        add_pmem(vm, "root", file, ",\"root_device\":true,\"read_only\":true");
        linux_machine(vm, 1, 128);
        linux_start(vm, FULL_ELF, NULL, "");
        CHECK_HAS(ask(vm, "cmdline"), "root=/dev/pmem0 ro");
        CHECK_HAS(ask(vm, "cat /proc/mounts"), "/dev/root / ext4 ro,");
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

/* The name of the guest's only pmem disk; NULL = it has none now. */
static const char *pmem_name(struct vm *vm)
{
    const char *line = strstr(ask(vm, "disks"), "pmem");
    return line ? strndup(line, strcspn(line, " ")) : NULL;
}

/* Linux makes the disk after the driver is bound, and numbers it anew. */
static const char *wait_for_pmem(struct vm *vm)
{
    int64_t deadline = clock_ms() + e2e_ms(10000);
    const char *name;
    while (!(name = pmem_name(vm))) {
        if (!clock_left(deadline))
            FAIL("no pmem disk comes back");
        process_pump(&vm->monitor.process, 50);
    }
    return name;
}

static const char *pmem_driver = "/sys/bus/virtio/drivers/virtio_pmem";

E2E(persistent_memory_works_again_when_its_driver_is_bound_again, LINUX | SANITIZER)
{
    const char *file = disk_new("p", 4);
    struct vm *vm = vm_with_pmem(file, "");
    ask(vm, "write pmem0 64 1");
    for (unsigned i = 0; i < 3; i++) {
        ask(vm, "set %s/unbind virtio0", pmem_driver);
        CHECK(pmem_name(vm) == NULL);
        ask(vm, "set %s/bind virtio0", pmem_driver);
        const char *name = wait_for_pmem(vm);
        ask(vm, "verify %s 64 %u", name, i + 1);
        ask(vm, "write %s 64 %u", name, i + 2);
        ask(vm, "flush %s", name);
        disk_holds(file, 0, 64, i + 2);
    }
}

E2E(pauses_while_a_guest_flushes_persistent_memory_lose_nothing, LINUX | SANITIZER)
{
    const char *file = disk_new("p", 8);
    struct vm *vm = vm_with_pmem(file, "");
    ask(vm, "load pmem0 on");
    for (unsigned i = 0; i < 20; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
        ask(vm, "flush pmem0");
    }
    const char *report = ask(vm, "load pmem0 off");
    CHECK_INT(number_of(report, "bad"), 0);
    CHECK(number_of(report, "writes") > 0);
}

/* A flush costs the length of the file: 8 MiB at 8 MiB a second. */
E2E(flushes_of_persistent_memory_wait_for_their_limiter, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_metrics(vm);
    add_pmem(vm, "p", disk_new("p", 8),
             ",\"rate_limiter\":{\"bandwidth\":{\"size\":8388608,\"refill_time\":1000}}");
    boot(vm);
    ask(vm, "flush pmem0"); /* what is in the bucket */
    int64_t began = clock_ms();
    ask(vm, "write pmem0 8 1");
    ask(vm, "flush pmem0");
    int64_t took = clock_ms() - began;
    if (took < 500 || took > e2e_ms(4000))
        FAIL("a flush over the limit took %lld ms", (long long)took);
    CHECK(vm_counted(vm, "pmem_p", "rate_limiter_throttled_events") > 0);
    CHECK_INT(vm_counted(vm, "pmem", "queue_event_count"),
              vm_counted(vm, "pmem_p", "queue_event_count"));

    vm_patch(vm, "/pmem/p",
             "{\"id\":\"p\",\"rate_limiter\":{\"bandwidth\":{\"size\":0,\"refill_time\":0}}}");
    began = clock_ms();
    for (unsigned i = 0; i < 5; i++) {
        ask(vm, "write pmem0 8 %u", i);
        ask(vm, "flush pmem0");
    }
    took = clock_ms() - began;
    if (took > e2e_ms(2000))
        FAIL("five flushes without a limit took %lld ms", (long long)took);
}

/* ---- wrong ----------------------------------------------------------------------------------- */

E2E(a_start_with_an_empty_or_missing_persistent_file_fails_and_can_be_corrected, LINUX)
{
    struct vm *vm = vm_new(NULL);
    const char *file = e2e_path("p");
    add_pmem(vm, "p", file, "");
    vm_put(vm, "/boot-source", "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\"}",
           e2e_guest(FULL_ELF), e2e_guest(TEST_INITRD));
    vm_refused(vm, "PUT", "/actions",
               "Start microvm error: Cannot create pmem device: Error accessing backing file: No "
               "such file or directory (os error 2)",
               "{\"action_type\":\"InstanceStart\"}");
    CHECK_INT(files_make_sparse(file, 0), 0);
    vm_refused(vm, "PUT", "/actions",
               "Start microvm error: Cannot create pmem device: Error backing file size is 0",
               "{\"action_type\":\"InstanceStart\"}");
    CHECK_INT(files_make_sparse(file, 2 * MIB), 0);
    boot(vm);
    ask(vm, "write pmem0 8 1");
}

E2E(flushes_fail_when_the_persistent_file_was_cut_short, LINUX)
{
    const char *file = disk_new("p", 8);
    struct vm *vm = vm_with_pmem(file, "");
    ask(vm, "write pmem0 8 1");
    ask(vm, "flush pmem0");
    CHECK_INT(truncate(file, 4096), 0);
    CHECK_HAS(ask_failing(vm, "flush pmem0"), "Input/output error");
    CHECK_HAS(vm_log(vm), "is shorter than it was");
    CHECK_INT(truncate(file, 8 * MIB), 0);
    ask(vm, "flush pmem0");
}

static void add_victim(struct vm *vm)
{
    add_pmem(vm, "victim", disk_new("victim", 2), "");
}

E2E(a_hostile_driver_of_persistent_memory_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    hostile_driver(add_victim, 1, 0, 20);
}
