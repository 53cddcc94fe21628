/* SPDX-License-Identifier: Apache-2.0 */
/* generation.c: see generation.h. */
#include "vmm/generation.h"

#include "vmm/boot/layout.h"

#include <errno.h>
#include <string.h>

#include <sys/random.h>

#define ID_SIZE 16

/*
 * VMClock's page, version 1: struct vmclock_abi of Linux's <linux/vmclock-abi.h> (UAPI.13 says the
 * same but for two flags, where the header's are those in use). Only the two counters mean
 * something here: no time is given, so a guest keeps its own.
 */
struct vmclock {
    uint32_t magic, size;
    uint16_t version;
    uint8_t counter_id, time_type;
    uint32_t seq_count; /* odd while the rest changes */
    uint64_t disruption_marker, flags;
    uint8_t pad[2], clock_status, leap_second_smearing_hint;
    uint16_t tai_offset_sec;
    uint8_t leap_indicator, counter_period_shift;
    uint64_t counter_value, counter_period_frac_sec;
    uint64_t counter_period_esterror_rate_frac_sec, counter_period_maxerror_rate_frac_sec;
    uint64_t time_sec, time_frac_sec, time_esterror_nanosec, time_maxerror_nanosec;
    uint64_t vm_generation_counter;
};

_Static_assert(sizeof(struct vmclock) == 112 && offsetof(struct vmclock, seq_count) == 12 &&
                   offsetof(struct vmclock, vm_generation_counter) == 104,
               "size and offsets of the ABI");

_Static_assert(LAYOUT_SYSTEM < LAYOUT_VMCLOCK &&
                   LAYOUT_VMCLOCK + LAYOUT_VMCLOCK_SIZE <= LAYOUT_VMGENID &&
                   LAYOUT_VMGENID + PAGE_SIZE <= LAYOUT_SYSTEM_END,
               "reserved in the memory map that guests get");

enum {
    VMCLOCK_MAGIC = 0x4b4c4356, /* "VCLK" */
    VMCLOCK_VERSION = 1,
    VMCLOCK_NO_COUNTER = 0xff,
    VMCLOCK_TIME_TAI = 1,
    VMCLOCK_GENERATION_PRESENT = 1 << 8,
    VMCLOCK_NOTIFIES = 1 << 9,
};

/* Both areas lie below 1 MiB, where every machine has RAM. */
static void put(struct mem *mem, uint64_t gpa, const void *from, size_t len)
{
    BUG_ON(mem_write(mem, GPA(gpa), from, len) != 0);
}

static int write_id(struct mem *mem, struct err *e)
{
    uint8_t id[ID_SIZE];

    /* Never blocks: a host that has just started may have nothing yet, and a guest must not go on
     * as if it were the only one. */
    if (getrandom(id, sizeof(id), GRND_NONBLOCK) != sizeof(id))
        return err_set(e, -EAGAIN,
                       "The host has no random numbers yet, and the guest needs an identity of "
                       "its own: try again.");
    put(mem, LAYOUT_VMGENID, id, sizeof(id));
    return 0;
}

/* In one piece: nobody reads the page meanwhile. What the guest may have made of it does no harm.
 */
static void write_clock(struct mem *mem, const struct vmclock *before, uint32_t step)
{
    const struct vmclock clock = {
        .magic = VMCLOCK_MAGIC,
        .size = LAYOUT_VMCLOCK_SIZE,
        .version = VMCLOCK_VERSION,
        .counter_id = VMCLOCK_NO_COUNTER,
        .time_type = VMCLOCK_TIME_TAI,
        .seq_count = (before->seq_count & ~1u) + 2 * step,
        .disruption_marker = before->disruption_marker + step,
        .flags = VMCLOCK_GENERATION_PRESENT | VMCLOCK_NOTIFIES,
        .vm_generation_counter = before->vm_generation_counter + step,
    };

    put(mem, LAYOUT_VMCLOCK, &clock, sizeof(clock));
}

int generation_begin(struct mem *mem, struct err *e)
{
    write_clock(mem, &(struct vmclock){0}, 0);
    return write_id(mem, e);
}

int generation_renew(const struct generation *generation, struct mem *mem, struct err *e)
{
    struct vmclock before;
    int rc = write_id(mem, e);

    if (rc)
        return rc;
    BUG_ON(mem_read(mem, GPA(LAYOUT_VMCLOCK), &before, sizeof(before)) != 0);
    write_clock(mem, &before, 1);
    irq_raise(&generation->id_irq);
    irq_raise(&generation->clock_irq);
    return 0;
}
