/* SPDX-License-Identifier: Apache-2.0 */
/* pit.c: see pit.h. */
#include "vmm/legacy/pit.h"

#include <string.h>

enum {
    PORT_CHANNEL_0 = 0x40,
    PORT_CONTROL = 0x43,
    PORT_SPEAKER = 0x61,

    CONTROL_READ_BACK = 3, /* in the channel field */
    ACCESS_LATCH = 0,
    ACCESS_LOW = 1,
    ACCESS_HIGH = 2,
    ACCESS_BOTH = 3,

    READ_BACK_NO_COUNT = 0x20,
    READ_BACK_NO_STATUS = 0x10,

    STATUS_OUTPUT = 0x80,
    STATUS_NULL_COUNT = 0x40,

    MODE_TERMINAL_COUNT = 0,
    MODE_ONE_SHOT = 1, /* started by the gate */
    MODE_RATE = 2,
    MODE_SQUARE = 3,
    MODE_STROBE = 4,
    MODE_STROBE_GATE = 5,

    SPEAKER_GATE = 0x01,
    SPEAKER_DATA = 0x02,
    SPEAKER_REFRESH = 0x10, /* toggles with each memory refresh */
    SPEAKER_OUTPUT = 0x20,
};

#define REFRESH_NS UINT64_C(15085)

#define CHANNEL_FIELDS(n)                                                                          \
    STATE_TIME(struct pit_state, channel[n].base_ns),                                              \
        STATE_FIELD(struct pit_state, channel[n].held),                                            \
        STATE_FIELD(struct pit_state, channel[n].reload),                                          \
        STATE_FIELD(struct pit_state, channel[n].latch),                                           \
        STATE_FIELD(struct pit_state, channel[n].latched),                                         \
        STATE_FIELD(struct pit_state, channel[n].status),                                          \
        STATE_FIELD(struct pit_state, channel[n].status_latched),                                  \
        STATE_FIELD(struct pit_state, channel[n].mode),                                            \
        STATE_FIELD(struct pit_state, channel[n].access),                                          \
        STATE_FIELD(struct pit_state, channel[n].bcd),                                             \
        STATE_FIELD(struct pit_state, channel[n].gate),                                            \
        STATE_FIELD(struct pit_state, channel[n].loaded),                                          \
        STATE_FIELD(struct pit_state, channel[n].counting),                                        \
        STATE_FIELD(struct pit_state, channel[n].write_low),                                       \
        STATE_FIELD(struct pit_state, channel[n].write_high_next),                                 \
        STATE_FIELD(struct pit_state, channel[n].read_high_next),                                  \
        STATE_FIELD(struct pit_state, channel[n].pad)

static const struct state_field pit_fields[] = {
    CHANNEL_FIELDS(0),
    CHANNEL_FIELDS(1),
    CHANNEL_FIELDS(2),
    STATE_FIELD(struct pit_state, speaker),
    STATE_FIELD(struct pit_state, pad),
};
const struct state_desc pit_state_desc = STATE_DESC("pit", 1, struct pit_state, pit_fields);

/* ---- a counter, as a function of time -------------------------------------------------------- */

static uint64_t ticks_of_ns(uint64_t ns)
{
    return ns / NSEC_PER_SEC * PIT_HZ + ns % NSEC_PER_SEC * PIT_HZ / NSEC_PER_SEC;
}

/* Rounded up: at that time the tick has been counted. */
static uint64_t ns_of_ticks(uint64_t ticks)
{
    return ticks / PIT_HZ * NSEC_PER_SEC + (ticks % PIT_HZ * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ;
}

/* Ticks counted since the count was loaded, the time with the gate low left out. */
static uint64_t elapsed(const struct pit_channel *c, uint64_t now)
{
    if (!c->counting || now < c->base_ns)
        return c->held;
    return c->held + ticks_of_ns(now - c->base_ns);
}

static uint16_t to_bcd(uint16_t value)
{
    return (uint16_t)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 |
                      value / 1000 % 10 << 12);
}

