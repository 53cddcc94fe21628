/* SPDX-License-Identifier: Apache-2.0 */
/* saved_machine.c: see saved_machine.h. */
#include "vmm/saved_machine.h"

static const struct state_field machine_fields[] = {
    STATE_FIELD(struct saved_machine, mem_size_mib), STATE_FIELD(struct saved_machine, saved_ns),
    STATE_FIELD(struct saved_machine, vcpu_count),   STATE_FIELD(struct saved_machine, huge_pages),
    STATE_FIELD(struct saved_machine, cpu_template), STATE_FIELD(struct saved_machine, smt),
    STATE_FIELD(struct saved_machine, track_dirty),  STATE_ARRAY(struct saved_machine, pad),
};
const struct state_desc saved_machine_desc =
    STATE_DESC("machine", 1, struct saved_machine, machine_fields);

void list_legacy(struct machine *machine, struct legacy_state list[LEGACY_STATES])
{
    list[0] = (struct legacy_state){&serial_state_desc, &machine->serial.state};
    list[1] = (struct legacy_state){&i8042_state_desc, &machine->keyboard.state};
    list[2] = (struct legacy_state){&pit_state_desc, &machine->pit.state};
}

int for_each_state(const struct virtio_slot *slot, unsigned index, each_state *each, void *arg,
                   struct err *e)
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
