/* SPDX-License-Identifier: Apache-2.0 */
/* Working sets: a load finds out which pages of the memory file a guest touches, later ones fetch
 * them; and what becomes of guests whose memory file somebody else cuts short. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#define RECORD   text_format(",\"record_working_set\":\"%s\"", e2e_path("ws"))
#define PREFETCH text_format(",\"prefetch\":\"%s\"", e2e_path("ws"))

enum { HEAD = 32, RUN = 8, CRC = 8 };

/* Pages that a working set names; of these `written`. */
static unsigned pages_named(unsigned *written)
{
    unsigned pages = 0;
    uint32_t run[2];
    FILE *f = fopen(e2e_path("ws"), "r");
    struct stat st;

    if (!f || fstat(fileno(f), &st) || fseek(f, HEAD, SEEK_SET))
        FAIL("there is no working set");
    *written = 0;
    for (long i = 0; i < (st.st_size - HEAD - CRC) / RUN && fread(run, RUN, 1, f) == 1; i++) {
        pages += run[1] & 0x7fffffff;
        *written += run[1] >> 31 ? run[1] & 0x7fffffff : 0;
    }
    fclose(f);
    return pages;
}

/* Pages of the memory file of which a monitor has its own copy. */
static unsigned pages_owned(struct vm *vm, const char *memory)
{
    char path[64], line[512];
    unsigned pages = 0;
    unsigned long from, to;
    uint64_t entry;

    snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)vm->monitor.process.pid);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)vm->monitor.process.pid);
    FILE *maps = fopen(path, "r");
    CHECK(pagemap >= 0 && maps);
    while (fgets(line, sizeof(line), maps)) {
        if (!strstr(line, memory) || sscanf(line, "%lx-%lx", &from, &to) != 2)
            continue;
        for (unsigned long at = from; at < to; at += 4096)
            if (pread(pagemap, &entry, 8, (off_t)(at / 4096 * 8)) == 8 && entry >> 62 &&
                !(entry >> 61 & 1))
                pages++;
    }
    fclose(maps);
    close(pagemap);
    return pages;
}

static void count_on(struct vm *vm, const char *letters)
{
    for (; *letters; letters++) {
        vm_type(vm, ".");
        vm_expect(vm, (char[]){*letters, 0});
    }
}

/* A guest that counts, saved before "a". */
static void take_counting(void)
{
    struct vm *vm = vm_new(NULL);

    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
}

static void pause_vm(struct vm *vm)
{
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
}

/* ---- working sets ---------------------------------------------------------------------------- */

E2E(a_working_set_is_recorded_until_the_first_pause_and_fetched_by_later_loads, TINY | SANITIZER)
{
    unsigned written, pages;

    take_counting();
    struct vm *vm = snap_revive("s", RECORD);
    count_on(vm, "ab");
    CHECK(access(e2e_path("ws"), F_OK) != 0);
    pause_vm(vm);
    pages = pages_named(&written);
    CHECK(pages > 0 && pages < 200 && written > 0 && written <= pages);
    CHECK_INT(unlink(e2e_path("ws.mayfly-new")), -1);
    snap_resume(vm);
    count_on(vm, "c");
    pause_vm(vm); /* which records nothing more */
    CHECK_INT(pages_named(&written), pages);
    count_on(snap_revive("s", PREFETCH), "abc");
}

E2E(a_working_set_is_written_at_the_guests_end, TINY)
{
    unsigned written;
    struct vm *vm = vm_new(NULL);

    vm_boot(vm, bare_guest(BARE_ECHO), "");
    vm_expect(vm, "M\n");
    snap_take(vm, "s");
    vm = snap_revive("s", RECORD);
    vm_type(vm, "q");
    vm_exits(vm, 0);
    CHECK(pages_named(&written) > 0);
}

static void expect_no_load(const char *more, const char *why)
{
    struct vm *vm = vm_new(NULL);

    vm_refused(vm, "PUT", "/snapshot/load", why,
               "{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_path\":\"%s\","
               "\"backend_type\":\"File\"}%s}",
               e2e_path("s.state"), e2e_path("s.mem"), more);
    vm_exits(vm, 1);
}

