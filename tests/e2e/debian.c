/* SPDX-License-Identifier: Apache-2.0 */
/* A stock Debian kernel with its own modules and a real userland, as on any Debian machine. */
#include "tests/e2e/e2e.h"
#include "tests/e2e/linux.h"
#include "tests/e2e/snap.h"
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

/* What a clone draws. It ends thereafter: it has the disk that the next one has. */
static char *random_of_clone(void)
{
    struct vm *vm = snap_revive("s", "");
    char *random;

    vm_type(vm, "\n");
    vm_expect(vm, PROMPT);
    shell(vm, "dmesg | grep -c 'crng reseeded due to virtual machine fork'", "\n1\r\n");
    vm_type(vm, "head -c 32 /dev/urandom | od -An -tx1 -w32 | tr -d ' \\n'; echo =RAN''DOM\n");
    vm_expect(vm, "=RANDOM\r\n");
    random = strndup(strstr(vm_out(vm), "=RANDOM\r\n") - 64, 64);
    monitor_end(&vm->monitor);
    return random;
}

E2E(two_clones_of_a_stock_debian_draw_different_random_numbers_with_no_help, DEBIAN | LINUX)
{
    struct vm *vm = debian(1);
    shell(vm, "dmesg | grep -c 'crng reseeded due to virtual machine fork'", "\n0\r\n");
    snap_take(vm, "s");
    monitor_end(&vm->monitor);
    char *one = random_of_clone(), *other = random_of_clone();
    CHECK_INT(strspn(one, "0123456789abcdef"), 64);
    CHECK(strcmp(one, other) != 0);
}
