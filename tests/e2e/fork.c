/* SPDX-License-Identifier: Apache-2.0 */
/* Live fork: a running guest goes on in further processes, and none of them sees another. */
#include "tests/e2e/bare.h"
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/pace.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/tap.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

/* One of several: its own names, in the test's directory. */
struct twin {
    struct vm *vm;
    pid_t pid;
    const char *console;
};

static const char *twin_file(const char *name, const char *kind)
{
    return e2e_path(text_format("%s.%s", name, kind));
}

/* What a request says of the child `name`; `more` begins with a comma. */
static char *child_body(const char *name, const char *more)
{
    return text_format("{\"api_sock\":\"%s\",\"serial_out_path\":\"%s\",\"log_path\":\"%s\"%s}",
                       twin_file(name, "sock"), twin_file(name, "console"), twin_file(name, "log"),
                       more);
}

/* Forks children of these names, NULL behind the last. */
static void fork_into(struct vm *vm, struct twin *twins, const char *const *names, const char *more)
{
    struct text body = {0};
    text_puts(&body, "{\"children\":[");
    for (unsigned i = 0; names[i]; i++) {
        text_puts(&body, i ? "," : "");
        text_puts(&body, child_body(names[i], more));
    }
    text_puts(&body, "]}");
    json_t *children =
        json_object_get(vm_put_answered(vm, "/snapshot/fork", text_str(&body)), "children");
    for (unsigned i = 0; names[i]; i++) {
        json_t *child = json_array_get(children, i);
        const char *socket = json_string_value(json_object_get(child, "api_sock"));
        CHECK(socket && !strcmp(socket, twin_file(names[i], "sock")));
        twins[i] = (struct twin){
            .vm = vm_adopt(socket),
            .pid = (pid_t)json_integer_value(json_object_get(child, "pid")),
            .console = twin_file(names[i], "console"),
        };
        CHECK(twins[i].pid > 0);
    }
}

static struct twin fork_one(struct vm *vm, const char *name, const char *more)
{
    struct twin twin;
    fork_into(vm, &twin, (const char *[]){name, NULL}, more);
    return twin;
}

E2E(a_fork_goes_on_where_the_guest_was_and_neither_sees_the_others_writes, TINY | INTEL)
{
    struct vm *vm = pacing("", NULL);
    unsigned long before = pace_of(vm);
    struct twin twin = fork_one(vm, "a", "");
    unsigned long first = counts_beyond_in(twin.console, 0);
    CHECK(first > before);
    CHECK(!strcmp(vm_state(twin.vm), "Running"));
    counts_beyond_in(twin.console, first + 20);
    counts_beyond(vm, first + 20);
    CHECK(!strcmp(vm_state(vm), "Running"));
}

E2E(eight_forks_at_once_all_go_on_and_leave_no_zombie, TINY)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", NULL};
    struct twin twins[8];
    struct vm *vm = pacing("", NULL);
    fork_into(vm, twins, names, "");
    for (unsigned i = 0; i < 8; i++)
        counts_beyond_in(twins[i].console, counts_beyond_in(twins[i].console, 0));
    for (unsigned i = 0; i < 8; i++)
        CHECK_INT(kill(twins[i].pid, SIGKILL), 0);
    for (unsigned i = 0; i < 8; i++)
        vm_has_ended(twins[i].pid);
    counts_beyond(vm, pace_of(vm));
}

E2E(a_fork_outlives_its_parent, TINY)
{
    struct vm *vm = pacing("", NULL);
    struct twin twin = fork_one(vm, "a", "");
    monitor_end(&vm->monitor);
    counts_beyond_in(twin.console, pace_in(twin.console) + 10);
    vm_patch(twin.vm, "/vm", "{\"state\":\"Paused\"}");
    CHECK(!strcmp(vm_state(twin.vm), "Paused"));
}

E2E(a_fork_of_a_fork_goes_on, TINY)
{
    struct vm *vm = pacing("", NULL);
    struct twin twin = {.vm = vm}, older;
    for (char name[] = "a"; *name < 'f'; ++*name) {
        older = twin;
        twin = fork_one(older.vm, name, "");
        counts_beyond_in(twin.console, 0);
        if (older.pid) {
            kill(older.pid, SIGKILL);
        }
    }
    counts_beyond_in(twin.console, pace_in(twin.console) + 3);
}

