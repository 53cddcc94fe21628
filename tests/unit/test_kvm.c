/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/base/kvm.c. The failures run in a child whose own mount namespace hides or replaces
 * /dev/kvm; the rest runs on the host's KVM and is skipped where there is none.
 */
#include "tests/unit/unit.h"
#include "vmm/base/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- failures ---- */

#define NO_NAMESPACES 100 /* exit status of a child that may not do what a test needs */

static void need(bool possible)
{
    if (!possible)
        _exit(NO_NAMESPACES);
}

static void own_mounts(void)
{
    need(unshare(CLONE_NEWNS) == 0);
    need(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
}

static void hide_dev(void)
{
    own_mounts();
    need(mount("none", "/dev", "tmpfs", 0, NULL) == 0);
}

static void replace_kvm_by_null(void)
{
    own_mounts();
    need(mount("none", "/dev", "tmpfs", 0, NULL) == 0);
    need(mknod("/dev/kvm", S_IFCHR | 0600, (1 << 8) | 3) == 0); /* the null device */
}

static void lose_permission(void)
{
    replace_kvm_by_null();
    need(setgid(65534) == 0 && setuid(65534) == 0);
}

static void run_out_of_descriptors(void)
{
    while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
        ;
}

/* Calls kvm_open in a child after `arrange`, and leaves in *e what it said. Returns its result. */
static int open_after(void (*arrange)(void), struct err *e)
{
    int ends[2], status;
    struct kvm kvm;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        arrange();
        e->code = kvm_open(&kvm, e);
        if (e->code == 0 || kvm.fd != -1 || kvm.vm_fd != -1)
            _exit(1);
        _exit(write(ends[1], e, sizeof(*e)) == sizeof(*e) ? 0 : 1);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], e, sizeof(*e));
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACES)
        skip();
    assert_int_equal(status, 0);
    assert_int_equal(n, sizeof(*e));
    return e->code;
}

static void test_kvm_open_without_device_says_what_to_load(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(open_after(hide_dev, &e), -ENOENT);
    assert_non_null(strstr(e.text, "/dev/kvm does not exist"));
    assert_non_null(strstr(e.text, "kvm_intel or kvm_amd"));
    assert_non_null(strstr(e.text, "(os error 2)"));
}

static void test_kvm_open_without_permission_says_who_may(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(open_after(lose_permission, &e), -EACCES);
    assert_non_null(strstr(e.text, "no permission"));
    assert_non_null(strstr(e.text, "group"));
    assert_non_null(strstr(e.text, "(os error 13)"));
}

static void test_kvm_open_of_other_device_says_it_is_not_usable(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(open_after(replace_kvm_by_null, &e), -ENODEV);
    assert_non_null(strstr(e.text, "not usable"));
}

static void test_kvm_open_without_descriptors_gives_reason(void **state)
{
    struct err e;

    (void)state;
    assert_int_equal(open_after(run_out_of_descriptors, &e), -EMFILE);
    assert_non_null(strstr(e.text, "cannot open /dev/kvm"));
    assert_non_null(strstr(e.text, "(os error 24)"));
}

/* ---- a descriptor that is not KVM: every call says what it could not do ---- */

static const struct kvm_registers no_registers;

static struct kvm not_kvm(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    return (struct kvm){.fd = fd, .vm_fd = dup(fd)};
}

static void test_kvm_check_capabilities_names_number_of_missing_one(void **state)
{
    struct kvm kvm = not_kvm();
    struct err e;

    (void)state;
    assert_int_equal(kvm_check_capabilities(&kvm, NULL, NULL, &e), -ENOTSUP);
    assert_string_equal(e.text, "Kvm error: Missing KVM capabilities: 0"); /* KVM_CAP_IRQCHIP */
    kvm_close(&kvm);
}

static bool all_but_xsave(void *arg, unsigned number)
{
    (*(unsigned *)arg)++;
    return number != KVM_CAP_XSAVE;
}

