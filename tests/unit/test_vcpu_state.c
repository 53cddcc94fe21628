/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/snapshot/vcpu_state*.c and vm_state*.c on the host's KVM: what is saved of one VM
 * and restored into another is saved from there again byte for byte, and the guest goes on. Skipped
 * where there is no KVM, but for those that need none.
 */
#include "tests/unit/unit.h"
#include "vmm/boot/entry_x86_64.h"
#include "vmm/cpu_model.h"
#include "vmm/snapshot/vcpu_parts_x86_64.h"
#include "vmm/snapshot/vm_state.h"
#include "vmm/vcpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>

#define MSR_TSC          0x10u
#define MSR_MTRR_FIX_64K 0x250u
#define MSR_MC0_CTL      0x400u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_LSTAR        0xc0000082u
#define MSR_KERNEL_GS    0xc0000102u

#define VCPUS   2
#define RAM     (16 * MIB)
#define ENTRY   MIB
#define PORT    0x3f8
#define FLAT_FS UINT64_C(0x123456789000)

/* Counts in eax and writes each number to the port. */
static const uint8_t counting_guest[] = {
    0x31, 0xc0,             /* xor %eax, %eax */
    0x66, 0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
    0xff, 0xc0,             /* 1: inc %eax */
    0xef,                   /* out %eax, %dx */
    0xeb, 0xfb,             /* jmp 1b */
};

/* A machine without devices. Its memory outlives the VM. */
struct fixture {
    struct kvm kvm;
    struct vcpus vcpus;
};

static struct mem mem;

static void check(int rc, const struct err *e)
{
    if (rc)
        fail_msg("%s", e->text);
}

static bool have_kvm(void)
{
    return access("/dev/kvm", R_OK | W_OK) == 0;
}

static void need_kvm(void)
{
    if (!have_kvm())
        skip();
}

static void open_vm(struct fixture *f)
{
    static const struct kvm_registers none = {0};
    struct err e = {0};

    need_kvm();
    if (mem.count == 0)
        check(mem_create(&mem, RAM, MEM_PAGES_DEFAULT, false, &e), &e);
    memset(f, 0, sizeof(*f));
    check(kvm_open(&f->kvm, &e), &e);
    check(kvm_vm_create(&f->kvm, &mem, false, &none, &e), &e);
    check(vcpus_create(&f->vcpus, &f->kvm, VCPUS, &e), &e);
}

static void close_vm(struct fixture *f)
{
    vcpus_destroy(&f->vcpus);
    kvm_close(&f->kvm);
}

/* The state at boot, with the counting guest in memory. */
static void boot(struct fixture *f)
{
    const struct machine_config config = {.vcpu_count = VCPUS, .mem_size_mib = RAM / MIB};
    struct cpuid_table offer;
    struct cpu_model model;
    struct boot_entry entry;
    struct err e = {0};

    open_vm(f);
    check(mem_write(&mem, GPA(ENTRY), counting_guest, sizeof(counting_guest)), NULL);
    check(cpu_model_query(&f->kvm, &offer, &e), &e);
    check(cpu_model_create(&model, &offer, &config, NULL, &e), &e);
    entry_write(&mem, BOOT_LINUX64, ENTRY, &entry);
    for (unsigned i = 0; i < VCPUS; i++) {
        check(cpu_model_apply(&model, f->vcpus.vcpu[i].fd, i, &e), &e);
        check(vcpu_set_boot_state(&f->vcpus.vcpu[i], &entry, &e), &e);
    }
}

/* Runs the first vCPU until it writes to the port, and returns what it writes; the instruction is
 * complete then. */
static uint32_t run_to_output(const struct fixture *f)
{
    const struct vcpu *vcpu = &f->vcpus.vcpu[0];
    uint32_t value;

    vcpu->run->immediate_exit = 0;
    assert_int_equal(ioctl(vcpu->fd, KVM_RUN, 0ul), 0);
    assert_int_equal(vcpu->run->exit_reason, KVM_EXIT_IO);
    assert_int_equal(vcpu->run->io.port, PORT);
    memcpy(&value, (const uint8_t *)vcpu->run + vcpu->run->io.data_offset, sizeof(value));
    vcpu->run->immediate_exit = 1;
    assert_int_equal(ioctl(vcpu->fd, KVM_RUN, 0ul), -1);
    assert_int_equal(errno, EINTR);
    return value;
}

