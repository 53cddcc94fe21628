/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.h owns an interrupt line: a global system interrupt (GSI) and the way to raise it. Every line
 * is edge-triggered: one raise is one edge.
 *
 * The way is a call into KVM (kvm_pulse_irq), not an irqfd: KVM's interrupt controllers cannot be
 * entered from where an irqfd is signalled, so KVM hands each such interrupt to a worker thread,
 * which costs a context switch; two plain calls cost 5 to 6 us of a 4 KiB read's 51 less.
 */
#ifndef MAYFLY_BASE_IRQ_H
#define MAYFLY_BASE_IRQ_H

#include "vmm/base/util.h"

struct irq_line {
    uint32_t gsi;
    void (*pulse)(void *owner, uint32_t gsi); /* any thread; NULL = the line leads nowhere */
    void *owner;
};

/* Raises one edge. Any thread. */
void irq_raise(const struct irq_line *line);

#endif
