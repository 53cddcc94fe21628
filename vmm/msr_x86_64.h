/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msr_x86_64.h owns the model-specific registers with which a vCPU starts: the boot values, and the
 * changes of a CPU template, which come first and which boot values override.
 *
 * The thread that creates the vCPU.
 */
#ifndef MAYFLY_VMM_MSR_X86_64_H
#define MAYFLY_VMM_MSR_X86_64_H

#include "vmm/base/err.h"
#include "vmm/config.h"

/*
 * Reads, changes and writes back `count` registers of the vCPU. After KVM_SET_CPUID2: since
 * Linux 6.13 what a register reads as depends on it. Errors name the register.
 */
int msr_modify(int vcpu_fd, const struct msr_modifier *modifier, size_t count,
               struct err *e) __must_check;

/* Writes the boot values, by one KVM_SET_MSRS. */
int msr_set_boot_values(int vcpu_fd, struct err *e) __must_check;

#endif
