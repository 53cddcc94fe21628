/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kfloor VMLINUX INITRD COMMAND-LINE: boots a Linux kernel (ELF, 64-bit boot protocol, 64 MiB, one
 * CPU) with a serial port and nothing else, until it resets the machine. From exec to PID 1 this is
 * the least any monitor can take with that kernel.
 *
 * Exit status: 0 after a reset, 2 after a triple fault.
 */

#include "vm.h"

#define MEMORY         (64UL << 20)
#define LAPIC_ADDRESS  0xfee00000U
#define IOAPIC_ADDRESS 0xfec00000U
#define IOAPIC_PINS    24
#define SERIAL_IRQ     4

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

static uint8_t checksum(const uint8_t *data, size_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum = (uint8_t)(sum + *data++);
    return (uint8_t)-sum;
}

/* MP table (MultiProcessor Specification 1.4, chapter 4): one CPU, one I/O APIC, ISA interrupts. */
static void write_mp_table(struct vm *vm)
{
    uint8_t *pointer = vm->mem + GPA_LOW_END, *table = pointer + 16, *entry = table + 44;
    uint8_t entries = 0;

    memcpy(pointer, "_MP_", 4);
    put32(pointer + 4, GPA_LOW_END + 16);
    pointer[8] = 1; /* 16 bytes */
    pointer[9] = 4; /* version 1.4 */
    memcpy(table, "PCMP", 4);
    table[6] = 4;
    memcpy(table + 8, "FLOOR   000000000000", 20);
    put32(table + 36, LAPIC_ADDRESS);

    entry[2] = 0x14; /* processor: local APIC version, enabled and boot processor */
    entry[3] = 3;
    put32(entry + 4, 0x600);
    put32(entry + 8, 0x201);
    entry += 20, entries++;
    memcpy(entry, "\1\0ISA   ", 8); /* bus 0 */
    entry += 8, entries++;
    memcpy(entry, "\2\2\x11\1", 4); /* I/O APIC with id 2 */
    put32(entry + 4, IOAPIC_ADDRESS);
    entry += 8, entries++;
    for (uint8_t pin = 0; pin < IOAPIC_PINS; pin++, entry += 8, entries++)
        memcpy(entry, (uint8_t[]){3, 0, 0, 0, 0, pin, 2, pin}, 8);
    memcpy(entry, (uint8_t[]){4, 3, 0, 0, 0, 0, 0, 0}, 8); /* LINT0: ExtINT */
    entry += 8, entries++;
    memcpy(entry, (uint8_t[]){4, 1, 0, 0, 0, 0, 0xff, 1}, 8); /* LINT1: NMI */
    entry += 8, entries++;

    size_t len = (size_t)(entry - table);
    memcpy(table + 4, &(uint16_t){(uint16_t)len}, 2);
    table[34] = entries;
    table[7] = checksum(table, len);
    pointer[10] = checksum(pointer, 16);
}

static void load_initrd(struct vm *vm, struct boot_params *bp, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st))
        err(1, "%s", path);
    uint64_t gpa = (vm->mem_size - (uint64_t)st.st_size) & ~4095UL;
    vm_read(vm, fd, gpa, (size_t)st.st_size, 0);
    close(fd);
    bp->hdr.ramdisk_image = (uint32_t)gpa;
    bp->hdr.ramdisk_size = (uint32_t)st.st_size;
}

/* What KVM supports, and to it: hypervisor, TSC_DEADLINE (without it the guest calibrates its timer
   for 240 ms), x2APIC; one logical processor. */
static void set_cpuid(struct vm *vm)
{
    struct cpuid cpuid = {.head.nent = 256};

    if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid))
        err(1, "KVM_GET_SUPPORTED_CPUID");
    for (uint32_t i = 0; i < cpuid.head.nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid.entries[i];
        if (e->function == 1) {
            e->ecx |= 1U << 31 | 1U << 24 | 1U << 21;
            e->ebx = (e->ebx & 0xffff) | 1U << 16;
        }
    }
    if (ioctl(vm->vcpu, KVM_SET_CPUID2, &cpuid))
        err(1, "KVM_SET_CPUID2");
}

