/* SPDX-License-Identifier: Apache-2.0 */
/* snap.c: see snap.h. */
#include "tests/e2e/snap.h"

#include "tests/e2e/e2e.h"
#include "tests/support/clock.h"

#include <string.h>
#include <unistd.h>

static void take(struct vm *vm, const char *type, const char *name)
{
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_put(vm, "/snapshot/create",
           "{\"snapshot_type\":\"%s\",\"snapshot_path\":\"%s.state\",\"mem_file_path\":\"%s.mem\"}",
           type, e2e_path(name), e2e_path(name));
}

void snap_take(struct vm *vm, const char *name)
{
    take(vm, "Full", name);
}

void snap_diff(struct vm *vm, const char *name)
{
    take(vm, "Diff", name);
}

struct vm *snap_revive(const char *name, const char *more)
{
    struct vm *vm = vm_new(NULL);

    vm_put(vm, "/snapshot/load",
           "{\"snapshot_path\":\"%s.state\",\"mem_backend\":{\"backend_path\":\"%s.mem\","
           "\"backend_type\":\"File\"},\"resume_vm\":true%s}",
           e2e_path(name), e2e_path(name), more);
    return vm;
}

void snap_resume(struct vm *vm)
{
    vm_patch(vm, "/vm", "{\"state\":\"Resumed\"}");
}

void snap_behind(struct vm *vm, const char *type, const char *name)
{
    vm_patch(vm, "/vm", "{\"state\":\"Paused\"}");
    vm_put(vm, "/snapshot/create",
           "{\"snapshot_type\":\"%s\",\"snapshot_path\":\"%s.state\",\"mem_file_path\":\"%s.mem\","
           "\"background\":true}",
           type, e2e_path(name), e2e_path(name));
    snap_resume(vm);
}

const char *snap_outcome(struct vm *vm, const char **why)
{
    for (int64_t end = clock_ms() + e2e_ms(VM_MS); clock_left(end) > 0; usleep(1000)) {
        json_t *report = vm_get(vm, "/snapshot/background");
        const char *state = json_string_value(json_object_get(report, "state"));
        if (strcmp(state, "Writing") != 0) {
            *why = json_string_value(json_object_get(report, "fault_message"));
            return state;
        }
        json_decref(report);
    }
    FAIL("the snapshot is not written");
}

void snap_is_written(struct vm *vm)
{
    const char *why, *state = snap_outcome(vm, &why);
    if (strcmp(state, "Done") != 0)
        FAIL("%s: %s", state, why ? why : "no reason is given");
}
