/* SPDX-License-Identifier: Apache-2.0 */
/* Two bytes on the serial port, then hlt with interrupts off: a guest that will never do anything
   again, though its machine runs. */
    .code64
    .globl _start
_start:
    mov $0x3f8, %dx
    mov $'M', %al
    outb %al, %dx
    mov $'\n', %al
    outb %al, %dx
    cli
1:  hlt
    jmp 1b
