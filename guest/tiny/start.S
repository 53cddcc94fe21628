/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry of the tiny guest by Linux's 64-bit boot protocol (rsi: zero page; paging on, interrupts
 * off, CPL 0), and its way down to CPL 3, where it stays.
 *
 * On a KVM that has no hardware virtualisation beneath it, code at CPL 0 is interpreted and code at
 * CPL 3 is not. So as little as possible happens here: the page tables, say, are data of the file,
 * since a loop that fills them would take longer than all else.
 */
    .set USER_CODE, 0x18 | 3
    .set USER_DATA, 0x20 | 3
    .set TSS, 0x28
    .set TSS_SIZE, 104
    .set PORTS, 0x400

#ifdef PVH
/* The other way in, for monitors that boot by PVH: 32-bit protected mode without paging, ebx:
   struct hvm_start_info. The note says where; a file that has it may be entered either way. */
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                  /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long pvh_start

    .section .text.start, "ax"
    .code32
pvh_start:
    mov %cr4, %eax
    or $0x20, %eax                  /* PAE */
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx           /* EFER: LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax            /* PG */
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $1f
    .code64
1:  mov %ebx, %edx                  /* the third argument register, for a moment */
    xor %esi, %esi
    jmp 2f
#endif

    .section .text.start, "ax"
    .code64
    .globl _start
_start:
    xor %edx, %edx
2:  lea stack_top(%rip), %rsp
    mov %rsi, %rdi                  /* tiny_main(zero page, start info) */
    mov %rdx, %rsi

    mov $tss, %eax                  /* the descriptor holds the TSS's address in pieces */
    mov %ax, gdt_tss + 2(%rip)
    shr $16, %eax
    mov %al, gdt_tss + 4(%rip)
    mov %ah, gdt_tss + 7(%rip)
    lgdt gdt_pointer(%rip)
    lidt idt_pointer(%rip)
    mov $pml4, %eax
    mov %rax, %cr3
    mov $TSS, %ax
    ltr %ax

    xor %ebp, %ebp
    mov %rsp, %rax
    push $USER_DATA                 /* the frame of an interrupt that came from tiny_main */
    push %rax
    push $0x3002                    /* rflags: IOPL 3 */
    push $USER_CODE
    push $tiny_start
    iretq

    .section .text
    .globl tiny_start
tiny_start:
    call tiny_main
    ud2                             /* never: tiny_main ends the machine */

    .section .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* 0x08: kernel code */
    .quad 0x00cf93000000ffff        /* 0x10: kernel data */
    .quad 0x00affb000000ffff        /* 0x18: user code */
    .quad 0x00cff3000000ffff        /* 0x20: user data */
gdt_tss:
    .quad 0x0000890000000000 | (TSS_SIZE + PORTS / 8)
    .quad 0
gdt_pointer:
    .word . - gdt - 1
    .quad gdt
idt_pointer:                        /* empty: every fault becomes a triple fault */
    .word 0
    .quad 0

    /* Port I/O from CPL 3 is by the permission bitmap (a clear bit permits): IOPL alone does not do
       after an interpreted iretq. */
    .balign 16
tss:
    .skip 102
    .word TSS_SIZE                  /* where the bitmap begins */
    .skip PORTS / 8
    .byte 0xff                      /* its end, as the architecture wants it */

    /* The first 4 GiB one to one, in 2 MiB pages that user code may write. */
    .balign 4096
pml4:
    .quad pdpt + 7
    .skip 4096 - 8
pdpt:
    .quad pd + 0x0007, pd + 0x1007, pd + 0x2007, pd + 0x3007
    .skip 4096 - 32
pd:
    .set page, 0
    .rept 2048
    .quad page + 0x87
    .set page, page + 0x200000
    .endr

    .section .bss
    .balign 16
    .skip 16384
stack_top:
