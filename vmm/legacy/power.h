/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power.h owns the two registers by which a guest turns itself off under ACPI: sleep control and
 * sleep status of the hardware-reduced model (ACPI 6.5, 4.8.3.7), as two I/O ports that the FADT
 * names. State S5 ends the machine; the DSDT offers no other state.
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

struct power {
    void (*off)(void *owner); /* the guest turned itself off; on its vCPU thread, under the lock */
    void *owner;
};

void power_init(struct power *power, void (*off)(void *owner), void *owner);
int power_attach(struct power *power, struct bus *pio, struct err *e) __must_check;

#endif
