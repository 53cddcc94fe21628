/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_build.c: from configuration to a VM whose vCPUs stand at the kernel's first instruction.
 *
 * Read machine_build() first: it is the boot, step by step, in the order that KVM makes cheapest
 * (kvm.h).
 */
#include "vmm/base/log.h"
#include "vmm/base/timeline.h"
#include "vmm/boot/layout.h"
#include "vmm/cpu_model.h"
#include "vmm/cpu_template.h"
#include "vmm/machine_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

/* That of SIGBUS, which is what the monitor's own access to such memory raises. */
#define EXIT_MEMORY_GONE 149

/* A guest whose memory file was cut short has lost the pages behind its new end, also those that it
 * had written to: whatever it fails of then, it is that. */
static void vcpu_failed(void *owner, int exit_code)
{
    struct machine *machine = owner;

    if (mem_file_is_cut(&machine->mem)) {
        log_error("The memory file %s has been cut short while the guest ran from it.",
                  machine->mem_path ? machine->mem_path : "of the snapshot");
        exit_code = EXIT_MEMORY_GONE;
    }
    machine_end(machine, exit_code);
}

/* Both ways by which a guest asks for its end: the keyboard controller's reset line and ACPI
 * power-off. */
static void guest_asked_for_end(void *owner)
{
    machine_end(owner, 0);
}

void machine_build_init(struct machine *machine)
{
    machine->vcpus = (struct vcpus){
        .loop = machine->loop,
        .ports = &machine->ports,
        .mmio = &machine->mmio,
        .ended = vcpu_failed,
        .owner = machine,
    };
    shell_init(&machine->shell, machine->loop, &machine->kvm, &machine->vcpus);
}

static unsigned device_count(const struct machine *machine)
{
    return devices_list(&machine->devices, NULL, 0);
}

/* A page for the window of each device, in the order of the windows. */
static int map_registers(struct machine *machine, struct kvm_registers *registers, struct err *e)
{
    uint64_t size = device_count(machine) * VIRTIO_MMIO_WINDOW;
    void *map;

    *registers = (struct kvm_registers){.gpa = GPA(LAYOUT_VIRTIO_MMIO), .size = size};
    if (size == 0)
        return 0;
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return err_set(e, -errno, "Cannot map the registers of the devices: %s", err_os(-errno));
    machine->registers = registers->hva = map;
    machine->registers_size = size;
    return 0;
}

static int create_memory(struct machine *machine, struct err *e)
{
    const struct machine_config *config = &machine->config;
    /* A size that does not fit is refused by mem_create; it must not wrap into one that does. */
    uint64_t size = MIN(config->mem_size_mib, UINT64_MAX / MIB) * MIB;

    if (machine->mem.count > 0) /* out of a snapshot */
        return 0;
    if (devices_share_memory(&machine->devices))
        return mem_create_shared(&machine->mem, size, config->huge_pages, config->track_dirty_pages,
                                 e);
    return mem_create(&machine->mem, size, config->huge_pages, config->track_dirty_pages, e);
}

/* Files of persistent memory lie above RAM, one behind the other. */
static int map_pmem(struct machine *machine, struct err *e)
{
    struct devices *devices = &machine->devices;
    gpa_t gpa = mem_device_base(&machine->mem, PMEM_ALIGNMENT);

    for (unsigned i = 0; i < devices->pmem_count; i++) {
        uint64_t size;

        if (pmem_map(devices->pmem[i], gpa, &size, e))
            return err_prefix(e, "Cannot create pmem device: ");
        gpa = gpa_add(gpa, size);
    }
    return 0;
}

/* What the guest has beside RAM: persistent memory, and memory to be plugged. */
static int map_device_memory(struct machine *machine, struct err *e)
{
    struct hotplug *hotplug = machine->devices.hotplug;
    int rc = map_pmem(machine, e);

    if (rc == 0 && hotplug && hotplug_map(hotplug, e))
        return err_prefix(e, "Failed to create memory hotplug device: ");
    return rc;
}

