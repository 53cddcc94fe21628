/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every device at once, for minutes, while at random moments the guest is paused, saved, forked and
 * gone on with in another monitor: nothing lost, nothing stuck, no growth. The guest's half is
 * guest/init/test-soak.c, the ends of its connections are soak_ends.c; here are the orders.
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
#include "tests/e2e/soak_ends.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/tap.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAP       "mayflysoak"
#define FORK_TAP  "mayflysoak2"
#define HOST      "172.30.7.1"
#define FORK_HOST "172.30.8.1"
#define GUEST     "172.30.7.2"

/* What may come and go with the moment, as buffers of connections do. A sanitizer's own records and
 * shadow grow for minutes: there, only what would run away is seen. */
enum { GROWTH_KIB = 256, GROWTH_SANITIZED_KIB = 32 * 1024, GROWTH_FDS = 8 };
enum { PROGRESS_MS = 60000, AGENT_PORT = 6010 };
enum { PAUSE_MS_MAX = 40, MEMORY_MIB = 256, BALLOON_MIB_MAX = 64, HOTPLUG_MIB = 128 };

/* A guest spends this many orders in each of so many monitors. */
enum { STAYS = 5, ORDERS = 12, SETTLED = 3 };

enum order { PAUSE, FULL, DIFF, BEHIND_FULL, BEHIND_DIFF, FORK, ORDER_KINDS };

struct soak {
    struct vm *vm;
    bool forkable;  /* its disk has an overlay, and there is no writable pmem */
    bool writing;   /* a snapshot, behind the guest's back */
    unsigned loads; /* by which it came to `vm` */
    unsigned done[ORDER_KINDS];
    uint64_t state;   /* of the random numbers */
    const char *seen; /* what the guest's parts had done at the last look */
};

/* ---- the machine ----------------------------------------------------------------------------- */

static void make_taps(void)
{
    int rc = unshare(CLONE_NEWNET) ? -errno : tap_make(TAP, HOST);

    if (rc == 0)
        rc = tap_make(FORK_TAP, FORK_HOST);
    if (rc)
        e2e_skip("no tap can be made here: %s", strerror(-rc));
    /* A fork asks for the address of the parent's peer: that one is not there. */
    CHECK_INT(files_write("/proc/sys/net/ipv4/conf/" FORK_TAP "/arp_ignore", "1", 1), 0);
}

/* The kernel gives back what a killed process held a moment after the process is gone. */
static void await_tap(const char *name, const char *address)
{
    int64_t deadline = clock_ms() + e2e_ms(VM_MS);

    while (tap_make(name, address) == -EBUSY) {
        CHECK(clock_left(deadline));
        usleep(1000);
    }
}

static void configure(const struct soak *soak)
{
    struct vm *vm = soak->vm;

    linux_machine(vm, 1, MEMORY_MIB);
    vm_patch(vm, "/machine-config", "{\"track_dirty_pages\":true}");
    if (soak->forkable) {
        /* Large enough for read_smaps() to take what the overlay holds for the guest's, as it is.
         */
        linux_drive(vm, "d", disk_new("disk", 64),
                    ",\"io_engine\":\"Async\",\"overlay\":{\"type\":\"Memory\"}");
    } else {
        linux_drive(vm, "d", disk_new("disk", 16),
                    ",\"io_engine\":\"Async\",\"cache_type\":\"Writeback\"");
        vm_put(vm, "/pmem/p", "{\"id\":\"p\",\"path_on_host\":\"%s\"}", disk_new("pmem", 8));
    }
    vm_put(vm, "/network-interfaces/n", "{\"iface_id\":\"n\",\"host_dev_name\":\"" TAP "\"}");
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path(ends_socket()));
    vm_put(vm, "/balloon",
           "{\"amount_mib\":0,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1,"
           "\"free_page_reporting\":true}");
    vm_put(vm, "/entropy", "{}");
    vm_put(vm, "/hotplug/memory", "{\"total_size_mib\":%d}", HOTPLUG_MIB);
}

