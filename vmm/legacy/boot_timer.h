/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_timer.h owns the page at 0xc0000000 through which a guest tells how far its boot has come
 * (`--boot-timer`). PID 1 writes the byte 123: one log line with the wall and processor time since
 * the start was asked for, in Firecracker's words, since tools look for them. Any other byte is a
 * stamp of the guest's own on the timeline, `guest_<byte>`. Reads give zeros.
 *
 * Under the machine lock.
 */
#ifndef MAYFLY_LEGACY_BOOT_TIMER_H
#define MAYFLY_LEGACY_BOOT_TIMER_H

#include "vmm/base/bus.h"

#define BOOT_TIMER_ADDR  UINT64_C(0xc0000000)
#define BOOT_TIMER_SIZE  PAGE_SIZE
#define BOOT_TIMER_VALUE 123

struct boot_timer {
    uint64_t start_wall_ns, start_cpu_ns;
};

/* Takes the time; call when the start is asked for. */
void boot_timer_init(struct boot_timer *timer);
int boot_timer_attach(struct boot_timer *timer, struct bus *mmio, struct err *e) __must_check;

#endif
