/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that another process serves: guests go on from a snapshot page by page, and whatever that
 * process does, the monitor neither hangs for ever nor lets a guest read zeroes. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"
#include "tests/support/text.h"
#include "tests/support/uffd_handler.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const struct uffd_handler_seen *seen;

/* ---- snapshots and their handlers ------------------------------------------------------------ */

/* A handler of that snapshot's memory, at the socket "uffd.sock". */
static pid_t start_handler(const char *name, enum uffd_handler_end end, bool at_once)
{
    char memory[64];
    snprintf(memory, sizeof(memory), "%s.mem", name);
    const struct uffd_handler_options options = {
        .memory = e2e_path(memory), .end = end, .at_once = at_once};

    unlink(e2e_path("uffd.sock"));
    pid_t pid = uffd_handler_fork(e2e_path("uffd.sock"), &options, &seen);
    CHECK(pid > 0);
    return pid;
}

static pid_t handler(const char *name)
{
    return start_handler(name, UFFD_HANDLER_DIES, false);
}

static const char *load_body(const char *name, const char *more)
{
    static char body[1024];

    snprintf(body, sizeof(body),
             "{\"snapshot_path\":\"%s.state\",\"mem_backend\":{\"backend_path\":\"%s\","
             "\"backend_type\":\"Uffd\"}%s}",
             e2e_path(name), e2e_path("uffd.sock"), more);
    return body;
}

/* A new monitor that goes on from it. */
static struct vm *revive(const char *name, const char *more)
{
    struct vm *vm = vm_new(NULL);

    vm_put(vm, "/snapshot/load", "%s", load_body(name, more));
    return vm;
}

/* A paused one, whose handler then ends in its way. */
static struct vm *revive_and_end(const char *name, enum uffd_handler_end end)
{
    pid_t pid = start_handler(name, end, false);
    struct vm *vm = revive(name, "");

    kill(pid, SIGUSR1);
    usleep(50000);
    return vm;
}

#define RESUMED ",\"resume_vm\":true"

static void expect_no_load(const char *name, const char *why)
{
    struct vm *vm = vm_new(NULL);

    vm_refused(vm, "PUT", "/snapshot/load", why, "%s", load_body(name, ""));
    vm_exits(vm, 1);
}

/* The monitor ends by itself, and says why. */
static void expect_end(struct vm *vm, const char *why)
{
    vm_exits(vm, 1);
    CHECK_HAS(vm_err(vm), why);
}

static void count_on(struct vm *vm, const char *letters)
{
    for (; *letters; letters++) {
        vm_type(vm, ".");
        vm_expect(vm, (char[]){*letters, 0});
    }
}

/* A snapshot whose pages will not come. */
static void take_in_vain(struct vm *vm)
{
    struct api_answer a;
    char body[512];

    snprintf(body, sizeof(body), "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}",
             e2e_path("t.state"), e2e_path("t.mem"));
    monitor_call(&vm->monitor, &a, "PUT", "/snapshot/create", body, e2e_ms(15000));
}

/* A guest that counts, at "c", with its snapshot. */
static void take_counting(void)
{
    struct vm *vm = vm_new(NULL);

    vm_boot(vm, bare_guest(BARE_COUNT), "");
    vm_expect(vm, "M\n");
    count_on(vm, "abc");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
}

/* ---- bare guests ------------------------------------------------------------------------------*/

E2E(a_guest_goes_on_in_memory_that_another_process_serves, TINY | SANITIZER)
{
    take_counting();
    handler("s");
    struct vm *vm = revive("s", RESUMED);
    count_on(vm, "defg");
    CHECK(seen->copied > 1 && seen->copied < 1000);
    CHECK_INT(seen->page_size, 4096);
    CHECK_HAS(seen->message, "\"size\":67108864,\"offset\":0,\"page_size\":4096,"
                             "\"page_size_kib\":4096}]");
    CHECK(!strncmp(seen->message, "[{\"base_host_virt_addr\":", 24));
}

