/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory plugged into real guests and unplugged again: that the guest has it, under load, and that
 * what it gives back is the host's again, by the host's own accounting.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/e2e/hostile.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/text.h"
#include "tests/support/vhost_server.h"

#include <stdlib.h>
#include <string.h>

enum { ACT_MS = 60000, POLL_MS = 50, RAM_MIB = 256, TOTAL_MIB = 1024 };

/* ---- the host's view ------------------------------------------------------------------------- */

static unsigned status_of(struct vm *vm, const char *name)
{
    json_t *status = vm_get(vm, "/hotplug/memory");
    json_t *value = json_object_get(status, name);
    if (!json_is_integer(value))
        FAIL("GET /hotplug/memory tells no %s", name);
    unsigned number = (unsigned)json_integer_value(value);
    json_decref(status);
    return number;
}

/* Asks for a size and waits until the guest has plugged or unplugged as much. */
static void resize(struct vm *vm, unsigned mib)
{
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    vm_patch(vm, "/hotplug/memory", "{\"requested_size_mib\":%u}", mib);
    CHECK_INT(status_of(vm, "requested_size_mib"), mib);
    while (status_of(vm, "plugged_size_mib") != mib) {
        if (!clock_left(deadline))
            FAIL("%u MiB are plugged, not %u", status_of(vm, "plugged_size_mib"), mib);
        process_pump(&vm->monitor.process, POLL_MS);
    }
}

/* ---- the guest's ----------------------------------------------------------------------------- */

static unsigned total_mib(struct vm *vm)
{
    return (unsigned)(number_of(ask(vm, "meminfo MemTotal"), "kib") / 1024);
}

static struct vm *hotplug_vm(const char *members)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%u%s}", TOTAL_MIB, members);
    linux_machine(vm, 1, RAM_MIB);
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    return vm;
}

/* Waits until the guest counts about so much memory: blocks come into use one by one after they are
 * plugged, and the kernel keeps a little for itself. */
static void expect_total(struct vm *vm, unsigned expected)
{
    unsigned slack = 8 + expected / 50, mib;
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    while ((mib = total_mib(vm)) + slack < expected || mib > expected + slack) {
        if (!clock_left(deadline))
            FAIL("the guest counts %u MiB, expected about %u", mib, expected);
        process_pump(&vm->monitor.process, POLL_MS);
    }
}

/* ---- plug and unplug ------------------------------------------------------------------------- */

E2E(a_guest_has_the_memory_that_is_plugged_and_gives_it_back, LINUX | SANITIZER)
{
    struct vm *vm = hotplug_vm("");
    unsigned before = total_mib(vm);
    CHECK_INT(status_of(vm, "plugged_size_mib"), 0);
    resize(vm, 512);
    expect_total(vm, before + 512);
    ask(vm, "touch %u", before + 256); /* more than there was */
    resize(vm, 0);
    expect_total(vm, before);
    ask(vm, "touch 64");
}

E2E(memory_that_is_unplugged_is_the_hosts_again, LINUX | INTEL | SANITIZER)
{
    struct vm *vm = hotplug_vm("");
    resize(vm, 512);
    unsigned idle = vm_taken_mib(vm);
    ask(vm, "touch 512");
    unsigned used = vm_taken_mib(vm);
    if (used < 450)
        FAIL("the guest has used 512 MiB, but the monitor takes %u", used);
    resize(vm, 0);
    unsigned after = vm_taken_mib(vm);
    if (after > RAM_MIB + 30)
        FAIL("nothing is plugged, but the monitor takes %u MiB (idle %u, in use %u)", after, idle,
             used);
}

E2E(memory_comes_and_goes_under_load, LINUX | SANITIZER | SLOW)
{
    struct vm *vm = hotplug_vm("");
    unsigned before = total_mib(vm);
    ask(vm, "hold 60");
    for (unsigned i = 0; i < 4; i++) {
        resize(vm, 256);
        expect_total(vm, before + 256);
        ask(vm, "touch 120");
        resize(vm, 64);
    }
    const char *report = ask(vm, "hold 0");
    CHECK_INT(number_of(report, "bad"), 0);
    CHECK(number_of(report, "rounds") > 1);
    resize(vm, 0);
    resize(vm, TOTAL_MIB);
    expect_total(vm, before + TOTAL_MIB);
}

