/* SPDX-License-Identifier: Apache-2.0 */
/* serial.c: see serial.h. */
#include "vmm/legacy/serial.h"

#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Register offsets from the base port. */
enum {
    REG_DATA = 0, /* receive buffer, transmit holding; divisor low */
    REG_IER = 1,  /* interrupt enable; divisor high */
    REG_IIR = 2,  /* interrupt identification (read), FIFO control (write) */
    REG_LCR = 3,  /* line control */
    REG_MCR = 4,  /* modem control */
    REG_LSR = 5,  /* line status */
    REG_MSR = 6,  /* modem status */
    REG_SCRATCH = 7,
};

enum {
    IER_RX = 0x01,
    IER_THRE = 0x02,
    IER_LINE_STATUS = 0x04,
    IER_MASK = 0x0f,

    IIR_NONE = 0x01,
    IIR_THRE = 0x02,
    IIR_RX = 0x04,
    IIR_LINE_STATUS = 0x06,
    IIR_FIFO_ENABLED = 0xc0,

    FCR_ENABLE = 0x01,
    FCR_CLEAR_RX = 0x02,
    FCR_KEPT = 0xc9, /* enable, DMA mode, trigger level; the clear bits do not stick */

    LCR_DLAB = 0x80,

    MCR_DTR = 0x01,
    MCR_RTS = 0x02,
    MCR_OUT1 = 0x04,
    MCR_OUT2 = 0x08,
    MCR_LOOPBACK = 0x10,
    MCR_MASK = 0x1f,

    LSR_DATA_READY = 0x01,
    LSR_OVERRUN = 0x02,
    LSR_THR_EMPTY = 0x20,
    LSR_IDLE = 0x40,

    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80,
};

/*
 * A transmitter looks at the line status once and finds it empty; who asks so many times in a row,
 * and does nothing else with the port, waits for input.
 */
#define LSR_POLLS_OF_A_RECEIVER 16

static const struct state_field serial_fields[] = {
    STATE_FIELD(struct serial_state, ier),          STATE_FIELD(struct serial_state, fcr),
    STATE_FIELD(struct serial_state, lcr),          STATE_FIELD(struct serial_state, mcr),
    STATE_FIELD(struct serial_state, scratch),      STATE_FIELD(struct serial_state, divisor_low),
    STATE_FIELD(struct serial_state, divisor_high), STATE_FIELD(struct serial_state, overrun),
    STATE_FIELD(struct serial_state, thre_pending), STATE_FIELD(struct serial_state, irq_high),
    STATE_FIELD(struct serial_state, rx_head),      STATE_FIELD(struct serial_state, rx_count),
    STATE_ARRAY(struct serial_state, rx),
};
const struct state_desc serial_state_desc =
    STATE_DESC("serial", 1, struct serial_state, serial_fields);

/* ---- interrupts ------------------------------------------------------------------------------ */

/* The most urgent enabled cause, as the identification register shows it. */
static uint8_t interrupt_cause(const struct serial_state *s)
{
    if (s->overrun && (s->ier & IER_LINE_STATUS))
        return IIR_LINE_STATUS;
    if (s->rx_count && (s->ier & IER_RX))
        return IIR_RX;
    if (s->thre_pending && (s->ier & IER_THRE))
        return IIR_THRE;
    return IIR_NONE;
}

/* The line is edge triggered: one raise when the output goes up. */
static void update_irq(struct serial *serial)
{
    struct serial_state *s = &serial->state;
    bool high = interrupt_cause(s) != IIR_NONE;

    if (high && !s->irq_high)
        irq_raise(serial->irq);
    s->irq_high = high;
}

/* ---- receive --------------------------------------------------------------------------------- */

static unsigned rx_room(const struct serial_state *s)
{
    return SERIAL_FIFO_SIZE - s->rx_count;
}

static void rx_push(struct serial_state *s, uint8_t byte)
{
    s->rx[(s->rx_head + s->rx_count) % SERIAL_FIFO_SIZE] = byte;
    s->rx_count++;
}

static uint8_t rx_pop(struct serial_state *s)
{
    uint8_t byte = s->rx[s->rx_head];

    s->rx_head = (uint8_t)((s->rx_head + 1) % SERIAL_FIFO_SIZE);
    s->rx_count--;
    return byte;
}

static void rx_clear(struct serial_state *s)
{
    s->rx_head = 0;
    s->rx_count = 0;
}

/* Whether bytes given to the guest now would be seen by it. */
static bool guest_receives(const struct serial *serial)
{
    const struct serial_state *s = &serial->state;

    if (s->mcr & MCR_LOOPBACK)
        return false;
    return (s->ier & IER_RX) || serial->lsr_polls >= LSR_POLLS_OF_A_RECEIVER;
}