static uint32_t from_bcd(uint32_t value)
{
    return (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 +
           (value >> 12 & 15) * 1000;
}

uint16_t pit_channel_count(const struct pit_channel *c, uint64_t now)
{
    const uint32_t range = c->bcd ? 10000 : 65536;
    uint64_t t = elapsed(c, now);
    uint32_t value;

    if (!c->loaded)
        return 0;
    switch (c->mode) {
    case MODE_RATE:
        value = c->reload - (uint32_t)(t % c->reload);
        break;
    case MODE_SQUARE: /* twice a period, by twos */
        value = (c->reload - (uint32_t)(2 * t % c->reload)) & ~1u;
        break;
    default: /* runs on through zero */
        value = (uint32_t)((c->reload + range - t % range) % range);
        break;
    }
    return c->bcd ? to_bcd((uint16_t)(value % range)) : (uint16_t)value;
}

bool pit_channel_output(const struct pit_channel *c, uint64_t now)
{
    uint64_t t = elapsed(c, now);

    if (!c->loaded)
        return c->mode != MODE_TERMINAL_COUNT;
    switch (c->mode) {
    case MODE_TERMINAL_COUNT:
        return t >= c->reload;
    case MODE_ONE_SHOT:
        return !c->counting || t >= c->reload;
    case MODE_RATE:
        return !c->counting || t % c->reload != c->reload - 1;
    case MODE_SQUARE:
        return !c->counting || t % c->reload < (c->reload + 1) / 2;
    default: /* low for one tick */
        return !c->counting || t != c->reload;
    }
}

uint64_t pit_channel_next_rise(const struct pit_channel *c, uint64_t now)
{
    uint64_t t = elapsed(c, now), at;

    if (!c->loaded || !c->counting)
        return 0;
    switch (c->mode) {
    case MODE_RATE:
    case MODE_SQUARE:
        at = (t / c->reload + 1) * c->reload;
        break;
    case MODE_STROBE:
    case MODE_STROBE_GATE:
        at = (uint64_t)c->reload + 1;
        break;
    default:
        at = c->reload;
        break;
    }
    return at > t ? c->base_ns + ns_of_ticks(at - c->held) : 0;
}

/* ---- interrupts of channel 0 ----------------------------------------------------------------- */

/* Loop thread: makes the timer in the ring agree with the channel. */
static void rearm(struct pit *pit)
{
    uint64_t now = pit->now();
    uint64_t next = pit_channel_next_rise(&pit->state.channel[0], pit->seen_ns);

    if (pit->quiesced)
        next = 0;
    if (next)
        next = MAX(next, pit->raised_ns + PIT_PERIOD_MIN_NS);
    if (pit->timer.armed) {
        /* Too late, or for nothing: its completion comes back here. */
        if (!next || next < pit->deadline_ns)
            loop_cancel(pit->loop, &pit->timer.op);
        return;
    }
    if (!next)
        return;
    pit->deadline_ns = next;
    loop_timer_start(pit->loop, &pit->timer, next > now ? next - now : 1);
}

static void rearm_run(struct deferred *deferred)
{
    rearm(container_of(deferred, struct pit, rearm));
}

static void timer_done(struct op *op, int res, bool more)
{
    struct pit *pit = container_of(op, struct pit, timer.op);
    uint64_t now = pit->now(), due;

    (void)res;
    (void)more;
    pit->timer.armed = false;
    /* The guest may have changed the channel since: the channel decides, not the timer. */
    due = pit_channel_next_rise(&pit->state.channel[0], pit->seen_ns);
    if (!pit->quiesced && due && due <= now) {
        irq_raise(pit->irq);
        pit->raised_ns = now;
        pit->seen_ns = now;
    }
    rearm(pit);
}

/* The guest changed channel 0; on its vCPU thread. */
static void channel_0_changed(struct pit *pit)
{
    pit->seen_ns = pit->now();
    if (pit->timer.armed || pit_channel_next_rise(&pit->state.channel[0], pit->seen_ns))
        loop_defer(pit->loop, &pit->rearm);
}

/* ---- programming ----------------------------------------------------------------------------- */

static bool started_by_gate(const struct pit_channel *c)
{
    return c->mode == MODE_ONE_SHOT || c->mode == MODE_STROBE_GATE;
}

static void load(struct pit_channel *c, uint32_t value, uint64_t now)
{
    if (c->bcd)
        value = from_bcd(value);
    c->reload = value ? value : c->bcd ? 10000 : 65536;
    /* Mode 3 counts by twos, and mode 2 has no period of 1. */
    if ((c->mode == MODE_RATE || c->mode == MODE_SQUARE) && c->reload < 2)
        c->reload = 2;
    c->loaded = 1;
    if (started_by_gate(c))
        return;
    c->held = 0;
    c->base_ns = now;
    c->counting = c->gate;
}

static void write_count(struct pit_channel *c, uint8_t byte, uint64_t now)
{
    switch (c->access) {
    case ACCESS_LOW:
        load(c, byte, now);
        break;
    case ACCESS_HIGH:
        load(c, (uint32_t)byte << 8, now);
        break;
    default:
        if (c->write_high_next) {
            load(c, (uint32_t)byte << 8 | c->write_low, now);
        } else {
            c->write_low = byte;
            if (c->mode == MODE_TERMINAL_COUNT) /* the first byte stops it */
                c->loaded = 0;
        }
        c->write_high_next = !c->write_high_next;
        break;
    }
}

static void set_mode(struct pit_channel *c, uint8_t control)
{
    uint8_t mode = control >> 1 & 7;

    c->mode = mode > 5 ? mode - 4 : mode; /* 6 and 7 are other names of 2 and 3 */
    c->access = control >> 4 & 3;
    c->bcd = control & 1;
    c->loaded = 0;
    c->counting = 0;
    c->held = 0;
    c->latched = 0;
    c->status_latched = 0;
    c->write_high_next = 0;
    c->read_high_next = 0;
}

/* A latch that has not been read yet stays. */
static void latch_count(struct pit_channel *c, uint64_t now)
{
    if (c->latched)
        return;
    c->latch = pit_channel_count(c, now);
    c->latched = c->access == ACCESS_BOTH ? 2 : 1;
}

static void latch_status(struct pit_channel *c, uint64_t now)
{
    if (c->status_latched)
        return;
    c->status = (uint8_t)(c->access << 4 | c->mode << 1 | c->bcd);
    if (pit_channel_output(c, now))
        c->status |= STATUS_OUTPUT;
    if (!c->loaded)
        c->status |= STATUS_NULL_COUNT;
    c->status_latched = 1;
}

static void read_back(struct pit_state *s, uint8_t control, uint64_t now)
{
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        if (!(control & 2u << i))
            continue;
        if (!(control & READ_BACK_NO_COUNT))
            latch_count(&s->channel[i], now);
        if (!(control & READ_BACK_NO_STATUS))
            latch_status(&s->channel[i], now);
    }
}

