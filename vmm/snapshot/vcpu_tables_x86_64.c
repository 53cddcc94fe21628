/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu_tables_x86_64.c: the tables of a vCPU's structs, and its sections in a state file. */
#include "vmm/snapshot/vcpu_parts_x86_64.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

const uint16_t state_file_architecture = EM_X86_64;

#define XSAVE_SECTION "vcpu-xsave"

/* A row for an array of structs or characters, as so many numbers of `width` bytes. */
#define ROW_AS(type, member, width)                                                                \
    {                                                                                              \
#member, offsetof(type, member), width, 0, sizeof(((type *)0)->member) / width, 0          \
    }

static const struct state_field clock_fields[] = {
    STATE_FIELD(struct vcpu_clock, tsc_khz),
    STATE_FIELD(struct vcpu_clock, pad),
};

#define SREG(member) STATE_FIELD(struct kvm_sregs, member)
#define SEGMENT(name)                                                                              \
    SREG(name.base), SREG(name.limit), SREG(name.selector), SREG(name.type), SREG(name.present),   \
        SREG(name.dpl), SREG(name.db), SREG(name.s), SREG(name.l), SREG(name.g), SREG(name.avl),   \
        SREG(name.unusable), SREG(name.padding)
#define TABLE(name) SREG(name.base), SREG(name.limit), STATE_ARRAY(struct kvm_sregs, name.padding)

static const struct state_field sregs_fields[] = {
    SEGMENT(cs), SEGMENT(ds),     SEGMENT(es),
    SEGMENT(fs), SEGMENT(gs),     SEGMENT(ss),
    SEGMENT(tr), SEGMENT(ldt),    TABLE(gdt),
    TABLE(idt),  SREG(cr0),       SREG(cr2),
    SREG(cr3),   SREG(cr4),       SREG(cr8),
    SREG(efer),  SREG(apic_base), STATE_ARRAY(struct kvm_sregs, interrupt_bitmap),
};

#define REG(member) STATE_FIELD(struct kvm_regs, member)

static const struct state_field regs_fields[] = {
    REG(rax), REG(rbx), REG(rcx), REG(rdx), REG(rsi), REG(rdi), REG(rsp), REG(rbp), REG(r8),
    REG(r9),  REG(r10), REG(r11), REG(r12), REG(r13), REG(r14), REG(r15), REG(rip), REG(rflags),
};

static const struct state_field xcrs_fields[] = {
    STATE_FIELD(struct kvm_xcrs, nr_xcrs),
    STATE_FIELD(struct kvm_xcrs, flags),
    ROW_AS(struct kvm_xcrs, xcrs, 8),
    STATE_ARRAY(struct kvm_xcrs, padding),
};

static const struct state_field debug_fields[] = {
    STATE_ARRAY(struct kvm_debugregs, db),       STATE_FIELD(struct kvm_debugregs, dr6),
    STATE_FIELD(struct kvm_debugregs, dr7),      STATE_FIELD(struct kvm_debugregs, flags),
    STATE_ARRAY(struct kvm_debugregs, reserved),
};

static const struct state_field lapic_fields[] = {ROW_AS(struct kvm_lapic_state, regs, 1)};

#define EVENT(member) STATE_FIELD(struct kvm_vcpu_events, member)

static const struct state_field events_fields[] = {
    EVENT(exception.injected),
    EVENT(exception.nr),
    EVENT(exception.has_error_code),
    EVENT(exception.pending),
    EVENT(exception.error_code),
    EVENT(interrupt.injected),
    EVENT(interrupt.nr),
    EVENT(interrupt.soft),
    EVENT(interrupt.shadow),
    EVENT(nmi.injected),
    EVENT(nmi.pending),
    EVENT(nmi.masked),
    EVENT(nmi.pad),
    EVENT(sipi_vector),
    EVENT(flags),
    EVENT(smi.smm),
    EVENT(smi.pending),
    EVENT(smi.smm_inside_nmi),
    EVENT(smi.latched_init),
    EVENT(triple_fault.pending),
    STATE_ARRAY(struct kvm_vcpu_events, reserved),
    EVENT(exception_has_payload),
    EVENT(exception_payload),
};

static const struct state_field mp_state_fields[] = {STATE_FIELD(struct kvm_mp_state, mp_state)};

#define CPUID(member) STATE_FIELD(struct kvm_cpuid_entry2, member)

static const struct state_field cpuid_fields[] = {
    CPUID(function), CPUID(index), CPUID(flags), CPUID(eax),
    CPUID(ebx),      CPUID(ecx),   CPUID(edx),   STATE_ARRAY(struct kvm_cpuid_entry2, padding),
};

