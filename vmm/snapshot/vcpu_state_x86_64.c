/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu_state_x86_64.c: the parts of a vCPU on x86_64, in the order in which they are restored.
 *
 * Each needs those before it. CPUID decides which registers exist and how they read. The segment
 * registers hold the APIC's base and mode, without which the local APIC's registers mean something
 * else. XCR0 says what of the XSAVE area counts. Setting the general registers drops a pending
 * exception, so the events follow them. The TSC deadline is refused until the local APIC's timer
 * is in that mode, and starts a timer by the time stamp counter of that moment.
 *
 * Saving goes backwards through the same table: asking for the run state takes in an INIT or SIPI
 * that has arrived, and asking for the events may move an exception's payload into CR2 or DR6, so
 * both come before the registers that they change.
 */
#include "vmm/snapshot/vcpu_parts_x86_64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sys/ioctl.h>
#include <sys/mman.h>

/* The time stamp counter of another host may differ by so many millionths before it is scaled:
 * what one host and the next measure of the same crystal differs too. */
#define TSC_TOLERANCE_PPM 250u

/* ---- parts that are more than one ioctl over one struct -------------------------------------- */

static int save_tsc_rate(struct vcpu_call *call, struct vcpu_state *s)
{
    int khz = ioctl(call->vcpu_fd, KVM_GET_TSC_KHZ, 0ul);

    s->clock.tsc_khz = khz > 0 ? (uint32_t)khz : 0; /* 0: KVM does not know it */
    return 0;
}

static int restore_tsc_rate(struct vcpu_call *call, const struct vcpu_state *s)
{
    uint64_t saved = s->clock.tsc_khz, difference;
    int khz = ioctl(call->vcpu_fd, KVM_GET_TSC_KHZ, 0ul);

    if (saved == 0 || khz <= 0)
        return 0;
    difference = saved > (uint64_t)khz ? saved - (uint64_t)khz : (uint64_t)khz - saved;
    if (difference * 1000000 <= (uint64_t)khz * TSC_TOLERANCE_PPM)
        return 0;
    return ioctl(call->vcpu_fd, KVM_SET_TSC_KHZ, saved) ? -errno : 0;
}

static int save_cpuid(struct vcpu_call *call, struct vcpu_state *s)
{
    s->cpuid.count = CPUID_STATE_MAX;
    return ioctl(call->vcpu_fd, KVM_GET_CPUID2, &s->cpuid) ? -errno : 0;
}

static int restore_cpuid(struct vcpu_call *call, const struct vcpu_state *s)
{
    if (call->has_cpuid)
        return 0;
    return ioctl(call->vcpu_fd, KVM_SET_CPUID2, &s->cpuid) ? -errno : 0;
}

/* A host without XSAVE has no XCR0. */
static int save_xcrs(struct vcpu_call *call, struct vcpu_state *s)
{
    memset(&s->xcrs, 0, sizeof(s->xcrs));
    if (kvm_capability(call->kvm, KVM_CAP_XCRS) <= 0)
        return 0;
    return ioctl(call->vcpu_fd, KVM_GET_XCRS, &s->xcrs) ? -errno : 0;
}

static int restore_xcrs(struct vcpu_call *call, const struct vcpu_state *s)
{
    if (s->xcrs.nr_xcrs == 0)
        return 0;
    return ioctl(call->vcpu_fd, KVM_SET_XCRS, &s->xcrs) ? -errno : 0;
}

/* How many bytes KVM reads and writes: more than a page only with AMX. */
static size_t xsave_size(const struct vcpu_call *call)
{
    int size = ioctl(call->kvm->vm_fd, KVM_CHECK_EXTENSION, (unsigned long)KVM_CAP_XSAVE2);

    return (size_t)MAX(size, (int)XSAVE_MIN);
}

static int save_xsave(struct vcpu_call *call, struct vcpu_state *s)
{
    unsigned long get;

    s->xsave_len = (uint32_t)xsave_size(call);
    if (s->xsave_len > XSAVE_STATE_MAX)
        return -EOVERFLOW;
    get = s->xsave_len > XSAVE_MIN ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
    return ioctl(call->vcpu_fd, get, s->xsave) ? -errno : 0;
}

