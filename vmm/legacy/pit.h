/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pit.h owns the programmable interval timer: an 8254 at I/O ports 0x40 to 0x43 and port 0x61,
 * which gates channel 2 and shows its output. KVM has one too, but closing a VM that has it takes
 * 16 ms; and guests use it for little: a kernel without kvmclock measures the TSC on channel 2, an
 * old one, or one with its local APIC turned off, ticks on channel 0.
 *
 * A counter is a pure function of the time since it was loaded, so an idle timer costs nothing.
 * Channel 0's interrupts (IRQ 0) come from one timer of the event loop, armed only while the
 * channel is loaded in a mode that interrupts; kernels that tick by TSC deadline never load it.
 * Ticks that come late are not made up for, and none come faster than PIT_PERIOD_MIN_NS, so a guest
 * cannot keep the host busy.
 *
 * Channel 1, once memory refresh, counts like the others and drives nothing. A new count takes
 * effect at once in every mode. Facts: Intel 8254 data sheet.
 *
 * Under the machine lock; pit_quiesce, pit_resume: loop thread.
 */
#ifndef MAYFLY_LEGACY_PIT_H
#define MAYFLY_LEGACY_PIT_H

#include "vmm/base/bus.h"
#include "vmm/base/irq.h"
#include "vmm/base/loop.h"
#include "vmm/base/state.h"

#define PIT_GSI           0
#define PIT_HZ            UINT64_C(1193182)
#define PIT_PERIOD_MIN_NS (500 * NSEC_PER_USEC)

#define PIT_CHANNELS 3

struct pit_channel {
    uint64_t base_ns; /* when counting last began */
    uint32_t held;    /* ticks counted before that: the gate went low */
    uint32_t reload;  /* 1 to 65536 */
    uint16_t latch;   /* a count that waits to be read */
    uint8_t latched;  /* how many of its bytes are unread */
    uint8_t status;   /* a status that waits to be read, if status_latched */
    uint8_t status_latched;
    uint8_t mode;   /* 0 to 5 */
    uint8_t access; /* 1 low byte, 2 high byte, 3 low then high */
    uint8_t bcd;
    uint8_t gate;
    uint8_t loaded; /* a count was written since the mode was */
    uint8_t counting;
    uint8_t write_low; /* access 3: the low byte that waits for the high one */
    uint8_t write_high_next, read_high_next;
    uint16_t pad;
};

/* What the guest can observe. */
struct pit_state {
    struct pit_channel channel[PIT_CHANNELS];
    uint32_t speaker; /* port 0x61, bit 1 */
    uint32_t pad;
};

extern const struct state_desc pit_state_desc;

struct pit {
    struct pit_state state;
    const struct irq_line *irq;
    uint64_t (*now)(void); /* ns; tests have their own clock */

    struct loop *loop;
    struct loop_timer timer;
    struct deferred rearm;
    uint64_t deadline_ns; /* of the timer in the ring */
    uint64_t seen_ns;     /* edges of channel 0 up to here are done with */
    uint64_t raised_ns;   /* the last interrupt */
    bool quiesced;
};

void pit_init(struct pit *pit, struct loop *loop, const struct irq_line *irq);
int pit_attach(struct pit *pit, struct bus *pio, struct err *e) __must_check;

/* Stops interrupts, and lets them again. Time goes on for the counters, as for the TSC. */
void pit_quiesce(struct pit *pit);
void pit_resume(struct pit *pit);

/* Pure: the counter and the output of a channel, and its next interrupt after `now` (0 = none). */
uint16_t pit_channel_count(const struct pit_channel *channel, uint64_t now);
bool pit_channel_output(const struct pit_channel *channel, uint64_t now);
uint64_t pit_channel_next_rise(const struct pit_channel *channel, uint64_t now);

#endif
