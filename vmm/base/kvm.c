/* SPDX-License-Identifier: Apache-2.0 */
/* kvm.c: from /dev/kvm to a VM with memory and interrupt controllers, in the order that costs
 * least. */
#include "vmm/base/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

/* Three pages below the firmware area that KVM may use for the TSS of Intel's
 * real-mode emulation. */
#define TSS_ADDR 0xfffbd000ul

/* Which not every header has (Linux 6.11): the API's document, 4.143. */
#ifndef KVM_PRE_FAULT_MEMORY
struct kvm_pre_fault_memory {
    uint64_t gpa, size, flags, padding[5];
};

#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

/* KVM_CAP_IRQFD: not used yet, but asked for by Firecracker, whose templates may drop it. */
static const unsigned required[] = {
    KVM_CAP_IRQCHIP,        KVM_CAP_IOEVENTFD,      KVM_CAP_IRQFD,     KVM_CAP_USER_MEMORY,
    KVM_CAP_SET_TSS_ADDR,   KVM_CAP_ADJUST_CLOCK,   KVM_CAP_DEBUGREGS, KVM_CAP_MP_STATE,
    KVM_CAP_VCPU_EVENTS,    KVM_CAP_XSAVE,          KVM_CAP_EXT_CPUID, KVM_CAP_READONLY_MEM,
    KVM_CAP_COALESCED_MMIO, KVM_CAP_IMMEDIATE_EXIT,
};

static int explain_open(int code, struct err *e)
{
    switch (code) {
    case -ENOENT:
        return err_set(
            e, code,
            "Error creating KVM object: /dev/kvm does not exist: load kvm_intel or kvm_amd, "
            "and enable virtualization in the firmware. %s",
            err_os(code));
    case -EACCES:
    case -EPERM:
        return err_set(
            e, code,
            "Error creating KVM object: no permission to open /dev/kvm: run as root or join "
            "the group that owns it. %s",
            err_os(code));
    default:
        return err_set(e, code, "Error creating KVM object: cannot open /dev/kvm: %s",
                       err_os(code));
    }
}

int kvm_open(struct kvm *kvm, struct err *e)
{
    int version, size;

    kvm->vm_fd = -1;
    kvm->capable = false;
    kvm->chips_ns = 0;
    kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm->fd < 0)
        return explain_open(-errno, e);
    version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);
    size = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (version != KVM_API_VERSION || size < (int)sizeof(struct kvm_run)) {
        kvm_close(kvm);
        return err_set(e, -ENODEV,
                       "The host's KVM is not usable: it speaks API version %d, not %d.", version,
                       KVM_API_VERSION);
    }
    kvm->run_size = (uint32_t)size;
    return 0;
}

int kvm_check_capabilities(struct kvm *kvm, bool (*waived)(void *arg, unsigned number), void *arg,
                           struct err *e)
{
    for (unsigned i = 0; i < ARRAY_SIZE(required) && !kvm->capable; i++) {
        if (waived && waived(arg, required[i]))
            continue;
        if (kvm_capability(kvm, required[i]) <= 0)
            return err_set(e, -ENOTSUP, "Kvm error: Missing KVM capabilities: %#x", required[i]);
    }
    kvm->capable |= !waived; /* none was left out */
    return 0;
}

int kvm_capability(const struct kvm *kvm, unsigned number)
{
    return ioctl(kvm->fd, KVM_CHECK_EXTENSION, (unsigned long)number);
}

/* KVM_CREATE_VM gives EINTR when a signal arrives while it waits; five tries, as clients expect. */
static int create_vm(int fd)
{
    int vm_fd = -1;

    for (int tries = 0; tries < 5 && vm_fd < 0; tries++) {
        vm_fd = ioctl(fd, KVM_CREATE_VM, 0ul);
        if (vm_fd < 0 && errno != EINTR)
            break;
    }
    return vm_fd < 0 ? -errno : vm_fd;
}

static int add_slot(const struct kvm *kvm, struct kvm_userspace_memory_region slot)
{
    return ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) ? -errno : 0;
}

static int add_region(const struct kvm *kvm, uint32_t slot, const struct mem_region *region,
                      bool log_dirty)
{
    return add_slot(kvm, (struct kvm_userspace_memory_region){
                             .slot = slot,
                             .flags = (log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
                                      (region->read_only ? KVM_MEM_READONLY : 0),
                             .guest_phys_addr = region->gpa.v,
                             .memory_size = region->size,
                             .userspace_addr = (uintptr_t)region->hva,
                         });
}

/* RAM first, then the registers, then what devices have added. */
static int add_slots(struct kvm *kvm, const struct mem *mem, bool log_dirty,
                     const struct kvm_registers *registers)
{
    uint32_t slot = 0;
    int rc = 0;

    for (unsigned i = 0; i < mem->count && rc == 0; i++)
        rc = add_region(kvm, slot++, &mem->region[i], log_dirty);
    if (rc == 0 && registers->size > 0)
        rc = add_slot(kvm, (struct kvm_userspace_memory_region){
                               .slot = slot++,
                               .flags = KVM_MEM_READONLY,
                               .guest_phys_addr = registers->gpa.v,
                               .memory_size = registers->size,
                               .userspace_addr = (uintptr_t)registers->hva,
                           });
    kvm->device_slot = slot;
    for (unsigned i = 0; i < mem->device_count && rc == 0; i++)
        rc = add_region(kvm, slot++, &mem->device[i], log_dirty && mem->device[i].plugged);
    return rc;
}

int kvm_make_vm(struct kvm *kvm, struct err *e)
{
    kvm->vm_fd = create_vm(kvm->fd);
    if (kvm->vm_fd < 0)
        return err_set(e, kvm->vm_fd, "Cannot create the VM: %s", err_os(kvm->vm_fd));
    return 0;
}

int kvm_make_chips(struct kvm *kvm, struct err *e)
{
    if (ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR))
        return err_set(e, -errno, "Cannot place the VM's task state segment: %s", err_os(-errno));
    if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0ul))
        return err_set(e, -errno, "Cannot create the VM's interrupt controllers: %s",
                       err_os(-errno));
    kvm->chips_ns = now_ns();
    return 0;
}

