/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h owns the one call by which a guest gets into memory: kernel, initrd, command line and the
 * tables that describe the machine. It knows nothing of KVM: what the first vCPU must hold comes
 * back as plain numbers.
 */
#ifndef MAYFLY_BOOT_BOOT_H
#define MAYFLY_BOOT_BOOT_H

#include "vmm/base/mem.h"

/* A virtio-mmio device as the guest will find it. */
struct boot_device {
    gpa_t base;
    uint32_t gsi;
};

enum boot_root {
    BOOT_ROOT_NONE,
    BOOT_ROOT_DRIVE, /* root=/dev/vda, or root=PARTUUID=... when there is one */
    BOOT_ROOT_PMEM,  /* root=/dev/pmemN */
};

struct boot_request {
    struct mem *mem;
    int kernel_fd;
    int initrd_fd;    /* -1 = none */
    const char *args; /* the user's part of the command line */
    enum boot_root root;
    const char *root_partuuid; /* NULL = none */
    unsigned root_pmem;        /* which of the persistent memories, from 0 */
    bool root_read_only;
    unsigned vcpu_count;
    uint32_t tsc_khz;                 /* rate of the guest's time stamp counter; 0 = not known */
    const struct boot_device *device; /* in the order of attachment */
    unsigned device_count;
};

/* The hidden part of a segment register, as descriptors have it (Intel SDM volume 3,
 * section 3.4.5). */
struct boot_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g;
};

/* What the first vCPU holds at the kernel's entry. cr0, cr4 and efer are bits to set. */
struct boot_cpu {
    uint64_t rip, rsp, rsi, rbx;
    uint64_t cr0, cr3, cr4, efer;
    struct boot_segment code, data, task;
    uint64_t gdt_base, idt_base;
    uint16_t gdt_limit, idt_limit;
};

enum boot_protocol { BOOT_LINUX64, BOOT_PVH };

struct boot_entry {
    enum boot_protocol protocol;
    struct boot_cpu cpu;
};

/* Whether args alone could be a command line: printable ASCII that fits. Checked when it is
 * configured. */
int boot_args_check(const char *args, struct err *e) __must_check;

/* Loads everything. On error guest memory is in an undefined state and must be thrown away. */
int boot_load(const struct boot_request *request, struct boot_entry *entry,
              struct err *e) __must_check;

#endif
