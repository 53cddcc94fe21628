/* SPDX-License-Identifier: Apache-2.0 */
/* i8042.c: see i8042.h. */
#include "vmm/legacy/i8042.h"

#include "vmm/base/metrics.h"

enum {
    PORT_DATA = 0x60,
    PORT_COMMAND = 0x64, /* write; read: status */

    STATUS_OUTPUT_FULL = 0x01, /* a byte can be read from port 0x60 */
    STATUS_SYSTEM = 0x04,      /* self test passed */
    STATUS_COMMAND = 0x08,
    STATUS_UNLOCKED = 0x10, /* the key lock of a PC/AT is open */

    CONTROL_INTERRUPT = 0x01,
    CONTROL_SYSTEM = 0x04,
    CONTROL_DISABLE = 0x10,
    CONTROL_TRANSLATE = 0x40,

    OUTPUT_NOT_RESET = 0x01,
    OUTPUT_A20 = 0x02,

    CMD_READ_CONTROL = 0x20,
    CMD_WRITE_CONTROL = 0x60,
    CMD_MOUSE_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_KEYBOARD_TEST = 0xab,
    CMD_KEYBOARD_DISABLE = 0xad,
    CMD_KEYBOARD_ENABLE = 0xae,
    CMD_READ_OUTPUT = 0xd0,
    CMD_WRITE_OUTPUT = 0xd1,
    CMD_WRITE_KEYBOARD = 0xd2, /* the parameter comes back as if typed */
    CMD_WRITE_MOUSE_BUFFER = 0xd3,
    CMD_WRITE_MOUSE = 0xd4,
    CMD_PULSE = 0xf0, /* 0xf0 to 0xff: lines whose bit is 0 go low */

    SELF_TEST_PASSED = 0x55,
    TEST_PASSED = 0x00,
    TEST_CLOCK_LOW = 0x01,

    KEYBOARD_SET_LEDS = 0xed,
    KEYBOARD_ECHO = 0xee,
    KEYBOARD_SCAN_SET = 0xf0,
    KEYBOARD_IDENTIFY = 0xf2,
    KEYBOARD_SET_RATE = 0xf3,
    KEYBOARD_ENABLE = 0xf4,
    KEYBOARD_DISABLE = 0xf5,
    KEYBOARD_DEFAULTS = 0xf6,
    KEYBOARD_RESET = 0xff,

    KEYBOARD_ACK = 0xfa,
    KEYBOARD_TEST_PASSED = 0xaa,
    KEYBOARD_RESEND = 0xfe,
};

static const struct state_field i8042_fields[] = {
    STATE_FIELD(struct i8042_state, control),
    STATE_FIELD(struct i8042_state, output_port),
    STATE_FIELD(struct i8042_state, pending),
    STATE_FIELD(struct i8042_state, keyboard_pending),
    STATE_FIELD(struct i8042_state, last_was_command),
    STATE_FIELD(struct i8042_state, obf_seen),
    STATE_FIELD(struct i8042_state, reply_head),
    STATE_FIELD(struct i8042_state, reply_count),
    STATE_FIELD(struct i8042_state, keyboard_head),
    STATE_FIELD(struct i8042_state, keyboard_count),
    STATE_ARRAY(struct i8042_state, reply),
    STATE_ARRAY(struct i8042_state, keyboard),
};
const struct state_desc i8042_state_desc = STATE_DESC("i8042", 1, struct i8042_state, i8042_fields);

/* ---- the output buffer ----------------------------------------------------------------------- */

static bool keyboard_can_talk(const struct i8042_state *s)
{
    return s->keyboard_count && !(s->control & CONTROL_DISABLE);
}

static bool output_full(const struct i8042_state *s)
{
    return s->reply_count || keyboard_can_talk(s);
}

/* One edge for each byte that comes to the top. */
static void update_irq(struct i8042 *i8042)
{
    struct i8042_state *s = &i8042->state;

    if (!output_full(s)) {
        s->obf_seen = 0;
        return;
    }
    if (!s->obf_seen && (s->control & CONTROL_INTERRUPT)) {
        s->obf_seen = 1;
        irq_raise(i8042->irq);
    }
}

/* A full queue loses the byte, as the real one does. */
static void reply_push(struct i8042_state *s, uint8_t byte)
{
    if (s->reply_count < I8042_REPLY_QUEUE)
        s->reply[(s->reply_head + s->reply_count++) % I8042_REPLY_QUEUE] = byte;
}

static void keyboard_push(struct i8042_state *s, uint8_t byte)
{
    if (s->keyboard_count < I8042_KEYBOARD_QUEUE)
        s->keyboard[(s->keyboard_head + s->keyboard_count++) % I8042_KEYBOARD_QUEUE] = byte;
}

