/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_kvm.h owns a KVM without a kernel, for programs that load and save machines with the real
 * code: the linker puts it between that code and the host (--wrap; see CMakeLists.txt).
 *
 * Its VMs take everything that they are given, and give back what they were given last. No guest
 * runs: vCPUs have no threads and are parked at once. Taps are sockets that nobody reads, and a
 * Unix socket that listens has no name, so that nothing is left of it.
 *
 * Since the paths in a state file may be anything, only names in the working directory can be
 * opened; others are missing.
 */
#ifndef MAYFLY_TESTS_UNIT_FAKE_KVM_H
#define MAYFLY_TESTS_UNIT_FAKE_KVM_H

#include "vmm/base/kvm.h"

/* Forgets what all VMs were given; their descriptors are closed by whoever has them. */
void fake_kvm_forget(void);

/* From now on this request fails with `error` (positive; 0 = no longer). One at a time. */
void fake_kvm_refuse(unsigned long request, int error);

#endif
