/* SPDX-License-Identifier: Apache-2.0 */
/* The bare guests, assembled here and wrapped into ELF files on demand. */
#include "tests/e2e/bare.h"

#include "tests/e2e/e2e.h"
#include "tests/support/files.h"
#include "tests/support/guest_elf.h"
#include "tests/support/text.h"

#include <string.h>

/*
 * Each guest is position-independent code between two labels. At entry rsi points to the zero page
 * of the 64-bit boot protocol, interrupts are off, and there is a stack that we do not trust: ours
 * starts at 0x180000.
 */
#define GUEST(NAME, CODE)                                                                          \
    __asm__(".pushsection .rodata\n"                                                               \
            ".balign 16\n" #NAME ":\n"                                                             \
            "cli\n"                                                                                \
            "mov $0x180000, %rsp\n" CODE "\n" #NAME "_end:\n"                                      \
            ".popsection");                                                                        \
    extern const char NAME[], NAME##_end[];

#define PUT_AL "mov $0x3f8, %dx\n out %al, %dx\n"
#define PUT(C) "mov $" C ", %al\n" PUT_AL
#define SAY_M  PUT("0x4d") PUT("0x0a")
#define RESET  "mov $0x64, %dx\n mov $0xfe, %al\n out %al, %dx\n"
#define HALT   "88: cli\n hlt\n jmp 88b\n"
#define DELAY  "mov $2000, %ecx\n 77: dec %ecx\n jnz 77b\n"
/* A loop of its own: local labels are numbers, so each use finds its own. */
#define TICK "66:\n" SAY_M DELAY "jmp 66b\n"

/*
 * Subroutine at label 90: prints the `ecx` low hexadecimal digits of rbx, then the byte in r8b.
 * Clobbers rax, rcx, rdx.
 */
#define HEX_ROUTINE                                                                                \
    "90:\n"                                                                                        \
    "dec %ecx\n"                                                                                   \
    "js 93f\n"                                                                                     \
    "push %rcx\n"                                                                                  \
    "shl $2, %ecx\n"                                                                               \
    "mov %rbx, %rax\n"                                                                             \
    "shr %cl, %rax\n"                                                                              \
    "pop %rcx\n"                                                                                   \
    "and $15, %eax\n"                                                                              \
    "add $0x30, %eax\n"                                                                            \
    "cmp $0x3a, %eax\n"                                                                            \
    "jb 92f\n"                                                                                     \
    "add $0x27, %eax\n"                                                                            \
    "92:\n" PUT_AL "jmp 90b\n"                                                                     \
    "93:\n"                                                                                        \
    "mov %r8d, %eax\n" PUT_AL "ret\n"

#define HEX(DIGITS, AFTER) "mov $" DIGITS ", %ecx\n mov $" AFTER ", %r8d\n call 90f\n"

GUEST(guest_tick, TICK)
GUEST(guest_reset, SAY_M RESET HALT)
GUEST(guest_halt, SAY_M HALT)
GUEST(guest_triple, SAY_M "push $0\n push $0\n lidt (%rsp)\n ud2\n" HALT)

GUEST(guest_astray, SAY_M "mov $0x30000000, %eax\n jmp *%rax\n")

GUEST(guest_echo, SAY_M "1:\n"
                        "mov $0x3fd, %dx\n in %dx, %al\n test $1, %al\n jz 1b\n"
                        "mov $0x3f8, %dx\n in %dx, %al\n"
                        "cmp $0x71, %al\n je 2f\n"
                        "out %al, %dx\n jmp 1b\n"
                        "2:\n" RESET HALT)

GUEST(guest_count, SAY_M "mov $0x61, %ebx\n"
                         "1:\n"
                         "mov $0x3fd, %dx\n in %dx, %al\n test $1, %al\n jz 1b\n"
                         "mov $0x3f8, %dx\n in %dx, %al\n"
                         "mov %ebx, %eax\n out %al, %dx\n inc %ebx\n jmp 1b\n")

GUEST(guest_keys, SAY_M
      "1:\n"
      "mov $0x64, %dx\n in %dx, %al\n test $1, %al\n jz 1b\n"
      "mov $0x60, %dx\n in %dx, %al\n movzbl %al, %ebx\n" HEX("2", "0x0a") "jmp 1b\n" HEX_ROUTINE)

/* The boot timer is at 3 GiB: one 2 MiB page of a new directory at 2 MiB maps it. */
GUEST(guest_stamp, "mov $0x200000, %edi\n"
                   "movl $0xc0000083, (%rdi)\n movl $0, 4(%rdi)\n"
                   "mov %cr3, %rax\n and $-4096, %rax\n"
                   "mov (%rax), %rax\n and $-4096, %rax\n"
                   "movl $0x200003, 24(%rax)\n movl $0, 28(%rax)\n"
                   "mov %cr3, %rax\n mov %rax, %cr3\n"
                   "mov $0xc0000000, %eax\n movb $123, (%rax)\n" TICK)

