/* SPDX-License-Identifier: Apache-2.0 */
/* The boot timeline that GET /timeline tells. */
#include "tests/e2e/bare.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/vm.h"

#include <string.h>

/* Microseconds since exec of a stage, or -1 where it is not told. */
static long long stage(struct vm *vm, const char *name)
{
    json_t *timeline = vm_get(vm, "/timeline");
    long long us = -1;
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(timeline, "stages"), i, item) {
        if (!strcmp(json_string_value(json_object_get(item, "name")), name))
            us = json_integer_value(json_object_get(item, "us"));
    }
    json_decref(timeline);
    return us;
}

E2E(the_timeline_starts_with_exec_and_knows_nothing_of_what_has_not_been, HOST)
{
    struct vm *vm = vm_new(NULL);
    CHECK_INT(stage(vm, "exec"), 0);
    CHECK(stage(vm, "api") > 0);
    CHECK_INT(stage(vm, "first_instruction"), -1);
}

E2E(the_timeline_of_a_boot_is_complete_and_in_order, TINY | SANITIZER)
{
    static const char *const names[] = {
        "exec", "api", "config", "vm", "memory", "kernel", "devices", "first_instruction", "init"};
    const char *args[] = {"--boot-timer", NULL};
    struct vm *vm = vm_new(args);
    vm_boot(vm, bare_guest(BARE_STAMP), "x");
    vm_expect(vm, "M\n");
    CHECK(stage(vm, "vm") > 0 && stage(vm, "memory") > 0 && stage(vm, "kernel") > 0);
    long long start = stage(vm, "config"), run = stage(vm, "first_instruction");
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        long long us = stage(vm, names[i]);
        if (us < 0)
            FAIL("the timeline has no %s", names[i]);
        /* How the parts are put together in between is the machine's own affair. */
        bool inside = i >= 3 && i <= 6;
        if (inside && (us < start || us > run))
            FAIL("%s lies outside of the start", names[i]);
    }
    CHECK(stage(vm, "api") <= start);
    CHECK(stage(vm, "init") >= run);
}