static const struct state_field msr_fields[] = {
    STATE_FIELD(struct kvm_msr_entry, index),
    STATE_FIELD(struct kvm_msr_entry, reserved),
    STATE_FIELD(struct kvm_msr_entry, data),
};

const struct state_desc vcpu_clock_desc =
    STATE_DESC("vcpu-clock", 1, struct vcpu_clock, clock_fields);
const struct state_desc vcpu_sregs_desc =
    STATE_DESC("vcpu-sregs", 1, struct kvm_sregs, sregs_fields);
const struct state_desc vcpu_regs_desc = STATE_DESC("vcpu-regs", 1, struct kvm_regs, regs_fields);
const struct state_desc vcpu_xcrs_desc = STATE_DESC("vcpu-xcrs", 1, struct kvm_xcrs, xcrs_fields);
const struct state_desc vcpu_debug_desc =
    STATE_DESC("vcpu-debug", 1, struct kvm_debugregs, debug_fields);
const struct state_desc vcpu_lapic_desc =
    STATE_DESC("vcpu-lapic", 1, struct kvm_lapic_state, lapic_fields);
const struct state_desc vcpu_events_desc =
    STATE_DESC("vcpu-events", 1, struct kvm_vcpu_events, events_fields);
const struct state_desc vcpu_mp_state_desc =
    STATE_DESC("vcpu-run", 1, struct kvm_mp_state, mp_state_fields);
const struct state_desc vcpu_cpuid_desc =
    STATE_DESC("vcpu-cpuid", 1, struct kvm_cpuid_entry2, cpuid_fields);
const struct state_desc vcpu_msr_desc = STATE_DESC("vcpu-msr", 1, struct kvm_msr_entry, msr_fields);

/* What is one struct each, in the order of the file. */
static const struct {
    const struct state_desc *desc;
    size_t offset;
} singles[] = {
    {&vcpu_clock_desc, offsetof(struct vcpu_state, clock)},
    {&vcpu_sregs_desc, offsetof(struct vcpu_state, sregs)},
    {&vcpu_regs_desc, offsetof(struct vcpu_state, regs)},
    {&vcpu_xcrs_desc, offsetof(struct vcpu_state, xcrs)},
    {&vcpu_debug_desc, offsetof(struct vcpu_state, debug)},
    {&vcpu_lapic_desc, offsetof(struct vcpu_state, lapic)},
    {&vcpu_events_desc, offsetof(struct vcpu_state, events)},
    {&vcpu_mp_state_desc, offsetof(struct vcpu_state, mp_state)},
};

void vcpu_state_write(const struct vcpu_state *s, unsigned index, struct state_writer *w)
{
    for (size_t i = 0; i < ARRAY_SIZE(singles); i++)
        state_write(w, singles[i].desc, index, (const uint8_t *)s + singles[i].offset, 1);
    state_write(w, &vcpu_cpuid_desc, index, s->cpuid.entry, s->cpuid.count);
    state_write(w, &vcpu_msr_desc, index, s->msrs.entry, s->msrs.count);
    state_write_bytes(w, XSAVE_SECTION, index, s->xsave, s->xsave_len);
}

static int read_xsave(struct vcpu_state *s, unsigned index, struct state_reader *r, struct err *e)
{
    size_t before = s->xsave_len, len;
    const void *bytes;
    int rc = state_read_bytes(r, XSAVE_SECTION, index, &bytes, &len, e);

    if (rc)
        return rc;
    if (len < XSAVE_MIN || len > XSAVE_STATE_MAX)
        return err_set(e, -EINVAL,
                       "The snapshot's XSAVE area of vCPU %u has %zu bytes, not %u to %u.", index,
                       len, XSAVE_MIN, XSAVE_STATE_MAX);
    memcpy(s->xsave, bytes, len);
    memset(s->xsave + len, 0, before > len ? before - len : 0); /* KVM may read on */
    s->xsave_len = (uint32_t)len;
    return 0;
}

int vcpu_state_read(struct vcpu_state *s, unsigned index, struct state_reader *r, struct err *e)
{
    int rc = 0;

    /* The rest is large, and as much of it as counts is overwritten. */
    memset(s, 0, offsetof(struct vcpu_state, xsave_len));
    for (size_t i = 0; i < ARRAY_SIZE(singles) && rc == 0; i++)
        rc = state_read(r, singles[i].desc, index, (uint8_t *)s + singles[i].offset, e);
    if (rc == 0)
        rc = state_read_array(r, &vcpu_cpuid_desc, index, s->cpuid.entry, CPUID_STATE_MAX,
                              &s->cpuid.count, e);
    if (rc == 0)
        rc = state_read_array(r, &vcpu_msr_desc, index, s->msrs.entry, MSR_STATE_MAX,
                              &s->msrs.count, e);
    return rc ? rc : read_xsave(s, index, r, e);
}
