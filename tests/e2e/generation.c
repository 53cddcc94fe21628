/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clone knows that it is one: VMGenID and VMClock, the random numbers that follow from them, the
 * clocks. What a guest without a driver would see is read from memory files.
 */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"
#include "tests/support/text.h"

#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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

/* ---- Linux ----------------------------------------------------------------------------------- */

#define RESEEDED "crng reseeded due to virtual machine fork"

/* A kernel that finds VMGenID in the ACPI tables. */
static struct vm *kernel_with_acpi(unsigned vcpus)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, vcpus, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    CHECK_INT(number_of(ask(vm, "dmesg " RESEEDED), "count"), 0);
    return vm;
}

/* The kernel hears of it by an interrupt, a thread and a work queue. */
static void expect_reseeds(struct vm *vm, unsigned count)
{
    for (int i = 0; i < 200 && number_of(ask(vm, "dmesg " RESEEDED), "count") < count; i++)
        ask(vm, "sleep 10");
    ask(vm, "sleep 50"); /* one too many would come behind */
    CHECK_INT(number_of(ask(vm, "dmesg " RESEEDED), "count"), count);
}

/* The sum of the numbers, one a processor, that follow in a line of /proc/interrupts. */
static unsigned long sum_of_counts(const char *at)
{
    unsigned long sum = 0;

    for (at += strspn(at, " "); isdigit((unsigned char)*at); at += strspn(at, " ")) {
        char *end;

        sum += strtoul(at, &end, 10);
        at = end;
    }
    return sum;
}

/* What the kernel counted on each of the generation's two lines. */
static void expect_events(struct vm *vm, unsigned long each)
{
    char *all = strdup(ask(vm, "cat /proc/interrupts")), *line;
    unsigned lines = 0;

    while ((line = strsep(&all, "\n"))) {
        if (!strstr(line, "ACPI:Ged"))
            continue;
        CHECK_INT(sum_of_counts(strchr(line, ':') + 1), each);
        lines++;
    }
    CHECK_INT(lines, 2);
}

E2E(two_clones_of_a_kernel_with_acpi_draw_different_random_numbers, LINUX | SANITIZER)
{
    struct vm *vm = kernel_with_acpi(1);
    snap_take(vm, "s");
    struct vm *one = snap_revive("s", ""), *other = snap_revive("s", "");
    expect_reseeds(one, 1);
    expect_reseeds(other, 1);
    const char *random = ask(one, "random 32 /dev/urandom");
    CHECK(strcmp(random, ask(other, "random 32 /dev/urandom")) != 0);
    snap_resume(vm);
    CHECK(strcmp(random, ask(vm, "random 32 /dev/urandom")) != 0);
}

E2E(a_kernel_with_acpi_hears_of_each_load_once_and_of_no_pause, LINUX)
{
    struct vm *vm = kernel_with_acpi(2);
    for (unsigned loads = 1; loads <= 3; loads++) {
        snap_take(vm, "s");
        snap_resume(vm);
        expect_reseeds(vm, loads - 1);
        expect_events(vm, loads - 1);
        monitor_end(&vm->monitor);
        vm = snap_revive("s", "");
        expect_reseeds(vm, loads);
        expect_events(vm, loads);
    }
}

#define AGENT_PORT 6010
#define DRAW       "random 32 /dev/urandom"

/* By the conversation of guest/README.md; `digit` makes the seed. */
static const char *seed_and_draw(const char *socket, char digit)
{
    int fd = guest_connect(socket, AGENT_PORT);
    char seed[65] = "";

    memset(seed, digit, sizeof(seed) - 1);
    CHECK_HAS(guest_ask(fd, DRAW), "ERR no work before a seed");
    CHECK_HAS(guest_ask(fd, "SEED 00"), "ERR a seed is 32 to 256 bytes");
    CHECK_HAS(guest_ask(fd, DRAW), "ERR no work before a seed");
    CHECK(!strcmp(guest_ask(fd, text_format("SEED %s", seed)), "OK\n"));
    const char *random = guest_ask(fd, DRAW);
    CHECK_INT(strspn(random, "0123456789abcdef"), 64);
    close(fd);
    return random;
}

E2E(an_agent_without_acpi_takes_no_work_before_a_seed_of_this_clone, LINUX | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    linux_boot(vm);
    ask(vm, "agent %d", AGENT_PORT);
    const char *parents = seed_and_draw("v.sock", '0');
    int seeded = guest_connect("v.sock", AGENT_PORT); /* whose connection no clone inherits */
    CHECK(!strcmp(guest_ask(seeded, text_format("SEED %064d", 0)), "OK\n"));
    snap_take(vm, "s");
    snap_revive("s", text_format(",\"vsock_override\":{\"uds_path\":\"%s\"}", e2e_path("one")));
    snap_revive("s", text_format(",\"vsock_override\":{\"uds_path\":\"%s\"}", e2e_path("other")));
    const char *one = seed_and_draw("one", '1'), *other = seed_and_draw("other", '2');
    CHECK(strcmp(one, other) != 0 && strcmp(one, parents) != 0);
    snap_resume(vm);
    CHECK_HAS(guest_ask(seeded, DRAW), "OK\n");
}

/* A forked child's part of the request: its files are NAME.sock, NAME.console ... */
static char *child(const char *name)
{
    const char *path = e2e_path(name);

    return text_format("{\"api_sock\":\"%s.sock\",\"serial_out_path\":\"%s.console\","
                       "\"log_path\":\"%s.log\",\"vsock_override\":{\"uds_path\":\"%s.vsock\"}}",
                       path, path, path, path);
}

