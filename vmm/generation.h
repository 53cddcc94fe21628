/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generation.h owns what tells a guest that it goes on from a state of which there may be copies:
 * VMGenID, by which Linux reseeds its random numbers (5.18 and later), and VMClock, by which user
 * space sees that its clock and its identity were cut off (6.13 and later). Each is a page of guest
 * memory at a fixed address (vmm/boot/layout.h, where the ACPI tables look too) and an interrupt
 * line, so nothing of them is in a state file: the pages are in the memory file.
 *
 * Both change when a guest is loaded and when it is forked, in the child; never when it is paused,
 * resumed or saved. A guest without ACPI hears of neither and needs an agent: guest/README.md.
 *
 * Loop thread, machine lock held; no vCPU runs.
 */
#ifndef MAYFLY_VMM_GENERATION_H
#define MAYFLY_VMM_GENERATION_H

#include "vmm/base/irq.h"
#include "vmm/base/mem.h"

struct generation {
    struct irq_line id_irq, clock_irq;
};

/* Fills both pages for a guest that boots. -EAGAIN when the host has no random numbers yet. */
int generation_begin(struct mem *mem, struct err *e) __must_check;

/*
 * A new identity for a guest that was saved: a new VMGenID, VMClock's counters one further, both
 * lines raised, so that the guest hears of it before anything else. Wants the interrupt controllers
 * as they were saved. A guest that was saved before these devices existed has the pages reserved
 * and the lines masked, and notices nothing. -EAGAIN as above.
 */
int generation_renew(const struct generation *generation, struct mem *mem,
                     struct err *e) __must_check;

#endif
