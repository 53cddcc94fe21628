/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/legacy/i8042.c: the conversations that Linux's i8042, atkbd and reboot code have
 * with it. */
#include "tests/support/irq_probe.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"
#include "vmm/legacy/i8042.h"

#include <string.h>
#include <unistd.h>

struct fixture {
    struct bus bus;
    struct irq_probe irq;
    struct i8042 i8042;
    unsigned resets;
};

static void count_reset(void *owner)
{
    struct fixture *f = owner;

    f->resets++;
}

static void start(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    irq_probe_init(&f->irq, I8042_GSI);
    i8042_init(&f->i8042, &f->irq.line, count_reset, f);
    assert_int_equal(i8042_attach(&f->i8042, &f->bus, NULL), 0);
}

static uint8_t in(struct fixture *f, uint64_t port)
{
    uint8_t value = 0xee;

    assert_true(bus_read(&f->bus, port, &value, 1));
    return value;
}

static void out(struct fixture *f, uint64_t port, uint8_t value)
{
    assert_true(bus_write(&f->bus, port, &value, 1));
}

static uint64_t edges(struct fixture *f)
{
    return irq_probe_take(&f->irq);
}

/* A byte that is ready, as a driver that polls reads it. */
static uint8_t take(struct fixture *f)
{
    assert_int_equal(in(f, 0x64) & 1, 1);
    return in(f, 0x60);
}

static void assert_nothing_ready(struct fixture *f)
{
    assert_int_equal(in(f, 0x64) & 1, 0);
}

static uint8_t controller(struct fixture *f, uint8_t command)
{
    out(f, 0x64, command);
    return take(f);
}

static void test_i8042_state_table_covers_the_struct(void **state)
{
    (void)state;
    assert_true(state_desc_tiles(&i8042_state_desc));
}

static void test_i8042_reset_command_resets_once(void **state)
{
    struct fixture f;
    uint64_t resets = metrics.i8042.reset_count;

    (void)state;
    start(&f);

    /* kb_wait: the input buffer is never full. */
    assert_int_equal(in(&f, 0x64) & 2, 0);
    out(&f, 0x64, 0xfe);

    assert_int_equal(f.resets, 1);
    assert_int_equal(metrics.i8042.reset_count - resets, 1);
}

static void test_i8042_reset_line_by_output_port(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);

    assert_int_equal(controller(&f, 0xd0) & 1, 1);
    out(&f, 0x64, 0xd1);
    out(&f, 0x60, 0xdf);
    assert_int_equal(f.resets, 0);
    assert_int_equal(controller(&f, 0xd0), 0xdf);

    out(&f, 0x64, 0xd1);
    out(&f, 0x60, 0xfe);
    assert_int_equal(f.resets, 1);
}

static void test_i8042_pulse_without_the_reset_line_does_nothing(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);

    out(&f, 0x64, 0xff);
    out(&f, 0x64, 0xfd);

    assert_int_equal(f.resets, 0);
    assert_nothing_ready(&f);
}

/* Linux: i8042_controller_check, _selftest, _init, i8042_check_aux, i8042_enable_kbd_port. */
static void test_i8042_linux_controller_probe(void **state)
{
    struct fixture f;
    uint8_t control;

    (void)state;
    start(&f);

    assert_nothing_ready(&f);
    assert_int_equal(controller(&f, 0xaa), 0x55);
    control = controller(&f, 0x20);
    assert_int_equal(controller(&f, 0x20), control);
    assert_int_equal(in(&f, 0x64) & 0x10, 0x10); /* no "keylock active" */

    /* Keyboard off, interrupts off; read back. */
    control = (uint8_t)((control | 0x10) & ~0x01);
    out(&f, 0x64, 0x60);
    out(&f, 0x60, control);
    edges(&f);
    assert_int_equal(controller(&f, 0x20), control);

    /* No mouse port: the loop test's byte does not come back as the mouse's, the line
     * test fails. */
    out(&f, 0x64, 0xd3);
    out(&f, 0x60, 0x5a);
    assert_int_equal(in(&f, 0x64) & 0x20, 0);
    take(&f);
    assert_int_not_equal(controller(&f, 0xa9), 0);
    assert_int_equal(edges(&f), 0);

    control = (uint8_t)((control & ~0x10) | 0x01);
    out(&f, 0x64, 0x60);
    out(&f, 0x60, control);
    assert_nothing_ready(&f);
}

/* Linux: atkbd_probe, atkbd_reset_state, atkbd_activate; each answer comes with an interrupt. */
static void test_i8042_linux_keyboard_attach(void **state)
{
    struct fixture f;
    static const struct {
        uint8_t sent;
        uint8_t answer[3];
        unsigned answers;
    } conversation[] = {
        {0xf2, {0xfa, 0xab, 0x83}, 3}, /* identify */
        {0xf5, {0xfa}, 1},             /* deactivate */
        {0xed, {0xfa}, 1},             /* LEDs */
        {0x00, {0xfa}, 1},
        {0xf3, {0xfa}, 1}, /* typematic rate */
        {0x00, {0xfa}, 1},
        {0xf0, {0xfa}, 1}, /* which scan code set? */
        {0x00, {0xfa, 0x02}, 2},
        {0xf4, {0xfa}, 1}, /* activate */
        {0xee, {0xee}, 1}, /* echo */
        {0xff, {0xfa, 0xaa}, 2},
        {0x05, {0xfe}, 1}, /* unknown: resend */
    };

    (void)state;
    start(&f);

    for (size_t i = 0; i < ARRAY_SIZE(conversation); i++) {
        out(&f, 0x60, conversation[i].sent);
        for (unsigned n = 0; n < conversation[i].answers; n++) {
            assert_int_equal(edges(&f), 1);
            assert_int_equal(take(&f), conversation[i].answer[n]);
        }
        assert_nothing_ready(&f);
        assert_int_equal(edges(&f), 0);
    }
}