E2E(memory_is_plugged_in_larger_blocks, LINUX)
{
    struct vm *vm = hotplug_vm(",\"block_size_mib\":64,\"slot_size_mib\":256");
    unsigned before = total_mib(vm);
    vm_refused(vm, "PATCH", "/hotplug/memory",
               "Memory hotplug update error: Failed to create memory hotplug device: Size 2097152 "
               "is invalid: it must be a multiple of block size and less than the total size",
               "{\"requested_size_mib\":2}");
    resize(vm, 192);
    expect_total(vm, before + 192);
    resize(vm, 0);
}

/* ---- huge pages ------------------------------------------------------------------------------ */

static unsigned huge_pages_free(void)
{
    struct text t = {0};
    CHECK_INT(text_read_file(&t, "/proc/meminfo"), 0);
    const char *line = strstr(t.data, "HugePages_Free:");
    unsigned count = line ? (unsigned)strtoul(line + strlen("HugePages_Free:"), NULL, 10) : 0;
    text_free(&t);
    return count;
}

static void set_huge_pages(const char *count)
{
    CHECK_INT(files_write("/proc/sys/vm/nr_hugepages", count, strlen(count)), 0);
}

E2E(huge_pages_that_are_unplugged_go_back_to_the_hosts_pool, LINUX)
{
    enum { RAM = 192, PLUGGED = 128, POOL = (RAM + PLUGGED) / 2 };
    set_huge_pages(text_format("%u", POOL));
    if (huge_pages_free() < POOL)
        e2e_skip("this host has no %u huge pages", POOL);
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":128}");
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":%u,\"huge_pages\":\"2M\"}",
           RAM);
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    unsigned before = total_mib(vm);
    resize(vm, PLUGGED);
    expect_total(vm, before + PLUGGED);
    ask(vm, "touch %u", before + PLUGGED / 2);
    unsigned used = huge_pages_free();
    if (used > PLUGGED / 4)
        FAIL("%u huge pages are free though the guest uses more than its RAM", used);
    resize(vm, 0);
    unsigned after = huge_pages_free();
    if (after < PLUGGED / 2)
        FAIL("%u huge pages are free after %u MiB were unplugged", after, PLUGGED);
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    monitor_end(&vm->monitor);
    set_huge_pages("0");
}

/* A disk's requests point into memory that was plugged. */
E2E(disks_and_pauses_work_with_plugged_memory, LINUX | SANITIZER)
{
    const char *disk = e2e_path("disk");
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%u}", TOTAL_MIB);
    linux_machine(vm, 2, RAM_MIB);
    CHECK_INT(files_make_sparse(disk, 16 << 20), 0);
    linux_drive(vm, "d", disk, "");
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    resize(vm, TOTAL_MIB);
    ask(vm, "hold 32"); /* programs' memory comes from the movable zone first, which is plugged */
    ask(vm, "load vda on");
    for (unsigned i = 0; i < 10; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
        ask(vm, "sleep 20");
    }
    const char *report = ask(vm, "load vda off");
    CHECK_INT(number_of(report, "bad"), 0);
    CHECK_INT(number_of(ask(vm, "hold 0"), "bad"), 0);
}

/* The disk's server is another process: it must have been given the memory that is plugged later,
 * and that which is a file. */
E2E(a_vhost_user_disk_works_with_plugged_and_persistent_memory, LINUX)
{
    const char *disk = disk_new("disk", 16), *file = e2e_path("p"), *socket = e2e_path("disk.sock");
    CHECK_INT(files_copy(e2e_guest(TEST_ROOT), file), 0);
    disk_fill(disk, 0, 16 * SECTORS_PER_MIB, 41);
    CHECK(vhost_server_fork(socket, &(struct vhost_server_options){.disk = disk}) > 0);
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%u}", TOTAL_MIB);
    vm_put(vm, "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"%s\"}", file);
    vm_put(vm, "/drives/d", "{\"drive_id\":\"d\",\"is_root_device\":false,\"socket\":\"%s\"}",
           socket);
    linux_machine(vm, 1, RAM_MIB);
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    unsigned before = total_mib(vm), taken = vm_taken_mib(vm);
    ask(vm, "mount pmem0 /mnt ext4 dax=always");
    ask(vm, "mapdisk read vda /mnt/copy 1024");
    ask(vm, "mapverify /mnt/copy 1024 41");
    resize(vm, 512);
    expect_total(vm, before + 512);
    ask(vm, "hold 32");
    ask(vm, "load vda on");
    ask(vm, "sleep 500");
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
    ask(vm, "hold 0");
    resize(vm, 0);
    /* Shared memory, too, is the host's again. */
    if (vm_taken_mib(vm) > taken + RAM_MIB)
        FAIL("nothing is plugged, but the monitor takes %u MiB", vm_taken_mib(vm));
}

