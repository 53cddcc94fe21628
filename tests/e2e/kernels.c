/* SPDX-License-Identifier: Apache-2.0 */
/* Real kernels in every format, on every shape of machine, to each of their ends. */
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/support/clock.h"
#include "tests/support/files.h"

#include <elf.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a kernel says of how it was entered: 0xff by the Linux boot protocol, 0xb0 by PVH. */
enum { ENTERED_BY_LINUX = 255, ENTERED_BY_PVH = 176 };

static int entered_by(struct vm *vm)
{
    return atoi(ask(vm, "cat /proc/sys/kernel/bootloader_type"));
}

/* Renames the owner of every note of that owner, so that nobody knows them any more. */
static void spoil_notes(char *file, size_t len, const char *owner)
{
    Elf64_Ehdr header;
    memcpy(&header, file, sizeof(header));
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, file + header.e_phoff + i * sizeof(segment), sizeof(segment));
        if (segment.p_type != PT_NOTE || segment.p_offset + segment.p_filesz > len)
            continue;
        for (size_t at = segment.p_offset; at + 12 < segment.p_offset + segment.p_filesz;) {
            Elf64_Nhdr note;
            memcpy(&note, file + at, sizeof(note));
            if (!strcmp(file + at + sizeof(note), owner))
                file[at + sizeof(note)] = '?';
            at += sizeof(note) + ((note.n_namesz + 3U) & ~3U) + ((note.n_descsz + 3U) & ~3U);
        }
    }
}

/* The reference kernel without the notes of one owner. */
static const char *kernel_without_notes(const char *owner)
{
    struct text t = {0};
    const char *path = e2e_path("vmlinux");
    CHECK_INT(text_read_file(&t, e2e_guest(REFERENCE_ELF)), 0);
    spoil_notes(t.data, t.len, owner);
    CHECK_INT(files_write(path, t.data, t.len), 0);
    text_free(&t);
    return path;
}

static void is_entered_by(const char *kernel, int how)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 128);
    linux_start(vm, kernel, TEST_INITRD, "");
    CHECK_INT(entered_by(vm), how);
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

/* Although it has the note for PVH, too: entered there, Linux looks for Xen at length. */
E2E(an_elf_kernel_of_linux_is_entered_by_the_64_bit_protocol, LINUX | INTEL | SANITIZER)
{
    is_entered_by(REFERENCE_ELF, ENTERED_BY_LINUX);
}

E2E(an_elf_kernel_without_a_pvh_note_is_entered_by_the_64_bit_protocol, LINUX)
{
    is_entered_by(kernel_without_notes("Xen"), ENTERED_BY_LINUX);
}

E2E(an_elf_kernel_that_is_not_known_as_linux_is_entered_by_its_pvh_note, LINUX | INTEL)
{
    is_entered_by(kernel_without_notes("Linux"), ENTERED_BY_PVH);
}

E2E(a_bzimage_boots_with_an_initrd, LINUX | INTEL)
{
    is_entered_by(REFERENCE_IMAGE, ENTERED_BY_LINUX);
}

/* A copy of a guest image that the test may write to. */
static const char *copy_of(const char *name)
{
    const char *path = e2e_path(name);
    CHECK_INT(files_copy(e2e_guest(name), path), 0);
    return path;
}

static void boots_from_root_drive(const char *kernel)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 128);
    vm_put(vm, "/drives/root",
           "{\"drive_id\":\"root\",\"is_root_device\":true,\"path_on_host\":\"%s\"}",
           copy_of(TEST_ROOT));
    linux_start(vm, kernel, NULL, "");
    CHECK_HAS(ask(vm, "cmdline"), "root=/dev/vda rw");
    CHECK_HAS(ask(vm, "cat /proc/mounts"), "/dev/root / ext4 rw");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(an_elf_kernel_boots_from_its_root_drive_without_an_initrd, LINUX | INTEL | SANITIZER)
{
    boots_from_root_drive(REFERENCE_ELF);
}

E2E(a_bzimage_boots_from_its_root_drive_without_an_initrd, LINUX)
{
    boots_from_root_drive(REFERENCE_IMAGE);
}

