/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole Linux system, seen from inside, behind everything that can be done to it: running
 * processes with memory that they check, open files, bytes under way in pipes and sockets, timers
 * and clocks (guest/init/test-state.c).
 */
#include "tests/e2e/disk_file.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
#include "tests/support/text.h"
#include "tests/support/uffd_handler.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGENT_PORT 6010

/* A guest that has something of everything, and an agent at the socket "v.sock". */
static struct vm *stateful(const char *kernel, unsigned vcpus)
{
    struct vm *vm = vm_new(NULL);

    vm_put(vm, "/vsock", "{\"guest_cid\":3,\"uds_path\":\"%s\"}", e2e_path("v.sock"));
    vm_patch(vm, "/machine-config",
             "{\"vcpu_count\":%u,\"mem_size_mib\":192,\"track_dirty_pages\":true}", vcpus);
    linux_start(vm, kernel, TEST_INITRD, "");
    ask(vm, "state-begin 77");
    ask(vm, "state-check");
    ask(vm, "agent %d unseeded", AGENT_PORT);
    return vm;
}

static void intact(struct vm *vm)
{
    ask(vm, "state-check");
}

/* The same of a guest whose console is not ours, by its agent. */
static void intact_behind(const char *socket)
{
    int fd = guest_connect(socket, AGENT_PORT);
    const char *answer = guest_ask(fd, "state-check");

    if (!strstr(answer, "OK\n"))
        FAIL("state-check behind %s: %s", socket, answer);
    close(fd);
}

/* A socket of its own for whoever goes on from a snapshot or a fork. */
static char *own_socket(const char *name)
{
    return text_format(",\"vsock_override\":{\"uds_path\":\"%s\"}", e2e_path(name));
}

static void end(struct vm *vm)
{
    monitor_end(&vm->monitor);
}

E2E(a_whole_system_is_intact_behind_a_full_snapshot_and_in_the_guest_it_is_of, LINUX | INTEL)
{
    struct vm *vm = stateful(REFERENCE_ELF, 1);
    snap_take(vm, "s");
    snap_resume(vm);
    intact(vm);
    intact(snap_revive("s", own_socket("w.sock")));
    intact_behind("w.sock");
    intact(vm);
}

E2E(a_whole_system_is_intact_behind_a_chain_of_diffs_merged_in_place, LINUX)
{
    struct vm *vm = stateful(REFERENCE_ELF, 1);
    snap_take(vm, "s");
    for (int i = 0; i < 3; i++) {
        snap_resume(vm);
        intact(vm);
        snap_diff(vm, "s");
    }
    end(vm);
    vm = snap_revive("s", own_socket("w.sock"));
    intact(vm);
    intact_behind("w.sock");
}

E2E(a_whole_system_is_intact_in_memory_that_another_process_serves, LINUX)
{
    struct vm *vm = stateful(REFERENCE_ELF, 1);
    snap_take(vm, "s");
    end(vm);
    const struct uffd_handler_options options = {.memory = e2e_path("s.mem")};
    const struct uffd_handler_seen *seen;
    CHECK(uffd_handler_fork(e2e_path("uffd.sock"), &options, &seen) > 0);
    vm = vm_new(NULL);
    vm_put(vm, "/snapshot/load",
           "{\"snapshot_path\":\"%s\",\"mem_backend\":{\"backend_path\":\"%s\","
           "\"backend_type\":\"Uffd\"},\"resume_vm\":true%s}",
           e2e_path("s.state"), e2e_path("uffd.sock"), own_socket("w.sock"));
    intact(vm);
    intact_behind("w.sock");
    CHECK(seen->copied > 0);
}

E2E(two_clones_of_a_whole_system_at_once_are_intact, LINUX)
{
    struct vm *vm = stateful(REFERENCE_ELF, 1);
    snap_take(vm, "s");
    struct vm *one = snap_revive("s", own_socket("one")),
              *other = snap_revive("s", own_socket("other"));
    for (int i = 0; i < 3; i++) {
        intact(one);
        intact(other);
    }
    intact_behind("one");
    intact_behind("other");
    snap_resume(vm);
    intact(vm);
}

/* Forks a child with an agent at the socket NAME.vsock; its process. */
static pid_t fork_child(struct vm *vm, const char *name)
{
    const char *path = e2e_path(name);
    json_t *answer = vm_put_answered(
        vm, "/snapshot/fork",
        text_format("{\"children\":[{\"api_sock\":\"%s.api\",\"serial_out_path\":\"%s.console\","
                    "\"log_path\":\"%s.log\"%s}]}",
                    path, path, path, own_socket(text_format("%s.vsock", name))));
    json_t *child = json_array_get(json_object_get(answer, "children"), 0);

    return (pid_t)json_integer_value(json_object_get(child, "pid"));
}

E2E(a_whole_system_is_intact_in_both_halves_of_a_fork_and_in_a_fork_of_the_fork, LINUX | INTEL)
{
    struct vm *vm = stateful(REFERENCE_ELF, 1);
    fork_child(vm, "a");
    intact_behind("a.vsock");
    intact(vm);
    struct vm *child = vm_adopt(e2e_path("a.api"));
    fork_child(child, "b");
    intact_behind("b.vsock");
    intact_behind("a.vsock");
    end(vm);
    intact_behind("b.vsock");
}

E2E(a_whole_system_with_four_processors_is_intact_in_ten_generations_of_every_kind, LINUX | SLOW)
{
    struct vm *vm = stateful(FULL_ELF, 4);
    snap_take(vm, "s");
    for (unsigned i = 0; i < 10; i++) {
        char *socket = text_format("v%u.sock", i);

        end(vm);
        vm = snap_revive("s", text_format(",\"track_dirty_pages\":true%s", own_socket(socket)));
        intact(vm);
        intact_behind(socket);
        if (i % 3 == 0) {
            snap_take(vm, "s");
        } else if (i % 3 == 1) {
            snap_diff(vm, "s");
        } else {
            char *name = text_format("f%u", i);
            pid_t pid = fork_child(vm, name);

            intact_behind(text_format("%s.vsock", name));
            snap_take(vm_adopt(e2e_path(text_format("%s.api", name))), "s");
            kill(pid, SIGKILL);
        }
    }
}