static bool input_wanted(const struct serial *serial)
{
    return !serial->input_ended && !serial->quiesced && rx_room(&serial->state) &&
           guest_receives(serial);
}

/* Asks the loop thread to look for input again. Any thread, under the lock. */
static void want_input(struct serial *serial)
{
    if (!serial->input_armed && input_wanted(serial))
        loop_defer(serial->loop, &serial->input_resume);
}

/* Loop thread: waits for input, if the guest can take any. */
static void arm_input(struct serial *serial)
{
    if (serial->input_armed || !input_wanted(serial))
        return;
    serial->input_armed = true;
    loop_poll(serial->loop, &serial->input_op, serial->in.fd, false);
}

static void input_resume_run(struct deferred *deferred)
{
    arm_input(container_of(deferred, struct serial, input_resume));
}

/* Moves what there is, at most what fits, into the FIFO. */
static void take_input(struct serial *serial)
{
    struct serial_state *s = &serial->state;
    uint8_t bytes[SERIAL_FIFO_SIZE];
    int n = stream_read(&serial->in, bytes, rx_room(s));

    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        serial->input_ended = true;
        return;
    }
    for (int i = 0; i < n; i++)
        rx_push(s, bytes[i]);
    update_irq(serial);
}

static void input_done(struct op *op, int res, bool more)
{
    struct serial *serial = container_of(op, struct serial, input_op);

    if (!more)
        serial->input_armed = false;
    if (res < 0) {
        serial->input_ended = true;
        return;
    }
    if (input_wanted(serial))
        take_input(serial);
    arm_input(serial);
}

static uint8_t read_data(struct serial *serial)
{
    struct serial_state *s = &serial->state;
    uint8_t byte = 0;

    if (s->rx_count) {
        byte = rx_pop(s);
        metric_add(&metrics.uart.read_count, 1);
    }
    update_irq(serial);
    /* Half empty: so that a long paste costs a wake-up of the loop every 32 bytes, not each. */
    if (s->rx_count <= SERIAL_FIFO_SIZE / 2)
        want_input(serial);
    return byte;
}

/* ---- transmit -------------------------------------------------------------------------------- */

static void send_out(struct serial *serial, uint8_t byte)
{
    int n;

    if (serial->limited && !token_bucket_take(&serial->limiter, 1, now_ns())) {
        metric_add(&metrics.uart.rate_limiter_dropped_bytes, 1);
        return;
    }
    n = stream_write(&serial->out, &byte, 1);
    if (n == 1) {
        metric_add(&metrics.uart.write_count, 1);
        return;
    }
    metric_add(&metrics.uart.missed_write_count, 1);
    if (n < 0 && n != -EAGAIN) {
        metric_add(&metrics.uart.error_count, 1);
        log_warn("Serial output failed: %s", err_os(n));
    }
}

static void loop_back(struct serial_state *s, uint8_t byte)
{
    if (rx_room(s))
        rx_push(s, byte);
    else
        s->overrun = 1;
}

static void write_data(struct serial *serial, uint8_t byte)
{
    struct serial_state *s = &serial->state;

    if (s->mcr & MCR_LOOPBACK)
        loop_back(s, byte);
    else
        send_out(serial, byte);
    s->thre_pending = 1;
    update_irq(serial);
}

/* ---- the other registers --------------------------------------------------------------------- */

static void write_ier(struct serial *serial, uint8_t value)
{
    struct serial_state *s = &serial->state;
    uint8_t newly = (uint8_t)(value & ~s->ier);

    s->ier = value & IER_MASK;
    /* Enabling it while the transmitter is empty, which it always is, raises it at once. */
    if (newly & IER_THRE)
        s->thre_pending = 1;
    update_irq(serial);
    want_input(serial);
}

static void write_fcr(struct serial *serial, uint8_t value)
{
    struct serial_state *s = &serial->state;

    if ((value & FCR_CLEAR_RX) || ((value ^ s->fcr) & FCR_ENABLE))
        rx_clear(s);
    s->fcr = (value & FCR_ENABLE) ? value & FCR_KEPT : 0;
    update_irq(serial);
    want_input(serial);
}

static uint8_t read_iir(struct serial *serial)
{
    struct serial_state *s = &serial->state;
    uint8_t cause = interrupt_cause(s);

    /* Reading acknowledges "transmitter empty" when that is what was read. */
    if (cause == IIR_THRE)
        s->thre_pending = 0;
    update_irq(serial);
    return (uint8_t)(cause | ((s->fcr & FCR_ENABLE) ? IIR_FIFO_ENABLED : 0));
}

static uint8_t read_lsr(struct serial *serial)
{
    struct serial_state *s = &serial->state;
    uint8_t lsr = LSR_THR_EMPTY | LSR_IDLE;

    if (s->rx_count)
        lsr |= LSR_DATA_READY;
    if (s->overrun)
        lsr |= LSR_OVERRUN;
    s->overrun = 0;
    update_irq(serial);
    if (serial->lsr_polls < LSR_POLLS_OF_A_RECEIVER)
        serial->lsr_polls++;
    want_input(serial);
    return lsr;
}

