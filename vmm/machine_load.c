/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_load.c: a machine out of a state file and a memory file. A load takes the boot's path
 * (machine_rebuild) with states in place of a kernel.
 */
#include "vmm/base/log.h"
#include "vmm/base/timeline.h"
#include "vmm/load_memory.h"
#include "vmm/saved_machine.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/page_sums.h"
#include "vmm/snapshot/vcpu_state.h"
#include "vmm/snapshot/vm_state.h"
#include "vmm/snapshot/whole_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>

/* ---- what the machine is --------------------------------------------------------------------- */

/* A load under way. */
struct loading {
    const struct machine_load *load;
    char *state_path; /* links resolved; NULL = no file */
    struct stat mem;  /* the memory file before the state was looked for; zeroes = none */
    struct state_reader reader;
    struct mem_map map;
    struct working_set set; /* that was fetched; zeroes = none */
    int64_t shift_ns;       /* from the clock of the save to ours */
};

static int read_machine(struct machine *machine, struct loading *l, struct err *e)
{
    struct machine_config *config = &machine->config;
    struct saved_machine saved;
    int rc = state_read(&l->reader, &saved_machine_desc, 0, &saved, e);

    if (rc)
        return rc;
    if (saved.vcpu_count == 0 || saved.vcpu_count > MACHINE_VCPUS_MAX ||
        saved.huge_pages > MEM_PAGES_HUGETLB_2M || saved.cpu_template > CPU_TEMPLATE_V1N1)
        return err_set(e, -EINVAL, "The snapshot is of a machine that cannot be.");
    *config = (struct machine_config){
        .vcpu_count = saved.vcpu_count,
        .mem_size_mib = saved.mem_size_mib,
        .smt = saved.smt,
        .track_dirty_pages = l->load->track_dirty,
        .huge_pages = l->load->any_pages ? (enum mem_pages)saved.huge_pages : l->load->pages,
        .cpu_template = (enum cpu_template_name)saved.cpu_template,
    };
    l->shift_ns = (int64_t)(now_ns() - saved.saved_ns);
    return 0;
}

/* The kernel is not opened again: what it was is only shown. */
static int read_boot_source(struct machine *machine, struct state_reader *r, struct err *e)
{
    struct boot_source *boot = &machine->boot_source;
    const char *text[3] = {NULL};
    static const char *const name[3] = {KERNEL_PATH, INITRD_PATH, BOOT_ARGS};
    char **to[3] = {&boot->kernel_path, &boot->initrd_path, &boot->boot_args};
    int rc = 0;

    for (unsigned i = 0; i < 3 && rc == 0; i++) {
        rc = state_read_text(r, name[i], 0, &text[i], e);
        *to[i] = text[i] ? strdup(text[i]) : NULL;
    }
    return rc;
}

static int read_identity(struct machine *machine, struct loading *l, struct err *e)
{
    int rc = read_machine(machine, l, e);

    if (rc == 0)
        rc = read_boot_source(machine, &l->reader, e);
    if (rc == 0)
        rc = mem_map_read(&l->map, &l->reader, e);
    if (rc == 0)
        rc = mem_map_set_ram(&l->map, MIN(machine->config.mem_size_mib, UINT64_MAX / MIB) * MIB, e);
    return rc;
}

/* ---- what it has become ---------------------------------------------------------------------- */

static int read_one(const struct state_desc *desc, unsigned index, void *state, void *arg,
                    struct err *e)
{
    struct loading *l = arg;
    int rc = state_read(&l->reader, desc, index, state, e);

    if (rc == 0)
        state_shift_moments(desc, state, l->shift_ns);
    return rc;
}

/* Of numbers by which the legacy devices divide, or reach into their queues. */
static bool legacy_is_sound(const struct machine *machine)
{
    const struct serial_state *serial = &machine->serial.state;
    const struct i8042_state *keyboard = &machine->keyboard.state;

    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        if (machine->pit.state.channel[i].loaded && machine->pit.state.channel[i].reload == 0)
            return false;
    }
    return serial->rx_head < SERIAL_FIFO_SIZE && serial->rx_count <= SERIAL_FIFO_SIZE &&
           keyboard->reply_head < I8042_REPLY_QUEUE && keyboard->reply_count <= I8042_REPLY_QUEUE &&
           keyboard->keyboard_head < I8042_KEYBOARD_QUEUE &&
           keyboard->keyboard_count <= I8042_KEYBOARD_QUEUE;
}

static int load_legacy(struct machine *machine, struct loading *l, struct err *e)
{
    struct legacy_state legacy[LEGACY_STATES];
    int rc = 0;

    serial_quiesce(&machine->serial);
    pit_quiesce(&machine->pit);
    list_legacy(machine, legacy);
    for (unsigned i = 0; i < LEGACY_STATES && rc == 0; i++)
        rc = read_one(legacy[i].desc, 0, legacy[i].state, l, e);
    machine->pit.seen_ns = now_ns(); /* what was due before the save has been done */
    if (rc == 0 && !legacy_is_sound(machine))
        rc = err_set(e, -EINVAL, "The saved state of a legacy device is none that it can have.");
    return rc;
}