/* How often the kernel at the other end of that socket was reseeded for a clone. */
static unsigned reseeds_over(const char *socket)
{
    int fd = guest_connect(socket, AGENT_PORT);
    unsigned count = 0;

    for (int i = 0; i < 200 && count == 0; i++, usleep(10000))
        count = (unsigned)number_of(guest_ask(fd, "dmesg " RESEEDED), "count");
    close(fd);
    return count;
}

E2E(two_forks_of_a_kernel_with_acpi_draw_different_random_numbers, LINUX | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    linux_machine(vm, 1, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    ask(vm, "agent %d unseeded", AGENT_PORT);
    vm_put_answered(vm, "/snapshot/fork",
                    text_format("{\"children\":[%s,%s]}", child("one"), child("other")));
    CHECK_INT(reseeds_over("one.vsock"), 1);
    CHECK_INT(reseeds_over("other.vsock"), 1);
    const char *one = guest_ask(guest_connect("one.vsock", AGENT_PORT), DRAW);
    const char *other = guest_ask(guest_connect("other.vsock", AGENT_PORT), DRAW);
    const char *parents = ask(vm, DRAW);
    CHECK(strncmp(one, other, 64) != 0 && strncmp(one, parents, 64) != 0);
    CHECK_INT(number_of(ask(vm, "dmesg " RESEEDED), "count"), 0);
}

/* ---- the entropy device ---------------------------------------------------------------------- */

/* 64 bytes, a request of the driver, every second. */
#define SLOW_ENTROPY "{\"rate_limiter\":{\"bandwidth\":{\"size\":64,\"refill_time\":1000}}}"

E2E(an_entropy_request_that_waits_when_it_is_saved_is_filled_afresh_in_each_clone, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_metrics(vm);
    vm_put(vm, "/entropy", SLOW_ENTROPY);
    linux_boot(vm);
    ask(vm, "random 1"); /* what it has read ahead is of no interest */
    vm_type(vm, "random 192\n");
    while (vm_counted(vm, "entropy", "entropy_rate_limiter_throttled") < 1)
        usleep(10000);
    snap_take(vm, "s");
    long long drawn = vm_counted(vm, "entropy", "entropy_bytes");
    struct vm *one = snap_revive("s", ""), *other = snap_revive("s", "");
    vm_expect(one, "OK\n");
    vm_expect(other, "OK\n");
    /* The last 64 bytes come from a request that was not yet answered. */
    CHECK_INT(vm_counted(vm, "entropy", "entropy_bytes"), drawn);
    CHECK(strlen(vm_out(one)) >= 2 * 192 && strlen(vm_out(other)) >= 2 * 192);
    CHECK(strcmp(strstr(vm_out(one), "OK\n") - 128, strstr(vm_out(other), "OK\n") - 128) != 0);
}

/* ---- clocks ---------------------------------------------------------------------------------- */

struct moment {
    double realtime, monotonic; /* the guest's */
    int64_t before, after;      /* the host's, around the asking, in ms */
};

static double seconds_of(const char *answer, const char *key)
{
    const char *at = strstr(answer, key);

    CHECK(at != NULL);
    return strtod(at + strlen(key), NULL);
}

static struct moment look(struct vm *vm)
{
    struct moment m = {.before = clock_ms()};
    const char *answer = ask(vm, "time");

    m.after = clock_ms();
    m.realtime = seconds_of(answer, "realtime=");
    m.monotonic = seconds_of(answer, "monotonic=");
    return m;
}

#define ON_DISK_MS 4000

/* An emulated host's KVM may, rarely, give every guest a time that runs ahead by the host's uptime:
 * nothing of clocks can be learned there. */
static void expect_sound_clock(const struct moment *m)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (fabs(m->realtime - (double)now.tv_sec) > 2)
        e2e_skip("this host's KVM tells a guest that has just started %f for %ld", m->realtime,
                 (long)now.tv_sec);
}

/* What a guest's clocks show before and after it has lain on the disk for a while. */
static void lie_on_disk(struct moment *before, struct moment *after, const char *more)
{
    struct vm *vm = vm_new(NULL);
    linux_boot(vm);
    *before = look(vm);
    expect_sound_clock(before);
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    usleep(ON_DISK_MS * 1000);
    *after = look(snap_revive("s", more));
}

E2E(a_guests_clocks_stand_still_while_it_lies_on_the_disk, LINUX)
{
    struct moment before, after;
    lie_on_disk(&before, &after, "");
    double most = (double)(after.after - before.before - ON_DISK_MS) / 1e3 + 0.1;
    double monotonic = after.monotonic - before.monotonic;
    double realtime = after.realtime - before.realtime;
    if (monotonic < 0 || monotonic > most || realtime < 0 || realtime > most)
        FAIL("the guest ran for %f s at most; its clocks went on by %f and %f", most, monotonic,
             realtime);
}

/* KVM knows how the guest's clock and the host's go together only where both come from the time
 * stamp counter. */
static bool host_counts_by_tsc(void)
{
    struct text source = {0};
    int rc =
        text_read_file(&source, "/sys/devices/system/clocksource/clocksource0/current_clocksource");

    return rc == 0 && !strcmp(text_str(&source), "tsc\n");
}

E2E(a_guests_clocks_catch_up_with_the_wall_when_the_load_says_so, LINUX)
{
    struct moment before, after;
    if (!host_counts_by_tsc())
        e2e_skip("the host's clock is not the time stamp counter");
    lie_on_disk(&before, &after, ",\"clock_realtime\":true");
    double least = (double)(after.before - before.after) / 1e3 - 0.1;
    double most = (double)(after.after - before.before) / 1e3 + 0.1;
    double realtime = after.realtime - before.realtime;
    if (realtime < least || realtime > most)
        FAIL("between %f and %f s passed, for the guest %f", least, most, realtime);
}