/* ---- what the monitor holds ------------------------------------------------------------------ */

struct holdings {
    unsigned long kib; /* anonymous memory, be it shared with a writer that has not quite ended yet;
                          without the guest's */
    unsigned fds;
};

/* Mappings that lie side by side. Those of 64 MiB and more together are the guest's memory, which
 * has pieces where it came from a file and the guest gave some of it back. */
struct run {
    unsigned long end, kib, anonymous_kib;
};

static unsigned long own_kib(const struct run *run)
{
    return run->kib < 64 * 1024 ? run->anonymous_kib : 0;
}

/* Sums up a process's mappings without the guest's. */
static unsigned long read_smaps(FILE *f)
{
    unsigned long total = 0, start, end, value;
    struct run run = {0};
    char line[512], *path;

    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
            path = strpbrk(line, "/[");
            if (start != run.end || (path && !strstr(path, "/s.mem"))) {
                total += own_kib(&run);
                run = (struct run){0};
            }
            run.end = path && !strstr(path, "/s.mem") ? 0 : end;
            run.kib += (end - start) / 1024;
        } else if (sscanf(line, "Anonymous: %lu", &value) == 1) {
            run.anonymous_kib += value;
        }
    }
    return total + own_kib(&run);
}

static struct holdings holdings_of(const struct vm *vm)
{
    pid_t pid = vm->monitor.process.pid;
    FILE *f = fopen(text_format("/proc/%d/smaps", pid), "re");
    DIR *dir = opendir(text_format("/proc/%d/fd", pid));
    struct holdings now = {0};

    CHECK(f && dir);
    now.kib = read_smaps(f);
    while (readdir(dir))
        now.fds++;
    fclose(f);
    closedir(dir);
    return now;
}

static bool is_sanitized(const struct vm *vm)
{
    struct text maps = {0};
    bool found;

    CHECK_INT(text_read_file(&maps, text_format("/proc/%d/maps", vm->monitor.process.pid)), 0);
    found = strstr(text_str(&maps), "libasan") != NULL;
    text_free(&maps);
    return found;
}

static void has_not_grown(const struct soak *soak, struct holdings settled)
{
    struct holdings last = holdings_of(soak->vm);

    printf("monitor %u: %lu, then %lu KiB; %u, then %u descriptors\n", soak->loads, settled.kib,
           last.kib, settled.fds, last.fds);
    if (last.kib > settled.kib + (is_sanitized(soak->vm) ? GROWTH_SANITIZED_KIB : GROWTH_KIB))
        FAIL("the monitor's own memory grew from %lu to %lu KiB", settled.kib, last.kib);
    if (last.fds > settled.fds + GROWTH_FDS)
        FAIL("the monitor's descriptors grew from %u to %u", settled.fds, last.fds);
}

/* ---- what the guest does --------------------------------------------------------------------- */

/* By its console, or by a connection to its agent. */
static const char *look(struct vm *vm, int fd)
{
    const char *answer = fd < 0 ? ask(vm, "soak-look") : guest_ask(fd, "soak-look");

    if (strstr(answer, "ERR "))
        FAIL("the guest's soak: %s", answer);
    return answer;
}

/* Waits until each of the parts, NULL behind the last, has done more than at the look before;
 * returns what it has done. A busy host makes them slow, which is no fault. */
static const char *await_progress(struct vm *vm, int fd, const char *const *parts,
                                  const char *before)
{
    int64_t deadline = clock_ms() + e2e_ms(PROGRESS_MS);
    const char *now = look(vm, fd);

    for (; *parts; parts++) {
        while (number_of(now, *parts) <= number_of(before, *parts)) {
            if (!clock_left(deadline))
                FAIL("%s stands still at %llu rounds", *parts, number_of(now, *parts));
            usleep(200000);
            now = look(vm, fd);
        }
    }
    return now;
}

/* Each load, and each fork in its child, ends the connections of vsock: one that was, and one that
 * was being made. */