GUEST(guest_flood, "mov $0x10000, %ebx\n"
                   "1:\n" PUT("0x46") "dec %ebx\n jnz 1b\n" RESET HALT)

/* Zero page: the number of entries is at 0x1e8, the entries of 20 bytes start at 0x2d0. */
GUEST(guest_e820,
      "movzbl 0x1e8(%rsi), %ebp\n lea 0x2d0(%rsi), %rdi\n"
      "1: dec %ebp\n js 2f\n"
      "mov (%rdi), %rbx\n" HEX("16", "0x20") "mov 8(%rdi), %rbx\n" HEX(
          "16", "0x20") "mov 16(%rdi), %ebx\n" HEX("1", "0x0a") "add $20, %rdi\n jmp 1b\n"
                                                                "2:\n" SAY_M HALT HEX_ROUTINE)

/* Zero page: the command line's address is at 0x228. */
GUEST(guest_cmdline,
      "mov 0x228(%rsi), %edi\n" PUT("0x5b") "1: mov (%rdi), %al\n test %al, %al\n jz 2f\n" PUT_AL
                                            "inc %rdi\n jmp 1b\n"
                                            "2:\n" PUT("0x5d") SAY_M HALT)

/* 0xd0000000 is in the hole and nobody's; it is mapped as the boot timer is above. */
GUEST(guest_nobody, "mov $0x999, %dx\n in %dx, %al\n movzbl %al, %ebx\n" PUT("0x70")
                        HEX("2", "0x0a") "mov $0x200000, %edi\n"
                                         "movl $0xd0000083, (%rdi)\n movl $0, 4(%rdi)\n"
                                         "mov %cr3, %rax\n and $-4096, %rax\n"
                                         "mov (%rax), %rax\n and $-4096, %rax\n"
                                         "movl $0x200003, 24(%rax)\n movl $0, 28(%rax)\n"
                                         "mov %cr3, %rax\n mov %rax, %cr3\n"
                                         "mov $0xc0000000, %eax\n mov (%rax), %ebx\n" PUT("0x6d")
                                             HEX("8", "0x0a") SAY_M HALT HEX_ROUTINE)

/* The pages begin at 2 MiB; ebp has the count. */
GUEST(guest_pace, "xor %ebp, %ebp\n"
                  "1: mov $0x200000, %edi\n mov $64, %esi\n"
                  "2: cmp %ebp, (%rdi)\n je 3f\n" PUT(
                      "0x58") "3: lea 1(%rbp), %eax\n mov %eax, (%rdi)\n"
                              "add $4096, %rdi\n dec %esi\n jnz 2b\n"
                              "inc %ebp\n mov %ebp, %ebx\n" HEX(
                                  "8", "0x0a") "mov $2000, %ecx\n 4: dec %ecx\n jnz 4b\n"
                                               "jmp 1b\n" HEX_ROUTINE)

static const struct {
    const char *name, *start, *end;
} guests[BARE_GUESTS] = {
    [BARE_TICK] = {"tick", guest_tick, guest_tick_end},
    [BARE_RESET] = {"reset", guest_reset, guest_reset_end},
    [BARE_HALT] = {"halt", guest_halt, guest_halt_end},
    [BARE_TRIPLE] = {"triple", guest_triple, guest_triple_end},
    [BARE_ASTRAY] = {"astray", guest_astray, guest_astray_end},
    [BARE_ECHO] = {"echo", guest_echo, guest_echo_end},
    [BARE_KEYS] = {"keys", guest_keys, guest_keys_end},
    [BARE_STAMP] = {"stamp", guest_stamp, guest_stamp_end},
    [BARE_FLOOD] = {"flood", guest_flood, guest_flood_end},
    [BARE_E820] = {"e820", guest_e820, guest_e820_end},
    [BARE_CMDLINE] = {"cmdline", guest_cmdline, guest_cmdline_end},
    [BARE_COUNT] = {"count", guest_count, guest_count_end},
    [BARE_PACE] = {"pace", guest_pace, guest_pace_end},
    [BARE_NOBODY] = {"nobody", guest_nobody, guest_nobody_end},
};

const char *bare_guest(enum bare_guest which)
{
    size_t len = (size_t)(guests[which].end - guests[which].start);
    const char *path = e2e_path(text_format("guest-%s", guests[which].name));
    struct text file = {0};
    guest_elf_append(&file, guests[which].start, len);
    int ret = files_write(path, file.data, file.len);
    if (ret)
        FAIL("cannot write %s: %s", path, strerror(-ret));
    text_free(&file);
    return path;
}
