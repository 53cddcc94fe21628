/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a load can cost at the least, by a program of bare ioctls:
 *
 *     shellfloor template FILE ELF   writes the memory of a guest that is about to begin
 *     shellfloor load FILE           prepares a VM with a slot over reserved addresses, its
 * interrupt chips and a vCPU; reads a byte; then maps the file into the reservation, sets the
 * registers, and prints what the guest says
 */

#include "vm.h"

#define MEM_SIZE (128UL << 20)
#define ENTRY    0x100000UL

static void make_template(const char *path, const char *elf)
{
    struct vm vm;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    vm_create(&vm, MEM_SIZE);
    if (vm_load_elf(&vm, elf) != ENTRY)
        errx(1, "%s does not begin at %#lx", elf, ENTRY);
    vm_page_tables(&vm);
    if (fd < 0 || ftruncate(fd, MEM_SIZE) || pwrite(fd, vm.mem, 2 * ENTRY, 0) != 2 * ENTRY ||
        close(fd))
        err(1, "%s", path);
}

/* All that can be done before anybody has said which guest it will be. */
static void prepare(struct vm *vm, struct cpuid *cpuid)
{
    vm_reserve(vm, MEM_SIZE, PROT_NONE);
    vm_create_over(vm);
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
        err(1, "KVM_CREATE_IRQCHIP");
    vm_create_vcpu(vm);
    if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid))
        err(1, "KVM_GET_SUPPORTED_CPUID");
}

static void load(const char *path)
{
    static struct cpuid cpuid = {.head.nent = 256};
    struct vm vm;
    char byte;

    prepare(&vm, &cpuid);
    if (read(0, &byte, 1) != 1)
        errx(1, "nobody asks for a load");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || mmap(vm.mem, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
                      MAP_FAILED)
        err(1, "%s", path);
    if (ioctl(vm.vcpu, KVM_SET_CPUID2, &cpuid))
        err(1, "KVM_SET_CPUID2");
    vm_registers(&vm, ENTRY);
    for (;;) {
        if (ioctl(vm.vcpu, KVM_RUN, 0))
            err(1, "KVM_RUN");
        if (vm.run->exit_reason != KVM_EXIT_IO)
            errx(2, "exit reason %u", vm.run->exit_reason);
        if (vm.run->io.port == PORT_SERIAL)
            (void)!write(1, (uint8_t *)vm.run + vm.run->io.data_offset, vm.run->io.count);
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "template") == 0)
        make_template(argv[2], argv[3]);
    else if (argc == 3 && strcmp(argv[1], "load") == 0)
        load(argv[2]);
    else
        errx(64, "usage: shellfloor template FILE ELF, shellfloor load FILE");
    return 0;
}
