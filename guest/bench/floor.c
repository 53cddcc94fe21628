/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor ELF [COMMAND-LINE]: runs a guest that needs no kernel and prints what it writes to the
 * serial port, until it pulls the reset line. From exec to the guest's first byte this is the least
 * any monitor can take.
 */

#include "vm.h"

static void set_cpuid(struct vm *vm)
{
    struct cpuid cpuid = {.head.nent = 256};

    if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) || ioctl(vm->vcpu, KVM_SET_CPUID2, &cpuid))
        err(1, "CPUID");
}

static int run(struct vm *vm)
{
    for (;;) {
        if (ioctl(vm->vcpu, KVM_RUN, 0))
            err(1, "KVM_RUN");
        if (vm->run->exit_reason == KVM_EXIT_SHUTDOWN)
            errx(2, "the guest shut down (a fault it does not handle)");
        if (vm->run->exit_reason != KVM_EXIT_IO)
            errx(2, "exit reason %u", vm->run->exit_reason);

        uint8_t *data = (uint8_t *)vm->run + vm->run->io.data_offset;
        if (vm->run->io.direction == KVM_EXIT_IO_IN)
            memset(data, 0xff, vm->run->io.size * vm->run->io.count);
        else if (vm->run->io.port == PORT_SERIAL)
            (void)!write(1, data, vm->run->io.count);
        else if (vm->run->io.port == PORT_RESET && *data == RESET_PULSE)
            return 0;
    }
}

int main(int argc, char **argv)
{
    struct vm vm;

    if (argc < 2)
        errx(64, "usage: floor ELF [COMMAND-LINE]");
    vm_create(&vm, 128UL << 20);
    if (ioctl(vm.fd, KVM_CREATE_IRQCHIP, 0))
        err(1, "KVM_CREATE_IRQCHIP");
    vm_create_vcpu(&vm);
    set_cpuid(&vm);
    uint64_t entry = vm_load_elf(&vm, argv[1]);
    vm_zero_page(&vm, argc > 2 ? argv[2] : "");
    vm_set_entry(&vm, entry);
    return run(&vm);
}
