/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu_x86_64.c: the registers with which a vCPU starts on x86_64. CPUID and MSRs are
 * cpuid_x86_64.c's. */
#include "vmm/base/metrics.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

/* Local APIC registers (Intel SDM volume 3, table 11-1) and delivery modes (section 11.5.1). */
#define APIC_LVT0        0x350
#define APIC_LVT1        0x360
#define APIC_MODE_NMI    (4u << 8)
#define APIC_MODE_EXTINT (7u << 8)

static struct kvm_segment to_kvm(const struct boot_segment *segment)
{
    return (struct kvm_segment){
        .base = segment->base,
        .limit = segment->limit,
        .selector = segment->selector,
        .type = segment->type,
        .present = segment->present,
        .dpl = segment->dpl,
        .db = segment->db,
        .s = segment->s,
        .l = segment->l,
        .g = segment->g,
    };
}

static int set_sregs(int fd, const struct boot_cpu *cpu)
{
    struct kvm_sregs sregs;

    if (ioctl(fd, KVM_GET_SREGS, &sregs))
        return -errno;
    sregs.cs = to_kvm(&cpu->code);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = to_kvm(&cpu->data);
    sregs.tr = to_kvm(&cpu->task);
    sregs.gdt.base = cpu->gdt_base;
    sregs.gdt.limit = cpu->gdt_limit;
    sregs.idt.base = cpu->idt_base;
    sregs.idt.limit = cpu->idt_limit;
    sregs.cr0 |= cpu->cr0;
    sregs.cr3 = cpu->cr3;
    sregs.cr4 |= cpu->cr4;
    sregs.efer |= cpu->efer;
    return ioctl(fd, KVM_SET_SREGS, &sregs) ? -errno : 0;
}

static int set_regs(int fd, const struct boot_cpu *cpu)
{
    struct kvm_regs regs = {
        .rflags = 2, /* the bit that is always set */
        .rip = cpu->rip,
        .rsp = cpu->rsp,
        .rbp = cpu->rsp,
        .rsi = cpu->rsi,
        .rbx = cpu->rbx,
    };

    return ioctl(fd, KVM_SET_REGS, &regs) ? -errno : 0;
}

/* The values after FNINIT and at reset: all exceptions masked. */
static int set_fpu(int fd)
{
    struct kvm_fpu fpu = {.fcw = 0x37f, .mxcsr = 0x1f80};

    return ioctl(fd, KVM_SET_FPU, &fpu) ? -errno : 0;
}

static void set_apic_mode(struct kvm_lapic_state *lapic, unsigned reg, uint32_t mode)
{
    uint32_t value;

    memcpy(&value, lapic->regs + reg, sizeof(value));
    value = (value & ~0x700u) | mode;
    memcpy(lapic->regs + reg, &value, sizeof(value));
}

/* LINT0 takes the 8259's interrupts, LINT1 the NMI: what firmware would have set (MP
 * specification 3.6.1). */
static int set_lapic(int fd)
{
    struct kvm_lapic_state lapic;

    if (ioctl(fd, KVM_GET_LAPIC, &lapic))
        return -errno;
    set_apic_mode(&lapic, APIC_LVT0, APIC_MODE_EXTINT);
    set_apic_mode(&lapic, APIC_LVT1, APIC_MODE_NMI);
    return ioctl(fd, KVM_SET_LAPIC, &lapic) ? -errno : 0;
}

int vcpu_set_boot_state(const struct vcpu *vcpu, const struct boot_entry *entry, struct err *e)
{
    int rc = set_lapic(vcpu->fd);

    /* The others wait for INIT and SIPI from the first, which set everything. */
    if (rc == 0 && vcpu->index == 0) {
        rc = set_sregs(vcpu->fd, &entry->cpu);
        if (rc == 0)
            rc = set_regs(vcpu->fd, &entry->cpu);
        if (rc == 0)
            rc = set_fpu(vcpu->fd);
    }
    return rc ? err_set(e, rc, "Cannot set the registers of vCPU %u: %s", vcpu->index, err_os(rc))
              : 0;
}

void vcpu_tell_paused(const struct vcpu *vcpu)
{
    /* EINVAL: the guest does not use kvmclock and has nothing to be told. */
    if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0ul) && errno != EINVAL)
        metrics.vcpu.kvmclock_ctrl_fails++;
}
