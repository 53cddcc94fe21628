/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon in real guests: that memory which a guest gives back is the host's again, by the
 * host's own accounting of the monitor's process, and that the guest can have it back.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/hostile.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
#include "tests/support/vhost_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Linux reports free pages two seconds after there are such. */
enum { ACT_MS = 20000, POLL_MS = 50 };

/* ---- the host's accounting ------------------------------------------------------------------- */

/* Waits until the monitor takes at most so much. */
static void wait_until_taken(struct vm *vm, unsigned at_most)
{
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    while (vm_taken_mib(vm) > at_most) {
        if (!clock_left(deadline))
            FAIL("the monitor takes %u MiB, expected at most %u", vm_taken_mib(vm), at_most);
        process_pump(&vm->monitor.process, POLL_MS);
    }
}

/* ---- the guest ------------------------------------------------------------------------------- */

/* Of the usual guest, and how much of it is used in most tests. */
enum { GUEST_MIB = 128, BUSY_MIB = 80 };

/* Linux reports nothing in a zone that has not 32 free blocks of 4 MiB besides. */
enum { LARGE_MIB = 320, LARGE_BUSY_MIB = 256 };

/* A guest with an empty balloon that has these members. */
static struct vm *balloon_vm(unsigned mib, const char *members)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon", "{\"amount_mib\":0,\"deflate_on_oom\":false%s}", members);
    linux_machine(vm, 1, mib);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "");
    return vm;
}

/* Has the guest use memory, and checks that the host had to give it. */
static void use_memory(struct vm *vm, unsigned mib)
{
    ask(vm, "touch %u", mib);
    unsigned taken = vm_taken_mib(vm);
    if (taken < mib)
        FAIL("the guest has used %u MiB, but the monitor takes %u", mib, taken);
}

static long long stat_of(struct vm *vm, const char *name)
{
    json_t *stats = vm_get(vm, "/balloon/statistics");
    json_t *value = json_object_get(stats, name);
    long long number = json_is_integer(value) ? json_integer_value(value) : -1;
    json_decref(stats);
    return number;
}

static void wait_for_stat(struct vm *vm, const char *name, long long from, long long to)
{
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    long long came;
    while ((came = stat_of(vm, name)) < from || came > to) {
        if (!clock_left(deadline))
            FAIL("%s is %lld, expected %lld to %lld", name, came, from, to);
        process_pump(&vm->monitor.process, POLL_MS);
    }
}

/* Sets the balloon's size and waits until the driver says that it has it. */
static void set_balloon(struct vm *vm, unsigned mib)
{
    vm_patch(vm, "/balloon", "{\"amount_mib\":%u}", mib);
    wait_for_stat(vm, "actual_mib", mib, mib);
}

/* Waits until the host's command is DONE; returns what the guest said last. */
static long long wait_for_done(struct vm *vm)
{
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    for (;;) {
        json_t *status = vm_get(vm, "/balloon/hinting/status");
        long long host = json_integer_value(json_object_get(status, "host_cmd"));
        long long guest = json_integer_value(json_object_get(status, "guest_cmd"));
        json_decref(status);
        if (host == 1)
            return guest;
        if (!clock_left(deadline))
            FAIL("the host's command is %lld, the guest's %lld", host, guest);
        process_pump(&vm->monitor.process, POLL_MS);
    }
}

/* MiB that the guest's kernel calls free. */
static unsigned free_mib(struct vm *vm)
{
    const char *line = strstr(ask(vm, "cat /proc/meminfo"), "MemFree:");
    CHECK(line != NULL);
    return (unsigned)strtoul(line + strlen("MemFree:"), NULL, 10) / 1024;
}

static void wait_for_free(struct vm *vm, unsigned from, unsigned to)
{
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    unsigned mib;
    while ((mib = free_mib(vm)) < from || mib > to) {
        if (!clock_left(deadline))
            FAIL("%u MiB are free in the guest, expected %u to %u", mib, from, to);
        process_pump(&vm->monitor.process, POLL_MS);
    }
}

/* ---- inflate and deflate --------------------------------------------------------------------- */