static void assert_keys(struct fixture *f, const uint8_t *codes, unsigned count)
{
    i8042_ctrl_alt_del(&f->i8042);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(take(f), codes[i]);
    assert_nothing_ready(f);
}

static void test_i8042_ctrl_alt_del_is_seen_by_a_guest_that_polls(void **state)
{
    static const uint8_t set2[] = {0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0,
                                   0x71, 0xf0, 0x11, 0xf0, 0x14};
    struct fixture f;

    (void)state;
    start(&f);

    assert_keys(&f, set2, sizeof(set2));

    assert_int_equal(edges(&f), sizeof(set2));
}

static void test_i8042_ctrl_alt_del_translated_is_of_set_1(void **state)
{
    static const uint8_t set1[] = {0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d};
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, 0x64, 0x60);
    out(&f, 0x60, 0x45);

    assert_keys(&f, set1, sizeof(set1));
}

static void test_i8042_second_ctrl_alt_del_before_the_first_is_read_adds_nothing(void **state)
{
    struct fixture f;
    unsigned bytes = 0;

    (void)state;
    start(&f);

    i8042_ctrl_alt_del(&f.i8042);
    i8042_ctrl_alt_del(&f.i8042);

    for (; in(&f, 0x64) & 1; bytes++)
        in(&f, 0x60);
    assert_int_equal(bytes, 11);
}

static void test_i8042_controller_answers_before_the_keyboard(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    i8042_ctrl_alt_del(&f.i8042);

    assert_int_equal(controller(&f, 0xaa), 0x55);
    assert_int_equal(take(&f), 0x14);
}

static void test_i8042_disabled_keyboard_keeps_its_bytes(void **state)
{
    struct fixture f;

    (void)state;
    start(&f);
    out(&f, 0x64, 0xad);
    i8042_ctrl_alt_del(&f.i8042);
    assert_nothing_ready(&f);
    assert_int_equal(edges(&f), 0);

    out(&f, 0x64, 0xae);
    assert_int_equal(edges(&f), 1);
    assert_int_equal(take(&f), 0x14);
}

static void test_i8042_hostile_writes_stay_bounded(void **state)
{
    struct fixture f;
    unsigned bytes = 0;

    (void)state;
    start(&f);

    for (unsigned i = 0; i < 1000; i++) {
        out(&f, 0x60, 0xf2);
        out(&f, 0x64, 0x20);
        out(&f, 0x64, 0xd2);
        out(&f, 0x60, (uint8_t)i);
    }

    for (; in(&f, 0x64) & 1; bytes++)
        in(&f, 0x60);
    assert_in_range(bytes, 1, I8042_KEYBOARD_QUEUE + I8042_REPLY_QUEUE);
    assert_int_equal(in(&f, 0x60), 0);
}

static void test_i8042_wide_access_is_nobodys(void **state)
{
    struct fixture f;
    uint16_t value = 0xfefe;

    (void)state;
    start(&f);

    assert_false(bus_write(&f.bus, 0x64, &value, 2));

    assert_int_equal(f.resets, 0);
}

/* A fixed sequence: the same accesses in every run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static void test_i8042_random_accesses_leave_it_in_a_valid_state(void **state)
{
    struct fixture f;
    uint32_t seed = 5;

    (void)state;
    start(&f);

    for (unsigned i = 0; i < 100000; i++) {
        uint64_t port = next_random(&seed) % 2 ? 0x60 : 0x64;
        uint8_t data = (uint8_t)next_random(&seed);

        if (next_random(&seed) % 2)
            bus_write(&f.bus, port, &data, 1);
        else
            bus_read(&f.bus, port, &data, 1);
        if (i % 1000 == 0)
            i8042_ctrl_alt_del(&f.i8042);
        assert_true(f.i8042.state.reply_count <= I8042_REPLY_QUEUE);
        assert_true(f.i8042.state.keyboard_count <= I8042_KEYBOARD_QUEUE);
    }

    /* And it still answers. */
    while (in(&f, 0x64) & 1)
        in(&f, 0x60);
    assert_int_equal(controller(&f, 0xaa), 0x55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_i8042_state_table_covers_the_struct),
        cmocka_unit_test(test_i8042_reset_command_resets_once),
        cmocka_unit_test(test_i8042_reset_line_by_output_port),
        cmocka_unit_test(test_i8042_pulse_without_the_reset_line_does_nothing),
        cmocka_unit_test(test_i8042_linux_controller_probe),
        cmocka_unit_test(test_i8042_linux_keyboard_attach),
        cmocka_unit_test(test_i8042_ctrl_alt_del_is_seen_by_a_guest_that_polls),
        cmocka_unit_test(test_i8042_ctrl_alt_del_translated_is_of_set_1),
        cmocka_unit_test(test_i8042_second_ctrl_alt_del_before_the_first_is_read_adds_nothing),
        cmocka_unit_test(test_i8042_controller_answers_before_the_keyboard),
        cmocka_unit_test(test_i8042_disabled_keyboard_keeps_its_bytes),
        cmocka_unit_test(test_i8042_hostile_writes_stay_bounded),
        cmocka_unit_test(test_i8042_wide_access_is_nobodys),
        cmocka_unit_test(test_i8042_random_accesses_leave_it_in_a_valid_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