/* ---- a whole state --------------------------------------------------------------------------- */

struct whole {
    struct vcpu_state *vcpu[VCPUS];
    struct vm_state vm;
};

static void make_whole(struct whole *s)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        s->vcpu[i] = vcpu_state_create();
        assert_non_null(s->vcpu[i]);
    }
}

static void free_whole(struct whole *s)
{
    for (unsigned i = 0; i < VCPUS; i++)
        vcpu_state_destroy(s->vcpu[i]);
}

static void save(struct whole *s, const struct fixture *f)
{
    struct err e = {0};

    for (unsigned i = 0; i < VCPUS; i++)
        check(vcpu_state_save(s->vcpu[i], &f->kvm, f->vcpus.vcpu[i].fd, i, &e), &e);
    check(vm_state_save(&s->vm, &f->kvm, &e), &e);
}

static void restore(const struct whole *s, const struct fixture *f)
{
    struct err e = {0};

    for (unsigned i = 0; i < VCPUS; i++)
        check(vcpu_state_restore(s->vcpu[i], &f->kvm, f->vcpus.vcpu[i].fd, i, false, &e), &e);
    check(vm_state_restore(&s->vm, &f->kvm, false, &e), &e);
}

static struct kvm_msr_entry *msr(struct vcpu_state *s, uint32_t index)
{
    for (uint32_t i = 0; i < s->msrs.count; i++)
        if (s->msrs.entry[i].index == index)
            return &s->msrs.entry[i];
    return NULL;
}

static void set_msr(struct vcpu_state *s, uint32_t index, uint64_t value)
{
    struct kvm_msr_entry *entry = msr(s, index);

    if (!entry)
        fail_msg("register %#x is not saved", index);
    else
        entry->data = value;
}

static uint64_t get_msr(struct vcpu_state *s, uint32_t index)
{
    struct kvm_msr_entry *entry = msr(s, index);

    return entry ? entry->data : 0;
}

/* Something in every part that no vCPU has at its start. */
static void make_peculiar(struct whole *s)
{
    struct vcpu_state *first = s->vcpu[0];

    first->regs.r15 = UINT64_C(0xfedcba9876543210);
    first->sregs.cr2 = 0x1234000;
    first->sregs.fs.base = FLAT_FS;
    first->debug.db[1] = 0x4000;
    first->xsave[512] |= 2;   /* of which it says that there is something (SDM volume 1, 13.4.2) */
    first->xsave[160] = 0x5a; /* xmm0 (SDM volume 1, table 10-2) */
    first->lapic.regs[0x80] = 0x20; /* the task priority, which is CR8 too, */
    first->lapic.regs[0xa0] = 0x20; /* and makes the processor's */
    first->sregs.cr8 = 2;
    set_msr(first, MSR_LSTAR, UINT64_C(0xffffffff81000040));
    set_msr(first, MSR_KERNEL_GS, UINT64_C(0xffff888000000000));
    set_msr(first, MSR_MTRR_FIX_64K, UINT64_C(0x0606060606060606));
    s->vcpu[1]->mp_state.mp_state = KVM_MP_STATE_HALTED;
    s->vm.pic[1].imr = 0xa5;
    s->vm.ioapic.redirtbl[7].bits = UINT64_C(0x0100000000010037); /* masked, vector 0x37, CPU 1 */
}

/* ---- the state file -------------------------------------------------------------------------- */

struct file {
    uint8_t bytes[512 * KIB];
    size_t len;
};

static void write_file(struct file *file, const struct whole *s)
{
    struct state_writer w;
    struct err e = {0};

    state_writer_begin(&w, file->bytes, sizeof(file->bytes));
    for (unsigned i = 0; i < VCPUS; i++)
        vcpu_state_write(s->vcpu[i], i, &w);
    vm_state_write(&s->vm, &w);
    check(state_writer_end(&w, &file->len, &e), &e);
}

