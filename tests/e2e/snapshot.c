/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: a guest goes on in another monitor as if nothing had been. */
#include "guest/init/stream.h"
#include "tests/e2e/bare.h"
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/pace.h"
#include "tests/e2e/snap.h"
#include "tests/support/tap.h"
#include "tests/support/text.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* The answer to a byte that it is sent. */
static void count_on(struct vm *vm, const char *letters)
{
    for (; *letters; letters++) {
        vm_type(vm, ".");
        vm_expect(vm, (char[]){*letters, 0});
    }
}

static struct vm *counting(void)
{
    struct vm *vm = vm_new(NULL);

    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    return vm;
}

/* ---- bare guests ----------------------------------------------------------------------------- */

E2E(a_snapshot_goes_on_in_two_monitors_and_in_the_first, TINY | INTEL)
{
    struct vm *vm = counting();
    count_on(vm, "abc");
    snap_take(vm, "s");
    struct vm *one = snap_revive("s", ""), *other = snap_revive("s", "");
    count_on(one, "defg");
    count_on(other, "de");
    snap_resume(vm);
    count_on(vm, "def");
    count_on(other, "f");
    CHECK(!strcmp(vm_state(one), "Running"));
}

E2E(a_loaded_machine_is_paused_until_it_is_resumed, TINY)
{
    struct vm *vm = counting();
    count_on(vm, "a");
    snap_take(vm, "s");
    struct vm *loaded = vm_new(NULL);
    vm_put(loaded, "/snapshot/load", "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}",
           e2e_path("s.state"), e2e_path("s.mem"));
    CHECK(!strcmp(vm_state(loaded), "Paused"));
    vm_type(loaded, "..");
    usleep(50000);
    CHECK(!strstr(vm_out(loaded), "b"));
    snap_resume(loaded);
    vm_expect(loaded, "bc");
}

E2E(ten_snapshots_of_snapshots_over_the_same_files_keep_counting, TINY)
{
    struct vm *vm = counting();
    for (int i = 0; i < 10; i++) {
        count_on(vm, (char[]){(char)('a' + i), 0});
        snap_take(vm, "s"); /* over the file that it runs from, from the second on */
        vm = snap_revive("s", "");
    }
    count_on(vm, "klm");
}

E2E(a_memory_file_has_the_size_of_memory_and_few_blocks, TINY)
{
    struct vm *vm = counting();
    struct stat st;
    snap_take(vm, "s");
    CHECK_INT(stat(e2e_path("s.mem"), &st), 0);
    CHECK_INT(st.st_size, 64 << 20);
    CHECK(st.st_blocks * 512 < 4 << 20);
    CHECK_INT(stat(e2e_path("s.state"), &st), 0);
    CHECK(st.st_size < 64 << 10);
    CHECK(access(e2e_path("s.mem.mayfly-new"), F_OK) != 0);
    CHECK(access(e2e_path("s.state.mayfly-new"), F_OK) != 0);
}

E2E(a_snapshot_is_refused_of_a_guest_that_runs, TINY)
{
    struct vm *vm = counting();
    vm_refused(vm, "PUT", "/snapshot/create", "save/restore unavailable while running",
               "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}", e2e_path("a"), e2e_path("b"));
    CHECK(access(e2e_path("a"), F_OK) != 0);
    count_on(vm, "ab");
}

E2E(a_failed_create_leaves_the_former_snapshot, TINY)
{
    struct vm *vm = counting();
    snap_take(vm, "s");
    count_on(snap_revive("s", ""), "a");
    vm_refused(vm, "PUT", "/snapshot/create", "No such file or directory",
               "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}", e2e_path("s.state"),
               e2e_path("missing/s.mem"));
    CHECK(access(e2e_path("s.state.mayfly-new"), F_OK) != 0);
    count_on(snap_revive("s", ""), "a");
    snap_resume(vm);
    count_on(vm, "ab");
}

static void expect_no_load(const char *state, const char *mem, const char *why)
{
    struct vm *vm = vm_new(NULL);

    vm_refused(vm, "PUT", "/snapshot/load", why,
               "{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_path\":\"%s\","
               "\"backend_type\":\"File\"}}",
               e2e_path(state), e2e_path(mem));
    vm_exits(vm, 1);
}

