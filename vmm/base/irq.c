/* SPDX-License-Identifier: Apache-2.0 */
/* irq.c: an interrupt is one write to an eventfd that KVM listens on. */
#include "vmm/base/irq.h"

#include "vmm/base/metrics.h"

#include <errno.h>
#include <unistd.h>

#include <sys/eventfd.h>

int irq_line_create(struct irq_line *line, uint32_t gsi, struct err *e)
{
    line->gsi = gsi;
    line->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (line->fd < 0)
        return err_set(e, -errno, "Cannot create an event for interrupt %u: %s", gsi,
                       err_os(-errno));
    return 0;
}

void irq_line_destroy(struct irq_line *line)
{
    if (line->fd >= 0)
        close(line->fd);
    line->fd = -1;
}

void irq_raise(const struct irq_line *line)
{
    static const uint64_t one = 1;

    if (line->fd < 0)
        return;
    /* EAGAIN would need 2^64 - 2 unseen interrupts; KVM empties the counter at each. */
    if (write(line->fd, &one, sizeof(one)) == sizeof(one))
        metric_add(&metrics.interrupts.triggers, 1);
}
