/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serial.h owns the serial port: a 16550A at I/O port 0x3f8, IRQ 4, the guest's console both ways.
 *
 * Output goes straight from the vCPU's exit to the host's descriptor (stream.h), one write(2) an
 * exit: order holds by itself, nothing is buffered, nothing waits. What a full pipe or the rate
 * limiter refuses is dropped and counted (metrics.uart), since a guest must never be stopped by
 * whoever reads its console.
 *
 * Input waits where it is, in the terminal or pipe, until the guest can take it: bytes move into
 * the receive FIFO only while it has room and while the guest receives (its receive interrupt is
 * on, or it polls). A Linux guest clears the FIFO when a process opens the port, so what is sent
 * earlier would be lost there.
 *
 * The line runs at infinite speed: a byte written has left at once, so the transmitter is always
 * empty. Modem inputs are fixed (clear to send, data set ready, carrier), except in loopback. OUT2
 * does not gate the interrupt, as in other monitors. Facts: National Semiconductor PC16550D data
 * sheet.
 *
 * Under the machine lock; the functions that touch the loop: loop thread or before loop_run.
 */
#ifndef MAYFLY_LEGACY_SERIAL_H
#define MAYFLY_LEGACY_SERIAL_H

#include "vmm/base/bus.h"
#include "vmm/base/irq.h"
#include "vmm/base/loop.h"
#include "vmm/base/rate_limiter.h"
#include "vmm/legacy/stream.h"

#define SERIAL_PORT  0x3f8
#define SERIAL_PORTS 8
#define SERIAL_GSI   4

/*
 * Line and modem control: their writes change nothing but what later accesses mean, so KVM may hold
 * them back until the next one exits. A driver's start makes a dozen of them.
 */
#define SERIAL_POSTED_PORT  (SERIAL_PORT + 3)
#define SERIAL_POSTED_PORTS 2
#define SERIAL_FIFO_SIZE    64

/* What the guest can observe. */
struct serial_state {
    uint8_t ier, fcr, lcr, mcr, scratch;
    uint8_t divisor_low, divisor_high;
    uint8_t overrun;      /* a loopback byte found the FIFO full */
    uint8_t thre_pending; /* "transmitter empty" not yet acknowledged */
    uint8_t irq_high;     /* level of the interrupt output: a rising edge raises the line */
    uint8_t rx_head, rx_count;
    uint8_t rx[SERIAL_FIFO_SIZE];
};

extern const struct state_desc serial_state_desc;

struct serial {
    struct serial_state state;
    const struct irq_line *irq;
    struct stream out, in;
    struct token_bucket limiter;
    bool limited;

    struct loop *loop;
    struct op input_op;
    struct deferred input_resume;
    bool input_armed;   /* input_op is in the ring */
    bool input_ended;   /* end of file, an error, or there never was one */
    bool quiesced;      /* paused: the guest's state must not change */
    unsigned lsr_polls; /* reads of the line status in a row */
};

/* `loop` and `irq` must outlive the serial port. No input, no output yet. */
void serial_init(struct serial *serial, struct loop *loop, const struct irq_line *irq);
int serial_attach(struct serial *serial, struct bus *pio, struct err *e) __must_check;

/* Sends output to `path` (see stream_open), or to standard output when path is NULL. */
int serial_set_output(struct serial *serial, const char *path, struct err *e) __must_check;

/* Limits output to so many bytes a second; the rest is dropped. */
void serial_set_limiter(struct serial *serial, const struct token_bucket_config *config,
                        uint64_t now);

/* Feeds the guest from `fd` if that is a terminal, pipe, FIFO or socket; else does nothing. */
void serial_set_input(struct serial *serial, int fd);

/*
 * Stops input from changing the guest's state, and lets it again. Bytes stay on the host's side
 * meanwhile. A poll may still be in the ring after quiesce: its completion touches no state.
 */
void serial_quiesce(struct serial *serial);
void serial_resume(struct serial *serial);

/* After the loop has ended; closes what serial_set_* opened. Accepts a zeroed serial. */
void serial_destroy(struct serial *serial);

#endif
