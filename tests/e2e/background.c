/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots in the background: the guest goes on while another process writes what it was. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/pace.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mount.h>
#include <sys/stat.h>

E2E(a_snapshot_in_the_background_is_of_the_moment_of_its_request, TINY)
{
    struct vm *vm = pacing("", NULL);
    unsigned long before = pace_of(vm);
    snap_behind(vm, "Full", "s");
    unsigned long taken = pace_of(vm);
    counts_beyond(vm, taken + 50);
    snap_is_written(vm);
    CHECK(access(e2e_path("s.mem.mayfly-new"), F_OK) != 0);
    struct vm *other = snap_revive("s", "");
    counts_beyond(other, before);
    CHECK(strtoul(vm_out(other), NULL, 16) <= taken + 2); /* one may have been on its way out */
    counts_beyond(vm, taken + 60);
}

E2E(diffs_in_the_background_miss_no_page, TINY)
{
    struct vm *vm = pacing("{\"track_dirty_pages\":true,\"mem_size_mib\":64}", NULL);
    snap_behind(vm, "Full", "s");
    for (int i = 0; i < 4; i++) {
        counts_beyond(vm, pace_of(vm) + 5);
        snap_is_written(vm);
        snap_behind(vm, "Diff", "s"); /* merged in place */
    }
    unsigned long last = pace_of(vm);
    snap_is_written(vm);
    counts_beyond(snap_revive("s", ""), last);
}

E2E(a_snapshot_in_the_background_that_fails_leaves_the_former_and_loses_no_page, TINY)
{
    if (mkdir(e2e_path("small"), 0755) || mount("none", e2e_path("small"), "tmpfs", 0, "size=256k"))
        e2e_skip("no file system can be mounted here");
    struct vm *vm = pacing("{\"track_dirty_pages\":true,\"mem_size_mib\":64}", NULL);
    snap_behind(vm, "Full", "s");
    snap_is_written(vm);
    counts_beyond(vm, pace_of(vm) + 5);
    snap_behind(vm, "Diff", "small/d");
    const char *why, *state = snap_outcome(vm, &why);
    unsigned long pace = pace_of(vm);
    umount2(e2e_path("small"), MNT_DETACH);
    if (strcmp(state, "Failed") != 0)
        FAIL("it is %s: the file system is too large for the test", state);
    CHECK_HAS(why, "small/d.mem");
    CHECK_HAS(why, "No space left");
    CHECK_HAS(vm_log(vm), "could not be written");
    counts_beyond(vm, pace + 5);
    snap_behind(vm, "Diff", "s"); /* with the pages of the one that failed */
    pace = pace_of(vm);
    snap_is_written(vm);
    counts_beyond(snap_revive("s", ""), pace);
}

E2E(a_monitor_that_ends_waits_for_its_snapshot, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_ECHO), "");
    vm_expect(vm, "M\n");
    snap_behind(vm, "Full", "s");
    vm_type(vm, "q");
    vm_exits(vm, 0);
    CHECK_INT(access(e2e_path("s.state"), F_OK), 0);
    CHECK_INT(access(e2e_path("s.mem"), F_OK), 0);
    CHECK(access(e2e_path("s.mem.mayfly-new"), F_OK) != 0);
    vm = snap_revive("s", "");
    vm_type(vm, "a");
    vm_expect(vm, "a");
}

/* A writer whose monitor is gone says nothing any more: its files tell. */
static void nobody_writes(void)
{
    glob_t found;
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(1000)) {
        if (glob(e2e_path("s.*.mayfly-*"), 0, NULL, &found) == GLOB_NOMATCH)
            return;
        globfree(&found);
    }
    FAIL("the writer's files are still there");
}

E2E(a_monitor_that_is_killed_leaves_a_whole_snapshot_behind_its_writer, TINY)
{
    struct vm *vm = pacing("", NULL);
    unsigned long before = pace_of(vm);
    snap_behind(vm, "Full", "s");
    snap_is_written(vm);
    for (int i = 0; i < 5; i++) {
        vm = i ? snap_revive("s", "") : vm;
        before = counts_beyond(vm, before);
        snap_behind(vm, "Full", "s"); /* onto the one it runs from */
        monitor_end(&vm->monitor);
        nobody_writes();
    }
    counts_beyond(snap_revive("s", ""), before - 1);
}
