/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiny guest: does the one thing that tiny=MODE on its command line names, says how it went on
 * the serial port and resets the machine. guest/README.md lists the modes.
 */

#include "tiny.h"

#include <cpuid.h>
#include <stdarg.h>

#define PORT_SERIAL     0x3f8
#define PORT_ENABLE     0x3f9
#define ENABLE_RECEIVED 0x01
#define PORT_STATUS     0x3fd
#define STATUS_RECEIVED 0x01
#define PORT_RESET      0x64
#define RESET_PULSE     0xfe
#define RESET_PATIENCE  5000000000UL /* cycles */
#define SETTLE_CYCLES   500000000UL

#define ZERO_PAGE_CMDLINE  0x228 /* struct setup_header's cmd_line_ptr */
#define START_INFO_CMDLINE 24    /* struct hvm_start_info's cmdline_paddr, its low half */

#define BOOT_TIMER    0xC0000000UL
#define BOOT_TIMER_UP 123

static const char *cmdline = "";

/* ---- what a C library would
 * have ---------------------------------------------------------------- */

void *memcpy(void *to, const void *from, size_t n)
{
    void *at = to;

    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
    return to;
}

void *memset(void *to, int byte, size_t n)
{
    void *at = to;

    __asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(byte) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;

    for (; n; n--, x++, y++) {
        if (*x != *y)
            return *x - *y;
    }
    return 0;
}

/* ---- the command
 * line --------------------------------------------------------------------------- */

/* Returns what follows `prefix` at `text`, or NULL if that begins otherwise. */
static const char *after(const char *text, const char *prefix)
{
    while (*prefix) {
        if (*text++ != *prefix++)
            return NULL;
    }
    return text;
}

const char *option_text(const char *name, unsigned int n)
{
    const char *at = cmdline, *value;

    while (*at) {
        value = after(at, name);
        if (value && *value == '=' && n-- == 0)
            return value + 1;
        while (*at && *at != ' ')
            at++;
        while (*at == ' ')
            at++;
    }
    return NULL;
}

uint64_t read_number(const char **text)
{
    const char *hex = after(*text, "0x");
    uint64_t value = 0, base = hex ? 16 : 10;

    for (*text = hex ? hex : *text;; (*text)++) {
        uint64_t digit;
        if (**text >= '0' && **text <= '9')
            digit = (uint64_t)(**text - '0');
        else if (hex && **text >= 'a' && **text <= 'f')
            digit = (uint64_t)(**text - 'a' + 10);
        else
            return value;
        value = value * base + digit;
    }
}

uint64_t option(const char *name, uint64_t otherwise)
{
    const char *text = option_text(name, 0);

    return text ? read_number(&text) : otherwise;
}

static int mode_is(const char *name)
{
    const char *text = option_text("tiny", 0), *rest = text ? after(text, name) : NULL;

    return rest && (*rest == '\0' || *rest == ' ');
}

/* ---- the serial
 * port ---------------------------------------------------------------------------- */

static void print_number(uint64_t value, unsigned int base)
{
    char digits[24];
    unsigned int n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n)
        outb(PORT_SERIAL, (uint8_t)digits[--n]);
}

void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    for (; *format; format++) {
        if (*format == '%')
            print_number(va_arg(args, uint64_t), *++format == 'x' ? 16 : 10);
        else
            outb(PORT_SERIAL, (uint8_t)*format);
    }
    va_end(args);
}

/* ----
 * time --------------------------------------------------------------------------------------- */

/* From the command line, from the hypervisor's timing leaf, or from the processor's own. */
static uint64_t tsc_khz(void)
{
    uint32_t a, b, c, d;
    uint64_t khz = option("tsc_khz", 0);

    if (khz)
        return khz;
    __cpuid(0x40000000, a, b, c, d);
    if (a >= 0x40000010 && a < 0x40010000) {
        __cpuid(0x40000010, a, b, c, d);
        if (a)
            return a;
    }
    __cpuid(0, a, b, c, d);
    if (a < 0x15)
        return 0;
    __cpuid(0x15, a, b, c, d);
    return a && b && c ? (uint64_t)c * b / a / 1000 : 0;
}