static int create_vm(struct machine *machine, struct err *e)
{
    struct kvm_registers registers;
    int rc;

    shell_close(&machine->shell);
    cpu_model_request_features();
    rc = machine->kvm.fd < 0 ? kvm_open(&machine->kvm, e) : 0;
    if (rc == 0)
        rc = kvm_check_capabilities(&machine->kvm, cpu_template_waives, machine->cpu_template, e);
    if (rc == 0 && machine->cpu_template)
        rc = cpu_template_check_capabilities(machine->cpu_template, &machine->kvm, e);
    if (rc == 0)
        rc = create_memory(machine, e);
    if (rc == 0)
        rc = map_device_memory(machine, e);
    if (rc == 0)
        rc = map_registers(machine, &registers, e);
    if (rc == 0)
        rc = kvm_vm_create(&machine->kvm, &machine->mem, machine->config.track_dirty_pages,
                           &registers, e);
    timeline_stamp(TIMELINE_MEMORY);
    return rc;
}

/* Without anything in them: a snapshot has all of it. */
static int create_empty_vcpus(struct machine *machine, struct err *e)
{
    return vcpus_create(&machine->vcpus, &machine->kvm, machine->config.vcpu_count, e);
}

static int create_vcpus(struct machine *machine, struct err *e)
{
    struct vcpus *vcpus = &machine->vcpus;
    const struct cpuid_table *offer;
    struct cpu_model model;
    int rc = create_empty_vcpus(machine, e);

    if (rc == 0)
        rc = shell_offer(&machine->shell, &offer, e);
    if (rc)
        return rc;
    rc = cpu_model_create(&model, offer, &machine->config, machine->cpu_template, e);
    if (rc == 0)
        rc = cpu_model_check_addresses(&model, mem_end(&machine->mem), e);
    if (rc)
        return rc;
    for (unsigned i = 0; i < vcpus->count && rc == 0; i++)
        rc = cpu_model_apply(&model, vcpus->vcpu[i].fd, i, e);
    timeline_stamp(TIMELINE_VM);
    return rc;
}

_Static_assert(DEVICE_GSI_LAST < LAYOUT_IRQ_VMGENID && DEVICE_GSI_LAST < LAYOUT_IRQ_VMCLOCK &&
                   MAX(LAYOUT_IRQ_VMGENID, LAYOUT_IRQ_VMCLOCK) < LAYOUT_IOAPIC_PINS,
               "no line is a device's and the generation's");

static struct irq_line irq_to(struct machine *machine, uint32_t gsi)
{
    return (struct irq_line){.gsi = gsi, .pulse = kvm_pulse_irq, .owner = &machine->kvm};
}

static int attach_legacy(struct machine *machine, struct err *e)
{
    struct bus *ports = &machine->ports;
    int rc;

    i8042_init(&machine->keyboard, &machine->keyboard_irq, guest_asked_for_end, machine);
    pit_init(&machine->pit, machine->loop, &machine->timer_irq);
    boot_timer_init(&machine->boot_timer);
    power_init(&machine->power, guest_asked_for_end, machine);
    machine->serial_irq = irq_to(machine, SERIAL_GSI);
    machine->keyboard_irq = irq_to(machine, I8042_GSI);
    machine->timer_irq = irq_to(machine, PIT_GSI);
    machine->generation.id_irq = irq_to(machine, LAYOUT_IRQ_VMGENID);
    machine->generation.clock_irq = irq_to(machine, LAYOUT_IRQ_VMCLOCK);
    rc = serial_attach(&machine->serial, ports, e);
    if (rc == 0)
        rc = kvm_post_port_writes(&machine->kvm, SERIAL_POSTED_PORT, SERIAL_POSTED_PORTS, e);
    if (rc == 0)
        rc = i8042_attach(&machine->keyboard, ports, e);
    if (rc == 0)
        rc = pit_attach(&machine->pit, ports, e);
    if (rc == 0)
        rc = power_attach(&machine->power, ports, e);
    if (rc == 0 && machine->options.boot_timer)
        rc = boot_timer_attach(&machine->boot_timer, &machine->mmio, e);
    return rc;
}