static void read_file(const struct file *file, struct whole *s)
{
    struct state_reader r;
    struct err e = {0};

    check(state_reader_begin(&r, file->bytes, file->len, &e), &e);
    for (unsigned i = 0; i < VCPUS; i++)
        check(vcpu_state_read(s->vcpu[i], i, &r, &e), &e);
    check(vm_state_read(&s->vm, &r, &e), &e);
    check(state_reader_end(&r, &e), &e);
}

/* Clocks go on between one save and the next. */
static void stop_clocks(struct whole *s)
{
    for (unsigned i = 0; i < VCPUS; i++)
        set_msr(s->vcpu[i], MSR_TSC, 0);
    memset(&s->vm.clock, 0, sizeof(s->vm.clock));
}

static void compare_files(const struct file *a, const struct file *b)
{
    struct state_reader left, right;
    struct state_section one, other;

    check(state_reader_begin(&left, a->bytes, a->len, NULL), NULL);
    check(state_reader_begin(&right, b->bytes, b->len, NULL), NULL);
    while (state_reader_peek(&left, &one) && state_reader_peek(&right, &other)) {
        if (one.len != other.len || memcmp(one.data, other.data, one.len) != 0)
            print_message("section %s %u differs\n", one.name, one.index);
        state_reader_skip(&left);
        state_reader_skip(&right);
    }
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->bytes, b->bytes, a->len);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_state_restored_into_new_vm_is_saved_from_it_unchanged(void **state)
{
    static struct file first, second;
    struct fixture f;
    struct whole s;

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);

    make_peculiar(&s);
    stop_clocks(&s);
    write_file(&first, &s);
    open_vm(&f);
    restore(&s, &f);
    save(&s, &f);
    stop_clocks(&s);
    write_file(&second, &s);
    compare_files(&first, &second);

    close_vm(&f);
    free_whole(&s);
}

static void test_state_file_gives_back_what_was_written(void **state)
{
    static struct file first, second;
    struct fixture f;
    struct whole s;

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);

    write_file(&first, &s);
    read_file(&first, &s);
    write_file(&second, &s);
    compare_files(&first, &second);
    free_whole(&s);
}

static void test_guest_goes_on_in_new_vm_through_file(void **state)
{
    static struct file file;
    struct fixture f;
    struct whole s, back;

    (void)state;
    make_whole(&s);
    make_whole(&back);
    boot(&f);
    for (uint32_t i = 1; i <= 3; i++)
        assert_int_equal(run_to_output(&f), i);

    /* Ten generations: each goes on from where the former was. */
    for (uint32_t generation = 0; generation < 10; generation++) {
        save(&s, &f);
        close_vm(&f);
        write_file(&file, &s);
        read_file(&file, &back);
        open_vm(&f);
        restore(&back, &f);
        assert_int_equal(run_to_output(&f), 4 + generation);
    }
    close_vm(&f);
    free_whole(&s);
    free_whole(&back);
}

static bool set_now(const struct fixture *f, uint32_t index, uint64_t value)
{
    struct {
        uint32_t count, pad;
        struct kvm_msr_entry entry;
    } set = {.count = 1, .entry = {.index = index, .data = value}};

    return ioctl(f->vcpus.vcpu[0].fd, KVM_SET_MSRS, &set) == 1;
}

static void test_banks_of_machine_checks_are_saved_once_they_were_written_to(void **state)
{
    struct whole s;
    struct fixture f;

    (void)state;
    boot(&f);
    make_whole(&s);
    save(&s, &f);
    for (uint32_t i = 0; i < s.vcpu[0]->msrs.count; i++) {
        const struct kvm_msr_entry *entry = &s.vcpu[0]->msrs.entry[i];

        assert_false(entry->index - MSR_MC0_CTL < 128 && entry->data == 0);
    }
    if (!set_now(&f, MSR_MC0_CTL, UINT64_MAX))
        skip();
    save(&s, &f);
    assert_true(get_msr(s.vcpu[0], MSR_MC0_CTL) == UINT64_MAX);
    free_whole(&s);
    close_vm(&f);
}

