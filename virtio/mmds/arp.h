/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arp.h owns the answers to ARP requests (RFC 826) for the service's address that have not been
 * sent yet: a few, oldest first. Who asks twice is answered once, and who asks when there is no
 * room asks again, as hosts do.
 */
#ifndef MAYFLY_MMDS_ARP_H
#define MAYFLY_MMDS_ARP_H

#include "virtio/mmds/frame.h"

#define ARP_WAITING_MAX 8

struct arp {
    struct frame_host waiting[ARP_WAITING_MAX];
    unsigned count;
};

void arp_ask(struct arp *arp, const struct frame_host *from);

/* The next reply as a frame of FRAME_ETH_LEN + FRAME_ARP_LEN bytes; its length, or 0. */
size_t arp_output(struct arp *arp, uint32_t address, uint8_t *frame);

#endif