E2E(what_a_balloon_takes_is_the_hosts_again, LINUX | INTEL | SANITIZER)
{
    struct vm *vm = balloon_vm(GUEST_MIB, ",\"stats_polling_interval_s\":1");
    use_memory(vm, BUSY_MIB);
    unsigned before = vm_taken_mib(vm);

    set_balloon(vm, 80);
    unsigned after = vm_taken_mib(vm);
    if (after > before - 40 || after > GUEST_MIB - 80 + 12)
        FAIL("a balloon of 80 MiB changed %u MiB of the monitor into %u", before, after);

    set_balloon(vm, 0);
    CHECK(vm_taken_mib(vm) <= after + 4); /* only what is touched comes back */
    use_memory(vm, BUSY_MIB);
    set_balloon(vm, 80);
    wait_until_taken(vm, GUEST_MIB - 80 + 12);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(a_balloon_configured_before_the_start_is_inflated_by_itself, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon",
           "{\"amount_mib\":64,\"deflate_on_oom\":false,\"stats_polling_interval_s\":1}");
    linux_boot(vm);
    wait_for_stat(vm, "actual_mib", 64, 64);
    CHECK_INT(stat_of(vm, "target_pages"), 64 * 256);
    CHECK(free_mib(vm) < GUEST_MIB - 64);
    CHECK(vm_taken_mib(vm) < GUEST_MIB - 64);
}

/* A number of /proc/meminfo; of the host's huge pages, say. */
static unsigned host_memory(const char *name)
{
    struct text t = {0};
    CHECK_INT(text_read_file(&t, "/proc/meminfo"), 0);
    const char *line = strstr(t.data, name);
    CHECK(line != NULL);
    unsigned number = (unsigned)strtoul(line + strlen(name) + 1, NULL, 10);
    text_free(&t);
    return number;
}

/* What is in use stays until it is given back. */
static void set_huge_pages(unsigned count)
{
    FILE *f = fopen("/proc/sys/vm/nr_hugepages", "w");
    if (f) {
        fprintf(f, "%u\n", count);
        fclose(f);
    }
}

E2E(huge_pages_of_the_pool_go_back_to_it, LINUX)
{
    unsigned before = host_memory("HugePages_Total");
    set_huge_pages(before + GUEST_MIB / 2);
    if (host_memory("HugePages_Free") < GUEST_MIB / 2) {
        set_huge_pages(before);
        e2e_skip("this host has no %d huge pages", GUEST_MIB / 2);
    }
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon",
           "{\"amount_mib\":0,\"deflate_on_oom\":false,\"stats_polling_interval_s\":1}");
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":%d,\"huge_pages\":\"2M\"}",
           GUEST_MIB);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "");
    ask(vm, "touch %d", BUSY_MIB);
    unsigned unused = host_memory("HugePages_Free");

    set_balloon(vm, 80);
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    while (host_memory("HugePages_Free") < unused + 20) {
        if (!clock_left(deadline))
            FAIL("a balloon of 80 MiB changed %u free huge pages into %u", unused,
                 host_memory("HugePages_Free"));
        process_pump(&vm->monitor.process, POLL_MS);
    }
    set_balloon(vm, 0);
    ask(vm, "touch %d", BUSY_MIB);
    set_huge_pages(before);
}

/* With a drive behind a vhost-user socket guest memory is a file that two processes map. */
E2E(memory_that_a_back_end_shares_goes_back_too, LINUX | SANITIZER)
{
    const char *socket = e2e_path("back.sock");
    struct vhost_server_options options = {.disk = disk_new("disk", 4)};
    CHECK(vhost_server_fork(socket, &options) > 0);
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon",
           "{\"amount_mib\":0,\"deflate_on_oom\":false,\"stats_polling_interval_s\":1}");
    vm_put(vm, "/drives/d", "{\"drive_id\":\"d\",\"is_root_device\":false,\"socket\":\"%s\"}",
           socket);
    linux_boot(vm);
    ask(vm, "touch %d", BUSY_MIB);
    ask(vm, "write vda 2048 9");
    unsigned before = host_memory("Shmem") / 1024;

    set_balloon(vm, 80);
    int64_t deadline = clock_ms() + e2e_ms(ACT_MS);
    while (host_memory("Shmem") / 1024 > before - 40) {
        if (!clock_left(deadline))
            FAIL("a balloon of 80 MiB changed %u MiB of shared memory into %u", before,
                 host_memory("Shmem") / 1024);
        process_pump(&vm->monitor.process, POLL_MS);
    }
    ask(vm, "verify vda 2048 9");
    set_balloon(vm, 0);
    ask(vm, "touch %d", BUSY_MIB);
}