E2E(a_root_drive_is_found_by_the_partuuid_of_an_mbr, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 128);
    vm_put(vm, "/drives/root",
           "{\"drive_id\":\"root\",\"is_root_device\":true,\"is_read_only\":true,"
           "\"partuuid\":\"%s\",\"path_on_host\":\"%s\"}",
           TEST_PARTUUID, e2e_guest(TEST_ROOT_MBR));
    linux_start(vm, FULL_ELF, NULL, "");
    CHECK_HAS(ask(vm, "cmdline"), "root=PARTUUID=" TEST_PARTUUID " ro");
    CHECK_HAS(ask(vm, "cat /proc/mounts"), "/dev/root / ext4 ro");
}

/* ---- machines ------------------------------------------------------------------------------- */

static void has_memory(const char *kernel, unsigned mib, unsigned at_least_mib)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, mib);
    linux_start(vm, kernel, TEST_INITRD, "");
    unsigned long long kib = number_of(ask(vm, "mem"), "total_kib");
    if (kib / 1024 < at_least_mib || kib / 1024 > mib)
        FAIL("the guest has %llu MiB of %u", kib / 1024, mib);
}

E2E(sixty_four_mib_suffice, LINUX)
{
    has_memory(REFERENCE_ELF, 64, 50);
}

E2E(three_gib_end_at_the_hole, LINUX)
{
    has_memory(REFERENCE_ELF, 3072, 2900);
}

E2E(five_gib_are_all_there, LINUX)
{
    has_memory(FULL_ELF, 5120, 4900);
}

E2E(memory_on_both_sides_of_the_hole_holds_what_is_written, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 3072 + 256);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    /* The kernel hands out high memory first: this much lies above 4 GiB, the rest below. */
    ask(vm, "touch 384");
}

static void has_cpus(unsigned n, const char *args)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, n, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, args);
    const char *cpus = ask(vm, "cpus");
    CHECK_INT(number_of(cpus, "online"), n);
    for (unsigned i = 0; i < n; i++) {
        char *line = text_format("cpu%u package=0 core=%u\n", i, i);
        CHECK_HAS(cpus, line);
        free(line);
    }
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(one_vcpu_is_one_core, LINUX)
{
    has_cpus(1, "");
}

E2E(two_vcpus_are_two_cores_of_a_package, LINUX | INTEL)
{
    has_cpus(2, "");
}

E2E(four_vcpus_are_four_cores_of_a_package, LINUX | SANITIZER)
{
    has_cpus(4, "");
}

E2E(thirty_two_vcpus_all_come_online, LINUX | SLOW)
{
    has_cpus(32, "");
}

E2E(vcpus_come_online_by_the_mp_table_alone, LINUX)
{
    has_cpus(4, "acpi=off");
}

E2E(with_smt_two_vcpus_share_a_core, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/machine-config", "{\"vcpu_count\":4,\"mem_size_mib\":192,\"smt\":true}");
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    const char *siblings =
        ask(vm, "cat /sys/devices/system/cpu/cpu1/topology/thread_siblings_list");
    CHECK(!strcmp(siblings, "0-1\n"));
    siblings = ask(vm, "cat /sys/devices/system/cpu/cpu3/topology/thread_siblings_list");
    CHECK(!strcmp(siblings, "2-3\n"));
}

static void boots_with(const char *kernel, const char *args)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 192);
    const char *disk = e2e_path("disk");
    CHECK_INT(files_make_sparse(disk, 1 << 20), 0);
    linux_drive(vm, "d", disk, "");
    linux_start(vm, kernel, TEST_INITRD, args);
    ask(vm, "write vda 64 1"); /* interrupts of devices arrive, too */
    ask(vm, "verify vda 64 1");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(a_kernel_without_acpi_boots, LINUX)
{
    boots_with(FULL_ELF, "acpi=off");
}

E2E(a_kernel_without_io_apic_boots, LINUX)
{
    boots_with(FULL_ELF, "noapic");
}

E2E(a_kernel_without_local_apic_boots, LINUX)
{
    boots_with(FULL_ELF, "nolapic");
}

E2E(a_kernel_without_acpi_and_io_apic_boots, LINUX)
{
    boots_with(FULL_ELF, "acpi=off noapic");
}

E2E(the_reference_kernel_without_io_apic_boots, LINUX)
{
    boots_with(REFERENCE_ELF, "noapic");
}

E2E(a_kernel_without_kvmclock_boots, LINUX)
{
    boots_with(FULL_ELF, "no-kvmclock");
}

