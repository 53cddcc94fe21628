/* SPDX-License-Identifier: Apache-2.0 */
/* vm_state_x86_64.c: both 8259s, the I/O APIC and kvmclock. The timer chip is ours (legacy/pit.h)
 * and not here. */
#include "vmm/base/log.h"
#include "vmm/snapshot/vm_state.h"

#include <errno.h>
#include <string.h>

#include <sys/ioctl.h>

#define PIC(member) STATE_FIELD(struct kvm_pic_state, member)

static const struct state_field pic_fields[] = {
    PIC(last_irr),
    PIC(irr),
    PIC(imr),
    PIC(isr),
    PIC(priority_add),
    PIC(irq_base),
    PIC(read_reg_select),
    PIC(poll),
    PIC(special_mask),
    PIC(init_state),
    PIC(auto_eoi),
    PIC(rotate_on_auto_eoi),
    PIC(special_fully_nested_mode),
    PIC(init4),
    PIC(elcr),
    PIC(elcr_mask),
};

static const struct state_field ioapic_fields[] = {
    STATE_FIELD(struct kvm_ioapic_state, base_address),
    STATE_FIELD(struct kvm_ioapic_state, ioregsel),
    STATE_FIELD(struct kvm_ioapic_state, id),
    STATE_FIELD(struct kvm_ioapic_state, irr),
    STATE_FIELD(struct kvm_ioapic_state, pad),
    {"redirtbl", offsetof(struct kvm_ioapic_state, redirtbl), 8, 0, KVM_IOAPIC_NUM_PINS, 0},
};

static const struct state_field clock_fields[] = {
    STATE_FIELD(struct kvm_clock_data, clock),    STATE_FIELD(struct kvm_clock_data, flags),
    STATE_FIELD(struct kvm_clock_data, pad0),     STATE_FIELD(struct kvm_clock_data, realtime),
    STATE_FIELD(struct kvm_clock_data, host_tsc), STATE_ARRAY(struct kvm_clock_data, pad),
};

const struct state_desc vm_pic_desc = STATE_DESC("pic", 1, struct kvm_pic_state, pic_fields);
const struct state_desc vm_ioapic_desc =
    STATE_DESC("ioapic", 1, struct kvm_ioapic_state, ioapic_fields);
const struct state_desc vm_clock_desc =
    STATE_DESC("kvmclock", 1, struct kvm_clock_data, clock_fields);

static int save_chip(const struct kvm *kvm, uint32_t id, void *state, size_t len, struct err *e)
{
    struct kvm_irqchip chip = {.chip_id = id};

    if (ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chip))
        return err_set(e, -errno, "Cannot save interrupt controller %u: %s", id, err_os(-errno));
    memcpy(state, &chip.chip, len);
    return 0;
}

static int restore_chip(const struct kvm *kvm, uint32_t id, const void *state, size_t len,
                        struct err *e)
{
    struct kvm_irqchip chip = {.chip_id = id};

    memcpy(&chip.chip, state, len);
    if (ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &chip))
        return err_set(e, -errno, "Cannot restore interrupt controller %u: %s", id, err_os(-errno));
    return 0;
}

int vm_state_save(struct vm_state *s, const struct kvm *kvm, struct err *e)
{
    int rc = 0;

    memset(s, 0, sizeof(*s));
    for (uint32_t i = 0; i < ARRAY_SIZE(s->pic) && rc == 0; i++)
        rc = save_chip(kvm, KVM_IRQCHIP_PIC_MASTER + i, &s->pic[i], sizeof(s->pic[i]), e);
    if (rc == 0)
        rc = save_chip(kvm, KVM_IRQCHIP_IOAPIC, &s->ioapic, sizeof(s->ioapic), e);
    if (rc == 0 && ioctl(kvm->vm_fd, KVM_GET_CLOCK, &s->clock))
        rc = err_set(e, -errno, "Cannot save the guest's clock: %s", err_os(-errno));
    return rc;
}

static int restore_clock(const struct vm_state *s, const struct kvm *kvm, bool wall_clock,
                         struct err *e)
{
    struct kvm_clock_data clock = {.clock = s->clock.clock};

    /* The other flags are only what KVM reports. */
    if (wall_clock && (s->clock.flags & KVM_CLOCK_REALTIME)) {
        clock.flags = KVM_CLOCK_REALTIME;
        clock.realtime = s->clock.realtime;
    } else if (wall_clock) {
        log_warn("The guest's clock goes on where it was: the KVM that saved it did not say what "
                 "time it was.");
    }
    if (ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock))
        return err_set(e, -errno, "Cannot restore the guest's clock: %s", err_os(-errno));
    return 0;
}

int vm_state_restore(const struct vm_state *s, const struct kvm *kvm, bool wall_clock,
                     struct err *e)
{
    int rc = 0;

    for (uint32_t i = 0; i < ARRAY_SIZE(s->pic) && rc == 0; i++)
        rc = restore_chip(kvm, KVM_IRQCHIP_PIC_MASTER + i, &s->pic[i], sizeof(s->pic[i]), e);
    if (rc == 0)
        rc = restore_chip(kvm, KVM_IRQCHIP_IOAPIC, &s->ioapic, sizeof(s->ioapic), e);
    return rc ? rc : restore_clock(s, kvm, wall_clock, e);
}

void vm_state_write(const struct vm_state *s, struct state_writer *w)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(s->pic); i++)
        state_write(w, &vm_pic_desc, i, &s->pic[i], 1);
    state_write(w, &vm_ioapic_desc, 0, &s->ioapic, 1);
    state_write(w, &vm_clock_desc, 0, &s->clock, 1);
}

int vm_state_read(struct vm_state *s, struct state_reader *r, struct err *e)
{
    int rc = 0;

    for (uint32_t i = 0; i < ARRAY_SIZE(s->pic) && rc == 0; i++)
        rc = state_read(r, &vm_pic_desc, i, &s->pic[i], e);
    if (rc == 0)
        rc = state_read(r, &vm_ioapic_desc, 0, &s->ioapic, e);
    return rc ? rc : state_read(r, &vm_clock_desc, 0, &s->clock, e);
}