static int connect_ioeventfd(void *owner, int fd, gpa_t addr, uint32_t value, bool assign,
                             struct err *e)
{
    struct machine *machine = owner;

    return kvm_ioeventfd(&machine->kvm, fd, addr, value, assign, e);
}

static int connect_irqfd(void *owner, int fd, uint32_t gsi, struct err *e)
{
    struct machine *machine = owner;

    return kvm_irqfd(&machine->kvm, fd, gsi, e);
}

static int post_writes(void *owner, gpa_t addr, struct err *e)
{
    struct machine *machine = owner;

    return kvm_post_writes(&machine->kvm, addr, e);
}

static void flush_posted(void *owner)
{
    struct machine *machine = owner;

    vcpus_flush_posted(&machine->vcpus);
}

static int attach_virtio(struct machine *machine, struct virtio_dev *dev, struct err *e)
{
    struct virtio_slot *slot = &machine->slot[machine->slot_count];
    struct virtio_mmio_place place = {
        .base = GPA(LAYOUT_VIRTIO_MMIO + machine->slot_count * VIRTIO_MMIO_WINDOW),
        .line = &slot->irq,
        .page = machine->registers + machine->slot_count * VIRTIO_MMIO_WINDOW,
        .ioeventfd = connect_ioeventfd,
        .irqfd = connect_irqfd,
        .post_writes = post_writes,
        .flush_posted = flush_posted,
        .owner = machine,
    };

    *slot = (struct virtio_slot){
        .dev = dev,
        .irq = irq_to(machine, DEVICE_GSI_FIRST + machine->slot_count),
        .base = place.base,
    };
    machine->slot_count++; /* counted first, so that tear_down sees a half-made one */
    return virtio_mmio_create(&slot->mmio, &machine->env, dev, &place, &machine->mmio, e);
}

/*
 * How many devices there are is checked before anything is made. The words are those of
 * Firecracker, which finds out only when its last two devices want their interrupts.
 */
static int check_device_count(const struct machine *machine, struct err *e)
{
    unsigned count = device_count(machine);
    const char *who = count == MACHINE_VIRTIO_MAX + 1 ? "VMClock" : "VMGenID";

    if (count <= MACHINE_VIRTIO_MAX)
        return 0;
    return err_set(
        e, -ENOSPC,
        "Could not attach device: Error while registering ACPI with KVM: %s: Could not allocate "
        "GSI: The requested resource is not available.",
        who);
}

static int attach_devices(struct machine *machine, struct err *e)
{
    struct virtio_dev *list[MACHINE_VIRTIO_MAX]; /* more have been refused already */
    unsigned count = devices_list(&machine->devices, list, ARRAY_SIZE(list));
    int rc = attach_legacy(machine, e);

    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = attach_virtio(machine, list[i], e);
    timeline_stamp(TIMELINE_DEVICES);
    return rc;
}

/* Which device the kernel is told to mount. */
static void choose_root(const struct devices *devices, struct boot_request *request)
{
    const struct drive *first = &devices->drive[0];

    for (unsigned i = 0; i < devices->pmem_count; i++) {
        const struct pmem_config *pmem = pmem_config(devices->pmem[i]);

        if (!pmem->is_root)
            continue;
        request->root = BOOT_ROOT_PMEM;
        request->root_pmem = i;
        request->root_read_only = pmem->read_only;
    }
    if (devices->drive_count == 0 || !drive_is_root(first))
        return;
    request->root = BOOT_ROOT_DRIVE;
    request->root_partuuid = first->blk ? blk_config(first->blk)->partuuid
                                        : vhost_user_blk_config(first->vhost)->partuuid;
    request->root_read_only =
        first->blk ? blk_config(first->blk)->read_only : vhost_user_blk_read_only(first->vhost);
}

