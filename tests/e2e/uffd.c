/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that another process serves: guests go on from a snapshot page by page, and whatever that
 * process does, the monitor neither hangs for ever nor lets a guest read zeroes. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
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

static void take(struct vm *vm, const char *name)
{
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_put(
        vm, "/snapshot/create",
        "{\"snapshot_type\":\"Full\",\"snapshot_path\":\"%s.state\",\"mem_file_path\":\"%s.mem\"}",
        e2e_path(name), e2e_path(name));
}

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
    take(vm, "s");
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
    take(vm, "t");
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
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
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
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
    struct api_answer a;
    usleep(200000);
    enum api_outcome outcome =
        monitor_call(&vm->monitor, &a, "PATCH", "/vm", "{\"state\":\"Paused\"}", e2e_ms(15000));
    if (outcome == API_ANSWERED)
        CHECK_INT(a.status, 204); /* KVM let go of the page */
    else
        expect_end(vm, "has not served a page for 10 seconds that the monitor itself needs");
}
