/* SPDX-License-Identifier: Apache-2.0 */
/* load_fixture.c: see load_fixture.h. */
#include "tests/unit/load_fixture.h"

#include "tests/support/fake_loop.h"
#include "tests/support/files.h"
#include "tests/unit/fake_kvm.h"
#include "vmm/base/log.h"
#include "vmm/machine_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

static char *directory;

static void add_file(const char *name, uint64_t size)
{
    BUG_ON(files_make_sparse(name, size));
}

void load_fixture_enter(uint64_t mem_size)
{
    directory = files_enter_temporary("load");
    add_file("root.img", 64 * MIB);
    add_file("data.img", MIB);
    add_file("base.img", MIB);
    add_file("pmem.img", 2 * MIB);
    add_file("mem", mem_size);
    log_set_options(&(struct log_options){.level = LOG_OFF});
}

void load_fixture_leave(void)
{
    files_leave(directory);
}

/* Of the metadata service: nothing is there. */
static char *no_answer(void *owner, const char *request, size_t len, size_t *answer_len)
{
    (void)owner;
    (void)request;
    (void)len;
    *answer_len = 0;
    return NULL;
}

static int load(struct loaded *loaded, const struct snapshot_files *files, struct err *e)
{
    static const struct machine_options options = {0};
    static const struct mmds_service service = {.answer = no_answer};
    const struct machine_load request = {
        .files = *files, .any_pages = true, .overrides = {.mmds = &service}};

    BUG_ON(loop_create(&loaded->loop, NULL));
    BUG_ON(machine_create(&loaded->machine, loaded->loop, &options, NULL));
    return machine_load(loaded->machine, &request, e);
}

int load_fixture_load(struct loaded *loaded, const void *bytes, size_t len, struct err *e)
{
    static const struct snapshot_files files = {.state_path = "state", .mem_path = "mem"};

    BUG_ON(files_write(files.state_path, bytes, len));
    return load(loaded, &files, e);
}

static const struct snapshot_files again = {.state_path = "again", .mem_path = "again.mem"};

int load_fixture_save(struct loaded *loaded, struct err *e)
{
    /* Nothing of it has to outlive us: a disk that is busy would only make it slow. */
    const struct machine_save save = {
        .files = again, .type = SNAPSHOT_FULL, .lazy = true, .sums = true};

    return machine_save(loaded->machine, &save, e);
}

int load_fixture_load_again(struct loaded *loaded, struct err *e)
{
    return load(loaded, &again, e);
}

void load_fixture_end(struct loaded *loaded)
{
    struct machine *machine = loaded->machine;

    for (unsigned i = 0; i < machine->slot_count; i++)
        virtio_mmio_destroy(machine->slot[i].mmio);
    machine->slot_count = 0;
    vcpus_destroy(&machine->vcpus);
    kvm_close(&machine->kvm);
    if (machine->registers)
        munmap(machine->registers, machine->registers_size);
    for (unsigned i = 0; i < machine->devices.pmem_count; i++)
        pmem_unmap(machine->devices.pmem[i]);
    if (machine->devices.hotplug)
        hotplug_unmap(machine->devices.hotplug);
    mem_destroy(&machine->mem);
    free(machine->mem_path);
    machine_destroy(machine);
    loop_destroy(loaded->loop);
    fake_kvm_forget();
}
