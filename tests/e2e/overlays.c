/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write drives: many guests over one file, which none of them changes, and over what
 * snapshots and forks have left of each other's writes.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/text.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the file below holds, before and after. */
enum { BASE_SEED = 90 };

static const char *new_base(unsigned mib)
{
    const char *base = disk_new("base", mib);

    disk_fill(base, 0, mib * SECTORS_PER_MIB, BASE_SEED);
    return base;
}

static void is_untouched(const char *base, unsigned mib)
{
    disk_holds(base, 0, mib * SECTORS_PER_MIB, BASE_SEED);
}

static char *in_file(const char *name)
{
    return text_format(",\"overlay\":{\"type\":\"File\",\"path_on_host\":\"%s\"}", e2e_path(name));
}

/* The same for a clone or a fork. */
static char *clone_in_file(const char *name)
{
    return text_format(",\"drive_overrides\":[{\"drive_id\":\"d\"%s}]", in_file(name));
}

#define IN_MEMORY ",\"overlay\":{\"type\":\"Memory\"}"

static void boot_tiny(struct vm *vm, const char *base, const char *more, const char *args)
{
    linux_drive(vm, "d", base, more);
    vm_boot(vm, e2e_guest("tiny.elf"), args);
}

/* Ends a monitor without a word. */
static void kill_monitor(struct vm *vm)
{
    monitor_end(&vm->monitor);
}

/* ---- tiny guests ----------------------------------------------------------------------------- */

static void writes_over(const char *more)
{
    const char *base = new_base(4);
    struct vm *vm = vm_new(NULL);
    boot_tiny(vm, base, more, "tiny=blk dev=0 seed=5");
    vm_expect(vm, "BLK ok capacity=8192 sectors=8192 readonly=0\n");
    vm_exits(vm, 0);
    is_untouched(base, 4);
}

E2E(a_drive_with_an_overlay_in_memory_leaves_its_file_as_it_was, TINY | SANITIZER)
{
    writes_over(IN_MEMORY);
}

E2E(a_drive_with_an_overlay_in_memory_and_async_leaves_its_file_as_it_was, TINY | SANITIZER)
{
    writes_over(IN_MEMORY ",\"io_engine\":\"Async\"");
}

E2E(a_drive_with_an_overlay_in_a_file_leaves_its_file_as_it_was, TINY | SANITIZER)
{
    writes_over(in_file("o"));
}

E2E(a_drive_with_an_overlay_in_a_file_and_async_and_a_cache_leaves_its_file_as_it_was,
    TINY | SANITIZER)
{
    writes_over(
        text_format("%s,\"io_engine\":\"Async\",\"cache_type\":\"Writeback\"", in_file("o")));
}

E2E(an_overlay_in_a_file_is_gone_on_with_after_the_monitor_was_killed, TINY)
{
    const char *base = new_base(4), *overlay = in_file("o");
    struct vm *vm = vm_new(NULL);
    boot_tiny(vm, base, overlay, "tiny=blk dev=0 seed=5 sectors=5001");
    vm_expect(vm, "BLK ok");
    kill_monitor(vm);
    vm = vm_new(NULL);
    boot_tiny(vm, base, overlay, "tiny=blk dev=0 seed=5 sectors=5001 check=1");
    vm_expect(vm, "BLK ok");
    vm_exits(vm, 0);
    is_untouched(base, 4);
}

E2E(two_monitors_share_a_file_but_no_overlay, TINY)
{
    const char *base = new_base(4);
    struct vm *one = vm_new(NULL), *other = vm_new(NULL);
    linux_drive(one, "d", base, in_file("o"));
    vm_refused(other, "PUT", "/drives/d", "is in use by another drive or process",
               "{\"drive_id\":\"d\",\"is_root_device\":false,\"path_on_host\":\"%s\"%s}", base,
               in_file("o"));
    linux_drive(other, "d", base, in_file("p"));
    vm_boot(one, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=5");
    vm_boot(other, e2e_guest("tiny.elf"), "tiny=blk dev=0 seed=6");
    vm_expect(one, "BLK ok");
    vm_expect(other, "BLK ok");
    is_untouched(base, 4);
}

E2E(an_overlay_is_refused_over_another_file_than_it_was_made_over, TINY)
{
    const char *base = new_base(4), *second = disk_new("second", 4);
    struct vm *vm = vm_new(NULL);
    disk_fill(second, 0, 8, 91);
    linux_drive(vm, "d", base, in_file("o"));
    kill_monitor(vm);
    vm = vm_new(NULL);
    vm_refused(vm, "PUT", "/drives/d", "is an overlay of another file",
               "{\"drive_id\":\"d\",\"is_root_device\":false,\"path_on_host\":\"%s\"%s}", second,
               in_file("o"));
    vm_refused(vm, "PUT", "/drives/d", "is no layer of a drive",
               "{\"drive_id\":\"d\",\"is_root_device\":false,\"path_on_host\":\"%s\",\"overlay\":{"
               "\"type\":\"File\",\"path_on_host\":\"%s\"}}",
               base, second);
    disk_holds(second, 0, 8, 91);
}

/* ---- snapshots of tiny guests ---------------------------------------------------------------- */

enum { LARGE = 32 }; /* MiB: some tenths of a second to write and read back */

/* A guest that writes all of a large disk and reads it back, and has begun to. */
static struct vm *working(const char *base, const char *more)
{
    struct vm *vm = vm_new(NULL);

    vm_metrics(vm);
    boot_tiny(vm, base, more, "tiny=blk dev=0 seed=5");
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(2000)) {
        if (vm_counted(vm, "block", "write_count") > 0)
            return vm;
    }
    FAIL("the guest writes nothing");
}