E2E(what_is_no_snapshot_is_refused_and_ends_with_1, TINY)
{
    struct vm *vm = counting();
    snap_take(vm, "s");
    expect_no_load("missing", "s.mem", "Failed to open snapshot file: No such file");
    expect_no_load("s.state", "missing", "Failed to load guest memory: No such file");
    expect_no_load("s.mem", "s.mem", "a state file has at most");
    expect_no_load("s.state", "s.state", "the guest has 67108864");
    CHECK_INT(truncate(e2e_path("s.state"), 4000), 0);
    expect_no_load("s.state", "s.mem", "it has been cut");
}

E2E(a_create_without_a_name_for_the_state_does_not_replace_the_memory, TINY)
{
    struct vm *vm = pacing("", NULL);
    struct stat before, after;
    snap_take(vm, "s");
    CHECK_INT(stat(e2e_path("s.mem"), &before), 0);
    vm_refused(vm, "PUT", "/snapshot/create", "No such file or directory",
               "{\"snapshot_path\":\"\",\"mem_file_path\":\"%s\"}", e2e_path("s.mem"));
    CHECK_INT(stat(e2e_path("s.mem"), &after), 0);
    CHECK_INT(after.st_ino, before.st_ino);
}

/* ---- Linux ----------------------------------------------------------------------------------- */

/* Ends a monitor without a word, as if its host had died. */
static void kill_monitor(struct vm *vm)
{
    monitor_end(&vm->monitor);
}

static double monotonic(struct vm *vm)
{
    return strtod(strstr(ask(vm, "time"), "monotonic=") + strlen("monotonic="), NULL);
}

static void leave(struct vm *vm)
{
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(a_linux_guest_goes_on_with_its_memory_clock_and_timers, LINUX | INTEL | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    linux_boot(vm);
    ask(vm, "mapwrite /tmp/pattern 16384 5");
    double before = monotonic(vm);
    snap_take(vm, "s");
    usleep(300000);

    vm = snap_revive("s", "");
    double after = monotonic(vm);
    if (after < before || after > before + 20)
        FAIL("the clock went from %f to %f", before, after);
    ask(vm, "mapverify /tmp/pattern 16384 5");
    ask(vm, "sleep 50");
    CHECK(monotonic(vm) >= after + 0.05);
    ask(vm, "mapwrite /tmp/more 4096 6");
    ask(vm, "mapverify /tmp/more 4096 6");
    leave(vm);
}

E2E(two_clones_of_a_linux_guest_do_not_see_each_others_memory, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_boot(vm);
    ask(vm, "mapwrite /tmp/common 4096 1");
    snap_take(vm, "s");
    struct vm *one = snap_revive("s", ""), *other = snap_revive("s", "");
    ask(one, "mapwrite /tmp/own 4096 2");
    ask(other, "mapwrite /tmp/own 4096 3");
    snap_resume(vm);
    ask(vm, "mapwrite /tmp/own 4096 4");
    ask(one, "mapverify /tmp/own 4096 2");
    ask(other, "mapverify /tmp/own 4096 3");
    ask(vm, "mapverify /tmp/own 4096 4");
    ask(one, "mapverify /tmp/common 4096 1");
    leave(other);
    leave(one);
    leave(vm);
}

E2E(a_linux_guest_with_four_processors_goes_on, LINUX | SLOW)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 4, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    const char *cpus = ask(vm, "cpus");
    ask(vm, "mapwrite /tmp/pattern 8192 5");
    for (int i = 0; i < 3; i++) {
        snap_take(vm, "s");
        kill_monitor(vm);
        vm = snap_revive("s", "");
        CHECK(!strcmp(ask(vm, "cpus"), cpus));
        ask(vm, "mapverify /tmp/pattern 8192 5");
        ask(vm, "sleep 20");
    }
    leave(vm);
}

E2E(ten_generations_of_a_linux_guest_under_disk_load_lose_nothing, LINUX | SLOW)
{
    const char *disk = disk_new("disk", 16);
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "d", disk, ",\"io_engine\":\"Async\"");
    linux_boot(vm);
    ask(vm, "load vda on");
    for (int i = 0; i < 10; i++) {
        ask(vm, "sleep 30");
        snap_take(vm, "s");
        kill_monitor(vm);
        vm = snap_revive("s", "");
    }
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
    ask(vm, "write vda 2048 9");
    ask(vm, "flush vda");
    disk_holds(disk, 0, 2048, 9);
    leave(vm);
}

/* ---- every device ---------------------------------------------------------------------------- */

