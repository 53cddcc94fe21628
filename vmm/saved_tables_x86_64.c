/* SPDX-License-Identifier: Apache-2.0 */
/* saved_tables_x86_64.c: see saved_tables.h. */
#include "virtio/block/blk.h"
#include "virtio/memory/balloon.h"
#include "virtio/memory/hotplug.h"
#include "virtio/memory/pmem.h"
#include "virtio/mmio.h"
#include "virtio/net/net.h"
#include "virtio/rng.h"
#include "virtio/vsock/vsock.h"
#include "vmm/legacy/i8042.h"
#include "vmm/legacy/pit.h"
#include "vmm/legacy/serial.h"
#include "vmm/saved_devices.h"
#include "vmm/saved_machine.h"
#include "vmm/saved_tables.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/vcpu_parts_x86_64.h"
#include "vmm/snapshot/vm_state.h"

#include <string.h>

/* In the order in which they come in a file. */
static const struct state_desc *const tables[] = {
    &saved_machine_desc,   &mem_map_desc,           &saved_counts_desc,  &saved_balloon_desc,
    &saved_drive_desc,     &saved_overlay_desc,     &saved_net_desc,     &saved_pmem_desc,
    &saved_vsock_desc,     &saved_entropy_desc,     &saved_hotplug_desc, &saved_mmds_desc,
    &serial_state_desc,    &i8042_state_desc,       &pit_state_desc,     &virtio_dev_state_desc,
    &virtqueue_state_desc, &virtio_mmio_state_desc, &balloon_state_desc, &blk_state_desc,
    &net_state_desc,       &pmem_state_desc,        &vsock_state_desc,   &rng_state_desc,
    &hotplug_state_desc,   &vcpu_clock_desc,        &vcpu_sregs_desc,    &vcpu_regs_desc,
    &vcpu_xcrs_desc,       &vcpu_debug_desc,        &vcpu_lapic_desc,    &vcpu_events_desc,
    &vcpu_mp_state_desc,   &vcpu_cpuid_desc,        &vcpu_msr_desc,      &vm_pic_desc,
    &vm_ioapic_desc,       &vm_clock_desc,
};

const struct state_desc *saved_table(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        if (strcmp(tables[i]->name, name) == 0)
            return tables[i];
    }
    return NULL;
}