/* Lets it work a little, then pauses it and takes a snapshot. */
static void take_while_it_works(struct vm *vm, const char *name)
{
    usleep(10000);
    snap_take(vm, name);
}

/* Files that snapshots have left beside state files. */
static unsigned layers_here(void)
{
    DIR *dir = opendir(e2e_dir);
    struct dirent *entry;
    unsigned count = 0;

    CHECK(dir);
    while ((entry = readdir(dir))) {
        size_t len = strlen(entry->d_name);
        count += len > 8 && !strcmp(entry->d_name + len - 8, ".overlay");
    }
    closedir(dir);
    return count;
}

static void goes_on_everywhere(const char *more, const char *override)
{
    const char *base = new_base(LARGE);
    struct vm *vm = working(base, more);
    take_while_it_works(vm, "s");
    CHECK_INT(layers_here(), 1);
    struct vm *one = snap_revive("s", override), *other = snap_revive("s", "");
    vm_expect(one, "BLK ok");
    vm_expect(other, "BLK ok");
    snap_resume(vm);
    vm_expect(vm, "BLK ok");
    is_untouched(base, LARGE);
}

E2E(clones_go_on_over_a_stored_overlay_each_with_its_own, TINY)
{
    goes_on_everywhere(IN_MEMORY, "");
}

E2E(clones_go_on_over_a_stored_file_in_memory_and_in_a_file, TINY)
{
    goes_on_everywhere(in_file("o"), clone_in_file("p"));
}

/* The writer has a copy of what is in memory; what is in a file is kept before the guest goes on.
 */
static void is_kept_behind_its_back(const char *more)
{
    const char *base = new_base(LARGE);
    struct vm *vm = working(base, more);
    snap_behind(vm, "Full", "s");
    vm_expect(vm, "BLK ok");
    vm_exits(vm, 0); /* waits for its writer */
    CHECK_INT(layers_here(), 1);
    vm_expect(snap_revive("s", ""), "BLK ok");
    is_untouched(base, LARGE);
}

E2E(a_snapshot_behind_the_guests_back_has_the_overlay_in_memory_of_its_moment, TINY)
{
    is_kept_behind_its_back(IN_MEMORY);
}

E2E(a_snapshot_behind_the_guests_back_has_the_overlay_in_a_file_of_its_moment, TINY)
{
    is_kept_behind_its_back(in_file("o"));
}

/* The guest does not notice any of it: it checks all that it has written. */
E2E(ten_generations_of_overlays_lose_no_block_of_a_guest_that_writes, TINY)
{
    const char *base = new_base(LARGE);
    struct vm *vm = working(base, IN_MEMORY);
    for (int i = 0; i < 10; i++) {
        const char *override = i % 2 ? text_format(",\"drive_overrides\":[{\"drive_id\":\"d\"%s}]",
                                                   in_file(text_format("top%d", i)))
                                     : "";
        take_while_it_works(vm, "s"); /* over the one that it runs from */
        kill_monitor(vm);
        vm = snap_revive("s", override);
    }
    vm_expect(vm, "BLK ok");
    vm_exits(vm, 0);
    is_untouched(base, LARGE);
}

E2E(a_snapshot_that_is_replaced_takes_its_layers_with_it, TINY)
{
    const char *base = new_base(LARGE);
    struct vm *vm = working(base, IN_MEMORY);
    for (int i = 0; i < 3; i++) {
        take_while_it_works(vm, "s");
        CHECK_INT(layers_here(), 1);
        snap_resume(vm);
    }
    take_while_it_works(vm, "t");
    CHECK_INT(layers_here(), 2);
    snap_revive("s", "");
    vm_expect(snap_revive("t", ""), "BLK ok");
}