E2E(memory_is_plugged_while_dirty_pages_are_tracked, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":256}");
    vm_put(vm, "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"%s\",\"read_only\":true}",
           disk_new("p", 2));
    vm_put(vm, "/machine-config",
           "{\"vcpu_count\":1,\"mem_size_mib\":128,\"track_dirty_pages\":true}");
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    unsigned before = total_mib(vm);
    resize(vm, 256);
    expect_total(vm, before + 256);
    ask(vm, "touch 200");
    resize(vm, 0);
}

E2E(plugged_memory_works_again_when_its_driver_is_bound_again, LINUX)
{
    static const char driver[] = "/sys/bus/virtio/drivers/virtio_mem";
    struct vm *vm = hotplug_vm("");
    unsigned before = total_mib(vm);
    resize(vm, 256);
    resize(vm, 0);
    ask(vm, "set %s/unbind virtio0", driver);
    vm_refused(vm, "PATCH", "/hotplug/memory", "Device is not active",
               "{\"requested_size_mib\":128}");
    ask(vm, "set %s/bind virtio0", driver);
    resize(vm, 256);
    expect_total(vm, before + 256);
    ask(vm, "touch 256");
}

/* Its kernel has no driver and no hot-plug; the rest of the machine is as ever. */
E2E(a_guest_without_the_driver_is_none_the_worse, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%u}", TOTAL_MIB);
    linux_machine(vm, 1, 128);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "");
    vm_refused(vm, "PATCH", "/hotplug/memory", "Device is not active",
               "{\"requested_size_mib\":128}");
    CHECK_INT(status_of(vm, "plugged_size_mib"), 0);
    ask(vm, "touch 64");
}

/* ---- snapshots ------------------------------------------------------------------------------- */

/* A file and a process's memory, for both of which what is plugged is taken first. */
enum { PATTERN_MIB = 100, HELD_MIB = 200 };

static void verify(struct vm *vm, unsigned seed)
{
    ask(vm, "mapverify /tmp/pattern %u %u", PATTERN_MIB * 1024, seed);
}

E2E(plugged_memory_is_in_a_snapshot_and_can_be_unplugged_after_a_load, LINUX | SANITIZER | SLOW)
{
    struct vm *vm = hotplug_vm("");
    unsigned before = total_mib(vm);
    resize(vm, 512);
    expect_total(vm, before + 512);
    ask(vm, "mapwrite /tmp/pattern %u 5", PATTERN_MIB * 1024);
    ask(vm, "hold %u", HELD_MIB);
    snap_take(vm, "s");
    vm = snap_revive("s", "");
    CHECK_INT(status_of(vm, "plugged_size_mib"), 512);
    CHECK_INT(status_of(vm, "requested_size_mib"), 512);
    verify(vm, 5);
    CHECK_INT(number_of(ask(vm, "hold 0"), "bad"), 0);
    resize(vm, 640);
    expect_total(vm, before + 640);
    ask(vm, "touch 256");
    ask(vm, "mapwrite /tmp/pattern 1024 6");
    resize(vm, 0);
    expect_total(vm, before);
}

E2E(plugged_memory_outlives_snapshots_of_snapshots, LINUX | SLOW)
{
    struct vm *vm = hotplug_vm("");
    resize(vm, 512);
    ask(vm, "mapwrite /tmp/pattern %u 1", PATTERN_MIB * 1024);
    for (unsigned i = 1; i <= 4; i++) {
        snap_take(vm, "s"); /* over the file that it runs from, from the second on */
        monitor_end(&vm->monitor);
        vm = snap_revive("s", "");
        verify(vm, i);
        ask(vm, "mapwrite /tmp/pattern %u %u", PATTERN_MIB * 1024, i + 1);
        resize(vm, 512 + 64 * i);
    }
    verify(vm, 5);
}