/* Reading an empty buffer gives 0. */
static uint8_t output_pop(struct i8042_state *s)
{
    uint8_t byte = 0;

    if (s->reply_count) {
        byte = s->reply[s->reply_head];
        s->reply_head = (uint8_t)((s->reply_head + 1) % I8042_REPLY_QUEUE);
        s->reply_count--;
    } else if (keyboard_can_talk(s)) {
        byte = s->keyboard[s->keyboard_head];
        s->keyboard_head = (uint8_t)((s->keyboard_head + 1) % I8042_KEYBOARD_QUEUE);
        s->keyboard_count--;
    }
    s->obf_seen = 0;
    return byte;
}

/* ---- the controller -------------------------------------------------------------------------- */

static void pulse_reset(struct i8042 *i8042)
{
    metric_add(&metrics.i8042.reset_count, 1);
    i8042->reset(i8042->owner);
}

/* A byte written to port 0x64. */
static void controller_command(struct i8042 *i8042, uint8_t command)
{
    struct i8042_state *s = &i8042->state;

    s->pending = 0;
    switch (command) {
    case CMD_READ_CONTROL:
        reply_push(s, s->control);
        break;
    case CMD_WRITE_CONTROL:
    case CMD_WRITE_OUTPUT:
    case CMD_WRITE_KEYBOARD:
    case CMD_WRITE_MOUSE_BUFFER:
    case CMD_WRITE_MOUSE:
        s->pending = command;
        break;
    case CMD_SELF_TEST:
        s->control |= CONTROL_SYSTEM;
        reply_push(s, SELF_TEST_PASSED);
        break;
    case CMD_KEYBOARD_TEST:
        reply_push(s, TEST_PASSED);
        break;
    case CMD_MOUSE_TEST: /* "stuck clock line" is how a controller says that there is none */
        reply_push(s, TEST_CLOCK_LOW);
        break;
    case CMD_KEYBOARD_DISABLE:
        s->control |= CONTROL_DISABLE;
        break;
    case CMD_KEYBOARD_ENABLE:
        s->control &= (uint8_t)~CONTROL_DISABLE;
        break;
    case CMD_READ_OUTPUT:
        reply_push(s, s->output_port);
        break;
    default:
        if ((command & 0xf0) == CMD_PULSE && !(command & OUTPUT_NOT_RESET))
            pulse_reset(i8042);
        break;
    }
}

/* The byte that the pending controller command waited for. */
static void controller_parameter(struct i8042 *i8042, uint8_t value)
{
    struct i8042_state *s = &i8042->state;
    uint8_t command = s->pending;

    s->pending = 0;
    switch (command) {
    case CMD_WRITE_CONTROL:
        s->control = value;
        break;
    case CMD_WRITE_OUTPUT:
        s->output_port = value;
        if (!(value & OUTPUT_NOT_RESET))
            pulse_reset(i8042);
        break;
    case CMD_WRITE_KEYBOARD:
        keyboard_push(s, value);
        break;
    case CMD_WRITE_MOUSE_BUFFER: /* back, but not marked as the mouse's: a prober sees at once */
        reply_push(s, value);
        break;
    default: /* to a mouse that is not there */
        break;
    }
}

/* ---- the keyboard ---------------------------------------------------------------------------- */

static void keyboard_identify(struct i8042_state *s)
{
    keyboard_push(s, KEYBOARD_ACK);
    keyboard_push(s, 0xab);
    /* 0x83, which is also a scan code, and so translated. */
    keyboard_push(s, (s->control & CONTROL_TRANSLATE) ? 0x41 : 0x83);
}

/* A byte written to port 0x60 that no controller command waited for. */
static void keyboard_command(struct i8042_state *s, uint8_t command)
{
    /* Talking to the keyboard turns its interface on. */
    s->control &= (uint8_t)~CONTROL_DISABLE;
    switch (command) {
    case KEYBOARD_SET_LEDS:
    case KEYBOARD_SCAN_SET:
    case KEYBOARD_SET_RATE:
        s->keyboard_pending = command;
        keyboard_push(s, KEYBOARD_ACK);
        break;
    case KEYBOARD_ECHO:
        keyboard_push(s, KEYBOARD_ECHO);
        break;
    case KEYBOARD_IDENTIFY:
        keyboard_identify(s);
        break;
    case KEYBOARD_ENABLE:
    case KEYBOARD_DISABLE:
    case KEYBOARD_DEFAULTS:
        keyboard_push(s, KEYBOARD_ACK);
        break;
    case KEYBOARD_RESET:
        keyboard_push(s, KEYBOARD_ACK);
        keyboard_push(s, KEYBOARD_TEST_PASSED);
        break;
    default:
        keyboard_push(s, KEYBOARD_RESEND);
        break;
    }
}