#define TAP       "tap0"
#define OTHER_TAP "tap1"
#define HOST_IP   "172.30.9.1"
#define GUEST_IP  "172.30.9.2"

/* A stream to the guest that it checks word by word. */
static void check_vsock(const char *socket_name)
{
    int fd = guest_connect(socket_name, VSOCK_PORT_SINK);

    CHECK_INT(stream_send(fd, VSOCK_PORT_SINK), 0);
    close(fd);
}

static struct vm *everything(const char *disk, const char *pmem)
{
    struct vm *vm = vm_new(NULL);

    vm_put(vm, "/balloon",
           "{\"amount_mib\":8,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1}");
    linux_drive(vm, "d", disk, ",\"rate_limiter\":{\"ops\":{\"size\":1000,\"refill_time\":100}}");
    vm_put(vm, "/network-interfaces/eth0", "{\"iface_id\":\"eth0\",\"host_dev_name\":\"" TAP "\"}");
    vm_put(vm, "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"%s\"}", pmem);
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    vm_put(vm, "/entropy", "{}");
    linux_machine(vm, 1, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    ask(vm, "vsock-serve");
    ask(vm, "link eth0 " GUEST_IP " 255.255.255.0");
    return vm;
}

static void check_everything(struct vm *vm, const char *disk, const char *pmem, unsigned seed)
{
    ask(vm, "write vda 4096 %u", seed);
    ask(vm, "flush vda");
    disk_holds(disk, 0, 4096, seed);
    ask(vm, "verify vda 4096 %u", seed);
    ask(vm, "write pmem0 2048 %u", seed + 1);
    ask(vm, "flush pmem0");
    disk_holds(pmem, 0, 2048, seed + 1);
    CHECK_INT(number_of(ask(vm, "ping " HOST_IP " 5 1000"), "answered"), 5);
    ask(vm, "random 64");
}

E2E(every_device_goes_on_behind_a_load, LINUX | SANITIZER | SLOW)
{
    int rc = unshare(CLONE_NEWNET) ? -errno : tap_make(TAP, HOST_IP);
    if (rc)
        e2e_skip("no tap can be made here: %s", strerror(-rc));
    const char *disk = disk_new("disk", 8), *pmem = disk_new("pmem", 8);
    struct vm *vm = everything(disk, pmem);
    check_everything(vm, disk, pmem, 1);
    check_vsock("v.sock");

    for (unsigned generation = 0; generation < 3; generation++) {
        int old = guest_connect("v.sock", VSOCK_PORT_SINK); /* ends with its monitor */
        snap_take(vm, "s");
        kill_monitor(vm);
        close(old);
        CHECK_INT(unlink(e2e_path("v.sock")), 0);
        vm = snap_revive("s", "");
        check_everything(vm, disk, pmem, 10 + generation);
        check_vsock("v.sock");
        CHECK_HAS(ask(vm, "cat /sys/class/net/eth0/carrier"), "1");
        vm_patch(vm, "/balloon", "{\"amount_mib\":%u}", 16 + generation);
        vm_patch(vm, "/drives/d", "{\"drive_id\":\"d\",\"path_on_host\":\"%s\"}", disk);
    }
    leave(vm);
}

E2E(a_load_takes_another_tap_and_another_socket, LINUX)
{
    int rc = unshare(CLONE_NEWNET) ? -errno : tap_make(TAP, HOST_IP);
    if (rc)
        e2e_skip("no tap can be made here: %s", strerror(-rc));
    const char *disk = disk_new("disk", 8), *pmem = disk_new("pmem", 8);
    struct vm *vm = everything(disk, pmem);
    snap_take(vm, "s");
    char *more = text_format(",\"network_overrides\":[{\"iface_id\":\"eth0\","
                             "\"host_dev_name\":\"" OTHER_TAP "\"}],"
                             "\"vsock_override\":{\"uds_path\":\"%s\"}",
                             e2e_path("w.sock"));
    struct vm *clone = snap_revive("s", more);
    check_vsock("w.sock");
    json_t *config = vm_get(clone, "/vm/config");
    json_t *net = json_array_get(json_object_get(config, "network-interfaces"), 0);
    CHECK(!strcmp(json_string_value(json_object_get(net, "host_dev_name")), OTHER_TAP));
    snap_resume(vm);
    check_vsock("v.sock");
    CHECK_INT(number_of(ask(vm, "ping " HOST_IP " 3 100"), "answered"), 3);
    leave(clone);
    leave(vm);
}
