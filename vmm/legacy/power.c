/* SPDX-License-Identifier: Apache-2.0 */
/* power.c: see power.h. */
#include "vmm/legacy/power.h"

/* Sleep control: SLP_TYP in bits 2 to 4, SLP_EN is bit 5. Both registers read as zero: never slept.
 */
#define SLEEP_TYPE(value) ((value) >> 2 & 7)
#define SLEEP_ENABLE      0x20

static void power_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct power *power = owner;
    const uint8_t *from = data;

    if (offset != POWER_SLEEP_CONTROL - POWER_PORT || len != 1)
        return;
    if ((from[0] & SLEEP_ENABLE) && SLEEP_TYPE(from[0]) == POWER_S5)
        power->off(power->owner);
}

void power_init(struct power *power, void (*off)(void *owner), void *owner)
{
    *power = (struct power){.off = off, .owner = owner};
}

int power_attach(struct power *power, struct bus *pio, struct err *e)
{
    const struct bus_range range = {
        .name = "power",
        .base = POWER_PORT,
        .len = 2,
        .owner = power,
        .write = power_write,
    };

    return bus_add(pio, &range, e);
}