/* In loopback the four outputs appear as the four inputs. */
static uint8_t read_msr(const struct serial_state *s)
{
    uint8_t msr = 0;

    if (!(s->mcr & MCR_LOOPBACK))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    if (s->mcr & MCR_RTS)
        msr |= MSR_CTS;
    if (s->mcr & MCR_DTR)
        msr |= MSR_DSR;
    if (s->mcr & MCR_OUT1)
        msr |= MSR_RI;
    if (s->mcr & MCR_OUT2)
        msr |= MSR_DCD;
    return msr;
}

static uint8_t read_register(struct serial *serial, unsigned reg)
{
    struct serial_state *s = &serial->state;
    bool dlab = s->lcr & LCR_DLAB;

    switch (reg) {
    case REG_DATA:
        return dlab ? s->divisor_low : read_data(serial);
    case REG_IER:
        return dlab ? s->divisor_high : s->ier;
    case REG_IIR:
        return read_iir(serial);
    case REG_LCR:
        return s->lcr;
    case REG_MCR:
        return s->mcr;
    case REG_LSR:
        return read_lsr(serial);
    case REG_MSR:
        return read_msr(s);
    default:
        return s->scratch;
    }
}

static void write_register(struct serial *serial, unsigned reg, uint8_t value)
{
    struct serial_state *s = &serial->state;
    bool dlab = s->lcr & LCR_DLAB;

    switch (reg) {
    case REG_DATA:
        if (dlab)
            s->divisor_low = value;
        else
            write_data(serial, value);
        break;
    case REG_IER:
        if (dlab)
            s->divisor_high = value;
        else
            write_ier(serial, value);
        break;
    case REG_IIR:
        write_fcr(serial, value);
        break;
    case REG_LCR:
        s->lcr = value;
        break;
    case REG_MCR:
        s->mcr = value & MCR_MASK;
        want_input(serial);
        break;
    case REG_SCRATCH:
        s->scratch = value;
        break;
    default: /* the status registers are read only */
        break;
    }
}

/* ---- bus ------------------------------------------------------------------------------------- */

static void serial_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    struct serial *serial = owner;
    uint8_t *to = data;

    if (len != 1) {
        metric_add(&metrics.uart.missed_read_count, 1);
        return;
    }
    if (offset != REG_LSR)
        serial->lsr_polls = 0;
    to[0] = read_register(serial, (unsigned)offset);
}

static void serial_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct serial *serial = owner;
    const uint8_t *from = data;

    if (len != 1) {
        metric_add(&metrics.uart.missed_write_count, 1);
        return;
    }
    serial->lsr_polls = 0;
    write_register(serial, (unsigned)offset, from[0]);
}

/* ---- life ------------------------------------------------------------------------------------ */

void serial_init(struct serial *serial, struct loop *loop, const struct irq_line *irq)
{
    *serial = (struct serial){
        .state = {.divisor_low = 12}, /* 9600 baud, as firmware leaves it */
        .irq = irq,
        .out = {.fd = -1},
        .in = {.fd = -1},
        .loop = loop,
        .input_op = {.done = input_done},
        .input_resume = {.run = input_resume_run},
        .input_ended = true,
    };
}

int serial_attach(struct serial *serial, struct bus *pio, struct err *e)
{
    const struct bus_range range = {
        .name = "serial",
        .base = SERIAL_PORT,
        .len = SERIAL_PORTS,
        .owner = serial,
        .read = serial_read,
        .write = serial_write,
    };

    return bus_add(pio, &range, e);
}

int serial_set_output(struct serial *serial, const char *path, struct err *e)
{
    struct stream out;
    int ret;

    if (path) {
        ret = stream_open(&out, path, e);
        if (ret < 0)
            return ret;
    } else {
        stream_from_fd(&out, STDOUT_FILENO, false);
    }
    stream_close(&serial->out);
    serial->out = out;
    return 0;
}

void serial_set_limiter(struct serial *serial, const struct token_bucket_config *config,
                        uint64_t now)
{
    token_bucket_init(&serial->limiter, config, now);
    serial->limited = true;
}

void serial_set_input(struct serial *serial, int fd)
{
    if (!stream_is_interactive(fd))
        return;
    stream_from_fd(&serial->in, fd, true);
    serial->input_ended = false;
    arm_input(serial);
}

void serial_quiesce(struct serial *serial)
{
    serial->quiesced = true;
}

void serial_resume(struct serial *serial)
{
    serial->quiesced = false;
    want_input(serial);
}

void serial_destroy(struct serial *serial)
{
    stream_close(&serial->out);
    stream_close(&serial->in);
}