void report(const char *who, const char *what, uint64_t cycles, uint64_t ops)
{
    uint64_t khz = tsc_khz();
    uint64_t ns = khz ? cycles * 1000000 / khz / ops : 0;

    print(who);
    print(" ");
    print(what);
    print(" cycles/op %u us/op %u.%u%u%u\n", cycles / ops, ns / 1000, ns / 100 % 10, ns / 10 % 10,
          ns % 10);
}

void settle(void)
{
    for (uint64_t begin = rdtsc(); rdtsc() - begin < SETTLE_CYCLES;)
        __asm__ volatile("pause");
}

/* ----
 * modes -------------------------------------------------------------------------------------- */

/* A machine without that line is ended by a triple fault instead; one that has it gets the time it
   needs to stop us. */
void reset_machine(void)
{
    outb(PORT_RESET, RESET_PULSE);
    for (uint64_t begin = rdtsc(); rdtsc() - begin < RESET_PATIENCE;)
        ;
    __builtin_trap();
}

static void mode_hello(void)
{
    print("M\n");
}

static void mode_loop(void)
{
    for (;;) {
        print("M\n");
        for (unsigned int i = 0; i < 200; i++)
            barrier();
    }
}

void receive_always(void)
{
    outb(PORT_ENABLE, ENABLE_RECEIVED);
}

int take_byte(uint8_t *byte)
{
    if (!(inb(PORT_STATUS) & STATUS_RECEIVED))
        return 0;
    *byte = inb(PORT_SERIAL);
    return 1;
}

/* Gives back what comes in on the serial port, until a q. */
static void mode_echo(void)
{
    uint8_t byte = 0;

    print("READY\n");
    while (byte != 'q') {
        while (!take_byte(&byte))
            ;
        outb(PORT_SERIAL, byte);
    }
    print("\n");
}

static void mode_boot_timer(void)
{
    *(volatile uint8_t *)BOOT_TIMER = BOOT_TIMER_UP;
    print("BOOT-TIMER done\n");
}

/* An empty IDT: the fault triples. */
static void mode_triple(void)
{
    print("M\n");
    __asm__ volatile("ud2");
}

static void mode_cmdline(void)
{
    for (const char *c = cmdline; *c; c++)
        outb(PORT_SERIAL, (uint8_t)*c);
    print("\n");
}

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"hello", mode_hello},
    {"loop", mode_loop},
    {"echo", mode_echo},
    {"blk", mode_blk},
    {"blk-bench", mode_blk_bench},
    {"rng", mode_rng},
    {"fuzz", mode_fuzz},
    {"ports", mode_ports},
    {"boot-timer", mode_boot_timer},
    {"triple", mode_triple},
    {"cmdline", mode_cmdline},
    {"net-bench", mode_net_bench},
    {"vsock-bench", mode_vsock_bench},
    {"ticks", mode_ticks},
};

/* Finds the command line by whichever protocol we were entered; the other's pointer is NULL. */
static void take_cmdline(const uint8_t *zero_page, const uint8_t *start_info)
{
    uint32_t gpa;

    memcpy(&gpa, start_info ? start_info + START_INFO_CMDLINE : zero_page + ZERO_PAGE_CMDLINE,
           sizeof(gpa));
    if (gpa)
        cmdline = (const char *)(uintptr_t)gpa;
}

void tiny_main(const uint8_t *zero_page, const uint8_t *start_info);

void tiny_main(const uint8_t *zero_page, const uint8_t *start_info)
{
    take_cmdline(zero_page, start_info);
    if (!option_text("tiny", 0))
        mode_hello();
    for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        if (mode_is(modes[i].name))
            modes[i].run();
    }
    reset_machine();
}
