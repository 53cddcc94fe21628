/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bare guests: a handful of instructions in an ELF file, entered in 64-bit mode at 1 MiB with the
 * first GiB mapped. They run on any KVM and need no image from outside.
 */
#ifndef MAYFLY_TESTS_E2E_BARE_H
#define MAYFLY_TESTS_E2E_BARE_H

enum bare_guest {
    BARE_TICK,    /* "M\n" on the serial port for ever */
    BARE_RESET,   /* "M\n", then a reset by the keyboard controller */
    BARE_HALT,    /* "M\n", then HLT with interrupts off */
    BARE_TRIPLE,  /* "M\n", then an exception with an empty IDT */
    BARE_ASTRAY,  /* "M\n", then a jump to an address where there is no memory */
    BARE_ECHO,    /* "M\n", then every byte it is sent; 'q' resets */
    BARE_KEYS,    /* "M\n", then every byte of the keyboard controller, in hexadecimal */
    BARE_STAMP,   /* writes 123 to the boot timer, then "M\n", then ticks */
    BARE_FLOOD,   /* 65536 bytes, then a reset */
    BARE_E820,    /* the memory map: "address size type\n" in hexadecimal, then "M\n" and HLT */
    BARE_CMDLINE, /* the kernel command line in brackets, "M\n", HLT */
    BARE_NOBODY,  /* "port " and what an unclaimed port gives, "mmio " and an unclaimed address,
                     "M\n" */
    BARE_COUNT,   /* "M\n", then for every byte it is sent the next letter, from 'a' on */
    BARE_PACE,    /* counts for ever, in a register and in each of 64 pages of memory, and tells
                     it: eight hexadecimal digits and "\n"; "X" where the two differ */
    BARE_GUESTS
};

/* Writes the guest into the test's directory and returns its path. */
const char *bare_guest(enum bare_guest which);

#endif
