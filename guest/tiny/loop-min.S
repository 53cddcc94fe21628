/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that never ends: a line on the serial port every few hundred instructions. What is
 * snapshotted or cloned in the figures, since one byte of it shows that it runs.
 */
    .code64
    .globl _start
_start:
    mov $0x3f8, %dx
1:  mov $'M', %al
    outb %al, %dx
    mov $'\n', %al
    outb %al, %dx
    mov $200, %ecx
2:  dec %ecx
    jnz 2b
    jmp 1b
