/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power.h owns the I/O ports that the FADT names, the little fixed hardware of a machine whose ACPI
 * is otherwise hardware-reduced:
 *
 *      sleep control, status   (ACPI 6.5, 4.8.3.7) state S5 ends the machine; the DSDT offers no
 *                              other state
 *      power management timer  (4.8.3.3) 24 bits at 3.579545 MHz. On a hardware-reduced machine
 *                              Linux does not touch the 8254, so without kvmclock this is all by
 *                              which it can tell how fast the TSC runs
 *
 * Under the machine lock.
 */
#ifndef MAYFLY_LEGACY_POWER_H
#define MAYFLY_LEGACY_POWER_H

#include "vmm/base/bus.h"

#define POWER_PORT          0x600
#define POWER_SLEEP_CONTROL (POWER_PORT + 0)
#define POWER_SLEEP_STATUS  (POWER_PORT + 1)
#define POWER_S5            5 /* SLP_TYP of \_S5 */
#define POWER_TIMER         (POWER_PORT + 8)
#define POWER_TIMER_HZ      UINT64_C(3579545)

struct power {
    void (*off)(void *owner); /* the guest turned itself off; on its vCPU thread, under the lock */
    void *owner;
    uint64_t (*now)(void); /* ns; tests have their own clock */
};

void power_init(struct power *power, void (*off)(void *owner), void *owner);
int power_attach(struct power *power, struct bus *pio, struct err *e) __must_check;

#endif
