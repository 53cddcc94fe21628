/* SPDX-License-Identifier: Apache-2.0 */
/* Diff snapshots: chains of them, merges in place, and what a failure costs. */
#include "tests/e2e/bare.h"
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/pace.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"
#include "tests/support/injector.h"
#include "tests/support/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define TRACKED ",\"track_dirty_pages\":true"
#define PAGE    4096

/* ---- files ----------------------------------------------------------------------------------- */

/* Puts every page that `diff` has onto `base`, as clients do: pages of zeros too. */
static void merge(const char *base, const char *diff)
{
    int from = open(e2e_path(diff), O_RDONLY | O_CLOEXEC);
    int to = open(e2e_path(base), O_WRONLY | O_CLOEXEC);
    char page[PAGE];
    off_t at = 0, hole;

    CHECK(from >= 0 && to >= 0);
    while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
        hole = lseek(from, at, SEEK_HOLE);
        CHECK(at % PAGE == 0 && hole % PAGE == 0);
        for (; at < hole; at += PAGE) {
            CHECK_INT(pread(from, page, PAGE, at), PAGE);
            CHECK_INT(pwrite(to, page, PAGE, at), PAGE);
        }
    }
    CHECK_INT(errno, ENXIO);
    close(from);
    close(to);
}

static void same_contents(const char *a, const char *b)
{
    struct text one = {0}, other = {0};

    CHECK_INT(text_read_file(&one, e2e_path(a)), 0);
    CHECK_INT(text_read_file(&other, e2e_path(b)), 0);
    CHECK_INT(one.len, other.len);
    for (size_t i = 0; i < one.len; i++)
        if (one.data[i] != other.data[i])
            FAIL("%s and %s differ at %zu", a, b, i);
    text_free(&one);
    text_free(&other);
}

/* How many pages a file has that are no holes. */
static unsigned pages_of(const char *name)
{
    int fd = open(e2e_path(name), O_RDONLY | O_CLOEXEC);
    off_t at = 0, hole;
    unsigned pages = 0;

    CHECK(fd >= 0);
    while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
        hole = lseek(fd, at, SEEK_HOLE);
        pages += (unsigned)((hole - at) / PAGE);
        at = hole;
    }
    close(fd);
    return pages;
}

static void is_absent(const char *name)
{
    if (access(e2e_path(name), F_OK) == 0)
        FAIL("%s is there", name);
}

/* ---- a guest that counts --------------------------------------------------------------------- */

#define TRACKING "{\"track_dirty_pages\":true,\"mem_size_mib\":64}"

/* Lets it run for a while, after a snapshot. */
static void run_on(struct vm *vm)
{
    unsigned long pace = pace_of(vm);

    snap_resume(vm);
    counts_beyond(vm, pace + 5);
}

/* It goes on in a new monitor, not before where it was. */
static struct vm *revive(const char *name, const char *more, unsigned long from)
{
    struct vm *vm = snap_revive(name, more);

    counts_beyond(vm, from);
    return vm;
}

E2E(the_first_diff_is_the_whole_memory, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    snap_diff(vm, "d");
    snap_take(vm, "f");
    same_contents("d.mem", "f.mem");
    revive("d", "", pace_of(vm));
}

E2E(a_chain_of_diffs_merged_by_a_client_goes_on_where_the_guest_was, TINY | INTEL)
{
    struct vm *vm = pacing(TRACKING, NULL);
    snap_take(vm, "s");
    for (int i = 0; i < 3; i++) {
        run_on(vm);
        const char *name = text_format("d%d", i);
        snap_diff(vm, name);
        CHECK(pages_of(text_format("%s.mem", name)) < 200);
        merge("s.mem", text_format("%s.mem", name));
    }
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
    CHECK_INT(rename(e2e_path("s.mem"), e2e_path("d2.mem")), 0);
    revive("d2", "", pace_of(vm));
}

