/* SPDX-License-Identifier: Apache-2.0 */
/* irq_probe.h: an interrupt line that counts its edges instead of raising them. */
#ifndef MAYFLY_TESTS_IRQ_PROBE_H
#define MAYFLY_TESTS_IRQ_PROBE_H

#include "vmm/base/irq.h"

struct irq_probe {
    struct irq_line line;
    uint64_t edges; /* since they were last taken */
};

static inline void irq_probe_pulse(void *owner, uint32_t gsi)
{
    struct irq_probe *probe = owner;

    probe->edges += gsi == probe->line.gsi;
}

static inline void irq_probe_init(struct irq_probe *probe, uint32_t gsi)
{
    *probe = (struct irq_probe){.line = {.gsi = gsi, .pulse = irq_probe_pulse, .owner = probe}};
}

/* How many edges came since the last call. */
static inline uint64_t irq_probe_take(struct irq_probe *probe)
{
    uint64_t edges = probe->edges;

    probe->edges = 0;
    return edges;
}

#endif