/* What was written to it since, what was plugged since, and what was unplugged since. */
E2E(plugged_memory_is_in_a_diff_that_is_merged, LINUX | SLOW)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%u}", TOTAL_MIB);
    vm_put(vm, "/machine-config",
           "{\"vcpu_count\":1,\"mem_size_mib\":%u,\"track_dirty_pages\":true}", RAM_MIB);
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    unsigned before = total_mib(vm);
    resize(vm, 256);
    ask(vm, "mapwrite /tmp/pattern %u 1", PATTERN_MIB * 1024);
    snap_take(vm, "s");
    snap_resume(vm);
    ask(vm, "mapwrite /tmp/pattern %u 2", PATTERN_MIB * 1024 / 2);
    resize(vm, 512);
    ask(vm, "hold %u", HELD_MIB);
    resize(vm, 448);
    snap_diff(vm, "s");
    monitor_end(&vm->monitor);

    vm = snap_revive("s", "");
    CHECK_INT(status_of(vm, "plugged_size_mib"), 448);
    ask(vm, "mapverify /tmp/pattern %u 2", PATTERN_MIB * 1024 / 2);
    CHECK_INT(number_of(ask(vm, "hold 0"), "bad"), 0);
    resize(vm, 512);
    ask(vm, "touch 256");
    resize(vm, 0);
    expect_total(vm, before);
}

E2E(plugged_memory_is_right_in_a_chain_of_diffs, LINUX | SLOW)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%u}", TOTAL_MIB);
    vm_patch(vm, "/machine-config", "{\"mem_size_mib\":%u,\"track_dirty_pages\":true}", RAM_MIB);
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    resize(vm, 512);
    ask(vm, "mapwrite /tmp/pattern 8192 1");
    ask(vm, "hold 96");
    snap_take(vm, "s");
    for (unsigned i = 1; i <= 3; i++) {
        snap_resume(vm);
        CHECK_INT(number_of(ask(vm, "hold 0"), "bad"), 0);
        resize(vm, i % 2 ? 128 : 512);
        ask(vm, "mapwrite /tmp/pattern 8192 %u", i + 1);
        ask(vm, "hold %u", i % 2 ? 16 : 96);
        snap_diff(vm, "s"); /* into the file that it runs from, from the second on */
        monitor_end(&vm->monitor);
        vm = snap_revive("s", ",\"track_dirty_pages\":true");
        ask(vm, "mapverify /tmp/pattern 8192 %u", i + 1);
    }
    CHECK_INT(number_of(ask(vm, "hold 0"), "bad"), 0);
}

/* Not through its own driver, which would not: at the address itself. */
E2E(a_guest_that_touches_unplugged_memory_reads_zeros_and_ends_when_it_writes, LINUX | INTEL)
{
    struct vm *vm = hotplug_vm("");
    resize(vm, 128);
    resize(vm, 0);
    ask(vm, "set /sys/bus/virtio/drivers/virtio_mem/unbind virtio0");
    CHECK_HAS(ask(vm, "peek 0x8000001000"), "value=0x0");
    vm_type(vm, "poke 0x8000001000 1\n");
    vm_exits(vm, 1);
    CHECK_HAS(vm_log(vm), "the guest touched memory that is not there");
}

static void add_victim(struct vm *vm)
{
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":512}");
}

E2E(a_hostile_driver_of_memory_that_can_be_plugged_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    hostile_driver(add_victim, 1, 0, 20);
}

E2E(plugged_memory_is_a_forks_own_and_can_be_unplugged_there, LINUX | SLOW)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%u}", TOTAL_MIB);
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    linux_machine(vm, 1, RAM_MIB);
    linux_start(vm, FULL_ELF, TEST_INITRD, "memhp_default_state=online_movable");
    ask(vm, "agent 6010 unseeded");
    resize(vm, 512);
    ask(vm, "mapwrite /tmp/pattern 32768 5");
    vm_put_answered(vm, "/snapshot/fork",
                    text_format("{\"children\":[{\"api_sock\":\"%s\",\"log_path\":\"%s\","
                                "\"vsock_override\":{\"uds_path\":\"%s\"}}]}",
                                e2e_path("a.sock"), e2e_path("a.log"), e2e_path("a.vsock")));
    struct vm *child = vm_adopt(e2e_path("a.sock"));
    int fd = guest_connect("a.vsock", 6010);
    CHECK_INT(status_of(child, "plugged_size_mib"), 512);
    CHECK_HAS(guest_ask(fd, "mapverify /tmp/pattern 32768 5"), "OK");
    CHECK_HAS(guest_ask(fd, "mapwrite /tmp/pattern 32768 6"), "OK");
    ask(vm, "mapverify /tmp/pattern 32768 5");
    CHECK_HAS(guest_ask(fd, "mapwrite /tmp/pattern 1024 6"), "OK");
    resize(child, 256);
    CHECK_HAS(guest_ask(fd, "mapverify /tmp/pattern 1024 6"), "OK");
    CHECK_INT(status_of(vm, "plugged_size_mib"), 512);
    ask(vm, "mapverify /tmp/pattern 32768 5");
}