static void test_guest_clock_goes_on_from_where_it_was(void **state)
{
    struct fixture f;
    struct whole s;

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);
    s.vm.clock.clock = 1000 * NSEC_PER_SEC;

    open_vm(&f);
    restore(&s, &f);
    save(&s, &f);
    close_vm(&f);

    assert_in_range(s.vm.clock.clock, 1000 * NSEC_PER_SEC, 1010 * NSEC_PER_SEC);
    free_whole(&s);
}

static void test_time_stamp_counters_go_on_from_where_they_were(void **state)
{
    const uint64_t far = UINT64_C(1) << 50;
    uint64_t ten_seconds;
    struct fixture f;
    struct whole s;

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);
    ten_seconds = 10000 * (uint64_t)s.vcpu[0]->clock.tsc_khz;
    if (get_msr(s.vcpu[0], MSR_TSC) > ten_seconds) { /* it was set to 0: this KVM cannot */
        free_whole(&s);
        skip();
    }
    for (unsigned i = 0; i < VCPUS; i++)
        set_msr(s.vcpu[i], MSR_TSC, far);

    open_vm(&f);
    restore(&s, &f);
    save(&s, &f);
    close_vm(&f);

    for (unsigned i = 0; i < VCPUS; i++)
        assert_in_range(get_msr(s.vcpu[i], MSR_TSC), far, far + ten_seconds);
    free_whole(&s);
}

static void test_guest_clock_with_wall_clock_is_put_forward(void **state)
{
    struct fixture f;
    struct whole s;

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);
    if (!(s.vm.clock.flags & KVM_CLOCK_REALTIME)) { /* this KVM cannot */
        free_whole(&s);
        skip();
    }
    s.vm.clock.clock = 0;
    s.vm.clock.realtime -= 3600 * NSEC_PER_SEC; /* as if saved an hour ago */

    open_vm(&f);
    check(vm_state_restore(&s.vm, &f.kvm, true, NULL), NULL);
    save(&s, &f);

    assert_in_range(s.vm.clock.clock, 3600 * NSEC_PER_SEC, 3610 * NSEC_PER_SEC);
    close_vm(&f);
    free_whole(&s);
}

/* ---- what KVM refuses ---- */

static int restore_one(struct vcpu_state *s, struct err *e)
{
    struct fixture f;
    int rc;

    open_vm(&f);
    rc = vcpu_state_restore(s, &f.kvm, f.vcpus.vcpu[0].fd, 0, false, e);
    close_vm(&f);
    return rc;
}

static void test_restore_of_unknown_register_names_it_unless_it_was_zero(void **state)
{
    struct fixture f;
    struct whole s;
    struct err e = {0};

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);

    /* In the middle, so that those after it are restored too. */
    s.vcpu[0]->msrs.entry[1] = (struct kvm_msr_entry){.index = 0xbadc0de};
    check(restore_one(s.vcpu[0], &e), &e);
    s.vcpu[0]->msrs.entry[1].data = 0x77;
    assert_int_equal(restore_one(s.vcpu[0], &e), -ENOTSUP);
    assert_string_equal(e.text, "Cannot restore vCPU 0: this host's KVM does not take the value "
                                "0x77 of model-specific register 0xbadc0de.");
    free_whole(&s);
}

static void test_restore_of_larger_xsave_area_is_refused(void **state)
{
    struct fixture f;
    struct whole s;
    struct err e = {0};

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);

    s.vcpu[0]->xsave_len = XSAVE_STATE_MAX;
    assert_int_equal(restore_one(s.vcpu[0], &e), -ENOTSUP);
    assert_non_null(strstr(e.text, "Cannot restore the XSAVE area of vCPU 0: "));
    free_whole(&s);
}