/* Memory that was plugged is in the memory file behind RAM, if the map says so. */
static int load_plugged(struct machine *machine, const struct loading *l, struct err *e)
{
    bool in_file = l->map.count > l->map.ram;
    struct mem_map found;

    mem_map_of(&found, &machine->mem);
    if (in_file &&
        (found.count != l->map.count ||
         memcmp(found.region, l->map.region, found.count * sizeof(found.region[0])) != 0))
        return err_set(e, -EINVAL, "The snapshot's map of memory is not that of this monitor.");
    if (!machine->devices.hotplug)
        return 0;
    return hotplug_restore(machine->devices.hotplug, in_file ? machine->mem.fd : -1,
                           mem_size(&machine->mem), e);
}

/* All states before any device goes on: the queues of one may lie in the memory of another. */
static int load_devices(struct machine *machine, struct loading *l, struct err *e)
{
    int rc = load_legacy(machine, l, e);

    for (unsigned i = 0; i < machine->slot_count && rc == 0; i++)
        rc = for_each_state(&machine->slot[i], i, read_one, l, e);
    if (rc == 0)
        rc = load_plugged(machine, l, e);
    for (unsigned i = 0; i < machine->slot_count && rc == 0; i++)
        rc = virtio_mmio_restore(machine->slot[i].mmio, e);
    /* Its connections ended with the process that had them. */
    if (rc == 0 && machine->devices.vsock)
        vsock_reset_connections(machine->devices.vsock);
    return rc;
}

static struct vcpu_cpuid borrow(const struct cpuid_table *table)
{
    return (struct vcpu_cpuid){table->entry, table->count};
}

/*
 * Whether this host has the vCPU's processor, and whether the vCPU has its table already. Some KVMs
 * (one without hardware virtualisation beneath it) give a vCPU more than they offer, so before a
 * guest is refused a vCPU is asked what it has been given.
 */
static int check_cpuid(struct machine *machine, unsigned index, const struct vcpu_state *state,
                       bool *there, struct err *e)
{
    const struct cpuid_table *offer, *given = machine->shell.given;
    int rc = 0;

    *there = index == 0 && given && vcpu_state_has_cpuid(state, borrow(given));
    if (!*there)
        rc = shell_offer(&machine->shell, &offer, e);
    if (*there || rc)
        return rc;
    rc = vcpu_state_check(state, index, borrow(offer), e);
    if (rc != -ENOTSUP)
        return rc;
    rc = shell_given(&machine->shell, &given, e);
    *there = rc == 0 && index == 0 && vcpu_state_has_cpuid(state, borrow(given));
    return *there || rc ? rc : vcpu_state_check(state, index, borrow(given), e);
}

static int load_vcpu(struct machine *machine, unsigned index, const struct vcpu_state *state,
                     struct err *e)
{
    bool has_cpuid;
    int rc = check_cpuid(machine, index, state, &has_cpuid, e);

    return rc ? rc
              : vcpu_state_restore(state, &machine->kvm, machine->vcpus.vcpu[index].fd, index,
                                   has_cpuid, e);
}

static int load_vcpus(struct machine *machine, struct loading *l, struct err *e)
{
    struct vcpu_state *state = vcpu_state_create();
    int rc = state ? 0 : err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));

    for (unsigned i = 0; i < machine->vcpus.count && rc == 0; i++) {
        rc = vcpu_state_read(state, i, &l->reader, e);
        if (rc == 0)
            rc = load_vcpu(machine, i, state, e);
    }
    vcpu_state_destroy(state);
    return rc;
}

static int load_states(struct machine *machine, void *arg, struct err *e)
{
    struct loading *l = arg;
    struct page_sums sums; /* for who inspects a snapshot; the memory is mapped, not read */
    struct vm_state vm;
    int rc = load_devices(machine, l, e);

    if (rc)
        return err_prefix(e, "Failed to restore devices: ");
    rc = load_vcpus(machine, l, e);
    if (rc == 0)
        rc = vm_state_read(&vm, &l->reader, e);
    if (rc == 0)
        rc = page_sums_read(&sums, mem_map_size(&l->map), &l->reader, e);
    if (rc == 0)
        rc = state_reader_end(&l->reader, e);
    if (rc == 0)
        rc = vm_state_restore(&vm, &machine->kvm, l->load->wall_clock, e);
    if (rc == 0)
        rc = generation_renew(&machine->generation, &machine->mem, e);
    if (rc == 0) /* by any vCPU, for all */
        working_set_map(&l->set, &machine->mem, machine->vcpus.vcpu[0].fd);
    return rc;
}

/* What clients know of devices that a load makes begins otherwise than what they know of those
 * that a request makes. */