E2E(a_balloon_goes_up_and_down_under_many_processors, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon",
           "{\"amount_mib\":0,\"deflate_on_oom\":false,\"stats_polling_interval_s\":1}");
    linux_machine(vm, 4, 256);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    for (unsigned i = 0; i < 5; i++) {
        set_balloon(vm, 100 + i);
        ask(vm, "touch 16");
        set_balloon(vm, i);
        ask(vm, "touch 100");
    }
}

/* Everything at once, and pauses at any moment: a page that went back although somebody used it
 * would show as a wrong sector, a wrong word, or a guest that is dead. */
E2E(a_balloon_that_is_paused_at_random_moments_takes_nothing_that_is_in_use, LINUX | SANITIZER)
{
    uint64_t random = 20;
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon",
           "{\"amount_mib\":0,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1,"
           "\"free_page_reporting\":true,\"free_page_hinting\":true}");
    linux_drive(vm, "d", disk_new("disk", 8), "");
    linux_machine(vm, 2, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    ask(vm, "load vda on");
    for (unsigned i = 0; i < 40; i++) {
        vm_patch(vm, "/balloon", "{\"amount_mib\":%u}", (unsigned)(e2e_random(&random) % 120));
        process_pump(&vm->monitor.process, (int)(e2e_random(&random) % 30));
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
        if (i % 8 == 0) {
            vm_patch(vm, "/balloon/hinting/start", "{}");
            ask(vm, "touch 32");
        }
    }
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
    set_balloon(vm, 0);
    wait_for_done(vm);
    ask(vm, "touch 120");
}

E2E(a_guest_short_of_memory_takes_it_back_if_it_may, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon",
           "{\"amount_mib\":80,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1}");
    linux_boot(vm);
    wait_for_stat(vm, "actual_mib", 80, 80);
    ask(vm, "touch 60");
    CHECK(stat_of(vm, "actual_mib") < 80);
}

E2E(a_guest_short_of_memory_does_not_take_it_back_if_it_may_not, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/balloon",
           "{\"amount_mib\":80,\"deflate_on_oom\":false,\"stats_polling_interval_s\":1}");
    linux_boot(vm);
    wait_for_stat(vm, "actual_mib", 80, 80);
    CHECK_HAS(ask_failing(vm, "touch 60"), "killed by signal 9");
    CHECK_INT(stat_of(vm, "actual_mib"), 80);
}

/* ---- statistics ------------------------------------------------------------------------------ */

E2E(statistics_are_the_guests_own_and_come_again_and_again, LINUX | SANITIZER)
{
    struct vm *vm = balloon_vm(GUEST_MIB, ",\"stats_polling_interval_s\":1");
    wait_for_stat(vm, "total_memory", 100LL << 20, 128LL << 20);
    wait_for_stat(vm, "free_memory", 80LL << 20, 128LL << 20);
    CHECK(stat_of(vm, "available_memory") > 0);
    CHECK(stat_of(vm, "disk_caches") >= 0);

    set_balloon(vm, 64); /* the next statistics show it */
    wait_for_stat(vm, "free_memory", 0, 60LL << 20);
    vm_patch(vm, "/balloon/statistics", "{\"stats_polling_interval_s\":600}");
    set_balloon(vm, 0);
    /* Not in ten minutes: a new interval asks at once. */
    vm_patch(vm, "/balloon/statistics", "{\"stats_polling_interval_s\":601}");
    wait_for_stat(vm, "free_memory", 80LL << 20, 128LL << 20);
}

E2E(statistics_go_on_after_pauses, LINUX)
{
    struct vm *vm = balloon_vm(GUEST_MIB, ",\"stats_polling_interval_s\":1");
    wait_for_stat(vm, "free_memory", 80LL << 20, 128LL << 20);
    for (unsigned i = 0; i < 20; i++) {
        vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
        vm_patch(vm, "/balloon", "{\"amount_mib\":%u}", 64 + i % 2);
        vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
        process_pump(&vm->monitor.process, 20 * (int)i);
    }
    wait_for_stat(vm, "actual_mib", 65, 65);
    wait_for_stat(vm, "free_memory", 0, 60LL << 20);
}