static void test_restore_of_impossible_control_register_names_part(void **state)
{
    struct fixture f;
    struct whole s;
    struct err e = {0};

    (void)state;
    make_whole(&s);
    boot(&f);
    save(&s, &f);
    close_vm(&f);

    s.vcpu[0]->sregs.cr4 = UINT64_C(1) << 63;
    assert_int_equal(restore_one(s.vcpu[0], &e), -EINVAL);
    assert_non_null(strstr(e.text, "Cannot restore the segment and control registers of vCPU 0: "));
    free_whole(&s);
}

/* ---- without KVM ---- */

static void set_timer(struct vcpu_state *s, uint32_t lvt)
{
    memcpy(s->lapic.regs + 0x320, &lvt, sizeof(lvt));
}

static void test_deadline_that_has_passed_becomes_present_moment(void **state)
{
    struct vcpu_state *s = vcpu_state_create();

    (void)state;
    s->msrs.count = 2;
    s->msrs.entry[0] = (struct kvm_msr_entry){.index = MSR_TSC, .data = 4711};
    s->msrs.entry[1] = (struct kvm_msr_entry){.index = MSR_TSC_DEADLINE};
    set_timer(s, 0x20 | 1u << 18 | 1u << 16); /* deadline mode, masked */
    msrs_keep_deadline(s);
    assert_int_equal(s->msrs.entry[1].data, 0);
    set_timer(s, 0x20 | 1u << 17); /* periodic */
    msrs_keep_deadline(s);
    assert_int_equal(s->msrs.entry[1].data, 0);

    set_timer(s, 0x20 | 1u << 18);
    msrs_keep_deadline(s);
    assert_int_equal(s->msrs.entry[1].data, 4711);

    s->msrs.entry[0].data = 5000; /* one still to come stays */
    msrs_keep_deadline(s);
    assert_int_equal(s->msrs.entry[1].data, 4711);
    vcpu_state_destroy(s);
}

static void test_read_of_xsave_area_of_absurd_size_is_refused(void **state)
{
    static const uint32_t sizes[] = {0, XSAVE_MIN - 1, XSAVE_STATE_MAX + 1};
    struct vcpu_state *s = vcpu_state_create();
    uint8_t *bytes = calloc(1, 64 * KIB), *area = calloc(1, XSAVE_STATE_MAX + 1);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct state_writer w;
        struct state_reader r;
        struct state_section section;
        size_t len;
        struct err e = {0};

        s->xsave_len = 0;
        state_writer_begin(&w, bytes, 64 * KIB);
        vcpu_state_write(s, 0, &w);
        w.len -= 32; /* the last section again, of another size */
        w.sections--;
        state_write_bytes(&w, "vcpu-xsave", 0, area, sizes[i]);
        check(state_writer_end(&w, &len, &e), &e);
        check(state_reader_begin(&r, bytes, len, &e), &e);
        assert_true(state_reader_peek(&r, &section));
        assert_int_equal(vcpu_state_read(s, 0, &r, &e), -EINVAL);
        assert_non_null(strstr(e.text, "XSAVE area of vCPU 0"));
    }
    free(area);
    free(bytes);
    vcpu_state_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_restored_into_new_vm_is_saved_from_it_unchanged),
        cmocka_unit_test(test_state_file_gives_back_what_was_written),
        cmocka_unit_test(test_guest_goes_on_in_new_vm_through_file),
        cmocka_unit_test(test_banks_of_machine_checks_are_saved_once_they_were_written_to),
        cmocka_unit_test(test_guest_clock_goes_on_from_where_it_was),
        cmocka_unit_test(test_time_stamp_counters_go_on_from_where_they_were),
        cmocka_unit_test(test_guest_clock_with_wall_clock_is_put_forward),
        cmocka_unit_test(test_restore_of_unknown_register_names_it_unless_it_was_zero),
        cmocka_unit_test(test_restore_of_larger_xsave_area_is_refused),
        cmocka_unit_test(test_restore_of_impossible_control_register_names_part),
        cmocka_unit_test(test_deadline_that_has_passed_becomes_present_moment),
        cmocka_unit_test(test_read_of_xsave_area_of_absurd_size_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
