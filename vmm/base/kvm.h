/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm.h owns /dev/kvm and the VM: opening, the table of required capabilities, memory slots, the
 * in-kernel interrupt controllers, interrupts and ioeventfds.
 *
 * The order of calls matters. Since Linux 6.18 interrupt controllers and ioeventfds begin a grace
 * period of RCU when they are made, and a memory slot set within it waits for its end, about 7 ms:
 * slots come before them, or ticks later. There is no in-kernel PIT: closing a VM that has one
 * takes 16 ms. Both are why kvm_vm_create takes the memory.
 *
 * All functions: the thread that builds the machine, or under the machine lock.
 */
#ifndef MAYFLY_BASE_KVM_H
#define MAYFLY_BASE_KVM_H

#include "vmm/base/irq.h"
#include "vmm/base/mem.h"

struct kvm {
    int fd; /* /dev/kvm */
    int vm_fd;
    uint32_t run_size;    /* of a vCPU's shared kvm_run mapping */
    uint32_t device_slot; /* the slot of mem->device[0], others follow; mem->region[i] is slot i */
    bool capable;         /* it is known to have all required capabilities */
    uint64_t chips_ns;    /* when the interrupt controllers were made (now_ns); 0 = not yet */
};

/* Opens /dev/kvm and checks its version. The sentence says what to do. */
int kvm_open(struct kvm *kvm, struct err *e) __must_check;

/*
 * Checks the table of capabilities that a machine needs; once all of it is known to be there, never
 * again. waived (NULL = none) says which of them a CPU template does without. -ENOTSUP.
 */
int kvm_check_capabilities(struct kvm *kvm, bool (*waived)(void *arg, unsigned number), void *arg,
                           struct err *e) __must_check;

/* Whether KVM has capability `number`, as its value (0 = no). */
int kvm_capability(const struct kvm *kvm, unsigned number);

/*
 * Registers of devices as memory that the guest can read without leaving: what it writes there
 * still exits, or signals an ioeventfd, or is posted. size 0 = none.
 */
struct kvm_registers {
    gpa_t gpa;
    void *hva;
    uint64_t size;
};

/*
 * What of a VM needs no memory, for whoever has time before it is known: the VM, then its interrupt
 * controllers. The sentences are those of kvm_vm_create.
 */
int kvm_make_vm(struct kvm *kvm, struct err *e) __must_check;
int kvm_make_chips(struct kvm *kvm, struct err *e) __must_check;

/* Whether a slot set now may wait for the grace period of the interrupt controllers. */
bool kvm_slots_wait(const struct kvm *kvm);

/* Lets go of the VM, for another one in its place. It stays open until the process ends, since
 * closing it can wait for grace periods too. */
void kvm_leave_vm(struct kvm *kvm);

/*
 * Creates the VM, registers every region of `mem` and the devices' registers, then the irqchip;
 * what of it has been made already stays.
 * With log_dirty, KVM keeps a dirty log of RAM and of memory that can be plugged. Of the latter all
 * is one slot from the start: protection in the host's mapping keeps the guest from what is not
 * plugged, since a slot set later would stop the guest for 7 ms.
 */
int kvm_vm_create(struct kvm *kvm, const struct mem *mem, bool log_dirty,
                  const struct kvm_registers *registers, struct err *e) __must_check;

/*
 * Lets KVM note 4-byte writes to `addr` in the ring that all vCPUs share, instead of an exit for
 * each (coalesced MMIO): for registers whose writes may take effect late. vcpus_flush_posted
 * (vcpu.h) reads it.
 */
int kvm_post_writes(const struct kvm *kvm, gpa_t addr, struct err *e) __must_check;

/* The same for writes to `count` I/O ports. Where KVM cannot (before Linux 4.20), they go on
 * exiting. */
int kvm_post_port_writes(const struct kvm *kvm, uint16_t port, unsigned count,
                         struct err *e) __must_check;

/* Raises and lowers a GSI, as the irq_line of that GSI does (owner: the struct kvm). Any thread. */
void kvm_pulse_irq(void *kvm, uint32_t gsi);

/* A 4-byte write of `value` to MMIO address `addr` signals `fd` without an exit to user space;
 * `assign` false takes that back. */
int kvm_ioeventfd(const struct kvm *kvm, int fd, gpa_t addr, uint32_t value, bool assign,
                  struct err *e) __must_check;

/* Each signal of the eventfd `fd` raises and lowers a GSI, without us. Ends with the VM. */
int kvm_irqfd(const struct kvm *kvm, int fd, uint32_t gsi, struct err *e) __must_check;

/* Copies the dirty log of a slot into `bitmap`, a bit a page in whole words, and empties it.
 * -errno; -ENOENT without a log. */
int kvm_dirty_log(const struct kvm *kvm, uint32_t slot, uint64_t *bitmap) __must_check;

/*
 * Maps memory for the guest before it asks, so that no access of its leaves it for want of a page:
 * what the host can write at once for writing too, which counts as dirty where there is a log.
 * Pages that are not in memory are waited for. Before the vCPU runs, with its registers set. -errno
 * for the first page that cannot be mapped; -ENOTTY (before Linux 6.11) and -EOPNOTSUPP (no nested
 * paging) where KVM never does it.
 */
int kvm_pre_fault(int vcpu_fd, gpa_t gpa, uint64_t size) __must_check;

/* Closes what is open; the fields are -1 then. */
void kvm_close(struct kvm *kvm);

#endif
