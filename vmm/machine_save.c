/* SPDX-License-Identifier: Apache-2.0 */
/* machine_save.c: a machine into a state file and a memory file. */
#include "vmm/background_save.h"
#include "vmm/base/dirty.h"
#include "vmm/saved_machine.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/vcpu_state.h"
#include "vmm/snapshot/vm_state.h"

#include <errno.h>
#include <string.h>

#include <sys/mman.h>

static int write_one(const struct state_desc *desc, unsigned index, void *state, void *arg,
                     struct err *e)
{
    (void)e;
    state_write(arg, desc, index, state, 1);
    return 0;
}

static void write_identity(const struct machine *machine, const struct saved_layers *layers,
                           struct state_writer *w)
{
    const struct machine_config *config = &machine->config;
    const struct boot_source *boot = &machine->boot_source;
    const struct saved_machine saved = {
        .mem_size_mib = config->mem_size_mib,
        .saved_ns = now_ns(),
        .vcpu_count = config->vcpu_count,
        .huge_pages = config->huge_pages,
        .cpu_template = config->cpu_template,
        .smt = config->smt,
        .track_dirty = config->track_dirty_pages,
    };
    struct mem_map map;

    state_write(w, &saved_machine_desc, 0, &saved, 1);
    state_write_text(w, KERNEL_PATH, 0, boot->kernel_path);
    state_write_text(w, INITRD_PATH, 0, boot->initrd_path);
    state_write_text(w, BOOT_ARGS, 0, boot->boot_args);
    mem_map_of(&map, &machine->mem);
    mem_map_write(&map, w);
    saved_devices_write(&machine->devices, layers, w);
}

static int write_vcpus(const struct machine *machine, struct state_writer *w, struct err *e)
{
    struct vcpu_state *state = vcpu_state_create();
    int rc = state ? 0 : err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));

    for (unsigned i = 0; i < machine->vcpus.count && rc == 0; i++) {
        rc = vcpu_state_save(state, &machine->kvm, machine->vcpus.vcpu[i].fd, i, e);
        if (rc == 0)
            vcpu_state_write(state, i, w);
    }
    vcpu_state_destroy(state);
    return rc;
}

/* All of it but the file's end. */
static int write_state(struct machine *machine, const struct saved_layers *layers,
                       struct state_writer *w, struct err *e)
{
    struct legacy_state legacy[LEGACY_STATES];
    struct vm_state vm;
    int rc;

    write_identity(machine, layers, w);
    list_legacy(machine, legacy);
    for (unsigned i = 0; i < LEGACY_STATES; i++)
        state_write(w, legacy[i].desc, 0, legacy[i].state, 1);
    for (unsigned i = 0; i < machine->slot_count; i++)
        (void)for_each_state(&machine->slot[i], i, write_one, w, e); /* writing cannot fail */
    rc = write_vcpus(machine, w, e);
    if (rc == 0)
        rc = vm_state_save(&vm, &machine->kvm, e);
    if (rc == 0)
        vm_state_write(&vm, w);
    return rc;
}

int machine_save_state(struct machine *machine, void *bytes, size_t room, size_t *len,
                       struct err *e)
{
    struct state_writer w;
    int rc;

    state_writer_begin(&w, bytes, room);
    rc = write_state(machine, NULL, &w, e);
    return rc ? rc : state_writer_end(&w, len, e);
}

static int check_can_save(const struct machine *machine, struct err *e)
{
    if (machine->state != MACHINE_PAUSED)
        return err_set(e, -EBUSY,
                       "Cannot save the microVM state: Operation not allowed: save/restore "
                       "unavailable while running");
    if (machine->mem.shared)
        return err_set(e, -ENOTSUP,
                       "Cannot save the microVM state: a vhost-user drive keeps state of its own "
                       "in another process.");
    if (mem_file_is_cut(&machine->mem))
        return err_set(e, -EIO,
                       "Cannot save the microVM state: the memory file %s has been cut short while "
                       "the guest ran from it, which has lost memory.",
                       machine->mem_path ? machine->mem_path : "of the snapshot");
    return 0;
}

/* The machine's state into the writer's buffer, and the pages into `taken`: what has to be done
 * while it stands still. */
static int take_all(struct machine *machine, const struct saved_layers *layers,
                    struct state_writer *state, struct err *e)
{
    int rc = write_state(machine, layers, state, e);

    return rc ? rc : dirty_take(&machine->mem, &machine->kvm, e);
}

/* The rest is written here, or behind the guest's back. */
static int save(struct machine *machine, struct snapshot_writer *files, bool background,
                struct state_writer *state, struct err *e)
{
    struct saved_layers layers;
    struct save_work work = {.files = files, .layers = &layers, .state = state};
    int rc;

    if (saved_layers_open(&layers, &machine->devices, files->state.path, e) ||
        take_all(machine, &layers, state, e)) {
        saved_layers_close(&layers, false);
        return err_prefix(e, "Cannot save the microVM state: ");
    }
    if (background) {
        rc = background_save_begin(machine, &work, e);
        if (rc == 0)
            return 0;
        saved_layers_close(&layers, false);
    } else {
        rc = save_work_run(&work, e);
    }
    dirty_settle(&machine->mem, rc == 0);
    return rc;
}

int machine_save(struct machine *machine, const struct machine_save *save_as, struct err *e)
{
    const struct snapshot_job job = {
        .files = save_as->files,
        .type = save_as->type,
        .lazy = save_as->lazy,
        .sums = save_as->sums,
        .mem = &machine->mem,
        .mem_lock = &machine->mem_lock,
    };
    struct snapshot_writer files;
    struct state_writer state;
    int rc = check_can_save(machine, e);
    void *bytes;

    if (rc == 0)
        rc = background_save_check(machine, e);
    if (rc == 0 && save_as->background)
        rc = machine_check_shareable(machine, 1, e);
    if (rc)
        return rc;
    bytes = mmap(NULL, STATE_FILE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return err_set(e, -errno, "Cannot save the microVM state: %s", err_os(-errno));
    state_writer_begin(&state, bytes, STATE_FILE_MAX);
    rc = snapshot_writer_open(&files, &job, e);
    if (rc == 0) {
        rc = save(machine, &files, save_as->background, &state, e);
        snapshot_writer_close(&files);
    }
    munmap(bytes, STATE_FILE_MAX);
    return rc;
}