static void test_kvm_check_capabilities_asks_only_for_what_is_not_waived(void **state)
{
    struct kvm kvm = not_kvm();
    unsigned asked = 0;
    struct err e;

    (void)state;
    assert_int_equal(kvm_check_capabilities(&kvm, all_but_xsave, &asked, &e), -ENOTSUP);
    assert_string_equal(e.text, "Kvm error: Missing KVM capabilities: 0x37");
    assert_true(asked > 1);
    kvm_close(&kvm);
}

static void test_kvm_calls_on_other_device_fail_with_sentence(void **state)
{
    struct kvm kvm = not_kvm();
    struct mem mem = {0};
    struct err e;

    (void)state;
    kvm_pulse_irq(&kvm, 9);
    assert_int_equal(kvm_irqfd(&kvm, kvm.fd, 5, &e), -ENOTTY);
    assert_non_null(strstr(e.text, "irqfd of interrupt 5"));
    assert_int_equal(kvm_ioeventfd(&kvm, kvm.fd, GPA(0xc0001050), 0, true, &e), -ENOTTY);
    assert_non_null(strstr(e.text, "0xc0001050"));
    close(kvm.vm_fd);
    kvm.vm_fd = -1;
    assert_int_equal(kvm_vm_create(&kvm, &mem, false, &no_registers, &e), -ENOTTY);
    assert_non_null(strstr(e.text, "Cannot create the VM"));

    kvm_close(&kvm);
}

static void test_kvm_close_twice_closes_once(void **state)
{
    struct kvm kvm = not_kvm();

    (void)state;
    kvm_close(&kvm);
    assert_int_equal(kvm.fd, -1);
    assert_int_equal(kvm.vm_fd, -1);
    kvm_close(&kvm);
}

static void test_kvm_slots_wait_for_young_interrupt_controllers_only(void **state)
{
    struct kvm kvm = {.fd = -1, .vm_fd = -1};

    (void)state;
    assert_false(kvm_slots_wait(&kvm)); /* there are none */
    kvm.chips_ns = now_ns();
    assert_true(kvm_slots_wait(&kvm));
    kvm.chips_ns -= NSEC_PER_SEC;
    assert_false(kvm_slots_wait(&kvm));
}

/* ---- the host's KVM ---- */

static void open_or_skip(struct kvm *kvm)
{
    if (access("/dev/kvm", R_OK | W_OK))
        skip();
    assert_int_equal(kvm_open(kvm, NULL), 0);
}