static void check_resets(const char *now, unsigned times)
{
    CHECK(number_of(now, "vsock-out-resets") <= 2UL * times);
    CHECK(number_of(now, "vsock-in-resets") <= 2UL * times);
    CHECK(number_of(now, "vsock-echo-resets") <= 2UL * times);
}

static void all_goes_on(struct soak *soak)
{
    static const char *const parts[] = {"pmem",     "disk",       "tcp-out", "tcp-in",  "vsock-out",
                                        "vsock-in", "vsock-echo", "memory",  "entropy", NULL};

    soak->seen = await_progress(soak->vm, -1, soak->forkable ? parts + 1 : parts, soak->seen);
    check_resets(soak->seen, soak->loads);
}

/* ---- orders ---------------------------------------------------------------------------------- */

/* Orders of another size for balloon and plugged memory, now and then. */
static void breathe(struct soak *soak)
{
    vm_patch(soak->vm, "/balloon", "{\"amount_mib\":%d}",
             (int)(e2e_random(&soak->state) % BALLOON_MIB_MAX));
    vm_patch(soak->vm, "/hotplug/memory", "{\"requested_size_mib\":%d}",
             (int)(e2e_random(&soak->state) % 2) * HOTPLUG_MIB);
}

static int connect_to_agent(const char *socket)
{
    int64_t deadline = clock_ms() + e2e_ms(PROGRESS_MS), begin;
    int fd;

    do {
        begin = clock_ms();
        fd = guest_try_connect(socket, AGENT_PORT);
    } while (fd < 0 && clock_ms() - begin >= ANSWER_MS && clock_left(deadline));
    if (fd < 0)
        FAIL("the fork refused a connection after %lld ms", (long long)(clock_ms() - begin));
    return fd;
}

/* A fork has its own tap, where nobody answers, and its own vsock socket, behind which the same
 * ends listen. It is looked at, and then killed. */
static void fork_once(struct soak *soak)
{
    static const char *const parts[] = {"disk", "vsock-out", "vsock-in", "memory", "entropy", NULL};
    char *name = text_format("f%u", soak->done[FORK]), *vsock = text_format("%s.vsock", name);
    const char *path = e2e_path(name);

    ends_serve_too(vsock);
    json_t *answer = vm_put_answered(
        soak->vm, "/snapshot/fork",
        text_format("{\"children\":[{\"api_sock\":\"%s.sock\",\"serial_out_path\":\"%s.console\","
                    "\"log_path\":\"%s.log\",\"vsock_override\":{\"uds_path\":\"%s.vsock\"},"
                    "\"network_overrides\":[{\"iface_id\":\"n\",\"host_dev_name\":\"" FORK_TAP
                    "\"}]}]}",
                    path, path, path, path));
    json_t *child = json_array_get(json_object_get(answer, "children"), 0);
    pid_t pid = (pid_t)json_integer_value(json_object_get(child, "pid"));
    CHECK(pid > 0);
    int fd = connect_to_agent(vsock);
    check_resets(await_progress(NULL, fd, parts, look(NULL, fd)), soak->loads + 1);
    close(fd);
    kill(pid, SIGKILL);
    vm_has_ended(pid);
    await_tap(FORK_TAP, FORK_HOST);
}

static void pause_for_a_while(struct soak *soak)
{
    vm_patch(soak->vm, "/vm", "{\"state\":\"Paused\"}");
    usleep((useconds_t)(e2e_random(&soak->state) % PAUSE_MS_MAX) * 1000);
    snap_resume(soak->vm);
}

static void await_writer(struct soak *soak)
{
    if (soak->writing)
        snap_is_written(soak->vm);
    soak->writing = false;
}