/* ---- what each has of its own ---------------------------------------------------------------- */

/* A ring's end, and so that of a socket that it accepts from, comes a moment after its process's.
 */
static void nobody_listens(const char *socket)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(2000)) {
        int fd = api_connect(socket);
        if (fd == -ECONNREFUSED)
            return;
        close(fd);
    }
    FAIL("somebody still listens at %s", socket);
}

E2E(a_fork_lets_go_of_the_parents_sockets, TINY)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    vm_boot(vm, bare_guest(BARE_PACE), "");
    struct twin twin = fork_one(
        vm, "a", text_format(",\"vsock_override\":{\"uds_path\":\"%s\"}", e2e_path("w.sock")));
    int fd = api_connect(e2e_path("v.sock"));
    CHECK(fd >= 0);
    close(fd);
    const char *socket = strdup(vm->monitor.socket);
    monitor_end(&vm->monitor);
    nobody_listens(socket);
    nobody_listens(e2e_path("v.sock"));
    fd = api_connect(e2e_path("w.sock"));
    CHECK(fd >= 0);
    CHECK(!strcmp(vm_state(twin.vm), "Running"));
}

E2E(a_fork_has_its_own_id_log_metrics_and_timeline, TINY)
{
    const char *args[] = {"--id", "older", "--metrics-path", e2e_path("metrics"), NULL};
    struct vm *vm = pacing("", args);
    struct twin twin = fork_one(
        vm, "a",
        text_format(",\"id\":\"younger\",\"metrics_path\":\"%s\"", twin_file("a", "metrics")));
    struct text t = {0};
    json_t *info = vm_get(twin.vm, "/");
    CHECK(!strcmp(json_string_value(json_object_get(info, "id")), "younger"));
    info = vm_get(vm, "/");
    CHECK(!strcmp(json_string_value(json_object_get(info, "id")), "older"));

    vm_put(twin.vm, "/actions", "{\"action_type\":\"FlushMetrics\"}");
    json_t *line = json_load_file(twin_file("a", "metrics"), JSON_DISABLE_EOF_CHECK, NULL);
    json_t *actions = json_object_get(json_object_get(line, "put_api_requests"), "actions_count");
    CHECK_INT(json_integer_value(actions), 0); /* the parent's start was not the child's */

    json_t *stages = json_object_get(vm_get(twin.vm, "/timeline"), "stages"), *stage;
    size_t i;
    json_array_foreach (stages, i, stage)
        CHECK(json_integer_value(json_object_get(stage, "us")) < 60000000);
    CHECK(json_array_size(stages) >= 4);

    text_read_file(&t, twin_file("a", "log"));
    CHECK(text_contains(&t, "[younger:"));
    CHECK(!text_contains(&t, "[older:"));
    CHECK(!strstr(vm_log(vm), "younger:"));
}

E2E(a_paused_guest_is_forked_and_stays_paused_while_its_fork_runs, TINY)
{
    struct vm *vm = pacing("", NULL);
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    unsigned long stood = pace_of(vm);
    struct twin twin = fork_one(vm, "a", ""), still = fork_one(vm, "b", ",\"resume_vm\":false");
    counts_beyond_in(twin.console, stood + 10);
    CHECK(!strcmp(vm_state(vm), "Paused"));
    CHECK(!strcmp(vm_state(still.vm), "Paused"));
    CHECK_INT(pace_of(vm), stood);
    CHECK_INT(pace_in(still.console), 0);
    vm_patch(still.vm, "/vm", "{\"state\":\"Resumed\"}");
    counts_beyond_in(still.console, stood);
}

E2E(a_snapshot_of_a_fork_goes_on, TINY)
{
    struct vm *vm = pacing("", NULL);
    struct twin twin = fork_one(vm, "a", "");
    counts_beyond_in(twin.console, 0);
    snap_take(twin.vm, "s");
    unsigned long stood = pace_in(twin.console);
    vm = vm_new(NULL);
    vm_put(vm, "/serial", "{\"serial_out_path\":\"%s\"}", e2e_path("later"));
    vm_put(vm, "/snapshot/load",
           "{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_path\":\"%s\","
           "\"backend_type\":\"File\"},\"resume_vm\":true}",
           e2e_path("s.state"), e2e_path("s.mem"));
    counts_beyond_in(e2e_path("later"), stood);

    twin = fork_one(vm, "b", ""); /* out of a memory file */
    monitor_end(&vm->monitor);
    counts_beyond_in(twin.console, pace_in(e2e_path("later")));
}