static void test_kvm_open_finds_usable_kvm(void **state)
{
    struct kvm kvm;
    struct err e;

    (void)state;
    open_or_skip(&kvm);

    assert_true(kvm.run_size >= sizeof(struct kvm_run));
    assert_true(fcntl(kvm.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(kvm_check_capabilities(&kvm, NULL, NULL, &e), 0);
    assert_int_equal(kvm_capability(&kvm, 99999), 0);
    kvm_close(&kvm);
}

static void test_kvm_vm_made_ahead_is_the_one_that_gets_its_memory(void **state)
{
    struct kvm_userspace_memory_region again = {.slot = 31, .memory_size = PAGE_SIZE};
    struct kvm kvm;
    struct mem mem;
    int vm_fd;

    (void)state;
    open_or_skip(&kvm);
    assert_int_equal(kvm_make_vm(&kvm, NULL), 0);
    assert_int_equal(kvm_make_chips(&kvm, NULL), 0);
    vm_fd = kvm.vm_fd;
    assert_int_equal(mem_create(&mem, 4 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    assert_int_equal(kvm_vm_create(&kvm, &mem, false, &no_registers, NULL), 0);

    assert_int_equal(kvm.vm_fd, vm_fd);
    again.userspace_addr = (uintptr_t)mem.region[0].hva;
    assert_int_equal(ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &again), -1);
    assert_int_equal(errno, EEXIST);
    kvm_close(&kvm);
    mem_destroy(&mem);
}

static void create_vm(struct kvm *kvm, struct mem *mem, uint64_t size, bool log_dirty)
{
    open_or_skip(kvm);
    assert_int_equal(mem_create(mem, size, MEM_PAGES_DEFAULT, log_dirty, NULL), 0);
    assert_int_equal(kvm_vm_create(kvm, mem, log_dirty, &no_registers, NULL), 0);
}

static void destroy_vm(struct kvm *kvm, struct mem *mem)
{
    kvm_close(kvm);
    mem_destroy(mem);
}

static void test_kvm_vm_create_registers_every_region(void **state)
{
    struct kvm kvm;
    struct mem mem;

    (void)state;
    create_vm(&kvm, &mem, MEM_HOLE32_START + 64 * MIB, false);

    /* Each slot is taken: one more at the same addresses overlaps. */
    for (unsigned i = 0; i < mem.count; i++) {
        struct kvm_userspace_memory_region again = {
            .slot = 31,
            .guest_phys_addr = mem.region[i].gpa.v,
            .memory_size = PAGE_SIZE,
            .userspace_addr = (uintptr_t)mem.region[i].hva,
        };

        assert_int_equal(ioctl(kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &again), -1);
        assert_int_equal(errno, EEXIST);
    }
    destroy_vm(&kvm, &mem);
}

/* Whether KVM keeps a dirty log of slot `slot`, of at most 4 MiB. */
static bool has_dirty_log(const struct kvm *kvm, uint32_t slot)
{
    static uint64_t bitmap[4 * MIB / PAGE_SIZE / 64];
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

    return ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) == 0;
}

static void test_kvm_vm_create_registers_what_devices_added(void **state)
{
    uint64_t plugged = 1;
    struct mem_region file = {.size = 2 * MIB, .read_only = true}, ram = {.size = 2 * MIB};
    struct kvm kvm;
    struct mem mem;

    (void)state;
    open_or_skip(&kvm);
    assert_int_equal(mem_create(&mem, 4 * MIB, MEM_PAGES_DEFAULT, true, NULL), 0);
    file.hva = mem.region[0].hva; /* any mapping will do */
    file.gpa = mem_device_base(&mem, 2 * MIB);
    assert_int_equal(mem_add_region(&mem, &file, NULL), 0);
    ram.hva = mem.region[0].hva + 2 * MIB;
    ram.gpa = mem_device_base(&mem, 2 * MIB);
    ram.plugged = &plugged;
    ram.block_shift = 21;
    assert_int_equal(mem_add_region(&mem, &ram, NULL), 0);

    assert_int_equal(kvm_vm_create(&kvm, &mem, true, &no_registers, NULL), 0);

    for (unsigned i = 0; i < 2; i++) {
        struct kvm_userspace_memory_region again = {
            .slot = 31,
            .guest_phys_addr = mem.device[i].gpa.v,
            .memory_size = PAGE_SIZE,
            .userspace_addr = (uintptr_t)mem.device[i].hva,
        };

        assert_int_equal(ioctl(kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &again), -1);
        assert_int_equal(errno, EEXIST);
    }
    assert_true(has_dirty_log(&kvm, 0));
    assert_false(has_dirty_log(&kvm, 1)); /* the file */
    assert_true(has_dirty_log(&kvm, 2));
    destroy_vm(&kvm, &mem);
}

static void test_kvm_vm_create_with_dirty_log_can_be_asked_for_it(void **state)
{
    static uint64_t bitmap[16 * MIB / PAGE_SIZE / 64];
    struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = bitmap};
    struct kvm kvm;
    struct mem mem;

    (void)state;
    create_vm(&kvm, &mem, 16 * MIB, true);

    assert_int_equal(ioctl(kvm.vm_fd, KVM_GET_DIRTY_LOG, &log), 0);
    destroy_vm(&kvm, &mem);
}

static void test_kvm_vm_create_of_memory_kvm_refuses_says_so(void **state)
{
    struct kvm kvm;
    struct mem mem;
    struct err e;

    (void)state;
    open_or_skip(&kvm);
    assert_int_equal(mem_create(&mem, 2 * MIB, MEM_PAGES_DEFAULT, false, NULL), 0);
    mem.region[0].size -= 1; /* not a multiple of a page */

    assert_int_equal(kvm_vm_create(&kvm, &mem, false, &no_registers, &e), -EINVAL);
    assert_non_null(strstr(e.text, "Cannot give the VM its memory"));
    mem.region[0].size += 1;
    destroy_vm(&kvm, &mem);
}

/* The interrupts that the master 8259 holds for the processor. */
static uint8_t requested_by_pic(const struct kvm *kvm)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};

    assert_int_equal(ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chip), 0);
    return chip.chip.pic.irr;
}