static void write_control(struct pit *pit, uint8_t control)
{
    unsigned channel = control >> 6;

    if (channel == CONTROL_READ_BACK) {
        read_back(&pit->state, control, pit->now());
        return;
    }
    if ((control >> 4 & 3) == ACCESS_LATCH) {
        latch_count(&pit->state.channel[channel], pit->now());
        return;
    }
    set_mode(&pit->state.channel[channel], control);
    if (channel == 0)
        channel_0_changed(pit);
}

static uint8_t read_count(struct pit_channel *c, uint64_t now)
{
    uint16_t value = c->latched ? c->latch : pit_channel_count(c, now);
    bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high_next);

    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->latched)
        c->latched--;
    if (c->access == ACCESS_BOTH)
        c->read_high_next = !c->read_high_next;
    return (uint8_t)(high ? value >> 8 : value);
}

/* The gate of channel 2: low holds the counter, rising starts or restarts it. */
static void set_gate(struct pit_channel *c, bool gate, uint64_t now)
{
    bool restart = started_by_gate(c) || c->mode == MODE_RATE || c->mode == MODE_SQUARE;

    if (gate == (bool)c->gate)
        return;
    c->gate = gate;
    if (!c->loaded)
        return;
    if (gate) {
        if (restart)
            c->held = 0;
        c->base_ns = now;
        c->counting = 1;
    } else if (!started_by_gate(c)) {
        c->held = (uint32_t)MIN(elapsed(c, now), UINT32_MAX);
        c->counting = 0;
    }
}

/* ---- bus ------------------------------------------------------------------------------------- */

static void pit_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    struct pit *pit = owner;
    uint8_t *to = data;

    if (len == 1 && offset < PIT_CHANNELS)
        to[0] = read_count(&pit->state.channel[offset], pit->now());
}

static void pit_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct pit *pit = owner;
    const uint8_t *from = data;

    if (len != 1)
        return;
    if (offset == PIT_CHANNELS) {
        write_control(pit, from[0]);
        return;
    }
    write_count(&pit->state.channel[offset], from[0], pit->now());
    if (offset == 0)
        channel_0_changed(pit);
}

static void speaker_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    struct pit *pit = owner;
    const struct pit_channel *c = &pit->state.channel[2];
    uint64_t now = pit->now();
    uint8_t *to = data, value = 0;

    (void)offset;
    (void)len;
    if (c->gate)
        value |= SPEAKER_GATE;
    if (pit->state.speaker)
        value |= SPEAKER_DATA;
    if (now / REFRESH_NS & 1)
        value |= SPEAKER_REFRESH;
    if (pit_channel_output(c, now))
        value |= SPEAKER_OUTPUT;
    to[0] = value;
}

static void speaker_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct pit *pit = owner;
    const uint8_t *from = data;

    (void)offset;
    (void)len;
    pit->state.speaker = (from[0] & SPEAKER_DATA) != 0;
    set_gate(&pit->state.channel[2], from[0] & SPEAKER_GATE, pit->now());
}

/* ---- life ------------------------------------------------------------------------------------ */

void pit_init(struct pit *pit, struct loop *loop, const struct irq_line *irq)
{
    *pit = (struct pit){
        .irq = irq,
        .now = now_ns,
        .loop = loop,
        .timer = {.op = {.done = timer_done}},
        .rearm = {.run = rearm_run},
    };
    for (unsigned i = 0; i < PIT_CHANNELS; i++) {
        pit->state.channel[i].access = ACCESS_BOTH;
        pit->state.channel[i].reload = 65536;
        pit->state.channel[i].gate = i != 2;
    }
}

int pit_attach(struct pit *pit, struct bus *pio, struct err *e)
{
    const struct bus_range timer = {"timer", PORT_CHANNEL_0, PIT_CHANNELS + 1,
                                    pit,     pit_read,       pit_write};
    const struct bus_range speaker = {"speaker", PORT_SPEAKER, 1, pit, speaker_read, speaker_write};
    int ret = bus_add(pio, &timer, e);

    return ret < 0 ? ret : bus_add(pio, &speaker, e);
}

void pit_quiesce(struct pit *pit)
{
    pit->quiesced = true;
    rearm(pit);
}

void pit_resume(struct pit *pit)
{
    pit->quiesced = false;
    rearm(pit);
}
