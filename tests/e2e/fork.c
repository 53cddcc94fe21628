/* SPDX-License-Identifier: Apache-2.0 */
/* Live fork: a running guest goes on in further processes, and none of them sees another. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"
#include "tests/support/clock.h"

#include <errno.h>
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

/* The last whole number that was told; 0 = none yet. */
static unsigned long pace_of(const char *console)
{
    struct text t = {0};
    unsigned long pace = 0;
    if (text_read_file(&t, console) == 0 && t.len) {
        if (strchr(text_str(&t), 'X'))
            FAIL("%s: somebody else's write was seen", console);
        char *end = strrchr(t.data, '\n');
        if (end && end - t.data >= 8)
            pace = strtoul(end - 8, NULL, 16);
    }
    text_free(&t);
    return pace;
}

/* Waits until it has counted further than `from`: how far. */
static unsigned long counts_beyond(const char *console, unsigned long from)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(2000)) {
        unsigned long pace = pace_of(console);
        if (pace > from)
            return pace;
    }
    FAIL("%s: it does not count beyond %lu", console, from);
}

/* A guest that counts, with its console in a file. */
static struct vm *pacing(const char *const *args)
{
    struct vm *vm = vm_new(args);
    vm_put(vm, "/serial", "{\"serial_out_path\":\"%s\"}", e2e_path("console"));
    vm_boot(vm, bare_guest(BARE_PACE), "");
    counts_beyond(e2e_path("console"), 3);
    return vm;
}

static void has_ended(pid_t pid)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(2000)) {
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return;
    }
    FAIL("process %d still exists", (int)pid);
}

E2E(a_fork_goes_on_where_the_guest_was_and_neither_sees_the_others_writes, TINY | INTEL)
{
    struct vm *vm = pacing(NULL);
    unsigned long before = pace_of(e2e_path("console"));
    struct twin twin = fork_one(vm, "a", "");
    unsigned long first = counts_beyond(twin.console, 0);
    CHECK(first > before);
    CHECK(!strcmp(vm_state(twin.vm), "Running"));
    counts_beyond(twin.console, first + 20);
    counts_beyond(e2e_path("console"), first + 20);
    CHECK(!strcmp(vm_state(vm), "Running"));
}

E2E(eight_forks_at_once_all_go_on_and_leave_no_zombie, TINY)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", NULL};
    struct twin twins[8];
    struct vm *vm = pacing(NULL);
    fork_into(vm, twins, names, "");
    for (unsigned i = 0; i < 8; i++)
        counts_beyond(twins[i].console, counts_beyond(twins[i].console, 0));
    for (unsigned i = 0; i < 8; i++)
        CHECK_INT(kill(twins[i].pid, SIGKILL), 0);
    for (unsigned i = 0; i < 8; i++)
        has_ended(twins[i].pid);
    counts_beyond(e2e_path("console"), pace_of(e2e_path("console")));
}

E2E(a_fork_outlives_its_parent, TINY)
{
    struct vm *vm = pacing(NULL);
    struct twin twin = fork_one(vm, "a", "");
    monitor_end(&vm->monitor);
    counts_beyond(twin.console, pace_of(twin.console) + 10);
    vm_patch(twin.vm, "/vm", "{\"state\":\"Paused\"}");
    CHECK(!strcmp(vm_state(twin.vm), "Paused"));
}

E2E(a_fork_of_a_fork_goes_on, TINY)
{
    struct vm *vm = pacing(NULL);
    struct twin twin = {.vm = vm}, older;
    for (char name[] = "a"; *name < 'f'; ++*name) {
        older = twin;
        twin = fork_one(older.vm, name, "");
        counts_beyond(twin.console, 0);
        if (older.pid) {
            kill(older.pid, SIGKILL);
        }
    }
    counts_beyond(twin.console, pace_of(twin.console) + 3);
}