static void test_kvm_pulse_irq_is_an_edge_on_its_line_alone(void **state)
{
    struct kvm kvm;
    struct mem mem;

    (void)state;
    create_vm(&kvm, &mem, 2 * MIB, false);
    assert_int_equal(requested_by_pic(&kvm), 0);

    kvm_pulse_irq(&kvm, 5);

    assert_int_equal(requested_by_pic(&kvm), 1 << 5);
    destroy_vm(&kvm, &mem);
}

static void test_kvm_ioeventfd_comes_and_goes_by_value(void **state)
{
    struct kvm kvm;
    struct mem mem;
    int fd;

    (void)state;
    create_vm(&kvm, &mem, 2 * MIB, false);
    fd = eventfd(0, EFD_CLOEXEC);

    assert_int_equal(kvm_ioeventfd(&kvm, fd, GPA(0xc0001050), 0, true, NULL), 0);
    assert_int_equal(kvm_ioeventfd(&kvm, fd, GPA(0xc0001050), 0, true, NULL), -EEXIST);
    assert_int_equal(kvm_ioeventfd(&kvm, fd, GPA(0xc0001050), 1, true, NULL), 0);
    assert_int_equal(kvm_ioeventfd(&kvm, fd, GPA(0xc0001050), 0, false, NULL), 0);
    assert_int_equal(kvm_ioeventfd(&kvm, fd, GPA(0xc0001050), 0, false, NULL), -ENOENT);
    assert_int_equal(kvm_ioeventfd(&kvm, fd, GPA(0xc0001050), 0, true, NULL), 0);
    close(fd);
    destroy_vm(&kvm, &mem);
}

static void test_kvm_irqfd_signal_is_an_edge_of_its_line(void **state)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct kvm kvm;
    struct mem mem;
    int fd;

    (void)state;
    create_vm(&kvm, &mem, 2 * MIB, false);
    fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(kvm_irqfd(&kvm, fd, 5, NULL), 0);
    assert_int_equal(kvm_irqfd(&kvm, fd, 6, NULL), -EBUSY); /* it has one already */
    assert_int_equal(write(fd, &(uint64_t){1}, 8), 8);
    for (unsigned i = 0; i < 1000 && requested_by_pic(&kvm) == 0; i++)
        nanosleep(&pause, NULL); /* a worker of the kernel raises it */
    assert_int_equal(requested_by_pic(&kvm), 1 << 5);
    close(fd);
    destroy_vm(&kvm, &mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kvm_open_without_device_says_what_to_load),
        cmocka_unit_test(test_kvm_open_without_permission_says_who_may),
        cmocka_unit_test(test_kvm_open_of_other_device_says_it_is_not_usable),
        cmocka_unit_test(test_kvm_open_without_descriptors_gives_reason),
        cmocka_unit_test(test_kvm_check_capabilities_names_number_of_missing_one),
        cmocka_unit_test(test_kvm_check_capabilities_asks_only_for_what_is_not_waived),
        cmocka_unit_test(test_kvm_calls_on_other_device_fail_with_sentence),
        cmocka_unit_test(test_kvm_close_twice_closes_once),
        cmocka_unit_test(test_kvm_slots_wait_for_young_interrupt_controllers_only),
        cmocka_unit_test(test_kvm_open_finds_usable_kvm),
        cmocka_unit_test(test_kvm_vm_made_ahead_is_the_one_that_gets_its_memory),
        cmocka_unit_test(test_kvm_vm_create_registers_every_region),
        cmocka_unit_test(test_kvm_vm_create_registers_what_devices_added),
        cmocka_unit_test(test_kvm_vm_create_with_dirty_log_can_be_asked_for_it),
        cmocka_unit_test(test_kvm_vm_create_of_memory_kvm_refuses_says_so),
        cmocka_unit_test(test_kvm_pulse_irq_is_an_edge_on_its_line_alone),
        cmocka_unit_test(test_kvm_ioeventfd_comes_and_goes_by_value),
        cmocka_unit_test(test_kvm_irqfd_signal_is_an_edge_of_its_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
