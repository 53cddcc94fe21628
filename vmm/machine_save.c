/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_save.c: a machine into two files, and out of them again.
 *
 * The state file has, in this order: what the machine is (`machine`, its kernel's texts, devices,
 * `memory`), then what it has become: legacy devices, each virtio device in its place, vCPUs, the
 * VM. A load takes the boot's path (machine_rebuild) with states in place of a kernel.
 */
#include "vmm/base/log.h"
#include "vmm/machine_parts.h"
#include "vmm/snapshot/mem_file.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/vcpu_state.h"
#include "vmm/snapshot/vm_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

struct saved_machine {
    uint64_t mem_size_mib;
    uint64_t saved_ns; /* on the clock of STATE_TIME rows */
    uint32_t vcpu_count, huge_pages, cpu_template;
    uint8_t smt, track_dirty, pad[2];
};

static const struct state_field machine_fields[] = {
    STATE_FIELD(struct saved_machine, mem_size_mib), STATE_FIELD(struct saved_machine, saved_ns),
    STATE_FIELD(struct saved_machine, vcpu_count),   STATE_FIELD(struct saved_machine, huge_pages),
    STATE_FIELD(struct saved_machine, cpu_template), STATE_FIELD(struct saved_machine, smt),
    STATE_FIELD(struct saved_machine, track_dirty),  STATE_ARRAY(struct saved_machine, pad),
};
const struct state_desc saved_machine_desc =
    STATE_DESC("machine", 1, struct saved_machine, machine_fields);

#define KERNEL_PATH "kernel-path"
#define INITRD_PATH "initrd-path"
#define BOOT_ARGS   "boot-args"

/* ---- states in place ------------------------------------------------------------------------- */

/* Of a legacy device. */
struct legacy_state {
    const struct state_desc *desc;
    void *state;
};

#define LEGACY_STATES 3

static void list_legacy(struct machine *machine, struct legacy_state list[LEGACY_STATES])
{
    list[0] = (struct legacy_state){&serial_state_desc, &machine->serial.state};
    list[1] = (struct legacy_state){&i8042_state_desc, &machine->keyboard.state};
    list[2] = (struct legacy_state){&pit_state_desc, &machine->pit.state};
}

/* What the writer and the reader of a virtio device's sections do with one struct after another. */
typedef int each_state(const struct state_desc *desc, unsigned index, void *state, void *arg,
                       struct err *e);

static int for_each_state(const struct virtio_slot *slot, unsigned index, each_state *each,
                          void *arg, struct err *e)
{
    struct virtio_dev *dev = slot->dev;
    int rc = each(&virtio_dev_state_desc, index, &dev->s, arg, e);

    for (unsigned q = 0; q < dev->ops->n_queues && rc == 0; q++)
        rc = each(&virtqueue_state_desc, index * VIRTIO_QUEUES_MAX + q, &dev->queue[q].s, arg, e);
    if (rc == 0)
        rc = each(&virtio_mmio_state_desc, index, virtio_mmio_saved(slot->mmio), arg, e);
    if (rc == 0 && dev->ops->state)
        rc = each(dev->ops->state, index, dev->ops->saved(dev), arg, e);
    return rc;
}

/* ---- saving ---------------------------------------------------------------------------------- */

static int write_one(const struct state_desc *desc, unsigned index, void *state, void *arg,
                     struct err *e)
{
    (void)e;
    state_write(arg, desc, index, state, 1);
    return 0;
}

static void write_identity(const struct machine *machine, struct state_writer *w)
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
    saved_devices_write(&machine->devices, w);
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

static int write_state(struct machine *machine, struct state_writer *w, size_t *len, struct err *e)
{
    struct legacy_state legacy[LEGACY_STATES];
    struct vm_state vm;
    int rc;

    write_identity(machine, w);
    list_legacy(machine, legacy);
    for (unsigned i = 0; i < LEGACY_STATES; i++)
        state_write(w, legacy[i].desc, 0, legacy[i].state, 1);
    for (unsigned i = 0; i < machine->slot_count; i++)
        (void)for_each_state(&machine->slot[i], i, write_one, w, e); /* writing cannot fail */
    rc = write_vcpus(machine, w, e);
    if (rc == 0)
        rc = vm_state_save(&vm, &machine->kvm, e);
    if (rc)
        return rc;
    vm_state_write(&vm, w);
    return state_writer_end(w, len, e);
}

