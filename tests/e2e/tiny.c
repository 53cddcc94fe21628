/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices driven by the tiny guest, which needs no kernel and runs at full speed on any KVM; and
 * the same guest as an enemy.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"

#include <string.h>

enum { HOSTILE_MS = 200000, HOSTILE_OPERATIONS = 100000 };

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

/* Asks for the state again and again, each time within the usual time, until the guest
 * is through. */
static void answers_until(struct vm *vm, const char *last_words)
{
    int64_t deadline = clock_ms() + e2e_ms(HOSTILE_MS);
    struct api_answer a;
    while (!strstr(vm_out(vm), last_words)) {
        enum api_outcome outcome = monitor_call(&vm->monitor, &a, "GET", "/", NULL, e2e_ms(VM_MS));
        if (outcome == API_ANSWERED)
            CHECK_INT(a.status, 200);
        else if (!strstr(vm_out(vm), last_words))
            FAIL("GET /: %s", api_outcome_word(outcome));
        api_answer_free(&a);
        if (!clock_left(deadline))
            FAIL("the guest is not through");
        clock_sleep(20);
    }
}

/*
 * The guest's first device is attacked; a disk that it leaves alone, its last device, must hold
 * what it held, and the attacked device must work again after a reset.
 */
static void survives(void (*add_victim)(struct vm *), unsigned device, unsigned bystander)
{
    const char *other = disk_new("bystander", 2);
    disk_fill(other, 0, 2 * SECTORS_PER_MIB, 77);
    for (unsigned seed = 1; seed <= 2; seed++) {
        struct vm *vm = vm_new(NULL);
        if (bystander == 0)
            add_drive(vm, "other", other, "");
        add_victim(vm);
        if (bystander != 0)
            add_drive(vm, "other", other, "");
        vm_boot(
            vm, e2e_guest("tiny.elf"),
            text_format("tiny=fuzz dev=%u seed=%u count=%u", device, seed, HOSTILE_OPERATIONS / 2));
        answers_until(vm, "FUZZ the device works again\n");
        /* An enemy who never got through would prove nothing. */
        CHECK(number_of(vm_out(vm), "needs_reset") > 20);
        CHECK(number_of(vm_out(vm), "completions") > 0);
        vm_exits(vm, 0);
        disk_holds(other, 0, 2 * SECTORS_PER_MIB, 77);
    }
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
    survives(add_sync_disk, 0, 1);
}

E2E(a_hostile_driver_of_an_async_disk_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    survives(add_async_disk, 0, 1);
}

E2E(a_hostile_driver_of_a_limited_disk_harms_nobody_else, TINY | SLOW)
{
    survives(add_limited_disk, 0, 1);
}

E2E(a_hostile_driver_of_the_entropy_device_harms_nobody_else, TINY | SANITIZER | SLOW)
{
    survives(add_entropy, 1, 0);
}
