/* SPDX-License-Identifier: Apache-2.0 */
/* irq.c: one edge on a line. */
#include "vmm/base/irq.h"

#include "vmm/base/metrics.h"

void irq_raise(const struct irq_line *line)
{
    if (!line->pulse)
        return;
    line->pulse(line->owner, line->gsi);
    metric_add(&metrics.interrupts.triggers, 1);
}