/* ---- what is refused ------------------------------------------------------------------------- */

E2E(a_fork_of_which_one_child_cannot_be_made_makes_none, TINY)
{
    struct vm *vm = pacing("", NULL);
    vm_refused(vm, "PUT", "/snapshot/fork", "b.sock: Cannot open serial output",
               "{\"children\":[%s,{\"api_sock\":\"%s\",\"serial_out_path\":\"%s\","
               "\"log_path\":\"%s\"}]}",
               child_body("a", ""), twin_file("b", "sock"), e2e_path("missing/console"),
               twin_file("b", "log"));
    CHECK(access(twin_file("a", "sock"), F_OK) != 0);
    CHECK(access(twin_file("b", "sock"), F_OK) != 0);
    CHECK_INT(pace_in(twin_file("a", "console")), 0);
    counts_beyond(vm, pace_of(vm));
    fork_one(vm, "a", ""); /* and nothing is in the way of another try */
}

E2E(a_fork_is_refused_of_a_writable_drive_and_done_with_a_read_only_one, TINY)
{
    struct vm *vm = vm_new(NULL);
    CHECK_INT(files_make_sparse(e2e_path("disk"), 1 << 20), 0);
    vm_put(vm, "/drives/d", "{\"drive_id\":\"d\",\"path_on_host\":\"%s\",\"is_root_device\":false}",
           e2e_path("disk"));
    vm_boot(vm, bare_guest(BARE_PACE), "");
    vm_refused(vm, "PUT", "/snapshot/fork", "The drive d is writable and has no overlay",
               "{\"children\":[%s]}", child_body("a", ""));
    counts_beyond(vm, pace_of(vm));

    vm = vm_new(NULL);
    vm_put(vm, "/drives/d",
           "{\"drive_id\":\"d\",\"path_on_host\":\"%s\",\"is_root_device\":false,"
           "\"is_read_only\":true}",
           e2e_path("disk"));
    vm_boot(vm, bare_guest(BARE_PACE), "");
    counts_beyond_in(fork_one(vm, "a", "").console, 0);
}

E2E(a_fork_is_refused_before_the_start, HOST)
{
    struct vm *vm = vm_new(NULL);
    vm_refused(vm, "PUT", "/snapshot/fork", "not supported before starting the microVM",
               "{\"children\":[%s]}", child_body("a", ""));
    CHECK(access(twin_file("a", "sock"), F_OK) != 0);
}

/* ---- Linux ----------------------------------------------------------------------------------- */

#define AGENT_PORT 6010
#define HOST_IP    "172.30.9.1"
#define OTHER_IP   "172.30.10.1" /* of the host at tap1 */
#define TAPS       7

/* A guest with an interface, a socket device and a disk whose writes stay in memory. */
static struct vm *networked(const char *disk, unsigned vcpus)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/network-interfaces/eth0", "{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\"}");
    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    linux_drive(vm, "d", disk, ",\"overlay\":{\"type\":\"Memory\"}");
    linux_machine(vm, vcpus, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    ask(vm, "agent %d unseeded", AGENT_PORT);
    ask(vm, "link eth0 172.30.9.2 255.255.255.0");
    return vm;
}

/* Further members for a child of such a guest. */
static char *own_names(const char *tap, const char *name)
{
    return text_format(",\"network_overrides\":[{\"iface_id\":\"eth0\",\"host_dev_name\":\"%s\"}],"
                       "\"vsock_override\":{\"uds_path\":\"%s\"}",
                       tap, twin_file(name, "vsock"));
}

/* A command that must succeed in the guest at the other end. */
static const char *tell(int fd, const char *command)
{
    const char *answer = guest_ask(fd, command);
    if (!strstr(answer, "OK\n"))
        FAIL("%s: %s", command, answer);
    return answer;
}

