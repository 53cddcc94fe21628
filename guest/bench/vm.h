/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least a program must do to run a guest by KVM's ioctls. Shared by floor.c and kfloor.c, which
 * show how fast a monitor can be at all; so nothing here is checked that need not be, and nothing
 * is done that a guest does not need.
 */
#ifndef MAYFLY_GUEST_BENCH_VM_H
#define MAYFLY_GUEST_BENCH_VM_H

#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <asm/bootparam.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Where things lie in guest memory, as the 64-bit boot protocol leaves us free to choose. */
enum {
    GPA_GDT = 0x500,
    GPA_ZERO_PAGE = 0x7000,
    GPA_STACK = 0x8ff0,
    GPA_PML4 = 0x9000,
    GPA_PDPT = 0xa000,
    GPA_PD = 0xb000,
    GPA_CMDLINE = 0x20000,
    GPA_LOW_END = 0x9fc00, /* end of conventional memory; the MP table follows */
    GPA_HIGH = 0x100000,
};

enum {
    PORT_SERIAL = 0x3f8,
    PORT_RESET = 0x64,
    RESET_PULSE = 0xfe,
};

#define HUGE_PAGE (2UL << 20)

struct vm {
    int kvm, fd, vcpu;
    struct kvm_run *run;
    uint8_t *mem;
    size_t mem_size;
};

struct cpuid {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[256];
};

/* Opens KVM and makes a VM over the memory that is there. The slot comes before the interrupt
   chips: later it would cost far more. */
static inline void vm_create_over(struct vm *vm)
{
    vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm < 0)
        err(1, "/dev/kvm");
    vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
    if (vm->fd < 0)
        err(1, "KVM_CREATE_VM");

    struct kvm_userspace_memory_region slot = {
        .memory_size = vm->mem_size,
        .userspace_addr = (uintptr_t)vm->mem,
    };
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot))
        err(1, "KVM_SET_USER_MEMORY_REGION");
}

/* Addresses for `mem_size` bytes of guest memory, 2 MiB aligned so that one nested fault can map as
   much. */
static inline void vm_reserve(struct vm *vm, size_t mem_size, int prot)
{
    void *area =
        mmap(NULL, mem_size + HUGE_PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (area == MAP_FAILED)
        err(1, "mmap");
    vm->mem = (uint8_t *)(((uintptr_t)area + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    vm->mem_size = mem_size;
}

/* A VM with new memory. */
static inline void vm_create(struct vm *vm, size_t mem_size)
{
    vm_reserve(vm, mem_size, PROT_READ | PROT_WRITE);
    vm_create_over(vm);
}

static inline void vm_create_vcpu(struct vm *vm)
{
    vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
    if (vm->vcpu < 0)
        err(1, "KVM_CREATE_VCPU");
    int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    vm->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
    if (vm->run == MAP_FAILED)
        err(1, "mmap of the vCPU");
}

static inline void vm_read(struct vm *vm, int fd, uint64_t gpa, size_t len, off_t offset)
{
    if (gpa > vm->mem_size || len > vm->mem_size - gpa)
        errx(1, "the file does not fit into %zu MiB", vm->mem_size >> 20);
    if (pread(fd, vm->mem + gpa, len, offset) != (ssize_t)len)
        err(1, "reading a guest file");
}

/* Loads the ELF64 file `path` to its physical addresses and returns its entry point. */
static inline uint64_t vm_load_elf(struct vm *vm, const char *path)
{
    uint8_t head[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err(1, "%s", path);
    ssize_t got = pread(fd, head, sizeof(head), 0);
    const Elf64_Ehdr *eh = (const void *)head;
    if (got < (ssize_t)sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
        eh->e_phoff + eh->e_phnum * sizeof(Elf64_Phdr) > (size_t)got)
        errx(1, "%s: not an ELF file this program can load", path);
    const Elf64_Phdr *ph = (const void *)(head + eh->e_phoff);
    for (int i = 0; i < eh->e_phnum; i++) {
        if (ph[i].p_type == PT_LOAD && ph[i].p_filesz)
            vm_read(vm, fd, ph[i].p_paddr, ph[i].p_filesz, (off_t)ph[i].p_offset);
    }
    close(fd);
    return eh->e_entry;
}

/* The zero page of the boot protocol: command line and memory map. */
static inline struct boot_params *vm_zero_page(struct vm *vm, const char *cmdline)
{
    struct boot_params *bp = (void *)(vm->mem + GPA_ZERO_PAGE);
    size_t len = strlen(cmdline);

    if (len >= 2048)
        errx(1, "the command line is too long");
    memcpy(vm->mem + GPA_CMDLINE, cmdline, len + 1);
    bp->hdr.boot_flag = 0xaa55;
    bp->hdr.header = 0x53726448; /* "HdrS" */
    bp->hdr.type_of_loader = 0xff;
    bp->hdr.kernel_alignment = 0x1000000;
    bp->hdr.cmd_line_ptr = GPA_CMDLINE;
    bp->hdr.cmdline_size = (uint32_t)len;
    bp->e820_entries = 2;
    bp->e820_table[0] = (struct boot_e820_entry){.size = GPA_LOW_END, .type = 1};
    bp->e820_table[1] =
        (struct boot_e820_entry){.addr = GPA_HIGH, .size = vm->mem_size - GPA_HIGH, .type = 1};
    return bp;
}

/* What vm_registers points to: the first GiB mapped one to one, and a GDT. */
static inline void vm_page_tables(struct vm *vm)
{
    uint64_t *pml4 = (void *)(vm->mem + GPA_PML4), *pdpt = (void *)(vm->mem + GPA_PDPT);
    uint64_t *pd = (void *)(vm->mem + GPA_PD), *gdt = (void *)(vm->mem + GPA_GDT);

    pml4[0] = GPA_PDPT | 3;
    pdpt[0] = GPA_PD | 3;
    for (uint64_t i = 0; i < 512; i++)
        pd[i] = i * HUGE_PAGE | 0x83;
    gdt[1] = 0x00af9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    gdt[3] = 0x008f8b000000ffff;
}

/* Long mode by those tables, and rip at `entry`. */
static inline void vm_registers(struct vm *vm, uint64_t entry)
{
    struct kvm_segment code = {
        .limit = ~0U, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data = {
        .limit = ~0U, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    struct kvm_sregs sregs;
    struct kvm_regs regs = {
        .rip = entry, .rflags = 2, .rsp = GPA_STACK, .rbp = GPA_STACK, .rsi = GPA_ZERO_PAGE};

    ioctl(vm->vcpu, KVM_GET_SREGS, &sregs);
    sregs.gdt.base = GPA_GDT;
    sregs.gdt.limit = 31;
    sregs.cr3 = GPA_PML4;
    sregs.cr4 |= 0x20;       /* PAE */
    sregs.cr0 |= 0x80000001; /* PG, PE */
    sregs.efer |= 0x500;     /* LMA, LME */
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) || ioctl(vm->vcpu, KVM_SET_REGS, &regs))
        err(1, "KVM_SET_SREGS, KVM_SET_REGS");
}

static inline void vm_set_entry(struct vm *vm, uint64_t entry)
{
    vm_page_tables(vm);
    vm_registers(vm, entry);
}

#endif
