/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone knows that it is one: VMGenID and VMClock, the random numbers that follow from them, the
 * clocks. What a guest without a driver would see is read from memory files.
 */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/snap.h"
#include "tests/support/text.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Where the pages are (vmm/boot/layout.h), and what is of interest of VMClock's
 * (<linux/vmclock-abi.h>). */
#define VMGENID 0xdf000
#define VMCLOCK 0xde000

struct generation {
    uint8_t id[16];
    uint32_t seq_count;
    uint64_t disruptions, loads;
};

static void read_memory(int fd, void *to, size_t len, long address)
{
    CHECK_INT(pread(fd, to, len, address), len);
}

/* What the memory of the snapshot `name` says. */
static struct generation saved(const char *name)
{
    struct generation g;
    int fd = open(e2e_path(text_format("%s.mem", name)), O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    read_memory(fd, g.id, sizeof(g.id), VMGENID);
    read_memory(fd, &g.seq_count, sizeof(g.seq_count), VMCLOCK + 12);
    read_memory(fd, &g.disruptions, sizeof(g.disruptions), VMCLOCK + 16);
    read_memory(fd, &g.loads, sizeof(g.loads), VMCLOCK + 104);
    close(fd);
    return g;
}

static bool same_id(const struct generation *a, const struct generation *b)
{
    return memcmp(a->id, b->id, sizeof(a->id)) == 0;
}

/* ---- bare guests ----------------------------------------------------------------------------- */

E2E(every_load_is_another_generation, TINY | INTEL)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    snap_take(vm, "s");
    snap_take(snap_revive("s", ""), "one");
    snap_take(snap_revive("s", ""), "other");
    snap_take(snap_revive("one", ""), "child");
    struct generation first = saved("s"), one = saved("one"), other = saved("other"),
                      child = saved("child");
    CHECK(!same_id(&first, &one) && !same_id(&first, &other) && !same_id(&one, &other));
    CHECK(!same_id(&child, &one) && !same_id(&child, &other));
    CHECK_INT(first.loads, 0);
    CHECK_INT(one.loads, 1);
    CHECK_INT(other.loads, 1);
    CHECK_INT(child.loads, 2);
    CHECK_INT(child.disruptions, 2);
    CHECK_INT(child.seq_count, 4);
}

E2E(a_pause_and_a_snapshot_are_no_other_generation, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    snap_take(vm, "before");
    snap_resume(vm);
    vm_type(vm, ".");
    vm_expect(vm, "a");
    snap_take(vm, "after");
    struct generation before = saved("before"), after = saved("after");
    CHECK(same_id(&before, &after));
    CHECK_INT(after.loads, before.loads);
    CHECK_INT(after.seq_count, before.seq_count);
}
