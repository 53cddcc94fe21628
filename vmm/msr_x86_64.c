/* SPDX-License-Identifier: Apache-2.0 */
/* msr_x86_64.c: see msr_x86_64.h. */
#include "vmm/msr_x86_64.h"

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

enum {
    MSR_TSC = 0x10,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_MTRR_DEF_TYPE = 0x2ff,
};

#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SYSCALL_MASK   0xc0000084u
#define MSR_KERNEL_GS_BASE 0xc0000102u

#define MISC_ENABLE_FAST_STRINGS 0x1u
#define MTRR_ENABLE              0x800u
#define MTRR_WRITE_BACK          0x6u

/* The layout of struct kvm_msrs, with room. */
#define MSR_BATCH 32
struct msr_batch {
    uint32_t count;
    uint32_t padding;
    struct kvm_msr_entry entry[MSR_BATCH];
};

int msr_set_boot_values(int vcpu_fd, struct err *e)
{
    struct msr_batch boot = {
        .count = 11,
        .entry =
            {
                {.index = MSR_SYSENTER_CS},
                {.index = MSR_SYSENTER_ESP},
                {.index = MSR_SYSENTER_EIP},
                {.index = MSR_STAR},
                {.index = MSR_CSTAR},
                {.index = MSR_KERNEL_GS_BASE},
                {.index = MSR_SYSCALL_MASK},
                {.index = MSR_LSTAR},
                {.index = MSR_TSC},
                {.index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRINGS},
                {.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE | MTRR_WRITE_BACK},
            },
    };
    int set = ioctl(vcpu_fd, KVM_SET_MSRS, &boot);

    if (set < 0)
        return err_set(e, -errno, "Failed to set the vCPU's boot MSRs: %s", err_os(-errno));
    if (set != (int)boot.count)
        return err_set(e, -EIO, "Failed to set the vCPU's boot MSRs: KVM refuses MSR %#x.",
                       boot.entry[set].index);
    return 0;
}

/* One batch: read, change, write. KVM stops at the first register that it refuses and
 * says which. */
static int modify_batch(int vcpu_fd, const struct msr_modifier *modifier, uint32_t count,
                        struct err *e)
{
    struct msr_batch batch = {.count = count};
    int done;

    for (uint32_t i = 0; i < count; i++)
        batch.entry[i].index = modifier[i].index;
    done = ioctl(vcpu_fd, KVM_GET_MSRS, &batch);
    if (done != (int)count)
        return err_set(e, -EINVAL,
                       "Failed to create guest config: Template changes an MSR entry not supported "
                       "by KVM: Register Address: %x",
                       modifier[MAX(done, 0)].index);
    for (uint32_t i = 0; i < count; i++)
        batch.entry[i].data = (batch.entry[i].data & modifier[i].keep) | modifier[i].value;
    done = ioctl(vcpu_fd, KVM_SET_MSRS, &batch);
    if (done != (int)count)
        return err_set(e, -EINVAL,
                       "Failed to create guest config: KVM refuses the template's value %#llx for "
                       "MSR %#x",
                       (unsigned long long)batch.entry[MAX(done, 0)].data,
                       modifier[MAX(done, 0)].index);
    return 0;
}

int msr_modify(int vcpu_fd, const struct msr_modifier *modifier, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i += MSR_BATCH) {
        int ret = modify_batch(vcpu_fd, modifier + i, (uint32_t)MIN(count - i, MSR_BATCH), e);

        if (ret < 0)
            return ret;
    }
    return 0;
}
