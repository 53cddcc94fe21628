/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/shell.c over a fake KVM: what is made ahead, when, and what becomes of it. */
#include "tests/support/fake_loop.h"
#include "tests/unit/fake_kvm.h"
#include "tests/unit/unit.h"
#include "vmm/base/timeline.h"
#include "vmm/shell.h"

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>

struct fixture {
    struct loop *loop;
    struct kvm kvm;
    struct vcpus vcpus;
    struct shell shell;
};

static int begin(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    f.kvm.fd = f.kvm.vm_fd = -1;
    assert_int_equal(loop_create(&f.loop, NULL), 0);
    shell_init(&f.shell, f.loop, &f.kvm, &f.vcpus);
    *state = &f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;

    fake_kvm_refuse(0, 0);
    shell_destroy(&f->shell);
    vcpus_destroy(&f->vcpus);
    kvm_close(&f->kvm);
    loop_destroy(f->loop);
    fake_kvm_forget();
    return 0;
}

static unsigned idle_steps(struct fixture *f)
{
    unsigned n = 0;

    while (fake_loop_idle_step(f->loop))
        n++;
    return n;
}

/* Up to the pause. */
static void make_vm(struct fixture *f)
{
    shell_prepare(&f->shell);
    idle_steps(f);
}

static void make_all(struct fixture *f)
{
    make_vm(f);
    fake_loop_complete(f->loop, 0, -ETIME, false);
    idle_steps(f);
}

/* As if they had been made a second ago. */
static void let_chips_age(struct fixture *f)
{
    assert_true(f->kvm.chips_ns > NSEC_PER_SEC);
    f->kvm.chips_ns -= NSEC_PER_SEC;
}

static void test_shell_makes_the_vm_only_in_idle_moments(void **state)
{
    struct fixture *f = *state;

    shell_prepare(&f->shell);
    assert_int_equal(f->kvm.fd, -1);
    assert_true(fake_loop_idle_step(f->loop)); /* gives way */
    assert_int_equal(f->kvm.fd, -1);
    assert_true(fake_loop_idle_step(f->loop));
    assert_true(f->kvm.fd >= 0);
    assert_int_equal(f->kvm.vm_fd, -1);
    assert_true(fake_loop_idle_step(f->loop));
    assert_true(f->kvm.vm_fd >= 0);
}

static void test_shell_waits_before_it_makes_interrupt_controllers(void **state)
{
    struct fixture *f = *state;

    make_vm(f);

    assert_non_null(f->shell.offer);
    assert_int_equal(f->kvm.chips_ns, 0);
    assert_int_equal(f->vcpus.count, 0);
    assert_int_equal(fake_loop_count_verb(f->loop, FAKE_TIMER), 1);
    assert_int_equal(fake_loop_op(f->loop, 0)->len, 5 * NSEC_PER_MSEC);
}

static void test_shell_ends_with_a_vcpu_that_knows_its_processor(void **state)
{
    struct fixture *f = *state;

    make_all(f);

    assert_true(f->kvm.chips_ns > 0);
    assert_int_equal(f->vcpus.count, 1);
    assert_non_null(f->shell.given);
    assert_false(fake_loop_idle_step(f->loop));
}

static void test_shell_closed_before_an_idle_moment_holds_nothing(void **state)
{
    struct fixture *f = *state;

    shell_prepare(&f->shell);
    shell_close(&f->shell);

    assert_false(fake_loop_idle_step(f->loop));
    assert_int_equal(f->kvm.fd, -1);
    assert_string_equal(timeline_shell(), "none");
}

static void test_shell_closed_in_its_pause_holds_a_vm_and_makes_no_more(void **state)
{
    struct fixture *f = *state;

    make_vm(f);
    shell_close(&f->shell);

    assert_string_equal(timeline_shell(), "vm");
    assert_true(f->kvm.vm_fd >= 0);
    assert_true(fake_loop_op(f->loop, 0)->cancelled);
    fake_loop_complete(f->loop, 0, -ETIME, false); /* it had been due already */
    assert_false(fake_loop_idle_step(f->loop));
    assert_int_equal(f->kvm.chips_ns, 0);
}

static void test_shell_with_young_interrupt_controllers_is_left(void **state)
{
    struct fixture *f = *state;

    make_all(f);
    shell_close(&f->shell);

    assert_string_equal(timeline_shell(), "left");
    assert_true(f->kvm.fd >= 0);
    assert_int_equal(f->kvm.vm_fd, -1);
    assert_int_equal(f->kvm.chips_ns, 0);
    assert_int_equal(f->vcpus.count, 0);
    assert_null(f->shell.given);
    assert_non_null(f->shell.offer);
}

static void test_shell_with_aged_interrupt_controllers_is_taken_whole(void **state)
{
    struct fixture *f = *state;

    make_all(f);
    let_chips_age(f);
    shell_close(&f->shell);

    assert_string_equal(timeline_shell(), "vcpu");
    assert_true(f->kvm.vm_fd >= 0);
    assert_int_equal(f->vcpus.count, 1);
    assert_non_null(f->shell.given);
}

static void test_shell_that_kvm_refuses_leaves_nothing_half_made(void **state)
{
    static const unsigned long steps[] = {KVM_GET_API_VERSION,     KVM_CREATE_VM,
                                          KVM_GET_SUPPORTED_CPUID, KVM_CREATE_IRQCHIP,
                                          KVM_CREATE_VCPU,         KVM_SET_CPUID2};

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        struct fixture *f;

        if (i > 0)
            begin(state);
        f = *state;
        fake_kvm_refuse(steps[i], EMFILE);
        shell_prepare(&f->shell);
        idle_steps(f);
        if (fake_loop_count(f->loop) > 0)
            fake_loop_complete(f->loop, 0, -ETIME, false);
        idle_steps(f);

        assert_int_equal(f->kvm.fd, -1);
        assert_int_equal(f->kvm.vm_fd, -1);
        assert_int_equal(f->vcpus.count, 0);
        assert_null(f->shell.given);
        shell_close(&f->shell);
        assert_string_equal(timeline_shell(), "none");
        if (i + 1 < ARRAY_SIZE(steps))
            end(state);
    }
}

static void test_shell_asks_kvm_for_its_offer_once(void **state)
{
    struct fixture *f = *state;
    const struct cpuid_table *first, *again;
    struct err e;

    assert_int_equal(kvm_open(&f->kvm, &e), 0);
    assert_int_equal(shell_offer(&f->shell, &first, &e), 0);
    fake_kvm_refuse(KVM_GET_SUPPORTED_CPUID, EIO);
    assert_int_equal(shell_offer(&f->shell, &again, &e), 0);
    assert_ptr_equal(first, again);
}

#define SHELL_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHELL_TEST(test_shell_makes_the_vm_only_in_idle_moments),
        SHELL_TEST(test_shell_waits_before_it_makes_interrupt_controllers),
        SHELL_TEST(test_shell_ends_with_a_vcpu_that_knows_its_processor),
        SHELL_TEST(test_shell_closed_before_an_idle_moment_holds_nothing),
        SHELL_TEST(test_shell_closed_in_its_pause_holds_a_vm_and_makes_no_more),
        SHELL_TEST(test_shell_with_young_interrupt_controllers_is_left),
        SHELL_TEST(test_shell_with_aged_interrupt_controllers_is_taken_whole),
        SHELL_TEST(test_shell_that_kvm_refuses_leaves_nothing_half_made),
        SHELL_TEST(test_shell_asks_kvm_for_its_offer_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