E2E(a_diff_over_its_base_is_merged_into_it, TINY | INTEL)
{
    struct vm *vm = pacing(TRACKING, NULL);
    struct stat before, after;
    snap_take(vm, "s");
    CHECK_INT(stat(e2e_path("s.mem"), &before), 0);
    for (int i = 0; i < 3; i++) {
        run_on(vm);
        snap_diff(vm, "s");
    }
    CHECK_INT(stat(e2e_path("s.mem"), &after), 0);
    CHECK(before.st_ino == after.st_ino);
    is_absent("s.mem.merging");
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
    revive("s", "", pace_of(vm));
}

E2E(a_full_snapshot_begins_tracking_anew, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    snap_take(vm, "s");
    snap_diff(vm, "d");
    CHECK_INT(pages_of("d.mem"), 0);
    run_on(vm);
    snap_take(vm, "s");
    snap_diff(vm, "e");
    CHECK_INT(pages_of("e.mem"), 0);
}

E2E(generations_of_diffs_over_the_file_that_each_runs_from_go_on, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    snap_take(vm, "s");
    unsigned long pace = pace_of(vm);
    for (int i = 0; i < 5; i++) {
        monitor_end(&vm->monitor);
        vm = revive("s", i % 2 ? "" : TRACKED, pace);
        snap_diff(vm, "s");
        pace = pace_of(vm);
        run_on(vm); /* what was merged into its file does not change what it has */
        snap_diff(vm, "s");
        pace = pace_of(vm);
    }
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
}

E2E(a_failed_diff_loses_no_page, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    snap_take(vm, "s");
    run_on(vm);
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_refused(
        vm, "PUT", "/snapshot/create", "No such file or directory",
        "{\"snapshot_type\":\"Diff\",\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s/missing/m\"}",
        e2e_path("s.state"), e2e_dir);
    run_on(vm);
    snap_diff(vm, "s");
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
}

/* A small file system, which is gone with the test. */
static void mount_small(const char *name)
{
    mkdir(e2e_path(name), 0700);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", e2e_path(name), "tmpfs", 0, "size=640k"))
        e2e_skip("no file system can be mounted: %s", strerror(errno));
}

/* Fills the file system that the file is on, until the file is closed and removed. */
static int fill(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static const char block[PAGE] = {1};

    CHECK(fd >= 0);
    while (write(fd, block, PAGE) == PAGE)
        ;
    CHECK_INT(errno, ENOSPC);
    return fd;
}

E2E(a_create_onto_a_full_file_system_leaves_the_former_snapshot_and_loses_no_page, TINY)
{
    static const char *const types[] = {"Diff", "Full"}, *const names[] = {"d", "s"};
    mount_small("small"); /* before anybody is there who has to see it */
    struct vm *vm = pacing(TRACKING, NULL);
    snap_take(vm, "small/s");
    unsigned long pace = pace_of(vm);
    int fd = fill(e2e_path("small/fill"));
    run_on(vm);

    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    for (int i = 0; i < 2; i++) {
        const char *mem = text_format("%s/small/%s.mem", e2e_dir, names[i]);
        vm_refused(vm, "PUT", "/snapshot/create", text_format("%s: No space left on device", mem),
                   "{\"snapshot_type\":\"%s\",\"snapshot_path\":\"%s/small/"
                   "%s.state\",\"mem_file_path\":\"%s\"}",
                   types[i], e2e_dir, names[i], mem);
        is_absent(text_format("small/%s.mem.mayfly-new", names[i]));
        is_absent(text_format("small/%s.state.mayfly-new", names[i]));
    }
    is_absent("small/d.state");
    struct vm *former = revive("small/s", "", pace);
    monitor_end(&former->monitor);

    run_on(vm);
    close(fd);
    CHECK_INT(unlink(e2e_path("small/fill")), 0);
    snap_diff(vm, "small/s");
    snap_take(vm, "f");
    same_contents("small/s.mem", "f.mem");
}

