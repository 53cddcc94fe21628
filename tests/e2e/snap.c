/* SPDX-License-Identifier: Apache-2.0 */
/* snap.c: see snap.h. */
#include "tests/e2e/snap.h"

#include "tests/e2e/e2e.h"

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