static void keyboard_parameter(struct i8042_state *s, uint8_t value)
{
    uint8_t command = s->keyboard_pending;

    s->keyboard_pending = 0;
    keyboard_push(s, KEYBOARD_ACK);
    if (command == KEYBOARD_SCAN_SET && value == 0) /* which one is in use? */
        keyboard_push(s, (s->control & CONTROL_TRANSLATE) ? 0x41 : 0x02);
}

struct key {
    uint8_t extended;   /* 0xe0 goes first */
    uint8_t set2, set1; /* set 1 marks a release by bit 7, set 2 by 0xf0 before it */
};

static void push_key(struct i8042_state *s, const struct key *key, bool press)
{
    bool set1 = s->control & CONTROL_TRANSLATE;

    if (key->extended)
        keyboard_push(s, 0xe0);
    if (set1) {
        keyboard_push(s, (uint8_t)(key->set1 | (press ? 0 : 0x80)));
        return;
    }
    if (!press)
        keyboard_push(s, 0xf0);
    keyboard_push(s, key->set2);
}

void i8042_ctrl_alt_del(struct i8042 *i8042)
{
    static const struct key keys[] = {
        {0, 0x14, 0x1d}, /* left Ctrl */
        {0, 0x11, 0x38}, /* left Alt */
        {1, 0x71, 0x53}, /* Del */
    };
    /* Of set 2, the longer one: 4 bytes for pressing, 7 for releasing. */
    const int needed = 11;
    struct i8042_state *s = &i8042->state;

    if (I8042_KEYBOARD_QUEUE - s->keyboard_count < needed)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        push_key(s, &keys[i], true);
    for (size_t i = ARRAY_SIZE(keys); i-- > 0;)
        push_key(s, &keys[i], false);
    update_irq(i8042);
}

/* ---- bus ------------------------------------------------------------------------------------- */

static uint8_t read_status(const struct i8042_state *s)
{
    uint8_t status = STATUS_UNLOCKED;

    if (output_full(s))
        status |= STATUS_OUTPUT_FULL;
    if (s->control & CONTROL_SYSTEM)
        status |= STATUS_SYSTEM;
    if (s->last_was_command)
        status |= STATUS_COMMAND;
    return status;
}

static void write_data(struct i8042 *i8042, uint8_t value)
{
    struct i8042_state *s = &i8042->state;

    s->last_was_command = 0;
    if (s->pending)
        controller_parameter(i8042, value);
    else if (s->keyboard_pending)
        keyboard_parameter(s, value);
    else
        keyboard_command(s, value);
}

/* Each range is one port, so accesses are one byte. */
static void data_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    struct i8042 *i8042 = owner;
    uint8_t *to = data;

    (void)offset;
    (void)len;
    metric_add(&metrics.i8042.read_count, 1);
    to[0] = output_pop(&i8042->state);
    update_irq(i8042);
}

static void data_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct i8042 *i8042 = owner;
    const uint8_t *from = data;

    (void)offset;
    (void)len;
    metric_add(&metrics.i8042.write_count, 1);
    write_data(i8042, from[0]);
    update_irq(i8042);
}

static void status_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    struct i8042 *i8042 = owner;
    uint8_t *to = data;

    (void)offset;
    (void)len;
    metric_add(&metrics.i8042.read_count, 1);
    to[0] = read_status(&i8042->state);
}

static void command_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct i8042 *i8042 = owner;
    const uint8_t *from = data;

    (void)offset;
    (void)len;
    metric_add(&metrics.i8042.write_count, 1);
    i8042->state.last_was_command = 1;
    controller_command(i8042, from[0]);
    update_irq(i8042);
}

/* ---- life ------------------------------------------------------------------------------------ */

void i8042_init(struct i8042 *i8042, const struct irq_line *irq, void (*reset)(void *owner),
                void *owner)
{
    *i8042 = (struct i8042){
        .state = {.control = CONTROL_INTERRUPT | CONTROL_SYSTEM,
                  .output_port = OUTPUT_NOT_RESET | OUTPUT_A20},
        .irq = irq,
        .reset = reset,
        .owner = owner,
    };
}

int i8042_attach(struct i8042 *i8042, struct bus *pio, struct err *e)
{
    /* Port 0x61 between them belongs to the timer. */
    const struct bus_range data = {
        .name = "keyboard data",
        .base = PORT_DATA,
        .len = 1,
        .owner = i8042,
        .read = data_read,
        .write = data_write,
    };
    const struct bus_range command = {
        .name = "keyboard controller",
        .base = PORT_COMMAND,
        .len = 1,
        .owner = i8042,
        .read = status_read,
        .write = command_write,
    };
    int ret = bus_add(pio, &data, e);

    return ret < 0 ? ret : bus_add(pio, &command, e);
}