E2E(a_create_beyond_the_limit_of_file_sizes_is_refused_and_its_guest_goes_on, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    struct rlimit limit, small;
    snap_take(vm, "s");
    run_on(vm);
    CHECK_INT(prlimit(vm->monitor.process.pid, RLIMIT_FSIZE, NULL, &limit), 0);
    small = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = limit.rlim_max};
    CHECK_INT(prlimit(vm->monitor.process.pid, RLIMIT_FSIZE, &small, NULL), 0);
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_refused(vm, "PUT", "/snapshot/create", "s.mem: File too large",
               "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}", e2e_path("s.state"),
               e2e_path("s.mem"));
    CHECK_INT(prlimit(vm->monitor.process.pid, RLIMIT_FSIZE, &limit, NULL), 0);
    run_on(vm);
    snap_diff(vm, "s");
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
}

E2E(a_diff_is_not_merged_into_a_file_that_another_runs_from, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    snap_take(vm, "s");
    struct vm *other = revive("s", "", pace_of(vm));
    run_on(vm);
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_refused(vm, "PUT", "/snapshot/create", "another process runs from it",
               "{\"snapshot_type\":\"Diff\",\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}",
               e2e_path("s.state"), e2e_path("s.mem"));
    is_absent("s.mem.merging");
    is_absent("s.state.mayfly-new");
    counts_beyond(other, pace_of(other) + 3);
    monitor_end(&other->monitor);

    run_on(vm);
    snap_diff(vm, "s"); /* with the pages of the one that was refused */
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
}

E2E(a_memory_file_that_was_half_merged_is_refused_until_it_is_replaced, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    struct stat st;
    snap_take(vm, "s");
    unsigned long pace = pace_of(vm);
    CHECK_INT(stat(e2e_path("s.mem"), &st), 0);
    FILE *mark = fopen(e2e_path("s.mem.merging"), "w");
    fprintf(mark, "inode %" PRIu64 "\n", (uint64_t)st.st_ino);
    fclose(mark);

    struct vm *loading = vm_new(NULL);
    vm_refused(loading, "PUT", "/snapshot/load", "was broken off",
               "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}", e2e_path("s.state"),
               e2e_path("s.mem"));
    vm_exits(loading, 1);
    vm_refused(vm, "PUT", "/snapshot/create", "was broken off",
               "{\"snapshot_type\":\"Diff\",\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}",
               e2e_path("s.state"), e2e_path("s.mem"));
    snap_take(vm, "s");
    is_absent("s.mem.merging");
    revive("s", "", pace);
}

E2E(a_diff_without_tracking_has_what_its_guest_has_of_its_own, TINY)
{
    struct vm *vm = pacing("", NULL);
    snap_take(vm, "s");
    vm = revive("s", "", pace_of(vm));
    snap_diff(vm, "d");
    CHECK(pages_of("d.mem") >= 64 && pages_of("d.mem") < 200);
    merge("s.mem", "d.mem");
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
}

/* ---- each call of a create --------------------------------------------------------------------
 */

/* One in which a call fails or is the last: whether there was such a call. `a` is the answer. */
static bool create_with(struct vm *vm, const char *type, unsigned call, int code,
                        struct api_answer *a)
{
    char *body = text_format(
        "{\"snapshot_type\":\"%s\",\"snapshot_path\":\"%s.state\",\"mem_file_path\":\"%s.mem\"}",
        type, e2e_path("s"), e2e_path("s"));
    struct injector injector;

    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    if (injector_start(&injector, vm->monitor.process.pid, call, code))
        e2e_skip("no debugger is allowed here");
    monitor_call(&vm->monitor, a, "PUT", "/snapshot/create", body, e2e_ms(VM_MS));
    free(body);
    return injector_stop(&injector);
}

E2E(a_monitor_killed_at_any_call_of_a_create_leaves_a_snapshot_that_goes_on, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    struct api_answer a = {0};
    unsigned call = 1;
    snap_take(vm, "s");
    for (bool killed = true; killed; call++) {
        monitor_end(&vm->monitor);
        vm = revive("s", TRACKED, 3);
        killed = create_with(vm, "Full", call, INJECT_DEATH, &a);
    }
    CHECK(call > 20);
    is_absent("s.mem.mayfly-new");
    is_absent("s.state.mayfly-new");
    revive("s", "", 3);
}