E2E(a_snapshot_outlives_the_one_that_it_was_made_from, TINY)
{
    const char *base = new_base(LARGE);
    struct vm *vm = working(base, IN_MEMORY);
    take_while_it_works(vm, "s");
    struct vm *clone = snap_revive("s", "");
    take_while_it_works(clone, "t");
    kill_monitor(clone);
    CHECK(layers_here() >= 2); /* one of s; of t the same again, and what it wrote itself */
    snap_resume(vm);
    take_while_it_works(vm, "s");
    vm_expect(snap_revive("t", ""), "BLK ok");
}

/* The snapshot cannot be loaded: a fault message that contains `part`, and the monitor's end. */
static void load_is_refused(const char *name, const char *part, const char *more)
{
    struct vm *vm = vm_new(NULL);

    vm_refused(vm, "PUT", "/snapshot/load", part,
               "{\"snapshot_path\":\"%s.state\",\"mem_file_path\":\"%s.mem\"%s}", e2e_path(name),
               e2e_path(name), more);
    vm_exits(vm, 1);
}

E2E(a_clone_is_refused_over_an_overlay_that_another_one_has_written_to, TINY)
{
    const char *twice = "{\"drive_id\":\"d\",\"overlay\":{\"type\":\"Memory\"}}";
    const char *over = clone_in_file("c");
    struct vm *vm = working(new_base(LARGE), IN_MEMORY);
    take_while_it_works(vm, "s");
    struct vm *clone = snap_revive("s", over);
    vm_expect(clone, "BLK ok");
    kill_monitor(clone);
    load_is_refused("s", "has been written to by another guest", over);
    load_is_refused("s", "drive_overrides has the drive d twice",
                    text_format(",\"drive_overrides\":[%s,%s]", twice, twice));
}

E2E(a_snapshot_whose_layer_is_gone_or_damaged_is_refused_in_a_sentence, TINY)
{
    const char *base = new_base(LARGE), *layer = e2e_path("layer");
    struct vm *vm = working(base, IN_MEMORY);
    take_while_it_works(vm, "s");
    char *find = text_format("mv %s/s.state.d.*.overlay %s", e2e_dir, layer);
    CHECK_INT(system(find), 0);
    load_is_refused("s", "No such file or directory", "");
    const char *elsewhere =
        text_format(",\"drive_overrides\":[{\"drive_id\":\"d\",\"overlay\":{\"type\":\"Memory\","
                    "\"layers\":[\"%s\"]}}]",
                    layer);
    vm_expect(snap_revive("s", elsewhere), "BLK ok");
    CHECK_INT(truncate(layer, 8192), 0);
    load_is_refused("s", "is a damaged layer", elsewhere);
}

/* ---- forks of tiny guests -------------------------------------------------------------------- */

/* Waits for a word on a console that is a file. */
static void is_told(const char *console, const char *word)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(2000)) {
        struct text t = {0};

        if (text_read_file(&t, console) == 0 && text_contains(&t, word))
            return;
        text_free(&t);
    }
    FAIL("%s does not say %s", console, word);
}

/* A fork into one child with files of this name; `more` begins with a comma. */
static char *own_names(const char *name, const char *more)
{
    return text_format(
        "{\"children\":[{\"api_sock\":\"%s.sock\",\"serial_out_path\":\"%s.console\","
        "\"log_path\":\"%s.log\",\"metrics_path\":\"%s.metrics\"%s}]}",
        e2e_path(name), e2e_path(name), e2e_path(name), e2e_path(name), more);
}

static void forks_while_it_writes(const char *more, const char *override)
{
    const char *base = new_base(LARGE);
    struct vm *vm = working(base, more);
    for (char name[] = "a"; *name < 'c'; ++*name)
        vm_put_answered(vm, "/snapshot/fork", own_names(name, override));
    is_told(e2e_path("a.console"), "BLK ok");
    is_told(e2e_path("b.console"), "BLK ok");
    vm_expect(vm, "BLK ok");
    is_untouched(base, LARGE);
}

E2E(forks_take_an_overlay_in_memory_along_and_write_to_their_own, TINY | SANITIZER)
{
    forks_while_it_writes(IN_MEMORY, "");
}

E2E(forks_lie_over_the_overlay_that_was_their_parents_file, TINY | SANITIZER)
{
    forks_while_it_writes(in_file("o"), "");
    CHECK_INT(access(e2e_path("o.1"), F_OK), 0);
    CHECK_INT(access(e2e_path("o.2"), F_OK), 0);
}