/* ---- free pages ------------------------------------------------------------------------------ */

E2E(what_a_guest_reports_as_free_is_the_hosts_again, LINUX | SANITIZER)
{
    struct vm *vm = balloon_vm(LARGE_MIB, ",\"free_page_reporting\":true");
    for (unsigned i = 0; i < 2; i++) {
        use_memory(vm, LARGE_BUSY_MIB);
        wait_until_taken(vm, LARGE_BUSY_MIB / 2);
    }
}

E2E(what_a_guest_hints_at_is_the_hosts_again, LINUX | SANITIZER)
{
    struct vm *vm = balloon_vm(GUEST_MIB, ",\"free_page_hinting\":true");
    for (unsigned run = 0; run < 2; run++) {
        use_memory(vm, BUSY_MIB);
        vm_patch(vm, "/balloon/hinting/start", "{}");
        CHECK_INT(wait_for_done(vm), 0);
        wait_until_taken(vm, BUSY_MIB * 3 / 4); /* whole blocks of 4 MiB only */
        wait_for_free(vm, BUSY_MIB, GUEST_MIB); /* the guest has its pages again */
    }
}

E2E(hinted_pages_are_kept_until_the_host_says_done_if_it_so_wishes, LINUX)
{
    struct vm *vm = balloon_vm(GUEST_MIB, ",\"free_page_hinting\":true");
    use_memory(vm, BUSY_MIB);
    vm_patch(vm, "/balloon/hinting/start", "{\"acknowledge_on_stop\":false}");
    wait_until_taken(vm, BUSY_MIB * 3 / 4);
    wait_for_free(vm, 0, GUEST_MIB / 2);

    json_t *status = vm_get(vm, "/balloon/hinting/status");
    CHECK_INT(json_integer_value(json_object_get(status, "host_cmd")), 2);
    CHECK_INT(json_integer_value(json_object_get(status, "guest_cmd")), 0);
    vm_patch(vm, "/balloon/hinting/stop", "{}");
    CHECK_INT(wait_for_done(vm), 0);
    wait_for_free(vm, BUSY_MIB, GUEST_MIB);
}

/* ---- the driver goes and comes --------------------------------------------------------------- */

E2E(a_driver_that_is_unbound_and_bound_again_finds_a_working_balloon, LINUX)
{
    static const char driver[] = "/sys/bus/virtio/drivers/virtio_balloon";
    struct vm *vm =
        balloon_vm(LARGE_MIB, ",\"stats_polling_interval_s\":1,"
                              "\"free_page_reporting\":true,\"free_page_hinting\":true");
    set_balloon(vm, 64);
    for (unsigned i = 0; i < 2; i++) {
        ask(vm, "set %s/unbind virtio0", driver);
        CHECK_INT(stat_of(vm, "actual_pages"), 0);
        use_memory(vm, LARGE_BUSY_MIB);
        vm_refused(vm, "PATCH", "/balloon", "Device not activated yet", "{\"amount_mib\":1}");
        ask(vm, "set %s/bind virtio0", driver);
        wait_for_stat(vm, "actual_mib", 64, 64);
        wait_for_stat(vm, "free_memory", 0, (long long)(LARGE_MIB - 64) << 20);
        vm_patch(vm, "/balloon/hinting/start", "{}");
        CHECK_INT(wait_for_done(vm), 0);
        set_balloon(vm, 0);
        use_memory(vm, LARGE_BUSY_MIB);
        wait_until_taken(vm, LARGE_BUSY_MIB / 2); /* by reports */
        set_balloon(vm, 64);
    }
}

/* ---- a driver that is an enemy --------------------------------------------------------------- */

static void add_victim(struct vm *vm)
{
    vm_put(vm, "/balloon",
           "{\"amount_mib\":8,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1,"
           "\"free_page_hinting\":true,\"free_page_reporting\":true}");
}

E2E(a_hostile_driver_of_a_balloon_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    hostile_driver(add_victim, 0, 1, 20);
}
