/* SPDX-License-Identifier: Apache-2.0 */
/* A stock Debian kernel with its own modules and a real userland, as on any Debian machine. */
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/support/files.h"

#include <string.h>

enum { SYSTEMD_MS = 150000 };

#define PROMPT "root@mayfly-guest:~# "

/* Boots to the shell prompt that root's automatic login gives on the serial console. */
static struct vm *debian(unsigned vcpus)
{
    struct vm *vm = vm_new(NULL);
    const char *disk = e2e_path("rootfs");
    int ret = files_copy(e2e_guest("debian-rootfs.ext4"), disk);
    if (ret)
        FAIL("cannot copy the root disk: %s", strerror(-ret));
    linux_machine(vm, vcpus, 512);
    vm_put(vm, "/drives/root",
           "{\"drive_id\":\"root\",\"is_root_device\":true,\"path_on_host\":\"%s\"}", disk);
    vm_put(vm, "/boot-source",
           "{\"kernel_image_path\":\"%s\",\"initrd_path\":\"%s\","
           "\"boot_args\":\"console=ttyS0 quiet\"}",
           e2e_guest("debian-vmlinuz"), e2e_guest("debian-initrd.cpio"));
    vm_start(vm);
    if (!monitor_expect(&vm->monitor, PROMPT, e2e_ms(SYSTEMD_MS)))
        FAIL("no shell prompt");
    return vm;
}

/* Types a command line at the shell; what it prints must contain `part`. */
static void shell(struct vm *vm, const char *command, const char *part)
{
    vm_type(vm, text_format("%s\n", command));
    vm_expect(vm, part);
    vm_expect(vm, PROMPT);
}

/* Leaves by a command; systemd takes its time to stop everything. */
static void leaves_by(struct vm *vm, const char *command)
{
    vm_type(vm, text_format("%s\n", command));
    process_wait(&vm->monitor.process, e2e_ms(SYSTEMD_MS));
    vm_exits(vm, 0);
}

E2E(debian_on_one_vcpu_boots_to_a_shell_and_poweroff_ends_it, DEBIAN | LINUX)
{
    struct vm *vm = debian(1);
    shell(vm, "echo CPUs=$(nproc) PID1=$(cat /proc/1/comm)", "CPUs=1 PID1=systemd");
    shell(vm, "mount | grep ' / '", "type ext4 (rw");
    shell(vm, "echo data > /kept && sync && cat /kept", "data");
    leaves_by(vm, "poweroff");
}

E2E(debian_on_four_vcpus_boots_to_a_shell_and_reboot_ends_it, DEBIAN | LINUX)
{
    struct vm *vm = debian(4);
    shell(vm, "echo CPUs=$(nproc)", "CPUs=4");
    leaves_by(vm, "reboot");
}
