/* SPDX-License-Identifier: Apache-2.0 */
/* power.c: see power.h. */
#include "vmm/legacy/power.h"

#include <string.h>

/* Sleep control: SLP_TYP in bits 2 to 4, SLP_EN is bit 5. Both registers read as zero: never
 * slept. */
#define SLEEP_TYPE(value) ((value) >> 2 & 7)
#define SLEEP_ENABLE      0x20

#define TIMER_MASK 0xffffffu

static void sleep_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct power *power = owner;
    const uint8_t *from = data;

    if (offset != POWER_SLEEP_CONTROL - POWER_PORT || len != 1)
        return;
    if ((from[0] & SLEEP_ENABLE) && SLEEP_TYPE(from[0]) == POWER_S5)
        power->off(power->owner);
}

static void timer_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    const struct power *power = owner;
    uint64_t ns = power->now();
    uint64_t ticks =
        ns / NSEC_PER_SEC * POWER_TIMER_HZ + ns % NSEC_PER_SEC * POWER_TIMER_HZ / NSEC_PER_SEC;
    uint32_t value = (uint32_t)ticks & TIMER_MASK;

    (void)offset;
    if (len == sizeof(value))
        memcpy(data, &value, sizeof(value));
}

void power_init(struct power *power, void (*off)(void *owner), void *owner)
{
    *power = (struct power){.off = off, .owner = owner, .now = now_ns};
}

int power_attach(struct power *power, struct bus *pio, struct err *e)
{
    const struct bus_range sleep = {
        .name = "sleep",
        .base = POWER_SLEEP_CONTROL,
        .len = 2,
        .owner = power,
        .write = sleep_write,
    };
    const struct bus_range timer = {
        .name = "power management timer",
        .base = POWER_TIMER,
        .len = sizeof(uint32_t),
        .owner = power,
        .read = timer_read,
    };
    int ret = bus_add(pio, &sleep, e);

    return ret < 0 ? ret : bus_add(pio, &timer, e);
}
