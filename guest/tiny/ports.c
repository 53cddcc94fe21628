/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiny=ports seed=S count=N: N accesses, the same for the same seed, of all widths to the ports of
 * a PC and to all of the memory in which devices may be, at places where there is one and where
 * there is none. What would end the machine is left out; the serial port is put in order at the
 * end.
 *
 * Last words: "PORTS done N".
 */

#include "guest/init/pattern.h"
#include "tiny.h"

#define PORTS       0x400 /* of which the I/O permission bitmap of start.S lets us have all */
#define SERIAL      0x3f8
#define KEYBOARD    0x60 /* and 0x64: of its commands some reset the machine */
#define DEVICES     0xc0000000UL
#define DEVICES_LEN 0x20000UL

static uint64_t state;

static uint64_t below(uint64_t n)
{
    return pattern_mix(++state) % n;
}

static uint32_t value(void)
{
    uint64_t v = pattern_mix(++state);

    return (uint32_t)(below(2) ? v & 0xff : v);
}

static void write_port(uint16_t port, uint32_t v, uint64_t width)
{
    if (port + width > KEYBOARD && port <= KEYBOARD + 4 &&
        (width > 1 || (v & 0xf0) == 0xf0 || (v & 0xff) == 0xd1))
        return;
    if (width == 1)
        outb(port, (uint8_t)v);
    else if (width == 2)
        __asm__ volatile("outw %w0, %1" : : "a"(v), "Nd"(port));
    else
        __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static void read_port(uint16_t port, uint64_t width)
{
    uint32_t v;

    if (width == 1)
        (void)inb(port);
    else if (width == 2)
        __asm__ volatile("inw %1, %w0" : "=a"(v) : "Nd"(port));
    else
        __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
}

/* Many in one exit. */
static void string(uint16_t port, uint64_t count)
{
    void *at = (void *)SCRATCH;

    if (port >= KEYBOARD && port <= KEYBOARD + 4)
        return;
    if (below(2))
        __asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(port) : "memory");
    else
        __asm__ volatile("rep insb" : "+D"(at), "+c"(count) : "d"(port) : "memory");
}

static void device_memory(void)
{
    uint64_t at = DEVICES + (below(2) ? below(DEVICES_LEN) : below(32) * 0x1000 + below(0x110));

    switch (below(8)) {
    case 0:
        *(volatile uint8_t *)at = (uint8_t)value();
        break;
    case 1:
        *(volatile uint16_t *)at = (uint16_t)value();
        break;
    case 2:
        write32(at, value());
        break;
    case 3:
        *(volatile uint64_t *)at = pattern_mix(++state);
        break;
    case 4:
        (void)*(volatile uint8_t *)at;
        break;
    case 5:
        (void)*(volatile uint64_t *)at;
        break;
    default:
        (void)read32(at);
        break;
    }
}

static void access_something(void)
{
    static const uint16_t inhabited[] = {0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71};
    uint16_t port = (uint16_t)below(PORTS);
    uint64_t width = 1U << below(3);

    if (below(3) == 0)
        port = (uint16_t)(SERIAL + below(8) - below(2));
    else if (below(2))
        port = inhabited[below(sizeof(inhabited) / sizeof(*inhabited))];
    if (port + width > PORTS)
        width = 1;
    switch (below(8)) {
    case 0:
    case 1:
    case 2:
        write_port(port, value(), width);
        break;
    case 3:
    case 4:
        read_port(port, width);
        break;
    case 5:
        string(port, 1 + below(300));
        break;
    default:
        device_memory();
        break;
    }
}

void mode_ports(void)
{
    uint64_t count = option("count", 10000);

    state = pattern_mix(option("seed", 1));
    for (uint64_t i = 0; i < count; i++)
        access_something();
    outb(SERIAL + 3, 0x03); /* the data register, eight bits */
    outb(SERIAL + 1, 0);    /* no interrupts */
    outb(SERIAL + 4, 0x08); /* no loop */
    print("\nPORTS done %u\n", count);
}
