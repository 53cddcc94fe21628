/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/base/irq.c. */
#include "tests/support/irq_probe.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

static void test_irq_raise_is_one_edge_a_call_and_counted(void **state)
{
    struct irq_probe probe;
    uint64_t triggers = metrics.interrupts.triggers;

    (void)state;
    irq_probe_init(&probe, 5);

    irq_raise(&probe.line);
    irq_raise(&probe.line);
    irq_raise(&probe.line);

    assert_int_equal(irq_probe_take(&probe), 3);
    assert_int_equal(metrics.interrupts.triggers - triggers, 3);
}

static void test_irq_raise_of_a_line_that_leads_nowhere_does_nothing(void **state)
{
    struct irq_line line = {.gsi = 5};
    uint64_t triggers = metrics.interrupts.triggers;

    (void)state;
    irq_raise(&line);

    assert_int_equal(metrics.interrupts.triggers, triggers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_irq_raise_is_one_edge_a_call_and_counted),
        cmocka_unit_test(test_irq_raise_of_a_line_that_leads_nowhere_does_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