/* tap0, tap1 ...; a ring lets go of its tap a moment after its process's end, so each is used once.
 */
static void make_taps(void)
{
    int rc = unshare(CLONE_NEWNET) ? -errno : 0;
    for (int i = 0; i < TAPS && rc == 0; i++)
        rc = tap_make(text_format("tap%d", i), text_format("172.30.%d.1", 9 + i));
    if (rc)
        e2e_skip("no tap can be made here: %s", strerror(-rc));
}

E2E(a_fork_of_a_linux_guest_has_its_own_network_vsock_and_disk, LINUX | SANITIZER)
{
    make_taps();
    const char *disk = disk_new("disk", 8);
    struct vm *vm = networked(disk, 1);
    int parent = guest_connect("v.sock", AGENT_PORT);
    tell(parent, "write vda 2048 1");
    tell(parent, "mapwrite /tmp/common 4096 7");
    CHECK_INT(number_of(tell(parent, "ping " HOST_IP " 3 100"), "answered"), 3);

    fork_one(vm, "a", own_names("tap1", "a"));
    int child = guest_connect("a.vsock", AGENT_PORT);
    tell(child, "verify vda 2048 1");
    tell(child, "mapverify /tmp/common 4096 7");
    tell(child, "write vda 2048 2");
    tell(child, "mapwrite /tmp/common 4096 8");
    tell(child, "link eth0 172.30.10.2 255.255.255.0");
    CHECK_INT(number_of(tell(child, "ping " OTHER_IP " 3 100"), "answered"), 3);

    /* The connection that the parent had goes on, and nothing of the child shows. */
    tell(parent, "verify vda 2048 1");
    tell(parent, "mapverify /tmp/common 4096 7");
    tell(parent, "write vda 2048 3");
    CHECK_INT(number_of(tell(parent, "ping " HOST_IP " 3 100"), "answered"), 3);
    monitor_end(&vm->monitor);
    tell(child, "verify vda 2048 2");
    CHECK_INT(number_of(tell(child, "ping " OTHER_IP " 3 100"), "answered"), 3);
    CHECK(disk_is_zero(disk, 0, 2048)); /* neither wrote to it */
}

/* What a fork's guest has had under way is asked at its console, which only a monitor with standard
 * input has. */
E2E(forks_of_a_linux_guest_with_four_processors_under_disk_load_lose_nothing, LINUX | SLOW)
{
    make_taps();
    struct vm *vm = networked(disk_new("disk", 16), 4);
    ask(vm, "load vda on");
    int tap = 1;
    for (char name[] = "a"; *name < 'd'; ++*name) {
        usleep(30000);
        struct twin twin = fork_one(vm, name, own_names(text_format("tap%d", tap++), name));
        usleep(30000);
        snap_take(twin.vm, name);
        kill(twin.pid, SIGKILL);
        vm_has_ended(twin.pid);
        struct vm *later =
            snap_revive(name, own_names(text_format("tap%d", tap++), text_format("%s2", name)));
        CHECK_INT(number_of(ask(later, "cpus"), "online"), 4);
        CHECK_INT(number_of(ask(later, "load vda off"), "bad"), 0);
        monitor_end(&later->monitor);
    }
    CHECK_INT(number_of(ask(vm, "load vda off"), "bad"), 0);
}

static void set_huge_pages(unsigned count)
{
    const char *text = text_format("%u", count);
    CHECK_INT(files_write("/proc/sys/vm/nr_hugepages", text, strlen(text)), 0);
}

E2E(a_fork_of_a_guest_in_huge_pages_wants_as_many_to_spare, LINUX)
{
    enum { GUEST = 64 / 2 };
    set_huge_pages(GUEST);
    struct vm *vm = pacing("{\"mem_size_mib\":64,\"huge_pages\":\"2M\"}", NULL);
    vm_refused(vm, "PUT", "/snapshot/fork", "has not the 32 free huge pages", "{\"children\":[%s]}",
               child_body("a", ""));
    counts_beyond(vm, pace_of(vm));
    set_huge_pages(3 * GUEST);
    struct twin twin = fork_one(vm, "a", "");
    counts_beyond_in(twin.console, pace_of(vm));
    counts_beyond(vm, pace_of(vm));
}