E2E(a_snapshot_of_served_memory_has_the_pages_that_nobody_touched_too, TINY | SANITIZER)
{
    take_counting();
    handler("s");
    struct vm *vm = revive("s", RESUMED);
    count_on(vm, "d");
    snap_take(vm, "t");
    CHECK_INT(seen->copied, (64 << 20) / 4096);
    monitor_end(&vm->monitor);
    handler("t");
    count_on(revive("t", RESUMED), "ef");
}

E2E(a_missing_or_silent_socket_of_a_handler_is_told, TINY)
{
    take_counting();
    expect_no_load("s", "Failed to connect to UDS Unix stream: No such file or directory");
    start_handler("s", UFFD_HANDLER_DIES, true);
    expect_no_load("s", "has hung up before it served a page");
    expect_no_load("s", "Failed to connect to UDS Unix stream: Connection refused");
    start_handler("s", UFFD_HANDLER_IS_SILENT, true);
    expect_no_load("s", "has not served a page for 10 seconds");
}

E2E(a_handler_that_dies_ends_the_monitor_with_1_and_a_sentence, TINY | SANITIZER)
{
    take_counting();
    pid_t pid = handler("s");
    struct vm *running = revive("s", RESUMED);
    count_on(running, "d");
    kill(pid, SIGKILL); /* this process listened, so it must be found out by asking */
    expect_end(running, "which serves the guest's memory, has hung up");

    pid = handler("s");
    struct vm *paused = revive("s", "");
    kill(pid, SIGKILL);
    expect_end(paused, "which serves the guest's memory, has hung up");
}

E2E(a_handler_that_only_closes_its_connection_may_go_on_serving, TINY)
{
    take_counting();
    pid_t pid = start_handler("s", UFFD_HANDLER_HANGS_UP, true);
    struct vm *vm = revive("s", RESUMED);
    count_on(vm, "de");
    usleep(2500000); /* longer than events may stay unread */
    count_on(vm, "f");
    kill(pid, SIGKILL);
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    take_in_vain(vm);
    expect_end(vm, "has hung up and serves no pages any more");
}

E2E(a_handler_that_walks_away_is_found_out, TINY)
{
    take_counting();
    struct vm *vm = revive_and_end("s", UFFD_HANDLER_WALKS_AWAY);
    expect_end(vm, "has hung up and serves no pages any more");
}

E2E(the_api_answers_while_a_vcpu_waits_for_a_page_that_never_comes, TINY)
{
    take_counting();
    struct vm *vm = revive_and_end("s", UFFD_HANDLER_IS_SILENT);
    snap_resume(vm);
    usleep(200000);
    CHECK(!strcmp(vm_state(vm), "Running"));
    vm_get(vm, "/machine-config");
}

E2E(a_snapshot_whose_pages_never_come_ends_the_monitor_with_a_sentence, TINY)
{
    take_counting();
    struct vm *vm = revive_and_end("s", UFFD_HANDLER_IS_SILENT);
    take_in_vain(vm);
    expect_end(vm, "has not served a page for 10 seconds that the monitor itself needs");
    CHECK(access(e2e_path("t.state"), F_OK) != 0);
}

E2E(a_pause_while_a_page_never_comes_is_bounded, TINY)
{
    take_counting();
    struct vm *vm = revive_and_end("s", UFFD_HANDLER_IS_SILENT);
    snap_resume(vm);
    struct api_answer a;
    usleep(200000);
    enum api_outcome outcome =
        monitor_call(&vm->monitor, &a, "PATCH", "/vm", "{\"state\":\"Paused\"}", e2e_ms(15000));
    if (outcome == API_ANSWERED)
        CHECK_INT(a.status, 204); /* KVM let go of the page */
    else
        expect_end(vm, "has not served a page for 10 seconds that the monitor itself needs");
}

/* ---- Linux ----------------------------------------------------------------------------------- */

enum { GUEST_MIB = 64, SQUEEZE_MIB = 16, POOL = GUEST_MIB / 2 };

/* A guest with a balloon and a pattern in its memory; `more` are members of its configuration. */
static struct vm *patterned(const char *more)
{
    struct vm *vm = vm_new(NULL);

    vm_put(vm, "/balloon", "{\"amount_mib\":0,\"deflate_on_oom\":false}");
    vm_put(vm, "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":%d%s}", GUEST_MIB, more);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "");
    ask(vm, "mapwrite /tmp/pattern 2048 5");
    return vm;
}

