/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.h owns an interrupt line: a global system interrupt (GSI) and the irqfd that raises it. One
 * write to the irqfd is one edge; KVM routes it to IOAPIC and PIC. An irq_line without an fd (-1)
 * raises nothing.
 */
#ifndef MAYFLY_BASE_IRQ_H
#define MAYFLY_BASE_IRQ_H

#include "vmm/base/err.h"

struct irq_line {
    uint32_t gsi;
    int fd; /* eventfd registered as irqfd; -1 = none */
};

/* Makes the eventfd; kvm_irqfd (kvm.h) connects it. */
int irq_line_create(struct irq_line *line, uint32_t gsi, struct err *e) __must_check;
void irq_line_destroy(struct irq_line *line);

/* Raises one edge. Any thread. */
void irq_raise(const struct irq_line *line);

#endif
