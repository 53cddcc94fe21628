/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices driven by the tiny guest, which needs no kernel and runs at full speed on any KVM; and
 * the same guest as an enemy.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/hostile.h"
#include "tests/e2e/linux.h"

#include <errno.h>
#include <string.h>

#include <sys/resource.h>

static void add_drive(struct vm *vm, const char *id, const char *path, const char *more)
{
    vm_put(vm, text_format("/drives/%s", id),
           "{\"drive_id\":\"%s\",\"is_root_device\":false,\"path_on_host\":\"%s\"%s}", id, path,
           more);
}

static void writes_and_reads(const char *more)
{
    const char *disk = disk_new("disk", 4);
    struct vm *vm = vm_new(NULL);
    add_drive(vm, "d", disk, more);
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=5");
    vm_expect(vm, "BLK ok capacity=8192 sectors=8192 readonly=0\n");
    vm_exits(vm, 0);
    disk_holds(disk, 0, 4 * SECTORS_PER_MIB, 5);
}

E2E(the_tiny_guest_writes_a_disk_and_reads_it_back, TINY | SANITIZER)
{
    writes_and_reads("");
}

E2E(the_tiny_guest_writes_a_disk_of_the_async_engine_and_reads_it_back, TINY | SANITIZER)
{
    writes_and_reads(",\"io_engine\":\"Async\"");
}

E2E(the_tiny_guest_writes_and_flushes_through_a_writeback_cache, TINY)
{
    writes_and_reads(",\"cache_type\":\"Writeback\"");
}

E2E(the_tiny_guest_reads_what_the_host_wrote_to_the_second_disk, TINY)
{
    const char *first = disk_new("first", 1), *second = disk_new("second", 2);
    struct vm *vm = vm_new(NULL);
    disk_fill(first, 0, SECTORS_PER_MIB, 1);
    disk_fill(second, 0, 2 * SECTORS_PER_MIB, 2);
    add_drive(vm, "a", first, "");
    add_drive(vm, "b", second, ",\"is_read_only\":true");
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=1 seed=2 check=1");
    vm_expect(vm, "BLK ok capacity=4096 sectors=4096 readonly=1\n");
    vm_exits(vm, 0);
    disk_holds(first, 0, SECTORS_PER_MIB, 1);
}

/* ---- RLIMIT_FSIZE ---------------------------------------------------------------------------- */

static int limit_file_size(void *arg)
{
    const struct rlimit limit = {.rlim_cur = MIB, .rlim_max = MIB};
    (void)arg;
    return setrlimit(RLIMIT_FSIZE, &limit) < 0 ? -errno : 0;
}

/* A monitor that may write no file beyond its first MiB, and a guest that fills a disk of 4. */
static struct vm *write_beyond_the_limit(const char *more)
{
    struct vm *vm = vm_spawn((struct monitor_spec){
        .in = PROCESS_PIPE, .out = PROCESS_PIPE, .err = PROCESS_PIPE, .prepare = limit_file_size});
    add_drive(vm, "d", disk_new("disk", 4), more);
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=5");
    return vm;
}

E2E(a_write_beyond_the_limit_of_file_sizes_ends_the_sync_engines_monitor_with_151, TINY)
{
    vm_exits(write_beyond_the_limit(""), 151);
}

E2E(a_write_beyond_the_limit_of_file_sizes_is_the_async_engines_guests_error, TINY)
{
    struct vm *vm = write_beyond_the_limit(",\"io_engine\":\"Async\"");
    vm_expect(vm, "BLK failed type=1 sector=2048 status=1\n");
    vm_exits(vm, 0);
}

static int forbid_writing(void *arg)
{
    const struct rlimit nothing = {0};
    (void)arg;
    return setrlimit(RLIMIT_FSIZE, &nothing) < 0 ? -errno : 0;
}

E2E(a_log_beyond_the_limit_of_file_sizes_ends_the_monitor_with_151_from_its_first_line_on, HOST)
{
    struct vm *vm = vm_spawn((struct monitor_spec){
        .in = PROCESS_PIPE, .out = PROCESS_PIPE, .err = PROCESS_PIPE, .prepare = forbid_writing});
    vm_exits(vm, 151);
}

E2E(pauses_while_the_tiny_guest_reads_and_writes_lose_no_request, TINY | SANITIZER)
{
    const char *disk = disk_new("disk", 8);
    struct vm *vm = vm_new(NULL);
    add_drive(vm, "d", disk, "");
    vm_boot(vm, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=6");
    for (unsigned i = 0; i < 200 && !strstr(vm_out(vm), "BLK"); i++) {
        struct api_answer a;
        monitor_call(&vm->monitor, &a, "PATCH", "/vm", "{\"state\":\"Paused\"}", e2e_ms(VM_MS));
        api_answer_free(&a);
        monitor_call(&vm->monitor, &a, "PATCH", "/vm", "{\"state\":\"Resumed\"}", e2e_ms(VM_MS));
        api_answer_free(&a);
    }
    vm_expect(vm, "BLK ok");
    vm_exits(vm, 0);
    disk_holds(disk, 0, 8 * SECTORS_PER_MIB, 6);
}

static void add_sync_disk(struct vm *vm)
{
    add_drive(vm, "victim", disk_new("victim", 4),
              ",\"cache_type\":\"Writeback\",\"discard\":true");
}

static void add_async_disk(struct vm *vm)
{
    add_drive(vm, "victim", disk_new("victim", 4), ",\"io_engine\":\"Async\"");
}

static void add_limited_disk(struct vm *vm)
{
    add_drive(vm, "victim", disk_new("victim", 4),
              ",\"rate_limiter\":{\"ops\":{\"size\":500,\"refill_time\":10}}");
}

static void add_entropy(struct vm *vm)
{
    vm_put(vm, "/entropy", "{}");
}

E2E(a_hostile_driver_of_a_disk_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    hostile_driver(add_sync_disk, 0, 1, 20);
}

E2E(a_hostile_driver_of_an_async_disk_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    hostile_driver(add_async_disk, 0, 1, 20);
}

E2E(a_hostile_driver_of_a_limited_disk_harms_nobody_else, TINY | SLOW)
{
    hostile_driver(add_limited_disk, 0, 1, 20);
}

E2E(a_hostile_driver_of_the_entropy_device_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    hostile_driver(add_entropy, 1, 0, 20);
}

E2E(a_guest_that_uses_every_port_and_all_of_device_memory_harms_only_itself, TINY | SANITIZER)
{
    const char *other = disk_new("bystander", 2);
    disk_fill(other, 0, 2 * SECTORS_PER_MIB, 77);
    for (unsigned seed = 1; seed <= 2; seed++) {
        struct vm *vm = vm_new(NULL);
        add_drive(vm, "other", other, "");
        add_entropy(vm);
        vm_boot(vm, e2e_guest("tiny.elf"), text_format("tiny=ports seed=%u count=5000", seed));
        vm_expect(vm, "PORTS done 5000\n");
        vm_exits(vm, 0);
        disk_holds(other, 0, 2 * SECTORS_PER_MIB, 77);
    }
}