/* What the guest finds in memory at its start: kernel, initrd, command line, tables. */
static int load_guest(struct machine *machine, struct boot_entry *entry, struct err *e)
{
    struct boot_device devices[MACHINE_VIRTIO_MAX];
    struct boot_request request = {
        .mem = &machine->mem,
        .kernel_fd = machine->kernel_fd,
        .initrd_fd = machine->initrd_fd,
        .args = machine->boot_source.boot_args ? machine->boot_source.boot_args : BOOT_ARGS_DEFAULT,
        .vcpu_count = machine->config.vcpu_count,
        .tsc_khz = cpu_model_tsc_khz(machine->vcpus.vcpu[0].fd),
        .device = devices,
        .device_count = machine->slot_count,
    };
    int rc;

    choose_root(&machine->devices, &request);
    for (unsigned i = 0; i < machine->slot_count; i++)
        devices[i] =
            (struct boot_device){.base = machine->slot[i].base, .gsi = machine->slot[i].irq.gsi};
    rc = boot_load(&request, entry, e);
    if (rc == 0)
        rc = generation_begin(&machine->mem, e);
    if (rc == 0 && entry->protocol == BOOT_PVH)
        log_info("Kernel loaded using PVH boot protocol.");
    timeline_stamp(TIMELINE_KERNEL);
    return rc;
}

/* Undoes whatever of a build exists. The devices themselves stay: they are configuration. */
static void tear_down(struct machine *machine)
{
    for (unsigned i = 0; i < machine->slot_count; i++)
        virtio_mmio_destroy(machine->slot[i].mmio);
    machine->slot_count = 0;
    machine->serial_irq = machine->keyboard_irq = machine->timer_irq = (struct irq_line){0};
    machine->generation = (struct generation){0};
    memset(&machine->ports, 0, sizeof(machine->ports));
    memset(&machine->mmio, 0, sizeof(machine->mmio));
    shell_forget_vm(&machine->shell);
    vcpus_destroy(&machine->vcpus);
    kvm_close(&machine->kvm);
    if (machine->registers)
        munmap(machine->registers, machine->registers_size);
    machine->registers = NULL;
    for (unsigned i = 0; i < machine->devices.pmem_count; i++)
        pmem_unmap(machine->devices.pmem[i]);
    if (machine->devices.hotplug)
        hotplug_unmap(machine->devices.hotplug);
    mem_destroy(&machine->mem);
}

int machine_build(struct machine *machine, struct err *e)
{
    struct boot_entry entry;
    int rc = check_device_count(machine, e);

    if (rc)
        return rc;
    rc = create_vm(machine, e);
    if (rc == 0)
        rc = create_vcpus(machine, e);
    if (rc == 0)
        rc = attach_devices(machine, e);
    if (rc == 0)
        rc = load_guest(machine, &entry, e);
    for (unsigned i = 0; i < machine->vcpus.count && rc == 0; i++)
        rc = vcpu_set_boot_state(&machine->vcpus.vcpu[i], &entry, e);
    if (rc == 0)
        rc = vcpus_start(&machine->vcpus, e);
    if (rc)
        tear_down(machine);
    return rc;
}

int machine_rebuild(struct machine *machine,
                    int (*load)(struct machine *machine, void *arg, struct err *e), void *arg,
                    struct err *e)
{
    int rc = check_device_count(machine, e);

    if (rc == 0)
        rc = create_vm(machine, e);
    if (rc == 0)
        rc = create_empty_vcpus(machine, e);
    timeline_stamp(TIMELINE_VM);
    if (rc == 0)
        rc = attach_devices(machine, e);
    if (rc == 0)
        rc = load(machine, arg, e);
    if (rc == 0)
        rc = vcpus_start_parked(&machine->vcpus, e);
    return rc;
}
