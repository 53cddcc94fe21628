/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu_msrs_x86_64.c: which model-specific registers are saved, and in which order they go back. */
#include "vmm/snapshot/vcpu_parts_x86_64.h"

#include <errno.h>
#include <string.h>

#include <sys/ioctl.h>

#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u

/* Local APIC: the timer's vector, its mode and mask (Intel SDM volume 3, section 11.5.1). */
#define APIC_LVT_TIMER          0x320
#define APIC_TIMER_MASKED       (1u << 16)
#define APIC_TIMER_MODES        (3u << 17)
#define APIC_TIMER_TSC_DEADLINE (2u << 17)

/* Registers [first, first + count). */
struct msr_range {
    uint32_t first, count;
};

/* What a guest sees of a processor and older kernels do not list: memory types, and the banks of
 * machine checks. Those that KVM does not have are left out. */
static const struct msr_range unlisted[] = {
    {0x200, 16}, /* MTRR: variable ranges */
    {0x250, 1},  /* MTRR: the first 512 KiB, by 64 KiB */
    {0x258, 2},  /* the next 256 KiB, by 16 KiB */
    {0x268, 8},  /* the rest of the first MiB, by 4 KiB */
    {0x277, 1},  /* PAT */
    {0x2ff, 1},  /* MTRR: the default type */
    {0x400, 128} /* machine checks: 32 banks of 4 */
};

/* Of these, which a guest rarely writes to, a new vCPU has zeros: zeros need not be saved. Setting
 * them was most of what setting the registers takes. */
static const struct msr_range zero_at_first[] = {{0x400, 128}};

/* Hyper-V's, which KVM lists always, and which no guest of ours is offered: writing one would make
 * KVM set Hyper-V up. */
static const struct msr_range withheld[] = {{0x40000000, 0x200}};

/* The layout of struct kvm_msr_list, with room. */
struct msr_list {
    uint32_t count;
    uint32_t index[MSR_STATE_MAX];
};

static bool in_range(const struct msr_range *range, size_t count, uint32_t index)
{
    for (size_t i = 0; i < count; i++) {
        if (index - range[i].first < range[i].count)
            return true;
    }
    return false;
}

static void add(struct msr_state *msrs, uint32_t index)
{
    if (msrs->count < MSR_STATE_MAX)
        msrs->entry[msrs->count++] = (struct kvm_msr_entry){.index = index};
}

/* All but the deadline, which has its place at the end. */
static int choose(const struct vcpu_call *call, struct msr_state *msrs)
{
    struct msr_list list = {.count = MSR_STATE_MAX};

    if (ioctl(call->kvm->fd, KVM_GET_MSR_INDEX_LIST, &list))
        return -errno;
    msrs->count = 0;
    for (uint32_t i = 0; i < list.count; i++) {
        uint32_t index = list.index[i];

        if (index != MSR_TSC_DEADLINE && !in_range(withheld, ARRAY_SIZE(withheld), index) &&
            !in_range(unlisted, ARRAY_SIZE(unlisted), index))
            add(msrs, index);
    }
    for (size_t i = 0; i < ARRAY_SIZE(unlisted); i++) {
        for (uint32_t n = 0; n < unlisted[i].count; n++)
            add(msrs, unlisted[i].first + n);
    }
    add(msrs, MSR_TSC_DEADLINE);
    return msrs->count < MSR_STATE_MAX ? 0 : -EOVERFLOW;
}

/* The layout of struct kvm_msrs, for a few of them at a time: KVM refuses more than 255. */
#define MSR_BATCH 128u
struct msr_batch {
    uint32_t count, pad;
    struct kvm_msr_entry entry[MSR_BATCH];
};

/* KVM stops at the first that it refuses, and says how many it has done. */
static int transfer(int vcpu_fd, unsigned long request, struct kvm_msr_entry *entry, uint32_t count,
                    uint32_t *done)
{
    struct msr_batch batch = {.count = MIN(count, MSR_BATCH)};
    int ret;

    *done = 0;
    memcpy(batch.entry, entry, batch.count * sizeof(*entry));
    ret = ioctl(vcpu_fd, request, &batch);
    if (ret < 0)
        return -errno;
    memcpy(entry, batch.entry, (size_t)ret * sizeof(*entry));
    *done = (uint32_t)ret;
    return 0;
}

static void drop_zeros(struct msr_state *msrs)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < msrs->count; i++) {
        const struct kvm_msr_entry *entry = &msrs->entry[i];

        if (entry->data != 0 || !in_range(zero_at_first, ARRAY_SIZE(zero_at_first), entry->index))
            msrs->entry[kept++] = *entry;
    }
    msrs->count = kept;
}

/* What cannot be read is not there, and is dropped from the list. */
int msrs_save(struct vcpu_call *call, struct vcpu_state *s)
{
    struct msr_state *msrs = &s->msrs;
    uint32_t at = 0, kept = 0, done = 0;
    int rc = choose(call, msrs);

    while (rc == 0 && at < msrs->count) {
        uint32_t asked = MIN(msrs->count - at, MSR_BATCH);

        rc = transfer(call->vcpu_fd, KVM_GET_MSRS, &msrs->entry[at], asked, &done);
        if (rc)
            return rc;
        memmove(&msrs->entry[kept], &msrs->entry[at], done * sizeof(msrs->entry[0]));
        kept += done;
        at += done < asked ? done + 1 : done;
    }
    msrs->count = kept;
    drop_zeros(msrs);
    memset(&msrs->entry[msrs->count], 0, (MSR_STATE_MAX - msrs->count) * sizeof(msrs->entry[0]));
    return rc;
}

/* One that this KVM does not have is no loss when it was 0, and else part of what the guest
 * relies on. */
int msrs_restore(struct vcpu_call *call, const struct vcpu_state *s)
{
    uint32_t at = 0, done = 0;

    while (at < s->msrs.count) {
        struct kvm_msr_entry entry[MSR_BATCH];
        uint32_t asked = MIN(s->msrs.count - at, MSR_BATCH);
        int rc;

        memcpy(entry, &s->msrs.entry[at], asked * sizeof(entry[0]));
        rc = transfer(call->vcpu_fd, KVM_SET_MSRS, entry, asked, &done);
        if (rc)
            return rc;
        at += done;
        if (done == asked)
            continue;
        if (s->msrs.entry[at].data != 0) {
            call->explained = true;
            return err_set(call->err, -ENOTSUP,
                           "Cannot restore vCPU %u: this host's KVM does not take the value %#llx "
                           "of model-specific register %#x.",
                           call->index, (unsigned long long)s->msrs.entry[at].data,
                           s->msrs.entry[at].index);
        }
        at++;
    }
    return 0;
}

static struct kvm_msr_entry *find(struct msr_state *msrs, uint32_t index)
{
    for (uint32_t i = 0; i < msrs->count; i++) {
        if (msrs->entry[i].index == index)
            return &msrs->entry[i];
    }
    return NULL;
}

void msrs_keep_deadline(struct vcpu_state *s)
{
    struct kvm_msr_entry *deadline = find(&s->msrs, MSR_TSC_DEADLINE);
    const struct kvm_msr_entry *tsc = find(&s->msrs, MSR_TSC);
    uint32_t timer;

    memcpy(&timer, s->lapic.regs + APIC_LVT_TIMER, sizeof(timer));
    if (deadline && tsc && deadline->data == 0 && !(timer & APIC_TIMER_MASKED) &&
        (timer & APIC_TIMER_MODES) == APIC_TIMER_TSC_DEADLINE)
        deadline->data = tsc->data;
}
