/* SPDX-License-Identifier: Apache-2.0 */
/* arp.c: see arp.h. */
#include "virtio/mmds/arp.h"

#include <string.h>

void arp_ask(struct arp *arp, const struct frame_host *from)
{
    for (unsigned i = 0; i < arp->count; i++) {
        if (arp->waiting[i].address == from->address) {
            arp->waiting[i] = *from;
            return;
        }
    }
    if (arp->count < ARP_WAITING_MAX)
        arp->waiting[arp->count++] = *from;
}

size_t arp_output(struct arp *arp, uint32_t address, uint8_t *frame)
{
    size_t len;

    if (!arp->count)
        return 0;
    len = frame_write_arp_reply(frame, address, &arp->waiting[0]);
    memmove(&arp->waiting[0], &arp->waiting[1], --arp->count * sizeof(arp->waiting[0]));
    return len;
}