/*
 * Such a grace period lasts two ticks of the host's clock or a little more: measured with ticks of
 * 4 ms, a slot takes 7 ms right after the interrupt controllers, 3 after 4 ms, and 0.1 after 8. The
 * coarse clock's resolution is the tick.
 */
bool kvm_slots_wait(const struct kvm *kvm)
{
    struct timespec tick;

    if (kvm->chips_ns == 0 || clock_getres(CLOCK_MONOTONIC_COARSE, &tick))
        return false;
    return now_ns() - kvm->chips_ns < 3 * (uint64_t)tick.tv_nsec;
}

void kvm_leave_vm(struct kvm *kvm)
{
    kvm->vm_fd = -1;
    kvm->chips_ns = 0;
}

int kvm_vm_create(struct kvm *kvm, const struct mem *mem, bool log_dirty,
                  const struct kvm_registers *registers, struct err *e)
{
    int rc = kvm->vm_fd < 0 ? kvm_make_vm(kvm, e) : 0;

    if (rc)
        return rc;
    rc = add_slots(kvm, mem, log_dirty, registers);
    if (rc)
        return err_set(e, rc, "Cannot give the VM its memory: %s", err_os(rc));
    return kvm->chips_ns == 0 ? kvm_make_chips(kvm, e) : 0;
}

void kvm_pulse_irq(void *kvm, uint32_t gsi)
{
    const struct kvm *self = kvm;
    struct kvm_irq_level line = {.irq = gsi, .level = 1};

    /* Neither can fail on a VM with interrupt controllers. */
    ioctl(self->vm_fd, KVM_IRQ_LINE, &line);
    line.level = 0;
    ioctl(self->vm_fd, KVM_IRQ_LINE, &line);
}

int kvm_ioeventfd(const struct kvm *kvm, int fd, gpa_t addr, uint32_t value, bool assign,
                  struct err *e)
{
    struct kvm_ioeventfd ioeventfd = {
        .datamatch = value,
        .addr = addr.v,
        .len = sizeof(value),
        .fd = fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };

    if (ioctl(kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd))
        return err_set(e, -errno, "Cannot connect the ioeventfd at %#lx: %s", (unsigned long)addr.v,
                       err_os(-errno));
    return 0;
}

int kvm_irqfd(const struct kvm *kvm, int fd, uint32_t gsi, struct err *e)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};

    if (ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd))
        return err_set(e, -errno, "Cannot connect the irqfd of interrupt %u: %s", gsi,
                       err_os(-errno));
    return 0;
}

int kvm_post_writes(const struct kvm *kvm, gpa_t addr, struct err *e)
{
    struct kvm_coalesced_mmio_zone zone = {.addr = addr.v, .size = sizeof(uint32_t)};

    if (ioctl(kvm->vm_fd, KVM_REGISTER_COALESCED_MMIO, &zone))
        return err_set(e, -errno, "Cannot have writes to %#lx posted: %s", (unsigned long)addr.v,
                       err_os(-errno));
    return 0;
}

int kvm_post_port_writes(const struct kvm *kvm, uint16_t port, unsigned count, struct err *e)
{
    struct kvm_coalesced_mmio_zone zone = {.addr = port, .size = count, .pio = 1};

    if (kvm_capability(kvm, KVM_CAP_COALESCED_PIO) <= 0)
        return 0;
    if (ioctl(kvm->vm_fd, KVM_REGISTER_COALESCED_MMIO, &zone))
        return err_set(e, -errno, "Cannot have writes to port %#x posted: %s", port,
                       err_os(-errno));
    return 0;
}

int kvm_dirty_log(const struct kvm *kvm, uint32_t slot, uint64_t *bitmap)
{
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

    return ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) ? -errno : 0;
}

/* KVM leaves in the range what is still to be done; it fails only where it has done nothing. */
int kvm_pre_fault(int vcpu_fd, gpa_t gpa, uint64_t size)
{
    struct kvm_pre_fault_memory range = {.gpa = gpa.v, .size = size};

    for (uint64_t left = size; left > 0; left = range.size) {
        if (ioctl(vcpu_fd, KVM_PRE_FAULT_MEMORY, &range))
            return -errno;
        if (range.size >= left)
            return -EIO;
    }
    return 0;
}

void kvm_close(struct kvm *kvm)
{
    if (kvm->vm_fd >= 0)
        close(kvm->vm_fd);
    if (kvm->fd >= 0)
        close(kvm->fd);
    kvm->fd = kvm->vm_fd = -1;
    kvm->chips_ns = 0;
}