/* KVM reads as much as it would write, whatever the file has: the rest is zero, and a file with
 * more has state of a feature that is not here. */
static int restore_xsave(struct vcpu_call *call, const struct vcpu_state *s)
{
    if (s->xsave_len > xsave_size(call))
        return -ENOTSUP;
    return ioctl(call->vcpu_fd, KVM_SET_XSAVE, s->xsave) ? -errno : 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

struct part {
    const char *what; /* in sentences */
    /* Either one ioctl each over the struct at `offset`, or functions. */
    unsigned long get, set;
    size_t offset;
    int (*save)(struct vcpu_call *call, struct vcpu_state *s);
    int (*restore)(struct vcpu_call *call, const struct vcpu_state *s);
};

#define AT(member) offsetof(struct vcpu_state, member)

static const struct part parts[] = {
    {.what = "time stamp counter's rate", .save = save_tsc_rate, .restore = restore_tsc_rate},
    {.what = "CPUID table", .save = save_cpuid, .restore = restore_cpuid},
    {"segment and control registers", KVM_GET_SREGS, KVM_SET_SREGS, AT(sregs), NULL, NULL},
    {.what = "extended control registers", .save = save_xcrs, .restore = restore_xcrs},
    {.what = "XSAVE area", .save = save_xsave, .restore = restore_xsave},
    {"general registers", KVM_GET_REGS, KVM_SET_REGS, AT(regs), NULL, NULL},
    {"debug registers", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, AT(debug), NULL, NULL},
    {"local APIC", KVM_GET_LAPIC, KVM_SET_LAPIC, AT(lapic), NULL, NULL},
    {.what = "model-specific registers", .save = msrs_save, .restore = msrs_restore},
    {"pending events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, AT(events), NULL, NULL},
    {"run state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, AT(mp_state), NULL, NULL},
};

/* What a part's function has not explained itself. */
static int explain(const struct vcpu_call *call, const char *verb, const struct part *part, int rc)
{
    if (call->explained)
        return rc;
    return err_set(call->err, rc, "Cannot %s the %s of vCPU %u: %s", verb, part->what, call->index,
                   err_os(rc));
}

int vcpu_state_save(struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd, unsigned index,
                    struct err *e)
{
    struct vcpu_call call = {.kvm = kvm, .vcpu_fd = vcpu_fd, .index = index, .err = e};

    memset(state, 0, sizeof(*state));
    for (size_t i = ARRAY_SIZE(parts); i-- > 0;) {
        const struct part *part = &parts[i];
        int rc = 0;

        if (part->save)
            rc = part->save(&call, state);
        else if (ioctl(vcpu_fd, part->get, (uint8_t *)state + part->offset))
            rc = -errno;
        if (rc)
            return explain(&call, "save", part, rc);
    }
    msrs_keep_deadline(state);
    return 0;
}

int vcpu_state_restore(const struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd,
                       unsigned index, bool has_cpuid, struct err *e)
{
    struct vcpu_call call = {
        .kvm = kvm, .vcpu_fd = vcpu_fd, .index = index, .has_cpuid = has_cpuid, .err = e};

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        const struct part *part = &parts[i];
        int rc = 0;

        if (part->restore)
            rc = part->restore(&call, state);
        else if (ioctl(vcpu_fd, part->set, (const uint8_t *)state + part->offset))
            rc = -errno;
        if (rc)
            return explain(&call, "restore", part, rc);
    }
    return 0;
}

/* Pages of its own: few of them are touched, and a heap would clear and keep all. */
struct vcpu_state *vcpu_state_create(void)
{
    void *map = mmap(NULL, sizeof(struct vcpu_state), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return map == MAP_FAILED ? NULL : map;
}

void vcpu_state_destroy(struct vcpu_state *state)
{
    if (state)
        munmap(state, sizeof(*state));
}
