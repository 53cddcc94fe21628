/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest guest: two bytes on the serial port, then a pulse on the reset line. Entered by the
 * 64-bit boot protocol; needs no memory, no stack and no tables.
 */
    .code64
    .globl _start
_start:
    mov $0x3f8, %dx
    mov $'M', %al
    outb %al, %dx
    mov $'\n', %al
    outb %al, %dx
    mov $0x64, %dx
    mov $0xfe, %al
    outb %al, %dx
1:  hlt
    jmp 1b