static int check_can_save(const struct machine *machine, struct err *e)
{
    struct hotplug_status status = {0};

    if (machine->state != MACHINE_PAUSED)
        return err_set(e, -EBUSY,
                       "Cannot save the microVM state: Operation not allowed: save/restore "
                       "unavailable while running");
    if (machine->mem.shared)
        return err_set(e, -ENOTSUP,
                       "Cannot save the microVM state: a vhost-user drive keeps state of its own "
                       "in another process.");
    if (machine->devices.hotplug)
        hotplug_status(machine->devices.hotplug, &status);
    if (status.plugged_size_mib > 0)
        return err_set(e, -ENOTSUP,
                       "Cannot save the microVM state: snapshots of plugged memory are not "
                       "supported yet by this version of Mayfly: unplug it first.");
    return 0;
}

/* Both files beside the old ones, the memory complete. */
static int write_files(const struct machine *machine, struct new_file *state, struct new_file *mem,
                       const void *bytes, size_t len, struct err *e)
{
    int rc = mem_file_write(mem, &machine->mem, e);

    if (rc == 0)
        rc = new_file_write(state, bytes, len, 0, e);
    if (rc == 0)
        rc = new_file_sync(mem, e);
    if (rc == 0)
        rc = new_file_sync(state, e);
    if (rc == 0)
        rc = new_file_commit(mem, e);
    return rc ? rc : new_file_commit(state, e);
}

static int open_files(const struct snapshot_files *files, struct new_file *state,
                      struct new_file *mem, struct err *e)
{
    if (new_file_open(state, files->state_path, e))
        return err_prefix(e, "Cannot perform open on the snapshot backing file: ");
    if (strcmp(files->state_path, files->mem_path) == 0)
        return err_set(e, -EINVAL, "The state and the memory cannot be one file.");
    if (new_file_open(mem, files->mem_path, e))
        return err_prefix(e, "Cannot perform open on the memory backing file: ");
    return strcmp(state->path, mem->path) == 0
               ? err_set(e, -EINVAL, "The state and the memory cannot be one file.")
               : 0;
}

int machine_save(struct machine *machine, const struct snapshot_files *files, struct err *e)
{
    struct new_file state = {.fd = -1}, mem = {.fd = -1};
    int rc = check_can_save(machine, e);
    struct state_writer w;
    void *bytes;
    size_t len = 0;

    if (rc)
        return rc;
    bytes = mmap(NULL, STATE_FILE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return err_set(e, -errno, "Cannot save the microVM state: %s", err_os(-errno));
    state_writer_begin(&w, bytes, STATE_FILE_MAX);
    rc = open_files(files, &state, &mem, e);
    if (rc == 0 && write_state(machine, &w, &len, e))
        rc = err_prefix(e, "Cannot save the microVM state: ");
    if (rc == 0)
        rc = write_files(machine, &state, &mem, bytes, len, e);
    new_file_close(&state);
    new_file_close(&mem);
    munmap(bytes, STATE_FILE_MAX);
    return rc;
}

/* ---- loading: what the machine is ------------------------------------------------------------ */

/* A load under way. */
struct loading {
    const struct machine_load *load;
    struct state_reader reader;
    struct mem_map map;
    int64_t shift_ns; /* from the clock of the save to ours */
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
    if (rc == 0 && mem_map_size(&l->map) / MIB != machine->config.mem_size_mib)
        rc = err_set(e, -EINVAL, "The snapshot's map of memory is of another size than its guest.");
    return rc;
}

static int map_memory(struct machine *machine, struct loading *l, struct err *e)
{
    const struct machine_config *config = &machine->config;
    struct mem_map found;
    int rc, fd = open(l->load->files.mem_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return err_set(e, -errno, "Failed to load guest memory: %s", err_os(-errno));
    rc = mem_create_from_file(&machine->mem, fd, mem_map_size(&l->map), config->huge_pages,
                              config->track_dirty_pages, e);
    close(fd);
    if (rc)
        return rc;
    mem_map_of(&found, &machine->mem);
    if (found.count != l->map.count ||
        memcmp(found.region, l->map.region, found.count * sizeof(found.region[0])) != 0)
        return err_set(e, -EINVAL, "The snapshot's map of memory is not that of this monitor.");
    return 0;
}

/* ---- loading: what it has become ------------------------------------------------------------- */

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

/* Memory that was plugged is not in the memory file. */
static int check_hotplug(const struct machine *machine, struct err *e)
{
    struct hotplug_status status = {0};

    if (machine->devices.hotplug)
        hotplug_status(machine->devices.hotplug, &status);
    if (status.plugged_size_mib > 0)
        return err_set(e, -EINVAL, "The snapshot has plugged memory, which no memory file holds.");
    return 0;
}

static int load_devices(struct machine *machine, struct loading *l, struct err *e)
{
    int rc = load_legacy(machine, l, e);

    for (unsigned i = 0; i < machine->slot_count && rc == 0; i++) {
        rc = for_each_state(&machine->slot[i], i, read_one, l, e);
        if (rc == 0)
            rc = virtio_mmio_restore(machine->slot[i].mmio, e);
    }
    if (rc == 0)
        rc = check_hotplug(machine, e);
    /* Its connections ended with the process that had them. */
    if (rc == 0 && machine->devices.vsock)
        vsock_reset_connections(machine->devices.vsock);
    return rc;
}

static int load_vcpus(struct machine *machine, struct loading *l, struct err *e)
{
    struct vcpu_state *state = vcpu_state_create();
    int rc = state ? 0 : err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));

    for (unsigned i = 0; i < machine->vcpus.count && rc == 0; i++) {
        rc = vcpu_state_read(state, i, &l->reader, e);
        if (rc == 0)
            rc = vcpu_state_restore(state, &machine->kvm, machine->vcpus.vcpu[i].fd, i, e);
    }
    vcpu_state_destroy(state);
    return rc;
}