static int explain_device(struct err *e)
{
    static const struct {
        const char *ours, *theirs;
    } heads[] = {
        {"Unable to create the virtio block device: ", "Block: "},
        {"Cannot create backend for vsock device: ", "VsockUnixBackend: "},
    };

    for (size_t i = 0; e && i < ARRAY_SIZE(heads); i++) {
        size_t len = strlen(heads[i].ours);

        if (strncmp(e->text, heads[i].ours, len) != 0)
            continue;
        memmove(e->text, e->text + len, strlen(e->text + len) + 1);
        err_prefix(e, "%s", heads[i].theirs);
        break;
    }
    return err_prefix(e, "Failed to build microVM from snapshot: Failed to restore devices: Error "
                         "restoring MMIO devices: ");
}

/* A process that writes a snapshot gives its two files their names one after the other, or merges
 * into the memory: that must still be the one that the state was found for. */
static int check_same_mem(const struct machine *machine, const struct loading *l, struct err *e)
{
    struct stat st;

    if (l->load->backend != MEM_BACKEND_FILE || fstat(machine->mem.fd, &st) ||
        (st.st_dev == l->mem.st_dev && st.st_ino == l->mem.st_ino &&
         st.st_mtim.tv_sec == l->mem.st_mtim.tv_sec &&
         st.st_mtim.tv_nsec == l->mem.st_mtim.tv_nsec))
        return 0;
    return err_set(e, -ESTALE, "%s was replaced while the snapshot was being loaded: try again.",
                   l->load->files.mem_path);
}

/* The file is in `bytes`. */
static int load_from(struct machine *machine, struct loading *l, const void *bytes, size_t len,
                     struct err *e)
{
    struct saved_overrides overrides = l->load->overrides;
    int rc;

    overrides.state_path = l->state_path;
    if (state_reader_begin(&l->reader, bytes, len, e) || read_identity(machine, l, e))
        return err_prefix(e, "Failed to get snapshot state from file: Failed to load snapshot "
                             "state from file: ");
    if (saved_devices_check(l->reader, &overrides, e))
        return err_prefix(e, "Failed to get snapshot state from file: ");
    if (load_check_working_set(l->load, e) ||
        load_memory(&machine->mem, &machine->mem_lock, l->load, &machine->config, &l->map,
                    machine->options.lost, e) ||
        load_working_set(&machine->mem, l->load, &machine->recording, &l->set, e))
        return err_prefix(e, "Failed to load guest memory: ");
    if (check_same_mem(machine, l, e))
        return err_prefix(e, "Failed to load guest memory: ");
    if (saved_devices_read(&machine->devices, &overrides, &l->reader, e))
        return explain_device(e);
    /* Devices look at their rings, KVM at its clock's page. */
    mem_wait_begins(&machine->mem);
    rc = machine_rebuild(machine, load_states, l, e);
    mem_wait_is_over(&machine->mem);
    return rc ? err_prefix(e, "Failed to build microVM from snapshot: ") : 0;
}

int machine_load_state(struct machine *machine, const struct machine_load *load, const void *bytes,
                       size_t len, struct err *e)
{
    struct loading l = {.load = load};
    int rc = state_reader_begin(&l.reader, bytes, len, e);

    if (rc == 0)
        rc = read_identity(machine, &l, e);
    if (rc == 0)
        rc = saved_devices_check(l.reader, &load->overrides, e);
    if (rc == 0)
        rc = saved_devices_read(&machine->devices, &load->overrides, &l.reader, e);
    return rc ? rc : machine_rebuild(machine, load_states, &l, e);
}

/* Of a memory file, the state that belongs to it, whatever a dying process left; else NULL. */
static char *state_path_of(const struct machine_load *load)
{
    return load->backend == MEM_BACKEND_FILE ? snapshot_find_state(&load->files) : NULL;
}

int machine_load(struct machine *machine, const struct machine_load *load, struct err *e)
{
    struct loading l = {.load = load};
    const char *given = load->files.state_path;
    char *found;
    uint8_t *bytes = NULL;
    size_t len = 0;
    int rc;

    if (machine->state != MACHINE_NOT_STARTED)
        return err_set(e, -EALREADY, "The machine has been started already.");
    timeline_stamp(TIMELINE_CONFIG);
    (void)stat(load->files.mem_path, &l.mem);
    found = state_path_of(load);
    rc = whole_file_read(found ? found : given, &bytes, &len, e);
    l.state_path = rc ? NULL : realpath(found ? found : given, NULL);
    free(found);
    if (rc)
        return err_prefix(e, "Failed to restore from snapshot: Failed to get snapshot state from "
                             "file: ");
    rc = load_from(machine, &l, bytes, len, e);
    free(bytes);
    free(l.state_path);
    working_set_free(&l.set);
    if (rc)
        return err_prefix(e, "Failed to restore from snapshot: ");
    machine->mem_path = strdup(load->files.mem_path); /* NULL: a fork will not find it */
    machine->state = MACHINE_PAUSED;
    machine_take_console(machine);
    return 0;
}

void machine_give_up(struct machine *machine)
{
    machine_end(machine, 1);
}