E2E(a_kernel_without_acpi_and_kvmclock_boots, LINUX)
{
    boots_with(FULL_ELF, "acpi=off no-kvmclock");
}

E2E(the_reference_kernel_without_kvmclock_boots, LINUX | INTEL)
{
    boots_with(REFERENCE_ELF, "no-kvmclock");
}

E2E(a_kernel_without_local_apic_timer_boots, LINUX)
{
    boots_with(FULL_ELF, "lapic=notscdeadline");
}

E2E(the_full_bzimage_boots_with_all_of_acpi, LINUX)
{
    boots_with(FULL_IMAGE, "");
}

E2E(the_clock_is_kvms_and_keeps_time, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    const char *source = ask(vm, "clocksource");
    CHECK(!strcmp(source, "kvm-clock\n") || !strcmp(source, "tsc\n"));
    long long host = (long long)time(NULL);
    long long guest = (long long)number_of(ask(vm, "time"), "realtime");
    if (llabs(guest - host) > 5)
        FAIL("the guest's clock is %lld s away", guest - host);
}

E2E(entropy_comes_from_the_host, LINUX)
{
    struct vm *vm = vm_new(NULL);
    vm_put(vm, "/entropy", "{}");
    linux_boot(vm);
    CHECK_HAS(ask(vm, "cat /sys/class/misc/hw_random/rng_current"), "virtio_rng");
    const char *first = ask(vm, "random 64");
    const char *second = ask(vm, "random 64");
    CHECK_INT(strlen(first), 129);
    CHECK(strcmp(first, second));
}

E2E(a_console_under_load_loses_and_doubles_nothing, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_boot(vm);
    const char *answer = ask(vm, "lines 300");
    for (unsigned i = 0; i < 300; i++) {
        char start[32];
        snprintf(start, sizeof(start), "line %08u ", i);
        if (strncmp(answer, start, strlen(start)))
            FAIL("line %u is: %.80s", i, answer);
        answer = strchr(answer, '\n') + 1;
    }
}

E2E(the_boot_timer_is_stamped_by_init, LINUX)
{
    const char *args[] = {"--boot-timer", NULL};
    struct vm *vm = vm_new(args);
    const char *log = e2e_path("log");
    struct text t = {0};
    vm_put(vm, "/logger", "{\"log_path\":\"%s\",\"level\":\"Info\"}", log);
    linux_machine(vm, 1, 128);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "mayfly_boot_timer");
    text_read_file(&t, log);
    CHECK_HAS(text_str(&t), "Guest-boot-time =");
}

/* ---- ends ------------------------------------------------------------------------------------ */

E2E(poweroff_by_acpi_ends_with_exit_code_0, LINUX | INTEL | SANITIZER)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    linux_leave(vm, "poweroff");
    vm_exits(vm, 0);
}

E2E(reboot_on_four_vcpus_ends_with_exit_code_0, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 4, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    linux_leave(vm, "reboot");
    vm_exits(vm, 0);
}

E2E(a_kernel_that_reboots_by_triple_fault_ends_with_exit_code_1, LINUX | INTEL)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 128);
    linux_start(vm, REFERENCE_ELF, TEST_INITRD, "reboot=t");
    linux_leave(vm, "triple");
    vm_exits(vm, 1);
}

E2E(a_kernel_that_halts_stays_running_and_the_api_answers, LINUX | INTEL)
{
    struct vm *vm = vm_new(NULL);
    linux_boot(vm);
    linux_leave(vm, "halt");
    clock_sleep(e2e_ms(1000));
    CHECK(!strcmp(vm_state(vm), "Running"));
    kill(vm->monitor.process.pid, SIGTERM);
    vm_dies(vm, SIGTERM);
}

E2E(a_kernel_that_panics_and_reboots_ends_with_exit_code_0, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_boot(vm);
    linux_leave(vm, "crash");
    vm_expect(vm, "Kernel panic");
    vm_exits(vm, 0);
}

E2E(ctrl_alt_del_makes_linux_reboot, LINUX)
{
    struct vm *vm = vm_new(NULL);
    linux_machine(vm, 1, 192);
    linux_start(vm, FULL_ELF, TEST_INITRD, "");
    ask(vm, "cad on");
    vm_put(vm, "/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
    vm_exits(vm, 0);
}