E2E(what_is_no_working_set_is_refused_and_ends_with_1, TINY)
{
    take_counting();
    expect_no_load(PREFETCH, "Cannot read the working set");
    CHECK_INT(files_write(e2e_path("ws"), "none of that kind, and longer than a head of one", 48),
              0);
    expect_no_load(PREFETCH, "is not a working set");
    expect_no_load(text_format("%s%s", RECORD, PREFETCH),
                   "cannot be recorded while one is fetched");
    expect_no_load(text_format(",\"record_working_set\":\"%s\"", e2e_path("missing/ws")),
                   "Cannot write the working set");
    struct vm *vm = vm_new(NULL);
    vm_refused(vm, "PUT", "/snapshot/load", "memory that another process serves",
               "{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_path\":\"x\","
               "\"backend_type\":\"Uffd\"}%s}",
               e2e_path("s.state"), RECORD);
    vm_exits(vm, 1);
}

E2E(a_fetched_working_set_of_linux_is_little_more_than_what_it_touches, LINUX)
{
    unsigned written, pages;
    struct vm *vm = vm_new(NULL);

    linux_boot(vm);
    ask(vm, "mapwrite /tmp/pattern 4096 5");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    vm = snap_revive("s", RECORD);
    ask(vm, "mapverify /tmp/pattern 4096 5");
    pause_vm(vm);
    pages = pages_named(&written);
    CHECK(pages > 1024 && pages < 3000);

    vm = vm_new(NULL);
    vm_put(vm, "/snapshot/load", "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"%s}",
           e2e_path("s.state"), e2e_path("s.mem"), PREFETCH);
    unsigned owned = pages_owned(vm, "/s.mem");
    if (owned < written || owned > written + pages * 3 / 10)
        FAIL("%u pages are copied of a working set of %u, %u of them written", owned, pages,
             written);
    snap_resume(vm);
    ask(vm, "mapverify /tmp/pattern 4096 5");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(what_is_written_to_pages_that_were_mapped_beforehand_is_in_the_next_diff, LINUX)
{
    struct vm *vm = vm_new(NULL);

    linux_boot(vm);
    ask(vm, "mapwrite /tmp/pattern 4096 5");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    vm = snap_revive("s", RECORD);
    ask(vm, "mapwrite /tmp/pattern 4096 6");
    pause_vm(vm);
    monitor_end(&vm->monitor);
    vm = snap_revive("s", text_format("%s,\"track_dirty_pages\":true", PREFETCH));
    ask(vm, "mapverify /tmp/pattern 4096 5");
    for (unsigned i = 7; i < 9; i++) {
        ask(vm, "mapwrite /tmp/pattern 4096 %u", i);
        snap_diff(vm, "s");
        snap_resume(vm);
    }
    monitor_end(&vm->monitor);
    vm = snap_revive("s", "");
    ask(vm, "mapverify /tmp/pattern 4096 8");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

/* ---- a memory file that others write to ------------------------------------------------------ */

E2E(a_working_set_does_not_take_the_place_of_what_it_is_recorded_from, TINY)
{
    take_counting();
    for (int i = 0; i < 2; i++)
        expect_no_load(
            text_format(",\"record_working_set\":\"%s/vm1/../s.%s\"", e2e_dir, i ? "state" : "mem"),
            "which is a file of the snapshot");
    count_on(snap_revive("s", ""), "abc");
}

E2E(a_guest_whose_memory_file_was_cut_short_is_not_saved, TINY)
{
    take_counting();
    struct vm *vm = snap_revive("s", "");
    count_on(vm, "a");
    pause_vm(vm);
    CHECK_INT(truncate(e2e_path("s.mem"), 4096), 0);
    vm_refused(vm, "PUT", "/snapshot/create", "has been cut short",
               "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}", e2e_path("t.state"),
               e2e_path("t.mem"));
    CHECK(access(e2e_path("t.state"), F_OK) != 0);
}

E2E(a_memory_file_cut_short_ends_a_linux_guest_with_149_and_a_sentence, LINUX)
{
    struct vm *vm = vm_new(NULL);

    linux_boot(vm);
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    vm = snap_revive("s", "");
    ask(vm, "time");
    CHECK_INT(truncate(e2e_path("s.mem"), 0), 0);
    vm_exits(vm, 149);
    CHECK_HAS(vm_log(vm), "cut short");
}