/* All snapshots are of one pair of files: the diffs go into their place. */
static void obey(struct soak *soak, enum order order)
{
    if (order != PAUSE)
        await_writer(soak);
    switch (order) {
    case FULL:
        snap_take(soak->vm, "s");
        snap_resume(soak->vm);
        break;
    case DIFF:
        snap_diff(soak->vm, "s");
        snap_resume(soak->vm);
        break;
    case BEHIND_FULL:
    case BEHIND_DIFF:
        snap_behind(soak->vm, order == BEHIND_FULL ? "Full" : "Diff", "s");
        soak->writing = true;
        break;
    case FORK:
        fork_once(soak);
        break;
    case PAUSE:
    case ORDER_KINDS:
        pause_for_a_while(soak);
    }
    soak->done[order]++;
}

/* The guest goes on in a new monitor, with the same disk and tap and a vsock socket of its own. */
static void move(struct soak *soak)
{
    if (soak->loads % 2)
        snap_take(soak->vm, "s");
    else
        snap_diff(soak->vm, "s");
    ends_move();
    monitor_end(&soak->vm->monitor);
    await_tap(TAP, HOST);
    soak->loads++;
    char *vsock = text_format("v%u", soak->loads);
    ends_serve_too(vsock);
    soak->vm = snap_revive("s", text_format(",\"track_dirty_pages\":true,"
                                            "\"vsock_override\":{\"uds_path\":\"%s\"}",
                                            e2e_path(vsock)));
    ends_move();
}

/* Orders at random moments of the `ms` that the guest stays in this monitor. */
static void stay(struct soak *soak, int64_t ms)
{
    uint64_t slice = (uint64_t)ms / ORDERS;
    int64_t begin = clock_ms();
    struct holdings settled = {0};

    for (unsigned i = 0; i < ORDERS; i++) {
        int64_t until = begin + (int64_t)(slice * i + e2e_random(&soak->state) % slice);

        while (clock_left(until))
            usleep(10000);
        obey(soak, (enum order)(e2e_random(&soak->state) %
                                (soak->forkable ? ORDER_KINDS : ORDER_KINDS - 1)));
        ends_check(soak->loads + soak->done[FORK]);
        if (i % 4 == 2)
            breathe(soak);
        if (i == SETTLED) {
            await_writer(soak);
            settled = holdings_of(soak->vm);
        }
    }
    await_writer(soak);
    all_goes_on(soak);
    has_not_grown(soak, settled);
}

static void soak_for(bool forkable, int64_t ms)
{
    struct soak soak = {.forkable = forkable, .state = 7};

    make_taps();
    /* A sanitizer keeps what was freed for a while; it shall not look like growth. */
    setenv("ASAN_OPTIONS", "quarantine_size_mb=1", 0);
    ends_listen(HOST);
    soak.vm = vm_new(NULL);
    configure(&soak);
    linux_start(soak.vm, FULL_ELF, TEST_INITRD, "");
    ask(soak.vm, "soak-start %s %s", GUEST, HOST);
    ask(soak.vm, "agent %d unseeded", AGENT_PORT);
    usleep(1000000);
    ends_connect();
    soak.seen = look(soak.vm, -1);
    for (unsigned i = 0; i < STAYS; i++) {
        if (i)
            move(&soak);
        stay(&soak, ms / STAYS);
    }
    for (unsigned i = 0; i < ORDER_KINDS; i++)
        CHECK(soak.done[i] > 0 || (i == FORK && !forkable));
    printf("%s host: tcp %llu %llu vsock %llu %llu %llu\n", soak.seen,
           (unsigned long long)ends->rounds[0], (unsigned long long)ends->rounds[1],
           (unsigned long long)ends->rounds[2], (unsigned long long)ends->rounds[3],
           (unsigned long long)ends->rounds[4]);
    linux_leave(soak.vm, "reboot");
    vm_exits(soak.vm, 0);
}

/* The two share the time of a soak: a fork is refused where parent and child would both write. */
E2E(all_devices_at_once_with_pauses_snapshots_and_loads_lose_nothing_and_do_not_grow, SOAK)
{
    soak_for(false, (int64_t)e2e.soak_seconds * 500);
}

E2E(all_devices_at_once_with_forks_snapshots_and_loads_lose_nothing_and_do_not_grow, SOAK)
{
    soak_for(true, (int64_t)e2e.soak_seconds * 500);
}
