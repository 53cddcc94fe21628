/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the tiny guest share: ports, device memory, the command line and the serial
 * port. There is no C library here and no interrupt: everything is polled.
 */
#ifndef MAYFLY_GUEST_TINY_H
#define MAYFLY_GUEST_TINY_H

#include <stddef.h>
#include <stdint.h>

/* Memory beyond the program that a mode may use as it likes: 8 to 16 MiB. Whoever boots this guest
   gives it at least 17 MiB. */
#define SCRATCH      0x800000UL
#define SCRATCH_SIZE 0x800000UL

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline uint32_t read32(uint64_t address)
{
    return *(volatile uint32_t *)address;
}

static inline void write32(uint64_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}

/* Keeps the compiler from moving memory accesses across; x86 itself needs no more, except that a
   store must not be passed by a later load: fence(). */
static inline void barrier(void)
{
    __asm__ volatile("" : : : "memory");
}

static inline void fence(void)
{
    __asm__ volatile("mfence" : : : "memory");
}

/* The compiler may call these on its own. */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* The number after "NAME=" on the command line (decimal or 0x...), or `otherwise`. */
uint64_t option(const char *name, uint64_t otherwise);

/* The text after "NAME=" in the `n`th word of that name, or NULL; ends at a blank or at 0. */
const char *option_text(const char *name, unsigned int n);

/* Reads digits at *text and moves it past them. */
uint64_t read_number(const char **text);

/* Prints text in which %u is a uint64_t in decimal and %x one in hex, each taken in turn. */
void print(const char *format, ...);

/* Tells the serial port that bytes are wanted even if it is not asked for them all the time. */
void receive_always(void);

/* Takes a byte from the serial port; 0 if none has come. */
int take_byte(uint8_t *byte);

/* Prints "WHO WHAT cycles/op N us/op N.NNN"; the latter is 0 where the TSC's frequency is not
   known. */
void report(const char *who, const char *what, uint64_t cycles, uint64_t ops);

/* Lets a fifth of a second pass (at 2.5 GHz), in which whoever measures gives the guest's processor
   its place: before any time is taken. */
void settle(void);

/* Pulls the reset line: the end. */
__attribute__((noreturn)) void reset_machine(void);

/* The modes that have files of their own. */
void mode_blk(void);
void mode_blk_bench(void);
void mode_rng(void);
void mode_fuzz(void);
void mode_ports(void);
void mode_net_bench(void);
void mode_vsock_bench(void);
void mode_ticks(void);

#endif
