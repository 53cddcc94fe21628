/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux guests that run test-init, which obeys commands on the serial console (guest/README.md).
 * Every call here ends the test when it does not go as it must.
 */
#ifndef MAYFLY_TESTS_E2E_LINUX_H
#define MAYFLY_TESTS_E2E_LINUX_H

#include "tests/e2e/vm.h"

/* What every Linux guest here gets on its command line. */
#define LINUX_ARGS "console=ttyS0 quiet reboot=k panic=-1"

/* Names of files in the guest directory. */
#define REFERENCE_ELF   "vmlinux-reference"
#define REFERENCE_IMAGE "bzImage-reference"
#define FULL_ELF        "vmlinux-full"
#define FULL_IMAGE      "bzImage-full"
#define TEST_INITRD     "initramfs-test.cpio"
#define TEST_ROOT       "root-test.ext4"
#define TEST_ROOT_MBR   "root-test.mbr"
#define TEST_PARTUUID   "6d617966-01"

/* Configures vCPUs and memory. */
void linux_machine(struct vm *vm, unsigned vcpus, unsigned mib);

/* Adds a drive that is not the root; `more` are further members, each with a comma before it. */
void linux_drive(struct vm *vm, const char *id, const char *path, const char *more);

/*
 * Starts the kernel of that name with the test initramfs (or, with `initrd` NULL, the root drive
 * configured before) and waits until test-init takes commands.
 */
void linux_start(struct vm *vm, const char *kernel, const char *initrd, const char *more_args);

/* linux_start() of the reference kernel with one vCPU, 128 MiB and the test initramfs. */
void linux_boot(struct vm *vm);

/* Gives a command that must succeed; returns what it printed. */
const char *ask(struct vm *vm, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Gives a command that must fail; returns the guest's reason. */
const char *ask_failing(struct vm *vm, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The number behind `key` in an answer, as in "sectors=2048". */
unsigned long long number_of(const char *answer, const char *key);

/* The line of `disks` about one disk. */
const char *disk_line(struct vm *vm, const char *disk);

/* Sends the command that ends the guest, without waiting for the end. */
void linux_leave(struct vm *vm, const char *command);

#endif
