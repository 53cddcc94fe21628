/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042.h owns the keyboard controller and the keyboard behind it, at I/O ports 0x60 and 0x64,
 * IRQ 1. A guest needs them for two things: to end the machine (command 0xfe pulses the reset line;
 * Linux's `reboot=k`), and to hear Ctrl-Alt-Del. The rest is what Linux's i8042 and atkbd drivers
 * ask before they attach, answered at once, so that no probe waits for its time-out. There is no
 * mouse port.
 *
 * What the controller answers is seen before what the keyboard says. Keyboard codes are of set 2,
 * or of set 1 once the guest turns on translation. Facts: IBM PS/2 technical reference, keyboard
 * controller.
 *
 * Under the machine lock.
 */
#ifndef MAYFLY_LEGACY_I8042_H
#define MAYFLY_LEGACY_I8042_H

#include "vmm/base/bus.h"
#include "vmm/base/irq.h"
#include "vmm/base/state.h"

#define I8042_GSI 1

/* Linux takes more than 16 unread bytes at its probe for a missing controller. */
#define I8042_KEYBOARD_QUEUE 16
#define I8042_REPLY_QUEUE    4

/* What the guest can observe. */
struct i8042_state {
    uint8_t control;          /* the command byte: interrupt, disable, translate bits */
    uint8_t output_port;      /* reset and A20 lines */
    uint8_t pending;          /* controller command that waits for its parameter, 0 = none */
    uint8_t keyboard_pending; /* keyboard command that waits for its parameter, 0 = none */
    uint8_t last_was_command; /* status bit 3: the last write went to port 0x64 */
    uint8_t obf_seen;         /* the byte now on top has raised its interrupt */
    uint8_t reply_head, reply_count;
    uint8_t keyboard_head, keyboard_count;
    uint8_t reply[I8042_REPLY_QUEUE];
    uint8_t keyboard[I8042_KEYBOARD_QUEUE];
};

extern const struct state_desc i8042_state_desc;

struct i8042 {
    struct i8042_state state;
    const struct irq_line *irq;
    /* The guest pulsed the reset line; on its vCPU thread, under the lock. */
    void (*reset)(void *owner);
    void *owner;
};

void i8042_init(struct i8042 *i8042, const struct irq_line *irq, void (*reset)(void *owner),
                void *owner);
int i8042_attach(struct i8042 *i8042, struct bus *pio, struct err *e) __must_check;

/*
 * Presses and releases Ctrl-Alt-Del. While the guest has not read an earlier press (the queue has
 * no room for another), that one stands and nothing is added.
 */
void i8042_ctrl_alt_del(struct i8042 *i8042);

#endif