E2E(a_create_in_which_any_call_fails_names_the_path_and_its_guest_goes_on, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    struct api_answer a = {0};
    unsigned call = 1;
    snap_take(vm, "s");
    for (bool failed = true; failed; call++) {
        run_on(vm);
        failed = create_with(vm, "Full", call, ENOSPC, &a);
        CHECK(a.status == 204 || a.status == 400);
        if (a.status == 400 && !text_contains(&a.body, "Cannot perform open"))
            CHECK_HAS(text_str(&a.body), e2e_dir);
        api_answer_free(&a);
        struct vm *former = revive("s", "", 3);
        monitor_end(&former->monitor);
    }
    CHECK(call > 20);
    run_on(vm);
    snap_diff(vm, "s");
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
}

E2E(a_merge_killed_at_any_call_leaves_a_snapshot_that_goes_on_or_is_refused, TINY)
{
    struct vm *vm = pacing(TRACKING, NULL);
    struct api_answer a = {0};
    unsigned refused = 0;
    snap_take(vm, "s");
    for (unsigned call = 1;; call++) {
        if (!vm)
            vm = pacing(TRACKING, NULL);
        run_on(vm);
        if (!create_with(vm, "Diff", call, INJECT_DEATH, &a))
            break;
        monitor_end(&vm->monitor);
        vm = NULL;
        if (access(e2e_path("s.mem.merging"), F_OK)) {
            vm = revive("s", TRACKED, 3);
            continue;
        }
        refused++;
        struct vm *loading = vm_new(NULL);
        vm_refused(loading, "PUT", "/snapshot/load", "was broken off",
                   "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}", e2e_path("s.state"),
                   e2e_path("s.mem"));
        vm_exits(loading, 1);
        vm = pacing(TRACKING, NULL);
        snap_take(vm, "s");
    }
    CHECK(refused > 0);
    revive("s", "", 3);
}

/* ---- Linux ----------------------------------------------------------------------------------- */

static void tracked_linux(struct vm *vm, unsigned vcpus)
{
    vm_patch(vm, "/machine-config",
             "{\"vcpu_count\":%u,\"mem_size_mib\":160,\"track_dirty_pages\":true}", vcpus);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
}

E2E(a_linux_guest_goes_on_from_a_chain_of_diffs_with_all_its_memory, LINUX | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    tracked_linux(vm, 1);
    ask(vm, "mapwrite /tmp/a 16384 1");
    snap_take(vm, "s");
    for (int i = 0; i < 3; i++) {
        snap_resume(vm);
        ask(vm, "mapwrite /tmp/b%d 4096 %d", i, i + 2);
        ask(vm, "mapwrite /tmp/a 16384 %d", i + 10);
        snap_diff(vm, "s");
    }
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
    monitor_end(&vm->monitor);

    vm = snap_revive("s", "");
    ask(vm, "mapverify /tmp/a 16384 12");
    for (int i = 0; i < 3; i++)
        ask(vm, "mapverify /tmp/b%d 4096 %d", i, i + 2);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(ten_generations_of_diffs_in_place_under_disk_load_lose_nothing, LINUX | SLOW)
{
    const char *disk = disk_new("disk", 16);
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "d", disk, ",\"io_engine\":\"Async\"");
    tracked_linux(vm, 2);
    ask(vm, "mapwrite /tmp/a 16384 1");
    ask(vm, "load vda on");
    snap_take(vm, "s");
    for (int i = 0; i < 10; i++) {
        monitor_end(&vm->monitor);
        vm = snap_revive("s", TRACKED);
        ask(vm, "mapverify /tmp/a 16384 %d", i + 1);
        ask(vm, "mapwrite /tmp/a 16384 %d", i + 2);
        ask(vm, "sleep 30");
        snap_diff(vm, "s");
    }
    snap_take(vm, "f");
    same_contents("s.mem", "f.mem");
    snap_resume(vm);
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
    ask(vm, "mapverify /tmp/a 16384 11");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}
