/* SPDX-License-Identifier: Apache-2.0 */
/* entry_x86_64.c: the vCPU's state at the kernel's first instruction. */
#include "vmm/boot/entry_x86_64.h"

#include "vmm/boot/layout.h"
#include "vmm/boot/tables.h"

/* Intel SDM volume 3: 2.5 (control registers), 2.2.1 (EFER), 3.4.5 (descriptors), 4.5 (paging). */
#define CR0_PE   0x1u
#define CR0_ET   0x10u /* fixed to 1 */
#define CR0_PG   0x80000000u
#define CR4_PAE  0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

#define PAGE_PRESENT  0x1u
#define PAGE_WRITABLE 0x2u
#define PAGE_HUGE     0x80u
#define PAGE_2M       (2 * MIB)
#define PAGE_ENTRIES  512

#define SEGMENT_CODE 0xb /* execute, read, accessed */
#define SEGMENT_DATA 0x3 /* read, write, accessed */
#define SEGMENT_TSS  0xb /* busy; 32-bit, or 64-bit in long mode */

/* Indices in the GDT; selectors are eight times as much. PVH and Linux want no special ones. */
enum { GDT_NULL, GDT_CODE, GDT_DATA, GDT_TASK, GDT_ENTRIES };

/* The descriptor from which a CPU would load `s` (SDM 3.4.5); the limit counts pages if g is 1. */
static uint64_t descriptor(const struct boot_segment *s)
{
    uint64_t limit = s->g ? s->limit >> 12 : s->limit;

    return (limit & 0xffff) | (s->base & 0xffffff) << 16 | (uint64_t)s->type << 40 |
           (uint64_t)s->s << 44 | (uint64_t)s->dpl << 45 | (uint64_t)s->present << 47 |
           (limit >> 16 & 0xf) << 48 | (uint64_t)s->l << 53 | (uint64_t)s->db << 54 |
           (uint64_t)s->g << 55 | (s->base >> 24 & 0xff) << 56;
}

static void set_segments(struct boot_cpu *cpu, enum boot_protocol protocol)
{
    bool long_mode = protocol == BOOT_LINUX64;
    struct boot_segment flat = {.limit = UINT32_MAX, .present = 1, .s = 1, .g = 1};

    cpu->code = flat;
    cpu->code.selector = GDT_CODE * 8;
    cpu->code.type = SEGMENT_CODE;
    cpu->code.l = long_mode;
    cpu->code.db = !long_mode;
    cpu->data = flat;
    cpu->data.selector = GDT_DATA * 8;
    cpu->data.type = SEGMENT_DATA;
    cpu->data.db = 1;
    /* PVH asks for the smallest TSS; entering a guest needs one in any case. */
    cpu->task = (struct boot_segment){
        .limit = 0x67, .selector = GDT_TASK * 8, .type = SEGMENT_TSS, .present = 1};
}

/* The IDT has one empty gate: an exception before the kernel has its own is a triple fault. */
static void write_descriptor_tables(struct mem *mem, struct boot_cpu *cpu)
{
    uint64_t gdt[GDT_ENTRIES] = {
        [GDT_CODE] = descriptor(&cpu->code),
        [GDT_DATA] = descriptor(&cpu->data),
        [GDT_TASK] = descriptor(&cpu->task),
    };
    uint64_t idt = 0;

    table_write(mem, LAYOUT_GDT, gdt, sizeof(gdt));
    cpu->gdt_base = LAYOUT_GDT;
    cpu->gdt_limit = sizeof(gdt) - 1;
    table_write(mem, LAYOUT_IDT, &idt, sizeof(idt));
    cpu->idt_base = LAYOUT_IDT;
    cpu->idt_limit = sizeof(idt) - 1;
}

static void write_page_tables(struct mem *mem)
{
    uint64_t pml4 = LAYOUT_PDPT | PAGE_WRITABLE | PAGE_PRESENT;
    uint64_t pdpt = LAYOUT_PD | PAGE_WRITABLE | PAGE_PRESENT;
    uint64_t pd[PAGE_ENTRIES];

    for (uint64_t i = 0; i < PAGE_ENTRIES; i++)
        pd[i] = i * PAGE_2M | PAGE_HUGE | PAGE_WRITABLE | PAGE_PRESENT;
    table_write(mem, LAYOUT_PML4, &pml4, sizeof(pml4)); /* the rest of the page is zero */
    table_write(mem, LAYOUT_PDPT, &pdpt, sizeof(pdpt));
    table_write(mem, LAYOUT_PD, pd, sizeof(pd));
}

static void set_linux64(struct mem *mem, struct boot_cpu *cpu)
{
    write_page_tables(mem);
    cpu->rsi = LAYOUT_ZERO_PAGE;
    cpu->rsp = LAYOUT_STACK;
    cpu->cr0 = CR0_PE | CR0_ET | CR0_PG;
    cpu->cr3 = LAYOUT_PML4;
    cpu->cr4 = CR4_PAE;
    cpu->efer = EFER_LME | EFER_LMA;
}

static void set_pvh(struct boot_cpu *cpu)
{
    cpu->rbx = LAYOUT_PVH_START_INFO;
    cpu->cr0 = CR0_PE | CR0_ET;
}

void entry_write(struct mem *mem, enum boot_protocol protocol, uint64_t rip,
                 struct boot_entry *entry)
{
    struct boot_cpu *cpu = &entry->cpu;

    *entry = (struct boot_entry){.protocol = protocol};
    cpu->rip = rip;
    set_segments(cpu, protocol);
    write_descriptor_tables(mem, cpu);
    if (protocol == BOOT_PVH)
        set_pvh(cpu);
    else
        set_linux64(mem, cpu);
}