static int load_states(struct machine *machine, void *arg, struct err *e)
{
    struct loading *l = arg;
    struct vm_state vm;
    int rc = load_devices(machine, l, e);

    if (rc)
        return err_prefix(e, "Failed to restore devices: ");
    rc = load_vcpus(machine, l, e);
    if (rc == 0)
        rc = vm_state_read(&vm, &l->reader, e);
    if (rc == 0)
        rc = state_reader_end(&l->reader, e);
    return rc ? rc : vm_state_restore(&vm, &machine->kvm, l->load->wall_clock, e);
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

/* The file is in `bytes`. */
static int load_from(struct machine *machine, struct loading *l, const void *bytes, size_t len,
                     struct err *e)
{
    const struct saved_overrides *overrides = &l->load->overrides;

    if (state_reader_begin(&l->reader, bytes, len, e) || read_identity(machine, l, e))
        return err_prefix(e, "Failed to get snapshot state from file: Failed to load snapshot "
                             "state from file: ");
    if (saved_devices_check(l->reader, overrides, e))
        return err_prefix(e, "Failed to get snapshot state from file: ");
    if (map_memory(machine, l, e))
        return err_prefix(e, "Failed to load guest memory: Error creating guest memory from "
                             "file: ");
    if (saved_devices_read(&machine->devices, overrides, &l->reader, e))
        return explain_device(e);
    if (machine_rebuild(machine, load_states, l, e))
        return err_prefix(e, "Failed to build microVM from snapshot: ");
    return 0;
}

/* ---- loading: the file ----------------------------------------------------------------------- */

/* Reads the whole file; what is too large for one is read as far as that shows. */
static int read_file(const char *path, uint8_t **bytes, size_t *len, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    ssize_t n = 0;

    if (fd < 0 || fstat(fd, &st)) {
        n = -errno;
        if (fd >= 0)
            close(fd);
        return err_set(e, (int)n, "Failed to open snapshot file: %s", err_os((int)n));
    }
    *len = (size_t)MIN((uint64_t)st.st_size, STATE_FILE_MAX + 1);
    *bytes = malloc(*len + 1);
    for (size_t at = 0; *bytes && at < *len; at += (size_t)n) {
        n = read(fd, *bytes + at, *len - at);
        if (n <= 0)
            break;
    }
    close(fd);
    if (*bytes && n >= 0)
        return 0;
    free(*bytes);
    *bytes = NULL;
    return err_set(e, -EIO, "Failed to read snapshot file: %s", err_os(-EIO));
}

int machine_load(struct machine *machine, const struct machine_load *load, struct err *e)
{
    struct loading l = {.load = load};
    uint8_t *bytes = NULL;
    size_t len = 0;
    int rc;

    if (machine->state != MACHINE_NOT_STARTED)
        return err_set(e, -EALREADY, "The machine has been started already.");
    rc = read_file(load->files.state_path, &bytes, &len, e);
    if (rc)
        return err_prefix(e, "Failed to restore from snapshot: Failed to get snapshot state from "
                             "file: ");
    rc = load_from(machine, &l, bytes, len, e);
    free(bytes);
    if (rc)
        return err_prefix(e, "Failed to restore from snapshot: ");
    machine->state = MACHINE_PAUSED;
    machine_take_console(machine);
    return 0;
}

void machine_give_up(struct machine *machine)
{
    machine_end(machine, 1);
}