E2E(a_fork_is_refused_over_an_overlay_that_another_one_has_written_to, TINY)
{
    const char *over = clone_in_file("c");
    struct vm *vm = working(new_base(LARGE), in_file("o"));
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    json_t *answer = vm_put_answered(vm, "/snapshot/fork", own_names("a", over));
    json_t *child = json_array_get(json_object_get(answer, "children"), 0);
    is_told(e2e_path("a.console"), "BLK ok");
    vm_has_ended((pid_t)json_integer_value(json_object_get(child, "pid"))); /* as its guest has */
    vm_refused(vm, "PUT", "/snapshot/fork", "has been written to by another guest", "%s",
               own_names("b", over));
}

/* ---- Linux ----------------------------------------------------------------------------------- */

static void leave(struct vm *vm)
{
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(two_clones_of_a_linux_guest_write_to_one_disk_and_do_not_see_each_other, LINUX | SANITIZER)
{
    const char *base = new_base(8);
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "d", base, IN_MEMORY);
    linux_boot(vm);
    ask(vm, "write vda 4096 1");
    snap_take(vm, "s");
    struct vm *one = snap_revive("s", ""), *other = snap_revive("s", clone_in_file("o"));
    ask(one, "write vda 101 2 2001"); /* neither aligned to a page nor to a block */
    ask(other, "write vda 202 3 1901");
    snap_resume(vm);
    ask(vm, "write vda 303 4 3000");
    ask(one, "verify vda 2001 1");
    ask(one, "verify vda 101 2 2001");
    ask(one, "verify vda 1994 1 2102");
    ask(one, "verify vda 12288 %d 4096", BASE_SEED);
    ask(other, "verify vda 1901 1");
    ask(other, "verify vda 202 3 1901");
    ask(other, "verify vda 1993 1 2103");
    ask(vm, "verify vda 3000 1");
    ask(vm, "verify vda 303 4 3000");
    ask(vm, "verify vda 793 1 3303");
    leave(one);
    leave(other);
    leave(vm);
    is_untouched(base, 8);
}

E2E(ten_generations_of_a_linux_guest_each_write_over_those_before, LINUX | SLOW)
{
    const char *base = new_base(16);
    struct vm *vm = vm_new(NULL);
    linux_drive(vm, "d", base, IN_MEMORY ",\"io_engine\":\"Async\"");
    linux_drive(vm, "f", base,
                text_format("%s,\"cache_type\":\"Writeback\",\"discard\":true", in_file("f.o")));
    linux_boot(vm);
    for (unsigned i = 0; i < 10; i++) {
        /* Each covers the first half of the one before. */
        ask(vm, "write vda 2001 %u %u", i, 1001 * (10 - i));
        ask(vm, "write vdb 2001 %u %u", i + 20, 1001 * (10 - i));
        ask(vm, "flush vdb");
        snap_take(vm, "s");
        kill_monitor(vm);
        vm = snap_revive("s", text_format(",\"drive_overrides\":[{\"drive_id\":\"f\"%s}]",
                                          in_file(text_format("f.o%u", i))));
        for (unsigned k = 0; k < i; k++) {
            ask(vm, "verify vda 1000 %u %u", k, 1001 * (10 - k) + 1001);
            ask(vm, "verify vdb 1000 %u %u", k + 20, 1001 * (10 - k) + 1001);
        }
    }
    ask(vm, "verify vda 1001 %d", BASE_SEED);
    ask(vm, "verify vda 16000 %d 16000", BASE_SEED);
    ask(vm, "discard vdb 0 32768");
    ask(vm, "load vda on");
    ask(vm, "sleep 100");
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
    leave(vm);
    is_untouched(base, 16);
}

E2E(two_linux_guests_have_one_root_file_system_that_both_write_to, LINUX | SANITIZER)
{
    struct vm *vms[2];
    const char *root = e2e_path("root");
    CHECK_INT(files_copy(e2e_guest(TEST_ROOT), root), 0);
    for (int i = 0; i < 2; i++) {
        vms[i] = vm_new(NULL);
        linux_machine(vms[i], 1, 128);
        vm_put(vms[i], "/drives/root",
               "{\"drive_id\":\"root\",\"is_root_device\":true,\"path_on_host\":\"%s\"%s}", root,
               i ? in_file("o") : IN_MEMORY);
        linux_start(vms[i], REFERENCE_ELF, NULL, "");
        CHECK_HAS(ask(vms[i], "cat /proc/mounts"), "/dev/root / ext4 rw");
    }
    for (int i = 0; i < 2; i++)
        leave(vms[i]);
    CHECK_INT(system(text_format("cmp %s %s", e2e_guest(TEST_ROOT), root)), 0);
}