static void set_fpu_and_lapic(struct vm *vm)
{
    struct kvm_fpu fpu = {.fcw = 0x37f, .mxcsr = 0x1f80};
    struct kvm_lapic_state lapic;

    ioctl(vm->vcpu, KVM_SET_FPU, &fpu);
    ioctl(vm->vcpu, KVM_GET_LAPIC, &lapic);
    memcpy(lapic.regs + 0x350, &(uint32_t){0x700}, 4); /* LINT0: ExtINT */
    memcpy(lapic.regs + 0x360, &(uint32_t){0x400}, 4); /* LINT1: NMI */
    ioctl(vm->vcpu, KVM_SET_LAPIC, &lapic);
}

/* A 16550 that is always ready to send and never has anything to receive. */
struct serial {
    uint8_t divisor[2], ier, lcr, mcr, scratch;
};

static void serial_out(struct vm *vm, struct serial *s, uint16_t reg, const uint8_t *data)
{
    int latch = s->lcr & 0x80;

    switch (reg) {
    case 0:
        if (latch)
            s->divisor[0] = *data;
        else
            (void)!write(1, data, vm->run->io.count);
        break;
    case 1:
        if (latch) {
            s->divisor[1] = *data;
        } else {
            s->ier = *data & 15;
            if (s->ier & 2) { /* "transmitter empty" is due at once */
                ioctl(vm->fd, KVM_IRQ_LINE, &(struct kvm_irq_level){{SERIAL_IRQ}, 1});
                ioctl(vm->fd, KVM_IRQ_LINE, &(struct kvm_irq_level){{SERIAL_IRQ}, 0});
            }
        }
        break;
    case 3:
        s->lcr = *data;
        break;
    case 4:
        s->mcr = *data;
        break;
    case 7:
        s->scratch = *data;
        break;
    default:
        break;
    }
}

static uint8_t serial_modem_status(const struct serial *s)
{
    if (!(s->mcr & 0x10))
        return 0xb0;
    /* Loopback: the outputs appear as inputs; the kernel looks for a port by this. */
    return (uint8_t)((s->mcr & 2) << 3 | (s->mcr & 1) << 5 | (s->mcr & 0xc) << 4);
}

static uint8_t serial_in(const struct serial *s, uint16_t reg)
{
    int latch = s->lcr & 0x80;

    switch (reg) {
    case 0:
        return latch ? s->divisor[0] : 0;
    case 1:
        return latch ? s->divisor[1] : s->ier;
    case 2:
        return s->ier & 2 ? 0xc2 : 0xc1;
    case 3:
        return s->lcr;
    case 4:
        return s->mcr;
    case 5:
        return 0x60;
    case 6:
        return serial_modem_status(s);
    default:
        return s->scratch;
    }
}

static int run(struct vm *vm)
{
    struct serial serial = {0};

    for (;;) {
        if (ioctl(vm->vcpu, KVM_RUN, 0) || vm->run->exit_reason == KVM_EXIT_MMIO)
            continue;
        if (vm->run->exit_reason == KVM_EXIT_SHUTDOWN)
            return 2;
        if (vm->run->exit_reason != KVM_EXIT_IO)
            errx(1, "exit reason %u", vm->run->exit_reason);

        uint8_t *data = (uint8_t *)vm->run + vm->run->io.data_offset;
        uint16_t port = vm->run->io.port;
        int is_serial = port >= PORT_SERIAL && port < PORT_SERIAL + 8;
        if (vm->run->io.direction == KVM_EXIT_IO_IN) {
            uint8_t value = is_serial ? serial_in(&serial, port - PORT_SERIAL) : 0;
            memset(data, value, vm->run->io.size * vm->run->io.count);
        } else if (is_serial) {
            serial_out(vm, &serial, port - PORT_SERIAL, data);
        } else if (port == PORT_RESET && *data == RESET_PULSE) {
            return 0;
        }
    }
}

int main(int argc, char **argv)
{
    struct vm vm;

    if (argc != 4)
        errx(64, "usage: kfloor VMLINUX INITRD COMMAND-LINE");
    vm_create(&vm, MEMORY);
    ioctl(vm.fd, KVM_SET_TSS_ADDR, 0xfffbd000);
    if (ioctl(vm.fd, KVM_CREATE_IRQCHIP, 0))
        err(1, "KVM_CREATE_IRQCHIP");
    vm_create_vcpu(&vm);
    set_cpuid(&vm);
    uint64_t entry = vm_load_elf(&vm, argv[1]);
    struct boot_params *bp = vm_zero_page(&vm, argv[3]);
    load_initrd(&vm, bp, argv[2]);
    write_mp_table(&vm);
    vm_set_entry(&vm, entry);
    set_fpu_and_lapic(&vm);
    return run(&vm);
}
