/* SPDX-License-Identifier: Apache-2.0 */
/* boot_timer.c: see boot_timer.h. */
#include "vmm/legacy/boot_timer.h"

#include "vmm/base/log.h"
#include "vmm/base/timeline.h"

#include <inttypes.h>
#include <time.h>

static uint64_t process_cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static void report(const struct boot_timer *timer)
{
    uint64_t wall_us = (now_ns() - timer->start_wall_ns) / NSEC_PER_USEC;
    uint64_t cpu_us = (process_cpu_ns() - timer->start_cpu_ns) / NSEC_PER_USEC;

    log_info("Guest-boot-time = %6" PRIu64 " us %" PRIu64 " ms, %6" PRIu64 " CPU us %" PRIu64
             " CPU ms",
             wall_us, wall_us / 1000, cpu_us, cpu_us / 1000);
}

static void boot_timer_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    const uint8_t *from = data;

    if (offset || len != 1)
        return;
    if (from[0] != BOOT_TIMER_VALUE) {
        timeline_stamp_guest(from[0]);
        return;
    }
    timeline_stamp(TIMELINE_INIT);
    report(owner);
}

void boot_timer_init(struct boot_timer *timer)
{
    timer->start_wall_ns = now_ns();
    timer->start_cpu_ns = process_cpu_ns();
}

int boot_timer_attach(struct boot_timer *timer, struct bus *mmio, struct err *e)
{
    const struct bus_range range = {
        .name = "boot timer",
        .base = BOOT_TIMER_ADDR,
        .len = BOOT_TIMER_SIZE,
        .owner = timer,
        .write = boot_timer_write,
    };

    return bus_add(mmio, &range, e);
}