/* Until the handler was told of so many pages. */
static void wait_for_removed(struct vm *vm, unsigned pages)
{
    int64_t deadline = clock_ms() + e2e_ms(20000);

    while (seen->removed < pages) {
        if (!clock_left(deadline))
            FAIL("%u pages were removed, expected %u", seen->removed, pages);
        process_pump(&vm->monitor.process, 50);
    }
}

/* Has a balloon take memory and give it back. */
static void squeeze(struct vm *vm, unsigned pages)
{
    vm_patch(vm, "/balloon", "{\"amount_mib\":%d}", SQUEEZE_MIB);
    wait_for_removed(vm, pages);
    ask(vm, "mapverify /tmp/pattern 2048 5");
    vm_patch(vm, "/balloon", "{\"amount_mib\":0}");
    ask(vm, "touch %d", GUEST_MIB / 2);
    CHECK(seen->zeroed > 0);
    ask(vm, "mapverify /tmp/pattern 2048 5");
}

E2E(a_linux_guest_in_served_memory_gives_pages_back_and_is_saved_again, LINUX | SLOW)
{
    struct vm *vm = patterned("");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    handler("s");
    vm = revive("s", RESUMED);
    ask(vm, "mapverify /tmp/pattern 2048 5");
    squeeze(vm, SQUEEZE_MIB * (1 << 20) / 4096);
    snap_take(vm, "t");
    vm = snap_revive("t", "");
    ask(vm, "mapverify /tmp/pattern 2048 5");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(a_diff_of_served_memory_completes_the_file_that_it_was_served_from, LINUX | SLOW)
{
    struct vm *vm = patterned("");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    handler("s");
    vm = revive("s", RESUMED ",\"track_dirty_pages\":true");
    ask(vm, "mapwrite /tmp/more 1024 6");
    snap_diff(vm, "s");
    monitor_end(&vm->monitor);
    vm = snap_revive("s", "");
    ask(vm, "mapverify /tmp/pattern 2048 5");
    ask(vm, "mapverify /tmp/more 1024 6");
}

/* For a page of the guest's own; one that KVM itself needs cannot be given up. */
E2E(a_vcpu_that_waits_for_a_page_can_be_paused, LINUX)
{
    struct vm *vm = patterned("");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    pid_t pid = start_handler("s", UFFD_HANDLER_IS_SILENT, false);
    vm = revive("s", RESUMED);
    ask(vm, "time");
    kill(pid, SIGUSR1);
    vm_type(vm, "mapverify /tmp/pattern 2048 5\n");
    usleep(500000);
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    CHECK(!strcmp(vm_state(vm), "Paused"));
}

static void set_huge_pages(const char *count)
{
    CHECK_INT(files_write("/proc/sys/vm/nr_hugepages", count, strlen(count)), 0);
}

static unsigned huge_pages(void)
{
    struct text t = {0};
    text_read_file(&t, "/proc/sys/vm/nr_hugepages");
    unsigned count = (unsigned)strtoul(text_str(&t), NULL, 10);
    text_free(&t);
    return count;
}

E2E(a_guest_of_huge_pages_is_served_in_huge_pages, LINUX)
{
    set_huge_pages(text_format("%d", POOL));
    if (huge_pages() < POOL)
        e2e_skip("this host has no %d huge pages", POOL);
    struct vm *vm = patterned(",\"huge_pages\":\"2M\"");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    handler("s");
    vm = revive("s", RESUMED);
    CHECK_INT(seen->page_size, 2 << 20);
    ask(vm, "mapverify /tmp/pattern 2048 5");
    CHECK(seen->copied < POOL);
    squeeze(vm, 1); /* of its pages few make a whole one of the host's */
    monitor_end(&vm->monitor);

    struct vm *file = vm_new(NULL);
    vm_refused(file, "PUT", "/snapshot/load", "Please use uffd",
               "{\"snapshot_path\":\"%s\",\"mem_file_path\":\"%s\"}", e2e_path("s.state"),
               e2e_path("s.mem"));
    vm_exits(file, 1);
    set_huge_pages("0");
}
